"""The Monte Carlo over chips and ages, cut into tasks that stand alone: any engine may spread them.

A task is a few chips at all ages; :func:`run_task` needs nothing but the artifact, the data and the task, all of which
pickle, and gives the same bits wherever and in whatever order it runs. :func:`gather` puts the parts together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.crossbar.devices.verify import Pulses
from neurodeploy.crossbar.effects import ALL, present
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.crossbar.repair import Repair
from neurodeploy.crossbar.simulate import Chips, Counter, run_chips
from neurodeploy.errors import NumericsError
from neurodeploy.ir import text
from neurodeploy.report.metrics import spread

Array = np.ndarray
KINDS = ("dac", "adc")
_ROWS_AT_ONCE = 4096  # samples of all chips in one pass: large enough for BLAS, small enough for the cache
_CELLS_AT_ONCE = 16_000_000  # devices of all chips in one pass: 128 MB an array of doubles


@dataclass(frozen=True)
class Task:
    """A few chips, by number, ``ages`` seconds after the first read; the other fields are those of the runner.

    ``repair``: what is done to the chips at every age before they run. ``stuck``: maps of stuck devices by array.
    """

    chips: tuple[int, ...]
    ages: tuple[float, ...]
    seed: int = 0
    compensate: bool = True
    effects: frozenset[str] = ALL
    states: bool = False
    repair: Repair | None = None
    stuck: Mapping[int, Array] | None = None


@dataclass
class Part:
    """What a task found: for each age the outputs of its chips, ``[chips, samples, ...]``.

    ``saturation``: ``"dac"`` and ``"adc"`` -> for each age the share of conversions out of range, ``[chips]``.
    ``conversions`` (likewise) and ``reads`` (of a matrix, by stage and value) are those of the first chip at the first
    age, ``[samples]``; ``first`` is its trace. ``pulses``: programming pulses of every array, of all the task's chips.
    """

    task: Task
    outputs: list[dict[str, Array]] = field(default_factory=list)
    saturation: dict[str, list[Array]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    conversions: dict[str, Array] = field(default_factory=dict)
    reads: dict[tuple[str, str], Array] = field(default_factory=dict)
    first: Trace | None = None
    pulses: list[Pulses] = field(default_factory=list)

    def count(self, counter: Counter, matrices: Sequence[Matrix]) -> None:
        """Take over what was counted at one age."""
        here = len(self.task.chips)
        for kind in KINDS:
            table = [(m.conversions(kind), counter.counts[m.stage, m.value]) for m in matrices]
            done = np.sum([each * counts["reads"] for each, counts in table], axis=0).reshape(here, -1)
            over = np.sum([counts[f"{kind}_saturated"] for _, counts in table], axis=0).reshape(here, -1)
            self.conversions.setdefault(kind, done[0])
            total = done.sum(axis=1)
            share = np.divide(over.sum(axis=1), total, out=np.zeros(here), where=total > 0)
            self.saturation[kind].append(share)
        for m in matrices:
            reads = counter.counts[m.stage, m.value]["reads"].reshape(here, -1)
            self.reads.setdefault((m.stage, m.value), reads[0])


@dataclass
class ChipTrace(Trace):
    """A :class:`Trace` of the first chip at the first age, and the outputs of every chip at every age.

    ``times``: seconds since the first read after programming. ``chip_outputs``: program output name ->
    ``[times, chips, batch, ...]``, raw. ``saturation``: ``"dac"`` and ``"adc"`` -> ``[times, chips]``, the share of
    conversions whose value lay outside the converter's range. ``reads``: (stage, value) of a matrix -> how often the
    first chip read it, ``[batch]``. ``pulses``: programming pulses, summed over chips and arrays by adding them up.
    """

    times: tuple[float, ...] = ()
    chip_outputs: dict[str, Array] = field(default_factory=dict)
    saturation: dict[str, Array] = field(default_factory=dict)
    reads: dict[tuple[str, str], Array] = field(default_factory=dict)
    pulses: list[Pulses] = field(default_factory=list)

    def over_chips(self, judge: Callable[[dict[str, Array]], float]) -> dict[str, Any]:
        """What ``judge`` (raw outputs of one chip at one time -> an accuracy) finds, as a run's record states it.

        ``score``: mean, standard deviation (n - 1) and number of chips at the first time; ``drift``: at every time,
        ``seconds`` and what :func:`~neurodeploy.report.metrics.spread` tells.
        """
        drift = []
        for t, seconds in enumerate(self.times):
            count = len(next(iter(self.chip_outputs.values()))[t])
            found = np.array([judge({n: a[t, chip] for n, a in self.chip_outputs.items()}) for chip in range(count)])
            drift.append({"seconds": seconds, **spread(found)})
        first = drift[0]
        score = {"value": first["mean"], "sd": first["sd"], "n": first["chips"], "over": "chips"}
        return {"score": score, "drift": drift}


def plan(artifact: Artifact, samples: int, chips: int, **options: Any) -> tuple[Task, ...]:
    """Tasks for chips 0 to ``chips - 1``; ``options`` are the fields of a :class:`Task`."""
    _, matrices = described(artifact)
    cells = sum(m.devices for m in matrices)
    at_once = max(1, min(_ROWS_AT_ONCE // max(samples, 1), _CELLS_AT_ONCE // max(cells, 1)))
    starts = range(0, chips, at_once)
    return tuple(
        Task(tuple(range(start, min(start + at_once, chips))), **{**options, "states": options["states"] and not start})
        for start in starts
    )


def run_task(artifact: Artifact, inputs: Mapping[str, Array], lengths: Array | None, task: Task) -> Part:
    """Simulate a task's chips on all samples at all its ages."""
    target, matrices = described(artifact)
    program = text.from_files(artifact.files, "program")
    samples = len(next(iter(inputs.values()))) if program.inputs and inputs else 1
    chips = Chips(program, matrices, target, task.chips, samples, task.seed, task.effects, task.stuck)
    part = Part(task, pulses=[physical.cells.pulse_count() for physical in chips.arrays.values()])
    for age in task.ages:
        chips.age(age, task.compensate)
        if task.repair is not None:
            task.repair.apply(chips)
        try:
            trace, counter = run_chips(program, chips, inputs, lengths, states=task.states and part.first is None)
        except NumericsError as error:
            if not present(chips.target):
                raise
            raise NumericsError(
                f"{error.message} The devices' and converters' errors take a sum out of its integers on one of the "
                f"chips {task.chips[0]} to {task.chips[-1]}.",
                place=error.place,
                hint="Compile with float numerics, or run fewer --effects.",
            ) from error
        if part.first is None:
            part.first = _first_chip(trace, samples)
        part.outputs.append(
            {n: a.reshape(len(task.chips), -1, *a.shape[1:]) for n, a in trace.outputs.items()}
        )  # fmt: skip
        part.count(counter, matrices)
    return part


