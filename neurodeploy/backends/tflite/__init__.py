"""The TFLite Micro backend: each stage becomes a stateful ``.tflite`` file that steps once a call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure, Resources
from neurodeploy.backends import Capability
from neurodeploy.backends.tflite import cmsis_nn
from neurodeploy.backends.tflite.counts import counts
from neurodeploy.backends.tflite.describe import describe
from neurodeploy.backends.tflite.project import FOLDER, project
from neurodeploy.backends.tflite.project_arena import arena_of
from neurodeploy.backends.tflite.rules import RULES
from neurodeploy.backends.tflite.stage import Call, begins_reset, stage_model
from neurodeploy.backends.tflite.write import schema
from neurodeploy.errors import MissingExtraError, UnsupportedError, UsageError, nearest
from neurodeploy.ir import text
from neurodeploy.ir.graph import Program, Stage
from neurodeploy.ir.types import TensorType

if TYPE_CHECKING:
    from neurodeploy.hardware import Target

#: How float programs agree with the interpreter: TFLM adds in another order, and its libm rounds otherwise. The largest
#: difference over the tested families is 5e-7. (A share of the largest value where that is above 1.)
FLOAT_EQUALITY = "close(1e-5)"
STATES = ("variables", "io")
OPTIMIZE = ("balanced", "size")
_FOR_C = "speed is how C stores weights; TFLite Micro's kernels read theirs in one way. Leave it out."
#: Drives whose next step doesn't wait for what the last one gave.
CHUNKED = ("forward", "reverse")
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
        state: str = "variables",
        steps: int = 1,
        optimize: str = "balanced",
    ) -> Artifact:
        """Write ``{stage}.tflite`` for every stage, and the project of :mod:`.project` that runs them.

        ``state``: ``variables``, which the interpreter keeps from call to call, or ``io``, further inputs and outputs
        that the caller feeds back. ``steps``: how many a call takes. ``optimize``: ``balanced``, or ``size`` for the
        least bytes that TFLM runs, without names, signature and metadata (LiteRT wants more zero points).
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
            call = _call(program, stage, state, steps, optimize)
            model = stage_model(
                stage.graph, f"{program.name}/{stage.name}", call=call, describe=partial(describe, program, stage)
            )
            stages[stage.name] = _layout(stage, call, model)
            files[stages[stage.name]["file"]] = model
        lacking = []
        try:
            arenas = {stage: arena_of(files[layout["file"]]) for stage, layout in stages.items()}
            for stage, arena in arenas.items():
                stages[stage]["arena_bytes"] = arena.used
            files |= project(name or program.name, files, stages, arenas)
        except MissingExtraError as error:
            lacking = [f"The project {FOLDER}/ is left out: its arena must be measured, and {error.message}"]
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
            "warnings": [
                *program.meta.get("warnings", []),
                *_resets(program, state),
                *cmsis_nn.warnings(program, steps),
                *lacking,
            ],  # fmt: skip
        }
        artifact = Artifact(name or program.name, self.name, target.name, files, manifest)
        manifest["figures"] = [vars(figure) for figure in self.resources(artifact)]
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """File size, arena, multiply-accumulates and operators; with several stages their sums."""
        stages: Mapping[str, Any] = artifact.manifest["layout"]["stages"]
        size = sum(len(artifact.files[s["file"]]) for s in stages.values())
        shapes = "shapes of the weights of products, convolutions, fused LSTM and SVDF"
        return (
            Figure("tflite_bytes", size, "B", "compiled", "size of the .tflite files"),
            self._arena(artifact),
            Figure("macs", _per_step(stages, "macs"), "MAC/step", "compiled", shapes),
            Figure("operators", _per_step(stages, "operators"), "operators/step", "compiled",
                   "operators that a call runs, loops' rounds among them"),
        )  # fmt: skip

    def _arena(self, artifact: Artifact) -> Figure:
        from importlib.metadata import version

        from neurodeploy.deploy.tflm import arena_bytes

        known = {f["name"]: f for f in artifact.manifest.get("figures", [])}.get("arena_bytes")
        if known is not None:
            return Figure(**known)
        stages = artifact.manifest["layout"]["stages"].values()
        try:
            total = sum(s.get("arena_bytes") or arena_bytes(artifact.files[s["file"]]) for s in stages)
        except MissingExtraError:
            return Figure.unknown("arena_bytes", "B", "the package tflite-micro isn't installed")
        source = f"recording allocator of tflite-micro {version('tflite-micro')} after a step (64-bit host build)"
        return Figure("arena_bytes", total, "B", "measured", source)


