"""Operators that keep their state themselves, in variable tensors: UNIDIRECTIONAL_SEQUENCE_LSTM and SVDF.

Schema: tensorflow/tflite-micro, ``schema.fbs``; the 24 inputs are those of ``micro/kernels/lstm_shared.h``. A variable
tensor keeps its data from call to call; TFLM sets it to its zero point when it loads a model and when it is reset.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.tflite.lstm import GATE_IN
from neurodeploy.ir.types import TensorType, TupleType

if TYPE_CHECKING:
    from neurodeploy.backends.tflite.stage import Rule, StageWriter

#: Composite -> which of its arguments are its states. What they become are the last of its two results.
HELD: Mapping[str, slice] = {"tflite_lstm": slice(1, 3), "tflite_svdf": slice(1, 2)}
#: Where the arguments of ``tflite_lstm`` behind h and c stand among the operator's 24 inputs; the others are absent.
WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15)
INPUTS, STATES = 24, (18, 19)


def variables(graph: Graph) -> dict[str, Value]:
    """The states that are variable tensors of an operator, and the value that is the operator."""
    return {state: value for value in graph.values if value.op in HELD for state in value.args[HELD[value.op]]}


def whole_series(graph: Graph, call: Value, shown: Collection[str]) -> bool:
    """Whether one operator can run a chunk's steps: an LSTM that is asked for nothing but the series of its h."""
    if call.op != "tflite_lstm" or any(state in shown for state in variables(graph)):
        return False
    cell = results(graph, call).get(1)
    return all(cell not in v.args for v in graph.values) and cell not in graph.outputs.values()


def results(graph: Graph, call: Value) -> dict[int, str]:
    """The names of a composite's results by their index."""
    return {v.attrs["index"]: v.name for v in graph.values if v.op == "get" and v.args[0] == call.name}


def _check_states(writer: StageWriter, call: Value, made: Mapping[int, str]) -> None:
    """Refuse states that the operator's variables can't be: fed, guarded, started elsewhere, or used by others."""
    place, graph = f"{writer.name}: %{call.name}", writer.graph
    states = {state.name: state for state in graph.states}
    held = call.args[HELD[call.op]]
    for index, name in enumerate(held, 2 - len(held)):
        state = states.get(name)
        if state is None or state.next != made.get(index) or state.when is not None or name in writer.start:
            found = f"%{name}, which isn't a state that only it moves"
        elif any(name in v.args for v in graph.values if v.name != call.name) or name in graph.outputs.values():
            found = f"the state %{name}, which is used elsewhere too"
        elif state.init is not None and (graph.params[state.init].data != _zero(state.type)).any():
            found = f"the state %{name}, which doesn't begin at 0"
        else:
            continue
        raise UnsupportedError(f"{call.op} keeps {found}; needed a state of its own.", place=place, hint="Expand it.")


def _items(call: Value) -> tuple[TensorType, ...]:
    if not isinstance(call.type, TupleType):
        raise IRError(f"{call.op} has two results; {call.type} given.", place=f"%{call.name}")
    return call.type.items


def _zero(type_: TensorType) -> int:
    return 0 if type_.quant is None else type_.quant.zero_point


