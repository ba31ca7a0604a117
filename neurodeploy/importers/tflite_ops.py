"""TFLite's operators that compute: on quantized integers the dialect's primitives, on floats plain ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.tflite_step import Call, Rule
from neurodeploy.ir.build import Sym
from neurodeploy.ir.graph import Param
from neurodeploy.ir.tflite.tables import RESULTS
from neurodeploy.ir.types import INT_BITS, Quant, int_range


def acted(call: Call, x: Sym) -> None:
    """Output 0 of a float operator: a value after its fused activation."""
    if not (act := call.act.get("act")):
        call.give(x)
    elif act == "relu":
        call.put("relu", x)
    elif act == "relu6":
        call.put("min", call.emit("relu", x), 6.0)
    elif act == "relu_n1_to_1":
        call.put("min", call.emit("max", x, -1.0), 1.0)
    else:
        raise UnsupportedError(f"has the fused activation {act.upper()}, which TFLite Micro doesn't know.")


def checked_act(call: Call) -> dict[str, str]:
    """The fused activation as the dialect's attribute. Raises :class:`UnsupportedError` for one it hasn't."""
    act = call.act
    if act and act["act"] not in ("relu", "relu6", "relu_n1_to_1"):
        raise UnsupportedError(f"has the fused activation {act['act'].upper()}, which TFLite Micro doesn't know.")
    return act


def scaled(call: Call, *inputs: int) -> None:
    """Refuse quantized tensors without a scale, and mixtures of floats and integers."""
    for tensor in (*(call.tensor(i) for i in inputs), call.result()):
        if tensor.kind not in ("INT8", "INT16", "INT4") or not tensor.scale:
            raise UnsupportedError(
                f"computes with {tensor.kind}{'' if tensor.scale else ' without a scale'} "
                f"({tensor.name[:60]}); needed int8 or int16 with one.",
                hint="Convert the model with full integer quantization (int8 or int16 activations), or without any.",
            )


def fixed_result(call: Call, i8: Quant, i16: Quant) -> None:
    """Refuse a result whose scale and zero point aren't those that the kernel prescribes."""
    result, wanted = call.result(), i8 if call.result().kind == "INT8" else i16
    if (result.scale[0], result.zero_point[0]) != (wanted.scale, wanted.zero_point):
        raise UnsupportedError(
            f"gives the scale {result.scale[0]:g} and zero point {result.zero_point[0]}; needed {wanted.scale:g} and "
            f"{wanted.zero_point}."
        )


def _binary(plain: str, dialect: str) -> Rule:
    def rule(call: Call) -> None:
        if call.quantized:
            scaled(call, 0, 1)
            call.put(dialect, call.x(0), call.x(1), **checked_act(call))
        else:
            acted(call, call.emit(plain, call.x(0), call.x(1)))

    return rule


def _unary(plain: str, dialect: str | None = None) -> Rule:
    def rule(call: Call) -> None:
        if call.quantized and dialect is not None:
            scaled(call, 0)
            call.put(dialect, call.x())
        else:
            call.put(plain, call.x())

    return rule


def _table(plain: str, dialect: str) -> Rule:
    """LOGISTIC and TANH, whose integers have a form of their own: the int8 kernels don't look at the scale in the file.

    LOGISTIC asks for its zero point (``LogisticPrepare``); TANH goes by none.
    """

    def rule(call: Call) -> None:
        if not call.quantized:
            call.put(plain, call.x())
            return
        scaled(call, 0)
        result = call.result()
        wanted = RESULTS[plain, "i8" if result.kind == "INT8" else "i16"]
        odd = result.kind == "INT8" and (plain == "tanh" or result.zero_point[0] == wanted.zero_point)
        if not odd:
            fixed_result(call, wanted, wanted)
        call.put(dialect, call.x())

    return rule


def _relu6(call: Call) -> None:
    if call.quantized:
        scaled(call, 0)
        call.put("tfl_relu6", call.x())
    else:
        call.put("min", call.emit("relu", call.x()), 6.0)


