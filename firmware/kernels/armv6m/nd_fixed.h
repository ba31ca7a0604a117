/* core/nd_fixed.h for Armv6-M, which has no saturation and multiplies to 32 bits only: no 64-bit arithmetic here. */
#ifndef ND_FIXED_H
#define ND_FIXED_H

#include <stdint.h>

#if defined(__ARM_ARCH_6M__) && defined(__GNUC__) && !defined(ND_NO_ASM)
#define ND_HAS_V6M 1
#else
#define ND_HAS_V6M 0
#endif

static inline int32_t nd_sat8(int32_t x)
{
    return (int8_t)x == x ? x : (x >> 31) ^ 127;
}

static inline int32_t nd_sat16(int32_t x)
{
    return (int16_t)x == x ? x : (x >> 31) ^ 32767;
}

/* x = 65536 high + low with a signed low of 16 bits: the nearest high, halves upwards. */
static inline int32_t nd_high(int32_t x)
{
    return ((x >> 15) + 1) >> 1;
}

/* x * (65536 high + low) / 2^32 to the nearest integer, halves upwards; 0 <= high <= 32768, low an int16.
 * Both halves of x and of the multiplier are at most 32768 in size, the low ones less than that upwards, so that the
 * sum in the middle fits: it is xh low + floor(xl mult / 2^16), each within 2^30, and 2^30 is reached by one only. */
static inline int32_t nd_rescale_by(int32_t x, int32_t high, int32_t low)
{
    const int32_t xh = nd_high(x);
    const int32_t xl = (int16_t)x;
    const int32_t middle = xh * low + xl * high + ((xl * low) >> 16);
    return xh * high + nd_high(middle);
}

/* x * mult / 2^32 to the nearest integer, halves upwards; mult >= 0. */
static inline int32_t nd_rescale(int32_t x, int32_t mult)
{
    return nd_rescale_by(x, nd_high(mult), (int16_t)mult);
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
#if ND_HAS_V6M
    int32_t y, a; /* by offsets: compilers take pointers to the knots, which costs registers that they don't have */
    __asm(".syntax unified\n\t"
          "asrs %0, %2, #7\n\tlsls %0, %0, #1\n\tldrsh %1, [%3, %0]\n\tadds %0, #2\n\tldrsh %0, [%3, %0]\n\t"
          "subs %0, %0, %1\n\tlsls %2, %2, #25\n\tlsrs %2, %2, #25\n\tmuls %0, %2, %0\n\t"
          "lsls %1, %1, #7\n\tadds %0, %0, %1"
          : "=&l"(y), "=&l"(a), "+l"(x)
          : "l"(lut.middle)
          : "cc");
    return y + more;
#else
    const int16_t *at = lut.middle + (x >> 7);
    const int32_t a = at[0];
    return a * 128 + (at[1] - a) * (x & 127) + more;
#endif
}

/* A constant that a loop is to keep in a register. */
static inline int32_t nd_held(int32_t x)
{
    return x;
}

#endif
