"""CONV_2D, DEPTHWISE_CONV_2D, SVDF and the pools: a window that moves over ``[height, width, channels]``.

A convolution is FULLY_CONNECTED on what its window sees. Where that lies in a row, as in a streaming model whose window
is as wide as its sample, nothing is copied. A depthwise convolution takes its taps where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.backends.c_rounding import I32
from neurodeploy.backends.c_tflite_lower import Lowering, single
from neurodeploy.backends.c_tflite_products import Channels, constant_weights, narrowest, sums_of
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.convolutions import pair, window_sizes
from neurodeploy.ir.tflite.fixed_point import activation_range, zero_of
from neurodeploy.ir.tflite.pointwise import mul_factor
from neurodeploy.ir.types import TensorType

#: Windows of a convolution that are written out one by one; more of them are a loop.
UNROLLED = 2


@dataclass(frozen=True)
class Window:
    """How a window moves: ``given`` and ``made`` are heights and widths, ``taps`` its own; ``fill``: what stands
    outside of the sample."""

    given: tuple[int, int]
    made: tuple[int, int]
    taps: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int]
    fill: int = 0

    @classmethod
    def of(cls, value: Value, given: TensorType, taps: tuple[int, int]) -> Window:
        size = (given.shape[0], given.shape[1])
        made, pads = window_sizes(size, taps, value.attrs)
        stride, dilation = pair(value.attrs, "stride"), pair(value.attrs, "dilation")
        return cls(size, made, taps, stride, dilation, pads, zero_of(given))

    @property
    def padded(self) -> bool:
        """Whether it ever leaves the sample."""
        ends = (
            (n - 1) * s + (k - 1) * d - p
            for n, s, k, d, p in zip(self.made, self.stride, self.taps, self.dilation, self.pads, strict=True)
        )
        return any(self.pads) or any(end >= have for end, have in zip(ends, self.given, strict=True))

    @property
    def in_a_row(self) -> bool:
        """Whether all that the window sees lies one behind the other."""
        rows, width = self.taps[0] == 1 or self.dilation[0] == 1, self.taps[1] == 1 or self.dilation[1] == 1
        whole = self.taps[1] == self.given[1]
        return not self.padded and width and (self.taps[0] == 1 or (rows and whole))


def _conv(q: Lowering, value: Value) -> None:
    given, into = q.type(value.args[0]), value.tensor
    weights = constant_weights(q, value) - zero_of(q.type(value.args[1]))
    outputs, height, width, inputs = weights.shape
    window = Window.of(value, given, (height, width))
    channels = Channels.of(q, value, weights.sum((1, 2, 3)), np.abs(weights).sum((1, 2, 3)))
    if inputs != given.shape[2]:
        raise UnsupportedError(
            f"{value.op} in {given.shape[2] // inputs} groups has no C.",
            place=f"%{value.name}", hint="Split it into convolutions of one group.",
        )  # fmt: skip
    rows = weights.reshape(outputs, -1)
    positions = window.made[0] * window.made[1]
    if window.in_a_row and (positions <= UNROLLED or channels.wide):
        _each(q, value, window, rows, channels)
        return
    if channels.wide:
        raise UnsupportedError(
            f"{value.op} sums more than 32 bits hold.", place=f"%{value.name}", hint="Take smaller biases."
        )
    args = [q.constant(rows, narrowest(rows)), value.args[0], q.constant(channels.bias)]
    total = q.emit("windows", args, TensorType(into.shape, "i32"), {"window": window})
    channels.rescale(q, total, into, value.name)


def _each(q: Lowering, value: Value, window: Window, rows: np.ndarray, channels: Channels) -> None:
    """Every position of the window as a product of a part of the sample."""
    given, into = q.type(value.args[0]), value.tensor
    flat = q.reshaped(value.args[0], (given.size,))
    size, parts = rows.shape[1], []
    for y in range(window.made[0]):
        for x in range(window.made[1]):
            start = (y * window.stride[0] * given.shape[1] + x * window.stride[1]) * given.shape[2]
            bounds = {"axis": 0, "start": start, "stop": start + size, "step": 1}
            part = flat if size == given.size else q.emit("slice", [flat], replace(given, shape=(size,)), bounds)
            total = sums_of(q, rows, part, channels)
            parts.append(channels.rescale(q, total, replace(into, shape=(len(rows),)), ""))
    joined = parts[0]
    if len(parts) > 1:
        joined = q.emit("concat", parts, replace(into, shape=(into.size,)), {"axis": 0})
    q.emit("reshape", [joined], into, {"shape": into.shape}, value.name)


def _depthwise(q: Lowering, value: Value) -> None:
    given, into = q.type(value.args[0]), value.tensor
    weights = constant_weights(q, value)[0] - zero_of(q.type(value.args[1]))
    window = Window.of(value, given, (weights.shape[0], weights.shape[1]))
    folded = not window.padded
    channels = Channels.of(q, value, weights.sum((0, 1)), np.abs(weights).sum((0, 1)), folded)
    dtype = "i64" if channels.wide else "i32"
    args = [value.args[0], q.constant(weights, narrowest(weights)), q.constant(channels.bias, dtype)]
    attrs = {"window": replace(window, fill=0 if folded else window.fill)}
    total = q.emit("depthwise", args, TensorType(into.shape, dtype), attrs)
    channels.rescale(q, total, into, value.name)


def _pool(q: Lowering, value: Value) -> None:
    window = Window.of(value, q.type(value.args[0]), pair(value.attrs, "window", None))
    low, high = activation_range(value.tensor, value.attrs.get("act"))
    attrs = {"window": window, "clamp": (low, high), "mean": value.op == "tfl_average_pool_2d"}
    q.emit("pool", value.args, value.tensor, attrs, value.name)


def _svdf_time(q: Lowering, value: Value) -> None:
    """A depthwise convolution over the steps that the filters remember; those of a unit are added."""
    line, into = q.type(value.args[0]), value.tensor
    weights, bias = constant_weights(q, value) - zero_of(q.type(value.args[1])), q.data(value.args[2])
    if bias is None:
        raise UnsupportedError(f"{value.op} adds a bias that is computed.", place=f"%{value.name}")
    steps, filters = line.shape
    rank = value.attrs.get("rank", 1)
    start = (bias if rank == 1 else np.zeros(filters, np.int64)) - zero_of(line) * weights.sum(1)
    window = Window((steps, 1), (1, 1), (steps, 1), (1, 1), (1, 1), (0, 0))
    taps = weights.T.reshape(steps, 1, filters)
    args = [q.reshaped(value.args[0], (steps, 1, filters)), q.constant(taps, narrowest(weights)), q.constant(start)]
    total = q.emit("depthwise", args, TensorType((1, 1, filters), "i32"), {"window": window})
    if rank == 1:
        total = q.reshaped(total, into.shape)
    else:
        total = q.emit("sum", [q.reshaped(total, (*into.shape, rank))], TensorType(into.shape, "i32"), {"axis": 1})
        total = q.emit("add", [total, q.constant(bias)], TensorType(into.shape, "i32"))
    most = max(map(abs, q.known[value.args[0]]))
    reach = int((np.abs(weights).sum(1).reshape(-1, rank).sum(1) * most + np.abs(bias)).max(initial=0))
    if reach <= I32[1]:
        q.known[total] = (-reach, reach)
    factor = mul_factor(line, q.type(value.args[1]), into)
    q.result(total, single(factor), into, None, value.name)


RULES: Mapping[str, Callable[[Lowering, Value], None]] = {
    "tfl_conv_2d": _conv,
    "tfl_depthwise_conv_2d": _depthwise,
    "tfl_average_pool_2d": _pool,
    "tfl_max_pool_2d": _pool,
    "tfl_svdf_time": _svdf_time,
}
