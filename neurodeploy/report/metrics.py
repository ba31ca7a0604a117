"""What reports measure: one function each, its formula beside it.

Names follow NeuroBench 2.3 (Yik et al., Nature Communications 16, 1545, 2025) where it has one for the quantity.
Arrays are NumPy's; the first axis is the sample. Every function raises :class:`DataError` for data that it can't judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.errors import DataError
from neurodeploy.report.agreement import agreement, judged  # noqa: F401 - metrics too

if TYPE_CHECKING:
    from neurodeploy.ir.graph import Param, Program


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of samples whose predicted label is right: ``mean(prediction == label)``, 0 to 1.

    ``outputs``: ``[batch]`` predicted labels, or ``[batch, classes]`` scores (then the largest wins, the first of
    equals). ``labels``: ``[batch]`` integers. NeuroBench: ``ClassificationAccuracy``.
    """
    outputs, labels = np.asarray(outputs), np.asarray(labels)
    if outputs.ndim == labels.ndim + 1:
        if np.issubdtype(outputs.dtype, np.floating) and np.isnan(outputs).any():
            raise DataError("the scores hold NaN; an accuracy needs comparable numbers.", place="accuracy")
        outputs = outputs.argmax(axis=-1)
    _same_shape("accuracy", outputs, labels)
    return float(np.mean(outputs == labels))


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """p of the exact two-sided McNemar test that two classifiers are equally often right on the same samples.

    ``correct_a``, ``correct_b``: ``[batch]`` bool. Of the n samples that only one of them gets right, k are the rarer
    kind: ``p = min(1, 2 sum_{i<=k} C(n, i) / 2^n)``; 1 where they never differ. (McNemar, Psychometrika 12, 1947.)
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    _same_shape("mcnemar", a, b)
    if a.dtype != bool or b.dtype != bool or a.ndim != 1:
        raise DataError(f"found {a.dtype}{list(a.shape)} and {b.dtype}; needed bool [batch].", place="mcnemar")
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    differing = only_a + only_b
    tail = sum(math.comb(differing, i) for i in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**differing)


def spread(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """What chips (or seeds) found, ``[chips]``: ``mean``, ``sd`` (n - 1; 0 for one), ``median``, ``low`` and ``high``
    (5th and 95th percentile, linear between the two nearest), and how many ``chips``."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not found.size:
        raise DataError(f"found values of shape {list(found.shape)}; needed one a chip, [chips].", place="spread")
    low, median, high = (float(v) for v in np.percentile(found, [5, 50, 95]))
    sd = float(found.std(ddof=1)) if found.size > 1 else 0.0
    return {"mean": float(found.mean()), "sd": sd, "median": median, "low": low, "high": high, "chips": found.size}


