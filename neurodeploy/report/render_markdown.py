"""The report as Markdown (GitHub's tables), for a pull request or a log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from neurodeploy.report import pictures, view, view_crossbar, view_micro, words
from neurodeploy.report.figures import HOW, KINDS, METRICS
from neurodeploy.report.schema import Build, ReportData
from neurodeploy.report.schema_crossbar import Attribution, Measured, Spread
from neurodeploy.report.schema_spiking import Decision, Tried

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def render(data: ReportData) -> str:
    """The report's Markdown text: summary, accuracy, agreement, then the costs of each kind."""
    builds = data.builds
    models = ", ".join(dict.fromkeys(build.model.name for build in builds))
    parts = [f"# {text(models)}: deployment report", f"{text(data.generator)}, {data.created}"]
    parts += _summary(builds)
    parts += _accuracy(builds)
    parts += _agreement(builds)
    parts += _micro(builds)
    parts += _costs(builds)
    parts += _spikes(builds)
    parts += _crossbars(builds)
    parts += _notes(builds)
    parts += ["## How figures were got", "\n".join(f"- **{name}**: {meaning}" for name, meaning in HOW.items())]
    return "\n\n".join(parts) + "\n"


def text(value: object) -> str:
    """Text on one line with Markdown's and HTML's special characters escaped."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> str:
    """A table; the last ``right`` columns are aligned right. Cells are Markdown already."""
    marks = ["---"] * (len(head) - right) + ["---:"] * right
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))


def _summary(builds: list[Build]) -> list[str]:
    parts = ["## Summary"]
    for summary in view.summaries(builds):
        rows = []
        if summary.accuracy is None:
            parts.append("No accuracy was recorded for:")
        else:
            accuracy = summary.accuracy
            metric = METRICS[accuracy.metric]
            better = "higher" if metric.higher_is_better else "lower"
            data = f"{text(accuracy.data.name)}, {accuracy.data.samples:,} samples"
            parts.append(f"{metric.title} on {data}; {better} is better.")
            rows = [
                ["Float baseline", text(name), words.score_text(score, accuracy.metric), "", ""]
                for name, score in summary.floats
            ] or [["Float baseline", "", words.UNKNOWN, "", ""]]
        for best in summary.best:
            a = best.accuracy
            score = words.score_text(best.score, a.metric) if a else words.UNKNOWN
            change = words.change_text(a, best.score) if a else ""
            note = "" if best.deployed or not best.score else " (golden model, not deployed)"
            costs = "; ".join(
                f"{title} {told}{f' {f.unit}' if f.unit not in ('', 'B') else ''} ({f.how})"
                for title, told, f in view.main_costs(best.build)[:3]
            )
            rows.append([KINDS[best.kind], text(best.build.name), score + note, change, text(costs)])
        parts.append(grid(["Best of each kind", "Build", "Accuracy", "Against float", "Main costs"], rows))
    return parts


def _accuracy(builds: list[Build]) -> list[str]:
    parts = []
    for key in view.keys(builds):
        members = [(b, a) for b in builds if (a := view.accuracy_of(b, key))]
        first = members[0][1]
        rows = [
            [
                text(build.name),
                *(
                    words.score_text(score, a.metric) if score else words.absent(part, build)
                    for part, score in (("Float", a.float_), ("Quantized", a.quantized), ("Deployed", a.deployed))
                ),
                words.change_text(a, a.deployed) or "–",
            ]
            for build, a in members
        ]
        seeds = f" Seeds: {', '.join(map(str, first.seeds))}." if first.seeds else ""
        parts += [
            f"## {METRICS[first.metric].title}, {text(first.data.name)}",
            grid(["Build", "Float", "Quantized", "Deployed", "Change"], rows, right=4),
            f"{first.data.samples:,} samples; data SHA-256 `{first.data.sha256[:16]}`.{seeds}",
        ]
    return parts


def _agreement(builds: list[Build]) -> list[str]:
    rows = [
        [
            text(build.name), text(run.runner), text(g.against), f"{g.equality}: {words.verdict(g)}",
            f"{g.bit_exact:,} of {g.compared:,} {g.per}s", words.difference_text(g),
            text(words.first_text(g.first_difference)),
        ]
        for build in builds
        for run, g in view.agreements(build)
    ]  # fmt: skip
    if not rows:
        return ["## Agreement", "No run was compared with another."]
    head = ["Build", "Ran", "Against", "Promised", "Bit-exact", "Largest difference", "First difference"]
    return ["## Agreement", grid(head, rows)]


def _micro(builds: list[Build]) -> list[str]:
    """Our C and TensorFlow Lite Micro, side by side."""
    parts = []
    for found in view_micro.comparisons(builds):
        rows = []
        for line in found.lines:
            cells = [f"{told} ({f.how})" if f else text(told) or "–" for told, f in line.cells]
            rows.append([text(f"{line.title}, {line.unit}" if line.unit else line.title), *cells])
        head = ["", *(text(build.name) for build in found.builds)]
        parts += [f"### {text(found.model)}", grid(head, rows, right=len(found.builds))]
    return ["## C and TensorFlow Lite Micro", *parts, text(view_micro.NOTE)] if parts else []


def _costs(builds: list[Build]) -> list[str]:
    parts = ["## Costs"]
    for kind, title in KINDS.items():
        members = [build for build in builds if build.target.kind == kind]
        rows = []
        for group in view.table(members):
            for row in group.rows:
                cells = [
                    " / ".join(told if f.value is None else f"{told} ({f.how})" for told, f in words.cell(cell))
                    for cell in row.cells
                ]
                name = f"{row.title}, {row.unit}" if row.unit else row.title
                rows.append([text(group.title), text(name), *(cell or "–" for cell in cells)])
        if members:
            head = ["", "Figure, unit", *(text(build.name) for build in members)]
            rows.append(["", "Target", *(text(build.target.title) for build in members)])
            rows.append(["", "Compiler", *(text(build.compiler or "–") for build in members)])
            parts += [f"### {title}", grid(head, rows, right=len(members))]
    return parts


def _spikes(builds: list[Build]) -> list[str]:
    """The numbers of a spiking build's pictures."""
    parts = []
    for build in builds:
        told = []
        for run in build.runs:
            if run.activity:
                told.append(text(pictures.sentence(run.activity)))
            if run.decision:
                told.append(_decision(run.decision))
        if said := pictures.verdict(build):
            told.append(text(said))
        if build.spiking and build.spiking.tried:
            told += _tried(build.spiking.tried)
        if told:
            parts += [f"### {text(build.name)}", *told]
    return ["## Spikes", *parts] if parts else []


