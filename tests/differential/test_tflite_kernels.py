"""TFLite Micro's kernels one by one: the dialect's ops equal the wheel's operators on every bit.

Unary ones on every integer, binary ones on every pair of int8, FULLY_CONNECTED on random ones.
"""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Param
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import Quant, TensorType

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

EVERY = {"i8": np.arange(-128, 128, dtype=np.int8)[None], "i16": np.arange(-32768, 32768, dtype=np.int16)[None]}
PAIRS = {"x": np.repeat(EVERY["i8"], 256, axis=1), "y": np.tile(EVERY["i8"], 256)}
ACTS = [None, "relu", "relu6", "relu_n1_to_1"]


def quant(scale: float, zero: int = 0) -> Quant:
    return Quant(float(np.float32(scale)), zero)


def tensor(dtype: str, scale: float, zero: int, *shape: int) -> TensorType:
    return TensorType(shape, dtype, quant(scale, zero))


def i16(scale: float, *shape: int) -> TensorType:
    return tensor("i16", scale, 0, *shape)


def assert_kernel(op, types, result, arrays, constants=None, **attrs):
    """One operator in a model of its own; ``arrays`` ``[B, ...]`` for its inputs, ``constants`` for its params."""
    from neurodeploy.backends.tflite.stage import stage_model
    from neurodeploy.deploy.tflm import TFLMExecutor

    b, constants = Builder(), constants or {}
    args = [b.param(n, Param(t, constants[n])) if n in constants else b.input(n, t) for n, t in types.items()]
    value = b(op, *args, quant=result, **attrs)
    b.output("y", value)
    graph = b.graph()
    engine = TFLMExecutor(stage_model(graph, op), graph)
    batch = len(next(iter(arrays.values())))
    engine.reset(batch, {})
    found = engine.run_block({n: a[:, None] for n, a in arrays.items()}, np.ones((batch, 1), bool))["y"][:, 0]
    given = [constants[n][None] if n in constants else arrays[n] for n in types]
    wanted = OPS[op].eval(given, attrs, value.type, list(types.values()))
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))
    return found


# -- one argument ------------------------------------------------------------------------------------------------------

#: Powers of two on both sides of the kernels' own ranges, some almost one (the kernels take 0.07 % for none), and others.
SCALES = [2.0**-k for k in (1, 8, 9, 10, 11, 12, 13, 14, 20)] + [2.0**-k * 1.0004 for k in (10, 11, 12, 13)]
SCALES += [2.442e-4, 3.3e-4, 1e-3, 1e-5, 0.4]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("op", ["tfl_logistic", "tfl_tanh"])
def test_functions_on_every_int16(op, scale):
    assert_kernel(op, {"x": i16(scale, 65536)}, Quant(2.0**-15), {"x": EVERY["i16"]})


@pytest.mark.parametrize("scale", [1e-7, 1e-4, 2.0**-7, 0.01, 0.031, 1 / 16, 0.09, 0.125, 0.7, 15.0, 300.0])
@pytest.mark.parametrize("op", ["tfl_logistic", "tfl_tanh"])
def test_functions_on_every_int8(op, scale):
    result = Quant(2.0**-8, -128) if op == "tfl_logistic" else Quant(2.0**-7)
    for zero in (-128, -77, 0, 5, 127):
        found = assert_kernel(op, {"x": tensor("i8", scale, zero, 256)}, result, {"x": EVERY["i8"]})
    assert (np.diff(found[0].astype(int)) >= 0).all()


@pytest.mark.parametrize("ratio", [0.07, 0.5, 0.99, 1.0, 1.7, 3000.0])
@pytest.mark.parametrize("op", ["tfl_relu", "tfl_quantize"])
def test_rescaling_on_every_int16(op, ratio):
    assert_kernel(op, {"x": i16(1.234e-3, 65536)}, quant(1.234e-3 / ratio), {"x": EVERY["i16"]})


@pytest.mark.parametrize("ratio", [1e-5, 0.07, 0.5, 0.99, 1.0, 1.7, 3000.0, 1e6])
@pytest.mark.parametrize("op", ["tfl_relu", "tfl_quantize"])
def test_rescaling_on_every_int8(op, ratio):
    for zero, into in [(0, 0), (-128, 127), (127, -128), (3, -70), (-100, 55)]:
        assert_kernel(op, {"x": tensor("i8", 0.0123, zero, 256)}, quant(0.0123 / ratio, into), {"x": EVERY["i8"]})


