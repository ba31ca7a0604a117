"""The rules that every program keeps, checked between every two passes."""

from __future__ import annotations

import re

from neurodeploy.errors import IRError
from neurodeploy.ir.graph import DRIVES, NAME, NUMERICS, Drive, Graph, Program, Ref, Stage, State, Value
from neurodeploy.ir.ops import infer
from neurodeploy.ir.types import TensorType, TupleType, Type


def verify(program: Program) -> Program:
    """Check a whole program and return it. Raises :class:`IRError` naming stage and value."""
    if program.numerics not in NUMERICS:
        raise IRError(f"numerics '{program.numerics}' is none of {', '.join(NUMERICS)}.", place=program.name)
    _verify_names(program)
    earlier: set[str] = set()
    for stage in program.stages:
        place = f"{program.name}/{stage.name}"
        if stage.name in earlier:
            raise IRError("there are two stages of this name.", place=place)
        verify_graph(stage.graph, place)
        _verify_wiring(program, stage, earlier, place)
        _verify_drive(program, stage, place)
        earlier.add(stage.name)
    for name, ref in program.outputs.items():
        _known(program, ref, earlier, f"{program.name}: output '{name}'")
    return program


def _verify_names(program: Program) -> None:
    """What the text form and references can hold."""
    if not re.fullmatch(r"\S+", program.name):
        raise IRError(f"'{program.name}' is no name of a program; it must be one word.")
    for role, names in (("input", program.inputs), ("stage", [stage.name for stage in program.stages])):
        for name in names:
            if not NAME.match(name) or "." in name:
                raise IRError(f"'{name}' is no name of a {role} (letters, digits and _).", place=program.name)
    for name in program.outputs:
        if not NAME.match(name):
            raise IRError(f"'{name}' is no name (letters, digits, _ and .).", place=program.name)


def verify_graph(graph: Graph, place: str = "graph") -> Graph:
    """Check one graph and return it. Raises :class:`IRError`."""
    types: dict[str, Type] = {}

    def define(name: str, type_: Type) -> None:
        if not NAME.match(name):
            raise IRError(f"'{name}' is no name (letters, digits, _ and .).", place=place)
        if name in types:
            raise IRError(f"%{name} is defined twice.", place=place)
        types[name] = type_

    for name, type_ in graph.inputs.items():
        define(name, type_)
    for name, param in graph.params.items():
        if param.data.shape != param.type.shape or param.data.dtype != param.type.numpy:
            raise IRError(
                f"param %{name} is {param.type} but its data is {param.data.dtype}{list(param.data.shape)}.",
                place=place,
            )
        define(name, param.type)
    for state in graph.states:
        define(state.name, state.type)
    for value in graph.values:
        for arg in value.args:
            if arg not in types:
                raise IRError(f"takes %{arg}, which is not defined before it.", place=f"{place}: %{value.name}")
        args = [types[a] for a in value.args]
        _verify_value(value, args, f"{place}: %{value.name}")
        define(value.name, value.type)
    for name, target in graph.outputs.items():
        if not NAME.match(name):
            raise IRError(f"'{name}' is no name (letters, digits, _ and .).", place=place)
        if not isinstance(types.get(target), TensorType):
            raise IRError(f"output '{name}' names %{target}, which is no tensor of this graph.", place=place)
    for state in graph.states:
        _verify_state(graph, state, types, f"{place}: state %{state.name}")
    return graph


def _verify_value(value: Value, args: list[Type], place: str) -> None:
    if value.body is None:
        try:
            found = infer(value.op, args, value.attrs)
        except IRError as error:
            raise IRError(error.message, place=place, hint=error.hint) from error
        if isinstance(value.type, TupleType):
            raise IRError(f"{value.op} has one result, the type says {value.type}.", place=place)
        if not value.type.same_data(found):
            raise IRError(f"{value.op} gives {found}, the type says {value.type}.", place=place)
        return
    body = value.body
    if body.states or body.params:
        raise IRError("the body of a composite has no states and no params of its own.", place=place)
    verify_graph(body, place)
    wanted = list(body.inputs.values())
    if len(wanted) != len(args) or any(not w.same_data(a) for w, a in zip(wanted, args, strict=True)):
        raise IRError(
            f"{value.op}'s body takes ({', '.join(map(str, wanted))}), given ({', '.join(map(str, args))}).",
            place=place,
        )
    results = tuple(body.output_types().values())
    given = value.type.items if isinstance(value.type, TupleType) else (value.type,)
    if len(results) != len(given) or any(not r.same_data(g) for r, g in zip(results, given, strict=True)):
        raise IRError(
            f"{value.op}'s body gives ({', '.join(map(str, results))}), the type says {value.type}.", place=place
        )


