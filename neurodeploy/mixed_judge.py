"""What a mix of widths costs, and what it loses against float: the two axes of the search in ``mixed``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.data import Data
from neurodeploy.errors import DataError
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run
from neurodeploy.validate import judge, scores_of

#: Of every few samples one is held out: of each class by itself, where there are classes.
HELD_OUT_EVERY = 4
#: Fewer samples than this are not divided.
_LEAST_SAMPLES = 16
#: Of each class, the errors of at most so many samples are tried on the others.
_ERRORS = 256
#: Flash of a row beside its weights: an i32 bias and an i32 multiplier.
ROW_BYTES = 8


# -- cost --------------------------------------------------------------------------------------------------------------


def flash_bytes(program: Program) -> int:
    """Flash of an integer program's weights with their biases and multipliers.

    A row of a product takes 8 B besides its weights: two weights a byte where all of the product's lie in -7..7, else
    1 or 2 B each. Other weights (tables, factors of general products) take the bytes of their type.
    """
    total = 0
    for stage in program.stages:
        params = stage.graph.params
        for value in stage.graph.values:
            if value.op == "affine":
                matrices = [params[w].data for w in value.args[:-1:2]]
                total += sum(_matrix_bytes(np.concatenate(matrices, axis=1)))
        loose = {a for v in stage.graph.values if v.op in ("matmul", "einsum", "gather", "row") for a in v.args}
        total += sum(p.type.nbytes for n, p in params.items() if n in loose)
    return total


def _matrix_bytes(weights: np.ndarray) -> tuple[int, int]:
    rows, columns = weights.shape
    few = weights.size == 0 or (weights.min() >= -7 and weights.max() <= 7)
    each = (columns + 1) // 2 if few else columns * weights.dtype.itemsize
    return rows * each, rows * ROW_BYTES


def state_bytes(program: Program) -> int:
    """RAM of an integer program's states."""
    return sum(s.type.nbytes for stage in program.stages for s in stage.graph.states)


# -- loss --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """``value``: what the search keeps within its limit. ``measured``: the plain figure, in the same unit (points of
    accuracy, or percent of the range); negative where the mix does better than float. ``rmse``: of the outputs, in
    percent of their range."""

    value: float
    measured: float
    rmse: float


class Judge:
    """Compares programs with a float one on samples.

    With a class for every sample the loss is accuracy, in percentage points: the share of samples that float gets
    right and the mix doesn't (one gained by luck makes up for none lost). So that it tells less than one sample in few,
    each sample's scores are also tried with the errors that the others of its class met, and the larger share counts.
    Otherwise it is the outputs' root mean square error against float, in percent of their range; the worst output's.
    """

    def __init__(self, source: Program, data: Data) -> None:
        self.source, self.data = source, data
        self.reference = real_outputs(source, run(source, data.inputs, data.lengths))
        self.classes = classes_of(source, self.reference, data)

    @property
    def measure(self) -> str:
        """What the loss is."""
        return "points of accuracy" if self.classes is not None else "output error, % of range"

    @property
    def float_accuracy(self) -> float | None:
        """Percent of samples that the float network gets right, with classes."""
        if self.classes is None:
            return None
        return 100 * float(np.mean(self._scores(self.source, self.reference).argmax(axis=1) == self.classes))

    def __call__(self, program: Program) -> Loss:
        """What an integer program loses."""
        found = real_outputs(program, run(program, self.data.inputs, self.data.lengths))
        rmse = 100 * max((self._rmse(name, found[name]) for name in self.reference), default=0.0)
        if self.classes is None:
            return Loss(rmse, rmse, rmse)
        plain, scores = self._scores(self.source, self.reference), self._scores(program, found)
        right, still = plain.argmax(axis=1) == self.classes, scores.argmax(axis=1) == self.classes
        lost = 100 * float(np.mean(right & ~still))
        likely = 100 * _exchanged(plain, scores, self.classes)
        return Loss(max(lost, likely), 100 * float(np.mean(right) - np.mean(still)), rmse)

    def _scores(self, program: Program, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        if self.classes is None:
            raise AssertionError("only classes have scores")
        return scores_of(program, dict(outputs), self.data.lengths, self.classes)

    def _rmse(self, name: str, found: np.ndarray) -> float:
        """Root mean square error over the steps that count, as a share of the float output's range."""
        array = self.reference[name]
        if array.dtype.kind != "f" or not array.size:
            return 0.0
        if self.source.is_series(self.source.outputs[name]) and self.data.lengths is not None:
            counts = np.arange(array.shape[1]) < np.asarray(self.data.lengths)[:, None]
            array, found = array[counts], found[counts]
        span = float(np.ptp(array)) or float(np.abs(array).max()) or 1.0
        return float(np.sqrt(np.mean((array.astype(np.float64) - found) ** 2))) / span


def classes_of(source: Program, outputs: Mapping[str, np.ndarray], data: Data) -> np.ndarray | None:
    """The samples' classes, if the labels are classes of the first output. Raises :class:`DataError` if they misfit."""
    labels = data.labels
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return None
    try:
        metric, _ = judge(source, dict(outputs), data)
    except DataError:
        if scores_of(source, dict(outputs), data.lengths, labels).ndim == 2:
            raise
        return None
    return labels if metric == "ClassificationAccuracy" else None


def _exchanged(plain: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> float:
    """The share of right answers lost if every sample met the errors of the others of its class."""
    error = scores.astype(np.float64) - plain
    right = plain.argmax(axis=1) == classes
    lost = 0.0
    for k in np.unique(classes):
        met = error[classes == k]
        met = met[np.linspace(0, len(met) - 1, min(len(met), _ERRORS)).astype(int)]
        for sample in plain[right & (classes == k)]:
            lost += float(np.mean((sample + met).argmax(axis=1) != k))
    return lost / len(classes)


# -- samples -----------------------------------------------------------------------------------------------------------


def divided(data: Data, classes: np.ndarray | None) -> tuple[Data, Data | None]:
    """Samples to choose by, and those held out to report on: every fourth, of each class by itself.

    Fewer than 16 samples are not divided.
    """
    if data.samples < _LEAST_SAMPLES:
        return data, None
    groups = np.zeros(data.samples, int) if classes is None else classes
    rank = np.zeros(data.samples, int)
    for k in np.unique(groups):
        rank[groups == k] = np.arange(np.count_nonzero(groups == k))
    held = rank % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    if not held.any():
        return data, None
    return _taken(data, ~held), _taken(data, held)


def _taken(data: Data, chosen: np.ndarray) -> Data:
    return replace(
        data,
        inputs={name: array[chosen] for name, array in data.inputs.items()},
        lengths=None if data.lengths is None else np.asarray(data.lengths)[chosen],
        labels=None if data.labels is None else data.labels[chosen],
    )
