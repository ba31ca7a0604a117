"""CONV_2D, DEPTHWISE_CONV_2D, AVERAGE_POOL_2D, MAX_POOL_2D and MEAN at i8 and i16.

A sample is ``[height, width, channels]``. Weights of a convolution are ``[outputs, height, width, inputs]`` with one
scale or one per output (axis 0); fewer inputs than the sample has channels make groups. Those of a depthwise
convolution are ``[1, height, width, outputs]`` (axis 3); each channel gives ``outputs / channels`` of them.

Sources: tensorflow/tflite-micro, ``kernels/internal/reference/integer_ops`` (``conv.h``, ``depthwise_conv.h``,
``pooling.h``), ``reference/reduce.h`` (``QuantizedMeanOrSum``),
``kernels/padding.h``, and ``PopulateConvolutionQuantizationParams`` in ``kernels/kernel_util.cc``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.fixed import matmul
from neurodeploy.ir.op import Array, Op, fit
from neurodeploy.ir.tflite.fixed_point import (
    INT,
    Attrs,
    Types,
    activation_range,
    clamped,
    multiply_32,
    multiply_64,
    offset,
    quantize_multiplier,
    scale_of,
)
from neurodeploy.ir.tflite.pointwise import check_act
from neurodeploy.ir.tflite.products import BIASES, fully_connected_factor
from neurodeploy.ir.types import TensorType

#: How far a window may reach beyond its sample.
MOST_PADDING = 1024
WINDOW = ("stride", "padding", "act")


def pair(attrs: Attrs, key: str, default: tuple[int, int] | None = (1, 1)) -> tuple[int, int]:
    """An attribute of two whole numbers, height and width, at least 1. Raises :class:`IRError`."""
    found = attrs.get(key, default)
    if found is None or len(found) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in found):
        raise IRError(f"{key} is {found!r}; needed two whole numbers, at least 1.")
    return tuple(found)


def window_sizes(
    size: tuple[int, int], window: tuple[int, int], attrs: Attrs
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the result, and the padding above and at the left.

    ``padding`` is ``same`` (each stride gives a result) or ``valid`` (the window stays inside).
    Raises :class:`IRError`.
    """
    stride, dilation = pair(attrs, "stride"), pair(attrs, "dilation")
    kind = attrs.get("padding", "valid")
    if kind not in ("same", "valid"):
        raise IRError(f"padding is {kind!r}; needed 'same' or 'valid'.")
    results, pads = [], []
    for have, taps, by, apart in zip(size, window, stride, dilation, strict=True):
        span = (taps - 1) * apart + 1
        result = -(-have // by) if kind == "same" else (have + by - span) // by
        if result < 1:
            raise IRError(f"a window of {span} doesn't fit in {have}.")
        results.append(result)
        around = max((result - 1) * by + span - have, 0)
        if around > MOST_PADDING:
            raise IRError(f"a window of {span} reaches {around} beyond {have}; {MOST_PADDING} at most.")
        pads.append(around // 2)
    return (results[0], results[1]), (pads[0], pads[1])


def _taps(x: Array, window: tuple[int, int], attrs: Attrs, fill: int = 0) -> Iterator[Array]:
    """What each tap of the window sees, ``[B, height, width, C]`` of the result; ``fill`` outside of the sample."""
    (height, width), (top, left) = window_sizes((x.shape[1], x.shape[2]), window, attrs)
    stride, dilation = pair(attrs, "stride"), pair(attrs, "dilation")
    spans = [
        (n - 1) * s + (w - 1) * d + 1 for n, s, w, d in zip((height, width), stride, window, dilation, strict=True)
    ]
    pads = [(0, 0), *((p, max(span - p - n, 0)) for p, span, n in zip((top, left), spans, x.shape[1:3], strict=True))]
    wide = np.pad(x, [*pads, (0, 0)], constant_values=fill)
    for row, column in product(range(window[0]), range(window[1])):
        y, z = row * dilation[0], column * dilation[1]
        yield wide[:, y : y + (height - 1) * stride[0] + 1 : stride[0], z : z + (width - 1) * stride[1] + 1 : stride[1]]


def _check(types: Types, attrs: Attrs, outputs: int, axis: int) -> TensorType:
    """The result's type of either convolution, after the checks that both share."""
    x, w = types[:2]
    if len(types) == 3 and (types[2].dtype not in BIASES[x.dtype] or types[2].shape != (outputs,)):
        raise IRError(f"takes a bias {' or '.join(BIASES[x.dtype])}[{outputs}] with {x}; {types[2]} given.")
    if w.quant is not None and w.quant.axis not in (None, axis):
        raise IRError(f"takes weights with one scale or one per output (axis {axis}); {w} given.")
    bits = attrs.get("weight_bits", 8)
    if bits not in (4, 8) or isinstance(bits, bool) or (bits == 4 and x.dtype != "i8"):
        raise IRError(f"weight_bits is {bits!r} with {x}; needed 8, or 4 with i8.")
    check_act(attrs)
    size, _ = window_sizes((x.shape[0], x.shape[1]), (w.shape[1], w.shape[2]), attrs)
    return TensorType((*size, outputs), x.dtype)


def _infer_conv(types: Types, attrs: Attrs) -> TensorType:
    x, w = types[:2]
    fits = x.dtype in BIASES and w.dtype == "i8" and len(x.shape) == 3 and len(w.shape) == 4 and all(w.shape)
    if not fits or x.shape[2] % w.shape[3] or w.shape[0] % (x.shape[2] // w.shape[3] or 1):
        raise IRError(f"takes i8[h,w,c] or i16[h,w,c] and weights i8[n,y,x,c/groups]; {x} and {w} given.")
    return _check(types, attrs, w.shape[0], 0)


def _infer_depthwise(types: Types, attrs: Attrs) -> TensorType:
    x, w = types[:2]
    fits = x.dtype in BIASES and w.dtype == "i8" and len(x.shape) == 3 and len(w.shape) == 4 and all(x.shape)
    if not fits or w.shape[0] != 1 or w.shape[3] % x.shape[2] or not all(w.shape):
        raise IRError(f"takes i8[h,w,c] or i16[h,w,c] and weights i8[1,y,x,c*k]; {x} and {w} given.")
    return _check(types, attrs, w.shape[3], 3)


def _finish(total: Array, args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Bias, multipliers, zero point and clamp: i8 and a bias i32 in int32, else in int64."""
    if len(args) == 3:
        total = total + args[2].reshape(-1)
    mult, shift = quantize_multiplier(fully_connected_factor(types[0], types[1], type_))
    if types[0].dtype == "i8" or (len(types) == 3 and types[2].dtype == "i32"):
        scaled = multiply_32(fit(total, "i32").astype(np.int64), mult, shift)
    else:
        scaled = multiply_64(total, mult, shift)
    return clamped(scaled, type_, attrs.get("act"))


def _eval_conv(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    x, w = offset(args[0], types[0]), args[1][0].astype(np.int64)
    outputs, height, width, inputs = w.shape
    seen = np.stack(list(_taps(x, (height, width), attrs)), axis=3)  # [B, h, w, taps, C]
    groups = x.shape[3] // inputs
    each, parts = outputs // groups, []
    for group in range(groups):
        rows = seen[..., group * inputs : (group + 1) * inputs].reshape(-1, height * width * inputs)
        weights = w[group * each : (group + 1) * each].reshape(each, -1)
        parts.append(matmul(rows, weights.T[None], "i64"))
    total = np.concatenate(parts, axis=1).reshape(len(x), *type_.shape)
    return _finish(total, args, attrs, type_, types)


def _eval_depthwise(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    x, w = offset(args[0], types[0]), args[1][0, 0].astype(np.int64)
    channels = x.shape[3]
    total = np.zeros((len(x), *type_.shape[:2], channels, type_.shape[2] // channels), np.int64)
    taps = w.reshape(-1, channels, type_.shape[2] // channels)
    for tap, seen in zip(taps, _taps(x, (w.shape[0], w.shape[1]), attrs), strict=True):
        total += seen[..., None] * tap
    return _finish(total.reshape(len(x), *type_.shape), args, attrs, type_, types)


def _infer_pool(types: Types, attrs: Attrs) -> TensorType:
    (x,) = types
    if x.dtype not in BIASES or len(x.shape) != 3:
        raise IRError(f"takes i8[h,w,c] or i16[h,w,c]; {x} given.")
    check_act(attrs)
    size, _ = window_sizes((x.shape[0], x.shape[1]), pair(attrs, "window", None), attrs)
    return TensorType((*size, x.shape[2]), x.dtype)


def _average(x: Array, window: tuple[int, int], attrs: Attrs) -> Array:
    """The mean of what lies inside, to the nearest integer, halves away from zero; zero points don't matter."""
    inside = sum(_taps(np.ones((1, *x.shape[1:3], 1), np.int64), window, attrs))
    total = np.asarray(sum(_taps(x.astype(np.int64), window, attrs)))
    return np.sign(total) * ((np.abs(total) + inside // 2) // inside)


def _greatest(x: Array, window: tuple[int, int], attrs: Attrs) -> Array:
    return np.max(list(_taps(x.astype(np.int64), window, attrs, fill=-(1 << 31))), axis=0)


def _pool(function: Callable[[Array, tuple[int, int], Attrs], Array]) -> Callable[..., Array]:
    """A pool in its argument's own integers: neither kernel looks at the scales."""

    def evaluate(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
        low, high = activation_range(type_, attrs.get("act"))
        return np.clip(function(args[0], pair(attrs, "window", None), attrs), low, high).astype(type_.numpy)

    return evaluate


def _infer_mean(types: Types, attrs: Attrs) -> TensorType:
    (x,) = types
    if x.dtype not in BIASES or not x.shape or not x.shape[-1]:
        raise IRError(f"takes i8[...,n] or i16[...,n]; {x} given.")
    return TensorType(x.shape[:-1], x.dtype)


def mean_multiplier(x: TensorType, result: TensorType) -> tuple[int, int]:
    """``(mult, shift)`` of a sum over the last axis: that of the scales, its mantissa divided by the count."""
    count = x.shape[-1]
    mult, shift = quantize_multiplier(np.float64(scale_of(x)) / np.float64(scale_of(result)))
    more = min(count.bit_length() - 1, 32, 31 + int(shift))
    return (int(mult) << more) // count, int(shift) - more


def _eval_mean(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Along the last axis; the sum is in int32."""
    total = fit(offset(args[0], types[0]).sum(axis=-1), "i32").astype(np.int64)
    mult, shift = mean_multiplier(types[0], type_)
    return clamped(multiply_32(total, np.asarray(mult), np.asarray(shift)), type_)


CONV = (*WINDOW, "dilation", "weight_bits")
OPS = (
    Op("tfl_conv_2d", (2, 3), _infer_conv, _eval_conv, INT, CONV),
    Op("tfl_depthwise_conv_2d", (2, 3), _infer_depthwise, _eval_depthwise, INT, CONV),
    Op("tfl_average_pool_2d", (1, 1), _infer_pool, _pool(_average), INT, (*WINDOW, "window")),
    Op("tfl_mean", (1, 1), _infer_mean, _eval_mean, INT),
    Op("tfl_max_pool_2d", (1, 1), _infer_pool, _pool(_greatest), INT, (*WINDOW, "window")),
)
