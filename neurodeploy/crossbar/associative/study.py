"""Recall curves of associative memories on arrays: against load, corrupted cues, stuck devices, age.

Random patterns are stored by a rule, written to the chips, and recalled from cues. A cue is recalled where at least
95 % of its units end as in its pattern. Every curve varies one of :class:`Setting`'s fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.crossbar.associative import BamArray, HopfieldArray
from neurodeploy.crossbar.associative.cells import chip_numbers
from neurodeploy.crossbar.associative.programs import pairs, stored
from neurodeploy.errors import UsageError, nearest
from neurodeploy.hardware import Crossbar

Array = np.ndarray
RECALLED = 0.95
PLACE = "recall study"


@dataclass(frozen=True)
class Setting:
    """One memory and how it is asked: ``units`` (of x, and as many of y in a pair memory), ``load`` (patterns a unit),
    ``flipped`` (share of a cue's units that are wrong), ``stuck_on`` and ``stuck_off`` (shares of devices at g_max and
    g_min), ``seconds`` since the first read, ``temperature`` of recall (0: none), ``rule``, ``order``, ``memory``
    (``"hopfield"`` or ``"bam"``, the latter by Kosko's rule and order), ``cues`` a seed, ``sweeps`` at most."""

    units: int = 100
    load: float = 0.1
    flipped: float = 0.1
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    seconds: float = 0.0
    temperature: float = 0.0
    rule: str = "hebb"
    order: str = "asynchronous"
    memory: str = "hopfield"
    cues: int = 50
    sweeps: int = 50


@dataclass(frozen=True)
class Point:
    """What chips make of one setting: ``right [chips, cues]``, which cues were recalled; and, ``[chips]``, their
    share, mean overlap with the pattern (``mean_i s_i x_i``, of y in a pair memory), share of cues that ended in a
    fixed point, in a cycle of two, and updates a cue that raised the energy (None where they aren't counted)."""

    setting: Setting
    right: Array
    overlap: Array
    converged: Array
    cycles: Array
    rises: Array | None

    @property
    def recalled(self) -> Array:
        """Share of cues recalled, ``[chips]``."""
        return self.right.mean(axis=1)


def curve(
    vary: str, values: Sequence[Any], target: str | Crossbar, *, setting: Setting | None = None,
    chips: int | Sequence[int] = 10, seed: int = 0,
) -> list[Point]:  # fmt: skip
    """A point for each value of the setting's field ``vary``: patterns, cues and chips of ``seed``.

    Patterns of a longer list begin with those of a shorter, and cues flip the same units, so points of a curve differ
    by nothing else. Raises :class:`UsageError` for an unknown field or a value out of range.
    """
    base = setting or Setting()
    if vary not in vars(base):
        raise UsageError(f"a setting has no field '{vary}'.", place=PLACE, hint=nearest(vary, vars(base)))
    return [point(replace(base, **{vary: value}), target, chips=chips, seed=seed) for value in values]


def point(setting: Setting, target: str | Crossbar, *, chips: int | Sequence[int] = 10, seed: int = 0) -> Point:
    """One setting on chips. Raises :class:`UsageError` for values out of range, and what the arrays raise."""
    count = round(setting.load * setting.units)
    if setting.units < 2 or count < 1 or not 0 <= setting.flipped <= 1 or setting.cues < 1:
        raise UsageError(
            f"{setting.units} units, {count} patterns, {setting.flipped} flipped, {setting.cues} cues; needed 2 units, "
            "1 pattern, 0 to 1 flipped, 1 cue.",
            place=PLACE,
        )  # fmt: skip
    rng = np.random.default_rng([seed, setting.units])
    picks, flips = rng.random(setting.cues), rng.random((setting.cues, setting.units))
    both = 2.0 * rng.integers(0, 2, (count, 2, setting.units)) - 1
    which = (picks * count).astype(int)
    x = both[:, 0]
    cues = np.where(flips < setting.flipped, -x[which], x[which])
    written = {
        "chips": chip_numbers(chips), "seed": seed, "stuck": (setting.stuck_on, setting.stuck_off),
        "seconds": setting.seconds,
    }  # fmt: skip
    if setting.memory == "bam":
        y = both[:, 1]
        pair = BamArray(pairs(x, y), target, **written).recall(cues, steps=setting.sweeps)
        overlap = (pair.y * y[which]).mean(axis=-1)
        return _point(setting, overlap, pair.converged, np.zeros_like(pair.converged), None)
    if setting.memory != "hopfield":
        raise UsageError(
            f"there is no memory '{setting.memory}'.", place=PLACE, hint=nearest(setting.memory, ("hopfield", "bam"))
        )
    heat = {"temperature": setting.temperature} if setting.order == "stochastic" else {}
    array = HopfieldArray(stored(x, setting.rule), target, **written)
    found = array.recall(cues, order=setting.order, sweeps=setting.sweeps, **heat)
    overlap = (found.states * x[which]).mean(axis=-1)
    return _point(setting, overlap, found.converged, found.cycles, found.rises)


def crossing(values: Sequence[float], overlaps: Sequence[float], level: float) -> float:
    """Where a falling curve first crosses ``level``, between points linearly; NaN where it doesn't."""
    for (a, above), (b, below) in zip(zip(values, overlaps), list(zip(values, overlaps))[1:]):
        if above >= level > below:
            return a + (b - a) * (above - level) / (above - below)
    return float("nan")


def _point(setting: Setting, overlap: Array, converged: Array, cycles: Array, rises: Array | None) -> Point:
    right = (1 + overlap) / 2 >= RECALLED - 1e-12
    means = (overlap.mean(axis=1), converged.mean(axis=1), cycles.mean(axis=1))
    return Point(setting, right, *means, None if rises is None else rises.mean(axis=1))
