"""Brian2 on the test set of JapaneseVowels (370 samples of 7 to 29 frames): seconds to build and to run.

Two networks: 200 leaky integrate-and-fire neurons in a random liquid, 8 ticks a frame, as the definition
(``spiking/net.py``) has them; and the shipped GRU as sigma-delta neurons, its levels chosen on the training set, as its
n-level program has it. Every spike, trace and step is compared first; then each is run from the cache as often as
asked, and all times are printed. The liquid's weights are random (seed 0), with sizes that give some 2,500 spikes a
sample; it has learnt nothing.

    python -m benchmarks.spiking_brian2 [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable

import numpy as np

import neurodeploy
from examples import vowels
from neurodeploy import hardware
from neurodeploy.backends.brian2 import Brian2Runner
from neurodeploy.data import Data
from neurodeploy.ir import interpret, text
from neurodeploy.spiking.brian2_run import Brian2
from neurodeploy.spiking.net import Projection, SpikingNet, make, simulate

NEURONS, TICKS, CONNECTED = 200, 8, 0.1
Tried = tuple[Callable[[], object], str, float | None]


def liquid(x: np.ndarray) -> SpikingNet:
    """A random liquid for inputs ``[samples, frames, inputs]``: four fifths excitatory, one connection in ten."""
    rng = np.random.default_rng(0)
    size = np.abs(rng.normal(0, 0.05, (NEURONS, NEURONS))) * (rng.random((NEURONS, NEURONS)) < CONNECTED)
    sign = np.where(np.arange(NEURONS) < NEURONS * 4 // 5, 1.0, -4.0)
    return make(
        ticks=TICKS, dt_s=1e-3, beta=0.9, threshold=1.0, W_in=rng.normal(0, 0.2, (NEURONS, x.shape[2])),
        bias=rng.normal(0.0, 0.02, NEURONS), largest_input=float(np.abs(x).max()),
        projections=[Projection("recurrent", size * sign, 0.5)], keep=0.97,
        populations=[("excitatory", NEURONS * 4 // 5), ("inhibitory", NEURONS // 5)],
        readout=rng.normal(0, 1, (vowels.CLASSES, NEURONS)),
    )  # fmt: skip


def run_liquid(x: np.ndarray, lengths: np.ndarray) -> Tried:
    """A function that runs it, what its first run showed, and the seconds of the build."""
    net, brian2 = liquid(x), Brian2()
    whole = np.clip(np.floor(x / net.in_scale + 0.5), -1023, 1023).astype(np.int32)
    active = np.arange(x.shape[1]) < lengths[:, None]
    wanted, found = simulate(net, whole, active), brian2(net, whole, active)
    same = np.array_equal(found.counts, wanted.counts) and np.array_equal(found.traces[active], wanted.traces[active])
    words = f"{NEURONS} neurons, {net.synapses} synapses, {TICKS} ticks a frame, {wanted.spikes:.0f} spikes a sample"
    words += f"; spikes and traces {'equal' if same else 'DIFFERENT'}; {brian2.run.engine}"
    return lambda: brian2(net, whole, active), words, brian2.run.build_seconds


def run_gru(x: np.ndarray, lengths: np.ndarray) -> Tried:
    """The same for the GRU."""
    program = neurodeploy.load(vowels.DATA.parent / "models" / "vowels_gru.onnx")
    name = next(iter(program.inputs))
    train, train_lengths, labels = vowels.load("train")
    target = hardware.find("brian2-sigma-delta", hardware.Neuromorphic)
    artifact = neurodeploy.compile(program, target, Data({name: train}, train_lengths, labels)).artifact
    program = text.from_files(artifact.files, "program")
    runner = Brian2Runner()
    found, wanted = runner.run(artifact, {name: x}, lengths), interpret.run(program, {name: x}, lengths)
    same = all(np.array_equal(found.series[n], wanted.series[n]) for n in wanted.series)
    events, levels = found.counters["spikes"].sum() / len(x), program.meta["spiking"]["levels"]
    words = f"GRU of 32 units, {levels} levels, {events:.0f} events a sample"
    words += f"; all {int(lengths.sum())} steps {'equal' if same else 'DIFFERENT'}; {found.record['where']}"
    build = [f.value for f in found.record["figures"] if f.name == "compile time"]
    return lambda: runner.run(artifact, {name: x}, lengths), words, build[0] if build else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    x, lengths, _ = vowels.load("test")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NEURODEPLOY_CACHE"] = cache
        for prepare in (run_liquid, run_gru):
            run, words, build = prepare(x, lengths)
            print(words)
            seconds = []
            for _ in range(options.runs):
                began = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - began)
            if build is not None:
                print(f"  build, once: {build:.1f} s")
            print(f"  {len(x)} samples, from the cache: {', '.join(f'{s:.2f}' for s in seconds)} s")


if __name__ == "__main__":
    main()
