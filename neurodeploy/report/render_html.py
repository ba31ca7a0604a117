"""The report as one self-contained HTML page: no network, no external font, style or script."""

from __future__ import annotations

import re
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from neurodeploy.report import plots, plots_crossbar, view, view_crossbar, view_micro, words
from neurodeploy.report.arrays import as_image
from neurodeploy.report.figures import HOW, KINDS, METRICS
from neurodeploy.report.pictures import pictures, verdict
from neurodeploy.report.schema import Build, ReportData

PRINT_COLUMNS = 5
_BREAKS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[/_])")


def render(data: ReportData) -> str:
    """The page's text. Everything that comes from models, files or devices is escaped."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    builds = data.builds
    numbers = {build.name: i for i, build in enumerate(builds, 1)}
    charts, alone = view.charts(builds)
    return environment.get_template("report.html.j2").render(
        data=data,
        builds=builds,
        numbers=numbers,
        models=list(dict.fromkeys(build.model.name for build in builds)),
        kinds=KINDS,
        metrics=METRICS,
        how=HOW,
        used_how=_used_how(builds),
        words=words,
        view=view,
        compared=any(view.agreements(build) for build in builds),
        summaries=view.summaries(builds),
        micro=view_micro.comparisons(builds),
        micro_note=view_micro.NOTE,
        print_columns=PRINT_COLUMNS,
        sections=[_accuracy_section(builds, key) for key in view.keys(builds)],
        tables=[{"screen": True, "builds": builds, "groups": view.table(builds)}, *_print_tables(builds)],
        charts=[(chart, plots.scatter(chart, numbers)) for chart in charts],
        alone=alone,
        crossbars=_crossbars(builds, numbers),
        view_crossbar=view_crossbar,
        pictures=[(build, drawn, verdict(build)) for build in builds if (drawn := pictures(build))],
        css=Markup(_resource("report.css")),
        js=Markup(_resource("report.js")),
    )


def breakable(text: str) -> Markup:
    """The text escaped, with places at which a long name or unit may break: at ``/``, ``_`` and inner capitals."""
    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(text))


def _template(name: str) -> str:
    return _resource(name)


def _resource(name: str) -> str:
    return files("neurodeploy.report").joinpath("templates", name).read_text(encoding="utf-8")


def _used_how(builds: list[Build]) -> list[str]:
    used = {figure.how for build in builds for figure in build.all_figures()}
    return [how for how in HOW if how in used]


def _accuracy_section(builds: list[Build], key: view.Key) -> dict:
    """The rows of one metric and data set, each with its strip on the section's common scale."""
    rows = [(build, accuracy) for build in builds if (accuracy := view.accuracy_of(build, key))]
    factor = METRICS[key[0]].factor
    values = [
        (score.value + sign * (score.sd or 0)) * factor
        for _, accuracy in rows
        for score in (accuracy.float_, accuracy.quantized, accuracy.deployed)
        for sign in (-1, 1)
        if score
    ]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) * 0.01 or 1), high + (abs(high) * 0.01 or 1)
    return {
        "accuracy": rows[0][1],
        "low": low,
        "high": high,
        "rows": [(build, accuracy, plots.strip(accuracy, low, high)) for build, accuracy in rows],
    }


def _print_tables(builds: list[Build]) -> list[dict]:
    """The table again in parts that fit on paper."""
    parts = [builds[i : i + PRINT_COLUMNS] for i in range(0, len(builds), PRINT_COLUMNS)]
    return [{"screen": False, "builds": part, "groups": view.table(part)} for part in parts]


def _crossbars(builds: list[Build], numbers: dict[str, int]) -> dict | None:
    """What the section on crossbars shows; None where there is nothing of them."""
    if not view_crossbar.any_of(builds):
        return None
    attributions = []
    for build, _, found in view_crossbar.attributions(builds):
        rows = view_crossbar.effects(found)
        attributions.append((build, found, plots_crossbar.errors(rows), rows))
    return {
        "drifts": [(m[0][1], plots_crossbar.drift(m, numbers)) for m in view_crossbar.drifts(builds)],
        "sweeps": [(chart, plots_crossbar.sweep(chart, numbers)) for chart in view_crossbar.sweeps(builds)],
        "attributions": attributions,
        "repairs": view_crossbar.repairs(builds),
        "breakdowns": [(b, plots_crossbar.breakdown(b, numbers)) for b in view_crossbar.breakdowns(builds)],
        "floor_plans": [(b, as_image(b.arrays.floor_plan)) for b in builds if b.arrays and b.arrays.floor_plan],
    }
