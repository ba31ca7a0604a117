"""Rounding 4-bit weights, which have one scale in all, against the vectors that they multiply on sample data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from neurodeploy.data import Data
from neurodeploy.ir.graph import Program
from neurodeploy.passes.quantize_moments import run_samples
from neurodeploy.passes.quantize_rounding import compensated
from neurodeploy.passes.tflite.widths import Widths

TOP = 7
#: Shares of the scale without clipping that are tried.
SHARES = np.linspace(1.0, 0.3, 15)
#: (stage, vector) -> [K+1, K+1].
Moments = Mapping[tuple[str, str], np.ndarray]


def operand_moments(
    program: Program, data: Data, widths: Widths, progress: Callable[[str], None] | None = None
) -> Moments:
    """``E[v v^T]`` of every vector that 4-bit weights multiply, and a 1 behind it, over all steps that count."""
    wanted = {
        (stage.name, x)
        for stage in program.stages
        for value in stage.graph.values
        if value.op == "matmul"
        for w, x in (value.args, value.args[::-1])
        if widths.bits(stage.name, w) == 4
    }
    sums: dict[tuple[str, str], np.ndarray] = {}
    counts: dict[tuple[str, str], int] = {}

    def observe(stage: str, name: str, array: np.ndarray, active: np.ndarray) -> None:
        key = stage, name
        if key not in wanted or not active.any():
            return
        seen = np.broadcast_to(array, (len(active), *array.shape[1:]))[active].astype(np.float64)
        rows = seen.reshape(-1, array.shape[-1])
        v = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
        sums[key] = sums.get(key, 0.0) + v.T @ v
        counts[key] = counts.get(key, 0) + len(v)

    run_samples(program, data, observe, progress)
    return {key: total / counts[key] for key, total in sums.items()}


def narrow_weights(
    weights: np.ndarray, bias: np.ndarray, moment: np.ndarray | None
) -> tuple[np.ndarray, float, np.ndarray]:
    """Whole weights of -7 to 7 ``[R, K]``, their one scale, and the bias ``[R]`` that goes with them.

    Of the shares of the largest weight that one scale may clip to, the one with the least mean square error of the
    products, each tried with compensated rounding. Without ``moment`` weights go to the nearest, against white vectors.
    """
    largest = float(np.abs(weights).max(initial=0)) or 1.0
    best, found = np.inf, (np.zeros(weights.shape, np.int64), largest / TOP, bias)
    for share in SHARES:
        scale = float(np.float32(largest * share / TOP))
        if moment is None:
            whole = np.clip(np.rint(weights / scale), -TOP, TOP).astype(np.int64)
            moved, error = bias, float(np.square(weights - whole * scale).sum())
        else:
            steps, tops, one = np.full(weights.shape, scale), np.full(weights.shape[1], TOP), np.ones(1)
            whole, _, moved = compensated(weights, steps, tops, bias, moment, np.ones(len(weights)), one)
            gap = np.concatenate([weights - whole * scale, (bias - moved)[:, None]], axis=1)
            error = float(np.einsum("rk,rk->", gap @ moment, gap))
        if error < best:
            best, found = error, (whole, scale, moved)
    return found
