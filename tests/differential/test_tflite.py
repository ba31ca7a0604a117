"""The tflite numerics against TFLite Micro itself: the golden model equals the wheel's kernels on every bit.

Every recurrent family, random graphs, and a trained classifier. Operators one by one: ``test_tflite_kernels.py``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neurodeploy import hardware
from neurodeploy.backends import backend, runner
from neurodeploy.data import Data, arrange
from neurodeploy.errors import MissingExtraError, UnsupportedError, UsageError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes import pipeline, run
from neurodeploy.passes.tflite.quantize import QuantizeTFLite
from neurodeploy.passes.tflite.scales import Scales
from tests.families import CASES
from tests.strategies import float_cases

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

EXAMPLES = Path(__file__).parents[2] / "examples"
TARGET = hardware.find("tflm")


# -- programs ----------------------------------------------------------------------------------------------------------


def quantized(program: Program, data: Data, **options) -> Program:
    return run(program, pipeline("tflite", "tflite", data=data, quantize_tflite=options))


def lengthened(case):
    """A case's inputs and lengths, so many samples or so long that over 200 steps are run in all."""
    rng, inputs, lengths = np.random.default_rng(8), dict(case.inputs), case.lengths
    plain = all(s.drive.kind in ("forward", "reverse") for s in case.program.stages)
    if plain and all(i.kind == "series" for i in case.program.inputs.values()):
        inputs = {n: np.tile(a, (1, 8, *(1,) * (a.ndim - 2))) for n, a in inputs.items()}
        lengths = None if lengths is None else 8 * np.asarray(lengths) - 1
    else:
        inputs = {n: np.tile(a, (21, *(1,) * (a.ndim - 1))) for n, a in inputs.items()}
        lengths = None if lengths is None else np.tile(lengths, 21)
    floats = {n: a for n, a in inputs.items() if a.dtype.kind == "f"}
    noisy = {n: (a * rng.choice([1.0, 1.0, 0.7, -0.4], a.shape)).astype(np.float32) for n, a in floats.items()}
    return {**inputs, **noisy}, lengths


def sampled(program: Program, inputs, lengths) -> Data:
    data = arrange(dict(inputs), program)
    return data if lengths is None else replace(data, lengths=np.asarray(lengths))


def assert_exact(program: Program, inputs, lengths=None, source=None, trails=(False, True)):
    """The wheel equals the interpreter: outputs of every step of the shipped files, and with a trail every state."""
    artifact = backend("tflite").compile(program, TARGET, source=source)
    golden = interpret.run(program, inputs, lengths, states=any(trails))
    for trail in trails:
        found = runner("tflm").run(artifact, dict(inputs), lengths, states=trail)
        tables = [(found.outputs, golden.outputs), (found.series, golden.series), (found.steps, golden.steps)]
        tables += [(found.states, golden.states)] if trail else []
        for got, wanted in tables:
            assert set(got) == set(wanted)
            for name, array in wanted.items():
                assert got[name].dtype == array.dtype
                np.testing.assert_array_equal(got[name], array, err_msg=name)
    return artifact, golden


#: Widths of activations and states, and how far a family's outputs may be from float ones.
WIDTHS = {
    "i16": ({}, 0.02),
    "i8": ({"activation_dtype": "i8"}, 0.06),
    "mixed": ({"activation_dtype": "i8", "state_dtype": "i16"}, 0.06),
}


#: With the int8 kernels of sigmoid and tanh.
SMALL = {"i8_small": ({"activation_dtype": "i8", "prefer": "size"}, 0.06)}


