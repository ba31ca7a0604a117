/* Float functions of our own, so that every machine gives the same bits: only + - * / and conversions of IEEE 754
 * single precision, in a fixed order. Build with -ffp-contract=off. Errors: see the notes at each function in nd_float.c.
 */
#ifndef ND_FLOAT_H
#define ND_FLOAT_H

#include <stdint.h>

#define ND_INFINITY (1e30f * 1e30f)
#define ND_NAN (ND_INFINITY - ND_INFINITY)

float nd_expf(float x);
float nd_logf(float x);
float nd_tanhf(float x);
float nd_sigmoidf(float x);
float nd_softplusf(float x);
float nd_sqrtf(float x);
float nd_floorf(float x);
float nd_rintf(float x);

/* Towards zero, saturated; NaN counts as 0. */
int32_t nd_truncate(float x, int32_t low, int32_t high);
int64_t nd_truncate64(float x);

/* y = W x; W row by row. */
void nd_matvec_f32(const float *w, const float *x, int32_t rows, int32_t columns, float *y);

/* Solves a x = b by elimination with partial pivoting; a[n, n] is used up, x holds b and then the result. A singular
 * matrix gives infinities or NaN. */
void nd_solve(float *a, float *x, int32_t n);

#endif
