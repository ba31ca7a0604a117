"""``neurodeploy quantize``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodeploy import compiler
from neurodeploy import data as data_files
from neurodeploy.cli.output import out, print_json, progress, table
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.report.figures import METRICS
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

            result["sensitivity"] = asdict(measure(source, found, method=method, progress=say))
    if json:
        print_json(result)
        return
    for word, (name, value) in result.get("accuracy", {}).items():
        metric = METRICS[name]
        score = f"{metric.factor * value:.2f} {metric.unit}".rstrip()
        out.print(f"{word}: {metric.title} {score} on {found.samples} samples of {found.name}", markup=False)
    table("states", ("stage", "state", "type"), [(r["stage"], r["state"], r["type"]) for r in result["states"]])
    if sensitivity:
        _print_sensitivity(result["sensitivity"])
    for warning in result["warnings"]:
        out.print(f"warning: {warning}", markup=False)


def _score(program: Program, data: Data) -> tuple[str, float]:
    trace = interpret.run(program, data.inputs, data.lengths)
    return judge(program, real_outputs(program, trace), data)


def _print_sensitivity(found: dict[str, Any]) -> None:
    """The tensors, the costliest first, below what the whole quantized network and the float one reach."""
    columns = {
        "tensor": "tensor", "kind": "kind", "dtype": "type", "elements": "elements",
        "rmse_alone": "error if alone", "rmse_others": "error of all others",
    }  # fmt: skip
    if found["accuracy_float"] is not None:
        columns |= {"accuracy_alone": "accuracy if alone", "accuracy_others": "accuracy of all others"}
    rows = [[_cell(row[key]) for key in columns] for row in found["rows"]]
    title = "sensitivity: this tensor alone quantized, and all but it (error: RMSE over the outputs' range)"
    table(title, list(columns.values()), rows, right=list(columns.values())[3:])
    accuracy = "" if found["accuracy_all"] is None else f", accuracy {found['accuracy_all']:.4f}"
    out.print(f"every tensor quantized: error {found['rmse_all']:.3g}{accuracy}", markup=False)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
