"""``neurodeploy export``."""

from __future__ import annotations

from pathlib import Path

from neurodeploy import data as data_files
from neurodeploy.artifact import Artifact
from neurodeploy.backends import c_export
from neurodeploy.cli.output import out, print_json
from neurodeploy.compiler import Built


def main(build: Path, form: str, output: Path, data: Path | None, json: bool) -> None:
    """Export, write, and say where to read on."""
    built = Built(Artifact.load(build), build)
    window, note = None, ""
    if data is not None:
        found = data_files.load(data, built.program)
        steps = None if found.lengths is None else int(found.lengths[0])
        series = {name for name, given in built.program.inputs.items() if given.kind == "series"}
        window = {name: array[0][:steps] if name in series else array[0] for name, array in found.inputs.items()}
        note = f"the first sample of {data.name}"
    files = c_export.export(built.artifact, form, window, note)
    c_export.write(files, output)
    if json:
        print_json({"folder": str(output), "form": form, "files": sorted(files)})
        return
    out.print(f"wrote {output}/ ({len(files)} files)", markup=False)
    out.print(f"next: read {output / 'README.md'}", markup=False)
