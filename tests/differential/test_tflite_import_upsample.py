"""TRANSPOSE_CONV, read as a convolution of more channels: TFLite Micro's bits, and our C's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurodeploy.backends.tflite.write import Subgraph
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.types import Quant
from tests.differential.test_tflite_import import assert_as_tflm, loaded, written
from tests.differential.test_tflite_import_recurrent import assert_in_c

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

#: x, weights, result, strides, padding (0 is SAME).
SHAPES = {
    "a series, taps twice the stride": ((1, 1, 5, 3), (4, 1, 4, 3), (1, 1, 12, 4), (1, 2), 1),
    "a series, same": ((1, 1, 5, 3), (4, 1, 4, 3), (1, 1, 10, 4), (1, 2), 0),
    "a column": ((1, 5, 1, 3), (2, 3, 1, 3), (1, 15, 1, 2), (3, 1), 0),
    "an image, same": ((1, 4, 3, 2), (3, 3, 3, 2), (1, 8, 6, 3), (2, 2), 0),
    "an image, valid": ((1, 3, 4, 2), (3, 4, 3, 2), (1, 8, 9, 3), (2, 2), 1),
    "strides beyond the taps": ((1, 3, 3, 2), (2, 2, 1, 2), (1, 9, 7, 2), (3, 3), 0),
    "strides of one": ((1, 4, 5, 2), (3, 3, 2, 2), (1, 6, 6, 3), (1, 1), 1),
    "a result cut short": ((1, 4, 4, 2), (3, 3, 3, 2), (1, 5, 3, 3), (2, 2), 0),
    "a result beyond the inputs": ((1, 2, 2, 2), (3, 2, 2, 2), (1, 9, 8, 3), (2, 2), 0),
}


def upsampled(dtype: str, name: str, *, biased=True, act=0, wide="i64") -> bytes:
    shape, weights, result, (rows, columns), padding = SHAPES[name]

    def build(s: Subgraph) -> None:
        rng, floats = np.random.default_rng(7), dtype == "f32"
        top = {"i8": 127, "i16": 32767}.get(dtype, 1)
        scales = tuple(np.float32(rng.uniform(0.002, 0.01, weights[0])).astype(float).tolist())
        quant = None if floats else Quant(3 / top, -9 if dtype == "i8" else 0)
        real = rng.integers(-127, 128, weights)
        data = (real / 100).astype("f4") if floats else real.astype(np.int8)
        size = s.tensor("size", (4,), "i32", data=np.array(result, np.int32))
        w = s.tensor("w", weights, "f32" if floats else "i8", None if floats else Quant(scales, 0, 0), data)
        x = s.tensor("x", shape, dtype, quant)
        y = s.tensor("y", result, dtype, None if floats else Quant(4 / top, 5 if dtype == "i8" else 0))
        kind = "f32" if floats else "i32" if dtype == "i8" else wide
        bias = rng.integers(-9000, 9000, weights[0])
        made = (bias / 9000).astype("f4") if floats else bias.astype({"i32": np.int32, "i64": np.int64}[kind])
        s.inputs, s.outputs = [x], [y]
        s.op("TRANSPOSE_CONV", [size, w, x, *([s.tensor("b", bias.shape, kind, data=made)] if biased else [])], [y],
             "TransposeConvOptions", strideH=rows, strideW=columns, padding=padding,
             fusedActivationFunction=act)  # fmt: skip

    return written(build)


@pytest.mark.parametrize("dtype", ["f32", "i8", "i16"])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(tmp_path, name, dtype):
    program = assert_as_tflm(tmp_path, upsampled(dtype, name), steps=4, close=2e-6 if dtype == "f32" else 0.0)
    if name in ("an image, same", "a series, same"):
        assert_in_c(program, steps=4)


@pytest.mark.parametrize("dtype", ["f32", "i8", "i16"])
def test_without_a_bias_and_with_an_activation(tmp_path, dtype):
    more: dict[str, Any]
    for more in ({"biased": False}, {"act": 1}):
        assert_as_tflm(tmp_path, upsampled(dtype, "a series, same", **more), steps=4, close=2e-6 * (dtype == "f32"))


def test_a_stride_that_makes_too_much_of_little(tmp_path, monkeypatch):
    monkeypatch.setitem(SHAPES, "far", ((1, 2, 2, 2), (3, 2, 2, 2), (1, 9, 8, 3), (60000, 60000), 0))
    with pytest.raises(UnsupportedError, match="too far apart"):
        loaded(tmp_path, upsampled("f32", "far"))