def _layout(stage: Stage, call: Call, model: bytes) -> dict[str, Any]:
    """What runners and the project must know of a stage's model: its file, its names, what a call does, its counts."""
    return {
        "file": f"{stage.name}.tflite",
        "drive": stage.drive.kind,
        "inputs": list(stage.graph.inputs),
        "outputs": list(stage.graph.outputs),
        "states": [held.name for held in stage.graph.states],
        **vars(call),
        "series": [name for name in stage.graph.inputs if name in call.series],
        "start": list(call.start),
        "expose": list(call.expose),
        **counts(model),
    }


def _call(program: Program, stage: Stage, state: str, steps: int, optimize: str) -> Call:
    """What a call of a stage's model does. Raises :class:`UsageError`, :class:`UnsupportedError`."""
    for option, value, known in (("state", state, STATES), ("optimize", optimize, OPTIMIZE)):
        if value not in known:
            hint = _FOR_C if (option, value) == ("optimize", "speed") else nearest(str(value), known)
            raise UsageError(f"{option} is '{value}'; needed {' or '.join(known)}.", hint=hint)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UsageError(f"steps is {steps!r}; needed a whole number of 1 or more.")
    series = frozenset(name for name, ref in stage.inputs_from.items() if program.is_series(ref))
    place = f"{program.name}: stage '{stage.name}'"
    if steps > 1 and stage.drive.kind not in CHUNKED:
        raise UnsupportedError(
            f"is driven by '{stage.drive.kind}', which decides after every step how to go on; {steps} steps a call "
            f"need {' or '.join(CHUNKED)}.",
            place=place,
            hint="Compile it with one step a call.",
        )
    if steps > 1 and not series:
        raise UnsupportedError(
            f"has no series input to take {steps} steps a call from.", place=place, hint="Compile one step a call."
        )
    start = () if state == "io" else tuple(stage.state_from)
    expose = tuple(_finals(program, stage.name))
    return Call(state, steps, series, start, expose, optimize == "size")


def _resets(program: Program, state: str) -> list[str]:
    """A warning for every variable that TFLM's reset leaves at another value than its first."""
    return [
        f"state '{stage.name}.{held.name}' starts at values other than 0. TFLite Micro's Reset() sets it to 0 and does "
        "not assign the first values again. To begin a new series, make the interpreter anew (on the same arena), or "
        "compile with --state io and feed the first values."
        for stage in program.stages
        for held in stage.graph.states
        if state == "variables" and held.name not in stage.state_from and not begins_reset(stage.graph, held)
    ]


def _per_step(stages: Mapping[str, Any], count: str) -> int | float:
    """What the stages' calls count, for each of their steps."""
    total = sum(s[count] / s["steps"] for s in stages.values())
    return round(total) if total == round(total) else round(total, 2)


def _finals(program: Program, stage: str) -> list[str]:
    """States whose value at the end of a stage another stage or an output takes."""
    refs = [r for s in program.stages for r in (*s.inputs_from.values(), *s.state_from.values())]
    wanted = {r.name for r in (*refs, *program.outputs.values()) if r.stage == stage and r.at == "final"}
    return [state.name for state in program.stage(stage).graph.states if state.name in wanted]


def _port(name: str, type_: TensorType, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "kind": kind, "dtype": type_.dtype, "shape": list(type_.shape)}
    if type_.quant is not None:
        made |= {"scale": type_.quant.scale, "zero_point": type_.quant.zero_point}
    return made
