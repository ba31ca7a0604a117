/* The resident firmware: takes a model image over the serial line and steps it. Requests are listed in nd_resident.h. */
#include "nd_resident.h"
#include "nd_board.h"
#include "nd_image.h"
#include "nd_link.h"
#include "nd_port.h"
#include <string.h>

#define NOINIT __attribute__((section(".noinit")))
#define FAULT_MAGIC 0xFA017EDDu
#define STACK_PAINT 0xA5A5A5A5u
#define PING_BYTES 52u
#define INFO_BYTES 36u

typedef struct {
    uint8_t *at[ND_REGIONS];
    uint32_t bytes[ND_REGIONS];
} buffers_t;

static nd_link_rx_t rx;
static uint64_t reply_words[(ND_LINK_MAX_FRAME + 7u) / 8u];
static uint8_t *const reply = (uint8_t *)reply_words;
static uint32_t reply_bytes; /* of the cached reply; 0: none */
static uint32_t reply_to_crc;
static uint16_t reply_to_seq;
static uint32_t n_broken;

static const nd_image_t *image; /* NULL until one was loaded whole */
static buffers_t buffers[ND_IMAGE_MAX_STAGES];
static uint32_t load_length, load_at;
static uint32_t empty_ticks;

/* What the firmware was doing, kept over a restart so that a crash is answered. */
static struct {
    uint32_t magic, status, pc, last_status;
    uint16_t seq;
} fault NOINIT;

static uint32_t nak(uint32_t code, uint32_t detail, uint32_t more)
{
    uint8_t *payload = reply + ND_LINK_HEADER_BYTES;
    nd_link_put32(payload, code);
    nd_link_put32(payload + 4, detail);
    nd_link_put32(payload + 8, more);
    return ND_NAK << 24 | 12u;
}

/* Handlers return the reply's type in the top byte and its payload's length below it. */
static uint32_t ack(uint8_t type, uint32_t length)
{
    return (uint32_t)(type | ND_REPLY) << 24 | length;
}

static uint8_t *put(uint8_t *at, uint32_t value)
{
    nd_link_put32(at, value);
    return at + 4;
}

static uint32_t answer_ping(void)
{
    uint8_t *at = reply + ND_LINK_HEADER_BYTES;
    at = put(at, ND_TARGET_ID);
    at = put(at, ND_FIRMWARE_ABI);
    at = put(at, ND_LINK_MAX_PAYLOAD);
    memcpy(at, nd_build_hash, 16);
    at = put(at + 16, nd_port_cpuid());
    at = put(at, ND_SLOT_ORIGIN);
    at = put(at, ND_SLOT_BYTES);
    at = put(at, ND_TIMER_HZ);
    at = put(at, n_broken);
    (void)put(at, fault.last_status);
    return ack(ND_PING, PING_BYTES);
}

static uint32_t answer_info(void)
{
    if (!image) {
        return nak(ND_ERR_NO_IMAGE, 0, 0);
    }
    uint8_t *at = reply + ND_LINK_HEADER_BYTES;
    at = put(at, image->image_bytes);
    at = put(at, image->crc32);
    memcpy(at, image->model_hash, 16);
    at = put(at + 16, (uint32_t)(image->bss_end - image->bss_start));
    at = put(at, empty_ticks);
    at = put(at, image->n_stages);
    for (uint32_t i = 0; i < image->n_stages; ++i) {
        for (uint32_t region = 0; region < ND_REGIONS; ++region) {
            at = put(at, buffers[i].bytes[region]);
        }
    }
    return ack(ND_INFO, INFO_BYTES + 12u * image->n_stages);
}

