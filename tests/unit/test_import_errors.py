"""Every broken or foreign model is refused in one line, with the place and what to do."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import neurodeploy
from neurodeploy.errors import ModelError, NeurodeployError, UnsupportedError, UsageError
from neurodeploy.importers import check as checking
from neurodeploy.importers import load
from neurodeploy.importers.onnx import load_onnx
from neurodeploy.ir.interpret import run
from tests.differential.onnx_models import make_model, recurrent


def refused(source, **options):
    """The message of the refusal, which is one line with exit status 2."""
    with pytest.raises(ModelError) as caught:
        load(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_status == 2
    return text


@pytest.fixture
def gru(tmp_path):
    path = tmp_path / "gru.onnx"
    onnx.save(recurrent("GRU"), path)
    return path


def test_random_and_truncated_bytes(tmp_path, gru):
    raw = gru.read_bytes()
    for name, data in {
        "empty": b"",
        "random": np.random.default_rng(0).bytes(4096),
        "text": b"hello, world\n" * 9,
        "cut": raw[: len(raw) // 2],
        "short": raw[:40],
    }.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        assert f"{name}.onnx" in refused(path)


def test_missing_file_and_folder(tmp_path):
    assert "there is no such file" in refused(tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in refused(tmp_path / "folder.onnx")


@pytest.mark.parametrize(
    ("name", "words"),
    [("m.keras", "tf2onnx"), ("m.pt", "export it to ONNX"), ("m.txt", "Give one of .onnx,")],
)
def test_other_kinds_of_file(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"x")
    text = refused(tmp_path / name)
    assert words in text
    assert f"'{(tmp_path / name).suffix}' aren't read" in text


def test_other_kinds_of_object():
    assert refused({"not": "a model"}).startswith("a dict can't be imported. Give a file")


def test_unknown_option(gru):
    with pytest.raises(UsageError, match=r"'.onnx' files has no option 'chekc'\. It has: constants, axes, check, name"):
        load(gru, chekc=False)


def test_nan_weight_is_named(tmp_path):
    model = recurrent("LSTM")
    bad = numpy_helper.to_array(model.graph.initializer[1]).copy()
    bad[0, 0, 0] = np.nan
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(bad, "R"))
    path = tmp_path / "nan.onnx"
    onnx.save(model, path)
    assert refused(path).startswith("nan.onnx: tensor 'R': holds NaN or infinity.")


def test_missing_external_data(tmp_path):
    path = tmp_path / "big.onnx"
    onnx.save(recurrent("GRU"), path, save_as_external_data=True, location="big.data", size_threshold=0)
    assert load(path, check=False).stages
    (tmp_path / "big.data").unlink()
    text = refused(path)
    assert "big.onnx: tensor 'W'" in text
    assert "Keep the file with its data beside the model." in text


def test_missing_initializer():
    model = recurrent("GRU")
    del model.graph.initializer[0]
    with pytest.raises(ModelError, match=r"is not valid ONNX \(.*W"):
        load_onnx(model)


def test_old_opset(tmp_path):
    model = recurrent("GRU")
    model.opset_import[0].version = 3
    with pytest.raises(UnsupportedError, match=r"model: uses ONNX opset 3; needed 7 or later\. Export with opset 17\."):
        load_onnx(model)


def test_op_of_another_domain():
    model = recurrent("GRU")
    model.graph.node[0].domain = "com.microsoft"
    with pytest.raises(UnsupportedError, match=r"node 'layer': the op GRU belongs to 'com.microsoft'"):
        load_onnx(model)


def image_model():
    node = helper.make_node("Conv", ["x", "W"], ["y"], name="conv1", pads=[1, 1, 1, 1])
    W = np.zeros((4, 3, 3, 3), np.float32)
    return make_model([node], {"x": ("f", [1, 3, 8, 8])}, {"y": ("f", [1, 4, 8, 8])}, {"W": W})


def test_an_image_network():
    with pytest.raises(UnsupportedError, match=r"node 'conv1' \(Conv\): a 2-d convolution.*Only 1-d convolutions"):
        load_onnx(image_model())


@pytest.mark.parametrize(
    ("op", "attrs", "words"),
    [
        ("Erf", {}, "the error function has no primitive. Use GELU's tanh approximation"),
        ("Sin", {}, "the op Sin is not supported"),
        ("TopK", {}, "the op TopK is not supported"),
    ],
)
def test_unsupported_op_is_named(op, attrs, words):
    inputs = ["x", "k"] if op == "TopK" else ["x"]
    outputs = ["y", "i"] if op == "TopK" else ["y"]
    node = helper.make_node(op, inputs, outputs, name="odd", **attrs)
    weights = {"k": np.array([1], np.int64)} if op == "TopK" else {}
    model = make_model([node], {"x": ("f", ["batch", "time", 4])}, {"y": ("f", ["batch", "time", 4])}, weights)
    with pytest.raises(UnsupportedError) as caught:
        load_onnx(model)
    assert str(caught.value).startswith(f"model: node 'odd' ({op}): {words}")


def test_control_flow_is_named():
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "branch", [], [helper.make_tensor_value_info("b", 1, None)]
    )
    node = helper.make_node("If", ["c"], ["y"], name="choose", then_branch=branch, else_branch=branch)
    inputs = {"x": ("f", ["batch", "time", 4]), "c": ("b", [])}
    with pytest.raises(UnsupportedError, match=r"node 'choose' \(If\): a branch inside the model"):
        load_onnx(make_model([node], inputs, {"y": ("f", ["batch", "time", 4])}))


def test_softmax_over_time_is_refused_by_node():
    node = helper.make_node("Softmax", ["x"], ["y"], name="attention", axis=1)
    model = make_model([node], {"x": ("f", ["batch", "time", 4])}, {"y": ("f", ["batch", "time", 4])}, opset=13)
    with pytest.raises(UnsupportedError, match=r"node 'attention' \(Softmax\): softmax over the time axis"):
        load_onnx(model)


def test_time_flattened_into_features_is_refused_by_node():
    nodes = [helper.make_node("Flatten", ["x"], ["f"], name="flat"), helper.make_node("Relu", ["f"], ["y"])]
    model = make_model(nodes, {"x": ("f", ["batch", "time", 4])}, {"y": ("f", ["batch", "more"])})
    with pytest.raises(UnsupportedError, match=r"node 'flat' \(Flatten\): .*mixes time with feature 4"):
        load_onnx(model)


def test_lengths_fixed_in_the_file():
    model = recurrent("GRU", lengths=True, batch=2, steps=5)
    lens = next(i for i in model.graph.input if i.name == "lens")
    model.graph.input.remove(lens)
    model.graph.initializer.append(numpy_helper.from_array(np.array([5, 3], np.int32), "lens"))
    with pytest.raises(UnsupportedError, match=r"node 'layer' \(GRU\): sequence_lens is computed or fixed in the file"):
        load_onnx(model)


def test_wrong_axes(gru):
    assert "axes are given for 'Y', which is no input. Known: X." in refused(gru, axes={"Y": ["time"]})
    assert "Give one of batch, time and feature for each axis." in refused(gru, axes={"X": ["time", "batch"]})
    text = refused(gru, axes={"X": ["batch", "time", "feature"]})
    assert "node 'layer' (GRU): X is [batch time, time batch, feature 3]; needed [time, batch, feature]." in text


def test_an_import_that_computes_something_else_is_refused(monkeypatch):
    """The check is what catches a wrong gate order: make one, and it does."""
    pytest.importorskip("onnxruntime", reason="the check runs against it")
    from neurodeploy.importers import onnx_ops_rnn

    gates = onnx_ops_rnn._gates
    monkeypatch.setattr(onnx_ops_rnn, "_gates", lambda array, hidden, order: gates(array, hidden, tuple(sorted(order))))
    with pytest.raises(ModelError, match=r"model: output 'Y.*' differs from onnxruntime .* by"):
        load_onnx(recurrent("GRU"))


def test_without_a_framework_the_meta_says_so(monkeypatch):
    from neurodeploy.importers import onnx_check

    def missing(model):
        raise onnx_check._Unavailable("onnxruntime is not installed")

    monkeypatch.setattr(onnx_check, "_onnxruntime", missing)
    found = load_onnx(recurrent("GRU")).meta["import_check"]
    assert found["against"].startswith("onnx.reference")
    monkeypatch.setattr(onnx_check, "_reference", missing)
    found = load_onnx(recurrent("GRU")).meta["import_check"]
    assert found["against"] is None
    assert "onnxruntime is not installed" in found["why"]
    assert load_onnx(recurrent("GRU"), check=False).meta["import_check"]["why"] == "the check was turned off"


def test_origin_names_file_and_hash(gru):
    import hashlib

    origin = load(gru, check=False).meta["origin"]
    assert origin["file"] == "gru.onnx"
    assert origin["sha256"] == hashlib.sha256(gru.read_bytes()).hexdigest()


def test_tolerance_is_relative_to_the_largest_output():
    assert checking._difference("y", np.full(3, 1e4), np.full(3, 1e4 + 0.5), "it", "m", 1e-4) == 0.5
    with pytest.raises(ModelError):
        checking._difference("y", np.full(3, 1.0), np.full(3, 1.5), "it", "m", 1e-4)


# -- weights in a .npz -------------------------------------------------------------------------------------------------


def esn(**changes):
    rng = np.random.default_rng(0)
    arrays = {
        "W_in": rng.normal(size=(6, 2)),
        "W": 0.1 * rng.normal(size=(6, 6)),
        "bias": rng.normal(size=6),
        "leak": np.array(0.3),
        "W_out": rng.normal(size=(3, 6)),
        "b_out": rng.normal(size=3),
        "activation": np.array("tanh"),
    }
    return {k: v for k, v in {**arrays, **changes}.items() if v is not None}


def saved(tmp_path, arrays):
    path = tmp_path / "esn.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("activation", ["tanh", "relu", "hard_sigmoid", "softsign"])
def test_echo_state_network(tmp_path, activation):
    program = load(saved(tmp_path, esn(activation=np.array(activation), leak=np.linspace(0.1, 0.9, 6))))
    assert program.meta["import_check"]["max_abs_difference"] < 1e-5
    assert str(program.outputs["y"]).endswith("@last")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"W_in": None}, "holds no matrix 'W_in'"),
        ({"bias": None}, "the array 'bias' is missing"),
        ({"W": np.zeros((6, 5))}, r"'W' is float64[6, 5]; needed numbers [6, 6]"),
        ({"leak": np.zeros(5)}, "'leak' is float64[5]; needed numbers [] or [6]"),
        ({"W_out": np.zeros((3, 7))}, "'W_out' is float64[3, 7]"),
        ({"W": np.full((6, 6), np.inf)}, "esn.npz: array 'W': holds something other than finite numbers"),
        ({"activation": np.array("tahn")}, "there is no activation 'tahn'. Did you mean 'tanh'?"),
    ],
)
def test_broken_echo_state_network(tmp_path, changes, words):
    assert words in refused(saved(tmp_path, esn(**changes)))


def test_a_cell_by_its_spec(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {"W": rng.normal(size=(4, 3)), "u": rng.normal(size=4), "bias": rng.normal(size=4)}
    spec = {"cell": "indrnn", "weights": ["W", "u", "bias"], "state": 4, "inputs": 3, "output": "series"}
    program = load(saved(tmp_path, {**arrays, "spec": np.array(json.dumps(spec))}))
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    h = np.zeros((2, 4))
    for t in range(5):
        h = np.maximum(x[:, t] @ arrays["W"].T + arrays["u"] * h + arrays["bias"], 0)
    np.testing.assert_allclose(run(program, {"x": x}).outputs["y"][:, -1], h, rtol=1e-4)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{", "its spec can't be used"),
        ('{"cell": "indrnn"}', "its spec can't be used"),
        ('{"cel": 1}', "its spec has no key 'cel'. Did you mean 'cell'?"),
        ('{"cell": "grru", "weights": [], "state": 4, "inputs": 3}', "there is no cell 'grru'. Did you mean 'gru'?"),
        ('{"cell": "indrnn", "weights": ["Q"], "state": 4, "inputs": 3}', "the array 'Q' is missing"),
        ('{"cell": "indrnn", "weights": ["W"], "state": 4, "inputs": 3}', "indrnn can't take 3 arguments"),
        ('{"cell": "indrnn", "weights": ["W"], "state": 0, "inputs": 3}', "sizes of at least 1"),
    ],
)
def test_broken_spec(tmp_path, spec, words):
    assert words in refused(saved(tmp_path, {"W": np.zeros((4, 3)), "spec": np.array(spec)}))


def test_broken_npz(tmp_path):
    path = tmp_path / "esn.npz"
    for data in (b"", b"PK\x03\x04 nothing", np.random.default_rng(0).bytes(500)):
        path.write_bytes(data)
        assert "esn.npz: is no readable .npz" in refused(path)


# -- programs ----------------------------------------------------------------------------------------------------------


def test_program_written_by_neurodeploy(tmp_path):
    from neurodeploy.ir import text

    program = load_onnx(recurrent("GRU"), check=False)
    for name, data in text.to_files(program, "gru").items():
        (tmp_path / name).write_bytes(data)
    assert text.print_program(neurodeploy.load(tmp_path / "gru.nd")) == text.print_program(program)
    (tmp_path / "gru.npz").unlink()
    assert "gru.npz: can't be read" in refused(tmp_path / "gru.nd")


def test_errors_are_of_one_tree():
    assert issubclass(UnsupportedError, NeurodeployError)
    assert TensorProto.FLOAT in __import__("neurodeploy.importers.onnx_ops_shape", fromlist=["DTYPES"]).DTYPES
