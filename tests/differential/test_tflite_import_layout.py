"""Operators that repeat, mirror, resize and rearrange, and others that TFLite Micro lacks: LiteRT is the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurodeploy.backends.tflite.write import Subgraph
from neurodeploy.errors import ModelError, NeurodeployError, UnsupportedError
from neurodeploy.importers import load
from neurodeploy.ir.interpret import run
from neurodeploy.ir.types import Quant
from tests.differential.test_tflite_import import Build, assert_as_tflm, loaded, numbers, written
from tests.differential.test_tflite_import_recurrent import assert_in_c

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")
interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra 'tflite' is not installed")


def of(code: str, shape, result, *constants: Any, table=None, dtype="f32", first=False, into=None, **options) -> Build:
    """One operator on x and vectors of constants, in floats or in integers of one scale."""

    def build(s: Subgraph) -> None:
        quant = Quant(0.05, -7) if dtype == "i8" else None
        x, y = s.tensor("x", shape, dtype, quant), s.tensor("y", result, into or dtype, None if into else quant)
        extra = [s.tensor(f"c{i}", np.shape(c), {"f": "f32", "i": "i32"}[np.asarray(c).dtype.kind],
                          data=np.asarray(c, {"f": np.float32, "i": np.int32}[np.asarray(c).dtype.kind]))
                 for i, c in enumerate(constants)]  # fmt: skip
        s.inputs, s.outputs = [x], [y]
        s.op(code, [*extra, x] if first else [x, *extra], [y], table, **options)

    return build


def assert_as_litert(tmp_path, data: bytes, *, steps: int = 6, close: float = 2e-6):
    """The program of a file gives what LiteRT gives; integers exactly."""
    program = loaded(tmp_path, data)
    engine = interpreter.Interpreter(model_content=data)
    engine.allocate_tensors()
    rng = np.random.default_rng(0)
    given = {n: numbers(rng, i.type.dtype, (1, steps, *i.type.shape)) for n, i in program.inputs.items()}
    trace = run(program, given)
    for k in range(steps):
        for detail, array in zip(engine.get_input_details(), given.values(), strict=True):
            engine.set_tensor(detail["index"], array[0, k].reshape(detail["shape"]))
        engine.invoke()
        for detail, array in zip(engine.get_output_details(), trace.outputs.values(), strict=True):
            wanted = engine.get_tensor(detail["index"])
            near = close if wanted.dtype.kind == "f" else 0
            np.testing.assert_allclose(array[0, k].reshape(wanted.shape), wanted, near, near)
    assert all(len(np.unique(array)) > 1 for array in trace.outputs.values()), "flat outputs show nothing"
    return program


def images(table: str, code: str, **options: Any) -> dict[str, Build]:
    sizes = {"up": ((3, 4), (7, 9)), "down": ((7, 5), (3, 2)), "to one": ((4, 5), (1, 1)), "same": ((3, 3), (3, 3))}
    return {
        f"{code} {name} {options}": of(code, (1, *a, 2), (1, *b, 2), np.array(b), table=table, **options)
        for name, (a, b) in sizes.items()
    }


NEAREST, BILINEAR = "ResizeNearestNeighborOptions", "ResizeBilinearOptions"
MOVES = {
    "tile": of("TILE", (1, 3, 2), (1, 6, 6), [1, 2, 3]),
    "tile the batch": of("TILE", (1, 3), (4, 3), [4, 1]),
    "tile int8": of("TILE", (2, 3), (2, 6), [1, 2], dtype="i8"),
    "mirror, symmetric": of("MIRROR_PAD", (1, 3, 4), (1, 6, 8), [[0, 0], [1, 2], [4, 0]], table="MirrorPadOptions", mode=1),
    "reverse": of("REVERSE_V2", (1, 3, 4), (1, 3, 4), [1]),
    "reverse the last axis of two": of("REVERSE_V2", (2, 4), (2, 4), [-1]),
    **images(NEAREST, "RESIZE_NEAREST_NEIGHBOR"),
    **images(NEAREST, "RESIZE_NEAREST_NEIGHBOR", halfPixelCenters=True),
    "nearest, corners": of("RESIZE_NEAREST_NEIGHBOR", (1, 3, 4, 2), (1, 6, 7, 2), [6, 7], table=NEAREST, alignCorners=True),
    **images(BILINEAR, "RESIZE_BILINEAR"),
    **images(BILINEAR, "RESIZE_BILINEAR", halfPixelCenters=True),
    "bilinear, corners": of("RESIZE_BILINEAR", (1, 3, 4, 2), (1, 6, 7, 2), [6, 7], table=BILINEAR, alignCorners=True),
    "space to depth": of("SPACE_TO_DEPTH", (1, 4, 6, 2), (1, 2, 3, 8), table="SpaceToDepthOptions", blockSize=2),
    "depth to space": of("DEPTH_TO_SPACE", (1, 2, 3, 8), (1, 4, 6, 2), table="DepthToSpaceOptions", blockSize=2),
    "space to batch, padded": of("SPACE_TO_BATCH_ND", (1, 5, 3, 2), (6, 3, 2, 2), [2, 3], [[1, 0], [2, 1]]),
    "space to batch of a series": of("SPACE_TO_BATCH_ND", (1, 6, 3), (3, 2, 3), [3], [[0, 0]]),
    "space to batch of two": of("SPACE_TO_BATCH_ND", (2, 4, 2, 3), (8, 2, 1, 3), [2, 2], [[0, 0], [0, 0]]),
    "batch to space of two": of("BATCH_TO_SPACE_ND", (8, 2, 1, 3), (2, 4, 2, 3), [2, 2], [[0, 0], [0, 0]]),
    "batch to space, cut": of("BATCH_TO_SPACE_ND", (6, 3, 2, 2), (1, 5, 3, 2), [2, 3], [[1, 0], [2, 1]]),
    "sign": of("SIGN", (1, 9), (1, 9)),
    "relu -1 to 1": of("RELU_N1_TO_1", (1, 9), (1, 9)),
    "relu 0 to 1": of("RELU_0_TO_1", (1, 9), (1, 9)),
    "cube": of("POW", (1, 9), (1, 9), np.float32(3)),
    "log softmax": of("LOG_SOFTMAX", (1, 3, 5), (1, 3, 5)),
    "l2 normalization": of("L2_NORMALIZATION", (1, 3, 5), (1, 3, 5), table="L2NormOptions"),
    "least of an axis": of("REDUCE_MIN", (1, 7, 3), (1, 3), [1], table="ReducerOptions"),
    "least of all": of("REDUCE_MIN", (2, 5, 3), (2, 1, 1), [1, 2], table="ReducerOptions", keepDims=True),
    "least of int8": of("REDUCE_MIN", (1, 7, 3), (1, 3), [1], table="ReducerOptions", dtype="i8"),
    "any": of("REDUCE_ANY", (1, 5, 2), (1, 5), [2], table="ReducerOptions", dtype="bool"),
    "all": of("REDUCE_ALL", (1, 5, 2), (1, 5), [2], table="ReducerOptions", dtype="bool"),
    "where the least is": of("ARG_MIN", (1, 4, 6), (1, 4), 2, table="ArgMinOptions", into="i32", outputType=2),
    "the floor of a quotient": of("FLOOR_DIV", (1, 40), (1, 40), np.float32(0.25)),
    "a remainder": of("FLOOR_MOD", (1, 40), (1, 40), np.float32(-0.75)),
    "the floor of a whole quotient": of("FLOOR_DIV", (1, 40), (1, 40), [7], dtype="i32"),
    "a whole remainder": of("FLOOR_MOD", (1, 40), (1, 40), [-6], dtype="i32"),
    "rows of a table": of("EMBEDDING_LOOKUP", (5, 3), (2, 3), [3, 0], first=True),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_against_litert(tmp_path, name):
    program = assert_as_litert(tmp_path, written(MOVES[name]))
    if name in ("mirror, symmetric", "batch to space, cut", "bilinear, corners", "a whole remainder", "least of int8"):
        assert_in_c(program, steps=6, least=5)


@pytest.mark.parametrize("power", [0.5, -0.5, -1.0])
def test_roots_and_inverses(tmp_path, power):
    def build(s: Subgraph) -> None:
        of("POW", (1, 9), (1, 9), np.float32(power))(s)
        positive = s.tensor("positive", (1, 9), "f32")
        s.op("EXP", [s.inputs[0]], [positive], "ExpOptions")
        s.operators[0].inputs[0] = positive
        s.operators.reverse()

    assert_as_litert(tmp_path, written(build))


def test_mirrors_without_the_border(tmp_path):
    """``REFLECT`` is the schema's default, which a file need not hold."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    made = of("MIRROR_PAD", (1, 3, 4), (1, 5, 7), [[0, 0], [1, 1], [3, 0]], table="MirrorPadOptions", mode=1)
    model: Any = fb.ModelT.InitFromObj(fb.Model.GetRootAs(written(made), 0))
    model.subgraphs[0].operators[0].builtinOptions.mode = fb.MirrorPadMode.REFLECT
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    assert_as_litert(tmp_path, bytes(builder.Output()))
    assert_as_tflm(tmp_path, bytes(builder.Output()))


