"""Trains the leaky networks that the spiking benchmarks convert, and keeps them in a folder of their own.

64 units, ``h' = h + leak (f(W x + U h + b) - h)`` with ``leak = 1 - exp(-10 ms / 40 ms)``, f = tanh or relu, and a
linear readout after the last step. Trained by backpropagation through time in PyTorch; nothing is random but the seed.

- ``vowels``: JapaneseVowels as shipped, 270 training and 370 test samples of 7 to 29 steps.
- ``digits``: scikit-learn's 1,797 digits, read row by row: 8 steps of 8 pixels. In the order of the file, in which
  writers follow each other: the first 1,297 for training, the last 500 test.

Of the training samples every fifth is kept from training and calibrates (54; 259).
They are kept from training because a network knows its training samples too well: there its margins are
wider than they will be on others, and a conversion chosen on them loses more than it seems to.

    python -m benchmarks.spiking_networks [--seeds 5]
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.data import Data
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "spiking-networks"
TASKS = ("vowels", "digits")
ACTIVATIONS = ("tanh", "relu")
UNITS = 64
STEP_MS, TAU_MS = 10.0, 40.0
LEAK = float(-np.expm1(-STEP_MS / TAU_MS))
SPLITS = ("train", "calibrate", "test")
DIGITS_TEST = 1297
#: Every such training sample calibrates.
CALIBRATE = 5


@dataclass(frozen=True)
class Recipe:
    """How a task is trained: epochs, batch, learning rate, weight decay, noise on normalised inputs."""

    epochs: int
    batch: int
    rate: float
    decay: float
    noise: float


RECIPES = {
    "vowels": Recipe(80, 30, 5e-3, 1e-2, 0.3),
    "digits": Recipe(60, 64, 5e-3, 1e-2, 0.3),
}


def load(task: str, split: str) -> Data:
    """The samples of a split of :data:`SPLITS`: x [n, steps, inputs], lengths, labels."""
    if task == "vowels":
        with np.load(ROOT / "examples" / "data" / f"japanese_vowels_{'test' if split == 'test' else 'train'}.npz") as f:
            x, lengths, y = f["x"], f["lengths"], f["y"]
    else:
        from sklearn.datasets import load_digits

        found: Any = load_digits()
        part = slice(DIGITS_TEST, None) if split == "test" else slice(None, DIGITS_TEST)
        x, y = found.images[part].astype(np.float32), found.target[part]
        lengths = np.full(len(x), x.shape[1])
    held = np.arange(len(x)) % CALIBRATE == CALIBRATE - 1
    rows = {"train": ~held, "calibrate": held, "test": np.ones(len(x), bool)}[split]
    return Data({"x": x[rows]}, lengths[rows], y[rows].astype(np.int64))


def network(task: str, activation: str, seed: int, cache: Path = CACHE) -> Program:
    """The trained network, from the cache where it is there."""
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    path = cache / f"{task}-{activation}-{seed}-{key}.npz"
    if not path.exists():
        arrays = train(task, activation, seed)
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(path)
    with np.load(path) as file:
        return program_of(f"{task}_{activation}_{seed}", activation, dict(file))


def program_of(name: str, activation: str, arrays: dict[str, np.ndarray]) -> Program:
    """A leaky layer and its readout as a program of the IR."""
    b = Builder()
    x, h = b.input("x", (arrays["W"].shape[1],)), b.state("h", arrays["bias"].shape)
    weights = [b.param(key, arrays[key]) for key in ("W", "U", "bias", "leak")]
    (new,) = b.call("leaky", x, h, *weights, activation=activation)
    b.next(h, new)
    (y,) = b.call("affine", b.param("V", arrays["V"]), new, b.param("c", arrays["c"]))
    b.output("y", y)
    stage = Stage("rnn", b.graph(), inputs_from={"x": Ref("x")})
    return Program(name, {"x": ProgramInput(stage.graph.inputs["x"])}, (stage,), {"y": Ref("y", "rnn", "last")})


def train(task: str, activation: str, seed: int) -> dict[str, np.ndarray]:
    """Weights after training, the inputs' normalisation folded in."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    recipe, data = RECIPES[task], load(task, "train")
    assert data.lengths is not None and data.labels is not None
    x, lengths, y = (torch.from_numpy(np.asarray(a)) for a in (data.inputs["x"], data.lengths, data.labels))
    valid = torch.arange(x.shape[1])[None] < lengths[:, None]
    mean, std = x[valid].mean(0), x[valid].std(0).clamp(min=0.1 * float(x[valid].std()))
    normal = (x - mean) / std
    W = torch.nn.Linear(x.shape[2], UNITS)
    U = torch.nn.Linear(UNITS, UNITS, bias=False)
    V = torch.nn.Linear(UNITS, int(y.max()) + 1)
    f = torch.tanh if activation == "tanh" else torch.relu
    parameters = [*W.parameters(), *U.parameters(), *V.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=recipe.decay)
    steps = -(-len(x) // recipe.batch) * recipe.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(x)).split(recipe.batch):
            fed = W(normal[batch] + recipe.noise * torch.randn_like(normal[batch]))
            h, states = torch.zeros(len(batch), UNITS), []
            for t in range(x.shape[1]):
                h = h + LEAK * (f(fed[:, t] + U(h)) - h)
                states.append(h)
            last = torch.stack(states, 1)[torch.arange(len(batch)), lengths[batch] - 1]
            loss = torch.nn.functional.cross_entropy(V(last), y[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        folded = W.weight / std
        bias = W.bias - folded @ mean
    found = {"W": folded, "U": U.weight, "bias": bias, "V": V.weight, "c": V.bias}
    arrays = {key: value.detach().numpy().astype(np.float32) for key, value in found.items()}
    return {**arrays, "leak": np.full(UNITS, LEAK, np.float32)}


def accuracy(program: Program, data: Data) -> float:
    """Share of samples whose label the program gives, in %."""
    from neurodeploy.ir import interpret

    y = interpret.run(program, dict(data.inputs), data.lengths).outputs["y"]
    return 100 * float((y.argmax(axis=1) == data.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the leaky networks that the spiking benchmarks convert.")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    for task in TASKS:
        for activation in ACTIVATIONS:
            for seed in range(args.seeds):
                program = network(task, activation, seed)
                shown = {split: accuracy(program, load(task, split)) for split in SPLITS}
                figures = ", ".join(f"{split} {value:.2f} %" for split, value in shown.items())
                print(f"{task} {activation} seed {seed}: {figures}", flush=True)


if __name__ == "__main__":
    main()
