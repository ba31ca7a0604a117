"""Echo state networks and their liquid-state machines of 200 neurons: accuracy, spikes, and what the fit chose.

Reservoirs of leaky tanh units, one weight in ten, spectral radius 0.9, random by seed; leak and input scale chosen by
cross-validation on the training set (JapaneseVowels: by ``examples/train_esn.py``). The baseline is their float
readout, fitted exactly as the liquid's is: ridge regression, penalty by ten-fold cross-validation. Two liquids of 200
neurons are made of reservoirs of their own:

- ``pairs``: 100 units, a neuron for the positive and one for the negative part of each;
- ``single``: 199 units, a neuron each, and one neuron that always fires.

Tasks: ``vowels``, JapaneseVowels as shipped (270 training and 370 test samples of 7 to 29 steps), and ``digits``,
scikit-learn's 1,797 digits read row by row (8 steps of 8 pixels in 0..1): 1,437 for training and 360 for the test,
drawn with the same share of each class by ``train_test_split(test_size=360, stratify=y, random_state=0)``; for
``writers`` in the order of the file, in which other people wrote the last 500, the test set. Everything is chosen and
fitted on training samples. p: exact McNemar test of the liquid against its own reservoir, all seeds together.

    python -m benchmarks.spiking_liquid [--seeds 5] [--tasks vowels] [--variants]
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.spiking_networks import DIGITS_TEST
from neurodeploy import hardware
from neurodeploy.data import Data
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.report.metrics import mcnemar
from neurodeploy.spiking import convert, liquid_fit, reservoir
from neurodeploy.spiking.liquid_readout import Ridge, best_penalty, cross_validated, task_of

EXAMPLES = Path(__file__).parents[1] / "examples"
LEAKS, SCALES = (0.1, 0.2, 0.4, 0.7), (0.1, 0.3, 0.6)
TASKS = ("vowels", "digits", "writers")
SIZES = {"pairs": 100, "single": 199}
#: What is changed one at a time on the pairs, with ``--variants``.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "4 ticks": {"ticks": 4},
    "4 ticks, gain 1, membrane 1": {"ticks": 4, "gain": 1.0, "membrane": 1.0},
    "16 ticks": {"ticks": 16},
    "trace of the state": {"traces": "state"},
    "counts": {"traces": "count"},
    "no delay": {"delay": 1},
    "inhibition over 5 frames": {"inhibitory_tau": 5.0},
    "Dale's law, 80 % excite": {"excitatory": 0.8, "ticks": 4, "gain": 1.0, "membrane": 1.0},
    "Dale's law, 50 % excite": {"excitatory": 0.5, "ticks": 4, "gain": 1.0, "membrane": 1.0},
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
            with np.load(EXAMPLES / "data" / f"japanese_vowels_{split}.npz") as f:
                parts.append(Data({"x": f["x"]}, f["lengths"], f["y"]))
        return parts[0], parts[1]
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, y = (np.asarray(a) for a in load_digits(return_X_y=True))
    rows = np.arange(len(y))
    train, test = np.split(rows, [DIGITS_TEST])
    if task == "digits":
        train, test = train_test_split(rows, test_size=360, stratify=y, random_state=0)
    x = (pixels / 16).astype(np.float32).reshape(-1, 8, 8)
    a, b = (Data({"x": x[rows]}, np.full(len(rows), 8), y[rows]) for rows in (train, test))
    return a, b


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
    classes = int(np.max(np.asarray(data.labels))) + 1
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
    return seen.h[np.cumsum(np.asarray(data.lengths)) - 1]


def trained(task: str, train: Data, units: int, seed: int) -> tuple[Program, str]:
    """A task's reservoir with its readout, and what was chosen in words."""
    program, words = example(units, seed) if task == "vowels" else searched(train, units, seed)
    assert train.labels is not None
    classes = int(train.labels.max()) + 1
    readout = task_of(train.labels, np.zeros(0), running(train), classes, False)
    states = last_states(program, train)
    penalty, _ = best_penalty(cross_validated(states, readout))
    V, c = Ridge.of(states, readout.targets).weights(penalty)
    r = reservoir.find(program)
    return _program(r.W, r.U, r.bias, float(r.leak[0]), V, c), words


