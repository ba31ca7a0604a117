"""Train an echo state network on JapaneseVowels and write ``models/vowels_esn.npz``.

Needs NumPy only. A fixed random reservoir of leaky tanh units, and a linear readout of its last state fitted by ridge
regression (Jaeger 2001). Leak and input scale are chosen by five-fold cross-validation on the training set. Prints the
test accuracy of seeds 0 to 4 and keeps seed 0, which is not chosen for its result.

    python examples/train_esn.py [--units 100]
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vowels import CLASSES, load

HERE = Path(__file__).parent
LEAKS = (0.1, 0.2, 0.3)
INPUT_SCALES = (0.1, 0.3)
RIDGE = 1.0  # large enough that readout weights do not cancel each other, which no noisy device could hold
FOLDS = 5


@dataclass
class Reservoir:
    """``h' = (1 - leak) h + leak tanh(W_in x + W h + bias)``."""

    W_in: np.ndarray
    W: np.ndarray
    bias: np.ndarray
    leak: float

    @classmethod
    def random(cls, units: int, leak: float, scale: float, mean: np.ndarray, std: np.ndarray, seed: int) -> Reservoir:
        """One in ten weights, spectral radius 0.9; the inputs' normalisation folded into W_in and bias."""
        rng = np.random.default_rng(seed)
        W = rng.normal(size=(units, units)) * (rng.random((units, units)) < 0.1)
        W *= 0.9 / np.abs(np.linalg.eigvals(W)).max()
        W_in = rng.uniform(-scale, scale, (units, len(mean))) / std
        return cls(W_in, W, rng.uniform(-0.2, 0.2, units) - W_in @ mean, leak)

    def last_states(self, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """States after each sample's last step, with a 1 appended: ``[n, units + 1]``."""
        h = np.zeros((len(x), len(self.bias)))
        for t in range(x.shape[1]):
            new = h + self.leak * (np.tanh(x[:, t] @ self.W_in.T + h @ self.W.T + self.bias) - h)
            h = np.where((t < lengths)[:, None], new, h)
        return np.c_[h, np.ones(len(h))]


def fit(states: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ridge regression onto one-hot labels, the bias not penalised: ``[units + 1, classes]``."""
    penalty = RIDGE * np.diag(np.r_[np.ones(states.shape[1] - 1), 0.0])
    return np.linalg.solve(states.T @ states + penalty, states.T @ np.eye(CLASSES)[y])


def accuracy(states: np.ndarray, readout: np.ndarray, y: np.ndarray) -> float:
    return float(((states @ readout).argmax(1) == y).mean())


def cross_validated(states: np.ndarray, y: np.ndarray) -> float:
    fold = np.arange(len(y)) % FOLDS
    return float(
        np.mean([accuracy(states[fold == k], fit(states[fold != k], y[fold != k]), y[fold == k]) for k in range(FOLDS)])
    )


def train(seed: int, units: int = 100) -> tuple[Reservoir, np.ndarray, float]:
    """The reservoir of a seed with the best leak and input scale, its readout, and the accuracy on the test set."""
    x, lengths, y = load("train")
    x_test, lengths_test, y_test = load("test")
    valid = np.arange(x.shape[1])[None] < lengths[:, None]
    mean, std = x[valid].mean(0), x[valid].std(0)
    candidates = [
        Reservoir.random(units, leak, scale, mean, std, seed) for leak, scale in itertools.product(LEAKS, INPUT_SCALES)
    ]
    best = max(candidates, key=lambda r: cross_validated(r.last_states(x, lengths), y))
    readout = fit(best.last_states(x, lengths), y)
    return best, readout, accuracy(best.last_states(x_test, lengths_test), readout, y_test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=100)
    args = parser.parse_args()
    for seed in range(5):
        best, readout, test = train(seed, args.units)
        print(f"seed {seed}: leak {best.leak}, test accuracy {100 * test:.1f} %", flush=True)
        if seed == 0:
            path = HERE / "models" / "vowels_esn.npz"
            save(best, readout, path)
            print(f"wrote {path.relative_to(HERE.parent)} ({path.stat().st_size} bytes)")


def save(reservoir: Reservoir, readout: np.ndarray, path: Path) -> None:
    """Write the arrays that ``neurodeploy.load`` takes for an echo state network."""
    arrays = {
        "W_in": reservoir.W_in,
        "W": reservoir.W,
        "bias": reservoir.bias,
        "leak": np.array(reservoir.leak),
        "W_out": readout[:-1].T,
        "b_out": readout[-1],
    }
    np.savez_compressed(path, activation=np.array("tanh"), **{k: v.astype(np.float32) for k, v in arrays.items()})


if __name__ == "__main__":
    main()
