"""What an op is: its shape rule, its meaning and its attributes in one place.

``eval`` works on a batch: every array is ``[B, *shape]``, or ``[1, *shape]`` where it is the same for all samples
(params, constants); NumPy broadcasting joins the two. Axes in attributes count per sample, without the batch.
Integers are computed in int64 and must fit the result's dtype: they never wrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, NumericsError, nearest
from neurodeploy.ir.types import TensorType, int_range

Array = np.ndarray
Infer = Callable[[Sequence[TensorType], Mapping[str, Any]], TensorType]
Eval = Callable[[Sequence[Array], Mapping[str, Any], TensorType, Sequence[TensorType]], Array]


@dataclass(frozen=True)
class Op:
    """A primitive.

    ``arity``: fewest and most arguments. ``attrs``: the attributes it knows. ``infer(types, attrs)`` gives the result's
    shape and dtype or raises :class:`IRError`. ``eval(arrays, attrs, result_type, arg_types)`` is its meaning.
    ``kinds``: on what it is defined: any of ``"float"``, ``"int"``, ``"bool"``. ``elementwise``: whether result
    element i depends on elements i of the (broadcast) arguments only.
    """

    name: str
    arity: tuple[int, int]
    infer: Infer
    eval: Eval
    kinds: frozenset[str]
    attrs: tuple[str, ...] = ()
    elementwise: bool = False

    def check(self, types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
        """The result's type, after every check. Raises :class:`IRError`."""
        low, high = self.arity
        if not low <= len(types) <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}"
            raise IRError(f"{self.name} takes {wanted} arguments, {len(types)} given.")
        for key in attrs:
            if key not in self.attrs:
                raise IRError(f"{self.name} has no attribute '{key}'.", hint=nearest(key, self.attrs))
        try:
            found = self.infer(types, attrs)
        except (TypeError, ValueError, OverflowError) as error:
            raise IRError(f"{self.name} can't take the attributes {dict(attrs)} ({error}).") from error
        if any(not isinstance(size, int) or size < 0 for size in found.shape):
            raise IRError(f"{self.name} can't take the attributes {dict(attrs)}: they give shape {found.shape}.")
        return found


def kind_of(type_: TensorType) -> str:
    """``"float"``, ``"int"`` or ``"bool"``."""
    return {"f32": "float", "bool": "bool"}.get(type_.dtype, "int")


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """NumPy's broadcast shape. Raises :class:`IRError`."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise IRError(f"shapes {' and '.join(map(str, shapes))} don't broadcast.") from error


def align(arrays: Sequence[Array]) -> list[Array]:
    """Insert axes behind the batch axis so that per-sample shapes broadcast from the right."""
    rank = max(a.ndim for a in arrays)
    return [a.reshape(a.shape[:1] + (1,) * (rank - a.ndim) + a.shape[1:]) for a in arrays]


def fit(array: Array, dtype: str) -> Array:
    """An integer array as ``dtype``. Raises :class:`NumericsError` where a value doesn't fit."""
    low, high = int_range(dtype)
    if array.size and (array.min() < low or array.max() > high):
        raise NumericsError(
            f"an integer result reached {int(array.min())}..{int(array.max())}, {dtype} holds {low}..{high}."
        )
    return array.astype({"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64}[dtype])


def saturate(array: Array, dtype: str) -> Array:
    """An integer array clipped to ``dtype``."""
    low, high = int_range(dtype)
    return np.clip(array, low, high).astype({"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64}[dtype])


def same_kind(types: Sequence[TensorType]) -> str:
    """The one kind of all types. Raises :class:`IRError`."""
    kinds = {kind_of(t) for t in types}
    if len(kinds) != 1:
        raise IRError(f"the arguments mix {' and '.join(t.dtype for t in types)}; cast or quantize first.")
    return kinds.pop()


def axis_of(attrs: Mapping[str, Any], shape: tuple[int, ...]) -> int:
    """Attribute ``axis`` (0 where absent), counted from the front. Raises :class:`IRError`."""
    axis = attrs.get("axis", 0)
    if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
        raise IRError(f"axis {axis} doesn't exist in shape {shape}.")
    return axis % len(shape)
