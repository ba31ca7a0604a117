/* core/nd_tfl_channels.c in ten instructions a row: multiplier and shift are one load. */
#include "nd_tfl_channels.h"

#include "nd_tfl_fixed.h"

#if ND_HAS_ASM
/* Twice the next sum, rescaled; moves on by one sum and one channel. */
static inline int32_t next(const int32_t **sums, const int32_t **channels, int32_t more)
{
    int32_t y, mult, shift, sign;
    __asm("ldr %0, [%4], #4\n\t"
          "ldrd %1, %2, [%5], #8\n\t"
          "asr %3, %0, #31\n\t"
          "lsl %0, %0, #1\n\t"
          "smmlar %0, %0, %1, %3\n\t"
          "asr %0, %0, %2\n\t"
          "add %0, %0, %6"
          : "=&r"(y), "=&r"(mult), "=&r"(shift), "=&r"(sign), "+r"(*sums), "+r"(*channels)
          : "r"(more)
          : "memory");
    return y;
}
#else
static inline int32_t next(const int32_t **sums, const int32_t **channels, int32_t more)
{
    const int32_t *const channel = *channels;
    *channels += 2;
    return (nd_tfl_scale(*(*sums)++ * 2, channel[0], 0) >> channel[1]) + more;
}
#endif

#define ALL_CHANNELS(type, saturated)                                    \
    for (; times > 0; --times) {                                         \
        const int32_t *channel = channels;                               \
        if (rows & 1) {                                                  \
            *y++ = (type)saturated(next(&sums, &channel, more), 1);      \
        }                                                                \
        for (const type *const end = y + (rows & ~1); y != end; y += 2) { \
            y[0] = (type)saturated(next(&sums, &channel, more), 1);      \
            y[1] = (type)saturated(next(&sums, &channel, more), 1);      \
        }                                                                \
    }

void nd_tfl_channels_i8(const int32_t *sums, const int32_t *channels, int32_t more, int32_t rows, int32_t times,
                        int8_t *y)
{
    ALL_CHANNELS(int8_t, nd_tfl_sat8)
}

void nd_tfl_channels_i16(const int32_t *sums, const int32_t *channels, int32_t more, int32_t rows, int32_t times,
                         int16_t *y)
{
    ALL_CHANNELS(int16_t, nd_tfl_sat16)
}
