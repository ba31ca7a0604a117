"""A ``.tflite`` file as plain records, checked: indices, shapes, constants' sizes, and the order of operators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError, UnsupportedError
from neurodeploy.importers import tflite_schema as schema
from neurodeploy.importers.tflite_flat import HINT, Flat, Table

#: The tensors of a file may have no more elements than this: a model for a microcontroller has far fewer.
MOST_ELEMENTS = 1 << 26
_NUMPY = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "INT32": "<i4",
    "UINT8": "u1",
    "INT64": "<i8",
    "BOOL": "u1",
    "INT16": "<i2",
    "INT8": "i1",
}


@dataclass(frozen=True)
class Tensor:
    """A tensor: ``kind`` is TFLite's name of its element type; ``data`` its numbers if it is constant.

    ``scale`` and ``zero_point`` hold one entry, one per index of axis ``axis``, or none. ``open``: the file leaves a
    size besides the batch to what the model is given; ``shape`` is then a guess.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    kind: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    data: np.ndarray | None
    variable: bool
    open: bool = False


@dataclass(frozen=True)
class Operator:
    """An operator: indices of its tensors (-1 for an optional input that is absent) and its options."""

    index: int
    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Mapping[str, Any]

    def place(self, file: str) -> str:
        """What errors call it."""
        return f"{file}: operator {self.index} ({self.code})"


@dataclass(frozen=True)
class Subgraph:
    """Tensors and operators, the latter in an order in which every tensor is made before it is used."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A file, read. ``names``: of subgraph 0's inputs and outputs, by tensor, as its signature has them."""

    file: str
    description: str
    subgraphs: tuple[Subgraph, ...]
    names: Mapping[int, str]
    metadata: Mapping[str, bytes]


def read(data: bytes, file: str) -> Model:
    """Read a file's bytes.

    Raises :class:`ModelError` naming file and place, :class:`UnsupportedError` for sparse or outside data.
    """
    return _Reader(data, file).model()