@pytest.mark.parametrize("width", [*WIDTHS, *SMALL])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_families(case, width):
    options, tolerance = {**WIDTHS, **SMALL}[width]
    inputs, lengths = lengthened(case)
    data = sampled(case.program, inputs, lengths)
    program = quantized(case.program, data, **options)
    many = len(next(iter(inputs.values()))) > len(next(iter(case.inputs.values())))  # each needs an interpreter
    trails = (True,) if many or width == "mixed" else (False, True)
    _, golden = assert_exact(program, inputs, lengths, case.program, trails)
    assert sum(int(np.sum(steps)) for steps in golden.steps.values()) >= 200
    plain = interpret.run(case.program, inputs, lengths)
    if case.name in ("spiking", "history_compressor") or (case.name == "dnc" and options):
        return  # a threshold is crossed a step earlier or later; usages that 8 bits can't tell apart are taken in turn
    if case.name == "ising":  # a spin turns where its probability is within a step of the random number
        spins = real_outputs(program, golden)["s"]
        assert (np.sign(spins) != plain.outputs["s"]).mean() < 0.02
        return
    tolerance *= 2 if case.name in ("ntm", "memristive_network") else 1  # their states are arguments of quotients
    tolerance *= 1.5 if case.name == "clockwork" else 1  # it makes small differences 50 times larger
    for name, array in real_outputs(program, golden).items():
        steps = slice(0, 20) if case.name == "clockwork" else slice(None)
        wanted, array = plain.outputs[name][:, steps], array[:, steps]
        off = np.abs(array.astype(float) - wanted).reshape(len(array), -1).max(axis=1)
        far = off >= tolerance * max(1.0, np.abs(wanted).max())
        # of two usages within a step of each other a DNC may take the other one first
        assert far.sum() <= (case.name == "dnc")


@pytest.mark.parametrize("name", ["spiking", "ising", "history_compressor", "dnc", "memristive_network"])
def test_8_bits_where_16_would_be_kept(name):
    """An explicit state_dtype=i8 is obeyed, and is exact too."""
    case = CASES[name]
    inputs, lengths = lengthened(case)
    data = sampled(case.program, inputs, lengths)
    program = quantized(case.program, data, activation_dtype="i8", state_dtype="i8")
    assert {s.type.dtype for stage in program.stages for s in stage.graph.states} <= {"i8", "i32"}
    assert_exact(program, inputs, lengths, case.program, (False,))


@pytest.mark.parametrize("width", ["i16", "i8", "mixed", "i4"])
@settings(max_examples=30)
@given(case=float_cases())
def test_random_graphs(width, case):
    options, _ = WIDTHS.get(width, ({"activation_dtype": "i8", "weight_bits": 4}, 0))
    try:
        program = quantized(case.program, sampled(case.program, case.inputs, case.lengths), **options)
    except (UnsupportedError, UsageError) as error:
        assume(not isinstance(error, UsageError) or "no calibrated range" in str(error))
        assert error.place
        return
    assert_exact(program, case.inputs, case.lengths, trails=(False,))


@settings(max_examples=30)
@given(case=float_cases(), seed=st.integers(0, 1000))
def test_random_widths(case, seed):
    """Every class of values of its own width: quantized between i8 and i16 wherever two meet."""
    rng, dtypes = np.random.default_rng(seed), {}
    *before, _ = pipeline("tflite", "tflite", data=sampled(case.program, case.inputs, case.lengths))
    try:
        calibrated = run(case.program, before)
        scales = Scales(calibrated, 1.1)
        graph = calibrated.stages[0].graph
        for value in graph.values:
            if isinstance(value.type, TensorType) and value.type.dtype == "f32":
                root = scales.find((calibrated.stages[0].name, value.name))
                dtypes[value.name] = dtypes.setdefault(root, str(rng.choice(["i8", "i16"])))
        named = {value.name: dtypes[value.name] for value in graph.values if value.name in dtypes}
        program = QuantizeTFLite(activations=named)(calibrated)
    except (UnsupportedError, UsageError) as error:
        assume("no calibrated range" in str(error) or isinstance(error, UnsupportedError))
        return
    assert_exact(program, case.inputs, case.lengths, trails=(False,))


def one_stage(b: Builder) -> Program:
    graph = b.graph()
    inputs = {name: ProgramInput(type_) for name, type_ in graph.inputs.items()}
    stage = Stage("main", graph, inputs_from={name: Ref(name) for name in inputs})
    return Program("net", inputs, (stage,), {name: Ref(name, "main") for name in graph.outputs})


