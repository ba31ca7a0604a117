"""TFLite's fused LSTM and SVDF without the wheel: what their types refuse, and which LSTMs are fused."""

from dataclasses import replace

import numpy as np
import pytest

from neurodeploy.errors import IRError, NumericsError, UsageError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.ops import OPS, infer
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes.tflite.fused import FuseLSTM

K, N = 3, 2


def t(dtype: str, *shape: int, scale: float = 0.01, zero: int = 0) -> TensorType:
    return TensorType(shape, dtype, Quant(scale, zero) if dtype != "f32" else None)


def lstm_types(dtype: str = "i8", **changes: TensorType) -> list[TensorType]:
    """Types that the LSTM takes, some of them changed by name."""
    weight, bias, cell = {"i8": ("i8", "i32", "i16"), "i16": ("i8", "i64", "i16"), "f32": ("f32",) * 3}[dtype]
    found = {"x": t(dtype, K), "h": t(dtype, N), "c": t(cell, N, scale=2.0**-11)}
    found |= {f"W_{g}": t(weight, N, K) for g in "ifgo"} | {f"U_{g}": t(weight, N, N) for g in "ifgo"}
    found |= {f"b_{g}": t(bias, N) for g in "ifgo"}
    return list((found | changes).values())


def called(cell: str, types: list[TensorType], **attrs):
    b = Builder()
    return b.call(cell, *(b.input(f"a{i}", type_) for i, type_ in enumerate(types)), **attrs)


@pytest.mark.parametrize("dtype", ["f32", "i8", "i16"])
def test_the_lstm_gives_h_and_c_as_they_are(dtype):
    types = lstm_types(dtype)
    assert [sym.type for sym in called("tflite_lstm", types)] == types[1:3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": t("i32", K)}, r"takes x\[k\], h\[n\] and c\[n\], x and h as f32, i8 or i16; i32\[3\]"),
        ({"h": t("i16", N)}, "x and h as f32, i8 or i16"),
        ({"W_f": t("i8", K, N)}, r"takes i8\[2,3\] here; i8\[3,2\]"),
        ({"b_o": t("i64", N)}, r"takes i32\[2\] here; i64\[2\]"),
        ({"U_g": TensorType((N, N), "i8", Quant((0.1, 0.2), 0, 0))}, "weights with one scale"),
        ({"U_g": t("i8", N, N, zero=1)}, "weights with one scale and zero point 0"),
        ({"c": t("i8", N, scale=2.0**-7)}, "takes c as i16 where x is i8"),
        ({"c": t("i16", N, scale=0.0005)}, "c with a power of two as its scale"),
        ({"c": t("i16", N, scale=2.0**-11, zero=1)}, "and zero point 0"),
    ],
)
def test_the_lstm_refuses_other_types(changes, message):
    with pytest.raises(IRError, match=message):
        called("tflite_lstm", lstm_types(**changes))


def test_the_lstm_counts_its_arguments():
    with pytest.raises(IRError, match="four W, four U and four biases; 14 arguments given"):
        called("tflite_lstm", lstm_types()[:-1])


def svdf_types(line: TensorType | None = None, weights: TensorType | None = None) -> list[TensorType]:
    return [t("i8", K, zero=4), line or t("i16", 5, 4), t("i8", 4, K), weights or t("i16", 4, 5), t("i32", 2)]


def test_svdf_gives_y_on_its_own_scale_and_its_line():
    y, line = called("tflite_svdf", svdf_types(), rank=2, scale=0.25, zero_point=-7)
    assert y.type == TensorType((2,), "i8", Quant(0.25, -7))
    assert line.type == t("i16", 5, 4)


@pytest.mark.parametrize(
    ("types", "attrs", "message"),
    [
        (svdf_types(), {"rank": 3}, "makes a unit of 3 of 4 filters"),
        (svdf_types(), {"rank": 1}, r"takes a bias i32\[4\]; i32\[2\]"),
        (svdf_types(weights=t("i8", 4, 5)), {"rank": 2}, r"weights \[f,m\] of that dtype"),
        (svdf_types(weights=t("i16", 4, 5, zero=2)), {"rank": 2}, "one scale and the zero point 0"),
        (svdf_types(), {"rank": 2, "activation": "relu"}, "on integers has no activation"),
    ],
)
def test_svdf_refuses(types, attrs, message):
    with pytest.raises(IRError, match=message):
        called("tflite_svdf", types, **attrs)


