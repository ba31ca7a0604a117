"""Modules that take whole sequences, imported and compared with PyTorch at other lengths and batch sizes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import neurodeploy  # noqa: E402
from neurodeploy.ir import interpret, text  # noqa: E402
from tests.differential.torch_modules import HIDDEN, IN, Learned, Residual, classifier, modules  # noqa: E402

torch.set_num_threads(1)
MODULES = modules()
TIME_FIRST = {"time first", "lstm projected two ways"}
CHANNELS_FIRST = {"pooling layers", "temporal convolutions"}
#: name -> the order of an output's axes that brings PyTorch's to [batch, time, features] or [batch, features].
MOVED = {
    ("lstm projected two ways", 0): (1, 0, 2), ("lstm projected two ways", 1): (1, 0, 2), ("lstm projected two ways", 2): (1, 0, 2),
    ("lstm stacked two ways", 1): (1, 0, 2), ("lstm stacked two ways", 2): (1, 0, 2),
    ("lstm projected", 1): (1, 0, 2), ("lstm projected", 2): (1, 0, 2),
    ("several inputs", 1): (1, 0, 2), ("several inputs", 2): (1, 0, 2),
    ("time first", 0): (1, 0, 2),
}  # fmt: skip


def resized(name, leaf, batch, steps, rng):
    """Data for an input of the module, of another batch size and length, as the program takes it."""
    shape = list(leaf.shape)
    if name == "no batch axis":
        shape = [1, steps, *shape[1:]]
    elif name in TIME_FIRST:
        shape = [batch, steps, *shape[2:]]
    elif name in CHANNELS_FIRST:
        shape = [batch, steps, shape[1]]
    elif leaf.ndim == 3 and leaf.shape[:2] == (1, 1):  # an initial state [layers, batch, hidden]
        shape = [batch, 1, *shape[2:]]
    elif leaf.ndim == 3 or not leaf.is_floating_point():
        shape = [batch, steps, *shape[2:]]
    else:
        shape = [batch, *shape[1:]]
    if leaf.is_floating_point():
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(0, 9, shape).astype(np.int32)


def as_given(name, array, leaf):
    """The program's data as the module takes it."""
    if name == "no batch axis":
        array = array[0]
    elif name in TIME_FIRST or (leaf.ndim == 3 and leaf.shape[:2] == (1, 1)):
        array = array.swapaxes(0, 1)
    elif name in CHANNELS_FIRST:
        array = array.swapaxes(1, 2)
    return torch.from_numpy(array.copy()).to(leaf.dtype)


def flat(value):
    return torch.utils._pytree.tree_leaves(value)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_equals_pytorch(name):
    module, example = MODULES[name]
    program = neurodeploy.load(module, example)
    check = program.meta["import_check"]
    assert check["against"] == f"torch {torch.__version__.split('+')[0]}"
    assert check["max_abs_difference"] < 1e-5 and check["samples"] >= 5
    rng = np.random.default_rng(1)
    for batch, steps in ((4, 11), (1, 3), (2, 1)):
        leaves = flat(example)
        data = [resized(name, leaf, batch, steps, rng) for leaf in leaves]
        ours = interpret.run(program, dict(zip(program.inputs, data))).outputs
        args = [as_given(name, array, leaf) for array, leaf in zip(data, leaves)]
        if name == "several inputs":
            args = [*args[:2], tuple(args[2:])]
        with torch.no_grad():
            module.eval()
            theirs = [r.float().numpy() for r in flat(module(*args))]
        assert len(ours) == len(theirs)
        for i, (got, expected) in enumerate(zip(ours.values(), theirs)):
            expected = expected.transpose(MOVED.get((name, i), range(expected.ndim)))
            if name == "no batch axis":
                expected = expected[None]
            assert got.shape == expected.shape
            np.testing.assert_allclose(
                got, expected, atol=1e-5, rtol=1e-5, err_msg=f"{name}, output {i}, {steps} steps"
            )


def test_table_is_whole():
    assert len(MODULES) >= 27


def test_lengths_take_the_place_of_packing():
    module, example = MODULES["gru two ways"]
    program = neurodeploy.load(module, example, check=False)
    x, lengths = np.random.default_rng(2).standard_normal((3, 9, IN)).astype(np.float32), [9, 4, 1]
    logits = interpret.run(program, {"args_0": x}, np.array(lengths)).outputs["output_0"]
    with torch.no_grad():
        expected = [module(torch.from_numpy(x[i : i + 1, :n]))[0][0].numpy() for i, n in enumerate(lengths)]
    np.testing.assert_allclose(logits, np.stack(expected), atol=1e-5)


def test_layers_stay_whole():
    graph = neurodeploy.load(*MODULES["lstm"], check=False).stages[0].graph
    assert [v.op for v in graph.values if v.body is not None] == ["lstm", "affine"]
    assert graph.params["rnn_W"].data.shape == (4 * HIDDEN, IN)


