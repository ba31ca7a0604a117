/* core/nd_affine.h for RV32IM; the same order as that of Armv7-M. Only the order of the constants differs.
 *
 * i8 weights come in one stream of words with biases and multipliers: eight rows at a time while six or more are left
 * (missing ones are zeros), then four if three or more are left, then one by one. A group of n rows is
 *
 *   bias of each row | n weights for every column, as bytes, zeros up to a whole word | multiplier of each row
 *
 * i16 weights stay row by row.
 */
#ifndef ND_AFFINE_H
#define ND_AFFINE_H

#include <stdint.h>

#define ND_AFFINE_LAYOUT 4 /* eights */

typedef struct {
    const void *weights;  /* the stream, 4-byte aligned; or int16_t, by the function's name */
    const int32_t *bias;  /* [rows]; with i8 weights in the stream */
    const int32_t *mult;  /* [rows]; with i8 weights in the stream */
    int32_t rows, columns;
    int32_t pre;          /* y = saturate(((sum << pre) * mult + 2^31) >> 32) */
} nd_affine_t;

void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y);
void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y);
void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y);
void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y);

/* With pre > 0: other families have a function of its own for it. */
#define nd_affine_i8_i16_shifted nd_affine_i8_i16

#endif
