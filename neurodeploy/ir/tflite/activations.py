"""Kernels of one int8 that the dialect holds as their tables of all 256: LEAKY_RELU and HARD_SWISH.

Sources: tensorflow/tflite-micro, ``kernels/internal/reference/leaky_relu.h`` and ``hard_swish.h``, and their
``Prepare`` in ``micro/kernels/leaky_relu_common.cc`` and ``hard_swish_common.cc``.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, saturate
from neurodeploy.ir.tflite.fixed_point import (
    clamped,
    multiply_32,
    offset,
    quantize_multiplier,
    rounding_shift,
    scale_of,
)
from neurodeploy.ir.types import TensorType

#: By how many bits HARD_SWISH raises its argument, and the real number of 32768 steps of its gate.
RAISED, GATE_TOP = 7, 3.0


def leaky_relu(x: Array, source: TensorType, target: TensorType, alpha: float) -> Array:
    """``x`` or, below 0, ``alpha x``, each by a multiplier of its own; the kernel makes both in float32."""
    ratio = scale_of(source) / scale_of(target)
    below = np.float32(scale_of(source) * np.float32(alpha)) / scale_of(target)
    within = offset(x, source)
    mult, shift = quantize_multiplier(abs(float(below)))
    negative = np.sign(below).astype(np.int64) * multiply_32(within, mult, shift)
    return clamped(np.where(within >= 0, multiply_32(within, *quantize_multiplier(float(ratio))), negative), target)


def _half(mult: Array) -> int:
    """A 31-bit multiplier rounded to 15 bits."""
    return min((int(mult) + (1 << 15)) >> 16, 32767)


def _high(x: Array, factor: int) -> Array:
    """The high half of the doubled product of two int16, rounded."""
    return np.minimum((x * factor + (1 << 14)) >> 15, 32767)


def hard_swish(x: Array, source: TensorType, target: TensorType) -> Array:
    """``x relu6(x + 3) / 6`` in int16. Raises :class:`IRError` for a result too fine for the kernel."""
    fine = np.float32(1 / 128) * scale_of(source)
    mult, exponent = quantize_multiplier(float(fine / scale_of(target)))
    gate_mult, gate_exponent = quantize_multiplier(float(fine / np.float32(GATE_TOP / 32768)))
    if exponent > 0:
        raise IRError(f"gives {target} of {source}; needed a scale of at least 1/128 of the argument's")
    raised = offset(x, source) << RAISED
    raised = ((raised + 32768) & 65535) - 32768  # the kernel keeps 16 bits
    value, gate = _high(raised, _half(mult)), raised
    if gate_exponent > 0:
        gate = saturate(gate << (gate_exponent - 1), "i16").astype(np.int64)
    gate = _high(gate, _half(gate_mult))
    if gate_exponent > 0:
        gate = saturate(gate << 1, "i16").astype(np.int64)
    if gate_exponent < 0:
        gate = rounding_shift(gate, -gate_exponent)
    product = ((gate + (1 << 15)) >> 1) * value
    truncated = np.sign(product) * (np.abs(product) >> 15)
    return clamped(rounding_shift(truncated, -exponent), target)