def test_mirrors_without_options(tmp_path):
    """TFLite Micro then repeats the border, whatever the schema's default says; LiteRT refuses the file."""
    program = assert_as_tflm(tmp_path, written(of("MIRROR_PAD", (1, 3, 4), (1, 5, 7), [[0, 0], [1, 1], [2, 1]])))
    assert program.stages[0].graph.values


@pytest.mark.parametrize("code", ["FLOOR_DIV", "FLOOR_MOD"])
def test_quotients_of_floats_next_to_whole_numbers(tmp_path, code):
    """Divided in float32, many of these quotients round to the whole number above."""

    def build(s: Subgraph) -> None:
        s.inputs = [s.tensor(name, (1, 400), "f32") for name in "ab"]
        s.outputs = [s.tensor("y", (1, 400), "f32")]
        s.op(code, s.inputs, s.outputs)

    data, rng = written(build), np.random.default_rng(0)
    b = (rng.uniform(0.01, 9, (20, 400)) * rng.choice([-1, 1], (20, 400))).astype(np.float32)
    times = np.rint(2 ** rng.uniform(0, 22, b.shape)) * rng.choice([-1, 1], b.shape)
    a = np.nextafter((times * b).astype(np.float32), np.float32(0) * b + rng.choice([-1e9, 1e9], b.shape).astype("f4"))
    program = loaded(tmp_path, data)
    found = run(program, dict(zip(program.inputs, (a[None], b[None]), strict=True))).outputs
    engine = interpreter.Interpreter(model_content=data)
    engine.allocate_tensors()
    ends = [detail["index"] for detail in engine.get_input_details()]
    plain = np.floor(a / b)
    for k in range(len(a)):
        for index, value in zip(ends, (a, b), strict=True):
            engine.set_tensor(index, value[k : k + 1])
        engine.invoke()
        wanted = engine.get_tensor(engine.get_output_details()[0]["index"])
        np.testing.assert_array_equal(next(iter(found.values()))[0, k], wanted[0])
    if code == "FLOOR_DIV":
        assert (next(iter(found.values()))[0] != plain).sum() > 100


