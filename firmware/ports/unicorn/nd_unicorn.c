/* The devices of an MPS2 board for the unicorn emulator, and its instruction counter; built for the host.
 *
 * Unicorn calls these hooks directly, so a register access costs nanoseconds. The library needs nothing but itself:
 * Python owns the memory of nd_emulated_t and hands over the one function of unicorn that is called from here.
 */
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
    uint32_t uart_ctrl, uart_bauddiv;
    uint32_t cpuid, cfsr, cpacr;
    int (*stop)(void *uc);
    ring_t to_board, from_board;
} nd_emulated_t;

static uint32_t waiting(const ring_t *ring)
{
    return ring->head - ring->tail;
}

uint32_t nd_emulated_bytes(void)
{
    return sizeof(nd_emulated_t);
}

/* One instruction takes 2^10 ns of timer time, as under QEMU's -icount shift=10. */
void nd_emulated_init(nd_emulated_t *board, uint32_t timer_hz, uint32_t cpuid, int (*stop)(void *uc))
{
    board->ticks_per_2_to_32_instructions = (((uint64_t)timer_hz << 32) / 1000000000u) * 1024u;
    board->cpuid = cpuid;
    board->stop = stop;
}

int nd_emulated_region(nd_emulated_t *board, uint64_t origin, uint64_t size_bytes, const uint8_t *memory)
{
    if (board->n_regions == MAX_REGIONS) {
        return 0;
    }
    board->regions[board->n_regions++] = (region_t){ origin, size_bytes, memory };
    return 1;
}

/* A reset of the processor: devices start afresh, bytes on the way stay on the way. */
void nd_emulated_reset(nd_emulated_t *board)
{
    board->restart = 0;
    board->timer_on = 0;
    board->uart_ctrl = 0;
    board->cpacr = 0;
    board->cfsr = 0;
}

/* What the fault handler will read. */
void nd_emulated_fault(nd_emulated_t *board, uint32_t cfsr)
{
    board->cfsr = cfsr;
}

uint32_t nd_emulated_restart(const nd_emulated_t *board)
{
    return board->restart;
}

uint64_t nd_emulated_instructions(const nd_emulated_t *board)
{
    return board->instructions;
}

uint32_t nd_emulated_push(nd_emulated_t *board, const uint8_t *bytes, uint32_t n)
{
    ring_t *ring = &board->to_board;
    uint32_t i = 0;
    for (; i < n && waiting(ring) < RING; ++i) {
        ring->bytes[ring->head++ % RING] = bytes[i];
    }
    return i;
}

uint32_t nd_emulated_pull(nd_emulated_t *board, uint8_t *bytes, uint32_t n)
{
    ring_t *ring = &board->from_board;
    uint32_t i = 0;
    for (; i < n && waiting(ring) != 0; ++i) {
        bytes[i] = ring->bytes[ring->tail++ % RING];
    }
    return i;
}

/* Whether the board waits for somebody to take its bytes. */
uint32_t nd_emulated_is_full(const nd_emulated_t *board)
{
    return waiting(&board->from_board) >= RING;
}

/* Called as a block of straight code begins: counts the instructions in it. A Thumb instruction whose first five bits
 * are 11101, 11110 or 11111 has two halfwords (Armv7-M ARM, section A5.1); read each time, as a model may be reloaded. */
void nd_on_block(void *uc, uint64_t address, uint32_t size_bytes, void *user)
{
    nd_emulated_t *board = user;
    (void)uc;
    for (uint32_t r = 0; r < board->n_regions; ++r) {
        const region_t *region = &board->regions[r];
        if (address - region->origin < region->size_bytes) {
            const uint8_t *at = region->memory + (address - region->origin);
            const uint8_t *const end = at + size_bytes;
            uint32_t n = 0;
            for (; at < end; ++n) {
                at += at[1] >= 0xE8u ? 4 : 2;
            }
            board->instructions += n;
            return;
        }
    }
}

/* CMSDK UART: data 0, state 4, ctrl 8, intclear 12, bauddiv 16. */
uint64_t nd_uart_read(void *uc, uint64_t offset, unsigned size, void *user)
{
    nd_emulated_t *board = user;
    ring_t *ring = &board->to_board;
    (void)uc;
    (void)size;
    switch (offset) {
    case 0x0:
        return waiting(ring) && (board->uart_ctrl & 2u) ? ring->bytes[ring->tail++ % RING] : 0;
    case 0x4:
        if (nd_emulated_is_full(board)) {
            (void)board->stop(uc); /* someone must take the bytes before the firmware can go on */
            return 1;
        }
        return waiting(ring) && (board->uart_ctrl & 2u) ? 2 : 0;
    case 0x8:
        return board->uart_ctrl;
    case 0x10:
        return board->uart_bauddiv;
    default:
        return 0;
    }
}

void nd_uart_write(void *uc, uint64_t offset, unsigned size, uint64_t value, void *user)
{
    nd_emulated_t *board = user;
    ring_t *ring = &board->from_board;
    (void)uc;
    (void)size;
    if (offset == 0x0 && (board->uart_ctrl & 1u) && waiting(ring) < RING) {
        ring->bytes[ring->head++ % RING] = (uint8_t)value;
    } else if (offset == 0x8) {
        board->uart_ctrl = (uint32_t)value;
    } else if (offset == 0x10) {
        board->uart_bauddiv = (uint32_t)value;
    }
}

/* CMSDK dual timer, first half: value 4 counts down from 2^32 - 1, ctrl 8 starts it. */
uint64_t nd_timer_read(void *uc, uint64_t offset, unsigned size, void *user)
{
    const nd_emulated_t *board = user;
    (void)uc;
    (void)size;
    if (offset != 0x4) {
        return 0;
    }
    const uint64_t n = board->timer_on ? board->instructions - board->timer_from : 0;
    const uint64_t rate = board->ticks_per_2_to_32_instructions; /* below 2^37: split n so that nothing overflows */
    const uint64_t ticks = (n >> 24) * (rate >> 8) + (((n & 0xFFFFFFu) * rate) >> 32);
    return (uint32_t)~ticks;
}

void nd_timer_write(void *uc, uint64_t offset, unsigned size, uint64_t value, void *user)
{
    nd_emulated_t *board = user;
    (void)uc;
    (void)size;
    if (offset == 0x8) {
        board->timer_on = (uint32_t)(value >> 7) & 1u;
        board->timer_from = board->instructions;
    }
}

/* System control space: who the processor is, what went wrong, and the request for a reset. */
uint64_t nd_system_read(void *uc, uint64_t offset, unsigned size, void *user)
{
    const nd_emulated_t *board = user;
    (void)uc;
    (void)size;
    switch (offset) {
    case 0xD00:
        return board->cpuid;
    case 0xD28:
        return board->cfsr;
    case 0xD88:
        return board->cpacr;
    default:
        return 0;
    }
}

void nd_system_write(void *uc, uint64_t offset, unsigned size, uint64_t value, void *user)
{
    nd_emulated_t *board = user;
    (void)size;
    if (offset == 0xD0C && (value >> 16) == 0x05FAu && (value & 4u)) {
        board->restart = 1;
        (void)board->stop(uc);
    } else if (offset == 0xD88) {
        board->cpacr = (uint32_t)value;
    }
}
