/* What the emulated devices share: the board's state, and the two rings of bytes that are its serial line. */
#ifndef ND_UNICORN_H
#define ND_UNICORN_H

#include <stdint.h>

#define RING (1u << 17) /* bytes each way; a power of two, and more than any reply */
#define MAX_REGIONS 4u

typedef struct {
    uint8_t bytes[RING];
    uint32_t head, tail; /* they count on and wrap; head - tail bytes wait */
} ring_t;

typedef struct {
    uint64_t origin, size_bytes;
    const uint8_t *memory;
} region_t;

typedef struct {
    region_t regions[MAX_REGIONS];
    uint32_t n_regions;
    uint64_t instructions;
    uint64_t ticks_per_2_to_32_instructions;
    uint64_t timer_from; /* instructions when the timer was started */
    uint32_t timer_on;
    uint32_t restart; /* the firmware asked for a reset */
    uint32_t timer_captured;
    uint32_t uart_ctrl, uart_bauddiv; /* uart_ctrl: as each UART has it */
    uint32_t cpuid, cfsr, cpacr;
    int (*stop)(void *uc);
    void *uc;
    ring_t to_board, from_board;
} nd_emulated_t;

uint32_t nd_emulated_is_full(const nd_emulated_t *board);

/* Bytes that wait to be read; the next of them, 0 if there is none; one more to send, if there is room. */
uint32_t nd_line_waiting(const nd_emulated_t *board);
uint8_t nd_line_take(nd_emulated_t *board);
void nd_line_send(nd_emulated_t *board, uint8_t byte);

/* Whether there is room to send. If not, the emulation stops: someone must take bytes before the firmware can go on. */
int nd_line_has_room(nd_emulated_t *board);

void nd_clock_start(nd_emulated_t *board, uint32_t on);

/* Ticks of the timer since it was started. */
uint32_t nd_clock_ticks(const nd_emulated_t *board);

#endif
