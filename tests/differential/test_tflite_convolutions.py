"""Convolutions and pools: the dialect's ops equal TFLite Micro's kernels on every bit, over random windows."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.ir.types import Quant, TensorType
from tests.differential.test_tflite_kernels import assert_kernel, quant, tensor

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

DTYPES = {"i8": np.int8, "i16": np.int16}


def window(rng, size, *, dilated=True):
    """A random window that fits in ``size``, and its attributes."""
    taps = [int(rng.integers(1, n + 1)) for n in size]
    attrs = {
        "stride": [int(v) for v in rng.integers(1, 4, 2)],
        "padding": str(rng.choice(["same", "valid"])),
    }
    if dilated:
        attrs["dilation"] = [int(rng.integers(1, (n - 1) // max(t - 1, 1) + 1)) if t > 1 else 1
                             for n, t in zip(size, taps, strict=True)]  # fmt: skip
    act = str(rng.choice(["none", "relu", "relu6", "relu_n1_to_1"]))
    return taps, attrs | ({} if act == "none" else {"act": act})


def image(rng, dtype, *shape):
    low, high = np.iinfo(DTYPES[dtype]).min, np.iinfo(DTYPES[dtype]).max
    return rng.integers(low, high + 1, (2, *shape)).astype(DTYPES[dtype])


def convolution(rng, op, dtype, *, per_channel, groups=1, bias="usual", bits=8):
    """One random convolution against its kernel; its result fills the range of its dtype more or less."""
    size = [int(v) for v in rng.integers(1, 9, 2)]
    taps, attrs = window(rng, size)
    if op == "tfl_conv_2d":
        channels, outputs = groups * int(rng.integers(1, 6)), groups * int(rng.integers(1, 6))
        shape, axis = (outputs, *taps, channels // groups), 0
    else:
        channels = int(rng.integers(1, 6))
        outputs = channels * int(rng.integers(1, 4))
        shape, axis = (1, *taps, outputs), 3
    zero, into = (int(v) for v in rng.integers(-128, 128, 2)) if dtype == "i8" else (0, 0)
    scales = rng.uniform(0.002, 0.02, outputs).astype(np.float32)
    scale = Quant(tuple(map(float, scales)), 0, axis) if per_channel and outputs > 1 else quant(0.01)
    top = 7 if bits == 4 else 127
    weights = rng.integers(-top, top + 1, shape).astype(np.int8)
    reach = float(np.prod(taps) * channels // groups if op == "tfl_conv_2d" else np.prod(taps)) ** 0.5
    types = {"x": tensor(dtype, 0.05, zero, *size, channels), "w": TensorType(shape, "i8", scale)}
    constants = {"w": weights}
    if bias != "none":
        kind = "i32" if dtype == "i8" or bias == "narrow" else "i64"
        types["b"] = TensorType((outputs,), kind)
        constants["b"] = rng.integers(-3000, 3000, outputs).astype(np.int32 if kind == "i32" else np.int64)
    result = quant(0.05 * 0.01 * top / 2 * reach * (0.7 if dtype == "i8" else 1.3), into)
    if bits == 4:
        attrs["weight_bits"] = 4
    found = assert_kernel(op, types, result, {"x": image(rng, dtype, *size, channels)}, constants, **attrs)
    return np.unique(found).size


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("op", ["tfl_conv_2d", "tfl_depthwise_conv_2d"])
def test_convolutions(op, dtype, per_channel):
    rng = np.random.default_rng(0)
    seen = sum(convolution(rng, op, dtype, per_channel=per_channel) for _ in range(100))
    assert seen > 700  # results are no constants


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_convolutions_in_groups(dtype):
    rng = np.random.default_rng(1)
    for groups in (2, 3, 4) * 5:
        convolution(rng, "tfl_conv_2d", dtype, per_channel=True, groups=groups)


def test_convolutions_without_a_bias_and_with_a_narrow_one():
    rng = np.random.default_rng(2)
    for dtype, bias in (("i8", "none"), ("i16", "none"), ("i16", "narrow")):
        for _ in range(5):
            convolution(rng, "tfl_conv_2d", dtype, per_channel=True, bias=bias)


@pytest.mark.parametrize("op", ["tfl_conv_2d", "tfl_depthwise_conv_2d"])
def test_convolutions_with_weights_of_four_bits(op):
    rng = np.random.default_rng(3)
    for _ in range(5):
        convolution(rng, op, "i8", per_channel=False, bits=4)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("op", ["tfl_average_pool_2d", "tfl_max_pool_2d"])
def test_pools(op, dtype):
    rng = np.random.default_rng(4)
    for _ in range(20):
        size = [int(v) for v in rng.integers(1, 9, 2)]
        taps, attrs = window(rng, size, dilated=False)
        type_ = tensor(dtype, 0.05, int(rng.integers(-128, 128)) if dtype == "i8" else 0, *size, 3)
        x = image(rng, dtype, *size, 3)
        assert_kernel(op, {"x": type_}, type_.quant, {"x": x}, window=taps, **attrs)
