/* QEMU's RISC-V board 'virt': a 16550 UART (National Semiconductor PC16550D). */
#include "nd_board.h"
#include "nd_cpu.h"
#include "nd_port.h"

#if !defined ND_UART_IS_NS16550 || !defined ND_TIMER_IS_MINSTRET
#error "the port 'virt' doesn't drive the UART or timer that the board's TOML names"
#endif

#define REG(address) (*(volatile uint8_t *)(uintptr_t)(address))

/* PC16550D, section 8. With LCR_DIVISOR set, the first two registers are the divisor. */
#define UART_DATA REG(ND_UART_BASE + 0u)
#define UART_IER REG(ND_UART_BASE + 1u)
#define UART_FCR REG(ND_UART_BASE + 2u)
#define UART_LCR REG(ND_UART_BASE + 3u)
#define UART_LSR REG(ND_UART_BASE + 5u)
#define IER_RECEIVED 1u
#define FCR_FIFO_EMPTIED 7u /* a request at the first byte */
#define LCR_8N1 3u
#define LCR_DIVISOR 0x80u
#define LSR_RECEIVED 1u
#define LSR_TX_EMPTY 0x20u
#define DIVISOR (ND_UART_CLOCK_HZ / (16u * ND_UART_BAUD))

void nd_port_init(void)
{
    UART_LCR = LCR_DIVISOR;
    UART_DATA = (uint8_t)DIVISOR;
    UART_IER = (uint8_t)(DIVISOR >> 8);
    UART_LCR = LCR_8N1;
    UART_FCR = FCR_FIFO_EMPTIED;
    UART_IER = IER_RECEIVED;
    nd_cpu_wake_on(ND_UART_RX_IRQ);
}

uint8_t nd_port_getc(void)
{
    while (!(UART_LSR & LSR_RECEIVED)) {
        /* Old requests must go before the last look, or the core never sleeps; a byte that comes after it wakes it. */
        nd_cpu_forget(ND_UART_RX_IRQ);
        if (UART_LSR & LSR_RECEIVED) {
            break;
        }
        nd_cpu_sleep();
    }
    return UART_DATA;
}

void nd_port_putc(uint8_t byte)
{
    while (!(UART_LSR & LSR_TX_EMPTY)) {
    }
    UART_DATA = byte;
}
