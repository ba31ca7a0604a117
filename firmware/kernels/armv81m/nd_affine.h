/* core/nd_affine.h for cores with MVE (Helium). Only the order of the constants differs.
 *
 * i8 weights come in one stream of words with biases and multipliers, four rows at a time, columns filled up to a
 * multiple of eight with zeros:
 *
 *   biases of rows 0-3 | the first eight columns, if columns % 16 is 8 | blocks of sixteen columns | multipliers
 *
 * The eight columns and every block are the bytes of row 0, of row 1, of row 2, of row 3. A bias has 128 times the sum of
 * its row's weights in blocks added to it, modulo 2^32. The last group is the last four rows, also where some of them were in the group before; fewer than four
 * rows are filled up with zeros. i16 weights stay row by row.
 */
#ifndef ND_AFFINE_H
#define ND_AFFINE_H

#include <stdint.h>

#define ND_AFFINE_LAYOUT 3 /* blocks */

typedef struct {
    const void *weights;  /* the stream, 4-byte aligned; or int16_t, by the function's name */
    const int32_t *bias;  /* [rows]; with i8 weights in the stream */
    const int32_t *mult;  /* [rows]; with i8 weights in the stream */
    int32_t rows, columns; /* columns: a multiple of 8 */
    int32_t pre;          /* y = saturate(((sum << pre) * mult + 2^31) >> 32) */
} nd_affine_t;

/* nd_affine_i8_i16 is for pre = 0. */
void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y);
void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i8_i16_shifted(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y);
void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y);
void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y);
void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y);

#endif
