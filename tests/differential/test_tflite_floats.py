"""Float programs on TFLite Micro: the wheel's float32 kernels against the interpreter, family by family."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy import compile, hardware
from neurodeploy.backends import backend, runner
from neurodeploy.backends.tflite import FLOAT_EQUALITY
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.build import Builder
from neurodeploy.passes import pipeline, run
from neurodeploy.report.agreement import agreement
from tests.families import CASES
from tests.families.case import one_stage

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

TARGET = hardware.find("tflm")


def built(program, **options):
    made = run(program, pipeline("tflite", "float"))
    return backend("tflite").compile(made, TARGET, source=program, **options)


def assert_close(program, inputs, lengths=None):
    """The wheel keeps the artifact's promise: every output and state of every step, and the source's outputs."""
    artifact = built(program)
    golden = interpret.run(text.from_files(artifact.files, "program"), inputs, lengths, states=True)
    found = runner("tflm").run(artifact, dict(inputs), lengths, states=True)
    shipped = runner("tflm").run(artifact, dict(inputs), lengths)
    assert artifact.manifest["equality"] == FLOAT_EQUALITY
    for trace in (found, shipped):
        compared = agreement(trace, golden, against="golden", equality=FLOAT_EQUALITY)
        assert compared.holds, (compared.max_difference, compared.first_difference)
    plain = interpret.run(program, inputs, lengths).outputs
    for name, array in plain.items():
        np.testing.assert_allclose(found.outputs[name].astype(float), array.astype(float), atol=1e-5)
    return artifact


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_families(case):
    assert_close(case.program, case.inputs, case.lengths)


def test_every_primitive_with_a_float_kernel():
    rng = np.random.default_rng(0)
    b = Builder()
    x, y = b.input("x", [3, 4]), b.input("y", [3, 4])
    positive = b("abs", x) + 0.1
    for name in ("neg", "abs", "relu", "tanh", "sigmoid", "exp", "softplus", "floor", "round"):
        b.output(name, b(name, x if name == "exp" else 3.0 * x))
    for name in ("log", "sqrt"):
        b.output(name, b(name, positive))
    for name in ("add", "sub", "mul", "min", "max", "lt", "eq", "ne"):
        b.output(name, b(name, x, y))
    b.output("div", x / (positive + b("abs", y)))
    for axis in (0, 1):
        for name in ("sum", "prod", "reduce_max", "argmax"):
            b.output(f"{name}{axis}", b(name, x, axis=axis))
            b.output(f"{name}{axis}_kept", b(name, x, axis=axis, keepdims=True))
        b.output(f"softmax{axis}", b("softmax", x, axis=axis))
    b.output("whole", b("cast", 3.0 * x, to="i32"))
    b.output("real", b("cast", b("cast", 3.0 * x, to="i32"), to="f32"))
    b.output("flag", b("cast", b("relu", x), to="bool"))
    b.output("one", b("cast", x < y, to="f32"))
    b.output("scalar", b("reshape", b("sum", b("sum", x, axis=0), axis=0), shape=[]) * 2.0)
    program = one_stage_of(b)
    inputs = {n: rng.normal(size=(4, 3, 3, 4)).astype(np.float32) for n in "xy"}
    inputs["x"][0, 0, 0, :2] = inputs["y"][0, 0, 0, :2] = [0.5, -0.5]
    assert_close(program, inputs)


def test_products_of_every_rank_with_constants_on_either_side():
    rng = np.random.default_rng(1)
    b = Builder()
    sides = {"v": b.input("v", [4]), "M": b.input("M", [4, 4])}
    constants = {"c": b.param("c", rng.normal(size=4)), "C": b.param("C", rng.normal(size=(4, 4)))}
    for names in (("v", "v"), ("v", "M"), ("M", "v"), ("M", "M"), ("v", "c"), ("c", "v"), ("v", "C"), ("C", "v"),
                  ("M", "c"), ("c", "M"), ("M", "C"), ("C", "M")):  # fmt: skip
        left, right = (({**sides, **constants})[n] for n in names)
        b.output("_".join(names), left @ right)
        b.output("_".join(names) + "_biased", left @ right + constants["c"])
    b.output("column", (2.0 * sides["M"]) @ constants["c"] + constants["c"])  # one row of weights, four sums
    b.output("twice", (shared := constants["C"] @ sides["v"]) * (shared + constants["c"]))
    program = one_stage_of(b)
    inputs = {"v": rng.normal(size=(3, 2, 4)).astype(np.float32), "M": rng.normal(size=(3, 2, 4, 4)).astype(np.float32)}
    artifact = assert_close(program, inputs)
    figures = {f["name"]: f["value"] for f in artifact.manifest["figures"]}
    assert figures["macs"] > 0


@pytest.mark.parametrize(
    "equation",
    ["ij,j->i", "i,j->ij", "ijk,j,k->i", "bij,bj->bi", "bi,bj->bij", "ij,ij->", "ij->ji", "ij->j", "ab,bc,cd->ad",
     "bij,bjk->bik", "i,i,i->i", "ij,k->kj", "abc,cb->a", "ij,jk,k,i->"],
)  # fmt: skip
@pytest.mark.parametrize("constant", [False, True])
def test_einsum(equation, constant):
    sizes = dict(zip("abcdijk", (2, 3, 4, 5, 3, 4, 2), strict=True))
    rng, b = np.random.default_rng(2), Builder()
    terms = equation.partition("->")[0].split(",")
    shapes = [[sizes[letter] for letter in term] for term in terms]
    args = [b.param("c", rng.normal(size=s)) if constant and i == 0 and len(terms) > 1 else b.input(f"x{i}", s)
            for i, s in enumerate(shapes)]  # fmt: skip
    b.output("y", b("einsum", *args, eq=equation))
    program = one_stage_of(b)
    inputs = {n: rng.normal(size=(3, 2, *i.type.shape)).astype(np.float32) for n, i in program.inputs.items()}
    assert_close(program, inputs)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_solve_with_pivoting(n):
    rng, b = np.random.default_rng(3), Builder()
    b.output("x", b("solve", b.input("A", [n, n]), b.input("c", [n])))
    well = np.linalg.qr(rng.normal(size=(6, 4, n, n)))[0] * rng.uniform(0.5, 2, (6, 4, n, 1))
    well[0, 0] = np.roll(np.eye(n), 1, axis=0)  # every pivot on the diagonal is 0
    assert_close(one_stage_of(b), {"A": well.astype(np.float32), "c": rng.normal(size=(6, 4, n)).astype(np.float32)})


def test_many_unknowns_are_refused():
    b = Builder()
    b.output("x", b("solve", b.input("A", [9, 9]), b.input("c", [9])))
    with pytest.raises(UnsupportedError, match="%solve: solve has 9 unknowns; for TFLite Micro 8 at most.* C target"):
        built(one_stage_of(b))


def test_a_diagonal_is_refused():
    b = Builder()
    b.output("y", b("einsum", b.input("x", [3, 3]), eq="ii->i"))
    with pytest.raises(UnsupportedError, match="%einsum: einsum 'ii->i' takes a diagonal"):
        run(one_stage_of(b), pipeline("tflite", "float"))


def one_stage_of(b: Builder):
    graph = b.graph()
    return one_stage("net", graph, inputs=graph.inputs, outputs={n: f"main.{n}" for n in graph.outputs})


def test_compile_takes_no_samples_for_floats():
    case = CASES["gru_reset_after"]
    made = compile(case.program, "tflm", numerics="float")
    assert made.artifact.manifest["numerics"] == "float"
    assert made.artifact.manifest["inputs"][0]["dtype"] == "f32"
    np.testing.assert_allclose(
        made.run(case.inputs["x"], case.lengths)["y"], interpret.run(case.program, case.inputs, case.lengths).outputs["y"],
        atol=1e-5,
    )  # fmt: skip


def test_a_constant_that_is_added_becomes_a_bias():
    b = Builder()
    x, w, c = b.input("x", [3]), b.param("W", np.ones((2, 3))), b.param("c", np.ones(2))
    b.output("biased", w @ x + c)
    b.output("other", (product := x @ b.param("V", np.ones((3, 2)))) + c)
    b.output("product", product)
    artifact = assert_close(one_stage_of(b), {"x": np.ones((1, 1, 3), np.float32)})
    assert artifact.manifest["layout"]["stages"]["main"]["operators"] == 3  # FULLY_CONNECTED twice, ADD once


@pytest.mark.parametrize("options", [{"steps": 3}, {"state": "io"}])
@pytest.mark.parametrize("name", ["gru_reset_after", "ntm"])
def test_several_steps_a_call_and_states_as_inputs(name, options):
    case = CASES[name]
    artifact = built(case.program, **options)
    golden = interpret.run(text.from_files(artifact.files, "program"), case.inputs, case.lengths)
    found = runner("tflm").run(artifact, dict(case.inputs), case.lengths)
    compared = agreement(found, golden, against="golden", equality=FLOAT_EQUALITY)
    assert compared.holds, (compared.max_difference, compared.first_difference)
