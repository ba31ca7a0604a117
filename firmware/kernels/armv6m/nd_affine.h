/* core/nd_affine.h for cores of Armv6-M (M0, M0+). Only the order and the form of the constants differ.
 *
 * i8 weights come in one stream of words with biases and multipliers: four rows at a time while three or more are left
 * (missing ones are zeros), then one by one. A group of n rows is
 *
 *   bias' of each row | n weights' for every column, as bytes, zeros up to a whole word | multiplier' of each row
 *
 * weight' = w + 128 and bias' = bias - 32768 sum(w), because the kernels multiply x + 32768: neither has a sign, and
 * loads of what has none take an offset. multiplier' has its high half, rounded, above the signed low half:
 * m' = m + 65536 where bit 15 of m is set. i16 weights stay row by row, their multipliers as they are.
 */
#ifndef ND_AFFINE_H
#define ND_AFFINE_H

#include <stdint.h>

#define ND_AFFINE_LAYOUT 5 /* offsets */

typedef struct {
    const void *weights;  /* the stream, 4-byte aligned; or int16_t, by the function's name */
    const int32_t *bias;  /* [rows]; with i8 weights in the stream */
    const int32_t *mult;  /* [rows]; with i8 weights in the stream */
    int32_t rows, columns;
    int32_t pre;          /* y = saturate(((sum << pre) * mult + 2^31) >> 32) */
} nd_affine_t;

/* With i8 weights these take 2 bytes of stack for every column. */
void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y);
void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y);
void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y);
void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y);

/* With pre > 0: other families have a function of its own for it. */
#define nd_affine_i8_i16_shifted nd_affine_i8_i16

#endif
