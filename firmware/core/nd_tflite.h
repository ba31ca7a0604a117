/* What TFLite Micro's integer kernels compute, bit for bit: their rescales, and wide sums. */
#ifndef ND_TFLITE_H
#define ND_TFLITE_H

#include <stdint.h>

#include "nd_tfl_fixed.h"

/* x * mult / 2^31 to the nearest integer, halves upwards. */
static inline int32_t nd_tfl_high(int32_t x, int32_t mult)
{
    return (int32_t)(((int64_t)x * mult + ((int64_t)1 << 30)) >> 31);
}

/* nd_tfl_scale for any x that needs not be doubled first. */
static inline int32_t nd_tfl_scale_wide(int32_t x, int32_t mult, int32_t more)
{
    return nd_tfl_high(x, mult) + more + (x >> 31);
}

/* x / 2^shift to the nearest integer, halves away from zero; x is not INT32_MIN. */
static inline int32_t nd_tfl_round(int32_t x, int32_t shift)
{
    return shift ? (((x + (x >> 31)) >> (shift - 1)) + 1) >> 1 : x;
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

/* y = W x + bias in 64 bits, W [rows][columns]. */
void nd_tfl_sums(const int16_t *w, const int16_t *x, const int64_t *bias, int32_t rows, int32_t columns, int64_t *y);

#endif
