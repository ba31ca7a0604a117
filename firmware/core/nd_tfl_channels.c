#include "nd_tfl_channels.h"

#include "nd_tfl_fixed.h"

static inline int32_t halves(int32_t sum, const int32_t *channel, int32_t more)
{
    return (nd_tfl_scale(sum * 2, channel[0], 0) >> channel[1]) + more;
}

void nd_tfl_channels_i8(const int32_t *sums, const int32_t *channels, int32_t more, int32_t rows, int32_t times,
                        int8_t *y)
{
    for (; times > 0; --times) {
        const int32_t *channel = channels;
        for (const int8_t *const end = y + rows; y != end; channel += 2) {
            *y++ = (int8_t)nd_tfl_sat8(halves(*sums++, channel, more), 1);
        }
    }
}

void nd_tfl_channels_i16(const int32_t *sums, const int32_t *channels, int32_t more, int32_t rows, int32_t times,
                         int16_t *y)
{
    for (; times > 0; --times) {
        const int32_t *channel = channels;
        for (const int16_t *const end = y + rows; y != end; channel += 2) {
            *y++ = (int16_t)nd_tfl_sat16(halves(*sums++, channel, more), 1);
        }
    }
}
