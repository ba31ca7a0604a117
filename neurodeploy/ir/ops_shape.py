"""Primitives that move elements: concat, slice, reshape, transpose, broadcast, gather, rows of a table, delay lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, Op, align, axis_of, broadcast
from neurodeploy.ir.types import TensorType

ANY = frozenset({"float", "int", "bool"})
Attrs = Mapping[str, Any]
Types = Sequence[TensorType]


def _infer_concat(types: Types, attrs: Attrs) -> TensorType:
    axis = axis_of(attrs, types[0].shape)
    rests = {(t.dtype, t.shape[:axis] + t.shape[axis + 1 :]) for t in types if len(t.shape) == len(types[0].shape)}
    if len(rests) != 1 or any(len(t.shape) != len(types[0].shape) for t in types):
        raise IRError(f"concat along axis {axis} of {', '.join(map(str, types))} is not defined.")
    total = sum(t.shape[axis] for t in types)
    return TensorType(types[0].shape[:axis] + (total,) + types[0].shape[axis + 1 :], types[0].dtype)


def _eval_concat(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    batch = max(a.shape[0] for a in args)
    full = [a if a.shape[0] == batch else np.broadcast_to(a, (batch, *a.shape[1:])) for a in args]
    return np.concatenate(full, axis=axis_of(attrs, type_.shape) + 1)


def slice_bounds(attrs: Attrs, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """``(axis, start, stop, step)`` of a slice, all counted from the front. Raises :class:`IRError`."""
    axis = axis_of(attrs, shape)
    start, stop, step = attrs.get("start", 0), attrs.get("stop", shape[axis]), attrs.get("step", 1)
    if not (0 <= start < stop <= shape[axis] and step >= 1):
        raise IRError(f"slice {start}:{stop}:{step} along axis {axis} leaves shape {shape}.")
    return axis, start, stop, step


def _infer_slice(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    axis, start, stop, step = slice_bounds(attrs, shape)
    return TensorType(shape[:axis] + (-((start - stop) // step),) + shape[axis + 1 :], types[0].dtype)


def _eval_slice(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    axis, start, stop, step = slice_bounds(attrs, types[0].shape)
    return args[0][(slice(None),) * (axis + 1) + (slice(start, stop, step),)]


def _infer_reshape(types: Types, attrs: Attrs) -> TensorType:
    result = TensorType(tuple(attrs.get("shape", ())), types[0].dtype)
    if result.size != types[0].size:
        raise IRError(f"reshape of {types[0].shape} to {result.shape} changes the number of elements.")
    return result


def _infer_transpose(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    perm = attrs.get("perm")
    if perm is None or sorted(perm) != list(range(len(shape))):
        raise IRError(f"transpose of shape {shape} needs perm= a permutation of its axes; found {perm}.")
    return TensorType(tuple(shape[i] for i in perm), types[0].dtype)


def _infer_broadcast(types: Types, attrs: Attrs) -> TensorType:
    shape = tuple(attrs.get("shape", ()))
    if broadcast([types[0].shape, shape]) != shape:
        raise IRError(f"{types[0].shape} doesn't broadcast to {shape}.")
    return TensorType(shape, types[0].dtype)


def _eval_broadcast(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    x, _ = align([args[0], np.empty((1, *type_.shape), np.bool_)])
    return np.broadcast_to(x, (x.shape[0], *type_.shape))


def _index(t: TensorType, op: str) -> None:
    if not t.is_int:
        raise IRError(f"{op} needs an integer index, {t} given.")


def _infer_gather(types: Types, attrs: Attrs) -> TensorType:
    data, index = types
    _index(index, "gather")
    axis = axis_of(attrs, data.shape)
    return TensorType(data.shape[:axis] + index.shape + data.shape[axis + 1 :], data.dtype)


def _eval_gather(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """``take(data, index, axis)``; an index outside the axis is moved to its nearest end."""
    data, index = args
    axis = axis_of(attrs, types[0].shape)
    safe = np.clip(index.astype(np.int64), 0, types[0].shape[axis] - 1)
    if data.shape[0] == 1:
        taken = np.take(data[0], safe, axis=axis)
        return np.moveaxis(taken, axis, 0) if axis else taken
    batch = max(len(data), len(index))
    data = np.broadcast_to(data, (batch, *data.shape[1:]))
    safe = np.broadcast_to(safe, (batch, *index.shape[1:]))
    return np.stack([np.take(d, i, axis=axis) for d, i in zip(data, safe, strict=True)])


def _infer_row(types: Types, attrs: Attrs) -> TensorType:
    table, index = types
    _index(index, "row")
    if not table.shape or index.shape != ():
        raise IRError(f"row takes a table [n,...] and an index []; {table} and {index} given.")
    return TensorType(table.shape[1:], table.dtype)


def _eval_row(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """Row ``index`` of the table; zeros for an index outside it (a missing child)."""
    table, index = args
    batch = max(len(table), len(index))
    table = np.broadcast_to(table, (batch, *table.shape[1:]))
    index = np.broadcast_to(index, (batch,)).astype(np.int64)
    inside = (index >= 0) & (index < table.shape[1])
    rows = table[np.arange(batch), np.where(inside, index, 0)]
    return np.where(inside.reshape(-1, *(1,) * (rows.ndim - 1)), rows, np.zeros((), rows.dtype))


def _infer_put(types: Types, attrs: Attrs) -> TensorType:
    table, index, row = types
    _index(index, "put")
    if not table.shape or index.shape != () or row.shape != table.shape[1:] or row.dtype != table.dtype:
        raise IRError(
            f"put takes a table [n,...], an index [] and a row like the table's; {table}, {index}, {row} given."
        )
    return TensorType(table.shape, table.dtype)


def _eval_put(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """The table with row ``index`` replaced; unchanged for an index outside it."""
    table, index, row = args
    batch = max(len(a) for a in args)
    result = np.broadcast_to(table, (batch, *table.shape[1:])).copy()
    index = np.broadcast_to(index, (batch,)).astype(np.int64)
    inside = np.nonzero((index >= 0) & (index < table.shape[1]))[0]
    result[inside, index[inside]] = np.broadcast_to(row, (batch, *row.shape[1:]))[inside]
    return result


def _infer_shift(types: Types, attrs: Attrs) -> TensorType:
    line, new = types
    if not line.shape or new.shape != line.shape[1:] or new.dtype != line.dtype:
        raise IRError(f"shift takes a delay line [k,...] and a newest entry; {line} and {new} given.")
    return TensorType(line.shape, line.dtype)


def _eval_shift(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    """The line without its oldest entry (index 0), the new one at the end."""
    line, new = args
    batch = max(len(line), len(new))
    line = np.broadcast_to(line, (batch, *line.shape[1:]))
    return np.concatenate([line[:, 1:], np.broadcast_to(new, (batch, *new.shape[1:]))[:, None]], axis=1)


def _infer_const(types: Types, attrs: Attrs) -> TensorType:
    dtype = attrs.get("dtype", "f32")
    try:
        shape = np.asarray(attrs["value"]).shape
    except (KeyError, ValueError) as error:
        raise IRError("const needs value= a number or a rectangular list.") from error
    return TensorType(shape, dtype)


def _eval_const(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    return np.asarray(attrs["value"]).astype(type_.numpy)[None]


_OPS = (
    Op("concat", (1, 64), _infer_concat, _eval_concat, ANY, ("axis",)),
    Op("slice", (1, 1), _infer_slice, _eval_slice, ANY, ("axis", "start", "stop", "step")),
    Op("reshape", (1, 1), _infer_reshape, lambda a, at, t, ts: a[0].reshape(-1, *t.shape), ANY, ("shape",)),
    Op("transpose", (1, 1), _infer_transpose,
       lambda a, at, t, ts: a[0].transpose(0, *(p + 1 for p in at["perm"])), ANY, ("perm",)),
    Op("broadcast", (1, 1), _infer_broadcast, _eval_broadcast, ANY, ("shape",)),
    Op("gather", (2, 2), _infer_gather, _eval_gather, ANY, ("axis",)),
    Op("row", (2, 2), _infer_row, _eval_row, ANY),
    Op("put", (3, 3), _infer_put, _eval_put, ANY),
    Op("shift", (2, 2), _infer_shift, _eval_shift, ANY),
    Op("const", (0, 0), _infer_const, _eval_const, ANY, ("value", "dtype")),
)  # fmt: skip
SHAPE_OPS: dict[str, Op] = {op.name: op for op in _OPS}
