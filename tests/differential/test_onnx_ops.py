"""The ops around recurrent layers, each against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.onnx import load_onnx
from tests.differential.onnx_models import make_model

pytest.importorskip("onnxruntime", reason="the oracle of these tests is onnxruntime")

RNG = np.random.default_rng(0)
SERIES = ["batch", "time", 4]


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def node(op, inputs="x", output="y", name=None, **attrs):
    outputs = output.split()
    return helper.make_node(op, inputs.split(), outputs, name=name or f"{op.lower()}_{outputs[0]}", **attrs)


def agree(nodes, weights=None, out=None, shape=SERIES, kind="f", out_kind="f", opset=17, stages=None, **options):
    """Import a model of ``x`` to ``y``, which compares it with onnxruntime."""
    nodes = nodes if isinstance(nodes, list) else [nodes]
    model = make_model(nodes, {"x": (kind, shape)}, {"y": (out_kind, out or shape)}, weights, opset)
    program = load_onnx(model, name="m", **options)
    check = program.meta["import_check"]
    assert check["against"].startswith("onnxruntime"), check
    assert check["max_abs_difference"] <= 1e-5, check
    if stages is not None:
        assert [s.name for s in program.stages] == stages
    return program


SAFE = [node("Abs", output="a"), node("Add", "a one", "p")]  # at least 1: for roots, logarithms and quotients
ELEMENTWISE = {
    "Neg": {}, "Abs": {}, "Exp": {}, "Tanh": {}, "Sigmoid": {}, "Relu": {}, "Softplus": {}, "Softsign": {},
    "Floor": {}, "Ceil": {}, "Round": {}, "Sign": {}, "Elu": {"alpha": 0.7}, "LeakyRelu": {"alpha": 0.2},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "ThresholdedRelu": {"alpha": 0.5}, "Selu": {},
    "Celu": {"alpha": 0.8}, "HardSwish": {}, "Identity": {}, "Softmax": {"axis": -1}, "LogSoftmax": {"axis": 2},
}  # fmt: skip


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise(op):
    agree(node(op, **ELEMENTWISE[op]))


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Reciprocal"])
def test_elementwise_of_positive_numbers(op):
    agree([*SAFE, node(op, "p")], {"one": np.float32(1)})


@pytest.mark.parametrize("op", ["LeakyRelu", "Elu", "HardSigmoid", "ThresholdedRelu", "Celu"])
def test_default_numbers_of_an_activation(op):
    agree(node(op))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"])
@pytest.mark.parametrize("shape", [(4,), (1,), (1, 1, 4), ()])
def test_binary_with_a_constant(op, shape):
    if op == "PRelu" and shape == ():
        shape = (1,)
    agree(node(op, "x c"), {"c": np.abs(normal(*shape)) + np.float32(0.5)})


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_binary_with_the_constant_first(op):
    agree([*SAFE, node(op, "c p")], {"c": normal(4), "one": np.float32(1)})


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -1.0, -0.5, 1.0])
def test_power(exponent):
    agree([*SAFE, node("Pow", "p e")], {"one": np.float32(1), "e": np.float32(exponent)})


def test_gelu_by_its_tanh_approximation():
    agree(node("Gelu", approximate="tanh"), opset=20)


def test_mish():
    agree(node("Mish"), opset=18)


@pytest.mark.parametrize("bounds", [("lo", "hi"), ("", "hi"), ("lo", "")])
def test_clip(bounds):
    clip = helper.make_node("Clip", ["x", *bounds], ["y"])
    agree(clip, {"lo": np.float32(-0.3), "hi": np.float32(0.4)})


@pytest.mark.parametrize("op", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_comparison(op):
    agree([node(op, "x c", "m"), node("Where", "m x c")], {"c": normal(4)})


def test_logic():
    nodes = [node("Less", "x a", "p"), node("Greater", "x b", "q"), node("And", "p q", "r"), node("Or", "p q", "s")]
    nodes += [node("Not", "r", "t"), node("Xor", "s t", "u"), node("Cast", "u", "y", to=1)]
    agree(nodes, {"a": np.float32(0.5), "b": np.float32(-0.5)})


def test_variadic():
    agree([node("Sum", "x c x", "s"), node("Mean", "s x c")], {"c": normal(4)})


# -- products ----------------------------------------------------------------------------------------------------------


def test_matmul_with_bias_is_one_affine():
    program = agree(
        [node("MatMul", "x W", "p"), node("Add", "p b")], {"W": normal(4, 3), "b": normal(3)}, ["batch", "time", 3]
    )
    assert [v.op for v in program.stages[0].graph.values] == ["affine"]


@pytest.mark.parametrize("attrs", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}])
def test_gemm_after_the_last_step(attrs):
    W = normal(3, 4) if attrs.get("transB") else normal(4, 3)
    nodes = [node("Gather", "x last", "l", axis=1), node("Gemm", "l W b", **attrs)]
    agree(nodes, {"W": W, "b": normal(3), "last": ints(-1)[0]}, ["batch", 3], stages=["forward"])


def test_dense_around_merged_batch_and_time():
    """Keras' TimeDistributed: [batch * time, features] through a Gemm and back."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s i0", "b"), node("Gather", "s i1", "t"),
        node("Reshape", "x flat", "f"), node("Gemm", "f W b0", "g"), node("Unsqueeze", "b zero", "b1"),
        node("Unsqueeze", "t zero", "t1"), node("Concat", "b1 t1 three", "back", axis=0), node("Reshape", "g back"),
    ]  # fmt: skip
    weights = {"i0": ints(0)[0], "i1": ints(1)[0], "flat": ints(-1, 4), "W": normal(4, 3), "b0": normal(3)}
    agree(nodes, {**weights, "zero": ints(0), "three": ints(3)}, ["batch", "time", 3], stages=["forward"])


