"""TensorFlow Lite files: a ``.tflite`` made by any converter, as a program of which one step is one invocation.

- A file of integers gives a program with ``numerics="tflite"`` and the bits that TFLite Micro computes; a file of
  floats gives a float program of plain primitives, for every backend.
- Variables (VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE) are states; their first values come from the subgraph that
  CALL_ONCE runs. A read after an assignment sees the new value.
- The leading axis of size 1 of a tensor, the batch, is dropped (:mod:`neurodeploy.importers.tflite_step`).
- uint8 is held as i8 with its zero point less 128: the same real values; ``meta["uint8"]`` names such ends.
- QUANTIZE of a float input and DEQUANTIZE into a float output are left out: the program takes and gives the integers,
  of the same real values. ``meta["float_ends"]`` names them; floats inside stay floats.
- Weights in integers between activations in floats (dynamic-range quantization) are taken for their real values, the
  activations as they are, which LiteRT rounds to 8 bits in each operator; ``meta["dynamic_range"]`` names the weights.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError, UnsupportedError
from neurodeploy.importers.check import unchecked
from neurodeploy.importers.tflite_check import checked
from neurodeploy.importers.tflite_loops import branched, unrolled, with_loops
from neurodeploy.importers.tflite_ops import FLOAT_RULES, QUANTIZED_RULES
from neurodeploy.importers.tflite_ops_conv import RULES as CONVOLUTIONS
from neurodeploy.importers.tflite_ops_layout import RULES as LAYOUT
from neurodeploy.importers.tflite_ops_shape import RULES as MOVES
from neurodeploy.importers.tflite_ops_upsample import RULES as UPSAMPLING
from neurodeploy.importers.tflite_read import Model, Subgraph, Tensor, read
from neurodeploy.importers.tflite_real import integer_weights
from neurodeploy.importers.tflite_recurrent import RULES as RECURRENT
from neurodeploy.importers.tflite_step import Call, Rule, Step, finished, identifier
from neurodeploy.ir.build import Sym
from neurodeploy.ir.graph import Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify

STAGE = "step"
INTEGERS = ("INT8", "INT16", "UINT8")
LOOPS = ("WHILE", "IF")
VARIABLES = ("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
#: Operators whose rules take floats and integers alike.
MOVING: Mapping[str, Rule] = {**MOVES, **LAYOUT, **CONVOLUTIONS, **UPSAMPLING}
REMEDY = "Leave those operators to the application, or replace them in the model."


def load_tflite(source: str | Path, *, check: bool = True) -> Program:
    """A program from a ``.tflite`` file.

    ``check``: compare with TFLite Micro on random inputs, where the package ``tflite-micro`` is installed.
    Raises :class:`ModelError` naming file and place of damage, :class:`UnsupportedError` naming every operator that
    isn't supported.
    """
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't be read ({error.strerror or error}).", place=str(path)) from error
    model = read(data, path.name)
    program = _Importer(model).program(path.stem)
    origin = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "format": "tflite"}
    program = verify(replace(program, meta={**program.meta, "origin": origin}))
    return checked(program, model, data) if check else unchecked(program, "the check was turned off")


def _supported(model: Model) -> None:
    """Raise :class:`UnsupportedError` naming every operator without a rule, how often and where first."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for number, subgraph in enumerate(with_loops(model, _used(model))):
        step = Step(model, subgraph)
        for operator in subgraph.operators:
            name, call = operator.code, Call(step, operator)
            if any(name in known for known in (VARIABLES, LOOPS, MOVING, RECURRENT)):
                continue
            if name in (QUANTIZED_RULES if call.quantized else FLOAT_RULES):
                continue
            if call.quantized and name in FLOAT_RULES:
                name += " on integers"
            counts[name] += 1
            first.setdefault(name, f"{operator.index}" + (f" of subgraph {number}" if number else ""))
    if counts:
        listed = ", ".join(f"{name} ({count}, first operator {first[name]})" for name, count in counts.items())
        raise UnsupportedError(f"has operators that aren't supported: {listed}.", place=model.file, hint=REMEDY)


