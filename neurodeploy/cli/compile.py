"""``neurodeploy compile``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from neurodeploy import compiler, hardware
from neurodeploy import data as data_files
from neurodeploy.cli import fit
from neurodeploy.cli.output import number, out, print_json, progress, table
from neurodeploy.errors import UsageError


def main(
    model: Path,
    target: str | None,
    output: Path | None,
    all_boards: bool,
    period_ms: float | None,
    data: Path | None,
    numerics: str | None,
    method: str,
    toolchain: str | None,
    optimize: str | None,
    samples: int | None,
    costs: bool,
    json: bool,
) -> None:
    """Compile, save, and print what it costs; or, for all boards, hand over to :mod:`neurodeploy.cli.fit`."""
    if all_boards:
        if target is not None:
            raise UsageError("--target and --all-boards exclude each other.", hint="Leave out one of them.")
        fit.main(model, output, period_ms, data, numerics, method, toolchain, samples, json)
        return
    if period_ms is not None:
        raise UsageError("--period-ms goes with --all-boards.")
    if target is None or output is None:
        missing = "--target" if target is None else "--output"
        raise UsageError(f"Missing option '{missing}'.", hint="Or ask which boards it fits: --all-boards.")
    described = hardware.find(target)
    options: dict[str, Any] = {"optimize": optimize} if optimize else {}
    with progress(f"compiling {model.name} for {described.name}", quiet=json) as say:
        say("importing")
        source = compiler.load(model)
        calibration = data_files.load(data, source).first(samples) if data else None
        built = compiler.compile(
            source,
            described,
            calibration,
            numerics=numerics,
            method=method,
            costs=costs,
            progress=say,
            toolchain=toolchain,
            **options,
        ).save(output)
    manifest = built.artifact.manifest
    if json:
        print_json({"folder": str(output), **manifest})
        return
    check = source.meta.get("import_check")
    if check and check.get("max_abs_difference") is not None:
        out.print(f"imported {model}: largest difference from {check['against']} {check['max_abs_difference']:.2g}")
    rows = [(f["name"], number(f["value"]), f["unit"], f["how"]) for f in manifest["figures"]]
    table(f"{manifest['name']} on {described.title}", ("figure", "value", "unit", "how"), rows, right=("value",))
    for warning in manifest.get("warnings", []):
        out.print(f"warning: {warning}", markup=False)
    out.print(f"wrote {output}/", markup=False)
    if data:
        out.print(f"next: neurodeploy run {shlex.quote(str(output))} --data TEST.npz", markup=False)
