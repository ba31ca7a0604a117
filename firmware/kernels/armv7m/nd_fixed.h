/* core/nd_fixed.h with the instructions of Armv7-M.
 *
 * Compilers find SMULL and ADD with a shift by themselves, SSAT they don't; where it is missing (a host that tests this
 * file) the same is said in C.
 */
#ifndef ND_FIXED_H
#define ND_FIXED_H

#include <stdint.h>

#if defined(__ARM_ARCH_7M__) && defined(__GNUC__) && !defined(ND_NO_ASM)
#define ND_HAS_V7M 1
#else
#define ND_HAS_V7M 0
#endif

static inline int32_t nd_sat8(int32_t x)
{
#if ND_HAS_V7M
    int32_t y;
    __asm("ssat %0, #8, %1" : "=r"(y) : "r"(x) : "cc");
    return y;
#else
    return x < -128 ? -128 : x > 127 ? 127 : x;
#endif
}

static inline int32_t nd_sat16(int32_t x)
{
#if ND_HAS_V7M
    int32_t y;
    __asm("ssat %0, #16, %1" : "=r"(y) : "r"(x) : "cc");
    return y;
#else
    return x < -32768 ? -32768 : x > 32767 ? 32767 : x;
#endif
}

/* x * mult / 2^32 to the nearest integer, halves upwards: the high word, and one more if the low word is half or more. */
static inline int32_t nd_rescale(int32_t x, int32_t mult)
{
    const int64_t product = (int64_t)x * mult;
    return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
}

/* A table of 513 knots, as look-ups in a loop want it. */
typedef struct {
    const int16_t *middle;
} nd_lut_t;

static inline nd_lut_t nd_lut_of(const int16_t *knots)
{
    const nd_lut_t lut = { knots + 256 };
    return lut;
}

/* Linear interpolation between knots, one every 128 steps of x from -32768 on; x is an int16. The result is 128 times
 * the value, and what is added to it: half a step to round, or more. a (128 - f) + b f = 128 a + (b - a) f. */
static inline int32_t nd_lut(nd_lut_t lut, int32_t x, int32_t more)
{
    const int16_t *at = lut.middle + (x >> 7);
    const int32_t a = at[0];
    return a * 128 + (at[1] - a) * (x & 127) + more;
}

/* A constant that a loop is to keep in a register. */
static inline int32_t nd_held(int32_t x)
{
    return x;
}

#endif
