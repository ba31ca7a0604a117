"""Trained leaky networks as integrate-and-fire neurons: accuracy, spikes, the error's law, Kim's scaling beside.

The networks and their splits are :mod:`benchmarks.spiking_networks`'s. Every setting is chosen by ``convert`` on the
calibration samples; the test samples are run once, with the setting chosen. Differences to the float network are
tested by McNemar's exact test on the same samples.

    python -m benchmarks.spiking_rate [--seeds 5] [--plot docs/spiking-rate.png]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import spiking_networks
from neurodeploy import hardware
from neurodeploy.data import Data
from neurodeploy.ir import interpret
from neurodeploy.ir.fixed import quantize
from neurodeploy.ir.graph import Program
from neurodeploy.spiking import layers, rate, rate_search, tuning
from neurodeploy.spiking.net import SpikingNet
from neurodeploy.spiking.net_program import input_type
from neurodeploy.spiking.rate_net import Knobs

TARGET = "brian2-lif"
MAX_LOSS = 1.0
#: Ticks of the sweeps, and the networks they are swept on.
SWEEP = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
LAW = 8
#: way of converting -> its knobs at so many ticks.
WAYS = {
    "matched delay": lambda t, pieces: Knobs(t, float(t), pieces, 0.25, 1.0, "matched"),
    "no delay": lambda t, pieces: Knobs(t, float(t), pieces, 0.25, 1.0, "none"),
}


@dataclass(frozen=True)
class Result:
    """One network converted: right answers of float and spikes on the test set [samples], spikes, chosen setting."""

    seed: int
    was_right: np.ndarray
    right: np.ndarray
    spikes: float
    chosen: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def float_accuracy(self) -> float:
        return 100 * float(self.was_right.mean())

    @property
    def accuracy(self) -> float:
        return 100 * float(self.right.mean())

    @property
    def p(self) -> float:
        """McNemar's exact test, two-sided."""
        lost, won = int((self.was_right & ~self.right).sum()), int((self.right & ~self.was_right).sum())
        n = lost + won
        return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(lost, won) + 1)) / 2**n)


def answers(net: SpikingNet, data: Data) -> tuple[np.ndarray, float]:
    """Labels [samples] that the network gives, and its spikes a sample."""
    x, lengths = data.inputs["x"], np.asarray(data.lengths)
    activity = rate_search.fastest()(
        net, quantize(x, input_type(net)).astype(np.int64), np.arange(x.shape[1]) < lengths[:, None]
    )
    last = activity.traces[np.arange(len(x)), lengths - 1]
    return net.scores(last).argmax(axis=1), activity.spikes


def converted(task: str, activation: str, seed: int, **options: Any) -> Result:
    """A network converted by its calibration samples and run on the test samples."""
    program = spiking_networks.network(task, activation, seed)
    test = spiking_networks.load(task, "test")
    y = interpret.run(program, dict(test.inputs), test.lengths).outputs["y"]
    made = rate.convert(program, _target(), spiking_networks.load(task, "calibrate"), lambda _: None,
                        max_loss=MAX_LOSS, **options)  # fmt: skip
    assert made.net is not None and test.labels is not None
    labels, spikes = answers(made.net, test)
    return Result(seed, y.argmax(axis=1) == test.labels, labels == test.labels, spikes, made.layout["chosen"],
                  made.warnings)  # fmt: skip


def _target() -> Any:
    return hardware.find(TARGET)


