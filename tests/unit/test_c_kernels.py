"""The C core by itself: kernels against each other, float functions in ulp, fixed-point functions against the IR's."""

import ctypes
import functools
import re

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.backends import backend, c_build, runner
from neurodeploy.backends.c_layouts import LAYOUTS
from neurodeploy.deploy import emulator
from neurodeploy.ir import fixed, interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.tflite.borders import from_real
from neurodeploy.ir.types import Quant, TensorType
from tests.host_c import BOARD_OF, build

SHIM = """
#include "nd_math.h"
#include "nd_float.h"
#define EACH1(name, type, call) \\
    void name(const type *x, type *y, int32_t n); \\
    void name(const type *x, type *y, int32_t n) { for (int32_t i = 0; i < n; ++i) { y[i] = call(x[i]); } }
#define EACH2(name, type, call) \\
    void name(const type *a, const type *b, type *y, int32_t n); \\
    void name(const type *a, const type *b, type *y, int32_t n) \\
    { for (int32_t i = 0; i < n; ++i) { y[i] = call(a[i], b[i]); } }
EACH1(v_exp, float, nd_expf) EACH1(v_log, float, nd_logf) EACH1(v_tanh, float, nd_tanhf)
EACH1(v_sigmoid, float, nd_sigmoidf) EACH1(v_softplus, float, nd_softplusf) EACH1(v_sqrt, float, nd_sqrtf)
EACH1(v_floor, float, nd_floorf) EACH1(v_rint, float, nd_rintf) EACH1(v_isqrt, int64_t, nd_isqrt)
EACH1(v_sat8, int32_t, nd_sat8) EACH1(v_sat16, int32_t, nd_sat16)
EACH2(v_divide, int32_t, nd_divide) EACH2(v_divide64, int64_t, nd_divide64) EACH2(v_rescale, int32_t, nd_rescale)
void v_lut(const int16_t *t, const int32_t *x, int32_t more, int32_t shift, int32_t *y, int32_t n);
void v_lut(const int16_t *t, const int32_t *x, int32_t more, int32_t shift, int32_t *y, int32_t n)
{ for (int32_t i = 0; i < n; ++i) { y[i] = nd_lut(nd_lut_of(t), x[i], more) >> shift; } }
void v_quantize(const float *x, float inverse, int32_t zero, int32_t low, int32_t high, int32_t *y, int32_t n);
void v_quantize(const float *x, float inverse, int32_t zero, int32_t low, int32_t high, int32_t *y, int32_t n)
{ for (int32_t i = 0; i < n; ++i) { y[i] = nd_quantize(x[i], inverse, zero, low, high); } }
void v_away(const float *x, float scale, int32_t zero, int32_t low, int32_t high, int32_t *y, int32_t n);
void v_away(const float *x, float scale, int32_t zero, int32_t low, int32_t high, int32_t *y, int32_t n)
{ for (int32_t i = 0; i < n; ++i) { y[i] = nd_quantize_away(x[i], scale, zero, low, high); } }
void v_truncate(const float *x, int32_t *y, int32_t n);
void v_truncate(const float *x, int32_t *y, int32_t n)
{ for (int32_t i = 0; i < n; ++i) { y[i] = nd_truncate(x[i], -32768, 32767); } }
"""


@functools.cache
def shim(board):
    files = c_build.with_core({"shim.c": SHIM.encode()}, hardware.find(board, hardware.Board))
    return ctypes.CDLL(str(c_build.compile_shared(files)))


def over(name, *arrays, board="host", out=None):
    y = np.empty(arrays[0].shape, out or arrays[0].dtype)
    pointers = [np.ascontiguousarray(a) for a in arrays]
    getattr(shim(board), name)(*(ctypes.c_void_p(a.ctypes.data) for a in [*pointers, y]), ctypes.c_int32(y.size))
    return y


def ulp(found, exact):
    """Errors in units of the last place of the exact result."""
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return np.abs(found.astype(np.float64) - exact) / spacing


def sweep(low, high, n=200_000):
    x = np.linspace(low, high, n).astype(np.float32)
    tiny = np.float32(2.0) ** np.arange(-126, 2, dtype=np.float32)
    return np.concatenate([x, tiny, -tiny]) if low < 0 else np.concatenate([x, tiny])


FLOATS = {
    "v_exp": (np.exp, -87, 88.7, 1.5),
    "v_log": (np.log, 1e-6, 50, 1.5),
    "v_tanh": (np.tanh, -10, 10, 2.5),
    "v_sigmoid": (lambda x: np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))),
                  -80, 80, 3.0),
    "v_softplus": (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), -80, 80, 3.5),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_float_functions_are_within_a_few_ulp(name):
    exact, low, high, limit = FLOATS[name]
    x = sweep(low, high)
    assert ulp(over(name, x), exact(x.astype(np.float64))).max() <= limit


