"""Every rule: primitive of a tflite program -> its operators in the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurodeploy.backends.tflite import convolutions, floats, functions
from neurodeploy.backends.tflite.fused import RULES as FUSED
from neurodeploy.backends.tflite.stage import Rule, StageWriter
from neurodeploy.backends.tflite.whole import with_whole
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.ir.tflite.fixed_point import quantize_multiplier
from neurodeploy.ir.tflite.pointwise import ADD_SHIFT, add_factors
from neurodeploy.ir.tflite.tables import RESULTS

MAX_CONCAT = 10


def _elementwise(code: str, table: str | None = None, **options: Any) -> Rule:
    def write(writer: StageWriter, value: Value) -> None:
        rank = len(value.tensor.shape)
        inputs = [writer.at(a, rank) for a in value.args]
        writer.main.op(code, inputs, [writer.out(value)], table, **options, **fused(writer, value))

    return write


def fused(writer: StageWriter, value: Value) -> dict[str, int]:
    """The option that holds a fused activation, if the value has one."""
    if "act" not in value.attrs:
        return {}
    kinds = writer.model.fb.ActivationFunctionType
    return {"fusedActivationFunction": getattr(kinds, value.attrs["act"].upper())}


def _sums(code: str, table: str) -> Rule:
    """ADD or SUB. TFLM aborts the whole process for a result much finer than its arguments: refused here."""
    rule = _elementwise(code, table, potScaleInt16=False)

    def write(writer: StageWriter, value: Value) -> None:
        left, right = (writer.types[a] for a in value.args)
        if quantize_multiplier(add_factors(left, right, value.tensor)[2])[1] > 0:
            raise UnsupportedError(
                f"{value.op} of {left} and {right} can't be made on {value.tensor}; needed a scale above "
                f"1/{1 << (ADD_SHIFT[value.tensor.dtype] - 1)} of the coarser one.",
                place=f"{writer.name}: %{value.name}",
            )
        rule(writer, value)

    return write


def _tables(code: str, function: str) -> Rule:
    """LOGISTIC or TANH, whose kernels know one scale of the result for each dtype."""
    rule = _elementwise(code)

    def write(writer: StageWriter, value: Value) -> None:
        wanted = value.tensor.with_(quant=RESULTS[function, value.tensor.dtype])
        if value.tensor != wanted:
            raise UnsupportedError(
                f"{value.op} gives {value.tensor}; needed {wanted}.",
                place=f"{writer.name}: %{value.name}",
            )
        rule(writer, value)

    return write


def _leaky_relu(writer: StageWriter, value: Value) -> None:
    _elementwise("LEAKY_RELU", "LeakyReluOptions", alpha=float(value.attrs.get("alpha", 0.0)))(writer, value)


def _moves(code: str, table: str | None = None, *, logical: str | None = None) -> Rule:
    """An operator that moves integers as they are; ``logical`` is its twin for bools."""
    rule = _elementwise(code, table)
    boolean = _elementwise(logical) if logical else rule

    def write(writer: StageWriter, value: Value) -> None:
        writer.same_scale(value)
        (boolean if value.tensor.dtype == "bool" else rule)(writer, value)

    return write


def _compare(writer: StageWriter, value: Value) -> None:
    """Floats as they are; integers of one scale, widened to int32: TFLM's only int16 comparison, GREATER, computes with
    multipliers that its Prepare sets for int8 alone."""
    code = {"lt": "LESS", "eq": "EQUAL", "ne": "NOT_EQUAL"}[value.op]
    first, second = (writer.types[a] for a in value.args)
    if first.quant != second.quant:
        raise UnsupportedError(
            f"{value.op} compares {first} with {second}; needed one scale.", place=f"{writer.name}: %{value.name}"
        )
    main, rank, wide = writer.main, len(value.tensor.shape), []
    if first.dtype == "f32":
        main.op(code, [writer.at(a, rank) for a in value.args], [writer.out(value)])
        return
    for side, name in enumerate(value.args):
        source = writer.at(name, rank)
        wide.append(main.tensor(f"{value.name}_wide{side}", tuple(main.tensors[source].shape), "i32"))
        main.op("CAST", [source], [wide[-1]], "CastOptions")
    main.op(code, wide, [writer.out(value)])


def _fully_connected(writer: StageWriter, value: Value) -> None:
    x, *constants = value.args
    weights, *bias = constants
    kind = "i4" if value.attrs.get("weight_bits") == 4 else None
    inputs = [writer.at(x), writer.weights(weights, kind), *(writer.weights(b) for b in bias)]
    options: dict[str, Any] = {"keepNumDims": len(value.tensor.shape) > 1, **fused(writer, value)}
    if value.tensor.dtype == "i16":  # LiteRT takes no int16 product without it, biased or not
        wide = not bias or writer.types[bias[0]].dtype == "i64"
        options["quantizedBiasType"] = getattr(writer.model.fb.TensorType, "INT64" if wide else "INT32")
    writer.main.op("FULLY_CONNECTED", inputs, [writer.out(value)], "FullyConnectedOptions", **options)


def _slice(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    shape = writer.types[value.args[0]].shape
    axis, start, stop, step = slice_bounds(value.attrs, shape)
    begin, end, strides = [0] * (1 + len(shape)), [1, *shape], [1] * (1 + len(shape))
    begin[1 + axis], end[1 + axis], strides[1 + axis] = start, stop, step
    bounds = [writer.main.ints(f"{value.name}_{n}", v) for n, v in (("begin", begin), ("end", end), ("by", strides))]
    writer.main.op("STRIDED_SLICE", [writer.at(value.args[0]), *bounds], [writer.out(value)], "StridedSliceOptions")


def _concat(writer: StageWriter, value: Value) -> None:
    """As many at once as CONCATENATION takes (``kMaxInputNum`` of kernels/concatenation.cc)."""
    writer.same_scale(value)
    main, type_, inputs = writer.main, value.tensor, [writer.at(a) for a in value.args]
    axis = value.attrs.get("axis", 0) % len(type_.shape) + 1
    while len(inputs) > MAX_CONCAT:
        shape = [1, *type_.shape]
        shape[axis] = sum(main.tensors[t].shape[axis] for t in inputs[:MAX_CONCAT])
        part = main.tensor(f"{value.name}_part", tuple(shape), type_.dtype, type_.quant)
        main.op("CONCATENATION", inputs[:MAX_CONCAT], [part], "ConcatenationOptions", axis=axis)
        inputs = [part, *inputs[MAX_CONCAT:]]
    main.op("CONCATENATION", inputs, [writer.out(value)], "ConcatenationOptions", axis=axis)


def _reshape(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    writer.reshape(writer.at(value.args[0]), writer.out(value))


def _transpose(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    order = writer.main.ints(f"{value.name}_perm", [0, *(p + 1 for p in value.attrs["perm"])])
    writer.main.op("TRANSPOSE", [writer.at(value.args[0]), order], [writer.out(value)], "TransposeOptions")


def _broadcast(writer: StageWriter, value: Value) -> None:
    writer.same_scale(value)
    rank = len(value.tensor.shape)
    source = writer.at(value.args[0])
    shape = writer.types[value.args[0]].shape
    if len(shape) != rank:
        wide = [1] * (1 + rank - len(shape)) + list(shape)
        seen = writer.main.tensor(f"{value.name}_wide", tuple(wide), value.tensor.dtype, value.tensor.quant)
        writer.reshape(source, seen)
        source = seen
    sizes = writer.main.ints(f"{value.name}_shape", [1, *value.tensor.shape])
    writer.main.op("BROADCAST_TO", [source, sizes], [writer.out(value)], "BroadcastToOptions")


def _shift(writer: StageWriter, value: Value) -> None:
    """A delay line: all but its oldest entry, then the new one."""
    writer.same_scale(value)
    main, type_ = writer.main, value.tensor
    length, *rest = type_.shape
    entry, kept = (1, 1, *rest), (1, length - 1, *rest)
    newest = main.tensor(f"{value.name}_new", entry, type_.dtype, type_.quant) if length > 1 else writer.out(value)
    writer.reshape(writer.at(value.args[1]), newest)
    if length == 1:
        return
    bounds = {"begin": [0, 1] + [0] * len(rest), "end": [1, *type_.shape], "by": [1] * (2 + len(rest))}
    inputs = [writer.at(value.args[0]), *(main.ints(f"{value.name}_{n}", v) for n, v in bounds.items())]
    older = main.tensor(f"{value.name}_old", kept, type_.dtype, type_.quant)
    main.op("STRIDED_SLICE", inputs, [older], "StridedSliceOptions")
    main.op("CONCATENATION", [older, newest], [writer.out(value)], "ConcatenationOptions", axis=1)


RULES: Mapping[str, Rule] = with_whole(
    {
        **floats.RULES,
        **functions.RULES,
        **convolutions.RULES,
        "tfl_fully_connected": _fully_connected,
        "tfl_add": _sums("ADD", "AddOptions"),
        "tfl_sub": _sums("SUB", "SubOptions"),
        "tfl_mul": _elementwise("MUL", "MulOptions"),
        "tfl_relu": _elementwise("RELU"),
        "tfl_relu6": _elementwise("RELU6"),
        "tfl_leaky_relu": _leaky_relu,
        "tfl_prelu": _elementwise("PRELU"),
        "tfl_hard_swish": _elementwise("HARD_SWISH"),
        "tfl_elu": _elementwise("ELU"),
        "tfl_less": _elementwise("LESS"),
        "tfl_equal": _elementwise("EQUAL"),
        "tfl_quantize": _elementwise("QUANTIZE", "QuantizeOptions"),
        "tfl_logistic": _tables("LOGISTIC", "sigmoid"),
        "tfl_tanh": _tables("TANH", "tanh"),
        "min": _moves("MINIMUM", "MaximumMinimumOptions", logical="LOGICAL_AND"),
        "max": _moves("MAXIMUM", "MaximumMinimumOptions", logical="LOGICAL_OR"),
        "select": _moves("SELECT_V2", "SelectV2Options"),
        "lt": _compare,
        "eq": _compare,
        "ne": _compare,
        "slice": _slice,
        "concat": _concat,
        "reshape": _reshape,
        "transpose": _transpose,
        "broadcast": _broadcast,
        "shift": _shift,
        **FUSED,
    }
)
