"""What clocked sigma-delta costs: float, int16 and n-level accuracy of Elman, GRU and LSTM networks, and their events.

JapaneseVowels, seeds 0 to 4, each printed. Networks are trained and levels chosen on the 270 training samples alone;
the 370 test samples only judge. *lost*: points against float; *p*: exact McNemar test over the test samples. *exact*:
steps on which golden model, snnTorch and the compiled reference agree on every bit of outputs and states. Then: how the
events follow the signal, each test utterance against its first frame held for as long and against its frames slowed
down.

    python -m benchmarks.spiking_sigma_delta [--seeds 5] [--max-loss 0.5 | --levels 8]

``--rule`` measures instead what the choice of levels rests on, with training samples alone: networks trained on four
fifths of them, and what n levels lose on the last fifth, beside the outputs' NRMSE on the samples trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks import sigma_delta_networks
from neurodeploy import compiler, data
from neurodeploy.artifact import Trace
from neurodeploy.cli.output import table
from neurodeploy.data import Data
from neurodeploy.hardware import Neuromorphic, find
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.report.metrics import mcnemar
from neurodeploy.spiking import sigma_delta, snntorch_step, step_events
from neurodeploy.validate import scores_of

DATA = Path(__file__).parents[1] / "examples" / "data"
SLOWER = 4
RULE_LEVELS = (2, 4, 8, 16, 32, 64)


def trained(name: str, seed: int, part: np.ndarray | slice = slice(None)) -> Program:
    """The network of a seed, trained on part of the training samples."""
    import torch

    torch.set_num_threads(1)
    with np.load(DATA / "japanese_vowels_train.npz") as found:
        x, lengths, y = (torch.from_numpy(found[key][part]) for key in ("x", "lengths", "y"))
    model = sigma_delta_networks.train(name, seed, x.float(), lengths.long(), y.long())
    return compiler.load(model, torch.zeros(1, 20, 12))


def right(program: Program, trace: Trace, test: Data) -> np.ndarray:
    """Which test samples are answered rightly."""
    if test.labels is None:
        raise ValueError("the test data have no labels")
    return scores_of(program, real_outputs(program, trace), test.lengths, test.labels).argmax(axis=1) == test.labels


def steps_alike(traces: list[Trace], lengths: np.ndarray) -> str:
    """On how many of the steps all traces hold the same bits."""
    first, *others = traces
    arrays = [*first.series.items(), *first.states.items()]
    alike = np.ones((len(lengths), arrays[0][1].shape[1]), bool)
    for name, array in arrays:
        for other in others:
            found = other.series[name] if name in other.series else other.states[name]
            alike &= (found == array).reshape(*alike.shape, -1).all(axis=2)
    active = np.arange(alike.shape[1]) < lengths[:, None]
    return f"{int((alike & active).sum()):,} of {int(active.sum()):,}"


def events(program: Program, x: np.ndarray, lengths: np.ndarray) -> float:
    """Mean events of an inference."""
    _, changes = step_events.run(program, {next(iter(program.inputs)): x}, lengths)
    return float(step_events.spikes(program, changes).sum()) / len(x)


def row(name: str, seed: int, max_loss: float, levels: int | None) -> tuple[tuple[str, ...], tuple[str, ...], float]:
    """A network's two rows, of accuracy and of activity, and the points that it lost."""
    target = find("snntorch-sigma-delta", Neuromorphic)
    source = trained(name, seed)
    train, test = (data.load(DATA / f"japanese_vowels_{split}.npz", source) for split in ("train", "test"))
    if test.lengths is None:
        raise ValueError("the test data have no lengths")
    made = sigma_delta.convert(source, target, train, lambda _: None, levels=levels, max_loss=max_loss)
    native = compiler.prepare(source, "c", "native", train, progress=lambda _: None)
    answers = [right(p, interpret.run(p, test.inputs, test.lengths), test) for p in (source, native)]
    golden = interpret.run(made.program, test.inputs, test.lengths, states=True)
    inputs, lengths = dict(test.inputs), np.asarray(test.lengths)
    numba, changes = step_events.run(made.program, inputs, lengths, states=True)
    torch, _ = snntorch_step.run(made.program, inputs, lengths, states=True)
    answers.append(right(made.program, golden, test))
    plain, _, levelled = answers
    lost = 100 * float(plain.mean() - levelled.mean())
    sent = float(step_events.spikes(made.program, changes).sum()) / test.samples
    most = float(lengths.mean()) * sum(found.shape[2] for found in step_events.counted(made.program, changes).values())
    words = [f"{100 * float(a.mean()):.2f}" for a in answers]
    first = (name, str(seed), *words, f"{lost:+.2f}", f"{mcnemar(plain, levelled):.2f}", str(made.layout["levels"]),
             f"{sent:.0f}", f"{100 * sent / most:.0f} %", steps_alike([golden, numba, torch], lengths))  # fmt: skip
    x = next(iter(inputs.values()))
    held = np.repeat(x[:, :1], x.shape[1], axis=1)
    slow, longer = np.repeat(x, SLOWER, axis=1), lengths * SLOWER
    counts = [events(made.program, *of) for of in ((x, lengths), (held, lengths), (slow, longer))]
    share = counts[2] / (most * SLOWER)
    return first, (name, str(seed), *(f"{c:.0f}" for c in counts), f"{100 * share:.0f} %"), lost


