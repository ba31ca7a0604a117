/* Arm MPS2 and MPS3 boards: the Cortex-M System Design Kit's UART and dual timer (Arm DDI 0479), or in place of the
 * latter the system counter of Arm's SSE subsystems (Arm 101370). */
#include "nd_board.h"
#include "nd_cpu.h"
#include "nd_port.h"

#if !defined ND_UART_IS_CMSDK || !(defined ND_TIMER_IS_CMSDK_DUAL || defined ND_TIMER_IS_SSE_COUNTER)
#error "the port 'cmsdk' doesn't drive the UART or timer that the board's TOML names"
#endif

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

void nd_port_init(void)
{
    const uint32_t divider = ND_UART_CLOCK_HZ / ND_UART_BAUD;
    UART_BAUDDIV = divider < BAUDDIV_MIN ? BAUDDIV_MIN : divider;
    UART_CTRL = CTRL_TX_RX_RXIRQ;
    nd_cpu_wake_on(ND_UART_RX_IRQ);
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
        nd_cpu_forget(ND_UART_RX_IRQ);
        if (UART_STATE & STATE_RX_FULL) {
            break;
        }
        nd_cpu_sleep();
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
