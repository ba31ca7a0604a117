"""Operators on integers as other converters write them, read: TFLite Micro's bits, and our C's where C has the types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from neurodeploy.backends.tflite.write import Subgraph
from neurodeploy.errors import NeurodeployError
from neurodeploy.ir.types import Quant
from tests.differential.test_tflite_import import KINDS, Build, assert_as_tflm, f32, loaded, numbers, written
from tests.differential.test_tflite_import_recurrent import assert_in_c

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the one operator; with ``data`` (or ``fixed``: random) it is constant."""

    shape: Shape
    dtype: str = "i8"
    scale: float | tuple[float, ...] | None = None
    zero: int = 0
    data: Any = None
    fixed: bool = False
    axis: int | None = None

    def quant(self) -> Quant | None:
        if self.scale is None:
            return None
        if isinstance(self.scale, tuple):
            return Quant(tuple(map(f32, self.scale)), 0, self.axis)
        return Quant(f32(self.scale), self.zero)

    def array(self, rng) -> np.ndarray | None:
        if self.data is not None:
            return np.asarray(self.data, KINDS["i8" if self.dtype == "i4" else self.dtype]).reshape(self.shape)
        if not self.fixed:
            return None
        if self.dtype == "i4":
            return rng.integers(-7, 8, self.shape).astype(np.int8)
        return numbers(rng, self.dtype, self.shape)


@dataclass(frozen=True)
class Op:
    """One operator between tensors."""

    code: str
    takes: tuple[Tensor, ...]
    gives: tuple[Tensor, ...]
    table: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, s: Subgraph) -> None:
        rng, given = np.random.default_rng(7), []
        for i, t in enumerate(self.takes):
            data = t.array(rng)
            given.append(s.tensor(f"t{i}", t.shape, t.dtype, t.quant(), data))
            if data is None:
                s.inputs.append(given[-1])
        s.outputs = [s.tensor(f"y{i}", t.shape, t.dtype, t.quant()) for i, t in enumerate(self.gives)]
        s.op(self.code, given, s.outputs, self.table, **self.options)


def i8(*shape: int, scale=0.05, zero=-7, **more: Any) -> Tensor:
    return Tensor(shape, "i8", scale, zero, **more)


def i16(*shape: int, scale=2e-4, **more: Any) -> Tensor:
    return Tensor(shape, "i16", scale, **more)


def i32(*shape: int, **more: Any) -> Tensor:
    return Tensor(shape, "i32", **more)


def axes(*values: int) -> Tensor:
    return i32(len(values), data=values)


def of(dtype: str, *shape: int, scale: float = 0.05, zero: int = -7, **more: Any) -> Tensor:
    """int8 with that scale and zero point, or int16 over the same range without one."""
    return i8(*shape, scale=scale, zero=zero, **more) if dtype == "i8" else i16(*shape, scale=scale / 256, **more)


# -- elementwise -------------------------------------------------------------------------------------------------------

#: Shapes of both arguments, which of them is constant, and the result's shape.
PAIRS = {
    "alike": ((1, 3, 4), (1, 3, 4), None, (1, 3, 4)),
    "a channel's constant": ((1, 3, 4), (4,), 1, (1, 3, 4)),
    "a constant in front": ((1, 1, 4), (1, 3, 4), 0, (1, 3, 4)),
    "one number": ((1, 5), (), 1, (1, 5)),
    "one number in front": ((1,), (1, 5), 0, (1, 5)),
    "both broadcast": ((1, 3, 1), (1, 1, 4), None, (1, 3, 4)),
    "four axes": ((1, 2, 1, 3), (1, 1, 4, 3), None, (1, 2, 4, 3)),
}


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("code", ["ADD", "SUB", "MUL"])
def test_arithmetic_and_its_broadcasting(tmp_path, code, dtype):
    for act, (left, right, constant, shape) in enumerate(PAIRS.values()):
        a = of(dtype, *left, scale=0.031, zero=11, fixed=constant == 0)
        b = of(dtype, *right, scale=0.009, zero=-60, fixed=constant == 1)
        made = of(dtype, *shape, scale=0.041 if code != "MUL" else 0.03, zero=-128 if act % 2 else 3)
        table = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[code]
        program = assert_as_tflm(
            tmp_path, written(Op(code, (a, b), (made,), table, {"fusedActivationFunction": act % 4}))
        )
        assert [v.op for v in program.stages[0].graph.values if v.op != "reshape"] == [f"tfl_{code.lower()}"]


