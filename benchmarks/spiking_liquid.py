"""Echo state networks and their liquid-state machines of 200 neurons: accuracy, spikes, and what the fit chose.

Reservoirs of leaky tanh units, one weight in ten, spectral radius 0.9, random by seed; leak and input scale chosen by
cross-validation on the training set. Their float readout is fitted exactly as the liquid's is, which is the baseline:
ridge regression, penalty by ten-fold cross-validation. Two liquids of 200 neurons are made of reservoirs of their own:

- ``pairs``: 100 units, a neuron for the positive and one for the negative part of each;
- ``single``: 199 units, a neuron each, and one neuron that always fires.

Tasks: ``vowels``, JapaneseVowels as shipped (270 training and 370 test samples of 7 to 29 steps), and ``digits``,
scikit-learn's 1,797 digits read row by row (8 steps of 8 pixels in 0..1): 1,437 for training and 360 for the test, drawn
with the same share of each class by ``train_test_split(test_size=360, stratify=y, random_state=0)``. The test sets are
used once, for the figures printed. p: exact McNemar test of the liquid against its own reservoir, all seeds together.

    python -m benchmarks.spiking_liquid [--seeds 5] [--tasks vowels digits] [--variants]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy import hardware
from neurodeploy.data import Data
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.report.metrics import mcnemar
from neurodeploy.spiking import convert, liquid_fit, reservoir
from neurodeploy.spiking.liquid_readout import Ridge, best_penalty, cross_validated, task_of

DATA = Path(__file__).parents[1] / "examples" / "data"
LEAKS, SCALES = (0.1, 0.2, 0.4, 0.7), (0.1, 0.3, 0.6)
SIZES = {"pairs": 100, "single": 199}
#: What is changed one at a time on the pairs, with ``--variants``.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "4 ticks": {"ticks": 4},
    "16 ticks": {"ticks": 16},
    "trace of the state": {"traces": "state"},
    "counts": {"traces": "count"},
    "no delay": {"delay": 1},
    "inhibition twice as slow": {"inhibitory_tau": 5.0},
    "Dale's law, 80 % excite": {"excitatory": 0.8},
    "Dale's law, 50 % excite": {"excitatory": 0.5},
}


@dataclass(frozen=True)
class Result:
    """Which test samples were right, float and liquid; mean spikes a test sample; what the fit chose."""

    plain: np.ndarray
    right: np.ndarray
    spikes: float
    fit: Mapping[str, Any]
    figures: Mapping[str, float]


def load(task: str) -> tuple[Data, Data]:
    """Training and test samples."""
    if task == "vowels":
        parts = []
        for split in ("train", "test"):
            with np.load(DATA / f"japanese_vowels_{split}.npz") as f:
                parts.append(Data({"x": f["x"]}, f["lengths"], f["y"]))
        return parts[0], parts[1]
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)
    a, b, y_a, y_b = train_test_split(x, digits.target, test_size=360, stratify=digits.target, random_state=0)
    return tuple(Data({"x": x}, np.full(len(x), 8), y) for x, y in ((a, y_a), (b, y_b)))


def untrained(data: Data, units: int, leak: float, scale: float, seed: int) -> Program:
    """A random reservoir for the inputs of ``data``, whose mean and spread are folded into its weights."""
    rng = np.random.default_rng(seed)
    x = data.inputs["x"][running(data)]
    spread = x.std(axis=0)
    spread = np.where(spread > 0.1 * spread.max(), spread, 0.1 * spread.max())
    U = rng.normal(size=(units, units)) * (rng.random((units, units)) < 0.1)
    U *= 0.9 / np.abs(np.linalg.eigvals(U)).max()
    W = rng.uniform(-scale, scale, (units, x.shape[1])) / spread
    bias = rng.uniform(-0.2, 0.2, units) - W @ x.mean(axis=0)
    classes = int(np.max(data.labels)) + 1
    return _program(W, U, bias, leak, np.zeros((classes, units)), np.zeros(classes))


def _program(
    W: np.ndarray, U: np.ndarray, bias: np.ndarray, leak: float, V: np.ndarray, c: np.ndarray
) -> Program:  # fmt: skip
    b = Builder()
    x, h = b.input("x", (W.shape[1],)), b.state("h", (len(bias),))
    weights = [b.param(n, np.asarray(a, np.float32)) for n, a in
               (("W", W), ("U", U), ("bias", bias), ("leak", leak), ("V", V), ("c", c))]  # fmt: skip
    (new,) = b.call("leaky", x, h, *weights[:4], activation="tanh")
    b.next(h, new)
    (y,) = b.call("affine", weights[4], new, weights[5])
    b.output("y", y)
    stage = Stage("rnn", b.graph(), inputs_from={"x": Ref("x")})
    return Program("esn", {"x": ProgramInput(stage.graph.inputs["x"])}, (stage,), {"y": Ref("y", "rnn", "last")})


def running(data: Data) -> np.ndarray:
    """Which frames run, ``[batch, frames]``."""
    assert data.lengths is not None
    return np.arange(data.inputs["x"].shape[1]) < data.lengths[:, None]


def last_states(program: Program, data: Data) -> np.ndarray:
    """The reservoir's states after each sample's last step."""
    seen = reservoir.observe(reservoir.find(program), data.inputs["x"].astype(np.float64), running(data))
    return seen.h[np.cumsum(data.lengths) - 1]


def trained(train: Data, units: int, seed: int) -> tuple[Program, str]:
    """The reservoir whose leak and input scale do best in cross-validation, with its readout; the choice in words."""
    assert train.labels is not None
    classes = int(train.labels.max()) + 1
    task = task_of(train.labels, np.zeros(0), running(train), classes, False)
    found = []
    for leak, scale in itertools.product(LEAKS, SCALES):
        program = untrained(train, units, leak, scale, seed)
        states = last_states(program, train)
        penalty, score = best_penalty(cross_validated(states, task))
        found.append((score, penalty, leak, scale, program, states))
    score, penalty, leak, scale, program, states = max(found, key=lambda entry: entry[0])
    V, c = Ridge.of(states, task.targets).weights(penalty)
    r = reservoir.find(program)
    return _program(r.W, r.U, r.bias, leak, V, c), f"leak {leak:g}, input {scale:g}"


def measure(program: Program, train: Data, test: Data, options: Mapping[str, Any]) -> Result:
    """Convert a trained reservoir on training data; both on the test set."""
    assert test.labels is not None and test.lengths is not None
    made = convert.convert(
        "liquid-state-machine", program, hardware.find("brian2-lsm"), train, lambda _: None, options  # type: ignore[arg-type]
    )  # fmt: skip
    assert made.net is not None
    params = program.stages[0].graph.params
    plain = last_states(program, test) @ params["V"].data.T + params["c"].data
    activity = liquid_fit.run(made.net, test.inputs["x"], running(test))
    scores = made.net.scores(activity.traces)[np.arange(len(test.labels)), test.lengths - 1]
    return Result(
        plain.argmax(axis=1) == test.labels, scores.argmax(axis=1) == test.labels, activity.spikes,
        made.layout["fit"], {figure.name: float(figure.value or 0) for figure in made.figures},
    )  # fmt: skip


def table(task: str, code: str, seeds: int) -> None:
    """One row a seed, and the mean."""
    train, test = load(task)
    print(f"\n{task}, {code} ({SIZES[code]} tanh units, 200 neurons), test accuracy in %\n")
    print("| seed | reservoir | float | liquid | spikes | ticks | gain | membrane | readout sees | penalty | state error % |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    results = []
    for seed in range(seeds):
        program, words = trained(train, SIZES[code], seed)
        found = measure(program, train, test, {"neurons": 200})
        results.append(found)
        fit = found.fit
        print(f"| {seed} | {words} | {100 * found.plain.mean():.2f} | {100 * found.right.mean():.2f} | {found.spikes:,.0f} "
              f"| {fit['ticks']} | {fit['gain']:g} | {fit['membrane']:g} | {fit['traces']} | {fit['penalty']:.1e} "
              f"| {found.figures['state error']:.0f} |", flush=True)  # fmt: skip
    print(_mean("mean", results))


def _mean(name: str, results: list[Result]) -> str:
    plain, right = np.concatenate([r.plain for r in results]), np.concatenate([r.right for r in results])
    return (f"| {name} | | {100 * plain.mean():.2f} | {100 * right.mean():.2f} | {np.mean([r.spikes for r in results]):,.0f} "
            f"| p = {mcnemar(right, plain):.2g} |")  # fmt: skip


def variants(task: str, seeds: int) -> None:
    """What each option costs: means over the seeds."""
    train, test = load(task)
    print(f"\n{task}, pairs, one thing changed: means over {seeds} seeds, accuracy of each seed\n")
    print("| | | float | liquid | spikes | p | each seed | currents lost to Dale's law, % |")
    print("|---|---|---|---|---|---|---|---|")
    programs = [trained(train, SIZES["pairs"], seed)[0] for seed in range(seeds)]
    for name, options in VARIANTS.items():
        results = [measure(program, train, test, options) for program in programs]
        each = " ".join(f"{100 * r.right.mean():.2f}" for r in results)
        lost = [r.figures["Dale's law"] for r in results if "Dale's law" in r.figures]
        print(f"{_mean(name, results)} {each} | {f'{np.mean(lost):.0f}' if lost else ''} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=("vowels", "digits"), default=["vowels", "digits"])
    parser.add_argument("--codes", nargs="+", choices=tuple(SIZES), default=list(SIZES))
    parser.add_argument("--variants", action="store_true")
    args = parser.parse_args()
    for task in args.tasks:
        for code in args.codes:
            table(task, code, args.seeds)
        if args.variants:
            variants(task, args.seeds)


if __name__ == "__main__":
    main()
