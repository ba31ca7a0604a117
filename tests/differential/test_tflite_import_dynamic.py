"""Weights in integers between activations in floats: their real values, checked as the same file with weights in floats,
and near what LiteRT gives, which rounds activations to 8 bits besides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neurodeploy.backends.tflite.write import Subgraph
from neurodeploy.errors import NeurodeployError, UnsupportedError
from neurodeploy.importers import load
from neurodeploy.ir.interpret import run
from neurodeploy.ir.types import Quant
from tests.differential.test_tflite_import import loaded, written
from tests.differential.test_tflite_import_integers import Op, Tensor, i8, i16
from tests.differential.test_tflite_import_recurrent import B, C, H, U, W, variable

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

#: Makes a weight: integers with one scale, or one per entry of an axis.
Hold = Callable[[Subgraph, str, np.ndarray, int | None], int]


def rounded(real: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Integers and their scales."""
    others = None if axis is None else tuple(a for a in range(real.ndim) if a != axis)
    scale = np.asarray(np.abs(real).max(axis=others, keepdims=axis is not None) / 127, np.float32)
    return np.rint(real / scale).astype(np.int8), scale


def integers(s: Subgraph, name: str, real: np.ndarray, axis: int | None) -> int:
    data, scale = rounded(real, axis)
    quant = Quant(float(scale)) if axis is None else Quant(tuple(map(float, scale.reshape(-1))), 0, axis)
    return s.tensor(name, real.shape, "i8", quant, data)


def reals(s: Subgraph, name: str, real: np.ndarray, axis: int | None) -> int:
    """What :func:`integers` stands for."""
    data, scale = rounded(real, axis)
    return s.tensor(name, real.shape, "f32", data=data * scale)


def floats(s: Subgraph, name: str, *shape: int) -> int:
    return s.tensor(name, shape, "f32", data=np.random.default_rng(len(s.tensors)).normal(0, 0.3, shape).astype("f4"))


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)


def convolving(s: Subgraph, hold: Hold) -> None:
    x, h, g, y = (s.tensor(n, shape, "f32") for n, shape in zip(
        "xhgy", ((1, 6, 5, 3), (1, 6, 5, 4), (1, 6, 5, 8), (1, 3)), strict=True))  # fmt: skip
    s.inputs, s.outputs = [x], [y]
    s.op("CONV_2D", [x, hold(s, "K", drawn(4, 3, 3, 3), 0), floats(s, "b", 4)], [h], "Conv2DOptions",
         strideH=1, strideW=1, fusedActivationFunction=1)  # fmt: skip
    s.op("DEPTHWISE_CONV_2D", [h, hold(s, "D", drawn(1, 3, 3, 8), 3), floats(s, "c", 8)], [g],
         "DepthwiseConv2DOptions", strideH=1, strideW=1, depthMultiplier=2)  # fmt: skip
    s.op("FULLY_CONNECTED", [g, hold(s, "V", drawn(3, 240), None), floats(s, "d", 3)], [y], "FullyConnectedOptions")


def recurring(s: Subgraph, hold: Hold) -> None:
    n, k = 6, 5
    x, y, z = s.tensor("x", (1, 2, k), "f32"), s.tensor("y", (1, 2, n), "f32"), s.tensor("z", (2, 4), "f32")
    s.inputs, s.outputs = [x], [z]
    inputs = [-1] * 24
    inputs[0] = x
    for w, u, b, gate in zip(W, U, B, "ifgo", strict=True):
        inputs[w] = hold(s, f"W{gate}", drawn(n, k, seed=w), None)
        inputs[u] = hold(s, f"U{gate}", drawn(n, n, seed=u), None)
        inputs[b] = floats(s, f"b{gate}", n)
    inputs[H], inputs[C] = variable(s, "h", (1, n), "f32", None), variable(s, "c", (1, n), "f32", None)
    s.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], "UnidirectionalSequenceLSTMOptions",
         fusedActivationFunction=s.model.fb.ActivationFunctionType.TANH)  # fmt: skip
    s.op("FULLY_CONNECTED", [y, hold(s, "V", drawn(4, n), 0), -1], [z], "FullyConnectedOptions")


