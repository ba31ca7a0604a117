"""What a step takes on every emulated board, pinned: instructions and bytes may not drift by more than 1 %.

``python -m benchmarks.bench --pin`` writes ``pinned_counts.json`` anew, where a change was meant.
"""

import functools
import json
from pathlib import Path

import pytest

from benchmarks import kernels, products
from benchmarks.measure import build, measure, opened
from benchmarks.networks import TFLITE, cell, edgemark, noise, traced_gru
from neurodeploy import hardware
from neurodeploy.backends.c_toolchain import toolchain, toolchains
from neurodeploy.deploy import emulator
from neurodeploy.hardware import Board

pytestmark = pytest.mark.board
PINS = json.loads((Path(__file__).parent / "pinned_counts.json").read_text())
CASES = [(board, compiler) for board, compilers in PINS.items() for compiler in compilers]


@functools.cache
def step(board, tool, kind, shape=(8, 32), **options):
    cells = kind.split(",")[0]
    program = traced_gru(*shape, reset_after=kind == "after") if kind in ("after", "before") else cell(cells, *shape)
    data = noise(program)
    if kind in TFLITE:
        options["tflite"] = TFLITE[kind]
    with opened(board, tool) as on:
        return measure(build(program, board, tool, data, **dict(options)), tool, data, on).step


def needs(board, tool="gcc"):
    if not emulator.available(hardware.find(board, Board)):
        pytest.skip(f"no emulator of {board} is installed")
    if tool not in toolchains(board):
        pytest.skip(f"{tool} for {board} is not installed")


def test_every_resident_board_is_pinned():
    resident = {n for n in hardware.names("board") if hardware.find(n, Board).resident}
    assert resident == set(PINS) and all(len(compilers) == 2 for compilers in PINS.values())


@pytest.mark.parametrize(("board", "compiler"), CASES)
def test_counts_are_as_pinned(board, compiler):
    tool = compiler.split()[0]
    needs(board, tool)
    found = toolchain(board, tool).label
    if found != compiler:
        pytest.skip(f"{found} is installed; pinned with {compiler}")
    for kind, pinned in PINS[board][compiler].items():
        now = step(board, tool, kind)
        for what, value in pinned.items():
            drift = getattr(now, what) - value
            assert abs(drift) <= 0.01 * value, f"{kind}: {what} {value} -> {value + drift}; bench --pin if it was meant"


# -- what a Cortex-M4F and M7 must reach, gcc, 8 inputs and 32 units ---------------------------------------------------

LIMITS = {"gru": 5_400, "lstm": 7_000, "elman": 1_700}


@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500"])
@pytest.mark.parametrize("kind", LIMITS)
def test_the_dsp_cores_reach_their_floor(board, kind):
    needs(board)
    now = step(board, "gcc", kind)
    assert now.instructions <= LIMITS[kind]
    assert now.code + now.constants <= 2_800


#: TensorFlow Lite Micro takes 106,155 instructions for the first with its reference kernels and 48,217 with CMSIS-NN's;
#: for the second 93,977 and 39,287 (gcc 12.2 as well, -Os).
TFLITE_LIMITS = {"gru, tflite int8": 10_100, "gru, tflite int16x8": 7_700}


@pytest.mark.parametrize("kind", TFLITE_LIMITS)
def test_tflites_numerics_cost_a_fifth_of_tflm(kind):
    needs("mps2-an386")
    now = step("mps2-an386", "gcc", kind)
    assert now.instructions <= TFLITE_LIMITS[kind]
    assert now.code + now.constants <= 3_500 and now.ram_in_all <= 1_100


@pytest.mark.parametrize("kind", LIMITS)
def test_odd_shapes_are_within_a_tenth(kind):
    needs("mps2-an386")
    assert step("mps2-an386", "gcc", kind, (7, 31)).instructions <= 1.1 * LIMITS[kind]


@pytest.mark.parametrize("shape", [(8, 32), (7, 31)])
@pytest.mark.parametrize("kind", ["after", "before"])
def test_a_gru_that_nobody_named_is_within_a_tenth(kind, shape):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    needs("mps2-an386")
    assert step("mps2-an386", "gcc", kind, shape).instructions <= 1.1 * LIMITS["gru"]


def test_a_gru_in_little_ram():
    needs("mps2-an386")
    small = step("mps2-an386", "gcc", "gru", ram="small")
    assert small.ram <= 310 and small.instructions <= 5_500


def test_a_gru_without_assembly():
    needs("mps2-an386", "zig")
    assert step("mps2-an386", "zig", "gru", asm=False).instructions < 7_000


@pytest.mark.parametrize(("board", "most"), [("mps2-an385", 13_000), ("microbit", 23_000)])
def test_the_small_cores_reach_theirs(board, most):
    tools = toolchains(board)
    if not tools or not emulator.available(hardware.find(board, Board)):
        pytest.skip(f"no compiler or emulator of {board} is installed")
    assert min(step(board, tool, "gru").instructions for tool in tools) <= most


@pytest.mark.parametrize(("kind", "flash", "ram"), [("lstm", 33_000, 2_000), ("gru", 27_000, 1_500)])
def test_edgemarks_models_are_small(kind, flash, ram):
    """In all: code, constants and weights; state, scratch, stack, inputs and outputs."""
    needs("mps2-an386")
    program = edgemark(kind)
    data = noise(program, samples=1, steps=100)
    now = measure(build(program, "mps2-an386", "gcc", data), "gcc", data).step
    assert now.flash <= flash and now.ram_in_all <= ram


# -- products, instructions a multiply-accumulate ----------------------------------------------------------------------

ALONE = [("mps2-an386", (96, 40), 1.06), ("mps2-an386", (64, 128), 0.98), ("mps2-an386", (64, 256), 0.98),
         ("microbit", (64, 128), 3.9)]  # fmt: skip


@pytest.mark.parametrize(("board", "shape", "most"), ALONE)
def test_kernels_reach_their_floor(board, shape, most):
    """With the call, in unicorn, the better of the compilers."""
    pytest.importorskip("unicorn")
    found = [kernels.counts(hardware.find(board, Board), tool, [shape]) for tool in toolchains(board)]
    if not found:
        pytest.skip(f"no compiler of {board} is installed")
    assert min(v for costs in found for (family, *_), v in costs.items() if family != "plain") <= most


@pytest.mark.parametrize(("board", "shape", "most"), [("mps3-an547", (96, 40), 0.36), ("mps3-an547", (64, 128), 0.36),
                                                      ("mps2-an386", (64, 128), 0.98)])  # fmt: skip
def test_whole_products_on_boards_reach_theirs(board, shape, most):
    needs(board)
    assert products.costs([shape], board, "gcc")[shape] <= most
