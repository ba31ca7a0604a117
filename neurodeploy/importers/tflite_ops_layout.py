"""TFLite's operators that repeat, mirror, resize and rearrange: a choice of entries along axes, or reshapes.

Which entry a resized image takes is that of tensorflow/tflite-micro, ``kernels/internal/reference``
(``resize_nearest_neighbor.h``, ``resize_bilinear.h``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.tflite_ops_shape import MOST_FILLED, bounded, cut, filled
from neurodeploy.importers.tflite_step import Call, Rule
from neurodeploy.ir.build import Sym


def _chosen(call: Call, indices: Sequence[np.ndarray]) -> None:
    """Output 0: along each axis of input 0 these entries."""
    shape = call.tensor().shape
    if len(indices) != len(shape):
        raise IRError(f"takes entries along {len(indices)} axes of {list(shape)}")
    if tuple(map(len, indices)) != call.result().shape:
        raise IRError(f"gives {[len(i) for i in indices]}, but the result is {list(call.result().shape)}")
    dropped = call.batched(shape) and len(indices[0]) == 1
    x = call.x() if dropped else call.whole()
    for axis, index in enumerate(indices):
        if (axis or not dropped) and not np.array_equal(index, np.arange(shape[axis])):
            if not (index.size and 0 <= index.min() and index.max() < shape[axis]):
                raise IRError(f"takes entries of {shape[axis]} along axis {axis} that it doesn't have")
            param = call.step.builder.param("indices", index.astype(np.int32))
            x = call.emit("gather", x, param, quant=x.type.quant, axis=axis - dropped)
    call.give(x)


def _tile(call: Call) -> None:
    shape, times = call.tensor().shape, call.integers(1)
    if len(times) != len(shape):
        raise IRError(f"repeats {list(shape)} by {times[:8]}")
    bounded(call, [n * t for n, t in zip(shape, times, strict=True)])
    _chosen(call, [np.tile(np.arange(n), t) for n, t in zip(shape, times, strict=True)])


def _mirror_pad(call: Call) -> None:
    """``reflect`` (mode 0) leaves the border itself out, ``symmetric`` (mode 1) repeats it."""
    shape, around = call.tensor().shape, call.constant(1).reshape(-1, 2).tolist()
    if len(around) != len(shape):
        raise IRError(f"pads {list(shape)} by {around[:8]}")
    bounded(call, [n + before + after for n, (before, after) in zip(shape, around, strict=True)])
    mode = "symmetric" if call.options["mode"] else "reflect"
    for size, sides in zip(shape, around, strict=True):
        if min(sides) < 0 or max(sides) > size - (mode == "reflect"):
            raise IRError(f"mirrors {sides} beyond {size}")
    sides = zip(shape, around, strict=True)
    _chosen(call, [np.pad(np.arange(n), pair, mode) if any(pair) else np.arange(n) for n, pair in sides])


def _reverse(call: Call) -> None:
    shape = call.tensor().shape
    axes = {call.axis(a, len(shape)) for a in call.integers(1)}
    _chosen(call, [np.arange(n)[:: -1 if axis in axes else 1] for axis, n in enumerate(shape)])


def _sizes(call: Call) -> list[tuple[int, int]]:
    """Height and width of an image before and after; its batch and channels stay."""
    shape, result = call.tensor().shape, call.result().shape
    if len(shape) != 4 or len(result) != 4 or (shape[0], shape[3]) != (result[0], result[3]) or 0 in shape + result:
        raise IRError(f"resizes {list(shape)} to {list(result)}")
    return [(shape[axis], result[axis]) for axis in (1, 2)]


def _resize_nearest(call: Call) -> None:
    corners, half = call.options["align_corners"], call.options["half_pixel_centers"]
    f32, found = np.float32, []
    for size, made in _sizes(call):
        scale = f32(size - 1) / f32(made - 1) if corners and made > 1 else f32(size) / f32(made)
        at = (np.arange(made, dtype=f32) + f32(0.5 if half else 0)) * scale
        whole = np.floor(at + f32(0.5)) if corners else np.floor(at)
        found.append(np.clip(whole.astype(np.int64), 0, size - 1))
    shape = call.tensor().shape
    _chosen(call, [np.arange(shape[0]), *found, np.arange(shape[3])])


def _resize_bilinear(call: Call) -> None:
    """Of floats: along each axis a product with a matrix that holds two neighbours' shares."""
    if call.quantized:
        raise UnsupportedError("resizes integers between pixels; needed floats.", hint="Use RESIZE_NEAREST_NEIGHBOR.")
    x = call.x() if call.batched(call.tensor().shape) else None
    if x is None:
        raise UnsupportedError(f"takes the shape {list(call.tensor().shape)}; needed a batch of 1.")
    for axis, (size, made) in enumerate(_sizes(call)):
        scale = size / made
        if call.options["align_corners"] and made > 1:
            scale = (size - 1) / (made - 1)
        if made * size > MOST_FILLED:
            raise UnsupportedError(f"resizes {size} to {made} by a matrix; at most {MOST_FILLED} elements have one.")
        half = 0.5 if call.options["half_pixel_centers"] else 0.0
        at = (np.arange(made) + half) * np.float32(scale) - half
        low = np.clip(np.floor(at), 0, size - 1).astype(int)
        high = np.clip(np.ceil(at), 0, size - 1).astype(int)
        shares = np.zeros((made, size), np.float32)
        np.add.at(shares, (np.arange(made), low), 1 - (at - low))
        np.add.at(shares, (np.arange(made), high), at - low)
        matrix = call.step.builder.param("shares", shares)
        x = call.emit("einsum", matrix, x, eq="ah,hwc->awc" if axis == 0 else "bw,hwc->hbc")
    call.give(x)