def example(units: int, seed: int) -> tuple[Program, str]:
    """The reservoir that ``examples/train_esn.py`` trains on JapaneseVowels."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        from train_esn import train  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    found, readout, _ = train(seed, units)
    program = _program(found.W_in, found.W, found.bias, found.leak, readout[:-1].T, readout[-1])
    return program, f"leak {found.leak:g}"


def searched(train: Data, units: int, seed: int) -> tuple[Program, str]:
    """The random reservoir whose leak and input scale do best in cross-validation."""
    assert train.labels is not None
    classes = int(train.labels.max()) + 1
    task = task_of(train.labels, np.zeros(0), running(train), classes, False)
    found = []
    for leak, scale in itertools.product(LEAKS, SCALES):
        program = untrained(train, units, leak, scale, seed)
        states = last_states(program, train)
        found.append((cross_validated(states, task).max(), leak, scale, program))
    _, leak, scale, program = max(found, key=lambda entry: entry[0])
    return program, f"leak {leak:g}, input {scale:g}"


def measure(program: Program, train: Data, test: Data, options: Mapping[str, Any]) -> Result:
    """Convert a trained reservoir on training data; both on the test set."""
    assert test.labels is not None and test.lengths is not None
    target = hardware.find("brian2-lsm", hardware.Neuromorphic)
    made = convert.convert("liquid-state-machine", program, target, train, lambda _: None, options)
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
    columns = "seed, reservoir, float, liquid, spikes, ticks, gain, membrane, readout sees, penalty, state error %"
    print(f"| {columns.replace(', ', ' | ')} |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    results = []
    for seed in range(seeds):
        program, words = trained(task, train, SIZES[code], seed)
        found = measure(program, train, test, {"neurons": 200})
        results.append(found)
        fit = found.fit
        print(f"| {seed} | {words} | {100 * found.plain.mean():.2f} | {100 * found.right.mean():.2f} "
              f"| {found.spikes:,.0f} | {fit['ticks']} | {fit['gain']:g} | {fit['membrane']:g} | {fit['traces']} "
              f"| {fit['penalty']:.1e} | {found.figures['state error']:.0f} |", flush=True)  # fmt: skip
    print(_mean("mean", results))


def _mean(name: str, results: list[Result]) -> str:
    plain, right = np.concatenate([r.plain for r in results]), np.concatenate([r.right for r in results])
    spikes = np.mean([r.spikes for r in results])
    return (f"| {name} | | {100 * plain.mean():.2f} | {100 * right.mean():.2f} | {spikes:,.0f} "
            f"| p = {mcnemar(right, plain):.2g} |")  # fmt: skip


def variants(task: str, seeds: int) -> None:
    """What each option costs: means over the seeds."""
    train, test = load(task)
    print(f"\n{task}, pairs, one thing changed: means over {seeds} seeds, accuracy of each seed\n")
    print("| | | float | liquid | spikes | p | each seed | currents lost to Dale's law, % |")
    print("|---|---|---|---|---|---|---|---|")
    programs = [trained(task, train, SIZES["pairs"], seed)[0] for seed in range(seeds)]
    for name, options in VARIANTS.items():
        results = [measure(program, train, test, options) for program in programs]
        each = " ".join(f"{100 * r.right.mean():.2f}" for r in results)
        lost = [r.figures["Dale's law"] for r in results if "Dale's law" in r.figures]
        print(f"{_mean(name, results)} {each} | {f'{np.mean(lost):.0f}' if lost else ''} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--codes", nargs="*", choices=tuple(SIZES), default=list(SIZES))
    parser.add_argument("--variants", action="store_true")
    args = parser.parse_args()
    for task in args.tasks:
        for code in args.codes:
            table(task, code, args.seeds)
        if args.variants:
            variants(task, args.seeds)


if __name__ == "__main__":
    main()
