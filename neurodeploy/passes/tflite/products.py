"""Rules for products and sums: FULLY_CONNECTED with constants as its bias, and ADD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.pointwise import add_factors
from neurodeploy.ir.tflite.products import fully_connected_factor
from neurodeploy.ir.types import Quant
from neurodeploy.passes.tflite.scales import Form, f32
from neurodeploy.passes.tflite.stage import Rule, StageQuantizer


def fully_connected(q: StageQuantizer, value: Value, bias: np.ndarray | None, name: str, form: Form) -> str:
    """``W @ x`` or ``x @ W`` plus a bias, made in ``form`` or (where the kernel can't) coarser and then rescaled."""
    first, second = value.args
    if second in q.known:
        x, weights, stem = first, q.known[second].reshape(len(q.known[second]), -1).T, second
    elif first in q.known and len(q.stage.graph.tensor(second).shape) == 1:
        x, weights, stem = second, q.known[first].reshape(-1, q.known[first].shape[-1]), first
    else:
        raise UnsupportedError(
            "multiplies two computed values; TFLite Micro has FULLY_CONNECTED with constant weights.",
            place=q.place(value.name),
            hint="Choose a C target.",
        )
    weights = weights.astype(np.float64)
    tops = np.abs(weights).max(axis=1, initial=0)
    tops = np.where(tops > 0, tops, tops.max(initial=0) or 1.0)
    scales = tuple(f32(t / 127) for t in tops)
    args = [x, q.param(stem, weights, Form("i8", Quant(scales, 0, 0)))]
    into = f32(q.held(x).scale)
    if bias is not None:
        steps = tuple(f32(into * s) for s in scales)
        full = np.broadcast_to(bias, (len(weights),))
        args.append(q.param(f"{name}_bias", full, Form("i64", Quant(steps, 0, 0))))
    result = form.of((*q.types[x].shape[:-1], len(weights)))
    worst = float(np.max(fully_connected_factor(q.types[x], q.types[args[1]], result)))
    made_in = form if worst < 64 else form.at(form.scale * worst / 32)
    shape = q.stage.graph.tensor(value.name).shape
    made = name if made_in == form else q.fresh(f"{name}_raw")
    if result.shape == shape:
        q.emit("tfl_fully_connected", args, made_in, made)
    else:
        raw = q.emit("tfl_fully_connected", args, made_in, q.fresh(f"{name}_rows"))
        q.emit("reshape", [raw], made_in, made, shape=list(shape))
    return made if made_in == form else q.rescale(made, form, name)


def _matmul(q: StageQuantizer, value: Value) -> None:
    fully_connected(q, value, None, value.name, q.form(value.name))


def _add(q: StageQuantizer, value: Value) -> None:
    """A sum: its constants become the bias of its last product, or one operand."""
    leaves = q.terms(value.name)
    fixed = [leaf for leaf in leaves if leaf in q.known]
    moving = [leaf for leaf in leaves if leaf not in q.known]
    products = [leaf for leaf in moving if q.product(leaf)]
    total = sum((np.asarray(q.known[leaf], np.float64) for leaf in fixed), np.zeros(()))
    shape = q.stage.graph.tensor(value.name).shape
    takes = (
        products[-1]
        if fixed
        and products
        and total.shape in ((), shape[-1:])
        and q.same_shape(products[-1], value.name)
        and len(shape) >= 1
        else None
    )
    parts: list[tuple[str, float]] = []
    alone = len(moving) == 1 and (not fixed or takes is not None)
    for leaf in moving:
        span = q.span(leaf)
        if leaf not in products:
            parts.append((leaf, span))
            continue
        bias = total if leaf == takes else None
        span += float(np.abs(total).max()) if bias is not None else 0.0
        name = value.name if alone else q.fresh(f"{leaf}_biased") if bias is not None else leaf
        form = q.form(value.name) if alone else q.span_form(span)
        parts.append((fully_connected(q, q.made[leaf], bias, name, form), span))
    if alone:
        return
    if fixed and takes is None:
        name = q.fresh(f"{value.name}_const")
        q.known[name] = total
        parts.append((q.operand(name), float(np.abs(total).max(initial=0))))
    (left, reach), *rest = parts
    for i, (right, span) in enumerate(rest):
        reach += span
        if i == len(rest) - 1:
            added(q, "tfl_add", left, right, value.name, q.form(value.name))
        else:
            left = added(q, "tfl_add", left, right, q.fresh(f"{value.name}_part"), q.span_form(reach))


def added(q: StageQuantizer, op: str, left: str, right: str, name: str, form: Form) -> str:
    """An ADD or SUB; its kernel can't make a result finer than 1/16384 of its coarser argument."""
    worst = add_factors(q.types[left], q.types[right], form.of(()))[2]
    if worst < 0.999:
        return q.emit(op, [left, right], form, name)
    raw = q.emit(op, [left, right], form.at(form.scale * worst * 1.01), q.fresh(f"{name}_raw"))
    return q.rescale(raw, form, name)


def _sum_axis(q: StageQuantizer, value: Value) -> None:
    """A sum over the last axis: a product with ones."""
    source = q.stage.graph.tensor(value.args[0])
    axis = value.attrs.get("axis", 0) % len(source.shape)
    if axis != len(source.shape) - 1:
        raise UnsupportedError(
            f"sums over axis {axis} of {source.shape}; only the last one is supported.", place=q.place(value.name)
        )
    ones = q.fresh(f"{value.name}_ones")
    q.known[ones] = np.ones((source.shape[-1], 1))
    fully_connected(q, replace(value, args=(value.args[0], ones)), None, value.name, q.form(value.name))


RULES: Mapping[str, Rule] = {"matmul": _matmul, "add": _add, "sum": _sum_axis}