@pytest.mark.parametrize(("name", "exact"), [("v_sqrt", np.sqrt), ("v_floor", np.floor), ("v_rint", np.rint)])
def test_exact_float_functions(name, exact):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 1 << 31, 200_000).astype(np.uint32).view(np.float32)  # every exponent
    x = x[np.isfinite(x)]
    x = np.concatenate([x, np.array([0, 0.5, 1.5, 2.5, 1e-45, 3.4e38, 8388607.5, 4194303.5], np.float32)])
    x = x if name == "v_sqrt" else np.concatenate([x, -x])
    np.testing.assert_array_equal(over(name, x), exact(x))


def test_float_functions_at_their_ends():
    x = np.array([np.inf, -np.inf, np.nan, 0.0, 89.0, -110.0], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(over("v_exp", x), [np.inf, 0, np.nan, 1, np.inf, 0])
        np.testing.assert_array_equal(over("v_tanh", x), [1, -1, np.nan, 0, 1, -1])
        np.testing.assert_array_equal(
            over("v_log", np.array([0, -1, np.inf, np.nan, 1], np.float32)), [-np.inf, np.nan, np.inf, np.nan, 0]
        )
        np.testing.assert_array_equal(
            over("v_sqrt", np.array([-1, np.inf, np.nan], np.float32)), [np.nan, np.inf, np.nan]
        )
        np.testing.assert_array_equal(over("v_sigmoid", x[:3]), [1, 0, np.nan])


@pytest.mark.parametrize("board", BOARD_OF.values())
def test_fixed_point_functions_are_the_irs(board):
    """Plain, and the C form of every family's."""
    rng = np.random.default_rng(1)
    a = np.concatenate([rng.integers(-(1 << 31), 1 << 31, 5000), [0, 0, 7, -7, 1, -(1 << 31), (1 << 31) - 1, 5, -5]])
    b = np.concatenate([rng.integers(-300, 300, 5000), [0, 3, 0, 0, 2, 3, 2, -2, 2]])
    np.testing.assert_array_equal(
        over("v_divide", a.astype(np.int32), b.astype(np.int32), board=board), fixed.divide(a, b)
    )
    np.testing.assert_array_equal(over("v_divide64", a, b, board=board), fixed.divide(a, b))
    roots = np.concatenate([rng.integers(0, 1 << 50, 5000), np.arange(2000), -np.arange(5)])
    np.testing.assert_array_equal(over("v_isqrt", roots, board=board), fixed.isqrt(roots))
    m = rng.integers(0, 1 << 31, len(a))
    expected = ((a.astype(object) * m.astype(object) + (1 << 31)) >> 32).astype(np.int64)
    np.testing.assert_array_equal(over("v_rescale", a.astype(np.int32), m.astype(np.int32), board=board), expected)
    for name, dtype in (("v_sat8", "i8"), ("v_sat16", "i16")):
        np.testing.assert_array_equal(over(name, a.astype(np.int32), board=board), fixed.saturate(a, dtype))
    x = np.arange(-32768, 32768)
    table = rng.integers(-32768, 32768, 513).astype(np.int16)
    tanh = fixed.lut_table(np.tanh, 2.0**-12, 2.0**-15)
    for knots, attrs in ((table, {}), (table, {"shift": 3}), (tanh, {"half": True})):
        given = [x[None].astype(np.int16), knots[None]]
        lut = fixed.FIXED_OPS["lut"].eval(given, attrs, TensorType(x.shape, "i16"), [])[0]
        wide, y = x.astype(np.int32), np.empty(x.shape, np.int32)
        a, b, c = (ctypes.c_void_p(v.ctypes.data) for v in (knots, wide, y))
        shim(board).v_lut(a, b, *map(ctypes.c_int32, fixed.lut_rounding(attrs)), c, ctypes.c_int32(y.size))
        np.testing.assert_array_equal(y, lut)


def test_quantizing_is_the_irs():
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [rng.normal(size=5000) * 50, [np.nan, np.inf, -np.inf, 3e38, -3e38, 0.5, -0.5, 1.5, 2.0**-9 * 0.49999997]]
    ).astype(np.float32)
    for dtype, zero, scale in (("i8", 3, 0.37), ("i16", 0, 2.0**-9), ("i16", -100, 0.0123)):
        type_ = TensorType(x.shape, dtype, Quant(scale, zero))
        y = np.empty(x.shape, np.int32)
        low, high = -(1 << (int(dtype[1:]) - 1)), (1 << (int(dtype[1:]) - 1)) - 1
        inverse = ctypes.c_float(float(np.float32(1.0 / np.float64(scale))))
        shim("host").v_quantize(
            ctypes.c_void_p(x.ctypes.data), inverse, zero, low, high, ctypes.c_void_p(y.ctypes.data), y.size
        )
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(y, fixed.quantize(x, type_))
        shim("host").v_away(
            ctypes.c_void_p(x.ctypes.data),
            ctypes.c_float(scale),
            zero,
            low,
            high,
            ctypes.c_void_p(y.ctypes.data),
            y.size,
        )
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(y, from_real(x, type_))


