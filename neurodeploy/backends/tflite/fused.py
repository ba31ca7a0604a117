"""Operators that keep their state themselves, in variable tensors: UNIDIRECTIONAL_SEQUENCE_LSTM.

Schema: tensorflow/tflite-micro, ``schema.fbs``; the 24 inputs are those of ``micro/kernels/lstm_shared.h``. A variable
tensor keeps its data from call to call; TFLM sets it to its zero point when it loads a model and when it is reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.tflite.lstm import GATE_IN
from neurodeploy.ir.types import TensorType

if TYPE_CHECKING:
    from neurodeploy.backends.tflite.stage import Rule, StageWriter

#: Where the arguments of ``tflite_lstm`` behind h and c stand among the operator's 24 inputs; the others are absent.
WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15)
INPUTS, STATES = 24, (18, 19)


def variables(graph: Graph) -> dict[str, Value]:
    """The states that are variable tensors of an operator, and the value that is the operator."""
    return {state: value for value in graph.values if value.op == "tflite_lstm" for state in value.args[1:3]}


def results(graph: Graph, call: Value) -> dict[int, str]:
    """The names of a composite's results by their index."""
    return {v.attrs["index"]: v.name for v in graph.values if v.op == "get" and v.args[0] == call.name}


def _check_states(writer: StageWriter, call: Value, made: Mapping[int, str]) -> None:
    """Refuse states that the operator's variables can't be: fed, guarded, started elsewhere, or used by others."""
    place, graph = f"{writer.name}: %{call.name}", writer.graph
    states = {state.name: state for state in graph.states}
    for index, name in enumerate(call.args[1:3]):
        state = states.get(name)
        if state is None or state.next != made.get(index) or state.when is not None or name in writer.start:
            found = f"%{name}, which isn't a state that only this LSTM moves"
        elif any(name in v.args for v in graph.values if v.name != call.name) or name in graph.outputs.values():
            found = f"the state %{name}, which is used elsewhere too"
        elif state.init is not None and (graph.params[state.init].data != _zero(state.type)).any():
            found = f"the state %{name}, which doesn't begin at 0"
        else:
            continue
        raise UnsupportedError(
            f"the fused LSTM keeps {found}; needed a state of its own.", place=place, hint="Compile without fused_lstm."
        )


def _zero(type_: TensorType) -> int:
    return 0 if type_.quant is None else type_.quant.zero_point


def _lstm(writer: StageWriter, call: Value) -> None:
    """One step of the operator: a series of one time step in, one out."""
    graph, main = writer.graph, writer.main
    made = results(graph, call)
    _check_states(writer, call, made)
    x, h, c, *weights = call.args
    types = {name: graph.tensor(name) for name in (x, h, c)}
    inputs = [-1] * INPUTS
    series = main.tensor(f"{call.name}_x", (1, 1, *types[x].shape), types[x].dtype, types[x].quant)
    writer.reshape(writer.at(x), series)
    inputs[0] = series
    for place, name in zip(WEIGHTS, weights, strict=True):
        inputs[place] = writer.weights(name)
    for place, name in zip(STATES, (h, c), strict=True):
        inputs[place] = writer.variable(name)
    hidden = main.tensor(f"{call.name}_y", (1, 1, *types[h].shape), types[h].dtype, types[h].quant)
    main.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [hidden], "UnidirectionalSequenceLSTMOptions",
            fusedActivationFunction=writer.model.fb.ActivationFunctionType.TANH,
            cellClip=float(call.attrs.get("cell_clip", 0.0)), timeMajor=False)  # fmt: skip
    if types[x].dtype == "i8":
        main.operators[-1].intermediates = _intermediates(writer, call, types[h])
    for index, source in ((0, hidden), (1, inputs[STATES[1]])):
        if index in made:
            _copy(writer, made[index], source)


def _intermediates(writer: StageWriter, call: Value, hidden: TensorType) -> list[int]:
    """The scales of the gates' inputs and of h, which LiteRT takes from tensors without data."""
    gates = [
        writer.main.tensor(f"{call.name}_{g}", (0,), "i16", GATE_IN) for g in ("input", "forget", "cell", "output")
    ]
    return [*gates, writer.main.tensor(f"{call.name}_hidden", (0,), hidden.dtype, hidden.quant)]


def _copy(writer: StageWriter, name: str, source: int) -> None:
    """A result in the shape of a step, if anything but the operator's own state needs it."""
    graph = writer.graph
    following = {state.next: state.name for state in graph.states}
    needed = any(name in v.args for v in graph.values) or name in graph.outputs.values()
    if not needed and following.get(name) not in writer.expose:
        return
    type_ = graph.tensor(name)
    shape = (1, *type_.shape)
    writer.index[name] = writer.main.tensor(name, shape, type_.dtype, type_.quant)
    writer.reshape(source, writer.index[name])


def _get(writer: StageWriter, value: Value) -> None:
    """A result of a composite: its operator has written it."""


RULES: Mapping[str, Rule] = {"tflite_lstm": _lstm, "get": _get}
