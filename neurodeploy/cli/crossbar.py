"""Options of ``compile`` and ``run`` that are for crossbars."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from neurodeploy import data as data_files
from neurodeploy import hardware, passes
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.cli.output import number
from neurodeploy.compiler import Built
from neurodeploy.crossbar import attribution, sweeps
from neurodeploy.crossbar.effects import ALL
from neurodeploy.data import Data
from neurodeploy.errors import UsageError, nearest
from neurodeploy.ir.graph import Program
from neurodeploy.report.figures import METRICS
from neurodeploy.report.schema import Run
from neurodeploy.report.schema_crossbar import Attribution, Measured, Sweep
from neurodeploy.report.words import duration
from neurodeploy.validate import validate

#: A floor plan is printed up to so many lines.
PRINTED_LINES = 40
CHIPS = 25  # if not given
MOST_JOBS = 61  # what Windows can wait for
STUDIES = ("sweep", "attribute")
#: Keyword arguments of the backend that ``--mapping`` may not give.
_OWN = ("self", "program", "target", "source", "data", "name")


def mapping_options(mapping: str, target: hardware.Target) -> dict[str, Any]:
    """What ``--mapping`` gives the backend. Raises :class:`UsageError` for what it doesn't know."""
    if not isinstance(target, hardware.Crossbar):
        raise UsageError(f"--mapping is for crossbars; '{target.name}' is none.", hint="Leave it out.")
    given = passes.options("--mapping", mapping)
    known = [key for key in inspect.signature(CrossbarBackend.compile).parameters if key not in _OWN]
    known.append("fine_tune")  # epochs of training before, as for spikes
    for key in given:
        if key not in known:
            hint = nearest(key, known) or f"Known: {', '.join(known)}."
            raise UsageError(f"--mapping has no '{key}'.", hint=hint)
    return given


@contextmanager
def run_options(given: dict[str, Any], runner: str, program: Program) -> Iterator[dict[str, Any]]:
    """Options of the crossbar's runner from those of the command line; a pool of processes lives as long as they do.

    ``given``: chips, ages, seed, effects, compensate, repair, repair_data, stuck_map, jobs; None where an option wasn't
    given. Raises :class:`UsageError` for one that is given to another runner.
    """
    stated = {key: value for key, value in given.items() if value not in (None, False, [])}
    if given.get("compensate") is False:
        stated["compensate"] = False
    if runner != "crossbar":
        if stated:
            option = f"--{next(iter(stated)).replace('_', '-')}"
            raise UsageError(f"{option} is for crossbars; this runs on '{runner}'.", hint=f"Leave {option} out.")
        yield {}
        return
    studied = [key for key in STUDIES if stated.pop(key, None)]
    for key in ("effects", "stuck_map"):
        if studied and key in stated:
            raise UsageError(
                f"--{studied[0]} takes chips as the target describes them, without --{key.replace('_', '-')}.",
                hint="Run them one after the other.",
            )
    if "repair_data" in stated:
        if stated.get("repair", "none") == "none":
            raise UsageError("--repair-data is for --repair; none is asked for.", hint="Add --repair columns.")
        stated["repair_data"] = data_files.load(stated["repair_data"], program)
    if "stuck_map" in stated:
        stated["stuck_maps"] = stated.pop("stuck_map")
    jobs = min(stated.pop("jobs", 1), stated.get("chips", CHIPS), MOST_JOBS)
    for key, name in (("ages", "times"), ("effects", "effects")):
        if key in stated:
            stated[name] = _listed(stated.pop(key))
    if jobs == 1:
        yield stated
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield {**stated, "spread": pool.map}


def check_studies(given: dict[str, Any], build: Built, data: Data) -> None:
    """Raise :class:`UsageError` for sweeps that :func:`studies` could not do, before anything runs."""
    for what, values in [sweeps.parse(option) for option in given.get("sweep") or ()]:
        sweeps.with_values(build.artifact, data, what, values)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def studies(
    given: dict[str, Any], simulated: dict[str, Any], build: Built, data: Data, run: Run, say: Callable[[str], None]
) -> Run:
    """The run with what was asked for besides: sweeps, where the error comes from, the chips before their repair."""
    chips, seed = given.get("chips") or CHIPS, given.get("seed") or 0
    compensate = given.get("compensate") is not False
    found: dict[str, Any] = {}
    if given.get("sweep"):
        found["sweeps"] = []
        for what, values in [sweeps.parse(option) for option in given["sweep"]]:
            say(f"sweep of {what}")
            found["sweeps"].append(
                sweeps.sweep(
                    build.artifact, data, what, values, chips=chips, seed=seed, compensate=compensate,
                    effects=simulated.get("effects", ALL),
                )
            )  # fmt: skip
    if given.get("attribute"):
        age = simulated.get("times", ["0s"])[-1]
        attributed = attribution.attribute(
            build.artifact, data, chips=chips, age=age, seed=seed, compensate=compensate, progress=say
        )
        found["attribution"] = Attribution.model_validate(attributed.as_dict(), strict=False)
    if run.repair is not None:
        say("the same chips before their repair")
        plain = validate(build, data, on=run.runner, **{**simulated, "repair": "none"}).run
        before = plain.accuracy.drift if plain.accuracy else []
        found["repair"] = run.repair.model_copy(update={"before": before})
    return run.model_copy(update=found)


