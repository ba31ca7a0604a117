"""Recall of a Hopfield network by load and noise: binary units, all at once or one by one, and spiking neurons.

Random patterns in Hebbian weights without self-coupling, 100 units; 50 cues a seed, each a stored pattern with a share
of its units flipped. A cue is recalled where at least 95 % of the units end as in its pattern. Seeds 0 to 4, all
printed; all three get the same cues. p: the exact McNemar test over all 250, of binary units all at once (as the
program runs them) and one by one (in random order until nothing changes) against the spiking network.

    python benchmarks/spiking_hopfield.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from neurodeploy.cli.output import table
from neurodeploy.report.metrics import mcnemar
from neurodeploy.spiking import hopfield

UNITS, CUES, SEEDS, TICKS = 100, 50, range(5), 50
LOADS, NOISE = (5, 10, 14, 20), (0.1, 0.2, 0.3)
RECALLED = 0.95


def one_by_one(W: np.ndarray, cues: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Binary units updated in a random order, sweep by sweep, until a sweep changes nothing: the energy only falls."""
    s = cues.copy()
    while True:
        before = s.copy()
        for i in rng.permutation(len(W)):
            field = s @ W[i]
            s[:, i] = np.where(field > 0, 1.0, np.where(field < 0, -1.0, s[:, i]))
        if np.array_equal(s, before):
            return s


def trial(patterns: int, noise: float, seed: int) -> tuple[list[np.ndarray], float]:
    """Which cues each of the three recalls, and the spikes of a cue."""
    rng = np.random.default_rng(seed)
    stored = np.sign(rng.normal(size=(patterns, UNITS)))
    W = stored.T @ stored / UNITS
    np.fill_diagonal(W, 0)
    goals = stored[rng.integers(0, patterns, CUES)]
    cues = np.where(rng.random(goals.shape) < noise, -goals, goals)
    found = hopfield.Hopfield(W, np.zeros(UNITS), "main", "probe", "s")
    binary, settled = found.recall(cues)
    scale = float(np.median(np.abs(binary[settled] @ W.T)))
    net = hopfield.build(found, scale, TICKS, 1e-3)
    activity = hopfield.run(net, cues)
    signs = np.sign(net.scores(activity.traces)[:, 0])
    states = (binary, one_by_one(W, cues, rng), signs)
    return [(s == goals).mean(axis=1) >= RECALLED for s in states], activity.spikes


def main() -> None:
    rows = []
    for patterns in LOADS:
        for noise in NOISE:
            found = [trial(patterns, noise, seed) for seed in SEEDS]
            pooled = [np.concatenate([right[i] for right, _ in found]) for i in range(3)]
            by_seed = [" ".join(f"{100 * right[i].mean():.0f}" for right, _ in found) for i in range(3)]
            rows.append((
                f"{patterns / UNITS:.2f}", f"{100 * noise:.0f}", *by_seed, *(f"{100 * p.mean():.1f}" for p in pooled),
                *(f"{mcnemar(pooled[i], pooled[2]):.2g}" for i in (0, 1)), f"{np.mean([s for _, s in found]):.0f}",
            ))  # fmt: skip
    ways = ("all at once", "one by one", "spiking")
    columns = ("load", "noise", *(f"{way}, by seed" for way in ways), *ways, "p all", "p one", "spikes")
    table(f"recalled %, {UNITS} units, {TICKS} ticks, {CUES} cues a seed", columns, rows, right=columns[5:])


if __name__ == "__main__":
    main()
