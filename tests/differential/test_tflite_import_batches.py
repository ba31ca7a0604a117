"""Batches: convolutions and pools of several samples have the wheel's bits, sample by sample, in the model and in C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurodeploy.backends.tflite.write import Subgraph
from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.tflite_step import MOST_SAMPLES
from neurodeploy.ir.types import Quant
from tests.differential.test_tflite_import import assert_as_tflm, loaded, written
from tests.differential.test_tflite_import_recurrent import assert_in_c

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

CONV: dict[str, Any] = {"padding": 0, "strideH": 2, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 2}
POOL: dict[str, Any] = {"padding": 0, "strideH": 2, "strideW": 1, "filterHeight": 3, "filterWidth": 2}
#: Operator -> shape of the weights, a sample's result, table and options.
OPS: dict[str, Any] = {
    "CONV_2D": ((4, 3, 2, 3), (3, 4, 4), "Conv2DOptions", CONV),
    "DEPTHWISE_CONV_2D": ((1, 3, 2, 6), (3, 4, 6), "DepthwiseConv2DOptions", CONV | {"depthMultiplier": 2}),
    "TRANSPOSE_CONV": ((4, 3, 3, 3), (10, 8, 4), "TransposeConvOptions", {"padding": 0, "strideH": 2, "strideW": 2}),
    "AVERAGE_POOL_2D": (None, (3, 4, 3), "Pool2DOptions", POOL),
    "MAX_POOL_2D": (None, (3, 4, 3), "Pool2DOptions", POOL),
}


def batched(code: str, dtype: str, count: int) -> bytes:
    """One operator on ``count`` samples of 5 x 4 places and 3 channels."""
    weights, result, table, options = OPS[code]

    def build(s: Subgraph) -> None:
        rng, floats = np.random.default_rng(3), dtype == "f32"
        top = {"i8": 127, "i16": 32767}.get(dtype, 1)
        scale = None if floats else Quant(3 / top, -9 if dtype == "i8" else 0)
        x = s.tensor("x", (count, 5, 4, 3), dtype, scale)
        y = s.tensor("y", (count, *result), dtype, scale)
        s.inputs, s.outputs = [x], [y]
        takes = [x]
        if weights is not None:
            axis = 3 if code == "DEPTHWISE_CONV_2D" else 0
            channels = weights[axis]
            quant = None if floats else Quant(tuple(rng.uniform(0.002, 0.01, channels).astype("f4").tolist()), 0, axis)
            real = rng.integers(-127, 128, weights)
            w = s.tensor("w", weights, "f32" if floats else "i8", quant, (real / 100).astype("f4") if floats else
                         real.astype(np.int8))  # fmt: skip
            kind = {"f32": "f32", "i8": "i32", "i16": "i64"}[dtype]
            bias = rng.integers(-900, 900, channels)
            data = (bias / 900).astype("f4") if floats else bias.astype({"i32": np.int32, "i64": np.int64}[kind])
            b = s.tensor("b", (channels,), kind, data=data)
            size = s.tensor("size", (4,), "i32", data=np.array((count, *result), np.int32))
            takes = [size, w, x, b] if code == "TRANSPOSE_CONV" else [x, w, b]
        s.op(code, takes, [y], table, **options)

    return written(build)


@pytest.mark.parametrize("dtype", ["f32", "i8", "i16"])
@pytest.mark.parametrize("code", OPS)
def test_samples_of_a_batch(tmp_path, code, dtype):
    for count in (2, 4):
        program = assert_as_tflm(tmp_path, batched(code, dtype, count), steps=4, close=2e-6 if dtype == "f32" else 0.0)
        assert next(iter(program.inputs.values())).type.shape == (count, 5, 4, 3)
    if code in ("CONV_2D", "MAX_POOL_2D"):
        assert_in_c(program, steps=4)


def test_batches_have_a_limit(tmp_path):
    with pytest.raises(UnsupportedError, match=rf"a batch of {MOST_SAMPLES + 1}; 1 to {MOST_SAMPLES}"):
        loaded(tmp_path, batched("MAX_POOL_2D", "i8", MOST_SAMPLES + 1))
