/* UARTs and timers of the boards, as far as the ports use them; the ports name the manuals. A board's timer is in the
 * page that its TOML gives, and so is its UART. */
#include "nd_unicorn.h"

#define READ(name) uint64_t name(void *uc, uint64_t offset, unsigned size, void *user)
#define WRITE(name) void name(void *uc, uint64_t offset, unsigned size, uint64_t value, void *user)
#define BOARD()                                                                                                      \
    nd_emulated_t *board = user;                                                                                     \
    (void)uc;                                                                                                        \
    (void)size

READ(nd_cmsdk_read);
WRITE(nd_cmsdk_write);
READ(nd_stm32_usart_read);
WRITE(nd_stm32_usart_write);
READ(nd_nrf51_uart_read);
WRITE(nd_nrf51_uart_write);
READ(nd_pl011_read);
WRITE(nd_pl011_write);
READ(nd_cmsdk_dual_read);
WRITE(nd_cmsdk_dual_write);
READ(nd_stm32_tim_read);
WRITE(nd_stm32_tim_write);
READ(nd_nrf51_timer_read);
WRITE(nd_nrf51_timer_write);
READ(nd_stellaris_watchdog_read);
WRITE(nd_stellaris_watchdog_write);

static int is_on(const nd_emulated_t *board, uint32_t bits)
{
    return (board->uart_ctrl & bits) == bits;
}

/* CMSDK: data 0, state 4 (1 full, 2 received), ctrl 8 (1 sends, 2 receives), bauddiv 16. */
READ(nd_cmsdk_read)
{
    BOARD();
    switch (offset) {
    case 0x0:
        return is_on(board, 2u) ? nd_line_take(board) : 0;
    case 0x4:
        return !nd_line_has_room(board) ? 1 : nd_line_waiting(board) && is_on(board, 2u) ? 2 : 0;
    case 0x8:
        return board->uart_ctrl;
    case 0x10:
        return board->uart_bauddiv;
    default:
        return 0;
    }
}

WRITE(nd_cmsdk_write)
{
    BOARD();
    if (offset == 0x0 && is_on(board, 1u)) {
        nd_line_send(board, (uint8_t)value);
    } else if (offset == 0x8) {
        board->uart_ctrl = (uint32_t)value;
    } else if (offset == 0x10) {
        board->uart_bauddiv = (uint32_t)value;
    }
}

/* STM32 USART: sr 0 (bit 5 received, 7 room), dr 4, brr 8, cr1 12 (bit 13 on, 3 sends, 2 receives). */
READ(nd_stm32_usart_read)
{
    BOARD();
    switch (offset) {
    case 0x0:
        return (nd_line_has_room(board) ? 1u << 7 : 0u) |
               (nd_line_waiting(board) && is_on(board, 1u << 13 | 1u << 2) ? 1u << 5 : 0u);
    case 0x4:
        return is_on(board, 1u << 13 | 1u << 2) ? nd_line_take(board) : 0;
    case 0x8:
        return board->uart_bauddiv;
    case 0xC:
        return board->uart_ctrl;
    default:
        return 0;
    }
}

WRITE(nd_stm32_usart_write)
{
    BOARD();
    if (offset == 0x4 && is_on(board, 1u << 13 | 1u << 3)) {
        nd_line_send(board, (uint8_t)value);
    } else if (offset == 0x8) {
        board->uart_bauddiv = (uint32_t)value;
    } else if (offset == 0xC) {
        board->uart_ctrl = (uint32_t)value;
    }
}

/* nRF51 UART: tasks startrx 0 and starttx 8, events rxdrdy 0x108 and txdrdy 0x11C, enable 0x500 (4), rxd 0x518, txd
 * 0x51C. uart_ctrl: 1 receives, 2 sends, 4 enabled. An event that is cleared comes again while there is reason. */
READ(nd_nrf51_uart_read)
{
    BOARD();
    switch (offset) {
    case 0x108:
        return nd_line_waiting(board) && is_on(board, 4u | 1u);
    case 0x11C:
        return (uint64_t)nd_line_has_room(board);
    case 0x518:
        return is_on(board, 4u | 1u) ? nd_line_take(board) : 0;
    default:
        return 0;
    }
}

WRITE(nd_nrf51_uart_write)
{
    BOARD();
    if (offset == 0x0 && (value & 1u)) {
        board->uart_ctrl |= 1u;
    } else if (offset == 0x8 && (value & 1u)) {
        board->uart_ctrl |= 2u;
    } else if (offset == 0x500) {
        board->uart_ctrl = (board->uart_ctrl & 3u) | (value == 4u ? 4u : 0u);
    } else if (offset == 0x51C && is_on(board, 4u | 2u)) {
        nd_line_send(board, (uint8_t)value);
    }
}

/* PL011: dr 0, fr 0x18 (bit 4 nothing received, 5 no room), ctl 0x30 (bit 0 on, 8 sends, 9 receives). */
READ(nd_pl011_read)
{
    BOARD();
    switch (offset) {
    case 0x0:
        return is_on(board, 1u << 9 | 1u) ? nd_line_take(board) : 0;
    case 0x18:
        return (nd_line_has_room(board) ? 0u : 1u << 5) |
               (nd_line_waiting(board) && is_on(board, 1u << 9 | 1u) ? 0u : 1u << 4);
    case 0x30:
        return board->uart_ctrl;
    default:
        return 0;
    }
}

WRITE(nd_pl011_write)
{
    BOARD();
    if (offset == 0x0 && is_on(board, 1u << 8 | 1u)) {
        nd_line_send(board, (uint8_t)value);
    } else if (offset == 0x30) {
        board->uart_ctrl = (uint32_t)value;
    }
}

/* CMSDK dual timer, first half: value 4 counts down from 2^32 - 1, ctrl 8 starts it (bit 7). */
READ(nd_cmsdk_dual_read)
{
    BOARD();
    return offset == 0x4 ? (uint32_t)~nd_clock_ticks(board) : 0u;
}

WRITE(nd_cmsdk_dual_write)
{
    BOARD();
    if (offset == 0x8) {
        nd_clock_start(board, (uint32_t)(value >> 7) & 1u);
    }
}

/* Stellaris watchdog: as the dual timer, but started by bit 0. */
READ(nd_stellaris_watchdog_read)
{
    return nd_cmsdk_dual_read(uc, offset, size, user);
}

WRITE(nd_stellaris_watchdog_write)
{
    BOARD();
    if (offset == 0x8) {
        nd_clock_start(board, (uint32_t)value & 1u);
    }
}

/* STM32 timer: cr1 0 starts it (bit 0), cnt 0x24 counts up. */
READ(nd_stm32_tim_read)
{
    BOARD();
    return offset == 0x24 ? nd_clock_ticks(board) : 0u;
}

WRITE(nd_stm32_tim_write)
{
    BOARD();
    if (offset == 0x0) {
        nd_clock_start(board, (uint32_t)value & 1u);
    }
}

/* nRF51 timer: task start 0, task capture[0] 0x40 copies the count to cc[0] 0x540. */
READ(nd_nrf51_timer_read)
{
    BOARD();
    return offset == 0x540 ? board->timer_captured : 0u;
}

WRITE(nd_nrf51_timer_write)
{
    BOARD();
    if (offset == 0x0 && (value & 1u)) {
        nd_clock_start(board, 1u);
    } else if (offset == 0x40 && (value & 1u)) {
        board->timer_captured = nd_clock_ticks(board);
    }
}
