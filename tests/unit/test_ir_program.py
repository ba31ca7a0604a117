"""Text form, verification, states, guards and drives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy.errors import DataError, IRError, TextError
from neurodeploy.ir import text
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Graph, Param, Program, ProgramInput, Ref, Stage, guards, prune
from neurodeploy.ir.interpret import run
from neurodeploy.ir.text import parse_program
from neurodeploy.ir.types import Quant, TensorType, TupleType, parse_type
from neurodeploy.ir.verify import verify
from tests.families import CASES
from tests.strategies import Case, as_program, float_cases, integer_cases

# -- types and text ----------------------------------------------------------------------------------------------------

SCALES = st.floats(1e-30, 1e30)
TENSORS = st.builds(
    TensorType,
    st.lists(st.integers(1, 99), max_size=4).map(tuple),
    st.sampled_from(["f32", "i8", "i16", "i32", "i64", "bool"]),
    st.none()
    | st.builds(Quant, SCALES, st.integers(-128, 127))
    | st.builds(Quant, st.lists(SCALES, min_size=1, max_size=4).map(tuple), st.just(0), st.integers(0, 3)),
)


@given(TENSORS | st.lists(TENSORS, min_size=1, max_size=3).map(lambda ts: TupleType(tuple(ts))))
def test_types_print_and_parse(type_: TensorType | TupleType):
    assert parse_type(str(type_)) == type_


@settings(max_examples=40)
@given(integer_cases() | float_cases())
def test_programs_print_and_parse(case: Case):
    files = text.to_files(case.program, "p")
    assert text.from_files(files, "p") == case.program
    assert text.to_files(text.from_files(files, "p"), "p") == files


@pytest.mark.parametrize("name", CASES)
def test_families_print_and_parse(name: str):
    files = text.to_files(CASES[name].program, "p")
    assert text.from_files(files, "p") == CASES[name].program


PROGRAM = """program p numerics=float {
  input x: series f32[2]
  stage main forward {
    from x = x
    input %x: f32[2]
    state %h: f32[2] next=%y
    %y: f32[2] = add(%x, %h)
    output y = %y
  }
  output y = main.y
}
"""


@pytest.mark.parametrize(("old", "new", "error", "message"), [
    ("f32[2] = add", "f32[3] = add", IRError, "p/main: %y: add gives f32[2], the type says f32[3]."),
    ("add(%x, %h)", "add(%x, %g)", IRError, "p/main: %y: takes %g, which is not defined before it."),
    ("add(%x, %h)", "ad(%x, %h)", IRError, "p/main: %y: there is no op 'ad'. Did you mean 'add'?"),
    ("next=%y", "next=%z", IRError, "p/main: state %h: is f32[2], but its next, %z, is None."),
    ("next=%y", "next=%y when=%x", IRError, "p/main: state %h: its when, %x, is f32[2]; needed bool[]."),
    ("next=%y", "next=%y init=%x", IRError, "p/main: state %h: its init %x is no param."),
    ("output y = %y", "output y = %q", IRError, "p/main: output 'y' names %q, which is no tensor of this graph."),
    ("    from x = x\n", "", IRError, "p/main: input 'x' is fed by nothing."),
    ("from x = x", "from x = x\n    from q = x", IRError, "p/main: feeds 'q', which is no input of its graph."),
    ("from x = x", "from x = w", IRError, "p: there is no input 'w'."),
    ("from x = x", "from x = later.y", IRError, "p/main: later.y names no earlier stage."),
    ("series f32[2]", "series f32[4]", IRError, "p/main: input 'x' is f32[2], but x is f32[4]."),
    ("forward", "sideways", IRError, "p/main: drive 'sideways' is none of forward, reverse, order, until, generate."),
    ("forward", "until <predicate=\"y\">", IRError, "p/main: until needs max_steps of at least 1."),
    ("forward", "order", IRError, "p/main: order needs a series input i32[] that lists the indices."),
    ("numerics=float", "numerics=fixed", IRError, "p: numerics 'fixed' is none of float, native, tflite."),
    ("%x: f32[2]", "%x: f32[2", TextError, "t:5: 'f32[2' is no type; write one as f32[4,8] or i8[4]{0.0078:0}."),
    ("    output y = %y\n", "    output y := %y\n", TextError, "t:8: 'output y := %y' is no line of a graph."),
    ("  output y = main.y\n}\n", "", TextError, "t:9: the text ends early; a closing } is missing."),
    ("state %h: f32[2] next=%y", "param %h: f32[2]", TextError, "t:6: the weights hold no 'main/h'."),
    ("series f32[2]", "serial f32[2]", TextError, "t:2: 'input x: serial f32[2]' is no line of a program."),
    ("add(%x, %h)", "add(%x, %h) <axis=0>", IRError, "p/main: %y: add has no attribute 'axis'."),
    ("add(%x, %h)", "slice(%h) <step=\"x\">", IRError, "p/main: %y: slice can't take the attributes {'step': 'x'} "
     "('>=' not supported between instances of 'str' and 'int')."),
    ("add(%x, %h)", "slice(%h) <step=1.5>", IRError,
     "p/main: %y: slice can't take the attributes {'step': 1.5}: they give shape (2.0,)."),
    ("%x: f32[2]", "%x: i8[2]{[1.0, \"a\"]:0@0}", TextError, "t:5: '[1.0, \"a\"]' is no scale."),
    ("add(%x, %h)", "add(%x, %h) <axis>", TextError, "t:7: 'axis' is no attribute here."),
])  # fmt: skip
def test_broken_programs_are_refused_with_their_place(old: str, new: str, error: type[Exception], message: str):
    assert old in PROGRAM
    with pytest.raises(error) as caught:
        parse_program(PROGRAM.replace(old, new), {}, "t")
    assert str(caught.value) == message


@pytest.mark.parametrize(("role", "name"), [
    ("program", "two words"), ("program", ""), ("input", "x.y"), ("stage", "größe"), ("stage", "a.b"),
    ("output", "a b"), ("result", "y\n}"),
])  # fmt: skip
def test_names_that_could_not_be_read_back_are_refused(role: str, name: str):
    """What verify lets through, the text form must print and parse: a build is read back by it."""
    names = {"program": "p", "input": "x", "stage": "main", "output": "y", "result": "y"} | {role: name}
    builder = Builder()
    x = builder.input("x", (2,))
    graph = replace(builder.graph(), outputs={names["output"]: x.name})
    stage = Stage(names["stage"], graph, inputs_from={"x": Ref(names["input"])})
    program = Program(
        names["program"], {names["input"]: ProgramInput(TensorType((2,)))}, (stage,),
        {names["result"]: Ref(names["output"], names["stage"])},
    )  # fmt: skip
    with pytest.raises(IRError, match="is no name"):
        verify(program)


@settings(max_examples=150)
@given(st.integers(0, len(PROGRAM)), st.integers(0, 12), st.text(max_size=3))
def test_damaged_text_gives_a_program_or_a_clear_error(start: int, length: int, new: str):
    try:
        parse_program(PROGRAM[:start] + new + PROGRAM[start + length :], {}, "t")
    except IRError as error:
        assert str(error)


def test_damaged_weights_are_refused():
    files = text.to_files(CASES["elman_tanh"].program, "p")
    with pytest.raises(TextError, match="can't be read"):
        text.from_files({**files, "p.npz": files["p.npz"][:100]}, "p")
    with pytest.raises(TextError, match="can't be read"):
        text.from_files({"p.nd": files["p.nd"]}, "p")


def test_a_param_must_have_its_type():
    graph = Graph(params={"w": Param(TensorType((3,)), np.zeros(2, np.float32))})
    with pytest.raises(IRError, match=r"param %w is f32\[3\] but its data is float32\[2\]"):
        verify(Program("p", {}, (Stage("s", graph),), {}))


# -- states and guards -------------------------------------------------------------------------------------------------


def test_states_are_committed_together():
    b = Builder()
    x = b.input("x", [1])
    left, right = b.state("a", [1], init=[1.0]), b.state("b", [1], init=[2.0])
    b.next(left, right)
    b.next(right, left)
    b.output("a", left + 0.0 * x)
    found = run(as_program(b, "swap"), {"x": np.zeros((1, 4, 1))}).outputs["a"]
    assert found[0, :, 0].tolist() == [1, 2, 1, 2]


def test_a_state_holds_while_its_when_is_false_and_after_its_sample_ended():
    b = Builder()
    x, h = b.input("x", [1]), b.state("h", [1])
    positive = b("lt", b.const(0.0), b("reshape", x, shape=[]))
    b.next(h, h + x, positive)
    b.output("h", h)
    x_data = np.array([[[1.0], [-5.0], [2.0]], [[1.0], [9.0], [9.0]]], np.float32)
    trace = run(as_program(b, "hold"), {"x": x_data}, np.array([3, 1]), states=True)
    assert trace.states["main.h"][:, :, 0].tolist() == [[1, 1, 3], [1, 1, 1]]
    assert trace.outputs["h"][1, 1:].tolist() == [[0], [0]]


def test_guards_nest_merge_and_end_where_a_value_is_needed_elsewhere():
    b = Builder()
    x, h, g = b.input("x", [1]), b.state("h", [1]), b.state("g", [1])
    flat = b("reshape", x, shape=[])
    when = b("lt", b.const(0.0), flat, name="when")
    inner = b("lt", b.const(1.0), flat, name="inner")
    only = b("tanh", x, name="only")
    both = b("exp", x, name="both")
    deep = b("log", x, name="deep")
    chosen = b("select", inner, deep, only, name="chosen")
    b.next(h, h + chosen + both, when)
    b.next(g, both, when)
    b.output("h", h)
    graph = b.graph()
    found = guards(graph)
    assert found["only"] == found["both"] == found["chosen"] == ("when",)
    assert found["deep"] == ("when", "inner")
    assert found["when"] == ()
    assert guards(replace(graph, outputs={"h": "h", "e": "both"}))["both"] == ()


def test_values_behind_a_false_guard_are_not_observed():
    b = Builder()
    x, h = b.input("x", [1]), b.state("h", [1])
    b.next(h, b("tanh", x, name="t"), b("lt", b.const(0.0), b("reshape", x, shape=[])))
    b.output("h", h)
    seen: list[int] = []
    program = as_program(b, "observed")
    data = np.array([[[1.0]], [[-1.0]]], np.float32)
    run(program, {"x": data}, observe=lambda s, n, a, active: seen.append(int(active.sum())) if n == "t" else None)
    assert seen == [1]


def test_prune_keeps_what_states_and_outputs_need():
    b = Builder()
    x, h = b.input("x", [1]), b.state("h", [1], init=[1.0])
    b.param("unused", [1.0])
    b("tanh", x)
    b.next(h, x + h)
    b.output("h", h)
    graph = prune(b.graph())
    assert [v.op for v in graph.values] == ["add"] and list(graph.params) == ["h_init"]


# -- drives ------------------------------------------------------------------------------------------------------------


def counter(drive: Drive, *, kind: str = "series", outputs: dict[str, str] | None = None) -> Program:
    """``s' = s + x``; ``done`` once s' is at least 3."""
    b = Builder()
    x, s = b.input("x", [1]), b.state("s", [1])
    total = s + x
    b.next(s, total)
    b.output("s", total)
    b.output("done", b("lt", b.const(2.5), b("reshape", total, shape=[])))
    inputs = {"x": ProgramInput(x.type, kind)}
    if drive.order:
        inputs["path"] = ProgramInput(TensorType((), "i32"))
    refs = {n: Ref.parse(r) for n, r in (outputs or {"s": "main.s"}).items()}
    return verify(Program("count", inputs, (Stage("main", b.graph(), drive, {"x": Ref("x")}),), refs))


X = np.array([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [99.0]]], np.float32)
LENGTHS = np.array([3, 2])


def test_forward_and_reverse_respect_lengths():
    forward = run(counter(Drive()), {"x": X}, LENGTHS).outputs["s"]
    assert forward[:, :, 0].tolist() == [[1, 3, 7], [8, 24, 0]]
    backward = run(counter(Drive("reverse")), {"x": X}, LENGTHS).outputs["s"]
    assert backward[:, :, 0].tolist() == [[7, 6, 4], [24, 16, 0]]


def test_last_and_final():
    outputs = {"last": "main.s@last", "final": "main.s@final"}
    found = run(counter(Drive(), outputs=outputs), {"x": X}, LENGTHS).outputs
    assert found["last"].tolist() == found["final"].tolist() == [[7], [24]]
    found = run(counter(Drive("reverse"), outputs=outputs), {"x": X}, LENGTHS).outputs
    assert found["last"].tolist() == [[4], [16]] and found["final"].tolist() == [[7], [24]]


def test_order_writes_where_it_reads():
    path = np.array([[2, 0, -1], [1, 1, 0]], np.int32)
    found = run(counter(Drive("order", order="path")), {"x": X, "path": path}, np.array([3, 3])).outputs["s"]
    assert found[0, :, 0].tolist() == [5, 0, 4] and found[1, :2, 0].tolist() == [40, 32]
    with pytest.raises(DataError, match="names index 7"):
        run(counter(Drive("order", order="path")), {"x": X, "path": path + 5})


def test_until_stops_each_sample_and_says_whether_it_converged():
    program = counter(Drive("until", predicate="done", max_steps=4), kind="static", outputs={"s": "main.s@last"})
    trace = run(program, {"x": np.array([[3.0], [1.0], [0.1]], np.float32)})
    assert trace.outputs["s"][:, 0].tolist() == pytest.approx([3, 3, 0.4])
    assert trace.steps["main"].tolist() == [1, 3, 4]
    assert trace.converged["main"].tolist() == [True, True, False]


def test_generate_feeds_its_output_back():
    program = counter(Drive("generate", feedback={"x": "s"}, stop="done", max_steps=5), kind="static")
    trace = run(program, {"x": np.array([[1.0], [0.1]], np.float32)})
    assert trace.outputs["s"][0, :, 0].tolist() == pytest.approx([1, 2, 4, 0, 0])
    assert trace.outputs["s"][1, :, 0].tolist() == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert trace.steps["main"].tolist() == [3, 5]


@pytest.mark.parametrize(("inputs", "lengths", "message"), [
    ({}, None, "input 'x' is missing"),
    ({"x": X, "z": X}, None, "no input 'z'"),
    ({"x": X[0]}, None, r"shape \[3, 1\]; needed \[batch, time, 1\]"),
    ({"x": X * np.nan}, None, "NaN or infinity"),
    ({"x": X.astype("U4")}, None, "needed numbers"),
    ({"x": X}, [3, 4], "lengths' runs 3..4; the data have 3 steps"),
    ({"x": X}, [1], "needed whole numbers"),
])  # fmt: skip
def test_data_that_do_not_fit_are_refused(inputs: dict, lengths: list | None, message: str):
    with pytest.raises(DataError, match=message):
        run(counter(Drive()), inputs, None if lengths is None else np.array(lengths))


@pytest.mark.parametrize("name", CASES)
def test_one_sample_alone_gives_what_it_gives_in_a_batch(name: str):
    case = CASES[name]
    whole = run(case.program, case.inputs, case.lengths).outputs
    lengths = None if case.lengths is None else case.lengths[2:3]
    alone = run(case.program, {n: a[2:3] for n, a in case.inputs.items()}, lengths).outputs
    for out, array in alone.items():
        assert np.allclose(array[0][: len(whole[out][2])], whole[out][2][: len(array[0])], atol=1e-5)
