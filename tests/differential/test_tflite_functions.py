"""Sums, products of computed values, SOFTMAX and tables at i8 and i16: the wheel's kernels on every bit."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.tflite.fixed_point import scale_of, zero_of
from neurodeploy.ir.types import Quant, TensorType
from tests.differential.test_tflite import WIDTHS, assert_exact, one_stage, quantized, sampled
from tests.differential.test_tflite_kernels import EVERY, PAIRS, assert_kernel, quant, tensor
from tests.families import CASES

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")


def whole(rng, dtype, *shape):
    """Random integers of all sizes, the extremes among them."""
    top = {"i8": 127, "i16": 32767}[dtype]
    x = np.rint(rng.uniform(-1, 1, shape) * top * 2.0 ** -rng.integers(0, 6, shape))
    x.reshape(-1)[:2] = [-top - 1, top]
    return x.astype({"i8": np.int8, "i16": np.int16}[dtype])


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((1, 7), (7, 1)), ((2, 3, 4), (4, 5)), ((2, 1, 4), (2, 4, 3))])
def test_products_of_computed_values(dtype, shapes):
    rng = np.random.default_rng(0)
    for _ in range(6):
        zeros = rng.integers(-128, 128, 3) if dtype == "i8" else (0, 0, 0)
        a, b = rng.uniform(1e-4, 0.1, 2)
        types = {
            n: tensor(dtype, s, int(z), *shape) for n, s, z, shape in zip("xy", (a, b), zeros, shapes, strict=False)
        }
        out = a * b * (127 if dtype == "i8" else 32767) * rng.uniform(0.01, 4)
        arrays = {n: whole(rng, dtype, 40, *t.shape) for n, t in types.items()}
        assert_kernel("tfl_batch_matmul", types, quant(out, int(zeros[2])), arrays)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("shape", [(9,), (4, 5), (3, 2, 4)])
def test_sums(dtype, shape):
    rng = np.random.default_rng(1)
    for axis in range(len(shape)):
        for keepdims in (False, True):
            zeros = rng.integers(-128, 128, 2) if dtype == "i8" else (0, 0)
            scale = rng.uniform(1e-4, 0.1)
            types = {"x": tensor(dtype, scale, int(zeros[0]), *shape)}
            result = quant(scale * rng.uniform(0.3, 8), int(zeros[1]))
            assert_kernel("tfl_sum", types, result, {"x": whole(rng, dtype, 60, *shape)}, axis=axis, keepdims=keepdims)


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 3.05e-4, 2.0**-11, 1e-3, 0.02, 1.0])
def test_softmax_of_int16(scale):
    rng = np.random.default_rng(2)
    for shape in ((2,), (6,), (3, 40)):
        x = whole(rng, "i16", 200, *shape)
        assert_kernel("tfl_softmax", {"x": tensor("i16", scale, 0, *shape)}, Quant(2.0**-15), {"x": x})
    pairs = np.stack([np.full(65536, 32767, np.int16), EVERY["i16"][0]], axis=-1)[None]
    assert_kernel("tfl_softmax", {"x": tensor("i16", scale, 0, 65536, 2)}, Quant(2.0**-15), {"x": pairs})


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.01, 2.0**-5, 0.1, 1.0, 30.0])
def test_softmax_of_int8(scale):
    rng = np.random.default_rng(3)
    for shape in ((2,), (6,), (3, 40)):
        x = whole(rng, "i8", 200, *shape)
        assert_kernel("tfl_softmax", {"x": tensor("i8", scale, 17, *shape)}, Quant(2.0**-8, -128), {"x": x})
    pairs = np.stack([PAIRS["x"], PAIRS["y"]], axis=-1)
    assert_kernel("tfl_softmax", {"x": tensor("i8", scale, -3, 65536, 2)}, Quant(2.0**-8, -128), {"x": pairs})


def test_tables_of_every_int8():
    rng = np.random.default_rng(4)
    table = {"t": rng.integers(-128, 128, 256).astype(np.int8)}
    types = {"x": tensor("i8", 0.1, 7, 4, 64), "t": TensorType((256,), "i8", quant(0.3, 1))}
    assert_kernel("tfl_lookup", types, quant(0.3, 1), {"x": EVERY["i8"].reshape(1, 4, 64)}, table)


# -- programs ----------------------------------------------------------------------------------------------------------


def compiled(b, inputs, **options):
    """A program's integer form, exact on the wheel; what it says and how far it is from the float one, by output."""
    program = one_stage(b)
    made = quantized(program, sampled(program, inputs, None), **options)
    _, golden = assert_exact(made, inputs)
    plain, found = interpret.run(program, inputs).outputs, real_outputs(made, golden)
    return made, {n: np.abs(found[n] - a).max() / np.abs(a).max() for n, a in plain.items()}


