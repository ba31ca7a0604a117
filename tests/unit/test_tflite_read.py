"""Reading ``.tflite``: fields as the official schema has them, and every refusal in words."""

from __future__ import annotations

import re

import numpy as np
import pytest

from neurodeploy.errors import ModelError, UnsupportedError
from neurodeploy.importers import load, tflite_schema
from neurodeploy.importers.tflite_flat import Flat

pytest.importorskip("flatbuffers", reason="the extra 'tflite' is not installed")
fb = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="the extra 'tflite' is not installed")

#: Fields of each kind get a value of their own, so that no two can be mistaken.
VALUES = {"i8": 3, "i32": 70001, "u32": 5, "bool": True, "f32": 0.5, "[i32]": [4, 5, 6], "string": "name"}
#: Operators whose options' table isn't named like them.
TABLES = {
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions", "SVDF": "SVDFOptions", "BATCH_MATMUL": "BatchMatMulOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"),
                    "ReducerOptions"),
    "L2_NORMALIZATION": "L2NormOptions",
}  # fmt: skip


def camel(name: str, first: bool = True) -> str:
    words = name.lower().split("_")
    return "".join(w.capitalize() if i or first else w for i, w in enumerate(words))


def test_names_are_those_of_the_schema():
    for name, number in vars(fb.BuiltinOperator).items():
        if not name.startswith("_"):
            assert tflite_schema.OPERATORS[number] == name
    for name, number in vars(fb.TensorType).items():
        if not name.startswith("_"):
            assert tflite_schema.TENSOR_TYPES[number] == name
    for name, number in vars(fb.ActivationFunctionType).items():
        if not name.startswith("_"):
            assert tflite_schema.ACTIVATIONS[number] == name


@pytest.mark.parametrize("code", tflite_schema.OPTIONS)
def test_options_are_read_where_the_schema_writes_them(code):
    import flatbuffers

    options = getattr(fb, TABLES.get(code, camel(code) + "Options") + "T")()
    fields = tflite_schema.OPTIONS[code]
    wanted = {}
    for index, (name, (_, kind, default)) in enumerate(fields.items()):
        value = VALUES[kind]
        value = value + index if kind in ("i8", "i32") else not default if kind == "bool" else value
        assert hasattr(options, camel(name, first=False)), name
        setattr(options, camel(name, first=False), value)
        wanted[name] = value
    builder = flatbuffers.Builder(64)
    builder.Finish(options.Pack(builder))
    found = Flat(bytes(builder.Output()), "x").root().read(fields)
    assert {k: list(v) if isinstance(v, np.ndarray) else v for k, v in found.items()} == wanted


def test_no_tflite_file(tmp_path):
    path = tmp_path / "x.tflite"
    for data in (b"", b"TFL3", b"PK\x03\x04 something else"):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="x.tflite: is no TFLite file"):
            load(path)


def test_every_unsupported_operator_is_named_at_once(tmp_path):
    from neurodeploy.backends.tflite.write import Model
    from neurodeploy.ir.types import Quant

    model = Model()
    s = model.subgraph("main")
    x, scale = s.tensor("x", (1, 4), "f32"), Quant(0.1)
    s.inputs = [x]
    for code in ("SIN", "COS", "SIN"):
        y = s.tensor(f"y{len(s.operators)}", (1, 4), "f32")
        s.op(code, [x], [y])
        x = y
    q, r = (s.tensor(n, (1, 4), "i8", scale) for n in "qr")
    s.op("QUANTIZE", [x], [q])
    s.op("EXP", [q], [r])
    s.outputs = [r]
    (tmp_path / "m.tflite").write_bytes(model.finish())
    wanted = (
        "m.tflite: has operators that aren't supported: SIN (2, first operator 0), COS (1, first operator 1), "
        "EXP on integers (1, first operator 4). Leave"
    )
    with pytest.raises(UnsupportedError, match=re.escape(wanted)):
        load(tmp_path / "m.tflite")


def test_a_mixture_of_floats_and_integers_is_refused_by_operator(tmp_path):
    from neurodeploy.backends.tflite.write import Model
    from neurodeploy.ir.types import Quant

    model = Model()
    s = model.subgraph("main")
    x, y = s.tensor("x", (1, 4), "i8", Quant(0.1)), s.tensor("y", (1, 2), "f32")
    w = s.tensor("w", (2, 4), "i8", Quant(0.1), np.ones((2, 4), np.int8))
    s.inputs, s.outputs = [x], [y]
    s.op("FULLY_CONNECTED", [x, w], [y], "FullyConnectedOptions")
    (tmp_path / "hybrid.tflite").write_bytes(model.finish())
    with pytest.raises(UnsupportedError, match=r"operator 0 \(FULLY_CONNECTED\): computes with FLOAT32.*full integer"):
        load(tmp_path / "hybrid.tflite")


def test_a_wrong_import_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")
    from neurodeploy.backends.tflite.write import Model
    from neurodeploy.importers import tflite_ops

    model = Model()
    s = model.subgraph("main")
    s.inputs, s.outputs = [s.tensor("x", (1, 4), "f32")], [s.tensor("y", (1, 4), "f32")]
    s.op("ABS", s.inputs, s.outputs)
    (tmp_path / "m.tflite").write_bytes(model.finish())
    assert load(tmp_path / "m.tflite").meta["import_check"]["against"] == "TFLite Micro"
    monkeypatch.setitem(tflite_ops.FLOAT_RULES, "ABS", lambda call: call.put("relu", call.x()))
    with pytest.raises(ModelError, match="output 'y' differs from TFLite Micro"):
        load(tmp_path / "m.tflite")
