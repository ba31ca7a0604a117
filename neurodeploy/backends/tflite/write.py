"""Writing ``.tflite`` flatbuffers with the official schema module that the LiteRT and tflite-micro wheels carry.

Schema: tensorflow/tflite-micro, ``tensorflow/lite/schema/schema.fbs``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurodeploy.backends.tflite.pack import Packer
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
#: Operators whose first version LiteRT doesn't have; TFLM reads no versions.
VERSIONS = {"BROADCAST_TO": 2}
#: Operators that run subgraphs. TFLM's planner looks for them in the wide field alone, and lays out subgraphs that it
#: doesn't find as if nothing else were there (``MarkSubgraphLifetimesIfNecessary`` of micro_allocation_info.cc).
CONTROL = ("CALL_ONCE", "IF", "WHILE")


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


@dataclass
class Tensor:
    """A tensor of a subgraph; ``kind`` is the schema's type, ``buffer`` 0 for no data."""

    name: str
    shape: list[int]
    kind: str
    buffer: int = 0
    quant: Quant | None = None
    isVariable: bool = False


@dataclass
class Operator:
    """An operator of a subgraph; ``options`` are fields of the schema's table of that name."""

    code: int
    inputs: list[int]
    outputs: list[int]
    table: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    intermediates: list[int] = field(default_factory=list)


@dataclass
class Signature:
    """A named way to call subgraph 0: names of its inputs and outputs, each with its tensor."""

    key: str
    inputs: list[tuple[str, int]]
    outputs: list[tuple[str, int]]


class Model:
    """A flatbuffer under construction: its operator codes and buffers, shared by its subgraphs.

    ``small``: without the names of tensors and with one zero point for all channels.
    """

    def __init__(self, small: bool = False) -> None:
        self.fb = schema()
        self.small = small
        self.codes: list[str] = []
        self._buffers: dict[bytes, int] = {b"": 0}
        self.subgraphs: list[Subgraph] = []
        self.signatures: list[Signature] = []
        self.metadata: dict[str, bytes] = {}
        self.description: str | None = None

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
        return self._buffers.setdefault(data, len(self._buffers))

    def finish(self) -> bytes:
        """The file's bytes."""
        metadata = [(name, self.buffer(data)) for name, data in self.metadata.items()]
        self._order_codes()
        pack = Packer(self.fb, 4096 + 2 * sum(map(len, self._buffers)))
        buffers = [pack.table("Buffer", Data=pack.bytes(data) if data else None) for data in self._buffers]
        notes = [pack.table("Metadata", Name=pack.string(name), Buffer=buffer) for name, buffer in metadata]
        subgraphs = [s.finish(pack) for s in self.subgraphs]
        signatures = [self._signature(pack, signature) for signature in self.signatures]
        root = pack.table(
            "Model",
            Version=3,
            OperatorCodes=pack.offsets([self._code(pack, name) for name in self.codes]),
            Subgraphs=pack.offsets(subgraphs),
            Buffers=pack.offsets(buffers),
            Description=pack.string(self.description) if self.description else None,
            Metadata=pack.offsets(notes) if notes else None,
            SignatureDefs=pack.offsets(signatures) if signatures else None,
        )
        return pack.finish(root, b"TFL3")

    def _order_codes(self) -> None:
        """The code that most operators have comes first: a number 0 takes no bytes."""
        operators = [operator for subgraph in self.subgraphs for operator in subgraph.operators]
        uses = Counter(operator.code for operator in operators)
        order = sorted(range(len(self.codes)), key=lambda code: -uses[code])
        self.codes = [self.codes[code] for code in order]
        for operator in operators:
            operator.code = order.index(operator.code)

    def _code(self, pack: Packer, name: str) -> int:
        """The code's number stands in both fields, as the schema asks for the sake of old readers. Readers take the
        larger one (``GetBuiltinCode``), so the small file has it in one of them."""
        number = getattr(self.fb.BuiltinOperator, name)
        in_wide = number >= 127 or name in CONTROL
        wide = number if in_wide or not self.small else None
        narrow = None if in_wide and self.small else min(number, 127)
        version = {"Version": VERSIONS[name]} if name in VERSIONS else {}
        return pack.table("OperatorCode", BuiltinCode=wide, DeprecatedBuiltinCode=narrow, **version)

    def _signature(self, pack: Packer, signature: Signature) -> int:
        maps = [
            pack.offsets([pack.table("TensorMap", Name=pack.string(name), TensorIndex=tensor) for name, tensor in side])
            for side in (signature.inputs, signature.outputs)
        ]
        return pack.table(
            "SignatureDef", Inputs=maps[0], Outputs=maps[1], SignatureKey=pack.string(signature.key), SubgraphIndex=0
        )


