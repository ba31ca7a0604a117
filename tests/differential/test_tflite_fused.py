"""TFLite's fused LSTM: the composite's body equals the wheel's kernel on every bit, LiteRT within one LSB."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurodeploy import compile, load
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Graph, Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.tflite.fixed_point import zero_of
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.ir.verify import verify
from tests.families.case import Weights
from tests.tflite_random import STEPS, TARGET, TOPS, assert_bits, every_integer, f32, program_of, random_weights, scale

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")


def lstm_step(seed: int, k: int, n: int, dtype: str, clip: float = 0.0) -> Graph:
    """An LSTM with random weights, scales and (at int8) zero points."""
    rng, b, top = np.random.default_rng(seed), Builder(), TOPS[dtype]
    zeros = rng.integers(-40, 40, 2) if dtype == "i8" else np.zeros(2, int)
    x = b.input("x", TensorType((k,), dtype, Quant(f32(rng.uniform(1, 4) / top), int(zeros[0]))))
    h = b.state("h", TensorType((n,), dtype, Quant(f32(rng.uniform(0.5, 1.2) / top), int(zeros[1]))), [zeros[1]] * n)
    c = b.state("c", TensorType((n,), "i16", Quant(2.0 ** int(rng.integers(-15, -8)))))
    inputs = [b.param(f"W_{gate}", random_weights(rng, dtype, n, k)) for gate in "ifgo"]
    kept = [b.param(f"U_{gate}", random_weights(rng, dtype, n, n)) for gate in "ifgo"]
    biases = []
    for gate, weight in zip("ifgo", inputs, strict=True):
        size = f32(scale(x.type) * scale(weight.type))
        type_ = TensorType((n,), {"i8": "i32", "i16": "i64"}[dtype], Quant(size))
        biases.append(b.param(f"b_{gate}", Param(type_, np.rint(rng.normal(0, 0.7, n) / size).astype(type_.numpy))))
    attrs: dict[str, Any] = {"cell_clip": clip} if clip else {}
    new_h, new_c = b.call("tflite_lstm", x, h, c, *inputs, *kept, *biases, **attrs)
    b.next(h, new_h)
    b.next(c, new_c)
    b.output("y", new_h)
    return b.graph()


# -- the LSTM ----------------------------------------------------------------------------------------------------------

SIZES = [(1, 1, 0.0), (3, 5, 0.7), (8, 32, 0.0), (16, 16, 3.3), (2, 40, 0.0), (40, 3, 1.0)]


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize(("k", "n", "clip"), SIZES)
def test_lstm_on_random_weights_and_scales(k, n, clip, dtype):
    graph = lstm_step(k + n, k, n, dtype, clip)
    assert_bits(program_of(graph), {"x": every_integer(n, graph.inputs["x"])})


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_lstm_saturates_as_the_kernel_does(dtype):
    """Coarse inputs: every pre-activation, their sums and the cell state run into their ends."""
    graph = lstm_step(3, 6, 9, dtype)
    fine = graph.inputs["x"]
    coarse = fine.with_(quant=Quant(40 * scale(fine), zero_of(fine)))
    built = rebuilt(graph, coarse, 2.0**-15)
    trace = interpret.run(program_of(built), {"x": every_integer(1, coarse)}, states=True)
    cells = trace.states["main.c"]
    assert cells.min() == -32768 and cells.max() == 32767
    assert_bits(program_of(built), {"x": every_integer(1, coarse)})


def rebuilt(graph: Graph, x: TensorType, cell_scale: float) -> Graph:
    """The same LSTM with another type of x and scale of c."""
    b = Builder()
    call = next(v for v in graph.values if v.op == "tflite_lstm")
    syms = [b.input("x", x), b.state("h", graph.states[0].type, graph.params[str(graph.states[0].init)].data)]
    syms.append(b.state("c", graph.states[1].type.with_(quant=Quant(cell_scale))))
    syms += [b.param(name, graph.params[name]) for name in call.args[3:]]
    h, c = b.call("tflite_lstm", *syms)
    b.next(syms[1], h)
    b.next(syms[2], c)
    b.output("y", h)
    b.output("cell", c)
    return b.graph()


def test_litert_runs_the_int8_file_within_one_lsb():
    """Measured over these: at most 1 LSB, in 2 to 6 % of the outputs."""
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra 'tflite' is not installed")
    from neurodeploy.backends.tflite.stage import stage_model

    for seed, (k, n, clip) in enumerate(SIZES):
        graph = lstm_step(seed, k, n, "i8", clip)
        program, x = program_of(graph), every_integer(seed, graph.inputs["x"], 1)
        golden = interpret.run(program, {"x": x}).outputs["y"][0]
        engine = litert.Interpreter(model_content=stage_model(graph, "litert"))
        engine.allocate_tensors()
        source, sink = engine.get_input_details()[0]["index"], engine.get_output_details()[0]["index"]
        for step in range(STEPS):
            engine.set_tensor(source, x[:, step])
            engine.invoke()
            assert np.abs(engine.get_tensor(sink)[0].astype(int) - golden[step]).max() <= 1


@pytest.mark.parametrize("kind", ["stacked", "bidirectional"])
def test_litert_runs_the_networks(kind):
    """Measured: 1 LSB in 2 to 5 % of the outputs at int8, 4e-7 in float."""
    pytest.importorskip("ai_edge_litert", reason="the extra 'tflite' is not installed")
    from neurodeploy.backends import runner

    program = network(kind)
    x = samples(program)
    narrow = compile(program, "tflm", x, fused_lstm=True, quantize={"activation_dtype": "i8"}).artifact
    for bound, artifact in (
        (1, narrow),
        (5e-6, compile(program, "tflm", x, fused_lstm=True, numerics="float").artifact),
    ):
        found = runner("litert").run(artifact, {"x": x})
        assert found.record["agreement"] == []  # no step can begin from the golden model's states
        for name, array in runner("golden").run(artifact, {"x": x}).outputs.items():
            assert np.abs(array.astype(float) - found.outputs[name]).max() <= bound


def test_the_reset_takes_h_to_its_zero_point():
    from neurodeploy.backends.tflite.stage import stage_model
    from neurodeploy.deploy.tflm import interpreter

    graph = lstm_step(8, 3, 5, "i8")
    assert zero_of(graph.states[0].type) != 0
    engine = interpreter(stage_model(graph, "reset"), 1 << 18)
    x, seen = every_integer(0, graph.inputs["x"], 1)[0], []
    for _ in range(2):
        for step in range(20):
            engine.set_input(x[step : step + 1], 0)
            engine.invoke()
            seen.append(engine.get_output(0).copy())
        engine.reset()
    np.testing.assert_array_equal(seen[:20], seen[20:])
    assert any((seen[0] != later).any() for later in seen[1:20])


def test_what_the_operator_has_no_state_for_is_refused():
    from neurodeploy.backends import backend

    graph = lstm_step(0, 2, 3, "i16")
    shown = Graph(graph.inputs, graph.params, graph.states, graph.values, {"y": "h"})
    with pytest.raises(UnsupportedError, match="tflite_lstm keeps the state %h, which is used elsewhere too"):
        backend("tflite").compile(program_of(shown), TARGET)


# -- networks ----------------------------------------------------------------------------------------------------------


def network(kind: str, k: int = 5, n: int = 9, **attrs) -> Program:
    """A float network with LSTMs: alone, stacked, bidirectional, and with what the operator hasn't."""
    w = Weights(4)

    def layer(b: Builder, x, width: int, stem: str, **more):
        h, c = b.state(f"{stem}h", (n,)), b.state(f"{stem}c", (n,))
        W, U = b.param(f"{stem}W", w(f"{stem}W", 4 * n, width)), b.param(f"{stem}U", w(f"{stem}U", 4 * n, n))
        extra = [b.param(f"{stem}p", w(f"{stem}p", 3 * n))] if more.get("peephole") else []
        new_h, new_c = b.call("lstm", x, h, c, W, U, b.param(f"{stem}b", w(f"{stem}b", 4 * n)), *extra, **more)
        b.next(h, new_h)
        b.next(c, new_c)
        return new_h

    b = Builder()
    y = layer(b, b.input("x", (k,)), k, "a", **attrs)
    if kind in ("stacked", "mixed"):
        y = layer(b, y, n, "b", **({"activations": ["sigmoid", "relu", "tanh"]} if kind == "mixed" else {}))
    b.output("y", b.param("V", w("V", 3, n)) @ y + b.param("d", w("d", 3)))
    x = {"x": ProgramInput(TensorType((k,)))}
    stages = [Stage("main", b.graph(), inputs_from={"x": Ref("x")})]
    outputs = {"y": Ref("y", "main")}
    if kind == "bidirectional":
        back = Builder()
        back.output("z", layer(back, back.input("x", (k,)), k, "r"))
        stages.append(Stage("back", back.graph(), Drive("reverse"), {"x": Ref("x")}))
        outputs["z"] = Ref("z", "back")
    return verify(Program(kind, x, tuple(stages), outputs))


