"""WHILE, read: a loop of a fixed number of rounds has TFLite Micro's bits; others are refused."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.backends.tflite.write import Model, Subgraph
from neurodeploy.errors import ModelError, UnsupportedError
from neurodeploy.ir.types import Quant
from tests.differential.test_tflite_import import assert_as_tflm, f32, loaded

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

SHAPE, SCALE = (1, 6), Quant(f32(0.05), 3)


def looped(rounds: int, *, by="constant", nested=False, test=1, subgraph=2) -> bytes:
    """``x = x + c`` that many times; ``by``: what is counted, a constant or an input."""
    model = Model()
    main, condition, inside = (model.subgraph(n) for n in ("main", "more", "body"))

    def ends(s: Subgraph) -> tuple[int, int]:
        return s.tensor("count", (1,), "i32"), s.tensor("x", SHAPE, "i8", SCALE)

    def number(s: Subgraph, value: int) -> int:
        return s.tensor(f"n{value}", (1,), "i32", data=np.array([value], np.int32))

    condition.inputs = list(ends(condition))
    condition.outputs = [condition.tensor("holds", (1,), "bool")]
    condition.op("LESS", [condition.inputs[0], number(condition, rounds)], condition.outputs)
    inside.inputs = list(ends(inside))
    following, moved = inside.tensor("following", (1,), "i32"), inside.tensor("moved", SHAPE, "i8", SCALE)
    c = inside.tensor("c", (6,), "i8", Quant(f32(0.03), 1), np.array([-9, -3, 1, 5, 20, 60], np.int8))
    inside.op("ADD", [inside.inputs[0], number(inside, 1)], [following], "AddOptions")
    inside.op("ADD", [inside.inputs[1], c], [moved], "AddOptions")
    inside.outputs = [following, moved]
    if nested:
        again = inside.tensor("again", (1,), "i32"), inside.tensor("y", SHAPE, "i8", SCALE)
        inside.op("WHILE", inside.outputs, again, "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
        inside.outputs = list(again)
    x = main.tensor("x", SHAPE, "i8", SCALE)
    count = number(main, 0) if by == "constant" else main.tensor("count", (1,), "i32")
    made = main.tensor("counted", (1,), "i32"), main.tensor("y", SHAPE, "i8", SCALE)
    main.inputs = [x] if by == "constant" else [x, count]
    main.outputs = [made[1]]
    main.op("WHILE", [count, x], made, "WhileOptions", condSubgraphIndex=test, bodySubgraphIndex=subgraph)
    return model.finish()


@pytest.mark.parametrize("rounds", [0, 1, 5, 64])
def test_loops_of_so_many_rounds(tmp_path, rounds):
    program = assert_as_tflm(tmp_path, looped(rounds))
    assert sum(v.op == "tfl_add" for v in program.stages[0].graph.values) == rounds


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: looped(5, by="input"), r"operator 0 \(WHILE\): runs until a computed value says so"),
        (lambda: looped(65), "runs more than 64 rounds"),
        (lambda: looped(3, nested=True), "is a loop or a branch inside of another"),
    ],
)
def test_other_loops_are_refused(tmp_path, data, said):
    with pytest.raises(UnsupportedError, match=said):
        loaded(tmp_path, data())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"subgraph": 7}, "names subgraph 7 of 3"),
        ({"subgraph": 0}, "names subgraph 0 of 3"),
        ({"subgraph": 1}, "gives another number of values"),
        ({"test": 2}, "gives another number of values"),
    ],
)
def test_damaged_loops(tmp_path, given, said):
    with pytest.raises(ModelError, match=said):
        loaded(tmp_path, looped(2, **given))


def crowded(loops: int, operators: int, size: int) -> bytes:
    """So many loops one behind the other, all of one body."""
    model = Model()
    main, condition, inside = (model.subgraph(n) for n in ("main", "more", "body"))
    for s in (main, condition, inside):
        s.inputs = [s.tensor("x", (1, size), "f32")]
    condition.outputs = [condition.tensor("holds", (1, size), "bool")]
    condition.op("LESS", condition.inputs * 2, condition.outputs)
    for s, count in ((inside, operators), (main, loops)):
        last = s.inputs
        for k in range(count):
            made = [s.tensor(f"y{k}", (1, size), "f32")]
            if s is inside:
                s.op("ABS", last, made)
            else:
                s.op("WHILE", last, made, "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
            last = made
        s.outputs = last
    return model.finish()


@pytest.mark.parametrize("given", [(1100, 1, 1), (1, 1100, 1), (1, 1, 40000), (40, 1, 1000)])
def test_loops_that_would_become_too_large(tmp_path, given):
    with pytest.raises(UnsupportedError, match=r"\(WHILE\): and those before it are too large to be taken apart"):
        loaded(tmp_path, crowded(*given))


def test_operators_of_a_loop_are_looked_at_first(tmp_path):
    model = Model()
    main, condition, inside = (model.subgraph(n) for n in ("main", "more", "body"))
    for s in (condition, inside):
        s.inputs = [s.tensor("x", (1,), "f32")]
    condition.outputs = [condition.tensor("holds", (1,), "bool")]
    condition.op("LESS", condition.inputs * 2, condition.outputs)
    inside.outputs = [inside.tensor("y", (1,), "f32")]
    inside.op("SIN", inside.inputs, inside.outputs)
    main.inputs, main.outputs = [main.tensor("x", (1,), "f32")], [main.tensor("y", (1,), "f32")]
    main.op("WHILE", main.inputs, main.outputs, "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    with pytest.raises(UnsupportedError, match=r"aren't supported: SIN \(1, first operator 0 of subgraph 2\)"):
        loaded(tmp_path, model.finish())


def branching(*, by="computed", variable=False, outputs=1, subgraph=2) -> bytes:
    """``x + c`` where the sum of x is above 0 (or a constant says so), else ``x * c``."""
    model = Model()
    main, yes, no = (model.subgraph(n) for n in ("main", "yes", "no"))
    for side, code, table in ((yes, "ADD", "AddOptions"), (no, "MUL", "MulOptions")):
        x, y = side.tensor("x", SHAPE, "i8", SCALE), side.tensor("y", SHAPE, "i8", SCALE)
        c = side.tensor("c", (6,), "i8", Quant(f32(0.03), 1), np.array([-9, -3, 1, 5, 20, 60], np.int8))
        side.inputs, side.outputs = [x], [y] * outputs
        side.op(code, [x, c], [y], table)
        if variable:
            handle = side.tensor("handle", (1,), "resource")
            side.op("VAR_HANDLE", [], [handle], "VarHandleOptions", sharedName="kept")
            side.op("ASSIGN_VARIABLE", [handle, y], [], "AssignVariableOptions")
    x, y = main.tensor("x", SHAPE, "i8", SCALE), main.tensor("y", SHAPE, "i8", SCALE)
    if by == "computed":
        first, flag = main.tensor("first", (1,), "i8", SCALE), main.tensor("flag", (1,), "bool")
        zero = main.tensor("zero", (1,), "i8", SCALE, np.array([3], np.int8))
        main.op("SLICE", [x, main.ints("begin", [0, 2]), main.ints("size", [1, 1])], [row := main.tensor(
            "row", (1, 1), "i8", SCALE)], "SliceOptions")  # fmt: skip
        main.op("RESHAPE", [row, main.ints("flat", [1])], [first], "ReshapeOptions", newShape=[1])
        main.op("GREATER", [first, zero], [flag], "GreaterOptions")
    else:
        flag = main.tensor("flag", (1,), "bool", data=np.array([by], bool))
    main.inputs, main.outputs = [x], [y]
    main.op("IF", [flag, x], [y], "IfOptions", thenSubgraphIndex=1, elseSubgraphIndex=subgraph)
    return model.finish()


@pytest.mark.parametrize("by", ["computed", True, False])
def test_branches(tmp_path, by):
    """A computed condition chooses from both; a constant one leaves the branch that it names."""
    program = assert_as_tflm(tmp_path, branching(by=by))
    ops = {v.op for v in program.stages[0].graph.values}
    assert ("tfl_add" in ops, "tfl_mul" in ops) == ((True, True) if by == "computed" else (by, not by))


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (lambda: branching(variable=True), UnsupportedError, "changes variables in a branch"),
        (lambda: branching(outputs=2), ModelError, "gives subgraph 1 another number of values, or takes another"),
        (lambda: branching(subgraph=3), ModelError, "names subgraph 3 of 3"),
    ],
)
def test_other_branches_are_refused(tmp_path, data, error, said):
    with pytest.raises(error, match=rf"\(IF\): {said}"):
        loaded(tmp_path, data())