def _verify_state(graph: Graph, state: State, types: dict[str, Type], place: str) -> None:
    following = types.get(state.next)
    if following != state.type:
        raise IRError(f"is {state.type}, but its next, %{state.next}, is {following}.", place=place)
    if state.init is not None:
        if state.init not in graph.params:
            raise IRError(f"its init %{state.init} is no param.", place=place)
        if not graph.params[state.init].type.same_data(state.type):
            raise IRError(f"is {state.type}, but its init is {graph.params[state.init].type}.", place=place)
    if state.when is not None and not TensorType((), "bool").same_data(types.get(state.when)):
        raise IRError(f"its when, %{state.when}, is {types.get(state.when)}; needed bool[].", place=place)


def _known(program: Program, ref: Ref, earlier: set[str], place: str) -> TensorType:
    if ref.stage is not None and ref.stage not in earlier:
        raise IRError(f"{ref} names no earlier stage.", place=place)
    return program.ref_type(ref)


def _verify_wiring(program: Program, stage: Stage, earlier: set[str], place: str) -> None:
    for name, type_ in stage.graph.inputs.items():
        if name not in stage.inputs_from:
            raise IRError(f"input '{name}' is fed by nothing.", place=place)
        found = _known(program, stage.inputs_from[name], earlier, place)
        if found != type_:
            raise IRError(f"input '{name}' is {type_}, but {stage.inputs_from[name]} is {found}.", place=place)
    if extra := set(stage.inputs_from) - set(stage.graph.inputs):
        raise IRError(f"feeds '{min(extra)}', which is no input of its graph.", place=place)
    states = {state.name: state for state in stage.graph.states}
    for name, ref in stage.state_from.items():
        if name not in states:
            raise IRError(f"feeds '{name}', which is no state of its graph.", place=place)
        if program.is_series(ref):
            raise IRError(f"state '{name}' starts from {ref}, a series; use @last or @final.", place=place)
        found = _known(program, ref, earlier, place)
        if found != states[name].type:
            raise IRError(f"state '{name}' is {states[name].type}, but {ref} is {found}.", place=place)


def _verify_drive(program: Program, stage: Stage, place: str) -> None:
    drive: Drive = stage.drive
    if drive.kind not in DRIVES:
        raise IRError(f"drive '{drive.kind}' is none of {', '.join(DRIVES)}.", place=place)
    if drive.kind == "order":
        order = program.inputs.get(drive.order or "")
        if order is None or order.kind != "series" or order.type != TensorType((), "i32"):
            raise IRError("order needs a series input i32[] that lists the indices.", place=place)
    if drive.kind in ("until", "generate"):
        if not drive.max_steps or drive.max_steps < 1:
            raise IRError(f"{drive.kind} needs max_steps of at least 1.", place=place)
        if any(program.is_series(ref) for ref in stage.inputs_from.values()):
            raise IRError(f"{drive.kind} takes constant inputs; use @last or @final.", place=place)
    for role in ("predicate", "stop"):
        name = getattr(drive, role)
        if name is not None:
            target = stage.graph.outputs.get(name)
            if target is None or not TensorType((), "bool").same_data(stage.graph.types()[target]):
                raise IRError(f"{role} '{name}' is no output bool[].", place=place)
    if drive.kind == "until" and drive.predicate is None:
        raise IRError("until needs a predicate.", place=place)
    for name, output in drive.feedback.items():
        if name not in stage.graph.inputs or output not in stage.graph.outputs:
            raise IRError(f"feedback {name} <- {output} names no input and output.", place=place)
        if stage.graph.inputs[name] != stage.graph.tensor(stage.graph.outputs[output]):
            raise IRError(f"feedback {name} <- {output} joins two types.", place=place)
