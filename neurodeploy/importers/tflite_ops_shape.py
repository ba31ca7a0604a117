"""TFLite's operators that move elements: their meaning doesn't depend on the element type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.tflite_step import Call, Rule, identifier, sample
from neurodeploy.ir.build import Sym
from neurodeploy.ir.graph import Param


def _reshape(call: Call) -> None:
    call.give(call.x())


def _transpose(call: Call) -> None:
    shape, perm = call.tensor().shape, [call.axis(p, len(call.tensor().shape)) for p in call.integers(1)]
    if sorted(perm) != list(range(len(shape))):
        raise IRError(f"permutes {len(shape)} axes by {perm}")
    if call.batched(shape) and perm[0] == 0:
        call.put("transpose", call.x(), perm=[p - 1 for p in perm[1:]])
    else:
        call.put("transpose", call.whole(), perm=perm)


def _concatenation(call: Call) -> None:
    if call.act:
        raise UnsupportedError("has a fused activation; TFLite Micro has none there.")
    shapes = [call.tensor(i).shape for i in range(len(call))]
    axis = call.axis(call.options["axis"], len(call.result().shape))
    if call.batched(*shapes) and axis:
        call.put("concat", *(call.x(i) for i in range(len(call))), axis=axis - 1)
    else:
        call.put("concat", *(call.whole(i) for i in range(len(call))), axis=axis)


def cut(call: Call, x: Sym, axis: int, start: int, stop: int, step: int = 1) -> Sym:
    """Elements along an axis, the whole of it as it is."""
    if (start, stop, step) == (0, x.shape[axis], 1):
        return x
    return call.emit("slice", x, quant=x.type.quant, axis=axis, start=start, stop=stop, step=step)


def _parts(call: Call, source: int, axis: int, sizes: Sequence[int]) -> None:
    """Output j: the j-th part along an axis."""
    shape = call.tensor(source).shape
    axis, start = call.axis(axis, len(shape)), 0
    if len(sizes) != len(call.operator.outputs) or sum(sizes) != shape[axis] or min(sizes) < 0:
        raise IRError(f"splits {shape[axis]} into {list(sizes)[:9]}, for {len(call.operator.outputs)} outputs")
    dropped = call.batched(shape) and axis > 0
    x = call.x(source) if dropped else call.whole(source)
    for j, size in enumerate(sizes):
        call.give(cut(call, x, axis - dropped, start, start + size), j)
        start += size


def _split(call: Call) -> None:
    (axis,), count = call.integers(0), len(call.operator.outputs)
    size = call.tensor(1).shape[call.axis(axis, len(call.tensor(1).shape))]
    _parts(call, 1, axis, [size // count] * count)


def _split_v(call: Call) -> None:
    (axis,), sizes = call.integers(2), call.integers(1)
    if -1 in sizes:
        whole = call.tensor().shape[call.axis(axis, len(call.tensor().shape))]
        sizes[sizes.index(-1)] = whole - sum(size for size in sizes if size >= 0)
    _parts(call, 0, axis, sizes)


def _ranges(call: Call, ranges: Sequence[tuple[int, int, int]]) -> None:
    """Output 0: along each axis of input 0 the indices from start, ``count`` of them, ``step`` apart."""
    shape = call.tensor().shape
    dropped = call.batched(shape) and ranges[0][:2] == (0, 1)
    x = call.x() if dropped else call.whole()
    for axis, (start, count, step) in enumerate(ranges):
        last = start + (count - 1) * step
        if count < 1 or not (0 <= start < shape[axis] and 0 <= last < shape[axis]):
            raise IRError(f"takes {count} entries from {start} by {step} of {shape[axis]} along axis {axis}")
        if dropped and axis == 0:
            continue
        if step > 0:
            x = cut(call, x, axis - dropped, start, last + 1, step)
        else:
            backwards = call.step.builder.param("indices", np.arange(start, last - 1, step, dtype=np.int32))
            x = call.emit("gather", x, backwards, quant=x.type.quant, axis=axis - dropped)
    call.give(x)


def _slice(call: Call) -> None:
    if call.step.array_or_none(call.operator.inputs[1]) is None:
        _slice_at(call)
        return
    shape, begin, size = call.tensor().shape, call.integers(1), call.integers(2)
    if not len(shape) == len(begin) == len(size):
        raise IRError(f"slices the shape {list(shape)} from {begin} by {size}")
    _ranges(call, [(b, n - b if s < 0 else s, 1) for n, b, s in zip(shape, begin, size, strict=True)])


def _slice_at(call: Call) -> None:
    """A SLICE whose beginning is computed, along the axes of which it doesn't take the whole."""
    shape, size, x = call.tensor().shape, call.integers(2), call.whole()
    if len(size) != len(shape) or any(not 0 < s <= n for s, n in zip(size, shape, strict=True)):
        raise UnsupportedError(f"slices {size} of {list(shape)} from a computed beginning.")
    for axis in range(len(shape)):
        if size[axis] < shape[axis]:
            index = _entry(call, 1, axis)
            if size[axis] > 1:
                ahead = call.step.builder.param("ahead", np.arange(size[axis], dtype=np.int32))
                index = call.emit("add", index, ahead)
            x = call.emit("gather", x, index, quant=x.type.quant, axis=axis)
    call.give(x)