def samples(program: Program, count: int = 4) -> np.ndarray:
    return np.random.default_rng(9).normal(size=(count, 60, program.inputs["x"].type.shape[0])).astype(np.float32)


WIDTHS = [("i16", "i16"), ("i8", "i8"), ("i8", "i16")]


@pytest.mark.parametrize(("activations", "states"), WIDTHS)
@pytest.mark.parametrize("kind", ["alone", "stacked", "bidirectional"])
def test_networks_of_integers(kind, activations, states):
    program = network(kind)
    x = samples(program)
    widths = {"activation_dtype": activations, "state_dtype": states}
    built = compile(program, "tflm", x, fused_lstm=True, quantize=widths)
    golden, found = built.run(x, on="golden"), built.run(x)
    plain = interpret.run(program, {"x": x}).outputs
    golden, found = (r if isinstance(r, dict) else {"y": r} for r in (golden, found))
    for name, array in plain.items():
        np.testing.assert_array_equal(found[name], golden[name])
        bound = 0.02 if activations == "i16" else 0.06
        assert np.abs(found[name] - array).max() < bound * max(1.0, np.abs(array).max())
    made = {v.name: v.tensor.dtype for v in built.program.stages[0].graph.values if v.op == "get"}
    assert made["lstm_h"] == states and made["lstm_c"] == "i16"
    assert any(
        "CMSIS-NN kernel forgets its state between calls. " in text for text in built.artifact.manifest["warnings"]
    )
    assert not any("holds each product" in text for text in built.artifact.manifest["warnings"])


