"""ATen ops as calls of the tracer: shapes, slices, new tensors, embedding, padding, pooling and convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.time import Dim, Tensor, Tracer
from neurodeploy.importers.time_axes import product
from neurodeploy.importers.time_moves import FAR
from neurodeploy.importers.torch_ops import FLOAT_DTYPES, Rule, operand


def _same(t: Tracer, x: Any, *_: Any, **__: Any) -> Any:
    return x


def _to(t: Tracer, x: Tensor, *args: Any, dtype: Any = None, **_: Any) -> Tensor:
    """A change of dtype; of device, layout or memory format nothing remains."""
    kinds = [str(a) for a in [*args, dtype] if str(a).startswith("torch.")]
    return _cast(t, x, kinds[0]) if kinds else x


def _cast(t: Tracer, x: Tensor, dtype: str) -> Tensor:
    if dtype in FLOAT_DTYPES:
        wanted = "f32"
    elif dtype == "torch.bool":
        wanted = "bool"
    elif dtype in ("torch.int64", "torch.int32", "torch.int16", "torch.int8"):
        wanted = "i32"
    else:
        raise t.error(f"a cast to {dtype}.", "Use float32, int64 or bool.")
    return x if x.dtype == wanted else t.pointwise("cast", x, to=wanted)


def _type_as(t: Tracer, x: Tensor, other: Tensor) -> Tensor:
    return x if x.dtype == other.dtype else t.pointwise("cast", x, to=other.dtype)


# -- shapes ------------------------------------------------------------------------------------------------------------


def _transpose(t: Tracer, x: Tensor, a: int, b: int) -> Tensor:
    perm = list(range(x.rank))
    perm[a], perm[b] = perm[b], perm[a]
    return t.transpose(x, perm)


def _movedim(t: Tracer, x: Tensor, source: Any, destination: Any) -> Tensor:
    sources = [s % x.rank for s in (source if isinstance(source, list | tuple) else [source])]
    targets = [d % x.rank for d in (destination if isinstance(destination, list | tuple) else [destination])]
    rest = iter(i for i in range(x.rank) if i not in sources)
    perm = [sources[targets.index(i)] if i in targets else next(rest) for i in range(x.rank)]
    return t.transpose(x, perm)


def _flatten(t: Tracer, x: Tensor, start: int = 0, end: int = -1) -> Tensor:
    start, end = start % x.rank, end % x.rank
    merged = product(x.shape[start : end + 1])
    return t.reshape(x, [*x.shape[:start], merged, *x.shape[end + 1 :]])


def _unflatten(t: Tracer, x: Tensor, dim: int, sizes: Sequence[Any]) -> Tensor:
    dim %= x.rank
    sizes = list(sizes)
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[dim] // product([s for s in sizes if s != -1])
    return t.reshape(x, [*x.shape[:dim], *sizes, *x.shape[dim + 1 :]])


def _squeeze(t: Tracer, x: Tensor, dim: Any = None) -> Tensor:
    if dim is None:
        return t.squeeze(x)
    dims = list(dim) if isinstance(dim, list | tuple) else [dim]
    return t.squeeze(x, [d for d in dims if x.shape[d] == 1])


def _repeat(t: Tracer, x: Tensor, counts: Sequence[Any]) -> Tensor:
    lead = len(counts) - x.rank
    full = t.unsqueeze(x, list(range(lead))) if lead else x
    if any(count != 1 and size != 1 for count, size in zip(counts, full.shape)):
        raise t.error(
            f"a tensor of {list(x.shape)} is repeated {list(counts)} times.", "Only axes of size 1 can be repeated."
        )
    return t.expand(full, [c if s == 1 else s for c, s in zip(counts, full.shape)])


def _slice(
    t: Tracer, x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:  # fmt: skip
    return t.slice(x, dim, 0 if start is None else start, FAR if end is None else end, step)


def _split(t: Tracer, x: Tensor, sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    total = x.shape[dim]
    if isinstance(total, Dim):
        raise t.error(f"an axis of size {total} is split.", "Only feature axes can be split.")
    if isinstance(sizes, int):
        sizes = [min(sizes, total - start) for start in range(0, total, sizes)]
    ends = np.cumsum(sizes).tolist()
    return tuple(t.slice(x, dim, end - size, end) for size, end in zip(sizes, ends))


def _chunk(t: Tracer, x: Tensor, count: int, dim: int = 0) -> tuple[Tensor, ...]:
    return _split(t, x, -(-x.shape[dim] // count), dim)


def _unbind(t: Tracer, x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    if isinstance(x.shape[dim], Dim) or x.axes[dim].label != "feature":
        raise t.error(f"the {x.axes[dim].label} axis is unbound into single tensors.", UNROLLED)
    return tuple(t.take(x, dim, i) for i in range(x.shape[dim]))


UNROLLED = "A loop over time is given as its step: load(cell, (x_t, h), states={'h': 1})."


def _select(t: Tracer, x: Tensor, dim: int, index: Any) -> Tensor:
    try:
        return t.take(x, dim, index)
    except UnsupportedError as error:
        if x.axes[dim].label == "time":
            raise t.error(error.message, f"Take the first or the last step. {UNROLLED}") from error
        raise


def _index_select(t: Tracer, x: Tensor, dim: int, index: Tensor) -> Tensor:
    if index.data is None:
        raise t.error("elements are taken at indices that depend on the input.", "Use constant indices.")
    if x.axes[dim].label != "feature":
        raise t.error(f"elements of the {x.axes[dim].label} axis are taken by index.", UNROLLED)
    return t.concat([t.slice(x, dim, int(i), int(i) + 1) for i in index.data], dim)


def _flip(t: Tracer, x: Tensor, dims: Sequence[int]) -> Tensor:
    for dim in dims:
        if x.axes[dim].label != "feature":
            raise t.error(
                f"the {x.axes[dim].label} axis is flipped.", "For a reversed sequence use a bidirectional layer."
            )
        x = t.concat([t.slice(x, dim, i, i + 1) for i in reversed(range(x.shape[dim]))], dim)
    return x


# -- new tensors -------------------------------------------------------------------------------------------------------


def _filled(t: Tracer, sizes: Sequence[Any], value: float, dtype: Any = None) -> Tensor:
    """A constant of sizes some of which may be the batch's."""
    kind = str(dtype)
    number: Any = np.bool_(value) if kind == "torch.bool" else np.float32(value)
    if kind.startswith("torch.int"):
        number = np.int32(value)
    if all(isinstance(size, int) for size in sizes):
        return t.constant(np.full(list(sizes), number))
    return t.expand(t.constant(np.full([1] * len(sizes), number)), list(sizes))


