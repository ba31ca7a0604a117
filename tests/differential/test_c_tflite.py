"""C of TFLite's numerics on this machine against the golden model, on every bit."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from neurodeploy import passes
from neurodeploy.backends.c_layouts import BLOCKS, PAIRS, PLAIN
from neurodeploy.compiler import prepare
from neurodeploy.data import Data
from neurodeploy.errors import NumericsError, UnsupportedError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.tflite.fixed_point import zero_of
from neurodeploy.ir.types import Quant, TensorType
from tests.families import CASES
from tests.host_c import assert_whole_runs, build
from tests.strategies import float_cases


def equal(golden, found):
    for part in ("outputs", "states"):
        for name, array in getattr(golden, part).items():
            np.testing.assert_array_equal(getattr(found, part)[name], array, err_msg=f"{part} {name}")


# -- families ----------------------------------------------------------------------------------------------------------

WIDTHS = {"i16": {}, "i8": {"activation_dtype": "i8"}, "mixed": {"activation_dtype": "i8", "state_dtype": "i16"}}


def with_numerics(program, inputs, lengths=None, width="i16", **options):
    data = Data(dict(inputs), lengths)
    options = {**WIDTHS[width], **options}
    return passes.run(program, passes.pipeline("c", "tflite", data=data, quantize_tflite=options))


@functools.cache
def quantized(width):
    """Every family that the tflite numerics can say, by name."""
    found = {}
    for name, case in CASES.items():
        try:
            found[name] = with_numerics(case.program, case.inputs, case.lengths, width)
        except UnsupportedError:
            continue
    return found


@pytest.mark.parametrize(("layout", "width", "small"), [
    (PAIRS, "i16", False), (PAIRS, "i8", False), (PLAIN, "mixed", False), (BLOCKS, "i8", False), (PLAIN, "i8", True),
], ids=lambda v: getattr(v, "name", v))  # fmt: skip
def test_families_are_exact(layout, width, small):
    programs = quantized(width)
    assert len(programs) >= 31
    built = build(list(programs.values()), layout, small=small, runs=layout is PLAIN).compile()
    for name, program in programs.items():
        case = CASES[name]
        golden = interpret.run(program, case.inputs, case.lengths, states=True)
        equal(golden, built.run(program.name, case.inputs, case.lengths))
        if layout is PLAIN:
            assert_whole_runs(built, program, golden, case.inputs, case.lengths)


def test_every_drive_is_among_the_families():
    assert {s.drive.kind for p in quantized("i8").values() for s in p.stages} == {
        "forward", "reverse", "order", "until", "generate",
    }  # fmt: skip


# -- where no step gives a value ---------------------------------------------------------------------------------------


def there_and_back() -> Program:
    """Rows from the last, then some of them in an order, then what that gave from the first; every end is an output."""
    rng = np.random.default_rng(0)

    def stage(name: str, drive: Drive, given: str, function: str) -> Stage:
        b = Builder()
        x, h = b.input("x", [3]), b.state("h", [3])
        w, u = (b.param(n, rng.normal(size=(3, 3)).astype(np.float32)) for n in "wu")
        new = b("tanh", w @ x + u @ h + b.param("c", np.array([0.5, 1, 2], np.float32)))
        b.next(h, new)
        b.output("y", b(function, new))
        return Stage(name, b.graph(), drive, {"x": Ref.parse(given)})

    stages = (
        stage("back", Drive("reverse"), "x", "relu"),
        stage("path", Drive("order", order="order"), "back.y", "sigmoid"),
        stage("ahead", Drive(), "path.y", "tanh"),
    )
    inputs = {"x": ProgramInput(TensorType((3,))), "order": ProgramInput(TensorType((), "i32"))}
    outputs = {f"{s.name}_{at}": Ref("y", s.name, at) for s in stages for at in ("series", "last")}
    return Program("there_and_back", inputs, stages, outputs)


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_that_no_step_gives_hold_the_zero_point(width):
    source = there_and_back()
    rng = np.random.default_rng(1)
    order = np.array([[0, 2, -1, 4, -1, 5], [5, -1, 0, 0, 3, 2], [-1, -1, -1, -1, -1, -1]], np.int32)
    inputs = {"x": rng.normal(size=(3, 6, 3)).astype(np.float32), "order": order}
    program = with_numerics(source, inputs, width=width)
    built = build([program], runs=True).compile()
    golden = interpret.run(program, inputs, states=True)
    equal(golden, built.run(program.name, inputs))
    assert_whole_runs(built, program, golden, inputs, None)
    zero = zero_of(program.output_types()["path_series"])
    assert (golden.outputs["path_series"][2] == zero).all() and (golden.outputs["path_last"][2] == zero).all()
    assert (zero != 0) == (width != "i16")


def test_a_wrong_bit_is_found():
    program = quantized("i8")["gru_reset_after"]
    built = build([program]).compile()
    inputs = {n: a + 0.2 for n, a in CASES["gru_reset_after"].inputs.items()}
    with pytest.raises(AssertionError):
        equal(interpret.run(program, CASES["gru_reset_after"].inputs, states=True), built.run(program.name, inputs))


# -- random graphs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", ["i8", "mixed"])
@settings(max_examples=1, phases=[Phase.generate], derandomize=True, deadline=None, database=None)
@given(cases=st.lists(float_cases(), min_size=6, max_size=6))
def test_random_graphs_are_exact(width, cases):
    programs, golden = [], []
    for i, case in enumerate(cases):
        try:
            program = with_numerics(replace(case.program, name=f"random{i}"), case.inputs, case.lengths, width)
            golden.append((case, interpret.run(program, case.inputs, case.lengths, states=True)))
        except (UnsupportedError, NumericsError):
            continue
        programs.append(program)
    assert len(programs) >= 4
    built = build(programs, PAIRS).compile()
    for program, (case, wanted) in zip(programs, golden, strict=True):
        equal(wanted, built.run(program.name, case.inputs, case.lengths))


# -- the fused LSTM, SVDF, streams -------------------------------------------------------------------------------------


def test_a_fused_lstm_is_exact():
    """TFLite's own LSTM, inlined."""
    case = CASES["lstm"]
    data = Data(dict(case.inputs), case.lengths)
    for width in ("i8", "i16"):
        options = {"fused_lstm": True, "quantize": WIDTHS[width], "progress": lambda text: None}
        program = prepare(case.program, "c", "tflite", data, **options)
        assert any(v.op == "tflite_lstm" for v in program.stages[0].graph.values)
        golden = interpret.run(program, case.inputs, case.lengths, states=True)
        equal(golden, build([program], PAIRS).compile().run(program.name, case.inputs, case.lengths))


