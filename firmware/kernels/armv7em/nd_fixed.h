/* core/nd_fixed.h with the instructions of Armv7E-M and of Armv8-M with the DSP extension.
 *
 * Where they are missing (a host that tests this file) the same is said in C. ND_NO_ASM leaves the compiler's intrinsics
 * and no assembly.
 */
#ifndef ND_FIXED_H
#define ND_FIXED_H

#include <stdint.h>
#include <string.h>

#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
#include <arm_acle.h>
#define ND_HAS_DSP 1
#else
#define ND_HAS_DSP 0
#endif
#if ND_HAS_DSP && !defined(ND_NO_ASM)
#define ND_HAS_ASM 1
#else
#define ND_HAS_ASM 0
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
static inline void nd_put_pair(int16_t *at, uint32_t word)
{
    ((nd_pair_t *)(void *)at)->word = word;
}
#else
static inline uint32_t nd_pair(const int16_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}
static inline void nd_put_pair(int16_t *at, uint32_t word)
{
    memcpy(at, &word, sizeof word);
}
#endif

static inline int32_t nd_low(uint32_t pair)
{
    return (int16_t)(pair & 0xFFFFu);
}

static inline int32_t nd_high(uint32_t pair)
{
    return (int32_t)pair >> 16;
}

static inline uint32_t nd_pack(int32_t low, int32_t high)
{
#if ND_HAS_ASM
    uint32_t pair;
    __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(low), "r"(high));
    return pair;
