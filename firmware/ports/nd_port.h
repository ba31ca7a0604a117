/* What a port gives to the resident firmware. One folder of ports/ is one family of boards; the numbers of the very
 * board (addresses, clocks, ids) come from its TOML by way of the generated nd_board.h. */
#ifndef ND_PORT_H
#define ND_PORT_H

#include <stdint.h>

void nd_port_init(void);

/* The next byte from the serial line; sleeps until there is one. */
uint8_t nd_port_getc(void);
void nd_port_putc(uint8_t byte);

/* A free-running counter of 32 bits that counts up at ND_TIMER_HZ, or instructions where that is 0. */
uint32_t nd_port_ticks(void);
uint32_t nd_port_cpuid(void);

/* Makes code that was just written to memory safe to run. */
void nd_port_sync_code(void);

/* Boards whose slot is flash have these two: they make it ready for an image of so many bytes, and write whole words
 * to it. */
void nd_port_erase_slot(uint32_t bytes);
void nd_port_program(uint8_t *to, const uint8_t *from, uint32_t bytes);

/* The lowest address that the stack may use. */
uint8_t *nd_port_stack_limit(void);

/* The stack pointer; the body of a naked function that writes the word below it and returns; the lowest bit of a
 * function's address (Arm's says Thumb). */
#ifdef __riscv
#define ND_PORT_STACK_POINTER(to) __asm volatile("mv %0, sp" : "=r"(to))
#define ND_PORT_TOUCH_STACK() __asm volatile("sw zero, -4(sp)\n ret")
#define ND_PORT_CODE_BIT 0u
#else
#define ND_PORT_STACK_POINTER(to) __asm volatile("mov %0, sp" : "=r"(to))
#define ND_PORT_TOUCH_STACK() __asm volatile("push {r0}\n pop {r0}\n bx lr")
#define ND_PORT_CODE_BIT 1u
#endif

/* Resets the processor; memory outside .bss and .data keeps what it holds. */
void nd_port_restart(void) __attribute__((noreturn));

/* The resident firmware, called once by the port's start-up code after nd_port_init. */
void nd_resident_main(void) __attribute__((noreturn));

/* What the port's fault handler calls, on a fresh stack. status and pc are the port's words for what went wrong. */
void nd_resident_fault(uint32_t status, uint32_t pc) __attribute__((noreturn));

#endif