def test_sizes_left_open_are_no_damage(tmp_path):
    """A converter writes 1 where it knows no size, and -1 beside it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    model: Any = fb.ModelT.InitFromObj(fb.Model.GetRootAs(written(of("TILE", (1, 1), (1, 1), [1, 5])), 0))
    builder = flatbuffers.Builder(1024)
    model.subgraphs[0].tensors[0].shapeSignature = [-1, 3]
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(ModelError, match="can't be read: gives .* The file is damaged"):
        loaded(tmp_path, bytes(builder.Output()))
    builder = flatbuffers.Builder(1024)
    model.subgraphs[0].tensors[0].shapeSignature = [-1, -1]
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(UnsupportedError, match=r"operator 0 \(TILE\).* leaves sizes open.*fixed shapes"):
        loaded(tmp_path, bytes(builder.Output()))


def test_scales_by_block_are_no_damage(tmp_path):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as fb

    model: Any = fb.ModelT.InitFromObj(fb.Model.GetRootAs(written(of("TILE", (1, 3), (1, 9), [1, 3])), 0))
    quantization = fb.QuantizationParametersT()
    quantization.detailsType, quantization.details = (
        fb.QuantizationDetails.BlockwiseQuantization,
        fb.BlockwiseQuantizationT(),
    )
    model.subgraphs[0].tensors[0].quantization = quantization
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(UnsupportedError, match=r"tensor 0 \(x\): is quantized block by block"):
        loaded(tmp_path, bytes(builder.Output()))


@pytest.mark.parametrize(("build", "said"), [
    (of("TILE", (1, 3), (1, 9), [1, 1 << 30]), "gives"),
    (of("TILE", (1, 3), (1, 9), [1]), "repeats"),
    (of("MIRROR_PAD", (1, 3), (1, 9), [[0, 0], [6, 0]], table="MirrorPadOptions", mode=1), "beyond 3"),
    (of("MIRROR_PAD", (1, 3), (1, 1), [[0, 0], [-2, 0]], table="MirrorPadOptions", mode=1), "beyond 3"),
    (of("REVERSE_V2", (1, 3), (1, 3), [5]), "axis 5"),
    (of("SPACE_TO_DEPTH", (1, 4, 6, 2), (1, 2, 3, 8), table="SpaceToDepthOptions"), "blocks of 0"),
    (of("SPACE_TO_DEPTH", (1, 4, 6, 2), (1, 2, 3, 8), table="SpaceToDepthOptions", blockSize=5), "can't be read"),
    (of("SPACE_TO_BATCH_ND", (1, 5, 3, 2), (6, 3, 2, 2), [0, 3], [[1, 0], [2, 1]]), "blocks of"),
    (of("BATCH_TO_SPACE_ND", (5, 3, 2, 2), (1, 5, 3, 2), [2, 3], [[1, 0], [2, 1]]), "5 samples"),
    (of("SPACE_TO_BATCH_ND", (1, 5, 1, 2), (2, 3, 1, 2), [2, 1], [[1, 0], [0, 0]], dtype="i8"), "never sets"),
    (of("RESIZE_BILINEAR", (1, 3, 4, 2), (1, 6, 6, 2), [6, 6], dtype="i8", table=BILINEAR), "needed floats"),
    (of("RESIZE_NEAREST_NEIGHBOR", (3, 4), (6, 6), [6, 6], table=NEAREST), "resizes"),
    (of("RESIZE_BILINEAR", (1, 1 << 13, 1, 1), (1, 1 << 13, 1, 1), [1 << 13, 1], table=BILINEAR), "by a matrix"),
    (of("PAD", (1, 3), (1, 3 + (1 << 23)), [[0, 0], [0, 1 << 23]]), "pads with 8388608 elements"),
    (of("PAD", (1, 3), (1, 9), [[0, 0], [0, 1 << 23]]), "but the result is"),
    (of("POW", (1, 9), (1, 9), np.float32(2.5)), "raises to"),
    (of("EMBEDDING_LOOKUP", (5, 3), (2, 3), [9, 0], first=True), "rows 0 to 9 of 5"),
])  # fmt: skip
def test_what_is_refused(tmp_path, build, said):
    path = tmp_path / "m.tflite"
    path.write_bytes(written(build))
    with pytest.raises(NeurodeployError, match=said):
        load(path, check=False)
