"""Whole numbers, bools and tables in TFLite Micro: the operators that stand for each op give its bits, at its corners.

Arithmetic on int32's extremes, indices on and outside the edges, guards of every dtype, and random integer graphs.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from neurodeploy.backends import runner
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.tflite.fixed_point import scale_of
from neurodeploy.ir.types import TensorType, int_range
from neurodeploy.passes.tflite.decompose import DecomposeTFLite
from tests.differential.test_tflite import assert_exact, one_stage, quantized, sampled
from tests.differential.test_tflite_kernels import assert_kernel, i16, quant, tensor
from tests.families import CASES
from tests.strategies import INTEGER_OPS, integer_cases

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

LOW, HIGH = int_range("i32")
EXTREMES = np.array(
    [LOW, LOW + 1, -65537, -65536, -65535, -32769, -3, -2, -1, 0, 1, 2, 3, 5, 32767, 65535, 65536, HIGH - 1, HIGH]
)
INDICES = np.array([LOW, -5, -1, 0, 1, 2, 3, 4, 5, 6, HIGH], np.int32)


def whole(dtype: str, *shape: int) -> TensorType:
    return TensorType(shape, dtype)


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Every two of a dtype's corners."""
    low, high = int_range(dtype)
    corners = np.unique(np.clip(EXTREMES, low, high))
    left, right = np.array(list(itertools.product(corners, corners))).T
    return left, right


def fits(op: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where an op's result is an int32."""
    if op == "div":
        return (left != LOW) | (right != -1)
    exact = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[op](left.astype(object), right.astype(object))
    return np.array([LOW <= e <= HIGH for e in exact])


# -- arithmetic and decisions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32"])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
def test_arithmetic_at_the_extremes(op, dtype):
    left, right = pairs(dtype)
    kept = fits(op, left, right)
    x, y = (a[kept][None].astype(whole(dtype).numpy) for a in (left, right))
    found = assert_kernel(op, {"x": whole(dtype, x.size), "y": whole(dtype, x.size)}, None, {"x": x, "y": y})
    assert found.dtype == np.int32
    assert len(np.unique(found)) > 20


@pytest.mark.parametrize("op", ["neg", "abs", "relu"])
def test_signs(op):
    x = EXTREMES[None, 1:].astype(np.int32)
    assert_kernel(op, {"x": whole("i32", x.size)}, None, {"x": x})


@pytest.mark.parametrize("dtype", ["bool", "i8", "i16", "i32"])
@pytest.mark.parametrize("op", ["lt", "eq", "ne", "min", "max"])
def test_comparisons_of_every_pair(op, dtype):
    left, right = (np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) if dtype == "bool" else pairs(dtype)
    x, y = (a[None].astype(whole(dtype).numpy) for a in (left, right))
    assert_kernel(op, {"x": whole(dtype, x.size), "y": whole(dtype, x.size)}, None, {"x": x, "y": y})


@pytest.mark.parametrize("dtype", ["bool", "i8", "i16", "i32"])
def test_choices(dtype):
    left, right = (np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) if dtype == "bool" else pairs(dtype)
    x, y = (np.repeat(a[None], 2, axis=0).astype(whole(dtype).numpy) for a in (left, right))
    types = {"c": whole("bool"), "x": whole(dtype, x.shape[1]), "y": whole(dtype, x.shape[1])}
    assert_kernel("select", types, None, {"c": np.array([False, True]), "x": x, "y": y})
    types["c"] = whole("bool", x.shape[1])
    condition = np.random.default_rng(0).random(x.shape) < 0.5
    assert_kernel("select", types, None, {"c": condition, "x": x, "y": y})


@pytest.mark.parametrize("to", ["bool", "i8", "i16", "i32", "f32"])
@pytest.mark.parametrize("source", ["bool", "i8", "i16", "i32", "f32"])
def test_casts_saturate(source, to):
    x = EXTREMES.astype(float)
    if source == "f32":
        beyond = [-1e30, -(2.0**31) - 300, 2.0**31 - 128, 2.0**31, 1e30, -0.9, 0.9, 1e-9, np.nan, np.inf, -np.inf]
        x = np.r_[x, x + 0.75, beyond]
    elif source != "bool":
        x = np.clip(x, *int_range(source))
    x = x[None].astype(whole(source).numpy)
    assert_kernel("cast", {"x": whole(source, x.size)}, None, {"x": x}, to=to)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 12])
