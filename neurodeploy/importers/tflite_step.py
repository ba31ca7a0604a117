"""From a subgraph to a step graph: tensors as values, variables as states, and the rules' view of one operator.

A tensor's value has the tensor's elements in the same order, and its shape without the leading axis of size 1, the
batch; a tensor whose first axis isn't 1 keeps its shape. Rules that touch the first axis compute on whole shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, ModelError, NeurodeployError, NumericsError, UnsupportedError
from neurodeploy.importers.tflite_read import Model, Operator, Subgraph, Tensor
from neurodeploy.importers.tflite_schema import ACTIVATIONS
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Graph, Param
from neurodeploy.ir.interpret import StepInterpreter
from neurodeploy.ir.types import Quant, TensorType

#: TFLite's element types and the IR's; uint8 is held as i8, its zero point less 128.
DTYPES: Mapping[str, str] = {
    "FLOAT32": "f32",
    "FLOAT16": "f32",
    "INT32": "i32",
    "INT64": "i64",
    "BOOL": "bool",
    "INT16": "i16",
    "INT8": "i8",
    "UINT8": "i8",
    "INT4": "i8",
}
#: Operators of constants alone are computed while a file is read: these always, the others up to so many elements.
FOLDED = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "DEQUANTIZE", "QUANTIZE", "CAST", "SPLIT", "SPLIT_V")
MOST_FOLDED = 1 << 16
QUANTIZED = ("INT8", "INT16", "UINT8", "INT4")
#: Operators that may have weights in integers between activations in floats, and which input those come in.
DYNAMIC_RANGE: Mapping[str, int] = {
    **dict.fromkeys(("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM"), 0),
    "TRANSPOSE_CONV": 2,
}
NAME_LENGTH = 48
#: The largest batch of a convolution that is computed sample by sample.
MOST_SAMPLES = 64


def sample(shape: Sequence[int]) -> tuple[int, ...]:
    """A tensor's shape as a value's: without a leading axis of size 1."""
    return tuple(shape[1:]) if shape and shape[0] == 1 else tuple(shape)


def identifier(text: str) -> str:
    """A tensor's name as one of the IR: the end of its path, other characters as ``_``."""
    text = text.split(";")[0]
    words = re.sub(r"[^A-Za-z0-9_]+", "_", "/".join(text.split("/")[-2:]))[-NAME_LENGTH:].strip("_")
    return words if words and not words[0].isdigit() else f"t{words}"