def _entry(call: Call, i: int, axis: int) -> Sym:
    """One entry of a computed vector, as ``[1]``."""
    vector = call.whole(i)
    if vector.type.dtype != "i32":
        raise UnsupportedError(f"takes {vector.type} as where it begins; needed i32.")
    return cut(call, vector, 0, axis, axis + 1)


def _dynamic_update_slice(call: Call) -> None:
    """One row of a table replaced; a row outside of it is its nearest end's."""
    shape, update = call.tensor(0).shape, call.tensor(1).shape
    short = [axis for axis in range(len(shape)) if update[axis] != shape[axis]]
    dropped = call.batched(shape, update)
    if short != [int(dropped)] or update[short[0]] != 1:
        raise UnsupportedError(f"writes {list(update)} into {list(shape)}; needed one row of a table.")
    last = call.step.builder.param("last", np.int32(shape[short[0]] - 1))
    least = call.step.builder.param("least", np.int32(0))
    index = call.shaped(_entry(call, 2, short[0]), ())
    inside = call.emit("min", call.emit("max", index, least), last)
    table = call.x(0) if dropped else call.whole(0)
    call.put("put", table, inside, call.shaped(call.x(1), table.shape[1:]))


def _strided_slice(call: Call) -> None:
    """Bounds beyond the axis are moved to its ends, as in Python; masked bounds are the ends themselves."""
    shape, begin, end, by = call.tensor().shape, call.integers(1), call.integers(2), call.integers(3)
    options = call.options
    if options["ellipsis_mask"] or options["new_axis_mask"] or options["offset"]:
        raise UnsupportedError("has an ellipsis, a new axis or bounds that count from the start.")
    if not len(begin) == len(end) == len(by) <= len(shape) or 0 in by:
        raise IRError(f"slices the shape {list(shape)} from {begin} to {end} by {by}")
    ranges = [(0, size, 1) for size in shape]
    for axis, (first, last, step) in enumerate(zip(begin, end, by, strict=True)):
        if options["shrink_axis_mask"] >> axis & 1:
            ranges[axis] = (first % shape[axis] if -shape[axis] <= first < shape[axis] else first, 1, 1)
            continue
        low = None if options["begin_mask"] >> axis & 1 else first
        high = None if options["end_mask"] >> axis & 1 else last
        found = range(*slice(low, high, step).indices(shape[axis]))
        ranges[axis] = (found.start, len(found), step)
    _ranges(call, ranges)


def _pack(call: Call) -> None:
    shape = call.result().shape
    axis = call.axis(call.options["axis"], len(shape))
    entry = (*shape[:axis], 1, *shape[axis + 1 :])
    if call.batched(shape) and axis:
        call.put("concat", *(call.shaped(call.x(i), entry[1:]) for i in range(len(call))), axis=axis - 1)
    else:
        call.put("concat", *(call.shaped(call.x(i), entry) for i in range(len(call))), axis=axis)


def _unpack(call: Call) -> None:
    count = len(call.operator.outputs)
    _parts(call, 0, call.options["axis"], [1] * count)


#: A block that pads, or a matrix that resizes, has no more elements than this.
MOST_FILLED = 1 << 22


