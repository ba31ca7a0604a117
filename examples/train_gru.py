"""Train a GRU classifier on JapaneseVowels and write ``models/vowels_gru.onnx``.

Needs ``pip install 'neurodeploy[train]'``. Trains seeds 0 to 4, prints the test accuracy of each, and keeps seed 0,
which is not chosen for its result. The inputs are normalised inside the network, by the training set's mean and
standard deviation folded into the input weights, so that the deployed model takes the raw coefficients.

    python examples/train_gru.py [--seeds 5] [--epochs 60]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from vowels import CLASSES, load

HERE = Path(__file__).parent


class Classifier(torch.nn.Module):
    """12 cepstrum coefficients a step -> GRU(32) -> scores of the 9 speakers after the last step."""

    def __init__(self, units: int = 32) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(12, units, batch_first=True)
        self.fc = torch.nn.Linear(units, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.gru(x)
        return self.fc(y[:, -1])

    def scores(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The same for padded sequences of different lengths."""
        y, _ = self.gru(x)
        return self.fc(y[torch.arange(len(y)), lengths - 1])


def fold_normalisation(model: Classifier, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Make ``model(x)`` what ``model((x - mean) / std)`` was."""
    with torch.no_grad():
        weights = dict(model.gru.named_parameters())
        weights["weight_ih_l0"].div_(std)
        weights["bias_ih_l0"].sub_(weights["weight_ih_l0"] @ mean)


def train(seed: int, epochs: int, kind: type[Classifier] = Classifier) -> tuple[Classifier, float]:
    """One training run; returns the model and its accuracy on the test set."""
    torch.manual_seed(seed)
    x, lengths, y = (torch.from_numpy(a) for a in load("train"))
    valid = torch.arange(x.shape[1])[None] < lengths[:, None]
    mean, std = x[valid].mean(0), x[valid].std(0)
    normal = (x - mean) / std
    model = kind()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * 9)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for batch in order.split(30):
            # A random earlier end makes every step's state useful, as a stream needs it.
            ends = torch.maximum(lengths[batch] - torch.randint(0, 4, (len(batch),)), torch.tensor(4))
            noisy = normal[batch] + 0.15 * torch.randn_like(normal[batch])
            loss = torch.nn.functional.cross_entropy(model.scores(noisy, ends), y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    fold_normalisation(model, mean, std)
    x, lengths, y = (torch.from_numpy(a) for a in load("test"))
    with torch.no_grad():
        accuracy = (model.scores(x, lengths).argmax(1) == y).float().mean().item()
    return model.eval(), accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(args.seeds):
        model, accuracy = train(seed, args.epochs)
        print(f"seed {seed}: test accuracy {100 * accuracy:.1f} %", flush=True)
        if seed == 0:
            export(model, HERE / "models" / "vowels_gru.onnx")


def export(model: Classifier, path: Path) -> None:
    """Write ONNX with batch and time left open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(1, 20, 12),),
            str(path),
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes={"x": {0: "batch", 1: "time"}, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    print(f"wrote {path.relative_to(HERE.parent)} ({path.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
