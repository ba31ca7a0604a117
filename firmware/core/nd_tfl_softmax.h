/* TFLite Micro's softmax of int8 and of int16, bit for bit: rows of count elements each. */
#ifndef ND_TFL_SOFTMAX_H
#define ND_TFL_SOFTMAX_H

#include <stdint.h>

/* exponentials[k]: exp of k steps below the greatest, in Q0.31; 0 where it doesn't count. */
void nd_tfl_softmax_i8(const int8_t *x, const int32_t *exponentials, int32_t rows, int32_t count, int8_t *y);

/* The same with results of int16, in steps of 2^-16 from -32768 on. */
void nd_tfl_softmax_i8_i16(const int8_t *x, const int32_t *exponentials, int32_t rows, int32_t count, int16_t *y);

/* Tables of 513 knots: exp between -10 and 0, and 1 / (1 + x); mult and shift bring differences to steps of 10 / 65535. */
void nd_tfl_softmax_i16(const int16_t *x, const int16_t *rise, const int16_t *inverses, int32_t mult, int32_t shift,
                        int32_t rows, int32_t count, int16_t *y);

#endif