def noise(seed, *shape):
    return np.random.default_rng(seed).uniform(-2, 2, (6, 40, *shape)).astype(np.float32)


#: How far a function may be off, as a share of its greatest value, by the widths of activations and states.
LOSS = {"i16": 0.002, "i8": 0.03, "mixed": 0.03}


@pytest.mark.parametrize("width", WIDTHS)
def test_functions(width):
    b = Builder()
    x = b.input("x", [5])
    positive = b("abs", x) + 0.3
    for name in ("exp", "softplus"):
        b.output(name, b(name, x))
    for name in ("log", "sqrt"):
        b.output(name, b(name, positive))
    b.output("inverse", b.const(1.0) / positive)
    b.output("quotient", x / (0.3 + b("sigmoid", x)))
    b.output("chain", x / b("sqrt", 2.0 * positive + 0.1))
    b.output("long", b("log", 1.0 + b("exp", 0.5 * x - 1.0)))
    b.output("both", (twice := b("exp", -x)) / (1.0 + twice))
    b.output("column", b("exp", b("reshape", x, shape=[5, 1])))
    _, lost = compiled(b, {"x": noise(0, 5)}, **WIDTHS[width][0])
    assert {n: v for n, v in lost.items() if v > LOSS[width]} == {}


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "softplus"])
def test_a_function_on_every_integer(name, dtype):
    """Exact on all of them; within the calibrated range near the function, outside as at its ends."""
    b = Builder()
    b.output("y", b(name, b.input("x", [256])))
    program = one_stage(b)
    low, high = (-3.0, 2.0) if name in ("exp", "softplus") else (0.04, 4.0)
    seen = np.linspace(low, high, 2 * 256, dtype=np.float32).reshape(1, 2, 256)
    made = quantized(program, sampled(program, {"x": seen}, None), activation_dtype=dtype)
    type_ = made.inputs["x"].type
    every = (EVERY[dtype].astype(np.int64).reshape(1, -1, 256) - zero_of(type_)) * float(scale_of(type_))
    _, golden = assert_exact(made, {"x": every.astype(np.float32)})
    found = real_outputs(made, golden)["y"].ravel()
    x = every.ravel()
    with np.errstate(all="ignore"):
        wanted = interpret.run(program, {"x": every.astype(np.float32)}).outputs["y"].ravel()
    inside, top = (x >= low) & (x <= high), np.abs(wanted[(x >= low) & (x <= high)]).max()
    assert np.abs(found - wanted)[inside].max() <= top * (0.6 / 127 if dtype == "i8" else 2.0**-10)
    assert low < 0 or np.ptp(found[x <= 0]) == 0
    assert np.all(np.diff(found) >= 0)


@pytest.mark.parametrize("width", WIDTHS)
def test_products_sums_and_softmax(width):
    b = Builder()
    x, matrix = b.input("x", [4]), b.input("M", [3, 4])
    b.output("Mx", matrix @ x)
    b.output("xMt", x @ b("transpose", matrix, perm=[1, 0]))
    b.output("MMt", matrix @ b("transpose", matrix, perm=[1, 0]))
    b.output("CM", b.param("C", np.random.default_rng(1).normal(size=(2, 3))) @ matrix)
    b.output("xx", x @ x)
    b.output("bilinear", b("einsum", x, matrix, b.param("T", noise(2, 3)[0, :4]), eq="j,ij,jk->ik"))
    for axis in (0, 1):
        b.output(f"sum{axis}", b("sum", matrix, axis=axis))
        b.output(f"softmax{axis}", b("softmax", matrix, axis=axis))
        b.output(f"prod{axis}", b("prod", 1.0 - 0.2 * matrix, axis=axis))
    e = b("exp", x)
    b.output("normal", e / b("sum", e, axis=0))
    _, lost = compiled(b, {"x": noise(3, 4), "M": noise(4, 3, 4)}, **WIDTHS[width][0])
    assert {n: v for n, v in lost.items() if v > 2 * LOSS[width]} == {}


