"""A step of known machine code on a bare core: each executed instruction has its class, each branch as it went."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

from neurodeploy import hardware
from neurodeploy.backends import c_build
from neurodeploy.deploy.emulator import open_board
from neurodeploy.deploy.profile import BareCore, Cost
from neurodeploy.hardware import Board

pytestmark = pytest.mark.board
HEADER = b"""
#ifndef MADE_H
#define MADE_H
#include <stdint.h>
typedef struct { uint32_t steps; } made_state_t;
typedef struct { uint32_t go_on; } made_in_t;
typedef struct { uint32_t steps; } made_out_t;
void made_reset(made_state_t *s);
void made_step(made_state_t *s, const made_in_t *in, made_out_t *out);
#endif
"""
#: A loop of ten, a return under an IT where the input is 0, else loads, a store and a return by POP.
SOURCE = b"""
#include "made.h"
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-parameter"
#endif
void made_reset(made_state_t *s) { s->steps = 0; }
__attribute__((naked)) void made_step(made_state_t *s, const made_in_t *in, made_out_t *out)
{
    __asm volatile(
        "movs r3, #10\\n 1: subs r3, #1\\n bne 1b\\n"
        "ldr r3, [r1]\\n cmp r3, #0\\n it eq\\n bxeq lr\\n"
        "push {r4, lr}\\n ldr r3, [r0]\\n ldr r4, [r1]\\n adds r3, r3, r4\\n str r3, [r0]\\n str r3, [r2]\\n pop {r4, pc}\\n");
}
"""
FILES = {"made.h": HEADER, "made.c": SOURCE, "made_image.c": c_build.image_table(["made"], ["made.h"], bytes(16))}
#: After the loop's ten rounds: nine times back, once on.
LOOP = Counter({Cost("alu"): 11, Cost("branch_taken"): 9, Cost("branch_not_taken"): 1})
TEST = Counter({Cost("load"): 1, Cost("alu"): 1, Cost("if_then"): 1})
RETURNED = LOOP + TEST + Counter({Cost("branch_taken"): 1})
WENT_ON = LOOP + TEST + Counter(
    {
        Cost("branch_not_taken"): 1,
        Cost("store_multiple", 2): 1,
        Cost("load"): 1,
        Cost("load_after_load"): 1,
        Cost("alu"): 1,
        Cost("store"): 2,
        Cost("return_by_pop", 2): 1,
    }
)  # fmt: skip


@pytest.mark.parametrize("name", ["mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505"])
def test_known_code(name: str) -> None:
    board, inputs = hardware.find(name, Board), struct.pack("<3I", 0, 7, 0)
    image = c_build.build_image(FILES, board)
    core = BareCore(board, image)
    done = core.step(0, inputs, 3, reset=True)
    assert core.tallies[0] == [RETURNED, WENT_ON, RETURNED]
    assert struct.unpack("<3I", done.outputs)[1] == 7
    assert core.get_state(0) == struct.pack("<I", 7)
    with open_board(board) as emulated:
        emulated.load(image)
        counted = emulated.step(0, inputs, 3, reset=True)
    assert done.counts == counted.counts == [RETURNED.total(), WENT_ON.total(), RETURNED.total()]


def test_a_reset_is_no_part_of_a_step() -> None:
    board = hardware.find("mps2-an386", Board)
    core = BareCore(board, c_build.build_image(FILES, board))
    core.set_state(0, struct.pack("<I", 5))
    core.step(0, struct.pack("<I", 1), 1)
    assert core.get_state(0) == struct.pack("<I", 6)
    core.reset(0)
    assert core.get_state(0) == bytes(4)
    core.step(0, struct.pack("<I", 1), 1)
    assert core.tallies[0] == [WENT_ON, WENT_ON]
