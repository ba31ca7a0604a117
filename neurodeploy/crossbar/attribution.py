"""Where a crossbar's error comes from: the same chips with no effect, each effect alone, all but one, and all.

The error of a chip is the root mean square of its outputs' differences from the golden model's, over that of the golden
outputs themselves. Effects that act alone show what each would cost; what is left without one shows what removing it
would gain, the others being there. Squares of small independent errors add up, so ``share`` is each one's part of their
sum; where the shares' sum and all effects together differ much, effects work on each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.crossbar.effects import EFFECTS, present
from neurodeploy.crossbar.manifest import described
from neurodeploy.errors import DataError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.validate import judge, scores_of

if TYPE_CHECKING:
    from neurodeploy.data import Data

Array = np.ndarray
ABSENT = "not in the target"


@dataclass(frozen=True)
class Measured:
    """One set of effects: relative error and, with labels, what the metric says; mean and sd (n - 1) over chips."""

    error: float
    error_sd: float
    score: float | None = None
    score_sd: float | None = None


@dataclass(frozen=True)
class Row:
    """An effect: ``alone``, all others ``without`` it, and its ``share`` of the sum of squared errors; None where the
    target lacks it."""

    effect: str
    alone: Measured | None = None
    without: Measured | None = None
    share: float | None = None


@dataclass(frozen=True)
class Attribution:
    """``golden``: the golden model's score (with labels, by ``metric``); ``none`` and ``every``: no effect, and all."""

    target: str
    chips: int
    seed: int
    age_s: float
    compensate: bool
    samples: int
    metric: str | None
    golden: float | None
    none: Measured
    every: Measured
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """A JSON record of it; an effect that the target lacks has nulls."""
        return asdict(self)

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column heads and rows of words, the strongest effect first, those that the target lacks last."""
        heads = ("effect", "error alone", "share", "error without")
        if self.metric is not None:
            heads = (*heads, "score alone", "score without")
        order = sorted(self.rows, key=lambda row: -1.0 if row.alone is None else row.alone.error, reverse=True)
        lines = [("none", *self._words(self.none, None, None)), ("all", *self._words(self.every, None, None))]
        lines += [(row.effect, *self._words(row.alone, row.share, row.without)) for row in order]
        return heads, [line[: len(heads)] for line in lines]

    def _words(self, alone: Measured | None, share: float | None, without: Measured | None) -> tuple[str, ...]:
        if alone is None:
            return (ABSENT, "", "", "", "")
        errors = [_spread(m.error, m.error_sd, "%") if m else "" for m in (alone, without)]
        scale, unit = (100, "%") if self.metric == "ClassificationAccuracy" else (1, "")
        scores = [
            _spread(m.score, m.score_sd or 0.0, unit, scale) if m and m.score is not None else ""
            for m in (alone, without)
        ]
        return (errors[0], "" if share is None else f"{100 * share:.0f} %", errors[1], *scores)


def _spread(mean: float, sd: float, unit: str, scale: float = 100) -> str:
    return f"{scale * mean:.2f} +- {scale * sd:.2f}{' ' * bool(unit)}{unit}"


def attribute(
    artifact: Artifact, data: Data, *, chips: int = 25, age: float | str = 0.0, seed: int = 0, compensate: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Attribution:  # fmt: skip
    """Attribute the error of a crossbar's build on data to the effects of its target.

    ``age``: since the first read, as the runner takes it. Raises :class:`UsageError` for another backend's build,
    :class:`DataError` where the golden model's outputs are all zero, so that no error is relative to them.
    """
    from neurodeploy.deploy.crossbar import CrossbarRunner, seconds_of

    runner, seconds = CrossbarRunner(), seconds_of(age)
    program = text.from_files(artifact.files, "program")
    golden = real_outputs(program, interpret.run(program, data.inputs, data.lengths))
    metric, plain = (None, None) if data.labels is None else judge(program, golden, data)

    def measure(effects: frozenset[str], words: str) -> Measured:
        progress(f"attribution: {words}")
        trace = runner.run(
            artifact, dict(data.inputs), data.lengths,
            chips=chips, times=(seconds,), seed=seed, compensate=compensate, effects=effects,
        )  # fmt: skip
        return _measured(program, {name: a[0] for name, a in trace.chip_outputs.items()}, golden, data)

    none, there = measure(frozenset(), "no effect"), present(described(artifact)[0])
    every = measure(there, "all effects")
    alone = {e: measure(frozenset({e}), f"{e} alone") for e in EFFECTS if e in there}
    without = {e: measure(there - {e}, f"all but {e}") for e in EFFECTS if e in there}
    total = sum(found.error**2 for found in alone.values())
    rows = tuple(
        Row(e, alone[e], without[e], alone[e].error ** 2 / total if total else 0.0) if e in there else Row(e)
        for e in EFFECTS
    )
    return Attribution(
        artifact.target, chips, seed, seconds, compensate, data.samples, metric, plain, none, every, rows
    )  # fmt: skip


def _measured(program: Program, chips: dict[str, Array], golden: dict[str, Array], data: Data) -> Measured:
    """What the chips' raw outputs ``[chips, samples, ...]`` are worth."""
    wanted = _judged(program, golden, data).astype(np.float64)
    size = float(np.sqrt(np.mean(wanted**2)))
    if not size > 0:
        raise DataError("the golden model's outputs are all zero on these data.", place=data.name, hint="Give others.")
    errors, scores = [], []
    for chip in range(len(next(iter(chips.values())))):
        outputs = real_outputs(program, Trace({name: array[chip] for name, array in chips.items()}))
        found = _judged(program, outputs, data)
        errors.append(float(np.sqrt(np.mean((_fitted(found, wanted) - wanted) ** 2))) / size)
        if data.labels is not None:
            scores.append(judge(program, outputs, data)[1])
    ddof = 1 if len(errors) > 1 else 0
    score = (float(np.mean(scores)), float(np.std(scores, ddof=ddof))) if scores else (None, None)
    return Measured(float(np.mean(errors)), float(np.std(errors, ddof=ddof)), *score)


def _judged(program: Program, outputs: dict[str, Array], data: Data) -> Array:
    if data.labels is not None:
        return scores_of(program, outputs, data.lengths, data.labels)
    return next(iter(outputs.values()))


def _fitted(found: Array, wanted: Array) -> Array:
    """As many steps as wanted: where the network itself ends a run, chips may take others; missing ones are zeros."""
    if found.shape == wanted.shape:
        return found
    made = np.zeros_like(wanted)
    steps = min(found.shape[1], wanted.shape[1])
    made[:, :steps] = found[:, :steps]
    return made
