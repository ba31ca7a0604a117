/* The plain kernels for weights of four bits: what the others must equal, bit for bit. Four rows share every input, so
 * that a weight costs what takes it out of its word, and its product. */
#include "nd_affine4.h"

#include "nd_math.h"

/* clang would unroll the loops below, to three times the code. */
#ifdef __clang__
#define ND_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define ND_ROLLED
#endif

/* Four bits of a word, with their sign. */
static inline int32_t nibble(uint32_t word, int from)
{
    return (int32_t)(word << (28 - from)) >> 28;
}

static void put(const nd_affine4_t *a, int32_t row, uint32_t sum, void *y, int32_t bits)
{
    sum += (uint32_t)a->bias[row];
    if (bits == 32) {
        ((int32_t *)y)[row] = (int32_t)sum;
    } else {
        const int32_t made = nd_rescale((int32_t)(sum << a->pre), a->mult[row]);
        if (bits == 16) {
            ((int16_t *)y)[row] = (int16_t)nd_sat16(made);
        } else {
            ((int8_t *)y)[row] = (int8_t)nd_sat8(made);
        }
    }
}

/* All rows; y has that many bits an element. */
static void product(const nd_affine4_t *a, const int16_t *x, void *y, int32_t bits)
{
    const uint32_t *w = a->weights;
    const int16_t *end = x + (a->columns & ~1);
    for (int32_t row = 0; row < a->rows; row += 4) {
        uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        const int16_t *in = x;
        ND_ROLLED
        for (; in != end; in += 2) {
            const uint32_t word = *w++;
            int32_t value = in[0];
            s0 += (uint32_t)(nibble(word, 0) * value);
            s1 += (uint32_t)(nibble(word, 4) * value);
            s2 += (uint32_t)(nibble(word, 8) * value);
            s3 += (uint32_t)(nibble(word, 12) * value);
            value = in[1];
            s0 += (uint32_t)(nibble(word, 16) * value);
            s1 += (uint32_t)(nibble(word, 20) * value);
            s2 += (uint32_t)(nibble(word, 24) * value);
            s3 += (uint32_t)(nibble(word, 28) * value);
        }
        if (a->columns & 1) {
            const uint32_t word = *w++;
            s0 += (uint32_t)(nibble(word, 0) * in[0]);
            s1 += (uint32_t)(nibble(word, 4) * in[0]);
            s2 += (uint32_t)(nibble(word, 8) * in[0]);
            s3 += (uint32_t)(nibble(word, 12) * in[0]);
        }
        const uint32_t sums[4] = { s0, s1, s2, s3 };
        ND_ROLLED
        for (int32_t i = 0; i < 4 && row + i < a->rows; ++i) {
            put(a, row + i, sums[i], y, bits);
        }
    }
}

void nd_affine_i4_i32(const nd_affine4_t *a, const int16_t *x, int32_t *y)
{
    product(a, x, y, 32);
}

void nd_affine_i4_i16(const nd_affine4_t *a, const int16_t *x, int16_t *y)
{
    product(a, x, y, 16);
}

void nd_affine_i4_i8(const nd_affine4_t *a, const int16_t *x, int8_t *y)
{
    product(a, x, y, 8);
}
