"""ONNX's arithmetic: elementwise ops, products, reductions, normalisation. Also the table of all rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from neurodeploy.importers import onnx_ops_rnn, onnx_ops_shape
from neurodeploy.importers.onnx_node import Call, Rule, tidy
from neurodeploy.importers.time import Tensor

# -- on constants and sizes --------------------------------------------------------------------------------------------


def _divide(a: Any, b: Any) -> Any:
    """Whole numbers are divided towards zero; sizes must divide."""
    if a.dtype == object or b.dtype == object:
        return np.floor_divide(a, b)
    if a.dtype.kind in "iu":
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return a / b


#: ONNX op -> what it does to constants and to arrays of sizes.
ON_ARRAYS: Mapping[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide, "Neg": np.negative, "Abs": np.abs,
    "Sqrt": np.sqrt, "Exp": np.exp, "Log": np.log, "Floor": np.floor, "Ceil": np.ceil, "Pow": np.power,
    "Min": np.minimum, "Max": np.maximum, "Equal": np.equal, "Less": np.less, "Greater": np.greater,
    "LessOrEqual": np.less_equal, "GreaterOrEqual": np.greater_equal, "And": np.logical_and, "Or": np.logical_or,
    "Xor": np.logical_xor, "Not": np.logical_not, "Where": np.where, "Mod": np.mod, "Sin": np.sin, "Cos": np.cos,
    "Reciprocal": np.reciprocal, "Sign": np.sign, "MatMul": np.matmul, "Tanh": np.tanh, "Round": np.rint,
}  # fmt: skip


def fold(call: Call) -> Any:
    """The result of an op on constants, or None if it isn't folded here."""
    function = ON_ARRAYS.get(call.op)
    if function is None or not call.values or not call.folds() or any(v is None for v in call.values):
        return None
    if call.op in ("Min", "Max"):
        return tidy(np.asarray(_variadic(function, list(call.values))))
    onnx_ops_shape.small(call, list(np.broadcast_shapes(*(v.shape[:-2] for v in call.values))))
    with np.errstate(all="ignore"):
        found = np.asarray(function(*call.values))
    if call.op in ("Equal", "Less", "Greater") and found.dtype == object:
        found = found.astype(np.bool_)
    return tidy(found)


def _variadic(function: Callable[..., Any], values: list[Any]) -> Any:
    result = values[0]
    for value in values[1:]:
        result = function(result, value)
    return result


# -- elementwise -------------------------------------------------------------------------------------------------------


def _simple(primitive: str) -> Rule:
    return lambda call: call.tracer.pointwise(primitive, *(call.tensor(i) for i in range(len(call.values))))


def _activation(name: str, alpha: float | None = None, beta: float | None = None) -> Rule:
    return lambda call: call.tracer.activation(
        name, call.tensor(0), call.attrs.get("alpha", alpha), call.attrs.get("beta", beta)
    )


def _variadic_rule(primitive: str) -> Rule:
    def rule(call: Call) -> Tensor:
        result = call.tensor(0)
        for i in range(1, len(call.values)):
            result = call.tracer.pointwise(primitive, result, call.tensor(i))
        return result

    return rule


def mean(call: Call) -> Tensor:
    return call.tracer.pointwise("mul", _variadic_rule("add")(call), 1.0 / len(call.values))


def divide(call: Call) -> Tensor:
    a, b = call.tensor(0), call.tensor(1)
    if a.dtype != "f32":
        raise call.error("whole numbers are divided.", "Cast them to float.")
    if b.data is not None and b.data.all():
        # A product with the reciprocal rounds once more, and spares a microcontroller the division.
        with np.errstate(all="ignore"):
            inverse = (1.0 / b.data.astype(np.float64)).astype(np.float32)
        if np.isfinite(inverse).all():
            return call.tracer.pointwise("mul", a, Tensor(call.tracer.constant(inverse).node, b.axes))
    return call.tracer.pointwise("div", a, b)


