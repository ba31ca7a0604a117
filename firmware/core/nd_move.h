/* Moving memory to a lower address that it overlaps. */
#ifndef ND_MOVE_H
#define ND_MOVE_H

#include <stdint.h>

/* The last `bytes` of `total` bytes to their front. */
void nd_move_down(void *memory, int32_t total, int32_t bytes);

#endif
