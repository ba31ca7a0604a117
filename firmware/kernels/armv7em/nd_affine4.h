/* core/nd_affine4.h for cores with SMLAD. Only the order of the constants differs.
 *
 * They come in one stream of words, four rows at a time, rows filled up to four and columns to a multiple of four with
 * zeros; the function that gives the raw sum has no multipliers in its stream:
 *
 *   a word for every two columns | bias of rows 0-3 | multipliers of rows 0-3
 *
 * Each halfword is one column of four rows, (w0 + 8) + 16 (w1 + 8) + 256 (w2 + 8) + 4096 w3. The compiler of the model
 * has proved that sum|w0| + 16 sum|w1| < 65536 for the first two rows of every four.
 */
#ifndef ND_AFFINE4_H
#define ND_AFFINE4_H

#include <stdint.h>

#define ND_AFFINE4_LAYOUT 2 /* lifted */

typedef struct {
    const void *weights;   /* the stream, 4-byte aligned */
    const int32_t *bias;   /* in the stream */
    const int32_t *mult;   /* in the stream */
    int32_t rows, columns; /* columns: a multiple of 4 */
    int32_t pre;           /* y = saturate(((sum << pre) * mult + 2^31) >> 32) */
} nd_affine4_t;

/* x is 4-byte aligned. */
void nd_affine_i4_i32(const nd_affine4_t *a, const int16_t *x, int32_t *y);
void nd_affine_i4_i16(const nd_affine4_t *a, const int16_t *x, int16_t *y);
void nd_affine_i4_i8(const nd_affine4_t *a, const int16_t *x, int8_t *y);

#endif
