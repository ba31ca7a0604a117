"""Reading flatbuffers whose every offset is checked: a damaged file is a :class:`ModelError`, never more.

Format: google/flatbuffers, ``docs/source/internals.md``. The package ``flatbuffers`` for Python doesn't verify: a
negative offset there reads from the buffer's end, and vectors that overlap make a small file endless.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError
from neurodeploy.importers.tflite_schema import Field

HINT = "The file is damaged; get it again."
_SCALARS = {"i8": "<b", "bool": "<B", "u16": "<H", "i32": "<i", "u32": "<I", "i64": "<q", "u64": "<Q", "f32": "<f"}
_VECTORS = {"[u8]": "u1", "[i32]": "<i4", "[i64]": "<i8", "[f32]": "<f4"}
#: What a table costs of the budget, in bytes; a hostile file can name one table any number of times.
_TABLE_COST = 32


class Flat:
    """A flatbuffer's bytes, and how much of them may still be read: tables that are shared count each time."""

    def __init__(self, data: bytes, file: str) -> None:
        self.data, self.file = data, file
        self.left = 8 * len(data) + (1 << 20)

    def error(self, what: str, place: str) -> ModelError:
        """The error of a damaged file."""
        return ModelError(f"{what}.", place=f"{self.file}: {place}" if place else self.file, hint=HINT)

    def scalar(self, kind: str, at: int, place: str) -> Any:
        """A number at a byte."""
        form = _SCALARS[kind]
        if not 0 <= at <= len(self.data) - struct.calcsize(form):
            raise self.error(f"points to byte {at} of {len(self.data)}", place)
        (value,) = struct.unpack_from(form, self.data, at)
        return bool(value) if kind == "bool" else value

    def spend(self, count: int, place: str) -> None:
        """Take bytes off the budget."""
        self.left -= count
        if self.left < 0:
            raise self.error("refers to more than it can hold: its tables or vectors overlap", place)

    def root(self) -> Table:
        """The root table."""
        return Table(self, self.scalar("u32", 0, ""), "")


class Table:
    """A table at a byte of the file; ``place`` is what errors call it."""

    def __init__(self, flat: Flat, at: int, place: str) -> None:
        self.flat, self.at, self.place = flat, at, place
        flat.spend(_TABLE_COST, place)
        self._fields = at - flat.scalar("i32", at, place)
        self._size = flat.scalar("u16", self._fields, place)

    def read(self, fields: Mapping[str, Field]) -> dict[str, Any]:
        """The fields that are wanted, by name. Raises :class:`ModelError` for an offset that leaves the file."""
        return {name: self.get(*field) for name, field in fields.items()}

    def get(self, number: int, kind: str, default: Any) -> Any:
        """A field: a scalar, ``string``, ``table`` (None where absent), ``[table]``, or a vector of scalars."""
        at = self.where(number)
        if at is None:
            return default
        if kind in _SCALARS:
            return self.flat.scalar(kind, at, self.place)
        at += self.flat.scalar("u32", at, self.place)
        if kind == "table":
            return Table(self.flat, at, self.place)
        count = self.flat.scalar("u32", at, self.place)
        return self._vector(kind, at + 4, count)

    def where(self, number: int) -> int | None:
        """The byte of a field; None where it is absent."""
        entry = 4 + 2 * number
        offset = self.flat.scalar("u16", self._fields + entry, self.place) if entry + 2 <= self._size else 0
        return self.at + offset if offset else None

    def _vector(self, kind: str, start: int, count: int) -> Any:
        flat = self.flat
        item = {"string": 1, "[table]": 4}.get(kind) or np.dtype(_VECTORS[kind]).itemsize
        if count * item > len(flat.data) - start:
            raise flat.error(f"has a vector of {count} entries at byte {start} of {len(flat.data)}", self.place)
        if kind == "[u8]":  # the data of constants: a view, however often it is shared
            return memoryview(flat.data)[start : start + count]
        flat.spend(count * item, self.place)
        if kind == "string":
            return flat.data[start : start + count].decode(errors="replace")
        if kind == "[table]":
            places = range(start, start + 4 * count, 4)
            return [Table(flat, at + flat.scalar("u32", at, self.place), self.place) for at in places]
        return np.frombuffer(flat.data, _VECTORS[kind], count, start)
