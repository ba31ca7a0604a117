"""Subscripts: where an element of a view lies, and how few loops walk several views at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neurodeploy.passes.fuse import View


def subscript(view: View, index: Sequence[str]) -> str:
    """The position of an element in its base."""
    terms = []
    for stride, size, name in zip(view.strides, view.shape, index, strict=True):
        if stride and size > 1 and name != "0":
            terms.append(name if stride == 1 else f"{stride} * {name if name.isidentifier() else f'({name})'}")
    if view.offset:
        terms.append(str(view.offset))
    return " + ".join(terms) or "0"


def collapse(
    shape: tuple[int, ...], views: Sequence[View]
) -> tuple[tuple[int, ...], Callable[[View], tuple[int, ...]]]:
    """Fewest loops for a shape: axes that every view walks as one become one. Returns counts and strides of a view."""
    kept = [axis for axis, n in enumerate(shape) if n != 1]
    groups: list[list[int]] = []
    for axis in kept:
        last = groups[-1][-1] if groups else -1
        if groups and all(view.strides[last] == view.strides[axis] * shape[axis] for view in views):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    counts = []
    for group in groups:
        count = 1
        for axis in group:
            count *= shape[axis]
        counts.append(count)

    def strides(view: View) -> tuple[int, ...]:
        return tuple(view.strides[group[-1]] for group in groups)

    return tuple(counts), strides
