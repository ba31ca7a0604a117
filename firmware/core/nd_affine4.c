/* The plain kernels for weights of four bits: what the others must equal, bit for bit. */
#include "nd_affine4.h"

#include "nd_math.h"

/* The lower of a byte's two weights. */
static inline int32_t low(int8_t w)
{
    return (int8_t)((uint32_t)w << 4) >> 4;
}

static int32_t sum(const nd_affine4_t *a, const int16_t *x, int32_t row)
{
    const int8_t *w = (const int8_t *)a->weights + row * ((a->columns + 1) >> 1);
    const int16_t *end = x + (a->columns & ~1);
    uint32_t sum = (uint32_t)a->bias[row];
    for (; x != end; x += 2, ++w) {
        sum += (uint32_t)(low(*w) * x[0]);
        sum += (uint32_t)((*w >> 4) * x[1]);
    }
    if (a->columns & 1) {
        sum += (uint32_t)(low(*w) * x[0]);
    }
    return (int32_t)sum;
}

static int32_t rescaled(const nd_affine4_t *a, const int16_t *x, int32_t row)
{
    return nd_rescale((int32_t)((uint32_t)sum(a, x, row) << a->pre), a->mult[row]);
}

void nd_affine_i4_i32(const nd_affine4_t *a, const int16_t *x, int32_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = sum(a, x, row);
    }
}

void nd_affine_i4_i16(const nd_affine4_t *a, const int16_t *x, int16_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = (int16_t)nd_sat16(rescaled(a, x, row));
    }
}

void nd_affine_i4_i8(const nd_affine4_t *a, const int16_t *x, int8_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = (int8_t)nd_sat8(rescaled(a, x, row));
    }
}
