"""The ``.tflite`` file itself: its bytes, what it says of itself, states as inputs and outputs, and chunks of steps."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import compiler, hardware
from neurodeploy.backends import backend, runner
from neurodeploy.backends.tflite.stage import Call, stage_model
from neurodeploy.data import arrange
from neurodeploy.deploy.tflite_steps import StepExecutor
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.fixed import quantize
from neurodeploy.ir.graph import Graph, Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes import pipeline, run
from tests.families import CASES

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

from neurodeploy.backends.tflite.write import schema
from neurodeploy.deploy.tflm import TFLMEngine

TARGET = hardware.find("tflm")
MODEL = "main.tflite"


def quantized(program: Program, inputs, lengths=None, dtype: str = "i8", **more) -> Program:
    data = arrange(dict(inputs), program)
    data = data if lengths is None else replace(data, lengths=np.asarray(lengths))
    return run(program, pipeline("tflite", "tflite", data=data, quantize_tflite={"activation_dtype": dtype, **more}))


def gru(seed: int = 0, *, inputs: int = 8, units: int = 32, steps: int = 40) -> tuple[Program, dict[str, np.ndarray]]:
    """A GRU as PyTorch initialises one, without a readout, and samples."""
    rng, b, edge = np.random.default_rng(seed), Builder(), units**-0.5
    x, h = b.input("x", [inputs]), b.state("h", [units])
    shapes = {"W": (3 * units, inputs), "U": (3 * units, units), "b": (3 * units,), "u": (units,)}
    (new,) = b.call("gru", x, h, *(b.param(name, rng.uniform(-edge, edge, shape)) for name, shape in shapes.items()))
    b.next(h, new)
    b.output("y", new)
    return one_stage(b.graph()), {"x": rng.normal(size=(4, steps, inputs)).astype(np.float32)}


def one_stage(graph: Graph, **outputs: Ref) -> Program:
    inputs = {name: ProgramInput(type_) for name, type_ in graph.inputs.items()}
    stage = Stage("main", graph, inputs_from={name: Ref(name) for name in inputs})
    return Program("net", inputs, (stage,), outputs or {name: Ref(name, "main") for name in graph.outputs})


def compiled(program: Program, **options):
    return backend("tflite").compile(program, TARGET, source=program, **options)


def parts(file: bytes):
    """The file as the official schema's objects, codes as names."""
    fb = schema()
    model = fb.ModelT.InitFromPackedBuf(file)
    names = {number: name for name, number in vars(fb.BuiltinOperator).items() if not name.startswith("_")}
    codes = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    return model, [codes[o.opcodeIndex] for o in model.subgraphs[0].operators]


def every_operator(file: bytes) -> list[str]:
    """The operators of all subgraphs."""
    model, _ = parts(file)
    fb = schema()
    names = {number: name for name, number in vars(fb.BuiltinOperator).items() if not name.startswith("_")}
    codes = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    return [codes[o.opcodeIndex] for graph in model.subgraphs for o in graph.operators]


def assert_equal(program: Program, artifact, inputs, lengths=None, *, states: bool = True) -> None:
    """The wheel gives what the interpreter gives: outputs and, where they are asked for, states of every step."""
    golden = interpret.run(program, inputs, lengths, states=states)
    for trail in (False, True) if states else (False,):
        found = runner("tflm").run(artifact, dict(inputs), lengths, states=trail)
        tables = [(found.outputs, golden.outputs), (found.series, golden.series), (found.steps, golden.steps)]
        for got, wanted in [*tables, *([(found.states, golden.states)] if trail else [])]:
            assert set(got) == set(wanted)
            for name, array in wanted.items():
                np.testing.assert_array_equal(got[name], array, err_msg=name)


# -- bytes -------------------------------------------------------------------------------------------------------------

#: (optimize, state) -> bytes of the file of a GRU with 8 inputs and 32 units at int8; 3,840 of them are weights.
BYTES = {
    ("size", "variables"): 6624,
    ("size", "io"): 6480,
    ("balanced", "variables"): 8192,
    ("balanced", "io"): 7856,
}


