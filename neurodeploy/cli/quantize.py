"""``neurodeploy quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodeploy import compiler
from neurodeploy import data as data_files
from neurodeploy.cli.output import out, print_json, progress, table
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.validate import judge

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.ir.graph import Program


def main(model: Path, data: Path, sensitivity: bool, method: str, samples: int | None, json: bool) -> None:
    """Quantize on the data, and show what that costs; the data serve as calibration and as test."""
    with progress(f"quantizing {model.name}", quiet=json) as say:
        source = compiler.load(model)
        found = data_files.load(data, source).first(samples)
        program = compiler.prepare(source, "c", "native", found, method=method, progress=say)
        result: dict[str, Any] = {"model": source.name, "data": found.name, "samples": found.samples}
        result["warnings"] = list(program.meta.get("warnings", []))
        result["states"] = [
            {"stage": s.name, "state": state.name, "type": str(state.type)}
            for s in program.stages
            for state in s.graph.states
        ]
        if found.labels is not None:
            result["accuracy"] = {"float": _score(source, found), "quantized": _score(program, found)}
        if sensitivity:
            from neurodeploy.passes.sensitivity import sensitivity as measure

            result["sensitivity"] = measure(source, found, method=method, progress=say)
    if json:
        print_json(result)
        return
    for word, (metric, value) in result.get("accuracy", {}).items():
        out.print(f"{word}: {metric} {value:.4f} on {found.samples} samples of {found.name}", markup=False)
    table("states", ("stage", "state", "type"), [(r["stage"], r["state"], r["type"]) for r in result["states"]])
    for row in _sensitivity_rows(result):
        table(*row)
    for warning in result["warnings"]:
        out.print(f"warning: {warning}", markup=False)


def _score(program: Program, data: Data) -> tuple[str, float]:
    trace = interpret.run(program, data.inputs, data.lengths)
    return judge(program, real_outputs(program, trace), data)


def _sensitivity_rows(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    found = result.get("sensitivity")
    if not found:
        return []
    columns = list(found[0])
    rows = [tuple(f"{v:.4g}" if isinstance(v, float) else v for v in entry.values()) for entry in found]
    return [("sensitivity: what quantizing one tensor alone costs", columns, rows)]
