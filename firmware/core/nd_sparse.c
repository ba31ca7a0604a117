/* The plain kernels of matrices with few weights: what the others must equal, bit for bit. Bytes and halfwords are
 * loaded one by one, so this is right and quick on every core. */
#include "nd_sparse.h"

#include "nd_math.h"

/* clang would unroll the loops below again, to three times the code. */
#ifdef __clang__
#define ND_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define ND_ROLLED
#endif

#define ND_SINGLE(k) sum += (uint32_t)((int8_t)s[2 * (k) + 1] * at[s[2 * (k)]])

/* All rows; y has that many bits an element. */
static void product(const nd_sparse_t *a, const int16_t *x, void *y, int32_t bits)
{
    const uint8_t *s = a->weights;
    for (int32_t row = 0; row < a->rows; ++row) {
        const int16_t *at = x;
        int32_t windows = a->windows;
        int32_t made;
        uint32_t sum = (uint32_t)a->bias[row];
        for (;;) {
            uint32_t tiles = s[0];
            const uint32_t singles = s[1];
            s += 2;
            ND_ROLLED
            for (; tiles != 0; --tiles, s += 5) {
                const int16_t *in = at + 4 * s[0];
                sum += (uint32_t)((int8_t)s[1] * in[0]);
                sum += (uint32_t)((int8_t)s[2] * in[2]);
                sum += (uint32_t)((int8_t)s[3] * in[1]);
                sum += (uint32_t)((int8_t)s[4] * in[3]);
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
            ND_ROLLED
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