def show(title: str, results: Sequence[Result]) -> None:
    """A table in Markdown."""
    print(f"\n{title}\n")
    print("| seed | float | spikes | loss | p | spikes an inference | ticks | pieces | margin, delay | readout |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for r in results:
        c = r.chosen
        print(f"| {r.seed} | {r.float_accuracy:.2f} | {r.accuracy:.2f} | {r.float_accuracy - r.accuracy:.2f} "
              f"| {r.p:.2f} | {r.spikes:,.0f} | {c['ticks_a_frame']} ({c['spikes_a_frame']:g}) | {c['pieces']} "
              f"| {c['margin']}, {c['delay']} | {c['readout']} |", flush=True)  # fmt: skip
    means = [float(np.mean(v)) for v in zip(*((r.float_accuracy, r.accuracy, r.spikes) for r in results), strict=True)]
    print(f"| mean | {means[0]:.2f} | {means[1]:.2f} | {means[0] - means[1]:.2f} | | {means[2]:,.0f} | | | | |")
    for r in results:
        for warning in r.warnings:
            print(f"\nseed {r.seed}: {warning}")


@dataclass(frozen=True)
class Sweep:
    """A way of converting, swept over ticks: state error, test loss in points and spikes, means over the seeds."""

    ticks: tuple[int, ...]
    error: np.ndarray
    loss: np.ndarray
    spikes: np.ndarray

    @property
    def exponent(self) -> float:
        """Slope of log error over log ticks up to :data:`LAW` ticks, before what ticks can't mend is left."""
        used = np.array(self.ticks) <= LAW
        return float(np.polyfit(np.log(np.array(self.ticks)[used]), np.log(self.error[used]), 1)[0])


def sweep(task: str, activation: str, seeds: int, way: str, pieces: int) -> Sweep:
    """Errors of every number of ticks, with the network's own readout."""
    found = np.zeros((3, seeds, len(SWEEP)))
    for seed in range(seeds):
        program: Program = spiking_networks.network(task, activation, seed)
        units = layers.find(program)
        tasks = [rate_search.task_of(units, d.inputs["x"], d.lengths, d.labels, False)
                 for d in (spiking_networks.load(task, split) for split in ("calibrate", "test"))]  # fmt: skip
        z = tasks[0].z[tasks[0].active]
        sides = [tuning.sides(f, z[:, a:b], name) for name, a, b, f in units.layers]
        for i, ticks in enumerate(SWEEP):
            built, _, _ = rate_search.make(units, sides, WAYS[way](ticks, pieces), _target(), tasks[0], 1e-3)
            x = quantize(tasks[1].x.astype(np.float32), input_type(built.net)).astype(np.int64)
            activity = rate_search.fastest()(built.net, x, tasks[1].active)
            states = activity.traces @ built.reader
            on, wanted = tasks[1].active, tasks[1].states
            error = np.sqrt(((states - wanted)[on] ** 2).mean() / (wanted[on] ** 2).mean())
            found[:, seed, i] = error, tasks[1].loss(units.scores(states[tasks[1].read]))[0], activity.spikes
    return Sweep(SWEEP, *found.mean(axis=1))


def draw(results: dict[str, list[Result]], sweeps: dict[str, Sweep], path: Path) -> None:
    """Loss against spikes on the left, state error against ticks on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5.6))
    colours = ("#0b6e4f", "#7fb8a0", "#c9793a", "#e3b58f", "#7a6fa8", "#b9b3d6")
    for colour, (name, s) in zip(colours, sweeps.items(), strict=False):
        style = "--" if "no delay" in name else "-"
        left.plot(s.spikes, s.loss, style, color=colour, label=name, marker=".")
        right.plot(s.ticks, s.error, style, color=colour, label=f"{name}: ticks^{s.exponent:.2f}", marker=".")
    for marker, (name, found) in zip("*Dsv^o", results.items(), strict=False):
        left.plot([r.spikes for r in found], [r.float_accuracy - r.accuracy for r in found], marker, ms=6,
                  color="#333333", alpha=0.7, label=name)  # fmt: skip
    left.axhline(0, color="#999999", lw=0.8)
    left.set(xscale="log", xlabel="spikes an inference", ylabel="accuracy lost, points", ylim=(-2, 12))
    left.set_xlim(left=60)
    right.set(xscale="log", yscale="log", xlabel="ticks a step", ylabel="state error (relative)")
    left.set_title("scikit-learn's digits, test set")
    right.set_title("the error's law")
    for axis in (left, right):
        axis.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Leaky networks as spikes: accuracy, spikes, the error's law.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    points: dict[str, list[Result]] = {}
    for task in spiking_networks.TASKS:
        for activation in spiking_networks.ACTIVATIONS:
            results = [converted(task, activation, seed, readout="auto") for seed in range(args.seeds)]
            show(f"{task}, {activation}, at most {MAX_LOSS:g} points asked for", results)
            if task == "digits":
                points[f"chosen, {activation}"] = results
    for task in spiking_networks.TASKS:
        results = [converted(task, "relu", seed, scaling="kim") for seed in range(args.seeds)]
        show(f"{task}, relu, Kim's scaling", results)
        if task == "digits":
            points["Kim's scaling, relu"] = results
    sweeps: dict[str, Sweep] = {}
    print("\n| digits | ticks | " + " | ".join(map(str, SWEEP)) + " | exponent |")
    print("|---|---|" + "---|" * (len(SWEEP) + 1))
    for activation, pieces in (("relu", 1), ("tanh", 1), ("tanh", 2)):
        for way in WAYS:
            s = sweep("digits", activation, args.seeds, way, pieces)
            name = f"{activation}, {way}" if activation == "relu" else f"{activation}, {pieces} a side, {way}"
            sweeps[name] = s
            print(f"| {name} | state error | " + " | ".join(f"{e:.3f}" for e in s.error) + f" | {s.exponent:.2f} |")
            print("| | loss | " + " | ".join(f"{v:.2f}" for v in s.loss) + " | |")
            print("| | spikes | " + " | ".join(f"{v:,.0f}" for v in s.spikes) + " | |", flush=True)
    if args.plot:
        draw(points, sweeps, args.plot)
        print(f"wrote {args.plot}")


if __name__ == "__main__":
    main()
