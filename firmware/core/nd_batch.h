/* Many steps of many streams in one call: what the host's tests drive a model with. A model itself doesn't need it. */
#ifndef ND_BATCH_H
#define ND_BATCH_H

#include <stdint.h>

typedef void (*nd_batch_step_fn)(void *state, const void *in, void *out);

typedef struct {
    nd_batch_step_fn step;
    int64_t state_bytes, in_bytes, out_bytes;
} nd_batch_stage_t;

/* states[streams], in and out [streams, steps], active [streams, steps]: a step that is not active is left out. */
void nd_batch_run(const nd_batch_stage_t *stage, uint8_t *states, const uint8_t *in, const uint8_t *active, uint8_t *out,
                  int64_t streams, int64_t steps);

#endif
