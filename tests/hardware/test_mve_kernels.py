"""The MVE kernels as a board with a Cortex-M55 runs them, built by each compiler: every way through them, and their cost.

The assembly jumps by the number of columns: with or without eight single ones, none, one, two or more blocks of sixteen,
an even or an odd number of them in the loop. Rows go by fours, the last of them twice where they are no multiple of four.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.artifact import Trace
from neurodeploy.backends import backend, c_toolchain, runner
from neurodeploy.deploy import emulator, link
from neurodeploy.ir.graph import Program, Ref, Stage
from tests.unit.test_c_kernels import extremes, product

pytestmark = [pytest.mark.board, pytest.mark.qemu]
BOARD = "mps3-an547"
KINDS = [("int8", "i16"), ("int8", None), ("int8", "i8"), ("int16", "i16"), ("int16", None), ("int16", "i8")]
#: Every way through the columns (as many as the kernels see; 7 and 39 are filled up), with rows of every remainder.
SHAPES = [(4, 7), (5, 16), (1, 24), (6, 32), (31, 39), (3, 48), (8, 56), (7, 64), (9, 72), (2, 80), (10, 96), (4, 104)]
#: Instructions of a whole step: call, product, rescaling, copy of the result (gcc 12.2; zig 0.17 takes 7 to 15 more): 0.341,
#: 0.330 and 0.279 of a multiply-accumulate.
COUNTS = {(64, 40): 873, (96, 40): 1269, (64, 128): 2282}


@contextmanager
def board_of(tool: str) -> Iterator[link.Board]:
    if not emulator.available(BOARD):
        pytest.skip("qemu-system-arm isn't installed, and no other emulator has a Cortex-M55")
    if tool not in c_toolchain.toolchains(BOARD):
        pytest.skip(f"the compiler {tool} isn't installed")
    with emulator.open_board(BOARD, tool=tool) as board:
        yield board


def run(parts: list[Program], tool: str, board: link.Board) -> tuple[Trace, Trace]:
    """Products as the stages of one program: what the golden model says, and the board."""
    inputs = {f"x{i}": p.inputs["x"] for i, p in enumerate(parts)}
    stages = tuple(Stage(f"s{i}", p.stages[0].graph, inputs_from={"x": Ref(f"x{i}")}) for i, p in enumerate(parts))
    program = Program("kernels", inputs, stages, {f"y{i}": Ref("y", f"s{i}") for i in range(len(parts))}, "native")
    artifact = backend("c").compile(program, hardware.find(BOARD))
    data = {f"x{i}": extremes(p.inputs["x"].type.size, i, 4) for i, p in enumerate(parts)}
    return runner("golden").run(artifact, data), runner("board").run(artifact, data, board=board, toolchain=tool)


@pytest.mark.parametrize("tool", ["gcc", "zig"])
def test_every_way_through_the_kernels_is_exact(tool: str) -> None:
    with board_of(tool) as board:
        for weights, to in KINDS:
            # i16 weights have one way: half of the shapes are enough.
            shapes = SHAPES if weights == "int8" else SHAPES[::2]
            made = [product(*s, i, weights=weights, to=to, low=-128) for i, s in enumerate(shapes)]
            for parts in (made[:6], made[6:]) if len(made) > 6 else (made,):
                golden, found = run(parts, tool, board)
                assert len(golden.outputs) == 6
                for i, (name, array) in enumerate(golden.outputs.items()):
                    np.testing.assert_array_equal(found.outputs[name], array, err_msg=f"{parts[i].name}, {tool}")


@pytest.mark.parametrize("tool", ["gcc", "zig"])
def test_products_cost_what_they_should(tool: str) -> None:
    with board_of(tool) as board:
        for (rows, columns), expected in COUNTS.items():
            _, found = run([product(rows, columns, 0)], tool, board)
            (counts,) = found.counters.values()
            assert counts.min() == counts.max()
            assert abs(counts.max() - expected) <= expected / 80, (rows, columns)