def test_int16_sums_whatever_they_say_of_powers_of_two(tmp_path):
    """The schema's default says that int16 scales are powers of two; TFLite Micro doesn't look."""
    for says in (True, False):
        op = Op(
            "ADD", (i16(1, 6), i16(1, 6, scale=3e-4)), (i16(1, 6, scale=4e-4),), "AddOptions", {"potScaleInt16": says}
        )
        assert_as_tflm(tmp_path, written(op))


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_maximum_and_minimum_with_constants(tmp_path, dtype):
    for code in ("MAXIMUM", "MINIMUM"):
        for shape in ((3, 4), (4,), (1, 1, 4), ()):
            op = Op(
                code,
                (of(dtype, 1, 3, 4), of(dtype, *shape, fixed=True)),
                (of(dtype, 1, 3, 4),),
                "MaximumMinimumOptions",
            )
            assert_as_tflm(tmp_path, written(op))


LOGISTIC_OUT, TANH_OUT, WIDE_OUT = (1 / 256, -128), (1 / 128, 0), (1 / 32768, 0)


@pytest.mark.parametrize("code", ["LOGISTIC", "TANH"])
def test_logistic_and_tanh_at_odd_scales(tmp_path, code):
    rng = np.random.default_rng(0)
    for scale in (0.0784313725, 0.0235, 0.171, 0.00392, 0.31):
        scale_out, zero_out = LOGISTIC_OUT if code == "LOGISTIC" else TANH_OUT
        made = i8(1, 64, scale=scale_out, zero=zero_out)
        assert_as_tflm(
            tmp_path, written(Op(code, (i8(1, 64, scale=scale, zero=int(rng.integers(-128, 128))),), (made,)))
        )
        op = Op(code, (i16(1, 64, scale=scale / 100),), (i16(1, 64, scale=WIDE_OUT[0]),))
        assert_as_tflm(tmp_path, written(op))


def test_int8_results_of_logistic_and_tanh_on_other_scales(tmp_path):
    """The kernels write the integers of their own scale whatever the file says; what comes next takes the file's."""

    def build(s: Subgraph, code: str, quant: Quant) -> None:
        x, y = s.tensor("x", (1, 40), "i8", Quant(f32(0.07), 4)), s.tensor("y", (1, 40), "i8", quant)
        s.inputs, s.outputs = [x], [s.tensor("z", (1, 40), "i8", Quant(0.25, 9))]
        s.op(code, [x], [y])
        s.op("MUL", [x, y], s.outputs, "MulOptions")

    for code, quant in (("LOGISTIC", Quant(f32(0.005), -128)), ("TANH", Quant(f32(0.009), -3))):
        assert_as_tflm(tmp_path, written(lambda s, code=code, quant=quant: build(s, code, quant)))
    with pytest.raises(NeurodeployError, match="gives the scale 0.005 and zero point 3; needed 0.00390625 and -128"):
        loaded(tmp_path, written(lambda s: build(s, "LOGISTIC", Quant(f32(0.005), 3))))


RECTIFIERS = {
    "LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.3}),
    "HARD_SWISH": (None, {}),
    "ELU": (None, {}),
    "RELU": (None, {}),
    "RELU6": (None, {}),
}


@pytest.mark.parametrize("code", RECTIFIERS)
def test_functions_of_one_integer(tmp_path, code):
    table, options = RECTIFIERS[code]
    for i, (scale, zero, into, zero_out) in enumerate(
        [(0.05, 4, 0.04, -11), (0.05, -128, 0.05, -128), (0.9, 0, 0.3, 0), (0.011, 120, 0.009, 70), (7.0, -3, 5.0, -3)]
    ):
        if code == "RELU6":
            into, zero_out = scale, zero
        given, made = i8(1, 256, scale=scale, zero=zero), i8(1, 256, scale=into, zero=zero_out)
        program = assert_as_tflm(tmp_path, written(Op(code, (given,), (made,), table, options)), steps=12)
        assert [v.op for v in program.stages[0].graph.values] == [f"tfl_{code.lower()}"]
        if code in ("LEAKY_RELU", "RELU") and not i:
            for alpha in (0.3, 1.4, -0.2):
                options = {"alpha": alpha} if code == "LEAKY_RELU" else {}
                op = Op(code, (i16(1, 999),), (i16(1, 999, scale=3e-4),), table, options)
                assert_as_tflm(tmp_path, written(op))


