/* Frames on a serial line: see nd_link.h. */
#include "nd_link.h"

uint32_t nd_link_get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

void nd_link_put32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

uint32_t nd_link_crc32(const uint8_t *data, uint32_t bytes)
{
    /* The CRC of each four-bit value: two look-ups a byte, in 64 bytes instead of a kilobyte. */
    static const uint32_t nibble[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < bytes; ++i) {
        crc ^= data[i];
        crc = (crc >> 4) ^ nibble[crc & 15u];
        crc = (crc >> 4) ^ nibble[crc & 15u];
    }
    return ~crc;
}

uint8_t nd_link_type(const uint8_t *frame)
{
    return frame[0];
}

uint8_t nd_link_version(const uint8_t *frame)
{
    return frame[1];
}

uint16_t nd_link_seq(const uint8_t *frame)
{
    return (uint16_t)(frame[2] | frame[3] << 8);
}

uint32_t nd_link_length(const uint8_t *frame)
{
    return nd_link_get32(frame + 4);
}

void nd_link_reset(nd_link_rx_t *rx)
{
    rx->length = 0;
    rx->left = 0;
    rx->owes_zero = 0;
    rx->started = 0;
    rx->broken = 0;
}

static void store(nd_link_rx_t *rx, uint8_t byte)
{
    if (rx->length == ND_LINK_MAX_FRAME) {
        rx->broken = 1;
    } else {
        rx->frame[rx->length++] = byte;
    }
}

static int is_whole(const nd_link_rx_t *rx)
{
    if (rx->broken || rx->left != 0 || rx->length < ND_LINK_HEADER_BYTES + ND_LINK_CRC_BYTES) {
        return 0;
    }
    const uint32_t body = rx->length - ND_LINK_CRC_BYTES;
    return nd_link_length(rx->frame) == body - ND_LINK_HEADER_BYTES &&
           nd_link_crc32(rx->frame, body) == nd_link_get32(rx->frame + body);
}

nd_link_event_t nd_link_feed(nd_link_rx_t *rx, uint8_t byte)
{
    if (byte == 0) {
        /* Zeros between frames are not frames: a sender may start with one to end whatever was on the line. */
        const nd_link_event_t event = !rx->started ? ND_LINK_MORE : is_whole(rx) ? ND_LINK_FRAME : ND_LINK_BROKEN;
        nd_link_reset(rx); /* leaves the bytes of the frame where they are */
        return event;
    }
    rx->started = 1;
    if (rx->broken) {
        return ND_LINK_MORE;
    }
    if (rx->left != 0) {
        --rx->left;
        store(rx, byte);
        return ND_LINK_MORE;
    }
    if (rx->owes_zero) {
        store(rx, 0);
    }
    rx->left = (uint8_t)(byte - 1u);
    rx->owes_zero = byte != 255u;
    return ND_LINK_MORE;
}

uint32_t nd_link_seal(uint8_t *frame, uint8_t type, uint16_t seq, uint32_t length)
{
    frame[0] = type;
    frame[1] = (uint8_t)ND_LINK_VERSION;
    frame[2] = (uint8_t)seq;
    frame[3] = (uint8_t)(seq >> 8);
    nd_link_put32(frame + 4, length);
    const uint32_t body = ND_LINK_HEADER_BYTES + length;
    nd_link_put32(frame + body, nd_link_crc32(frame, body));
    return body + ND_LINK_CRC_BYTES;
}

void nd_link_send(const uint8_t *frame, uint32_t bytes, void (*put)(uint8_t byte))
{
    uint32_t at = 0;
    for (;;) {
        uint32_t run = 0;
        while (run < 254u && at + run < bytes && frame[at + run] != 0) {
            ++run;
        }
        put((uint8_t)(run + 1u));
        for (uint32_t i = 0; i < run; ++i) {
            put(frame[at + i]);
        }
        at += run;
        if (at == bytes) {
            break;
        }
        if (run < 254u) {
            ++at; /* the zero that this block's end stands for; the next block may be empty, and then still is one */
        }
    }
    put(0);
}
