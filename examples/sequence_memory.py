"""Sequence memory in spikes: a group of neurons that fire fast holds an item and silences its rivals.

Every item of a sequence is a group of neurons that excite each other. Once started, a group goes on firing at a high
rate, and through a pool of inhibitory neurons it keeps all other groups silent: so an item is held, for as long as
nobody asks for the next. Each group also excites the group of the next item through slow synapses, too weakly to start
it against the inhibition. A short pulse to the pool ends the item: all groups fall silent. What is left when the pulse
is over is the slow current of the last item, and it starts the next.

Persistent activity as memory: Amari, Biological Cybernetics 27, 1977; Wang, Trends in Neurosciences 24, 2001. Order
kept in slow asymmetric synapses: Kleinfeld, PNAS 83, 1986; Sompolinsky and Kanter, Physical Review Letters 57, 1986.
Those networks are other ones; the numbers here were set by hand, on seeds 100 to 111. Wiring (which of two neurons are
connected, and how strongly), noise, the order of the items and the times of the pulses are random: seeds 0 to 4 are
all run, and all printed.

    python examples/sequence_memory.py [--picture sequence.png]
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from neurodeploy.spiking.net import Projection, SpikingNet, make, simulate

ITEMS, GROUP, POOL = 6, 20, 20
ALL = ITEMS * GROUP
NEURONS = ALL + POOL
TICKS, DT = 10, 1e-3  # a frame is 10 ms
CUE, PULSE = 5, 4  # frames of the first item's cue, and of a pulse
HOLD, LAST = (30, 80), 300  # frames that an item is held: 300 to 800 ms, the last one 3 s
SETTLE = 6  # frames after a pulse that aren't judged
CHANNELS = 8  # of noise, mixed anew for every neuron

#: Time constants in ms: membrane, synapses within a group, slow ones to the next item, and inhibition.
MEMBRANE, WITHIN, NEXT, INHIBITION = 20.0, 20.0, 100.0, 10.0


@dataclass(frozen=True)
class Strengths:
    """Currents a tick, in thresholds: what a neuron receives if all that project to it fired in every tick (``within``
    its group, to the ``following`` group, ``to_pool`` and ``from_pool``), and inputs."""

    within: float = 2.5
    following: float = 0.45
    to_pool: float = 0.5
    from_pool: float = 6.0
    cue: float = 0.1
    pulse: float = 0.15
    background: float = 0.033
    noise: float = 0.004


@dataclass(frozen=True)
class Sequence:
    """A network that stores ``order``, its inputs ``x`` [1, frames, channels], and for each item held its first and
    one past its last frame."""

    net: SpikingNet
    order: np.ndarray
    x: np.ndarray
    held: list[tuple[int, int]]


@dataclass(frozen=True)
class Recall:
    """What became of one item: the group that it is, the group that fired most, both in Hz beside the most active
    rival, and how long it was held."""

    wanted: int
    winner: int
    rate: float
    rivals: float
    seconds: float


def group(item: int) -> slice:
    """The neurons of an item."""
    return slice(item * GROUP, (item + 1) * GROUP)


def network(order: np.ndarray, rng: np.random.Generator, strengths: Strengths) -> SpikingNet:
    """The wiring that stores the order; half of all possible synapses exist, their weights within 50 % of the mean."""
    within, after, inhibition = (np.zeros((NEURONS, NEURONS)) for _ in range(3))

    def connect(made: np.ndarray, to: slice, source: slice, strength: float, keep: float) -> None:
        block = made[to, source]
        mean = strength * (1 - keep) / (0.5 * GROUP)
        block[:] = mean * rng.uniform(0.5, 1.5, block.shape) * (rng.random(block.shape) < 0.5)

    fast, slow, inhibiting = (float(np.exp(-1 / tau)) for tau in (WITHIN, NEXT, INHIBITION))
    items, pool = slice(0, ALL), slice(ALL, NEURONS)
    for item, following in zip(order, np.roll(order, -1), strict=True):
        connect(within, group(item), group(item), strengths.within, fast)
        connect(after, group(following), group(item), strengths.following, slow)
    connect(inhibition, pool, items, strengths.to_pool, inhibiting)
    connect(inhibition, items, pool, -strengths.from_pool, inhibiting)
    W_in = np.zeros((NEURONS, 2 + CHANNELS))
    W_in[group(order[0]), 0], W_in[pool, 1] = strengths.cue, strengths.pulse
    W_in[:, 2:] = rng.normal(0, strengths.noise, (NEURONS, CHANNELS))
    return make(
        ticks=TICKS, dt_s=DT, beta=np.exp(-1 / MEMBRANE), threshold=1.0, floor=-1.0, W_in=W_in,
        bias=np.where(np.arange(NEURONS) < ALL, strengths.background, 0.0), largest_input=4.0, keep=fast,
        projections=[Projection("within", within, fast), Projection("following", after, slow),
                     Projection("inhibition", inhibition, inhibiting)],
        populations=[*((f"item {i}", GROUP) for i in range(ITEMS)), ("pool", POOL)],
    )  # fmt: skip


def sequence(seed: int, items: int = 9, last: int = LAST, strengths: Strengths | None = None) -> Sequence:
    """A network of that seed, and inputs that go through ``items`` items; after the sixth the sequence starts over."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(ITEMS)
    net = network(order, rng, strengths or Strengths())
    lengths = [*rng.integers(*HOLD, items - 1, endpoint=True), last]
    starts = CUE + np.concatenate([[0], np.cumsum(np.array(lengths[:-1]) + PULSE)])
    held = [(int(start), int(start + length)) for start, length in zip(starts, lengths, strict=True)]
    x = np.zeros((held[-1][1], 2 + CHANNELS))
    x[:CUE, 0] = 1
    for _, end in held[:-1]:
        x[end : end + PULSE, 1] = 1
    x[:, 2:] = rng.normal(0, 1, (len(x), CHANNELS))
    return Sequence(net, order, np.rint(x / net.in_scale)[None], held)


