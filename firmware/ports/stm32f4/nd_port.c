/* STM32F4 boards: USART and a 32-bit general-purpose timer (ST RM0090), on the internal 16 MHz oscillator that the
 * processor starts with. */
#include "nd_board.h"
#include "nd_cpu.h"
#include "nd_port.h"

#if !defined ND_UART_IS_STM32_USART || !defined ND_TIMER_IS_STM32_TIM
#error "the port 'stm32f4' doesn't drive the UART or timer that the board's TOML names"
#endif

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Reset and clock control, RM0090 section 7.3; what USART1 on PA9 and PA10 and TIM2 need. */
#define RCC_AHB1ENR REG(0x40023830u)
#define RCC_APB1ENR REG(0x40023840u)
#define RCC_APB2ENR REG(0x40023844u)
#define AHB1_GPIOA 1u
#define APB1_TIM2 1u
#define APB2_USART1 (1u << 4)

/* Port A, section 8.4: pins 9 and 10 as alternate function 7 (data sheet DS8626, table 9). */
#define GPIOA_MODER REG(0x40020000u)
#define GPIOA_AFRH REG(0x40020024u)
#define MODER_PINS (15u << 18)
#define MODER_ALTERNATE (10u << 18)
#define AFRH_PINS (255u << 4)
#define AFRH_USART1 (0x77u << 4)

/* USART, section 30.6. */
#define UART_SR REG(ND_UART_BASE + 0x00u)
#define UART_DR REG(ND_UART_BASE + 0x04u)
#define UART_BRR REG(ND_UART_BASE + 0x08u)
#define UART_CR1 REG(ND_UART_BASE + 0x0Cu)
#define SR_RXNE (1u << 5)
#define SR_TXE (1u << 7)
#define CR1_ON (1u << 13 | 1u << 5 | 1u << 3 | 1u << 2) /* UE, RXNEIE, TE, RE */

/* TIM2 to TIM5, section 18.4. */
#define TIMER_CR1 REG(ND_TIMER_BASE + 0x00u)
#define TIMER_EGR REG(ND_TIMER_BASE + 0x14u)
#define TIMER_CNT REG(ND_TIMER_BASE + 0x24u)
#define TIMER_PSC REG(ND_TIMER_BASE + 0x28u)
#define TIMER_ARR REG(ND_TIMER_BASE + 0x2Cu)

void nd_port_init(void)
{
    RCC_AHB1ENR |= AHB1_GPIOA;
    RCC_APB1ENR |= APB1_TIM2;
    RCC_APB2ENR |= APB2_USART1;
    GPIOA_AFRH = (GPIOA_AFRH & ~AFRH_PINS) | AFRH_USART1;
    GPIOA_MODER = (GPIOA_MODER & ~MODER_PINS) | MODER_ALTERNATE;
    UART_BRR = (ND_UART_CLOCK_HZ + ND_UART_BAUD / 2u) / ND_UART_BAUD;
    UART_CR1 = CR1_ON;
    nd_cpu_wake_on(ND_UART_RX_IRQ);
    TIMER_PSC = 0;
    TIMER_ARR = 0xFFFFFFFFu;
    TIMER_EGR = 1u; /* takes both over, from 0 */
    TIMER_CR1 = 1u;
}

uint8_t nd_port_getc(void)
{
    while (!(UART_SR & SR_RXNE)) {
        /* Old requests must go before the last look, or the core never sleeps; a byte that comes after it wakes it. */
        nd_cpu_forget(ND_UART_RX_IRQ);
        if (UART_SR & SR_RXNE) {
            break;
        }
        nd_cpu_sleep();
    }
    return (uint8_t)UART_DR;
}

void nd_port_putc(uint8_t byte)
{
    while (!(UART_SR & SR_TXE)) {
    }
    UART_DR = byte;
}

uint32_t nd_port_ticks(void)
{
    return TIMER_CNT;
}