def filled(call: Call, like: Sym, shape: Sequence[int], number: float) -> Sym:
    """A constant block of one number, of another value's type."""
    if math.prod(shape) > MOST_FILLED:
        raise UnsupportedError(f"pads with {math.prod(shape)} elements; at most {MOST_FILLED} are.")
    type_ = like.type.with_(shape=tuple(shape))
    return call.step.builder.param("padding", Param(type_, np.full(type_.shape, number, type_.numpy)))


def bounded(call: Call, sizes: Sequence[int]) -> None:
    """Refuse results of another shape before arrays of it are made."""
    if tuple(sizes) != call.result().shape:
        raise IRError(f"gives {list(sizes)[:8]}, but the result is {list(call.result().shape)}")


def _pad(call: Call) -> None:
    """Zeros (or the number of PADV2) around: concatenations with constant blocks."""
    shape, around = call.tensor().shape, call.constant(1).reshape(-1, 2)
    if len(around) != len(shape) or around.min(initial=0) < 0:
        raise IRError(f"pads the shape {list(shape)} by {around.tolist()[:8]}")
    bounded(call, [n + sum(pair) for n, pair in zip(shape, around.tolist(), strict=True)])
    x = call.x() if (dropped := call.batched(shape) and not around[0].any()) else call.whole()
    quant = x.type.quant
    number = float(call.constant(2).reshape(-1)[0]) if call.has(2) else (quant.zero_point if quant is not None else 0)
    for axis, (before, after) in enumerate(around[int(dropped) :].tolist()):
        blocks = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (before, after)]
        parts = [filled(call, x, b, number) if b[axis] else None for b in blocks]
        joined = [part for part in (parts[0], x, parts[1]) if part is not None]
        if len(joined) > 1:
            x = call.emit("concat", *joined, quant=quant, axis=axis)
    call.give(x)


def _gather(call: Call) -> None:
    shape = call.tensor().shape
    axis, per_batch = call.axis(call.options["axis"], len(shape)), call.options["batch_dims"]
    if per_batch and (per_batch != 1 or not axis or not call.batched(shape, call.tensor(1).shape)):
        raise UnsupportedError(f"gathers per batch in {per_batch} axes; needed a batch of 1.")
    index = call.step.array_or_none(call.operator.inputs[1]) if call.has(1) else None
    if index is not None and index.size and not (0 <= index.min() and index.max() < shape[axis]):
        raise IRError(f"gathers entries {index.min()} to {index.max()} of {shape[axis]}")
    if call.batched(shape) and axis:
        call.put("gather", call.x(), call.x(1) if per_batch else call.whole(1), axis=axis - 1)
    else:
        call.put("gather", call.whole(), call.whole(1), axis=axis)


def _shape(call: Call) -> None:
    _constant(call, np.asarray(call.tensor().shape))


def _rank(call: Call) -> None:
    _constant(call, np.asarray(len(call.tensor().shape)))


def _zeros_like(call: Call) -> None:
    _constant(call, np.zeros(call.result().shape))


def _fill(call: Call) -> None:
    if call.step.array_or_none(call.operator.inputs[1]) is None:
        call.put("broadcast", call.whole(1), shape=list(sample(call.result().shape)))
    else:
        _constant(call, np.full(call.result().shape, call.constant(1).reshape(-1)[0]))


def _constant(call: Call, data: np.ndarray) -> None:
    """Output 0 is constant."""
    index, tensor = call.operator.outputs[0], call.result()
    type_ = call.step.type_of(tensor)
    call.step.known[index] = data.astype(type_.numpy).reshape(tensor.shape)
    param = Param(type_, call.step.known[index].reshape(type_.shape))
    call.step.symbols[index] = call.step.builder.param(identifier(tensor.name), param)


def _broadcast_to(call: Call) -> None:
    call.put("broadcast", call.x(), shape=list(sample(call.result().shape)))


def _select(call: Call) -> None:
    call.put("select", call.x(0), call.x(1), call.x(2))


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _reshape),
    "TRANSPOSE": _transpose,
    "CONCATENATION": _concatenation,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "PACK": _pack,
    "UNPACK": _unpack,
    "PAD": _pad,
    "PADV2": _pad,
    "GATHER": _gather,
    "DYNAMIC_UPDATE_SLICE": _dynamic_update_slice,
    "SHAPE": _shape,
    "RANK": _rank,
    "ZEROS_LIKE": _zeros_like,
    "FILL": _fill,
    "BROADCAST_TO": _broadcast_to,
    "SELECT": _select,
    "SELECT_V2": _select,
}