static uint32_t load_begin(const uint8_t *payload, uint32_t length)
{
    if (length != 4u) {
        return nak(ND_ERR_LENGTH, length, 4);
    }
    const uint32_t bytes = nd_link_get32(payload);
    image = 0;
    load_length = 0;
    if (bytes > ND_SLOT_BYTES) {
        return nak(ND_ERR_TOO_BIG, bytes, ND_SLOT_BYTES);
    }
    if (bytes < sizeof(nd_image_t)) {
        return nak(ND_ERR_LENGTH, bytes, sizeof(nd_image_t));
    }
#ifdef ND_SLOT_IS_FLASH
    nd_port_erase_slot(bytes);
#endif
    load_length = bytes;
    load_at = 0;
    return ack(ND_LOAD_BEGIN, 0);
}

static uint32_t load_chunk(const uint8_t *payload, uint32_t length)
{
    if (length < 4u) {
        return nak(ND_ERR_LENGTH, length, 4);
    }
    const uint32_t offset = nd_link_get32(payload), bytes = length - 4u;
    if (load_length == 0 || offset != load_at) {
        return nak(ND_ERR_ORDER, offset, load_at);
    }
    if (bytes > load_length - load_at) {
        return nak(ND_ERR_TOO_BIG, load_at + bytes, load_length);
    }
#ifdef ND_SLOT_IS_FLASH
    if (bytes % 4u != 0) {
        return nak(ND_ERR_LENGTH, bytes, (bytes + 3u) & ~3u);
    }
    nd_port_program((uint8_t *)ND_SLOT_ORIGIN + load_at, payload + 4, bytes);
#else
    memcpy((uint8_t *)ND_SLOT_ORIGIN + load_at, payload + 4, bytes);
#endif
    load_at += bytes;
    return ack(ND_LOAD_CHUNK, 0);
}

/* Whether a function lies in the image, with the lowest bit that code has on this processor. */
static int is_code(uint32_t address, uint32_t bytes)
{
    const uint32_t offset = address - ND_SLOT_ORIGIN;
    return (address & 1u) == ND_PORT_CODE_BIT && offset >= sizeof(nd_image_t) && offset < bytes;
}

/* Room for one more buffer of a region, aligned for any type; NULL if there is none. */
static uint8_t *take(uint8_t **free_at, const uint8_t *end, uint32_t bytes)
{
    uint8_t *const at = (uint8_t *)(((uintptr_t)*free_at + 7u) & ~(uintptr_t)7u);
    if (at > end || bytes > (uint32_t)(end - at)) {
        return 0;
    }
    *free_at = at + bytes;
    return at;
}

/* The number of the first field of the header that makes no sense, or -1. */
static int32_t bad_field(const nd_image_t *head)
{
    /* As offsets into where variables are, the slot if it is RAM: what lies before it becomes very large. */
    const uint32_t bss_start = (uint32_t)(uintptr_t)head->bss_start - ND_DATA_ORIGIN;
    const uint32_t bss_end = (uint32_t)(uintptr_t)head->bss_end - ND_DATA_ORIGIN;
    const uint32_t bss_from = ND_DATA_ORIGIN == ND_SLOT_ORIGIN ? load_length : 0u;
    if (head->magic != ND_IMAGE_MAGIC) {
        return 0;
    }
    if (head->abi != ND_IMAGE_ABI) {
        return 1;
    }
    if (head->image_bytes != load_length) {
        return 2;
    }
    if (head->n_stages < 1u || head->n_stages > ND_IMAGE_MAX_STAGES) {
        return 4;
    }
    if (bss_start < bss_from || bss_end < bss_start || bss_end > ND_DATA_BYTES) {
        return 6;
    }
    for (uint32_t i = 0; i < head->n_stages; ++i) {
        if (!is_code((uint32_t)(uintptr_t)head->stages[i].reset, load_length) ||
            !is_code((uint32_t)(uintptr_t)head->stages[i].step, load_length)) {
            return (int32_t)(8u + i);
        }
    }
    return -1;
}

static void empty_step(void *state, const void *in, void *out)
{
    (void)state;
    (void)in;
    (void)out;
}

/* Writes the first word of its stack and no other, to tell where a step's own stack begins. */
static __attribute__((naked)) void touch_step(void)
{
    ND_PORT_TOUCH_STACK();
}

