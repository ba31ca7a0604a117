"""TRANSPOSE_CONV: a convolution whose channels are the results between two inputs, laid out one after another.

With a stride s the results ``s q .. s q + s - 1`` see the inputs ``q, q - 1 ..`` through every s-th tap. So one
convolution of ``s`` times as many channels gives them at every q; a reshape lays them out, a slice cuts the padding off
(Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
network", CVPR 2016). Sums are of the same products as those of tensorflow/tflite-micro,
``kernels/internal/reference/integer_ops/transpose_conv.h``; padding as in ``micro/kernels/transpose_conv.cc``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.tflite_forms import acted, checked_act, scaled
from neurodeploy.importers.tflite_ops_conv import image
from neurodeploy.importers.tflite_ops_shape import cut, filled
from neurodeploy.importers.tflite_step import Call, Rule, per_sample
from neurodeploy.ir.build import Sym
from neurodeploy.ir.graph import Param
from neurodeploy.ir.types import Quant, TensorType

X, WEIGHTS, BIAS = 2, 1, 3
#: The most weights that one operator may become: a stride far beyond the taps makes zeros of nearly all.
MOST_WEIGHTS = 1 << 24


def _transpose_conv(call: Call) -> None:
    weights = call.constant(WEIGHTS) if call.quantized else call.real(WEIGHTS)
    result = call.result().shape
    if weights.ndim != 4 or len(result) != 4 or not weights.size:
        raise IRError(f"takes weights {list(weights.shape)} for a result {list(result)}")
    strides = tuple(call.options[f"stride_{axis}"] for axis in "hw")
    if min(strides) < 1:
        raise IRError(f"has the strides {list(strides)}")
    x = image(call, X)
    pads = [_padding(call, *sizes) for sizes in zip(result[1:3], weights.shape[1:3], strides, strict=True)]
    taps = [-(-size // stride) for size, stride in zip(weights.shape[1:3], strides, strict=True)]
    if weights.shape[0] * weights.shape[3] * np.prod(taps) * np.prod(strides) > MOST_WEIGHTS:
        raise UnsupportedError(f"has strides of {list(strides)} with weights {list(weights.shape)}, too far apart.")
    counts = [(pad + size - 1) // stride + 1 for pad, size, stride in zip(pads, result[1:3], strides, strict=True)]
    for axis in range(2):
        x = _reached(call, x, axis, taps[axis] - 1, counts[axis])
    y = _products(call, x, _laid_out(weights, taps, strides), strides)
    outputs = weights.shape[0]
    if strides[0] > 1 and counts[1] > 1:
        y = call.shaped(y, (counts[0], counts[1], strides[0], strides[1] * outputs))
        y = call.emit("transpose", y, quant=y.type.quant, perm=[0, 2, 1, 3])
    y = call.shaped(y, (counts[0] * strides[0], counts[1] * strides[1], outputs))
    for axis in range(2):
        y = cut(call, y, axis, pads[axis], pads[axis] + result[1 + axis])
    if call.quantized:
        call.give(y)
    else:
        acted(call, y)


def _padding(call: Call, result: int, taps: int, stride: int) -> int:
    """What is cut off in front: half of what ``same`` padding would add to a convolution of the result."""
    same = call.options["padding"] == 0
    given = -(-result // stride) if same else (result + stride - taps) // stride
    return max((given - 1) * stride + taps - result, 0) // 2


def _reached(call: Call, x: Sym, axis: int, before: int, count: int) -> Sym:
    """The inputs that ``count`` results need, ``before`` the first; outside of x the zero point."""
    if x.shape[axis] > count:
        x = cut(call, x, axis, 0, count)
    number = 0 if x.type.quant is None else x.type.quant.zero_point
    sizes = (before, count - x.shape[axis])
    blocks = [filled(call, x, (*x.shape[:axis], n, *x.shape[axis + 1 :]), number) if n else None for n in sizes]
    parts = [part for part in (blocks[0], x, blocks[1]) if part is not None]
    return call.emit("concat", *parts, quant=x.type.quant, axis=axis) if len(parts) > 1 else x


def _laid_out(weights: np.ndarray, taps: list[int], strides: tuple[int, ...]) -> np.ndarray:
    """``[n, y, x, c]`` as ``[rows * columns * n, taps, taps, c]``: the newest input is the last tap."""
    n, height, width, c = weights.shape
    full = np.zeros((n, taps[0] * strides[0], taps[1] * strides[1], c), weights.dtype)
    full[:, :height, :width] = weights
    parts = full.reshape(n, taps[0], strides[0], taps[1], strides[1], c)[:, ::-1, :, ::-1]
    return np.ascontiguousarray(parts.transpose(2, 4, 0, 1, 3, 5)).reshape(-1, *taps, c)


def _products(call: Call, x: Sym, weights: np.ndarray, strides: tuple[int, ...]) -> Sym:
    """The convolution, and the bias, once for each result between two inputs."""
    times, b = strides[0] * strides[1], call.step.builder
    if call.quantized:
        scaled(call, X, WEIGHTS)
        quant = call.step.quant_of(call.tensor(WEIGHTS))
        if quant is not None and quant.axis is not None:
            quant = Quant(tuple(np.tile(quant.array, times).tolist()), 0, 0)
        made = [b.param("kernel", Param(TensorType(weights.shape, "i8", quant), weights.astype(np.int8)))]
        if call.has(BIAS):
            bias = call.constant(BIAS)
            if bias.dtype == np.int16:
                bias = bias.astype(np.int64)
            dtype = {np.dtype(np.int32): "i32", np.dtype(np.int64): "i64"}[bias.dtype]
            made.append(b.param("bias", Param(TensorType((times * bias.size,), dtype), np.tile(bias, times))))
        into = call.step.type_of(call.result()).quant
        return call.emit("tfl_conv_2d", x, *made, quant=into, padding="valid", **checked_act(call))
    outputs, height, width, inputs = weights.shape
    rows, columns = x.shape[0] - height + 1, x.shape[1] - width + 1
    seen = [cut(call, cut(call, x, 0, i, i + rows), 1, j, j + columns) for i in range(height) for j in range(width)]
    joined = call.emit("concat", *seen, axis=2) if len(seen) > 1 else seen[0]
    matrix = np.ascontiguousarray(weights.reshape(outputs, -1).T)
    y = call.emit("matmul", call.shaped(joined, (rows * columns, height * width * inputs)), b.param("kernel", matrix))
    if call.has(BIAS):
        y = call.emit("add", y, b.param("bias", np.tile(call.real(BIAS), times)))
    return y


RULES: Mapping[str, Rule] = {"TRANSPOSE_CONV": per_sample(X, _transpose_conv)}
