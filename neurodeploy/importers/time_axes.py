"""Labelled axes: what a tensor program's axes mean (batch, time, feature), and how shape ops carry the labels on.

Sizes are whole numbers or :class:`Dim`, polynomials in named unknowns such as ``batch``; an exporter's shape arithmetic
(``Shape``, ``Gather``, ``Mul``, ``Concat`` ... into ``Reshape``) is carried out on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from neurodeploy.errors import UnsupportedError

Monomial = tuple[str, ...]


@dataclass(frozen=True)
class Dim:
    """A size that isn't known yet: a polynomial with whole coefficients in named unknowns."""

    terms: tuple[tuple[Monomial, int], ...]

    @classmethod
    def symbol(cls, name: str) -> Dim:
        """The unknown of that name."""
        return cls((((name,), 1),))

    def __add__(self, other: Any) -> Size:
        return _sum([*self.terms, *_terms(other)])

    def __sub__(self, other: Any) -> Size:
        return _sum([*self.terms, *((m, -c) for m, c in _terms(other))])

    def __mul__(self, other: Any) -> Size:
        return _sum([(tuple(sorted(m + n)), c * d) for m, c in self.terms for n, d in _terms(other)])

    def __rsub__(self, other: Any) -> Size:
        return _sum([*_terms(other), *((m, -c) for m, c in self.terms)])

    def __neg__(self) -> Size:
        return self * -1

    def __floordiv__(self, other: Any) -> Size:
        found = quotient(self, other)
        if found is None:
            raise UnsupportedError(f"the size {self} is divided by {other}, which isn't known to be exact.")
        return found

    def __rfloordiv__(self, other: Any) -> Size:
        raise UnsupportedError(f"{other} is divided by the size {self}, which isn't known when compiling.")

    __radd__, __rmul__, __truediv__ = __add__, __mul__, __floordiv__

    def __lt__(self, other: Any) -> bool:
        raise UnsupportedError(f"the size {self} is compared with {other}, and it isn't known when compiling.")

    __le__ = __gt__ = __ge__ = __lt__

    def __str__(self) -> str:
        parts = ["*".join([*m] if c == 1 and m else [str(c), *m]) for m, c in self.terms]
        return "+".join(parts).replace("+-", "-")


Size = int | Dim


def _terms(value: Any) -> tuple[tuple[Monomial, int], ...]:
    return value.terms if isinstance(value, Dim) else (((), int(value)),)


def _sum(terms: Sequence[tuple[Monomial, int]]) -> Size:
    table: dict[Monomial, int] = {}
    for monomial, factor in terms:
        table[monomial] = table.get(monomial, 0) + factor
    kept = tuple(sorted((m, c) for m, c in table.items() if c))
    if not kept:
        return 0
    return kept[0][1] if kept[0][0] == () and len(kept) == 1 else Dim(kept)


def product(sizes: Sequence[Size]) -> Size:
    """The product of sizes."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def quotient(a: Size, b: Size) -> Size | None:
    """``a / b`` where that is exact, else None."""
    if a == b:
        return 1
    if isinstance(b, int) and isinstance(a, int):
        return a // b if b and a % b == 0 else None
    divisor = _terms(b)
    if len(divisor) != 1 or divisor[0][1] == 0:
        return None
    (monomial, factor), result = divisor[0], []
    for own, count in _terms(a):
        left = list(own)
        for symbol in monomial:
            if symbol not in left:
                return None
            left.remove(symbol)
        if count % factor:
            return None
        result.append((tuple(left), count // factor))
    return _sum(result)


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor program's tensor.

    ``label``: ``batch``, ``time``, ``feature``, or ``merged`` (batch and time in one axis; ``parts`` says in which
    order). ``size`` counts a time axis without its extents. ``lead`` and ``tail``: how many elements a time axis
    has before the first step and after the last one (negative: how many it lacks). ``domain`` tells time axes of
    different lengths apart.
    """

    label: str
    size: Size
    domain: str = ""
    lead: int = 0
    tail: int = 0
    parts: tuple[Axis, ...] = ()

    @property
    def extent(self) -> Size:
        """The size of the axis as the tensor program sees it."""
        return self.size + self.lead + self.tail

    @property
    def is_unit(self) -> bool:
        """Whether it is a feature axis of size 1, which can stand for anything."""
        return self.label == "feature" and self.size == 1

    def __str__(self) -> str:
        size = str(self.extent)
        return self.label if size == self.label else f"{self.label} {size}"


Axes = tuple[Axis, ...]
UNIT = Axis("feature", 1)


def feature(size: Size) -> Axis:
    """A feature axis; its size must be known. Raises :class:`UnsupportedError`."""
    if not isinstance(size, int):
        raise UnsupportedError(
            f"a feature axis has the size {size}, which isn't known when compiling.",
            hint="Export the model with fixed feature sizes.",
        )
    return Axis("feature", size)


def describe(axes: Axes) -> str:
    """Axes in words: ``[batch B, time T, feature 12]``."""
    return f"[{', '.join(map(str, axes))}]"


def shape_of(axes: Axes) -> tuple[int, ...]:
    """The per-step shape: the sizes of the feature axes."""
    return tuple(a.size for a in axes if a.label == "feature" and isinstance(a.size, int))