/* The same code times a model's step and the empty one, so the counting itself cancels out. */
static __attribute__((noinline)) uint32_t timed(nd_step_fn step, void *state, const void *in, void *out)
{
    const uint32_t start = nd_port_ticks();
    step(state, in, out);
    return nd_port_ticks() - start;
}

static uint32_t load_end(uint32_t length)
{
    const nd_image_t *head = (const nd_image_t *)ND_SLOT_ORIGIN;
    if (length != 0) {
        return nak(ND_ERR_LENGTH, length, 0);
    }
    if (load_length == 0 || load_at != load_length) {
        return nak(ND_ERR_ORDER, load_at, load_length);
    }
    const int32_t field = bad_field(head);
    if (field >= 0) {
        load_length = 0;
        return nak(ND_ERR_IMAGE_HEAD, (uint32_t)field, 0);
    }
    const uint32_t crc = nd_link_crc32((const uint8_t *)ND_SLOT_ORIGIN + ND_IMAGE_CRC_FROM,
                                       load_length - ND_IMAGE_CRC_FROM);
    if (crc != head->crc32) {
        load_length = 0;
        return nak(ND_ERR_IMAGE_CRC, crc, head->crc32);
    }
    load_length = 0; /* a second LOAD_END is out of order */

    uint8_t *state_at = head->bss_end, *io_at = (uint8_t *)ND_IO_ORIGIN;
    const uint8_t *const data_end = (uint8_t *)ND_DATA_ORIGIN + ND_DATA_BYTES;
    const uint8_t *const io_end = (uint8_t *)ND_IO_ORIGIN + ND_IO_BYTES;
    for (uint32_t i = 0; i < head->n_stages; ++i) {
        const nd_stage_t *stage = &head->stages[i];
        buffers_t *b = &buffers[i];
        b->bytes[ND_REGION_STATE] = stage->state_bytes;
        b->bytes[ND_REGION_IN] = stage->in_bytes;
        b->bytes[ND_REGION_OUT] = stage->out_bytes;
        b->at[ND_REGION_STATE] = take(&state_at, data_end, stage->state_bytes);
        b->at[ND_REGION_IN] = take(&io_at, io_end, stage->in_bytes);
        b->at[ND_REGION_OUT] = take(&io_at, io_end, stage->out_bytes);
        for (uint32_t region = 0; region < ND_REGIONS; ++region) {
            if (!b->at[region]) {
                return nak(ND_ERR_TOO_BIG, b->bytes[region], region == ND_REGION_STATE ? ND_DATA_BYTES : ND_IO_BYTES);
            }
        }
    }
    memset(head->bss_start, 0, (size_t)(head->bss_end - head->bss_start));
    nd_port_sync_code();
    for (uint32_t i = 0; i < head->n_stages; ++i) {
        memset(buffers[i].at[ND_REGION_IN], 0, buffers[i].bytes[ND_REGION_IN]);
        memset(buffers[i].at[ND_REGION_OUT], 0, buffers[i].bytes[ND_REGION_OUT]);
        head->stages[i].reset(buffers[i].at[ND_REGION_STATE]);
    }
    empty_ticks = timed(empty_step, 0, 0, 0);
    image = head;
    return ack(ND_LOAD_END, 0);
}

static uint32_t reset_stage(const uint8_t *payload, uint32_t length)
{
    if (length != 4u) {
        return nak(ND_ERR_LENGTH, length, 4);
    }
    const uint32_t stage = nd_link_get32(payload);
    if (!image) {
        return nak(ND_ERR_NO_IMAGE, 0, 0);
    }
    if (stage >= image->n_stages) {
        return nak(ND_ERR_STAGE, stage, image->n_stages);
    }
    image->stages[stage].reset(buffers[stage].at[ND_REGION_STATE]);
    return ack(ND_RESET, 0);
}

/* Paints the stack below this function's own, times a step, and finds how deep it went. Interrupts are masked, so
 * nothing else writes there; the loops call nothing. */
