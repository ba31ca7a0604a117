/* core/nd_fixed.h with the instructions of Armv7E-M and of Armv8-M with the DSP extension.
 *
 * Where they are missing (a host that tests this file) the same is said in C.
 */
#ifndef ND_FIXED_H
#define ND_FIXED_H

#include <stdint.h>
#include <string.h>

#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && !defined(ND_NO_ASM)
#define ND_HAS_DSP 1
#else
#define ND_HAS_DSP 0
#endif

/* Two halfwords from an address that need not be aligned to a word. A union or memcpy would do the same, but some bare
 * compilers make a call of a memcpy of four bytes. */
#if defined(__GNUC__)
typedef struct {
    uint32_t word;
} __attribute__((packed, may_alias)) nd_pair_t;
static inline uint32_t nd_pair(const int16_t *at)
{
    return ((const nd_pair_t *)(const void *)at)->word;
}
#else
static inline uint32_t nd_pair(const int16_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}
#endif

static inline int32_t nd_sat8(int32_t x)
{
#if ND_HAS_DSP
    int32_t y;
    __asm("ssat %0, #8, %1" : "=r"(y) : "r"(x));
    return y;
#else
    return x < -128 ? -128 : x > 127 ? 127 : x;
#endif
}

static inline int32_t nd_sat16(int32_t x)
{
#if ND_HAS_DSP
    int32_t y;
    __asm("ssat %0, #16, %1" : "=r"(y) : "r"(x));
    return y;
#else
    return x < -32768 ? -32768 : x > 32767 ? 32767 : x;
#endif
}

/* x * mult / 2^32 to the nearest integer, halves upwards. */
static inline int32_t nd_rescale(int32_t x, int32_t mult)
{
#if ND_HAS_DSP
    int32_t y;
    __asm("smmulr %0, %1, %2" : "=r"(y) : "r"(x), "r"(mult));
    return y;
#else
    return (int32_t)(((int64_t)x * mult + ((int64_t)1 << 31)) >> 32);
#endif
}

/* sum + low(a) * low(b) + high(a) * high(b) of signed halfwords; wraps. */
static inline int32_t nd_smlad(uint32_t a, uint32_t b, int32_t sum)
{
#if ND_HAS_DSP
    int32_t y;
    __asm("smlad %0, %1, %2, %3" : "=r"(y) : "r"(a), "r"(b), "r"(sum));
    return y;
#else
    const int32_t low = (int16_t)(a & 0xFFFFu) * (int16_t)(b & 0xFFFFu);
    const int32_t high = (int16_t)(a >> 16) * (int16_t)(b >> 16);
    return (int32_t)((uint32_t)sum + (uint32_t)low + (uint32_t)high);
#endif
}

/* Linear interpolation between 513 knots, one every 128 steps of x from -32768 on; x is an int16.
 * Two neighbouring knots are one load; 65535 f + 128 is the pair of their weights, 128 - f and f. */
static inline int32_t nd_lut(const int16_t *knots, int32_t x)
{
    const int16_t *middle = knots + 256;
    const uint32_t f = (uint32_t)x & 127u;
    return nd_smlad(nd_pair(middle + (x >> 7)), f * 65535u + 128u, 64) >> 7;
}

#endif
