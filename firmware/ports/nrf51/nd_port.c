/* nRF51 boards: UART and a 32-bit timer (Nordic nRF51 Series Reference Manual 3.0). Tasks and events are registers. */
#include "nd_board.h"
#include "nd_cpu.h"
#include "nd_port.h"

#if !defined ND_UART_IS_NRF51_UART || !defined ND_TIMER_IS_NRF51_TIMER
#error "the port 'nrf51' doesn't drive the UART or timer that the board's TOML names"
#endif

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Clock, section 13: the 16 MHz crystal, without which no baud rate is right. */
#define CLOCK_HFCLKSTART REG(0x40000000u)
#define CLOCK_HFCLKSTARTED REG(0x40000100u)

/* Non-volatile memory controller, section 6. The processor waits while it works. */
#define NVMC_READY REG(0x4001E400u)
#define NVMC_CONFIG REG(0x4001E504u)
#define NVMC_ERASEPAGE REG(0x4001E508u)
#define CONFIG_READ 0u
#define CONFIG_WRITE 1u
#define CONFIG_ERASE 2u
#define PAGE_BYTES 1024u

/* Pins, section 14. */
#define GPIO_OUTSET REG(0x50000508u)
#define GPIO_DIRSET REG(0x50000518u)

/* UART, section 29. */
#define UART_STARTRX REG(ND_UART_BASE + 0x000u)
#define UART_STARTTX REG(ND_UART_BASE + 0x008u)
#define UART_RXDRDY REG(ND_UART_BASE + 0x108u)
#define UART_TXDRDY REG(ND_UART_BASE + 0x11Cu)
#define UART_INTENSET REG(ND_UART_BASE + 0x304u)
#define UART_ENABLE REG(ND_UART_BASE + 0x500u)
#define UART_PSELTXD REG(ND_UART_BASE + 0x50Cu)
#define UART_PSELRXD REG(ND_UART_BASE + 0x514u)
#define UART_RXD REG(ND_UART_BASE + 0x518u)
#define UART_TXD REG(ND_UART_BASE + 0x51Cu)
#define UART_BAUDRATE REG(ND_UART_BASE + 0x524u)
#define INT_RXDRDY (1u << 2)
#define ENABLED 4u
/* The rate is a fraction of the clock in 2^32nds; the manual's table keeps its upper 20 bits. */
#define BAUDRATE ((uint32_t)((((uint64_t)ND_UART_BAUD << 32) / ND_UART_CLOCK_HZ + 0x800u) & 0xFFFFF000u))

/* Timer, section 18; its prescaler halves the 16 MHz once for every bit. */
#define TIMER_START REG(ND_TIMER_BASE + 0x000u)
#define TIMER_CAPTURE REG(ND_TIMER_BASE + 0x040u)
#define TIMER_BITMODE REG(ND_TIMER_BASE + 0x508u)
#define TIMER_PRESCALER REG(ND_TIMER_BASE + 0x510u)
#define TIMER_CC REG(ND_TIMER_BASE + 0x540u)
#define BITMODE_32 3u

void nd_port_init(void)
{
    CLOCK_HFCLKSTART = 1u;
    while (!CLOCK_HFCLKSTARTED) {
    }
    GPIO_OUTSET = 1u << ND_UART_TX_PIN;
    GPIO_DIRSET = 1u << ND_UART_TX_PIN;
    UART_PSELTXD = ND_UART_TX_PIN;
    UART_PSELRXD = ND_UART_RX_PIN;
    UART_BAUDRATE = BAUDRATE;
    UART_ENABLE = ENABLED;
    UART_INTENSET = INT_RXDRDY;
    UART_STARTTX = 1u;
    UART_STARTRX = 1u;
    nd_cpu_wake_on(ND_UART_RX_IRQ);
    TIMER_BITMODE = BITMODE_32;
    TIMER_PRESCALER = 0;
    TIMER_START = 1u;
}

uint8_t nd_port_getc(void)
{
    while (!UART_RXDRDY) {
        /* Old requests must go before the last look, or the core never sleeps; a byte that comes after it wakes it. */
        nd_cpu_forget(ND_UART_RX_IRQ);
        if (UART_RXDRDY) {
            break;
        }
        nd_cpu_sleep();
    }
    UART_RXDRDY = 0; /* first: reading the byte raises it again if another waits */
    return (uint8_t)UART_RXD;
}

void nd_port_putc(uint8_t byte)
{
    UART_TXDRDY = 0;
    UART_TXD = byte;
    while (!UART_TXDRDY) {
    }
}

uint32_t nd_port_ticks(void)
{
    TIMER_CAPTURE = 1u;
    return TIMER_CC;
}

#ifdef ND_SLOT_IS_FLASH
static void nvmc(uint32_t config)
{
    NVMC_CONFIG = config;
    while (!NVMC_READY) {
    }
}

void nd_port_erase_slot(uint32_t bytes)
{
    nvmc(CONFIG_ERASE);
    for (uint32_t at = 0; at < bytes; at += PAGE_BYTES) {
        NVMC_ERASEPAGE = ND_SLOT_ORIGIN + at;
        while (!NVMC_READY) {
        }
    }
    nvmc(CONFIG_READ);
}

void nd_port_program(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    nvmc(CONFIG_WRITE);
    for (uint32_t at = 0; at < bytes; at += 4u) {
        REG(to + at) = *(const uint32_t *)(const void *)(from + at);
        while (!NVMC_READY) {
        }
    }
    nvmc(CONFIG_READ);
}
#endif
