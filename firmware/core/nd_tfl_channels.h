/* The int32 rescale of sums whose channels have multipliers and shifts of their own. */
#ifndef ND_TFL_CHANNELS_H
#define ND_TFL_CHANNELS_H

#include <stdint.h>

/* channels: a multiplier and a shift less one for each of the rows; more: 1 + 2 * zero point. Sums of `times` vectors
 * stand one behind the other; twice a sum fits 32 bits. The result is saturated. */
void nd_tfl_channels_i8(const int32_t *sums, const int32_t *channels, int32_t more, int32_t rows, int32_t times,
                        int8_t *y);
void nd_tfl_channels_i16(const int32_t *sums, const int32_t *channels, int32_t more, int32_t rows, int32_t times,
                         int16_t *y);

#endif
