"""Elementwise arithmetic: ADD, SUB, MUL, RELU, and QUANTIZE to another scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, Op, align, broadcast, saturate
from neurodeploy.ir.tflite.fixed_point import INT, Attrs, Types, multiply_32, quantize_multiplier, scale_of
from neurodeploy.ir.types import TensorType

ADD_SHIFT = 15


def _infer_pair(types: Types, attrs: Attrs) -> TensorType:
    if {t.dtype for t in types} != {"i16"}:
        raise IRError(f"takes two i16; {' and '.join(map(str, types))} given.")
    return TensorType(broadcast([t.shape for t in types]), "i16")


def add_factors(a: TensorType, b: TensorType, out: TensorType) -> tuple[float, float, float]:
    """ADD's and SUB's factors of both arguments and of their sum."""
    first, second, result = (np.float64(scale_of(t)) for t in (a, b, out))
    twice = 2 * max(first, second)
    return first / twice, second / twice, twice / ((1 << ADD_SHIFT) * result)


def _sum(sign: int) -> Callable[..., Array]:
    def evaluate(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
        first, second, result = (quantize_multiplier(f) for f in add_factors(types[0], types[1], type_))
        a, b = (x.astype(np.int64) << ADD_SHIFT for x in align(args))
        total = multiply_32(a, *first) + sign * multiply_32(b, *second)
        return saturate(multiply_32(total, *result), "i16")

    return evaluate


def mul_factor(a: TensorType, b: TensorType, out: TensorType) -> float:
    """MUL's factor of the product."""
    return float(np.float64(scale_of(a)) * np.float64(scale_of(b)) / np.float64(scale_of(out)))


def _eval_mul(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    a, b = (x.astype(np.int64) for x in align(args))
    return saturate(multiply_32(a * b, *quantize_multiplier(mul_factor(types[0], types[1], type_))), "i16")


def infer_same(types: Types, attrs: Attrs) -> TensorType:
    if types[0].dtype != "i16":
        raise IRError(f"takes i16; {types[0]} given.")
    return TensorType(types[0].shape, "i16")


def _eval_relu(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    factor = np.float64(scale_of(types[0])) / np.float64(scale_of(type_))
    scaled = multiply_32(args[0].astype(np.int64), *quantize_multiplier(factor))
    return saturate(np.maximum(scaled, 0), "i16")


def _eval_quantize(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Another scale: QUANTIZE from int16 to int16."""
    factor = np.float64(scale_of(types[0])) / np.float64(scale_of(type_))
    return saturate(multiply_32(args[0].astype(np.int64), *quantize_multiplier(factor)), "i16")


OPS = (
    Op("tfl_add", (2, 2), _infer_pair, _sum(1), INT, elementwise=True),
    Op("tfl_sub", (2, 2), _infer_pair, _sum(-1), INT, elementwise=True),
    Op("tfl_mul", (2, 2), _infer_pair, _eval_mul, INT, elementwise=True),
    Op("tfl_relu", (1, 1), infer_same, _eval_relu, INT, elementwise=True),
    Op("tfl_quantize", (1, 1), infer_same, _eval_quantize, INT, elementwise=True),
)