def mse(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean squared error: ``mean((y - t)^2)`` over every element. NeuroBench: ``MSE``."""
    return float(np.mean(_error("mse", outputs, targets) ** 2))


def rmse(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Root of the mean squared error: ``sqrt(mean((y - t)^2))``, in the target's unit."""
    return float(np.sqrt(mse(outputs, targets)))


def nrmse(outputs: np.ndarray, targets: np.ndarray) -> float:
    """RMSE over the target's standard deviation: ``sqrt(mean((y - t)^2) / var(t))``; 1 is a constant guess.

    Normalised by the standard deviation, as is usual for reservoirs (Lukosevicius, A Practical Guide to Applying Echo
    State Networks, 2012, eq. 1), not by the range. A constant target has none and raises :class:`DataError`.
    """
    spread = float(np.var(np.asarray(targets, dtype=np.float64)))
    if spread == 0:
        raise DataError("the target is constant; NRMSE divides by its deviation.", place="nrmse", hint="Use rmse.")
    return float(np.sqrt(mse(outputs, targets) / spread))


def mae(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Mean absolute error: ``mean(|y - t|)``, in the target's unit."""
    return float(np.mean(np.abs(_error("mae", outputs, targets))))


def r2(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Coefficient of determination, ``1 - sum((y - t)^2) / sum((t - mean t)^2)`` per last-axis column, then the mean.

    All other axes are pooled; one-dimensional data is one column. NeuroBench: ``R2`` (there for two columns). A
    constant column raises :class:`DataError`.
    """
    error = _error("r2", outputs, targets)
    target = np.asarray(targets, dtype=np.float64)
    width = target.shape[-1] if target.ndim > 1 else 1
    error, target = error.reshape(-1, width), target.reshape(-1, width)
    spread = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    if (spread == 0).any():
        raise DataError("a target column is constant; R2 divides by its deviation.", place="r2", hint="Use mse.")
    return float(np.mean(1 - (error**2).sum(axis=0) / spread))


def smape(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Symmetric mean absolute percentage error: ``200 * mean(|y - t| / (|y| + |t|))``, 0 to 200 %.

    A term with ``y = t = 0`` is right and counts 0. (NeuroBench's ``SMAPE`` has the same formula, but one such term
    makes its whole result 200.)
    """
    error = np.abs(_error("smape", outputs, targets))
    size = np.abs(np.asarray(outputs, dtype=np.float64)) + np.abs(np.asarray(targets, dtype=np.float64))
    return float(200 * np.mean(np.divide(error, size, out=np.zeros_like(error), where=size > 0)))


def parameter_count(program: Program) -> int:
    """Number of elements of all parameters of all stages. NeuroBench: ``ParameterCount``.

    Ask it of the float program: a quantized one also holds tables and scales.
    """
    return sum(param.type.size for param in _params(program))


def footprint(program: Program) -> int:
    """Bytes of all parameters and all states, unpadded. NeuroBench: ``Footprint`` (parameters and buffers)."""
    states = sum(state.type.nbytes for stage in program.stages for state in stage.graph.states)
    return states + sum(param.type.nbytes for param in _params(program))


def connection_sparsity(program: Program) -> float:
    """Share of weights that are zero, 0 to 1: ``zeros / weights`` over parameters of rank 2 or more.

    A quantized weight is zero where it equals its zero point. Raises :class:`DataError` if there are no weights.
    NeuroBench: ``ConnectionSparsity`` (there rounded, and with the biases of recurrent layers).
    """
    zeros = total = 0
    for param in _params(program):
        if len(param.type.shape) >= 2:
            zero_point = param.type.quant.zero_point if param.type.quant else 0
            zeros += int(np.count_nonzero(param.data == zero_point))
            total += param.type.size
    if not total:
        raise DataError("has no weights (no parameter of rank 2 or more).", place=program.name)
    return zeros / total


def activation_sparsity(activations: Sequence[np.ndarray]) -> float:
    """Share of activations that are zero, 0 to 1, over all layers, steps and samples.

    ``activations``: one array a layer, any shape; spikes count as activations. NeuroBench: ``ActivationSparsity``.
    """
    total = sum(np.asarray(a).size for a in activations)
    if not total:
        raise DataError("there are no activations to count.", place="activation_sparsity")
    return (total - spike_count(activations)) / total


def spike_count(spikes: Sequence[np.ndarray]) -> int:
    """Number of events: non-zero elements over all layers, steps and samples (a graded spike is one event)."""
    return sum(int(np.count_nonzero(layer)) for layer in spikes)


def synaptic_operations(connections: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Synaptic operations per sample, with NeuroBench's names: ``Effective_MACs``, ``Effective_ACs``, ``Dense``.

    ``connections``: pairs of inputs ``[batch, steps, n_in]`` and weights ``[n_out, n_in]``; biases don't count.
    *Dense* is ``steps * n_in * n_out``. *Effective* counts a product only where input and weight are both non-zero.
    A connection's products are accumulates (ACs) if every input is -1, 0 or 1, otherwise multiply-accumulates (MACs).
    """
    counts = {"Effective_MACs": 0.0, "Effective_ACs": 0.0, "Dense": 0.0}
    batch = np.shape(connections[0][0])[0] if connections and np.ndim(connections[0][0]) else 0
    for inputs, weights in connections:
        inputs, weights = np.asarray(inputs), np.asarray(weights)
        fits = inputs.ndim == 3 and weights.ndim == 2 and inputs.shape[2] == weights.shape[1]
        if not fits or inputs.shape[0] != batch:
            raise DataError(
                f"inputs {inputs.shape} and weights {weights.shape}; needed [batch, steps, n_in] with one batch for "
                "all, and [n_out, n_in].",
                place="synaptic_operations",
            )
        active = np.count_nonzero(inputs, axis=(0, 1))
        effective = float(active @ np.count_nonzero(weights, axis=0))
        spiking = bool(np.isin(inputs, (-1, 0, 1)).all())
        counts["Effective_ACs" if spiking else "Effective_MACs"] += effective
        counts["Dense"] += float(inputs.size * weights.shape[0])
    if not batch:
        raise DataError("there are no samples to count.", place="synaptic_operations")
    return {name: count / batch for name, count in counts.items()}


def membrane_updates(before: np.ndarray, after: np.ndarray) -> float:
    """Membrane updates per sample: elements of the first step, and later ones that a step changed.

    ``before``, ``after``: potentials ``[batch, steps, neurons]`` before a step and after it, its input, leak and reset
    included. NeuroBench: ``MembraneUpdates``.
    """
    before, after = np.asarray(before), np.asarray(after)
    _same_shape("membrane_updates", before, after)
    if before.ndim != 3:
        raise DataError(f"found shape {before.shape}; needed [batch, steps, neurons].", place="membrane_updates")
    return float(after[:, 0].size + np.count_nonzero(before[:, 1:] != after[:, 1:])) / before.shape[0]


def worst_and_mean(counts: np.ndarray, executed: np.ndarray) -> tuple[int, float]:
    """Largest and mean count of a step over all executed steps of all samples.

    ``counts``: ``[batch, steps]``, of which sample i executed the first ``executed[i]``; the rest is padding.
    """
    counts, executed = np.asarray(counts), np.asarray(executed)
    if counts.ndim != 2 or executed.shape != counts.shape[:1]:
        raise DataError(
            f"found {counts.shape} and {executed.shape}; needed [batch, steps] and [batch].", place="counts"
        )
    taken = counts[np.arange(counts.shape[1]) < executed[:, None]]
    if not taken.size:
        raise DataError("no step was executed.", place="worst_and_mean")
    return int(taken.max()), float(taken.mean())


def _params(program: Program) -> Iterator[Param]:
    for stage in program.stages:
        yield from stage.graph.params.values()


def _error(name: str, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """``outputs - targets`` in float64, of equal shapes, at least one element and finite."""
    a, b = np.asarray(outputs, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    _same_shape(name, a, b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("the values hold NaN or infinity.", place=name)
    return a - b


def _same_shape(name: str, a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape or a.size == 0:
        raise DataError(f"found shapes {a.shape} and {b.shape}; needed equal ones, not empty.", place=name)