@pytest.mark.parametrize("kind", ["alone", "stacked", "bidirectional"])
def test_networks_in_float(kind):
    program = network(kind)
    x = samples(program)
    built = compile(program, "tflm", x, fused_lstm=True, numerics="float")
    found = built.run(x)
    for name, array in interpret.run(program, {"x": x}).outputs.items():
        np.testing.assert_allclose(found[name] if isinstance(found, dict) else found, array, atol=1e-5)
    assert operators(built.artifact.files["main.tflite"]).count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 1 + (
        kind == "stacked"
    )


@pytest.mark.parametrize("kind", ["alone", "stacked"])
def test_a_chunk_of_steps_is_one_operator(kind):
    """60 steps in chunks of 10, and the chunk's states, equal those of single steps."""
    program = network(kind)
    x = samples(program, 2)
    one = compile(program, "tflm", x, fused_lstm=True)
    ten = compile(program, "tflm", x, fused_lstm=True, steps=10)
    np.testing.assert_array_equal(ten.run(x), one.run(x))
    np.testing.assert_array_equal(ten.run(x), ten.run(x, on="golden"))
    found = operators(ten.artifact.files["main.tflite"])
    assert found == operators(one.artifact.files["main.tflite"])
    assert any("forgets its state between calls of 10 steps" in text for text in ten.artifact.manifest["warnings"])
    figures = [{f["name"]: f["value"] for f in b.artifact.manifest["figures"]} for b in (one, ten)]
    assert figures[0]["macs"] == figures[1]["macs"] == (4 * 9 * 14 + (4 * 9 * 18 if kind == "stacked" else 0) + 27)