def _move_extremes(op: str) -> Rule:
    """MAXIMUM and MINIMUM: of integers as they are."""

    def rule(call: Call) -> None:
        call.put(op, call.x(0), call.x(1))

    return rule


def _quantize(call: Call) -> None:
    """Another scale or width; from floats the border of an integer part."""
    source, target = call.x(), call.step.type_of(call.result())
    if source.type.dtype == "f32":
        call.put("tfl_from_float", source, to=target.dtype)
    elif source.type == target:
        call.give(source)
    else:
        call.put("tfl_quantize", source, to=target.dtype)


def _dequantize(call: Call) -> None:
    x = call.x()
    if x.type.dtype == "f32":  # a constant float16
        call.give(x)
    else:
        call.put("tfl_to_float", x)


def _fully_connected(call: Call) -> None:
    if call.options["weights_format"]:
        raise UnsupportedError("has shuffled weights.")
    x, (rows, columns) = call.x(), call.constant(1).shape
    if x.type.size % columns:
        raise IRError(f"takes {x.type} and weights of {columns} columns")
    count = x.type.size // columns
    x = call.shaped(x, (columns,) if count == 1 else (count, columns))
    if not call.quantized:
        turned = call.step.builder.param("weights", np.ascontiguousarray(call.constant(1).T))
        y = call.emit("matmul", x, turned)
        acted(call, call.emit("add", y, call.param(2)) if call.has(2) else y)
        return
    scaled(call, 0, 1)
    attrs = checked_act(call) | ({"weight_bits": 4} if call.tensor(1).kind == "INT4" else {})
    bias = bias_of(call, rows)
    call.put("tfl_fully_connected", x, call.param(1), *bias, **attrs)


def bias_of(call: Call, outputs: int) -> list[Sym]:
    """The bias as a list of one param, or of none.

    Without one, an int16 operator may ask for a 32-bit accumulator, which the dialect takes from a bias i32.
    """
    if call.has(2):
        return [call.param(2)]
    if call.tensor().kind == "INT16" and call.options.get("quantized_bias_type") == 2:
        return [call.step.builder.param("bias", np.zeros(outputs, np.int32))]
    return []


def _leaky_relu(call: Call) -> None:
    if call.quantized:
        scaled(call, 0)
        call.put("tfl_leaky_relu", call.x(), alpha=call.options["alpha"])
        return
    x = call.x()
    call.put("select", call.emit("lt", x, 0.0), call.emit("mul", x, call.options["alpha"]), x)


def _prelu(call: Call) -> None:
    x = call.x()
    if call.quantized:
        scaled(call, 0, 1)
        call.put("tfl_prelu", x, call.x(1))
        return
    call.put("select", call.emit("lt", x, 0.0), call.emit("mul", x, call.x(1)), x)


def _hard_swish(call: Call) -> None:
    if call.quantized:
        _of_i8(call, "tfl_hard_swish")
        return
    x = call.x()
    gate = call.emit("min", call.emit("relu", x + 3.0), 6.0)
    call.put("mul", call.emit("mul", x, gate), 1 / 6)


def _of_i8(call: Call, op: str) -> None:
    """An operator that TFLite Micro has for int8 alone."""
    scaled(call, 0)
    if (call.tensor().kind, call.result().kind) != ("INT8", "INT8"):
        raise UnsupportedError(f"computes with {call.tensor().kind}; on integers needed int8.")
    call.put(op, call.x())


def _elu(call: Call) -> None:
    if call.quantized:
        _of_i8(call, "tfl_elu")
        return
    x = call.x()
    below = call.emit("sub", call.emit("exp", call.emit("min", x, 0.0)), 1.0)
    call.put("select", call.emit("lt", x, 0.0), below, x)


def _rsqrt(call: Call) -> None:
    call.put("div", 1.0, call.emit("sqrt", call.x()))


def _square(call: Call) -> None:
    call.put("mul", call.x(), call.x())


def _squared_difference(call: Call) -> None:
    difference = call.emit("sub", call.x(0), call.x(1))
    call.put("mul", difference, difference)


