"""Ordinary PyTorch modules that take whole sequences, for the tests of the importer."""

import torch
import torch.nn.functional as F
from torch import nn

IN, HIDDEN, CLASSES = 5, 6, 3


class Wrapped(nn.Module):
    """A module made of parts and of a function of (parts, inputs)."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = forward

    def forward(self, *args):
        return self.function(self, *args)


def classifier(layer, head=None, width=HIDDEN):
    return Wrapped(lambda m, x: m.fc(m.rnn(x)[0][:, -1]), rnn=layer, fc=head or nn.Linear(width, CLASSES))


class Learned(nn.Module):
    """A GRU whose initial state is learned."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(IN, HIDDEN, batch_first=True)
        self.h0 = nn.Parameter(torch.randn(1, 1, HIDDEN))

    def forward(self, x):
        y, h = self.gru(x, self.h0.expand(-1, x.size(0), -1).contiguous())
        return y, h[-1]


class Causal(nn.Module):
    """A causal convolution, batch normalisation and an embedding in front of an LSTM."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.conv = nn.Conv1d(4, IN, 3, dilation=2)
        self.norm = nn.BatchNorm1d(IN)
        self.lstm = nn.LSTM(IN, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, CLASSES)
        self.norm.running_mean, self.norm.running_var = torch.rand(IN), 0.5 + torch.rand(IN)

    def forward(self, tokens):
        x = self.embed(tokens).transpose(1, 2)
        x = torch.relu(self.norm(self.conv(F.pad(x, (4, 0))))).transpose(1, 2)
        y, (h, c) = self.lstm(x)
        return self.fc(h[-1]).softmax(-1), c.squeeze(0)


class Residual(nn.Module):
    """Two recurrent blocks with layer norm, residuals and dropout; classes from three poolings."""

    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(IN, HIDDEN)
        self.one, self.two = (nn.GRU(HIDDEN, HIDDEN, batch_first=True) for _ in range(2))
        self.norm = nn.LayerNorm(HIDDEN)
        self.head = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(3 * HIDDEN, 8), nn.ReLU(inplace=True), nn.Linear(8, CLASSES)
        )

    def forward(self, x):
        x = F.silu(self.inp(x))
        x = x + self.one(self.norm(x))[0]
        x = x + self.two(self.norm(x))[0]
        pooled = torch.cat([x.mean(dim=1), x.max(dim=1).values, x[:, -1]], dim=-1)
        return {"logits": self.head(pooled), "features": x}


class Seq2Vec(nn.Module):
    """Time first, a dense readout of every step through merged axes, a sum divided by the length."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(IN, HIDDEN, num_layers=2)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x):
        y, h = self.rnn(x)
        steps, batch, width = y.shape
        each = self.fc(y.reshape(steps * batch, width)).view(steps, batch, -1)
        return each, each.sum(0) / steps, h[0]


