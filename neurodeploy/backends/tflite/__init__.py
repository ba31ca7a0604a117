"""The TFLite Micro backend: each stage becomes a stateful ``.tflite`` file that steps once a call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure, Resources
from neurodeploy.backends import Capability
from neurodeploy.backends.tflite.rules import RULES
from neurodeploy.backends.tflite.stage import stage_model
from neurodeploy.backends.tflite.write import schema
from neurodeploy.errors import MissingExtraError, UnsupportedError
from neurodeploy.ir import text
from neurodeploy.ir.graph import Program
from neurodeploy.ir.types import TensorType

if TYPE_CHECKING:
    from neurodeploy.hardware import Target

#: How float programs agree with the interpreter: TFLM adds in another order, and its libm rounds otherwise. The largest
#: difference over the tested families is 5e-7.
FLOAT_EQUALITY = "close(1e-5)"
DRIVES = frozenset({"forward", "reverse", "order", "until", "generate"})


class TFLiteBackend:
    """Compiles programs of the tflite dialect (:class:`~neurodeploy.passes.tflite.quantize.QuantizeTFLite`).

    The files hold the step alone, of whatever drive. The drive (running it along a series, backwards, until a
    predicate) is the caller's: the runner ``tflm`` does it, on a device the application's loop.
    """

    name = "tflite"

    def accepts(self, target: Target) -> Capability:
        """Every integer op has the bits of TFLM's reference kernel; float ones are close (:data:`FLOAT_EQUALITY`)."""
        dtypes = frozenset({"f32", "i8", "i16", "i32", "i64", "bool"})
        return Capability(frozenset(RULES), dtypes, DRIVES, equality="exact")

    def compile(
        self,
        program: Program,
        target: Target,
        *,
        source: Program | None = None,
        data: Any = None,
        name: str | None = None,
    ) -> Artifact:
        """Write ``{stage}.tflite`` for every stage.

        Raises :class:`UnsupportedError` naming op and value, :class:`MissingExtraError` without flatbuffers and a
        schema module (extra ``tflite``).
        """
        if program.numerics not in ("tflite", "float"):
            raise UnsupportedError(
                f"has {program.numerics} numerics; needed tflite or float.",
                place=program.name,
                hint="Quantize it for TFLite.",
            )
        files: dict[str, bytes] = {}
        stages: dict[str, Any] = {}
        for stage in program.stages:
            start, expose = list(stage.state_from), _finals(program, stage.name)
            model = stage_model(stage.graph, f"{program.name}/{stage.name}", expose=expose, start=start)
            files[f"{stage.name}.tflite"] = model
            stages[stage.name] = {
                "file": f"{stage.name}.tflite",
                "drive": stage.drive.kind,
                "inputs": list(stage.graph.inputs),
                "start": start,
                "outputs": list(stage.graph.outputs),
                "expose": expose,
                **_counts(model),
            }
        files |= {**text.to_files(program, "program"), **text.to_files(source or program, "source")}
        manifest: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "name": name or program.name,
            "backend": self.name,
            "target": target.name,
            "numerics": program.numerics,
            "equality": "exact" if program.numerics == "tflite" else FLOAT_EQUALITY,
            "inputs": [_port(n, i.type, i.kind) for n, i in program.inputs.items()],
            "outputs": [_port(n, t, "output") for n, t in program.output_types().items()],
            "labels": program.meta.get("labels"),
            "normalisation": program.meta.get("normalisation"),
            "layout": {"stages": stages},
            "hashes": {
                "model": hashlib.sha256(files["source.nd"] + files["source.npz"]).hexdigest(),
                "calibration": getattr(data, "sha256", None),
            },
            "compiler": {"name": "neurodeploy tflite", "schema": schema().__name__},
            "warnings": list(program.meta.get("warnings", [])),
        }
        artifact = Artifact(name or program.name, self.name, target.name, files, manifest)
        manifest["figures"] = [vars(figure) for figure in self.resources(artifact)]
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """File size, arena, multiply-accumulates and operators; with several stages their sums."""
        stages: Mapping[str, Any] = artifact.manifest["layout"]["stages"]
        size = sum(len(artifact.files[s["file"]]) for s in stages.values())
        shapes = "shapes of the weights of FULLY_CONNECTED"
        return (
            Figure("tflite_bytes", size, "B", "compiled", "size of the .tflite files"),
            self._arena(artifact),
            Figure("macs", sum(s["macs"] for s in stages.values()), "MAC/step", "compiled", shapes),
            Figure("operators", sum(s["operators"] for s in stages.values()), "operators/step", "compiled",
                   "operators of the main subgraphs"),
        )  # fmt: skip

    def _arena(self, artifact: Artifact) -> Figure:
        from importlib.metadata import version

        from neurodeploy.deploy.tflm import arena_bytes

        known = {f["name"]: f for f in artifact.manifest.get("figures", [])}.get("arena_bytes")
        if known is not None:
            return Figure(**known)
        try:
            files = [artifact.files[s["file"]] for s in artifact.manifest["layout"]["stages"].values()]
            total = sum(arena_bytes(model) for model in files)
        except MissingExtraError:
            return Figure.unknown("arena_bytes", "B", "the package tflite-micro isn't installed")
        source = f"recording allocator of tflite-micro {version('tflite-micro')} after a step (64-bit host build)"
        return Figure("arena_bytes", total, "B", "measured", source)


def _finals(program: Program, stage: str) -> list[str]:
    """States whose value at the end of a stage another stage or an output takes."""
    refs = [r for s in program.stages for r in (*s.inputs_from.values(), *s.state_from.values())]
    wanted = {r.name for r in (*refs, *program.outputs.values()) if r.stage == stage and r.at == "final"}
    return [state.name for state in program.stage(stage).graph.states if state.name in wanted]


def _counts(model: bytes) -> dict[str, int]:
    """Operators of a model's step, and the multiply-accumulates of its products."""
    fb = schema()
    root = fb.Model.GetRootAsModel(model, 0)
    main, macs = root.Subgraphs(0), 0
    for i in range(main.OperatorsLength()):
        operator = main.Operators(i)
        if root.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() == fb.BuiltinOperator.FULLY_CONNECTED:
            weights = main.Tensors(operator.Inputs(1)).ShapeAsNumpy()
            rows = np.prod(main.Tensors(operator.Outputs(0)).ShapeAsNumpy()[:-1])
            macs += int(np.prod(weights) * rows)
    return {"operators": main.OperatorsLength(), "macs": macs}


def _port(name: str, type_: TensorType, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "kind": kind, "dtype": type_.dtype, "shape": list(type_.shape)}
    if type_.quant is not None:
        made |= {"scale": type_.quant.scale, "zero_point": type_.quant.zero_point}
    return made
