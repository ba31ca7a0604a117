"""A readout by ridge regression: its penalty by cross-validation that leaves out whole samples.

``y = w . (x - mean) / spread + c`` minimises ``|Y - y|^2 / rows + penalty |w|^2`` (Hoerl and Kennard 1970); mean and
spread are those of the rows that it is fitted to. One eigendecomposition a fold serves all penalties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import DataError

PENALTIES = 10.0 ** np.arange(-6.0, 2.1, 0.5)
FOLDS = 10
#: Of penalties that score this close to the best, the largest is taken.
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

    @property
    def metric(self) -> str:
        """What :func:`cross_validated` gives."""
        return "1 - NRMSE"

    def part(self, samples: np.ndarray) -> Task:
        """The task of some samples, increasing indices."""
        rows = np.isin(self.samples, samples)
        return Task(self.where[samples], self.targets[rows], None if self.classes is None else self.classes[rows])


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


@dataclass(frozen=True)
class Ridge:
    """Rows decomposed, ready for any penalty."""

    mean: np.ndarray
    spread: np.ndarray
    level: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, targets: np.ndarray) -> Ridge:
        """Of features ``[rows, n]`` and targets ``[rows, outputs]``. A feature that never changes gets no weight.

        All features are scaled alike: one that hardly changes is mostly a spike's grain, and isn't blown up.
        """
        mean, spread, level = features.mean(axis=0), features.std(axis=0), targets.mean(axis=0)
        common = float(np.sqrt((spread**2).mean()))
        spread = np.where(spread > 1e-9 * (1 + np.abs(mean)), common, np.inf)
        scaled = (features - mean) / spread
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        right = vectors.T @ (scaled.T @ (targets - level)) / len(scaled)
        return cls(mean, spread, level, np.maximum(values, 0.0), vectors, right)

    def weights(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """``[outputs, n]`` and bias ``[outputs]`` that act on features as they are."""
        w = (self.vectors @ (self.right / (self.values + penalty)[:, None])).T / self.spread
        return w, self.level - w @ self.mean


def cross_validated(features: np.ndarray, task: Task) -> np.ndarray:
    """Scores [penalties] on samples that were left out: 1 - NRMSE of the targets (of classes, one-hot). Accuracy would
    be too coarse to choose by: of 270 samples one is 0.4 points, and several settings reach the same.

    Sample s is in fold ``s % FOLDS``: all its rows are left out together. Raises :class:`DataError` for too few.
    """
    samples = len(task.where)
    if samples < FOLDS:
        raise DataError(f"{samples} samples; needed at least {FOLDS} to fit a readout.", place="calibration data")
    fold = task.samples % FOLDS
    predicted = np.zeros((len(PENALTIES), *task.targets.shape))
    for k in range(FOLDS):
        out = fold == k
        ridge = Ridge.of(features[~out], task.targets[~out])
        for i, penalty in enumerate(PENALTIES):
            w, c = ridge.weights(penalty)
            predicted[i, out] = features[out] @ w.T + c
    spread = float(np.var(task.targets)) or 1.0
    return 1.0 - np.sqrt(((predicted - task.targets) ** 2).mean(axis=(1, 2)) / spread)


def best_penalty(scores: np.ndarray) -> tuple[float, float]:
    """The largest penalty that scores about as well as the best one, and its score."""
    i = int(np.flatnonzero(scores >= scores.max() - TOLERANCE).max())
    return float(PENALTIES[i]), float(scores[i])
