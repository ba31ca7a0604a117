/* Products of a constant matrix with a vector: y = W x + bias, as the raw sum or rescaled to a narrower integer.
 *
 * kernels/<isa>/ holds faster twins under the same names; they want W in their own order, which the compiler of the
 * model has laid out: ND_AFFINE_LAYOUT tells which order this header's kernels read.
 */
#ifndef ND_AFFINE_H
#define ND_AFFINE_H

#include <stdint.h>

#define ND_AFFINE_LAYOUT 1 /* plain: row by row */

typedef struct {
    const void *weights;  /* int8_t or int16_t, by the function's name */
    const int32_t *bias;  /* [rows] */
    const int32_t *mult;  /* [rows]; not read by the functions that give the raw sum */
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
