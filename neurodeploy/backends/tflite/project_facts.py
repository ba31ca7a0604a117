"""What a firmware must know of a ``.tflite`` file, as the file itself says it: operators, tensors, variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.backends.tflite.write import schema

#: What an array of a tensor has, by the schema's TensorType.
ELEMENTS: Mapping[str, str] = {
    "FLOAT32": "f4", "FLOAT16": "f2", "INT8": "i1", "INT16": "i2", "INT32": "i4", "INT64": "i8", "UINT8": "u1",
    "UINT32": "u4", "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """An input or output with its batch axis."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape))


@dataclass(frozen=True)
class Variable:
    """A resource variable. ``initial`` is what it starts with, None where ``MicroInterpreter::Reset`` puts that there:
    it fills each byte with the zero point of the tensor that is assigned."""

    name: str
    bytes: int
    initial: bytes | None


@dataclass(frozen=True)
class FileFacts:
    """``ops``: the schema's names of the operators, sorted. ``hidden_state``: operators keep some of the state in
    variable tensors of their own (the fused LSTM does), which an interpreter doesn't show. ``per_channel``:
    FULLY_CONNECTED with a scale per row, which TFLM has since September 2024; ``wide_per_channel``: of int16, which its
    CMSIS-NN kernel refuses."""

    ops: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    variables: tuple[Variable, ...]
    hidden_state: bool
    per_channel: bool
    wide_per_channel: bool

    @property
    def in_bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.inputs)

    @property
    def out_bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.outputs)

    @property
    def state_bytes(self) -> int:
        return sum(variable.bytes for variable in self.variables)


def facts_of(model: bytes) -> FileFacts:
    """Read them. Raises :class:`MissingExtraError` without a schema module."""
    root = schema().Model.GetRootAsModel(model, 0)
    graphs = [root.Subgraphs(i) for i in range(root.SubgraphsLength())]
    main = graphs[0]
    products = [(graph, op) for graph in graphs for name, op in _operators(root, graph) if name == "FULLY_CONNECTED"]
    wide = [_wide(graph, op) for graph, op in products if _scales(graph, op)]
    return FileFacts(
        ops=tuple(sorted({name for graph in graphs for name, _ in _operators(root, graph)})),
        inputs=tuple(_tensor(main.Tensors(main.Inputs(i))) for i in range(main.InputsLength())),
        outputs=tuple(_tensor(main.Tensors(main.Outputs(i))) for i in range(main.OutputsLength())),
        variables=_variables(root, graphs),
        hidden_state=any(main.Tensors(i).IsVariable() for i in range(main.TensorsLength())),
        per_channel=bool(wide),
        wide_per_channel=any(wide),
    )


def _names(of: str) -> dict[int, str]:
    """The names of an enumeration of the schema."""
    return {number: name for name, number in vars(getattr(schema(), of)).items() if isinstance(number, int)}


def _operators(root: Any, graph: Any) -> Iterator[tuple[str, Any]]:
    names = _names("BuiltinOperator")
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = root.OperatorCodes(operator.OpcodeIndex())
        yield names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())], operator


def _scales(graph: Any, operator: Any) -> bool:
    """Whether the weights have a scale per row."""
    quant = graph.Tensors(operator.Inputs(1)).Quantization()
    return bool(quant is not None and quant.ScaleLength() > 1)


def _wide(graph: Any, operator: Any) -> bool:
    return bool(graph.Tensors(operator.Inputs(0)).Type() == schema().TensorType.INT16)


def _tensor(tensor: Any) -> Tensor:
    kind = _names("TensorType")[tensor.Type()]
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    return Tensor((tensor.Name() or b"").decode(), np.dtype(ELEMENTS[kind]), shape)


def _variables(root: Any, graphs: list[Any]) -> tuple[Variable, ...]:
    """In the order of their first VAR_HANDLE; sizes and first values from what is assigned to them."""
    sizes: dict[str, int] = {}
    first: dict[str, bytes] = {}
    for graph in graphs:
        handles: dict[int, str] = {}
        for name, operator in _operators(root, graph):
            if name == "VAR_HANDLE":
                options = schema().VarHandleOptions()
                table = operator.BuiltinOptions()
                options.Init(table.Bytes, table.Pos)
                handles[operator.Outputs(0)] = options.SharedName().decode()
                sizes.setdefault(handles[operator.Outputs(0)], 0)
            elif name == "ASSIGN_VARIABLE":
                variable, tensor = handles[operator.Inputs(0)], graph.Tensors(operator.Inputs(1))
                sizes[variable] = _tensor(tensor).bytes
                buffer = root.Buffers(tensor.Buffer())
                if graph is not graphs[0] and buffer.DataLength():
                    quant = tensor.Quantization()
                    point = int(quant.ZeroPoint(0)) if quant is not None and quant.ZeroPointLength() else 0
                    data = buffer.DataAsNumpy().tobytes()
                    if data != bytes([point & 0xFF]) * len(data):
                        first[variable] = data
    return tuple(Variable(name, size, first.get(name)) for name, size in sizes.items())
