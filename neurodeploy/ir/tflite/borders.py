"""Between floats and integers: QUANTIZE of a float, and DEQUANTIZE.

Sources: tensorflow/tflite-micro, ``kernels/internal/reference/quantize.h`` (``AffineQuantize``) and ``dequantize.h``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, Op, saturate
from neurodeploy.ir.tflite.fixed_point import Attrs, Types, offset, scale_of, zero_of
from neurodeploy.ir.types import TensorType

KINDS = frozenset({"float", "int"})


def _infer_from_float(types: Types, attrs: Attrs) -> TensorType:
    if types[0].dtype != "f32" or attrs.get("to") not in ("i8", "i16"):
        raise IRError(f"takes f32 and to= i8 or i16; {types[0]} and {attrs.get('to')!r} given.")
    return TensorType(types[0].shape, attrs["to"])


def _eval_from_float(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    return from_real(args[0], type_)


def from_real(x: Array, type_: TensorType) -> Array:
    """Real numbers as integers of a type: divided by its scale in float32, to the nearest, halves away from zero.

    NaN is 0. Beyond int32 they saturate, as an ARM's conversion does; in C++ they are undefined.
    """
    steps = (np.asarray(x, np.float32) / scale_of(type_)).astype(np.float64)
    whole = np.copysign(np.floor(np.abs(steps) + 0.5), steps)  # in double: 0.49999997 + 0.5 is below 1
    clipped = np.clip(np.nan_to_num(whole), -(2.0**30), 2.0**30).astype(np.int64)
    return saturate(clipped + zero_of(type_), type_.dtype)


def _infer_to_float(types: Types, attrs: Attrs) -> TensorType:
    if types[0].dtype not in ("i8", "i16") or types[0].quant is None or types[0].quant.axis is not None:
        raise IRError(f"takes i8 or i16 with one scale; {types[0]} given.")
    return TensorType(types[0].shape, "f32")


def _eval_to_float(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """The product in double, rounded to float32."""
    return (np.float64(scale_of(types[0])) * offset(args[0], types[0])).astype(np.float32)


OPS = (
    Op("tfl_from_float", (1, 1), _infer_from_float, _eval_from_float, KINDS, ("to",), elementwise=True),
    Op("tfl_to_float", (1, 1), _infer_to_float, _eval_to_float, KINDS, elementwise=True),
)
