/* The two functions of libc that a model may use, for compilers that come without a libc (zig's freestanding targets). */
#ifndef ND_STRING_H
#define ND_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

#endif