def test_float_svdf_names_the_nearest_activation():
    types = [t("f32", K), t("f32", 5, 4), t("f32", 4, K), t("f32", 4, 5), t("f32", 2)]
    with pytest.raises(IRError, match="no activation 'relu5'. Did you mean 'relu"):
        called("tflite_svdf", types, rank=2, activation="relu5")


def test_integers_of_two_scales_are_not_added():
    with pytest.raises(IRError, match="adds integers of one scale"):
        infer("tfl_add_saturating", [t("i16", 2), t("i16", 2, scale=0.02)], {})


def test_sums_over_time_beyond_32_bits_are_an_error():
    """The kernel's int32 would overflow, which C++ doesn't define."""
    types = [t("i16", 3, 1), t("i16", 1, 3), t("i32", 1)]
    most = [np.full((1, *type_.shape), 32767, type_.numpy) for type_ in types[:2]]
    with pytest.raises(NumericsError, match="3221028867"):
        OPS["tfl_svdf_time"].eval([*most, np.zeros((1, 1), np.int32)], {}, t("i8", 1), types)


# -- which LSTMs are fused ---------------------------------------------------------------------------------------------


def one_lstm(change=None, **attrs) -> Program:
    """A network of one LSTM; ``change(builder, x, h, c, results)`` may give h, c and another output."""
    b = Builder()
    x, h, c = b.input("x", (K,)), b.state("h", (N,)), b.state("c", (N,))
    weights = [b.param(n, np.ones(s, np.float32)) for n, s in (("W", (4 * N, K)), ("U", (4 * N, N)), ("b", (4 * N,)))]
    new_h, new_c = b.call("lstm", x, h, c, *weights, **attrs)
    b.next(h, new_h)
    b.next(c, new_c)
    b.output("y", new_h)
    if change is not None:
        change(b, x, h, c)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    return Program("net", {"x": ProgramInput(TensorType((K,)))}, (stage,), {"y": Ref("y", "main")})


def test_a_plain_lstm_is_fused_with_a_param_for_each_gate():
    fused = FuseLSTM()(one_lstm()).stages[0].graph
    assert [v.op for v in fused.values] == ["tflite_lstm", "get", "get"]
    assert {p.type.shape for n, p in fused.params.items() if ".W_" in n} == {(N, K)}
    assert len(fused.params) == 12


def begun(program: Program) -> Program:
    """The same with a first h that isn't 0."""
    (stage,) = program.stages
    graph = replace(
        stage.graph,
        params={**stage.graph.params, "start": Param.of(np.ones(N, np.float32))},
        states=tuple(replace(s, init="start") if s.name == "h" else s for s in stage.graph.states),
    )
    return replace(program, stages=(replace(stage, graph=graph),))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (one_lstm(lambda b, x, h, c: b.output("old", h)), "%lstm isn't the only reader of %h"),
        (one_lstm(lambda b, x, h, c: b.output("more", c + 1.0)), "%lstm isn't the only reader of %c"),
        (one_lstm(lambda b, x, h, c: b.next(h, h * 0.5)), "%lstm has in %h no state of its own"),
        (begun(one_lstm()), "%lstm begins with a %h other than 0"),
        (one_lstm(activations=["sigmoid", "tanh", "relu"]), "%lstm has the activations sigmoid, tanh, relu"),
    ],
)
def test_what_isnt_plain_is_named(program, reason):
    with pytest.raises(UsageError, match=f"no LSTM that it can run: net/main: {reason}"):
        FuseLSTM()(program)


def test_an_lstm_whose_c_is_given_out_is_fused():
    """The new c is read after the operator; only the old one belongs to it alone."""
    program = one_lstm()
    (stage,) = program.stages
    graph = replace(stage.graph, outputs={**stage.graph.outputs, "c": "lstm_c"})
    fused = FuseLSTM()(replace(program, stages=(replace(stage, graph=graph),)))
    assert fused.stages[0].graph.values[0].op == "tflite_lstm"
