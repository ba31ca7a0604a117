"""``neurodeploy compile --all-boards``."""

from __future__ import annotations

from pathlib import Path

from neurodeploy import compiler
from neurodeploy import data as data_files
from neurodeploy.cli.output import out, print_json, progress, table
from neurodeploy.errors import UsageError


def main(
    model: Path,
    output: Path | None,
    period_ms: float | None,
    data: Path | None,
    numerics: str | None,
    method: str,
    toolchain: str | None,
    samples: int | None,
    json: bool,
) -> None:
    """Print the fit table; write it too if there is an ``output``."""
    from neurodeploy.fit import fit_boards
    from neurodeploy.report.fit_table import checked_ending

    if output is not None:
        checked_ending(output)
        if not output.parent.is_dir():
            raise UsageError("can't be written: there is no such folder.", place=str(output), hint="Choose another -o.")
    with progress(f"fitting {model.name}", quiet=json) as say:
        say("importing")
        source = compiler.load(model)
        calibration = data_files.load(data, source).first(samples) if data else None
        fitted = fit_boards(
            source,
            calibration,
            period_s=None if period_ms is None else period_ms / 1e3,
            numerics=numerics,
            method=method,
            toolchain=toolchain,
            progress=say,
        )
    if output is not None:
        fitted.write(output)
    if json:
        print_json(fitted.to_json())
        return
    title = f"{fitted.model} on every board, {fitted.numerics} numerics"
    table(title, fitted.columns(), fitted.cells(), right=fitted.numbers())
    for note in fitted.notes():
        out.print(f"- {note}", markup=False)
    if output is not None:
        out.print(f"wrote {output}", markup=False)
