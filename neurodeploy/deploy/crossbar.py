"""Runs a crossbar's build on simulated chips, at several ages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Artifact, Figure
from neurodeploy.backends import check_run
from neurodeploy.crossbar import costs
from neurodeploy.crossbar.devices import age_warning
from neurodeploy.crossbar.devices.stuck import load_maps
from neurodeploy.crossbar.effects import ALL, only, present
from neurodeploy.crossbar.manifest import described, drive_of, not_modelled
from neurodeploy.crossbar.mapping.tiles import arrays
from neurodeploy.crossbar.monte_carlo import ChipTrace, Part, Task, gather, plan, run_task
from neurodeploy.crossbar.repair import Repair, prepare
from neurodeploy.crossbar.repair.running import running
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import UsageError, nearest
from neurodeploy.ir import text

if TYPE_CHECKING:
    from neurodeploy.data import Data

#: Names of ages, in seconds since the first read after programming.
TIMES: dict[str, float] = {"t0": 0.0, "1h": 3600.0, "1day": 86400.0, "1month": 2592000.0, "1year": 31536000.0}
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "month": 2592000.0, "y": 31536000.0}
_AGE = re.compile(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?) *([a-z]+)")
Map = Callable[[Callable[[Task], Part], Sequence[Task]], Iterable[Part]]


def seconds_of(age: float | str) -> float:
    """Seconds of an age: a number, a name of :data:`TIMES`, or like ``30s 5min 1h 1d 1w 1month 1y``.

    Raises :class:`UsageError`.
    """
    if isinstance(age, str):
        match = _AGE.fullmatch(age.strip())
        if age in TIMES:
            value = TIMES[age]
        elif match and match[2] in _UNITS:
            value = float(match[1]) * _UNITS[match[2]]
        else:
            hint = nearest(age, TIMES) or f"Give one like 0s, 1h, 30d, 1y. Units: {', '.join(_UNITS)}."
            raise UsageError(f"'{age}' is no time.", place="crossbar", hint=hint)
    else:
        value = float(age)
    if not 0 <= value < 1e12:
        raise UsageError(f"the time {age} s lies before the first read or too far after it.", place="crossbar")
    return value


class CrossbarRunner:
    """Simulates an artifact of :class:`~neurodeploy.backends.crossbar.CrossbarBackend` on many chips."""

    name = "crossbar"

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, np.ndarray],
        lengths: np.ndarray | None = None,
        *,
        states: bool = False,
        chips: int = 25,
        times: Sequence[float | str] = tuple(TIMES),
        seed: int = 0,
        compensate: bool = True,
        effects: Iterable[str] = ALL,
        repair: str = "none",
        repair_data: Data | None = None,
        stuck_maps: str | Path | None = None,
        spread: Map = map,
        **options: Any,
    ) -> ChipTrace:
        """Run every sample on every chip at every age.

        ``times``: ages since the first read (t0 after programming), as :func:`seconds_of` reads them. ``compensate``:
        global drift compensation. ``effects``: the physical effects that are switched on, of those that the target has.
        ``repair``: what is done to the chips at every age, see :mod:`neurodeploy.crossbar.repair`, by ``repair_data``.
        ``stuck_maps``: a file of maps of stuck devices (:mod:`neurodeploy.crossbar.devices.stuck`), the same for all
        chips, in place of sampled ones.
        ``spread``: what maps a function over tasks; an executor's ``map`` spreads them over processes or machines.
        Chip i of a seed is the same device by device, whatever the other arguments. The trace is the first chip's at
        the first age; ``states`` is about that one. Raises :class:`UsageError`.
        """
        check_run(self, artifact, (self.name,), options)
        if chips < 1:
            raise UsageError(f"{chips} chips asked for; needed at least 1.", place="crossbar")
        ages = tuple(seconds_of(time) for time in times)
        if not ages:
            raise UsageError("no time was asked for.", place="crossbar", hint=f"Known: {', '.join(TIMES)}.")
        target, matrices = described(artifact)
        wanted = frozenset(effects)
        only(target, wanted)  # names an effect that isn't known, before anything runs
        fixed = prepare(repair, text.from_files(artifact.files, "program"), repair_data)
        stuck = None
        if stuck_maps is not None:
            stuck = load_maps(stuck_maps, arrays(matrices), target.array.rows, target.array.columns)
        samples = len(next(iter(inputs.values()))) if inputs else 1
        tasks = plan(
            artifact, samples, chips,
            ages=ages, seed=seed, compensate=compensate, effects=wanted, states=states, repair=fixed, stuck=stuck,
        )  # fmt: skip
        made = gather(list(spread(partial(_run, artifact, dict(inputs), lengths), tasks)))
        made.record = _record(artifact, target, made, tasks[0], chips)
        return made


def _run(artifact: Artifact, inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None, task: Task) -> Part:
    return run_task(artifact, inputs, lengths, task)


def _programmed(target: Crossbar, made: ChipTrace, chips: int) -> list[Figure]:
    """Programming: pulses of a chip, and their energy where the target says what one takes."""
    if target.device.write_verify is None:
        why = "the target's devices are described by what programming leaves, not pulse by pulse"
        return [
            Figure.unknown("programming_pulses", "pulses/chip", why),
            Figure.unknown("programming_energy", "nJ/chip", why),
        ]
    pulses = sum(p.total for p in made.pulses) / chips
    outside = sum(p.out_of_tolerance for p in made.pulses) / max(sum(p.devices for p in made.pulses), 1)
    joule = [p.joule for p in made.pulses]
    counted = "write and verify, device by device; mean over chips"
    known = [j for j in joule if j is not None]
    energy = Figure("programming_energy", 1e9 * sum(known) / chips, "nJ/chip", "estimated", f"pulses; {counted}")
    unknown = Figure.unknown("programming_energy", "nJ/chip", "the target has no sourced energy of a pulse")
    return [
        Figure("programming_pulses", pulses, "pulses/chip", "simulated", counted),
        Figure("out_of_tolerance", 100 * outside, "%", "simulated", f"devices after the last pulse; {counted}"),
        energy if len(known) == len(joule) and known else unknown,
    ]


def _costs(artifact: Artifact, target: Crossbar, made: ChipTrace, repair: Repair | None) -> tuple[Figure, ...]:
    """What an inference costs, by what the first chip read, with what a repair has made digital."""
    _, matrices = described(artifact)
    program = text.from_files(artifact.files, "program")
    if repair is not None:
        program, matrices = running(program, matrices, repair)
    reads = {key: float(found.mean()) for key, found in made.reads.items()}
    steps = {stage: float(found.mean()) for stage, found in made.steps.items()}
    return costs.run_figures(program, matrices, target, reads, steps, drive_of(artifact))


def _record(artifact: Artifact, target: Crossbar, made: ChipTrace, task: Task, chips: int) -> dict[str, Any]:
    """Where it ran, in JSON; ``figures`` are what the run counted."""
    dac, adc = (float(made.counters[f"{kind}_conversions"].mean()) for kind in ("dac", "adc"))
    counted = "counted while the chips were simulated; mean over samples"
    figures = [
        Figure("dac_conversions", dac, "conversions/inference", "simulated", counted),
        Figure("adc_conversions", adc, "conversions/inference", "simulated", counted),
        *(
            Figure(f"{kind}_saturation", 100 * float(made.saturation[kind].mean()), "%", "simulated",
                   "share of conversions outside the converter's range; mean over chips and times")
            for kind in ("dac", "adc")
        ),
        *_programmed(target, made, chips),
        *_costs(artifact, target, made, task.repair),
    ]  # fmt: skip
    warnings = [warning for age in made.times if (warning := age_warning(target.device, age)) is not None]
    off = sorted(present(target) - task.effects)
    drifts = only(target, task.effects).device.drift is not None
    columns = task.repair is not None and task.repair.kind in ("columns", "both")  # in its place
    return {
        "where": f"{chips} simulated chips, {target.title}" + (f", without {', '.join(off)}" if off else ""),
        "target": artifact.target,
        "chips": chips,
        "seeds": [task.seed],
        "generator": "Philox 4x64 by seed, purpose, chip, array and time; reads: SFC64 by seed, matrix, time, chip",
        "times_s": list(made.times),
        "drift_compensation": "global, per tile" if task.compensate and drifts and not columns else "none",
        "repair": task.repair.record() if task.repair is not None else None,
        "effects": sorted(present(target) & task.effects),
        "warnings": warnings,
        "not_modelled": not_modelled(only(target, task.effects)),
        "versions": {"numpy": np.__version__},
        "figures": [asdict(figure) for figure in figures],
    }