def _used(model: Model) -> list[Subgraph]:
    """The subgraph of the step, and those that CALL_ONCE names."""
    found = [model.subgraphs[0]]
    for operator in model.subgraphs[0].operators:
        if operator.code == "CALL_ONCE":
            number = operator.options["init_subgraph_index"]
            if not 0 < number < len(model.subgraphs):
                raise ModelError(
                    f"names subgraph {number} of {len(model.subgraphs)}.", place=operator.place(model.file)
                )
            if model.subgraphs[number] not in found:
                found.append(model.subgraphs[number])
    return found


@dataclass
class _Importer:
    """One file on its way into a program."""

    model: Model
    first: dict[str, Param] = field(default_factory=dict)
    states: dict[str, Sym] = field(default_factory=dict)
    uint8: list[str] = field(default_factory=list)
    float_ends: list[str] = field(default_factory=list)

    def program(self, name: str) -> Program:
        _supported(self.model)
        main, *starts = _used(self.model)
        self.step = Step(self.model, main)
        for start in starts:
            self._start(start)
        inputs = self._inputs(main)
        self._states(main)
        self.step.run(_step_rules(self.step))
        for variable, state in self.states.items():
            self.step.builder.next(state, self._as(self.step.variables[variable], state))
        outputs = self._outputs(main)
        graph = finished(self.step)
        quantized = any(v.op.startswith("tfl_") for v in graph.values) or any(
            t.dtype in ("i8", "i16") and t.quant is not None for t in graph.inputs.values()
        )
        stage = Stage(STAGE, graph, inputs_from={n: Ref(n) for n in inputs})
        refs = {n: Ref(n, STAGE) for n in outputs}
        series = {n: ProgramInput(graph.inputs[n]) for n in inputs}
        weights = [main.tensors[index].name for number, index, _ in integer_weights(self.model) if not number]
        kept = {"uint8": self.uint8, "float_ends": self.float_ends, "dynamic_range": weights}
        meta = {key: names for key, names in kept.items() if names}
        return Program(identifier(name), series, (stage,), refs, "tflite" if quantized else "float", meta)

    # ends

    def _name(self, index: int) -> str:
        return identifier(self.model.names.get(index) or self.model.subgraphs[0].tensors[index].name)

    def _inputs(self, main: Subgraph) -> list[str]:
        found = []
        for index in main.inputs:
            tensor, name = main.tensors[index], self.step.builder.fresh(self._name(index))
            inner = self._quantized(main, index)
            self.step.symbols[index] = self.step.builder.input(name, self.step.type_of(inner or tensor))
            found.append(name)
            if (inner or tensor).kind == "UINT8":
                self.uint8.append(name)
            if inner is not None:
                self.float_ends.append(name)
        return found

    def _quantized(self, main: Subgraph, index: int) -> Tensor | None:
        """What a float input becomes if QUANTIZE is all that takes it: then the program's input is that."""
        takers = [o for o in main.operators if index in o.inputs]
        inner = [main.tensors[i] for o in takers for i in o.outputs[:1] if o.code == "QUANTIZE"]
        alike = {(t.kind, t.scale, t.zero_point) for t in inner}
        float_end = main.tensors[index].kind == "FLOAT32" and index not in main.outputs
        return inner[0] if float_end and len(inner) == len(takers) > 0 and len(alike) == 1 else None

    def _dequantized(self, main: Subgraph, index: int) -> int:
        """The integer tensor behind a float output if DEQUANTIZE makes it."""
        maker = next((o for o in main.operators if index in o.outputs), None)
        if maker is None or maker.code != "DEQUANTIZE" or main.tensors[maker.inputs[0]].kind not in INTEGERS:
            return index
        self.float_ends.append(self._name(index))
        return maker.inputs[0]

    def _outputs(self, main: Subgraph) -> list[str]:
        found: list[str] = []
        for index in main.outputs:
            stem, name, count = self._name(index), self._name(index), 1
            while name in found:
                name, count = f"{stem}_{count}", count + 1
            inner = self._dequantized(main, index)
            self.step.builder.output(name, self.step.symbol(inner))
            found.append(name)
            if main.tensors[inner].kind == "UINT8":
                self.uint8.append(name)
        return found

    # variables

    def _start(self, subgraph: Subgraph) -> None:
        """The variables' first values, from a subgraph that CALL_ONCE runs; all must be constant."""
        inner = Step(self.model, subgraph)

        def assign(call: Call) -> None:
            variable = _held(inner, call)
            data = call.constant(1)
            self.first[variable] = Param(inner.type_of(call.tensor(1)).with_(shape=data.shape), data)

        def call_once(call: Call) -> None:
            raise UnsupportedError("runs another subgraph before the first step.")

        inner.run(_step_rules(inner) | {"ASSIGN_VARIABLE": assign, "CALL_ONCE": call_once})

    def _states(self, main: Subgraph) -> None:
        """A state for each variable that the step reads or assigns, of the type that it is first read in."""
        handles, types = {}, {}
        for operator in main.operators:
            if operator.code == "VAR_HANDLE" and operator.outputs:
                handles[operator.outputs[0]] = _variable(operator.options)
            where = {"READ_VARIABLE": operator.outputs[:1], "ASSIGN_VARIABLE": operator.inputs[1:2]}
            for index in where.get(operator.code, ()):
                variable = handles.get(operator.inputs[0]) if operator.inputs else None
                if variable is None or index < 0:
                    raise ModelError("names no variable.", place=operator.place(self.model.file))
                types.setdefault(variable, self.step.type_of(main.tensors[index]))
        for variable, type_ in types.items():
            init = _reset(type_)
            if variable in self.first:
                data = self.first[variable].data
                if data.size != type_.size or self.first[variable].type.dtype != type_.dtype:
                    raise ModelError(
                        f"'{variable}' starts as {self.first[variable].type}, but is {type_}.", place=self.model.file
                    )
                init = data.reshape(type_.shape) if np.any(data) else None
            name = self.step.builder.fresh(identifier(variable))
            self.states[variable] = self.step.builder.state(name, type_, init)
            self.step.variables[variable] = self.states[variable]

    def _as(self, value: Sym, like: Sym) -> Sym:
        """A value as a state's type: of its shape and scale."""
        if value.type.dtype != like.type.dtype or value.type.size != like.type.size:
            raise ModelError(f"'{like.name}' is {like.type}, but becomes {value.type}.", place=self.model.file)
        if value.type == like.type:
            return value
        shape = list(like.type.shape)
        return self.step.builder("reshape", value, name=f"{like.name}_next", quant=like.type.quant, shape=shape)


