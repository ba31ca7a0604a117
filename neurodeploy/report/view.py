"""What a report shows, computed once for Markdown and HTML: the summary, the table of costs, the charts.

Nothing is averaged or added here. Figures got in different ways never share a chart, nor do different metrics or data
sets; where a build has one figure got in two ways, both are shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurodeploy.artifact import Figure
from neurodeploy.report.figures import FIGURES, KINDS, METRICS, Known, by_chip, known, without_end
from neurodeploy.report.schema import Accuracy, Agreement, Build, Run, Score
from neurodeploy.report.words import amount

STRENGTH = ("measured", "compiled", "simulated", "estimated")
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Row:
    """One figure of all builds: ``cells[i]`` are build i's, none or more."""

    title: str
    unit: str
    main: bool
    cells: tuple[tuple[Figure, ...], ...]


@dataclass(frozen=True)
class Group:
    """Rows of one kind of cost."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Best:
    """The best build of a kind under one accuracy; ``accuracy`` is None where the kind has none."""

    kind: str
    build: Build
    accuracy: Accuracy | None
    of: int

    @property
    def score(self) -> Score | None:
        """Its deployed accuracy, or the golden model's where it wasn't deployed."""
        return (self.accuracy.deployed or self.accuracy.quantized) if self.accuracy else None

    @property
    def deployed(self) -> bool:
        return bool(self.accuracy and self.accuracy.deployed)


@dataclass(frozen=True)
class Summary:
    """One metric on one data set: the float networks first, then the best build of each kind."""

    accuracy: Accuracy | None
    floats: tuple[tuple[str, Score], ...]
    best: tuple[Best, ...]


@dataclass(frozen=True)
class Point:
    """A build in a chart: cost ``x``, shown accuracy ``y`` (with ``sd``), and whether it is on the Pareto front.

    Where sources give a range, ``x`` is its high end, by which the front is judged, and ``low`` its low end. ``name``
    is the build's, with the chip where one build has a cost on several.
    """

    build: Build
    name: str
    low: float
    x: float
    y: float
    sd: float
    front: bool


@dataclass(frozen=True)
class Chart:
    """Deployed accuracy against one cost; every point has the same metric, data, unit and ``how``."""

    title: str
    unit: str
    how: str
    metric: str
    data: str
    points: tuple[Point, ...]
    floats: tuple[tuple[str, float], ...]


def keys(builds: list[Build]) -> list[Key]:
    """Every metric-and-data pair, in order of first appearance."""
    return list(dict.fromkeys(a.key for build in builds for a in build.accuracies))


def accuracy_of(build: Build, key: Key) -> Accuracy | None:
    """The build's accuracy under that metric and data set."""
    return next((a for a in build.accuracies if a.key == key), None)


def pick(build: Build, name: str, unit: str | None = None) -> Figure | None:
    """The build's figure of that name (and unit) that was got in the strongest way; None where it is unknown."""
    found = [f for f in build.all_figures() if f.name == name and f.value is not None and unit in (None, f.unit)]
    return min(found, key=lambda f: STRENGTH.index(f.how)) if found else None


def main_figures(build: Build) -> list[Figure]:
    """The build's main costs, in the table's order."""
    return [figure for name, entry in FIGURES.items() if entry.main and (figure := pick(build, name))]


def main_costs(build: Build) -> list[tuple[str, str, Figure]]:
    """The build's main costs in the table's order: title, amount (``12 to 34`` for a range), and the figure."""
    found = []
    for name, entry in FIGURES.items():
        ends = [pick(build, name)] if pick(build, name) else [pick(build, f"{name}{end}") for end in (".low", ".high")]
        known_ends = [f for f in ends if f is not None]
        if entry.main and known_ends:
            told = " to ".join(amount(f.value or 0, f.unit) for f in known_ends)
            found.append((entry.full_title, told, known_ends[0]))
    return found


def agreements(build: Build) -> list[tuple[Run, Agreement]]:
    """Every comparison of the build, with the run that made it."""
    return [(run, agreement) for run in build.runs for agreement in run.agreement]


