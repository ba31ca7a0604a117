/* Stands in for Zephyr's own header in tests. */
#include <stdio.h>
#define printk printf