def _step_rules(step: Step, *, inner: bool = False) -> dict[str, Rule]:
    """Every rule, those of variables for one step; ``inner``: of a loop or a branch, without others."""

    def handle(call: Call) -> None:
        step.handles[call.operator.outputs[0]] = _variable(call.options)

    def read_variable(call: Call) -> None:
        variable = _held(step, call)
        if variable not in step.variables:
            raise UnsupportedError(f"reads '{variable}' before the first step.")
        call.give(step.variables[variable])

    def assign(call: Call) -> None:
        step.variables[_held(step, call)] = call.x(1)

    own = {
        "CALL_ONCE": lambda call: None,
        "VAR_HANDLE": handle,
        "READ_VARIABLE": read_variable,
        "ASSIGN_VARIABLE": assign,
    }
    rules = {**FLOAT_RULES, **QUANTIZED_RULES, **MOVING, **RECURRENT, **own}
    if inner:
        return {**rules, "WHILE": _nested, "IF": _nested}

    def within(part: Step) -> dict[str, Rule]:
        return _step_rules(part, inner=True)

    return {**rules, "WHILE": unrolled(within), "IF": branched(within)}


def _nested(call: Call) -> None:
    raise UnsupportedError("is a loop or a branch inside of another.")


def _held(step: Step, call: Call) -> str:
    """The variable of input 0's handle. Raises :class:`ModelError`."""
    variable = step.handles.get(call.operator.inputs[0]) if len(call) else None
    if variable is None:
        raise ModelError("names no variable.", place=step.place(call.operator), hint="The file is damaged.")
    return variable


def _reset(type_: TensorType) -> np.ndarray | None:
    """What a variable holds that nothing has assigned: the zero point in every byte (``MicroResourceVariables``)."""
    zero = type_.quant.zero_point if type_.quant is not None else 0
    if not zero:
        return None
    return np.frombuffer(bytes([zero & 255]) * type_.nbytes, type_.numpy).reshape(type_.shape)


def _variable(options: Mapping[str, Any]) -> str:
    return f"{options['container']}/{options['shared_name']}" if options["container"] else options["shared_name"]
