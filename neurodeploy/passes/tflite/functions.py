"""Rules for products of computed values, sums, softmax, quotients and the functions that TFLM has no integer op for.

A function of an i8 is a table of all its 256 results. One of an i16 is a sum of ramps
(:mod:`~neurodeploy.passes.tflite.ramps`). A chain of functions of one value (``1 / sqrt(x + c)``) is one function. A
quotient is a product with a reciprocal, computed with 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.op import Array
from neurodeploy.ir.tflite.functions import batch_matmul_factor
from neurodeploy.ir.tflite.pointwise import mul_factor
from neurodeploy.ir.types import Quant, int_range
from neurodeploy.passes.tflite import pointwise, products, ramps
from neurodeploy.passes.tflite.scales import Form, f32
from neurodeploy.passes.tflite.stage import UPSCALE, Rule, StageQuantizer

Function = Callable[[Array], Array]

FUNCTIONS: Mapping[str, Function] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "softplus": lambda x: np.logaddexp(0.0, x),
}
#: What a chain takes in where one side is a constant number.
WITH_NUMBER: Mapping[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}
#: The size of a product of two, less their zero points.
LARGEST_PRODUCT = {"i8": 255 * 255, "i16": 1 << 30}
SOFTMAX = {"i8": Quant(2.0**-8, -128), "i16": Quant(2.0**-15)}
#: A reciprocal's greatest value over its least: beyond, nothing would be left of 16 bits for the least.
RECIPROCALS = 256.0
#: The share of a function's range below which the error of its ramps goes without a warning.
GOOD = 2.0**-10


# -- products and sums -------------------------------------------------------------------------------------------------


def _matmul(q: StageQuantizer, value: Value) -> None:
    first, second = value.args
    shapes = [q.stage.graph.tensor(a).shape for a in value.args]
    if second in q.known or (first in q.known and len(shapes[1]) == 1):
        products.fully_connected(q, value, None, value.name, q.form(value.name))
        return
    target = q.form(value.name)
    left, right = (q.operand(a, target.dtype) for a in value.args)
    left = _reshaped(q, left, shapes[0] if len(shapes[0]) == 2 else (1, *shapes[0]))
    right = _reshaped(q, right, shapes[1] if len(shapes[1]) == 2 else (*shapes[1], 1))
    factor = batch_matmul_factor(q.types[left], q.types[right], target.of(()))
    worst = factor * shapes[0][-1] * LARGEST_PRODUCT[target.dtype] / (1 << 30)
    made_in = target if worst < 1 else target.at(target.scale * worst * 1.01)
    shape = (*shapes[0][:-1], *shapes[1][1:])
    if len(shape) == 2:
        q.finish("tfl_batch_matmul", [left, right], made_in, value.name)
        return
    made = q.emit("tfl_batch_matmul", [left, right], made_in, q.fresh(f"{value.name}_wide"))
    q.finish("reshape", [made], made_in, value.name, shape=list(shape))


def _reshaped(q: StageQuantizer, name: str, shape: tuple[int, ...]) -> str:
    if q.types[name].shape == shape:
        return name
    if name in q.params:
        q.params[name] = type(q.params[name])(q.held(name).of(shape), q.params[name].data.reshape(shape))
        q.types[name] = q.params[name].type
        return name
    return q.emit("reshape", [name], q.held(name), q.fresh(f"{name}_as"), shape=list(shape))


def _sum(q: StageQuantizer, value: Value) -> None:
    (x,) = q.operands(value)
    target, shape = q.in_dtype(value.name, q.held(x).dtype), q.types[x].shape
    count = shape[value.attrs.get("axis", 0) % len(shape)]
    finest = q.held(x).scale * count / (1 << UPSCALE[target.dtype])
    q.finish("tfl_sum", [x], target if target.scale > finest else target.at(finest), value.name, **value.attrs)


def _softmax(q: StageQuantizer, value: Value) -> None:
    """Along the last axis; at i16 differences from 10 on are 0, so that an argument coarser than 1 may saturate."""
    if value.attrs.get("axis", 0) % len(value.tensor.shape) != len(value.tensor.shape) - 1:
        raise UnsupportedError(
            f"softmax along axis {value.attrs.get('axis', 0)} of {value.tensor.shape}; TFLite Micro has the last one.",
            place=q.place(value.name),
            hint="Run the pass decompose_tflite first.",
        )
    (x,) = q.operands(value)
    if q.held(x).scale > 1:
        x = q.at(x, q.held(x).at(1.0))
    q.finish("tfl_softmax", [x], Form(q.held(x).dtype, SOFTMAX[q.held(x).dtype]), value.name)


# -- functions ---------------------------------------------------------------------------------------------------------


class Chain(NamedTuple):
    """A chain of functions: the value that it begins with, what it makes of it, and the values that it takes in."""

    source: str
    function: Function
    links: tuple[str, ...] = ()


def chain(q: StageQuantizer, name: str) -> Chain:
    """The chain that ends in a value; what a sum takes in, or another value uses, ends it."""
    value, stop = q.made.get(name), Chain(name, lambda x: x)
    if value is None or name in q.known or q.uses[name] != 1:
        return stop
    if value.op in FUNCTIONS:
        moving, outer = value.args[0], FUNCTIONS[value.op]
    elif value.op in WITH_NUMBER and (found := _with_number(q, value)):
        moving, outer = found
    else:
        return stop
    if moving in q.sums:
        return stop
    source, inner, links = chain(q, moving)
    return Chain(source, lambda x: outer(inner(x)), (name, *links))


def links(q: StageQuantizer) -> set[str]:
    """Every value that a longer chain takes in."""
    found: set[str] = set()
    for value in q.made.values():
        if getattr(q.source[value.name], "dtype", None) != "f32":  # a composite of several results has none
            continue
        if value.op in FUNCTIONS:
            found.update(chain(q, value.args[0]).links)
        elif value.op == "div" and value.args[1] not in q.known:
            found.update(chain(q, value.args[1]).links)
    return found


def _with_number(q: StageQuantizer, value: Value) -> tuple[str, Function] | None:
    """The computed side of an op whose other side is one number, and what the op makes of it."""
    first, second = value.args
    join = WITH_NUMBER[value.op]
    if _is_number(q, second) and first not in q.known and q.same_shape(first, value.name):
        return first, lambda x: join(x, np.asarray(q.known[second], np.float64).reshape(()))
    if _is_number(q, first) and second not in q.known and q.same_shape(second, value.name):
        return second, lambda x: join(np.asarray(q.known[first], np.float64).reshape(()), x)
    return None


def _is_number(q: StageQuantizer, name: str) -> bool:
    return name in q.known and np.size(q.known[name]) == 1


def _function(q: StageQuantizer, value: Value) -> None:
    source, inner, _ = chain(q, value.args[0])
    outer = FUNCTIONS[value.op]
    applied(q, source, lambda x: outer(inner(x)), value.name, q.form(value.name))


def _whole(q: StageQuantizer, value: Value) -> None:
    """Floor and round of 8 bits; with 16, which have no table, :mod:`~neurodeploy.passes.tflite.whole` makes them."""
    function = {"floor": np.floor, "round": np.rint}[value.op]
    applied(q, value.args[0], function, value.name, q.form(value.name))


def applied(q: StageQuantizer, source: str, function: Function, name: str, form: Form) -> None:
    """A function of a value in that form: a table where both have 8 bits, else ramps on the value with 16."""
    if form.dtype == "i8" and q.held(source).dtype == "i8":
        _tabled(q, source, function, name, form)
        return
    wide = form if form.dtype == "i16" else _widened(form)
    _ramps(q, q.cast(source, "i16"), source, function, name if wide == form else q.fresh(f"{name}_i16"), wide)
    if wide != form:
        q.rescale(q.values[-1].name, form, name)


def _tabled(q: StageQuantizer, source: str, function: Function, name: str, form: Form) -> None:
    held = q.types[source].quant
    zero = 0 if held is None else held.zero_point
    table = _values(q, function, (np.arange(-128, 128) - zero) * q.held(source).scale, name)
    q.emit("tfl_lookup", [source, q.param(f"{name}_table", table, form)], form, name)


def _values(q: StageQuantizer, function: Function, at: Array, name: str) -> Array:
    """The function's values; those that aren't finite lie between or beside their neighbours."""
    with np.errstate(all="ignore"):
        found = function(at)
    good = np.nonzero(np.isfinite(found))[0]
    if not len(good):
        raise UnsupportedError("is finite nowhere on its calibrated range.", place=q.place(name))
    return np.interp(np.arange(len(found)), good, found[good])


def _ramps(q: StageQuantizer, x: str, source: str, function: Function, name: str, form: Form) -> None:
    """Two FULLY_CONNECTED on the value as a column: ramps of it, and their sum."""
    shape, step = q.types[x].shape, q.held(x).scale
    low, high = _reach(q, source, step)

    def steps(whole: Array) -> Array:
        return _values(q, function, whole * step, name) / form.scale

    made = ramps.fit(steps, low, high)
    whole = np.arange(low, high + 1, dtype=np.float64)
    error = np.abs(np.clip(made(whole), -32768, 32767) - np.clip(steps(whole), -32768, 32767)).max()
    if error > GOOD * np.ptp(steps(whole).clip(-32768, 32767)):
        q.scales.warnings.append(
            f"'{name}', which TFLM lacks, is made of {len(made.weights)} straight segments, the most there are, and is "
            f"off by up to {error * form.scale:.3g}. Where that is too much, choose a C target."
        )
    column = _reshaped(q, x, (int(np.prod(shape)), 1))
    scales = tuple(f32(2.0 / (127 * w * step)) for w in made.widths)
    q.emit("tfl_fully_connected", [column, *_ramp_params(q, made, scales, step, name)],
           Form("i16", Quant(ramps.RAMP_SCALE)), ramp := q.fresh(f"{name}_ramps"))  # fmt: skip
    scale = f32(made.unit * form.scale)
    weights = q.param(f"{name}_rises", made.weights[None] * scale, Form("i8", Quant(scale)))
    bias = q.param(f"{name}_middle", np.array([made.middle * form.scale]), Form("i64", Quant(scale * ramps.RAMP_SCALE)))
    if shape == q.types[column].shape:
        q.emit("tfl_fully_connected", [ramp, weights, bias], form, name)
        return
    made_column = q.emit("tfl_fully_connected", [ramp, weights, bias], form, q.fresh(f"{name}_column"))
    q.emit("reshape", [made_column], form, name, shape=list(shape))


def _ramp_params(q: StageQuantizer, made: ramps.Ramps, scales: tuple[float, ...], step: float, name: str) -> list[str]:
    """Weights of 127, each on the scale of its segment, and the biases that centre the ramps."""
    weights = np.full((len(scales), 1), 127) * np.array(scales)[:, None]
    steps = tuple(f32(step * s) for s in scales)
    centres = -127 * (made.starts + made.widths / 2) * np.array(steps)
    return [
        q.param(f"{name}_slopes", weights, Form("i8", _by_row(scales))),
        q.param(f"{name}_centres", centres, Form("i64", _by_row(steps))),
    ]


def _by_row(scales: tuple[float, ...]) -> Quant:
    return Quant(scales[0]) if len(scales) == 1 else Quant(scales, 0, 0)


def _reach(q: StageQuantizer, source: str, step: float) -> tuple[int, int]:
    """The integers from the least to the greatest calibrated value, and somewhat beyond."""
    low, high = (float(v) for v in q.ranges[source])
    room = q.scales.headroom
    low, high = low * room if low < 0 else low / room, high * room if high > 0 else high / room
    least, most = int_range("i16")
    return max(int(np.floor(low / step)), least), min(int(np.ceil(high / step)), most)


def _div(q: StageQuantizer, value: Value) -> None:
    x, divisor = value.args
    if divisor in q.known:
        pointwise.RULES["div"](q, value)
        return
    source, inner, _ = chain(q, divisor)
    if _is_number(q, x) and q.same_shape(divisor, value.name):
        number = float(q.known[x].item())
        applied(q, source, lambda d: number / inner(d), value.name, q.form(value.name))
        return
    largest, bounded = _bounded(q, source, inner, value.name)
    form = Form("i16", Quant(f32(largest / 32767)))
    inverse = q.fresh(f"{value.name}_inverse")
    applied(q, source, bounded, inverse, form)
    target, x = q.form(value.name), q.operand(x, "i16")
    wide = target if target.dtype == "i16" else _widened(target)
    worst = mul_factor(q.types[x], q.types[inverse], wide.of(()))
    q.finish("tfl_mul", [x, inverse], wide if worst < 0.999 else wide.at(wide.scale * worst * 1.01), value.name)


def _widened(form: Form) -> Form:
    """An i16 with the range of this i8."""
    zero = 0 if form.quant is None else form.quant.zero_point
    return Form("i16", Quant(f32(form.scale * (128 + abs(zero)) / 32767)))


def _bounded(q: StageQuantizer, source: str, inner: Function, name: str) -> tuple[float, Function]:
    """A reciprocal's greatest size, and the reciprocal, none of it above 256 times the least."""
    low, high = (float(v) for v in q.ranges[source])
    with np.errstate(all="ignore"):
        seen = np.abs(1 / inner(np.linspace(low, high, 4096)))
    seen = seen[np.isfinite(seen)]
    if not len(seen):
        raise UnsupportedError("divides by 0 alone, in calibration.", place=q.place(name))
    most, limit = float(seen.max()), float(seen.min()) * RECIPROCALS
    if most > limit:
        q.scales.warnings.append(
            f"'{name}' divides by values that differ by a factor of {most / seen.min():.3g}: those below "
            f"{1 / limit:.3g} are taken for that."
        )
        most = limit
    most *= q.scales.headroom
    return most, lambda d: np.clip(1 / inner(d), -most, most)


RULES: Mapping[str, Rule] = {
    "matmul": _matmul,
    "sum": _sum,
    "softmax": _softmax,
    "div": _div,
    **dict.fromkeys(FUNCTIONS, _function),
    **dict.fromkeys(("floor", "round"), _whole),
}