def _new(value: float) -> Rule:
    return lambda t, sizes, dtype=None, **_: _filled(t, sizes, value, dtype)


def _new_like_self(value: float) -> Rule:
    """``x.new_zeros(sizes)``: of x's dtype."""
    kinds = {"f32": "torch.float32", "bool": "torch.bool"}
    return lambda t, x, sizes, dtype=None, **_: _filled(t, sizes, value, dtype or kinds.get(x.dtype, "torch.int32"))


def _like(value: float) -> Rule:
    """``zeros_like(x)``: of x's shape."""
    return lambda t, x, **kw: _new_like_self(value)(t, x, list(x.shape), **kw)


def _full(t: Tracer, sizes: Sequence[Any], value: Any, dtype: Any = None, **_: Any) -> Tensor:
    whole = isinstance(value, int) and not isinstance(value, bool)
    default = "torch.bool" if isinstance(value, bool) else ("torch.int64" if whole else None)
    return _filled(t, sizes, value, dtype or default)


def _random(t: Tracer, *_: Any, **__: Any) -> Tensor:
    raise t.error(
        "it draws random numbers, which differ from run to run.", "Use zeros, a parameter or an input of the module."
    )


def _arange(t: Tracer, *bounds: Any, dtype: Any = None, **_: Any) -> Tensor:
    if any(isinstance(b, Dim) for b in bounds):
        raise t.error("positions are counted along an axis of unknown size.", "Give positions as an input.")
    return t.constant(np.arange(*bounds))


# -- embedding, padding, pooling, convolution --------------------------------------------------------------------------


def _embedding(t: Tracer, table: Tensor, ids: Tensor, *_: Any) -> Tensor:
    return t.gather(table, ids)


def _one_hot(t: Tracer, ids: Tensor, classes: int = -1) -> Tensor:
    if classes < 1:
        raise t.error("the number of classes is left to the data.", "Give it: F.one_hot(x, num_classes).")
    return t.gather(t.constant(np.eye(classes, dtype=np.int32)), ids)


