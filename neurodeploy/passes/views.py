"""Views: slices, reshapes, transposes, broadcasts and concats as places in other values' memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from neurodeploy.ir.graph import Graph, Value, guards
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.ir.types import TensorType

#: Values computed element by element besides the primitives that say so themselves: ``copy`` is the identity,
#: ``shift_down`` a rescale by a power of two, the others parts of TFLite's ops (``backends/c_tflite_ops``).
ELEMENTWISE_TOO = frozenset(
    {
        "lut",
        "copy",
        "shift_down",
        "rescale",
        "weighted_sum",
        "offset",
        "table",
        "rescale_32",
        "rescale_64",
        "from_float",
    }
)
#: Elementwise ops whose second argument is a table that they read anywhere.
TABLE_OPS = frozenset({"lut", "table"})
#: Work for whose sake a region is branched around even if no state asks for it.
HEAVY = frozenset({"matvec", "matmul", "einsum", "solve", "softmax"})


@dataclass(frozen=True)
class View:
    """Where a value's elements lie: element (i, j, ...) at ``offset + i strides[0] + ...`` of ``base``.

    The stride of an axis of one element is 0, so that equal places are equal views.
    """

    base: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        strides = tuple(0 if n == 1 else s for n, s in zip(self.shape, self.strides, strict=True))
        object.__setattr__(self, "strides", strides)

    @classmethod
    def whole(cls, base: str, shape: tuple[int, ...]) -> View:
        return cls(base, shape, row_major(shape))

    @property
    def contiguous(self) -> bool:
        """Whether the elements stand one after the other, in row-major order."""
        return all(n == 1 or s == t for n, s, t in zip(self.shape, self.strides, row_major(self.shape), strict=True))

    def broadcast(self, shape: tuple[int, ...]) -> View:
        """The view as NumPy broadcasts it to a shape."""
        lead = len(shape) - len(self.shape)
        strides = [
            0 if i < lead or self.shape[i - lead] == 1 != n else self.strides[i - lead] for i, n in enumerate(shape)
        ]
        return View(self.base, shape, tuple(strides), self.offset)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a contiguous array."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def is_elementwise(value: Value) -> bool:
    """Whether a value can be computed element by element in a loop."""
    return value.op in ELEMENTWISE_TOO or (value.op in OPS and OPS[value.op].elementwise)


def region_guards(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The conditions that are worth a branch: those of states, and those with heavy work under them."""
    every = guards(graph)
    worth = {state.when for state in graph.states if state.when}
    for value in graph.values:
        if value.op in HEAVY:
            worth.update(every[value.name])
    return {name: tuple(c for c in conditions if c in worth) for name, conditions in every.items()}


# -- slices before elementwise ops -------------------------------------------------------------------------------------


def push_slices(graph: Graph) -> Graph:
    """Where an elementwise value is only read in disjoint slices, compute the slices each for itself.

    So ``split(sigmoid(a))`` reads ``a`` at offsets instead of storing the sigmoid first.
    """
    kept = {*graph.outputs.values(), *(s.next for s in graph.states), *(s.when for s in graph.states if s.when)}
    values = {value.name: value for value in graph.values}
    users: dict[str, list[str]] = {}
    for value in graph.values:
        for arg in dict.fromkeys(value.args):
            users.setdefault(arg, []).append(value.name)
    types = graph.types()
    result: list[Value] = []  # last first
    for name in [value.name for value in reversed(graph.values)]:
        value = values[name]
        found = [values[u] for u in users.get(name, [])]
        if name in kept or not is_elementwise(value) or not _disjoint(found, value):
            result.append(value)
            continue
        for part in found:
            args, before = _sliced_args(value, part, types)
            for extra in before:
                values[extra.name], types[extra.name] = extra, extra.type
                users.setdefault(extra.args[0], []).append(extra.name)
            moved = Value(part.name, value.op, args, value.attrs, part.tensor.with_(quant=value.tensor.quant))
            values[part.name] = moved
            at = next(i for i, v in enumerate(result) if v.name == part.name)
            result[at : at + 1] = [moved, *reversed(before)]
            for arg in args:
                users.setdefault(arg, []).append(part.name)
        for arg in value.args:
            users[arg] = [u for u in users[arg] if u != name]
    return replace(graph, values=_ordered(list(reversed(result)), values))


def _ordered(found: Sequence[Value], latest: Mapping[str, Value]) -> tuple[Value, ...]:
    """The values, each as it was last written, in an order of dependency."""
    done: dict[str, Value] = {}
    known = {value.name for value in found}

    def visit(name: str) -> None:
        stack = [name]
        while stack:
            top = stack[-1]
            waits = [a for a in latest[top].args if a in known and a not in done] if top not in done else []
            if waits:
                stack.extend(reversed(waits))
            else:
                stack.pop()
                done.setdefault(top, latest[top])

    for value in found:
        visit(value.name)
    return tuple(done.values())


def _disjoint(parts: Sequence[Value], whole: Value) -> bool:
    if not parts or any(part.op != "slice" for part in parts):
        return False
    bounds = sorted(slice_bounds(part.attrs, whole.tensor.shape) for part in parts)
    same = all(b[0] == bounds[0][0] and b[3] == 1 for b in bounds)
    return same and all(a[2] <= b[1] for a, b in zip(bounds, bounds[1:], strict=False))


