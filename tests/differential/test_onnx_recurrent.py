"""Every attribute of RNN, GRU and LSTM against onnxruntime, to 1e-5."""

from __future__ import annotations

import itertools
from importlib import import_module

import numpy as np
import onnx
import pytest

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.onnx import load_onnx
from neurodeploy.importers.onnx_check import to_source
from neurodeploy.ir.interpret import run
from tests.differential.onnx_models import recurrent

onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle of these tests is onnxruntime")

CASES = {
    "bidirectional": {"direction": "bidirectional"},
    "reverse": {"direction": "reverse"},
    "no_bias": {"bias": False},
    "lengths": {"lengths": True},
    "lengths_reverse": {"lengths": True, "direction": "reverse"},
    "lengths_both": {"lengths": True, "direction": "bidirectional"},
    "initial_input": {"starts": "input", "direction": "bidirectional"},
    "initial_input_lengths": {"starts": "input", "direction": "bidirectional", "lengths": True},
    "only_last": {"outputs": ("Y_h",)},
    "only_series": {"outputs": ("Y",)},
    "clip": {"clip": 0.4},
    "clip_both": {"clip": 0.7, "direction": "bidirectional"},
}
ACTIVATIONS = [
    ("Relu", [], []),
    ("Affine", [0.6], [0.1]),
    ("LeakyRelu", [0.3], []),
    ("ThresholdedRelu", [0.2], []),
    ("ScaledTanh", [0.8], [0.6]),
    ("HardSigmoid", [0.3], [0.4]),
    ("Elu", [0.7], []),
    ("Softsign", [], []),
    ("Softplus", [], []),
    ("Sigmoid", [], []),
]


def verify(model, tolerance=1e-5):
    program = load_onnx(model, name="m")
    found = program.meta["import_check"]
    assert found["against"].startswith("onnxruntime")
    assert found["max_abs_difference"] < tolerance
    return program


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("case", CASES)
def test_attribute_agrees_with_onnxruntime(op, case):
    verify(recurrent(op, **CASES[case]))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_gru_with_linear_before_reset(direction, clip):
    given = {} if clip is None else {"clip": clip}
    verify(recurrent("GRU", direction=direction, linear_before_reset=1, **given))


def test_linear_before_reset_matters():
    """The two variants differ: the test above would see a mix-up."""
    found = []
    for flag in (0, 1):
        program = load_onnx(recurrent("GRU", linear_before_reset=flag, outputs=("Y_h",)), name="m")
        x = np.random.default_rng(1).normal(size=(2, 6, 3)).astype(np.float32)
        found.append(run(program, {"X": x}).outputs["Y_h"])
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(("peepholes", "clip"), [(True, None), (True, 0.5), (False, 0.5)])
def test_lstm_peepholes_and_input_forget(direction, peepholes, clip):
    given = {} if clip is None else {"clip": clip}
    verify(recurrent("LSTM", direction=direction, peepholes=peepholes, **given))


def reference_input_forget(model, x):
    """The operator's equations with f = 1 - i, in float64; onnxruntime computes them so, onnx.reference ignores it."""
    w = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    n = w["R"].shape[2]
    h = c = np.zeros((len(x), n))
    for t in range(x.shape[1]):
        z = x[:, t] @ w["W"][0].T + h @ w["R"][0].T + w["B"][0, : 4 * n] + w["B"][0, 4 * n :]
        i, o, _, g = (z[:, k * n : (k + 1) * n] for k in range(4))
        i, o, g = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-o)), np.tanh(g)
        c = (1 - i) * c + i * g
        h = o * np.tanh(c)
    return h


def test_lstm_input_forget():
    model = recurrent("LSTM", input_forget=1, outputs=("Y_h",))
    program = verify(model)
    x = np.random.default_rng(1).normal(size=(2, 6, 3)).astype(np.float32)
    found = run(program, {"X": x}).outputs["Y_h"][:, 0]
    np.testing.assert_allclose(found, reference_input_forget(model, x), atol=1e-5)


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS)
def test_rnn_activation(name, alpha, beta):
    given = {"activation_alpha": alpha, "activation_beta": beta}
    verify(recurrent("RNN", activations=[name], scale=0.4, **{k: v for k, v in given.items() if v}))


@pytest.mark.parametrize("name", ["LeakyRelu", "HardSigmoid", "Elu"])
def test_rnn_activation_with_its_default_numbers(name):
    verify(recurrent("RNN", activations=[name], scale=0.4))


@pytest.mark.parametrize("name", ["Affine", "ScaledTanh", "ThresholdedRelu"])
def test_activation_whose_defaults_are_not_settled_is_refused(name):
    with pytest.raises(UnsupportedError, match=rf"node 'layer' \(RNN\): the activation {name} has no numbers"):
        load_onnx(recurrent("RNN", activations=[name]), name="m")


