/* Arm MPS2 and MPS3 boards: the Cortex-M System Design Kit's UART and dual timer (Arm DDI 0479), or in place of the
 * latter the system counter of Arm's SSE subsystems (Arm 101370); start-up and faults. */
#include "nd_board.h"
#include "nd_port.h"
#include <string.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* CMSDK UART, DDI 0479 section 4.3. */
#define UART_DATA REG(ND_UART_BASE + 0x00u)
#define UART_STATE REG(ND_UART_BASE + 0x04u)
#define UART_CTRL REG(ND_UART_BASE + 0x08u)
#define UART_INTCLEAR REG(ND_UART_BASE + 0x0Cu)
#define UART_BAUDDIV REG(ND_UART_BASE + 0x10u)
#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define CTRL_TX_RX_RXIRQ (1u | 2u | 8u)
#define INT_RX 2u
#define BAUDDIV_MIN 16u

#ifdef ND_TIMER_IS_SSE_COUNTER
/* System counter, control frame. It counts up; the lower half of its 64 bits is enough. */
#define COUNTER_CTRL REG(ND_TIMER_BASE + 0x00u)
#define COUNTER_VALUE REG(ND_TIMER_BASE + 0x08u)
#define COUNTER_ENABLE 1u
#else
/* CMSDK dual timer, first half, DDI 0479 section 4.5. It counts down. */
#define TIMER_LOAD REG(ND_TIMER_BASE + 0x00u)
#define TIMER_VALUE REG(ND_TIMER_BASE + 0x04u)
#define TIMER_CTRL REG(ND_TIMER_BASE + 0x08u)
#define TIMER_ENABLE_32BIT 0x82u
#endif

/* System control space, Armv7-M ARM section B3.2. */
#define NVIC_ISER(irq) REG(0xE000E100u + 4u * ((irq) / 32u))
#define NVIC_ICPR(irq) REG(0xE000E280u + 4u * ((irq) / 32u))
#define SCB_CPUID REG(0xE000ED00u)
#define SCB_AIRCR REG(0xE000ED0Cu)
#define SCB_CFSR REG(0xE000ED28u)
#define SCB_HFSR REG(0xE000ED2Cu)
#define HFSR_FORCED 0x40000000u
#define SCB_CPACR REG(0xE000ED88u)
#define MPU_CTRL REG(0xE000ED94u)
#define MPU_RNR REG(0xE000ED98u)
#define MPU_RBAR REG(0xE000ED9Cu)
#define MPU_RASR REG(0xE000EDA0u)
#define MPU_ON_DEFAULT_MAP 5u
#define MPU_NO_ACCESS_64K (1u << 28 | 15u << 1 | 1u) /* never execute; 2^(15 + 1) bytes; on */
#define AIRCR_SYSRESETREQ 0x05FA0004u
#define UART_IRQ_BIT (1u << (ND_UART_RX_IRQ % 32u))

/* From the linker script. */
extern uint8_t nd_stack_top[], nd_stack_limit[], nd_data_load[], nd_data_start[], nd_data_end[], nd_bss_start[],
    nd_bss_end[];

void nd_start(void);
void nd_fault(void);
void nd_fault_on_fresh_stack(const uint32_t *stack);

typedef struct {
    void *stack_top;
    void (*handlers[15])(void);
} vectors_t;

extern const vectors_t nd_vectors;
/* Every exception but reset is a fault to us: interrupts stay masked, they only wake the core. */
const vectors_t nd_vectors __attribute__((section(".vectors"), used)) = {
    nd_stack_top,
    { nd_start, nd_fault, nd_fault, nd_fault, nd_fault, nd_fault, nd_fault, nd_fault, nd_fault, nd_fault, nd_fault,
      nd_fault, nd_fault, nd_fault, nd_fault },
};

void nd_start(void)
{
    memcpy(nd_data_start, nd_data_load, (size_t)(nd_data_end - nd_data_start));
    memset(nd_bss_start, 0, (size_t)(nd_bss_end - nd_bss_start));
    nd_port_init();
    nd_resident_main();
}

__attribute__((naked)) void nd_fault(void)
{
    __asm volatile("mrs r0, msp\n"
                   "ldr r1, =nd_stack_top\n"
                   "mov sp, r1\n"
                   "ldr r1, =nd_fault_on_fresh_stack\n"
                   "bx r1\n");
}

void nd_fault_on_fresh_stack(const uint32_t *stack)
{
    /* The processor pushed r0-r3, r12, lr, pc, xpsr; unless a runaway stack is what went wrong. */
    const uint8_t *at = (const uint8_t *)stack;
    const int is_readable = at >= nd_stack_limit && at + 32 <= nd_stack_top;
    nd_resident_fault(SCB_CFSR | (SCB_HFSR & HFSR_FORCED), is_readable ? stack[6] : 0u);
}

/* A stack that grows without end must fault, or it would overwrite the firmware: not every address below it does. */
static void guard_stack(void)
{
#if __ARM_ARCH >= 8 /* mainline: no Armv8-M baseline core has a port */
    __asm volatile("msr msplim, %0" : : "r"(nd_stack_limit));
#else
    MPU_RNR = 0;
    MPU_RBAR = ND_RAM_ORIGIN; /* the first 64 KiB, see firmware.ld */
    MPU_RASR = MPU_NO_ACCESS_64K;
    MPU_CTRL = MPU_ON_DEFAULT_MAP;
    nd_port_sync_code();
#endif
}

void nd_port_init(void)
{
    __asm volatile("cpsid i");
    guard_stack();
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    SCB_CPACR |= 0xFu << 20;
    nd_port_sync_code();
#endif
    const uint32_t divider = ND_UART_CLOCK_HZ / ND_UART_BAUD;
    UART_BAUDDIV = divider < BAUDDIV_MIN ? BAUDDIV_MIN : divider;
    UART_CTRL = CTRL_TX_RX_RXIRQ;
    NVIC_ISER(ND_UART_RX_IRQ) = UART_IRQ_BIT;
#ifdef ND_TIMER_IS_SSE_COUNTER
    COUNTER_CTRL = COUNTER_ENABLE;
#else
    TIMER_LOAD = 0xFFFFFFFFu;
    TIMER_CTRL = TIMER_ENABLE_32BIT;
#endif
}

uint8_t nd_port_getc(void)
{
    while (!(UART_STATE & STATE_RX_FULL)) {
        /* Old requests must go before the last look, or the core never sleeps; a byte that comes after it wakes it. */
        UART_INTCLEAR = INT_RX;
        NVIC_ICPR(ND_UART_RX_IRQ) = UART_IRQ_BIT;
        if (UART_STATE & STATE_RX_FULL) {
            break;
        }
        __asm volatile("dsb\n wfi" ::: "memory");
    }
    return (uint8_t)UART_DATA;
}

void nd_port_putc(uint8_t byte)
{
    while (UART_STATE & STATE_TX_FULL) {
    }
    UART_DATA = byte;
}

uint32_t nd_port_ticks(void)
{
#ifdef ND_TIMER_IS_SSE_COUNTER
    return COUNTER_VALUE;
#else
    return ~TIMER_VALUE;
#endif
}

uint32_t nd_port_cpuid(void)
{
    return SCB_CPUID;
}

void nd_port_sync_code(void)
{
    __asm volatile("dsb\n isb" ::: "memory");
}

uint8_t *nd_port_stack_limit(void)
{
    return nd_stack_limit;
}

void nd_port_restart(void)
{
    nd_port_sync_code();
    SCB_AIRCR = AIRCR_SYSRESETREQ;
    for (;;) {
    }
}
