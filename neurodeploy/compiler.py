"""From a model to a built artifact: load, run the passes of the target's backend, compile."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodeploy.artifact import SCHEMA_VERSION, Artifact
from neurodeploy.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy as np

    from neurodeploy.data import Data
    from neurodeploy.hardware import Target
    from neurodeploy.ir.graph import Program
    from neurodeploy.mixed import Front

#: Composites of the option ``fused_lstm``: neither expanded nor taken apart by the quantizer.
FUSED = ("tflite_lstm",)
#: Passes that quantize; the first one has widths that a loss can choose.
QUANTIZERS = ("quantize", "quantize_tflite")

#: backend -> the numerics that it takes, its default first.
NUMERICS: Mapping[str, tuple[str, ...]] = {
    "c": ("native", "float", "tflite"),
    "tflite": ("tflite", "float"),
    "brian2": ("float",),
    "nir": ("float",),
    "snntorch": ("float",),
    "crossbar": ("float", "native"),
}
#: backend -> the runner that runs on the target itself.
RUNNER_OF: Mapping[str, str] = {
    "c": "board",
    "tflite": "tflm",
    "brian2": "brian2",
    "nir": "nir",
    "snntorch": "snntorch",
    "crossbar": "crossbar",
}
Progress = Callable[[str], None]


def load(source: Any, example: Any = None, **options: Any) -> Program:
    """A network as a program of the IR.

    ``source``: a path (``.onnx``, ``.nd``, ``.npz`` of an echo state network) or a ``torch.nn.Module``, which needs an
    ``example`` input. Raises :class:`ModelError`, and :class:`UnsupportedError` naming the node that isn't supported.
    """
    from neurodeploy.importers import load as import_model

    return import_model(source, example, **options)


@dataclass(frozen=True)
class Built:
    """A compiled network: its artifact, and the folder that it was saved to (if it was)."""

    artifact: Artifact
    folder: Path | None = None

    @property
    def program(self) -> Program:
        """What runs on the target, as the golden model knows it."""
        from neurodeploy.ir import text

        return text.from_files(self.artifact.files, "program")

    @property
    def source(self) -> Program:
        """The float program that it was made of."""
        from neurodeploy.ir import text

        return text.from_files(self.artifact.files, "source")

    @property
    def runner(self) -> str:
        """The runner for the target itself."""
        return runner_of(self.artifact)

    def save(self, folder: str | Path) -> Built:
        """Write the artifact as a folder. Raises :class:`UsageError` if something else is there."""
        return Built(self.artifact, self.artifact.save(folder))

    def export(self, form: str, folder: str | Path, window: Any = None) -> Path:
        """Write a C build as a project for another tool: ``arduino``, ``cmake``, ``plain`` or ``zephyr``.

        ``window``: what the project's example feeds, an array ``[steps, ...]`` or a dict by input name; by default made
        up. Raises :class:`UsageError` if something else is in the folder, :class:`UnsupportedError` for another
        backend's build.
        """
        from neurodeploy.backends import c_export

        if window is not None and not isinstance(window, dict):
            window = {next(iter(self.program.inputs)): window}
        return c_export.write(c_export.export(self.artifact, form, window), folder)

    def run(self, inputs: Any, lengths: Any = None, *, on: str | None = None, **options: Any) -> Any:
        """Run it and return its outputs as real numbers: one array, or a dict if there are several.

        ``inputs``: an array ``[batch, steps, ...]``, or a dict by input name. ``on``: ``golden``, ``host``, ``board``
        or another runner; by default the target itself, emulated where no ``port=`` names a real one.
        """
        from neurodeploy.backends import runner
        from neurodeploy.data import arrange
        from neurodeploy.ir.drive import real_outputs

        program = self.program
        data = arrange(inputs, program)
        trace = runner(on or self.runner).run(
            self.artifact, dict(data.inputs), data.lengths if lengths is None else lengths, **options
        )
        outputs = real_outputs(program, trace)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def validate(self, data: Any, *, on: str | None = None, **options: Any) -> Any:
        """Accuracy and agreement with the golden model: see :func:`neurodeploy.validate.validate`."""
        from neurodeploy.validate import validate

        return validate(self, data, on=on, **options)


def runner_of(artifact: Artifact) -> str:
    """The runner for the artifact's target itself (``host`` for the host's C)."""
    return "host" if artifact.target == "host" else RUNNER_OF.get(artifact.backend, artifact.backend)


def compile(
    model: Any,
    target: str | Target,
    calibration: Any = None,
    *,
    lengths: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    numerics: str | None = None,
    method: str = "minmax",
    name: str | None = None,
    toolchain: str | None = None,
    costs: bool = True,
    quantize: Mapping[str, Any] | None = None,
    max_loss: float | None = None,
    minimise: str = "flash",
    progress: Progress | None = None,
    **options: Any,
) -> Built:
    """Compile a network for a target.

    ``model``: a program, or anything that :func:`load` takes. ``target``: a target's name, ``.toml`` path or
    description. ``calibration``: sample inputs ``[n, steps, ...]`` (or a dict, or :class:`~neurodeploy.data.Data`),
    from which ranges are taken; needed for all but float programs. ``labels`` ``[n]``: for the spiking backends, which
    refit a readout. ``numerics``: ``native``, ``float`` or ``tflite``; the backend's own by default. ``method``: how
    ranges are chosen, ``minmax``, ``percentile`` or ``mse``. ``toolchain``: the C compiler, ``zig``, ``gcc`` or
    ``clang``. ``costs=False`` leaves out the figures that take another tool's run (a C compiler's sizes).
    ``quantize``: options of the pass of that name, such as ``{"weight_bits": 4}``. ``max_loss``: choose the width of
    every weight so that this much is lost at most, see :func:`neurodeploy.mixed.search`; the build then holds the front
    of all that was tried. ``minimise``: ``flash``, or ``ram`` by the widths of the states. Further options go to the
    backend. Of tflite, and of C with tflite numerics, ``fused_lstm``: LSTMs become TFLite's own, which TFLM's CMSIS-NN
    kernel runs without keeping its state (:class:`neurodeploy.passes.tflite.fused.FuseLSTM`). Of tflite ``state``,
    ``steps`` and ``optimize`` of :meth:`neurodeploy.backends.tflite.TFLiteBackend.compile`. Of spiking ones they are
    the conversion's (``levels``, ``ticks``, ``neurons`` ..., and ``max_loss`` chooses these); of C: ``optimize``, how
    weights are stored (``balanced``, ``speed`` or ``size``), and ``ram`` (``fast``, or ``small`` for less RAM and some
    more instructions).
    Of crossbars also ``fine_tune``: train with the devices' noise for so many epochs first, by the ``labels``
    (:mod:`neurodeploy.crossbar.repair.fine_tune`).
    Raises :class:`UsageError` and its kin; writes nothing.
    """
    from neurodeploy import hardware, mixed_front, passes
    from neurodeploy.backends import backend as find_backend
    from neurodeploy.ir.graph import Program

    source = model if isinstance(model, Program) else load(model)
    described = hardware.find(target) if isinstance(target, str) else target
    if toolchain is not None and described.backend != "c":
        raise UsageError(f"'{described.name}' is not compiled by a C compiler; leave out the toolchain.")
    fused_lstm = bool(options.pop("fused_lstm", False))
    tuning = options.pop("fine_tune", None) if isinstance(described, hardware.Crossbar) else None
    engine = find_backend(described.backend)
    known = inspect.signature(engine.compile).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    for key in options:
        if key not in known and not open_ended:
            raise UsageError(
                f"the backend '{described.backend}' has no option '{key}'.", place=described.name, hint="Leave it out."
            )
    if max_loss is not None and isinstance(described, hardware.Neuromorphic):
        options["max_loss"], max_loss = max_loss, None  # the conversion to spikes chooses by it
    kind = numerics_of(described.backend, numerics, source)
    data = calibration_of(calibration, lengths, labels, source)
    say = progress or (lambda _: None)
    tuned = None
    if tuning is not None and isinstance(described, hardware.Crossbar):
        from neurodeploy.crossbar.repair.fine_tune import tune

        tuned = tune(source, described, data, tuning, options, say)
        source = tuned.program
    front = None
    if max_loss is not None:
        front = _mixed(source, described.backend, kind, data, max_loss, minimise, method, quantize, say)
        quantize = front.options
    if options.get("optimize") == "size" and (described.backend, kind, source.numerics) == ("tflite", "tflite", "float"):
        quantize = {"tables": "i8", **(quantize or {})}
    program = prepare(
        source, described.backend, kind, data, method=method, quantize=quantize, fused_lstm=fused_lstm, progress=say
    )
    say(f"emitting for {described.name}")
    artifact = engine.compile(program, described, source=source, data=data, name=name or source.name, **options)
    files = {**artifact.files, **hardware.carried(described)}
    if front is not None:
        files |= mixed_front.files(front)
    artifact = replace(artifact, files=files)
    manifest = {**_manifest(source, program, described, data, method if data else None, files), **artifact.manifest}
    manifest["name"] = name or artifact.name
    if quantize:
        manifest["quantize"] = passes.print_pass(passes.make(quantizer_of(described.backend, kind), quantize))
    if front is not None:
        summary = mixed_front.as_dict(front)
        manifest["mixed"] = {key: value for key, value in summary.items() if key != "front"}
        manifest["warnings"] = [*manifest["warnings"], *mixed_front.warnings(front)]
    if tuned is not None:
        manifest["fine_tune"] = tuned.record()
        manifest["warnings"] = [*manifest["warnings"], *tuned.warnings]
        manifest["figures"] = [*manifest.get("figures", []), *map(asdict, tuned.figures)]
    if toolchain is not None:
        manifest["toolchain"] = toolchain
        artifact = replace(artifact, manifest=manifest)
    more = engine.resources(artifact) if costs else ()
    figures = [*manifest.get("figures", []), *(vars(f) for f in more)]
    manifest["figures"] = list({f["name"]: f for f in figures}.values())
    return Built(Artifact(manifest["name"], artifact.backend, artifact.target, files, manifest))


def numerics_of(backend: str, wanted: str | None, source: Program | None = None) -> str:
    """The numerics asked for, those of a ``source`` that is quantized already, or the backend's own.

    Raises :class:`UsageError` for what the backend hasn't, or the source isn't.
    """
    known = NUMERICS.get(backend, ("float",))
    if source is not None and source.numerics != "float":
        if wanted not in (None, source.numerics) or source.numerics not in known:
            needed = wanted or f"{' or '.join(known)} for the backend '{backend}'"
            raise UsageError(
                f"is quantized already, with {source.numerics} numerics; needed {needed}.",
                place=source.name,
                hint="Give the float model.",
            )
        return source.numerics
    if wanted is not None and wanted not in known:
        raise UsageError(
            f"the backend '{backend}' has no numerics '{wanted}'; needed: {' or '.join(known)}.",
            hint=nearest(wanted, known),
        )
    return wanted or known[0]


def calibration_of(calibration: Any, lengths: Any, labels: Any, source: Program) -> Data | None:
    """Sample inputs of any form as data; None for none."""
    import numpy as np

    from neurodeploy.data import Data, arrange

    if calibration is None:
        return None
    data = calibration if isinstance(calibration, Data) else arrange(calibration, source)
    if lengths is not None:
        data = replace(data, lengths=np.asarray(lengths))
    return data if labels is None else replace(data, labels=np.asarray(labels))


def prepare(
    source: Program,
    backend: str,
    numerics: str,
    data: Data | None,
    *,
    method: str = "minmax",
    quantize: Mapping[str, Any] | None = None,
    fused_lstm: bool = False,
    progress: Progress,
) -> Program:
    """The program as the backend takes it: its pipeline of passes run on the float program.

    A source that is quantized already is only simplified and expanded.
    """
    from neurodeploy import passes

    if source.numerics != "float":
        if quantize or fused_lstm:
            raise UsageError(f"is quantized already, with {source.numerics} numerics.", place=source.name)
        return passes.run(source, passes.pipeline(backend, numerics, quantized=True), progress=progress)
    if numerics != "float":
        _require_data(source, numerics, data)
    options: dict[str, Any] = {quantizer_of(backend, numerics): quantize} if quantize else {}
    if fused_lstm:
        _require_fused_lstm(source, backend, numerics)
        options |= {"expand": {"keep": FUSED}, "calibrate": {"method": method, "keep": FUSED}}
    pipeline = passes.pipeline(backend, numerics, data=data, method=method, **options)
    if fused_lstm:
        pipeline = (passes.make("simplify", {}), passes.make("fuse_lstm", {}), *pipeline)
    return passes.run(source, pipeline, progress=progress)


def _require_fused_lstm(source: Program, backend: str, numerics: str) -> None:
    if backend != "tflite" and numerics != "tflite":
        raise UsageError(
            f"'{numerics}' numerics on the backend '{backend}' has no fused LSTM.",
            place=source.name,
            hint="Compile for TFLite Micro, or for C with --numerics tflite.",
        )


def _mixed(
    source: Program,
    backend: str,
    numerics: str,
    data: Data | None,
    max_loss: float,
    minimise: str,
    method: str,
    quantize: Mapping[str, Any] | None,
    progress: Progress,
) -> Front:
    """The widths that lose no more than they may."""
    from neurodeploy import mixed

    quantizer_of(backend, numerics, "widths", QUANTIZERS[:1])
    found = _require_data(source, numerics, data)
    return mixed.search(source, found, max_loss, minimise=minimise, method=method, options=quantize, progress=progress)


def _require_data(source: Program, numerics: str, data: Data | None) -> Data:
    if data is None:
        raise UsageError(
            f"'{numerics}' numerics needs calibration data.",
            place=source.name,
            hint="Give sample inputs (--data FILE.npz), or compile with --numerics float.",
        )
    return data


def quantizer_of(
    backend: str, numerics: str, what: str = "options of quantize", known: tuple[str, ...] = QUANTIZERS
) -> str:
    """The name of the pass that quantizes. Raises :class:`UsageError` where there is none."""
    from neurodeploy.passes import PIPELINES

    found = [name for name in PIPELINES.get((backend, numerics), ()) if name in known]
    if not found:
        raise UsageError(
            f"'{numerics}' numerics on the backend '{backend}' takes no {what}.",
            hint="Compile for C with native numerics.",
        )
    return found[0]


def _manifest(
    source: Program,
    program: Program,
    target: Target,
    data: Data | None,
    method: str | None,
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """What every artifact's manifest says, whatever the backend."""
    from neurodeploy.ir.cost import widths
    from neurodeploy.version import release

    model = hashlib.sha256(files["source.nd"] + files["source.npz"])
    parameters = sum(p.type.size for s in source.stages for p in s.graph.params.values())
    return {
        "schema": SCHEMA_VERSION,
        "name": source.name,
        "backend": target.backend,
        "target": target.name,
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
        "calibration": {"method": method, "samples": data.samples, "data": data.name} if data else None,
        "warnings": list(program.meta.get("warnings", [])),
    }


def _scale(type_: Any) -> dict[str, Any]:
    return {} if type_.quant is None else {"scale": type_.quant.scale, "zero_point": type_.quant.zero_point}
