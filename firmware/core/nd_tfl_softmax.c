#include "nd_tfl_softmax.h"

#include "nd_tflite.h"

static int32_t leading_zeros(uint32_t x)
{
    int32_t count = 0;
    while (!(x & 0x80000000u)) {
        x <<= 1;
        ++count;
    }
    return count;
}

/* x * 4, saturated. */
static int32_t raised_twice(int32_t x)
{
    return x > INT32_MAX / 4 ? INT32_MAX : x < INT32_MIN / 4 ? INT32_MIN : x * 4;
}

/* 1 / (1 + a) for 0 <= a < 1, both in Q0.31: three steps of Newton for the half of 1 + a, in Q2.29. */
static int32_t inverse_of_one_plus(int32_t a)
{
    const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) >> 1);
    int32_t x = 1515870810 + nd_tfl_high(half, -1010580540);
    for (int32_t i = 0; i < 3; ++i) {
        x += raised_twice(nd_tfl_high(x, (1 << 29) - nd_tfl_high(half, x)));
    }
    return x > INT32_MAX / 2 ? INT32_MAX : x * 2;
}

/* What a row of int8 needs: its greatest element, and the sum of its exponentials as an inverse. */
struct row {
    int32_t best, inverse, zeros;
};

static struct row row_of(const int8_t *x, const int32_t *exponentials, int32_t count)
{
    struct row row = {x[0], 0, 0};
    uint32_t total = 0;
    for (int32_t i = 1; i < count; ++i) {
        row.best = x[i] > row.best ? x[i] : row.best;
    }
    for (int32_t i = 0; i < count; ++i) {
        total += (uint32_t)nd_tfl_round(exponentials[row.best - x[i]], 12);
    }
    row.zeros = leading_zeros(total);
    row.inverse = inverse_of_one_plus((int32_t)((total << row.zeros) & 0x7FFFFFFFu));
    return row;
}

void nd_tfl_softmax_i8(const int8_t *x, const int32_t *exponentials, int32_t rows, int32_t count, int8_t *y)
{
    for (; rows > 0; --rows, x += count, y += count) {
        const struct row row = row_of(x, exponentials, count);
        const int32_t shift = 35 - row.zeros;
        for (int32_t i = 0; i < count; ++i) {
            const int32_t share = nd_tfl_high(row.inverse, exponentials[row.best - x[i]]);
            y[i] = (int8_t)nd_sat8((shift > 31 ? 0 : nd_tfl_round(share, shift)) - 128);
        }
    }
}

void nd_tfl_softmax_i8_i16(const int8_t *x, const int32_t *exponentials, int32_t rows, int32_t count, int16_t *y)
{
    for (; rows > 0; --rows, x += count, y += count) {
        const struct row row = row_of(x, exponentials, count);
        for (int32_t i = 0; i < count; ++i) {
            const int32_t share = nd_tfl_high(row.inverse, exponentials[row.best - x[i]]);
            y[i] = (int16_t)nd_sat16(nd_tfl_round(share, 27 - row.zeros) - 32768);
        }
    }
}

/* Between two knots, one every 128 steps of x, an int16. */
static int32_t looked_up(const int16_t *table, int32_t x)
{
    const int16_t *at = table + 256 + (x >> 7);
    return (int16_t)(at[0] + (((int16_t)(at[1] - at[0]) * (x & 127) + 64) >> 7));
}

void nd_tfl_softmax_i16(const int16_t *x, const int16_t *rise, const int16_t *inverses, int32_t mult, int32_t shift,
                        int32_t rows, int32_t count, int16_t *y)
{
    for (; rows > 0; --rows, x += count, y += count) {
        int32_t best = x[0];
        uint32_t total = 0;
        for (int32_t i = 1; i < count; ++i) {
            best = x[i] > best ? x[i] : best;
        }
        for (int32_t i = 0; i < count; ++i) {
            y[i] = (int16_t)looked_up(rise, nd_sat16(nd_tfl_multiply(x[i] - best, mult, shift) + 32767));
            total += (uint32_t)y[i];
        }
        const int32_t zeros = leading_zeros(total), right = 31 - zeros;
        const int32_t aligned = (int32_t)((((uint64_t)total << zeros >> 1) + (1 << 13)) >> 14);
        const int32_t inverse = looked_up(inverses, nd_sat16(aligned - (1 << 15) - (1 << 16)));
        for (int32_t i = 0; i < count; ++i) {
            const int64_t share = ((int64_t)y[i] * inverse + ((int64_t)1 << right >> 1)) >> right;
            y[i] = (int16_t)(share < 0 ? 0 : share > 32767 ? 32767 : share);
        }
    }
}
