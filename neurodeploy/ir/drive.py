"""Driving a program: which step runs when, on whatever executes the steps (interpreter, host C, a board)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neurodeploy.artifact import Trace
from neurodeploy.errors import DataError, nearest
from neurodeploy.ir.fixed import dequantize, quantize
from neurodeploy.ir.graph import Graph, Program, Ref, Stage
from neurodeploy.ir.op import Array
from neurodeploy.ir.tflite.borders import from_real
from neurodeploy.ir.types import TensorType


class Executor(Protocol):
    """Runs the steps of one stage on a batch. It may also offer ``run_block(inputs, active)``: the same for many
    steps at once, ``inputs`` ``[B, K, ...]`` and ``active`` ``[B, K]``, returning outputs ``[B, K, ...]``; with
    ``block_states()``, the states after each of these steps ``[B, K, ...]``."""

    def reset(self, batch: int, init: Mapping[str, Array]) -> None: ...
    def step(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]: ...
    def states(self) -> dict[str, Array]: ...


@dataclass
class Series:
    """One array a step: ``data`` ``[B, T, ...]`` and the number of steps of each sample ``[B]``."""

    data: Array
    lengths: Array


Feed = Mapping[str, Series | Array]


@dataclass
class StageResult:
    """What a stage gave; ``states`` only where they were asked for, ``[B, K, ...]``."""

    outputs: dict[str, Series]
    final: dict[str, Array]
    states: dict[str, Array]
    steps: Array
    converged: Array | None = None


def drive(
    program: Program,
    inputs: Mapping[str, Array],
    lengths: Array | None,
    executor: Callable[[str, Graph], Executor],
    *,
    states: bool = False,
) -> Trace:
    """Run every stage in turn and collect the program's outputs. Raises :class:`DataError`."""
    data, batch = bind(program, inputs, lengths)
    results: dict[str, StageResult] = {}
    for stage in program.stages:
        engine = executor(stage.name, stage.graph)
        start = {name: _static(program, ref, data, results) for name, ref in stage.state_from.items()}
        engine.reset(batch, start)
        feed = {name: _resolve(program, ref, data, results) for name, ref in stage.inputs_from.items()}
        run_stage = _run_iterated if stage.drive.kind in ("until", "generate") else _run_along
        results[stage.name] = run_stage(stage, feed, data, batch, engine, states)
    trace = Trace(outputs={})
    for name, ref in program.outputs.items():
        found = _resolve(program, ref, data, results)
        trace.outputs[name] = found.data if isinstance(found, Series) else found
    for name, result in results.items():
        trace.series.update({f"{name}.{out}": series.data for out, series in result.outputs.items()})
        trace.states.update({f"{name}.{state}": array for state, array in result.states.items()})
        trace.steps[name] = result.steps
        if result.converged is not None:
            trace.converged[name] = result.converged
    return trace


def bind(program: Program, inputs: Mapping[str, Array], lengths: Array | None) -> tuple[dict[str, Series | Array], int]:
    """Check data against the program's inputs, quantize what is real. Returns name -> data, and the batch size."""
    for name in inputs:
        if name not in program.inputs:
            raise DataError(f"the model has no input '{name}'.", place="data", hint=nearest(name, program.inputs))
    bound: dict[str, Series | Array] = {}
    batch: int | None = None
    for name, wanted in program.inputs.items():
        if name not in inputs:
            raise DataError(f"input '{name}' is missing.", place="data", hint=f"Give an array '{name}'.")
        array = np.asarray(inputs[name])
        axes = ("batch", "time") if wanted.kind == "series" else ("batch",)
        if array.ndim != len(axes) + len(wanted.type.shape) or array.shape[len(axes) :] != wanted.type.shape:
            needed = ", ".join([*axes, *map(str, wanted.type.shape)])
            raise DataError(f"input '{name}' has shape {list(array.shape)}; needed [{needed}].", place="data")
        if batch is not None and len(array) != batch:
            raise DataError(f"input '{name}' has {len(array)} samples, another one {batch}.", place="data")
        batch = len(array)
        array = _convert(name, array, wanted.type, program.numerics)
        bound[name] = Series(array, _lengths(lengths, array)) if wanted.kind == "series" else array
    return bound, 1 if batch is None else batch