static __attribute__((noinline)) uint32_t stack_reached(nd_step_fn step, const buffers_t *b, uint32_t *ticks)
{
    volatile uint32_t *const limit = (volatile uint32_t *)(void *)nd_port_stack_limit();
    volatile uint32_t *top, *at;
    ND_PORT_STACK_POINTER(top);
    for (at = limit; at < top; ++at) {
        *at = STACK_PAINT;
    }
    *ticks = timed(step, b->at[ND_REGION_STATE], b->at[ND_REGION_IN], b->at[ND_REGION_OUT]);
    for (at = limit; at < top && *at == STACK_PAINT; ++at) {
    }
    return (uint32_t)((uintptr_t)top - (uintptr_t)at);
}

static uint32_t step_stage(const uint8_t *payload, uint32_t length)
{
    if (length < 8u) {
        return nak(ND_ERR_LENGTH, length, 8);
    }
    const uint32_t stage = payload[0], flags = payload[1], n = nd_link_get32(payload + 4);
    if (!image) {
        return nak(ND_ERR_NO_IMAGE, 0, 0);
    }
    if (stage >= image->n_stages) {
        return nak(ND_ERR_STAGE, stage, image->n_stages);
    }
    const nd_stage_t *s = &image->stages[stage];
    const buffers_t *b = &buffers[stage];
    const uint32_t in_bytes = flags & ND_STEP_IN_PLACE ? 0u : s->in_bytes;
    const uint32_t out_bytes = flags & ND_STEP_IN_PLACE ? 0u : s->out_bytes;
    const uint32_t state_bytes = flags & ND_STEP_STATES ? s->state_bytes : 0u;
    /* n first: with it bounded, the products below can't wrap (the sizes were checked against the slot). */
    if (n > ND_LINK_MAX_PAYLOAD / 4u || 8u + n * 4u > ND_LINK_MAX_PAYLOAD ||
        (uint64_t)n * (4u + out_bytes + state_bytes) + 8u > ND_LINK_MAX_PAYLOAD) {
        return nak(ND_ERR_REPLY, n, ND_LINK_MAX_PAYLOAD);
    }
    if ((uint64_t)n * in_bytes + 8u != length) {
        return nak(ND_ERR_LENGTH, length, 8u + n * in_bytes);
    }
    uint8_t *const out = reply + ND_LINK_HEADER_BYTES;
    uint8_t *ticks_at = out + 8, *out_at = ticks_at + 4u * n, *state_at = out_at + n * out_bytes;
    uint32_t deepest = 0, ignored;
    const uint32_t above = flags & ND_STEP_STACK ? stack_reached((nd_step_fn)touch_step, b, &ignored) - 4u : 0u;
    payload += 8;
    if (flags & ND_STEP_RESET_FIRST) {
        s->reset(b->at[ND_REGION_STATE]);
    }
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t ticks;
        memcpy(b->at[ND_REGION_IN], payload, in_bytes);
        payload += in_bytes;
        if (flags & ND_STEP_STACK) {
            const uint32_t reached = stack_reached(s->step, b, &ticks);
            deepest = reached > above + deepest ? reached - above : deepest;
        } else {
            ticks = timed(s->step, b->at[ND_REGION_STATE], b->at[ND_REGION_IN], b->at[ND_REGION_OUT]);
        }
        ticks_at = put(ticks_at, ticks);
        memcpy(out_at, b->at[ND_REGION_OUT], out_bytes);
        out_at += out_bytes;
        memcpy(state_at, b->at[ND_REGION_STATE], state_bytes);
        state_at += state_bytes;
    }
    nd_link_put32(out, n);
    nd_link_put32(out + 4, deepest);
    return ack(ND_STEP, 8u + n * (4u + out_bytes + state_bytes));
}