# -- along axes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize(("axis", "keep"), [(1, 0), (1, 1), (2, 1), (-1, 0)])
def test_reduction_over_time_or_features(op, axis, keep):
    out = (
        [d for i, d in enumerate(SERIES) if i != axis % 3]
        if not keep
        else [1 if i == axis % 3 else d for i, d in enumerate(SERIES)]
    )
    given: dict[str, Any] = {"axes": [axis]}
    weights, inputs = {}, "x"
    if op == "ReduceSum":
        given, weights, inputs = {}, {"axes": ints(axis)}, "x axes"
    agree(node(op, inputs, keepdims=keep, **given), weights, out, stages=["forward"])


def test_reduction_over_time_and_features_at_once():
    agree(node("ReduceMean", axes=[1, 2], keepdims=0), None, ["batch"])


def test_mean_removed_needs_a_second_stage():
    nodes = [node("ReduceMean", "x", "m", axes=[1], keepdims=1), node("Sub", "x m")]
    agree(nodes, stages=["forward", "forward_2"])


def test_argmax_over_features():
    agree(node("ArgMax", axis=2, keepdims=0), None, ["batch", "time"], out_kind="i")


def test_layer_normalization():
    weights = {"g": normal(4), "b": normal(4)}
    agree(node("LayerNormalization", "x g b", axis=-1, epsilon=1e-3), weights)


def test_batch_normalization_over_channels():
    weights = {"s": normal(4), "b": normal(4), "m": normal(4), "v": np.abs(normal(4)) + np.float32(0.1)}
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 1]), node("BatchNormalization", "t s b m v", "n")]
    agree([*nodes, node("Transpose", "n", "y", perm=[0, 2, 1])], weights)


# -- shape -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "index"), [(1, -1), (1, 0), (2, 2)])
def test_one_index(axis, index):
    out = [d for i, d in enumerate(SERIES) if i != axis]
    agree(node("Gather", "x i", axis=axis), {"i": ints(index)[0]}, out, stages=["forward"])


def test_several_features_in_another_order():
    agree(node("Gather", "x i", axis=2), {"i": ints(3, 0, 0, 2)})


def test_last_step_through_shape_arithmetic():
    nodes = [
        node("Shape", "x", "s"), node("Gather", "s one", "t"), node("Sub", "t one", "last"),
        node("Gather", "x last", "y", axis=1),
    ]  # fmt: skip
    agree(nodes, {"one": ints(1)[0]}, ["batch", 4], stages=["forward"])


@pytest.mark.parametrize(("starts", "ends"), [((-1,), (2**31,)), ((0,), (1,))])
def test_slice_of_one_step(starts, ends):
    weights = {"a": ints(*starts), "b": ints(*ends), "ax": ints(1)}
    agree(node("Slice", "x a b ax"), weights, ["batch", 1, 4])


@pytest.mark.parametrize(("start", "stop", "step"), [(1, 3, 1), (0, 4, 2), (-1, -9, -1)])
def test_slice_of_features(start, stop, step):
    weights = {"a": ints(start), "b": ints(stop), "ax": ints(2), "st": ints(step)}
    agree(node("Slice", "x a b ax st"), weights, ["batch", "time", len(range(4)[start:stop:step])])


def test_split_and_concat():
    nodes = [node("Split", "x n", "a b", axis=2), node("Tanh", "a", "c"), node("Concat", "b c a", axis=2)]
    agree(nodes, {"n": ints(1, 3)}, ["batch", "time", 5])


def test_features_folded_and_flattened():
    nodes = [
        node("Reshape", "x two", "r"), node("Transpose", "r", "t", perm=[0, 1, 3, 2]), node("Reshape", "t four"),
    ]  # fmt: skip
    agree(nodes, {"two": ints(0, 0, 2, 2), "four": ints(0, 0, 4)})


