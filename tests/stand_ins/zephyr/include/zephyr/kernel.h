/* Stands in for Zephyr's own header in tests. */
#include <stdint.h>