@pytest.mark.parametrize(("optimize", "state"), BYTES)
def test_bytes_of_a_gru(optimize, state):
    program, inputs = gru()
    prefer = {"size": "size", "balanced": "speed"}[optimize]
    artifact = compiled(quantized(program, inputs, prefer=prefer), optimize=optimize, state=state)
    figures = {f["name"]: f["value"] for f in artifact.manifest["figures"]}
    assert len(artifact.files[MODEL]) == figures["tflite_bytes"] == BYTES[optimize, state]
    assert figures["macs"] == 3840


@pytest.mark.parametrize("seed", range(5))
def test_a_torch_gru_takes_at_most_7000_bytes(seed):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.manual_seed(seed)
    network = torch.nn.GRU(8, 32, batch_first=True)
    x = torch.randn(8, 40, 8)
    built = compiler.compile(
        compiler.load(network, x[:1]), "tflm", x.numpy(), quantize={"activation_dtype": "i8"}, optimize="size"
    )
    (file,) = (data for name, data in built.artifact.files.items() if name.endswith(".tflite"))
    assert len(file) <= 7000
    sigmoids = [v for v in built.program.stages[0].graph.values if v.op == "tfl_logistic"]
    assert sigmoids and all(v.tensor.dtype == "i8" for v in sigmoids)  # the option goes to the quantizer as well
    found, golden = built.run(x.numpy()), built.run(x.numpy(), on="golden")
    for name, array in (golden if isinstance(golden, dict) else {"y": golden}).items():
        np.testing.assert_array_equal(found[name] if isinstance(found, dict) else found, array)


def test_the_small_file_holds_what_tflm_needs_and_runs_200_steps():
    program, inputs = gru(steps=200)
    program = quantized(program, inputs)
    artifact = compiled(program, optimize="size")
    model, operators = parts(artifact.files[MODEL])
    assert "CALL_ONCE" not in operators
    assert len(model.subgraphs) == 1
    assert model.metadata is None and model.signatureDefs is None and model.description is None
    for tensor in model.subgraphs[0].tensors:
        assert tensor.name is None
        assert tensor.quantization is None or len(tensor.quantization.zeroPoint) == 1
    assert_equal(program, artifact, inputs)


