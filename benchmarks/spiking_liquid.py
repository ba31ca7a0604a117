"""Liquid-state machines of 200 neurons: accuracy and spikes beside the echo state networks that they are made of.

Reservoirs of 100 tanh units become 200 neurons, one for each sign. JapaneseVowels: the networks of
``examples/train_esn.py``. Digits (scikit-learn), read row by row, 8 steps of 8 pixels: 1,437 training and 360 test
samples, drawn stratified with random_state 0; also in the file's order, where other people wrote the last 500. Leak,
input scale and ridge of the digits' reservoirs are chosen by five-fold cross-validation of the *echo state network* on
the training samples; the liquid's own constants by :mod:`neurodeploy.spiking.liquid_fit` on the same. The float column
has a readout with a penalty chosen likewise. p: exact McNemar test over the test samples.

    python -m benchmarks.spiking_liquid [--seeds 5]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time

import numpy as np

import neurodeploy
from benchmarks.precision import EXAMPLES
from benchmarks.spiking_networks import DIGITS_TEST, ROOT
from neurodeploy.cli.output import table
from neurodeploy.data import Data
from neurodeploy.ir.build import Builder
from neurodeploy.ir.fixed import quantize
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.report.metrics import mcnemar
from neurodeploy.spiking.net import SpikingNet
from neurodeploy.spiking.net_program import input_type
from neurodeploy.spiking.reference import simulate

UNITS = 100
LEAKS, SCALES = (0.3, 0.5, 0.8), (0.3, 0.6, 1.0)
PENALTIES = 10.0 ** np.arange(-4, 2.1, 0.5)
FOLDS = 5


def split(task: str) -> tuple[Data, Data]:
    """Training and test samples."""
    if task == "vowels":
        parts = [np.load(EXAMPLES / "data" / f"japanese_vowels_{part}.npz") for part in ("train", "test")]
        train, test = (Data({"x": p["x"]}, p["lengths"], p["y"].astype(np.int64)) for p in parts)
        return train, test
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    x, y = (found.images / 16).astype(np.float32), found.target.astype(np.int64)
    if task == "digits, other writers":
        parts = x[:DIGITS_TEST], x[DIGITS_TEST:], y[:DIGITS_TEST], y[DIGITS_TEST:]
    else:
        parts = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    a, b, y_a, y_b = parts
    return Data({"x": a}, np.full(len(a), 8), y_a), Data({"x": b}, np.full(len(b), 8), y_b)


def last_states(reservoir: object, data: Data) -> np.ndarray:
    """States after each sample's last step, and a 1."""
    return reservoir.last_states(data.inputs["x"], data.lengths)  # type: ignore[attr-defined]


def readout(states: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression onto one-hot labels, the bias free."""
    square = penalty * np.diag(np.r_[np.ones(states.shape[1] - 1), 0.0])
    return np.linalg.solve(states.T @ states + square, states.T @ np.eye(y.max() + 1)[y])


def cross_validated(states: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """Accuracy on the folds left out."""
    fold = np.arange(len(y)) % FOLDS
    right = [((states[fold == k] @ readout(states[fold != k], y[fold != k], penalty)).argmax(1) == y[fold == k]).sum()
             for k in range(FOLDS)]  # fmt: skip
    return float(np.sum(right) / len(y))


def network(task: str, seed: int, train: Data) -> Program:
    """The echo state network of a task and seed, as a program."""
    sys.path.insert(0, str(ROOT / "examples"))
    import train_esn

    if task == "vowels":
        chosen, _, _ = train_esn.train(seed, UNITS)
    else:
        mean = np.full(8, train.inputs["x"].mean())
        std = np.full(8, train.inputs["x"].std())
        made = [train_esn.Reservoir.random(UNITS, leak, scale, mean, std, seed)
                for leak, scale in itertools.product(LEAKS, SCALES)]  # fmt: skip
        chosen = max(made, key=lambda r: max(
            cross_validated(last_states(r, train), train.labels, p) for p in (0.01, 0.1, 1.0)))  # fmt: skip
    states = last_states(chosen, train)
    best = max(PENALTIES, key=lambda p: (cross_validated(states, train.labels, p), p))
    weights = readout(states, train.labels, best)
    b = Builder()
    x, h = b.input("x", (chosen.W_in.shape[1],)), b.state("h", (UNITS,))
    parts = [b.param(n, a) for n, a in (("W", chosen.W_in), ("U", chosen.W), ("bias", chosen.bias))]
    (new,) = b.call("leaky", x, h, *parts, b.const(float(chosen.leak)))
    b.next(h, new)
    (y,) = b.call("affine", b.param("V", weights[:-1].T), new, b.param("c", weights[-1]))
    b.output("y", y)
    stage = Stage("reservoir", b.graph(), inputs_from={"x": Ref("x")})
    inputs = {"x": ProgramInput(stage.graph.inputs["x"])}
    return Program(f"esn_{seed}", inputs, (stage,), {"y": Ref("y", "reservoir", "last")})


def row(task: str, seed: int, train: Data, test: Data) -> tuple[list[str], float, float, float]:
    """One line of the table, and accuracies float and spiking in %, spikes."""
    from neurodeploy.ir import interpret

    program = network(task, seed, train)
    plain = interpret.run(program, dict(test.inputs), test.lengths).outputs["y"].argmax(axis=1) == test.labels
    start = time.perf_counter()
    built = neurodeploy.compile(program, "brian2-lsm", train)
    took = time.perf_counter() - start
    net = SpikingNet.from_bytes(built.artifact.files["net.npz"])
    active = np.arange(test.inputs["x"].shape[1]) < np.asarray(test.lengths)[:, None]
    activity = simulate(net, quantize(test.inputs["x"], input_type(net)), active)
    scores = net.scores(activity.traces)[np.arange(len(active)), np.asarray(test.lengths) - 1]
    right = scores.argmax(axis=1) == test.labels
    fit = built.artifact.manifest["layout"]["fit"]
    chosen = ", ".join(f"{k} {fit[k]:.3g}" for k in ("ticks", "gain", "membrane", "penalty")) + f", {fit['traces']}"
    words = [str(seed), f"{100 * plain.mean():.2f}", f"{100 * right.mean():.2f}", f"{mcnemar(plain, right):.2f}",
             f"{activity.spikes:,.0f}", str(net.neurons), chosen, f"{took:.0f}"]  # fmt: skip
    return words, 100 * float(plain.mean()), 100 * float(right.mean()), activity.spikes


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Liquid-state machines beside echo state networks.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="*", default=["vowels", "digits", "digits, other writers"])
    args = parser.parse_args()
    head = ("seed", "float, %", "liquid, %", "p", "spikes an inference", "neurons", "chosen", "compile, s")
    for task in args.tasks:
        train, test = split(task)
        lines, figures = [], []
        for seed in range(args.seeds):
            words, *found = row(task, seed, train, test)
            lines.append(words)
            figures.append(found)
            print(task, *words, flush=True)
        mean = np.mean(figures, axis=0)
        lines.append(["mean", f"{mean[0]:.2f}", f"{mean[1]:.2f}", "", f"{mean[2]:,.0f}", "", "", ""])
        table(f"{task} ({len(test.labels)} test samples; simulated)", head, lines)


if __name__ == "__main__":
    main()