def run(made: Sequence) -> np.ndarray:
    """The raster bool[ticks, neurons]."""
    raster = simulate(made.net, made.x, np.ones(made.x.shape[:2], bool), raster=True).raster
    return np.zeros((0, NEURONS), bool) if raster is None else raster[0]


def recalls(made: Sequence, raster: np.ndarray) -> list[Recall]:
    """What fired while each item was to be held; the first 60 ms after a pulse aren't judged."""
    found = []
    for k, (start, end) in enumerate(made.held):
        window = raster[(start + SETTLE) * TICKS : end * TICKS, :ALL]
        rates = window.reshape(len(window), ITEMS, GROUP).mean(axis=(0, 2)) / DT
        wanted = int(made.order[k % ITEMS])
        found.append(Recall(wanted, int(rates.argmax()), float(rates[wanted]), float(np.delete(rates, wanted).max()),
                            (end - start) * TICKS * DT))  # fmt: skip
    return found


def brian2_agrees(made: Sequence, raster: np.ndarray) -> bool | None:
    """Whether Brian2 gives every spike alike; None where it isn't installed."""
    if importlib.util.find_spec("brian2") is None:
        return None
    from neurodeploy.spiking.brian2_run import Brian2

    found = Brian2("numpy")(made.net, made.x, np.ones(made.x.shape[:2], bool), raster=True).raster
    return found is not None and np.array_equal(found[0], raster)


def picture(made: Sequence, raster: np.ndarray, path: Path) -> None:
    """Spikes of all groups over time; pulses are grey."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    ticks, neurons = np.nonzero(raster)
    axes.plot(ticks * DT, neurons, ",", color="black")
    for _, end in made.held[:-1]:
        axes.axvspan(end * TICKS * DT, (end + PULSE) * TICKS * DT, color="0.85", lw=0)
    axes.set(xlabel="time, s", title=f"stored order: {' '.join(map(str, made.order))}", xlim=(0, len(raster) * DT))
    names = [*(f"item {i}" for i in range(ITEMS)), "pool"]
    axes.set_yticks([(i + 0.5) * GROUP for i in range(len(names))], names)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--picture", type=Path, help="where to draw seed 0's raster (needs matplotlib)")
    chosen = parser.parse_args().picture
    for seed in range(5):
        made = sequence(seed)
        raster = run(made)
        found = recalls(made, raster)
        right = sum(r.winner == r.wanted for r in found)
        winners = " ".join(str(r.winner) for r in found)
        print(f"seed {seed}: order {' '.join(map(str, made.order))}; recalled {winners}: "
              f"{right} of {len(found)} right")  # fmt: skip
        for r in found:
            print(
                f"    item {r.wanted} held {r.seconds:.2f} s: {r.rate:3.0f} Hz, the most active rival {r.rivals:.1f} Hz"
            )
        if seed == 0:
            agrees = brian2_agrees(made, raster)
            print(f"    Brian2: {'not installed' if agrees is None else 'every spike equal' if agrees else 'DIFFERS'}")
            if chosen is not None and importlib.util.find_spec("matplotlib") is None:
                print("    no picture: matplotlib isn't installed")
            elif chosen is not None:
                picture(made, raster, chosen)
                print(f"    raster: {chosen}")


if __name__ == "__main__":
    main()