@pytest.mark.parametrize("trap", ["rows", "polarity", "second bias", "start", "gates"])
def test_check_would_catch(trap, monkeypatch):
    """Each way of reading the weights wrong that passes every shape check is caught by the check at the end."""
    from neurodeploy.importers import torch_recurrent as layers

    weights, kinds = layers.cell_weights, dict(layers.KINDS)
    kind, module = "gru", classifier(torch.nn.GRU(IN, HIDDEN, batch_first=True))
    if trap == "rows":  # z, r, n
        swap = lambda a: np.concatenate([a[HIDDEN : 2 * HIDDEN], a[:HIDDEN], a[2 * HIDDEN :]])  # noqa: E731
        monkeypatch.setattr(layers, "cell_weights", lambda *a: [swap(w) for w in weights(*a)[:3]] + weights(*a)[3:])
    elif trap == "polarity":
        kinds["gru"] = ("gru", {"reset_after": True, "update": "replace"})
    elif trap == "second bias":  # added to the first, outside the reset gate

        def added(*args):
            W, U, bias, second = weights(*args)
            return [W, U, bias + np.concatenate([np.zeros(2 * HIDDEN, np.float32), second])]

        monkeypatch.setattr(layers, "cell_weights", added)
    elif trap == "gates":  # i, o, f, g as ONNX has them
        kind, module = "lstm", classifier(torch.nn.LSTM(IN, HIDDEN, batch_first=True))
        mix = lambda a: np.concatenate([a.reshape(4, HIDDEN, -1)[[0, 3, 1, 2]].reshape(a.shape)])  # noqa: E731
        monkeypatch.setattr(layers, "cell_weights", lambda *a: [mix(w) for w in weights(*a)])
    else:  # the learned start left out
        module, original = Learned(), neurodeploy.importers.time.Tracer.rnn
        monkeypatch.setattr(
            neurodeploy.importers.time.Tracer, "rnn", lambda t, c, x, w, i, **k: original(t, c, x, w, [None], **k)
        )
    monkeypatch.setattr(layers, "KINDS", kinds)
    assert kind in kinds
    with pytest.raises(
        neurodeploy.errors.ModelError, match=r"output 'output(_0)?' differs from torch [\d.]+ by \d+\.\d+"
    ):
        neurodeploy.load(module, torch.randn(2, 7, IN))


def test_module_is_left_as_it_was():
    module = Residual().train()
    module.norm.eval()
    before = {name: p.clone() for name, p in module.state_dict().items()}
    attributes = set(vars(module))
    program = neurodeploy.load(module, torch.randn(2, 7, IN))
    assert module.training and module.one.training and not module.norm.training
    assert set(vars(module)) == attributes and torch.is_grad_enabled()
    assert all(torch.equal(p, before[name]) for name, p in module.state_dict().items())
    assert program.meta["import_check"]["max_abs_difference"] < 1e-5


def test_names_and_options():
    lstm = torch.nn.LSTM(IN, HIDDEN, batch_first=True)
    program = neurodeploy.load(lstm, {"input": np.zeros((2, 7, IN))}, name="ear")
    assert program.name == "ear" and list(program.inputs) == ["input"] and list(program.outputs) == ["y", "h", "c"]
    renamed = neurodeploy.load(lstm, torch.randn(1, 1, IN), outputs=["all", "last", "cell"], check=False)
    assert list(renamed.outputs) == ["all", "last", "cell"]
    assert renamed.meta["import_check"] == {
        "against": None,
        "max_abs_difference": None,
        "samples": 0,
        "why": "check=False",
    }
    dense = neurodeploy.load(
        torch.nn.Linear(IN, 2), torch.randn(7, 2, IN), axes={"input": ["time", "batch", "feature"]}
    )
    assert dense.inputs["input"].kind == "series" and list(dense.outputs) == ["output"]
    assert list(neurodeploy.load(Residual(), torch.randn(2, 7, IN), check=False).outputs) == ["logits", "features"]


def test_archive(tmp_path):
    module = classifier(torch.nn.GRU(IN, HIDDEN, batch_first=True)).eval()
    exported = torch.export.export(module, (torch.randn(1, 7, IN),))  # batch and time fixed
    torch.export.save(exported, tmp_path / "ear.pt2")
    x = np.random.default_rng(3).standard_normal((1, 12, IN)).astype(np.float32)
    expected = module(torch.from_numpy(x)).detach().numpy()
    for source in (tmp_path / "ear.pt2", exported):
        program = neurodeploy.load(source)
        assert program.meta["import_check"]["max_abs_difference"] < 1e-5
        (name,) = program.inputs
        np.testing.assert_allclose(interpret.run(program, {name: x}).outputs["output"], expected, atol=1e-5)


def test_text_round_trip():
    program = neurodeploy.load(*MODULES["lstm stacked two ways"], check=False)
    assert text.from_files(text.to_files(program, "m"), "m") == program