@dataclass
class Step:
    """One subgraph on its way into a :class:`Builder`."""

    model: Model
    subgraph: Subgraph
    builder: Builder = field(default_factory=Builder)
    symbols: dict[int, Sym] = field(default_factory=dict)
    known: dict[int, np.ndarray] = field(default_factory=dict)
    #: Resource tensor -> its variable's name; variable -> its value as it stands.
    handles: dict[int, str] = field(default_factory=dict)
    variables: dict[str, Sym] = field(default_factory=dict)

    def place(self, operator: Operator) -> str:
        """What errors call an operator."""
        return operator.place(self.model.file)

    def type_of(self, tensor: Tensor) -> TensorType:
        """The type of a tensor's value. Raises :class:`UnsupportedError` for element types that the IR hasn't."""
        dtype = DTYPES.get(tensor.kind)
        if dtype is None:
            raise UnsupportedError(
                f"is {tensor.kind}; needed one of {', '.join(DTYPES)}.",
                place=f"{self.model.file}: tensor {tensor.index} ({tensor.name[:60]})",
            )
        return TensorType(sample(tensor.shape), dtype, self.quant_of(tensor))

    def quant_of(self, tensor: Tensor) -> Quant | None:
        """A tensor's quantization, axes counted as in its value."""
        if not tensor.scale or tensor.kind not in (*QUANTIZED, "INT32", "INT64"):
            return None
        if len(tensor.scale) == 1:
            return Quant(tensor.scale[0], tensor.zero_point[0] - (128 if tensor.kind == "UINT8" else 0))
        if any(tensor.zero_point):
            raise UnsupportedError(
                "has a scale per channel and zero points other than 0.",
                place=f"{self.model.file}: tensor {tensor.index} ({tensor.name[:60]})",
            )
        dropped = len(tensor.shape) - len(sample(tensor.shape))
        return Quant(tensor.scale, 0, tensor.axis - dropped)

    def array(self, index: int) -> np.ndarray | None:
        """A constant tensor's numbers as the IR holds them, in the tensor's shape; None if it isn't constant."""
        if index in self.known:
            return self.known[index]
        tensor = self.subgraph.tensors[index]
        if tensor.data is None and math.prod(tensor.shape):
            return None
        data = np.zeros(tensor.shape, np.float32) if tensor.data is None else tensor.data
        if tensor.kind == "UINT8":
            data = data.astype(np.int16) - 128
        if data.dtype.kind == "f" and np.isnan(data).any():
            raise ModelError(
                "holds NaN.", place=f"{self.model.file}: tensor {index} ({tensor.name[:60]})", hint="Train it again."
            )
        self.known[index] = data.astype(self.type_of(tensor).numpy)
        return self.known[index]

    def symbol(self, index: int) -> Sym:
        """A tensor's value; a constant becomes a param."""
        if index not in self.symbols:
            tensor, data = self.subgraph.tensors[index], self.array(index)
            if data is None:
                raise ModelError(
                    f"tensor {index} ({tensor.name[:60]}) has no value.",
                    place=self.model.file,
                    hint="Is it a resource?",
                )
            type_ = self.type_of(tensor)
            self.symbols[index] = self.builder.param(identifier(tensor.name), Param(type_, data.reshape(type_.shape)))
        return self.symbols[index]

    def run(self, rules: Mapping[str, Callable[[Call], None]]) -> None:
        """Every operator of the subgraph in order. Raises :class:`ModelError` naming the one that can't be read."""
        for operator in self.subgraph.operators:
            call = Call(self, operator)
            try:
                if not self._folded(call, rules[operator.code]):
                    rules[operator.code](call)
            except UnsupportedError as error:
                if error.place:
                    raise
                raise UnsupportedError(error.message, place=self.place(operator), hint=error.hint) from error
            except (IRError, NumericsError, ValueError, IndexError, KeyError, TypeError, ArithmeticError) as error:
                said = error.message if isinstance(error, NeurodeployError) else str(error).split("\n")[0][:160]
                if any(tensor.open for tensor in self.subgraph.tensors):
                    raise UnsupportedError(
                        f"can't be read: {said.rstrip('.')}. The file leaves sizes open until the model runs.",
                        place=self.place(operator),
                        hint="Convert the model with fixed shapes.",
                    ) from error
                raise ModelError(
                    f"can't be read: {said.rstrip('.')}.",
                    place=self.place(operator),
                    hint="The file is damaged, has shapes that are computed as it runs, or is made in a way that this "
                    "importer doesn't know; then please report it.",
                ) from error

    def _folded(self, call: Call, rule: Callable[[Call], None]) -> bool:
        """An operator of constants alone is computed now."""
        inputs = [i for i in call.operator.inputs if i >= 0]
        if not inputs or not call.operator.outputs or any(self.array_or_none(i) is None for i in inputs):
            return False
        tensors = [self.subgraph.tensors[i] for i in (*inputs, *call.operator.outputs)]
        if call.operator.code not in FOLDED and sum(math.prod(t.shape) for t in tensors) > MOST_FOLDED:
            return False
        inner = Step(self.model, self.subgraph, known=self.known)
        rule(Call(inner, call.operator))
        for index in call.operator.outputs:
            inner.builder.output(f"o{index}", inner.symbols[index])
        engine = StepInterpreter(inner.builder.graph())
        engine.reset(1, {})
        for name, array in engine.step({}, np.ones(1, bool)).items():
            index = int(name[1:])
            self.known[index] = array.reshape(self.subgraph.tensors[index].shape)
        return True

    def array_or_none(self, index: int) -> np.ndarray | None:
        """Like :meth:`array`, None also for a resource or another type without numbers here."""
        return self.array(index) if self.subgraph.tensors[index].kind in DTYPES else None


