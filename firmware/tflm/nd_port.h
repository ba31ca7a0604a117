/* What main.cc needs of the board: port.cc has it for Arduino, ESP-IDF, Zephyr and POSIX; write it for any other. */
#ifndef ND_PORT_H
#define ND_PORT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starts the serial line and the clock. */
void nd_port_init(void);

/* The next byte from the line; waits for it. */
uint8_t nd_port_getc(void);
void nd_port_putc(uint8_t byte);

/* A clock of 32 bits that counts up and wraps, and its rate; 0 Hz says that it counts instructions. */
uint32_t nd_port_ticks(void);
uint32_t nd_port_ticks_per_second(void);

#ifdef __cplusplus
}
#endif

#endif