def gather(parts: Sequence[Part]) -> ChipTrace:
    """One trace of the parts of all tasks, in the order of their chips."""
    parts = sorted(parts, key=lambda part: part.task.chips)
    first, ages = parts[0].first, parts[0].task.ages
    made = ChipTrace(**vars(first or Trace({})), times=ages)
    for name in parts[0].outputs[0]:
        every = [part.outputs[t][name] for t in range(len(ages)) for part in parts]
        padded = _padded(every)
        rows = [np.concatenate(padded[t * len(parts) : (t + 1) * len(parts)]) for t in range(len(ages))]
        made.chip_outputs[name] = np.stack(rows)
    for kind in KINDS:
        columns = [np.stack(part.saturation[kind]) for part in parts]
        made.saturation[kind] = np.concatenate(columns, axis=1)
        made.counters[f"{kind}_conversions"] = parts[0].conversions[kind]
    made.reads = parts[0].reads
    made.pulses = [pulses for part in parts for pulses in part.pulses]
    return made


def _first_chip(trace: Trace, samples: int) -> Trace:
    parts = ("outputs", "series", "states", "steps", "converged")
    return Trace(**{part: {n: a[:samples].copy() for n, a in getattr(trace, part).items()} for part in parts})


def _padded(arrays: Sequence[Array]) -> list[Array]:
    """Arrays whose third axis (steps of ``until`` and ``generate``) differs, filled with zeros to the longest."""
    if len({a.shape[2:] for a in arrays}) == 1:
        return list(arrays)
    longest = max(a.shape[2] for a in arrays)
    return [np.pad(a, [(0, 0), (0, 0), (0, longest - a.shape[2])] + [(0, 0)] * (a.ndim - 3)) for a in arrays]
