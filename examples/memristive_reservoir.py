"""A circuit of memristors that learns to tell speakers apart, and the same circuit as C.

A ring of 50 nodes with 50 chords between random pairs, a memristor and a voltage source on each of the 100 edges. The
twelve features of a vowel set the sources, the memristors' memories move as Kirchhoff's laws and their own equation
make them (Caravelli, Traversa and Di Ventra, Physical Review E 95, 022140, 2017), and a linear readout of the memories
names the speaker. Only the readout is trained. The baseline is the same readout on the features themselves.

Parameters of the circuit were set by hand, judged on a third of the training set with seeds 100 to 102; seeds 0 to
4 are all run, and all printed. Seed 0's network is compiled too: its steps are C.

    python examples/memristive_reservoir.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from vowels import CLASSES, load

import neurodeploy
from neurodeploy.crossbar.memristive.reservoir import Reservoir, last
from neurodeploy.spiking.liquid_readout import Ridge

PENALTY = 0.1
CIRCUIT = {"alpha": -1.0, "beta": 1.0, "xi": 5.0, "scale": 0.5, "bias": 0.5, "dt": 0.3}


def data():
    """Inputs normalised by the training set, lengths and labels of both sets."""
    found = [load(split) for split in ("train", "test")]
    x, lengths, _ = found[0]
    active = np.arange(x.shape[1])[None] < lengths[:, None]
    mean, spread = x[active].mean(axis=0), x[active].std(axis=0)
    return [(((x - mean) / spread).astype(np.float32), lengths, y) for x, lengths, y in found]


def readout(features, y):
    """Ridge regression onto one-hot labels: weights and bias."""
    return Ridge.of(features.astype(np.float64), np.eye(CLASSES)[y]).weights(PENALTY)


def main() -> None:
    (x, lengths, y), (x_test, lengths_test, y_test) = data()
    w, c = readout(last(x, lengths), y)
    alone = (last(x_test, lengths_test) @ w.T + c).argmax(axis=1) == y_test
    print(f"readout of the inputs alone: {100 * alone.mean():.1f} %")
    for seed in range(5):
        made = Reservoir.random(50, 100, x.shape[2], seed, **CIRCUIT)
        w, c = readout(last(made.states(x, lengths, exact=False), lengths), y)
        scores = last(made.states(x_test, lengths_test, exact=False), lengths_test) @ w.T + c
        right = scores.argmax(axis=1) == y_test
        loops = made.network.circuit.loops
        print(f"seed {seed}: 100 memristors, {loops} loops: {100 * right.mean():.1f} %", flush=True)
        if seed == 0:
            built = neurodeploy.compile(made.program("memristive", w, c), "host", numerics="float")
            given = built.run(x_test, lengths_test)
            answers = given.argmax(axis=1)
            agree, apart = (answers == scores.argmax(axis=1)).sum(), np.abs(given - scores).max()
            print(f"    as C on the host: {100 * (answers == y_test).mean():.1f} %, {agree} of {len(y_test)} "
                  f"answers as here, scores within {apart:.1g}")  # fmt: skip


if __name__ == "__main__":
    main()
