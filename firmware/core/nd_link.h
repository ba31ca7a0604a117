/* Frames on a serial line: COBS between zero bytes, a sequence number, a CRC-32.
 *
 * A frame is   type u8, version u8, seq u16, length u32, payload[length], crc u32   (little endian),
 * stuffed by COBS (Cheshire and Baker 1999, doi 10.1109/90.769765) so that it holds no zero byte, and ended by one.
 * The CRC is the one of IEEE 802.3 (reflected 0xEDB88320), over everything before it.
 */
#ifndef ND_LINK_H
#define ND_LINK_H

#include <stdint.h>

#define ND_LINK_VERSION 1u
#define ND_LINK_HEADER_BYTES 8u
#define ND_LINK_CRC_BYTES 4u
/* A board with little memory is built with a smaller one, and PING tells it. */
#ifndef ND_LINK_MAX_PAYLOAD
#define ND_LINK_MAX_PAYLOAD 4096u
#endif
#define ND_LINK_MAX_FRAME (ND_LINK_HEADER_BYTES + ND_LINK_MAX_PAYLOAD + ND_LINK_CRC_BYTES)

/* What nd_link_feed says about the byte it got. A damaged frame is dropped: its sequence number can't be trusted. */
typedef enum {
    ND_LINK_MORE = 0,    /* inside a frame, or between two */
    ND_LINK_FRAME = 1,   /* rx->frame holds a whole frame: use it before the next byte is fed */
    ND_LINK_BROKEN = -1, /* a frame ended that was stuffed wrongly, was too long or short, or failed its CRC */
} nd_link_event_t;

typedef struct {
    uint64_t align; /* so that the payload, at offset 8, is aligned for any type */
    uint8_t frame[ND_LINK_MAX_FRAME];
    uint32_t length; /* bytes in frame so far */
    uint8_t left;    /* data bytes left in this COBS block */
    uint8_t owes_zero;
    uint8_t started;
    uint8_t broken;
} nd_link_rx_t;

void nd_link_reset(nd_link_rx_t *rx);
nd_link_event_t nd_link_feed(nd_link_rx_t *rx, uint8_t byte);

/* Fields of a whole frame. */
uint8_t nd_link_type(const uint8_t *frame);
uint8_t nd_link_version(const uint8_t *frame);
uint16_t nd_link_seq(const uint8_t *frame);
uint32_t nd_link_length(const uint8_t *frame);

/* Writes header and CRC around a payload that already lies at frame + ND_LINK_HEADER_BYTES; returns the frame's size. */
uint32_t nd_link_seal(uint8_t *frame, uint8_t type, uint16_t seq, uint32_t length);

/* Sends a sealed frame, stuffed, with its closing zero. */
void nd_link_send(const uint8_t *frame, uint32_t bytes, void (*put)(uint8_t byte));

uint32_t nd_link_crc32(const uint8_t *data, uint32_t bytes);
uint32_t nd_link_get32(const uint8_t *at);
void nd_link_put32(uint8_t *at, uint32_t value);

#endif