def test_prelu_by_channel(tmp_path):
    for dtype in ("i8", "i16"):
        for shape in ((1, 1, 4), (4,), (1, 3, 4)):
            alpha = i8(*shape, scale=0.006, zero=31 if dtype == "i8" else 0, fixed=True)
            op = Op("PRELU", (of(dtype, 1, 3, 4), alpha), (of(dtype, 1, 3, 4, scale=0.04, zero=9),))
            program = assert_as_tflm(tmp_path, written(op), steps=40)
    assert_in_c(program)


@pytest.mark.parametrize("code", ["HARD_SWISH", "ELU"])
def test_what_is_for_int8_alone(tmp_path, code):
    with pytest.raises(NeurodeployError, match="computes with INT16; on integers needed int8"):
        loaded(tmp_path, written(Op(code, (i16(1, 9),), (i16(1, 9),))))


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_softmax(tmp_path, dtype):
    made: dict[str, Any] = {"scale": 1 / 256, "zero": -128} if dtype == "i8" else {"scale": 1 / 128}
    for shape, scale in (((1, 7), 0.1), ((1, 3, 5), 0.37), ((2, 4), 0.02)):
        op = Op(
            "SOFTMAX", (of(dtype, *shape, scale=scale),), (of(dtype, *shape, **made),), "SoftmaxOptions", {"beta": 1.0}
        )
        assert_as_tflm(tmp_path, written(op))


@pytest.mark.parametrize(("shape", "scale"), [((1, 7), 0.1), ((1, 3, 50), 0.7), ((2, 4), 0.02)])
def test_softmax_from_int8_to_int16(tmp_path, shape, scale):
    """A converter may write the result's scale with few digits: the kernel looks at no more."""
    into = i16(*shape, scale=1.5259e-05, zero=-32768)
    op = Op("SOFTMAX", (i8(*shape, scale=scale),), (into,), "SoftmaxOptions", {"beta": 1.0})
    assert_in_c(assert_as_tflm(tmp_path, written(op)))


def test_softmax_on_other_scales_is_refused(tmp_path):
    for into in (i16(1, 7, scale=2.0**-16), i16(1, 7, scale=1.6e-05, zero=-32768)):
        op = Op("SOFTMAX", (i8(1, 7),), (into,), "SoftmaxOptions", {"beta": 1.0})
        with pytest.raises(NeurodeployError, match="needed 1.52588e-05 and -32768"):
            loaded(tmp_path, written(op))


# -- decisions ---------------------------------------------------------------------------------------------------------

COMPARISONS = ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL")


@pytest.mark.parametrize("code", COMPARISONS)
def test_comparisons_of_int8(tmp_path, code):
    """Coarse and fine scales, both alike or not; a constant on either side."""
    for (left, right), (za, zb) in (((0.02, 0.02), (3, 3)), ((0.5, 0.25), (-9, 40)), ((1e-3, 1.7e-3), (0, -128))):
        a, b = i8(1, 300, scale=left, zero=za), i8(1, 300, scale=right, zero=zb)
        assert_as_tflm(tmp_path, written(Op(code, (a, b), (Tensor((1, 300), "bool"),))))
        one = i8(scale=right, zero=zb, data=zb + 4)
        for takes in ((a, one), (one, a)):
            program = assert_as_tflm(tmp_path, written(Op(code, takes, (Tensor((1, 300), "bool"),))))
    assert {v.op for v in program.stages[0].graph.values} <= {"tfl_less", "tfl_equal", "max", "eq"}


@pytest.mark.parametrize("code", COMPARISONS)
def test_comparisons_of_int32(tmp_path, code):
    op = Op(code, (i32(1, 9), i32(1, data=[3])), (Tensor((1, 9), "bool"),))
    assert_as_tflm(tmp_path, written(op))


def test_comparisons_that_are_refused(tmp_path):
    for given in (i16(1, 9), i8(1, 9, scale=1.5)):
        with pytest.raises(NeurodeployError, match="on integers needed int8 with a scale below 1"):
            loaded(tmp_path, written(Op("GREATER", (given, given), (Tensor((1, 9), "bool"),))))