def test_sums_and_largest(size):
    x = np.random.default_rng(size).integers(-2, 3, (6, 3, size, 2)).astype(np.int32)
    x[0, 0], x[1, 1] = LOW // 16, HIGH // 16
    for axis, keep in itertools.product((0, 1, 2), (False, True)):
        for op in ("sum", "reduce_max", "argmax"):
            assert_kernel(op, {"x": whole("i32", 3, size, 2)}, None, {"x": x}, axis=axis, keepdims=keep)
    types = {"i8": tensor("i8", 0.1, 5, 3, size, 2), "i16": i16(0.1, 3, size, 2)}
    for dtype, type_ in types.items():
        narrow = (x % 251 - 120).astype(type_.numpy)
        for axis, keep in itertools.product((0, 1, 2), (False, True)):
            assert_kernel("argmax", {"x": type_}, None, {"x": narrow}, axis=axis, keepdims=keep)
            assert_kernel("reduce_max", {"x": type_}, type_.quant, {"x": narrow}, axis=axis, keepdims=keep)
        assert dtype == type_.dtype


def test_the_first_of_equals_is_the_largest():
    x = np.array([[3, 9, 9, 1], [LOW, LOW, LOW, LOW], [HIGH, 0, HIGH, 0], [-5, -4, -4, -9]], np.int32)
    found = assert_kernel("argmax", {"x": whole("i32", 4)}, None, {"x": x}, axis=0)
    assert found.tolist() == [1, 0, 0, 1]


def test_products_of_whole_matrices():
    rng = np.random.default_rng(0)
    for a, c in (((3, 5), (5,)), ((5,), (5, 2)), ((3, 5), (5, 4)), ((5,), (5,)), ((1, 1), (1, 1))):
        x, y = (rng.integers(-9999, 9999, (4, *shape)).astype(np.int32) for shape in (a, c))
        assert_kernel("matmul", {"x": whole("i32", *a), "y": whole("i32", *c)}, None, {"x": x, "y": y})


# -- tables ------------------------------------------------------------------------------------------------------------

KINDS = {
    "bool": (whole("bool"), None),
    "i8": (tensor("i8", 0.1, 0), quant(0.1)),
    "i8, zero point": (tensor("i8", 0.1, -7), quant(0.1, -7)),
    "i16": (i16(0.1), quant(0.1)),
    "i32": (whole("i32"), None),
    "f32": (whole("f32"), None),
}


def filled(kind: TensorType, *shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind.dtype == "bool":
        return rng.random(shape) < 0.5
    if kind.dtype == "f32":
        return rng.normal(size=shape).astype(np.float32)
    low, high = int_range(kind.dtype)
    made = rng.integers(low, high, shape, endpoint=True).astype(kind.numpy)
    made.reshape(-1)[:2] = low, high
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 2), (1,), (1, 3)])
def test_rows_and_puts_on_the_edges_and_outside(shape, kind):
    type_, scale = KINDS[kind]
    table = filled(type_, len(INDICES), *shape)
    row = filled(type_, len(INDICES), *(shape[1:] or (2,)), seed=1)
    row = row if shape[1:] else row[:, 0]
    types = {"t": type_.with_(shape=shape), "i": whole("i32")}
    found = assert_kernel("row", types, scale, {"t": table, "i": INDICES})
    assert not found[0].any() and not found[-1].any()
    types["r"] = type_.with_(shape=shape[1:])
    found = assert_kernel("put", types, scale, {"t": table, "i": INDICES, "r": row})
    np.testing.assert_array_equal(found[[0, -1]], table[[0, -1]])
    if shape[0] == 5:
        np.testing.assert_array_equal(found[7, 4], row[7])


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [(), (1,), (3,), (2, 2)])
def test_gather_moves_an_index_to_the_nearest_end(index, kind, constant):
    type_, scale = KINDS[kind]
    rng = np.random.default_rng(0)
    i = rng.choice(INDICES, (9, *index)).astype(np.int32)
    i.reshape(9, -1)[:, 0] = INDICES[:9]
    for axis, shape in ((0, (5,)), (0, (5, 3)), (1, (2, 5)), (1, (2, 5, 3)), (0, (1, 2))):
        types = {"t": type_.with_(shape=shape), "i": whole("i32", *index)}
        if constant:
            assert_kernel("gather", types, scale, {"i": i}, {"t": filled(type_, *shape)}, axis=axis)
        else:
            assert_kernel("gather", types, scale, {"t": filled(type_, 9, *shape), "i": i}, axis=axis)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_narrow_indices(dtype):
    i = np.array([-100, -1, 0, 4, 5, 100], whole(dtype).numpy)
    types = {"t": i16(0.1, 5, 2), "i": whole(dtype)}
    assert_kernel("gather", types, quant(0.1), {"t": filled(i16(0.1), 6, 5, 2), "i": i})
    assert_kernel("row", types, quant(0.1), {"t": filled(i16(0.1), 6, 5, 2), "i": i})


