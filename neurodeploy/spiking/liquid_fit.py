"""Fitting a liquid: its constants by cross-validation, its readout by ridge regression, both on training data only."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.errors import DataError
from neurodeploy.spiking.liquid import TRACE_BITS, Activity, Constants, Liquid, simulate

TICKS = (4, 8)
THRESHOLDS = (1.0, 1.4)
MEMBRANES = (1.0, 0.9)
RIDGES = (0.03, 0.1, 0.3, 1.0)
FOLDS = 5
#: Of what scores this close to the best in cross-validation, the constants with the fewest spikes and the largest
#: penalty are taken.
TOLERANCE = 0.005


@dataclass(frozen=True)
class Task:
    """What the readout learns: ``targets`` [rows, outputs] for the frames ``where`` [batch, frames]; rows go sample by
    sample. ``classes`` [rows] where the score is accuracy, else it is ``1 - NRMSE``."""

    where: np.ndarray
    targets: np.ndarray
    classes: np.ndarray | None

    @property
    def samples(self) -> np.ndarray:
        """The sample of each row."""
        return np.nonzero(self.where)[0]


@dataclass(frozen=True)
class Fit:
    """The chosen constants, their cross-validated score, spikes a sample, and all candidates tried."""

    constants: Constants
    score: float
    spikes: float
    tried: int
    metric: str


def task_of(labels: np.ndarray | None, teacher: np.ndarray, active: np.ndarray, outputs: int, series: bool) -> Task:
    """The readout's task: whole-number labels [batch] one-hot at each sample's last frame, targets as they are, or
    without labels the source network's own outputs (``teacher``). Raises :class:`DataError`."""
    last = np.zeros_like(active)
    ends = active.sum(axis=1) - 1
    if (ends < 0).any():
        raise DataError("a sample has no steps; the readout can't be fitted to it.", place="calibration data")
    last[np.arange(len(active)), ends] = True
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
        if labels.min() < 0 or labels.max() >= outputs:
            raise DataError(
                f"labels run {labels.min()}..{labels.max()}; the network has {outputs} outputs.",
                place="calibration data",
            )
        return Task(last, np.eye(outputs)[labels], labels)
    goal = teacher if labels is None else np.asarray(labels, np.float64)
    where = active if series else last
    wanted = (*active.shape, outputs) if series else (len(active), outputs)
    if goal.shape != wanted:
        raise DataError(
            f"targets have shape {list(goal.shape)}; needed {list(wanted)}, or whole-number labels [batch].",
            place="calibration data",
        )
    return Task(where, goal[where] if series else goal, None)


def fit(
    make: Callable[[Constants], Liquid], x: np.ndarray, active: np.ndarray, task: Task,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Liquid, Fit]:  # fmt: skip
    """Choose the constants and fit the readout. ``x``: quantized inputs ``[batch, frames, inputs]``.

    Deterministic: the grid is fixed and folds are every fifth sample. Raises :class:`DataError` for under ten samples.
    """
    if len(x) < 2 * FOLDS:
        raise DataError(
            f"{len(x)} samples; needed at least {2 * FOLDS} to fit a liquid's readout.", place="calibration data"
        )
    found: list[tuple[Constants, Liquid, Activity, float, float]] = []
    for ticks, threshold, membrane in itertools.product(TICKS, THRESHOLDS, MEMBRANES):
        liquid = make(Constants(ticks, threshold, membrane, 0.0))
        activity = simulate(liquid, x, active)
        spikes = float(activity.spikes.sum() / len(x))
        features = _features(activity, task)
        scores = {ridge: cross_validated(features, task, ridge) for ridge in RIDGES}
        ridge = max(r for r in RIDGES if scores[r] >= max(scores.values()) - TOLERANCE)
        constants = Constants(ticks, threshold, membrane, ridge)
        score = max(scores.values())
        found.append((constants, liquid, activity, score, spikes))
        say(f"liquid {ticks} ticks, threshold {threshold}, leak {membrane}: {score:.3f}, {spikes:.0f} spikes")
    best = max(score for *_, score, _ in found)
    constants, liquid, activity, score, spikes = min(
        (entry for entry in found if entry[3] >= best - TOLERANCE), key=lambda entry: entry[4]
    )
    weights = ridge_regression(_features(activity, task), task.targets, constants.ridge)
    metric = "1 - NRMSE" if task.classes is None else "accuracy"
    return with_readout(liquid, weights), Fit(constants, score, spikes, len(found) * len(RIDGES), metric)


def _features(activity: Activity, task: Task) -> np.ndarray:
    """Traces of the task's frames as parts of one, with a 1 appended: ``[rows, neurons + 1]``."""
    rows = activity.traces[task.where] / (1 << TRACE_BITS)
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def ridge_regression(features: np.ndarray, targets: np.ndarray, penalty: float) -> np.ndarray:
    """Weights ``[neurons + 1, outputs]`` with least squared error plus ``penalty`` times their square, bias free."""
    penalties = np.full(features.shape[1], penalty)
    penalties[-1] = 1e-9
    return np.linalg.solve(features.T @ features + np.diag(penalties), features.T @ targets)


def cross_validated(features: np.ndarray, task: Task, penalty: float) -> float:
    """Accuracy (or 1 - NRMSE) on rows of samples that were left out, over all folds."""
    fold = task.samples % FOLDS
    predicted = np.zeros_like(task.targets, dtype=np.float64)
    for k in range(FOLDS):
        weights = ridge_regression(features[fold != k], task.targets[fold != k], penalty)
        predicted[fold == k] = features[fold == k] @ weights
    if task.classes is not None:
        return float((predicted.argmax(axis=1) == task.classes).mean())
    spread = float(np.var(task.targets)) or 1.0
    return 1.0 - float(np.sqrt(np.mean((predicted - task.targets) ** 2) / spread))


def with_readout(liquid: Liquid, weights: np.ndarray) -> Liquid:
    """The liquid with a readout in whole numbers: the finest scale whose accumulator of 32 bits can't overflow."""
    slope, bias = weights[:-1].T / (1 << TRACE_BITS), weights[-1]
    top = float((np.abs(slope).sum(axis=1) * liquid.trace_limit + np.abs(bias)).max())
    room = 2.0**31 - 1 - (liquid.neurons + 1) * liquid.trace_limit  # roundings of the weights
    scale = max(top / room, float(np.abs(slope).max()) / 32767, 1e-30)
    return replace(
        liquid,
        readout=np.rint(slope / scale).astype(np.int16),
        readout_bias=np.rint(bias / scale).astype(np.int32),
        out_scale=float(np.float32(scale)),
    )
