"""What the PyTorch importer refuses: by node, with the reason and what to do."""

import re

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import neurodeploy  # noqa: E402
from neurodeploy.errors import MissingExtraError, ModelError, UnsupportedError, UsageError  # noqa: E402
from tests.differential.torch_modules import Wrapped  # noqa: E402

torch.set_num_threads(1)
X = torch.randn(2, 7, 5)
STEP = "load(cell, (x_t, h), states={'h': 1})."


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleDict({"cell": nn.GRUCell(5, 4)})

    def forward(self, x):
        h = torch.zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            h = self.encoder["cell"](x[:, t], h)
        return h


class HandLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.W, self.U = nn.Linear(5, 4), nn.Linear(4, 4)

    def forward(self, x):
        h, seen = x.new_zeros(x.shape[0], 4), []
        for x_t in x.unbind(1):
            h = torch.tanh(self.W(x_t) + self.U(h))
            seen.append(h)
        return torch.stack(seen, 1)


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(5, 4)
        self.register_buffer("held", torch.zeros(1, 4))

    def forward(self, x):
        held = self.get_buffer("held")
        held.copy_(self.cell(x, held))
        return held * 2


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.h = nn.GRU(5, 4, batch_first=True), None

    def forward(self, x):
        y, self.h = self.gru(x, self.h)
        return y


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 7, 5))
        self.gru = nn.GRU(5, 4, batch_first=True)

    def forward(self, x):
        return self.gru(x + self.table)[0]


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(5, 4, batch_first=True)

    def forward(self, x, lengths):
        return self.gru(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[1]


def gru(then):
    return Wrapped(
        lambda m, x: then(m, m.gru(x)[0]),
        gru=nn.GRU(5, 4, batch_first=True),
        score=nn.Linear(4, 1),
        flat=nn.Linear(28, 2),
    )


PACKED = "Call the layer on the padded tensor; give the lengths when the compiled model runs (lengths=...)."
FIXED = (
    "(aten.gru): it runs over 7 steps, a number that something else in the module fixes to the example's. Flattening over "
    "time, a table of positions and a Python loop over steps do that; take the last step or a mean over time instead."
)
#: name -> (module, example, the whole message).
REFUSED = {
    "loop over a cell": (
        Loop(), X, "Loop: node encoder.cell (aten.gru_cell): a single step of a recurrent cell inside a module that takes whole "
        "sequences (a loop over time is unrolled when traced). Use the layer (nn.GRU, nn.LSTM, nn.RNN), or give the step itself: " + STEP,
    ),
    "loop by hand": (
        HandLoop(), X,
        "HandLoop: node unbind (aten.unbind): the time axis is unbound into single tensors. A loop over time is given as its step: " + STEP,
    ),
    "state in a buffer": (
        Buffered(), X[:1, 0], "Buffered: forward keeps values in the module between calls: 'held'. Take the state as an argument and return its "
        "next value; then states={...} names it.",
    ),
    "state in an attribute": (
        Remembering(), X, "Remembering: forward keeps values in the module between calls: 'h'. Take the state as an argument and return its "
        "next value; then states={...} names it.",
    ),
    "packed inside": (Packed(), (X, torch.tensor([7, 3])), f"Packed: a packed sequence is given to a recurrent layer. {PACKED}"),
    "packed example": (
        nn.GRU(5, 4), nn.utils.rnn.pack_sequence([X[0], X[0, :3]]), f"GRU: the example is a packed sequence. {PACKED}",
    ),
    "attention": (
        nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), torch.randn(2, 7, 8),
        "Sequential: node 0.self_attn (nn.MultiheadAttention): attention reads the whole sequence at every step. Use a recurrent layer; "
        "only its state is kept in a step.",
    ),
    "bare attention": (
        gru(lambda m, y: F.scaled_dot_product_attention(y, y, y)), X, "Wrapped: node scaled_dot_product_attention "
        "(aten.scaled_dot_product_attention): attention reads the whole sequence at every step. Use a recurrent layer; only its state is "
        "kept in a step.",
    ),
    "softmax over time": (
        gru(lambda m, y: (y * m.score(y).softmax(1)).sum(1)), X, "Wrapped: node softmax (aten.softmax): softmax over the time axis. It needs "
        "the whole sequence at once; use it over features, or pool over time.",
    ),
    "flattened time": (gru(lambda m, y: m.flat(y.flatten(1))), X, f"Wrapped: node gru {FIXED}"),
    "positions": (Positions(), X, f"Positions: node gru {FIXED}"),
    "middle step": (
        gru(lambda m, y: y[:, 3]), X, "Wrapped: node select (aten.select): the step 3 after the first is taken. Take the first or the last "
        "step. A loop over time is given as its step: " + STEP,
    ),
    "flipped time": (
        Wrapped(lambda m, x: m.gru(x.flip(1))[0], gru=nn.GRU(5, 4, batch_first=True)), X,
        "Wrapped: node flip (aten.flip): the time axis is flipped. For a reversed sequence use a bidirectional layer.",
    ),
    "centred convolution": (
        nn.Conv1d(5, 4, 3, padding=1), torch.randn(2, 5, 9), "Conv1d: the time axis runs 1 past the last step, as if later inputs were known. "
        "Make the convolution causal: pad on the left only, or cut what it adds on the right.",
    ),
    "stride": (
        nn.Conv1d(5, 4, 3, stride=2), torch.randn(2, 5, 9),
        "Conv1d: node conv1d (aten.conv1d): a convolution of stride 2 gives less than one value a step. Use stride 1.",
    ),
    "running sum": (
        gru(lambda m, y: y.cumsum(1)), X, "Wrapped: node cumsum (aten.cumsum): a running sum over an axis. Give the step itself: " + STEP,
    ),
    "error function": (
        gru(lambda m, y: F.gelu(y)), X,
        "Wrapped: node gelu (aten.gelu): GELU needs the error function. Use its tanh form: nn.GELU(approximate='tanh').",
    ),
    "unknown op": (gru(lambda m, y: torch.fft.rfft(y).abs()), X, "Wrapped: node fft_rfft (aten.fft_rfft): the op 'fft_rfft' is not supported."),
    "dropout always on": (
        gru(lambda m, y: F.dropout(y, 0.5)), X, "Wrapped: two runs on one input differ: it draws random numbers in evaluation mode. Make "
        "dropout follow self.training, and give noise as an input.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name):
    module, example, message = REFUSED[name]
    with pytest.raises(UnsupportedError) as caught:
        neurodeploy.load(module, example)
    assert str(caught.value).removesuffix(f" {caught.value.hint}" if name == "unknown op" else "") == message


def test_refused_modules_are_left_as_they_were():
    module = Remembering()
    with pytest.raises(UnsupportedError):
        neurodeploy.load(module, X)
    assert module.h is None and module.training
    module = Buffered()
    with pytest.raises(UnsupportedError):
        neurodeploy.load(module, X[:1, 0])
    assert not module.get_buffer("held").any()


def nan_weight():
    module = gru(lambda m, y: y)
    module.get_parameter("gru.weight_hh_l0").data[0, 0] = float("nan")
    return module


BROKEN = {
    "nan": (nan_weight, X, {}, "Wrapped: parameter 'gru.weight_hh_l0' holds NaN or infinity. Train again with"),
    "half": (
        lambda: nn.GRU(5, 4).bfloat16(), X.bfloat16(), {},
        "GRU: parameter 'weight_ih_l0' is torch.bfloat16; needed torch.float32. Give module.float().",
    ),
    "no example": (lambda: nn.GRU(5, 4), None, {}, "GRU: an example input is needed to trace a torch module. Give a tensor of the shape"),
    "wrong example": (lambda: nn.GRU(6, 4), X, {}, "GRU: the module doesn't run on the example: input.size(-1) must be equal to input_size."),
    "wrong names": (lambda: nn.GRU(5, 4), {"x": X}, {}, "GRU: the example doesn't fit forward(input, hx=None): missing a required argument"),
    "scripted": (lambda: torch.jit.script(nn.GRU(5, 4)), X, {}, "RecursiveScriptModule is no ordinary torch.nn.Module. Give the module that"),
    "branch on data": (
        lambda: Wrapped(lambda m, x: x if x.sum() > 0 else -x), X, {}, "Wrapped: torch.export can't trace it: Could not guard on data-dependent",
    ),
    "axes of nothing": (lambda: nn.Linear(5, 4), X, {"axes": {"x": ["time"]}}, "Linear: axes= names 'x', which is no input; there are input."),
    "axes": (
        lambda: nn.Linear(5, 4), X, {"axes": {"input": ["time", "channel", "batch"]}},
        "Linear: axes= gives ['time', 'channel', 'batch'] for input 'input' of 3 axes; needed batch, time or feature for each.",
    ),
    "outputs": (lambda: nn.LSTM(5, 4), X, {"outputs": ["y", "h"]}, "LSTM: outputs= gives 2 names; forward returns 3. Give one name each"),
    "initial without states": (lambda: nn.GRU(5, 4), X, {"initial": {"h": 0}}, "GRU: initial= is given without states=. Name the states"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken(name, capfd):
    make, example, options, message = BROKEN[name]
    with pytest.raises(ModelError, match=re.escape(message)):
        neurodeploy.load(make(), example, **options)
    assert not capfd.readouterr().out


def test_unknown_option():
    with pytest.raises(
        UsageError, match="has no option 'state'. It has: example, states, initial, axes, outputs, name, check."
    ):
        neurodeploy.load(nn.GRU(5, 4), X, state={"h": 1})


def test_files(tmp_path):
    (tmp_path / "a.pt2").write_bytes(b"not an archive")
    with pytest.raises(
        ModelError, match="a.pt2: it can't be read as an archive of torch.export: .* Write it with torch.export.save"
    ):
        neurodeploy.load(tmp_path / "a.pt2")
    torch.save(nn.GRU(5, 4).state_dict(), tmp_path / "a.pt")
    with pytest.raises(
        UnsupportedError,
        match="files ending in '.pt' aren't read. Load it in PyTorch and give neurodeploy.load the module",
    ):
        neurodeploy.load(tmp_path / "a.pt")


def test_torch_missing(monkeypatch):
    import importlib

    found = importlib.import_module
    monkeypatch.setattr(
        importlib,
        "import_module",
        lambda n, *a: (_ for _ in ()).throw(ImportError(n)) if n == "torch" else found(n, *a),
    )
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'neurodeploy[torch]'")):
        neurodeploy.load(nn.GRU(5, 4), X)
