"""Custom PyTorch cells, imported as steps with states, against PyTorch's own loop over time."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402

import neurodeploy  # noqa: E402
from neurodeploy.errors import ModelError, UnsupportedError  # noqa: E402
from neurodeploy.ir import interpret  # noqa: E402

torch.set_num_threads(1)
IN, HIDDEN = 5, 6


class CustomGRU(nn.Module):
    """A GRU that nobody named: reset before the product, gates from one concatenation, a readout."""

    def __init__(self):
        super().__init__()
        self.gates, self.new = nn.Linear(IN + HIDDEN, 2 * HIDDEN), nn.Linear(IN + HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, 3)

    def forward(self, x, h):
        z, r = torch.sigmoid(self.gates(torch.cat([x, h], -1))).chunk(2, -1)
        n = torch.tanh(self.new(torch.cat([x, r * h], -1)))
        h = (1 - z) * n + z * h
        return self.out(h), h


class Liquid(nn.Module):
    """A leaky cell with an input-dependent time constant, a trace matrix (fast weights) and a counter."""

    def __init__(self):
        super().__init__()
        self.drive, self.tau = nn.Linear(IN, HIDDEN), nn.Linear(IN, HIDDEN)
        self.U = nn.Parameter(torch.randn(HIDDEN, HIDDEN) / 3)

    def forward(self, x, state):
        h, trace, count = state
        rate = torch.exp(-nn.functional.softplus(self.tau(x)))
        new = torch.tanh(self.drive(x) + h @ self.U.T + torch.matmul(trace, h.unsqueeze(-1)).squeeze(-1))
        h = rate * h + (1 - rate) * new
        trace = 0.9 * trace + 0.1 * h.unsqueeze(2) * h.unsqueeze(1)
        return {"y": h, "even": (count == 2 * torch.floor(count / 2)).float(), "state": (h, trace, count + 1)}


class Mixed(nn.Module):
    """PyTorch's cells and a one-step layer inside a step, with an embedding of the token."""

    def __init__(self):
        super().__init__()
        self.embed, self.gru, self.lstm = nn.Embedding(9, IN), nn.GRUCell(IN, HIDDEN), nn.LSTMCell(HIDDEN, HIDDEN)
        self.top = nn.GRU(HIDDEN, 4, num_layers=2, batch_first=True)

    def forward(self, token, a, b, c):
        a = self.gru(self.embed(token), a)
        b = self.lstm(a, b)
        y, c = self.top(b[0].unsqueeze(1), c)
        return y.squeeze(1) + 1, a, b, c


def loop(module, x, states, results, output=0):
    """PyTorch's outputs, [batch, steps, ...]: ``results`` are the numbers of the states' next values."""
    seen = []
    leaves, spec = torch.utils._pytree.tree_flatten(states)
    for t in range(x.shape[1]):
        found = torch.utils._pytree.tree_leaves(module(x[:, t], *torch.utils._pytree.tree_unflatten(leaves, spec)))
        seen.append(found[output])
        leaves = [found[i] for i in results]
    return torch.stack(seen, 1).detach().numpy()


def run(program, x, name="output"):
    (fed,) = program.inputs
    return interpret.run(program, {fed: x.numpy()}).outputs[name]


@pytest.mark.parametrize(("batch", "steps"), [(1, 9), (4, 5), (2, 1)])
def test_custom_gru(batch, steps):
    torch.manual_seed(0)
    cell = CustomGRU()
    program = neurodeploy.load(cell, (torch.randn(1, IN), torch.randn(1, HIDDEN)), states={"h": 1})
    assert list(program.inputs) == ["x"] and list(program.outputs) == ["output"]
    (stage,) = program.stages
    assert [(s.name, s.type.shape) for s in stage.graph.states] == [("h", (HIDDEN,))]
    assert program.meta["import_check"]["max_abs_difference"] < 1e-5
    x = torch.randn(batch, steps, IN)
    np.testing.assert_allclose(run(program, x), loop(cell, x, [torch.zeros(batch, HIDDEN)], [1]), atol=1e-5)


def test_initial_state_and_names():
    cell, start = CustomGRU(), torch.randn(HIDDEN)
    example = {"x": torch.randn(2, IN), "h": torch.randn(2, HIDDEN)}
    program = neurodeploy.load(cell, example, states={"h": 1}, initial={"h": start}, outputs=["logits"], name="ear")
    assert program.name == "ear" and list(program.outputs) == ["logits"]
    x = torch.randn(3, 4, IN)
    expected = loop(cell, x, [start.expand(3, -1)], [1])
    np.testing.assert_allclose(run(program, x, "logits"), expected, atol=1e-5)
    zero = neurodeploy.load(cell, example, states={"h": 1}, check=False)
    assert np.abs(run(zero, x) - expected).max() > 1e-2


def test_many_states_of_many_shapes():
    cell = Liquid()
    state = (torch.zeros(2, HIDDEN), torch.zeros(2, HIDDEN, HIDDEN), torch.zeros(2, 1))
    names = ("state_0", "state_1", "state_2")
    program = neurodeploy.load(cell, (torch.randn(2, IN), state), states={"state": names})
    assert list(program.outputs) == ["y", "even"]
    assert [s.type.shape for s in program.stages[0].graph.states] == [(HIDDEN,), (HIDDEN, HIDDEN), (1,)]
    x = torch.randn(2, 8, IN)
    for output, name in ((0, "y"), (1, "even")):
        np.testing.assert_allclose(run(program, x, name), loop(cell, x, [state], [2, 3, 4], output), atol=1e-5)