def streaming(rows, new, width="i8"):
    """A window of some rows, of which so many are new at every step, and a depthwise convolution over it."""
    b, form = Builder(), Quant(0.05, -3) if width == "i8" else Quant(2.0**-12)
    x = b.input("x", TensorType((new, 1, 6), width, form))
    kept = b.param(
        "kept", np.full((rows - new, 1, 6), -3 if width == "i8" else 5, np.int8).astype(f"int{width[1:]}"), form
    )
    state = b.state("line", TensorType((rows - new, 1, 6), width, form), kept)
    window = b("concat", state, x, axis=0, quant=form)
    b.next(state, b("slice", window, axis=0, start=new, stop=rows, quant=form))
    rng = np.random.default_rng(rows)
    taps = b.param("w", rng.integers(-127, 128, (1, rows, 1, 6)).astype(np.int8), Quant(0.01))
    dense = b.param("d", rng.integers(-127, 128, (4, rows, 1, 6)).astype(np.int8), Quant(0.01))
    b.output("y", b("tfl_depthwise_conv_2d", window, taps, quant=Quant(0.1, 4 if width == "i8" else 0)))
    b.output("z", b("tfl_conv_2d", window, dense, quant=Quant(0.3, 4 if width == "i8" else 0)))
    stage = Stage("main", b.graph(), Drive(), {"x": Ref("x")})
    outputs = {"y": Ref("y", "main"), "z": Ref("z", "main")}
    return Program(f"stream{rows}{new}{width}", {"x": ProgramInput(x.type)}, (stage,), outputs, numerics="tflite")


@pytest.mark.parametrize("layout", [PLAIN, PAIRS], ids=lambda v: v.name)
def test_windows_of_streams_lie_in_their_state(layout):
    programs = [
        streaming(rows, new, width) for rows, new in ((5, 1), (7, 3), (4, 2), (6, 5)) for width in ("i8", "i16")
    ]
    built = build(programs, layout).compile()
    rng = np.random.default_rng(0)
    for program in programs:
        type_ = program.inputs["x"].type
        x = rng.integers(-128, 128, (3, 12, *type_.shape)).astype(type_.numpy)
        equal(interpret.run(program, {"x": x}, states=True), built.run(program.name, {"x": x}))
        text = built.codes[program.name].files[f"{program.name}.c"].decode()
        assert "nd_move_down(" in text and "line_copy" not in text