def _decision(found: Decision) -> str:
    rows = []
    for i, (frame, accuracy, spikes) in enumerate(zip(found.frame, found.accuracy, found.spikes, strict=True)):
        ends = [dict.fromkeys(pairs[i]) for pairs in found.energy.values()]
        nano = [" to ".join(words.number(float(f"{v:.4g}")) for v in pair) for pair in ends]
        rows.append([str(frame), f"{100 * accuracy:.2f} %", words.number(round(spikes, 1)), *nano])
    chips = [f"nJ on {text(chip)}" for chip in found.energy]
    head = ["Answer after step", "Accuracy", "Mean spikes until then", *chips]
    return grid(head, rows, right=len(head) - 1)


def _tried(tried: Tried) -> list[str]:
    base = "" if tried.float_accuracy is None else f" The float network has {100 * tried.float_accuracy:.2f} %."
    rows = [
        [
            text(trial.setting) + (" (chosen)" if trial.chosen else ""),
            "–" if trial.events is None else words.number(round(trial.events, 1)),
            "–" if trial.accuracy is None else f"{100 * trial.accuracy:.2f} %",
            "–" if trial.error is None else f"{trial.error:.4g}",
        ]
        for trial in tried.trials
    ]
    head = ["Setting tried", "Events a sample", "Accuracy", tried.error or "Error"]
    return [f"Tried on the data given to compile.{base}", grid(head, rows, right=3)]