def power(call: Call) -> Tensor:
    x, exponent = call.tensor(0), call.array(1, "the exponent").ravel()
    t = call.tracer
    if exponent.size != 1:
        raise call.error("different exponents.", "Use one constant exponent.")
    p = float(exponent[0])
    if p == 0.5:
        return t.pointwise("sqrt", x)
    if p == -0.5:
        return t.pointwise("div", t.lift(1.0), t.pointwise("sqrt", x))
    if p != int(p) or not 1 <= abs(p) <= 8:
        raise call.error(f"a power of {p:g}.", "Supported: whole numbers from -8 to 8, 0.5 and -0.5.")
    result = x
    for _ in range(int(abs(p)) - 1):
        result = t.pointwise("mul", result, x)
    return result if p > 0 else t.pointwise("div", t.lift(1.0), result)


def clip(call: Call) -> Tensor:
    x = call.tensor(0)
    for index, key, op in ((1, "min", "max"), (2, "max", "min")):
        bound = call.attrs.get(key) if key in call.attrs else (call.tensor(index) if call.given(index) else None)
        if bound is not None:
            x = call.tracer.pointwise(op, x, bound)
    return x


def sign(call: Call) -> Tensor:
    t, x = call.tracer, call.tensor(0)
    up = t.pointwise("select", t.pointwise("lt", t.lift(0.0), x), 1.0, 0.0)
    return t.pointwise("select", t.pointwise("lt", x, 0.0), -1.0, up)


def ceil(call: Call) -> Tensor:
    t = call.tracer
    return t.pointwise("neg", t.pointwise("floor", t.pointwise("neg", call.tensor(0))))


def reciprocal(call: Call) -> Tensor:
    return call.tracer.pointwise("div", call.tracer.lift(1.0), call.tensor(0))


def selu(call: Call) -> Tensor:
    gamma = call.attrs.get("gamma", 1.0507010221481323)
    return call.tracer.pointwise("mul", _activation("elu", 1.6732631921768188)(call), gamma)


def celu(call: Call) -> Tensor:
    """``max(0, x) + min(0, alpha (exp(x / alpha) - 1))``."""
    t, alpha = call.tracer, call.attrs.get("alpha", 1.0)
    return t.pointwise("mul", t.activation("elu", t.pointwise("mul", call.tensor(0), 1.0 / alpha), 1.0), alpha)


def hard_swish(call: Call) -> Tensor:
    x = call.tensor(0)
    return call.tracer.pointwise("mul", x, call.tracer.activation("hard_sigmoid", x, 1.0 / 6.0, 0.5))


def mish(call: Call) -> Tensor:
    t, x = call.tracer, call.tensor(0)
    return t.pointwise("mul", x, t.pointwise("tanh", t.pointwise("softplus", x)))


def prelu(call: Call) -> Tensor:
    t, x = call.tracer, call.tensor(0)
    return t.pointwise("select", t.pointwise("lt", x, 0.0), t.pointwise("mul", x, call.tensor(1)), x)


def gelu(call: Call) -> Tensor:
    """The tanh approximation ``x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`` (Hendrycks and Gimpel 2016)."""
    if call.attrs.get("approximate", "none") != "tanh":
        return no_erf(call)
    t, x = call.tracer, call.tensor(0)
    cube = t.pointwise("mul", t.pointwise("mul", x, x), x)
    inner = t.pointwise("add", x, t.pointwise("mul", cube, 0.044715))
    gate = t.pointwise("add", t.pointwise("tanh", t.pointwise("mul", inner, float(np.sqrt(2 / np.pi)))), 1.0)
    return t.pointwise("mul", t.pointwise("mul", x, 0.5), gate)


def no_erf(call: Call) -> Tensor:
    raise call.error("the error function has no primitive.", "Use GELU's tanh approximation, or ReLU, and retrain.")