def _lstm(writer: StageWriter, call: Value) -> None:
    """One operator: a series in, of one step or of a chunk's, and a series out."""
    graph, main = writer.graph, writer.main
    made = results(graph, call)
    _check_states(writer, call, made)
    x, h, c, *weights = call.args
    types = {name: graph.tensor(name) for name in (x, h, c)}
    inputs = [-1] * INPUTS
    series = main.tensor(f"{call.name}_x", (1, writer.lead, *types[x].shape), types[x].dtype, types[x].quant)
    writer.reshape(writer.at(x), series)
    inputs[0] = series
    for place, name in zip(WEIGHTS, weights, strict=True):
        inputs[place] = writer.weights(name)
    for place, name in zip(STATES, (h, c), strict=True):
        inputs[place] = writer.variable(name)
    hidden = main.tensor(f"{call.name}_y", (1, writer.lead, *types[h].shape), types[h].dtype, types[h].quant)
    main.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [hidden], "UnidirectionalSequenceLSTMOptions",
            fusedActivationFunction=writer.model.fb.ActivationFunctionType.TANH,
            cellClip=float(call.attrs.get("cell_clip", 0.0)), timeMajor=False)  # fmt: skip
    if types[x].dtype == "i8" and not writer.call.small:
        main.operators[-1].intermediates = _intermediates(writer, call, types[h])
    for index, source in ((0, hidden), (1, inputs[STATES[1]])):
        if index in made:
            _copy(writer, made[index], source)


def _intermediates(writer: StageWriter, call: Value, hidden: TensorType) -> list[int]:
    """The scales of the gates' inputs and of h, which LiteRT takes from tensors without data; TFLM doesn't."""
    gates = [
        writer.main.tensor(f"{call.name}_{g}", (0,), "i16", GATE_IN) for g in ("input", "forget", "cell", "output")
    ]
    return [*gates, writer.main.tensor(f"{call.name}_hidden", (0,), hidden.dtype, hidden.quant)]


def _needed(writer: StageWriter, name: str) -> bool:
    """Whether anything but the operator's own state needs a result."""
    graph = writer.graph
    following = {state.next: state.name for state in graph.states}
    used = any(name in v.args for v in graph.values) or name in graph.outputs.values()
    return used or following.get(name) in writer.expose


def _copy(writer: StageWriter, name: str, source: int) -> None:
    """A result in the shape of a step."""
    if not _needed(writer, name):
        return
    graph = writer.graph
    type_ = graph.tensor(name)
    lead = writer.main.tensors[source].shape[1] if len(writer.main.tensors[source].shape) > 2 else 1
    writer.index[name] = writer.main.tensor(name, (lead, *type_.shape), type_.dtype, type_.quant)
    writer.reshape(source, writer.index[name])


def _svdf(writer: StageWriter, call: Value) -> None:
    """One step of the operator. Its line stands filter by filter, oldest first: the transpose of the composite's."""
    graph, main = writer.graph, writer.main
    made = results(graph, call)
    _check_states(writer, call, made)
    x, line, *weights = call.args
    type_, y = graph.tensor(line), _items(call)[0]
    memory, filters = type_.shape
    kept = writer.variable(line, (memory * filters,))
    out = main.tensor(made.get(0) or f"{call.name}_y", (1, *y.shape), y.dtype, y.quant)
    kind = call.attrs.get("activation", "none").upper()
    main.op("SVDF", [writer.at(x), *map(writer.weights, weights), kept], [out], "SVDFOptions",
            rank=call.attrs.get("rank", 1), fusedActivationFunction=getattr(main.model.fb.ActivationFunctionType, kind),
            asymmetricQuantizeInputs=False)  # fmt: skip
    if 0 in made:
        writer.index[made[0]] = out
    if 1 in made and _needed(writer, made[1]):
        name, shape = made[1], (1, filters, memory)
        rows = main.tensor(f"{name}_filters", shape, type_.dtype, type_.quant)
        main.op("RESHAPE", [kept, main.ints(f"{name}_shape", shape)], [rows], "ReshapeOptions", newShape=list(shape))
        writer.index[name] = main.tensor(name, (1, memory, filters), type_.dtype, type_.quant)
        turn = main.ints(f"{name}_perm", (0, 2, 1))
        main.op("TRANSPOSE", [rows, turn], [writer.index[name]], "TransposeOptions")


def _get(writer: StageWriter, value: Value) -> None:
    """A result of a composite: its operator has written it."""


RULES: Mapping[str, Rule] = {"tflite_lstm": _lstm, "tflite_svdf": _svdf, "get": _get}
