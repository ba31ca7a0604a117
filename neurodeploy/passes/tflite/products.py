"""Rules for products and sums: FULLY_CONNECTED with constants as its bias, and ADD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.fixed_point import zero_of
from neurodeploy.ir.tflite.pointwise import add_factors
from neurodeploy.ir.tflite.products import fully_connected_factor
from neurodeploy.ir.types import NUMPY_DTYPES, Quant, TensorType
from neurodeploy.passes.tflite.rounding import TOPS, Rounded, narrow_weights, rounded
from neurodeploy.passes.tflite.row_scales import factors
from neurodeploy.passes.tflite.scales import Form, even, f32, narrow, step
from neurodeploy.passes.tflite.stage import Rule, StageQuantizer

#: The greatest accumulator, and the greatest factor of one, that FULLY_CONNECTED multiplies (kernels' common.cc).
ACCUMULATOR = {"i8": 1 << 31, "i16": 1 << 47}
#: Biases are kept at half of that: where weights are tiny beside theirs, the weights' scale is coarser.
MOST_BIAS = {dtype: float(top >> 1) for dtype, top in ACCUMULATOR.items()}
FACTOR = {"i8": 1 << 31, "i16": 64}
#: A term of a sum takes the sum's form if its own step is at least this share of it.
NEAR = 0.9
BIAS = {"i8": "i32", "i16": "i64"}


def fully_connected(q: StageQuantizer, value: Value, bias: np.ndarray | None, name: str, form: Form) -> str:
    """``W @ x`` or ``x @ W`` plus a bias, made in ``form`` or (where the kernel can't) coarser and then rescaled.

    It is computed in the narrower of the dtypes of its argument and of ``form``, and with 4-bit weights in i8.
    """
    return _product(q, value, bias, name, form, spills=False)[0]


def _product(
    q: StageQuantizer, value: Value, bias: np.ndarray | None, name: str, form: Form, spills: bool
) -> tuple[str, np.ndarray | float]:
    """The same, and what its weights lose in the mean, to be added elsewhere: nothing unless it ``spills``."""
    x, weights, stem = _factors(q, value)
    bits = q.scales.widths.bits(q.stage.name, stem)
    dtype = "i8" if bits == 4 or "i8" in (q.held(x).dtype, form.dtype) else "i16"
    moment = q.moments.get((q.stage.name, x))
    x = q.cast(x, dtype)
    rows = len(weights)
    full = np.zeros(rows) if bias is None else np.broadcast_to(bias, (rows,)).astype(np.float64)
    moves = spills or bias is not None
    least = np.abs(full) / (f32(q.held(x).scale) * MOST_BIAS[dtype])
    if bits == 4:
        scale, found = narrow_weights(weights, float(least.max(initial=0)), full, moment, moves)
        scales = np.array([scale])
    else:
        tops = q.tops[value.name] / TOPS[8]
        tops = np.maximum(tops, least if len(tops) > 1 else least.max(initial=0))
        scales = np.array([step(float(top)) for top in tops])
        found = rounded(weights, scales, TOPS[8], full, moment, moves)
    args = [x, *_params(q, x, found, scales, stem, f"{name}_bias" if bias is not None else None)]
    wide = form if form.dtype == dtype else form.narrowed()
    result = wide.of((*q.types[x].shape[:-1], rows))
    made_in = _made_in(q, args, wide, result)
    shape = q.stage.graph.tensor(value.name).shape
    attrs = {} if bits == 8 else {"weight_bits": bits}
    made = name if made_in == form else q.fresh(f"{name}_raw")
    if result.shape == shape:
        q.emit("tfl_fully_connected", args, made_in, made, **attrs)
    else:
        raw = q.emit("tfl_fully_connected", args, made_in, q.fresh(f"{name}_rows"), **attrs)
        q.emit("reshape", [raw], made_in, made, shape=list(shape))
    lost = found.bias if spills else 0.0
    return (made if made_in == form else q.rescale(made, form, name)), lost


def _factors(q: StageQuantizer, value: Value) -> tuple[str, np.ndarray, str]:
    """The computed factor, the weights ``[rows, columns]`` and their name."""
    if found := factors(q, value):
        return found
    raise UnsupportedError(
        "multiplies two computed values; TFLite Micro has FULLY_CONNECTED with constant weights.",
        place=q.place(value.name),
        hint="Choose a C target.",
    )


def _params(q: StageQuantizer, x: str, found: Rounded, scales: np.ndarray, stem: str, bias: str | None) -> list[str]:
    """The params of the weights, and of the bias if it has a name."""
    held, axis = q.held(x), 0 if len(scales) > 1 else None
    into = f32(held.scale)

    def steps(factor: float) -> Quant:
        made = tuple(f32(factor * float(s)) for s in scales)
        return Quant(made, 0, axis) if axis is not None else Quant(made[0])

    made = [q.param(stem, found.whole * scales[:, None], Form("i8", steps(1.0)))]
    if bias is not None:
        made.append(q.param(bias, found.bias, Form(BIAS[held.dtype], steps(into))))
    return made


def _made_in(q: StageQuantizer, args: Sequence[str], form: Form, result: TensorType) -> Form:
    """The form, or one so much coarser that no accumulator overflows. Raises :class:`UnsupportedError`."""
    worst = _overflow(q, args, result)
    return form if worst < 1 else form.at(form.scale * worst * 2)


def sums(q: StageQuantizer, args: Sequence[str], result: TensorType) -> bool:
    """Whether a FULLY_CONNECTED can be as fine as that."""
    return _overflow(q, args, result) < 1


def _overflow(q: StageQuantizer, args: Sequence[str], result: TensorType) -> float:
    """By how much a multiplied accumulator may be too large, below 1 if it never is."""
    x, w, *bias = args
    dtype = q.types[x].dtype
    reach = float(np.iinfo(q.types[x].numpy).max + 1 + abs(zero_of(q.types[x])))
    size = np.abs(q.params[w].data.astype(np.float64)).sum(axis=1) * reach
    if bias:
        size = size + np.abs(q.params[bias[0]].data.astype(np.float64))
    if size.max(initial=0) >= ACCUMULATOR[dtype]:
        raise UnsupportedError(
            f"sums up to {size.max():.3g}; TFLite Micro's accumulator holds {ACCUMULATOR[dtype]:.3g}.",
            place=q.place(w),
            hint="Choose activation_dtype=i16, or a C target.",
        )
    factor = fully_connected_factor(q.types[x], q.types[w], result)
    return float(np.max(np.maximum(factor / FACTOR[dtype], factor * size / (1 << 30)), initial=0))


def _add(q: StageQuantizer, value: Value) -> None:
    """A sum: its constants become the bias of its last product, or one operand."""
    leaves = q.terms(value.name)
    fixed = [leaf for leaf in leaves if leaf in q.known]
    moving = [leaf for leaf in leaves if leaf not in q.known]
    products = [leaf for leaf in moving if q.product(leaf)]
    total = sum((np.asarray(q.known[leaf], np.float64) for leaf in fixed), np.zeros(()))
    takes = products[-1] if fixed and products and _takes(q, products[-1], total, value) else None
    target = q.form(value.name)
    if any(q.held(leaf).dtype == "i16" for leaf in moving if leaf not in products):
        target = q.in_dtype(value.name, "i16")
    parts: list[tuple[str, tuple[float, float]]] = []
    alone = len(moving) == 1 and (not fixed or takes is not None)
    for leaf in moving:
        span = q.span(leaf)
        if leaf not in products:
            parts.append((leaf, span))
            continue
        bias = total if leaf == takes else None
        spills = takes is not None and leaf != takes and q.same_shape(leaf, value.name)
        if bias is not None:
            span = _sum_of(span, (float(np.min(total, initial=0)), float(np.max(total, initial=0))))
        name = value.name if alone else q.fresh(f"{leaf}_biased") if bias is not None else leaf
        form = target if alone else _term(q, value, q.made[leaf], target, span)
        made, lost = _product(q, q.made[leaf], bias, name, form, spills)
        total = total + lost
        parts.append((made, span))
    if alone:
        return
    if fixed and takes is None:
        name = q.fresh(f"{value.name}_const")
        q.known[name] = total
        parts.append((name, q.span(name)))
    (left, reach), *rest = parts
    for i, (right, span) in enumerate(rest):
        reach = _sum_of(reach, span)
        last = i == len(rest) - 1
        name = value.name if last else q.fresh(f"{value.name}_part")
        if last:
            summed(q, "tfl_add", left, right, name, target)
        else:
            left = added(q, "tfl_add", left, right, name, q.span_form(*reach, target.dtype))


def _takes(q: StageQuantizer, product: str, constants: np.ndarray, value: Value) -> bool:
    """Whether a product can have the constants of its sum as its bias: one number for each row of its weights."""
    rows = len(_factors(q, q.made[product])[1])
    ranked = len(q.stage.graph.tensor(value.name).shape) >= 1
    return ranked and q.same_shape(product, value.name) and constants.shape in ((), (rows,))


def _term(q: StageQuantizer, total: Value, product: Value, target: Form, span: tuple[float, float]) -> Form:
    """The form of a product in a sum; one of 8 bits, which CAST widens, where it is made in 8 and the sum in 16."""
    x, _, stem = _factors(q, product)
    dtypes = q.held(x).dtype, q.scales.products((q.stage.name, total.name))
    if target.dtype == "i16" and ("i8" in dtypes or q.scales.widths.bits(q.stage.name, stem) == 4):
        return Form("i8", narrow(*span, centred=True))
    return _near(q, target, span)


def _near(q: StageQuantizer, target: Form, span: tuple[float, float]) -> Form:
    """A term's own form, or the sum's where that holds the term and is hardly coarser: a file holds it once."""
    own, limits = q.span_form(*span, target.dtype), np.iinfo(NUMPY_DTYPES[target.dtype])
    zero = 0 if target.quant is None else target.quant.zero_point
    low, high = ((int(edge) - zero) * target.scale for edge in (limits.min, limits.max))
    room = q.scales.headroom
    holds = low <= span[0] * room and span[1] * room <= high
    return target if holds and NEAR * target.scale <= own.scale <= target.scale else own


def _sum_of(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]


def adds(q: StageQuantizer, args: Sequence[str], result: TensorType) -> bool:
    """Whether an ADD or SUB can be as fine as that (TFLM aborts the whole process otherwise)."""
    return add_factors(q.types[args[0]], q.types[args[1]], result)[2] < 0.999


def added(q: StageQuantizer, op: str, left: str, right: str, name: str, form: Form) -> str:
    """An ADD or SUB; its kernel can't make a result finer than 1/16384 (at i8 2^-19) of its coarser argument."""
    left, right = (q.operand(a, form.dtype) for a in (left, right))
    if adds(q, [left, right], form.of(())):
        return q.emit(op, [left, right], form, name)
    worst = add_factors(q.types[left], q.types[right], form.of(()))[2]
    coarser = form.scale * worst * 1.01
    made_in = form.at(even(coarser) if form.dtype == "i16" else coarser)
    raw = q.emit(op, [left, right], made_in, q.fresh(f"{name}_raw"))
    return q.rescale(raw, form, name)


def summed(q: StageQuantizer, op: str, left: str, right: str, name: str, form: Form) -> None:
    """An ADD or SUB made in ``form``, and brought to the form of its class if that differs."""
    if form == q.form(name):
        added(q, op, left, right, name, form)
    else:
        q.rescale(added(q, op, left, right, q.fresh(f"{name}_wide"), form), q.form(name), name)


RULES: Mapping[str, Rule] = {"add": _add}
