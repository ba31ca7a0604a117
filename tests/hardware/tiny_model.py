"""A hand-written model for the boards: every stage has one property that a test knows beforehand."""

import ctypes
import struct

from neurodeploy import hardware
from neurodeploy.backends import c_build

HEADER = b"""
#ifndef TINY_H
#define TINY_H
#include <stdint.h>

/* Adds its inputs up: total += scale * x. */
typedef struct { int32_t total[4]; } tiny_sum_state_t;
typedef struct { int16_t x[4]; } tiny_sum_in_t;
typedef struct { int32_t y[4]; } tiny_sum_out_t;
/* A leaky float unit, to have the float unit or its emulation at work. */
typedef struct { float v; } tiny_leak_state_t;
typedef struct { float x; } tiny_leak_in_t;
typedef struct { float y; } tiny_leak_out_t;
/* Structs that fit no frame. */
typedef struct { int16_t last[@WIDTH@]; } tiny_wide_state_t;
typedef struct { int16_t x[@WIDTH@]; } tiny_wide_in_t;
typedef struct { int16_t y[@WIDTH@]; } tiny_wide_out_t;
/* A step of exactly 104 instructions and 256 bytes of stack. */
typedef struct { uint32_t unused; } tiny_known_state_t;
typedef struct { uint32_t unused; } tiny_known_in_t;
typedef struct { uint32_t unused; } tiny_known_out_t;
/* Does what a broken model might. */
typedef struct { uint32_t steps; } tiny_wild_state_t;
typedef struct { uint32_t what, where; } tiny_wild_in_t;
typedef struct { uint32_t steps; } tiny_wild_out_t;

#define STAGE(name) \\
    void name##_reset(name##_state_t *s); \\
    void name##_step(name##_state_t *s, const name##_in_t *in, name##_out_t *out)
STAGE(tiny_sum);
STAGE(tiny_leak);
STAGE(tiny_wide);
STAGE(tiny_known);
STAGE(tiny_wild);
#endif
"""

SOURCE = b"""
#include "tiny.h"
#include <string.h>

static volatile int32_t scale = 3; /* initialised data; volatile: it shall stay in memory */
static volatile uint32_t cleared[8]; /* must be zero after every load */

void tiny_sum_reset(tiny_sum_state_t *s) { memset(s, 0, sizeof *s); }
void tiny_sum_step(tiny_sum_state_t *s, const tiny_sum_in_t *in, tiny_sum_out_t *out)
{
    for (int i = 0; i < 4; ++i) {
        s->total[i] += scale * in->x[i];
    }
    memcpy(out->y, s->total, sizeof out->y);
}

void tiny_leak_reset(tiny_leak_state_t *s) { s->v = 0.5f; }
void tiny_leak_step(tiny_leak_state_t *s, const tiny_leak_in_t *in, tiny_leak_out_t *out)
{
    s->v = s->v * 0.75f + in->x / 3.0f;
    out->y = s->v;
}

void tiny_wide_reset(tiny_wide_state_t *s) { memset(s, 0, sizeof *s); }
void tiny_wide_step(tiny_wide_state_t *s, const tiny_wide_in_t *in, tiny_wide_out_t *out)
{
    for (int i = 0; i < @WIDTH@; ++i) {
        out->y[i] = (int16_t)(s->last[i] - in->x[i]);
        s->last[i] = in->x[i];
    }
}

void tiny_known_reset(tiny_known_state_t *s) { s->unused = 0; }
__attribute__((naked)) void tiny_known_step(tiny_known_state_t *s, const tiny_known_in_t *in, tiny_known_out_t *out)
{
#ifdef __riscv
    __asm volatile("addi sp, sp, -256\\n sw a0, 0(sp)\\n .rept 100\\n nop\\n .endr\\n addi sp, sp, 256\\n ret\\n");
#else
    __asm volatile("sub sp, #256\\n str r0, [sp]\\n .rept 100\\n nop\\n .endr\\n add sp, #256\\n bx lr\\n");
#endif
}

static uint32_t deep(volatile uint32_t *n)
{
    volatile uint32_t here[64];
    here[*n & 63u] = *n;
    ++*n;
    return deep(n) + here[0];
}

void tiny_wild_reset(tiny_wild_state_t *s) { s->steps = cleared[0]; }
void tiny_wild_step(tiny_wild_state_t *s, const tiny_wild_in_t *in, tiny_wild_out_t *out)
{
    volatile uint32_t count = 0;
    cleared[0] = ++s->steps;
    out->steps = s->steps;
    switch (in->what) {
    case 1: out->steps = *(volatile uint32_t *)(uintptr_t)in->where; break;
    case 2: ((void (*)(void))(uintptr_t)in->where)(); break;
#ifdef __riscv
    case 3: __asm volatile("unimp"); break;
#else
    case 3: __asm volatile("udf #0"); break;
#endif
    case 4: out->steps = deep(&count); break;
    case 5: while (count < in->where) { ++count; } break;
    default: break;
    }
}
"""
# Recursing without end is one of the things that it does on purpose.
SOURCE = b'#if defined(__GNUC__)\n#pragma GCC diagnostic ignored "-Winfinite-recursion"\n#pragma GCC diagnostic ignored "-Wunused-parameter"\n#endif\n' + SOURCE  # fmt: skip

SUM, LEAK, WIDE, KNOWN, WILD = range(5)
STAGES = ["tiny_sum", "tiny_leak", "tiny_wide", "tiny_known", "tiny_wild"]
MODEL_HASH = bytes(range(100, 116))
KNOWN_INSTRUCTIONS, KNOWN_STACK = 104, 256
READ, JUMP, UNDEFINED, RECURSE, SPIN = 1, 2, 3, 4, 5


def width(board):
    """Numbers (of two bytes) in tiny_wide's structs: each is larger than a frame of that board, two fit its ``io``."""
    return hardware.find(board, hardware.Board).max_payload_bytes * 5 // 8


def files(board):
    """The model's sources for a board of that name."""
    size = str(width(board)).encode()
    memory = hardware.find(board, hardware.Board).memory
    source = SOURCE.replace(b"@WIDTH@", size)
    if memory and memory.data:  # a model in flash has no initialised variables
        source = source.replace(b"static volatile int32_t scale = 3;", b"enum { scale = 3 };")
    table = c_build.image_table(STAGES, ["tiny.h"], MODEL_HASH)
    return {"tiny.h": HEADER.replace(b"@WIDTH@", size), "tiny.c": source, "tiny_image.c": table}


FILES = files("mps2-an386")


def sum_inputs(n):
    return [[(7 * i + 3 * k) % 201 - 100 for k in range(4)] for i in range(n)]


def sum_outputs(rows):
    """What tiny_sum gives for them from its reset state."""
    total, out = [0] * 4, []
    for row in rows:
        total = [t + 3 * x for t, x in zip(total, row)]
        out.append(list(total))
    return out


def pack16(rows):
    return b"".join(struct.pack(f"<{len(row)}h", *row) for row in rows)


def pack32(rows):
    return b"".join(struct.pack(f"<{len(row)}i", *row) for row in rows)


def leak_outputs(xs):
    """What tiny_leak gives, each operation rounded to float32."""

    def f32(value):
        return ctypes.c_float(value).value

    v, out = 0.5, []
    for x in xs:
        v = f32(f32(v * 0.75) + f32(f32(x) / 3.0))
        out.append(v)
    return struct.pack(f"<{len(out)}f", *out)


def wild(what, where=0):
    return struct.pack("<II", what, where)
