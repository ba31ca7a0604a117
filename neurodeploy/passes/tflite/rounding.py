"""Rounding weights for TFLite Micro against the vectors that they multiply on sample data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from neurodeploy.data import Data
from neurodeploy.ir.graph import Program
from neurodeploy.passes.quantize_moments import run_samples
from neurodeploy.passes.quantize_rounding import UNCLIPPED, compensated, regularized
from neurodeploy.passes.tflite.scales import step

#: Greatest integer of weights, by their bits.
TOPS = {4: 7, 8: 127}
#: Shares of the scale without clipping that are tried for 4-bit weights; 8-bit ones are never clipped.
SHARES = np.linspace(1.0, 0.3, 15)
#: (stage, vector) -> [K+1, K+1].
Moments = Mapping[tuple[str, str], np.ndarray]


def operand_moments(
    program: Program,
    data: Data,
    known: Mapping[str, Mapping[str, np.ndarray]],
    progress: Callable[[str], None] | None = None,
) -> Moments:
    """``E[v v^T]`` of every vector that weights multiply, and a 1 behind it, over all steps that count,
    :func:`~neurodeploy.passes.quantize_rounding.regularized` for their number.

    ``known``: the constants of every stage.
    """
    wanted = {
        (stage.name, x)
        for stage in program.stages
        for value in stage.graph.values
        if value.op == "matmul"
        for w, x in (value.args, value.args[::-1])
        if w in known[stage.name] and x not in known[stage.name]
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
    return {key: regularized(total / counts[key], [len(total) - 1], counts[key]) for key, total in sums.items()}


@dataclass(frozen=True)
class Rounded:
    """Whole weights ``[R, K]``, the bias ``[R]`` that goes with them, and the mean square ``error`` ``[R]`` of each
    row's product on the data (without data: on white vectors)."""

    whole: np.ndarray
    bias: np.ndarray
    error: np.ndarray


def rounded(
    weights: np.ndarray, steps: np.ndarray, top: int, bias: np.ndarray, moment: np.ndarray | None, moves: bool
) -> Rounded:
    """Weights ``[R, K]`` as integers of at most ``top``, ``steps`` ``[R]`` (or ``[1]``) the size of one.

    Each row to the nearest, or compensated if that has the smaller error by ``moment``; ``moves``: the bias may take up
    what the row loses in the mean.
    """
    sizes = np.broadcast_to(steps[:, None], weights.shape)
    nearest = np.clip(np.rint(weights / sizes), -top, top).astype(np.int64)
    if moment is None:
        return Rounded(nearest, bias, np.square(weights - nearest * sizes).sum(axis=1))
    if not moves:  # the 1 moves with nothing
        moment = moment.copy()
        moment[-1, :-1] = moment[:-1, -1] = 0.0
    plain = Rounded(nearest, bias, _errors(weights - nearest * sizes, 0 * bias, moment))
    tops, ones = np.full(weights.shape[1], top), np.ones(len(weights))
    whole, _, moved = compensated(weights, sizes, tops, bias, moment, ones, UNCLIPPED)
    moved = moved if moves else bias
    error = _errors(weights - whole * sizes, bias - moved, moment)
    better = error < plain.error
    return Rounded(
        np.where(better[:, None], whole, nearest), np.where(better, moved, bias), np.minimum(error, plain.error)
    )


def _errors(gap: np.ndarray, lost: np.ndarray, moment: np.ndarray) -> np.ndarray:
    full = np.concatenate([gap, lost[:, None]], axis=1)
    return np.einsum("rk,rk->r", full @ moment, full)


def narrow_weights(
    weights: np.ndarray, least: float, bias: np.ndarray, moment: np.ndarray | None, moves: bool
) -> tuple[float, Rounded]:
    """The one scale (``least`` or more) of 4-bit weights ``[R, K]``, and what they become.

    Of the shares of the largest weight that it may clip to, the one with the least error of all rows.
    """
    largest = float(np.abs(weights).max(initial=0)) or 1.0
    scales = [step(max(largest * float(share) / TOPS[4], least)) for share in SHARES]
    found = [rounded(weights, np.array([scale]), TOPS[4], bias, moment, moves) for scale in scales]
    best = int(np.argmin([made.error.sum() for made in found]))
    return scales[best], found[best]
