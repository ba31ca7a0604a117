"""Elman, GRU and LSTM classifiers of JapaneseVowels, trained with one recipe: what ``spiking_sigma_delta.py`` converts.

The recipe is that of ``examples/train_gru.py``. The training set's mean and standard deviation are folded into the
input weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: Name -> torch's layer, units.
NETWORKS: dict[str, tuple[Any, int]] = {
    "Elman(48)": (nn.RNN, 48),
    "GRU(32)": (nn.GRU, 32),
    "LSTM(32)": (nn.LSTM, 32),
}


class Classifier(nn.Module):
    """12 cepstrum coefficients a step -> a recurrent layer -> scores of the 9 speakers after the last step."""

    def __init__(self, layer: Any, units: int) -> None:
        super().__init__()
        self.rnn = layer(12, units, batch_first=True)
        self.fc = nn.Linear(units, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])

    def scores(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The same for padded sequences of different lengths."""
        y = self.rnn(x)[0]
        return self.fc(y[torch.arange(len(y)), lengths - 1])


def train(name: str, seed: int, x: Tensor, lengths: Tensor, y: Tensor, epochs: int = 60) -> Classifier:
    """A network trained on ``x`` [samples, steps, 12]; it takes the inputs as they are."""
    torch.manual_seed(seed)
    valid = torch.arange(x.shape[1])[None] < lengths[:, None]
    mean, std = x[valid].mean(0), x[valid].std(0)
    normal = (x - mean) / std
    model = Classifier(*NETWORKS[name])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * -(-len(x) // 30))
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(30):
            # A random earlier end makes every step's state useful, as a stream needs it.
            ends = torch.maximum(lengths[batch] - torch.randint(0, 4, (len(batch),)), torch.tensor(4))
            noisy = normal[batch] + 0.15 * torch.randn_like(normal[batch])
            loss = nn.functional.cross_entropy(model.scores(noisy, ends), y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        weights = dict(model.rnn.named_parameters())
        weights["weight_ih_l0"].div_(std)
        weights["bias_ih_l0"].sub_(weights["weight_ih_l0"] @ mean)
    return model.eval()
