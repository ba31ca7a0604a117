"""``neurodeploy inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodeploy import compiler, hardware
from neurodeploy.backends import backend
from neurodeploy.cli.output import number, out, print_json, table
from neurodeploy.errors import NeurodeployError
from neurodeploy.ir.cost import layers, ops_of, stage_cost

if TYPE_CHECKING:
    from neurodeploy.ir.graph import Program


def main(model: Path, json: bool) -> None:
    """Print what a model consists of and where it fits."""
    program = compiler.load(model)
    found = {"model": program.name, "meta": dict(program.meta), "stages": _stages(program), "targets": _fits(program)}
    found["inputs"] = {n: f"{i.kind} {i.type}" for n, i in program.inputs.items()}
    found["outputs"] = {n: f"{r} {program.ref_type(r)}" for n, r in program.outputs.items()}
    if json:
        print_json(found)
        return
    out.print(f"{program.name}, {program.numerics} numerics", markup=False)
    for kind in ("inputs", "outputs"):
        for name, text in found[kind].items():
            out.print(f"  {kind[:-1]} {name}: {text}", markup=False)
    check = program.meta.get("import_check") or {}
    if check.get("max_abs_difference") is not None:
        out.print(f"  import check: {check['max_abs_difference']:.2g} from {check['against']}", markup=False)
    for stage in found["stages"]:
        out.print(f"stage {stage['name']}, driven {stage['drive']}", markup=False)
        rows = [(name, op, number(macs)) for name, op, macs in stage["layers"]]
        table("", ("layer", "op", "MAC/step"), rows, right=("MAC/step",))
        rows = [(name, type_, "" if size is None else number(size)) for name, type_, size in stage["states"]]
        table("", ("state", "type", "elements"), rows, right=("elements",))
        cost = stage["cost"]
        always = "" if cost["macs"] == cost["macs_always"] else f" ({number(cost['macs_always'])} unguarded)"
        out.print(f"  {number(cost['parameters'])} parameters, {number(cost['macs'])} MAC/step{always}", markup=False)
    rows = [(t["target"], "yes" if t["fits"] else "no", t["why"]) for t in found["targets"]]
    table("targets", ("target", "fits", "why"), rows)


def _stages(program: Program) -> list[dict[str, Any]]:
    return [
        {
            "name": s.name,
            "drive": s.drive.kind,
            "layers": layers(s.graph),
            "states": [(state.name, str(state.type), state.type.size) for state in s.graph.states],
            "cost": vars(stage_cost(s.graph)),
        }
        for s in program.stages
    ]


def _fits(program: Program) -> list[dict[str, Any]]:
    """Whether each target can run it: its ops and drives, and an estimate of int8 weights against the memory."""
    rows = []
    for name in hardware.names():
        target = hardware.find(name)
        why = _refusal(program, target)
        rows.append({"target": name, "fits": not why, "why": why or _room(program, target)})
    return rows


def _refusal(program: Program, target: hardware.Target) -> str:
    try:
        able = backend(target.backend).accepts(target)
    except NeurodeployError as error:
        return str(error)
    for stage in program.stages:
        if stage.drive.kind not in able.drives:
            return f"stage '{stage.name}' is driven '{stage.drive.kind}'"
    missing = sorted(op for op in ops_of(program) if op not in able.ops | able.native and op in _primitives())
    if missing:
        return f"has no {', '.join(missing)}"
    room = getattr(target, "flash_bytes", None)
    needed = sum(stage_cost(s.graph).parameters for s in program.stages)
    return f"needs {number(needed)} B of int8 weights, has {number(room)} B" if room and needed > room else ""


def _room(program: Program, target: hardware.Target) -> str:
    room = getattr(target, "flash_bytes", None)
    needed = sum(stage_cost(s.graph).parameters for s in program.stages)
    return f"int8 weights take {100 * needed / room:.2g} % of {number(room)} B (estimated)" if room else ""


def _primitives() -> frozenset[str]:
    from neurodeploy.ir.ops import OPS

    return frozenset(OPS)
