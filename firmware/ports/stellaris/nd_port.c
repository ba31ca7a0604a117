/* Stellaris LM3S boards: UART (a PL011) and the watchdog as a timer, on the main oscillator's crystal (TI LM3S6965 data
 * sheet). The watchdog is the only counter of 32 bits that can be read as it runs; it never resets anything here. */
#include "nd_board.h"
#include "nd_cpu.h"
#include "nd_port.h"

#if !defined ND_UART_IS_PL011 || !defined ND_TIMER_IS_STELLARIS_WATCHDOG
#error "the port 'stellaris' doesn't drive the UART or timer that the board's TOML names"
#endif

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* System control, data sheet section 5.5. */
#define SYSCTL_RCC REG(0x400FE060u)
#define SYSCTL_RCGC0 REG(0x400FE100u)
#define SYSCTL_RCGC1 REG(0x400FE104u)
#define SYSCTL_RCGC2 REG(0x400FE108u)
#define RCC_MAIN_OFF 1u
#define RCC_SOURCE (3u << 4)    /* 0: the main oscillator */
#define RCC_CRYSTAL (15u << 6)
#define RCC_CRYSTAL_8MHZ (14u << 6)
#define RCGC0_WATCHDOG (1u << 3)
#define RCGC1_UART0 1u
#define RCGC2_PORT_A 1u
#define CRYSTAL_STARTS_UP 40000u /* loops of at least four cycles at 12 MHz: over 13 ms */

/* Port A, section 8.5: pins 0 and 1 are the UART's. */
#define GPIOA_AFSEL REG(0x40004420u)
#define GPIOA_DEN REG(0x4000451Cu)
#define UART_PINS 3u

/* UART, section 12.5. */
#define UART_DR REG(ND_UART_BASE + 0x00u)
#define UART_FR REG(ND_UART_BASE + 0x18u)
#define UART_IBRD REG(ND_UART_BASE + 0x24u)
#define UART_FBRD REG(ND_UART_BASE + 0x28u)
#define UART_LCRH REG(ND_UART_BASE + 0x2Cu)
#define UART_CTL REG(ND_UART_BASE + 0x30u)
#define UART_IM REG(ND_UART_BASE + 0x38u)
#define UART_ICR REG(ND_UART_BASE + 0x44u)
#define FR_RX_EMPTY (1u << 4)
#define FR_TX_FULL (1u << 5)
#define LCRH_8N1 (3u << 5) /* no FIFO: a request at the first byte */
#define CTL_ON (1u << 9 | 1u << 8 | 1u)
#define INT_RX (1u << 4)
/* In 64ths, rounded. */
#define DIVISOR ((ND_UART_CLOCK_HZ * 4u + ND_UART_BAUD / 2u) / ND_UART_BAUD)

/* Watchdog, section 10.4. It counts down, from its highest value. */
#define TIMER_LOAD REG(ND_TIMER_BASE + 0x000u)
#define TIMER_VALUE REG(ND_TIMER_BASE + 0x004u)
#define TIMER_CTL REG(ND_TIMER_BASE + 0x008u)
#define TIMER_ON 1u

static void start_crystal(void)
{
    SYSCTL_RCC = (SYSCTL_RCC & ~(RCC_MAIN_OFF | RCC_CRYSTAL)) | RCC_CRYSTAL_8MHZ;
    for (volatile uint32_t i = 0; i < CRYSTAL_STARTS_UP; ++i) {
    }
    SYSCTL_RCC &= ~RCC_SOURCE;
}

void nd_port_init(void)
{
    start_crystal();
    SYSCTL_RCGC0 |= RCGC0_WATCHDOG;
    SYSCTL_RCGC1 |= RCGC1_UART0;
    SYSCTL_RCGC2 |= RCGC2_PORT_A;
    (void)SYSCTL_RCGC2; /* a device may be touched three cycles after its clock was turned on */
    (void)SYSCTL_RCGC2;
    GPIOA_AFSEL |= UART_PINS;
    GPIOA_DEN |= UART_PINS;
    UART_IBRD = DIVISOR / 64u;
    UART_FBRD = DIVISOR % 64u;
    UART_LCRH = LCRH_8N1;
    UART_CTL = CTL_ON;
    UART_IM = INT_RX;
    nd_cpu_wake_on(ND_UART_RX_IRQ);
    TIMER_LOAD = 0xFFFFFFFFu;
    TIMER_CTL = TIMER_ON;
}

uint8_t nd_port_getc(void)
{
    while (UART_FR & FR_RX_EMPTY) {
        /* Old requests must go before the last look, or the core never sleeps; a byte that comes after it wakes it. */
        UART_ICR = INT_RX;
        nd_cpu_forget(ND_UART_RX_IRQ);
        if (!(UART_FR & FR_RX_EMPTY)) {
            break;
        }
        nd_cpu_sleep();
    }
    return (uint8_t)UART_DR;
}

void nd_port_putc(uint8_t byte)
{
    while (UART_FR & FR_TX_FULL) {
    }
    UART_DR = byte;
}

uint32_t nd_port_ticks(void)
{
    return ~TIMER_VALUE;
}
