/* Stands in for Arduino's own header in tests: what the exported sketches use of it, printing on standard output. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

class StandInSerial {
public:
    void begin(unsigned long) {}
    void print(const char *text) { fputs(text, stdout); }
    void print(char letter) { putchar(letter); }
    void print(int value) { printf("%d", value); }
    void print(unsigned long value) { printf("%lu", value); }
    void print(double value, int digits = 2) { printf("%.*f", digits, value); }
    template <class T> void println(T value) { print(value), putchar('\n'); }
    void println(double value, int digits) { print(value, digits), putchar('\n'); }
};

static StandInSerial Serial;

static inline unsigned long micros() { return 0; }
static inline void delay(unsigned long) {}

#endif