@pytest.mark.parametrize("kind", KINDS)
def test_delay_lines_and_transposes(kind):
    type_, scale = KINDS[kind]
    for length, rest in itertools.product((1, 2, 5), ((), (3,), (2, 2))):
        types = {"x": type_.with_(shape=(length, *rest)), "y": type_.with_(shape=rest)}
        arrays = {
            "x": filled(type_, 4, length, *(rest or (1,)))[..., 0] if not rest else filled(type_, 4, length, *rest)
        }
        arrays["y"] = filled(type_, 4, *rest, seed=1)
        assert_kernel("shift", types, scale, arrays)
    x = filled(type_, 2, 3, 4, 2)
    assert_kernel("transpose", {"x": type_.with_(shape=(3, 4, 2))}, scale, {"x": x}, perm=[2, 0, 1])


# -- programs ----------------------------------------------------------------------------------------------------------


def test_guards_and_states_of_every_dtype():
    """States that count, decide and remember, each under a guard, and first values that come from another stage."""
    b = Builder()
    x, k = b.input("x", [3]), b.input("k", [], "i32")
    count, seen, held = (
        b.state("count", [], 5, "i32"),
        b.state("seen", [2], [True, False], "bool"),
        b.state("held", [3]),
    )
    picks = b.state("picks", [4], dtype="i32")
    even = b("eq", k - b.const(2, "i32") * b("div", k - b("cast", k > b.const(0, "i32"), to="i32"), b.const(2, "i32")),
             b.const(0, "i32"))  # fmt: skip
    best = b("argmax", x, axis=0)
    b.next(count, count + b.const(1, "i32"), even)
    b.next(seen, b("concat", b("reshape", even, shape=[1]), seen.slice(0, 1), axis=0), even)
    b.next(held, b("tanh", x + held), even)
    b.next(picks, b("put", picks, k, best))
    b.output("count", count)
    b.output("seen", seen)
    b.output("best", best)
    b.output("picks", picks)
    b.output("most", b("reduce_max", held, axis=0))
    b.output("held", b("gather", held, best))
    b.output("real", b("cast", count, to="f32") * b("cast", even, to="f32"))
    b.output("whole", b("cast", 3.0 * x, to="i32"))
    b.output("some", b("cast", x, to="bool"))
    b.output("ratio", b("div", count, k + b.const(1, "i32")))
    program = one_stage(b)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(size=(6, 12, 3)).astype(np.float32), "k": rng.integers(-3, 7, (6, 12)).astype(np.int32)}
    lengths = np.array([12, 1, 7, 0, 12, 12])
    for options in ({}, {"activation_dtype": "i8"}):
        made = quantized(program, sampled(program, inputs, lengths), **options)
        assert_exact(made, inputs, lengths)


@pytest.mark.parametrize("options", [{}, {"activation_dtype": "i8"}], ids=["i16", "i8"])
def test_whole_numbers_survive_quantization(options):
    """What is a whole number is cast to that, and comes back as that."""
    b = Builder()
    x = b.input("x", [])
    to = b("cast", x, to="i32")
    b.output("whole", to)
    b.output("back", b("cast", to, to="f32"))
    b.output("cut", b("cast", 0.3 * x, to="i32"))
    program = one_stage(b)
    inputs = {"x": np.arange(-100, 101, dtype=np.float32)[None]}
    made = quantized(program, sampled(program, inputs, None), **options)
    _, golden = assert_exact(made, inputs)
    np.testing.assert_array_equal(golden.outputs["whole"], inputs["x"].astype(int))
    assert np.abs(real_outputs(made, golden)["back"] - inputs["x"]).max() <= (0.5 if options else 0.002)
    assert np.abs(golden.outputs["cut"] - np.trunc(0.3 * inputs["x"])).max() <= 1
    assert (np.abs(golden.outputs["cut"]) <= 0.3 * np.abs(inputs["x"]) + 0.3).all()


