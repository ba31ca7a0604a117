/* Saturation, rescaling and table look-up: the operations that cores have instructions for.
 *
 * This is the plain form; kernels/<isa>/nd_fixed.h does the same, bit for bit, with the instructions.
 */
#ifndef ND_FIXED_H
#define ND_FIXED_H

#include <stdint.h>

static inline int32_t nd_sat8(int32_t x)
{
    return x < -128 ? -128 : x > 127 ? 127 : x;
}

static inline int32_t nd_sat16(int32_t x)
{
    return x < -32768 ? -32768 : x > 32767 ? 32767 : x;
}

/* x * mult / 2^32 to the nearest integer, halves upwards. */
static inline int32_t nd_rescale(int32_t x, int32_t mult)
{
    return (int32_t)(((int64_t)x * mult + ((int64_t)1 << 31)) >> 32);
}

/* A table of 513 knots, as look-ups in a loop want it. */
typedef struct {
    const int16_t *knots;
} nd_lut_t;

static inline nd_lut_t nd_lut_of(const int16_t *knots)
{
    const nd_lut_t lut = { knots };
    return lut;
}

/* Linear interpolation between knots, one every 128 steps of x from -32768 on; x is an int16. The result is 128 times
 * the value, and what is added to it: half a step to round, or more. */
static inline int32_t nd_lut(nd_lut_t lut, int32_t x, int32_t more)
{
    const int32_t u = x + 32768;
    const int16_t *at = lut.knots + (u >> 7);
    const int32_t f = u & 127;
    return at[0] * (128 - f) + at[1] * f + more;
}

/* A constant that a loop is to keep in a register. */
static inline int32_t nd_held(int32_t x)
{
    return x;
}

#endif