def _softmax(call: Call) -> None:
    beta = call.options["beta"]
    if call.quantized:
        scaled(call, 0)
        if call.tensor().kind != call.result().kind:
            raise UnsupportedError(f"gives {call.result().kind} of {call.tensor().kind}; needed one type.")
        fixed_result(call, Quant(1 / 256, -128), Quant(1 / 32768))
        if beta != 1:
            raise UnsupportedError(f"has beta {beta:g}; needed 1.")
        call.put("tfl_softmax", call.x())
    else:
        x = call.x()
        call.put("softmax", x if beta == 1 else call.emit("mul", x, beta), axis=max(len(x.shape) - 1, 0))


def reduced_axes(call: Call) -> list[int]:
    """The axes of input 1, counted from the front of input 0's tensor, in order."""
    return sorted({call.axis(a, len(call.tensor().shape)) for a in call.integers(1)})


def _reduce(op: str) -> Rule:
    def rule(call: Call) -> None:
        axes, x = _reduced(call)
        for axis in reversed(axes):
            x = call.emit(op, x, axis=axis, quant=x.type.quant if op == "reduce_max" else None)
        call.give(x)

    return rule


def _reduced(call: Call) -> tuple[list[int], Sym]:
    """The axes that are reduced, and the value on whose shape they count."""
    shape, axes = call.tensor().shape, reduced_axes(call)
    dropped = call.batched(shape) and 0 not in axes
    return [axis - dropped for axis in axes], call.x() if dropped else call.whole()


def _sum(call: Call) -> None:
    """Of integers: the sum over several axes is one over their product; the kernel rescales once."""
    axes, x = _reduced(call)
    if not call.quantized:
        _reduce("sum")(call)
        return
    scaled(call, 0)
    call.put("tfl_sum", joined_axes(call, x, axes), axis=-1)


def joined_axes(call: Call, x: Sym, axes: list[int]) -> Sym:
    """The value with those axes behind all others, as one."""
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    order = [*kept, *axes]
    if order != sorted(order):
        x = call.emit("transpose", x, quant=x.type.quant, perm=order)
    return call.shaped(x, (*x.shape[: len(kept)], math.prod(x.shape[len(kept) :])))


def _mean(call: Call) -> None:
    axes, x = _reduced(call)
    if call.quantized:
        scaled(call, 0)
        call.put("tfl_mean", joined_axes(call, x, axes))
        return
    count = math.prod(x.shape[axis] for axis in axes)
    for axis in reversed(axes):
        x = call.emit("sum", x, axis=axis)
    call.give(call.emit("mul", x, 1 / count))


def _argmax(call: Call) -> None:
    shape = call.tensor().shape
    axis = call.axis(call.integers(1)[0], len(shape))
    dropped = call.batched(shape) and axis > 0
    found = call.emit("argmax", call.x() if dropped else call.whole(), axis=axis - dropped)
    call.put("cast", found, to=call.step.type_of(call.result()).dtype)


#: Code -> whether the arguments are exchanged; "less" or "equal"; what counts besides, or the opposite.
_COMPARISONS: Mapping[str, tuple[bool, bool, str]] = {
    "LESS": (False, True, ""),
    "GREATER": (True, True, ""),
    "LESS_EQUAL": (False, True, "or equal"),
    "GREATER_EQUAL": (True, True, "or equal"),
    "EQUAL": (False, False, ""),
    "NOT_EQUAL": (False, False, "not"),
}


def _compare(exchanged: bool, less: bool, more: str) -> Rule:
    """Integers of int8 by the dialect, which goes by their scales; int32 and floats as they are."""

    def rule(call: Call) -> None:
        a, b = (call.x(i) for i in ((1, 0) if exchanged else (0, 1)))
        names = ("lt", "eq")
        if call.quantized:
            for tensor in (call.tensor(0), call.tensor(1)):
                if tensor.kind != "INT8" or len(tensor.scale) != 1 or tensor.scale[0] >= 1:
                    found = f"{tensor.kind} of the scale {tensor.scale[0]:g}" if tensor.scale else tensor.kind
                    raise UnsupportedError(f"compares {found}; on integers needed int8 with a scale below 1.")
            names = ("tfl_less", "tfl_equal")
        made = call.emit(names[0 if less else 1], a, b)
        if more == "or equal":
            made = call.emit("max", made, call.emit(names[1], a, b))
        call.give(_opposite(call, made) if more == "not" else made)

    return rule


