"""FULLY_CONNECTED as a product of 32-bit sums and a rescale, so that the kernels of ``native`` numerics serve it.

The input's zero point is folded into the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.backends.c_rounding import I32
from neurodeploy.backends.c_tflite_lower import Lowering
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.fixed_point import activation_range, quantize_multiplier, zero_of
from neurodeploy.ir.tflite.products import fully_connected_factor
from neurodeploy.ir.types import TensorType, int_range


def _fully_connected(q: Lowering, value: Value) -> None:
    """Rows of inputs one by one."""
    x, into = value.args[0], value.tensor
    columns, lead = q.type(x).shape[-1], int(np.prod(into.shape[:-1], dtype=int))
    if lead == 1:
        if into.shape == (into.shape[-1],):
            _dense(q, value, x, value.name)
            return
        made = _dense(q, value, q.reshaped(x, (columns,)), "")
        q.emit("reshape", [made], into, {"shape": into.shape}, value.name)
        return
    flat = q.reshaped(x, (lead * columns,))
    rows = []
    for i in range(lead):
        bounds = {"axis": 0, "start": i * columns, "stop": (i + 1) * columns, "step": 1}
        part = q.emit("slice", [flat], replace(q.type(x), shape=(columns,)), bounds)
        rows.append(_dense(q, value, part, ""))
    joined = q.emit("concat", rows, replace(into, shape=(into.size,)), {"axis": 0})
    q.emit("reshape", [joined], into, {"shape": into.shape}, value.name)


def _dense(q: Lowering, value: Value, x: str, result: str) -> str:
    """One input vector's sums, and their rescale."""
    w = value.args[1]
    weights = constant_weights(q, value) - zero_of(q.type(w))
    channels = Channels.of(q, value, weights.sum(1), np.abs(weights).sum(1))
    return channels.rescale(
        q, sums_of(q, weights, x, channels), replace(value.tensor, shape=channels.bias.shape), result
    )


def constant_weights(q: Lowering, value: Value) -> np.ndarray:
    """The weights of a product. Raises :class:`UnsupportedError` where they are computed."""
    weights = q.data(value.args[1])
    if weights is None:
        raise UnsupportedError(
            f"{value.op} multiplies by weights that are computed.", place=f"%{value.name}", hint="Keep them constant."
        )
    return weights


@dataclass(frozen=True)
class Channels:
    """A product's output channels: their biases (the input's zero point folded in, if it is), how far their sums can
    reach, multipliers and shifts; ``in_64``: rescaled by the int64 product."""

    bias: np.ndarray
    reach: int
    mult: np.ndarray
    shift: np.ndarray
    act: str | None
    in_64: bool

    @property
    def wide(self) -> bool:
        """Whether 32 bits are too few for the sums. (The kernels that sum in 32 bits mustn't leave them.)"""
        return self.in_64 and self.reach > I32[1]

    @classmethod
    def of(cls, q: Lowering, value: Value, sums: np.ndarray, sizes: np.ndarray, fold: bool = True) -> Channels:
        """``sums`` and ``sizes``: of each channel's weights, and of their absolute values."""
        given, zero = q.type(value.args[0]), zero_of(q.type(value.args[0]))
        bias = q.data(value.args[2]) if len(value.args) == 3 else None
        bias = np.zeros(len(sums), np.int64) if bias is None else bias
        most = max(abs(end - (0 if fold else zero)) for end in q.known[value.args[0]])
        bias = bias - zero * sums if fold else bias
        reach = int((sizes * most + np.abs(bias)).max(initial=0))
        factors = quantize_multiplier(fully_connected_factor(given, q.type(value.args[1]), value.tensor))
        mult, shift = (np.broadcast_to(a.reshape(-1), (len(sums),)) for a in factors)
        in_64 = given.dtype == "i16" and (len(value.args) == 2 or q.type(value.args[2]).dtype == "i64")
        if not in_64 and np.abs(bias).max(initial=0) > I32[1]:
            raise UnsupportedError(
                f"the bias of {value.op}, with the zero point of what it multiplies, exceeds 32 bits.",
                place=f"%{value.name}", hint="Take smaller biases.",
            )  # fmt: skip
        return cls(bias, reach, mult, shift, value.attrs.get("act"), in_64)

    def rescale(self, q: Lowering, total: str, into: TensorType, result: str) -> str:
        """The sums, of 32 or 64 bits, on the scale of the result."""
        if q.type(total).dtype == "i32":
            q.known[total] = (max(-self.reach, I32[0]), min(self.reach, I32[1]))
        made = Rescale(self.mult, self.shift, into, self.act, result)
        return made.by_64(q, total, self.reach) if self.in_64 else made.by_32(q, total)


