"""CONV_2D, DEPTHWISE_CONV_2D and pools: the dialect's primitives on integers, slices and products on floats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.tflite_forms import acted, bias_of, checked_act, scaled
from neurodeploy.importers.tflite_ops_shape import cut, filled
from neurodeploy.importers.tflite_step import Call, Rule, per_sample
from neurodeploy.ir.build import Sym
from neurodeploy.ir.tflite.convolutions import pair, window_sizes

#: A float convolution becomes as many slices as its window has taps.
MOST_TAPS = 1024


def _window(call: Call) -> dict[str, Any]:
    """Stride, dilation and padding as the dialect's attributes."""
    options = call.options
    if options["padding"] not in (0, 1):
        raise UnsupportedError(f"has the padding {options['padding']}.")
    found: dict[str, Any] = {
        "stride": [options["stride_h"], options["stride_w"]],
        "padding": "valid" if options["padding"] else "same",
    }
    if "dilation_h_factor" in options:
        found["dilation"] = [options["dilation_h_factor"], options["dilation_w_factor"]]
    return found


def image(call: Call, i: int = 0) -> Sym:
    """Input i as ``[height, width, channels]``. Raises :class:`UnsupportedError` for a batch."""
    shape = call.tensor(i).shape
    if len(shape) != 4 or shape[0] != 1:
        raise UnsupportedError(f"takes the shape {list(shape)}; needed [1, height, width, channels].")
    return call.x(i)


def _integer(call: Call, op: str, outputs: int, window: dict[str, Any]) -> None:
    scaled(call, 0, 1)
    attrs = window | checked_act(call) | ({"weight_bits": 4} if call.tensor(1).kind == "INT4" else {})
    call.put(op, image(call), call.param(1), *bias_of(call, outputs), **attrs)


def _padded(call: Call, x: Sym, taps: tuple[int, int], window: dict[str, Any], fill: float) -> Sym:
    """The image with what ``same`` padding adds around it."""
    sizes, pads = window_sizes((x.shape[0], x.shape[1]), taps, window)
    stride, dilation = pair(window, "stride"), pair(window, "dilation")
    for axis in range(2):
        span = (sizes[axis] - 1) * stride[axis] + (taps[axis] - 1) * dilation[axis] + 1
        behind = max(span - pads[axis] - x.shape[axis], 0)
        parts = [x]
        for count, first in ((pads[axis], True), (behind, False)):
            if count:
                block = filled(call, x, (*x.shape[:axis], count, *x.shape[axis + 1 :]), fill)
                parts = [block, *parts] if first else [*parts, block]
        if len(parts) > 1:
            x = call.emit("concat", *parts, axis=axis)
    return x


def _taps(call: Call, x: Sym, taps: tuple[int, int], window: dict[str, Any], fill: float) -> Iterator[Sym]:
    """What each tap of the window sees: ``[height, width, channels]`` of the result."""
    sizes, _ = window_sizes((x.shape[0], x.shape[1]), taps, window)
    if taps[0] * taps[1] > MOST_TAPS:
        raise UnsupportedError(f"has a window of {taps[0]} x {taps[1]} floats; at most {MOST_TAPS} are taken apart.")
    stride, dilation = pair(window, "stride"), pair(window, "dilation")
    x = _padded(call, x, taps, window, fill)
    for at in product(range(taps[0]), range(taps[1])):
        seen = x
        for axis in range(2):
            start = at[axis] * dilation[axis]
            seen = cut(call, seen, axis, start, start + (sizes[axis] - 1) * stride[axis] + 1, stride[axis])
        yield seen


