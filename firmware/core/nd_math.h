/* Integer arithmetic of neurodeploy's native numerics. Every function is exact: the same bits on every machine.
 *
 * A right shift of a negative number is taken to be arithmetic, as every compiler in use has it.
 */
#ifndef ND_MATH_H
#define ND_MATH_H

#include <stdint.h>

#include "nd_fixed.h"

#if defined(__GNUC__)
#define ND_ALIGNED(bytes) __attribute__((aligned(bytes)))
#define ND_NOINLINE __attribute__((noinline))
#else
#define ND_NOINLINE
#define ND_ALIGNED(bytes) /* the compiler's own alignment; the assertions on offsets tell if it isn't enough */
#endif

static inline int64_t nd_sat_to(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* a / b to the nearest integer, halves away from zero; x / 0 is the largest or smallest int32, 0 / 0 is 0. */
static inline int32_t nd_divide(int32_t a, int32_t b)
{
    const uint32_t size = b < 0 ? 0u - (uint32_t)b : (uint32_t)b;
    const uint32_t top = a < 0 ? 0u - (uint32_t)a : (uint32_t)a;
    uint32_t quotient;
    if (size == 0) {
        return a > 0 ? INT32_MAX : a < 0 ? INT32_MIN : 0;
    }
    quotient = (top + size / 2u) / size;
    return (a < 0) != (b < 0) ? (int32_t)(0u - quotient) : (int32_t)quotient;
}

static inline int64_t nd_divide64(int64_t a, int64_t b)
{
    const uint64_t size = b < 0 ? 0u - (uint64_t)b : (uint64_t)b;
    const uint64_t top = a < 0 ? 0u - (uint64_t)a : (uint64_t)a;
    uint64_t quotient;
    if (size == 0) {
        return a > 0 ? INT32_MAX : a < 0 ? INT32_MIN : 0;
    }
    quotient = (top + size / 2u) / size;
    return (a < 0) != (b < 0) ? (int64_t)(0u - quotient) : (int64_t)quotient;
}

/* The largest r with r * r <= x; 0 for negative x. */
static inline int64_t nd_isqrt(int64_t x)
{
    uint64_t rest = x < 0 ? 0 : (uint64_t)x;
    uint64_t root = 0;
    uint64_t bit = (uint64_t)1 << 62;
    while (bit > rest) {
        bit >>= 2;
    }
    for (; bit != 0; bit >>= 2) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (int64_t)root;
}

/* An index moved to the nearest end of [0, count). */
static inline int32_t nd_index(int64_t i, int32_t count)
{
    return i < 0 ? 0 : i >= count ? count - 1 : (int32_t)i;
}

/* Word i of counter c: Philox 2x32 with 10 rounds (Salmon, Moraes, Dror and Shaw, SC 2011). */
static inline uint32_t nd_philox(uint32_t counter, uint32_t i, uint32_t key)
{
    uint32_t left = counter;
    uint32_t right = i;
    for (int round = 0; round < 10; ++round) {
        const uint64_t product = (uint64_t)left * 0xD256D193u;
        left = (uint32_t)(product >> 32) ^ key ^ right;
        right = (uint32_t)product;
        key += 0x9E3779B9u;
    }
    return left;
}

/* floor(x * inverse_scale + 0.5) + zero_point, saturated to [low, high]; NaN counts as 0. */
static inline int32_t nd_quantize(float x, float inverse_scale, int32_t zero_point, int32_t low, int32_t high)
{
    const float scaled = x * inverse_scale + 0.5f;
    int32_t whole = 0;
    if (scaled >= 1073741824.0f) {
        whole = 1073741824;
    } else if (scaled <= -1073741824.0f) {
        whole = -1073741824;
    } else if (scaled == scaled) {
        whole = (int32_t)scaled;
        whole -= (float)whole > scaled;
    }
    whole += zero_point;
    return whole < low ? low : whole > high ? high : whole;
}

/* The same by TFLite's rule: x / scale to the nearest integer, halves away from zero. */
static inline int32_t nd_quantize_away(float x, float scale, int32_t zero_point, int32_t low, int32_t high)
{
    const float steps = x / scale;
    const float size = steps < 0.0f ? -steps : steps;
    int32_t whole = size >= 1073741824.0f ? 1073741824 : size == size ? (int32_t)size : 0;
    whole += size - (float)whole >= 0.5f;
    whole = (steps < 0.0f ? -whole : whole) + zero_point;
    return whole < low ? low : whole > high ? high : whole;
}

static inline float nd_dequantize(int32_t x, float scale, int32_t zero_point)
{
    return (float)(x - zero_point) * scale;
}

#endif
