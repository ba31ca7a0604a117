#include "nd_move.h"

/* The empty asm keeps compilers from calling a memmove that bare boards lack. */
#if defined(__GNUC__)
#define KEEP_LOOP() __asm volatile("" ::: "memory")
#else
#define KEEP_LOOP() ((void)0)
#endif

void nd_move_down(void *memory, int32_t total, int32_t bytes)
{
    if ((((uintptr_t)memory | (uint32_t)total | (uint32_t)bytes) & 3u) == 0) {
        uint32_t *to = memory;
        const uint32_t *from = to + (total - bytes) / 4;
        int32_t words = bytes / 4;
        for (; words >= 4; words -= 4, to += 4, from += 4) {
            const uint32_t a = from[0], b = from[1], c = from[2], d = from[3];
            to[0] = a;
            to[1] = b;
            to[2] = c;
            to[3] = d;
            KEEP_LOOP();
        }
        for (; words > 0; --words) {
            *to++ = *from++;
            KEEP_LOOP();
        }
        return;
    }
    uint8_t *to = memory;
    const uint8_t *from = to + (total - bytes);
    for (; bytes > 0; --bytes) {
        *to++ = *from++;
        KEEP_LOOP();
    }
}
