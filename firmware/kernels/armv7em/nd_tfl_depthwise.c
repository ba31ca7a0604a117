/* Four channels at a time: a word of x and a word of weights hold one tap of all four. */
#include "nd_tfl_depthwise.h"

#include "nd_fixed.h"

#if defined(__GNUC__)
typedef struct {
    uint32_t word;
} __attribute__((packed, may_alias)) bytes_t;
static inline uint32_t four_bytes(const int8_t *at)
{
    return ((const bytes_t *)(const void *)at)->word;
}
#else
static inline uint32_t four_bytes(const int8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}
#endif

/* The high byte of each halfword, with its sign. */
static inline uint32_t high_bytes(uint32_t x)
{
#if ND_HAS_ASM
    uint32_t y;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(x));
    return y;
#else
    return nd_sxtb16(x >> 8);
#endif
}

static inline int32_t low_product(uint32_t a, uint32_t b, int32_t sum)
{
#if ND_HAS_ASM
    int32_t y;
    __asm("smlabb %0, %1, %2, %3" : "=r"(y) : "r"(a), "r"(b), "r"(sum));
    return y;
#else
    return (int32_t)((uint32_t)sum + (uint32_t)(nd_low(a) * nd_low(b)));
#endif
}

static inline int32_t high_product(uint32_t a, uint32_t b, int32_t sum)
{
#if ND_HAS_ASM
    int32_t y;
    __asm("smlatt %0, %1, %2, %3" : "=r"(y) : "r"(a), "r"(b), "r"(sum));
    return y;
#else
    return (int32_t)((uint32_t)sum + (uint32_t)(nd_high(a) * nd_high(b)));
#endif
}

#define PLAIN_CHANNELS(type)                                                                          \
    for (; c < channels; ++c) {                                                                       \
        const int8_t *weight = w + c;                                                                 \
        uint32_t sum = (uint32_t)bias[c];                                                             \
        for (int32_t row = 0; row < rows; ++row) {                                                    \
            const type *at = x + c + row * row_step;                                                  \
            for (int32_t left = columns; left > 0; --left, at += column_step, weight += channels) {   \
                sum += (uint32_t)(*at * *weight);                                                     \
            }                                                                                         \
        }                                                                                             \
        y[c] = (int32_t)sum;                                                                          \
    }

void nd_tfl_depthwise_i8(const int8_t *x, const int8_t *w, const int32_t *bias, int32_t rows, int32_t row_step,
                         int32_t columns, int32_t column_step, int32_t channels, int32_t *y)
{
    int32_t c = 0;
    if (columns == 1) { /* taps of one column are those of one row */
        columns = rows;
        column_step = row_step;
        rows = 1;
    }
    for (; c + 4 <= channels; c += 4) {
        const int8_t *weight = w + c;
        int32_t s0 = bias[c], s1 = bias[c + 1], s2 = bias[c + 2], s3 = bias[c + 3];
        for (int32_t row = 0; row < rows; ++row) {
            const int8_t *at = x + c + row * row_step;
            for (int32_t left = columns; left > 0; --left, at += column_step, weight += channels) {
                const uint32_t seen = four_bytes(at), taps = four_bytes(weight);
                const uint32_t even = nd_sxtb16(seen), odd = high_bytes(seen);
                const uint32_t even_taps = nd_sxtb16(taps), odd_taps = high_bytes(taps);
                s0 = low_product(even, even_taps, s0);
                s1 = low_product(odd, odd_taps, s1);
                s2 = high_product(even, even_taps, s2);
                s3 = high_product(odd, odd_taps, s3);
            }
        }
        y[c] = s0;
        y[c + 1] = s1;
        y[c + 2] = s2;
        y[c + 3] = s3;
    }
    PLAIN_CHANNELS(int8_t)
}

void nd_tfl_depthwise_i16(const int16_t *x, const int8_t *w, const int32_t *bias, int32_t rows, int32_t row_step,
                          int32_t columns, int32_t column_step, int32_t channels, int32_t *y)
{
    int32_t c = 0;
    for (; c + 4 <= channels; c += 4) {
        const int8_t *weight = w + c;
        int32_t s0 = bias[c], s1 = bias[c + 1], s2 = bias[c + 2], s3 = bias[c + 3];
        for (int32_t row = 0; row < rows; ++row) {
            const int16_t *at = x + c + row * row_step;
            for (int32_t left = columns; left > 0; --left, at += column_step, weight += channels) {
                const uint32_t first = nd_pair(at), second = nd_pair(at + 2), taps = four_bytes(weight);
                const uint32_t even_taps = nd_sxtb16(taps), odd_taps = high_bytes(taps);
                s0 = low_product(first, even_taps, s0);
                s1 += nd_high(first) * nd_low(odd_taps);
                s2 += nd_low(second) * nd_high(even_taps);
                s3 = high_product(second, odd_taps, s3);
            }
        }
        y[c] = s0;
        y[c + 1] = s1;
        y[c + 2] = s2;
        y[c + 3] = s3;
    }
    PLAIN_CHANNELS(int16_t)
}
