"""Calibration: what range every value takes on sample data.

The expanded program is run, so that every inner value has its own range (the LSTM's cell, the GRU's candidate).
Samples that have ended, and values behind a guard that is false, do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.data import Data
from neurodeploy.errors import DataError, UsageError, nearest
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.ir.interpret import run
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.expand import Expand
from neurodeploy.passes.simplify import Simplify

METHODS = ("minmax", "percentile", "mse")
BINS = 4096
#: Quantiles of the sizes of a state's updates that are kept (for the stall warning).
QUANTILES = np.linspace(0, 1, 21)
#: Sizes of updates are counted in bins of a quarter of an octave from 2^-48 to 2^16.
_OCTAVES, _PER_OCTAVE = (-48, 16), 4
_UPDATE_BINS = (_OCTAVES[1] - _OCTAVES[0]) * _PER_OCTAVE


def expanded(program: Program, keep: tuple[str, ...] = ()) -> Program:
    """The program in primitives (and the composites in ``keep``): what is calibrated and quantized. Doing it twice
    changes nothing."""
    return Simplify()(Expand(keep)(Simplify()(program)))


@dataclass(frozen=True)
class Calibrate:
    """Write ``meta["ranges"][stage][value] = [lo, hi]`` for every f32 value, input and state, from sample data.

    ``method``: ``minmax``; ``percentile`` (the central ``percentile`` % of what was seen); ``mse`` (the symmetric
    range with the least squared error at ``bits`` bits, rounding and clipping together).
    ``meta["updates"][stage][state]`` gets quantiles of ``|next - state|`` over the updates that differ from 0,
    ``meta["calibration"]`` method, samples and hash of the data. Deterministic; gives the expanded program, the
    composites in ``keep`` whole (their insides are calibrated too, under the names that Expand gives them).
    Raises :class:`DataError` where a value becomes NaN or infinite, naming it.
    """

    method: str = "minmax"
    percentile: float = 99.99
    bits: int = 16
    batch: int = 256
    keep: tuple[str, ...] = ()
    data: Data | None = field(default=None, compare=False, repr=False, metadata={"text": False})
    progress: Callable[[str], None] | None = field(default=None, compare=False, repr=False, metadata={"text": False})

    def __call__(self, program: Program) -> Program:
        if self.method not in METHODS:
            raise UsageError(f"calibration by '{self.method}' is not known.", hint=nearest(self.method, METHODS))
        if not 50 < self.percentile <= 100:
            raise UsageError(f"percentile is {self.percentile}; needed above 50, at most 100.")
        if self.data is None or not self.data.samples:
            raise UsageError(
                "calibration needs sample inputs.", place=program.name, hint="Give some with --data FILE.npz."
            )
        program = expanded(program, self.keep)
        opened = Expand()(program)
        watch = _Watch(opened)
        self._pass(opened, watch.extremes, "range of every value")
        if self.method != "minmax":
            watch.open_histograms()
            self._pass(opened, watch.count, "distribution of every value")
        ranges = {
            stage.name: {name: watch.range_of((stage.name, name), self) for name in watch.names[stage.name]}
            for stage in opened.stages
        }
        ranges = {stage: {n: r for n, r in table.items() if r is not None} for stage, table in ranges.items()}
        meta = {
            **program.meta,
            "ranges": ranges,
            "updates": watch.update_quantiles(),
            "calibration": {"method": self.method, "samples": self.data.samples, "sha256": self.data.sha256},
        }
        return replace(program, meta=meta)

    def _pass(self, program: Program, observe: Any, what: str) -> None:
        """Run all samples, a batch at a time."""
        data = self.data
        if data is None:
            return
        for start in range(0, data.samples, self.batch):
            stop = min(start + self.batch, data.samples)
            if self.progress is not None:
                self.progress(f"calibrating ({what}): {stop} of {data.samples} samples")
            inputs = {name: array[start:stop] for name, array in data.inputs.items()}
            lengths = None if data.lengths is None else data.lengths[start:stop]
            run(program, inputs, lengths, observe=observe)


Key = tuple[str, str]


class _Watch:
    """What is collected while the program runs."""

    def __init__(self, program: Program) -> None:
        self.names = {stage.name: _float_names(stage.graph) for stage in program.stages}
        self._known = {(stage, name) for stage, names in self.names.items() for name in names}
        self._feeds: dict[Key, list[str]] = {}
        for stage in program.stages:
            for state in stage.graph.states:
                if (stage.name, state.name) in self._known:
                    self._feeds.setdefault((stage.name, state.next), []).append(state.name)
        self._now: dict[Key, np.ndarray] = {}
        self.low: dict[Key, float] = {}
        self.high: dict[Key, float] = {}
        self.bins: dict[Key, np.ndarray] = {}
        self.updates: dict[Key, np.ndarray] = {}

    def extremes(self, stage: str, name: str, array: np.ndarray, active: np.ndarray) -> None:
        """First pass: least and greatest value, sizes of updates."""
        key = (stage, name)
        if key not in self._known:
            return
        seen = _counted(array, active)
        if not seen.size:
            return
        low, high = float(seen.min()), float(seen.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(
                f"becomes {'NaN' if np.isnan(low + high) else 'infinite'} on the calibration data.",
                place=f"stage '{stage}': %{name}",
                hint="Check the weights and the data, or calibrate on samples that the network was made for.",
            )
        self.low[key] = min(low, self.low.get(key, low))
        self.high[key] = max(high, self.high.get(key, high))
        self._now[key] = array
        for state in self._feeds.get(key, []):
            if (stage, state) in self._now:
                self._update((stage, state), array, active)

    def _update(self, state: Key, new: np.ndarray, active: np.ndarray) -> None:
        old = self._now[state]
        size = np.abs(_counted(np.asarray(new, np.float64) - old, active))
        size = size[size > 0]
        place = np.floor((np.log2(size) - _OCTAVES[0]) * _PER_OCTAVE).astype(np.int64)
        counts = np.bincount(np.clip(place, 0, _UPDATE_BINS - 1), minlength=_UPDATE_BINS)
        self.updates[state] = self.updates.get(state, np.zeros(_UPDATE_BINS, np.int64)) + counts

    def open_histograms(self) -> None:
        """Between the passes: a histogram over each value's range."""
        self.bins = {key: np.zeros(BINS, np.int64) for key in self.low}

    def count(self, stage: str, name: str, array: np.ndarray, active: np.ndarray) -> None:
        """Second pass: how often each part of the range is met."""
        key = (stage, name)
        if key not in self.bins:
            return
        width = self.high[key] - self.low[key]
        if width <= 0:
            return
        place = (_counted(array, active).astype(np.float64) - self.low[key]) * (BINS / width)
        self.bins[key] += np.bincount(np.clip(place.ravel().astype(np.int64), 0, BINS - 1), minlength=BINS)

    def range_of(self, key: Key, how: Calibrate) -> list[float] | None:
        """``[lo, hi]`` by the pass's method, None for a value that never counted."""
        if key not in self.low:
            return None
        low, high = self.low[key], self.high[key]
        if how.method == "minmax" or high <= low:
            return [low, high]
        counts = self.bins[key]
        edges = np.linspace(low, high, BINS + 1)
        if how.method == "percentile":
            share = np.cumsum(counts) / max(int(counts.sum()), 1)
            tail = (1 - how.percentile / 100) / 2
            first = int(np.searchsorted(share, tail, side="right"))
            last = int(np.searchsorted(share, 1 - tail, side="left"))
            return [float(edges[min(first, BINS - 1)]), float(edges[min(last, BINS - 1) + 1])]
        limit = _least_error((edges[:-1] + edges[1:]) / 2, counts, max(abs(low), abs(high)), how.bits)
        return [max(low, -limit), min(high, limit)]

    def update_quantiles(self) -> dict[str, dict[str, list[float]]]:
        """Stage -> state -> quantiles of the sizes of its updates."""
        table: dict[str, dict[str, list[float]]] = {}
        lower = 2.0 ** (np.arange(_UPDATE_BINS) / _PER_OCTAVE + _OCTAVES[0])
        middle = lower * 2.0 ** (0.5 / _PER_OCTAVE)
        for (stage, state), counts in self.updates.items():
            total = int(counts.sum())
            if total:
                places = np.searchsorted(np.cumsum(counts), QUANTILES * (total - 1), side="right")
                table.setdefault(stage, {})[state] = [float(f"{middle[min(p, _UPDATE_BINS - 1)]:.3g}") for p in places]
        return table


def _least_error(centres: np.ndarray, counts: np.ndarray, top: float, bits: int) -> float:
    """The clipping limit with the least expected squared error of a symmetric quantization."""
    best, found = np.inf, top
    size = np.abs(centres)
    for share in np.linspace(0.02, 1.0, 99):
        limit = top * share
        step = limit / (2 ** (bits - 1) - 1)
        beyond = np.maximum(size - limit, 0.0)
        error = float((counts * np.where(beyond > 0, beyond**2, step**2 / 12)).sum())
        if error < best:
            best, found = error, limit
    return found


def _float_names(graph: Graph) -> list[str]:
    return [
        name
        for name, kind in graph.types().items()
        if isinstance(kind, TensorType) and kind.dtype == "f32" and name not in graph.params
    ]


def _counted(array: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The samples that count; an array that is the same for all counts if any does."""
    if len(array) == len(active):
        return array if active.all() else array[active]
    return array if active.any() else array[:0]
