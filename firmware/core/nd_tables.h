/* Tables that every model with gates reads; two models in one program share them. */
#ifndef ND_TABLES_H
#define ND_TABLES_H

#include <stdint.h>

/* tanh at -8 + k / 32, k = 0 to 512, times 32768 and saturated. */
extern const int16_t nd_tanh_table[513];

#endif
