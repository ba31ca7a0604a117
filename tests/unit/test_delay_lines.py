"""Delay lines in place of windows: the same results, one copy less."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Graph, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.interpret import run
from neurodeploy.passes.delay_lines import DelayLines


def window(entries: int, *, keeps_newest: bool = True, shown: bool = False) -> Graph:
    b = Builder()
    x = b.input("x", (entries, 2))
    line = b.state("line", (3, 2), np.arange(6).reshape(3, 2))
    joined = b("concat", line, x, axis=0)
    b.next(line, joined.slice(entries, entries + 3) if keeps_newest else joined.slice(0, 3))
    b.output("y", b("sum", joined * b.param("w", np.linspace(-1, 1, 2 * entries + 6).reshape(-1, 2)), axis=0))
    if shown:
        b.output("line", line)
    return b.graph()


def program(graph: Graph, final: bool = False) -> Program:
    stage = Stage("main", graph, inputs_from={"x": Ref("x")})
    outputs = {name: Ref(name, "main") for name in graph.outputs} | (
        {"end": Ref("line", "main", "final")} if final else {}
    )
    return Program("p", {"x": ProgramInput(graph.inputs["x"])}, (stage,), outputs)


def test_a_window_of_one_new_entry_becomes_a_line_with_the_same_results():
    before = program(window(1))
    after = DelayLines()(before)
    assert [v.op for v in after.stages[0].graph.values].count("shift") == 1
    assert after.stages[0].graph.states[0].type.shape == (4, 2)
    x = np.random.default_rng(0).normal(size=(3, 9, 1, 2)).astype(np.float32)
    np.testing.assert_array_equal(run(before, {"x": x}).outputs["y"], run(after, {"x": x}).outputs["y"])


@pytest.mark.parametrize(
    "graph",
    [program(window(2)), program(window(1, keeps_newest=False)), program(window(1, shown=True)),
     program(window(1), final=True)],
    ids=["two entries", "keeps the oldest", "its state is an output", "its state is read at the end"],
)  # fmt: skip
def test_what_stays(graph):
    assert DelayLines()(graph) == graph