def test_delay_lines_moves_and_initial_values():
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", [4])
    line, single = b.state("line", [3, 4], rng.normal(size=(3, 4))), b.state("single", [1, 4])
    later, last = b("shift", line, x), b("shift", single, x)
    b.next(line, later)
    b.next(single, last)
    turned = b("transpose", later, perm=[1, 0])
    y = b("tanh", turned @ b.param("K", rng.normal(size=(3, 5))))
    total = b("sum", y, axis=1)
    wide = b("broadcast", total, shape=[2, 4])
    b.output("max", b("max", wide, b("abs", b("neg", wide)) * 0.5))
    b.output("third", b("min", y, 0.25) / b.const(3.0))
    b.output("joined", b("concat", x, total, axis=0))
    b.output("dot", b.param("k", rng.normal(size=4)) @ x)
    b.output("steps", b("slice", turned, axis=1, start=0, stop=3, step=2))
    b.output("input", x)
    b.output("old", b("reshape", single, shape=[2, 2]))
    program = one_stage(b)
    x, lengths = {"x": rng.normal(size=(4, 8, 4)).astype(np.float32)}, np.array([8, 3, 0, 8])
    assert_exact(quantized(program, sampled(program, x, lengths)), x, lengths)


@pytest.mark.parametrize("width", WIDTHS)
def test_sums_of_products_with_matrices(width):
    rng = np.random.default_rng(4)
    b = Builder()
    x = b.input("x", [4, 3])
    b.output("left", b.param("W", rng.normal(size=(5, 4))) @ x + b.param("b", rng.normal(size=3)))
    b.output("right", b("relu", x @ b.param("V", rng.normal(size=(3, 6))) + b.param("c", rng.normal(size=6))))
    b.output("column", x @ b.param("v", rng.normal(size=3)) + b.param("d", rng.normal(size=4)))  # a row, four sums
    program = one_stage(b)
    inputs = {"x": rng.normal(size=(3, 8, 4, 3)).astype(np.float32)}
    made = quantized(program, sampled(program, inputs, None), **WIDTHS[width][0])
    _, golden = assert_exact(made, inputs)
    plain, found = interpret.run(program, inputs).outputs, real_outputs(made, golden)
    for name, wanted in plain.items():
        assert np.abs(found[name] - wanted).max() < 0.03 * np.abs(wanted).max()


def test_final_states_that_start_at_a_value():
    rng = np.random.default_rng(1)
    b = Builder()
    x, h = b.input("x", [3]), b.state("h", [5], rng.normal(size=5))
    b.next(h, b("tanh", b.param("W", rng.normal(size=(5, 3))) @ x + b.param("U", rng.normal(size=(5, 5))) @ h))
    program = replace(one_stage(b), outputs={"end": Ref("h", "main", "final")})
    x, lengths = {"x": rng.normal(size=(5, 6, 3)).astype(np.float32)}, np.array([6, 0, 2, 6, 1])
    made = quantized(program, sampled(program, x, lengths))
    _, golden = assert_exact(made, x, lengths)
    assert golden.outputs["end"][1].any()


def test_scales_far_apart_stay_within_the_kernels_integers():
    b = Builder()
    x = b.input("x", [4])
    big = x * 3e5
    product = b.param("W", np.eye(4) * 2 - 0.5) @ x
    b.output("cancelled", big * 1.00001 - big)
    b.output("never", b("relu", big) * b("relu", -big))
    b.output("both", b("concat", big, big, axis=0) @ b.param("D", np.vstack([np.eye(4), -np.eye(4)])))
    b.output("clipped", b("max", b("min", big, 1e-3), -1e-3))
    b.output("flat", b("tanh", big))
    b.output("raw", big)
    b.output("none", b("relu", 0.0 - b("abs", big)))
    b.output("twice", product + product)
    b.output("shared", product + b.param("c", np.ones(4)))
    program = one_stage(b)
    inputs = {"x": np.random.default_rng(2).normal(size=(3, 6, 4)).astype(np.float32)}
    made = quantized(program, sampled(program, inputs, None))
    _, golden = assert_exact(made, inputs)
    plain, found = interpret.run(program, inputs).outputs, real_outputs(made, golden)
    for name in ("both", "never", "none"):
        assert np.abs(plain[name]).max() == np.abs(found[name]).max() == 0
    # "clipped" is exact too, but nothing is left of it: min has to hold -1e6 and 1e-3 on one scale
    for name in ("flat", "twice", "shared"):
        assert np.abs(plain[name] - found[name]).max() < 0.03 * np.abs(plain[name]).max()


