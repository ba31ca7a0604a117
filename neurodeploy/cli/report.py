"""``neurodeploy report``."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from neurodeploy.cli.output import out, print_json
from neurodeploy.report import build_report


def main(builds: list[Path], output: Path, json: bool) -> None:
    """Write the report in the format of the file's ending."""
    made = build_report(builds)
    path = made.write(output)
    if json:
        print_json(json_module.loads(made.render(".json")))
    else:
        out.print(f"wrote {path}: {len(made.builds)} builds", markup=False)
