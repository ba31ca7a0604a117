"""Several operators for one value: each call appends one and gives the tensor of its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurodeploy.backends.tflite.write import TENSOR_TYPES, Subgraph

DTYPES = {kind: dtype for dtype, kind in TENSOR_TYPES.items()}
TABLES = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "CAST": "CastOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "SELECT_V2": "SelectV2Options",
    "GATHER": "GatherOptions",
    "TRANSPOSE": "TransposeOptions",
    "CONCATENATION": "ConcatenationOptions",
    "REDUCE_MAX": "ReducerOptions",
    "ARG_MAX": "ArgMaxOptions",
    "WHILE": "WhileOptions",
}


class Calculator:
    """Appends operators to a subgraph. Shapes are whole ones, the leading axis included."""

    def __init__(self, subgraph: Subgraph, stem: str) -> None:
        self.subgraph, self.stem = subgraph, stem

    def shape(self, tensor: int) -> tuple[int, ...]:
        """A tensor's shape."""
        return tuple(self.subgraph.tensors[tensor].shape)

    def dtype(self, tensor: int) -> str:
        """A tensor's dtype, by the IR's name."""
        return DTYPES[self.subgraph.tensors[tensor].kind]

    def new(self, shape: Sequence[int], dtype: str) -> int:
        """A tensor."""
        return self.subgraph.tensor(self.stem, tuple(shape), dtype)

    def const(self, data: Any, dtype: str = "i32") -> int:
        """A constant; a single number has shape ``[1]``."""
        array = np.atleast_1d(np.asarray(data))
        kinds = {"f32": np.float32, "i8": np.int8, "i16": np.int16, "i32": np.int32, "bool": np.bool_}
        return self.subgraph.shared(self.stem, dtype, array.astype(kinds[dtype]))

    def __call__(
        self,
        code: str,
        *inputs: int,
        dtype: str | None = None,
        shape: Sequence[int] | None = None,
        out: int | None = None,
        **options: Any,
    ) -> int:
        """An operator; its result has the first input's dtype and the inputs' broadcast shape unless they are given."""
        if out is None:
            shape = np.broadcast_shapes(*map(self.shape, inputs)) if shape is None else shape
            out = self.new(shape, dtype or self.dtype(inputs[0]))
        self.subgraph.op(code, inputs, [out], TABLES.get(code), **options)
        return out

    def cast(self, tensor: int, dtype: str, out: int | None = None) -> int:
        """A CAST, unless the dtype is that already."""
        if out is None and self.dtype(tensor) == dtype:
            return tensor
        return self("CAST", tensor, dtype=dtype, out=out)

    def reshape(self, tensor: int, shape: Sequence[int], out: int | None = None) -> int:
        """A RESHAPE."""
        if out is None and self.shape(tensor) == tuple(shape):
            return tensor
        return self("RESHAPE", tensor, self.const(list(shape)), shape=shape, out=out)

    def cut(self, tensor: int, axis: int, start: int, stop: int) -> int:
        """Elements ``start`` to ``stop - 1`` along an axis."""
        shape, begin = list(self.shape(tensor)), [0] * len(self.shape(tensor))
        begin[axis], shape[axis] = start, stop - start
        return self("SLICE", tensor, self.const(begin), self.const(shape), shape=shape, dtype=self.dtype(tensor))

    def fold(self, code: str, tensor: int, axis: int) -> int:
        """All elements along an axis joined by an associative operator, by halves; the axis stays with length 1."""
        rest: int | None = None
        while (size := self.shape(tensor)[axis]) > 1:
            half = size // 2
            if size % 2:
                tail = self.cut(tensor, axis, size - 1, size)
                rest = tail if rest is None else self(code, rest, tail)
            tensor = self(code, self.cut(tensor, axis, 0, half), self.cut(tensor, axis, half, 2 * half))
        return tensor if rest is None else self(code, tensor, rest)

    def choose(self, condition: int, first: int, second: int, out: int | None = None) -> int:
        """``first`` where the condition holds, else ``second``.

        SELECT_V2 (``SelectEval`` of kernels/select.cc) takes neither int32 nor bool: int32 goes by products with 0 and
        1, bool by logic.
        """
        dtype = self.dtype(first)
        if dtype == "i32":
            taken = self.cast(condition, "i32")
            left = self("SUB", self.const(1), taken)
            return self("ADD", self("MUL", taken, first), self("MUL", left, second), out=out)
        if dtype == "bool":
            taken = self("LOGICAL_AND", condition, first)
            return self("LOGICAL_OR", taken, self("LOGICAL_AND", self("LOGICAL_NOT", condition), second), out=out)
        shape = np.broadcast_shapes(*map(self.shape, (condition, first, second)))
        return self("SELECT_V2", condition, first, second, dtype=dtype, shape=shape, out=out)
