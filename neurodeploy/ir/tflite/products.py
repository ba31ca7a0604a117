"""FULLY_CONNECTED: int8 weights (or int4 at i8) with i8 and i16 activations.

Source: tensorflow/tflite-micro, ``kernels/internal/reference/integer_ops/fully_connected.h`` and
``micro/kernels/fully_connected_common.cc``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.fixed import matmul
from neurodeploy.ir.op import Array, Op, fit
from neurodeploy.ir.tflite.fixed_point import (
    INT,
    Attrs,
    Types,
    clamped,
    multiply_32,
    multiply_64,
    offset,
    quantize_multiplier,
    scale_of,
)
from neurodeploy.ir.tflite.pointwise import check_act
from neurodeploy.ir.types import TensorType

#: Dtypes of the bias by the activations' dtype, the usual one first. It decides the accumulator's width.
BIASES = {"i8": ("i32",), "i16": ("i64", "i32")}


def _infer_fully_connected(types: Types, attrs: Attrs) -> TensorType:
    x, w = types[:2]
    fits = x.dtype in BIASES and w.dtype == "i8" and x.shape and len(w.shape) == 2 and x.shape[-1] == w.shape[1]
    if not fits:
        raise IRError(f"takes i8[...,k] or i16[...,k], weights i8[n,k] and perhaps a bias; {x} and {w} given.")
    if len(types) == 3 and (types[2].dtype not in BIASES[x.dtype] or types[2].shape != w.shape[:1]):
        raise IRError(f"takes a bias {' or '.join(BIASES[x.dtype])}[{w.shape[0]}] with {x}; {types[2]} given.")
    if w.quant is not None and w.quant.axis not in (None, 0):
        raise IRError(f"takes weights with one scale or one per row (axis 0); {w} given.")
    check_act(attrs)
    bits = attrs.get("weight_bits", 8)
    if bits not in (4, 8) or isinstance(bits, bool):
        raise IRError(f"weight_bits is {bits!r}; needed 4 or 8.")
    if bits == 4 and (x.dtype != "i8" or (w.quant is not None and w.quant.array.size > 1)):
        raise IRError(f"takes 4-bit weights with one scale and with i8 alone; {x} and {w} given.")
    return TensorType((*x.shape[:-1], w.shape[0]), x.dtype)


def fully_connected_factor(x: TensorType, w: TensorType, result: TensorType) -> np.ndarray:
    """The factor of the accumulator, one per output channel (or one in all for a single scale)."""
    return np.float64(scale_of(x)) * scale_of(w).astype(np.float64) / np.float64(scale_of(result))


def _eval_fully_connected(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """i8 and a bias i32 are summed in int32, i16 otherwise in int64; each has its own way to multiply."""
    x, w = (offset(a, t) for a, t in zip(args[:2], types[:2], strict=True))
    if attrs.get("weight_bits") == 4 and args[1].size and not (-8 <= args[1].min() and args[1].max() <= 7):
        raise IRError(f"takes 4-bit weights of -8 to 7; {args[1].min()} to {args[1].max()} given.")
    total = matmul(x.reshape(-1, x.shape[-1]), w[0].T[None], "i64")
    if len(args) == 3:
        total = total + args[2]
    mult, shift = quantize_multiplier(fully_connected_factor(types[0], types[1], type_))
    if types[0].dtype == "i8" or (len(types) == 3 and types[2].dtype == "i32"):
        scaled = multiply_32(fit(total, "i32").astype(np.int64), mult, shift)
    else:
        scaled = multiply_64(total, mult, shift)
    return clamped(scaled, type_, attrs.get("act")).reshape(len(x), *type_.shape)


OPS = (Op("tfl_fully_connected", (2, 3), _infer_fully_connected, _eval_fully_connected, INT, ("act", "weight_bits")),)
