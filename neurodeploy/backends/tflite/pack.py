"""Small flatbuffers: the official schema module's builder functions, and every equal part written once.

A flatbuffer refers to its parts by offset, so equal shapes, scales, names, options and whole tables can share one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurodeploy.errors import require

#: The schema asks for it (``Buffer.data``, force_align): kernels read weights and biases where they stand.
BUFFER_ALIGNMENT = 16


class Packer:
    """A flatbuffer that is written from its leaves to its root; methods return offsets."""

    def __init__(self, schema: Any, room: int) -> None:
        self.schema = schema
        self.builder = require("flatbuffers", "tflite", "writing .tflite").Builder(room)
        self._known: dict[Any, int] = {}
        self._constants = 0

    def vector(self, values: Any, dtype: type) -> int:
        """A vector of numbers; where its bytes stand already, that place's offset."""
        data = np.asarray(values, dtype).reshape(-1)
        key = (dtype, data.tobytes())
        if key not in self._known:
            found = self._find(len(data).to_bytes(4, "little") + data.tobytes(), data.itemsize)
            self._known[key] = found or self.builder.CreateNumpyVector(data)
        return self._known[key]

    def _find(self, wanted: bytes, size: int) -> int:
        """The offset of a vector's bytes in what was written since :meth:`bytes`, aligned for its elements, or 0."""
        end = len(self.builder.Bytes) - self._constants
        written = self.builder.Bytes[self.builder.Head() : end]
        place = written.find(wanted)
        while place >= 0:
            offset = len(written) - place + self._constants
            if offset % 4 == 0 and (offset - 4) % size == 0:
                return offset
            place = written.find(wanted, place + 1)
        return 0

    def string(self, text: str) -> int:
        """A string; an equal one's if there is one."""
        return self.builder.CreateSharedString(text)

    def bytes(self, data: bytes) -> int:
        """A buffer's data, aligned. It shares its bytes with nothing, so that they can be changed in place."""
        self.builder.Prep(BUFFER_ALIGNMENT, len(data))
        offset = self.builder.CreateByteVector(data)
        self._constants = self.builder.Offset()
        return offset

    def offsets(self, found: list[int]) -> int:
        """A vector of tables."""
        key = ("offsets", tuple(found))
        if key not in self._known:
            self.builder.StartVector(4, len(found), 4)
            for offset in reversed(found):
                self.builder.PrependUOffsetTRelative(offset)
            self._known[key] = self.builder.EndVector()
        return self._known[key]

    def table(self, name: str, **fields: Any) -> int:
        """A table of the schema; an equal one's if there is one.

        ``fields``: scalars, or offsets of what was written; None is left out, and so is a default. Wide fields first
        keep it without gaps.
        """
        given = {field: value for field, value in fields.items() if value is not None}
        key = (name, *given.items())
        if key not in self._known:
            getattr(self.schema, f"{name}Start")(self.builder)
            for field, value in given.items():
                getattr(self.schema, f"{name}Add{field}")(self.builder, value)
            self._known[key] = getattr(self.schema, f"{name}End")(self.builder)
        return self._known[key]

    def options(self, name: str, options: dict[str, Any]) -> int | None:
        """An operator's options, None where all are the schema's defaults; vectors are of int32."""
        usual = getattr(self.schema, f"{name}T")()
        fields = {}
        for key, value in options.items():
            if value == getattr(usual, key) or (value == "" and getattr(usual, key) is None):
                continue
            if isinstance(value, str):
                value = self.string(value)
            elif isinstance(value, (list, tuple)):
                value = self.vector(value, np.int32)
            fields[key[0].upper() + key[1:]] = value
        return self.table(name, **fields) if fields else None

    def finish(self, root: int, identifier: bytes) -> bytes:
        """The file's bytes."""
        self.builder.Finish(root, identifier)
        return bytes(self.builder.Output())
