"""ONNX models: read, trace step by step, check against onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError, UnsupportedError, nearest
from neurodeploy.importers.check import unchecked
from neurodeploy.importers.onnx_axes import labellings
from neurodeploy.importers.onnx_node import Call, Lengths, WrongAxes
from neurodeploy.importers.onnx_ops import RULES, fold
from neurodeploy.importers.onnx_read import HINT, Model, read
from neurodeploy.importers.time import Tensor, Tracer
from neurodeploy.ir.graph import Program

#: Labellings that are tried before the model is refused.
MOST_TRIES = 256
BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, ZeroDivisionError, MemoryError)


def load_onnx(
    source: str | Path | bytes | Any,
    *,
    constants: Mapping[str, np.ndarray] | None = None,
    axes: Mapping[str, Sequence[str]] | None = None,
    check: bool = True,
    name: str | None = None,
) -> Program:
    """A program from an ONNX file, its bytes or a ``ModelProto``.

    ``constants``: values of graph inputs that are weights. ``axes``: for inputs whose axes can't be told from the
    model, their labels, like ``{"x": ["batch", "time", "feature"]}``. ``check``: compare with onnxruntime (or with
    ONNX's own reference where that isn't installed) on random inputs; ``meta["import_check"]`` says how that went.
    Raises :class:`ModelError`, and :class:`UnsupportedError` naming the node that can't be imported.
    """
    try:
        model = read(source, constants or {}, name)
        traced = _trace(model, axes or {})
    except BROKEN as error:
        place = Path(source).name if isinstance(source, str | Path) else name or "model"
        raise ModelError(f"is malformed ({_reason(error)}).", place=place, hint=HINT) from error
    meta = {
        "origin": {"file": model.file, "sha256": model.sha256, "format": "onnx", "producer": model.producer},
        "axes": {name: [a.label for a in found] for name, found in traced.tracer.input_axes.items()},
    }
    if traced.lengths:
        meta["lengths_input"] = traced.lengths
    _warn(traced)
    program = traced.tracer.finish(traced.outputs, meta)
    if not check:
        return unchecked(program, "the check was turned off")
    from neurodeploy.importers.onnx_check import check_onnx

    return check_onnx(program, model, traced)


@dataclass(frozen=True)
class Traced:
    """A traced model: its outputs by name, program input -> graph input, and the graph input that holds lengths."""

    tracer: Tracer
    outputs: dict[str, Tensor]
    inputs: dict[str, str]
    lengths: str | None

    @property
    def pools(self) -> bool:
        """Whether something selects or reduces along time."""
        return any(node.op in ("last", "first", "accumulate") for node in self.tracer.nodes)


def _warn(traced: Traced) -> None:
    """Note what the import means that the model doesn't say."""
    tracer = traced.tracer
    if traced.lengths and traced.pools:
        tracer.warnings.append(
            "last steps and reductions over time count each sample's own steps; the ONNX model reads its padding there."
        )
    if tracer.inputs and not any(i.kind == "series" for i in tracer.inputs.values()):
        tracer.warnings.append("no axis of the inputs is time: the network runs as one step (was it unrolled?).")


class _Stopped(Exception):
    """A trace that failed, and how many nodes it had got through: a fault of the labels counts as half a node less."""

    def __init__(self, error: UnsupportedError, done: int) -> None:
        self.error, self.done = error, done - 0.5 * isinstance(error, WrongAxes)


def _trace(model: Model, axes: Mapping[str, Sequence[str]]) -> Traced:
    """Trace with the first labelling of the inputs that works; else raise the error of the one that got furthest."""
    best: _Stopped | None = None
    for tried, labels in enumerate(labellings(model, axes)):
        if tried >= MOST_TRIES:
            break
        try:
            return _trace_with(model, labels)
        except _Stopped as stopped:
            if best is None or stopped.done > best.done:
                best = stopped
    if best is None:
        raise ModelError("has no inputs that could be a sequence.", place=model.file, hint="Give axes={'x': [...]}.")
    raise best.error


def _trace_with(model: Model, labels: Mapping[str, Sequence[str]]) -> Traced:
    tracer = Tracer(model.name, model.file)
    values: dict[str, Any] = {"": None, **model.constants}
    inputs: dict[str, str] = {}
    lengths = None
    done = 0
    try:
        for spec in model.inputs:
            if spec.name in model.lengths:
                values[spec.name], lengths = Lengths(spec.name), spec.name
                continue
            values[spec.name] = tracer.input(spec.name, labels[spec.name], spec.sizes, spec.dtype)
            inputs[list(tracer.inputs)[-1]] = spec.name
        for node, call in _calls(model, tracer, values):
            found = _apply(call)
            results = found if isinstance(found, tuple) else (found,)
            for output, value in zip(node.output, results):
                if output:
                    values[output] = value
            done += 1
        outputs = {}
        for output in model.outputs:
            tracer.at("", output)
            if values.get(output) is None:
                raise tracer.error(f"output '{output}' is computed by nothing.", "The file is damaged.")
            outputs[output] = _as_output(tracer, output, values[output])
        return Traced(tracer, outputs, inputs, lengths)
    except UnsupportedError as error:
        raise _Stopped(error, done) from error


def _as_output(tracer: Tracer, name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray) or value.dtype == object:
        raise tracer.error(f"output '{name}' is a size that isn't known when compiling.", "Leave that output out.")
    return tracer.constant(value)


def _calls(model: Model, tracer: Tracer, values: Mapping[str, Any]) -> Iterator[tuple[Any, Call]]:
    for index, node in enumerate(model.nodes):
        title = node.name or f"#{index}"
        tracer.at(f"'{title}' ({node.op_type})", _stem(node.name) or node.op_type.lower())
        missing = [i for i in node.input if i not in values]
        if missing:
            raise tracer.error(f"input '{missing[0]}' is computed by nothing.", "The file is damaged; export it again.")
        arguments = [values[i] for i in node.input]
        yield node, Call(node.op_type, arguments, model.attributes(index), node.output, model.opset, tracer)


def _stem(name: str) -> str:
    """The layer's part of an exporter's node name: ``/gru/GRU`` is gru, ``/fc/MatMul`` fc."""
    parts = [p for p in name.split("/") if p]
    return parts[-2] if len(parts) > 1 and name.startswith("/") else name


def _apply(call: Call) -> Any:
    rule = RULES.get(call.op)
    if rule is None:
        known = nearest(call.op, RULES)
        raise call.error(
            f"the op {call.op} is not supported.", known or "Replace it by supported ops, or leave it out."
        )
    try:
        folded = fold(call)
        return rule(call) if folded is None else folded
    except UnsupportedError as error:
        raise error if error.place else call.error(error.message, error.hint) from error
    except BROKEN as error:
        raise call.error(f"is malformed ({_reason(error)}).", "The file is damaged, or needs another opset.") from error


def _reason(error: Exception) -> str:
    """The first line of an error."""
    return str(error).splitlines()[0][:120].rstrip(".") if str(error) else type(error).__name__
