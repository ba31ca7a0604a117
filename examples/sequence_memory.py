"""Sequence memory in spikes: a group of neurons that fire fast holds an item and silences its rivals.

Each item of a sequence is a group of neurons that excite each other. Once started, a group goes on firing at a high
rate, and through a pool of inhibitory neurons it keeps all other groups silent: that is how an item is held, for as long
as nobody asks for the next. Every group also excites the group of the next item through slow synapses, too weakly to
start it against the inhibition. A short pulse to the inhibitory pool ends the item: all groups fall silent. What is left
when the pulse is over is the slow current of the last item, and it starts the next.

The numbers below were set by hand. Wiring (which of two neurons are connected, and how strongly), noise, the order of
the items and the times of the pulses are random: seeds 0 to 4 are all run, and all printed.

    python examples/sequence_memory.py [--picture sequence.png]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from neurodeploy.spiking.net import Projection, SpikingNet, make, simulate

ITEMS, GROUP, POOL = 6, 20, 20
NEURONS = ITEMS * GROUP + POOL
TICKS, DT = 10, 1e-3  # a frame is 10 ms
PULSE, START = 4, 5  # frames of a pulse, and of the first item's cue
HOLD = (30, 80)  # frames between pulses: 150 to 600 ms
NOISE = 8  # channels of noise, mixed anew for every neuron

#: Time constants in ticks (ms): membrane, synapses within a group, slow ones to the next item, and inhibition.
MEMBRANE, WITHIN, NEXT, INHIBITION = 20.0, 20.0, 100.0, 10.0


@dataclass(frozen=True)
class Run:
    """One seed: the stored order, frames at which pulses start, and the raster ``[ticks, neurons]``."""

    order: np.ndarray
    pulses: np.ndarray
    raster: np.ndarray


def keeps(ticks: float) -> float:
    """What is kept a tick with that time constant."""
    return float(np.exp(-1 / ticks))


def network(order: np.ndarray, rng: np.random.Generator) -> SpikingNet:
    """The wiring that stores the order; half of all possible synapses exist, their weights within 50 % of the mean."""

    def random(to: slice, source: slice, strength: float, keep: float, made: np.ndarray) -> None:
        shape = made[to, source].shape
        mean = strength * (1 - keep) / (0.5 * GROUP)
        made[to, source] = mean * rng.uniform(0.5, 1.5, shape) * (rng.random(shape) < 0.5)

    within, after, inhibition = (np.zeros((NEURONS, NEURONS)) for _ in range(3))
    groups = [slice(i * GROUP, (i + 1) * GROUP) for i in range(ITEMS)]
    pool, all_items = slice(ITEMS * GROUP, NEURONS), slice(0, ITEMS * GROUP)
    for group in groups:
        random(group, group, WEIGHTS["within"], keeps(WITHIN), within)
    for now, then in zip(order, np.roll(order, -1), strict=True):
        random(groups[then], groups[now], WEIGHTS["next"], keeps(NEXT), after)
    random(pool, all_items, WEIGHTS["to pool"], keeps(INHIBITION), inhibition)
    random(all_items, pool, -WEIGHTS["from pool"], keeps(INHIBITION), inhibition)
    W_in = np.concatenate([np.zeros((NEURONS, 2)), rng.normal(0, WEIGHTS["noise"], (NEURONS, NOISE))], axis=1)
    W_in[groups[order[0]], 0] = WEIGHTS["cue"]
    W_in[pool, 1] = WEIGHTS["pulse"]
    background = np.where(np.arange(NEURONS) < ITEMS * GROUP, WEIGHTS["background"], 0.0)
    return make(
        ticks=TICKS, dt_s=DT, beta=keeps(MEMBRANE), threshold=1.0, floor=-1.0, W_in=W_in, bias=background,
        largest_input=4.0, keep=keeps(20.0),
        projections=[Projection("within", within, keeps(WITHIN)), Projection("next", after, keeps(NEXT)),
                     Projection("inhibition", inhibition, keeps(INHIBITION))],
        populations=[(f"item {i}", GROUP) for i in range(ITEMS)] + [("pool", POOL)],
    )  # fmt: skip


WEIGHTS = {
    "within": 2.0, "next": 0.6, "to pool": 0.5, "from pool": 4.0, "cue": 0.1, "pulse": 0.15,
    "background": 0.03, "noise": 0.004,
}  # fmt: skip


def run(seed: int, items: int) -> Run:
    """Go through ``items`` items of a sequence that starts over after its last."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(ITEMS)
    net = network(order, rng)
    pulses = np.cumsum(rng.integers(*HOLD, items, endpoint=True) + PULSE) - PULSE + START
    frames = int(pulses[-1])
    x = np.concatenate([np.zeros((frames, 2)), rng.normal(0, 1, (frames, NOISE))], axis=1)
    x[:START, 0] = 1
    for at in pulses[:-1]:
        x[at : at + PULSE, 1] = 1
    whole = np.rint(x / net.in_scale)[None]
    raster = simulate(net, whole, np.ones((1, frames), bool), raster=True).raster
    return Run(order, pulses, raster[0])


if __name__ == "__main__":
    for seed in range(5):
        r = run(seed, 9)
        starts = np.concatenate([[START], r.pulses[:-1] + PULSE])
        print(seed, r.order)
        for a, b in zip(starts, r.pulses):
            seg = r.raster[a*TICKS:b*TICKS]
            print("   ", b-a, [round(float(seg[:, i*GROUP:(i+1)*GROUP].mean()*1000)) for i in range(ITEMS)], round(float(seg[:, ITEMS*GROUP:].mean()*1000)))