class Subgraph:
    """One subgraph: tensors and operators in order. Methods give and take tensor indices."""

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name = model, name
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._shared: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def tensor(
        self, name: str, shape: tuple[int, ...], kind: str, quant: Quant | None = None, data: np.ndarray | None = None
    ) -> int:
        """A tensor; ``kind`` is an IR dtype or ``"resource"``. With ``data`` it is a constant."""
        if data is not None and kind == "i4":
            data = packed(data)
        buffer = 0 if data is None else self.model.buffer(np.ascontiguousarray(data).tobytes())
        self.tensors.append(Tensor(name, list(shape), TENSOR_TYPES.get(kind, kind.upper()), buffer, quant))
        return len(self.tensors) - 1

    def ints(self, name: str, values: Collection[int]) -> int:
        """A constant vector of int32: a shape, a permutation, bounds."""
        return self.shared(name, "i32", np.array(list(values), np.int32))

    def shared(self, name: str, kind: str, data: np.ndarray) -> int:
        """A constant without a scale; equal ones are one tensor."""
        key = kind, data.shape, data.tobytes()
        if key not in self._shared:
            self._shared[key] = self.tensor(name, data.shape, kind, data=data)
        return self._shared[key]

    def op(
        self, code: str, inputs: Collection[int], outputs: Collection[int], table: str | None = None, **options: Any
    ) -> None:
        """An operator; ``table`` names the schema's options table, ``options`` are its fields."""
        self.operators.append(Operator(self.model.code(code), list(inputs), list(outputs), table, options))

    def finish(self, pack: Packer) -> int:
        """Its table's offset."""
        tensors = [self._tensor(pack, tensor) for tensor in self.tensors]
        operators = [self._operator(pack, operator) for operator in self.operators]
        return pack.table(
            "SubGraph",
            Tensors=pack.offsets(tensors),
            Inputs=pack.vector(self.inputs, np.int32),
            Outputs=pack.vector(self.outputs, np.int32),
            Operators=pack.offsets(operators),
            Name=None if self.model.small else pack.string(self.name),
        )

    def _tensor(self, pack: Packer, tensor: Tensor) -> int:
        return pack.table(
            "Tensor",
            Shape=pack.vector(tensor.shape, np.int32),
            Buffer=tensor.buffer,
            Name=None if self.model.small else pack.string(tensor.name),
            Quantization=self._quantization(pack, tensor),
            Type=getattr(self.model.fb.TensorType, tensor.kind),
            IsVariable=tensor.isVariable,
        )

    def _quantization(self, pack: Packer, tensor: Tensor) -> int | None:
        """Scales with as many zero points, as LiteRT wants them; TFLM takes one for all
        (``InitializeTfLiteTensorFromFlatbuffer`` of micro_allocator.cc).

        A bias of one scale per channel goes without: both take it from the weights and the input.
        """
        quant = tensor.quant
        if quant is None or (quant.array.size > 1 and tensor.kind in ("INT32", "INT64")):
            return None
        scales = np.asarray(quant.array, np.float32).reshape(-1)
        zeros = [quant.zero_point] * (1 if self.model.small else len(scales))
        return pack.table(
            "QuantizationParameters",
            ZeroPoint=pack.vector(zeros, np.int64),
            Scale=pack.vector(scales, np.float32),
            QuantizedDimension=quant.axis or 0,
        )

    def _operator(self, pack: Packer, operator: Operator) -> int:
        options, kind = None, None
        unread = self.model.small and operator.table == "ReshapeOptions"  # TFLM goes by the result's shape
        if operator.table is not None and not unread:
            options = pack.options(operator.table, operator.options)
            kind = None if options is None else getattr(self.model.fb.BuiltinOptions, operator.table)
        return pack.table(
            "Operator",
            OpcodeIndex=operator.code,
            Inputs=pack.vector(operator.inputs, np.int32),
            Outputs=pack.vector(operator.outputs, np.int32),
            BuiltinOptions=options,
            Intermediates=pack.vector(operator.intermediates, np.int32) if operator.intermediates else None,
            BuiltinOptionsType=kind,
        )