def greater(call: Call) -> Tensor:
    return call.tracer.pointwise("lt", call.tensor(1), call.tensor(0))


def _not(call: Call, x: Tensor) -> Tensor:
    return call.tracer.pointwise("eq", x, np.zeros((), np.bool_))


def less_or_equal(call: Call) -> Tensor:
    return _not(call, greater(call))


def greater_or_equal(call: Call) -> Tensor:
    return _not(call, call.tracer.pointwise("lt", call.tensor(0), call.tensor(1)))


def not_(call: Call) -> Tensor:
    return _not(call, call.tensor(0))


# -- products ----------------------------------------------------------------------------------------------------------


def matmul(call: Call) -> Tensor:
    return call.tracer.matmul(call.tensor(0), call.tensor(1))


def gemm(call: Call) -> Tensor:
    t, a, b = call.tracer, call.tensor(0), call.tensor(1)
    if call.attrs.get("transA", 0):
        a = t.transpose(a, [1, 0])
    if b.data is None or b.data.ndim != 2:
        raise call.error("a Gemm's second operand isn't a constant matrix.", "Export the weights as initializers.")
    W = b.data if call.attrs.get("transB", 0) else b.data.T
    alpha, beta = call.attrs.get("alpha", 1.0), call.attrs.get("beta", 1.0)
    W = W if alpha == 1.0 else W * np.float32(alpha)
    y = t.linear(a, W)
    if not call.given(2):
        return y
    c = call.tensor(2)
    return t.pointwise("add", y, c if beta == 1.0 else t.pointwise("mul", c, float(beta)))


# -- along axes --------------------------------------------------------------------------------------------------------


def _reduce(kind: str, before: str = "", after: str = "") -> Rule:
    def rule(call: Call) -> Tensor:
        t, x = call.tracer, call.tensor(0)
        axes = call.numbers(1, "axes")
        if not axes and call.attrs.get("noop_with_empty_axes", 0):
            return x
        if before == "square":
            x = t.pointwise("mul", x, x)
        elif before:
            x = t.pointwise(before, x)
        y = t.reduce(kind, x, axes or list(range(x.rank)), bool(call.attrs.get("keepdims", 1)))
        return t.pointwise(after, y) if after else y

    return rule


def global_pool(kind: str) -> Rule:
    return lambda call: call.tracer.reduce(kind, call.tensor(0), range(2, call.tensor(0).rank), True)


def softmax(call: Call) -> Tensor:
    """Before opset 13 the axes from ``axis`` on are taken together."""
    x = call.tensor(0)
    axis = call.attrs.get("axis", -1 if call.opset >= 13 else 1)
    if call.opset < 13 and x.rank > 1:
        axis = call.tracer.axis_number(x, axis)
        if any(a.extent != 1 for a in x.axes[axis + 1 :]):
            raise call.error(f"{call.op} over several axes at once.", "Export with opset 13 or later.")
    return getattr(call.tracer, "softmax" if call.op == "Softmax" else "log_softmax")(x, axis)


def argmax(call: Call) -> Tensor:
    if call.attrs.get("select_last_index", 0):
        raise call.error("the last of equal maxima is wanted.", "Use select_last_index=0.")
    x = call.tensor(0) if call.op == "ArgMax" else call.tracer.pointwise("neg", call.tensor(0))
    return call.tracer.argmax(x, call.attrs.get("axis", 0), bool(call.attrs.get("keepdims", 1)))


def layer_norm(call: Call) -> Tensor:
    x = call.tensor(0)
    first = call.tracer.axis_number(x, call.attrs.get("axis", -1))
    bias = call.tensor(2) if call.given(2) else None
    if any(name for name in call.outputs[1:]):
        raise call.error("the mean or deviation of a layer normalisation is used.", "Use its first output only.")
    epsilon = call.attrs.get("epsilon", 1e-5)
    return call.tracer.layer_norm(x, list(range(first, x.rank)), call.tensor(1), bias, epsilon)


