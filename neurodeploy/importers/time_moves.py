"""Shape ops of a traced program: transpose, reshape, squeeze, expand, concat, slice, take, pad, gather."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.time_axes import UNIT, Axes, Axis, Dim, Size, describe, feature, find, join, shape_of
from neurodeploy.importers.time_axes import reshape as reshape_axes
from neurodeploy.importers.time_core import Core, placed
from neurodeploy.importers.time_nodes import Node, Tensor

FAR = 1 << 30  # exporters write huge numbers for "to the end"


class Moves(Core):
    """The shape ops of :class:`neurodeploy.importers.time.Tracer`."""

    @placed
    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """``numpy.transpose``; batch and time move as labels only."""
        perm = [self.axis_number(x, p) for p in perm]
        if sorted(perm) != list(range(x.rank)):
            raise UnsupportedError(f"{perm} is no permutation of {describe(x.axes)}.")
        axes = tuple(x.axes[p] for p in perm)
        order = [self.feature_index(x.axes, p) for p in perm if x.axes[p].label == "feature"]
        node = x.node if order == sorted(order) else self.primitive("transpose", x.node, perm=order)
        return Tensor(node, axes)

    @placed
    def reshape(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Row-major reshape; one size may be -1. Batch and time may merge and split, but not with features."""
        axes = reshape_axes(x.axes, sizes)
        return Tensor(self.shaped(x.node, shape_of(axes)), axes)

    @placed
    def squeeze(self, x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
        """Drop axes of size 1 (all of them if none are named)."""
        chosen = [self.axis_number(x, a) for a in axes] if axes is not None else None
        if chosen is None:
            chosen = [i for i, a in enumerate(x.axes) if a.extent == 1 and a.label in ("feature", "batch")]
        for i in chosen:
            if x.axes[i].extent != 1:
                raise UnsupportedError(f"axis {i} of {describe(x.axes)} is squeezed and isn't of size 1.")
            if x.axes[i].label == "time":
                raise UnsupportedError("the time axis is squeezed.", hint="Select a step instead.")
        kept = tuple(a for i, a in enumerate(x.axes) if i not in chosen)
        return Tensor(self.shaped(x.node, shape_of(kept)), kept)

    @placed
    def unsqueeze(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Insert axes of size 1, numbered as in the result."""
        rank = x.rank + len(axes)
        places = {a % rank for a in axes if -rank <= a < rank}
        if len(places) != len(axes):
            raise UnsupportedError(f"axes {list(axes)} can't be inserted into {describe(x.axes)}.")
        rest = iter(x.axes)
        full = tuple(UNIT if i in places else next(rest) for i in range(rank))
        return Tensor(self.shaped(x.node, shape_of(full)), full)

    def axis_of_size(self, size: Size) -> Axis:
        """The axis that a size stands for: the batch's, a time's, else a feature's."""
        if isinstance(size, Dim):
            for axes in self.input_axes.values():
                for axis in axes:
                    if axis.label != "feature" and axis.size == size:
                        return axis
        return feature(size)

    @placed
    def expand(self, x: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Broadcast to sizes (1 keeps an axis as it is)."""
        wanted = []
        lead = len(sizes) - x.rank
        for i, size in enumerate(sizes):
            own = x.axes[i - lead] if i >= lead else UNIT
            wanted.append(own if size in (1, -1) or own.extent == size else self.axis_of_size(size))
        axes = join([x.axes, tuple(wanted)])
        node = self.aligned(x, axes)
        shape = shape_of(axes)
        return Tensor(node if node.type.shape == shape else self.primitive("broadcast", node, shape=list(shape)), axes)

    @placed
    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        """Join along a feature axis. Zeros joined to the front of a time axis pad it."""
        tensors = [t for t in tensors if 0 not in t.shape]
        if len(tensors) == 1:
            return tensors[0]
        axis = self.axis_number(max(tensors, key=lambda t: t.rank), axis)
        if any(t.axes[axis].label != "feature" for t in tensors):
            return self._concat_time(tensors, axis)
        parts = [(*t.axes[:axis], UNIT, *t.axes[axis + 1 :]) for t in tensors]
        joined = join(parts)
        nodes = []
        for t in tensors:
            own = (*joined[:axis], t.axes[axis], *joined[axis + 1 :])
            node = self.aligned(t, own)
            shape = shape_of(own)
            nodes.append(node if node.type.shape == shape else self.primitive("broadcast", node, shape=list(shape)))
        total = sum(n.type.shape[self.feature_index(joined, axis)] for n in nodes)
        axes = (*joined[:axis], feature(total), *joined[axis + 1 :])
        return Tensor(self.primitive("concat", *nodes, axis=self.feature_index(axes, axis)), axes)

    def _concat_time(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        series = [t for t in tensors if t.axes[axis].label == "time"]
        first, last = tensors[0], tensors[-1]
        if len(series) == 1 and len(tensors) == 2:
            pad = first if last is series[0] else last
            size = pad.axes[axis].extent
            if pad.data is not None and not pad.data.any() and isinstance(size, int):
                return self.pad_time(series[0], axis, size if pad is first else 0, size if pad is last else 0)
        label = next(t.axes[axis].label for t in tensors if t.axes[axis].label != "feature")
        raise UnsupportedError(
            f"tensors are joined along the {label} axis.",
            hint="Join them along a feature axis, or feed them as inputs.",
        )

    @placed
    def pad_time(self, x: Tensor, axis: int, left: int, right: int) -> Tensor:
        """Zeros before the first and after the last step (negative: cut)."""
        axis = self.axis_number(x, axis)
        time = x.axes[axis]
        if time.label != "time":
            raise UnsupportedError(f"axis {axis} of {describe(x.axes)} is padded as if it were time.")
        longer = replace(time, lead=time.lead + left, tail=time.tail + right)
        return Tensor(x.node, (*x.axes[:axis], longer, *x.axes[axis + 1 :]))

    def position(self, axis: Axis, index: Size) -> tuple[str, int]:
        """An index along an axis, as ``("front", k)`` or ``("end", k)``: k elements from there."""
        if isinstance(index, Dim):
            back = axis.extent - index
            if not isinstance(back, int) or back < 0:
                raise UnsupportedError(f"index {index} on an axis of {axis.extent} is not known when compiling.")
            return "end", back
        if index < 0:
            return "end", -index
        if isinstance(axis.extent, int) and axis.label == "time" and index >= axis.extent - 1:
            return "end", max(axis.extent - index, 0)
        return ("end", 0) if index >= FAR else ("front", index)

    @placed
    def slice(self, x: Tensor, axis: int, start: Size = 0, stop: Size = FAR, step: int = 1) -> Tensor:
        """Elements ``start:stop:step`` of an axis, as NumPy counts. Over time: cut ends, or the first or last step."""
        axis = self.axis_number(x, axis)
        along = x.axes[axis]
        if along.label == "feature":
            size = along.size
            if not isinstance(start, int) or not isinstance(stop, int) or not isinstance(size, int):
                raise UnsupportedError(f"features are sliced {start}:{stop}, which isn't known when compiling.")
            return self._slice_features(x, axis, start, stop, step)
        first, last = self.position(along, start), self.position(along, stop)
        if step == 1 and first == ("front", 0) and last == ("end", 0):
            return x
        if along.label != "time" or step != 1:
            what = f"the {along.label} axis is sliced {start}:{stop}:{step}."
            raise UnsupportedError(what, hint="For a reversed sequence use a layer with direction 'reverse'.")
        if first == ("end", 1) and last == ("end", 0):
            return self.unsqueeze(self.take(x, axis, -1), [axis])
        if first[0] == "front" and last == ("front", first[1] + 1):
            return self.unsqueeze(self.take(x, axis, first[1]), [axis])
        if first[0] != "front" or last[0] != "end":
            raise UnsupportedError(
                f"steps {start} to {stop} of the time axis are taken.", hint="Take the first or the last step, or all."
            )
        return self.pad_time(x, axis, -first[1], -last[1])

    def _slice_features(self, x: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
        size = x.node.type.shape[self.feature_index(x.axes, axis)]
        chosen = range(size)[slice(start, stop, step)]
        if not chosen:
            raise UnsupportedError(f"the slice {start}:{stop}:{step} of {size} features is empty.")
        axes = (*x.axes[:axis], feature(len(chosen)), *x.axes[axis + 1 :])
        if list(chosen) == list(range(size)):
            return x
        if step < 1:
            index = self.constant(np.array(chosen, np.int32)).node
            return Tensor(self.primitive("gather", x.node, index, axis=self.feature_index(x.axes, axis)), axes)
        at = self.feature_index(x.axes, axis)
        if step == 1:
            return Tensor(self._cut(x.node, at, start=chosen[0], stop=chosen[-1] + 1), axes)
        node = self.primitive("slice", x.node, axis=at, start=chosen[0], stop=chosen[-1] + 1, step=step)
        return Tensor(node, axes)

    def _cut(self, node: Node, axis: int, start: int, stop: int) -> Node:
        """A slice; of a concat the part that it lies in, so that layers joined to be split again come apart."""
        while node.op == "concat" and node.attrs["axis"] == axis:
            offset = 0
            for part in node.inputs:
                size = part.type.shape[axis]
                if offset <= start and stop <= offset + size:
                    node, start, stop = part, start - offset, stop - offset
                    break
                offset += size
            else:
                break
        if (start, stop) == (0, node.type.shape[axis]):
            return node
        return self.primitive("slice", node, axis=axis, start=start, stop=stop, step=1)

    @placed
    def take(self, x: Tensor, axis: int, index: Size) -> Tensor:
        """One index of an axis, which goes. Over time: the first or the last step."""
        axis = self.axis_number(x, axis)
        along, rest = x.axes[axis], (*x.axes[:axis], *x.axes[axis + 1 :])
        if along.label == "feature" and isinstance(index, int):
            size = x.node.type.shape[self.feature_index(x.axes, axis)]
            if not -size <= index < size:
                raise UnsupportedError(f"index {index} of {size} features is taken.")
            cut = self._slice_features(x, axis, index % size, index % size + 1, 1)
            return Tensor(self.shaped(cut.node, shape_of(rest)), rest)
        if along.label == "batch" and along.extent == 1 and index in (0, -1):
            return Tensor(x.node, rest)
        if along.label != "time":
            raise UnsupportedError(f"sample {index} of the {along.label} axis is taken.", hint="Keep the batch whole.")
        return self.select_time(x, axis, self.position(along, index))

    def select_time(self, x: Tensor, axis: int, position: tuple[str, int]) -> Tensor:
        """The first (``("front", 0)``) or last (``("end", 1)``) step; the time axis goes."""
        along, rest = x.axes[axis], (*x.axes[:axis], *x.axes[axis + 1 :])
        if x.node.domain is None:
            return Tensor(x.node, rest)
        if position == ("end", 1) and along.tail == 0:
            return Tensor(self._add("last", [x.node], {}, x.node.type, None), rest)
        if position == ("front", 0) and along.lead == 0:
            return Tensor(self._add("first", [x.node], {}, x.node.type, None), rest)
        side = "after the first" if position[0] == "front" else "before the end"
        raise UnsupportedError(
            f"the step {position[1]} {side} is taken.", hint="Take the first or the last step, or make it an output."
        )

    @placed
    def gather(self, table: Tensor, ids: Tensor) -> Tensor:
        """Rows of a constant table by whole-number indices: an embedding. Result: ``ids``' axes, then the row's."""
        if table.data is None or find(table.axes, "time") or find(table.axes, "batch"):
            raise UnsupportedError("rows are gathered from something that isn't constant.", hint=_EMBED)
        if ids.dtype not in ("i32", "i64", "i16", "i8"):
            raise UnsupportedError(f"rows are gathered by {ids.dtype} indices; needed whole numbers.", hint=_EMBED)
        node = self.primitive("gather", table.node, ids.node, axis=0)
        return Tensor(node, (*ids.axes, *table.axes[1:]))

    def arrange(self, x: Tensor, labels: Sequence[str], size: int | None = None) -> Tensor:
        """The axes in the order of ``labels`` (``time``, ``batch``, and ``feature`` last), units dropped or inserted.

        The features are flattened into one axis. Raises :class:`UnsupportedError` where an axis is missing.
        """
        found = {a.label: a for a in x.axes if a.label in ("batch", "time")}
        extra = [a for label, a in found.items() if label not in labels]
        if extra or any(a.label == "merged" for a in x.axes):
            raise UnsupportedError(f"{describe(x.axes)} is given; needed [{', '.join(labels)}].")
        width = x.node.type.size
        if size is not None and width != size:
            raise UnsupportedError(f"{describe(x.axes)} holds {width} features a step; needed {size}.")
        axes: Any = tuple(feature(width) if label == "feature" else found.get(label, UNIT) for label in labels)
        axes = tuple(a for a in axes if a is not UNIT)
        return Tensor(self.shaped(x.node, [width]), axes)


_EMBED = "Only an embedding, a constant table read by an integer input, can be gathered from."
__all__ = ["Axes", "Moves"]