def _space_to_depth(call: Call) -> None:
    (n, height, width, depth), size = _image(call)
    x = call.shaped(call.whole(), (n, height // size, size, width // size, size, depth))
    call.give(call.emit("transpose", x, quant=x.type.quant, perm=[0, 1, 3, 2, 4, 5]))


def _depth_to_space(call: Call) -> None:
    (n, height, width, depth), size = _image(call)
    x = call.shaped(call.whole(), (n, height, width, size, size, depth // size**2))
    call.give(call.emit("transpose", x, quant=x.type.quant, perm=[0, 1, 3, 2, 4, 5]))


def _image(call: Call) -> tuple[tuple[int, ...], int]:
    shape, size = call.tensor().shape, call.options["block_size"]
    if len(shape) != 4 or size < 1:
        raise IRError(f"takes {list(shape)} in blocks of {size}")
    return shape, size


def _blocks(call: Call) -> tuple[list[int], list[list[int]], int]:
    """Sizes of the blocks, what is added or cut at each axis, and the axes of space."""
    sizes, around = call.integers(1), call.constant(2).reshape(-1, 2).tolist()
    space = len(sizes)
    if not 1 <= space < len(call.tensor().shape) or len(around) != space or min(sizes) < 1 or min(map(min, around)) < 0:
        raise IRError(f"takes {list(call.tensor().shape)} in blocks of {sizes} with {around}")
    return sizes, around, space


def _space_to_batch(call: Call) -> None:
    """Every block-th entry of each axis of space becomes a sample of its own; zeros are added around first."""
    sizes, around, space = _blocks(call)
    x = call.whole()
    if call.quantized and any(map(any, around)):
        raise UnsupportedError("pads integers, with what TFLite Micro never sets.", hint="Pad with PAD in front of it.")
    _bounded_space(call, [n + sum(pair) for n, pair in zip(x.shape[1 : 1 + space], around, strict=True)], sizes)
    for axis, pair in enumerate(around, 1):
        parts = [filled(call, x, (*x.shape[:axis], n, *x.shape[axis + 1 :]), 0) if n else None for n in pair]
        joined = [part for part in (parts[0], x, parts[1]) if part is not None]
        x = call.emit("concat", *joined, quant=x.type.quant, axis=axis) if len(joined) > 1 else x
    split = [part for n, s in zip(x.shape[1 : 1 + space], sizes, strict=True) for part in (n // s, s)]
    rest = list(range(1 + 2 * space, 1 + 2 * space + len(x.shape) - 1 - space))
    order = [*(2 + 2 * i for i in range(space)), 0, *(1 + 2 * i for i in range(space)), *rest]
    call.give(_turned(call, x, (x.shape[0], *split, *x.shape[1 + space :]), order))


def _bounded_space(call: Call, wide: Sequence[int], sizes: Sequence[int]) -> None:
    shape = call.tensor().shape
    if any(n % s for n, s in zip(wide, sizes, strict=True)):
        raise IRError(f"cuts {list(wide)} into blocks of {list(sizes)}")
    whole = [n // s for n, s in zip(wide, sizes, strict=True)]
    bounded(call, [shape[0] * math.prod(sizes), *whole, *shape[1 + len(sizes) :]])


def _batch_to_space(call: Call) -> None:
    sizes, around, space = _blocks(call)
    x, blocks = call.whole(), math.prod(sizes)
    if x.shape[0] % blocks:
        raise IRError(f"makes blocks of {sizes} of {x.shape[0]} samples")
    shape = (*sizes, x.shape[0] // blocks, *x.shape[1:])
    order = [space, *(i for axis in range(space) for i in (space + 1 + axis, axis))]
    y = _turned(call, x, shape, [*order, *range(1 + 2 * space, len(shape))])
    wide = [n * s for n, s in zip(x.shape[1 : 1 + space], sizes, strict=True)]
    y = call.shaped(y, (shape[space], *wide, *x.shape[1 + space :]))
    for axis, (first, last) in enumerate(around, 1):
        y = cut(call, y, axis, first, y.shape[axis] - last)
    call.give(y)


def _turned(call: Call, x: Sym, shape: Sequence[int], order: Sequence[int]) -> Sym:
    x = call.shaped(x, shape)
    return call.emit("transpose", x, quant=x.type.quant, perm=list(order))


def _embedding_lookup(call: Call) -> None:
    """Rows of a table, of integers by their real values where the result is in floats."""
    table: Any = call.x(1)
    if call.tensor(1).kind != call.result().kind:
        table = call.step.builder.param("table", call.real(1))
    rows, index = call.tensor(1).shape[0], call.step.array_or_none(call.operator.inputs[0])
    if index is not None and index.size and not (0 <= index.min() and index.max() < rows):
        raise IRError(f"looks up rows {index.min()} to {index.max()} of {rows}")
    call.put("gather", table, call.whole(0), axis=0)


RULES: Mapping[str, Rule] = {
    "TILE": _tile,
    "MIRROR_PAD": _mirror_pad,
    "REVERSE_V2": _reverse,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "RESIZE_BILINEAR": _resize_bilinear,
    "SPACE_TO_DEPTH": _space_to_depth,
    "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "BATCH_TO_SPACE_ND": _batch_to_space,
    "EMBEDDING_LOOKUP": _embedding_lookup,
}