@pytest.mark.parametrize("width", WIDTHS)
def test_functions_of_what_hardly_moves(width):
    b = Builder()
    x = b.input("x", [4]) * 1e-9
    b.output("tanh", b("tanh", x))
    b.output("sigmoid", b("sigmoid", x))
    program = one_stage(b)
    inputs = {"x": np.random.default_rng(4).normal(size=(3, 6, 4)).astype(np.float32)}
    made = quantized(program, sampled(program, inputs, None), **WIDTHS[width][0])
    _, golden = assert_exact(made, inputs)
    found = real_outputs(made, golden)
    assert np.abs(found["tanh"]).max() < 0.01
    assert np.abs(found["sigmoid"] - 0.5).max() < 0.01


def test_what_calibration_has_not_seen_saturates():
    b = Builder()
    x, y = b.input("x", [4]), b.input("y", [4])
    big, other = x * 3e4, y * 3e4
    b.output("product", b("relu", big) * b("relu", -other))
    b.output("difference", b("concat", big, other, axis=0) @ b.param("D", np.vstack([np.eye(4), -np.eye(4)])))
    b.output("sum", big - other)
    program = one_stage(b)
    rng = np.random.default_rng(3)
    same = rng.normal(size=(3, 6, 4)).astype(np.float32)
    made = quantized(program, sampled(program, {"x": same, "y": same}, None))
    _, golden = assert_exact(made, {"x": same, "y": -same})
    for name, array in golden.outputs.items():
        assert array.max() == 32767, name


def vowels() -> Program:
    """The example's GRU, its weights read from the ONNX file: gates z, r, n there; r, z, n here."""
    import onnx

    model = onnx.load(str(EXAMPLES / "models" / "vowels_gru.onnx"))
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    node = next(n for n in model.graph.node if n.op_type == "GRU")
    order = np.r_[32:64, 0:32, 64:96]
    w, u, both = (weights[name][0] for name in node.input[1:4])
    into, own = both[:96][order], both[96:][order]
    b = Builder()
    x, h = b.input("x", [12]), b.state("h", [32])
    bias = into + np.r_[own[:64], np.zeros(32)]
    params = [b.param("W", w[order]), b.param("U", u[order]), b.param("b", bias), b.param("u", own[64:])]
    (new,) = b.call("gru", x, h, *params)
    b.next(h, new)
    b.output("logits", b.param("V", weights["fc.weight"]) @ new + b.param("c", weights["fc.bias"]))
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    inputs = {"x": ProgramInput(TensorType((12,)))}
    return Program("vowels", inputs, (stage,), {"logits": Ref("logits", "main", "last")})


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({}, 0.005),
        ({"activation_dtype": "i8"}, 0.01),
        ({"activation_dtype": "i8", "state_dtype": "i16"}, 0.01),
        ({"activation_dtype": "i8", "weight_bits": 4}, 0.015),
    ],
    ids=["i16", "i8", "mixed", "i4"],
)
def test_a_trained_gru_keeps_its_accuracy_and_every_bit(options, loss):
    source = vowels()
    with np.load(EXAMPLES / "data" / "japanese_vowels_train.npz") as train:
        program = quantized(source, sampled(source, {"x": train["x"]}, train["lengths"]), **options)
    with np.load(EXAMPLES / "data" / "japanese_vowels_test.npz") as test:
        x, lengths, y = test["x"], test["lengths"], test["y"]
    artifact, golden = assert_exact(program, {"x": x}, lengths, source, trails=(False,))
    plain = interpret.run(source, {"x": x}, lengths).outputs["logits"].argmax(-1)
    assert (plain == y).mean() > 0.95
    assert (golden.outputs["logits"].argmax(-1) == y).mean() >= (plain == y).mean() - loss
    figures = {f["name"]: f for f in artifact.manifest["figures"]}
    assert figures["macs"]["value"] == 96 * 12 + 96 * 32 + 9 * 32
    assert figures["tflite_bytes"]["value"] == len(artifact.files["main.tflite"])
    assert figures["arena_bytes"]["how"] == "measured"
    assert figures["arena_bytes"]["value"] > (96 + 32) * (1 if "activation_dtype" in options else 2)