def test_activations_differ_by_direction():
    verify(recurrent("RNN", direction="bidirectional", activations=["Relu", "Softsign"], scale=0.4))
    verify(
        recurrent(
            "LSTM", direction="bidirectional", scale=0.4, activation_alpha=[0.3, 0.7], activation_beta=[0.4],
            activations=["HardSigmoid", "Tanh", "Relu", "Sigmoid", "Elu", "Softsign"],
        )
    )  # fmt: skip
    verify(
        recurrent(
            "GRU", direction="bidirectional", scale=0.4, activation_alpha=[0.3, 0.2, 0.9], activation_beta=[0.4, 0.1],
            activations=["HardSigmoid", "LeakyRelu", "Sigmoid", "ScaledTanh"],
        )
    )  # fmt: skip


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layout_1_equals_layout_0(op, direction):
    """onnxruntime rejects ``layout=1``; batch-major must give what time-major gives."""
    x = np.random.default_rng(2).normal(size=(2, 5, 3)).astype(np.float32)
    found = []
    for layout in (0, 1):
        program = load_onnx(recurrent(op, direction=direction, layout=layout), name="m")
        assert program.meta["axes"]["X"] == (["batch", "time"] if layout else ["time", "batch"]) + ["feature"]
        found.append(run(program, {"X": x}).outputs)
    for name in found[0]:
        np.testing.assert_array_equal(found[0][name], found[1][name])


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_constant_initial_state_of_a_batch_of_one(op):
    verify(recurrent(op, starts="constant", batch=1))
    verify(recurrent(op, starts="constant", batch=1, steps=6, direction="bidirectional"))


def test_lengths_input_is_named():
    program = load_onnx(recurrent("GRU", lengths=True), name="m")
    assert program.meta["lengths_input"] == "lens"
    assert list(program.inputs) == ["X"]


def _collected():
    """The generated cases of three ops; ``collect_testcases`` would generate those of all ops, for ten seconds."""
    from onnx.backend.test.case import node

    for op in ("rnn", "gru", "lstm"):
        import_module(f"onnx.backend.test.case.node.{op}")
    return [c for c in node._NodeTestCases if {n.op_type for n in c.model.graph.node} & {"RNN", "GRU", "LSTM"}]


NODE_TESTS = _collected()


def test_the_node_suite_is_whole():
    """onnx 1.23 generates 18 of them; a release that has fewer would make the next test say less than it seems to."""
    assert len(NODE_TESTS) >= 18


@pytest.mark.parametrize("case", NODE_TESTS, ids=lambda c: c.name)
def test_node_suite_against_stored_outputs(case):
    given, wanted = case.data_sets[0]
    feed = dict(zip([i.name for i in case.model.graph.input], given, strict=True))
    program = load_onnx(case.model, constants={k: v for k, v in feed.items() if k in ("W", "R", "B", "P")}, check=False)
    lengths = feed.get(program.meta.get("lengths_input"))
    inputs = {}
    for name, labels in program.meta["axes"].items():
        order = [labels.index(label) for label in ("batch", "time") if label in labels]
        inputs[name] = np.transpose(feed[name], order + [i for i, label in enumerate(labels) if label == "feature"])
    found = run(program, inputs, None if lengths is None else lengths.astype(np.int64)).outputs
    layout = next((a.i for n in case.model.graph.node for a in n.attribute if a.name == "layout"), 0)
    for output, array in zip(case.model.graph.output, wanted, strict=True):
        np.testing.assert_allclose(found[output.name], to_program(array, output.name, layout), rtol=1e-4, atol=1e-6)


def to_program(array, name, layout):
    """ONNX's axes of Y or Y_h as [batch, time, directions, features] or [batch, directions, features]."""
    if layout:
        return array
    return np.transpose(array, (2, 0, 1, 3)) if name == "Y" else np.transpose(array, (1, 0, 2))


def test_axes_go_back_and_forth():
    from neurodeploy.importers.onnx_check import from_source
    from neurodeploy.importers.time_axes import Axis

    axes = {"batch": Axis("batch", 2), "time": Axis("time", 5), "feature": Axis("feature", 3)}
    array = np.arange(30).reshape(2, 5, 3)
    for order in itertools.permutations(axes):
        laid = to_source(array, tuple(axes[label] for label in order))
        np.testing.assert_array_equal(from_source(laid, tuple(axes[label] for label in order), 2), array)


def test_last_step_of_unequal_lengths_is_each_samples_own():
    model = recurrent("GRU", lengths=True, outputs=("Y",))
    model.graph.node.append(onnx.helper.make_node("Gather", ["Y", "end"], ["out"], name="last", axis=0))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(-1, np.int64), "end"))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("out", 1, [1, "batch", 4]))
    program = verify(model)
    assert "count each sample's own steps" in program.meta["warnings"][0]
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    found = run(program, {"X": x}, np.array([6, 2])).outputs["out"]
    np.testing.assert_allclose(found[1], run(program, {"X": x[1:, :2]}).outputs["out"][0], atol=1e-6)


def test_a_network_without_time_says_so():
    from tests.differential.onnx_models import make_model

    node = onnx.helper.make_node("Tanh", ["x"], ["y"])
    program = load_onnx(make_model([node], {"x": ("f", ["batch", 4])}, {"y": ("f", ["batch", 4])}), name="m")
    assert program.inputs["x"].kind == "static"
    assert "no axis of the inputs is time" in program.meta["warnings"][0]
