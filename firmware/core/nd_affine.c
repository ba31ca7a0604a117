/* The plain kernels: what the others must equal, bit for bit. Sums wrap, so only the result has to fit. */
#include "nd_affine.h"

#include "nd_math.h"

static int32_t sum_i8(const nd_affine_t *a, const int16_t *x, int32_t row)
{
    const int8_t *w = (const int8_t *)a->weights + row * a->columns;
    uint32_t sum = (uint32_t)a->bias[row];
    for (int32_t k = 0; k < a->columns; ++k) {
        sum += (uint32_t)(w[k] * x[k]);
    }
    return (int32_t)sum;
}

static int32_t sum_i16(const nd_affine_t *a, const int16_t *x, int32_t row)
{
    const int16_t *w = (const int16_t *)a->weights + row * a->columns;
    uint32_t sum = (uint32_t)a->bias[row];
    for (int32_t k = 0; k < a->columns; ++k) {
        sum += (uint32_t)(w[k] * x[k]);
    }
    return (int32_t)sum;
}

static int32_t rescaled(const nd_affine_t *a, int32_t row, int32_t sum)
{
    return nd_rescale((int32_t)((uint32_t)sum << a->pre), a->mult[row]);
}

void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = sum_i8(a, x, row);
    }
}

void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = (int16_t)nd_sat16(rescaled(a, row, sum_i8(a, x, row)));
    }
}

void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = (int8_t)nd_sat8(rescaled(a, row, sum_i8(a, x, row)));
    }
}

void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = sum_i16(a, x, row);
    }
}

void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = (int16_t)nd_sat16(rescaled(a, row, sum_i16(a, x, row)));
    }
}

void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = (int8_t)nd_sat8(rescaled(a, row, sum_i16(a, x, row)));
    }
}