@pytest.mark.parametrize("dtype", ["i8", "i16", "f32"])
def test_select(tmp_path, dtype):
    """TFLite Micro has SELECT_V2 alone; the older SELECT of the same shapes reads as the same."""

    def value(*shape: int, **more: Any) -> Tensor:
        return Tensor(shape, "f32", **more) if dtype == "f32" else of(dtype, *shape, **more)

    flags = Tensor((1, 3, 4), "bool")
    takes, made = (flags, value(1, 3, 4), value(1, 3, 4)), (value(1, 3, 4),)
    program = assert_as_tflm(tmp_path, written(Op("SELECT_V2", takes, made, "SelectV2Options")))
    older = loaded(tmp_path, written(Op("SELECT", takes, made, "SelectOptions")))
    assert older.stages == program.stages
    takes = (Tensor((1, 3, 1), "bool"), value(1, 1, 4), value(1, 1, 1, fixed=True))
    assert_as_tflm(tmp_path, written(Op("SELECT_V2", takes, (value(1, 3, 4),), "SelectV2Options")))


# -- products and reductions -------------------------------------------------------------------------------------------


def dense(x: Tensor, rows: int, *more: Tensor, shape: Shape, keep=False, act=0, **weights: Any) -> Op:
    columns = x.shape[-1]
    scale = weights.pop("scale", 0.004)
    w = Tensor(
        (rows, columns), weights.pop("kind", "i8"), scale, fixed=True, axis=0 if isinstance(scale, tuple) else None
    )
    into = np.mean(scale) * (x.scale if isinstance(x.scale, float) else 1) * 60 * np.sqrt(columns)
    made = Tensor(shape, x.dtype, float(into), 5 if x.dtype == "i8" else 0)
    options = {"keepNumDims": keep, "fusedActivationFunction": act}
    return Op("FULLY_CONNECTED", (x, w, *more), (made,), "FullyConnectedOptions", options)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_dense_layers(tmp_path, dtype):
    scales = (0.004, 0.001, 0.009)
    for scale in (0.004, scales):
        assert_as_tflm(tmp_path, written(dense(of(dtype, 1, 9), 3, shape=(1, 3), scale=scale)))
        assert_as_tflm(tmp_path, written(dense(of(dtype, 1, 2, 9), 3, shape=(1, 2, 3), keep=True, act=1, scale=scale)))
        assert_as_tflm(tmp_path, written(dense(of(dtype, 1, 2, 9), 3, shape=(2, 3), act=3, scale=scale)))
        assert_as_tflm(tmp_path, written(dense(of(dtype, 4, 9), 3, shape=(4, 3), scale=scale)))
        for kind in ("i32",) if dtype == "i8" else ("i64", "i32"):
            bias = Tensor((3,), kind, None, data=[900, -700, 5])
            program = assert_as_tflm(tmp_path, written(dense(of(dtype, 1, 9), 3, bias, shape=(1, 3), scale=scale)))
    assert_in_c(program)


def test_dense_layers_of_four_bits(tmp_path):
    op = dense(i8(1, 9), 3, i32(3, data=[90, -70, 5]), shape=(1, 3), kind="i4", scale=0.07)
    program = assert_as_tflm(tmp_path, written(op))
    (value,) = program.stages[0].graph.values
    assert value.attrs["weight_bits"] == 4


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("code", ["MEAN", "SUM"])
def test_reductions_over_several_axes(tmp_path, code, dtype):
    for over, shape, keep in (
        ((1, 2), (1, 5), False),
        ((1,), (1, 1, 4, 5), True),
        ((2, 3), (1, 3), False),
        ((-1,), (1, 3, 4), False),
    ):
        made = of(dtype, *shape, scale=0.03 if code == "MEAN" else 0.3, zero=3)
        op = Op(code, (of(dtype, 1, 3, 4, 5), axes(*over)), (made,), "ReducerOptions", {"keepDims": keep})
        program = assert_as_tflm(tmp_path, written(op))
    assert_in_c(program)


