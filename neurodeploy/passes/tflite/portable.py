"""Results that every version of TFLite Micro agrees on: multipliers computed in float32 and in double do the same.

SUB (``micro/kernels/sub_common.cc``, ``CalculateOpDataSub``), RELU (``micro/kernels/activations_common.cc``,
``CalculateReluOpData``) and FULLY_CONNECTED with one scale (``kernels/kernel_util.cc``,
``GetQuantizedConvolutionMultipler``) compute their multipliers from quotients and products of scales in float32 in some
versions, in double in others. Both are the same where float32 holds them exactly: at 16 bits by powers of two, in
products by scales of 12 bits (:mod:`~neurodeploy.passes.tflite.scales`). At 8 bits powers of two would cost up to half
of the steps. There every argument that can come is tried, and where a result differs the scales are moved by one part
in 1,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from neurodeploy.ir.graph import Stage, Value
from neurodeploy.ir.op import Array
from neurodeploy.ir.tflite.fixed_point import multiply_32, offset, quantize_multiplier, scale_of
from neurodeploy.ir.tflite.pointwise import ADD_SHIFT
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.tflite.scales import Scales

#: How often scales are moved. One result in some 10^5 differs, so that hardly ever more than two are needed.
TRIES = 20


def portable(scales: Scales, build: Callable[[], tuple[Stage, ...]]) -> tuple[Stage, ...]:
    """The stages that ``build`` makes of the scales, these moved until no SUB or RELU of 8 bits depends on float32."""
    before, found = list(scales.warnings), list[tuple[Stage, Value]]()
    for _ in range(TRIES):
        keys = [(stage.name, name) for stage, value in found for name in (value.name, *value.args)]
        for key in dict.fromkeys(map(scales.find, keys)):
            scales.coarsen(key)
        scales.warnings = list(before)
        stages = build()
        found = [(stage, value) for stage in stages for value in _fragile(stage)]
        if not found:
            break
    scales.warnings.extend(
        f"'{value.name}' of {stage.name} ({value.op}) may be a step off in versions of TFLite Micro that compute its "
        "multipliers in float32. Compare with your own: neurodeploy validate BUILD --on board."
        for stage, value in found
    )
    return stages


def _fragile(stage: Stage) -> Iterator[Value]:
    types = stage.graph.types()
    for value in stage.graph.values:
        if value.op in ("tfl_sub", "tfl_relu") and value.tensor.dtype == "i8":
            given = [types[a] for a in value.args]
            if differs(value.op, [t for t in given if isinstance(t, TensorType)], value.tensor):
                yield value


def factors(op: str, args: Sequence[TensorType], result: TensorType, real: type) -> list[float]:
    """The factors of a SUB, RELU or FULLY_CONNECTED with one scale, computed in ``np.float32`` or ``np.float64``."""
    first, *rest, last = (real(scale_of(t).reshape(-1)[0]) for t in (*args[:2], result))
    if op == "tfl_relu":
        return [float(first / last)]
    if op == "tfl_fully_connected":
        return [float(first * rest[0]) / float(last)]
    twice = 2 * max(first, *rest)
    return [float(first / twice), float(rest[0] / twice), float(twice / (real(1 << ADD_SHIFT[result.dtype]) * last))]


def differs(op: str, args: Sequence[TensorType], result: TensorType) -> bool:
    """Whether any arguments of 8 bits give another result if the factors are computed in float32."""
    every = np.arange(-128, 128, dtype=np.int8)
    grid = [every] if op == "tfl_relu" else [every[:, None], every[None]]
    x = [offset(a, t) for a, t in zip(grid, args, strict=True)]
    single, double = (
        _result(x, [quantize_multiplier(f) for f in factors(op, args, result, real)])
        for real in (np.float32, np.float64)
    )
    return not np.array_equal(single, double)


def _result(x: Sequence[Array], multipliers: Sequence[tuple[Array, Array]]) -> Array:
    """The result before its zero point and its clamps."""
    if len(x) == 1:
        return multiply_32(x[0], *multipliers[0])
    first, second = (multiply_32(a << ADD_SHIFT["i8"], *m) for a, m in zip(x, multipliers, strict=False))
    return multiply_32(first - second, *multipliers[2])
