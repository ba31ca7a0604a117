/* nd_affine.h for weights of four bits, two to a byte.
 *
 * Words hold four rows of two columns: bits 4r to 4r+3 are row r of the first column, bits 16+4r to 19+4r that of the
 * second. A group of four rows has its words column by column, then the next group comes; what is missing in rows and
 * columns is zero. kernels/<isa>/ holds faster twins that want another order: ND_AFFINE4_LAYOUT tells which one this
 * header's read.
 */
#ifndef ND_AFFINE4_H
#define ND_AFFINE4_H

#include <stdint.h>

#define ND_AFFINE4_LAYOUT 1 /* signed */

typedef struct {
    const void *weights;  /* [(rows + 3) / 4][(columns + 1) / 2] words */
    const int32_t *bias;  /* [rows] */
    const int32_t *mult;  /* [rows]; not read by the function that gives the raw sum */
    int32_t rows, columns;
    int32_t pre;          /* y = saturate(((sum << pre) * mult + 2^31) >> 32) */
} nd_affine4_t;

void nd_affine_i4_i32(const nd_affine4_t *a, const int16_t *x, int32_t *y);
void nd_affine_i4_i16(const nd_affine4_t *a, const int16_t *x, int16_t *y);
void nd_affine_i4_i8(const nd_affine4_t *a, const int16_t *x, int8_t *y);

#endif