@pytest.mark.parametrize("scale", [1e-4, 0.02, 6 / 127, 0.0471, 0.3, 20.0])
def test_clamping_to_six(scale):
    for dtype, zeros in (("i8", (-128, -3, 0, 127)), ("i16", (0,))):
        for zero in zeros:
            type_ = tensor(dtype, scale, zero, EVERY[dtype].size)
            assert_kernel("tfl_relu6", {"x": type_}, type_.quant, {"x": EVERY[dtype]})


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.3, 1.0, 1.5, -0.2])
def test_leaky_relu(alpha):
    for dtype, zeros in (("i8", [(0, 0), (-128, 5), (40, -128)]), ("i16", [(0, 0)])):
        for ratio in (0.03, 0.7, 1.0, 2.3, 500.0):
            for zero, into in zeros:
                type_ = tensor(dtype, 0.0123, zero, EVERY[dtype].size)
                result = quant(0.0123 / ratio, into)
                assert_kernel("tfl_leaky_relu", {"x": type_}, result, {"x": EVERY[dtype]}, alpha=alpha)


@pytest.mark.parametrize("ratio", [0.03, 0.7, 1.0, 2.3, 100.0])
def test_prelu(ratio):
    for zero, slope, into in [(0, 0, 0), (-128, 127, 5), (40, -10, -128)]:
        types = {"x": tensor("i8", 0.0123, zero, 65536), "a": tensor("i8", 0.006, slope, 65536)}
        assert_kernel("tfl_prelu", types, quant(0.0123 / ratio, into), {"x": PAIRS["x"], "a": PAIRS["y"]})
    rng = np.random.default_rng(2)
    x, alpha = EVERY["i16"].reshape(1, 8192, 8), rng.integers(-128, 128, 8).astype(np.int8)
    types = {"x": i16(1e-3, 8192, 8), "a": tensor("i8", 0.006, 0, 8)}
    assert_kernel("tfl_prelu", types, quant(1e-3 / min(ratio, 3)), {"x": x}, {"a": alpha})


@pytest.mark.parametrize(
    "scales", [(0.02, 0.02), (0.013, 0.02), (1e-3, 1.7e-3), (0.4, 0.9), (0.999, 3e-5), (0.25, 0.5)]
)
@pytest.mark.parametrize("op", ["tfl_less", "tfl_equal"])
def test_comparisons_of_every_pair(op, scales):
    for zeros in [(0, 0), (-128, 5), (40, 127)]:
        types = {n: tensor("i8", s, z, 65536) for n, s, z in zip("xy", scales, zeros, strict=True)}
        found = assert_kernel(op, types, None, PAIRS)
        assert found.any() and not found.all()


@pytest.mark.parametrize("scale", [1e-3, 0.0123, 3 / 128, 0.05, 0.4])
@pytest.mark.parametrize("op", ["tfl_hard_swish", "tfl_elu"])
def test_curves_on_every_int8(op, scale):
    for ratio in (0.05, 0.5, 1.0, 1.9):
        for zero, into in [(0, 0), (-128, 5), (40, -128), (127, 127)]:
            assert_kernel(op, {"x": tensor("i8", scale, zero, 256)}, quant(scale / ratio, into), {"x": EVERY["i8"]})


@pytest.mark.parametrize("ratio", [1e-6, 0.004, 0.07, 1.0, 1.7, 256.0, 3000.0])
@pytest.mark.parametrize("pair", ["i8 i16", "i16 i8", "i8 i32", "i16 i32", "i32 i8", "i32 i16"])
def test_quantize_between_dtypes(pair, ratio):
    source, target = pair.split()
    rng = np.random.default_rng(0)
    x = EVERY.get(source)
    if x is None:
        top = min(2.0**31 - 1, 2.0**30 / max(ratio, 1))
        x = np.rint(rng.uniform(-1, 1, (1, 20000)) * top * 2.0 ** rng.uniform(-24, 0, (1, 20000))).astype(np.int32)
    zeros = {"i8": (-128, 0, 71), "i16": (0, 1000), "i32": (0,)}
    for zero in zeros[source]:
        for into in zeros[target]:
            if (source, abs(zero)) == ("i16", 1000) and ratio > 1000:
                continue
            type_ = tensor(source, 0.0123, zero, x.size)
            assert_kernel("tfl_quantize", {"x": type_}, quant(0.0123 / ratio, into), {"x": x}, to=target)


