"""ATen ops as calls of the tracer: arithmetic, activations, products, normalisation and reductions.

A rule takes the tracer and the op's arguments as ATen names and orders them. Tensors are traced tensors, sizes are
whole numbers or :class:`~neurodeploy.importers.time.Dim`. Formulas are those of PyTorch's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.importers.time import Dim, Tensor, Tracer

Rule = Callable[..., Any]
FLOAT_DTYPES = ("torch.float32", "torch.float64", "torch.float16", "torch.bfloat16")


def operand(t: Tracer, like: Any, value: Any) -> Any:
    """A number as a constant of the kind that PyTorch would take it for beside the tensor ``like``."""
    if isinstance(value, Dim):
        raise t.error(f"the size {value} is used as a number, and it isn't known when compiling.")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and isinstance(like, Tensor) and like.dtype != "f32":
        return t.constant(np.int32(value)) if like.dtype != "bool" else t.constant(np.bool_(value))
    return value


def as_float(t: Tracer, x: Any) -> Any:
    """Whole numbers and bools as floats."""
    return t.pointwise("cast", x, to="f32") if isinstance(x, Tensor) and x.dtype != "f32" else x


def logical_not(t: Tracer, x: Tensor) -> Tensor:
    """True where x is false."""
    return t.pointwise("eq", x, t.constant(np.bool_(False)))


# -- elementwise -------------------------------------------------------------------------------------------------------


def _binary(primitive: str) -> Rule:
    def rule(t: Tracer, a: Any, b: Any, alpha: Any = 1) -> Tensor:
        a, b = operand(t, b, a), operand(t, a, b)
        if alpha != 1:
            b = t.pointwise("mul", b, operand(t, b, alpha))
        return t.pointwise(primitive, a, b)

    return rule


def _rsub(t: Tracer, a: Any, b: Any, alpha: Any = 1) -> Tensor:
    return _binary("sub")(t, b, a, alpha)


def _div(t: Tracer, a: Any, b: Any, rounding_mode: str | None = None) -> Tensor:
    if isinstance(b, Dim) and isinstance(a, Tensor) and rounding_mode is None:
        return _over_length(t, a, b)
    quotient = t.pointwise("div", as_float(t, a), as_float(t, operand(t, None, b)))
    if rounding_mode is None:
        return quotient
    if rounding_mode == "floor":
        return t.pointwise("floor", quotient)
    raise t.error(f"a division rounds by '{rounding_mode}'.", "Use true division or floor.")


def _over_length(t: Tracer, total: Tensor, length: Dim) -> Tensor:
    """A sum over time divided by the number of steps: the mean."""
    node = total.node
    if node.op == "accumulate" and node.attrs["kind"] == "sum" and str(length) == node.inputs[0].domain:
        mean = t._add("accumulate", node.inputs, {"kind": "mean"}, node.type, None)
        return Tensor(mean, total.axes)
    raise t.error(f"something is divided by the size {length}.", "Use a mean over time: x.mean(dim=1).")


def _compare(primitive: str, swap: bool, negate: bool) -> Rule:
    def rule(t: Tracer, a: Any, b: Any) -> Tensor:
        a, b = operand(t, b, a), operand(t, a, b)
        found = t.pointwise(primitive, b, a) if swap else t.pointwise(primitive, a, b)
        return logical_not(t, found) if negate else found

    return rule


def _where(t: Tracer, condition: Any, a: Any, b: Any) -> Tensor:
    return t.pointwise("select", condition, operand(t, b, a), operand(t, a, b))


def _unary(primitive: str) -> Rule:
    return lambda t, x: t.pointwise(primitive, x)


def _float(primitive: str) -> Rule:
    return lambda t, x: t.pointwise(primitive, as_float(t, x))


def _pow(t: Tracer, x: Any, exponent: Any) -> Tensor:
    if isinstance(exponent, Tensor) and exponent.data is not None and exponent.data.ndim == 0:
        exponent = exponent.data.item()
    if not isinstance(x, Tensor):  # a number to the power of a tensor
        if not isinstance(x, int | float) or x <= 0:
            raise t.error(f"{x} is raised to a power.", "Use a positive base.")
        return t.pointwise("exp", t.pointwise("mul", exponent, float(np.log(x))))
    if exponent == 0.5:
        return t.pointwise("sqrt", as_float(t, x))
    if exponent == -0.5:
        return t.pointwise("div", 1.0, t.pointwise("sqrt", as_float(t, x)))
    if not isinstance(exponent, int | float) or exponent != int(exponent) or not 1 <= abs(exponent) <= 8:
        raise t.error(f"x is raised to the power {exponent}; needed 0.5 or a whole number up to 8.", "Use exp and log.")
    power = x
    for _ in range(int(abs(exponent)) - 1):
        power = t.pointwise("mul", power, x)
    return power if exponent > 0 else t.pointwise("div", 1.0, as_float(t, power))


def _clamp(t: Tracer, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    low = x if min is None else t.pointwise("max", x, operand(t, x, min))
    return low if max is None else t.pointwise("min", low, operand(t, x, max))


def _sign(t: Tracer, x: Tensor) -> Tensor:
    zero = operand(t, x, 0)
    up = t.pointwise("select", t.pointwise("lt", zero, x), operand(t, x, 1), zero)
    return t.pointwise("select", t.pointwise("lt", x, zero), operand(t, x, -1), up)


# -- activations -------------------------------------------------------------------------------------------------------


def _softplus(t: Tracer, x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    # Above its threshold PyTorch returns x; there softplus differs from x by less than exp(-20).
    if beta == 1.0:
        return t.activation("softplus", x)
    return t.pointwise("div", t.activation("softplus", t.pointwise("mul", x, float(beta))), float(beta))


def _elu(t: Tracer, x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    if input_scale == 1:
        y = t.activation("elu", x, alpha)
    else:
        rise = t.pointwise("exp", t.pointwise("mul", t.pointwise("min", x, 0.0), float(input_scale)))
        below = t.pointwise("mul", t.pointwise("sub", rise, 1.0), float(alpha))
        y = t.pointwise("select", t.pointwise("lt", x, 0.0), below, x)
    return y if scale == 1 else t.pointwise("mul", y, float(scale))


def _selu(t: Tracer, x: Tensor) -> Tensor:
    # Klambauer et al. 2017, the constants of equation 14.
    return _elu(t, x, 1.6732632423543772, 1.0507009873554805)


def _gelu(t: Tracer, x: Tensor, approximate: str = "none") -> Tensor:
    if approximate != "tanh":
        raise t.error("GELU needs the error function.", "Use its tanh form: nn.GELU(approximate='tanh').")
    cube = t.pointwise("mul", t.pointwise("mul", x, x), x)
    inner = t.pointwise("add", x, t.pointwise("mul", cube, 0.044715))
    wave = t.pointwise("tanh", t.pointwise("mul", inner, float(np.sqrt(2 / np.pi))))
    return t.pointwise("mul", t.pointwise("mul", x, 0.5), t.pointwise("add", wave, 1.0))


def _prelu(t: Tracer, x: Tensor, weight: Tensor) -> Tensor:
    if weight.data is not None and weight.data.size == 1:
        slope = t.constant(weight.data.reshape(()))
    else:  # one slope a channel, which is axis 1
        slope = t.reshape(weight, [-1, *[1] * (x.rank - 2)]) if x.rank > 2 else weight
    return t.pointwise("select", t.pointwise("lt", x, 0.0), t.pointwise("mul", x, slope), x)


def _glu(t: Tracer, x: Tensor, dim: int = -1) -> Tensor:
    half = x.shape[dim] // 2
    a, b = t.slice(x, dim, 0, half), t.slice(x, dim, half, 2 * half)
    return t.pointwise("mul", a, t.activation("sigmoid", b))


def _times(function: Callable[[Tracer, Tensor], Tensor]) -> Rule:
    return lambda t, x: t.pointwise("mul", x, function(t, x))


def _hard_sigmoid(t: Tracer, x: Tensor) -> Tensor:
    return t.activation("hard_sigmoid", x, 1 / 6, 0.5)


def _dropout(t: Tracer, x: Tensor, p: float = 0.5, train: bool = False) -> Tensor:
    if train and p:
        raise t.error(
            "dropout is on in evaluation mode.", "Give the functional form its flag: F.dropout(x, p, self.training)."
        )
    return x


# -- products and normalisation ----------------------------------------------------------------------------------------


def _addmm(t: Tracer, bias: Tensor, a: Tensor, b: Tensor, beta: Any = 1, alpha: Any = 1) -> Tensor:
    product = t.matmul(a, b)
    product = product if alpha == 1 else t.pointwise("mul", product, float(alpha))
    return t.pointwise("add", product, bias if beta == 1 else t.pointwise("mul", bias, float(beta)))


def _layer_norm(
    t: Tracer, x: Tensor, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn: Any = 0
) -> Tensor:
    return t.layer_norm(x, list(range(-len(shape), 0)), weight, bias, eps)


def _rms_norm(t: Tracer, x: Tensor, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    mean = t.reduce("mean", t.pointwise("mul", x, x), list(range(-len(shape), 0)), keepdims=True)
    root = t.pointwise("sqrt", t.pointwise("add", mean, float(np.finfo(np.float32).eps if eps is None else eps)))
    y = t.pointwise("div", x, root)
    return y if weight is None else t.pointwise("mul", y, weight)


def _batch_norm(
    t: Tracer, x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: Any, eps: float,
    cudnn: Any = False,
) -> Tensor:  # fmt: skip
    if training or mean is None or var is None or mean.data is None or var.data is None:
        raise t.error(
            "batch normalisation uses the statistics of the batch.",
            "Train it with track_running_stats=True, which is the default.",
        )
    scale = 1 / np.sqrt(var.data.astype(np.float64) + eps) * (1.0 if weight is None else weight.data)
    offset = (0.0 if bias is None else bias.data) - mean.data * scale
    shape = [-1, *[1] * (x.rank - 2)]  # the channels are axis 1
    scaled = t.pointwise("mul", x, t.constant(scale.astype(np.float32).reshape(shape), "scale"))
    return t.pointwise("add", scaled, t.constant(offset.astype(np.float32).reshape(shape), "offset"))


# -- reductions --------------------------------------------------------------------------------------------------------


def _axes(x: Tensor, dim: Any) -> list[int]:
    if dim is None or dim == []:
        return list(range(x.rank))
    return list(dim) if isinstance(dim, list | tuple) else [dim]


def _reduction(kind: str) -> Rule:
    def rule(t: Tracer, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
        return t.reduce(kind, as_float(t, x) if kind == "mean" else x, _axes(x, dim), keepdim)

    return rule


def _extreme(kind: str) -> Rule:
    def rule(t: Tracer, x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
        if isinstance(dim, Tensor):
            return t.pointwise(kind, x, dim)
        values = t.reduce(kind, x, _axes(x, dim), keepdim)
        if not isinstance(dim, int):
            return values
        # The indices are worked out only if something reads them, as argmax over time is refused.
        flip = kind == "min"
        return (values, lambda: t.argmax(t.pointwise("neg", x) if flip else x, dim, keepdim))

    return rule


def _argmax(t: Tracer, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    if dim is None:
        raise t.error("argmax runs over all axes at once.", "Give it an axis: argmax(dim=-1).")
    return t.argmax(x, dim, keepdim)


def _var(
    t: Tracer, x: Tensor, dim: Any = None, correction: Any = 1, keepdim: bool = False, unbiased: Any = None
) -> Tensor:
    if isinstance(correction, bool):  # var.dim(x, dim, unbiased, keepdim)
        correction = int(correction)
    axes = _axes(x, dim)
    count = int(np.prod([x.shape[a] for a in axes]))
    centred = t.pointwise("sub", x, t.reduce("mean", x, axes, keepdims=True))
    total = t.reduce("sum", t.pointwise("mul", centred, centred), axes, keepdim)
    return t.pointwise("mul", total, 1.0 / (count - correction))


def _std(t: Tracer, *args: Any, **kwargs: Any) -> Tensor:
    return t.pointwise("sqrt", _var(t, *args, **kwargs))


def _softmax(t: Tracer, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return t.softmax(x, dim)


def _log_softmax(t: Tracer, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return t.log_softmax(x, dim)


def _activation(name: str) -> Rule:
    return lambda t, x: t.activation(name, as_float(t, x))


MATHS: Mapping[str, Rule] = {
    "add": _binary("add"),
    "sub": _binary("sub"),
    "rsub": _rsub,
    "mul": _binary("mul"),
    "div": _div,
    "floor_divide": lambda t, a, b: _div(t, a, b, "floor"),
    "minimum": _binary("min"),
    "maximum": _binary("max"),
    "eq": _compare("eq", False, False),
    "ne": _compare("ne", False, False),
    "lt": _compare("lt", False, False),
    "gt": _compare("lt", True, False),
    "le": _compare("lt", True, True),
    "ge": _compare("lt", False, True),
    "logical_not": logical_not,
    "bitwise_not": logical_not,
    "logical_and": lambda t, a, b: t.pointwise("min", a, b),
    "logical_or": lambda t, a, b: t.pointwise("max", a, b),
    "bitwise_and": lambda t, a, b: t.pointwise("min", a, b),
    "bitwise_or": lambda t, a, b: t.pointwise("max", a, b),
    "where": _where,
    "masked_fill": lambda t, x, mask, value: _where(t, mask, value, x),
    "neg": _unary("neg"),
    "abs": _unary("abs"),
    "exp": _float("exp"),
    "log": _float("log"),
    "sqrt": _float("sqrt"),
    "floor": _unary("floor"),
    "round": _unary("round"),
    "rsqrt": lambda t, x: t.pointwise("div", 1.0, t.pointwise("sqrt", x)),
    "reciprocal": lambda t, x: t.pointwise("div", 1.0, as_float(t, x)),
    "square": lambda t, x: t.pointwise("mul", x, x),
    "pow": _pow,
    "sign": _sign,
    "lerp": lambda t, a, b, w: t.pointwise("add", a, t.pointwise("mul", t.pointwise("sub", b, a), w)),
    "addcmul": lambda t, x, a, b, value=1: _binary("add")(t, x, t.pointwise("mul", a, b), value),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda t, x, low: _clamp(t, x, low),
    "clamp_max": lambda t, x, high: _clamp(t, x, None, high),
    "hardtanh": lambda t, x, low=-1.0, high=1.0: _clamp(t, x, low, high),
    "relu6": lambda t, x: _clamp(t, x, 0.0, 6.0),
    "tanh": _activation("tanh"),
    "sigmoid": _activation("sigmoid"),
    "relu": _activation("relu"),
    "softsign": _activation("softsign"),
    "leaky_relu": lambda t, x, slope=0.01: t.activation("leaky_relu", x, slope),
    "prelu": _prelu,
    "elu": _elu,
    "selu": _selu,
    "celu": lambda t, x, alpha=1.0: _elu(t, x, alpha, 1.0, 1 / alpha),
    "gelu": _gelu,
    "glu": _glu,
    "silu": _times(lambda t, x: t.activation("sigmoid", x)),
    "mish": _times(lambda t, x: t.activation("tanh", t.activation("softplus", x))),
    "hardsigmoid": _hard_sigmoid,
    "hardswish": _times(_hard_sigmoid),
    "softplus": _softplus,
    "log_sigmoid": lambda t, x: t.pointwise("neg", _softplus(t, t.pointwise("neg", x))),
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "alpha_dropout": _dropout,
    "linear": lambda t, x, weight, bias=None: t.linear(x, weight, bias),
    "matmul": lambda t, a, b: t.matmul(a, b),
    "mm": lambda t, a, b: t.matmul(a, b),
    "bmm": lambda t, a, b: t.matmul(a, b),
    "mv": lambda t, a, b: t.matmul(a, b),
    "dot": lambda t, a, b: t.reduce("sum", t.pointwise("mul", a, b), [-1], False),
    "addmm": _addmm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "mean": _reduction("mean"),
    "sum": _reduction("sum"),
    "prod": _reduction("prod"),
    "amax": _reduction("max"),
    "amin": _reduction("min"),
    "max": _extreme("max"),
    "min": _extreme("min"),
    "argmax": _argmax,
    "var": _var,
    "std": _std,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
}