# -- products ----------------------------------------------------------------------------------------------------------

SHAPES = [(1, 1), (2, 3), (3, 4), (4, 4), (5, 7), (7, 12), (8, 8), (31, 39), (33, 20), (64, 40)]


def product(rows, columns, seed, *, weights="int8", to: str | None = "i16", low=-127):
    """One product of given shape with extreme and random weights; ``to`` None leaves the sum."""
    rng = np.random.default_rng(seed)
    b = Builder()
    x = b.input("x", (columns,), "i16")
    top = 127 if weights == "int8" else 30000 // columns
    w = rng.integers(low if weights == "int8" else -top, top + 1, (rows, columns))
    w[rng.random(w.shape) < 0.3] = top
    w[rng.random(w.shape) < 0.3] = low if weights == "int8" else -top
    bias = b.param("bias", rng.integers(-(1 << 24), 1 << 24, rows).astype(np.int32))
    (y,) = b.call("affine", b.param("w", w.astype(weights)), x, bias)
    if to is not None:
        bound = int(np.abs(w).sum(1).max()) * 32768 + (1 << 24)
        pre = max(p for p in range(seed % 3 + 1) if bound << p < 1 << 31)
        y = b("requantize", y, b.param("m", rng.integers(1 << 20, 1 << 31, rows).astype(np.int32)), pre=pre, to=to)
    b.output("y", y)
    graph = b.graph()
    name = f"p_{rows}_{columns}_{weights}_{to}_{-low}"
    stage = Stage("main", graph, inputs_from={"x": Ref("x")})
    return Program(name, {"x": ProgramInput(graph.inputs["x"])}, (stage,), {"y": Ref("y", "main")}, "native")


def extremes(columns, seed=0, samples=6):
    rng = np.random.default_rng(seed)
    x = rng.integers(-32768, 32768, (samples, 1, columns)).astype(np.int16)
    x[0], x[1] = 32767, -32768
    return np.where(rng.random(x.shape) < 0.1, np.int16(-32768), x)


def products():
    kinds = [
        ("int8", "i16", -127),
        ("int8", None, -127),
        ("int8", "i8", -127),
        ("int8", "i16", -128),
        ("int16", "i16", -127),
    ]
    made = [product(*s, i, weights=w, to=t, low=low) for w, t, low in kinds for i, s in enumerate(SHAPES)]
    return [p for p in made if p.stages[0].graph.tensor("x").size < 40 or "int16" not in p.name]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda v: v.name)
def test_products_of_every_shape_are_exact(layout):
    programs = products()
    built = build(programs, layout).compile()
    for p in programs:
        x = extremes(p.inputs["x"].type.size)
        with np.errstate(all="ignore"):
            golden = interpret.run(p, {"x": x})
        np.testing.assert_array_equal(
            built.run(p.name, {"x": x}, states=False).outputs["y"], golden.outputs["y"], err_msg=p.name
        )


@pytest.mark.board
@pytest.mark.parametrize(
    "board", ["microbit", "mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547", "rv32-virt"]
)
def test_the_assembly_is_exact(board):
    """The kernels as the board runs them: shapes that are no multiples of anything, sums and rescaled."""
    if not emulator.available(board):
        pytest.skip("no emulator is installed")
    parts = [product(*s, i, to=t) for i, (s, t) in enumerate([((5, 7), "i16"), ((31, 39), "i16"), ((8, 8), None), ((7, 12), None),
                                                             ((33, 20), "i8"), ((64, 40), "i16"), ((3, 4), "i16")])]  # fmt: skip
    inputs = {f"x{i}": p.inputs["x"] for i, p in enumerate(parts)}
    stages = tuple(Stage(f"s{i}", p.stages[0].graph, inputs_from={"x": Ref(f"x{i}")}) for i, p in enumerate(parts))
    program = Program("kernels", inputs, stages, {f"y{i}": Ref("y", f"s{i}") for i in range(len(parts))}, "native")
    artifact = backend("c").compile(program, hardware.find(board))
    data = {f"x{i}": extremes(p.inputs["x"].type.size, i, 4) for i, p in enumerate(parts)}
    golden = runner("golden").run(artifact, data)
    found = runner("board").run(artifact, data)
    for name, array in golden.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], array, err_msg=name)


def test_the_cores_table_is_the_quantizers():
    text = (hardware.data_folder("firmware") / "core" / "nd_tables.c").read_text()
    numbers = [int(n) for n in re.findall(r"-?\d+", text[text.index("{") :])]
    np.testing.assert_array_equal(numbers, fixed.lut_table(np.tanh, 2.0**-12, 2.0**-15))