@pytest.mark.parametrize("reach", [0.3, 1.0, 7.75, 100.0, 40000.0])
def test_floor_and_round_at_16_bits(reach):
    """What stands exactly on a power of two, halves and whole numbers among it, is rounded as NumPy does."""
    b = Builder()
    x = b.input("x", [])
    names = ("floor", "round")
    for name in names:
        b.output(name, b(name, x))
    b.output("cut", b("cast", x, to="i32"))
    program = one_stage(b)
    grid = 2.0 ** np.ceil(np.log2(reach / 16000))
    rng = np.random.default_rng(0)
    x = np.r_[
        np.arange(-int(2 * reach), int(2 * reach) + 1, max(int(reach) // 20, 1)) / 2, rng.uniform(-reach, reach, 60)
    ]
    inputs = {"x": np.r_[-reach, reach, np.round(x / grid) * grid].astype(np.float32)[None]}
    # A scale has 12 bits and is rounded up: from just below the grid, the grid itself.
    top = float(np.abs(inputs["x"]).max()) * (1 + 1e-9)
    made = quantized(program, sampled(program, inputs, None), headroom=grid * 32767 / top)
    assert scale_of(made.inputs["x"].type) == grid
    _, golden = assert_exact(made, inputs)
    real, given = real_outputs(made, golden), np.round(inputs["x"] / grid) * grid
    for name, function in (("floor", np.floor), ("round", np.rint)):
        wanted = function(given)
        step = scale_of(made.stages[0].graph.tensor(name))
        assert np.abs(real[name] - wanted).max() <= 0.51 * step
    np.testing.assert_array_equal(golden.outputs["cut"], np.trunc(given))


@pytest.mark.parametrize("options", [{}, {"activation_dtype": "i8"}], ids=["i16", "i8"])
def test_large_whole_numbers_become_real_as_far_as_their_form_reaches(options):
    b = Builder()
    b.output("y", b("cast", b.input("x", [], "i32"), to="f32"))
    program = one_stage(b)
    inputs = {"x": np.array([[0, 1, -700_000, 1_000_000, 123_456]], np.int32)}
    made = quantized(program, sampled(program, inputs, None), **options)
    _, golden = assert_exact(made, inputs)
    step = scale_of(made.stages[0].graph.tensor("cast"))
    assert np.abs(real_outputs(made, golden)["y"] - inputs["x"]).max() <= 1.5 * step
    beyond = {"x": np.array([[LOW, HIGH, LOW + 1, 5_000_000]], np.int32)}
    _, golden = assert_exact(made, beyond)
    assert (np.sign(real_outputs(made, golden)["y"]) == np.sign(beyond["x"])).all()


@pytest.mark.parametrize("count", [10, 11, 20, 25])
def test_joins_of_many_in_their_order(count):
    types = {f"x{i}": i16(0.1, 1 + i % 2, 2) for i in range(count)}
    arrays = {n: filled(t, 2, *t.shape, seed=i) for i, (n, t) in enumerate(types.items())}
    assert_kernel("concat", types, quant(0.1), arrays, axis=0)


def writer_of_words(size: int = 11, width: int = 6) -> Program:
    """A network that writes one word after another: each is the likeliest, and is looked up again as the next input."""
    rng = np.random.default_rng(3)
    b = Builder()
    word, h, count = b.input("word", [], "i32"), b.state("h", [width]), b.state("count", [size], dtype="i32")
    seen = b("gather", b.param("E", rng.normal(size=(size, width)).astype(np.float32)), word)
    new = b("tanh", seen + b.param("U", rng.normal(size=(width, width)).astype(np.float32)) @ h)
    often = 0.5 * b("cast", count, to="f32")
    logits = b.param("V", 2 * rng.normal(size=(size, width)).astype(np.float32)) @ new - often
    best = b("argmax", logits, axis=0)
    b.next(h, new)
    b.next(count, b("put", count, best, b("gather", count, best) + b.const(1, "i32")))
    b.output("best", best)
    b.output("logits", logits)
    b.output("end", b("eq", best, b.const(0, "i32")))
    drive = Drive("generate", feedback={"word": "best"}, stop="end", max_steps=30)
    stage = Stage("main", b.graph(), drive, {"word": Ref("first")})
    first = {"first": ProgramInput(whole("i32"), "static")}
    return Program("writer", first, (stage,), {n: Ref(n, "main") for n in ("best", "logits", "end")})


@pytest.mark.parametrize("options", [{}, {"activation_dtype": "i8"}], ids=["i16", "i8"])
def test_words_that_are_fed_back(options):
    program, inputs = writer_of_words(), {"first": np.arange(-1, 12, dtype=np.int32)}
    made = quantized(program, sampled(program, inputs, None), **options)
    _, golden = assert_exact(made, inputs)
    assert int(golden.steps["main"].sum()) >= 100
    assert len(np.unique(golden.outputs["best"])) > 5


@pytest.mark.parametrize("kind", [{"steps": 5}, {"state": "io"}, {"state": "io", "steps": 4}], ids=str)
@pytest.mark.parametrize("family", ["clockwork", "ising"])
def test_other_files_of_the_same_step(family, kind):
    """States that are fed, and several steps a call."""
    from neurodeploy import compile

    case = CASES[family]
    made = compile(case.program, "tflm", sampled(case.program, case.inputs, case.lengths), **kind).artifact
    golden = interpret.run(text.from_files(made.files, "program"), case.inputs, case.lengths)
    found = runner("tflm").run(made, dict(case.inputs), case.lengths)
    for name, array in golden.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], array)


