"""What a report shows of crossbars, computed once for Markdown and HTML: charts, tables, costs by part."""

from __future__ import annotations

from dataclasses import dataclass

from neurodeploy.artifact import Figure
from neurodeploy.report import view
from neurodeploy.report.figures import BY_PART, QUANTITIES, part_of
from neurodeploy.report.schema import Accuracy, Build, Run
from neurodeploy.report.schema_crossbar import Attribution, DriftScore, Effect, Repaired, Sweep


@dataclass(frozen=True)
class SweepChart:
    """One quantity swept, one metric and data set: every build that has it."""

    what: str
    title: str
    unit: str
    metric: str
    data: str
    members: tuple[tuple[Build, Sweep], ...]
    float_values: tuple[tuple[str, float], ...]

    @property
    def compiled(self) -> list[float]:
        """What the builds were compiled with, where their targets have the quantity."""
        return list(dict.fromkeys(s.compiled for _, s in self.members if s.compiled is not None))


@dataclass(frozen=True)
class Part:
    """One part's share of a cost, in the breakdown's unit; ``low`` and ``high`` are equal where sources agree."""

    title: str
    low: Figure
    high: Figure

    @property
    def known(self) -> bool:
        return self.low.value is not None

    @property
    def ends(self) -> tuple[float, float]:
        return float(self.low.value or 0), float(self.high.value or 0)


@dataclass(frozen=True)
class Bar:
    """A build's parts of one cost, priced in the technology ``node`` ("": the target's first, or only one)."""

    build: Build
    node: str
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The build's name, with the technology."""
        return f"{self.build.name}, {self.node}" if self.node else self.build.name


@dataclass(frozen=True)
class Breakdown:
    """One cost in one unit, by part, of every build that has parts of it."""

    title: str
    unit: str
    hows: tuple[str, ...]
    bars: tuple[Bar, ...]

    @property
    def titles(self) -> list[str]:
        """The known parts of all bars, in order of first appearance."""
        return list(dict.fromkeys(part.title for bar in self.bars for part in bar.parts if part.known))


def drifts(builds: list[Build]) -> list[list[tuple[Build, Accuracy]]]:
    """For each metric and data set, the builds with an accuracy over time."""
    found = [[(b, a) for b in builds if (a := view.accuracy_of(b, key)) and a.drift] for key in view.keys(builds)]
    return [members for members in found if members]


def sweeps(builds: list[Build]) -> list[SweepChart]:
    """A chart for each quantity, unit, metric, data set and time."""
    charts: dict[tuple[str, str, str, str, float], list[tuple[Build, Run, Sweep]]] = {}
    for build in builds:
        for run in build.runs:
            data = run.accuracy.data.name if run.accuracy else ""
            for sweep in run.sweeps:
                key = (sweep.what, sweep.unit, sweep.metric, data, sweep.seconds)
                charts.setdefault(key, []).append((build, run, sweep))
    made = []
    for (what, unit, metric, data, _), members in charts.items():
        floats = {
            (b.model.name, r.accuracy.float_.value): None
            for b, r, s in members
            if r.accuracy and r.accuracy.float_ and r.accuracy.metric == s.metric
        }
        pairs = tuple((b, s) for b, _, s in members)
        made.append(SweepChart(what, QUANTITIES.get(what, what), unit, metric, data, pairs, tuple(floats)))
    return made


def attributions(builds: list[Build]) -> list[tuple[Build, Run, Attribution]]:
    """Every attribution, with its build and run."""
    return [(b, run, run.attribution) for b in builds for run in b.runs if run.attribution]


def repairs(builds: list[Build]) -> list[tuple[Build, Accuracy, Repaired, list[tuple[DriftScore, DriftScore | None]]]]:
    """Every repair, with its build and accuracy, and each age after it beside the same chips before."""
    found = []
    for build in builds:
        for run in build.runs:
            if run.repair is not None and run.accuracy is not None:
                before = {score.seconds: score for score in run.repair.before}
                pairs = [(score, before.get(score.seconds)) for score in run.accuracy.drift]
                found.append((build, run.accuracy, run.repair, pairs))
    return found


def effects(found: Attribution) -> list[Effect]:
    """The rows of an attribution's table: no effect, each that the target has, the largest error first, then all."""
    ranked = sorted((row for row in found.rows if row.alone), key=lambda row: -row.alone.error if row.alone else 0)
    return [Effect(effect="none", alone=found.none), *ranked, Effect(effect="all", alone=found.every)]


def absent(found: Attribution) -> list[str]:
    """Effects that the target hasn't."""
    return [row.effect for row in found.rows if row.alone is None]


def breakdowns(builds: list[Build]) -> list[Breakdown]:
    """Costs by part: one for each cost and unit of which a build has two known parts or more.

    What a build spent an inference stands for what it spends a step.
    """
    table: dict[tuple[str, str], list[Bar]] = {}
    for build in builds:
        found: dict[tuple[str, str], dict[str, dict[str, dict[str, Figure]]]] = {}
        for figure in build.all_figures():
            if (place := part_of(figure.name)) is not None:
                cost, part, node = place
                end = "high" if figure.name.endswith(".high") else "low"
                bars = found.setdefault((cost, figure.unit), {})
                bars.setdefault(node, {}).setdefault(part, {}).setdefault(end, figure)
        for (cost, unit), by_node in found.items():
            if unit.endswith("/step") and (cost, unit.replace("/step", "/inference")) in found:
                continue
            for node, by_part in by_node.items():
                parts = tuple(
                    Part(title, ends.get("low") or ends["high"], ends.get("high") or ends["low"])
                    for part, title in BY_PART[cost].items()
                    if (ends := by_part.get(part))
                )
                if sum(part.known for part in parts) > 1:
                    table.setdefault((cost, unit), []).append(Bar(build, node, parts))
    made, order = [], list(BY_PART)
    for (cost, unit), bars in sorted(table.items(), key=lambda item: order.index(item[0][0])):
        hows = dict.fromkeys(f.how for bar in bars for p in bar.parts for f in (p.low, p.high) if p.known)
        made.append(Breakdown(f"{cost.capitalize()} by part", unit, tuple(hows), tuple(bars)))
    return made


def any_of(builds: list[Build]) -> bool:
    """Whether there is anything of crossbars to show."""
    drawn = drifts(builds) or sweeps(builds) or attributions(builds) or breakdowns(builds)
    return bool(drawn or any(b.arrays and b.arrays.floor_plan for b in builds))