class TwoInputs(nn.Module):
    """A series, a static vector beside it and the initial states as inputs."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(IN + 2, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x, static, state):
        wide = static.unsqueeze(1).expand(-1, x.shape[1], -1)
        y, (h, c) = self.lstm(torch.cat([x, wide], dim=-1), state)
        return self.fc(y), h, c


def two_way(m, x):
    y, h = m.rnn(x)
    return m.fc(torch.cat([h[-2], h[-1]], dim=-1)), y


def both(m, x):
    y, (h, c) = m.rnn(x)
    return y, h, c


def activations(m, x):
    x = m.fc(x)
    return torch.stack(
        [
            F.leaky_relu(x, 0.2), F.elu(x), F.selu(x), F.gelu(x, approximate="tanh"), F.softplus(x, 2.0), F.hardsigmoid(x),
            F.hardswish(x), F.hardtanh(x), F.relu6(3 * x), F.mish(x), F.logsigmoid(x), F.softsign(x), F.celu(x, 1.5),
            torch.clamp(x, -0.5, 0.5), m.slope(x), x.abs().sqrt(), x**3, 1 / (1 + x * x), torch.exp(-x), x.log_softmax(-1),
            torch.where(x > 0.1, x, -x), torch.minimum(x, 0.5 - x), x.masked_fill(x <= 0, -1.0), torch.sign(x), F.rms_norm(x, (4,)),
            x.var(-1, keepdim=True).expand_as(x), (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-3),
        ],
        dim=-1,
    )  # fmt: skip


def moves(m, x):
    a, b = m.rnn(x)[0].chunk(2, dim=-1)
    c = torch.split(x, [2, 3], dim=2)[1].flip(-1)
    d = F.glu(m.fc(x), -1).unflatten(-1, (1, 2)).flatten(2)
    e = F.pad(x.permute(0, 2, 1), (0, 0, 1, 1)).permute(0, 2, 1).narrow(2, 1, 3)
    return torch.cat([a * b, c, d, e, x.index_select(2, torch.tensor([3, 0])), x[..., ::2]], dim=-1), x.sum((1, 2))


def modules():
    """name -> (module, example), the same at every call. None of the shapes that the tests use is the example's."""
    torch.manual_seed(0)
    return {
        "gru": (classifier(nn.GRU(IN, HIDDEN, batch_first=True)), torch.randn(2, 7, IN)),
        "gru batch of one": (classifier(nn.GRU(IN, HIDDEN, batch_first=True)), torch.randn(1, 7, IN)),
        "gru equal sizes": (classifier(nn.GRU(IN, HIDDEN, batch_first=True)), torch.randn(IN, IN, IN)),
        "gru no bias": (classifier(nn.GRU(IN, HIDDEN, bias=False, batch_first=True)), torch.randn(2, 7, IN)),
        "gru stacked": (classifier(nn.GRU(IN, HIDDEN, 3, batch_first=True, dropout=0.3)), torch.randn(2, 7, IN)),
        "gru two ways": (
            Wrapped(two_way, rnn=nn.GRU(IN, HIDDEN, batch_first=True, bidirectional=True), fc=nn.Linear(2 * HIDDEN, CLASSES)),
            torch.randn(2, 7, IN),
        ),
        "lstm": (classifier(nn.LSTM(IN, HIDDEN, batch_first=True)), torch.randn(2, 7, IN)),
        "lstm no bias": (classifier(nn.LSTM(IN, HIDDEN, bias=False, batch_first=True)), torch.randn(2, 7, IN)),
        "lstm stacked two ways": (
            Wrapped(both, rnn=nn.LSTM(IN, HIDDEN, 2, batch_first=True, bidirectional=True)), torch.randn(2, 7, IN),
        ),
        "lstm projected": (Wrapped(both, rnn=nn.LSTM(IN, HIDDEN, 2, batch_first=True, proj_size=4)), torch.randn(2, 7, IN)),
        "lstm projected two ways": (
            Wrapped(both, rnn=nn.LSTM(IN, HIDDEN, bias=False, bidirectional=True, proj_size=4)), torch.randn(7, 2, IN),
        ),
        "rnn tanh": (classifier(nn.RNN(IN, HIDDEN, batch_first=True)), torch.randn(2, 7, IN)),
        "rnn relu": (classifier(nn.RNN(IN, HIDDEN, nonlinearity="relu", batch_first=True)), torch.randn(2, 7, IN)),
        "time first": (Seq2Vec(), torch.randn(7, 1, IN)),
        "no batch axis": (Wrapped(lambda m, x: m.rnn(x)[0].relu(), rnn=nn.GRU(IN, HIDDEN)), torch.randn(7, IN)),
        "learned start": (Learned(), torch.randn(2, 7, IN)),
        "embedding, convolution": (Causal(), torch.arange(18).reshape(2, 9) % 9),
        "residual, pooling": (Residual(), torch.randn(2, 7, IN)),
        "several inputs": (
            TwoInputs(),
            (torch.randn(1, 7, IN), torch.randn(1, 2), (torch.randn(1, 1, HIDDEN), torch.randn(1, 1, HIDDEN))),
        ),
        "activations": (Wrapped(activations, fc=nn.Linear(IN, 4), slope=nn.PReLU()), torch.randn(2, 7, IN)),
        "moves": (Wrapped(moves, rnn=nn.GRU(IN, 4, batch_first=True), fc=nn.Linear(IN, 4)), torch.randn(2, 7, IN)),
        "pooling layers": (
            Wrapped(lambda m, x: m.fc(torch.cat([m.mean(x), m.max(x)], 1).squeeze(-1)), mean=nn.AdaptiveAvgPool1d(1),
                    max=nn.AdaptiveMaxPool1d(1), fc=nn.Linear(2 * IN, CLASSES), conv=nn.Conv1d(1, 1, 1)),
            torch.randn(2, IN, 7),
        ),
        "temporal convolutions": (
            Wrapped(lambda m, x: m.b(F.relu(m.a(x)[..., :-2]))[..., :-4].amax(-1), a=nn.Conv1d(IN, 4, 3, padding=2),
                    b=nn.Conv1d(4, 4, 3, padding=4, dilation=2, groups=2)),
            torch.randn(2, IN, 9),
        ),
        "one-hot text": (
            Wrapped(lambda m, i: m.fc(m.rnn(F.one_hot(i, 9).float())[0]), rnn=nn.GRU(9, HIDDEN, batch_first=True), fc=nn.Linear(HIDDEN, 9)),
            torch.arange(14).reshape(2, 7) % 9,
        ),
        "argmax of every step": (
            Wrapped(lambda m, x: m.rnn(x)[0].argmax(-1), rnn=nn.LSTM(IN, HIDDEN, batch_first=True)), torch.randn(2, 7, IN),
        ),
        "weight norm": (
            classifier(nn.GRU(IN, HIDDEN, batch_first=True), nn.utils.parametrizations.weight_norm(nn.Linear(HIDDEN, CLASSES))),
            torch.randn(2, 7, IN),
        ),
        "double precision": (classifier(nn.GRU(IN, HIDDEN, batch_first=True)).double(), torch.randn(2, 7, IN).double()),
    }  # fmt: skip