@pytest.mark.parametrize("options", [{}, {"activation_dtype": "i8"}], ids=["i16", "i8"])
def test_an_embedding_holds_words_that_calibration_has_not_seen(options):
    rng = np.random.default_rng(1)
    table = rng.normal(size=(9, 4)) * np.array([0.1] * 5 + [4.0] * 4)[:, None] + 0.5
    b = Builder()
    word = b.input("word", [], "i32")
    b.output("y", b("gather", b.param("E", table.astype(np.float32)), word))
    b.output("zero", b("row", b.param("F", table.astype(np.float32)), word))
    program = one_stage(b)
    made = quantized(program, sampled(program, {"word": np.arange(5, dtype=np.int32)[None]}, None), **options)
    inputs = {"word": np.array([[-1, 0, 4, 5, 8, 9]], np.int32)}
    _, golden = assert_exact(made, inputs)
    real, step = real_outputs(made, golden), 0.05 if options else 0.001
    assert np.abs(real["y"][0] - table[[0, 0, 4, 5, 8, 8]]).max() < step
    assert np.abs(real["zero"][0] - np.r_[np.zeros((1, 4)), table[[0, 4, 5, 8]], np.zeros((1, 4))]).max() < step


@pytest.mark.parametrize("dtype", ["i16", "f32"])
@pytest.mark.parametrize("seed", [0, 5, 2**31 - 1, 2**32 - 1])
def test_random_numbers(seed, dtype):
    counters = np.r_[EXTREMES, np.random.default_rng(seed).integers(LOW, HIGH, 40)].astype(np.int32)
    for shape in ((), (1,), (7,), (3, 20)):
        attrs = {"seed": seed, "shape": list(shape), "dtype": dtype}
        assert_kernel("random", {"x": whole("i32")}, None, {"x": counters}, **attrs)


def test_two_random_values_share_a_loop():
    from neurodeploy.backends.tflite.stage import stage_model
    from neurodeploy.backends.tflite.write import schema

    def subgraphs(*seeds: int) -> int:
        b = Builder()
        x = b.input("x", [], "i32")
        for i, seed in enumerate(seeds):
            b.output(f"y{i}", b("random", x + b.const(i, "i32"), seed=seed, shape=[3]))
        return schema().Model.GetRootAsModel(stage_model(b.graph(), "net"), 0).SubgraphsLength()

    assert subgraphs(4) == subgraphs(4, 4) == 3
    assert subgraphs(4, 5) == 5


WHOLE_OPS = tuple(
    op for op in INTEGER_OPS if op not in ("sqrt", "requantize", "rows", "lut", "affine", "affine2", "random")
)


@settings(max_examples=40)
@given(case=integer_cases(ops=WHOLE_OPS))
def test_random_integer_graphs(case):
    program = replace(DecomposeTFLite()(case.program), numerics="tflite")
    assert_exact(program, case.inputs, case.lengths, trails=(True,))


def test_what_has_no_kernel_is_refused():
    from neurodeploy.backends.tflite.stage import stage_model

    b = Builder()
    b.output("y", b("sqrt", b.input("x", [2], "i32")))
    with pytest.raises(UnsupportedError, match=r"net: %sqrt: sqrt of i32\[2\] has no operator"):
        stage_model(b.graph(), "net")
    b = Builder()
    b.output("y", b("add", b.input("x", [2], "i64"), b.input("z", [2], "i64")))
    with pytest.raises(
        UnsupportedError, match=r"net: %add: add takes i64\[2\]; TFLite Micro's integer kernels take 32"
    ):
        stage_model(b.graph(), "net")


def test_every_integer_op_is_written_or_refused():
    """No rule for reals alone is met by whole numbers unawares."""
    from neurodeploy.backends.tflite.whole import WRITTEN

    taken = {name for name, op in OPS.items() if "int" in op.kinds and not name.startswith("tfl") and name not in
             ("requantize", "lut", "einsum", "affine", "quantize", "dequantize")}  # fmt: skip
    plain = {"slice", "concat", "reshape", "broadcast", "shift", "const", "min", "max"}
    assert taken - plain <= WRITTEN
