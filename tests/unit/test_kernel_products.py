"""Every family of kernels: products in its C form on this machine, and its machine code in an emulated core."""

import ctypes
import functools

import numpy as np
import pytest

from benchmarks.kernels import Machine, Product, random_product, run, source
from neurodeploy import hardware
from neurodeploy.backends import c_build
from neurodeploy.backends.c_layouts import layout_of
from neurodeploy.backends.c_toolchain import toolchains
from tests.host_c import BOARD_OF

I32 = (-(1 << 31), (1 << 31) - 1)
#: Multipliers whose halves are at their ends.
MULTIPLIERS = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x18000, 0x7FFF7FFF, 0x7FFF8000, 0x7FFFFFFF)
#: One for each folder of kernels that unicorn has a core for.
BOARDS = ("microbit", "mps2-an385", "mps2-an386", "rv32-virt")
SAMPLES = 4


def inputs(columns, seed):
    """Vectors with the ends of int16 in many places."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-32768, 32768, (SAMPLES, columns)).astype(np.int16)
    x[0], x[1] = 32767, -32768
    return np.where(rng.random(x.shape) < 0.2, np.int16(-32768), x)


def product(rows, columns, seed, kind, to, least):
    """For :func:`inputs` of that seed: weights at their ends in many places; biases that bring sums to an end of int32,
    which they may pass on the way."""
    rng = np.random.default_rng(seed)
    pre = seed % 3 if to != "i32" else 0
    top = (32767 >> pre) // columns
    low, high = (least, 127) if kind == "i8" else (-top - 1, top)
    weights = rng.integers(low, high + 1, (rows, columns))
    weights = np.where(rng.random(weights.shape) < 0.3, low, np.where(rng.random(weights.shape) < 0.3, high, weights))
    sums = weights @ inputs(columns, seed).astype(np.int64).T
    places = [(I32[1] >> pre) - sums.max(1), (I32[0] >> pre) - sums.min(1), rng.integers(-(1 << 24), 1 << 24, rows)]
    bias = np.clip(np.choose(rng.integers(0, 3, rows), places), *I32)
    mult = np.where(rng.random(rows) < 0.5, rng.choice(MULTIPLIERS, rows), rng.integers(0, 1 << 31, rows))
    weights = weights.astype(np.int8 if kind == "i8" else np.int16)
    return Product(weights, bias.astype(np.int32), mult.astype(np.int32), pre, to)


@functools.cache
def products(least):
    """Every small shape, and some larger ones that are multiples of nothing, of every type."""
    shapes = [(rows, columns) for rows in range(1, 10) for columns in range(1, 10)]
    shapes += [(8, 16), (12, 128), (13, 33), (15, 21), (22, 11), (31, 39), (32, 40)]
    kinds = [("i8", "i16"), ("i8", "i32"), ("i8", "i8"), ("i16", "i16"), ("i16", "i32"), ("i16", "i8")]
    made = [product(*shape, i, *kind, least) for i, (kind, shape) in enumerate((k, s) for k in kinds for s in shapes)]
    every = np.arange(least, 128).reshape(-1, 1).astype(np.int8)  # every weight, by the ends of inputs
    return [*made, Product(every, np.zeros(len(every), np.int32), np.zeros(len(every), np.int32), to="i32")]


def label(product):
    rows, columns = product.weights.shape
    return f"{rows} x {columns} {product.kind} to {product.to}"


@pytest.mark.parametrize("board", [*BOARD_OF.values(), "rv32-virt"])
def test_the_c_form_of_every_family_is_exact(board):
    board = hardware.find(board, hardware.Board)
    layout = layout_of(board)
    made = products(layout.minimum)
    lib = ctypes.CDLL(
        str(c_build.compile_shared(c_build.with_core({"products.c": source(made, layout)}, board), opt="-O1"))
    )
    in_x, in_y = ((ctypes.c_char * 4096).in_dll(lib, name) for name in "xy")
    for i, p in enumerate(made):
        rows, columns = p.weights.shape
        for x in inputs(columns, i):
            dtype = {"i8": np.int8, "i16": np.int16, "i32": np.int32}[p.to]
            guard = np.full(rows + 8, 0x5A, dtype).tobytes()
            ctypes.memmove(in_x, np.pad(x, (0, 8)).tobytes(), 2 * columns + 16)
            ctypes.memmove(in_y, guard, len(guard))
            lib[f"run_{i}"]()
            y = np.frombuffer(in_y.raw[: len(guard)], dtype)
            np.testing.assert_array_equal(y[:rows], p.result(x), err_msg=f"{layout.name}, {label(p)}")
            assert (y[rows:] == 0x5A).all(), f"{label(p)} writes behind its result"


@functools.cache
def machine(board, tool, *flags):
    described = hardware.find(board, hardware.Board)
    layout = layout_of(described)
    return Machine(described, {"products.c": source(products(layout.minimum), layout)}, tool, flags)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("tool", ["zig", "gcc"])
def test_the_machine_code_of_every_family_is_exact(board, tool):
    """The same on the core itself, which also looks at the registers and the stack that a caller gets back."""
    if tool not in toolchains(board):
        pytest.skip(f"{tool} for {board} isn't installed")
    least = layout_of(hardware.find(board, hardware.Board)).minimum
    for i, p in enumerate(products(least)):
        for x in inputs(p.weights.shape[1], i):
            _, y = run(machine(board, tool), i, p, x)
            np.testing.assert_array_equal(y, p.result(x), err_msg=f"{board}, {tool}, {label(p)}")


@pytest.mark.parametrize("tool", ["zig", "gcc"])
@pytest.mark.parametrize(
    ("board", "rows", "columns", "instructions"),
    [
        ("mps2-an385", 8, 40, 3 + 10 * 70 + 40),  # per group: its start, rounds of four columns, eight results
        ("mps2-an385", 8, 41, 3 + 10 * 70 + 19 + 40),
        ("microbit", 4, 40, 9 + 5 * 108 + 100),  # rounds of eight columns, four results
        ("microbit", 4, 43, 9 + 5 * 108 + 43 + 100),
    ],
)
def test_assembly_takes_as_many_instructions_as_are_written(board, tool, rows, columns, instructions):
    """A further group of rows, whatever a compiler makes of the rest."""
    if tool not in toolchains(board):
        pytest.skip(f"{tool} for {board} isn't installed")
    found = taken(board, tool, [(2 * rows, columns), (rows, columns)])
    assert found[0] - found[1] == instructions


@pytest.mark.parametrize(
    ("board", "rows", "columns", "limit"),
    [
        ("mps2-an385", 32, 40, 2.37),
        ("mps2-an385", 32, 128, 2.25),
        ("microbit", 32, 40, 4.37),
        ("microbit", 32, 128, 3.80),
        ("rv32-virt", 32, 40, 3.94),
        ("rv32-virt", 32, 128, 3.52),
    ],
)
def test_instructions_per_mac_with_call_and_rescaling(board, rows, columns, limit):
    """For the better of the compilers that are installed."""
    tools = toolchains(board)
    if not tools:
        pytest.skip(f"no compiler for {board} is installed")
    assert min(taken(board, tool, [(rows, columns)])[0] for tool in tools) / (rows * columns) <= limit


def taken(board, tool, shapes):
    described = hardware.find(board, hardware.Board)
    made = [random_product(rows, columns, "i8", "i16", i) for i, (rows, columns) in enumerate(shapes)]
    core = Machine(described, {"products.c": source(made, layout_of(described))}, tool)
    return [run(core, i, p, inputs(p.weights.shape[1], i)[2])[0] for i, p in enumerate(made)]


FUNCTIONS = """
#include "nd_fixed.h"
int32_t a[65536], b[65536], y[65536];
int16_t table[513];
void rescale(void);
void rescale(void) { for (int32_t i = 0; i < 65536; ++i) { y[i] = nd_rescale(a[i], b[i]); } }
void sat8(void);
void sat8(void) { for (int32_t i = 0; i < 65536; ++i) { y[i] = nd_sat8(a[i]); } }
void sat16(void);
void sat16(void) { for (int32_t i = 0; i < 65536; ++i) { y[i] = nd_sat16(a[i]); } }
void lut(void);
void lut(void)
{
    const nd_lut_t at = nd_lut_of(table);
    for (int32_t i = 0; i < 65536; ++i) { y[i] = nd_lut(at, a[i], b[i]); }
}
"""


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("tool", ["zig", "gcc"])
def test_fixed_point_functions_as_the_core_runs_them(board, tool):
    if tool not in toolchains(board):
        pytest.skip(f"{tool} for {board} isn't installed")
    core = Machine(hardware.find(board, hardware.Board), {"functions.c": FUNCTIONS.encode()}, tool)
    rng = np.random.default_rng(5)

    def found(name, a, b):
        core.write("a", a.astype("<i4"))
        core.write("b", b.astype("<i4"))
        core.call(name)
        return core.read("y", "<i4", 65536)

    ends = np.concatenate(
        [np.arange(-40000, 40000, 7), I32[1] - np.arange(0, 70000, 7), I32[0] + np.arange(0, 70000, 7)]
    )
    a = np.concatenate([ends, rng.integers(*I32, 65536 - len(ends))])
    m = np.where(rng.random(65536) < 0.3, rng.choice(MULTIPLIERS, 65536), rng.integers(0, 1 << 31, 65536))
    np.testing.assert_array_equal(found("rescale", a, m), (a * m + (1 << 31)) >> 32)
    np.testing.assert_array_equal(found("sat8", a, m), np.clip(a, -128, 127))
    np.testing.assert_array_equal(found("sat16", a, m), np.clip(a, -32768, 32767))
    x, table = np.arange(-32768, 32768), rng.integers(-32768, 32768, 513)
    more = rng.integers(0, 1 << 22, 65536)
    core.write("table", table.astype("<i2"))
    i, f = (x + 32768) >> 7, (x + 32768) & 127
    np.testing.assert_array_equal(found("lut", x, more), table[i] * (128 - f) + table[i + 1] * f + more)
