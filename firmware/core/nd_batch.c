#include "nd_batch.h"

void nd_batch_run(const nd_batch_stage_t *stage, uint8_t *states, const uint8_t *in, const uint8_t *active, uint8_t *out,
                  int64_t streams, int64_t steps)
{
    for (int64_t stream = 0; stream < streams; ++stream) {
        uint8_t *state = states + stream * stage->state_bytes;
        for (int64_t k = stream * steps; k < (stream + 1) * steps; ++k) {
            if (active[k]) {
                stage->step(state, in + k * stage->in_bytes, out + k * stage->out_bytes);
            }
        }
    }
}
