"""Receptive fields that organise themselves: bars of an image, spikes of its pixels, one crossbar of synapses.

Images of ``size`` x ``size`` pixels hold one bar, a row or a column, and follow one another without a pause. A pixel of
the bar spikes once with probability ``SEEN``, in one of the first ``JITTER`` of the ``FRAMES`` frames that a bar takes;
every pixel also spikes in each frame with probability ``NOISE``. So spikes of a bar come just before the neuron that
they make fire, and those of the next bars after it. No label takes part in learning; afterwards each neuron is named
for the bar for which it fired most on one set of presentations, and the names are judged on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.crossbar.memristive.plasticity import Layer, Neurons, Pulses, Synapse, Synapses
from neurodeploy.errors import DataError

Array = np.ndarray
FRAMES, JITTER = 6, 3
SEEN, NOISE = 0.9, 0.02
#: Presentations of each bar for naming and for the test, in random order.
NAMING, TEST = 10, 20


@dataclass(frozen=True)
class Result:
    """``correct`` [chips, test presentations], how many bars have a neuron named for them, ``covered`` [chips], and the
    receptive fields ``w`` [chips, pixels, neurons]."""

    correct: Array
    covered: Array
    w: Array


def bars(size: int) -> Array:
    """All rows, then all columns: bool [2 size, size^2]."""
    if size < 2:
        raise DataError(f"size is {size}; needed at least 2.", place="bars")
    rows = np.repeat(np.eye(size, dtype=bool), size, axis=1)
    return np.concatenate([rows, np.tile(np.eye(size, dtype=bool), size)])


def experiment(
    seeds: list[int], *, size: int = 6, spare: int = 2, shown: int = 1500, synapse: Synapse | None = None,
    pulses: Pulses | None = None, neurons: Neurons | None = None, speed_spread: float = 0.0,
    conductance_spread: float = 0.0, stuck: float = 0.0,
) -> Result:  # fmt: skip
    """One chip a seed: devices, first states and spikes are drawn from it. ``shown`` bars in random order, to as many
    neurons as there are bars and ``spare`` ones. ``shown=0`` tests untrained devices."""
    patterns = bars(size)
    count, pixels = len(patterns) + spare, size * size
    rngs = [np.random.default_rng(seed) for seed in seeds]
    kind = synapse or Synapse()
    options: dict[str, Any] = {
        "speed_spread": speed_spread, "conductance_spread": conductance_spread, "stuck": stuck,
    }  # fmt: skip
    made = [Synapses(kind, rng.uniform(0.3, 0.7, (1, pixels, count)), rng=rng, **options) for rng in rngs]
    devices = Synapses(kind, np.concatenate([m.w for m in made]))
    devices.moves, devices.up, devices.down, devices.scale = (
        np.concatenate([getattr(m, name) for m in made]) for name in ("moves", "up", "down", "scale")
    )
    layer = Layer(devices, pulses or Pulses(), neurons or Neurons())
    order = np.array([rng.integers(0, len(patterns), shown) for rng in rngs])
    _present(layer, patterns, order, rngs, learn=True)
    naming = np.array([rng.permutation(np.tile(np.arange(len(patterns)), NAMING)) for rng in rngs])
    votes = np.zeros((len(seeds), count, len(patterns)))
    for i, fired in enumerate(_present(layer, patterns, naming, rngs, learn=False)):
        votes[np.arange(len(seeds)), :, naming[:, i]] += fired
    names = np.where(votes.any(axis=2), votes.argmax(axis=2), -1)
    testing = np.array([rng.permutation(np.tile(np.arange(len(patterns)), TEST)) for rng in rngs])
    answers = []
    for fired in _present(layer, patterns, testing, rngs, learn=False):
        named = np.where(fired.any(axis=1), names[np.arange(len(seeds)), fired.argmax(axis=1)], -1)
        answers.append(named)
    correct = np.array(answers).T == testing
    covered = np.array([len(set(row[row >= 0].tolist())) for row in names])
    return Result(correct, covered, devices.w)


def _present(
    layer: Layer, patterns: Array, order: Array, rngs: list[np.random.Generator], *, learn: bool
) -> list[Array]:
    """Show bars [chips, presentations] one after another; how often each neuron fired in each, [chips, neurons]."""
    counts = []
    for shown in order.T:
        spikes = np.array([_spikes(patterns[bar], rng) for bar, rng in zip(shown, rngs, strict=True)])
        counts.append(np.sum([layer.frame(spikes[:, t], learn=learn) for t in range(FRAMES)], axis=0))
    return counts


def _spikes(bar: Array, rng: np.random.Generator) -> Array:
    """Spikes [frames, pixels] of one presentation."""
    spikes = rng.random((FRAMES, len(bar))) < NOISE
    when = rng.integers(0, JITTER, len(bar))
    seen = bar & (rng.random(len(bar)) < SEEN)
    spikes[when[seen], np.flatnonzero(seen)] = True
    return spikes
