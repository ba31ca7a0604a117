"""What a ``.tflite`` file says of itself: a signature, and metadata in words."""

from __future__ import annotations

import json
from typing import Any

from neurodeploy.backends.tflite.stage import StageWriter, begins_reset
from neurodeploy.backends.tflite.write import Signature
from neurodeploy.ir.graph import Program, Stage
from neurodeploy.ir.types import TensorType

#: The name of the metadata's buffer.
METADATA = "neurodeploy"


def describe(program: Program, stage: Stage, writer: StageWriter) -> None:
    """Give a model its signature and its metadata."""
    signature = _signature(writer)
    writer.model.signatures.append(signature)
    for name, tensor in (*signature.inputs, *signature.outputs):
        writer.main.tensors[tensor].name = name
    said = json.dumps(metadata(program, stage, writer), separators=(",", ":"), ensure_ascii=False)
    writer.model.metadata[METADATA] = said.encode()


def _signature(writer: StageWriter) -> Signature:
    """``step``, or ``chunk`` of several steps; states that are given back have their own names."""
    graph, call, main = writer.graph, writer.call, writer.main
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    if call.state == "io":
        inputs += [state.name for state in graph.states]
        outputs += [_free(state.name, outputs) for state in graph.states]
    elif call.start:
        inputs += [*(f"start.{name}" for name in call.start), "first"]
    outputs += [_free(name if call.steps == 1 else f"{name}.steps", outputs) for name in call.shown]
    key = "step" if call.steps == 1 else "chunk"
    return Signature(key, list(zip(inputs, main.inputs, strict=True)), list(zip(outputs, main.outputs, strict=True)))


def _free(name: str, taken: list[str]) -> str:
    return name if name not in taken else _free(f"{name}.state", taken)


def metadata(program: Program, stage: Stage, writer: StageWriter) -> dict[str, Any]:
    """What a user needs to feed the model right and to read what it gives, as JSON."""
    from neurodeploy.version import release

    graph, call = writer.graph, writer.call
    types = graph.types()
    said: dict[str, Any] = {"neurodeploy": release(), "model": f"{program.name}/{stage.name}"}
    said["call"] = f"{_count(call.steps)} of a series, {stage.drive.kind}"
    said["inputs"] = {name: _words(type_) for name, type_ in graph.inputs.items()}
    said["outputs"] = {name: _words(graph.tensor(value)) for name, value in graph.outputs.items()}
    if graph.states:
        said["states"] = {state.name: _words(types[state.name]) for state in graph.states}
        said["reset"] = _reset(writer)
    for key in ("labels", "normalisation"):
        if program.meta.get(key):
            said[key] = program.meta[key]
    return said


def _count(steps: int) -> str:
    return "one step" if steps == 1 else f"{steps} steps"


def _words(type_: Any) -> str:
    """Shape and dtype of a step's value, and what its integers stand for."""
    if not isinstance(type_, TensorType):
        return str(type_)
    shape = f"{type_.dtype}[{','.join(map(str, type_.shape))}]"
    if type_.quant is None or type_.quant.axis is not None:
        return shape
    zero = type_.quant.zero_point
    sign, away = ("-", zero) if zero > 0 else ("+", -zero)
    number = f"(q{sign}{away})" if zero else "q"
    return f"{shape}, real = {type_.quant.scale:.9g}*{number}"


def _reset(writer: StageWriter) -> str:
    """How a new series is begun."""
    graph, call = writer.graph, writer.call
    if call.state == "io":
        return "feed each state's first value, then what the last call gave"
    if call.start:
        return "first = true on the first call of a series, with the states' first values in start.*"
    if all(begins_reset(graph, state) for state in graph.states):
        return "Reset() of the interpreter"
    return "a new interpreter: Reset() sets states to 0, not to their first values"
