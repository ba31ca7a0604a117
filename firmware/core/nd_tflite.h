/* What TFLite Micro's integer kernels compute, bit for bit: two rescales, and the curves of int16. */
#ifndef ND_TFLITE_H
#define ND_TFLITE_H

#include <stdint.h>

#include "nd_fixed.h"

/* sigmoid(i / 24) in Q0.16, as TFLite has it. */
extern const uint16_t nd_tfl_sigmoid_table[256];

/* x * mult / 2^31 to the nearest integer, halves upwards. */
static inline int32_t nd_tfl_high(int32_t x, int32_t mult)
{
    return (int32_t)(((int64_t)x * mult + ((int64_t)1 << 30)) >> 31);
}

/* x / 2^shift to the nearest integer, halves away from zero. */
static inline int32_t nd_tfl_round(int32_t x, int32_t shift)
{
    return shift ? (x + (x >> 31) + ((int32_t)1 << (shift - 1))) >> shift : x;
}

static inline int32_t nd_tfl_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* x * mult * 2^(shift - 31), rounded twice. */
static inline int32_t nd_tfl_multiply(int32_t x, int32_t mult, int32_t shift)
{
    return shift > 0 ? nd_tfl_high((int32_t)((uint32_t)x << shift), mult) : nd_tfl_round(nd_tfl_high(x, mult), -shift);
}

/* x * mult / 2^shift to the nearest integer, halves upwards. */
static inline int32_t nd_tfl_multiply_64(int64_t x, int32_t mult, int32_t shift)
{
    return (int32_t)((x * mult + ((int64_t)1 << (shift - 1))) >> shift);
}

/* Between two knots, 2^bits steps apart, times 2^bits. */
static inline int32_t nd_tfl_between(int32_t size, int32_t bits)
{
    const uint16_t *at = nd_tfl_sigmoid_table + (size >> bits);
    return at[0] * ((int32_t)1 << bits) + (size & (((int32_t)1 << bits) - 1)) * (at[1] - at[0]);
}

/* x in steps of 1 / (3 * 4096). */
static inline int32_t nd_tfl_logistic(int32_t x)
{
    const int32_t size = x < 0 ? -x : x;
    const int32_t y = size >> 9 >= 255 ? 0x7FFF << 10 : nd_tfl_between(size, 9);
    return (x < 0 ? (1 << 25) - y + 511 : y + 512) >> 10;
}

static inline int32_t nd_tfl_tanh(int32_t x)
{
    const int32_t size = x < 0 ? -x : x;
    const int32_t y = size >> 8 >= 255 ? 0xFFFF << 8 : nd_tfl_between(size, 8);
    return (x < 0 ? (1 << 23) - y + 127 : y - (1 << 23) + 128) >> 8;
}

/* y = W x + bias in 64 bits, W [rows][columns]. */
void nd_tfl_sums(const int16_t *w, const int16_t *x, const int64_t *bias, int32_t rows, int32_t columns, int64_t *y);

#endif