def rule() -> None:
    """What levels lose on samples that a network wasn't trained on, over five folds of the training set."""
    target = find("snntorch-sigma-delta", Neuromorphic)
    fold = np.arange(270) % 5
    rows = []
    for name in sigma_delta_networks.NETWORKS:
        found: dict[int, list[tuple[float, int, int]]] = {n: [] for n in RULE_LEVELS}
        for k in range(5):
            source = trained(name, 100 + k, fold != k)
            every = data.load(DATA / "japanese_vowels_train.npz", source)
            known, new = (taken(every, part) for part in (fold != k, fold == k))
            plain = right(source, interpret.run(source, new.inputs, new.lengths), new)
            for n in RULE_LEVELS:
                made = sigma_delta.convert(source, target, known, lambda _: None, levels=n)
                still = right(made.program, interpret.run(made.program, new.inputs, new.lengths), new)
                found[n].append(
                    (made.layout["result"]["nrmse"], int((plain & ~still).sum()), int((still & ~plain).sum()))
                )
        for n, each in found.items():
            error, lost, won = (np.array(column) for column in zip(*each, strict=True))
            points = 100 * lost.sum() / len(fold)
            rows.append((name, str(n), f"{error.mean():.4f}", str(lost.sum()), str(won.sum()), f"{points:.2f}",
                         f"{points / error.mean():.0f}"))  # fmt: skip
    columns = ("network", "n", "NRMSE", "lost of 270", "won", "points lost", "per NRMSE")
    table("JapaneseVowels, training set, five folds", columns, rows, right=columns[1:])


def taken(whole: Data, part: np.ndarray) -> Data:
    """Some of the samples."""
    if whole.lengths is None or whole.labels is None:
        raise ValueError("the data have no lengths or labels")
    inputs = {name: array[part] for name, array in whole.inputs.items()}
    return Data(inputs, np.asarray(whole.lengths)[part], whole.labels[part])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max-loss", type=float, default=0.5)
    parser.add_argument("--levels", type=int)
    parser.add_argument("--rule", action="store_true")
    args = parser.parse_args()
    if args.rule:
        rule()
        return
    rows, activity = [], []
    for name in sigma_delta_networks.NETWORKS:
        lost = []
        for seed in range(args.seeds):
            found, signal, points = row(name, seed, args.max_loss, args.levels)
            rows.append(found)
            activity.append(signal)
            lost.append(points)
            print(*found, flush=True)
        rows.append((name, "mean", "", "", "", f"{np.mean(lost):+.2f}", *[""] * 5))
    columns = ("network", "seed", "float", "int8/16", "n levels", "lost", "p", "n", "events", "of most", "exact")
    how = f"max_loss={args.max_loss:g}" if args.levels is None else f"levels={args.levels}"
    table(f"JapaneseVowels, test set, {how}", columns, rows, right=columns[2:])
    columns = ("network", "seed", "as it is", "first frame held", f"{SLOWER} times slower", "of most")
    table("Events an inference, by signal", columns, activity, right=columns[2:])


if __name__ == "__main__":
    main()