# -- two arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("op", ["tfl_add", "tfl_sub", "tfl_mul"])
def test_arithmetic_on_wide_vectors_of_int16(op, seed):
    rng = np.random.default_rng(seed)
    left, right = np.exp(rng.uniform(-11, -4, 2))
    out = left * right * np.exp(rng.uniform(0.1, 11)) if op == "tfl_mul" else max(left, right) * rng.uniform(0.1, 3)
    x, y = (rng.integers(-32768, 32768, (1, 20000)).astype(np.int16) for _ in range(2))
    x[0, :4], y[0, :4] = [-32768, -32768, 32767, 32767], [-32768, 32767, -32768, 32767]
    types = {"x": i16(left, 20000), "y": i16(right, 20000)}
    attrs = {} if seed % 4 == 0 else {"act": ACTS[seed % 4]}
    assert_kernel(op, types, quant(out), {"x": x, "y": y}, **attrs)
    one = rng.integers(-32768, 32768, ()).astype(np.int16)
    assert_kernel(op, {**types, "y": i16(right)}, quant(out), {"x": x}, {"y": one})


#: Scales of both arguments and of the result, as far apart as the kernels take them, and zero points at both ends.
EXTREMES = [
    (0.1, 0.1, 0.1, 0, 0, 0),
    (1e-4, 3.0, 2.0, -128, 127, 0),
    (3.0, 1e-4, 0.7, 127, -128, -128),
    (1e-6, 1.0, 1e-4, 10, -20, 127),
    (0.5, 0.5, 1.5e-6, 0, 0, 0),
    (0.5, 0.5, 1.0, 0, 0, 0),
    (0.25, 0.5, 1000.0, -128, -128, -128),
    (2.0**-7, 2.0**-8, 2.0**-7, 0, -128, 0),
]


def combinations(count: int):
    rng = np.random.default_rng(7)
    yield from EXTREMES
    for _ in range(count):
        left, right = np.exp(rng.uniform(-9, 2, 2))
        yield (left, right, max(left, right) * np.exp(rng.uniform(-4, 2)), *map(int, rng.integers(-128, 128, 3)))


@pytest.mark.parametrize("op", ["tfl_add", "tfl_sub", "tfl_mul"])
def test_arithmetic_on_every_pair_of_int8(op):
    for i, (left, right, out, *zeros) in enumerate(combinations(24)):
        if op == "tfl_mul":
            out = max(out, left * right / 30000)
        types = {"x": tensor("i8", left, zeros[0], 65536), "y": tensor("i8", right, zeros[1], 65536)}
        attrs = {} if i % 4 == 0 else {"act": ACTS[i % 4]}
        assert_kernel(op, types, quant(out, zeros[2]), PAIRS, **attrs)


@pytest.mark.parametrize("op", ["tfl_add", "tfl_sub", "tfl_mul"])
def test_arithmetic_of_int8_with_a_broadcast_argument(op):
    rng = np.random.default_rng(1)
    types = {"x": tensor("i8", 0.03, -5, 7, 40), "y": tensor("i8", 0.01, 9, 40)}
    arrays = {n: rng.integers(-128, 128, (3, *t.shape)).astype(np.int8) for n, t in types.items()}
    assert_kernel(op, types, quant(0.02, 3), arrays)
    for y in (-128, 3, 127):
        small = {"x": types["x"], "y": tensor("i8", 0.01, 9)}
        assert_kernel(op, small, quant(0.02, 3), {"x": arrays["x"]}, {"y": np.array(y, np.int8)})


@pytest.mark.parametrize("zero", [-128, 0, 17])
@pytest.mark.parametrize("op", ["max", "min", "lt", "eq", "ne"])
def test_choices_and_comparisons_of_every_pair_of_int8(op, zero):
    types = {n: tensor("i8", 0.02, zero, 65536) for n in "xy"}
    assert_kernel(op, types, types["x"].quant if op in ("max", "min") else None, PAIRS)