def narrowest(weights: np.ndarray) -> str:
    """The dtype that holds weights less their zero point."""
    return "i8" if not weights.size or (-128 <= weights.min() and weights.max() <= 127) else "i16"


def sums_of(q: Lowering, weights: np.ndarray, x: str, channels: Channels) -> str:
    """Weights ``[rows, columns]`` times a vector, and biases; in 64 bits where 32 are too few."""
    rows, columns = weights.shape
    if not channels.wide:
        args = [q.constant(weights, narrowest(weights)), x, q.constant(channels.bias)]
        return q.emit("product", args, TensorType((rows,), "i32"))
    args = [q.constant(weights, "i16"), x, q.constant(channels.bias, "i64")]
    return q.emit("wide_sums", args, TensorType((rows,), "i64"), {"rows": rows, "columns": columns})


@dataclass(frozen=True)
class Rescale:
    """The rescale of a product's sums, with a multiplier and a shift for each channel."""

    mult: np.ndarray
    shift: np.ndarray
    into: TensorType
    act: str | None
    result: str

    def by_64(self, q: Lowering, total: str, reach: int) -> str:
        """The int64 product: a multiplier of 16 bits, one rounding. Native's rescale wherever that has the bits."""
        reduced = np.where(self.mult < 0x7FFF0000, (self.mult + (1 << 15)) >> 16, 0x7FFF)
        up = 17 + self.shift  # y = (x * reduced * 2^up + 2^31) >> 32
        plain = self.into.with_(quant=None)
        clamp = activation_range(self.into, self.act)
        whole = clamp == int_range(self.into.dtype)
        for pre in range(16):
            scaled = reduced << np.maximum(up - pre, 0)
            if reach << pre <= I32[1] and (up >= pre).all() and (scaled <= I32[1]).all():
                attrs = {"pre": pre, "to": self.into.dtype}
                args = [total, q.constant(scaled)]
                made = q.emit("requantize", args, self.into if whole else plain, attrs, self.result if whole else "")
                break
        else:
            args = [total, q.constant(reduced), q.constant(15 - self.shift, "i8")]
            made = q.emit("rescale_64", args, self.into if whole else plain, {}, self.result if whole else "")
        return made if whole else q.emit("offset", [made], self.into, {"zero": 0, "clamp": clamp}, self.result)

    def by_32(self, q: Lowering, total: str) -> str:
        """The int32 product, per channel where the channels differ."""
        mult, shift, into = self.mult, self.shift, self.into
        if (mult == mult[0]).all() and (shift == shift[0]).all():
            return q.result(total, (int(mult[0]), int(shift[0])), into, self.act, self.result)
        low, high = q.known[total]
        zero, clamp = zero_of(into), activation_range(into, self.act)
        if shift.max() <= -1 and 2 * low >= I32[0] and 2 * high <= I32[1] and clamp == int_range(into.dtype):
            pairs = q.constant(np.stack([mult, -shift - 1], axis=1))
            return q.emit("channels", [total, pairs], into, {"more": 1 + 2 * zero}, self.result)
        args = [total, q.constant(mult), q.constant(shift, "i8")]
        return q.emit("rescale_32", args, into, {"zero": zero, "clamp": clamp}, self.result)


RULES: Mapping[str, Callable[[Lowering, Value], None]] = {
    "tfl_fully_connected": _fully_connected,
    "tfl_fully_connected_wide": _fully_connected,
}