def test_a_chain_is_one_function():
    b = Builder()
    x = b.input("x", [5])
    b.output("y", b.const(1.0) / b("sqrt", b("exp", x) + 0.5))
    made, _ = compiled(b, {"x": noise(5, 5)})
    assert [v.op for v in made.stages[0].graph.values] == ["reshape", *["tfl_fully_connected"] * 2, "reshape"]
    made, _ = compiled(b, {"x": noise(5, 5)}, activation_dtype="i8")
    assert [v.op for v in made.stages[0].graph.values] == ["tfl_lookup"]


def test_what_jumps_is_a_table():
    b = Builder()
    x = b.input("x", [5])
    b.output("floor", b("floor", x))
    b.output("round", b("round", x))
    made, _ = compiled(b, {"x": noise(5, 5)}, activation_dtype="i8")
    assert [v.op for v in made.stages[0].graph.values] == ["tfl_lookup", "tfl_lookup"]


def test_divisors_far_apart_are_bounded_and_named():
    b = Builder()
    x = b.input("x", [5])
    b.output("y", x / (b("abs", x) + 1e-5))
    made, _ = compiled(b, {"x": noise(6, 5)})
    assert any("'div' divides by values that differ by a factor of" in w for w in made.meta["warnings"])
    b = Builder()
    x = b.input("x", [5])
    b.output("y", x / (b("abs", x) + 0.5))
    made, _ = compiled(b, {"x": noise(6, 5)})
    assert not made.meta.get("warnings")


def test_what_calibration_has_not_seen_stays_within_the_kernels_integers():
    b = Builder()
    x, y = b.input("x", [4]), b.input("y", [4])
    b.output("quotient", x / (y + 3.0))
    b.output("matrix", b("reshape", x, shape=[4, 1]) @ b("reshape", y, shape=[1, 4]))
    b.output("log", b("log", y + 3.0))
    b.output("softmax", b("softmax", 100.0 * x, axis=0))
    b.output("sum", b("sum", x * y, axis=0))
    program = one_stage(b)
    small = {"x": 0.01 * noise(7, 4), "y": 0.01 * noise(8, 4)}
    for options, _ in WIDTHS.values():
        made = quantized(program, sampled(program, small, None), **options)
        assert_exact(made, {"x": noise(9, 4), "y": -100 * noise(10, 4)})


@pytest.mark.parametrize("width", WIDTHS)
def test_what_cancels_in_calibration_saturates(width):
    b = Builder()
    x, y = b.input("x", [4]), b.input("y", [4])
    big, other = 3e4 * x, 3e4 * y
    b.output("product", b("concat", big, other, axis=0) @ b("concat", x, -x, axis=0))
    b.output("sum", b("sum", b("concat", big, -other, axis=0), axis=0))
    program = one_stage(b)
    same = noise(11, 4)
    made = quantized(program, sampled(program, {"x": same, "y": same}, None), **WIDTHS[width][0])
    _, golden = assert_exact(made, {"x": same, "y": -same})
    for name, array in golden.outputs.items():
        assert array.max() == np.iinfo(array.dtype).max, name


@pytest.mark.parametrize("width", WIDTHS)
def test_solve_is_written_out_and_warned_of(width):
    case = CASES["memristive_network"]
    made = quantized(case.program, sampled(case.program, case.inputs, case.lengths), **WIDTHS[width][0])
    assert any("'main.ctdv.solve' solves a system of equations in integers" in w for w in made.meta["warnings"])
    _, golden = assert_exact(made, case.inputs)
    plain, found = interpret.run(case.program, case.inputs).outputs["w"], real_outputs(made, golden)["w"]
    assert np.abs(found - plain).max() < {"i16": 0.02, "mixed": 0.1, "i8": 0.4}[width] * np.ptp(plain)


def test_a_system_of_many_equations_is_refused_by_name():
    b = Builder()
    b.output("x", b("solve", b.input("A", [9, 9]), b.input("c", [9])))
    program = one_stage(b)
    data = sampled(program, {"A": noise(12, 9, 9), "c": noise(13, 9)}, None)
    with pytest.raises(UnsupportedError, match="%solve: solve has 9 unknowns; for TFLite Micro 8 at most.* C target"):
        quantized(program, data)