def not_run(builds: list[Build]) -> list[tuple[str, str, list[str]]]:
    """What could not be run and why, with the builds and runners that it concerns."""
    found: dict[tuple[str, str], list[str]] = {}
    for build in builds:
        for run in build.runs:
            for item in run.not_run:
                found.setdefault((item.what, item.why), []).append(f"{build.name} ({run.runner})")
    return [(what, why, where) for (what, why), where in found.items()]


def table(builds: list[Build]) -> list[Group]:
    """All figures of all builds as rows, grouped by kind of cost; known ones first, in their order. Both ends of a
    range share a row, and so do energies in different units (that of the first)."""
    order = {name: i for i, name in enumerate(FIGURES)}
    units: dict[tuple[str, str], str] = {}
    for build in builds:
        for f in build.all_figures():
            units.setdefault((without_end(f.name), _kind_of_unit(f.unit)), f.unit)
    found = [(name, unit) for (name, _), unit in units.items()]
    groups: dict[str, list[Row]] = {}

    def place(pair: tuple[str, str]) -> int:
        return order.get(pair[0], order.get(pair[0].partition(".")[0], len(order)))

    for name, unit in sorted(found, key=place):
        entry = known(name)
        cells = tuple(_cell(build, name, unit) for build in builds)
        if any(cells):
            groups.setdefault(entry.group, []).append(Row(entry.title, unit, entry.main, cells))
    return [Group(title, tuple(rows)) for title, rows in groups.items()]


def _cell(build: Build, name: str, unit: str) -> tuple[Figure, ...]:
    """Distinct figures, strongest first; an unknown one only where nothing is known in whatever unit."""
    kind = _kind_of_unit(unit)
    found = [f for f in build.all_figures() if without_end(f.name) == name]
    found = [replace(f, value=_in(unit, f), unit=unit) if f.value is not None and f.unit != unit
             and _kind_of_unit(f.unit) == kind else f for f in found]  # fmt: skip
    ranges: list[tuple[Figure, ...]] = []  # single figures, and both ends of a range together
    for f in found:
        if f.value is not None and f.unit == unit:
            if f.name.endswith(".high") and ranges and ranges[-1][-1].name == f"{f.name[:-5]}.low":
                ranges[-1] = (*ranges[-1], f)
            else:
                ranges.append((f,))
    stated: dict[tuple, tuple[Figure, ...]] = {}
    for ends in ranges:
        stated.setdefault(tuple((f"{f.value:.9g}", f.how, f.name) for f in ends), ends)
    if stated:
        strongest = sorted(stated.values(), key=lambda ends: STRENGTH.index(ends[0].how))
        return tuple(f for ends in strongest for f in ends)
    if any(f.value is not None for f in found):
        return ()
    return tuple(f for f in found if _kind_of_unit(f.unit) == kind)[:1]


def summaries(builds: list[Build]) -> list[Summary]:
    """A summary per metric and data set; one without accuracies where there are none."""
    result = []
    for key in keys(builds):
        with_it = [(b, a) for b in builds if (a := accuracy_of(b, key))]
        floats: dict[tuple[str, float], tuple[str, Score]] = {}
        for build, accuracy in with_it:
            if accuracy.float_:
                floats.setdefault((build.model.name, accuracy.float_.value), (build.model.name, accuracy.float_))
        best = []
        for kind in KINDS:
            of_kind = [(b, a) for b, a in with_it if b.target.kind == kind and (a.deployed or a.quantized)]
            if of_kind:
                best.append(Best(kind, *_best(of_kind), of=len(of_kind)))
        result.append(Summary(with_it[0][1], tuple(floats.values()), tuple(best)))
    rest = [b for b in builds if not any(a.deployed or a.quantized for a in b.accuracies)]
    if rest:
        best = [Best(kind, b, None, 1) for kind in KINDS for b in rest if b.target.kind == kind]
        result.append(Summary(None, (), tuple(best)))
    return result


def _best(candidates: list[tuple[Build, Accuracy]]) -> tuple[Build, Accuracy]:
    """Deployed before golden only, then by accuracy; equals by their first common main cost, then in order given."""
    deployed = [(b, a) for b, a in candidates if a.deployed]
    pool = deployed or candidates
    sign = -1 if METRICS[pool[0][1].metric].higher_is_better else 1

    def value(pair: tuple[Build, Accuracy]) -> float:
        score = pair[1].deployed or pair[1].quantized
        return sign * score.value if score else float("inf")

    top = min(value(pair) for pair in pool)
    equal = [pair for pair in pool if value(pair) == top]
    costs = [{(f.name, f.unit, f.how): f.value for f in main_figures(build)} for build, _ in equal]
    common = next((name for name in costs[0] if all(name in cost for cost in costs)), None)
    if common is None:
        return equal[0]
    return equal[min(range(len(equal)), key=lambda i: costs[i][common] or 0)]