class Call:
    """One operator as its rule sees it. ``x(i)`` is input i's value, ``put(op, ...)`` makes the output's."""

    def __init__(self, step: Step, operator: Operator) -> None:
        self.step, self.operator, self.options = step, operator, operator.options

    def __len__(self) -> int:
        return len(self.operator.inputs)

    def has(self, i: int) -> bool:
        """Whether optional input i is given."""
        return i < len(self.operator.inputs) and self.operator.inputs[i] >= 0

    def tensor(self, i: int = 0) -> Tensor:
        """Input i. Raises :class:`ModelError` where it is missing."""
        if not self.has(i):
            raise ModelError(f"has no input {i}.", place=self.step.place(self.operator), hint="The file is damaged.")
        return self.step.subgraph.tensors[self.operator.inputs[i]]

    def result(self, j: int = 0) -> Tensor:
        """Output j. Raises :class:`ModelError` where it is missing."""
        if j >= len(self.operator.outputs):
            raise ModelError(f"has no output {j}.", place=self.step.place(self.operator), hint="The file is damaged.")
        return self.step.subgraph.tensors[self.operator.outputs[j]]

    @cached_property
    def quantized(self) -> bool:
        """Whether it computes on quantized integers."""
        indices = [i for i in (*self.operator.inputs, *self.operator.outputs) if i >= 0]
        return not self.dynamic and any(self.step.subgraph.tensors[i].kind in QUANTIZED for i in indices)

    @cached_property
    def dynamic(self) -> bool:
        """Whether its weights are integers and its activations floats (dynamic-range quantization)."""
        given = DYNAMIC_RANGE.get(self.operator.code)
        if given is None or not self.operator.outputs or not self.has(given):
            return False
        tensors = [self.step.subgraph.tensors[i] for i in self.operator.inputs if i >= 0]
        weights = [t for t in tensors if t.kind in QUANTIZED]
        floats = {self.tensor(given).kind, self.result().kind} == {"FLOAT32"}
        return floats and bool(weights) and all(t.data is not None and t.scale for t in weights)

    def x(self, i: int = 0) -> Sym:
        """Input i's value."""
        self.tensor(i)
        return self.step.symbol(self.operator.inputs[i])

    def real(self, i: int) -> np.ndarray:
        """Constant input i's real numbers: of integers their value in float32."""
        tensor, data = self.tensor(i), self.constant(i)
        quant = self.step.quant_of(tensor)
        if tensor.kind not in QUANTIZED or quant is None:
            return data
        scale = np.asarray(quant.array, np.float32)
        if quant.axis is not None:
            scale = scale.reshape([-1 if axis == tensor.axis else 1 for axis in range(len(tensor.shape))])
        return ((data.astype(np.int32) - quant.zero_point) * scale).astype(np.float32)

    def whole(self, i: int = 0) -> Sym:
        """Input i's value in the tensor's whole shape."""
        return self.shaped(self.x(i), self.tensor(i).shape)

    def shaped(self, x: Sym, shape: Sequence[int]) -> Sym:
        """A value in another shape."""
        if x.shape == tuple(shape):
            return x
        return self.step.builder("reshape", x, quant=x.type.quant, shape=list(shape))

    def constant(self, i: int) -> np.ndarray:
        """Input i's numbers, in the tensor's shape. Raises :class:`UnsupportedError` if it is computed."""
        found = self.step.array_or_none(self.operator.inputs[i]) if self.has(i) else None
        if found is None:
            raise UnsupportedError(
                f"takes input {i} ({self.tensor(i).name[:60]}) computed; needed constant.",
                hint="Convert the model with fixed shapes.",
            )
        return found

    def integers(self, i: int) -> list[int]:
        """Input i's numbers as a list of whole ones."""
        return [int(v) for v in self.constant(i).reshape(-1)]

    def param(self, i: int) -> Sym:
        """Constant input i as a param in the tensor's own shape, its scales along the tensor's own axis.

        Between activations in floats the param is of the integers' real values.
        """
        if self.dynamic:
            return self.step.builder.param(identifier(self.tensor(i).name), Param.of(self.real(i)))
        data, tensor = self.constant(i), self.tensor(i)
        quant = self.step.quant_of(tensor)
        if quant is not None and quant.axis is not None:
            quant = Quant(quant.scale, 0, tensor.axis)
        type_ = TensorType(tensor.shape, self.step.type_of(tensor).dtype, quant)
        return self.step.builder.param(identifier(tensor.name), Param(type_, data))

    def axis(self, value: int, rank: int) -> int:
        """An axis counted from the front. Raises :class:`ModelError`."""
        if not -rank <= value < rank:
            raise IRError(f"axis {value} doesn't exist in {rank} axes")
        return value % rank

    def batched(self, *shapes: Sequence[int]) -> bool:
        """Whether all of these whole shapes have the leading axis of size 1."""
        return all(shape and shape[0] == 1 for shape in shapes)

    @property
    def act(self) -> dict[str, str]:
        """The fused activation as attribute ``act`` of the dialect's ops; empty for none."""
        number = self.options.get("fused_activation_function", 0)
        return {} if not number else {"act": ACTIVATIONS[number].lower()}

    def emit(self, op: str, *args: Sym | float, quant: Quant | None = None, **attrs: Any) -> Sym:
        """A value within the operator."""
        return self.step.builder(op, *args, name=identifier(self.result().name) + "_part", quant=quant, **attrs)

    def put(self, op: str, *args: Sym | float, **attrs: Any) -> Sym:
        """The value of output 0, of its tensor's type; a reshape follows where the op gives another shape."""
        tensor = self.result()
        type_, name = self.step.type_of(tensor), identifier(tensor.name)
        made = self.step.builder(op, *args, name=name, quant=type_.quant, **attrs)
        return self.give(made)

    def give(self, made: Sym, j: int = 0) -> Sym:
        """Let a value stand for output j, with its tensor's shape and scale."""
        tensor = self.result(j)
        type_ = self.step.type_of(tensor)
        if made.type.dtype != type_.dtype or made.type.size != type_.size:
            raise IRError(f"gives {made.type}, but output {j} ({tensor.name[:60]}) is {type_}")
        if made.type != type_:
            name = identifier(tensor.name)
            made = self.step.builder("reshape", made, name=name, quant=type_.quant, shape=list(type_.shape))
        self.step.symbols[self.operator.outputs[j]] = made
        return made


