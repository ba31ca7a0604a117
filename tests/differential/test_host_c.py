"""C on this machine against the golden model: random graphs and every family, integers on every bit."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import hardware, passes
from neurodeploy.backends import backend, c_build, c_emit, runner
from neurodeploy.backends.c_layouts import LAYOUTS, PAIRS, PLAIN
from neurodeploy.data import Data
from neurodeploy.errors import NumericsError, UnsupportedError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.interpret import StepInterpreter
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify
from tests.families import CASES
from tests.families.case import one_stage
from tests.host_c import assert_whole_runs, build
from tests.step_graphs import random_inputs, random_program

BATCHES = [
    (start, layout)
    for start in range(0, 240, 60)
    for layout in LAYOUTS.values()
    if (start // 60 + len(layout.name)) % 2
]


def equal(golden, found):
    for part in ("outputs", "states"):
        for name, array in getattr(golden, part).items():
            np.testing.assert_array_equal(getattr(found, part)[name], array, err_msg=f"{part} {name}")


# -- random graphs -----------------------------------------------------------------------------------------------------


@functools.cache
def random_batch(start, layout, small=False):
    """Those of 60 random graphs whose values keep to their range, each with what the golden model makes of it."""
    cases = []
    for seed in range(start, start + 60):
        program = random_program(seed)
        inputs = random_inputs(program, seed)
        try:
            cases.append((program, inputs, interpret.run(program, inputs, states=True)))
        except NumericsError:
            continue
    return build([program for program, _, _ in cases], layout, small=small).compile(), cases


@pytest.mark.parametrize(("start", "layout"), BATCHES, ids=lambda v: getattr(v, "name", v))
def test_random_integer_graphs_are_exact(start, layout):
    built, cases = random_batch(start, layout)
    assert len(cases) >= 50
    for program, inputs, golden in cases:
        equal(golden, built.run(program.name, inputs))


@pytest.mark.parametrize("layout", [PLAIN, PAIRS], ids=lambda v: v.name)
def test_with_little_ram_they_are_exact_too(layout):
    built, cases = random_batch(0, layout, small=True)
    for program, inputs, golden in cases:
        equal(golden, built.run(program.name, inputs))


@pytest.mark.parametrize(("start", "layout"), BATCHES[:2], ids=lambda v: getattr(v, "name", v))
def test_chunks_streams_and_resets_give_the_same(start, layout):
    """All steps at once = one by one, streams side by side = alone, and again after a reset."""
    built, cases = random_batch(start, layout)
    for program, inputs, golden in cases:
        whole = built.run(program.name, inputs, states=False)
        alone = [built.run(program.name, {n: a[i : i + 1] for n, a in inputs.items()}, states=False) for i in range(3)]
        engine = built.executor(program.name, "step", program.stages[0].graph)
        for _ in range(2):
            engine.reset(3, {})
            parts = [
                engine.run_block({n: a[:, k : k + 2] for n, a in inputs.items()}, np.ones((3, 2), bool))
                for k in (0, 2, 4)
            ]
            for name, array in golden.outputs.items():
                np.testing.assert_array_equal(whole.outputs[name], array)
                np.testing.assert_array_equal(np.concatenate([p[name] for p in parts], 1), array)
                np.testing.assert_array_equal(np.concatenate([a.outputs[name] for a in alone]), array)


def test_random_graphs_have_every_integer_op():
    used = {
        v.op
        for start, layout in BATCHES
        for p, _, _ in random_batch(start, layout)[1]
        for v in p.stages[0].graph.values
    }
    wanted = {
        "add", "sub", "mul", "div", "min", "max", "neg", "abs", "sqrt", "relu", "eq", "lt", "ne", "select", "cast",
        "matmul", "einsum", "sum", "reduce_max", "argmax", "random", "concat", "slice", "reshape", "transpose",
        "broadcast", "gather", "row", "put", "shift", "requantize", "lut", "affine", "const",
    }  # fmt: skip
    assert not wanted - used


def test_a_wrong_bit_is_found():
    program, inputs, golden = random_batch(*BATCHES[0])[1][0]
    inputs = {name: array.copy() for name, array in inputs.items()}
    inputs["x0"][0, 0, 0] ^= 1
    inputs["x2"][0, 0] ^= 1
    with pytest.raises(AssertionError):
        equal(golden, random_batch(*BATCHES[0])[0].run(program.name, inputs))


# -- families ----------------------------------------------------------------------------------------------------------


@functools.cache
def float_families():
    return build([case.program for case in CASES.values()], runs=True).compile()


@functools.cache
def quantized(name):
    case = CASES[name]
    data = Data(dict(case.inputs), case.lengths)
    return passes.run(case.program, passes.pipeline("c", "native", data=data))


@functools.cache
def integer_families(layout=PLAIN, small=False):
    programs = [quantized(name) for name, case in CASES.items() if case.integer]
    return build(programs, layout, runs=layout is PLAIN and not small, small=small).compile()


class Locked:
    """Steps C from the interpreter's states, so that differences don't add up; the interpreter goes on."""

    def __init__(self, stage, graph, built, name):
        self.golden, self.found = StepInterpreter(graph), built.executor(name, stage, graph)
        self.worst = 0.0

    def reset(self, batch, init):
        self.golden.reset(batch, init)
        self.found.reset(batch, {})
        self.close(self.found.states(), {k: v for k, v in self.golden.states().items() if k not in init})

    def close(self, found, golden):
        for name, array in golden.items():
            a, b = np.asarray(array, np.float64), np.asarray(found[name], np.float64)
            scale = np.maximum(1.0, np.abs(a))
            assert np.all(np.abs(a - b) <= 4e-6 * scale), (name, np.abs(a - b).max())

    def step(self, inputs, active):
        self.found.set_states(self.golden.states())
        found = self.found.step(inputs, active)
        golden = self.golden.step(inputs, active)
        self.close({n: a[active] for n, a in found.items()}, {n: a[active] for n, a in golden.items()})
        self.close(self.found.states(), self.golden.states())
        return golden

    def states(self):
        return self.golden.states()


@pytest.mark.parametrize("name", CASES)
def test_float_families_agree_step_by_step(name):
    case = CASES[name]
    drive(
        case.program, case.inputs, case.lengths, lambda stage, g: Locked(stage, g, float_families(), case.program.name)
    )


@pytest.mark.parametrize("how", [(PLAIN,), (PAIRS,), (PAIRS, True)], ids=["plain", "pairs", "pairs-small"])
@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.integer])
def test_integer_families_are_exact(name, how):
    case, program = CASES[name], quantized(name)
    golden = interpret.run(program, case.inputs, case.lengths, states=True)
    equal(golden, integer_families(*how).run(program.name, case.inputs, case.lengths))


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.integer])
def test_whole_runs_in_c_are_exact(name):
    """Every drive: forward, reverse, order, until, generate; several stages; a sample at a time."""
    case, program, built = CASES[name], quantized(name), integer_families()
    golden = interpret.run(program, case.inputs, case.lengths)
    assert_whole_runs(built, program, golden, case.inputs, case.lengths)


def test_every_drive_is_among_the_families():
    assert {s.drive.kind for c in CASES.values() if c.integer for s in c.program.stages} == {
        "forward", "reverse", "order", "until", "generate",
    }  # fmt: skip


# -- builds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["host", "mps2-an385", "mps2-an386"])
def test_a_build_runs_as_its_golden_model(target):
    case, program = CASES["gru_reset_after"], quantized("gru_reset_after")
    artifact = backend("c").compile(program, hardware.find(target), source=case.program)
    golden = runner("golden").run(artifact, dict(case.inputs), case.lengths, states=True)
    equal(golden, runner("host").run(artifact, dict(case.inputs), case.lengths, states=True))


@pytest.mark.parametrize("tool", ["gcc", "clang", "zig"])
def test_compilers_have_nothing_to_say(tool):
    if tool not in c_build.toolchains("host"):
        pytest.skip(f"{tool} isn't installed")
    strict = ["-Wshadow", "-Wundef", "-Wpointer-arith", "-Wcast-align", *([] if tool == "gcc" else ["-Wconversion"])]
    names = [
        "lstm_peephole",
        "ntm",
        "pushdown_automaton",
        "stacked_bidirectional",
        "encoder_decoder",
        "clockwork",
        "ising",
    ]
    programs = [quantized(n) for n in names]
    programs += [replace(random_program(seed), name=f"r{seed}") for seed in range(12)]
    c_build.compile_shared(build(programs, runs=True).files, tool, "-O2", strict)
    floats = [replace(CASES[n].program, name=f"{n}_f") for n in (*names, "dnc", "memristive_network")]
    c_build.compile_shared(build(floats, PAIRS, runs=True).files, tool, "-O2", strict)


def test_names_of_models_become_c():
    assert c_emit.model_name("0 odd-name") == "m0_odd_name"
    assert c_emit.model_name("long_run") == "long_run_model"
    assert c_emit.model_name("nd_math") == "m_nd_math"
    assert c_emit.model_name("String") == "string_model"
    assert c_emit.model_name("größe") == "gr__e"
    assert len(c_emit.model_name("a" * 300)) < 100


@pytest.mark.parametrize(("one", "other"), [("x.y", "x_y"), ("in", "in_")])
def test_names_that_are_one_in_c_are_refused(one, other):
    b = Builder()
    x = b.input("x", (3,))
    b.output(one, b("tanh", x))
    b.output(other, b("neg", x))
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    program = Program("p", {"x": ProgramInput(TensorType((3,)))}, (stage,), {"y": Ref(one, "main")})
    with pytest.raises(UnsupportedError, match=f"'{one}' and '{other}' are both"):
        c_emit.emit(program)


def test_a_nan_is_the_greatest_as_in_the_golden_model():
    b = Builder()
    x = b.input("x", (4,))
    b.output("top", b("reduce_max", x, axis=0))
    b.output("at", b("argmax", x, axis=0))
    program = one_stage("nans", b.graph(), inputs={"x": TensorType((4,))}, outputs={"top": "main.top", "at": "main.at"})
    rows = np.array([[1, np.nan, np.inf, np.nan], [np.nan, 2, 3, 4], [0, 1, np.inf, -np.inf]], np.float32)
    golden, found = (
        StepInterpreter(program.stages[0].graph),
        build([program]).compile().executor("nans", "main", program.stages[0].graph),
    )
    for engine in (golden, found):
        engine.reset(3, {})
    equal_steps = [engine.step({"x": rows}, np.ones(3, bool)) for engine in (golden, found)]
    for name in ("top", "at"):
        np.testing.assert_array_equal(equal_steps[1][name], equal_steps[0][name])


AWKWARD = ["int", "state", "step", "x.y", "int32_t", "INT32_MAX", "_Bool", "__x", "nd_math", "offsetof", "out", "main"]


def test_names_of_values_become_c():
    """Inputs, states, outputs and stages may be called what C, stdint.h or the core already have."""
    programs = []
    for number, name in enumerate(AWKWARD):
        b = Builder()
        x, h = b.input(name, (3,)), b.state(f"{name}.h" if number % 2 else "size_t", (3,))
        new = b("tanh", x + h)
        b.next(h, new)
        b.output(name, new)
        stage = name.replace(".", "_")
        program = Program(
            f"awkward{number}", {"x": ProgramInput(TensorType((3,)))}, (Stage(stage, b.graph(), Drive(), {name: Ref("x")}),),
            {"y": Ref(name, stage)},
        )  # fmt: skip
        programs.append(verify(program))
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    integer = [passes.run(p, passes.pipeline("c", "native", data=Data({"x": x}))) for p in programs]
    floats = [replace(p, name=f"{p.name}_f") for p in programs]
    named = [backend("c").compile(replace(p, name=n), hardware.find("host")) for p, n in zip(integer, AWKWARD)]
    built = build([*integer, *floats], runs=True).compile()
    for program in integer:
        equal(interpret.run(program, {"x": x}), built.run(program.name, {"x": x}, states=False))
    for artifact in named[8:9]:
        equal(runner("golden").run(artifact, {"x": x}), runner("host").run(artifact, {"x": x}))
