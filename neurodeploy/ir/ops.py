"""The registry of primitives, and the shape rule of a value whatever its op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neurodeploy.errors import IRError, nearest
from neurodeploy.ir.fixed import FIXED_OPS
from neurodeploy.ir.op import Op
from neurodeploy.ir.ops_math import MATH_OPS
from neurodeploy.ir.ops_shape import SHAPE_OPS
from neurodeploy.ir.tflite import TFLITE_OPS
from neurodeploy.ir.types import TensorType, TupleType, Type

OPS: Mapping[str, Op] = {**MATH_OPS, **SHAPE_OPS, **FIXED_OPS, **TFLITE_OPS}


def op(name: str) -> Op:
    """The primitive of that name. Raises :class:`IRError` naming the nearest."""
    if name not in OPS:
        raise IRError(f"there is no op '{name}'.", hint=nearest(name, OPS))
    return OPS[name]


def infer(name: str, types: Sequence[Type], attrs: Mapping[str, Any]) -> Type:
    """The type of a primitive's result, or of ``get``'s. Raises :class:`IRError`."""
    if name == "get":
        (source,) = types
        index = attrs.get("index")
        if not isinstance(source, TupleType) or not isinstance(index, int) or not 0 <= index < len(source.items):
            raise IRError(
                f"get needs a composite with several results and index= one of them; {source}, {index} given."
            )
        return source.items[index]
    tensors = [t for t in types if isinstance(t, TensorType)]
    if len(tensors) != len(types):
        raise IRError(f"{name} takes tensors; take one result of the composite with get.")
    return op(name).check(tensors, attrs)