class _Reader:
    def __init__(self, data: bytes, file: str) -> None:
        if len(data) < 8 or data[4:8] != b"TFL3":
            raise ModelError("is no TFLite file (its identifier isn't 'TFL3').", place=file, hint=HINT)
        self.flat, self.file, self.elements = Flat(data, file), file, 0
        self.root = self.flat.root().read(schema.MODEL)

    def model(self) -> Model:
        subgraphs = tuple(self._subgraph(i, table) for i, table in enumerate(self.root["subgraphs"]))
        if not subgraphs:
            raise ModelError("holds no subgraph.", place=self.file, hint=HINT)
        return Model(self.file, self.root["description"], subgraphs, self._names(subgraphs[0]), self._metadata())

    def _error(self, what: str, place: str) -> ModelError:
        return ModelError(f"{what}.", place=f"{self.file}: {place}", hint=HINT)

    @cached_property
    def _codes(self) -> list[str]:
        found = []
        for table in self.root["operator_codes"]:
            code = table.read(schema.OPERATOR_CODE)
            number = max(code["deprecated_builtin_code"], code["builtin_code"])
            name = schema.OPERATORS[number] if 0 <= number < len(schema.OPERATORS) else f"BUILTIN_{number}"
            found.append(f"CUSTOM '{code['custom_code'][:60]}'" if name == "CUSTOM" else name)
        return found

    @cached_property
    def _buffers(self) -> list[memoryview]:
        found = []
        for index, table in enumerate(self.root["buffers"]):
            buffer = table.read(schema.BUFFER)
            if buffer["offset"] > 1:
                end = buffer["offset"] + buffer["size"]
                if end > len(self.flat.data):
                    raise self._error(f"lies at bytes {buffer['offset']} to {end}, beyond the file", f"buffer {index}")
                found.append(memoryview(self.flat.data)[buffer["offset"] : end])
            else:
                found.append(memoryview(buffer["data"]) if len(buffer["data"]) else memoryview(b""))
        return found

    def _metadata(self) -> dict[str, bytes]:
        found = {}
        for table in self.root["metadata"]:
            entry = table.read(schema.METADATA)
            if entry["buffer"] < len(self._buffers):
                found[entry["name"]] = bytes(self._buffers[entry["buffer"]])
        return found

    def _names(self, main: Subgraph) -> dict[int, str]:
        """Names of inputs and outputs by the first signature of subgraph 0."""
        for table in self.root["signature_defs"]:
            signature = table.read(schema.SIGNATURE)
            if signature["subgraph_index"] == 0:
                maps = [t.read(schema.TENSOR_MAP) for side in ("inputs", "outputs") for t in signature[side]]
                known = {*main.inputs, *main.outputs}
                return {m["tensor_index"]: m["name"] for m in maps if m["tensor_index"] in known}
        return {}

    def _subgraph(self, number: int, table: Table) -> Subgraph:
        where = f"subgraph {number}"
        found = table.read(schema.SUBGRAPH)
        tensors = tuple(self._tensor(i, t, where) for i, t in enumerate(found["tensors"]))
        operators = tuple(self._operator(i, t, len(tensors), where) for i, t in enumerate(found["operators"]))
        ends = {key: self._indices(found[key], len(tensors), f"{where}'s {key}") for key in ("inputs", "outputs")}
        self._in_order(tensors, operators, ends, where)
        return Subgraph(found["name"], tensors, operators, ends["inputs"], ends["outputs"])

    def _indices(self, given: Sequence[int], count: int, where: str, *, optional: bool = False) -> tuple[int, ...]:
        least = -1 if optional else 0
        for index in given:
            if not least <= index < count:
                raise self._error(f"names tensor {index} of {count}", where)
        return tuple(int(i) for i in given)

    def _tensor(self, index: int, table: Table, where: str) -> Tensor:
        found = table.read(schema.TENSOR)
        place = f"{where}, tensor {index} ({found['name'][:60]})"
        shape = tuple(int(size) for size in found["shape"])
        if any(size < 0 for size in shape) or len(shape) > 8:
            raise self._error(f"has the shape {list(shape)[:9]}", place)
        self.elements += math.prod(shape)
        if self.elements > MOST_ELEMENTS:
            raise UnsupportedError(
                f"has the shape {list(shape)}; so many tensors hold too many elements (at most {MOST_ELEMENTS}).",
                place=f"{self.file}: {place}",
                hint="Is it a model for a microcontroller? If not, convert it for smaller inputs.",
            )
        number = found["type"]
        kind = schema.TENSOR_TYPES[number] if 0 <= number < len(schema.TENSOR_TYPES) else f"TYPE_{number}"
        if found["sparsity"] is not None or found["external_buffer"]:
            what = "is sparse" if found["sparsity"] is not None else "keeps its data in another file"
            raise UnsupportedError(
                f"{what}.", place=f"{self.file}: {place}", hint="Convert it with dense weights inside."
            )
        scale, zero_point, axis = self._quantization(found["quantization"], shape, place)
        data = self._data(found["buffer"], shape, kind, place)
        open_ = any(size < 0 for size in found["shape_signature"][1:])
        return Tensor(index, found["name"], shape, kind, scale, zero_point, axis, data, found["is_variable"], open_)

    def _quantization(
        self, table: Table | None, shape: tuple[int, ...], place: str
    ) -> tuple[tuple[float, ...], tuple[int, ...], int]:
        if table is None:
            return (), (), 0
        found = table.read(schema.QUANTIZATION)
        if found["details_type"] == schema.BLOCKWISE:
            raise UnsupportedError(
                "is quantized block by block.",
                place=f"{self.file}: {place}",
                hint="Quantize it with one scale, or with one for each channel.",
            )
        scale = np.asarray(found["scale"], np.float32)
        if not scale.any():  # a scale of zeros says nothing
            return (), (), 0
        zeros = np.asarray(found["zero_point"], np.int64)
        if len(zeros) < 2:  # one for all channels, or none
            zeros = np.full(len(scale), zeros[0] if len(zeros) else 0, np.int64)
        axis = found["quantized_dimension"]
        if not np.isfinite(scale).all() or (scale <= 0).any() or len(zeros) != len(scale):
            raise self._error(f"has {len(scale)} scales from {scale.min():g} and {len(zeros)} zero points", place)
        if len(shape) == 1 and shape[0] == len(scale):  # older converters write the weights' axis at a bias
            axis = 0
        if len(scale) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scale)):
            raise self._error(f"has {len(scale)} scales along axis {axis} of the shape {list(shape)}", place)
        if np.abs(zeros).max() > 1 << 31:
            raise self._error("has a zero point beyond int32", place)
        return tuple(map(float, scale)), tuple(map(int, zeros)), axis

    def _data(self, index: int, shape: tuple[int, ...], kind: str, place: str) -> np.ndarray | None:
        if index >= len(self._buffers):
            raise self._error(f"names buffer {index} of {len(self._buffers)}", place)
        raw, size = self._buffers[index], math.prod(shape)
        if not len(raw):
            return None
        if kind == "INT4":
            needed = (size + 1) // 2
            if len(raw) != needed:
                raise self._error(f"holds {len(raw)} bytes; its shape {list(shape)} needs {needed}", place)
            pairs = np.frombuffer(raw, np.int8)
            both = np.stack([np.left_shift(pairs, 4) >> 4, pairs >> 4], axis=1)
            return both.reshape(-1)[:size].reshape(shape)
        if kind not in _NUMPY:
            return np.frombuffer(raw, np.uint8)
        dtype = np.dtype(_NUMPY[kind])
        if len(raw) != size * dtype.itemsize:
            raise self._error(f"holds {len(raw)} bytes; its shape {list(shape)} needs {size * dtype.itemsize}", place)
        array = np.frombuffer(raw, dtype).reshape(shape)
        return array.astype(bool) if kind == "BOOL" else array

    def _operator(self, index: int, table: Table, tensors: int, where: str) -> Operator:
        found = table.read(schema.OPERATOR)
        if found["opcode_index"] >= len(self._codes):
            raise self._error(
                f"names operator code {found['opcode_index']} of {len(self._codes)}", f"{where}, operator {index}"
            )
        code = self._codes[found["opcode_index"]]
        place = f"{where}, operator {index} ({code})"
        inputs = self._indices(found["inputs"], tensors, place, optional=True)
        outputs = self._indices(found["outputs"], tensors, place)
        inner = self._indices(found["intermediates"], tensors, place, optional=True)
        return Operator(index, code, inputs, outputs, inner, self._options(code, found["builtin_options"], place))

    def _options(self, code: str, table: Table | None, place: str) -> dict[str, Any]:
        fields = schema.OPTIONS.get(code, {})
        if table is None:
            defaults = {name: default for name, (_, _, default) in fields.items()}
            return {**defaults, **schema.WITHOUT_OPTIONS.get(code, {})}
        found = table.read(fields)
        act = found.get("fused_activation_function", 0)
        if not 0 <= act < len(schema.ACTIVATIONS):
            raise self._error(f"has the fused activation {act}", place)
        return found

    def _in_order(
        self, tensors: Sequence[Tensor], operators: Sequence[Operator], ends: Mapping[str, Sequence[int]], where: str
    ) -> None:
        """Every tensor is made once, and before it is used."""
        made = {t.index for t in tensors if t.data is not None or t.variable} | set(ends["inputs"])
        empty = {t.index for t in tensors if math.prod(t.shape) == 0}
        for operator in operators:
            place = f"{where}, operator {operator.index} ({operator.code})"
            for index in operator.inputs if not operator.code.startswith("CUSTOM") else ():
                if index >= 0 and index not in made and index not in empty:
                    raise self._error(f"takes tensor {index} ({tensors[index].name[:60]}) before it is made", place)
            for index in operator.outputs:
                if index in made:
                    raise self._error(f"makes tensor {index} ({tensors[index].name[:60]}) a second time", place)
            made.update(operator.outputs)
        for index in ends["outputs"]:
            if index not in made:
                raise self._error(f"gives tensor {index} ({tensors[index].name[:60]}), which nothing makes", where)
