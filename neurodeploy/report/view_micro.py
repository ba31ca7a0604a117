"""One network as our C and in TensorFlow Lite Micro, side by side: what each costs, and what its numerics lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from neurodeploy.artifact import Figure
from neurodeploy.report import view, words
from neurodeploy.report.figures import METRICS
from neurodeploy.report.schema import Build

#: Rows of costs: title, unit, and the figure that holds it in each kind of build.
COSTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Flash: code, tables and weights, or the .tflite file", "B", ("flash", "tflite_bytes")),
    ("RAM: state, inputs, outputs and scratch, or the arena", "B", ("ram", "arena_bytes")),
    ("Stack", "B", ("ram_stack",)),
    ("Multiply-accumulates", "MAC/step", ("macs",)),
    ("Operators", "operators/step", ("operators",)),
    ("Instructions, mean", "instructions/step", ("instructions_mean",)),
)
NOTE = (
    "A .tflite file needs the interpreter and the kernels of its operators beside it in flash: they are the "
    "application's, and not counted. The arena is that of the 64-bit interpreter on this machine where its source "
    "says so. Output error: RMS of the outputs' difference from the float network's, over the RMS of those."
)


@dataclass(frozen=True)
class Line:
    """A row: its title, and for each build the text and the figure behind it (None for what is no figure)."""

    title: str
    unit: str
    cells: tuple[tuple[str, Figure | None], ...]

    def part(self, start: int, stop: int) -> Line:
        """The row of builds start..stop-1."""
        return replace(self, cells=self.cells[start:stop])


@dataclass(frozen=True)
class Comparison:
    """A network with its builds as C and for TensorFlow Lite Micro, in the report's order."""

    model: str
    builds: tuple[Build, ...]
    lines: tuple[Line, ...]

    def parts(self, columns: int) -> list[Comparison]:
        """The same in parts of so many builds, for paper."""
        return [
            Comparison(
                self.model, self.builds[i : i + columns], tuple(line.part(i, i + columns) for line in self.lines)
            )
            for i in range(0, len(self.builds), columns)
        ]


def comparisons(builds: Iterable[Build]) -> list[Comparison]:
    """Every network (by its hash) that the report has both as C and for TensorFlow Lite Micro."""
    networks: dict[str, list[Build]] = {}
    for build in builds:
        if build.model.sha256 and build.target.kind in ("mcu", "tflite"):
            networks.setdefault(build.model.sha256, []).append(build)
    return [
        Comparison(found[0].model.name, tuple(found), tuple(_lines(found)))
        for found in networks.values()
        if {build.target.kind for build in found} == {"mcu", "tflite"}
    ]


def _lines(builds: list[Build]) -> list[Line]:
    lines = [Line("Numbers", "", _told(_numbers(build) for build in builds))]
    for key in view.keys(builds):
        lines += _accuracies(builds, key)
    lines.append(Line("Agreement with the golden model", "", _told(map(_agreement, builds))))
    costs = (("Output error", "%", ("output_error",)), *COSTS)
    for title, unit, names in costs:
        figures = [next((f for name in names if (f := view.pick(build, name))), None) for build in builds]
        if any(figures):
            cells = tuple((words.number(f.value or 0) if f else "", f) for f in figures)
            lines.append(Line(title, unit, cells))
    return lines


def _numbers(build: Build) -> str:
    return f"{build.numerics}: {build.widths}" if build.widths else build.numerics


def _accuracies(builds: list[Build], key: view.Key) -> list[Line]:
    """Float first, then as deployed, and what that changed."""
    found = [view.accuracy_of(build, key) for build in builds]
    data = next(a.data.name for a in found if a)
    title = f"{METRICS[key[0]].title}, {data}"
    return [
        Line(f"{title}: float", "", _told(words.score_text(a.float_, key[0]) if a else "" for a in found)),
        Line(f"{title}: deployed", "", _told(words.score_text(a.deployed, key[0]) if a else "" for a in found)),
        Line("Change against float", "", _told(words.change_text(a, a.deployed) if a else "" for a in found)),
    ]


def _agreement(build: Build) -> str:
    """The agreement of the run nearest to the target."""
    golden = [g for _, g in view.agreements(build) if g.against == "golden"]
    if not golden:
        return "not run"
    found = golden[-1]
    return words.exact_text(found) if found.equality == "exact" else words.agreement_text(found)


def _told(texts: Iterable[str]) -> tuple[tuple[str, Figure | None], ...]:
    return tuple((text, None) for text in texts)