def batch_norm(call: Call) -> Tensor:
    """``scale (x - mean) / sqrt(var + epsilon) + bias`` along axis 1, the statistics constant."""
    if call.attrs.get("training_mode", 0):
        raise call.error("batch normalisation in training mode.", "Export the model in evaluation mode.")
    x = call.tensor(0)
    scale, bias, centre, variance = (call.array(i, "a statistic").astype(np.float64) for i in range(1, 5))
    factor = scale / np.sqrt(variance + call.attrs.get("epsilon", 1e-5))
    shape = (-1, *(1,) * (x.rank - 2))
    t = call.tracer
    y = t.pointwise("mul", x, factor.reshape(shape).astype(np.float32))
    return t.pointwise("add", y, (bias - centre * factor).reshape(shape).astype(np.float32))


def refuse(reason: str, remedy: str) -> Rule:
    def rule(call: Call) -> Any:
        raise call.error(reason, remedy)

    return rule


_LOOP = "Export the recurrent layer as RNN, GRU or LSTM, without control flow."
MATHS: Mapping[str, Rule] = {
    "Add": _simple("add"), "Sub": _simple("sub"), "Mul": _simple("mul"), "Div": divide, "Pow": power,
    "Neg": _simple("neg"), "Abs": _simple("abs"), "Exp": _simple("exp"), "Log": _simple("log"),
    "Sqrt": _simple("sqrt"), "Floor": _simple("floor"), "Round": _simple("round"), "Ceil": ceil,
    "Reciprocal": reciprocal, "Sign": sign, "Sum": _variadic_rule("add"), "Mean": mean,
    "Min": _variadic_rule("min"), "Max": _variadic_rule("max"), "Clip": clip,
    "Tanh": _simple("tanh"), "Sigmoid": _simple("sigmoid"), "Relu": _simple("relu"), "Softplus": _simple("softplus"),
    "LeakyRelu": _activation("leaky_relu", 0.01), "Elu": _activation("elu", 1.0), "Softsign": _activation("softsign"),
    "HardSigmoid": _activation("hard_sigmoid", 0.2, 0.5), "ThresholdedRelu": _activation("thresholded_relu", 1.0),
    "Selu": selu, "Celu": celu, "HardSwish": hard_swish, "Mish": mish, "PRelu": prelu, "Gelu": gelu, "Erf": no_erf,
    "Equal": _simple("eq"), "Less": _simple("lt"), "Greater": greater, "LessOrEqual": less_or_equal,
    "GreaterOrEqual": greater_or_equal, "And": _simple("min"), "Or": _simple("max"), "Xor": _simple("ne"),
    "Not": not_, "Where": _simple("select"),
    "MatMul": matmul, "Gemm": gemm,
    "ReduceSum": _reduce("sum"), "ReduceMean": _reduce("mean"), "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce("min"), "ReduceProd": _reduce("prod"), "ReduceL1": _reduce("sum", "abs"),
    "ReduceL2": _reduce("sum", "square", "sqrt"), "ReduceSumSquare": _reduce("sum", "square"),
    "GlobalAveragePool": global_pool("mean"), "GlobalMaxPool": global_pool("max"),
    "Softmax": softmax, "LogSoftmax": softmax, "ArgMax": argmax, "ArgMin": argmax,
    "LayerNormalization": layer_norm, "BatchNormalization": batch_norm,
    "Loop": refuse("a loop inside the model is not supported.", _LOOP),
    "Scan": refuse("a scan inside the model is not supported.", _LOOP),
    "If": refuse("a branch inside the model is not supported.", "Export the branch that is taken, on its own."),
    "ReverseSequence": refuse("a sequence is turned round.", "Use a layer with direction 'reverse'."),
}  # fmt: skip
RULES: Mapping[str, Rule] = {**MATHS, **onnx_ops_shape.RULES, **onnx_ops_rnn.RULES}
