"""Types of values: shape, element type and quantization, per sample (the batch is never part of a type)."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.errors import TextError

NUMPY_DTYPES: dict[str, type] = {
    "f32": np.float32,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "bool": np.bool_,
}
INT_BITS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64}


def int_range(dtype: str) -> tuple[int, int]:
    """Smallest and largest value of an integer dtype."""
    bits = INT_BITS[dtype]
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


@dataclass(frozen=True)
class Quant:
    """An affine quantization: ``real = (integer - zero_point) * scale``.

    ``scale`` is one float, or with ``axis`` a tuple of one float per index of that axis (then ``zero_point`` is 0).
    """

    scale: float | tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None

    @property
    def array(self) -> np.ndarray:
        """The scale(s) as float64, shape ``()`` or ``[n]``."""
        return np.asarray(self.scale, dtype=np.float64)

    def shaped(self, rank: int) -> np.ndarray:
        """The scale(s) shaped to broadcast against a value of that rank."""
        if self.axis is None:
            return self.array
        return self.array.reshape([-1 if i == self.axis else 1 for i in range(rank)])

    def __str__(self) -> str:
        scale = json.dumps(self.scale)
        return f"{{{scale}:{self.zero_point}}}" if self.axis is None else f"{{{scale}:{self.zero_point}@{self.axis}}}"


@dataclass(frozen=True)
class TensorType:
    """Shape and dtype of one sample's value, with its quantization if it has one. Prints as ``i8[4]{0.0078:0}``."""

    shape: tuple[int, ...]
    dtype: str = "f32"
    quant: Quant | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, unpadded."""
        return self.size * np.dtype(NUMPY_DTYPES[self.dtype]).itemsize

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(NUMPY_DTYPES[self.dtype])

    @property
    def is_int(self) -> bool:
        return self.dtype in INT_BITS

    def with_(self, **changes: object) -> TensorType:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def same_data(self, other: object) -> bool:
        """Whether shape and dtype agree, whatever the quantization."""
        return isinstance(other, TensorType) and (self.shape, self.dtype) == (other.shape, other.dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]{self.quant or ''}"


@dataclass(frozen=True)
class TupleType:
    """The type of a composite with several results; ``get`` takes one out."""

    items: tuple[TensorType, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


Type = TensorType | TupleType

_TENSOR = re.compile(r"(f32|i8|i16|i32|i64|bool)\[([\d,]*)\](?:\{(\[[^\]]*\]|[^:\]]+):(-?\d+)(?:@(\d+))?\})?\Z")


def parse_type(text: str) -> Type:
    """Parse what ``str(type)`` printed. Raises :class:`TextError`."""
    text = text.strip()
    if text.startswith("("):
        items = split_commas(text[1:-1]) if text.endswith(")") else []
        parsed = tuple(parse_type(item) for item in items)
        if parsed and all(isinstance(item, TensorType) for item in parsed):
            return TupleType(parsed)  # type: ignore[arg-type]
        raise TextError(f"'{text[:60]}' is no tuple of types.")
    match = _TENSOR.match(text)
    if not match:
        raise TextError(f"'{text[:60]}' is no type; write one as f32[4,8] or i8[4]{{0.0078:0}}.")
    dtype, dims, scale, zero_point, axis = match.groups()
    quant = None
    if scale is not None:
        try:
            value = json.loads(scale)
            value = tuple(map(float, value)) if isinstance(value, list) else float(value)
        except (ValueError, TypeError) as error:
            raise TextError(f"'{scale}' is no scale.") from error
        quant = Quant(value, int(zero_point), None if axis is None else int(axis))
    return TensorType(tuple(int(d) for d in dims.split(",") if d), dtype, quant)


def split_commas(text: str) -> list[str]:
    """Split at the commas that stand outside every bracket and string."""
    parts, depth, start, quoted = [], 0, 0, False
    for i, char in enumerate(text):
        if char == '"' and (i == 0 or text[i - 1] != "\\"):
            quoted = not quoted
        elif quoted:
            continue
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    tail = text[start:].strip()
    return [*parts, tail] if tail or parts else []
