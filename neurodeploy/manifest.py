"""The manifest of a build: what is said of every network, and of what was chosen for it before it was compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure

if TYPE_CHECKING:
    from neurodeploy.crossbar.repair.fine_tune import Tuned
    from neurodeploy.data import Data
    from neurodeploy.hardware import Target
    from neurodeploy.ir.graph import Program
    from neurodeploy.mixed import Front
    from neurodeploy.passes.pipeline import Pass

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Making:
    """How a network was compiled: the float ``source`` (fine-tuned where it was), the ``program`` of the ``target``,
    calibration, and what was asked for or chosen on the way."""

    source: Program
    program: Program
    target: Target
    data: Data | None
    method: str
    quantizer: Pass | None
    front: Front | None
    tuned: Tuned | None
    toolchain: str | None


def completed(artifact: Artifact, making: Making, name: str | None) -> Artifact:
    """A backend's artifact with the files and the manifest that every build has; what the backend says stands."""
    from neurodeploy import hardware, mixed_front, passes

    files = {**artifact.files, **hardware.carried(making.target)}
    if making.front is not None:
        files |= mixed_front.files(making.front)
    manifest = {**_common(making, files), **artifact.manifest, "name": name or artifact.name}
    if making.quantizer is not None:
        manifest["quantize"] = passes.print_pass(making.quantizer)
    if making.front is not None:
        front = mixed_front.as_dict(making.front)
        manifest["mixed"] = {key: value for key, value in front.items() if key != "front"}
        add_warnings(manifest, mixed_front.warnings(making.front))
    if making.tuned is not None:
        manifest["fine_tune"] = making.tuned.record()
        add_warnings(manifest, making.tuned.warnings)
        add_figures(manifest, making.tuned.figures)
    if making.toolchain is not None:
        manifest["toolchain"] = making.toolchain
    return Artifact(manifest["name"], artifact.backend, artifact.target, files, manifest)


def add_figures(manifest: Manifest, figures: Iterable[Figure]) -> None:
    """More figures; of two with one name the later one stands."""
    every = [*manifest.get("figures", []), *map(asdict, figures)]
    manifest["figures"] = list({figure["name"]: figure for figure in every}.values())


def add_warnings(manifest: Manifest, warnings: Iterable[str]) -> None:
    """More warnings."""
    manifest["warnings"] = [*manifest["warnings"], *warnings]


def _common(making: Making, files: Mapping[str, bytes]) -> Manifest:
    """What every artifact's manifest says, whatever the backend."""
    from neurodeploy.ir.cost import widths
    from neurodeploy.version import release

    source, program, data = making.source, making.program, making.data
    model = hashlib.sha256(files["source.nd"] + files["source.npz"])
    parameters = sum(p.type.size for s in source.stages for p in s.graph.params.values())
    return {
        "schema": SCHEMA_VERSION,
        "name": source.name,
        "backend": making.target.backend,
        "target": making.target.name,
        "numerics": program.numerics,
        "widths": widths(program) or None,
        "neurodeploy": release(),
        "model": {"name": source.name, "parameters": parameters, "origin": source.meta.get("origin")},
        "inputs": [
            {"name": n, "kind": i.kind, "shape": list(i.type.shape), "dtype": i.type.dtype, **_scale(i.type)}
            for n, i in program.inputs.items()
        ],
        "outputs": [
            {"name": n, "from": str(program.outputs[n]), "shape": list(t.shape), "dtype": t.dtype, **_scale(t)}
            for n, t in program.output_types().items()
        ],
        "labels": source.meta.get("labels"),
        "normalisation": source.meta.get("normalisation"),
        "hashes": {"model": model.hexdigest(), "calibration": data.sha256 if data else None},
        "calibration": {"method": making.method, "samples": data.samples, "data": data.name} if data else None,
        "warnings": list(program.meta.get("warnings", [])),
    }


def _scale(type_: Any) -> dict[str, Any]:
    return {} if type_.quant is None else {"scale": type_.quant.scale, "zero_point": type_.quant.zero_point}
