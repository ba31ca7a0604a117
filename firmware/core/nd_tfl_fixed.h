/* The parts of TFLite Micro's arithmetic that cores have instructions for.
 *
 * This is the plain form; kernels/<isa>/nd_tfl_fixed.h does the same, bit for bit, with the instructions.
 */
#ifndef ND_TFL_FIXED_H
#define ND_TFL_FIXED_H

#include <stdint.h>

#include "nd_fixed.h"

/* x * mult / 2^31 to the nearest integer, given twice x; plus more, and one less for a negative x. With half a step as
 * `more`, a shift to the right then rounds halves away from zero. */
static inline int32_t nd_tfl_scale(int32_t twice, int32_t mult, int32_t more)
{
    return nd_rescale(twice, mult) + more + (twice >> 31);
}

/* x / 2^shift, saturated. */
#define nd_tfl_sat8(x, shift) nd_sat8((x) >> (shift))
#define nd_tfl_sat16(x, shift) nd_sat16((x) >> (shift))

static inline int32_t nd_tfl_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Knots of the sigmoid as TFLite has them: at k / 24 for k from -256 to 256, in Q0.16 less a half. */
extern const int16_t nd_tfl_sigmoid_table[513];

/* The table, as curves in a loop want it. */
typedef struct {
    const int16_t *middle;
} nd_tfl_curves_t;

static inline nd_tfl_curves_t nd_tfl_curves(void)
{
    const nd_tfl_curves_t curves = { nd_tfl_sigmoid_table + 256 };
    return curves;
}

/* sigmoid and tanh of an x in steps of 1 / (3 * 4096) that is less than 255 * 2^9 and 255 * 2^8 from 0. */
static inline int32_t nd_tfl_logistic(nd_tfl_curves_t curves, int32_t x)
{
    const int16_t *at = curves.middle + (x >> 9);
    return (at[0] * 512 + (at[1] - at[0]) * (x & 511) + (1 << 24) + 512 + (x >> 31)) >> 10;
}

static inline int32_t nd_tfl_tanh(nd_tfl_curves_t curves, int32_t x)
{
    const int16_t *at = curves.middle + (x >> 8);
    return (at[0] * 256 + (at[1] - at[0]) * (x & 255) + 128 + (x >> 31)) >> 8;
}

/* The same of any x. */
static inline int32_t nd_tfl_logistic_wide(nd_tfl_curves_t curves, int32_t x)
{
    return nd_tfl_logistic(curves, nd_tfl_clamp(x, 1 - 255 * 512, 255 * 512 - 1));
}

static inline int32_t nd_tfl_tanh_wide(nd_tfl_curves_t curves, int32_t x)
{
    return nd_tfl_tanh(curves, nd_tfl_clamp(x, -65536, 65535));
}

#endif
