"""Running a build on data and judging it: accuracy float, quantized and deployed; agreement with the golden model."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Figure, How, Trace
from neurodeploy.backends import backend, runner
from neurodeploy.errors import DataError, NeurodeployError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.output_error import errors as output_errors
from neurodeploy.report import activity
from neurodeploy.report.agreement import agreement, judged
from neurodeploy.report.metrics import accuracy, nrmse
from neurodeploy.report.schema import Accuracy, Agreement, DataSet, Device, DriftScore, NotRun, Run, Score, Timing
from neurodeploy.report.schema_crossbar import Repaired
from neurodeploy.report.schema_spiking import Decision
from neurodeploy.spiking import latency

if TYPE_CHECKING:
    from neurodeploy.compiler import Built
    from neurodeploy.data import Data
    from neurodeploy.ir.graph import Program


@dataclass(frozen=True)
class Validation:
    """A run with its record: ``outputs`` are real-valued, ``trace`` is raw."""

    run: Run
    trace: Trace
    outputs: dict[str, np.ndarray]


def validate(built: Built, data: Data, *, on: str | None = None, command: str = "", **options: Any) -> Validation:
    """Run a build on data and compare it with the golden model; with labels, state its accuracy too.

    ``on``: a runner's name; by default the target itself. Options go to the runner (``port=``, ``emulator=``). The
    record is not saved: :func:`neurodeploy.report.records.save_run` does. Raises :class:`NeurodeployError`.
    """
    name = on or built.runner
    engine = runner(name)
    program, source = built.program, built.source
    equality = _equality(built)
    start = time.perf_counter()
    try:
        trace = engine.run(built.artifact, dict(data.inputs), data.lengths, **options)
    except KeyError as error:
        raise UsageError(
            f"its manifest lacks {error}.", place=str(built.folder or built.artifact.name), hint="Compile it again."
        ) from error
    seconds = time.perf_counter() - start
    golden = trace if name == "golden" else interpret.run(program, data.inputs, data.lengths)
    outputs = real_outputs(program, trace)
    agreements: list[Agreement] = []
    if name != "golden":
        promised = trace.record.get("equality", equality)
        agreements.append(agreement(trace, golden, against="golden", equality=promised, states=False))
        agreements += [Agreement(**found) for found in trace.record.get("agreement", [])]
    if name == "board" and built.artifact.backend == "c":
        host = runner("host").run(built.artifact, dict(data.inputs), data.lengths)
        agreements.append(agreement(trace, host, against="host", equality="exact", states=False))
    plain = _plain(built, data)
    score = None
    if data.labels is not None:
        over_chips = getattr(trace, "over_chips", None)
        if over_chips is not None:
            trace.record.update(over_chips(lambda raw: judge(program, real_outputs(program, Trace(raw)), data)[1]))
        if plain is None:
            plain = real_outputs(source, interpret.run(source, data.inputs, data.lengths))
        score = _accuracy(built, data, name, trace, outputs, real_outputs(program, golden), plain)
        agreements = [judged(found, score) for found in agreements]
    record = trace.record
    device = record.get("device")
    figures = list(record.get("figures", []))
    if plain is not None:
        figures.append(output_error(program, outputs, plain, data.lengths, name))
    decided = latency.decision(program, trace, data.labels)
    if decided:
        figures.append(latency.settled(decided))
    run = Run(
        runner=name,
        command=command,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        where=str(record.get("where", name)),
        emulator=record.get("emulator"),
        device=Device(**device) if device else None,
        versions={"python": sys.version.split()[0], **record.get("versions", {})},
        accuracy=score,
        agreement=agreements,
        figures=figures,
        not_run=[NotRun(**entry) for entry in record.get("not_run", [])],
        timing=Timing(
            wall_seconds=seconds, samples=data.samples, steps=int(sum(s.sum() for s in trace.steps.values()))
        ),
        repair=_repaired(record.get("repair")),
        warnings=[str(w) for w in record.get("warnings", [])],
        activity=activity.of_sample(built.artifact, program, data.inputs, data.lengths),
        decision=Decision(**decided, energy=latency.energies(decided, figures)) if decided else None,
    )
    return Validation(run, trace, outputs)


def _plain(built: Built, data: Data) -> dict[str, np.ndarray] | None:
    """The float network's outputs, for builds whose outputs are that network's own."""
    if built.artifact.backend not in ("c", "tflite"):
        return None
    return real_outputs(built.source, interpret.run(built.source, data.inputs, data.lengths))


def output_error(
    program: Program,
    outputs: dict[str, np.ndarray],
    plain: dict[str, np.ndarray],
    lengths: np.ndarray | None,
    runner: str,
) -> Figure:
    """What a build's numerics lost (:func:`neurodeploy.output_error.errors`): the worst output is told, unknown where
    none can be compared."""
    found = output_errors(program, outputs, plain, lengths)
    if not found:
        return Figure.unknown("output_error", "%", "no output that can be compared with the float network's")
    source = "RMS difference from the float program in the interpreter, over its RMS, worst output"
    return Figure("output_error", float(f"{max(found.values()):.4g}"), "%", _how(runner), source)


def _how(runner: str) -> How:
    """How figures of a run were got."""
    return "measured" if runner in ("board", "host", "tflm", "litert") else "simulated"


def _repaired(record: dict[str, Any] | None) -> Repaired | None:
    """What a crossbar's runner says of the repair of its chips."""
    if record is None:
        return None
    data = record["data"]
    return Repaired(
        kind=record["kind"],
        data=data["name"],
        samples=data["samples"],
        sha256=data["sha256"],
        digital_macs_per_step=record["digital_macs_per_step"],
        numbers_per_chip=record["readout_numbers_per_chip"],
    )