def find(axes: Axes, label: str) -> Axis | None:
    """The axis of that label, looked for in merged axes too."""
    for axis in axes:
        for one in (axis, *axis.parts):
            if one.label == label:
                return one
    return None


def join(axes: Sequence[Axes]) -> Axes:
    """The axes of an elementwise result, broadcast from the right. Raises :class:`UnsupportedError`."""
    rank = max(map(len, axes))
    result: list[Axis] = []
    for position in range(rank, 0, -1):
        column = [a[-position] for a in axes if len(a) >= position and not a[-position].is_unit]
        column = list(dict.fromkeys(column))
        if any(a.label != "feature" for a in column):
            if len({a.label for a in column}) > 1:
                raise UnsupportedError(
                    f"axis {rank - position} is {' and '.join(map(str, column))} at once.",
                    hint="Transpose one of the operands, or write the sum over explicit axes.",
                )
            if len(column) > 1:
                raise UnsupportedError(
                    f"axes of different extent meet: {' and '.join(map(str, column))}.",
                    hint="Pad or cut them so that they run over the same steps.",
                )
        elif len(column) > 1:
            raise UnsupportedError(f"feature axes of different size meet: {' and '.join(map(str, column))}.")
        result.append(column[0] if column else UNIT)
    labels = [one.label for a in result for one in (a, *a.parts) if one.label in ("batch", "time")]
    if len(labels) != len(set(labels)):
        raise UnsupportedError(
            f"two axes of the result are the same: {describe(tuple(result))}.",
            hint="Only elementwise work over one batch axis and one time axis can be run step by step.",
        )
    return tuple(result)


def fill_in(axes: Axes, wanted: Sequence[Size]) -> list[Size]:
    """The sizes of a reshape's result with its one ``-1`` worked out. Raises :class:`UnsupportedError`."""
    sizes = list(wanted)
    if sizes.count(-1) > 1:
        raise UnsupportedError("a reshape leaves more than one size open.")
    if -1 in sizes:
        rest = product([s for s in sizes if s != -1])
        found = quotient(product([a.extent for a in axes]), rest)
        if found is None:
            raise UnsupportedError(f"{describe(axes)} can't be reshaped to {_sizes(sizes)}.")
        sizes[sizes.index(-1)] = found
    return sizes


def reshape(axes: Axes, wanted: Sequence[Size]) -> Axes:
    """The axes after a row-major reshape. Raises :class:`UnsupportedError` where time or batch would mix with features.

    Walks both shapes from the left and cuts them into groups of equal products. A batch or time axis must be alone in
    its group (units aside); batch and time together make a merged axis, which a later reshape may split again.
    """
    sizes = fill_in(axes, wanted)
    left, right, result = list(axes), list(sizes), []
    while left or right:
        if left and right and left[0].extent == right[0]:
            result.append(left.pop(0))
            right.pop(0)
        elif right and right[0] == 1:
            result.append(UNIT)
            right.pop(0)
        elif left and left[0].extent == 1 and left[0].label != "time":
            left.pop(0)
        else:
            taken, given = _group(left, right)
            if taken is None or given is None:
                raise UnsupportedError(f"{describe(axes)} can't be reshaped to {_sizes(sizes)}.", hint=_KEEP)
            result += _regroup(axes, taken, given, sizes)
    return tuple(result)


_KEEP = "Keep batch, time and feature axes apart."


def _sizes(sizes: Sequence[Size]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _group(left: list[Axis], right: list[Size]) -> tuple[list[Axis] | None, list[Size] | None]:
    """Take the shortest run off each side with one and the same product."""
    taken: list[Axis] = []
    given: list[Size] = []
    a: Size = 1
    b: Size = 1
    while not taken or not given or a != b:
        more_left = not taken or (given and quotient(b, a) is not None) or not right
        if more_left and left:
            taken.append(left.pop(0))
            a = a * taken[-1].extent
        elif right:
            given.append(right.pop(0))
            b = b * given[-1]
        else:
            return None, None
    return taken, given


def _regroup(axes: Axes, taken: list[Axis], given: list[Size], sizes: Sequence[Size]) -> list[Axis]:
    if all(a.label == "feature" for a in taken):
        return [feature(size) for size in given]
    real = [a for a in taken if a.extent != 1]
    if len(real) == 1 and real[0].parts and [p.size for p in real[0].parts] == [g for g in given if g != 1]:
        parts = list(real[0].parts)
        return [UNIT if size == 1 else parts.pop(0) for size in given]
    whole = [a for a in taken if not a.is_unit]
    if len(given) == 1 and sorted(a.label for a in whole) == ["batch", "time"]:
        if any(a.lead or a.tail for a in whole):
            raise UnsupportedError("batch is merged with a padded or cut time axis.", hint=_KEEP)
        return [Axis("merged", given[0], parts=tuple(whole))]
    raise UnsupportedError(
        f"{describe(axes)} is reshaped to {_sizes(sizes)}, which mixes {' with '.join(map(str, taken))}.",
        hint="Step by step only features can be regrouped: take the last step, or a mean over time, before flattening.",
    )


def split_first_axis(axis: Axis) -> Axes:
    """A merged axis' parts, or the axis itself."""
    return axis.parts or (axis,)


def without_extents(axes: Axes) -> Axes:
    """The axes with every time axis running over just its steps."""
    return tuple(replace(a, lead=0, tail=0) for a in axes)
