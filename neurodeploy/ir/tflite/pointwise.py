"""Elementwise arithmetic: ADD, SUB, MUL, RELU, RELU6, and QUANTIZE to another scale or dtype.

Sources: tensorflow/tflite-micro, ``kernels/internal/reference`` (``add.h``, ``sub.h``, ``integer_ops/add.h``,
``integer_ops/mul.h``, ``requantize.h``), their ``Prepare`` in ``micro/kernels``, and ``micro/kernels/activations.h``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, Op, align, broadcast
from neurodeploy.ir.tflite.fixed_point import (
    ACTIVATIONS,
    INT,
    Attrs,
    Types,
    clamped,
    multiply_32,
    nearest_step,
    offset,
    quantize_multiplier,
    scale_of,
    zero_of,
)
from neurodeploy.ir.types import TensorType, int_range

#: By how many bits ADD and SUB raise their arguments.
ADD_SHIFT = {"i8": 20, "i16": 15}


def check_act(attrs: Attrs) -> None:
    """Refuse a fused activation that TFLite doesn't have. Raises :class:`IRError`."""
    if "act" in attrs and attrs["act"] not in ACTIVATIONS:
        raise IRError(f"act is {attrs['act']!r}; needed one of {', '.join(ACTIVATIONS)}.")


def _infer_pair(types: Types, attrs: Attrs) -> TensorType:
    dtypes = {t.dtype for t in types}
    if len(dtypes) > 1 or not dtypes <= set(ADD_SHIFT):
        raise IRError(f"takes two i8 or two i16; {' and '.join(map(str, types))} given.")
    check_act(attrs)
    return TensorType(broadcast([t.shape for t in types]), types[0].dtype)


def _infer_product(types: Types, attrs: Attrs) -> TensorType:
    found = _infer_pair(types, attrs)
    centred(types)
    return found


def centred(types: Types) -> None:
    """Refuse an i16 with a zero point, as several kernels do. Raises :class:`IRError`."""
    for type_ in types:
        if type_.dtype == "i16" and zero_of(type_):
            raise IRError(f"takes i16 with the zero point 0; {type_} given.")


def add_factors(a: TensorType, b: TensorType, out: TensorType) -> tuple[float, float, float]:
    """ADD's and SUB's factors of both arguments and of their sum."""
    first, second, result = (np.float64(scale_of(t)) for t in (a, b, out))
    twice = 2 * max(first, second)
    return first / twice, second / twice, twice / ((1 << ADD_SHIFT[out.dtype]) * result)


def _sum(sign: int) -> Callable[..., Array]:
    def evaluate(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
        first, second, result = (quantize_multiplier(f) for f in add_factors(types[0], types[1], type_))
        a, b = (offset(x, t) << ADD_SHIFT[type_.dtype] for x, t in zip(align(args), types, strict=True))
        total = multiply_32(a, *first) + sign * multiply_32(b, *second)
        return clamped(multiply_32(total, *result), type_, attrs.get("act"))

    return evaluate


def mul_factor(a: TensorType, b: TensorType, out: TensorType) -> float:
    """MUL's factor of the product."""
    return float(np.float64(scale_of(a)) * np.float64(scale_of(b)) / np.float64(scale_of(out)))


def _eval_mul(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    a, b = (offset(x, t) for x, t in zip(align(args), types, strict=True))
    product = multiply_32(a * b, *quantize_multiplier(mul_factor(types[0], types[1], type_)))
    return clamped(product, type_, attrs.get("act"))


def infer_same(types: Types, attrs: Attrs) -> TensorType:
    """The shape and dtype of the argument, an i8, or an i16 without a zero point."""
    if types[0].dtype not in ADD_SHIFT:
        raise IRError(f"takes i8 or i16; {types[0]} given.")
    centred(types)
    return TensorType(types[0].shape, types[0].dtype)


def rescaled(x: Array, source: TensorType, target: TensorType) -> Array:
    """Integers of one scale on another, without the target's zero point."""
    factor = np.float64(scale_of(source)) / np.float64(scale_of(target))
    return multiply_32(offset(x, source), *quantize_multiplier(factor))


def _eval_relu(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    return clamped(rescaled(args[0], types[0], type_), type_, "relu")


def _eval_relu6(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Clamped in the argument's own integers: the kernel doesn't look at the result's scale."""
    low, high = int_range(types[0].dtype)
    return np.clip(args[0], zero_of(types[0]), min(max(nearest_step(6.0, types[0]), low), high))


def _infer_quantize(types: Types, attrs: Attrs) -> TensorType:
    source, target = types[0].dtype, attrs.get("to", types[0].dtype)
    if source not in (*ADD_SHIFT, "i32") or target not in (*ADD_SHIFT, "i32") or source == target == "i32":
        raise IRError(f"takes i8, i16 or i32 and gives one of them, but no i32 of an i32; {source} to {target} given.")
    return TensorType(types[0].shape, target)


def _eval_quantize(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    return clamped(rescaled(args[0], types[0], type_), type_)


OPS = (
    Op("tfl_add", (2, 2), _infer_pair, _sum(1), INT, ("act",), elementwise=True),
    Op("tfl_sub", (2, 2), _infer_pair, _sum(-1), INT, ("act",), elementwise=True),
    Op("tfl_mul", (2, 2), _infer_product, _eval_mul, INT, ("act",), elementwise=True),
    Op("tfl_relu", (1, 1), infer_same, _eval_relu, INT, elementwise=True),
    Op("tfl_relu6", (1, 1), infer_same, _eval_relu6, INT, elementwise=True),
    Op("tfl_quantize", (1, 1), _infer_quantize, _eval_quantize, INT, ("to",), elementwise=True),
)
