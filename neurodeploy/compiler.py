"""From a model to a built artifact: load, run the passes of the target's backend, compile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neurodeploy.built import RUNNER_OF, Built, runner_of
from neurodeploy.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy as np

    from neurodeploy.crossbar.repair.fine_tune import Tuned
    from neurodeploy.data import Data
    from neurodeploy.hardware import Target
    from neurodeploy.ir.graph import Program
    from neurodeploy.mixed import Front

__all__ = ["NUMERICS", "RUNNER_OF", "Built", "calibration_of", "compile", "load", "numerics_of", "prepare", "runner_of"]

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
Progress = Callable[[str], None]


def load(source: Any, example: Any = None, **options: Any) -> Program:
    """A network as a program of the IR.

    ``source``: a path (``.onnx``, ``.nd``, ``.npz`` of an echo state network) or a ``torch.nn.Module``, which needs an
    ``example`` input. Raises :class:`ModelError`, and :class:`UnsupportedError` naming the node that isn't supported.
    """
    from neurodeploy.importers import load as import_model

    return import_model(source, example, **options)


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
    ``clang``. ``costs=False`` leaves out the figures that take another tool's run (a C compiler's sizes), and the
    warning of outputs that integers cost much (:mod:`neurodeploy.output_error`).
    ``quantize``: options of the pass of that name, such as ``{"weight_bits": 4}``. ``max_loss``: choose the width of
    every weight so that this much is lost at most, see :func:`neurodeploy.mixed.search`; the build then holds the front
    of all that was tried. ``minimise``: ``flash``, or ``ram`` by the widths of the states. Further options are those of
    some targets only (:mod:`neurodeploy.target_options` describes them): of C ``optimize`` and ``ram``; of tflite
    ``state``, ``steps``, ``optimize`` and ``fused_lstm``; of spiking ones the conversion's (``levels``, ``ticks``,
    ``neurons`` ..., and ``max_loss`` chooses these); of crossbars the mapping's and ``fine_tune``.
    Raises :class:`UsageError` and its kin; writes nothing.
    """
    from neurodeploy import hardware, manifest, output_error, passes, target_options
    from neurodeploy.backends import backend as find_backend
    from neurodeploy.ir.graph import Program

    source = model if isinstance(model, Program) else load(model)
    described = hardware.find(target) if isinstance(target, str) else target
    engine = find_backend(described.backend)
    given = {**options, **({} if toolchain is None else {"toolchain": toolchain})}
    target_options.check(given, engine, described)
    if max_loss is not None and isinstance(described, hardware.Neuromorphic):
        options["max_loss"], max_loss = max_loss, None  # the conversion to spikes chooses by it
    kind = numerics_of(described.backend, numerics, source)
    data = calibration_of(calibration, lengths, labels, source)
    say = progress or (lambda _: None)
    fused_lstm = bool(options.pop("fused_lstm", False))
    tuned = _fine_tuned(source, described, data, options, say)
    source = source if tuned is None else tuned.program
    front = None
    if max_loss is not None:
        front = _mixed(source, described.backend, kind, data, max_loss, minimise, method, quantize, say)
        quantize = front.options
    if options.get("optimize") == "size" and (described.backend, kind, source.numerics) == (
        "tflite",
        "tflite",
        "float",
    ):
        quantize = {"prefer": "size", **(quantize or {})}
    program = prepare(
        source, described.backend, kind, data, method=method, quantize=quantize, fused_lstm=fused_lstm, progress=say
    )
    say(f"emitting for {described.name}")
    artifact = engine.compile(program, described, source=source, data=data, name=name or source.name, **options)
    quantizer = passes.make(quantizer_of(described.backend, kind), quantize) if quantize else None
    making = manifest.Making(source, program, described, data, method, quantizer, front, tuned, toolchain)
    artifact = manifest.completed(artifact, making, name)
    manifest.add_figures(artifact.manifest, engine.resources(artifact) if costs else ())
    if costs and data is not None and program.numerics != source.numerics:
        say("comparing with the float network")
        manifest.add_warnings(artifact.manifest, output_error.warnings(source, program, data, quantizer))
    return Built(artifact)


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


def _fine_tuned(
    source: Program, target: Target, data: Data | None, options: dict[str, Any], progress: Progress
) -> Tuned | None:
    """A crossbar's network trained with its noise, where ``options`` ask for it; takes that option out of them."""
    from neurodeploy.hardware import Crossbar

    if not isinstance(target, Crossbar) or (epochs := options.pop("fine_tune", None)) is None:
        return None
    from neurodeploy.crossbar.repair.fine_tune import tune

    return tune(source, target, data, epochs, options, progress)


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
    from neurodeploy.passes import PIPELINES

    passes = PIPELINES.get((backend, numerics), ())
    if QUANTIZERS[0] not in passes:
        raise UsageError(
            f"'{numerics}' numerics on the backend '{backend}' takes no max_loss: --max-loss is for C with native "
            "numerics and for spikes.",
            place=source.name,
            hint="Leave it out" + ("; widths are given with --quantize." if QUANTIZERS[1] in passes else "."),
        )
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


def quantizer_of(backend: str, numerics: str) -> str:
    """The name of the pass that quantizes. Raises :class:`UsageError` where there is none."""
    from neurodeploy.passes import PIPELINES

    found = [name for name in PIPELINES.get((backend, numerics), ()) if name in QUANTIZERS]
    if not found:
        raise UsageError(
            f"'{numerics}' numerics on the backend '{backend}' takes no options of quantize: there is nothing to "
            "quantize.",
            hint="Leave out --quantize, or compile with integer numerics.",
        )
    return found[0]
