/* nd_affine.h for weights of four bits, two to a byte.
 *
 * A row's columns lie two to a byte, the even one in the low half; a row of an odd number of columns ends in a zero.
 * kernels/<isa>/ holds faster twins that want another order: ND_AFFINE4_LAYOUT tells which one this header's read.
 */
#ifndef ND_AFFINE4_H
#define ND_AFFINE4_H

#include <stdint.h>

#define ND_AFFINE4_LAYOUT 1 /* plain: row by row */

typedef struct {
    const void *weights;  /* [rows][(columns + 1) / 2] bytes */
    const int32_t *bias;  /* [rows] */
    const int32_t *mult;  /* [rows]; not read by the function that gives the raw sum */
    int32_t rows, columns;
    int32_t pre;          /* y = saturate(((sum << pre) * mult + 2^31) >> 32) */
} nd_affine4_t;

void nd_affine_i4_i32(const nd_affine4_t *a, const int16_t *x, int32_t *y);
void nd_affine_i4_i16(const nd_affine4_t *a, const int16_t *x, int16_t *y);
void nd_affine_i4_i8(const nd_affine4_t *a, const int16_t *x, int8_t *y);

#endif