#else
    return ((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16;
#endif
}

static inline int64_t nd_join(int32_t low, int32_t high)
{
    return (int64_t)((uint64_t)(uint32_t)high << 32 | (uint32_t)low);
}

static inline int32_t nd_sat8(int32_t x)
{
#if ND_HAS_DSP
    return __ssat(x, 8);
#else
    return x < -128 ? -128 : x > 127 ? 127 : x;
#endif
}

static inline int32_t nd_sat16(int32_t x)
{
#if ND_HAS_DSP
    return __ssat(x, 16);
#else
    return x < -32768 ? -32768 : x > 32767 ? 32767 : x;
#endif
}

/* x * mult / 2^32 to the nearest integer, halves upwards; compilers know SMMULR. */
static inline int32_t nd_rescale(int32_t x, int32_t mult)
{
#if ND_HAS_ASM
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
#if ND_HAS_ASM
    int32_t y;
    __asm("smlad %0, %1, %2, %3" : "=r"(y) : "r"(a), "r"(b), "r"(sum));
    return y;
#elif ND_HAS_DSP
    return __smlad((int16x2_t)a, (int16x2_t)b, sum);
#else
    return (int32_t)((uint32_t)sum + (uint32_t)(nd_low(a) * nd_low(b)) + (uint32_t)(nd_high(a) * nd_high(b)));
#endif
}

/* The same with a sum of 64 bits. */
static inline int64_t nd_smlald(uint32_t a, uint32_t b, int64_t sum)
{
#if ND_HAS_DSP
    return __smlald((int16x2_t)a, (int16x2_t)b, sum);
#else
    return sum + (int64_t)(nd_low(a) * nd_low(b)) + (int64_t)(nd_high(a) * nd_high(b));
#endif
}

/* The low byte of each halfword, with its sign. */
static inline uint32_t nd_sxtb16(uint32_t x)
{
#if ND_HAS_DSP
    return (uint32_t)__sxtb16((int8x4_t)x);
#else
    return nd_pack((int8_t)(x & 0xFFu), (int8_t)(x >> 16 & 0xFFu));
#endif
}

/* A constant that a loop is to keep in a register: the compiler can't know it any more. */
static inline int32_t nd_held(int32_t x)
{
#if ND_HAS_ASM
    __asm("" : "+r"(x));
#endif
    return x;
}

/* A table of 513 knots, as look-ups in a loop want it: its middle, and two factors. */
typedef struct {
    const int16_t *middle;
    int32_t weight, whole; /* 65535 f + 128 is the pair of the knots' weights, 128 - f and f */
} nd_lut_t;

static inline nd_lut_t nd_lut_of(const int16_t *knots)
{
    const nd_lut_t lut = { knots + 256, nd_held(65535), nd_held(128) };
    return lut;
}

/* Linear interpolation between knots, one every 128 steps of x from -32768 on; x is an int16. The result is 128 times
 * the value, and what is added to it: half a step to round, or more. Two neighbouring knots are one load. */
#if ND_HAS_ASM
#define ND_LUT(index, fraction)                                                                              \
    int32_t y;                                                                                               \
    uint32_t f;                                                                                              \
    __asm(index "\n\t" fraction "\n\tldr %0, [%3, %0, lsl #1]\n\tmla %1, %1, %4, %5\n\tsmlad %0, %0, %1, %6"  \
          : "=&r"(y), "=&r"(f)                                                                               \
          : "r"(x), "r"(lut.middle), "r"(lut.weight), "r"(lut.whole), "r"(more));                            \
    return y
static inline int32_t nd_lut(nd_lut_t lut, int32_t x, int32_t more)
{
    ND_LUT("sbfx %0, %2, #7, #9", "ubfx %1, %2, #0, #7");
}
static inline int32_t nd_lut_high(nd_lut_t lut, uint32_t x, int32_t more)
{
    ND_LUT("asr %0, %2, #23", "ubfx %1, %2, #16, #7");
}
#else
static inline int32_t nd_lut(nd_lut_t lut, int32_t x, int32_t more)
{
    const int32_t f = x & 127;
    return nd_smlad(nd_pair(lut.middle + (x >> 7)), (uint32_t)(f * lut.weight + lut.whole), more);
}
static inline int32_t nd_lut_high(nd_lut_t lut, uint32_t x, int32_t more)
{
    return nd_lut(lut, nd_high(x), more);
}
#endif
static inline int32_t nd_lut_low(nd_lut_t lut, uint32_t x, int32_t more)
{
#if ND_HAS_ASM
    return nd_lut(lut, (int32_t)x, more);
#else
    return nd_lut(lut, nd_low(x), more);
#endif
}

/* a * (half of a pair), and the same added to a sum; a is an int16. */
#if ND_HAS_ASM
#define ND_HALF(name, sum_name, half)                                                           \
    static inline int32_t name(int32_t a, uint32_t pair)                                        \
    {                                                                                           \
        int32_t y;                                                                              \
        __asm("smulb" half " %0, %1, %2" : "=r"(y) : "r"(a), "r"(pair));                        \
        return y;                                                                               \
    }                                                                                           \
    static inline int32_t sum_name(int32_t a, uint32_t pair, int32_t sum)                       \
    {                                                                                           \
        int32_t y;                                                                              \
        __asm("smlab" half " %0, %1, %2, %3" : "=r"(y) : "r"(a), "r"(pair), "r"(sum));          \
        return y;                                                                               \
    }
ND_HALF(nd_mul_low, nd_mla_low, "b")
ND_HALF(nd_mul_high, nd_mla_high, "t")
#else
static inline int32_t nd_mul_low(int32_t a, uint32_t pair)
{
    return a * nd_low(pair);
}
static inline int32_t nd_mul_high(int32_t a, uint32_t pair)
{
    return a * nd_high(pair);
}
static inline int32_t nd_mla_low(int32_t a, uint32_t pair, int32_t sum)
{
    return a * nd_low(pair) + sum;
}
static inline int32_t nd_mla_high(int32_t a, uint32_t pair, int32_t sum)
{
    return a * nd_high(pair) + sum;
}
#endif

/* A sum and half of a pair times 2^bits, bits from 0 to 15. */
static inline int32_t nd_low_times(uint32_t pair, int32_t bits, int32_t sum)
{
    return sum + ((int32_t)(pair << 16) >> (16 - bits));
}
static inline int32_t nd_high_times(uint32_t pair, int32_t bits, int32_t sum)
{
    return sum + ((int32_t)(pair & 0xFFFF0000u) >> (16 - bits));
}

#endif