# -- artifact and runner -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """An LSTM's artifact and its inputs."""
    case = CASES["lstm"]
    program = quantized(case.program, sampled(case.program, case.inputs, case.lengths))
    return backend("tflite").compile(program, TARGET, source=case.program), case


def test_an_artifact_is_whole_and_reproducible(small, tmp_path):
    artifact, case = small
    program = text.from_files(artifact.files, "program")
    assert text.from_files(artifact.files, "source") == case.program
    assert program.numerics == artifact.manifest["numerics"] == "tflite"
    assert backend("tflite").compile(program, TARGET, source=case.program).files == artifact.files
    loaded = type(artifact).load(artifact.save(tmp_path / "build"))
    again = runner("tflm").run(loaded, dict(case.inputs), case.lengths)
    first = runner("tflm").run(artifact, dict(case.inputs), case.lengths)
    np.testing.assert_array_equal(again.outputs["y"], first.outputs["y"])


def test_litert_reads_the_files_too(small):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    artifact, _ = small
    engine = litert.Interpreter(model_content=artifact.files["main.tflite"])
    engine.allocate_tensors()
    assert [d["dtype"] for d in engine.get_input_details()] == [np.int16]


def test_other_builds_and_options_are_refused(small):
    artifact, case = small
    with pytest.raises(UsageError, match="a build for 'c'"):
        runner("tflm").run(replace(artifact, backend="c"), dict(case.inputs), case.lengths)
    with pytest.raises(UsageError, match="no option 'port'"):
        runner("tflm").run(artifact, dict(case.inputs), case.lengths, port="x")
    native = run(case.program, pipeline("c", "native", data=sampled(case.program, case.inputs, case.lengths)))
    with pytest.raises(UnsupportedError, match="native numerics; needed tflite"):
        backend("tflite").compile(native, TARGET)


def test_without_the_wheel_it_compiles_but_does_not_run(small, monkeypatch):
    import sys

    artifact, case = small
    program = text.from_files(artifact.files, "program")
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    made = backend("tflite").compile(program, TARGET, source=case.program)
    project = {name for name in artifact.files if name.startswith("tflm/")}  # its arena is measured with the wheel
    assert made.files == {name: data for name, data in artifact.files.items() if name not in project}
    assert {f["name"]: f["how"] for f in made.manifest["figures"]}["arena_bytes"] == "unknown"
    with pytest.raises(MissingExtraError, match=r"neurodeploy\[tflite\]"):
        runner("tflm").run(made, dict(case.inputs), case.lengths)


def test_what_tflm_would_compute_wrongly_is_refused():
    from neurodeploy.backends.tflite.stage import stage_model

    def graph(op, *quants, **attrs):
        b = Builder()
        b.output("y", b(op, *(b.input(f"x{i}", [4], "i16", q) for i, q in enumerate(quants)), quant=quants[0], **attrs))
        return partial(stage_model, b.graph(), "net/main")

    with pytest.raises(UnsupportedError, match="%max: max joins .* needed one scale"):
        graph("max", Quant(0.1), Quant(0.2))()
    with pytest.raises(UnsupportedError, match="%tfl_add: tfl_add of .* needed a scale above"):
        b = Builder()
        wide = [b.input(n, [4], "i16", Quant(1.0)) for n in "ab"]
        b.output("y", b("tfl_add", *wide, quant=Quant(1e-5)))
        stage_model(b.graph(), "net/main")
    for op, wrong in (("tfl_tanh", Quant(2.0**-8, -128)), ("tfl_logistic", Quant(2.0**-7))):
        b = Builder()
        b.output("y", b(op, b.input("x", [4], "i8", Quant(0.1)), quant=wrong))
        with pytest.raises(UnsupportedError, match=f"%{op}: {op} gives .* needed i8"):
            stage_model(b.graph(), "net/main")
    b = Builder()
    b.output("y", b("lt", b.input("a", [4], "i16", Quant(0.1)), b.input("b", [4], "i16", Quant(0.2))))
    with pytest.raises(UnsupportedError, match="%lt: lt compares .* needed one scale"):
        stage_model(b.graph(), "net/main")
