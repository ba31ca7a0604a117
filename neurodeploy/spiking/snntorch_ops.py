"""The meaning of the IR's integer ops on float64 tensors of whole numbers; conditions are bool tensors.

A tensor is ``[batch or 1, ...]``. Every result is a whole number below 2^53, so it is exact. ``random`` goes through
the interpreter's Philox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurodeploy.ir import fixed
from neurodeploy.ir.fixed import LUT_STEP_BITS, lut_rounding
from neurodeploy.ir.op import axis_of
from neurodeploy.ir.ops_math import einsum_terms
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.ir.types import TensorType, int_range

Types = Sequence[Any]
#: ``(arguments, attributes, result's type, arguments' types) -> tensor``.
Rule = Callable[[list[Tensor], Mapping[str, Any], TensorType, Types], Tensor]


def align(args: Sequence[Tensor]) -> list[Tensor]:
    """Axes inserted behind the batch's, so that shapes of samples broadcast from the right."""
    rank = max(a.ndim for a in args)
    return [a.reshape(a.shape[:1] + (1,) * (rank - a.ndim) + a.shape[1:]) for a in args]


def batched(args: Sequence[Tensor]) -> list[Tensor]:
    """All with one batch."""
    batch = max(len(a) for a in args)
    return [a.expand(batch, *a.shape[1:]) for a in args]


def _clip(x: Tensor, dtype: str) -> Tensor:
    return x.clamp(*int_range(dtype))


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    return lambda args, attrs, type_, types: function(*align(args))


def _one(function: Callable[[Tensor], Tensor]) -> Rule:
    return lambda args, attrs, type_, types: function(args[0])


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """To the nearest, halves away from zero; ``x / 0`` is i32's extreme of x's sign, ``0 / 0`` 0."""
    size = b.abs()
    quotient = torch.floor((a.abs() + torch.floor(size / 2)) / size.clamp(min=1))
    low, high = int_range("i32")
    beyond = (a > 0).double() * float(high) + (a < 0).double() * float(low)
    return torch.where(b == 0, beyond, torch.where((a < 0) != (b < 0), -quotient, quotient))


def _root(x: Tensor) -> Tensor:
    """Of 32 bits: float64's root is rounded too finely to reach the next whole number."""
    return torch.floor(torch.sqrt(x.clamp(min=0)))


