/* core/nd_sparse.c with SMLAD for the tiles. */
#include "nd_sparse.h"

#include "nd_math.h"

/* Bytes 0 and 2 of a word as two signed halfwords, and bytes 1 and 3. */
static inline uint32_t even_bytes(uint32_t w)
{
#if ND_HAS_DSP
    uint32_t y;
    __asm("sxtb16 %0, %1" : "=r"(y) : "r"(w));
    return y;
#else
    return (uint16_t)(int8_t)w | (uint32_t)(int8_t)(w >> 16) << 16;
#endif
}

static inline uint32_t odd_bytes(uint32_t w)
{
#if ND_HAS_DSP
    uint32_t y;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(w));
    return y;
#else
    return even_bytes(w >> 8);
#endif
}

/* A word that need not be aligned. */
static inline uint32_t word_at(const uint8_t *s)
{
    return nd_pair((const int16_t *)(const void *)s);
}

#define ND_SINGLE(k) sum = (int32_t)((uint32_t)sum + (uint32_t)((int8_t)s[2 * (k) + 1] * at[s[2 * (k)]]))

/* All rows; y has that many bits an element. */
static void product(const nd_sparse_t *a, const int16_t *x, void *y, int32_t bits)
{
    const uint8_t *s = a->weights;
    for (int32_t row = 0; row < a->rows; ++row) {
        const int16_t *at = x;
        int32_t windows = a->windows;
        int32_t made;
        int32_t sum = a->bias[row];
        for (;;) {
            uint32_t tiles = s[0];
            const uint32_t singles = s[1];
            s += 2;
            for (; tiles != 0; --tiles, s += 5) {
                const uint32_t w = word_at(s + 1);
                const int16_t *in = at + 4 * s[0];
                sum = nd_smlad(even_bytes(w), nd_pair(in), sum);
                sum = nd_smlad(odd_bytes(w), nd_pair(in + 2), sum);
            }
            if (singles & 1u) {
                ND_SINGLE(0);
                s += 2;
            }
            if (singles & 2u) {
                ND_SINGLE(0);
                ND_SINGLE(1);
                s += 4;
            }
            for (uint32_t fours = singles >> 2; fours != 0; --fours, s += 8) {
                ND_SINGLE(0);
                ND_SINGLE(1);
                ND_SINGLE(2);
                ND_SINGLE(3);
            }
            if (--windows == 0) {
                break;
            }
            at += ND_SPARSE_WINDOW;
        }
        if (bits == 32) {
            ((int32_t *)y)[row] = (int32_t)sum;
            continue;
        }
        made = nd_rescale((int32_t)((uint32_t)sum << a->pre), a->mult[row]);
        if (bits == 16) {
            ((int16_t *)y)[row] = (int16_t)nd_sat16(made);
        } else {
            ((int8_t *)y)[row] = (int8_t)nd_sat8(made);
        }
    }
}

void nd_sparse_i8_i32(const nd_sparse_t *a, const int16_t *x, int32_t *y)
{
    product(a, x, y, 32);
}

void nd_sparse_i8_i16(const nd_sparse_t *a, const int16_t *x, int16_t *y)
{
    product(a, x, y, 16);
}

void nd_sparse_i8_i8(const nd_sparse_t *a, const int16_t *x, int8_t *y)
{
    product(a, x, y, 8);
}