#: Builds what an operator means.
Rule = Callable[[Call], None]


class SampleCall(Call):
    """One sample of an operator whose input ``at`` is a batch; the rule sees a batch of 1, ``made`` is its result."""

    def __init__(self, call: Call, at: int, number: int) -> None:
        super().__init__(call.step, call.operator)
        self.at, self.number = at, number

    def tensor(self, i: int = 0) -> Tensor:
        """Input i, the batch as a sample."""
        found = super().tensor(i)
        return replace(found, shape=(1, *found.shape[1:])) if i == self.at else found

    def result(self, j: int = 0) -> Tensor:
        """Output j, as a sample."""
        found = super().result(j)
        return replace(found, shape=(1, *found.shape[1:]))

    def x(self, i: int = 0) -> Sym:
        """Input i's value, of the batch the sample."""
        found = super().x(i)
        if i != self.at:
            return found
        quant = found.type.quant
        row = self.step.builder("slice", found, quant=quant, axis=0, start=self.number, stop=self.number + 1, step=1)
        return self.shaped(row, found.shape[1:])

    def give(self, made: Sym, j: int = 0) -> Sym:
        """The sample's result."""
        self.made = super().give(made, j)
        return self.made


def per_sample(at: int, rule: Rule) -> Rule:
    """A rule for a batch of 1 in input ``at``, for more than one: as often as there are samples."""

    def batched(call: Call) -> None:
        shape = call.tensor(at).shape
        if len(shape) != 4 or shape[0] == 1:
            rule(call)
            return
        if not 1 < shape[0] <= MOST_SAMPLES or call.result().shape[:1] != shape[:1]:
            raise UnsupportedError(f"takes a batch of {shape[0]}; 1 to {MOST_SAMPLES} samples are computed one by one.")
        samples = [SampleCall(call, at, number) for number in range(shape[0])]
        for sample in samples:
            rule(sample)
        quant = samples[0].made.type.quant
        rows = [call.shaped(sample.made, (1, *sample.made.shape)) for sample in samples]
        call.give(call.emit("concat", *rows, quant=quant, axis=0))

    return batched


def finished(step: Step) -> Graph:
    """The step's graph without what nothing needs."""
    from neurodeploy.ir.graph import prune

    return prune(step.builder.graph())
