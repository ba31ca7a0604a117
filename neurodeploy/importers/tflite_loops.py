"""WHILE whose number of rounds the file fixes: its body as often as its condition holds. IF: both of its branches.

The condition must follow from constants alone, as that of a counter does; a generator of random numbers is written so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from neurodeploy.errors import IRError, ModelError, UnsupportedError
from neurodeploy.importers.tflite_read import Model, Operator, Subgraph
from neurodeploy.importers.tflite_step import Call, Rule, Step
from neurodeploy.ir.build import Sym
from neurodeploy.ir.graph import Param
from neurodeploy.ir.types import TensorType

#: The most rounds of a loop; the most operators and elements of tensors that a file's loops may become in so many.
MOST_ROUNDS, MOST_OPERATORS, MOST_ELEMENTS = 64, 1 << 16, 1 << 22

#: What a loop carries from round to round: numbers that are known, and values that are computed.
Carried = Sequence[np.ndarray | Sym]


def with_loops(model: Model, used: Sequence[Subgraph]) -> list[Subgraph]:
    """Subgraphs, and the conditions and bodies of their loops.

    Raises :class:`ModelError` for a loop that is damaged, :class:`UnsupportedError` for loops that would become too
    large: many of them can name one body.
    """
    found, operators, elements = list(used), 0, 0
    for operator in (o for subgraph in used for o in subgraph.operators if o.code in ("WHILE", "IF")):
        loop = operator.code == "WHILE"
        try:
            inside = parts(model, operator) if loop else branches(model, operator)
        except IRError as error:
            raise ModelError(
                f"{error.message}.", place=operator.place(model.file), hint="The file is damaged."
            ) from error
        found += [part for part in inside if part not in found]
        operators += (MOST_ROUNDS if loop else 1) * sum(len(part.operators) for part in inside)
        elements += (MOST_ROUNDS if loop else 1) * sum(math.prod(t.shape) for part in inside for t in part.tensors)
        if operators > MOST_OPERATORS or elements > MOST_ELEMENTS:
            raise UnsupportedError(
                f"and those before it are too large to be taken apart: {MOST_ROUNDS} rounds of loops have {operators} "
                f"operators and {elements} elements; at most {MOST_OPERATORS} and {MOST_ELEMENTS} are.",
                place=operator.place(model.file),
                hint="Convert the model without the loop.",
            )
    return found


def parts(model: Model, operator: Operator) -> tuple[Subgraph, Subgraph]:
    """A loop's condition and body. Raises :class:`IRError` for subgraphs that don't exist or take something else."""
    found = []
    for key in ("cond_subgraph_index", "body_subgraph_index"):
        number = operator.options[key]
        found.append(_subgraph(model, number))
        if len(found[-1].inputs) != len(operator.inputs):
            raise IRError(f"gives {len(operator.inputs)} values to subgraph {number}, which takes others")
    if len(found[0].outputs) != 1 or len(found[1].outputs) != len(operator.outputs):
        raise IRError("has a condition or a body that gives another number of values")
    return found[0], found[1]


def _subgraph(model: Model, number: int) -> Subgraph:
    if not 0 < number < len(model.subgraphs):
        raise IRError(f"names subgraph {number} of {len(model.subgraphs)}")
    return model.subgraphs[number]


def branches(model: Model, operator: Operator) -> tuple[Subgraph, Subgraph]:
    """What IF runs where its condition holds, and otherwise. Raises :class:`IRError` like :func:`parts`."""
    found = []
    for key in ("then_subgraph_index", "else_subgraph_index"):
        number = operator.options[key]
        found.append(_subgraph(model, number))
        if len(found[-1].inputs) != len(operator.inputs) - 1 or len(found[-1].outputs) != len(operator.outputs):
            raise IRError(f"gives subgraph {number} another number of values, or takes another")
    return found[0], found[1]


def branched(rules: Callable[[Step], Mapping[str, Rule]]) -> Rule:
    """The rule of IF: both branches are computed, and one's values chosen; a known condition's branch alone.

    Neither may hold variables: what a branch does is what it gives.
    """

    def rule(call: Call) -> None:
        sides = branches(call.step.model, call.operator)
        condition = _value(call.step, call.operator.inputs[0])
        for side in sides:
            if any(o.code in ("ASSIGN_VARIABLE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF") for o in side.operators):
                raise UnsupportedError(
                    "changes variables in a branch.", hint="Choose the value, and assign it outside."
                )
        carried = [_value(call.step, index) for index in call.operator.inputs[1:]]
        if not isinstance(condition, Sym):
            made = _through(call.step, sides[0 if condition.all() else 1], carried, rules)
            give(call, made)
            return
        if condition.type.dtype != "bool" or condition.type.size != 1:
            raise IRError(f"decides by {condition.type}; needed one bool")
        flag = call.shaped(condition, ())
        pairs = zip(*(_through(call.step, side, carried, rules) for side in sides), strict=True)
        for j, (yes, no) in enumerate(pairs):
            known = call.step.type_of(call.result(j))
            given = [v if isinstance(v, Sym) else _param(call, v, known) for v in (yes, no)]
            if given[0].type != given[1].type:
                raise IRError(f"gives {given[0].type} or {given[1].type}")
            call.give(call.emit("select", flag, *given, quant=known.quant), j)

    return rule


def _param(call: Call, data: np.ndarray, type_: TensorType) -> Sym:
    return call.step.builder.param("branch", Param(type_, data.astype(type_.numpy).reshape(type_.shape)))


def give(call: Call, carried: Carried) -> None:
    """Let values stand for the operator's outputs."""
    for j, value in enumerate(carried):
        index = call.operator.outputs[j]
        if isinstance(value, Sym):
            call.give(value, j)
        else:
            call.step.known[index] = value.reshape(call.result(j).shape)
            call.step.symbol(index)


def unrolled(rules: Callable[[Step], Mapping[str, Rule]]) -> Rule:
    """The rule of WHILE; ``rules`` are those of the operators inside, without loops."""

    def rule(call: Call) -> None:
        condition, body = parts(call.step.model, call.operator)
        carried: Carried = [_value(call.step, index) for index in call.operator.inputs]
        for count in range(MOST_ROUNDS + 1):
            (holds,) = _through(call.step, condition, carried, rules)
            if isinstance(holds, Sym):
                raise UnsupportedError("runs until a computed value says so; needed a number of rounds that is fixed.")
            if not holds.any():
                break
            if count == MOST_ROUNDS:
                raise UnsupportedError(
                    f"runs more than {MOST_ROUNDS} rounds.", hint="Convert the model without the loop."
                )
            carried = _through(call.step, body, carried, rules)
        give(call, carried)

    return rule


def _value(step: Step, index: int) -> np.ndarray | Sym:
    """A tensor's numbers where they are known, else its value."""
    known = step.array_or_none(index)
    return step.symbol(index) if known is None else known


def _through(
    step: Step, subgraph: Subgraph, carried: Carried, rules: Callable[[Step], Mapping[str, Rule]]
) -> list[np.ndarray | Sym]:
    """What a subgraph makes of values, built into the step's graph."""
    inner = Step(step.model, subgraph, step.builder)
    for index, value in zip(subgraph.inputs, carried, strict=True):
        wanted = inner.type_of(subgraph.tensors[index])
        if isinstance(value, Sym):
            if value.type != wanted:
                raise IRError(f"carries {value.type} where {wanted} is taken")
            inner.symbols[index] = value
        else:
            inner.known[index] = value.astype(wanted.numpy).reshape(subgraph.tensors[index].shape)
    inner.run(rules(inner))
    return [_value(inner, index) for index in subgraph.outputs]
