/* core/nd_tfl_fixed.h with the instructions of Armv7E-M and of Armv8-M with the DSP extension.
 *
 * Where they are missing (a host that tests this file) the same is said in C. ND_NO_ASM leaves no assembly.
 */
#ifndef ND_TFL_FIXED_H
#define ND_TFL_FIXED_H

#include <stdint.h>

#include "nd_fixed.h"

/* x * mult / 2^31 to the nearest integer, given twice x; plus more, and one less for a negative x. With half a step as
 * `more`, a shift to the right then rounds halves away from zero. */
static inline int32_t nd_tfl_scale(int32_t twice, int32_t mult, int32_t more)
{
    more += twice >> 31;
#if ND_HAS_ASM
    int32_t y;
    __asm("smmlar %0, %1, %2, %3" : "=r"(y) : "r"(twice), "r"(mult), "r"(more));
    return y;
#else
    return nd_rescale(twice, mult) + more;
#endif
}

/* x / 2^shift, saturated: one instruction, for a shift that is a number. */
#if ND_HAS_ASM
#define nd_tfl_sat8(x, shift) ND_SAT("8", x, shift)
#define nd_tfl_sat16(x, shift) ND_SAT("16", x, shift)
#define ND_SAT(bits, x, shift)                                                                            \
    __extension__({                                                                                       \
        int32_t nd_y;                                                                                     \
        __asm("ssat %0, #" bits ", %1, asr #" #shift : "=r"(nd_y) : "r"(x));                              \
        nd_y;                                                                                             \
    })
#else
#define nd_tfl_sat8(x, shift) nd_sat8((x) >> (shift))
#define nd_tfl_sat16(x, shift) nd_sat16((x) >> (shift))
#endif

static inline int32_t nd_tfl_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Knots of the sigmoid as TFLite has them: at k / 24 for k from -256 to 256, in Q0.16 less a half. */
extern const int16_t nd_tfl_sigmoid_table[513];

/* The table, as curves in a loop want it: its middle, and what makes a pair of the knots' weights of a fraction f,
 * 65535 f + 2^bits. */
typedef struct {
    const int16_t *middle;
    int32_t weight;
} nd_tfl_curves_t;

static inline nd_tfl_curves_t nd_tfl_curves(void)
{
    const nd_tfl_curves_t curves = { nd_tfl_sigmoid_table + 256, nd_held(65535) };
    return curves;
}

/* sigmoid and tanh of an x in steps of 1 / (3 * 4096) that is less than 255 * 2^9 and 255 * 2^8 from 0. */
static inline int32_t nd_tfl_logistic(nd_tfl_curves_t curves, int32_t x)
{
    const uint32_t weights = (uint32_t)((x & 511) * curves.weight + 512);
    return nd_smlad(nd_pair(curves.middle + (x >> 9)), weights, (1 << 24) + 512 + (x >> 31)) >> 10;
}

static inline int32_t nd_tfl_tanh(nd_tfl_curves_t curves, int32_t x)
{
    const uint32_t weights = (uint32_t)((x & 255) * curves.weight + 256);
    return nd_smlad(nd_pair(curves.middle + (x >> 8)), weights, 128 + (x >> 31)) >> 8;
}

/* The same of any x. */
static inline int32_t nd_tfl_logistic_wide(nd_tfl_curves_t curves, int32_t x)
{
#if ND_HAS_DSP
    x = __ssat(x, 18);
    return nd_sat16(nd_tfl_logistic(curves, x < 1 - 255 * 512 ? 1 - 255 * 512 : x));
#else
    return nd_tfl_logistic(curves, nd_tfl_clamp(x, 1 - 255 * 512, 255 * 512 - 1));
#endif
}

static inline int32_t nd_tfl_tanh_wide(nd_tfl_curves_t curves, int32_t x)
{
#if ND_HAS_DSP
    return nd_tfl_tanh(curves, __ssat(x, 17));
#else
    return nd_tfl_tanh(curves, nd_tfl_clamp(x, -65536, 65535));
#endif
}

#endif