def charts(builds: list[Build]) -> tuple[list[Chart], list[str]]:
    """Charts of deployed accuracy against every main cost that two or more builds share; and the titles of the rest."""
    made: list[Chart] = []
    alone: list[str] = []
    for key in keys(builds):
        for name, entry in FIGURES.items():
            if not entry.main:
                continue
            sets: dict[tuple[str, str], list[_Member]] = {}
            for build in builds:
                accuracy = accuracy_of(build, key)
                if accuracy and accuracy.deployed:
                    for member in _members(build, accuracy, accuracy.deployed, name):
                        sets.setdefault((_kind_of_unit(member.high.unit), member.high.how), []).append(member)
            for (_, how), members in sets.items():
                if len(members) > 1:
                    made.append(_chart(entry, how, members))
                else:
                    alone.append(f"{entry.full_title} ({how})")
    return made, list(dict.fromkeys(alone))


@dataclass(frozen=True)
class _Member:
    """A build's cost, from ``low`` to ``high`` (one figure where it is no range), with its accuracy."""

    build: Build
    name: str
    accuracy: Accuracy
    score: Score
    low: Figure
    high: Figure


def _members(build: Build, accuracy: Accuracy, score: Score, name: str) -> list[_Member]:
    """The build's costs of that name, one for each unit; its energies on several chips too."""
    members = []
    found = {(without_end(f.name), f.unit): None for f in build.all_figures()}
    for base, unit in found:
        chip = by_chip(base) if name == "energy" else None
        if base != name and (chip is None or base == "energy.dense"):
            continue
        ends = [pick(build, f"{base}{end}", unit) or pick(build, base, unit) for end in (".low", ".high")]
        low, high = ends[0] or ends[1], ends[1] or ends[0]
        if low and high:
            called = build.name if base == name else f"{build.name} on {base.removeprefix('energy.')}"
            members.append(_Member(build, called, accuracy, score, low, high))
    return members


#: Joules in a unit: energies in different units share a chart.
_JOULES = {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12, "fJ": 1e-15}


def _kind_of_unit(unit: str) -> str:
    """``J/inference`` for ``pJ/inference``; other units as they are."""
    size, _, per = unit.partition("/")
    return f"J/{per}" if size in _JOULES else unit


def _in(unit: str, figure: Figure) -> float:
    """A figure's value in a unit of the same kind."""
    if figure.unit == unit:
        return float(figure.value or 0)
    ratio = _JOULES[figure.unit.partition("/")[0]] / _JOULES[unit.partition("/")[0]]
    return float(f"{float(figure.value or 0) * ratio:.12g}")


def _chart(entry: Known, how: str, members: list[_Member]) -> Chart:
    accuracy = members[0].accuracy
    metric = METRICS[accuracy.metric]
    unit = members[0].high.unit
    xs = [_in(unit, m.high) for m in members]
    ys = [m.score.value * metric.factor for m in members]
    front = pareto(xs, ys, entry.lower_is_better, metric.higher_is_better)
    points = tuple(
        Point(m.build, m.name, _in(unit, m.low), x, y, (m.score.sd or 0) * metric.factor, on)
        for m, x, y, on in zip(members, xs, ys, front, strict=True)
    )
    floats = {(m.build.model.name, f.value * metric.factor): None for m in members if (f := m.accuracy.float_)}
    return Chart(entry.full_title, unit, how, accuracy.metric, accuracy.data.name, points, tuple(floats))


def pareto(xs: list[float], ys: list[float], low_x: bool = True, high_y: bool = True) -> list[bool]:
    """Which points no other beats: none is at least as good in both and better in one."""
    costs = [(x if low_x else -x, -y if high_y else y) for x, y in zip(xs, ys, strict=True)]
    return [not any(other[0] <= own[0] and other[1] <= own[1] and other != own for other in costs) for own in costs]
