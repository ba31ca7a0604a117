"""``neurodeploy run`` and ``neurodeploy validate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from neurodeploy import data as data_files
from neurodeploy import validate as validation
from neurodeploy.artifact import Artifact
from neurodeploy.cli.crossbar import (
    age_rows,
    attribution_rows,
    check_studies,
    cost_rows,
    run_options,
    studies,
    sweep_rows,
)
from neurodeploy.cli.output import out, print_json, progress, table
from neurodeploy.compiler import Built
from neurodeploy.errors import UsageError
from neurodeploy.report.figures import METRICS
from neurodeploy.report.records import save_run
from neurodeploy.report.schema import Accuracy
from neurodeploy.report.words import age
from neurodeploy.spiking import energy


def main(
    build: Path,
    data: Path,
    port: str | None,
    emulator: str,
    on: str | None,
    samples: int | None,
    json: bool,
    save: Path | None = None,
    strict: bool = False,
    crossbar: dict[str, Any] | None = None,
) -> None:
    """Run, print, and leave ``runs/<runner>.json`` in the build folder; ``strict`` fails where a promise is broken."""
    built = Built(Artifact.load(build), build)
    name = on or built.runner
    if save is not None and save.is_dir():
        raise UsageError("can't be written (it is a folder).", place=str(save), hint="Choose another --save.")
    found = data_files.load(data, built.program).first(samples)
    options: dict[str, Any] = {}
    if name == "board":
        options = {"emulator": emulator, "port": port}
    elif port is not None or emulator != "auto":
        option = "--emulator" if port is None else "--port"
        raise UsageError(
            f"{option} is for boards; this runs on '{name}'.", place=str(build), hint=f"Leave {option} out."
        )
    running = progress(f"running {build.name} on {name}", quiet=json)
    with running as say, run_options(crossbar or {}, name, built.program) as simulated:
        if name == "crossbar":
            check_studies(crossbar or {}, built, found)
        say(f"{found.samples} samples")
        command = f"neurodeploy {'validate' if strict else 'run'} {build.name} --data {data.name} --on {name}"
        result = validation.validate(built, found, on=name, command=command, **options, **simulated)
        run = result.run if name != "crossbar" else studies(crossbar or {}, simulated, built, found, result.run, say)
    record = save_run(build, run)
    if save is not None:
        _save(save, result.outputs)
    if json:
        print_json(run.model_dump(mode="json", by_alias=True))
    else:
        _print(run, record)
    if strict:
        validation.require_held(run)


def _print(run: Any, record: Path) -> None:
    out.print(f"ran on {run.where}", markup=False)
    if run.device:
        out.print(f"the board says: target {run.device.target_id}, firmware {run.device.firmware_hash}", markup=False)
    if run.accuracy:
        out.print(_accuracy_line(run.accuracy), markup=False)
    if line := validation.first_difference(run):
        out.print(line, markup=False)
    if run.accuracy and run.accuracy.drift:
        columns, rows = age_rows(run)
        table("accuracy over chips", columns, rows, right=columns[1:])
    for swept in run.sweeps:
        columns, rows = sweep_rows(swept)
        table(f"accuracy over chips against {swept.what}", columns, rows, right=columns)
    if run.attribution:
        columns, rows = attribution_rows(run.attribution)
        about = f"{run.attribution.chips} chips, {age(run.attribution.age_s)}"
        table(f"where the error comes from: {about}", columns, rows, right=columns[1:])
    if run.figures:
        columns, rows = cost_rows([asdict(figure) for figure in run.figures])
        table("", columns, rows, right=columns[1:-2])
    if said := energy.verdict(run.figures):
        out.print(said, markup=False)
    for entry in run.not_run:
        out.print(f"not run: {entry.what}: {entry.why}", markup=False)
    for warning in run.warnings:
        out.print(f"warning: {warning}", markup=False)
    out.print(f"recorded in {record}", markup=False)


def _accuracy_line(found: Accuracy) -> str:
    metric = METRICS[found.metric]
    parts = []
    for word, score in (("float", found.float_), ("quantized", found.quantized), ("deployed", found.deployed)):
        if score is not None:
            spread = "" if score.sd is None else f" +- {metric.factor * score.sd:.2f}"
            parts.append(f"{word} {metric.factor * score.value:.2f}{spread} {metric.unit}".rstrip())
    return f"{metric.title} on {found.data.samples} samples: {', '.join(parts)}"


def _save(path: Path, outputs: dict[str, Any]) -> None:
    import io
    import os

    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **outputs)
    scratch = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(buffer.getvalue())
        os.replace(scratch, path)
    except OSError as error:
        if scratch.exists():
            scratch.unlink()
        raise UsageError(f"can't be written ({error.strerror or error}).", place=str(path)) from error
