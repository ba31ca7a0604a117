/* core/nd_affine.h for cores with SMLAD. Only the order of the constants differs.
 *
 * i8 weights come in one stream of words with biases and multipliers, four rows at a time, rows filled up to four and
 * columns to a multiple of four with zeros:
 *
 *   b0 | 256 b1 + b0 (64 bits) | b2 | 256 b3 + b2 (64 bits) | four words for every four columns | multipliers 0-3
 *
 * The four words of a tile are columns 0-1 of rows 0-1, columns 0-1 of rows 2-3, columns 2-3 of rows 0-1, columns 2-3
 * of rows 2-3. Each halfword is 256 w1 + w0 for a pair of rows and one column, |w| <= 127. i16 weights stay row by row.
 */
#ifndef ND_AFFINE_H
#define ND_AFFINE_H

#include <stdint.h>

#define ND_AFFINE_LAYOUT 2 /* pairs */

typedef struct {
    const void *weights;  /* the stream, 4-byte aligned; or int16_t, by the function's name */
    const int32_t *bias;  /* [rows]; with i8 weights in the stream */
    const int32_t *mult;  /* [rows]; with i8 weights in the stream */
    int32_t rows, columns; /* columns: a multiple of 4 */
    int32_t pre;          /* y = saturate(((sum << pre) * mult + 2^31) >> 32) */
} nd_affine_t;

/* x is 4-byte aligned; so is y. nd_affine_i8_i16 is for pre = 0. */
void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y);
void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i8_i16_shifted(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y);
void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y);
void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y);

#endif