def remembering(s: Subgraph, hold: Hold) -> None:
    x, y = s.tensor("x", (1, 5), "f32"), s.tensor("y", (1, 4), "f32")
    s.inputs, s.outputs = [x], [y]
    line = variable(s, "line", (1, 8 * 3), "f32", None)
    s.op("SVDF", [x, hold(s, "F", drawn(8, 5), None), hold(s, "T", drawn(8, 3), None), floats(s, "b", 4), line], [y],
         "SVDFOptions", rank=2)  # fmt: skip


NETS = {"convolutions": convolving, "an LSTM": recurring, "SVDF": remembering}


@pytest.mark.parametrize("name", NETS)
def test_weights_in_integers(tmp_path, name):
    path = tmp_path / "m.tflite"
    data = written(lambda s: NETS[name](s, integers))
    path.write_bytes(data)
    program = load(path)
    assert program.numerics == "float" and program.meta["import_check"]["against"] == "TFLite Micro"
    same = loaded(tmp_path, written(lambda s: NETS[name](s, reals)))
    x = np.random.default_rng(1).normal(size=(1, 12, *next(iter(program.inputs.values())).type.shape)).astype("f4")
    (found,), (wanted,) = (run(p, {"x": x}).outputs.values() for p in (program, same))
    np.testing.assert_array_equal(found, wanted)
    assert len(program.meta["dynamic_range"]) == {"convolutions": 3, "an LSTM": 9, "SVDF": 2}[name]
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra 'tflite' is not installed")
    engine = interpreter.Interpreter(model_content=data)
    engine.allocate_tensors()
    start, end = engine.get_input_details()[0], engine.get_output_details()[0]
    for k in range(12):
        engine.set_tensor(start["index"], x[0, k].reshape(start["shape"]))
        engine.invoke()
        rounded = engine.get_tensor(end["index"])
        np.testing.assert_allclose(found[0, k].reshape(rounded.shape), rounded, atol=0.03 * np.abs(wanted).max())


def test_weights_that_share_their_data_are_not_checked(tmp_path):
    def build(s: Subgraph) -> None:
        convolving(s, integers)
        twin = s.tensor("twin", (3, 240), "i8", Quant(0.5))
        s.tensors[twin].buffer = s.tensors[[t.name for t in s.tensors].index("V")].buffer

    path = tmp_path / "m.tflite"
    path.write_bytes(written(build))
    assert "share their data" in load(path).meta["import_check"]["why"]


def test_other_mixtures_are_refused(tmp_path):
    """An integer input and a float result; activations in integers on weights in floats."""

    def into_float(s: Subgraph) -> None:
        x, y = s.tensor("x", (1, 4), "i8", Quant(0.1)), s.tensor("y", (1, 2), "f32")
        s.inputs, s.outputs = [x], [y]
        s.op("FULLY_CONNECTED", [x, integers(s, "w", drawn(2, 4), None)], [y], "FullyConnectedOptions")

    def on_floats(s: Subgraph) -> None:
        x, y = (s.tensor(n, shape, "i8", Quant(0.1)) for n, shape in (("x", (1, 4)), ("y", (1, 2))))
        s.inputs, s.outputs = [x], [y]
        s.op("FULLY_CONNECTED", [x, floats(s, "w", 2, 4)], [y], "FullyConnectedOptions")

    for build in (into_float, on_floats):
        with pytest.raises(
            NeurodeployError, match=r"operator 0 \(FULLY_CONNECTED\): computes with FLOAT32 .*full integ"
        ):
            loaded(tmp_path, written(build))


def test_products_of_different_integers_are_refused(tmp_path):
    """LiteRT multiplies int16 by int8, TFLite Micro only like by like."""
    x, weights = i16(1, 3, 4), i8(4, 5, fixed=True, zero=0)
    with pytest.raises(UnsupportedError, match="multiplies INT16 by INT8; needed both int8 or both int16"):
        loaded(tmp_path, written(Op("BATCH_MATMUL", (x, weights), (i16(1, 3, 5),), "BatchMatMulOptions")))
    scaled = Tensor((4, 5), "i8", (0.1, 0.2, 0.3, 0.4, 0.5), fixed=True, axis=1)
    with pytest.raises(UnsupportedError, match="a scale for each channel; needed one scale for each"):
        loaded(tmp_path, written(Op("BATCH_MATMUL", (i8(1, 3, 4), scaled), (i8(1, 3, 5),), "BatchMatMulOptions")))
