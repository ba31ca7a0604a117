"""``neurodeploy inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy import compiler, hardware
from neurodeploy.artifact import Artifact
from neurodeploy.cli.output import number, out, print_json, table
from neurodeploy.data import Data
from neurodeploy.errors import MissingExtraError, NeurodeployError, UnsupportedError, UsageError
from neurodeploy.ir.cost import layers, stage_cost

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
        if rows:
            table("", ("state", "type", "elements"), rows, right=("elements",))
        cost = stage["cost"]
        always = "" if cost["macs"] == cost["macs_always"] else f" ({number(cost['macs_always'])} unguarded)"
        out.print(f"  {number(cost['parameters'])} parameters, {number(cost['macs'])} MAC/step{always}", markup=False)
    words = {True: "yes", False: "no", None: "?"}
    rows = [(t["target"], words[t["fits"]], t["why"]) for t in found["targets"]]
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
    """Whether each target takes it: tried by compiling for it, with ranges from random inputs where it needs some."""
    data = _random_data(program)
    rows = []
    for name in hardware.names():
        target = hardware.find(name)
        try:
            built = compiler.compile(program, target, data, costs=False)
            rows.append({"target": name, "fits": True, "why": _room(built.artifact, target)})
        except MissingExtraError as error:
            rows.append({"target": name, "fits": None, "why": str(error)})
        except UnsupportedError as error:
            rows.append({"target": name, "fits": False, "why": str(error)})
        except UsageError as error:
            needs_labels = "label" in str(error)
            rows.append({"target": name, "fits": needs_labels, "why": str(error)})
        except NeurodeployError as error:
            rows.append({"target": name, "fits": False, "why": str(error)})
    return rows


def _random_data(program: Program) -> Data:
    """Four sequences of eight steps from a normal distribution (zeros for whole numbers)."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, given in program.inputs.items():
        shape = ((4, 8) if given.kind == "series" else (4,)) + given.type.shape
        array = rng.normal(size=shape) if given.type.dtype == "f32" else np.zeros(shape)
        arrays[name] = array.astype(given.type.numpy)
    return Data(arrays, name="random")


def _room(artifact: Artifact, target: hardware.Target) -> str:
    """How much of a board's memory the constants take."""
    room = getattr(target, "flash_bytes", None)
    sizes = {f["name"]: f["value"] for f in artifact.manifest["figures"]}
    constants = sum(sizes.get(key) or 0 for key in ("flash_weights", "flash_tables"))
    return f"constants take {number(constants)} of {number(room)} B" if room else ""
