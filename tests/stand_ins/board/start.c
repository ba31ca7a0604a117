/* Start-up of an emulated Cortex-M under newlib's semihosting: vectors at 0, the floating-point unit on. */
#include <stdint.h>

extern void _start(void);

static void reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: Armv7-M ARM, B3.2.20 */
    __asm volatile("dsb\n isb");
    _start();
}

__attribute__((section(".vectors"), used)) const void *const vectors[] = {(void *)0x00400000, (void *)reset};