def _equality(built: Built) -> str:
    """What the backend promises on this target for this program's numerics."""
    from neurodeploy import hardware

    artifact = built.artifact
    stated = artifact.manifest.get("equality")
    return stated or backend(artifact.backend).accepts(hardware.built_for(artifact)).equality


def scores_of(
    program: Program, outputs: dict[str, np.ndarray], lengths: np.ndarray | None, labels: np.ndarray
) -> np.ndarray:
    """The output that the labels judge: the first one; of a series the last step where there is one label a sample."""
    name, ref = next(iter(program.outputs.items()))
    array = outputs[name]
    if program.is_series(ref) and labels.ndim == 1:
        # What a decoder generates may be shorter than its input.
        ends = np.full(len(array), array.shape[1]) if lengths is None else np.minimum(lengths, array.shape[1])
        array = array[np.arange(len(array)), np.maximum(ends - 1, 0)]
    return array


def judge(program: Program, outputs: dict[str, np.ndarray], data: Data) -> tuple[str, float]:
    """Metric and value: classification for whole-number labels ``[n]``, NRMSE for targets shaped like the output."""
    labels = data.labels
    if labels is None:
        raise DataError("holds no labels 'y'.", place=data.name)
    array = scores_of(program, outputs, data.lengths, labels)
    if labels.ndim == 1 and labels.dtype.kind in "iu" and array.ndim == 2:
        classes = array.shape[1]
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(
                f"'y' runs {labels.min()}..{labels.max()}; the output has {classes} classes, from 0.", place=data.name
            )
        return "ClassificationAccuracy", accuracy(array, labels)
    if array.shape == (*labels.shape, 1):
        array = array[..., 0]
    if array.shape == labels.shape:
        return "NRMSE", nrmse(array, labels)
    raise DataError(
        f"labels of shape {list(labels.shape)} don't fit the output's {list(array.shape)}.",
        place=data.name,
        hint="Give whole-number classes [n], or targets shaped like the output.",
    )


def _accuracy(
    built: Built,
    data: Data,
    name: str,
    trace: Trace,
    outputs: dict[str, np.ndarray],
    golden: dict[str, np.ndarray],
    plain: dict[str, np.ndarray],
) -> Accuracy:
    program, source = built.program, built.source
    metric, float_value = judge(source, plain, data)
    quantized = judge(program, golden, data)[1]
    record = trace.record
    deployed = record.get("score") or {"value": judge(program, outputs, data)[1]}
    stated = Score(value=deployed["value"], how=_how(name), where=str(record.get("where", name)), **_spread(deployed))
    integer = program.numerics != "float"
    return Accuracy(
        metric=metric,
        data=DataSet(name=data.name, samples=data.samples, sha256=data.sha256),
        seeds=list(record.get("seeds", [])),
        float_=Score(value=float_value, how="measured", where="float32 program in the interpreter"),
        quantized=Score(value=quantized, how="measured", where="golden model in the interpreter") if integer else None,
        deployed=stated if name != "golden" else None,
        drift=[DriftScore(**entry) for entry in record.get("drift", [])],
    )


def _spread(deployed: dict[str, Any]) -> dict[str, Any]:
    return {key: deployed[key] for key in ("sd", "n", "over") if deployed.get(key) is not None}


def first_difference(run: Run) -> str:
    """One line about where a run first left what it was compared with, or that it did not."""
    lines = []
    for found in run.agreement:
        exact = f"{found.bit_exact} of {found.compared} {found.per}s bit-exact against {found.against}"
        d = found.first_difference
        unit = " LSB" if found.difference_unit == "LSB" else ""
        if found.bit_exact == found.compared:
            lines.append(exact)
        elif found.equality.startswith(("close", "lsb")) and found.holds:
            lines.append(
                f"all {found.compared} {found.per}s within {found.max_difference:.2g}{unit} of {found.against}"
            )
        elif found.equality.startswith("statistical"):
            held = "holds" if found.holds else "BROKEN" if found.holds is False else "not judged"
            lines.append(f"{found.equality} equality with {found.against}: {held}")
        elif d is None:
            lines.append(f"{exact}; largest difference {found.max_difference}{unit}, promised {found.equality}")
        else:
            step = "" if d.step is None else f", step {d.step}"
            lines.append(
                f"{exact}; first difference: sample {d.sample}{step}, tensor {d.tensor}[{d.index}]: "
                f"{d.value} instead of {d.reference}"
            )
    return "\n".join(lines)


def held(run: Run) -> bool:
    """Whether every promised equality holds."""
    return all(found.holds is not False for found in run.agreement)


def require_held(run: Run) -> None:
    """Raise :class:`NeurodeployError` naming the first difference if a promised equality does not hold."""
    if not held(run):
        raise NeurodeployError("leaves the golden model. " + first_difference(run), place=run.runner)