def _select(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    return torch.where(*align(args))  # type: ignore[call-overload]


def _cast(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    x = args[0]
    if type_.dtype == "bool":
        return x != 0
    return _clip(x.double(), type_.dtype)


def _matmul(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    a, b = args
    left = {1: "Zk", 2: "Zmk"}[a.ndim - 1]
    right = {1: "Zk", 2: "Zkn"}[b.ndim - 1]
    return torch.einsum(f"{left},{right}->Z{left[1:-1]}{right[2:]}", *batched(args))


def _einsum(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    _, terms, out = einsum_terms(attrs, len(args))
    return torch.einsum(f"{','.join('Z' + term for term in terms)}->Z{out}", *batched(args))


def _sum(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    return args[0].sum(dim=axis_of(attrs, types[0].shape) + 1, keepdim=bool(attrs.get("keepdims")))


def _reduce_max(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    return args[0].amax(dim=axis_of(attrs, types[0].shape) + 1, keepdim=bool(attrs.get("keepdims")))


def _argmax(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    """The first of equal ones, which torch's own doesn't promise."""
    axis = axis_of(attrs, types[0].shape) + 1
    top = args[0] == args[0].amax(dim=axis, keepdim=True)
    first = (top.cumsum(dim=axis) == 0).sum(dim=axis, keepdim=bool(attrs.get("keepdims")))
    return first.double()


def _requantize(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    x, mult = align(args)
    return _clip(torch.floor(x * (mult * 2.0 ** (attrs.get("pre", 0) - 32)) + 0.5), type_.dtype)


def _lut(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    x, table = args
    place = x + 32768
    knot = torch.floor(place / 2**LUT_STEP_BITS)
    part, at = place - 2**LUT_STEP_BITS * knot, knot.long()
    if len(table) == 1:
        low, high = table[0][at], table[0][at + 1]
    else:
        flat = at.reshape(len(at), -1)
        low, high = (torch.gather(table, 1, flat + i).reshape(at.shape) for i in (0, 1))
    offset, shift = lut_rounding(attrs)
    return torch.floor((low * (128 - part) + high * part + offset) / 2**shift)


def _concat(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    return torch.cat(batched(args), dim=axis_of(attrs, type_.shape) + 1)


def _slice(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    axis, start, stop, step = slice_bounds(attrs, types[0].shape)
    return args[0][(slice(None),) * (axis + 1) + (slice(start, stop, step),)]


def _reshape(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    return args[0].reshape(-1, *type_.shape)


def _transpose(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    return args[0].permute(0, *(p + 1 for p in attrs["perm"]))


def _broadcast(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    x = args[0].reshape(len(args[0]), *(1,) * (len(type_.shape) - args[0].ndim + 1), *args[0].shape[1:])
    return x.expand(len(x), *type_.shape)


def _gather(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    """``take(data, index, axis)``; an index outside the axis is moved to its nearest end."""
    axis, shape = axis_of(attrs, types[0].shape), types[1].shape
    data, index = batched(args)
    index = index.long().clamp(0, types[0].shape[axis] - 1)
    rows = data.movedim(axis + 1, 1)
    taken = rows[torch.arange(len(data))[:, None], index.reshape(len(data), -1)]
    taken = taken.reshape(len(data), *shape, *rows.shape[2:])
    return taken.movedim(tuple(range(1, 1 + len(shape))), tuple(range(axis + 1, axis + 1 + len(shape))))


def _inside(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A usable index, and whether it is one."""
    inside = (index >= 0) & (index < count)
    return torch.where(inside, index, 0.0).long(), inside


def _row(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    """Zeros for an index outside the table."""
    table, index = batched(args)
    at, inside = _inside(index, table.shape[1])
    rows = table[torch.arange(len(table)), at]
    return torch.where(inside.reshape(-1, *(1,) * (rows.ndim - 1)), rows, torch.zeros((), dtype=rows.dtype))


def _put(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    """The table as it is for an index outside it."""
    table, index, row = batched(args)
    at, inside = _inside(index, table.shape[1])
    here = (torch.arange(table.shape[1]) == at[:, None]) & inside[:, None]
    return torch.where(here.reshape(*here.shape, *(1,) * (table.ndim - 2)), row[:, None], table)


def _shift(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    line, new = batched(args)
    return torch.cat([line[:, 1:], new[:, None]], dim=1)


def _const(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    value = np.asarray(attrs["value"]).astype(type_.numpy)[None]
    return torch.from_numpy(value if type_.dtype == "bool" else value.astype(np.float64))


def _random(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Types) -> Tensor:
    counter = args[0].long().numpy().astype(np.int32)
    made = fixed.philox(counter.astype(np.uint32), type_.size, attrs["seed"]).reshape(-1, *type_.shape)
    return torch.from_numpy((made >> np.uint32(17)).astype(np.float64))


#: Ops of integer programs: what isn't here (quantize, dequantize, float arithmetic) is refused by name.
OPS: Mapping[str, Rule] = {
    "add": _pair(torch.add),
    "sub": _pair(torch.sub),
    "mul": _pair(torch.mul),
    "div": _pair(_divide),
    "min": _pair(torch.minimum),
    "max": _pair(torch.maximum),
    "neg": _one(torch.neg),
    "abs": _one(torch.abs),
    "sqrt": _one(_root),
    "relu": _one(torch.relu),
    "eq": _pair(torch.eq),
    "lt": _pair(torch.lt),
    "ne": _pair(torch.ne),
    "select": _select,
    "cast": _cast,
    "matmul": _matmul,
    "einsum": _einsum,
    "sum": _sum,
    "reduce_max": _reduce_max,
    "argmax": _argmax,
    "requantize": _requantize,
    "lut": _lut,
    "concat": _concat,
    "slice": _slice,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast": _broadcast,
    "gather": _gather,
    "row": _row,
    "put": _put,
    "shift": _shift,
    "const": _const,
    "random": _random,
}
