/* Start-up, faults, stack guard and sleep of a Cortex-M (Armv6-M, Armv7-M and Armv8-M ARM, system control space). */
#include "nd_cpu.h"
#include "nd_port.h"
#include <string.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Armv7-M ARM section B3.2; the NVIC's and SCB_CPUID and AIRCR are in Armv6-M too (section B3.2). */
#define NVIC_ISER(irq) REG(0xE000E100u + 4u * ((irq) / 32u))
#define NVIC_ICPR(irq) REG(0xE000E280u + 4u * ((irq) / 32u))
#define IRQ_BIT(irq) (1u << ((irq) % 32u))
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
#define MPU_NO_ACCESS (1u << 28 | 1u) /* never execute; on */
#define MPU_SIZE(bits) (((bits) - 1u) << 1)
#define AIRCR_SYSRESETREQ 0x05FA0004u

/* From the port's linker script. The guard lies just below the stack: 2^bits bytes, aligned to that; the bits are the
 * symbol's address. Armv8-M has a stack limit in the core instead; Armv6-M boards have their stack at the bottom of
 * their RAM, below which nothing is. */
extern uint8_t nd_stack_top[], nd_stack_limit[], nd_stack_guard[], nd_stack_guard_bits[], nd_data_load[],
    nd_data_start[], nd_data_end[], nd_bss_start[], nd_bss_end[];

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

/* A stack that grows without end must fault, or it would overwrite the firmware: not every address below it does. */
static void guard_stack(void)
{
#if __ARM_ARCH >= 8 /* mainline: no Armv8-M baseline core has a port */
    __asm volatile("msr msplim, %0" : : "r"(nd_stack_limit));
#elif __ARM_ARCH == 7
    MPU_RNR = 0;
    MPU_RBAR = (uint32_t)(uintptr_t)nd_stack_guard;
    MPU_RASR = MPU_NO_ACCESS | MPU_SIZE((uint32_t)(uintptr_t)nd_stack_guard_bits);
    MPU_CTRL = MPU_ON_DEFAULT_MAP;
    nd_port_sync_code();
#endif
}

void nd_start(void)
{
    __asm volatile("cpsid i");
    guard_stack();
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    SCB_CPACR |= 0xFu << 20;
    nd_port_sync_code();
#endif
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

/* What went wrong; Armv6-M only tells the exception's number (3, a hard fault). */
static uint32_t fault_status(void)
{
#if __ARM_ARCH == 6
    uint32_t exception;
    __asm volatile("mrs %0, ipsr" : "=r"(exception));
    return exception;
#else
    return SCB_CFSR | (SCB_HFSR & HFSR_FORCED);
#endif
}

void nd_fault_on_fresh_stack(const uint32_t *stack)
{
    /* The processor pushed r0-r3, r12, lr, pc, xpsr; unless a runaway stack is what went wrong. */
    const uint8_t *at = (const uint8_t *)stack;
    const int is_readable = at >= nd_stack_limit && at + 32 <= nd_stack_top;
    nd_resident_fault(fault_status(), is_readable ? stack[6] : 0u);
}

void nd_cpu_wake_on(uint32_t irq)
{
    NVIC_ISER(irq) = IRQ_BIT(irq);
}

void nd_cpu_forget(uint32_t irq)
{
    NVIC_ICPR(irq) = IRQ_BIT(irq);
}

void nd_cpu_sleep(void)
{
    __asm volatile("dsb\n wfi" ::: "memory");
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
