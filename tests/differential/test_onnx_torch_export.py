"""Modules as people write them, exported by PyTorch, imported and compared with onnxruntime and with PyTorch."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest

from neurodeploy.importers.onnx import load_onnx
from neurodeploy.ir.interpret import run

torch = pytest.importorskip("torch", reason="its exporter makes the models")
pytest.importorskip("onnxruntime", reason="the import is checked against it")
nn = torch.nn


class Net(nn.Module):
    """[embedding] -> [causal Conv1d] -> recurrent -> [LayerNorm] -> a way to end -> Linear."""

    def __init__(self, cell=nn.GRU, end="last", *, layers=1, both=False, norm=False, table=False, taps=0, first=True):
        super().__init__()
        self.end, self.first, self.reach = end, first, 2 * (taps - 1)
        self.table = nn.Embedding(11, 5) if table else None
        self.conv = nn.Conv1d(5, 6, taps, dilation=2) if taps else None
        self.rnn = cell(6 if taps else 5, 8, layers, batch_first=first, bidirectional=both)
        width = 16 if both else 8
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.fc = nn.Linear(width, 3)

    def forward(self, x):
        if self.table is not None:
            x = self.table(x)
        if self.conv is not None:
            padded = nn.functional.pad(x.transpose(1, 2), (self.reach, 0))
            x = torch.relu(self.conv(padded)).transpose(1, 2)
        y, h = self.rnn(x)
        h = h[0] if isinstance(h, tuple) else h
        return self.fc(self.ending(self.norm(y), h))

    def ending(self, y, h):
        if self.end == "last":
            return y[:, -1] if self.first else y[-1]
        if self.end == "state":
            return h[-1]
        if self.end == "both states":
            return torch.cat([h[-2], h[-1]], -1)
        if self.end == "mean":
            return y.mean(1)
        if self.end == "max":
            return y.max(1).values
        return y[:, 0] if self.end == "first" else y


CASES = {
    "gru": (Net(), ["forward"]),
    "lstm": (Net(nn.LSTM), ["forward"]),
    "rnn": (Net(nn.RNN), ["forward"]),
    "time_major": (Net(first=False), ["forward"]),
    "stacked": (Net(nn.LSTM, layers=3), ["forward"]),
    "stacked_state": (Net(nn.LSTM, "state", layers=2), ["forward"]),
    "bidirectional": (Net(both=True), ["forward", "reverse", "head"]),
    "bidirectional_states": (Net(nn.LSTM, "both states", layers=2, both=True), ["forward", "reverse", "forward_2", "head"]),
    "bidirectional_first": (Net(end="first", both=True), ["forward", "reverse", "head"]),
    "bidirectional_mean": (Net(end="mean", both=True), ["forward", "reverse", "head"]),
    "norm_mean": (Net(end="mean", norm=True), ["forward"]),
    "maximum": (Net(nn.LSTM, "max"), ["forward"]),
    "series": (Net(end="series", norm=True), ["forward"]),
    "embedding": (Net(table=True), ["forward"]),
    "convolution": (Net(taps=3), ["forward"]),
}  # fmt: skip


def example(module, batch, steps):
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, steps) if module.first else (steps, batch)
    if module.table is not None:
        return torch.randint(0, 11, shape, generator=generator)
    return torch.randn(*shape, 5, generator=generator)


def export(module, *, fixed):
    """The module's ONNX bytes, with batch and time open or fixed at 2 and 7."""
    buffer = io.BytesIO()
    names = ("batch", "time") if module.first else ("time", "batch")
    axes = None if fixed else {"x": dict(enumerate(names))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            module.eval(), (example(module, 2, 7),), buffer, dynamo=False, opset_version=17,
            input_names=["x"], output_names=["y"], dynamic_axes=axes,
        )  # fmt: skip
    return buffer.getvalue()


@pytest.mark.parametrize("fixed", [False, True], ids=["open", "fixed"])
@pytest.mark.parametrize("case", CASES)
def test_exported_module(case, fixed):
    module, stages = CASES[case]
    program = load_onnx(export(module, fixed=fixed), name=case)
    assert program.meta["import_check"]["against"].startswith("onnxruntime")
    assert program.meta["import_check"]["max_abs_difference"] < 1e-5
    assert [stage.name for stage in program.stages] == stages
    x = example(module, 3, 9)  # sizes that the exporter hasn't seen
    with torch.no_grad():
        wanted = module(x).numpy()
    given = x.numpy() if module.first else x.numpy().swapaxes(0, 1)
    np.testing.assert_allclose(run(program, {"x": given}).outputs["y"], wanted, atol=1e-5)


def test_a_classifier_streams():
    """A forward net with its head is one step graph: its states are the layer's, its output is read at the last step."""
    program = load_onnx(export(CASES["stacked"][0], fixed=False), name="m")
    assert [s.type.shape for s in program.stages[0].graph.states] == [(8,)] * 6
    assert (program.outputs["y"].stage, program.outputs["y"].at) == ("forward", "last")


def test_unequal_lengths_end_where_each_sample_ends():
    module, _ = CASES["norm_mean"]
    program = load_onnx(export(module, fixed=False), name="m")
    x = example(module, 2, 9)
    found = run(program, {"x": x.numpy()}, np.array([9, 4])).outputs["y"]
    with torch.no_grad():
        np.testing.assert_allclose(found[1], module(x[1:, :4]).numpy()[0], atol=1e-5)
