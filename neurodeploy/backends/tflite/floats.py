"""Rules for float programs: primitive -> the float32 operators of TFLite Micro.

What moves or chooses elements has its rules in :mod:`neurodeploy.backends.tflite.rules`, whatever the type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neurodeploy.backends.tflite.stage import Rule, StageWriter
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Param, Value


def constants_as_params(graph: Graph) -> Graph:
    """The graph with its small constants as params: both are constant tensors in a file."""
    consts = {v.name: v for v in graph.values if v.op == "const"}
    if not consts:
        return graph
    params = {
        name: Param(v.tensor, np.asarray(v.attrs["value"]).astype(v.tensor.numpy).reshape(v.tensor.shape))
        for name, v in consts.items()
    }
    return replace(
        graph, params={**graph.params, **params}, values=tuple(v for v in graph.values if v.name not in consts)
    )


def inner(writer: StageWriter, value: Value, stem: str, shape: Sequence[int], dtype: str = "f32") -> int:
    """A new tensor for a result between two operators; ``shape`` per sample."""
    return writer.main.tensor(f"{value.name}_{stem}", (1, *shape), dtype)


def number(writer: StageWriter, value: Value, stem: str, data: Any) -> int:
    """A float constant."""
    array = np.asarray(data, np.float32)
    return writer.main.tensor(f"{value.name}_{stem}", array.shape or (1,), "f32", data=array)


def reshaped(writer: StageWriter, value: Value, source: int, stem: str, shape: Sequence[int]) -> int:
    """A tensor in another shape, the batch axis included."""
    main = writer.main
    made = main.tensor(f"{value.name}_{stem}", tuple(shape), "f32")
    sizes = main.ints(f"{value.name}_{stem}_shape", list(shape))
    main.op("RESHAPE", [source, sizes], [made], "ReshapeOptions", newShape=list(shape))
    return made


def _simple(code: str, table: str | None = None, **options: Any) -> Rule:
    def write(writer: StageWriter, value: Value) -> None:
        rank = len(value.tensor.shape)
        writer.main.op(code, [writer.at(a, rank) for a in value.args], [writer.out(value)], table, **options)

    return write


def _add(writer: StageWriter, value: Value) -> None:
    """ADD, unless it is the bias of a product."""
    makers = [v for v in writer.graph.values if v.name in value.args and v.op == "matmul"]
    products = [(v, weighted[2]) for v in makers if (weighted := _weighted(writer, v))]
    if not any(_bias(writer, v, len(weights)) for v, weights in products):
        _simple("ADD", "AddOptions")(writer, value)


def _weighted(writer: StageWriter, value: Value) -> tuple[str, str, np.ndarray] | None:
    """A product's computed factor, and of the other a name and its weights ``[n, k]``; None where both are computed."""
    first, second = value.args
    params = writer.graph.params
    if second in params and first not in params:
        weights = params[second].data
        return first, f"{second}.columns", weights.reshape(len(weights), -1).T
    if first in params and second not in params and len(writer.types[second].shape) == 1:
        return second, f"{first}.rows", params[first].data.reshape(-1, params[first].type.shape[-1])
    return None


def _matmul(writer: StageWriter, value: Value) -> None:
    """FULLY_CONNECTED with constant weights (and the constant vector that is added, if any), else BATCH_MATMUL."""
    if (weighted := _weighted(writer, value)) is None:
        _batch_matmul(writer, value)
        return
    x, rows, weights = weighted
    main, target = writer.main, value
    if rows not in writer.index:
        writer.index[rows] = main.tensor(rows, weights.shape, "f32", data=np.ascontiguousarray(weights))
    inputs = [writer.at(x), writer.index[rows]]
    if bias := _bias(writer, value, len(weights)):
        target, name = bias
        inputs.append(writer.weights(name))
    made = (1, *writer.types[x].shape[:-1], len(weights))
    keep = len(made) > 2
    if made[1:] == value.tensor.shape:
        main.op("FULLY_CONNECTED", inputs, [writer.out(target)], "FullyConnectedOptions", keepNumDims=keep)
        return
    wide = main.tensor(f"{value.name}_wide", made, "f32")
    main.op("FULLY_CONNECTED", inputs, [wide], "FullyConnectedOptions", keepNumDims=keep)
    sizes = main.ints(f"{target.name}_shape", [1, *target.tensor.shape])
    main.op("RESHAPE", [wide, sizes], [writer.out(target)], "ReshapeOptions", newShape=[1, *target.tensor.shape])


def _bias(writer: StageWriter, value: Value, rows: int) -> tuple[Value, str] | None:
    """The sum that alone uses a product of that many rows of weights, and the constant of as many that it adds."""
    graph = writer.graph
    if value.name in graph.outputs.values() or any(value.name in (s.next, s.when) for s in graph.states):
        return None
    users = graph.uses().get(value.name, [])
    if len(users) != 1 or users[0].op != "add" or not value.tensor.same_data(users[0].tensor):
        return None
    other = [a for a in users[0].args if a != value.name]
    if len(other) == 1 and other[0] in graph.params:
        type_ = writer.types[other[0]]
        if type_.shape == value.tensor.shape[-1:] and type_.size == rows:
            return users[0], other[0]
    return None