def test_known_cells_inside():
    cell = Mixed()
    zeros = [torch.zeros(2, HIDDEN), (torch.zeros(2, HIDDEN), torch.zeros(2, HIDDEN)), torch.zeros(2, 2, 4)]
    example = (torch.tensor([0, 8]), *zeros)
    program = neurodeploy.load(cell, example, states={"a": 1, "b": (2, 3), "c": 4})
    calls = [v.op for v in program.stages[0].graph.values if v.body is not None]
    assert calls == ["gru", "lstm", "gru", "gru"]
    assert program.meta["import_check"]["max_abs_difference"] < 1e-5
    tokens = torch.randint(0, 9, (2, 7))
    np.testing.assert_allclose(run(program, tokens), loop(cell, tokens, zeros, [1, 2, 3, 4]), atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_pytorch_cells_need_no_states(kind, bias):
    cell = kind(IN, HIDDEN, bias=bias)
    program = neurodeploy.load(cell, torch.randn(1, IN))
    x, zeros = torch.randn(3, 6, IN), torch.zeros(3, HIDDEN)
    two = kind is nn.LSTMCell
    assert list(program.outputs) == (["h", "c"] if two else ["h"])
    expected = loop(cell, x, [(zeros, zeros)] if two else [zeros], [0, 1] if two else [0])
    np.testing.assert_allclose(run(program, x, "h"), expected, atol=1e-5)
    assert [v.op for v in program.stages[0].graph.values if v.body] == [
        {"RNNCell": "elman"}.get(kind.__name__, kind.__name__[:-4].lower())
    ]


def test_compiles_to_a_step():
    """The unnamed GRU goes on through the compiler: quantized, it still follows the float one."""
    cell = CustomGRU()
    program = neurodeploy.load(cell, (torch.randn(1, IN), torch.randn(1, HIDDEN)), states={"h": 1})
    x = torch.randn(20, 12, IN)
    built = neurodeploy.compile(program, "host", x.numpy())
    scores = built.run(x.numpy(), on="golden")
    expected = loop(cell, x, [torch.zeros(20, HIDDEN)], [1])
    assert np.abs(scores - expected).max() < 0.02 * np.abs(expected).max() + 0.01


PAIR = (torch.randn(2, IN), torch.randn(2, HIDDEN))
BROKEN = {
    "no such state": ({"states": {"q": 1}}, "CustomGRU: states= names 'q', which is no argument of forward. Known: h, x."),
    "no such result": (
        {"states": {"h": 2}}, "CustomGRU: states= takes 'h' from result 2; forward returns 2, numbered from 0. Count the tensors that forward "
        "returns, nested ones in order.",
    ),
    "no such name": ({"states": {"h": "next"}}, "CustomGRU: states= takes 'h' from the result 'next', and there is none. Known: output_0, output_1."),
    "other type": (
        {"states": {"h": 0}}, "CustomGRU: state 'h' is f32[6], but result 0, its next value, is f32[3]. states= maps an argument to the result "
        "that takes its place.",
    ),
    "no states": ({"states": {}}, "CustomGRU: states= names no state. For example states={'h': 1}."),
    "no inputs": ({"states": {"h": 1, "x": 1}}, "CustomGRU: every argument is a state; needed an input for each step."),
    "initial of nothing": ({"states": {"h": 1}, "initial": {"x": 0}}, "CustomGRU: initial= names 'x', which is no state."),
    "initial of a size": ({"states": {"h": 1}, "initial": {"h": np.zeros(3)}}, "CustomGRU: initial= gives [3] for state 'h'; needed [6]."),
    "outputs": (
        {"states": {"h": 1}, "outputs": ["a", "b"]},
        "CustomGRU: outputs= gives 2 names; there are 1 results that are no state's next value. Give one name each, all different.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken(name):
    options, message = BROKEN[name]
    with pytest.raises(ModelError) as caught:
        neurodeploy.load(CustomGRU(), PAIR, **options)
    assert str(caught.value) == message


def test_more_that_is_refused():
    lstm = nn.LSTMCell(IN, HIDDEN)
    with pytest.raises(
        ModelError, match=re.escape("LSTMCell: states= gives 1 for 'hx'; needed a tuple of 2, for hx_0, hx_1.")
    ):
        neurodeploy.load(lstm, (PAIR[0], (PAIR[1], PAIR[1])), states={"hx": 1})
    with pytest.raises(
        ModelError, match="CustomGRU: argument 'x' has no batch axis that can vary. A step takes x_t as"
    ):
        neurodeploy.load(CustomGRU(), (PAIR[0][0], PAIR[1][0]), states={"h": 1})
    message = "GRU: node gru (aten.gru): a recurrent layer in a step runs over more than one step, or backwards. Give it x_t.unsqueeze(1)"
    with pytest.raises(UnsupportedError, match=re.escape(message)):
        neurodeploy.load(
            nn.GRU(IN, HIDDEN, batch_first=True), (torch.randn(2, 3, IN), torch.randn(1, 2, HIDDEN)), states={"hx": 1}
        )
