"""Writing ``.tflite`` flatbuffers with the official schema module that the LiteRT and tflite-micro wheels carry.

Schema: tensorflow/tflite-micro, ``tensorflow/lite/schema/schema.fbs``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from neurodeploy.errors import MissingExtraError, require
from neurodeploy.ir.types import Quant

SCHEMA_MODULES = ("ai_edge_litert.schema_py_generated", "tflite_micro.tensorflow.lite.micro.python.schema_py_generated")
TENSOR_TYPES = {
    "f32": "FLOAT32",
    "i4": "INT4",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "bool": "BOOL",
}


def schema() -> Any:
    """The schema module of one of the wheels that carry it. Raises :class:`MissingExtraError`."""
    for name in SCHEMA_MODULES[:-1]:
        try:
            return require(name, "tflite", "writing .tflite")
        except MissingExtraError:
            continue
    return require(SCHEMA_MODULES[-1], "tflite", "writing .tflite")


def packed(data: np.ndarray) -> np.ndarray:
    """Integers of -8 to 7 two a byte, the first in the low half; an odd one stands alone in the last byte.

    As ``UnpackDenseInt4IntoInt8`` of kernels/internal/portable_tensor_utils.cc reads them.
    """
    flat = np.append(data.reshape(-1), np.zeros(data.size % 2, data.dtype)).astype(np.uint8) & 15
    return flat[::2] | flat[1::2] << 4


class Model:
    """A flatbuffer under construction: its operator codes and buffers, shared by its subgraphs."""

    def __init__(self) -> None:
        self.fb = schema()
        self.codes: list[str] = []
        self.buffers: list[bytes] = [b""]
        self.subgraphs: list[Subgraph] = []

    def subgraph(self, name: str) -> Subgraph:
        """A new, empty subgraph."""
        self.subgraphs.append(Subgraph(self, name))
        return self.subgraphs[-1]

    def code(self, name: str) -> int:
        """The index of a builtin operator's code."""
        if name not in self.codes:
            self.codes.append(name)
        return self.codes.index(name)

    def buffer(self, data: bytes) -> int:
        """The index of a constant's buffer; equal constants share one."""
        if data not in self.buffers:
            self.buffers.append(data)
        return self.buffers.index(data)

    def finish(self, description: str) -> bytes:
        """The file's bytes."""
        fb, flatbuffers = self.fb, require("flatbuffers", "tflite", "writing .tflite")
        model = fb.ModelT()
        model.version, model.description = 3, description
        model.operatorCodes = []
        for name in self.codes:
            number = getattr(fb.BuiltinOperator, name)
            code = fb.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
            model.operatorCodes.append(code)
        model.buffers = []
        for data in self.buffers:
            buffer = fb.BufferT()
            buffer.data = np.frombuffer(data, np.uint8) if data else None
            model.buffers.append(buffer)
        model.subgraphs = [s.finish() for s in self.subgraphs]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class Subgraph:
    """One subgraph: tensors and operators in order. Methods give and take tensor indices."""

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name = model, name
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(
        self, name: str, shape: tuple[int, ...], kind: str, quant: Quant | None = None, data: np.ndarray | None = None
    ) -> int:
        """A tensor; ``kind`` is an IR dtype or ``"resource"``. With ``data`` it is a constant."""
        fb = self.model.fb
        tensor = fb.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = name, list(shape), True
        tensor.type = getattr(fb.TensorType, TENSOR_TYPES.get(kind, kind.upper()))
        if data is not None and kind == "i4":
            data = packed(data)
        tensor.buffer = 0 if data is None else self.model.buffer(np.ascontiguousarray(data).tobytes())
        if quant is not None:
            tensor.quantization = fb.QuantizationParametersT()
            scales = quant.array.reshape(-1).astype(np.float32)
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.full(scales.shape, quant.zero_point, np.int64)
            tensor.quantization.quantizedDimension = quant.axis or 0
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def ints(self, name: str, values: Collection[int]) -> int:
        """A constant vector of int32: a shape, a permutation, bounds."""
        return self.tensor(name, (len(values),), "i32", data=np.array(list(values), np.int32))

    def op(
        self, code: str, inputs: Collection[int], outputs: Collection[int], table: str | None = None, **options: Any
    ) -> None:
        """An operator; ``table`` names the schema's options table, ``options`` are its fields."""
        fb = self.model.fb
        operator = fb.OperatorT()
        operator.opcodeIndex = self.model.code(code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if table is not None:
            operator.builtinOptionsType = getattr(fb.BuiltinOptions, table)
            operator.builtinOptions = getattr(fb, f"{table}T")()
            for key, value in options.items():
                setattr(operator.builtinOptions, key, value)
        self.operators.append(operator)

    def finish(self) -> Any:
        """The schema's object."""
        made = self.model.fb.SubGraphT()
        made.name, made.tensors, made.operators = self.name, self.tensors, self.operators
        made.inputs, made.outputs = self.inputs, self.outputs
        return made