def _pad(t: Tracer, x: Tensor, amounts: Sequence[int], mode: Any = "constant", value: Any = None) -> Tensor:
    if isinstance(mode, int | float):  # constant_pad_nd(x, amounts, value)
        mode, value = "constant", mode
    if mode != "constant" or value not in (None, 0):
        raise t.error(f"padding in mode '{mode}' with {value}.", "Pad with zeros.")
    for i in range(len(amounts) // 2):
        before, after, axis = amounts[2 * i], amounts[2 * i + 1], x.rank - 1 - i
        if not before and not after:
            continue
        if x.axes[axis].label == "time":
            x = t.pad_time(x, axis, before, after)
            continue
        parts = [x]
        for amount, front in ((before, True), (after, False)):
            if amount < 0:
                raise t.error(f"features are padded by {amount}.", "Slice them instead.")
            if amount:
                zeros = _filled(t, [*[1] * axis, amount, *[1] * (x.rank - 1 - axis)], 0.0)
                parts = [zeros, *parts] if front else [*parts, zeros]
        x = t.concat(parts, axis)
    return x


def _pool(kind: str) -> Rule:
    def rule(t: Tracer, x: Tensor, size: Any) -> Any:
        if list(size if isinstance(size, list | tuple) else [size]) != [1]:
            raise t.error(f"adaptive pooling to {size} steps.", "Pool over all steps: output size 1.")
        pooled = t.reduce(kind, x, [-1], True)
        return pooled if kind == "mean" else (pooled, None)

    return rule


def _conv1d(
    t: Tracer, x: Tensor, weight: Tensor, bias: Any = None, stride: Any = (1,), padding: Any = (0,),
    dilation: Any = (1,), groups: int = 1,
) -> Tensor:  # fmt: skip
    stride, dilation = _one(stride), _one(dilation)
    reach = (weight.shape[-1] - 1) * dilation
    if padding == "same":
        left, right = reach // 2, reach - reach // 2
    else:
        left = right = 0 if padding == "valid" else _one(padding)
    if left or right:
        x = t.pad_time(x, -1, left, right)
    return t.conv(x, weight, bias, dilation=dilation, groups=groups, stride=stride)


def _one(value: Any) -> int:
    return value if isinstance(value, int) else value[0]


MOVES: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("contiguous", "clone", "detach", "alias", "lift_fresh", "lift_fresh_copy", "view_as_real_copy", "positive"),
        _same,
    ),
    "to": _to,
    "_to_copy": _to,
    "type_as": _type_as,
    "transpose": _transpose,
    "t": lambda t, x: t.transpose(x, [1, 0]) if x.rank == 2 else x,
    "numpy_T": lambda t, x: t.transpose(x, list(range(x.rank))[::-1]),
    "permute": lambda t, x, dims: t.transpose(x, dims),
    "movedim": _movedim,
    "reshape": lambda t, x, sizes: t.reshape(x, sizes),
    "view": lambda t, x, sizes: t.reshape(x, sizes),
    "_unsafe_view": lambda t, x, sizes: t.reshape(x, sizes),
    "view_as": lambda t, x, other: t.reshape(x, list(other.shape)),
    "flatten": _flatten,
    "unflatten": _unflatten,
    "squeeze": _squeeze,
    "unsqueeze": lambda t, x, dim: t.unsqueeze(x, [dim]),
    "expand": lambda t, x, sizes, implicit=False: t.expand(x, sizes),
    "expand_as": lambda t, x, other: t.expand(x, list(other.shape)),
    "broadcast_to": lambda t, x, sizes: t.expand(x, sizes),
    "repeat": _repeat,
    "cat": lambda t, tensors, dim=0: t.concat(tensors, dim),
    "concat": lambda t, tensors, dim=0: t.concat(tensors, dim),
    "stack": lambda t, tensors, dim=0: t.concat([t.unsqueeze(x, [dim]) for x in tensors], dim),
    "slice": _slice,
    "select": _select,
    "narrow": lambda t, x, dim, start, length: t.slice(x, dim, start, start + length),
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _chunk,
    "unbind": _unbind,
    "index_select": _index_select,
    "flip": _flip,
    "zeros": _new(0),
    "ones": _new(1),
    "full": _full,
    "new_zeros": _new_like_self(0),
    "new_ones": _new_like_self(1),
    "new_full": lambda t, x, sizes, value, dtype=None, **_: _new_like_self(value)(t, x, sizes, dtype),
    "zeros_like": _like(0),
    "ones_like": _like(1),
    "full_like": lambda t, x, value, dtype=None, **_: _new_like_self(value)(t, x, list(x.shape), dtype),
    "scalar_tensor": lambda t, value, **_: t.lift(operand(t, None, value)),
    "arange": _arange,
    **dict.fromkeys(("rand", "randn", "randint", "rand_like", "randn_like", "normal", "bernoulli"), _random),
    "embedding": _embedding,
    "one_hot": _one_hot,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "adaptive_avg_pool1d": _pool("mean"),
    "adaptive_max_pool1d": _pool("max"),
    "conv1d": _conv1d,
}
