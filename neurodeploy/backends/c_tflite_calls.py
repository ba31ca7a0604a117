"""The C of what no elementwise loop says: wide sums, computed products, SOFTMAX, windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from neurodeploy.backends.c_ops import STORED, WRAPS
from neurodeploy.ir.graph import Value
from neurodeploy.passes.fuse import Call, View

if TYPE_CHECKING:
    from neurodeploy.backends.c_emit_step import StepWriter
    from neurodeploy.backends.c_tflite_windows import Window

INDICES = "ijklmn"


def _plus(text: str, number: int) -> str:
    return f"({text} + {number})" if number > 0 else f"({text} - {-number})" if number else text


def _wide_sums(w: StepWriter, value: Value, action: Call) -> None:
    w.headers.add("nd_tflite.h")
    w.target(value)
    rows, columns = value.attrs["rows"], value.attrs["columns"]
    pointers = ", ".join(w.pointer(a) for a in value.args)
    w.line(f"nd_tfl_sums({pointers}, {rows}, {columns}, {w.pointer(value.name)});")


def _channels(w: StepWriter, value: Value, action: Call) -> None:
    """The rescale of sums whose channels, the last axis, differ."""
    w.headers.add("nd_tfl_channels.h")
    w.target(value)
    total, pairs = (w.pointer(a) for a in value.args)
    w.constants.weights.add(pairs)
    rows = value.tensor.shape[-1]
    times = value.tensor.size // max(rows, 1)
    kind = f"nd_tfl_channels_{value.tensor.dtype}"
    w.line(f"{kind}({total}, {pairs}, {value.attrs['more']}, {rows}, {times}, {w.pointer(value.name)});")


def _zero_matmul(w: StepWriter, value: Value, action: Call) -> None:
    """``[..., m, k]`` times ``[..., k, n]``, each less its zero point."""
    shape, depth = value.tensor.shape, w.type(value.args[0]).shape[-1]
    names = list(INDICES[: len(shape)])
    *lead, m, n = names
    w.loops(shape, names)
    acc = WRAPS[value.tensor.dtype]
    w.line(f"{acc} acc = 0;")
    w.open(f"for (int32_t q = 0; q < {depth}; ++q)")
    factors = []
    for arg, axes, zero in zip(value.args, ((m, "q"), ("q", n)), value.attrs["zeros"], strict=True):
        view = w.fused.views[arg].broadcast((*shape[:-2], *w.type(arg).shape[-2:]))
        factors.append(_plus(w.element(view, [*lead, *axes]), -zero))
    w.line(f"acc += ({acc})({factors[0]} * {factors[1]});")
    w.close()
    w.target(value)
    w.line(f"{w.at(value.name, names)} = ({STORED[value.tensor.dtype]})acc;")
    for _ in shape:
        w.close()


def _softmax(w: StepWriter, value: Value, action: Call) -> None:
    """Row by row along the last axis."""
    w.headers.add("nd_tfl_softmax.h")
    w.target(value)
    count = value.tensor.shape[-1]
    pointers = ", ".join(w.pointer(a) for a in value.args)
    more = "".join(f", {n}" for n in value.attrs.get("factor", ()))
    w.line(
        f"nd_tfl_{value.op}({pointers}{more}, {value.tensor.size // max(count, 1)}, {count}, {w.pointer(value.name)});"
    )


# -- windows -----------------------------------------------------------------------------------------------------------


def _seen(
    w: StepWriter, window: Window, inside: Callable[[str, str], None], outside: Callable[[], None] | None
) -> None:
    """Loops over the taps of the window at position (i, j); the writers get the row and column that a tap sees."""
    w.loops(window.taps, "kl")
    places = []
    axes = zip("ij", ("row", "column"), "kl", window.stride, window.dilation, window.pads, window.given, strict=True)
    for at, name, tap, stride, dilation, pad, size in axes:
        if size == 1 and not window.padded:
            places.append("0")
            continue
        w.line(f"const int32_t {name} = {at} * {stride} + {tap} * {dilation}{f' - {pad}' if pad else ''};")
        places.append(name)
    if window.padded:
        bounds = [f"{n} >= 0 && {n} < {most}" for n, most in zip(places, window.given, strict=True)]
        w.open(f"if ({' && '.join(bounds)})")
    inside(*places)
    if window.padded:
        w.close()
        if outside is not None:
            w.open("else")
            outside()
            w.close()
    w.close()
    w.close()


def windows(w: StepWriter, value: Value, action: Call) -> None:
    """A product for every position of a window, on a copy of what it sees."""
    window, rows, columns = (value.attrs[key] for key in ("window", "rows", "columns"))
    (x,) = value.args
    depth = w.type(x).shape[2]
    work = f"{w.scratch}{w.buffers[f'{value.name}.work']}.v"
    kernel, product = w.product(value)
    w.target(value)
    rest = columns - window.taps[0] * window.taps[1] * depth
    if rest:
        w.line(f"memset({work} + {columns - rest}, 0, {2 * rest});")
    w.loops(window.made, "ij")

    def copied(element: Callable[[], str]) -> None:
        w.open(f"for (int32_t c = 0; c < {depth}; ++c)")
        w.line(f"{work}[(k * {window.taps[1]} + l) * {depth} + c] = {element()};")
        w.close()

    _seen(
        w,
        window,
        lambda row, column: copied(lambda: w.at(x, (row, column, "c"))),
        lambda: copied(lambda: str(window.fill)),
    )
    place = w.pointer(value.name)
    w.line(f"{kernel}_i32(&{product}, {work}, {place} + (i * {window.made[1]} + j) * {rows});")
    w.close()
    w.close()


def _depthwise(w: StepWriter, value: Value, action: Call) -> None:
    """Sums over the taps, channel by channel; ``fill`` is taken from every element."""
    x, weights, bias = value.args
    window, view, dtype = value.attrs["window"], w.fused.views[x], value.tensor.dtype
    outputs, each = value.tensor.shape[2], value.tensor.shape[2] // w.type(x).shape[2]
    w.target(value)
    in_order = view.strides[2] == 1 and each == 1 and not window.padded and dtype == "i32"
    if in_order and w.type(weights).dtype == "i8":
        _depthwise_call(w, value, view)
        return
    w.loops((*window.made, outputs), "ijc")
    acc = WRAPS[dtype]
    w.line(f"{acc} acc = ({acc}){w.at(bias, 'c')};")

    def add(row: str, column: str) -> None:
        seen = _plus(w.at(x, (row, column, "c" if each == 1 else f"(c / {each})")), -window.fill)
        w.line(f"acc += ({acc})({seen} * {w.at(weights, 'klc')});")

    _seen(w, window, add, None)
    w.line(f"{w.at(value.name, 'ijc')} = ({STORED[dtype]})acc;")
    for _ in range(3):
        w.close()


def _depthwise_call(w: StepWriter, value: Value, view: View) -> None:
    """The kernel for taps that all lie inside of the sample, at every position."""
    w.headers.add("nd_tfl_depthwise.h")
    window, (x, weights, bias) = value.attrs["window"], value.args
    steps = [stride * by for stride, by in zip(view.strides[:2], window.dilation, strict=True)]
    moves = [stride * by for stride, by in zip(view.strides[:2], window.stride, strict=True)]
    at = w.pointer(x)
    y = w.pointer(value.name)
    channels = value.tensor.shape[2]
    opened = 0
    for name, count, move, made in zip("ij", window.made, moves, (window.made[1] * channels, channels), strict=True):
        if count > 1:
            opened += w.loops([count], name)
            at, y = f"{at} + {move} * {name}", f"{y} + {made} * {name}"
    numbers = f"{window.taps[0]}, {steps[0]}, {window.taps[1]}, {steps[1]}, {channels}"
    kind = f"nd_tfl_depthwise_{w.type(x).dtype}"
    w.constants.weights |= {w.pointer(weights), w.pointer(bias)}
    w.line(f"{kind}({at}, {w.pointer(weights)}, {w.pointer(bias)}, {numbers}, {y});")
    for _ in range(opened):
        w.close()


def _pool(w: StepWriter, value: Value, action: Call) -> None:
    """The mean to the nearest integer, halves away from zero, or the greatest, of what lies inside."""
    window, mean, (low, high) = (value.attrs[key] for key in ("window", "mean", "clamp"))
    w.headers.add("nd_tflite.h")
    w.target(value)
    (x,) = value.args
    w.loops((*window.made, value.tensor.shape[2]), "ijc")
    w.line(f"int32_t acc = {0 if mean else low};")
    if mean:
        w.line("int32_t inside = 0;")

    def add(row: str, column: str) -> None:
        seen = w.at(x, (row, column, "c"))
        if mean:
            w.line(f"acc += {seen};")
            w.line("++inside;")
        else:
            w.line(f"acc = {seen} > acc ? {seen} : acc;")

    _seen(w, window, add, None)
    made = "(acc < 0 ? acc - inside / 2 : acc + inside / 2) / inside" if mean else "acc"
    w.line(f"{w.at(value.name, 'ijc')} = ({STORED[value.tensor.dtype]})nd_tfl_clamp({made}, {low}, {high});")
    for _ in range(3):
        w.close()


#: Calls that read all of their arguments through pointers.
CONTIGUOUS = frozenset({"wide_sums", "softmax_i8", "softmax_i8_i16", "softmax_i16", "channels"})

CALLS: Mapping[str, Callable[[StepWriter, Value, Call], None]] = {
    "wide_sums": _wide_sums,
    "channels": _channels,
    "zero_matmul": _zero_matmul,
    "softmax_i8": _softmax,
    "softmax_i8_i16": _softmax,
    "softmax_i16": _softmax,
    "depthwise": _depthwise,
    "pool": _pool,
}
