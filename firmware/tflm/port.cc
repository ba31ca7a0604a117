/* The serial line and the clock of main.cc on Arduino, ESP-IDF, Zephyr and POSIX. For another board write the five
 * functions of nd_port.h in a file of your own, in place of this one. */
#include "nd_port.h"

#if defined(ARDUINO)
#include <Arduino.h>

void nd_port_init(void) { Serial.begin(115200); }

uint8_t nd_port_getc(void) {
  while (Serial.available() <= 0) {
  }
  return static_cast<uint8_t>(Serial.read());
}

void nd_port_putc(uint8_t byte) { Serial.write(byte); }

uint32_t nd_port_ticks(void) { return static_cast<uint32_t>(micros()); }

uint32_t nd_port_ticks_per_second(void) { return 1000000; }

#elif defined(ESP_PLATFORM)
#include "driver/uart.h"
#include "esp_timer.h"

/* The console's line: set CONFIG_ESP_CONSOLE_NONE, or let the console have another. */
#define PORT UART_NUM_0
#define RX_BUFFER_BYTES 1024

void nd_port_init(void) {
  uart_config_t config = {};
  config.baud_rate = 115200;
  config.data_bits = UART_DATA_8_BITS;
  config.parity = UART_PARITY_DISABLE;
  config.stop_bits = UART_STOP_BITS_1;
  config.flow_ctrl = UART_HW_FLOWCTRL_DISABLE;
  uart_param_config(PORT, &config);
  uart_driver_install(PORT, RX_BUFFER_BYTES, 0, 0, nullptr, 0);
}

uint8_t nd_port_getc(void) {
  uint8_t byte = 0;
  while (uart_read_bytes(PORT, &byte, 1, portMAX_DELAY) != 1) {
  }
  return byte;
}

void nd_port_putc(uint8_t byte) { uart_write_bytes(PORT, &byte, 1); }

uint32_t nd_port_ticks(void) { return static_cast<uint32_t>(esp_timer_get_time()); }

uint32_t nd_port_ticks_per_second(void) { return 1000000; }

#elif defined(__ZEPHYR__)
#include <zephyr/device.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>

/* The line that the devicetree chose for the console, polled; CONFIG_SERIAL=y. */
static const struct device *const port = DEVICE_DT_GET(DT_CHOSEN(zephyr_console));

void nd_port_init(void) {}

uint8_t nd_port_getc(void) {
  unsigned char byte = 0;
  while (uart_poll_in(port, &byte) != 0) {
  }
  return byte;
}

void nd_port_putc(uint8_t byte) { uart_poll_out(port, byte); }

uint32_t nd_port_ticks(void) { return k_cycle_get_32(); }

uint32_t nd_port_ticks_per_second(void) { return sys_clock_hw_cycles_per_sec(); }

#elif defined(__unix__) || defined(__APPLE__)
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Standard input and output; socat or inetd puts them on a port. Ends with its input. */
void nd_port_init(void) {}

uint8_t nd_port_getc(void) {
  uint8_t byte = 0;
  if (read(STDIN_FILENO, &byte, 1) != 1) {
    exit(0);
  }
  return byte;
}

void nd_port_putc(uint8_t byte) {
  if (write(STDOUT_FILENO, &byte, 1) != 1) {
    exit(1);
  }
}

uint32_t nd_port_ticks(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint32_t>(static_cast<uint64_t>(now.tv_sec) * 1000000u + static_cast<uint64_t>(now.tv_nsec) / 1000u);
}

uint32_t nd_port_ticks_per_second(void) { return 1000000; }

#else
#error "write the five functions of nd_port.h for this board in place of this file; see README.md"
#endif
