/* The plain kernels: what the others must equal, bit for bit. Sums wrap, so only the result has to fit. */
#include "nd_tfl_depthwise.h"

void nd_tfl_depthwise_i8(const int8_t *x, const int8_t *w, const int32_t *bias, int32_t rows, int32_t row_step,
                         int32_t columns, int32_t column_step, int32_t channels, int32_t *y)
{
    for (int32_t c = 0; c < channels; ++c) {
        const int8_t *weight = w + c;
        uint32_t sum = (uint32_t)bias[c];
        for (int32_t row = 0; row < rows; ++row) {
            const int8_t *at = x + c + row * row_step;
            for (int32_t left = columns; left > 0; --left, at += column_step, weight += channels) {
                sum += (uint32_t)(*at * *weight);
            }
        }
        y[c] = (int32_t)sum;
    }
}

void nd_tfl_depthwise_i16(const int16_t *x, const int8_t *w, const int32_t *bias, int32_t rows, int32_t row_step,
                          int32_t columns, int32_t column_step, int32_t channels, int32_t *y)
{
    for (int32_t c = 0; c < channels; ++c) {
        const int8_t *weight = w + c;
        uint32_t sum = (uint32_t)bias[c];
        for (int32_t row = 0; row < rows; ++row) {
            const int16_t *at = x + c + row * row_step;
            for (int32_t left = columns; left > 0; --left, at += column_step, weight += channels) {
                sum += (uint32_t)(*at * *weight);
            }
        }
        y[c] = (int32_t)sum;
    }
}
