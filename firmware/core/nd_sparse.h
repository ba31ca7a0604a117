/* Products of a constant matrix with few weights that aren't zero with a vector: y = W x + bias, exact as nd_affine.h's.
 *
 * The weights are one stream of bytes, row by row, each row in windows of 256 columns (the last may be shorter):
 *
 *   number of tiles | number of singles | tiles | singles
 *
 * A tile is four columns 4t to 4t+3 that lie in the matrix: t, then the weights of columns 4t, 4t+2, 4t+1, 4t+3 (the
 * order in which SXTB16 takes them apart). A single is one weight: its column, then itself. t and columns count from the
 * beginning of the window. All kernels read this one order.
 */
#ifndef ND_SPARSE_H
#define ND_SPARSE_H

#include <stdint.h>

#define ND_SPARSE_WINDOW 256

typedef struct {
    const void *weights;  /* the stream */
    const int32_t *bias;  /* [rows] */
    const int32_t *mult;  /* [rows]; not read by the function that gives the raw sum */
    int32_t rows;
    int32_t windows;
    int32_t pre;          /* y = saturate(((sum << pre) * mult + 2^31) >> 32) */
} nd_sparse_t;

/* x is aligned as nd_affine.h's kernels want it. */
void nd_sparse_i8_i32(const nd_sparse_t *a, const int16_t *x, int32_t *y);
void nd_sparse_i8_i16(const nd_sparse_t *a, const int16_t *x, int16_t *y);
void nd_sparse_i8_i8(const nd_sparse_t *a, const int16_t *x, int8_t *y);

#endif
