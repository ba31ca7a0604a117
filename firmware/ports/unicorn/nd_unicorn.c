/* What every board has in the unicorn emulator, its instruction counter and its serial line; built for the host.
 *
 * Unicorn calls these hooks directly, so a register access costs nanoseconds. The library needs nothing but itself:
 * Python owns the memory of nd_emulated_t and hands over the one function of unicorn that is called from here.
 */
#include "nd_unicorn.h"

static uint32_t waiting(const ring_t *ring)
{
    return ring->head - ring->tail;
}

uint32_t nd_emulated_bytes(void)
{
    return sizeof(nd_emulated_t);
}

/* One instruction takes 2^10 ns of timer time, as under QEMU's -icount shift=10. */
void nd_emulated_init(nd_emulated_t *board, uint32_t timer_hz, uint32_t cpuid, int (*stop)(void *uc), void *uc)
{
    board->ticks_per_2_to_32_instructions = (((uint64_t)timer_hz << 32) / 1000000000u) * 1024u;
    board->cpuid = cpuid;
    board->stop = stop;
    board->uc = uc;
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

uint32_t nd_line_waiting(const nd_emulated_t *board)
{
    return waiting(&board->to_board);
}

uint8_t nd_line_take(nd_emulated_t *board)
{
    ring_t *ring = &board->to_board;
    return waiting(ring) ? ring->bytes[ring->tail++ % RING] : 0;
}

void nd_line_send(nd_emulated_t *board, uint8_t byte)
{
    ring_t *ring = &board->from_board;
    if (waiting(ring) < RING) {
        ring->bytes[ring->head++ % RING] = byte;
    }
}

int nd_line_has_room(nd_emulated_t *board)
{
    if (nd_emulated_is_full(board)) {
        (void)board->stop(board->uc);
        return 0;
    }
    return 1;
}

void nd_clock_start(nd_emulated_t *board, uint32_t on)
{
    board->timer_on = on;
    board->timer_from = board->instructions;
}

uint32_t nd_clock_ticks(const nd_emulated_t *board)
{
    const uint64_t n = board->timer_on ? board->instructions - board->timer_from : 0;
    const uint64_t rate = board->ticks_per_2_to_32_instructions; /* below 2^37: split n so that nothing overflows */
    return (uint32_t)((n >> 24) * (rate >> 8) + (((n & 0xFFFFFFu) * rate) >> 32));
}

/* A page of registers that the firmware sets up and that no emulator needs; whoever waits for one to become set, sees
 * it set. */
uint64_t nd_ignored_read(void *uc, uint64_t offset, unsigned size, void *user)
{
    (void)uc;
    (void)offset;
    (void)size;
    (void)user;
    return 1;
}

void nd_ignored_write(void *uc, uint64_t offset, unsigned size, uint64_t value, void *user)
{
    (void)uc;
    (void)offset;
    (void)size;
    (void)value;
    (void)user;
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
