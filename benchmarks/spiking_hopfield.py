"""Recall of a Hopfield network by its load and the cue's noise: the binary network, and its attractor network of spikes.

Random patterns in Hebbian weights without self-coupling, 100 units; 50 cues a seed, each a stored pattern with a share
of its units flipped. A cue is recalled where at least 95 % of the units end as in its pattern. Seeds 0 to 4, all printed;
both networks get the same cues, and are compared by the exact McNemar test over all 250.

    python benchmarks/spiking_hopfield.py
"""

from __future__ import annotations

import sys
from math import comb
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from neurodeploy.cli.output import table
from neurodeploy.spiking import hopfield

UNITS, CUES, SEEDS, TICKS = 100, 50, range(5), 50
LOADS, NOISE = (5, 10, 14, 20), (0.1, 0.2, 0.3)
RECALLED = 0.95


def trial(patterns: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Which cues the binary and the spiking network recall, and the spikes of a cue."""
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
    right = [(states == goals).mean(axis=1) >= RECALLED for states in (binary, signs)]
    return right[0], right[1], activity.spikes


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p of paired outcomes."""
    only = sorted((int((a & ~b).sum()), int((b & ~a).sum())))
    total = sum(only)
    return min(1.0, 2 * sum(comb(total, k) for k in range(only[0] + 1)) / 2**total)


def main() -> None:
    rows = []
    for patterns in LOADS:
        for noise in NOISE:
            found = [trial(patterns, noise, seed) for seed in SEEDS]
            binary, spiking = (np.concatenate([f[i] for f in found]) for i in (0, 1))
            by_seed = [" ".join(f"{100 * f[i].mean():.0f}" for f in found) for i in (0, 1)]
            rows.append((
                f"{patterns / UNITS:.2f}", f"{100 * noise:.0f}", by_seed[0], by_seed[1], f"{100 * binary.mean():.1f}",
                f"{100 * spiking.mean():.1f}", f"{mcnemar(binary, spiking):.2g}", f"{np.mean([f[2] for f in found]):.0f}",
            ))  # fmt: skip
    columns = ("patterns / unit", "flipped %", "binary by seed %", "spiking by seed %", "binary %", "spiking %", "p", "spikes")
    table(f"recall, {UNITS} units, {TICKS} ticks, {CUES} cues a seed", columns, rows, right=columns[4:])


if __name__ == "__main__":
    main()
