/* Sums of a depthwise convolution at one position: for every channel its bias and the products of all taps. */
#ifndef ND_TFL_DEPTHWISE_H
#define ND_TFL_DEPTHWISE_H

#include <stdint.h>

/* Taps stand in rows of columns, so many elements of x apart; channels lie side by side. w [rows][columns][channels]. */
void nd_tfl_depthwise_i8(const int8_t *x, const int8_t *w, const int32_t *bias, int32_t rows, int32_t row_step,
                         int32_t columns, int32_t column_step, int32_t channels, int32_t *y);
void nd_tfl_depthwise_i16(const int16_t *x, const int8_t *w, const int32_t *bias, int32_t rows, int32_t row_step,
                          int32_t columns, int32_t column_step, int32_t channels, int32_t *y);

#endif