static uint32_t access(uint8_t type, const uint8_t *payload, uint32_t length)
{
    const uint32_t head = type == ND_READ ? 12u : 8u;
    if (length < head || (type == ND_READ && length != head)) {
        return nak(ND_ERR_LENGTH, length, head);
    }
    const uint32_t stage = payload[0], region = payload[1], offset = nd_link_get32(payload + 4);
    const uint32_t bytes = type == ND_READ ? nd_link_get32(payload + 8) : length - head;
    if (!image) {
        return nak(ND_ERR_NO_IMAGE, 0, 0);
    }
    if (stage >= image->n_stages) {
        return nak(ND_ERR_STAGE, stage, image->n_stages);
    }
    if (region >= ND_REGIONS) {
        return nak(ND_ERR_RANGE, region, ND_REGIONS);
    }
    const buffers_t *b = &buffers[stage];
    if (offset > b->bytes[region] || bytes > b->bytes[region] - offset) {
        return nak(ND_ERR_RANGE, offset + bytes, b->bytes[region]);
    }
    if (type == ND_WRITE) {
        memcpy(b->at[region] + offset, payload + 8, bytes);
        return ack(ND_WRITE, 0);
    }
    if (bytes > ND_LINK_MAX_PAYLOAD) {
        return nak(ND_ERR_REPLY, bytes, ND_LINK_MAX_PAYLOAD);
    }
    memcpy(reply + ND_LINK_HEADER_BYTES, b->at[region] + offset, bytes);
    return ack(ND_READ, bytes);
}

static uint32_t answer(const uint8_t *frame)
{
    const uint8_t type = nd_link_type(frame), *payload = frame + ND_LINK_HEADER_BYTES;
    const uint32_t length = nd_link_length(frame);
    if (nd_link_version(frame) != ND_LINK_VERSION) {
        return nak(ND_ERR_VERSION, ND_LINK_VERSION, 0);
    }
    if ((type == ND_PING || type == ND_INFO) && length != 0) {
        return nak(ND_ERR_LENGTH, length, 0);
    }
    switch (type) {
    case ND_PING:
        return answer_ping();
    case ND_INFO:
        return answer_info();
    case ND_LOAD_BEGIN:
        return load_begin(payload, length);
    case ND_LOAD_CHUNK:
        return load_chunk(payload, length);
    case ND_LOAD_END:
        return load_end(length);
    case ND_RESET:
        return reset_stage(payload, length);
    case ND_STEP:
        return step_stage(payload, length);
    case ND_READ:
    case ND_WRITE:
        return access(type, payload, length);
    default:
        return nak(ND_ERR_UNKNOWN, type, 0);
    }
}

static void send(uint32_t outcome, uint16_t seq)
{
    reply_bytes = nd_link_seal(reply, (uint8_t)(outcome >> 24), seq, outcome & 0xFFFFFFu);
    nd_link_send(reply, reply_bytes, nd_port_putc);
}

static void handle(const uint8_t *frame)
{
    const uint16_t seq = nd_link_seq(frame);
    const uint32_t crc = nd_link_get32(frame + ND_LINK_HEADER_BYTES + nd_link_length(frame));
    if (reply_bytes != 0 && seq == reply_to_seq && crc == reply_to_crc && nd_link_type(frame) != ND_PING) {
        nd_link_send(reply, reply_bytes, nd_port_putc);
        return;
    }
    reply_bytes = 0;
    fault.seq = seq;
    send(answer(frame), seq);
    reply_to_seq = seq;
    reply_to_crc = crc;
}

void nd_resident_fault(uint32_t status, uint32_t pc)
{
    fault.magic = FAULT_MAGIC;
    fault.status = status;
    fault.pc = pc;
    nd_port_restart();
}

void nd_resident_main(void)
{
    if (fault.magic == FAULT_MAGIC) {
        fault.last_status = fault.status;
        send(nak(ND_ERR_FAULT, fault.status, fault.pc), fault.seq);
        reply_bytes = 0;
    } else {
        fault.last_status = 0;
    }
    fault.magic = 0;
    nd_link_reset(&rx);
    for (;;) {
        const nd_link_event_t event = nd_link_feed(&rx, nd_port_getc());
        if (event == ND_LINK_FRAME) {
            handle(rx.frame);
        } else if (event == ND_LINK_BROKEN) {
            ++n_broken;
        }
    }
}
