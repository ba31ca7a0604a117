"""Damaged models: whatever the bytes, the importers end with an error of our own, or with a program."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neurodeploy.errors import NeurodeployError
from neurodeploy.importers.numpy import load_numpy
from neurodeploy.importers.onnx import load_onnx
from tests.differential.onnx_models import make_model, recurrent


def _classifier() -> bytes:
    """A GRU with the shape arithmetic that exporters write around it, and a head."""
    node = onnx.helper.make_node
    layer = recurrent("GRU", outputs=("Y",))
    nodes = [
        node("Shape", ["X"], ["s"]),
        node("Gather", ["s", "one"], ["b"]),
        node("Unsqueeze", ["b", "zero"], ["b1"]),
        node("Concat", ["one1", "b1", "four"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["start"]),
        node("GRU", ["X", "W", "R", "B", "", "start"], ["Y"], hidden_size=4, linear_before_reset=1),
        node("Squeeze", ["Y", "one1"], ["y"]),
        node("Slice", ["y", "last", "end", "zero"], ["cut"]),
        node("Squeeze", ["cut", "zero"], ["step"]),
        node("Gemm", ["step", "V"], ["out"], transB=1),
    ]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in layer.graph.initializer}
    numbers = {"one": 1, "one1": [1], "zero": [0], "four": [4], "last": [-1], "end": [2**40]}
    weights |= {name: np.array(value, np.int64) for name, value in numbers.items()}
    weights["V"] = np.ones((2, 4), np.float32)
    model = make_model(nodes, {"X": ("f", ["time", "batch", 3])}, {"out": ("f", ["batch", 2])}, weights)
    return model.SerializeToString()


MODELS = {
    "gru": _classifier(),
    "lstm": recurrent("LSTM", direction="bidirectional", peepholes=True, lengths=True).SerializeToString(),
}


def attempt(load, data):
    try:
        load(data)
    except NeurodeployError as error:
        assert "\n" not in str(error)


def test_the_models_are_fine_undamaged():
    for raw in MODELS.values():
        assert load_onnx(raw, check=False).stages


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=150)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
@example(edits=[(0.0, 0)], cut=0.5)
def test_mutated_bytes(name, edits, cut):
    data = bytearray(MODELS[name])
    for place, byte in edits:
        data[int(place * (len(data) - 1))] = byte
    attempt(lambda raw: load_onnx(raw, check=False), bytes(data if cut is None else data[: int(cut * len(data))]))


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_random_bytes(data):
    attempt(lambda raw: load_onnx(raw, check=False), data)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=100)
@given(
    node=st.integers(0, 9),
    change=st.sampled_from(["op", "input", "attribute", "drop", "output"]),
    op=st.sampled_from(["Reshape", "Gather", "Slice", "Concat", "Conv", "LSTM", "MatMul", "Softmax", "Expand", "Tile"]),
    number=st.integers(-(2**40), 2**40),
)
def test_mutated_graph(name, node, change, op, number):
    """Valid protobuf, wrong graph: other ops, swapped inputs, wild attributes."""
    model = onnx.ModelProto.FromString(MODELS[name])
    target = model.graph.node[node % len(model.graph.node)]
    if change == "op":
        target.op_type = op
    elif change == "input" and target.input:
        target.input[number % len(target.input)] = model.graph.initializer[number % len(model.graph.initializer)].name
    elif change == "attribute" and target.attribute:
        target.attribute[number % len(target.attribute)].i = number
    elif change == "drop":
        model.graph.node.remove(target)
    elif target.output:
        target.output[0] = "elsewhere"
    attempt(lambda m: load_onnx(m, check=False), model)


@settings(max_examples=60)
@given(values=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=4), which=st.integers(0, 20))
def test_wild_shape_constants(values, which):
    """The whole numbers that reshapes, slices and fills read can be anything; nothing huge is allocated."""
    model = onnx.ModelProto.FromString(MODELS["gru"])
    whole = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT64]
    target = whole[which % len(whole)]
    target.CopyFrom(onnx.numpy_helper.from_array(np.array(values, np.int64), target.name))
    attempt(lambda m: load_onnx(m, check=False), model)


@settings(max_examples=60)
@given(place=st.floats(0, 1), byte=st.integers(0, 255))
def test_mutated_npz(tmp_path_factory, place, byte):
    buffer = io.BytesIO()
    eye = np.eye(3, dtype=np.float32)
    np.savez(buffer, W_in=eye, W=eye, bias=eye[0], leak=np.float32(0.5), W_out=eye, b_out=eye[0])
    data = bytearray(buffer.getvalue())
    data[int(place * (len(data) - 1))] = byte
    path = tmp_path_factory.mktemp("npz") / "m.npz"
    path.write_bytes(bytes(data))
    attempt(lambda p: load_numpy(p, check=False), path)
