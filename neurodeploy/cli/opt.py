"""``neurodeploy opt``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from neurodeploy import compiler, passes
from neurodeploy import data as data_files
from neurodeploy.cli.output import err, progress
from neurodeploy.ir import text


def main(model: Path, spec: str, data: Path | None, show: bool, output: Path | None) -> None:
    """Run passes and print or write the program."""
    source = compiler.load(model)
    found = data_files.load(data, source) if data else None
    with progress(f"running {spec}") as say:
        program = passes.run(source, passes.parse(spec, data=found), progress=say)
    if output is not None:
        stem = output.with_suffix("")
        for name, content in text.to_files(program, stem.name).items():
            path = stem.parent / name
            scratch = path.with_name(f".{path.name}.part")
            scratch.write_bytes(content)
            os.replace(scratch, path)
        err.print(f"wrote {stem}.nd and {stem}.npz", markup=False)
    if show or output is None:
        sys.stdout.write(text.print_program(program))
