"""What a network's integer numerics cost its outputs, and a warning where that is much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from neurodeploy.data import Data
from neurodeploy.ir.cost import stage_cost
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Graph, Program, walk
from neurodeploy.ir.interpret import run
from neurodeploy.ir.types import TensorType

#: An output's error above this is worth a warning, in percent.
LIMIT = 10.0
#: Samples that a program is compared on at most, spread over all.
SAMPLES = 16
#: numerics -> operations that the golden model evaluates meanwhile at most, so that a comparison takes a second at most
#: (native ones take 60 us each, TFLite's own 300 us). Of long series the beginning is compared.
OPERATIONS: Mapping[str, int] = {"native": 10_000, "tflite": 2_000}
#: Multiply-accumulates meanwhile, at most (2 ns each).
MACS = 100_000_000


def errors(
    program: Program, outputs: Mapping[str, np.ndarray], plain: Mapping[str, np.ndarray], lengths: np.ndarray | None
) -> dict[str, float]:
    """Output -> the RMS of ``outputs - plain`` over the RMS of ``plain``, in percent.

    ``plain``: the float network's outputs ``[B, T, ...]`` or ``[B, ...]``; of a series the steps within ``lengths``
    count. Outputs that can't be compared (whole numbers, another number of steps, all zero) are left out.
    """
    found = {}
    for name, ref in program.outputs.items():
        got, wanted = outputs[name], plain[name]
        if wanted.dtype.kind != "f" or got.shape != wanted.shape:
            continue
        error, size = (got.astype(np.float64) - wanted) ** 2, wanted.astype(np.float64) ** 2
        if program.is_series(ref) and lengths is not None:
            within = np.arange(got.shape[1]) < np.asarray(lengths)[:, None]
            error, size = error[within], size[within]
        if size.sum() > 0 and np.isfinite(error.sum()):
            found[name] = 100 * float(np.sqrt(error.sum() / size.sum()))
    return found


def warnings(source: Program, program: Program, data: Data, quantizer: object = None) -> list[str]:
    """A warning that names the outputs which ``program`` computes with an error above :data:`LIMIT`, and what to do.

    ``source``: the float network; ``data``: its calibration samples, of which :func:`part` is compared;
    ``quantizer``: the pass that made the program, where it was given options.
    """
    few = part(program, data)
    if few is None:
        return []
    got, plain = (real_outputs(p, run(p, few.inputs, few.lengths)) for p in (program, source))
    found = errors(program, got, plain, few.lengths)
    coarse = [f"'{name}' by {error:.0f} %" for name, error in found.items() if error > LIMIT]
    if not coarse:
        return []
    steps = _span(program, few)
    over = f"{few.samples} of {data.samples} calibration samples" + (f", {steps} steps" if steps else "")
    return [
        f"integers cost much: output {', '.join(coarse)} (rms error over the float network's rms, {over}). "
        f"Try {_remedies(program, quantizer)}."
    ]


def part(program: Program, data: Data) -> Data | None:
    """Samples spread over all, and so many of their first steps that the golden model keeps to :data:`OPERATIONS` and
    :data:`MACS`. None where it can't: a stage that goes on by itself takes more, or an order can't be cut."""
    operations, macs = OPERATIONS.get(program.numerics, 0), MACS
    each_operations, each_macs = 0, 0
    for stage in program.stages:
        count, products = _operations(program, stage.graph), stage_cost(stage.graph).macs
        if stage.drive.max_steps is None:
            each_operations, each_macs = each_operations + count, each_macs + products
        else:
            operations, macs = operations - stage.drive.max_steps * count, macs - stage.drive.max_steps * products
    span = _span(program, data)
    steps = min(max(span, 1), operations // max(each_operations, 1), macs // max(each_macs, 1))
    if steps < 1 or (steps < span and any(stage.drive.kind == "order" for stage in program.stages)):
        return None
    samples = min(SAMPLES, data.samples, MACS // max(MACS - macs + steps * each_macs, 1))
    chosen = np.unique(np.linspace(0, data.samples - 1, samples).astype(int))
    series = {name for name, given in program.inputs.items() if given.kind == "series"}
    return replace(
        data,
        inputs={n: array[chosen, :steps] if n in series else array[chosen] for n, array in data.inputs.items()},
        lengths=None if data.lengths is None else np.minimum(np.asarray(data.lengths)[chosen], steps),
        labels=None,
    )


def _span(program: Program, data: Data) -> int:
    """Steps of the longest sample; 0 without a series."""
    spans = [data.inputs[name].shape[1] for name, given in program.inputs.items() if given.kind == "series"]
    if spans and data.lengths is not None and len(data.lengths):
        return int(np.max(data.lengths))
    return max(spans, default=0)


def _operations(program: Program, graph: Graph) -> int:
    """What a step counts of :data:`OPERATIONS`; in TFLite's numerics ten moves take as long as one of its own."""
    own = "tfl_" if program.numerics == "tflite" else ""
    return math.ceil(sum(1 if value.op.startswith(own) else 0.1 for value in walk(graph)))


def _remedies(program: Program, quantizer: object) -> str:
    """What gives the outputs finer numbers, the cheapest first."""
    graphs = [stage.graph for stage in program.stages]
    ways = []
    if any(state.type.dtype == "i8" for graph in graphs for state in graph.states):
        ways.append("--quantize state_dtype=i16")
    if any(
        value.type.dtype == "i8" for graph in graphs for value in graph.values if isinstance(value.type, TensorType)
    ):
        ways.append("--quantize activation_dtype=i16")
    if getattr(quantizer, "weight_bits", 8) < 8:
        ways.append("--quantize weight_bits=8")
    if getattr(quantizer, "per_channel", True) is False:
        ways.append("--quantize per_channel=true")
    return ", ".join([*ways, "more calibration samples"]) + " or --numerics float"