def quantize_input(x: Array, type_: TensorType, numerics: str) -> Array:
    """Real values as a program's input of a quantized type takes them: by the rule of its numerics."""
    return from_real(x, type_) if numerics == "tflite" else quantize(x, type_)


def _convert(name: str, array: Array, type_: TensorType, numerics: str) -> Array:
    if array.dtype.kind not in "fiub":
        raise DataError(f"input '{name}' holds {array.dtype}, needed numbers.", place="data")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(
            f"input '{name}' holds NaN or infinity.", place="data", hint="Clean it; pad with zeros and give 'lengths'."
        )
    if type_.quant is not None:
        return array if array.dtype == type_.numpy else quantize_input(array, type_, numerics)
    if type_.is_int and array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise DataError(f"input '{name}' takes whole numbers ({type_.dtype}).", place="data")
    return array.astype(type_.numpy)


def _lengths(lengths: Array | None, array: Array) -> Array:
    batch, steps = array.shape[:2]
    if lengths is None:
        return np.full(batch, steps)
    lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
        raise DataError(
            f"'lengths' is {lengths.dtype} {list(lengths.shape)}; needed whole numbers [{batch}].", place="data"
        )
    if batch and (lengths.min() < 0 or lengths.max() > steps):
        raise DataError(f"'lengths' runs {lengths.min()}..{lengths.max()}; the data have {steps} steps.", place="data")
    return lengths.astype(np.int64)


def _resolve(program: Program, ref: Ref, data: Feed, results: Mapping[str, StageResult]) -> Series | Array:
    if ref.stage is None:
        return data[ref.name]
    result = results[ref.stage]
    if ref.at == "final":
        return result.final[ref.name]
    series = result.outputs[ref.name]
    if ref.at == "series":
        return series
    last = np.maximum(series.lengths - 1, 0)
    return series.data[np.arange(len(last)), last]


def _static(program: Program, ref: Ref, data: Feed, results: Mapping[str, StageResult]) -> Array:
    found = _resolve(program, ref, data, results)
    if isinstance(found, Series):
        raise DataError(f"{ref} is a series where one value is needed.", place=program.name)
    return found


def path(stage: Stage, feed: Feed, data: Feed, batch: int) -> tuple[Array, Array, Array, int]:
    """Along what a stage runs that isn't iterated: the time index of every step ``[B, K]``, whether the step runs
    ``[B, K]``, output lengths ``[B]`` and steps."""
    series = [s for s in feed.values() if isinstance(s, Series)]
    lengths = series[0].lengths if series else np.ones(batch, np.int64)
    span = series[0].data.shape[1] if series else 1
    for other in series[1:]:
        if other.data.shape[1] != span or (other.lengths != lengths).any():
            raise DataError("its series inputs differ in length.", place=f"stage '{stage.name}'")
    if stage.drive.kind == "order":
        order = data[stage.drive.order or ""]
        if not isinstance(order, Series):
            raise DataError("its order is no series.", place=f"stage '{stage.name}'")
        index = order.data.astype(np.int64)
        active = (np.arange(index.shape[1])[None] < order.lengths[:, None]) & (index >= 0)
        if not series:
            span, lengths = index.shape[1], order.lengths
        if (index[active] >= span).any():
            raise DataError(
                f"its order names index {index.max()}, the data have {span}.", place=f"stage '{stage.name}'"
            )
        return np.where(active, index, 0), active, lengths, span
    steps = np.broadcast_to(np.arange(span), (batch, span))
    active = steps < lengths[:, None]
    index = np.where(active, lengths[:, None] - 1 - steps, 0) if stage.drive.kind == "reverse" else steps
    return index, active, lengths, span