def _sliced_args(value: Value, part: Value, types: Mapping[str, object]) -> tuple[tuple[str, ...], list[Value]]:
    axis, start, stop, _ = slice_bounds(part.attrs, value.tensor.shape)
    from_right = axis - len(value.tensor.shape)
    args: list[str] = []
    before: list[Value] = []
    for position, arg in enumerate(value.args):
        type_ = types[arg]
        shape = type_.shape if isinstance(type_, TensorType) else ()
        if (value.op in TABLE_OPS and position == 1) or len(shape) < -from_right or shape[from_right] == 1:
            args.append(arg)
            continue
        own = len(shape) + from_right
        piece = replace(type_, shape=(*shape[:own], stop - start, *shape[own + 1 :]), quant=None)  # type: ignore[type-var]
        name = f"{part.name}.{position}"
        before.append(Value(name, "slice", (arg,), {"axis": own, "start": start, "stop": stop, "step": 1}, piece))
        args.append(name)
    return tuple(args), before


# -- views -------------------------------------------------------------------------------------------------------------


def resolve_views(graph: Graph, contiguous: Callable[[Value], Mapping[int, int]]) -> tuple[Graph, dict[str, View]]:
    """A view for every name; copies put in where a reshape or a call needs what a view can't give."""
    views = {name: View.whole(name, t.shape) for name, t in graph.types().items() if isinstance(t, TensorType)}
    for value in graph.values:
        del views[value.name]
    values: list[Value] = []

    types = graph.types()

    def copied(arg: str, why: str) -> str:
        name = f"{why}.copy"
        while name in views:
            name += "_"
        made = TensorType(views[arg].shape, types[arg].dtype)  # type: ignore[union-attr]
        values.append(Value(name, "copy", (arg,), {}, made))
        views[name], types[name] = View.whole(name, made.shape), made
        return name

    for value in graph.values:
        args = list(value.args)
        for position, align in contiguous(value).items():
            view = views[args[position]]
            if not view.contiguous or view.offset % align:
                args[position] = copied(args[position], f"{value.name}.{position}")
        if value.op == "reshape" and not views[args[0]].contiguous:
            args[0] = copied(args[0], value.name)
        views[value.name] = _view_of(value, args, views)
        values.append(replace(value, args=tuple(args)))
    graph = replace(graph, values=tuple(values))
    _write_into_concats(graph, views)
    return graph, views


def _view_of(value: Value, args: Sequence[str], views: Mapping[str, View]) -> View:
    shape = value.tensor.shape
    if value.op == "extend":  # behind the state that is its first argument
        return View.whole(args[0], shape)
    if value.op not in ("slice", "reshape", "transpose", "broadcast"):
        return View.whole(value.name, shape)
    seen = views[args[0]]
    if value.op == "reshape":
        return View(seen.base, shape, row_major(shape), seen.offset)
    if value.op == "transpose":
        return View(seen.base, shape, tuple(seen.strides[p] for p in value.attrs["perm"]), seen.offset)
    if value.op == "broadcast":
        return seen.broadcast(shape)
    axis, start, _, step = slice_bounds(value.attrs, seen.shape)
    strides = (*seen.strides[:axis], seen.strides[axis] * step, *seen.strides[axis + 1 :])
    return View(seen.base, shape, strides, seen.offset + start * seen.strides[axis])


def _write_into_concats(graph: Graph, views: dict[str, View]) -> None:
    """Let what a concat joins be written straight into its place, where each part is contiguous there."""
    nexts = {state.next for state in graph.states}
    computed = {v.name for v in graph.values if views[v.name].base == v.name and v.op not in ("concat", "pack")}
    conditions = region_guards(graph)
    for value in graph.values:
        if value.op not in ("concat", "pack"):
            continue
        shape = value.tensor.shape
        axis = value.attrs.get("axis", 0) % len(shape)
        if any(n != 1 for n in shape[:axis]) or value.name in nexts:
            continue
        at, starts = 0, iter(value.attrs.get("at", ()))
        for arg in value.args:
            size = math.prod(views[arg].shape)
            at = next(starts, at)
            producer = next((v for v in graph.values if v.name == arg), None) if arg in computed else None
            same = producer is not None and producer.tensor.dtype == value.tensor.dtype
            if same and arg not in nexts and producer.tensor.shape and conditions[arg] == conditions[value.name]:  # type: ignore[union-attr]
                for name, view in list(views.items()):
                    if view.base == arg:
                        views[name] = replace(view, base=value.name, offset=view.offset + at)
                computed.discard(arg)
            at += size


def sources(graph: Graph, views: Mapping[str, View]) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """By name: the computed value that a value is in another guise, and every computed value that it lies in."""
    source: dict[str, str] = {}
    needs: dict[str, frozenset[str]] = dict.fromkeys(views, frozenset())
    for value in graph.values:
        if value.op in ("slice", "reshape", "transpose", "broadcast"):
            below = value.args[0]
            needs[value.name] = needs[below]
            origin = source.get(below)
            if origin is not None and views[origin] == views[value.name]:
                source[value.name] = origin
        else:
            source[value.name] = value.name
            needs[value.name] = frozenset([value.name])
            if value.op in ("concat", "pack"):
                needs[value.name] = frozenset([value.name]).union(*(needs[a] for a in value.args))
    return source, needs