def test_extremes_of_int8(tmp_path):
    op = Op("REDUCE_MAX", (i8(1, 3, 4), axes(1)), (i8(1, 4),), "ReducerOptions", {"keepDims": False})
    assert_as_tflm(tmp_path, written(op))
    op = Op("ARG_MAX", (i8(1, 3, 4), axes(2)), (i32(1, 3),), "ArgMaxOptions", {"outputType": 2})
    assert_as_tflm(tmp_path, written(op))


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_joins_and_borders(tmp_path, dtype):
    parts = (of(dtype, 1, 2, 3), of(dtype, 1, 4, 3, fixed=True), of(dtype, 1, 1, 3))
    assert_as_tflm(
        tmp_path, written(Op("CONCATENATION", parts, (of(dtype, 1, 7, 3),), "ConcatenationOptions", {"axis": 1}))
    )
    if dtype == "i8":
        around = i32(3, 2, data=[[0, 0], [1, 2], [0, 1]])
        assert_as_tflm(tmp_path, written(Op("PAD", (i8(1, 2, 3), around), (i8(1, 5, 4),), "PadOptions")))
        op = Op("PADV2", (i8(1, 2, 3), around, i8(1, data=[55])), (i8(1, 5, 4),), "PadV2Options")
        assert_as_tflm(tmp_path, written(op))


# -- between types -----------------------------------------------------------------------------------------------------

QUANTIZATIONS = {
    "i8 i8": (i8(1, 256, scale=0.013), i8(1, 256, scale=0.031, zero=40)),
    "i8 i16": (i8(1, 256), i16(1, 256)),
    "i8 i32": (i8(1, 256), Tensor((1, 256), "i32", 0.0007)),
    "i16 i8": (i16(1, 999), i8(1, 999, scale=0.04)),
    "i16 i16": (i16(1, 999), i16(1, 999, scale=5e-4)),
    "i16 i32": (i16(1, 999), Tensor((1, 999), "i32", 1e-5)),
}


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_quantize_between_types(tmp_path, name):
    given, made = QUANTIZATIONS[name]
    program = assert_as_tflm(tmp_path, written(Op("QUANTIZE", (given,), (made,), "QuantizeOptions")))
    assert_in_c(program)


def test_quantize_of_int32(tmp_path):
    """What a product in 32 bits becomes."""
    for made in (i8(1, 90, scale=0.2), i16(1, 90, scale=0.1)):
        op = Op("QUANTIZE", (Tensor((1, 90), "i32", 0.3),), (made,), "QuantizeOptions")
        assert_as_tflm(tmp_path, written(op))


CASTS = ["i8 f32", "i16 f32", "i32 f32", "bool f32", "i8 i32", "i16 i32", "i32 i8", "i32 i16", "i16 i8", "i8 i16", "bool i32",
         "bool i8", "f32 i32"]  # fmt: skip


@pytest.mark.parametrize("name", CASTS)
def test_casts(tmp_path, name):
    source, target = name.split()
    op = Op("CAST", (Tensor((1, 50), source),), (Tensor((1, 50), target),), "CastOptions")
    assert_as_tflm(tmp_path, written(op))


def wide(count: int) -> np.ndarray:
    """Integers of every size, both ends, and the neighbours of multiples of 128, 256, 32768 and 65536."""
    rng = np.random.default_rng(5)
    near = [k * step + d for step in (128, 256, 32768, 65536) for k in (-3, -2, -1, 0, 1, 2, 3) for d in (-1, 0, 1)]
    some = (rng.uniform(-1, 1, count - len(near) - 4) * 2.0 ** rng.uniform(0, 31, count - len(near) - 4)).astype(
        np.int64
    )
    return np.array([*near, *some, -(2**31), 2**31 - 1, -(2**31) + 1, 2**31 - 2], np.int64).astype(np.int32)


def on(x: np.ndarray, op: Op) -> Build:
    """An operator that takes x, a constant, by way of MAXIMUM with its input: where that is least, as it is."""

    def build(s: Subgraph) -> None:
        given, known = s.tensor("least", (1, 1), "i32"), s.tensor("known", (1, x.size), "i32", data=x[None])
        low = s.tensor("low", (), "i32", data=np.array(-(2**31), np.int32))
        held, taken = s.tensor("held", (1, 1), "i32"), s.tensor("taken", (1, x.size), "i32")
        s.inputs = [given]
        s.op("MINIMUM", [given, low], [held], "MaximumMinimumOptions")
        s.op("MAXIMUM", [known, held], [taken], "MaximumMinimumOptions")
        rest = [s.tensor(f"t{i}", t.shape, t.dtype, None, t.array(None)) for i, t in enumerate(op.takes)]
        s.outputs = [s.tensor("y", t.shape, t.dtype) for t in op.gives]
        s.op(op.code, [taken, *rest], s.outputs, op.table, **op.options)

    return build


