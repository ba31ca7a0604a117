"""FULLY_CONNECTED."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.fixed import matmul
from neurodeploy.ir.op import Array, Op, saturate
from neurodeploy.ir.tflite.fixed_point import INT, Attrs, Types, multiply_64, quantize_multiplier, scale_of
from neurodeploy.ir.types import TensorType


def _infer_fully_connected(types: Types, attrs: Attrs) -> TensorType:
    x, w = types[:2]
    if (x.dtype, w.dtype) != ("i16", "i8") or not x.shape or len(w.shape) != 2 or x.shape[-1] != w.shape[1]:
        raise IRError(f"tfl_fully_connected takes i16[...,k], i8[n,k] and perhaps a bias i64[n]; {x} and {w} given.")
    if len(types) == 3 and (types[2].dtype, types[2].shape) != ("i64", w.shape[:1]):
        raise IRError(f"tfl_fully_connected takes a bias i64[{w.shape[0]}]; {types[2]} given.")
    return TensorType((*x.shape[:-1], w.shape[0]), "i16")


def fully_connected_factor(x: TensorType, w: TensorType, result: TensorType) -> np.ndarray:
    """The factor of the accumulator, one per output channel (or one in all for a single scale)."""
    return np.float64(scale_of(x)) * scale_of(w).astype(np.float64) / np.float64(scale_of(result))


def _eval_fully_connected(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    x, w = args[:2]
    flat = x.reshape(-1, x.shape[-1])
    total = matmul(flat, w[0].T[None], "i64")
    if len(args) == 3:
        total = total + args[2]
    mult, shift = quantize_multiplier(fully_connected_factor(types[0], types[1], type_))
    return saturate(multiply_64(total, mult, shift), "i16").reshape(len(x), *type_.shape)


OPS = (Op("tfl_fully_connected", (2, 3), _infer_fully_connected, _eval_fully_connected, INT),)