def _opposite(call: Call, x: Sym) -> Sym:
    return call.emit("eq", x, call.step.builder.param("false", Param.of(np.zeros((), bool))))


def _logical(op: str) -> Rule:
    def rule(call: Call) -> None:
        bools(call)
        call.put(op, call.x(0), call.x(1))

    return rule


def bools(call: Call) -> None:
    """Refuse anything but bools: TFLM's kernel takes the first bytes of whatever else for them."""
    for i in range(len(call)):
        if call.tensor(i).kind != "BOOL":
            raise UnsupportedError(f"takes {call.tensor(i).kind} ({call.tensor(i).name[:60]}); needed BOOL.")


def _logical_not(call: Call) -> None:
    bools(call)
    call.give(_opposite(call, call.x()))


def _cast(call: Call) -> None:
    """Integers that a narrower type doesn't hold wrap around, as in C++."""
    source, target = call.x(), call.step.type_of(call.result())
    if call.tensor().kind == "UINT8" or call.result().kind == "UINT8":
        raise UnsupportedError("casts uint8, which is held as i8 here.", hint="Quantize with int8.")
    if source.type.dtype == target.dtype:
        call.give(source)
        return
    widths = INT_BITS.get(source.type.dtype, 0), INT_BITS.get(target.dtype, 64)
    if widths[0] > widths[1] and not _within(call, source, target.dtype):
        source = _wrapped(call, source, widths[1])
    call.put("cast", source, to=target.dtype)


def _within(call: Call, x: Sym, dtype: str) -> bool:
    """Whether a value is a MINIMUM of a MAXIMUM (or the reverse) by constants that the dtype holds."""
    low, high = int_range(dtype)
    found = set()
    for _ in range(2):
        value = call.step.builder.value(x.name)
        if value is None or value.op not in ("min", "max"):
            return False
        sides = [(a, call.step.builder.constant(a)) for a in value.args]
        bound = next((data for _, data in sides if data is not None), None)
        if bound is None or not (low <= bound.min() and bound.max() <= high):
            return False
        found.add(value.op)
        x = Sym(next((a for a, data in sides if data is None), x.name), call.step.builder)
    return found == {"min", "max"}


def _wrapped(call: Call, x: Sym, bits: int) -> Sym:
    """Less the nearest multiple of ``2^bits`` whose product fits, and once more where that is still too large."""
    wide = "i64" if x.type.dtype == "i64" else "i32"
    if x.type.dtype != wide:
        x = call.emit("cast", x, to=wide)

    def number(value: int) -> Sym:
        return call.step.builder.const(value, wide)

    turns = call.emit("min", call.emit("div", x, number(1 << bits)), number((1 << (INT_BITS[wide] - 1 - bits)) - 1))
    rest = call.emit("sub", x, call.emit("mul", turns, number(1 << bits)))
    above = call.emit("lt", number((1 << (bits - 1)) - 1), rest)
    return call.emit("sub", rest, call.emit("select", above, number(1 << bits), number(0)))