def test_equal_parts_are_written_once():
    """Packed again by the schema's object API, which shares nothing, the same model is larger."""
    import flatbuffers

    program, inputs = gru()
    file = compiled(quantized(program, inputs, per_channel=True)).files[MODEL]
    builder = flatbuffers.Builder(1024)
    builder.Finish(schema().ModelT.InitFromPackedBuf(file).Pack(builder), b"TFL3")
    assert len(file) < 0.86 * len(builder.Output())
    again, operators = parts(bytes(builder.Output()))
    assert operators == parts(file)[1]
    for ours, theirs in zip(parts(file)[0].buffers, again.buffers, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


def test_gates_are_split_and_constants_are_aligned():
    program, inputs = gru()
    file = compiled(quantized(program, inputs)).files[MODEL]
    operators = parts(file)[1]
    assert operators.count("SPLIT") == 1 and "STRIDED_SLICE" not in operators
    root = schema().Model.GetRootAsModel(file, 0)
    found = 0
    for i in range(root.BuffersLength()):
        buffer = root.Buffers(i)
        if buffer.DataLength():
            field = buffer._tab.Offset(4)
            assert buffer._tab.Vector(field) % 16 == 0
            found += 1
    assert found >= 8


def test_slices_that_leave_a_part_out_are_no_split():
    rng, b = np.random.default_rng(3), Builder()
    x = b.input("x", [6])
    y = b("tanh", b.param("W", rng.normal(size=(6, 6))) @ x)
    b.output("late", y.slice(4, 6))
    b.output("early", y.slice(0, 2))
    program, inputs = one_stage(b.graph()), {"x": rng.normal(size=(2, 5, 6)).astype(np.float32)}
    program = quantized(program, inputs)
    artifact = compiled(program)
    assert "SPLIT" not in parts(artifact.files[MODEL])[1]
    assert_equal(program, artifact, inputs)


def test_parts_of_a_split_may_be_used_in_any_order():
    rng, b = np.random.default_rng(3), Builder()
    x = b.input("x", [6])
    y = b("tanh", b.param("W", rng.normal(size=(6, 6))) @ x)
    last = b("relu", y.slice(4, 6))
    b.output("sum", last + y.slice(0, 2) * y.slice(2, 4))
    program, inputs = one_stage(b.graph()), {"x": rng.normal(size=(2, 5, 6)).astype(np.float32)}
    program = quantized(program, inputs)
    artifact = compiled(program)
    assert parts(artifact.files[MODEL])[1].count("SPLIT") == 1
    assert_equal(program, artifact, inputs)


# -- what it says of itself --------------------------------------------------------------------------------------------


def labelled() -> tuple[Program, dict[str, np.ndarray]]:
    program, inputs = gru(2, units=6)
    return replace(program, meta={"labels": ["élan", "halt"]}), inputs


def test_a_file_read_back_through_the_schema_says_what_it_is():
    from neurodeploy.version import release

    program, inputs = labelled()
    program = quantized(program, inputs)
    model, operators = parts(compiled(program).files[MODEL])
    main, graph = model.subgraphs[0], program.stages[0].graph
    assert operators[0] == "CALL_ONCE" and operators.count("ASSIGN_VARIABLE") == 1
    (signature,) = model.signatureDefs
    assert (signature.signatureKey, signature.subgraphIndex) == (b"step", 0)
    assert [(m.name, m.tensorIndex) for m in signature.inputs] == [(b"x", main.inputs[0])]
    assert [(m.name, m.tensorIndex) for m in signature.outputs] == [(b"y", main.outputs[0])]
    tensors = {t.name.decode(): t for t in main.tensors}
    assert {"x", "y", "h", "h_handle", "gru.sigmoid", "gru.tanh"} <= set(tensors)
    for name, type_ in {**graph.inputs, "h": graph.states[0].type, "y": graph.output_types()["y"]}.items():
        quant, wanted = tensors[name].quantization, type_.quant
        assert wanted is not None
        assert quant.scale == [np.float32(wanted.array)] and quant.zeroPoint == [wanted.zero_point]
        assert tensors[name].shape.tolist() == [1, *type_.shape]
    for param in (p for p in graph.params.values() if p.type.dtype == "i8" and len(p.type.shape) == 2):
        assert param.type.quant is not None
        (found,) = (t for t in main.tensors if t.buffer and np.array_equal(bytes_of(model, t), param.data.tobytes()))
        np.testing.assert_array_equal(found.quantization.scale, np.float32(param.type.quant.array))
        assert (found.quantization.zeroPoint == np.zeros(len(param.data))).all()
        assert found.quantization.quantizedDimension == 0
    (note,) = model.metadata
    assert note.name == b"neurodeploy"
    said = json.loads(bytes(model.buffers[note.buffer].data))
    assert graph.inputs["x"].quant is not None
    scale = graph.inputs["x"].quant.scale
    assert said["inputs"] == {"x": f"i8[8], real = {scale:.9g}*q"}
    assert said["labels"] == ["élan", "halt"]
    assert said["neurodeploy"] == release()
    assert said["call"] == "one step of a series, forward"
    assert set(said["states"]) == {"h"} and said["reset"] == "Reset() of the interpreter"
    assert len(model.buffers[note.buffer].data) < 400


def bytes_of(model, tensor) -> bytes:
    return bytes(model.buffers[tensor.buffer].data)


def test_words_for_a_zero_point():
    from neurodeploy.backends.tflite.describe import _words

    assert _words(TensorType((4,), "i8", Quant(0.5, -128))) == "i8[4], real = 0.5*(q+128)"
    assert _words(TensorType((), "i8", Quant(0.5, 3))) == "i8[], real = 0.5*(q-3)"
    assert _words(TensorType((2,), "bool")) == "bool[2]"


SIGNATURES = {
    ("variables", 1): ("step", {"x"}, {"y"}),
    ("io", 1): ("step", {"x", "h"}, {"y", "h"}),
    ("variables", 4): ("chunk", {"x"}, {"y"}),
    ("io", 4): ("chunk", {"x", "h"}, {"y", "h"}),
}


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_litert_runs_every_signature_alike(dtype):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    program, inputs = labelled()
    program = quantized(program, inputs, dtype=dtype)
    type_ = program.inputs["x"].type
    x = quantize(inputs["x"][0, :12], type_)
    found = {}
    for (state, steps), (key, into, out) in SIGNATURES.items():
        file = compiled(program, state=state, steps=steps).files[MODEL]
        engine = litert.Interpreter(model_content=file)
        step = engine.get_signature_runner(key)
        assert set(step.get_input_details()) == into and set(step.get_output_details()) == out
        given, rows = {"h": np.zeros((1, 6), type_.numpy)}, []
        for start in range(0, 12, steps):
            made = step(x=x[start : start + steps], **{name: given[name] for name in into - {"x"}})
            given = made
            rows.append(made["y"])
        found[state, steps] = np.concatenate(rows)
    golden = interpret.run(program, {"x": x[None]}).outputs["y"][0]
    for rows in found.values():
        np.testing.assert_array_equal(rows, found["variables", 1])
    assert np.abs(found["variables", 1].astype(int) - golden).max() <= {"i8": 1, "i16": 5}[dtype]
    assert golden.any()


# -- states as inputs and outputs, and chunks --------------------------------------------------------------------------

WAYS = [("io", 1), ("variables", 3), ("io", 4)]
FAMILIES = [
    "gru_reset_after",
    "lstm_peephole",
    "jordan",
    "indrnn",
    "clockwork",
    "history_compressor",
    "stacked_bidirectional",
]


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_way_to_call_gives_the_same_bits(name, dtype):
    case = CASES[name]
    try:
        program = quantized(case.program, case.inputs, case.lengths, dtype)
    except UnsupportedError as error:
        pytest.skip(f"TFLM lacks it: {error.message}")
    for state, steps in WAYS:
        assert_equal(program, compiled(program, state=state, steps=steps), case.inputs, case.lengths)


def test_chunks_longer_than_concatenation_takes_and_series_that_do_not_fill_them():
    program, inputs = gru(1, units=5)
    program = quantized(program, inputs)
    lengths = np.array([40, 0, 1, 24])
    for state in ("variables", "io"):
        artifact = compiled(program, state=state, steps=23)
        assert_equal(program, artifact, inputs, lengths)
        assert artifact.manifest["layout"]["stages"]["main"]["steps"] == 23
    figures = {f["name"]: f["value"] for f in artifact.manifest["figures"]}
    assert figures["macs"] == 15 * (8 + 5)


def test_a_chunk_holds_the_operators_of_a_step_once():
    """In the body of a WHILE; a stage without states needs none, its operators take all steps as rows."""
    rng, b = np.random.default_rng(0), Builder()
    x, h = b.input("x", [4]), b.state("h", [6])
    new = b("tanh", b.param("W", rng.normal(size=(6, 4))) @ x + b.param("U", rng.normal(size=(6, 6)) / 3) @ h)
    b.next(h, new)
    b.output("y", b("sigmoid", b.param("V", rng.normal(size=(3, 6))) @ new + b.param("c", rng.normal(size=3))))
    flat = Builder()
    dense = flat.param("W", rng.normal(size=(6, 4))) @ flat.input("x", [4])
    flat.output("y", flat("tanh", dense))
    inputs = {"x": rng.normal(size=(2, 9, 4)).astype(np.float32)}
    made: dict[str, dict] = {}
    for name, graph in (("recurrent", b.graph()), ("flat", flat.graph())):
        program = quantized(one_stage(graph), inputs)
        for steps in (1, 5, 50):
            artifact = compiled(program, steps=steps)
            assert_equal(program, artifact, inputs)
            ops = every_operator(artifact.files[MODEL])
            counts = [ops.count(code) for code in ("FULLY_CONNECTED", "TANH", "LOGISTIC", "WHILE")]
            figures = {f["name"]: f["value"] for f in artifact.manifest["figures"]}
            made.setdefault(name, {})[steps] = (counts, figures)
    assert [made["recurrent"][steps][0] for steps in (1, 5, 50)] == [[3, 1, 1, 0], [3, 1, 1, 1], [3, 1, 1, 1]]
    assert [made["flat"][steps][0] for steps in (1, 5, 50)] == [[1, 1, 0, 0]] * 3
    assert {f["macs"] for _, f in made["recurrent"].values()} == {24 + 36 + 18}
    five, fifty = (made["recurrent"][steps][1] for steps in (5, 50))
    # The series at 4 places (main, condition, body, results), x and y of int16, and the operators of no step.
    assert 0 < fifty["arena_bytes"] - five["arena_bytes"] < 45 * 2 * (4 + 3) * 5
    assert 0 < fifty["tflite_bytes"] - five["tflite_bytes"] < 45 * 2 * 3 + 64


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_a_chunk_broadcasts_within_a_step_alone(dtype):
    """Operands of fewer axes than the result, series and constants: a leading axis of 3 steps is none of theirs."""
    rng, b = np.random.default_rng(2), Builder()
    x, scale = b.input("x", [3]), b.input("scale", [])
    b.output("y", b("mul", x, scale))
    b.output("z", b("mul", x, b.param("rows", rng.normal(size=(3, 3)))))
    inputs = {"x": rng.normal(size=(2, 9, 3)), "scale": rng.normal(size=(2, 9))}
    inputs = {name: array.astype(np.float32) for name, array in inputs.items()}
    program = quantized(one_stage(b.graph()), inputs, dtype=dtype)
    for steps in (1, 3, 4):
        assert_equal(program, compiled(program, steps=steps), inputs)


def two_stages() -> tuple[Program, dict[str, np.ndarray]]:
    """A stage whose states begin where another one's have ended, and a final state as output."""
    rng = np.random.default_rng(5)

    def cell(out: str | None) -> Graph:
        b = Builder()
        x, h = b.input("x", [3]), b.state("h", [4])
        new = b("tanh", b.param("W", rng.normal(size=(4, 3))) @ x + b.param("U", rng.normal(size=(4, 4)) / 2) @ h)
        b.next(h, new)
        if out:
            b.output(out, new)
        return b.graph()

    first = Stage("one", cell(None), inputs_from={"x": Ref("x")})
    second = Stage("two", cell("y"), inputs_from={"x": Ref("x")}, state_from={"h": Ref("h", "one", "final")})
    outputs = {"y": Ref("y", "two"), "end": Ref("h", "two", "final")}
    program = Program("pair", {"x": ProgramInput(TensorType((3,)))}, (first, second), outputs)
    return program, {"x": rng.normal(size=(3, 11, 3)).astype(np.float32)}


@pytest.mark.parametrize(("state", "steps"), [("variables", 1), *WAYS])
def test_states_go_from_stage_to_stage(state, steps):
    program, inputs = two_stages()
    program = quantized(program, inputs)
    artifact = compiled(program, state=state, steps=steps)
    assert_equal(program, artifact, inputs, np.array([11, 6, 1]))
    model, _ = parts(artifact.files["two.tflite"])
    names = [m.name.decode() for m in model.signatureDefs[0].inputs]
    assert names == (["x", "h"] if state == "io" else ["x", "start.h", "first"])


def test_bools_and_constants_in_a_chunk():
    """What SPLIT doesn't take is cut by STRIDED_SLICE; outputs that no operator made, or that never change."""
    b, quant = Builder(), Quant(0.25)
    flag, x, h = (
        b.input("flag", [2], "bool"),
        b.input("x", [2], "i16", quant),
        b.state("h", TensorType((2,), "i16", quant)),
    )
    new = b("select", flag, x, h, quant=quant)
    b.next(h, new)
    b.output("y", new)
    b.output("flag", flag)
    b.output("x", x)
    b.output("old", h)
    b.output("fixed", b.param("k", Param(TensorType((2,), "i16", quant), np.array([3, 4], np.int16))))
    rng, graph = np.random.default_rng(0), b.graph()
    feed = {"flag": rng.random((2, 7, 2)) < 0.5, "x": rng.integers(-99, 99, (2, 7, 2)).astype(np.int16)}
    wanted = interpret.run(replace(one_stage(graph), numerics="tflite"), feed).outputs
    for state, steps in [("variables", 1), *WAYS]:
        call = Call(state=state, steps=steps, series=frozenset(graph.inputs))
        engine = StepExecutor(stage_model(graph, "net/main", call=call), graph, TFLMEngine, call)
        engine.reset(2, {})
        found = engine.run_block(feed, np.ones((2, 7), bool))
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{name} {state} {steps}")


def test_the_fused_lstm_takes_a_chunk_as_it_is_and_is_not_fed():
    case = CASES["lstm"]
    data = arrange(dict(case.inputs), case.program)
    program = compiler.prepare(case.program, "tflite", "tflite", data, fused_lstm=True, progress=lambda _: None)
    artifact = compiled(program, steps=3)
    operators = [o for file in artifact.files if file.endswith(".tflite") for o in parts(artifact.files[file])[1]]
    assert operators.count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 1
    assert_equal(program, artifact, case.inputs, case.lengths)
    with pytest.raises(UnsupportedError, match=r"the fused LSTM keeps the state %\S+ itself"):
        compiled(program, state="io")


# -- warnings and refusals ---------------------------------------------------------------------------------------------


def begun_at(value: float) -> tuple[Program, dict[str, np.ndarray]]:
    rng, b = np.random.default_rng(1), Builder()
    x, h = b.input("x", [3]), b.state("h", [5], np.full(5, value))
    new = b("tanh", b.param("W", rng.normal(size=(5, 3))) @ x + b.param("U", rng.normal(size=(5, 5))) @ h)
    b.next(h, new)
    b.output("y", new)
    return one_stage(b.graph()), {"x": rng.normal(size=(3, 6, 3)).astype(np.float32)}


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("optimize", ["balanced", "size"])
def test_a_state_that_begins_elsewhere_is_warned_of_and_begins_there(optimize, dtype):
    program, inputs = begun_at(0.5)
    program = quantized(program, inputs, dtype=dtype)
    artifact = compiled(program, optimize=optimize)
    (warning,) = (w for w in artifact.manifest["warnings"] if "Reset()" in w)
    assert warning.startswith("state 'main.h' starts at values other than 0") and "--state io" in warning
    assert parts(artifact.files[MODEL])[1][0] == "CALL_ONCE"
    assert_equal(program, artifact, inputs)
    fed = compiled(program, optimize=optimize, state="io")
    assert not [w for w in fed.manifest["warnings"] if "Reset()" in w]
    assert_equal(program, fed, inputs)
    at_zero = compiled(quantized(*begun_at(0.0), dtype=dtype))
    assert not [w for w in at_zero.manifest["warnings"] if "Reset()" in w]


def test_what_can_not_be_called_in_chunks_is_refused_by_name():
    for name, drive in (("hopfield", "until"), ("encoder_decoder", "generate")):
        case = CASES[name]
        program = quantized(case.program, case.inputs, case.lengths)
        compiled(program, state="io")
        with pytest.raises(UnsupportedError, match=rf"stage '\w+': is driven by '{drive}', .* 4 steps a call need"):
            compiled(program, steps=4)
    b = Builder()
    x, h = b.input("x", [2]), b.state("h", [2])
    b.next(h, b("tanh", h + x))
    b.output("y", h)
    program = replace(one_stage(b.graph()), inputs={"x": ProgramInput(TensorType((2,)), "static")})
    program = quantized(program, {"x": np.ones((3, 2), np.float32)})
    with pytest.raises(UnsupportedError, match="stage 'main': has no series input to take 2 steps a call from"):
        compiled(program, steps=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": "output"}, "state is 'output'; needed variables or io"),
        ({"optimize": "speed"}, "optimize is 'speed'; needed balanced or size"),
        ({"steps": 0}, "steps is 0; needed a whole number"),
        ({"steps": True}, "steps is True; needed a whole number"),
        ({"steps": 2.0}, "steps is 2.0; needed a whole number"),
    ],
)
def test_odd_options(options, message):
    program, inputs = gru(units=3)
    with pytest.raises(UsageError, match=message):
        compiled(quantized(program, inputs), **options)


def test_litert_runs_a_small_build_whole():
    pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    program, inputs = gru(units=5, steps=6)
    program = quantized(program, inputs)
    found = [runner("litert").run(compiled(program, optimize=o), inputs).outputs["y"] for o in ("size", "balanced")]
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].any()