def _crossbars(builds: list[Build]) -> list[str]:
    """Accuracy over age and over what was swept, where the error comes from, costs by part."""
    parts = []
    for members in view_crossbar.drifts(builds):
        metric = members[0][1].metric
        spreads = [(b, words.duration(s.seconds), s) for b, a in members for s in a.drift]
        title = f"### {METRICS[metric].title} over age, {text(members[0][1].data.name)}"
        parts += [title, _spreads(spreads, metric, "Since the first read")]
    for chart in view_crossbar.sweeps(builds):
        spreads = [(b, words.number(p.x), p) for b, sweep in chart.members for p in sweep.points]
        column = f"{chart.title}, {chart.unit}" if chart.unit else chart.title
        title = f"### {METRICS[chart.metric].title} by {chart.title[0].lower()}{chart.title[1:]}, {text(chart.data)}"
        age = f"All {words.age(chart.members[0][1].seconds)}."
        parts += [title, _spreads(spreads, chart.metric, column), age]
    for build, accuracy, repaired, pairs in view_crossbar.repairs(builds):
        rows = [
            [words.duration(after.seconds), words.over_chips(before, accuracy.metric) if before else "–",
             words.over_chips(after, accuracy.metric)]
            for after, before in pairs
        ]  # fmt: skip
        parts += [f"### Repair: {text(build.name)}", grid(["Since the first read", "Before", "After"], rows, right=2)]
        parts.append(text(words.repaired(repaired)))
    for build, _, found in view_crossbar.attributions(builds):
        parts += [f"### Where the error comes from: {text(build.name)}", _attribution(found)]
        parts.append(f"{found.chips:,} chips, {words.age(found.age_s)}. Error: RMS over that of the golden outputs.")
    for found in view_crossbar.breakdowns(builds):
        rows = [
            [text(part.title), text(bar.name), words.span(part.ends) if part.known else words.UNKNOWN,
             part.low.how, text(part.low.source)]
            for bar in found.bars
            for part in bar.parts
        ]  # fmt: skip
        parts += [f"### {found.title}", grid(["Part", "Build", text(found.unit), "Got by", "Source"], rows)]
    return ["## Crossbars", *parts] if parts else []


def _spreads(rows: Sequence[tuple[Build, str, Spread]], metric: str, column: str) -> str:
    def shown(value: float | None) -> str:
        return "–" if value is None else words.scaled(value, metric)

    unit = METRICS[metric].unit
    head = ["Build", text(column), f"Mean{f', {unit}' if unit else ''}", "sd", "Median", "5 %", "95 %", "Chips"]
    cells = [
        [text(b.name), at, *(shown(v) for v in (s.mean, s.sd, s.median, s.low, s.high)), f"{s.chips:,}"]
        for b, at, s in rows
    ]
    return grid(head, cells, right=6)


def _attribution(found: Attribution) -> str:
    def cells(told: Measured | None) -> list[str]:
        scored = words.measured_text(told, found.metric) if told and told.score is not None and found.metric else "–"
        return [*([scored] if found.metric else []), words.percent(told.error) if told else "–"]

    rows = [
        [text(e.effect), *cells(e.alone), "–" if e.share is None else words.percent(e.share), *cells(e.without)]
        for e in view_crossbar.effects(found)
    ]
    scores = [["Accuracy alone"], ["Accuracy without"]] if found.metric else [[], []]
    head = ["Effect", *scores[0], "Error alone", "Share", *scores[1], "Error without"]
    return grid(head, rows, right=len(head) - 1)


def _notes(builds: list[Build]) -> list[str]:
    lines = [f"- {text(what)}: {text(why)} ({text(', '.join(where))})" for what, why, where in view.not_run(builds)]
    parts = ["## What could not be run", "\n".join(lines)] if lines else []
    warnings = [
        f"- {text(build.name)}: {text(warning)}"
        for build in builds
        for warning in [*build.warnings, *(w for run in build.runs for w in run.warnings)]
    ]
    return parts + (["## Warnings", "\n".join(warnings)] if warnings else [])