def floor_plan(files: Mapping[str, bytes]) -> list[str]:
    """The lines of a crossbar build's floor plan; of a long one only how it begins. Empty for other builds."""
    lines = files.get("floor_plan.txt", b"").decode().rstrip().splitlines()
    if len(lines) <= PRINTED_LINES:
        return lines
    return [*lines[:PRINTED_LINES], f"... {len(lines) - PRINTED_LINES} more lines in floor_plan.txt"]


def sweep_rows(found: Sweep) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows: accuracy over chips at every value."""
    metric = METRICS[found.metric]
    head = found.what if found.unit in ("", found.what) else f"{found.what} ({found.unit})"
    rows = [
        (number(p.x), *(f"{metric.factor * v:.2f}" for v in (p.mean, p.sd, p.median, p.low, p.high) if v is not None))
        for p in found.points
    ]
    return (head, f"mean {metric.unit}".strip(), "sd", "median", "5 %", "95 %"), rows


def attribution_rows(found: Attribution) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows: each effect alone, and all others without it; the strongest first, absent ones left out."""
    lines = [("none", found.none, None), ("all", found.every, None)]
    there = [row for row in found.rows if row.alone is not None]
    lines += [(r.effect, r.alone, r.without) for r in sorted(there, key=lambda r: -r.alone.error if r.alone else 0.0)]
    rows = [
        (name, *_measured(found.metric, alone), *_measured(found.metric, without)) for name, alone, without in lines
    ]
    return ("effect", "error alone, %", "accuracy alone", "error without, %", "accuracy without"), rows


def _measured(metric: str | None, measured: Measured | None) -> tuple[str, str]:
    if measured is None:
        return "", ""
    known = METRICS[metric] if metric else None
    error = f"{100 * measured.error:.2f} +- {100 * measured.error_sd:.2f}"
    if measured.score is None or known is None:
        return error, ""
    spread = "" if measured.score_sd is None else f" +- {known.factor * measured.score_sd:.2f}"
    return error, f"{known.factor * measured.score:.2f}{spread} {known.unit}".rstrip()


def age_rows(run: Run) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows: accuracy over chips at every age."""
    if run.accuracy is None:
        return (), []
    metric, rows = METRICS[run.accuracy.metric], []
    before = run.repair.before if run.repair else []
    for k, d in enumerate(run.accuracy.drift):
        told = (d.mean, d.sd, d.median, d.low, d.high, *(b.mean for b in before[k : k + 1]))
        rows.append((duration(d.seconds), *(f"{metric.factor * v:.2f}" for v in told if v is not None)))
    heads = ("age", f"mean {metric.unit}".strip(), "sd", "median", "5 %", "95 %")
    return (*heads, "mean before repair") if before else heads, rows


def cost_rows(figures: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Figures as a table: columns and rows. A range is one cell, ``low - high``; every further technology is a column.

    ``figures`` are records of :class:`~neurodeploy.artifact.Figure`.
    """
    table: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    nodes: dict[str, None] = {}
    for f in figures:
        name, end = f["name"], ""
        for suffix in (".low", ".high"):
            if name.endswith(suffix):
                name, end = name.removesuffix(suffix), suffix
        name, _, node = name.partition("@")
        nodes.setdefault(node)
        table.setdefault((name, f["unit"], f["how"]), {}).setdefault(node, {})[end] = f["value"]
    others = [node for node in nodes if node]
    rows = []
    for (name, unit, how), cells in table.items():
        shown = [_range(cells.get(node, {})) for node in ("", *others)]
        rows.append((name, *shown, unit, how))
    return ("figure", "value", *(f"at {node}" for node in others), "unit", "how"), rows


def _range(cell: Mapping[str, Any]) -> str:
    if not cell:
        return ""
    if "" in cell:
        return number(cell[""])
    return f"{number(cell.get('.low'))} - {number(cell.get('.high'))}"