def _batch_matmul(writer: StageWriter, value: Value) -> None:
    main, sides = writer.main, []
    for name, column in zip(value.args, (False, True), strict=True):
        shape, source = writer.types[name].shape, writer.at(name)
        if len(shape) == 1:
            source = reshaped(writer, value, source, "column" if column else "row",
                              (1, *shape, 1) if column else (1, 1, *shape))  # fmt: skip
        sides.append(source)
    rows, columns = (writer.types[value.args[0]].shape[:-1] or (1,)), (writer.types[value.args[1]].shape[1:] or (1,))
    full = (*rows, *columns)
    if full == value.tensor.shape:
        main.op("BATCH_MATMUL", sides, [writer.out(value)], "BatchMatMulOptions")
        return
    wide = inner(writer, value, "wide", full)
    main.op("BATCH_MATMUL", sides, [wide], "BatchMatMulOptions")
    sizes = main.ints(f"{value.name}_shape", [1, *value.tensor.shape])
    main.op("RESHAPE", [wide, sizes], [writer.out(value)], "ReshapeOptions", newShape=[1, *value.tensor.shape])


def _reduction(code: str) -> Rule:
    def write(writer: StageWriter, value: Value) -> None:
        axis = value.attrs.get("axis", 0) % len(writer.types[value.args[0]].shape)
        axes = writer.main.ints(f"{value.name}_axis", [axis + 1])
        keep = bool(value.attrs.get("keepdims"))
        inputs = [writer.at(value.args[0]), axes]
        writer.main.op(code, inputs, [writer.out(value)], "ReducerOptions", keepDims=keep)

    return write


def _argmax(writer: StageWriter, value: Value) -> None:
    main = writer.main
    axis = value.attrs.get("axis", 0) % len(writer.types[value.args[0]].shape)
    inputs = [writer.at(value.args[0]), main.ints(f"{value.name}_axis", [axis + 1])]
    main.op("ARG_MAX", inputs, [writer.out(value)], "ArgMaxOptions", outputType=main.model.fb.TensorType.INT32)


def _softmax(writer: StageWriter, value: Value) -> None:
    shape = value.tensor.shape
    if value.attrs.get("axis", 0) % len(shape) != len(shape) - 1:
        raise UnsupportedError(
            f"softmax along axis {value.attrs.get('axis', 0)} of {shape}; TFLM has the last one alone.",
            place=f"{writer.name}: %{value.name}",
            hint="Run the pass decompose_tflite first.",
        )
    writer.main.op("SOFTMAX", [writer.at(value.args[0])], [writer.out(value)], "SoftmaxOptions", beta=1.0)


def _softplus(writer: StageWriter, value: Value) -> None:
    """``max(x, 0) + log(1 + exp(-|x|))``."""
    main, shape, x = writer.main, value.tensor.shape, writer.at(value.args[0])
    above, size, below, small, more, tail = (
        inner(writer, value, stem, shape) for stem in ("above", "size", "below", "small", "more", "tail")
    )
    main.op("RELU", [x], [above])
    main.op("ABS", [x], [size], "AbsOptions")
    main.op("NEG", [size], [below], "NegOptions")
    main.op("EXP", [below], [small], "ExpOptions")
    main.op("ADD", [small, number(writer, value, "one", 1.0)], [more], "AddOptions")
    main.op("LOG", [more], [tail])
    main.op("ADD", [above, tail], [writer.out(value)], "AddOptions")


def _cast(writer: StageWriter, value: Value) -> None:
    source, to = writer.types[value.args[0]].dtype, value.tensor.dtype
    main, x = writer.main, writer.at(value.args[0])
    if to == "bool":
        zero = main.tensor(f"{value.name}_zero", (1,), source, data=np.zeros(1, writer.types[value.args[0]].numpy))
        main.op("NOT_EQUAL", [x, zero], [writer.out(value)], "NotEqualOptions")
        return
    main.op("CAST", [x], [writer.out(value)], "CastOptions")


RULES: Mapping[str, Rule] = {
    "add": _add,
    "sub": _simple("SUB", "SubOptions"),
    "mul": _simple("MUL", "MulOptions"),
    "div": _simple("DIV", "DivOptions"),
    "neg": _simple("NEG", "NegOptions"),
    "abs": _simple("ABS", "AbsOptions"),
    "relu": _simple("RELU"),
    "tanh": _simple("TANH"),
    "sigmoid": _simple("LOGISTIC"),
    "exp": _simple("EXP", "ExpOptions"),
    "log": _simple("LOG"),
    "sqrt": _simple("SQRT"),
    "floor": _simple("FLOOR"),
    "round": _simple("ROUND"),
    "softplus": _softplus,
    "softmax": _softmax,
    "matmul": _matmul,
    "sum": _reduction("SUM"),
    "reduce_max": _reduction("REDUCE_MAX"),
    "argmax": _argmax,
    "cast": _cast,
}
