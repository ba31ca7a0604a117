"""LESS and EQUAL of int8, whose scales may differ: GREATER, LESS_EQUAL and the others follow from them.

Sources: tensorflow/tflite-micro, ``kernels/internal/reference/comparisons.h`` (``ComparisonWithScaling``) and
``ComparisonsPrepare`` of ``micro/kernels/comparisons.cc``. Both arguments are raised by 8 bits, multiplied by their
scales with TFLite's rounding, and compared; with a scale below 2^-8 neighbouring integers become equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, Op, align, broadcast
from neurodeploy.ir.tflite.fixed_point import INT, Attrs, Types, multiply_32, offset, quantize_multiplier, scale_of
from neurodeploy.ir.types import TensorType

#: By how many bits the arguments are raised.
RAISED = 8


def _infer(types: Types, attrs: Attrs) -> TensorType:
    for type_ in types:
        if type_.dtype != "i8" or scale_of(type_).size != 1 or not scale_of(type_) < 1:
            raise IRError(f"takes two i8, each with one scale below 1; {' and '.join(map(str, types))} given.")
    return TensorType(broadcast([t.shape for t in types]), "bool")


def levels(x: Array, type_: TensorType) -> Array:
    """The integers that are compared."""
    return multiply_32(offset(x, type_) << RAISED, *quantize_multiplier(np.float64(scale_of(type_))))


def _compared(by: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def evaluate(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
        return by(*(levels(x, t) for x, t in zip(align(args), types, strict=True)))

    return evaluate


OPS = (
    Op("tfl_less", (2, 2), _infer, _compared(np.less), INT, elementwise=True),
    Op("tfl_equal", (2, 2), _infer, _compared(np.equal), INT, elementwise=True),
)