def test_a_chunk_that_gives_its_states_runs_them_one_by_one():
    """An operator for each step, on the same variables: h and c after every step equal those of single calls."""
    from neurodeploy.backends.tflite.stage import Call, stage_model
    from neurodeploy.deploy.tflm import interpreter

    graph = lstm_step(2, 4, 6, "i8")
    x = every_integer(3, graph.inputs["x"], 1)[0, :40]
    seen = []
    for steps in (1, 10):
        model = stage_model(graph, "chunk", call=Call(steps=steps, series=frozenset({"x"}), expose=("h", "c")))
        assert operators(model).count("UNIDIRECTIONAL_SEQUENCE_LSTM") == steps
        engine, rows = interpreter(model, 1 << 19), []
        for start in range(0, len(x), steps):
            engine.set_input(x[start : start + steps], 0)
            engine.invoke()
            rows.append([engine.get_output(i).copy() for i in range(3)])
        seen.append([np.concatenate(part) for part in zip(*rows, strict=True)])
    for one, ten in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, ten)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_our_c_computes_the_fused_lstm(dtype):
    """The same integers on C as through TFLM, where a C compiler is at hand."""
    from neurodeploy.backends.c_toolchain import toolchains

    if not toolchains("host"):
        pytest.skip("no C compiler is installed")
    program = network("stacked")
    x, widths = samples(program), {"activation_dtype": dtype}
    there = compile(program, "tflm", x, fused_lstm=True, quantize=widths)
    here = compile(program, "host", x, numerics="tflite", fused_lstm=True, quantize=widths)
    np.testing.assert_array_equal(here.run(x), there.run(x))


def test_a_file_with_the_operator_comes_back(tmp_path):
    """Written, imported and written again: the same integers, on TFLM."""
    program = network("stacked")
    x = samples(program)
    built = compile(program, "tflm", x, fused_lstm=True, quantize={"activation_dtype": "i8"})
    (tmp_path / "model.tflite").write_bytes(built.artifact.files["main.tflite"])
    again = compile(load(tmp_path / "model.tflite"), "tflm")
    assert operators(again.artifact.files["step.tflite"]).count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 2
    np.testing.assert_array_equal(again.run(x), built.run(x))


def test_an_output_on_another_scale_than_h_is_imported_as_the_kernel_computes(tmp_path):
    """The kernel makes h on the variable's scale and copies its integers, whatever the output's scale says."""
    import flatbuffers

    from neurodeploy.backends.tflite.stage import stage_model
    from neurodeploy.backends.tflite.write import schema

    graph = lstm_step(4, 3, 5, "i8")
    model = schema().ModelT.InitFromPackedBuf(stage_model(graph, "odd"), 0)
    (call,) = (op for op in model.subgraphs[0].operators if len(op.inputs) == 24)
    quantization = model.subgraphs[0].tensors[call.outputs[0]].quantization
    quantization.scale, quantization.zeroPoint = quantization.scale * np.float32(1.37), np.array([3])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "odd.tflite").write_bytes(bytes(builder.Output()))
    read, x = load(tmp_path / "odd.tflite"), every_integer(0, graph.inputs["x"], 1)
    found = interpret.run(read, {next(iter(read.inputs)): x}).outputs
    np.testing.assert_array_equal(next(iter(found.values())), interpret.run(program_of(graph), {"x": x}).outputs["y"])


def test_a_float_file_with_the_operator_is_quantized_with_it(tmp_path):
    program = network("stacked")
    x = samples(program)
    plain = compile(program, "tflm", x, fused_lstm=True, numerics="float")
    (tmp_path / "model.tflite").write_bytes(plain.artifact.files["main.tflite"])
    read = load(tmp_path / "model.tflite")
    for fused in (True, False):
        built = compile(read, "tflm", x, fused_lstm=fused)
        assert operators(built.artifact.files["step.tflite"]).count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 2 * fused
        np.testing.assert_array_equal(built.run(x), built.run(x, on="golden"))
        assert np.abs(built.run(x) - plain.run(x)).max() < 0.03


@pytest.mark.parametrize(("target", "numerics"), [("host", "native"), ("host", "float"), ("brian2-lsm", None)])
def test_other_numerics_have_no_fused_lstm(target, numerics):
    program = network("alone")
    with pytest.raises(UsageError, match="has no fused LSTM|option 'fused_lstm' is for TFLite Micro"):
        compile(program, target, samples(program), numerics=numerics, fused_lstm=True)