def _conv_2d(call: Call) -> None:
    weights, window = call.real(1), _window(call)
    outputs, height, width, inputs = weights.shape
    if call.quantized:
        _integer(call, "tfl_conv_2d", outputs, window)
        return
    x = image(call)
    groups = x.shape[2] // max(inputs, 1)
    if not groups or groups * inputs != x.shape[2] or outputs % groups:
        raise IRError(f"takes {x.shape[2]} channels with {outputs} kernels of {inputs}")
    seen = list(_taps(call, x, (height, width), window, 0.0))
    rows, columns, _ = seen[0].shape
    joined = call.emit("concat", *seen, axis=2) if len(seen) > 1 else seen[0]
    if groups == 1:
        matrix = weights.reshape(outputs, -1).T
    else:  # a block for each group, zeros elsewhere
        each = outputs // groups
        full = np.zeros((height * width, groups, inputs, groups, each), np.float32)
        for group in range(groups):
            part = weights[group * each : (group + 1) * each].reshape(each, height * width, inputs)
            full[:, group, :, group] = part.transpose(1, 2, 0)
        matrix = full.reshape(height * width * x.shape[2], outputs)
    taken = call.shaped(joined, (rows * columns, matrix.shape[0]))
    y = call.emit("matmul", taken, call.step.builder.param("kernel", np.ascontiguousarray(matrix)))
    if call.has(2):
        y = call.emit("add", y, call.param(2))
    acted(call, y)


def _depthwise_conv_2d(call: Call) -> None:
    weights, window = call.real(1), _window(call)
    _, height, width, outputs = weights.shape
    if call.quantized:
        _integer(call, "tfl_depthwise_conv_2d", outputs, window)
        return
    x = image(call)
    times = outputs // x.shape[2]
    parts = []
    for seen, tap in zip(_taps(call, x, (height, width), window, 0.0), weights.reshape(-1, outputs), strict=True):
        if times > 1:
            seen, tap = call.shaped(seen, (*seen.shape, 1)), tap.reshape(x.shape[2], times)
        parts.append(call.emit("mul", seen, call.step.builder.param("tap", tap)))
    total = _joined(call, "add", parts)
    total = call.shaped(total, (*total.shape[:2], outputs))
    acted(call, call.emit("add", total, call.param(2)) if call.has(2) else total)


def _joined(call: Call, op: str, parts: list[Sym]) -> Sym:
    """Values joined one after another."""
    total = parts[0]
    for part in parts[1:]:
        total = call.emit(op, total, part)
    return total


def _pool(op: str) -> Rule:
    def rule(call: Call) -> None:
        window = _window(call)
        taps = (call.options["filter_height"], call.options["filter_width"])
        x = image(call)
        if call.quantized:
            scaled(call, 0)
            call.put(op, x, window=list(taps), **window, **checked_act(call))
            return
        pair({"window": taps}, "window")
        if op == "tfl_max_pool_2d":
            least = float(np.finfo(np.float32).min)
            y = _joined(call, "max", list(_taps(call, x, taps, window, least)))
        else:
            y = _joined(call, "add", list(_taps(call, x, taps, window, 0.0)))
            y = call.emit("mul", y, call.step.builder.param("shares", _shares(x.shape, taps, window)))
        acted(call, y)

    return rule


def _shares(shape: tuple[int, ...], taps: tuple[int, int], window: dict[str, Any]) -> np.ndarray:
    """1 / how many taps lie inside, for each place of an average pool's result: ``[height, width, 1]``."""
    sizes, pads = window_sizes((shape[0], shape[1]), taps, window)
    stride = pair(window, "stride")
    counts = []
    for axis in range(2):
        first = np.arange(sizes[axis]) * stride[axis] - pads[axis]
        counts.append(np.minimum(first + taps[axis], shape[axis]) - np.maximum(first, 0))
    return (1 / np.outer(*counts)).astype(np.float32)[:, :, None]


RULES: Mapping[str, Rule] = {
    "CONV_2D": per_sample(0, _conv_2d),
    "DEPTHWISE_CONV_2D": per_sample(0, _depthwise_conv_2d),
    "AVERAGE_POOL_2D": per_sample(0, _pool("tfl_average_pool_2d")),
    "MAX_POOL_2D": per_sample(0, _pool("tfl_max_pool_2d")),
}