def _div(call: Call) -> None:
    """Integers are cut towards zero: a is brought nearer to zero by half of b, then divided to the nearest.

    Halves go away from zero, so an a of k b, which is then k - 1/2 or a little more, gives k, and one less gives k - 1.
    """
    a, b = call.x(0), call.x(1)
    if a.type.dtype == "f32":
        acted(call, call.emit("div", a, b))
        return
    if call.act:
        raise UnsupportedError("has a fused activation on integers without a scale.")
    zero, one = (call.step.builder.const(v, "i32") for v in (0, 1))
    divisor = call.step.array_or_none(call.operator.inputs[1])
    if divisor is not None:
        half = call.step.builder.param(
            "half", (-(np.abs(divisor.astype(np.int64)) // 2)).astype(np.int32).reshape(b.shape)
        )
    else:  # less than 0, where the least integer has its size too
        size = call.emit("sub", call.emit("min", b, zero), call.emit("max", b, zero))
        half = call.emit("div", call.emit("add", size, one), call.step.builder.const(2, "i32"))
    above, below = call.emit("add", call.emit("max", a, zero), half), call.emit("sub", call.emit("min", a, zero), half)
    nearer = call.emit("select", call.emit("lt", a, zero), below, zero)
    call.put("div", call.emit("select", call.emit("lt", zero, a), above, nearer), b)


def _batch_matmul(call: Call) -> None:
    """``x @ y`` over the last two axes; the leading ones must be equal, or of size 1 in one of both."""
    x, y = call.whole(0), call.whole(1)
    if call.quantized:
        scaled(call, 0, 1)
        x, y = (_turned(call, v) if call.options[key] else v for v, key in ((x, "adj_x"), (y, "adj_y")))
        call.put("tfl_batch_matmul", x, y)
        return
    lead = "abcdefgh"[: len(call.result().shape) - 2]
    left, right = (lead[len(lead) - (len(v.shape) - 2) :] for v in (x, y))
    if any(n != m for n, m in zip(x.shape[-3::-1], y.shape[-3::-1], strict=False)):
        raise UnsupportedError(f"multiplies {list(x.shape)} by {list(y.shape)}; needed equal leading axes.")
    first, second = "zx" if call.options["adj_x"] else "xz", "yz" if call.options["adj_y"] else "zy"
    call.give(call.emit("einsum", x, y, eq=f"{left}{first},{right}{second}->{lead}xy"))


def _turned(call: Call, x: Sym) -> Sym:
    """The last two axes swapped."""
    rank = len(x.shape)
    return call.emit("transpose", x, quant=x.type.quant, perm=[*range(rank - 2), rank - 1, rank - 2])


FLOAT_RULES: Mapping[str, Rule] = {
    "ADD": _binary("add", "tfl_add"),
    "SUB": _binary("sub", "tfl_sub"),
    "MUL": _binary("mul", "tfl_mul"),
    "DIV": _div,
    "MAXIMUM": _move_extremes("max"),
    "MINIMUM": _move_extremes("min"),
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "RELU": _unary("relu", "tfl_relu"),
    "RELU6": _relu6,
    "LOGISTIC": _table("sigmoid", "tfl_logistic"),
    "TANH": _table("tanh", "tfl_tanh"),
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _prelu,
    "HARD_SWISH": _hard_swish,
    "ELU": _elu,
    **{code: _unary(code.lower()) for code in ("ABS", "EXP", "FLOOR", "LOG", "NEG", "ROUND", "SQRT")},
    "RSQRT": _rsqrt,
    "SQUARE": _square,
    "SQUARED_DIFFERENCE": _squared_difference,
    "SOFTMAX": _softmax,
    "SUM": _sum,
    "MEAN": _mean,
    "REDUCE_MAX": _reduce("reduce_max"),
    "REDUCE_PROD": _reduce("prod"),
    "ARG_MAX": _argmax,
    **{code: _compare(*how) for code, how in _COMPARISONS.items()},
    "LOGICAL_AND": _logical("min"),
    "LOGICAL_OR": _logical("max"),
    "LOGICAL_NOT": _logical_not,
    "CAST": _cast,
    "DEQUANTIZE": _dequantize,
}
#: Those that also compute on quantized integers.
QUANTIZED_RULES: Mapping[str, Rule] = {
    **{code: FLOAT_RULES[code] for code in (
        "ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "FULLY_CONNECTED", "BATCH_MATMUL", "RELU", "RELU6", "LOGISTIC",
        "TANH", "SOFTMAX", "SUM", "MEAN", "LEAKY_RELU", "PRELU", "HARD_SWISH", "ELU", "REDUCE_MAX", "ARG_MAX", "CAST",
        *_COMPARISONS,
    )},
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
}  # fmt: skip
