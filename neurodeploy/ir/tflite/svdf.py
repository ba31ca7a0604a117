"""TFLite's SVDF, a layer of rank-limited filters over time, as a composite whose body is written in primitives.

Nakkiran et al., "Compressing deep neural networks using a rank-constrained topology" (Interspeech 2015). The integer
arithmetic is that of tensorflow/tflite-micro, ``micro/kernels/svdf_common.cc`` (``EvalIntegerSvdfReference``,
``PrepareSvdf``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.errors import IRError, nearest
from neurodeploy.ir.op import Array, Op, fit
from neurodeploy.ir.tflite.fixed_point import (
    INT,
    Attrs,
    Types,
    clamped,
    multiply_32,
    offset,
    quantize_multiplier,
    scale_of,
    zero_of,
)
from neurodeploy.ir.tflite.pointwise import mul_factor
from neurodeploy.ir.types import INT_BITS, Quant, TensorType, int_range

if TYPE_CHECKING:
    from neurodeploy.ir.build import Builder, Sym

#: Activations of the float layer; the integer kernel has none, whatever its options say.
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1", "tanh")


def _infer_time(types: Types, attrs: Attrs) -> TensorType:
    line, weights, bias = types
    rank = attrs.get("rank", 1)
    fits = line.dtype in ("i8", "i16") and len(line.shape) == 2
    if not fits or not weights.same_data(line.with_(shape=line.shape[::-1])):
        raise IRError(f"takes i8[m,f] or i16[m,f] and weights [f,m] of that dtype; {line} and {weights} given.")
    filters = line.shape[1]
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1 or filters % rank:
        raise IRError(f"rank is {rank!r}; needed a whole number that divides the {filters} filters.")
    if (bias.shape, bias.dtype) != ((filters // rank,), "i32"):
        raise IRError(f"takes a bias i32[{filters // rank}]; {bias} given.")
    return TensorType(bias.shape, "i8")


def _eval_time(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Each filter's sum over time, those of a unit added to its bias, in int32."""
    line, weights = (offset(a, t) for a, t in zip(args[:2], types[:2], strict=True))
    sums = fit((line.swapaxes(1, 2) * weights).sum(axis=2), "i32").astype(np.int64)
    total = args[2] + sums.reshape(len(sums), -1, attrs.get("rank", 1)).sum(axis=2)
    mult, shift = quantize_multiplier(mul_factor(types[0], types[1], type_))
    return clamped(multiply_32(fit(total, "i32").astype(np.int64), mult, shift), type_)


OPS = (Op("tfl_svdf_time", (3, 3), _infer_time, _eval_time, INT, ("rank",)),)


def tflite_svdf(
    b: Builder, x: Sym, line: Sym, features: Sym, weights: Sym, bias: Sym,
    *, rank: int = 1, activation: str = "none", scale: float = 1.0, zero_point: int = 0,
) -> dict[str, Sym]:  # fmt: skip
    """One step of SVDF with f filters that remember m steps; every ``rank`` filters make a unit::

        line' = line without its oldest row, and features x as its newest
        y_u = activation(bias_u + sum over the filters r of u, and the rows t, of weights[r, t] line'[t, r])

    x[k], line[m, f], features[f, k], weights[f, m] and bias[f / rank] are all f32, with an ``activation`` of
    :data:`ACTIVATIONS`; or x and features are i8, line and weights both i8 or both i16, the bias i32, all with one
    scale each (zero points: x's and line's, and 0), and y is i8 on ``scale`` and ``zero_point``, without an activation.
    Results: y and line. Raises :class:`IRError` for other types.
    """
    if rank < 1 or features.type.shape[0] % rank:
        raise IRError(f"tflite_svdf makes a unit of {rank} of {features.type.shape[0]} filters.")
    if x.type.dtype == "f32":
        return _floats(b, x, line, features, weights, bias, rank, activation)
    for sym in (line, features, weights, bias):
        zero = sym.type.quant is not None and sym.type.quant.zero_point and sym is not line
        if sym.type.quant is None or zero or sym.type.quant.array.size != 1:
            raise IRError(f"tflite_svdf takes one scale and the zero point 0 here; {sym.type} given.")
    if activation != "none":
        raise IRError(f"tflite_svdf on integers has no activation; {activation!r} given.")
    wide = "tfl_fully_connected_wide" if line.type.dtype == "i16" else "tfl_fully_connected"
    newest = b(wide, x, features, name="newest", quant=Quant(float(scale_of(line.type)), 0))
    if zero_of(line.type):
        newest = _wrapped(b, newest, line.type)
    moved = b("shift", line, newest, name="moved", quant=line.type.quant)
    y = b("tfl_svdf_time", moved, weights, bias, name="y", rank=rank, quant=Quant(scale, zero_point))
    return {"y": y, "line": moved}


def _wrapped(b: Builder, newest: Sym, line: TensorType) -> Sym:
    """A clamped value with the line's zero point added, which the kernel lets wrap around."""
    zero, bits = zero_of(line), INT_BITS[line.dtype]
    least, most = int_range(line.dtype)
    total = b("add", b("cast", newest, to="i32"), b.const(zero, "i32"))
    past = b("lt", total, b.const(least, "i32")) if zero < 0 else b("lt", b.const(most, "i32"), total)
    turn = b("select", past, b.const((1 << bits) if zero < 0 else -(1 << bits), "i32"), b.const(0, "i32"))
    return b("cast", b("add", total, turn), to=line.dtype, quant=line.quant)


def _floats(
    b: Builder, x: Sym, line: Sym, features: Sym, weights: Sym, bias: Sym, rank: int, activation: str
) -> dict[str, Sym]:
    if activation not in ACTIVATIONS:
        raise IRError(f"tflite_svdf has no activation {activation!r}.", hint=nearest(activation, ACTIVATIONS))
    moved = b("shift", line, features @ x, name="moved")
    sums = b("sum", weights * b("transpose", moved, perm=[1, 0]), axis=1)
    y = bias + b("sum", b("reshape", sums, shape=[sums.shape[0] // rank, rank]), axis=1)
    if activation in ("relu", "tanh"):
        y = b(activation, y)
    elif activation != "none":
        low, high = {"relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}[activation]
        y = b("max", b("min", y, high), low)
    return {"y": y, "line": moved}
