"""What a crossbar build costs: counts, energy, latency and area, and what follows from them, as figures.

Figures of the first of a target's technologies (or of the target's own figures, without one) have plain names:
``energy``, ``energy.adc``, ``area.array`` ...; those of another end in ``@NAME``. A range has two figures, ``.low`` and
``.high``. A total is unknown where a part of it is; ``known_energy`` and ``known_area`` are then the sum of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neurodeploy import hardware
from neurodeploy.artifact import Figure
from neurodeploy.crossbar.costs.latency import PARTS, Steps, Timing, interval, schedule
from neurodeploy.crossbar.costs.parts import (
    Activity,
    Cost,
    Drive,
    Key,
    areas,
    digital_work,
    energies,
    loads_of,
    work_of,
)
from neurodeploy.crossbar.costs.prices import Pair, Prices
from neurodeploy.crossbar.costs.programming import programming_figures
from neurodeploy.crossbar.costs.work import KINDS
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.ir.graph import Program

LEFT_OUT = "without leakage, control and what moves data between arrays"
AREA_OF = "arrays with their converters and lines, without buffers, digital part and wires between arrays"


def compile_figures(
    program: Program, matrices: Sequence[Matrix], target: Crossbar, drive: Drive | None = None
) -> tuple[Figure, ...]:
    """Figures of one step of every stage, every guard open.

    ``program`` is the tiled one. ``drive``: (stage, value) -> mean (input/full scale)^2 of a matrix's word lines
    (``[inputs]``, from calibration data); without it the arrays' energy lies between 0 and that of full-scale inputs.
    """
    return (
        *_counts(program, matrices, target, Activity()),
        *programming_figures(program, matrices, target),
        *_priced(program, matrices, target, Activity(), drive),
    )


def run_figures(
    program: Program,
    matrices: Sequence[Matrix],
    target: Crossbar,
    reads: Mapping[Key, float],
    steps: Mapping[str, float],
    drive: Drive | None = None,
) -> tuple[Figure, ...]:
    """Figures of an inference.

    ``reads``: (stage, value) -> how often a matrix was read, every serial cycle counted, ``steps``: stage -> how many
    steps ran, both means over samples. ``drive`` as for :func:`compile_figures`, as it was while running.
    """
    cycles = Prices(target, None).cycles
    ran = Activity("inference", {key: count / cycles for key, count in reads.items()}, dict(steps))
    found = _priced(program, matrices, target, ran, drive)
    return tuple(
        f for f in found if not f.name.startswith(("area", "known_area", "interval", "sequence", "tops_per_mm2"))
    )


def _nodes(target: Crossbar) -> list[Prices]:
    named = [Prices(target, hardware.find_technology(name)) for name in target.technologies]
    return named or [Prices(target, None)]


# --------------------------------------------------------------------------------------------------------- counts


def _counts(program: Program, matrices: Sequence[Matrix], target: Crossbar, activity: Activity) -> list[Figure]:
    prices = Prices(target, None)
    per = f"/{activity.per}"
    shapes = "shapes of the tiled program and its tile map, every guard open"
    read = sum(activity.of(m) * m.vectors * len(m.tiles) for m in matrices) * prices.cycles
    work = work_of(program, matrices, prices, activity)
    return [
        Figure("array_reads", read, f"reads{per}", "compiled", shapes),
        *(Figure(f"digital_{kind}", work.count(kind), f"operations{per}", "compiled", shapes) for kind in KINDS),
        Figure("buffer_bits", work.bits, f"bits{per}", "compiled", f"{shapes}; arguments read and results written"),
        Figure("array_operations", _operations(matrices, activity), f"operations{per}", "compiled",
               "two for each weight on an array and vector"),
    ]  # fmt: skip


def _operations(matrices: Sequence[Matrix], activity: Activity) -> float:
    return 2.0 * sum(activity.of(m) * m.vectors * sum(t.weights for t in m.tiles) for m in matrices)


# --------------------------------------------------------------------------------------------------- priced figures


@dataclass(frozen=True)
class _Time:
    """Steps of each stage at the low and the high end; None with what is missing."""

    ends: tuple[dict[str, Steps], dict[str, Steps]] | None
    source: str


def _priced(
    program: Program, matrices: Sequence[Matrix], target: Crossbar, activity: Activity, drive: Drive | None
) -> list[Figure]:
    found: list[Figure] = []
    loads = loads_of(program, matrices, target)
    for at, prices in enumerate(_nodes(target)):
        node = f"@{prices.node}" if at else ""
        work = work_of(program, matrices, prices, activity)
        energy = energies(matrices, loads, work, prices, activity, drive)
        area = areas(matrices, prices)
        timed = _timed(program, matrices, prices)
        found += [*_parts(energy, node), *_parts(area, node)]
        found += _totals(energy, node, LEFT_OUT)
        found += _totals(area, node, AREA_OF)
        found += _time_figures(timed, prices, activity, node)
        found += _rates(matrices, energy, area, timed, activity, node)
    return found


def _parts(costs: Iterable[Cost], node: str) -> list[Figure]:
    return [f for c in costs for f in _range(f"{c.cost}.{c.part}{node}", c.range, c.unit, c.source)]


def _totals(costs: Sequence[Cost], node: str, scope: str) -> list[Figure]:
    """The sum of all parts; where some are unknown, that it is, and the sum of the known ones."""
    name, unit = costs[0].cost, costs[0].unit
    known = [c.range for c in costs if c.range is not None]
    missing = [c for c in costs if c.range is None]
    summed = (sum(low for low, _ in known), sum(high for _, high in known))
    if not missing:
        return _range(f"{name}{node}", summed, unit, f"sum of its parts; {scope}")
    why = "; ".join(c.source for c in missing)
    total = Figure.unknown(f"{name}{node}", unit, f"not known of every part: {why}")
    if not known:
        return [total]
    names = ", ".join(c.part for c in missing)
    return [total, *_range(f"known_{name}{node}", summed, unit, f"sum of the known parts, without {names}; {scope}")]


def _range(name: str, found: Pair | None, unit: str, source: str) -> list[Figure]:
    if found is None:
        return [Figure.unknown(name, unit, source)]
    low, high = found
    if math.isclose(low, high, rel_tol=1e-9):
        return [Figure(name, low, unit, "estimated", source)]
    return [Figure(f"{name}.{end}", value, unit, "estimated", source) for end, value in (("low", low), ("high", high))]


def _rates(
    matrices: Sequence[Matrix],
    energy: Sequence[Cost],
    area: Sequence[Cost],
    timed: _Time,
    activity: Activity,
    node: str,
) -> list[Figure]:
    """Operations a joule, and a second and area."""
    operations = _operations(matrices, activity)
    per_watt, unknown = None, "its energy is unknown"
    if all(c.range is not None for c in energy):
        joule = [sum(c.range[end] for c in energy if c.range) * 1e-12 for end in (1, 0)]
        unknown = "nothing was read"
        if min(joule) > 0:
            per_watt = (operations / joule[0] / 1e12, operations / joule[1] / 1e12)
    why = f"two operations a weight and vector: {operations:.10g} an energy; {LEFT_OUT}"
    density = None
    if timed.ends is not None and all(c.range is not None for c in area):
        mm2 = [sum(c.range[end] for c in area if c.range) * 1e-6 for end in (1, 0)]
        beats = [interval(timed.ends[end].values()) for end in (1, 0)]
        if min(beats) > 0:
            density = (operations / beats[0] / 1e12 / mm2[0], operations / beats[1] / 1e12 / mm2[1])
    return [
        *_range(f"tops_per_watt{node}", per_watt, "TOPS/W", why if per_watt else unknown),
        *_range(f"tops_per_mm2{node}", density, "TOPS/mm2",
                f"two operations a weight and vector, a step every interval; {AREA_OF}"
                if density else "its area or its interval is unknown"),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ time


def _timed(program: Program, matrices: Sequence[Matrix], prices: Prices) -> _Time:
    target = prices.target
    work = digital_work(program, matrices, prices)
    conversion = prices.conversion("adc", "time")
    clock = prices.technology and prices.technology.digital.clock
    unpriced = sorted({op for values in work.values() for w in values.values() for op in w.unpriced})
    if target.read is None:
        return _Time(None, f"'{target.name}' has no [read], so no pulse")
    if conversion.range is None:
        return _Time(None, conversion.source)
    if not clock:
        return _Time(None, f"clock of the digital part: {prices.node or repr(target.name)} has no sourced figure")
    if unpriced:
        return _Time(None, f"no published time of {', '.join(unpriced)}")
    timing = Timing(
        target.read.pulse_s, conversion.range, 1 / clock.clock_hz, prices.cycles,
        target.adc.columns_per_adc, target.read.sample_and_hold, target.digital.lanes if target.digital else None,
    )  # fmt: skip
    ends: tuple[dict[str, Steps], dict[str, Steps]] = ({}, {})
    for stage in program.stages:
        own = {m.value: m for m in matrices if m.stage == stage.name}
        for end, steps in zip(ends, schedule(stage.graph, own, work[stage.name], timing), strict=True):
            end[stage.name] = steps
    told = f"{target.digital.lanes} lanes; {target.digital.source}" if target.digital else "a lane a value (low) or one"
    words = f"{target.read.pulse_s * 1e9:g} ns a pulse; {target.read.source}; conversions: {conversion.source}"
    return _Time(ends, f"{words}; digital part: {told}; {clock.source}")


def _latencies(timed: _Time, prices: Prices, unit: str) -> list[Cost]:
    """Latency of a step of every stage by part, along the path that is waited for."""
    if timed.ends is None:
        return [Cost("latency", part, prices.node, None, unit, timed.source) for part in PARTS]
    found = []
    for part in PARTS:
        low, high = (sum(getattr(steps.latency, part) for steps in stages.values()) * 1e9 for stages in timed.ends)
        found.append(
            Cost("latency", part, prices.node, (low, high), unit, "along the longest path; sources: latency's")
        )
    return found


def _time_figures(timed: _Time, prices: Prices, activity: Activity, node: str) -> list[Figure]:
    unit = f"ns/{activity.per}"
    if timed.ends is None:
        return [Figure.unknown(f"latency{node}", unit, timed.source)]
    if activity.per == "inference":
        low, high = (
            sum(
                steps.latency.seconds + max(activity.steps.get(stage, 1.0) - 1, 0.0) * steps.sequence
                for stage, steps in stages.items()
                if activity.steps.get(stage, 1.0) > 0
            ) * 1e9
            for stages in timed.ends
        )  # fmt: skip
        why = f"the first step's latency, and an interval of a sequence for each other step; {timed.source}"
        return _range(f"latency{node}", (low, high), unit, why)
    latency, sequence, beat = (
        (of(timed.ends[0].values()) * 1e9, of(timed.ends[1].values()) * 1e9)
        for of in (
            lambda stages: sum(steps.latency.seconds for steps in stages),
            lambda stages: sum(steps.sequence for steps in stages),
            interval,
        )
    )
    return [
        *_parts(_latencies(timed, prices, unit), node),
        *_range(f"latency{node}", latency, unit, f"a step of every stage, one after the other; {timed.source}"),
        *_range(f"sequence_interval{node}", sequence, unit, "then the same sequence's next step can begin"),
        *_range(f"interval{node}", beat, unit, "then another sequence's step can begin: the busiest array is free"),
    ]
