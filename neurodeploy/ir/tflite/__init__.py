"""The TFLite dialect: primitives that are each one integer op of TFLite Micro, with its reference kernel's bits.

Every multiplier is derived from the scales in the types, as the kernel's ``Prepare`` does: a flatbuffer holds float32
scales, the rest is double. (TFLM sources up to 2026 go on in float for ``SUB``, ``RELU`` and FULLY_CONNECTED of one
channel: a few results in thousands differ by one.) Rounding as in tensorflow/tflite-micro,
``kernels/internal/common.cc``, and gemmlowp's ``fixedpoint.h``. Ops that only move elements or choose between them
(slice, concat, reshape, min, max ...) need no twin here: TFLM's kernels do what the plain primitives do.

Where the C++ would overflow a signed integer its result is undefined; here :class:`NumericsError` is raised.
"""

from __future__ import annotations

from neurodeploy.ir.op import Op
from neurodeploy.ir.tflite import (
    borders,
    comparisons,
    convolutions,
    functions,
    lstm,
    pointwise,
    products,
    rectifiers,
    svdf,
    tables,
)

#: One room a line.
ROOMS = (
    products,
    pointwise,
    rectifiers,
    comparisons,
    tables,
    functions,
    lstm,
    svdf,
    convolutions,
    borders,
)
TFLITE_OPS: dict[str, Op] = {op.name: op for room in ROOMS for op in room.OPS}
