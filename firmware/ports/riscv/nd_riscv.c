/* Start-up, faults, stack guard and sleep of a 32-bit RISC-V in machine mode (RISC-V privileged architecture 1.11), with
 * SiFive's interrupt controller (RISC-V PLIC specification 1.0.0), at 0x0C000000 on every board that is known here. */
#include "nd_board.h"
#include "nd_cpu.h"
#include "nd_port.h"
#include <string.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* The PLIC's first context is machine mode of the first core. */
#define PLIC_PRIORITY(irq) REG(0x0C000000u + 4u * (irq))
#define PLIC_ENABLE(irq) REG(0x0C002000u + 4u * ((irq) / 32u))
#define PLIC_THRESHOLD REG(0x0C200000u)
#define PLIC_CLAIM REG(0x0C200004u)
#define IRQ_BIT(irq) (1u << ((irq) % 32u))
#define MIE_EXTERNAL (1u << 11)
#define PMP_LOCKED_NO_ACCESS_NAPOT 0x98u

/* From the port's linker script. The guard lies just below the stack: 2^bits bytes, aligned to that; the bits are the
 * symbol's address. */
extern uint8_t nd_stack_top[], nd_stack_limit[], nd_stack_guard[], nd_stack_guard_bits[], nd_data_load[],
    nd_data_start[], nd_data_end[], nd_bss_start[], nd_bss_end[];

void nd_start(void) __attribute__((noreturn));
void nd_start_on_stack(void);
void nd_fault(void);
void nd_fault_on_fresh_stack(void);

/* The first code in memory: some boards start there. Interrupts are never taken, so every trap is a fault to us. */
__attribute__((naked, section(".vectors"), used)) void nd_start(void)
{
    __asm volatile("csrw mie, zero\n"
                   "csrci mstatus, 8\n"
                   "la t0, nd_fault\n"
                   "csrw mtvec, t0\n"
                   "la sp, nd_stack_top\n"
                   "j nd_start_on_stack\n");
}

/* A stack that grows without end must fault, or it would overwrite the firmware. A locked entry holds in machine mode
 * too; a second write, after a restart, changes nothing. */
static void guard_stack(void)
{
    const uint32_t half = 1u << ((uint32_t)(uintptr_t)nd_stack_guard_bits - 1u);
    const uint32_t address = ((uint32_t)(uintptr_t)nd_stack_guard | (half - 1u)) >> 2;
    __asm volatile("csrw pmpaddr0, %0\n csrw pmpcfg0, %1" : : "r"(address), "r"(PMP_LOCKED_NO_ACCESS_NAPOT));
}

__attribute__((used)) void nd_start_on_stack(void)
{
    memcpy(nd_data_start, nd_data_load, (size_t)(nd_data_end - nd_data_start));
    memset(nd_bss_start, 0, (size_t)(nd_bss_end - nd_bss_start));
    guard_stack();
    PLIC_THRESHOLD = 0;
    nd_port_init();
    nd_resident_main();
}

__attribute__((naked, aligned(4), used)) void nd_fault(void)
{
    __asm volatile("la sp, nd_stack_top\n"
                   "j nd_fault_on_fresh_stack\n");
}

__attribute__((used)) void nd_fault_on_fresh_stack(void)
{
    uint32_t cause, pc;
    __asm volatile("csrr %0, mcause\n csrr %1, mepc" : "=&r"(cause), "=r"(pc));
    nd_resident_fault(cause, pc);
}

void nd_cpu_wake_on(uint32_t irq)
{
    PLIC_PRIORITY(irq) = 1u;
    PLIC_ENABLE(irq) |= IRQ_BIT(irq);
    __asm volatile("csrs mie, %0" : : "r"(MIE_EXTERNAL));
}

void nd_cpu_forget(uint32_t irq)
{
    (void)irq; /* claiming takes the only one that is enabled */
    PLIC_CLAIM = PLIC_CLAIM;
}

void nd_cpu_sleep(void)
{
    __asm volatile("wfi" ::: "memory");
}

/* What the processor says it has: width and extensions. */
uint32_t nd_port_cpuid(void)
{
    uint32_t misa;
    __asm volatile("csrr %0, misa" : "=r"(misa));
    return misa;
}

void nd_port_sync_code(void)
{
    __asm volatile("fence.i" ::: "memory");
}

uint8_t *nd_port_stack_limit(void)
{
    return nd_stack_limit;
}

/* Not every board has a register that resets it; start-up sets all that a fault can have changed. */
void nd_port_restart(void)
{
    nd_start();
}

/* Instructions that were executed: the core's own counter. */
uint32_t nd_port_ticks(void)
{
    uint32_t count;
    __asm volatile("csrr %0, minstret" : "=r"(count));
    return count;
}