def test_states_of_the_operator_cant_be_fed():
    program = network("alone")
    with pytest.raises(UnsupportedError, match="the fused LSTM keeps the state %ah itself"):
        compile(program, "tflm", samples(program), fused_lstm=True, state="io")


def test_the_smallest_file_has_no_intermediates():
    """LiteRT wants them, TFLM doesn't read them."""
    program = network("alone")
    x, narrow = samples(program), {"activation_dtype": "i8"}
    built, small = (
        compile(program, "tflm", x, fused_lstm=True, quantize=narrow, optimize=o) for o in ("balanced", "size")
    )
    np.testing.assert_array_equal(small.run(x), built.run(x))
    figures = [{f["name"]: f["value"] for f in b.artifact.manifest["figures"]} for b in (built, small)]
    assert figures[0]["macs"] == figures[1]["macs"] == 4 * 9 * 14 + 27
    assert [tensors(b.artifact.files["main.tflite"]) for b in (built, small)] == [26, 21]


def tensors(model: bytes) -> int:
    from neurodeploy.backends.tflite.write import schema

    return schema().Model.GetRootAsModel(model, 0).Subgraphs(0).TensorsLength()


def test_four_bit_weights_are_refused():
    program = network("alone")
    widths = {"activation_dtype": "i8", "weight_bits": 4}
    with pytest.raises(UnsupportedError, match="weights of 4 bits; TFLite Micro's fused LSTM has 8 alone"):
        compile(program, "tflm", samples(program), fused_lstm=True, quantize=widths)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_products_beyond_the_kernels_integers_are_refused(dtype):
    """Inputs so large that a gate's product overflows before it is brought to Q3.12."""
    program = network("alone")
    x, widths = samples(program), {"activation_dtype": dtype}
    built = compile(program, "tflm", 1e3 * x, fused_lstm=True, quantize=widths)
    assert any("LSTM holds each product to 8" in text for text in built.artifact.manifest["warnings"])
    with pytest.raises(
        UnsupportedError, match=r"%lstm: multiplies W_i x up to .*, beyond the integers of TFLite's kernel"
    ):
        compile(program, "tflm", 1e7 * x, fused_lstm=True, quantize=widths)


def operators(model: bytes) -> list[str]:
    from neurodeploy.backends.tflite.write import schema

    fb = schema()
    root = fb.Model.GetRootAsModel(model, 0)
    names = {number: name for name, number in vars(fb.BuiltinOperator).items() if not name.startswith("_")}
    main = root.Subgraphs(0)
    return [
        names[root.OperatorCodes(main.Operators(i).OpcodeIndex()).BuiltinCode()] for i in range(main.OperatorsLength())
    ]


def test_an_odd_lstm_stays_apart_and_is_named():
    program = network("mixed")
    x = samples(program)
    built = compile(program, "tflm", x, fused_lstm=True)
    np.testing.assert_array_equal(built.run(x), built.run(x, on="golden"))
    assert operators(built.artifact.files["main.tflite"]).count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 1
    warnings = " ".join(built.artifact.manifest["warnings"])
    assert "mixed/main: %lstm_1 has the activations sigmoid, relu, tanh: stays apart, not fused." in warnings


@pytest.mark.parametrize(
    ("attrs", "reason"),
    [
        ({"peephole": True}, "has peepholes"),
        ({"clip": 1.0}, "has a clip"),
        ({"input_forget": True}, "has coupled gates"),
    ],
)
def test_without_a_plain_lstm_the_option_is_an_error(attrs, reason):
    program = network("alone", **attrs)
    with pytest.raises(UsageError, match=f"no LSTM that it can run: alone/main: %lstm {reason}"):
        compile(program, "tflm", samples(program), fused_lstm=True)


def test_a_network_without_lstms_is_an_error():
    b = Builder()
    b.output("y", b("tanh", b.input("x", (3,))))
    x = {"x": ProgramInput(TensorType((3,)))}
    program = Program("none", x, (Stage("main", b.graph(), inputs_from={"x": Ref("x")}),), {"y": Ref("y", "main")})
    with pytest.raises(UsageError, match="the network has no LSTM"):
        compile(program, "tflm", np.zeros((1, 2, 3), np.float32), fused_lstm=True)
