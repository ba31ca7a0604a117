/* What the start-up code of a processor family (ports/cortexm, ports/riscv) gives to the ports of its boards. It also
 * fills in what nd_port.h wants of the processor itself: cpuid, sync_code, stack_limit, restart. */
#ifndef ND_CPU_H
#define ND_CPU_H

#include <stdint.h>

/* Interrupts are never taken: they stay masked, and a request only wakes the sleeping core. */
void nd_cpu_wake_on(uint32_t irq);

/* Forgets an old request; call it before the last look at the device, or the core never sleeps. */
void nd_cpu_forget(uint32_t irq);

/* Until there is a request. */
void nd_cpu_sleep(void);

#endif