def test_squeeze_and_unsqueeze():
    nodes = [node("Unsqueeze", "x at", "u"), node("Sigmoid", "u", "v"), node("Squeeze", "v at")]
    agree(nodes, {"at": ints(2)})


def test_static_repeated_over_time():
    """RepeatVector: the last step, repeated as often as there are steps, joined to the input."""
    nodes = [
        node("Shape", "x", "s"), node("Gather", "x last", "l", axis=1), node("Unsqueeze", "l one", "u"),
        node("Expand", "u s", "r"), node("Concat", "x r", axis=2),
    ]  # fmt: skip
    agree(nodes, {"last": ints(-1)[0], "one": ints(1)}, ["batch", "time", 8], stages=["forward", "forward_2"])


def test_zeros_of_a_shape_that_is_not_known():
    nodes = [node("Shape", "x", "s"), node("ConstantOfShape", "s", "z", value=numpy_helper.from_array(normal(1)))]
    agree([*nodes, node("Add", "x z")])


def test_embedding():
    table = normal(7, 3)
    agree(node("Gather", "E x"), {"E": table}, ["batch", "time", 3], ["batch", "time"], "i", stages=["forward"])


def test_dropout_and_cast():
    nodes = [node("Dropout", "x", "d"), node("Cast", "d", "e", to=11), node("Cast", "e", "y", to=1)]
    agree(nodes)


# -- convolutions ------------------------------------------------------------------------------------------------------

TO_CHANNELS, FROM_CHANNELS = {"perm": [0, 2, 1]}, {"perm": [0, 2, 1]}


@pytest.mark.parametrize(("taps", "dilation", "groups"), [(3, 1, 1), (3, 2, 1), (1, 1, 1), (4, 1, 4), (3, 2, 2)])
@pytest.mark.parametrize("how", ["attribute", "Pad"])
def test_causal_convolution(taps, dilation, groups, how):
    reach = (taps - 1) * dilation
    given = {"dilations": [dilation], "group": groups}
    nodes, source = [node("Transpose", "x", "t", **TO_CHANNELS)], "t"
    if how == "Pad":
        nodes, source = [*nodes, node("Pad", "t pads", "p")], "p"
    else:
        given["pads"] = [reach, 0]
    nodes += [node("Conv", f"{source} W b", "c", **given), node("Transpose", "c", "y", **FROM_CHANNELS)]
    weights = {"W": normal(8, 4 // groups, taps), "b": normal(8), "pads": ints(0, 0, reach, 0, 0, 0)}
    agree(nodes, weights, ["batch", "time", 8], stages=["forward"])


def test_convolution_padded_on_both_sides_and_cut():
    """The temporal convolutional network's way: pad both sides, cut what looks ahead."""
    nodes = [
        node("Transpose", "x", "t", **TO_CHANNELS), node("Conv", "t W b", "c", pads=[2, 2]),
        node("Slice", "c a e ax", "d"), node("Relu", "d", "r"), node("Transpose", "r", "y", **FROM_CHANNELS),
    ]  # fmt: skip
    weights = {"W": normal(5, 4, 3), "b": normal(5), "a": ints(0), "e": ints(-2), "ax": ints(2)}
    agree(nodes, weights, ["batch", "time", 5], stages=["forward"])


def test_convolution_that_looks_ahead_is_refused():
    nodes = [
        node("Transpose", "x", "t", **TO_CHANNELS), node("Conv", "t W", "c", pads=[1, 1], name="conv"),
        node("Transpose", "c", "y", **FROM_CHANNELS),
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match="Make the convolution causal"):
        agree(nodes, {"W": normal(4, 4, 3)})


def test_mean_over_a_valid_convolution_is_refused():
    nodes = [node("Transpose", "x", "t", **TO_CHANNELS), node("Conv", "t W", "c"), node("ReduceMean", "c", axes=[2])]
    with pytest.raises(UnsupportedError, match=r"node 'reducemean_y' \(ReduceMean\): the time axis is cut or padded"):
        agree(nodes, {"W": normal(4, 4, 3)}, ["batch", 4, 1])


def test_axes_that_cannot_be_told_can_be_given():
    """An elementwise model doesn't say which axis is time: the first guess is batch-major."""
    nodes = [node("Tanh", "x", "y")]
    shape = ["p", "q", 4]
    assert agree(nodes, shape=shape).meta["axes"]["x"] == ["batch", "time", "feature"]
    program = agree(nodes, shape=shape, axes={"x": ["time", "batch", "feature"]})
    assert program.meta["axes"]["x"] == ["time", "batch", "feature"]
    names = ["seq", "batch", 4]
    assert agree(nodes, shape=names).meta["axes"]["x"] == ["time", "batch", "feature"]