def _run_along(stage: Stage, feed: Feed, data: Feed, batch: int, engine: Executor, states: bool) -> StageResult:
    index, active, lengths, span = path(stage, feed, data, batch)
    rows, count = np.arange(batch)[:, None], index.shape[1]
    fed: dict[str, Array] = {}
    for name, found in feed.items():
        if isinstance(found, Series):
            fed[name] = found.data if stage.drive.kind == "forward" else found.data[rows, index]
        else:
            fed[name] = np.broadcast_to(found[:, None], (batch, count, *found.shape[1:]))
    block, block_states = getattr(engine, "run_block", None), getattr(engine, "block_states", None)
    trail: dict[str, list[Array]] = {}
    if block is not None and (block_states is not None or not states):
        stepped = block(fed, active)
    else:
        columns: dict[str, list[Array]] = {name: [] for name in stage.graph.outputs}
        for k in range(count):
            for name, array in engine.step({n: a[:, k] for n, a in fed.items()}, active[:, k]).items():
                columns[name].append(array)
            if states:
                for name, array in engine.states().items():
                    trail.setdefault(name, []).append(array)
        types = stage.graph.output_types()
        stepped = {
            n: np.stack(c, 1) if c else np.zeros((batch, 0, *types[n].shape), types[n].numpy)
            for n, c in columns.items()
        }
    outputs = {}
    in_place = stage.drive.kind == "forward" and bool(active.all())
    for name, array in stepped.items():
        if in_place:
            outputs[name] = Series(array, lengths)
            continue
        placed = np.full((batch, span, *array.shape[2:]), blank(stage.graph.output_types()[name]), array.dtype)
        where = np.nonzero(active)
        placed[where[0], index[where]] = array[where]
        outputs[name] = Series(placed, lengths)
    stacked = {name: np.stack(arrays, 1) for name, arrays in trail.items()}
    if states and block_states is not None:
        stacked = block_states()
    return StageResult(outputs, engine.states(), stacked, active.sum(axis=1))


def _run_iterated(stage: Stage, feed: Feed, data: Feed, batch: int, engine: Executor, states: bool) -> StageResult:
    drive_ = stage.drive
    stop = drive_.predicate if drive_.kind == "until" else drive_.stop
    now = {name: array for name, array in feed.items() if not isinstance(array, Series)}
    active = np.ones(batch, bool)
    steps = np.zeros(batch, np.int64)
    types = stage.graph.output_types()
    columns: dict[str, list[Array]] = {name: [] for name in stage.graph.outputs}
    trail: dict[str, list[Array]] = {}
    for _ in range(drive_.max_steps or 0):
        found = engine.step(now, active)
        for name, array in found.items():
            runs = active.reshape(-1, *(1,) * (array.ndim - 1))
            columns[name].append(np.where(runs, array, np.asarray(blank(types[name]), array.dtype)))
        if states:
            for name, array in engine.states().items():
                trail.setdefault(name, []).append(array)
        steps += active
        for name, output in drive_.feedback.items():
            now[name] = found[output]
        if stop is not None:
            active = active & ~found[stop]
            if not active.any():
                break
    outputs = {name: Series(np.stack(column, axis=1), steps) for name, column in columns.items()}
    stacked = {name: np.stack(arrays, axis=1) for name, arrays in trail.items()}
    converged = ~active if stop is not None else None
    return StageResult(outputs, engine.states(), stacked, steps, converged)


def blank(type_: TensorType) -> int:
    """What stands for 0 where no step gives a value: behind the end of a series, and where an order doesn't lead."""
    return 0 if type_.quant is None else type_.quant.zero_point


def real_outputs(program: Program, trace: Trace) -> dict[str, Array]:
    """A trace's outputs as real numbers (quantized ones dequantized)."""
    types = program.output_types()
    return {name: dequantize(array, types[name]) for name, array in trace.outputs.items()}
