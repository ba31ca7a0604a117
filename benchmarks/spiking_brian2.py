"""Brian2 on the test set of JapaneseVowels (370 samples of 7 to 29 frames): seconds to build and to run.

Two networks: 200 leaky integrate-and-fire neurons in a random liquid, 8 ticks a frame, as the definition
(``spiking/net.py``) has them; and the shipped GRU as sigma-delta neurons, as its n-level program has it. Every spike,
trace and score is compared first; then each is run from the cache as often as asked, and all times are printed. The
weights are random (seed 0) with a threshold that gives some 2,000 spikes a sample; nothing is learnt here.

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
from neurodeploy.data import Data
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import drive
from neurodeploy.passes.pipeline import pipeline
from neurodeploy.passes.spiking import SigmaDelta
from neurodeploy.spiking.brian2_program import program_files
from neurodeploy.spiking.brian2_run import Brian2
from neurodeploy.spiking.brian2_step import StepEngine
from neurodeploy.spiking.net import Projection, SpikingNet, make, simulate

NEURONS, TICKS, CONNECTED = 200, 8, 0.1
LEVELS = 8


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


def run_liquid(x: np.ndarray, lengths: np.ndarray, brian2: Brian2) -> tuple[Callable[[], object], str]:
    """A function that runs it, and what the first run showed."""
    net = liquid(x)
    whole = np.clip(np.floor(x / net.in_scale + 0.5), -1023, 1023).astype(np.int32)
    active = np.arange(x.shape[1]) < lengths[:, None]
    wanted, found = simulate(net, whole, active), brian2(net, whole, active)
    same = np.array_equal(found.counts, wanted.counts) and np.array_equal(found.traces[active], wanted.traces[active])
    words = f"{NEURONS} neurons, {net.synapses} synapses, {TICKS} ticks a frame, {wanted.spikes:.0f} spikes a sample"
    return lambda: brian2(net, whole, active), f"{words}; spikes and traces {'equal' if same else 'DIFFERENT'}"


def run_gru(x: np.ndarray, lengths: np.ndarray, brian2: Brian2) -> tuple[Callable[[], object], str]:
    """The same for the GRU."""
    train, train_lengths, _ = vowels.load("train")
    data = Data({"x": train}, train_lengths, None)
    program = neurodeploy.load(vowels.DATA.parent / "models" / "vowels_gru.onnx")
    inputs = {next(iter(program.inputs)): x}
    data = Data({next(iter(program.inputs)): train}, train_lengths, None)
    for step in pipeline("c", "native", data=data):
        program = step(program)
    program = SigmaDelta(levels=LEVELS, data=data)(program)
    files, engines = program_files(program, "vowels_gru"), []

    def run() -> dict[str, np.ndarray]:
        engines.clear()
        made = drive(
            program,
            inputs,
            lengths,
            lambda stage, _: engines.append(StepEngine(program, stage, files, brian2)) or engines[-1],
        )
        return made.series

    found, wanted = run(), interpret.run(program, inputs, lengths).series
    ran = np.arange(x.shape[1]) < lengths[:, None]
    same = all(np.array_equal(found[name][ran], wanted[name][ran]) for name in wanted)
    changes = sum(np.count_nonzero(a) for e in engines for a in e.events.values())
    words = f"GRU, {LEVELS} levels, {changes / len(x):.0f} changes of sent values a sample"
    return run, f"{words}; all {int(lengths.sum())} steps {'equal' if same else 'DIFFERENT'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    x, lengths, _ = vowels.load("test")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NEURODEPLOY_CACHE"] = cache
        for make_run in (run_liquid, run_gru):
            brian2 = Brian2()
            run, words = make_run(x, lengths, brian2)
            print(words)
            build = brian2.run.build_seconds
            print(f"  {brian2.run.engine}; build {build:.1f} s" if build else f"  {brian2.run.engine}")
            seconds = []
            for _ in range(options.runs):
                began = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - began)
            print(f"  {len(x)} samples, from the cache: {', '.join(f'{s:.2f}' for s in seconds)} s")


if __name__ == "__main__":
    main()