def test_moves_of_int8():
    rng = np.random.default_rng(5)
    x, y = (rng.integers(-128, 128, (20, 3, 7)).astype(np.int8) for _ in range(2))
    types = {n: tensor("i8", 0.02, -9, 3, 7) for n in "xy"}
    result = types["x"].quant
    chosen = {"c": TensorType((3, 7), "bool"), **types}
    assert_kernel("select", chosen, result, {"c": rng.random((20, 3, 7)) < 0.5, "x": x, "y": y})
    assert_kernel("concat", types, result, {"x": x, "y": y}, axis=1)
    for op, attrs in (
        ("slice", {"axis": 1, "start": 1, "stop": 6, "step": 2}),
        ("transpose", {"perm": [1, 0]}),
        ("reshape", {"shape": [7, 3]}),
        ("broadcast", {"shape": [2, 3, 7]}),
    ):
        assert_kernel(op, {"x": types["x"]}, result, {"x": x}, **attrs)


# -- products ----------------------------------------------------------------------------------------------------------


def product(rng, dtype, bias, rows, columns, per_channel=True, bits=8, zeros=(0, 0), act=None, gain=1.0):
    """A FULLY_CONNECTED on random integers; ``gain`` beyond 1 saturates its results."""
    into = float(np.float32(np.exp(rng.uniform(-6, -2) if dtype == "i8" else rng.uniform(-11, -6))))
    count = rows if per_channel else 1
    scales = tuple(float(np.float32(s)) for s in rng.uniform(1e-3, 1e-1, count))
    scale = Quant(scales, 0, 0) if per_channel else Quant(scales[0])
    top = 127 if bits == 8 else 7
    types = {"x": tensor(dtype, into, zeros[0], columns), "w": TensorType((rows, columns), "i8", scale)}
    constants = {"w": rng.integers(-top, top + 1, (rows, columns)).astype(np.int8)}
    if bias:
        steps = tuple(float(np.float32(np.float32(into) * np.float32(s))) for s in scales)
        types["b"] = TensorType((rows,), bias, Quant(steps, 0, 0) if per_channel else Quant(steps[0]))
        wide = 1 << (31 if bias == "i64" else 15)
        constants["b"] = rng.integers(-wide, wide, rows).astype(types["b"].numpy)
    x = rng.integers(-(1 << (7 if dtype == "i8" else 15)), 1 << (7 if dtype == "i8" else 15), (100, columns))
    out = quant(into * np.mean(scales) * top / 2 * np.sqrt(columns) / gain, zeros[1])
    attrs = {**({"act": act} if act else {}), **({"weight_bits": bits} if bits != 8 else {})}
    found = assert_kernel("tfl_fully_connected", types, out, {"x": x.astype(types["x"].numpy)}, constants, **attrs)
    if gain > 1 and not act:
        assert {-128, 127} <= set(found.reshape(-1).tolist()) or {-32768, 32767} <= set(found.reshape(-1).tolist())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bias", [None, "i64", "i32"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (7, 5), (32, 64)])
def test_fully_connected_of_int16(rows, columns, bias, seed):
    product(np.random.default_rng(seed), "i16", bias, rows, columns, per_channel=seed % 2 == 0, act=ACTS[seed])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("bias", [None, "i32"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (7, 5), (32, 64)])
def test_fully_connected_of_int8(rows, columns, bias, seed):
    rng = np.random.default_rng(seed)
    zeros = tuple(map(int, rng.integers(-128, 128, 2)))
    product(rng, "i8", bias, rows, columns, per_channel=seed % 2 == 0, zeros=zeros, act=ACTS[seed // 2])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 3), (7, 5), (32, 64)])
def test_fully_connected_with_int4_weights(rows, columns, seed):
    rng = np.random.default_rng(seed)
    bias = "i32" if seed % 2 else None
    product(rng, "i8", bias, rows, columns, per_channel=False, bits=4, zeros=(seed * 40 - 50, -7), act=ACTS[seed])


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_fully_connected_that_saturates(dtype, per_channel):
    product(np.random.default_rng(3), dtype, None, 32, 64, per_channel=per_channel, gain=4.0)
