/* FE310 boards: SiFive's UART, on the board's 16 MHz crystal (SiFive FE310-G000 Manual v3p2). */
#include "nd_board.h"
#include "nd_cpu.h"
#include "nd_port.h"

#if !defined ND_UART_IS_SIFIVE_UART || !defined ND_TIMER_IS_MINSTRET
#error "the port 'fe310' doesn't drive the UART or timer that the board's TOML names"
#endif

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Clock generation (PRCI). The PLL is only the way past itself: its input is the crystal. */
#define PRCI_HFXOSCCFG REG(0x10008004u)
#define PRCI_PLLCFG REG(0x10008008u)
#define HFXOSC_ON (1u << 30)
#define HFXOSC_READY (1u << 31)
#define PLL_SELECTED (1u << 16)
#define PLL_FROM_CRYSTAL (1u << 17)
#define PLL_BYPASSED (1u << 18)

/* Pins (GPIO, hardware I/O functions): 16 and 17 are UART0's. */
#define GPIO_IOF_EN REG(0x10012038u)
#define GPIO_IOF_SEL REG(0x1001203Cu)
#define UART_PINS (3u << 16)

/* UART. */
#define UART_TXDATA REG(ND_UART_BASE + 0x00u)
#define UART_RXDATA REG(ND_UART_BASE + 0x04u)
#define UART_TXCTRL REG(ND_UART_BASE + 0x08u)
#define UART_RXCTRL REG(ND_UART_BASE + 0x0Cu)
#define UART_IE REG(ND_UART_BASE + 0x10u)
#define UART_DIV REG(ND_UART_BASE + 0x18u)
#define FULL_OR_EMPTY (1u << 31)
#define ENABLED 1u
#define IE_RECEIVED 2u /* more bytes than the watermark, 0 */

void nd_port_init(void)
{
    PRCI_HFXOSCCFG |= HFXOSC_ON;
    while (!(PRCI_HFXOSCCFG & HFXOSC_READY)) {
    }
    PRCI_PLLCFG |= PLL_FROM_CRYSTAL | PLL_BYPASSED;
    PRCI_PLLCFG |= PLL_SELECTED;
    GPIO_IOF_SEL &= ~UART_PINS;
    GPIO_IOF_EN |= UART_PINS;
    UART_DIV = (ND_UART_CLOCK_HZ + ND_UART_BAUD / 2u) / ND_UART_BAUD - 1u;
    UART_TXCTRL = ENABLED;
    UART_RXCTRL = ENABLED;
    UART_IE = IE_RECEIVED;
    nd_cpu_wake_on(ND_UART_RX_IRQ);
}

uint8_t nd_port_getc(void)
{
    /* Reading takes the byte, if there is one. */
    uint32_t taken = UART_RXDATA;
    while (taken & FULL_OR_EMPTY) {
        /* Old requests must go before the last look, or the core never sleeps; a byte that comes after it wakes it. */
        nd_cpu_forget(ND_UART_RX_IRQ);
        taken = UART_RXDATA;
        if (taken & FULL_OR_EMPTY) {
            nd_cpu_sleep();
            taken = UART_RXDATA;
        }
    }
    return (uint8_t)taken;
}

void nd_port_putc(uint8_t byte)
{
    while (UART_TXDATA & FULL_OR_EMPTY) {
    }
    UART_TXDATA = byte;
}