@pytest.mark.parametrize("target", ["i8", "i16"])
def test_casts_of_wide_integers_wrap(tmp_path, target):
    x = wide(400)
    build = on(x, Op("CAST", (), (Tensor((1, 400), target),), "CastOptions"))
    assert_in_c(assert_as_tflm(tmp_path, written(build), steps=2), steps=2)


def test_int32_division_cuts(tmp_path):
    x = wide(400)
    for b in (-7, 2, 1, 256, 65536, 2**31 - 1, -(2**31), 3, -1):
        x = x[x != -(2**31)] if b == -1 else x
        given = i32(1, x.size, data=[b] * x.size)
        program = assert_as_tflm(
            tmp_path, written(on(x, Op("DIV", (given,), (i32(1, x.size),), "DivOptions"))), steps=2
        )
        assert_in_c(program, steps=2, least=2)


def test_int32_division_by_what_is_computed(tmp_path):
    """Never by 0: by an input held above it."""

    def build(s: Subgraph) -> None:
        x = wide(400)
        given, known = s.tensor("b", (1, 400), "i32"), s.tensor("known", (1, 400), "i32", data=x[None])
        sizes = s.tensor("sizes", (1, 400), "i32", data=np.where(x[::-1] == 0, 9, x[::-1])[None].astype(np.int32))
        low, held = s.tensor("low", (), "i32", data=np.array(-(2**31), np.int32)), s.tensor("held", (1, 400), "i32")
        by, made = s.tensor("by", (1, 400), "i32"), s.tensor("y", (1, 400), "i32")
        s.inputs, s.outputs = [given], [made]
        s.op("MINIMUM", [given, low], [held], "MaximumMinimumOptions")
        s.op("MAXIMUM", [sizes, held], [by], "MaximumMinimumOptions")
        s.op("DIV", [known, by], [made], "DivOptions")

    assert_in_c(assert_as_tflm(tmp_path, written(build), steps=2), steps=2)


# -- computed places ---------------------------------------------------------------------------------------------------


def placed(code: str, table: Tensor, made: Tensor, index: Shape, *more: Tensor, least: int, most: int) -> Any:
    """An operator whose place is an input i32, held between two bounds by MAXIMUM and MINIMUM."""

    def build(s: Subgraph) -> None:
        x = s.tensor("x", table.shape, table.dtype, table.quant())
        at = s.tensor("at", index, "i32")
        s.inputs = [x, *(s.tensor(f"u{i}", t.shape, t.dtype, t.quant()) for i, t in enumerate(more)), at]
        low, high = (s.tensor(n, (), "i32", data=np.array(v, np.int32)) for n, v in (("low", least), ("high", most)))
        raised, held = s.tensor("raised", index, "i32"), s.tensor("held", index, "i32")
        s.op("MAXIMUM", [at, low], [raised], "MaximumMinimumOptions")
        s.op("MINIMUM", [raised, high], [held], "MaximumMinimumOptions")
        zeros = [s.tensor(f"zero{i}", (1,), "i32", data=np.zeros(1, np.int32)) for i in range(len(table.shape) - 1)]
        place = s.tensor("place", (len(table.shape),), "i32")
        s.op("CONCATENATION", [zeros[0], held, *zeros[1:]], [place], "ConcatenationOptions", axis=0)
        s.outputs = [s.tensor("y", made.shape, made.dtype, made.quant())]
        if code == "SLICE":
            s.op("SLICE", [x, place, s.ints("size", made.shape)], s.outputs, "SliceOptions")
        else:
            s.op(code, [x, s.inputs[1], place], s.outputs, "DynamicUpdateSliceOptions")

    return build


def values(dtype: str, *shape: int) -> Tensor:
    return Tensor(shape, dtype) if dtype in ("f32", "i32") else of(dtype, *shape)


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "f32"])
def test_slices_from_a_computed_place(tmp_path, dtype):
    for count in (1, 3):
        build = placed("SLICE", values(dtype, 1, 9, 2), values(dtype, 1, count, 2), (1,), least=0, most=9 - count)
        program = assert_as_tflm(tmp_path, written(build), steps=60)
    assert_in_c(program)


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "f32"])
def test_rows_written_at_a_computed_place(tmp_path, dtype):
    """Places outside of the table too: its nearest end's."""
    row = values(dtype, 1, 1, 2)
    table = values(dtype, 1, 9, 2)
    build = placed("DYNAMIC_UPDATE_SLICE", table, table, (1,), row, least=-4, most=15)
    assert_in_c(assert_as_tflm(tmp_path, written(build), steps=60))
