"""How fast a spiking network runs: the compiled reference beside Brian2 and snnTorch, spike for spike the same.

1,000 leaky integrate-and-fire neurons (800 excitatory, 200 inhibitory), 100,000 synapses chosen at random, 1 s of
biological time at about 19 spikes a second and neuron, in ticks of 1 ms or 0.1 ms; inputs change every 10 ms. All
engines run in this one process or under it, one thread each, and must give the same spikes; a row is the best of some
runs, by the clock and by what the processor worked, which others on the machine disturb less.

    OMP_NUM_THREADS=1 python -m benchmarks.spiking_speed [--dt 1e-3 1e-4] [--samples 10] [--rounds 8] [--without ...]

Brian2 runs the script that a build holds (``spiking/brian2_script.py``), compiled before. *whole* is a call: a new
process for the script, its files, and the compiled program; *program* is the compiled program with its input files;
*inside* is what that program says of its main loop. ``lanes`` samples lie side by side in one program.
snnTorch's RSynaptic, with its own reset, gives other spikes (see ``docs/spiking/reference.md``); it runs the same
weights in the usual loop, without gradients.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.cli.output import table
from neurodeploy.spiking import brian2_run, brian2_script, reference, snntorch_net
from neurodeploy.spiking.net import Activity, Projection, SpikingNet, make, simulate

EXCITATORY, INHIBITORY, SYNAPSES = 800, 200, 100_000
SECONDS, FRAME = 1.0, 10e-3
TAU_MEMBRANE, TAU_SYNAPSE, TAU_TRACE = 20e-3, 5e-3, 20e-3
INPUTS = 8
#: Samples side by side in one Brian2 program, where there are many.
LANES = 10
#: Area of a postsynaptic potential in thresholds times seconds; drive in thresholds, chosen for about 19 Hz.
AREA, BIAS, DRIVE = 0.4e-3, 0.53, 0.13


def network(dt: float) -> SpikingNet:
    """The network; its weights depend on ``dt`` such that its rates hardly do."""
    rng = np.random.default_rng(0)
    n = EXCITATORY + INHIBITORY
    alpha, beta = np.exp(-dt / TAU_SYNAPSE), np.exp(-dt / TAU_MEMBRANE)
    weights = np.zeros(n * n)
    weights[rng.choice(n * n, SYNAPSES, replace=False)] = rng.uniform(0, 2, SYNAPSES)
    weights = weights.reshape(n, n)
    weights[:, EXCITATORY:] *= -EXCITATORY / INHIBITORY
    return make(
        ticks=round(FRAME / dt), dt_s=dt, beta=beta, threshold=1.0, reset="zero", start=rng.uniform(0, 1, n),
        W_in=rng.uniform(0, DRIVE, (n, INPUTS)) * (1 - beta), bias=np.full(n, BIAS * (1 - beta)), largest_input=1.0,
        projections=[Projection("recurrent", weights * (AREA / dt) * (1 - alpha) * (1 - beta), alpha)],
        keep=np.exp(-dt / TAU_TRACE), populations=[("excitatory", EXCITATORY), ("inhibitory", INHIBITORY)],
    )  # fmt: skip


def inputs(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs of so many samples, whole numbers, and that all their frames run."""
    frames = round(SECONDS / FRAME)
    return np.random.default_rng(1).integers(0, 1024, (samples, frames, INPUTS)), np.ones((samples, frames), bool)


@dataclass
class Engine:
    """What is timed: ``run`` gives seconds of its own clock, or None, and what ``verdict`` judges; ``repeat`` times a
    round, in no more than ``rounds``. Kept are the best seconds of a run, by the clock (its own, where it has one) and
    of the processor."""

    name: str
    batch: int
    run: Callable[[], tuple[float | None, Any]]
    verdict: Callable[[Any], str]
    repeat: int = 1
    rounds: int = 1000
    seconds: float = np.inf
    processor: float = np.inf
    same: str = ""

    def measure(self) -> None:
        """One round."""
        self.rounds -= 1
        for _ in range(self.repeat):
            start, used = time.perf_counter(), processor_seconds()
            own, given = self.run()
            clock, used = time.perf_counter() - start, processor_seconds() - used
            self.seconds = min(self.seconds, clock if own is None else own)
            self.processor = min(self.processor, used if own is None else np.inf)
        self.same = self.verdict(given)


def processor_seconds() -> float:
    """What this process and its finished children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def same(raster: np.ndarray | None, wanted: np.ndarray) -> str:
    """Whether spikes are those of the first samples of a raster; ends the program where they aren't."""
    if raster is None or not np.array_equal(raster, wanted[: len(raster)]):
        raise SystemExit("the spikes differ")
    return "yes"


def engines(dt: float, batch: int, without: list[str], scratch: Path) -> list[Engine]:
    """All engines on one network, Brian2's compiled."""
    net = network(dt)
    x, active = inputs(batch)
    laid_out = reference.Reference(net)
    ran = laid_out(x, active, raster=True)
    wanted = np.asarray(ran.raster)
    same(simulate(net, x[:1], active[:1], raster=True).raster, wanted)
    print(f"dt {dt * 1e3:g} ms: {ran.spikes / net.neurons / SECONDS:.1f} spikes a second and neuron", flush=True)

    def engine(name: str, size: int, run: Callable[..., Activity], **how: Any) -> Engine:
        """``run`` with and without a raster: it is timed without."""
        raster = run(x[:size], active[:size], raster=True).raster
        verdict = same(raster, wanted)
        return Engine(name, size, lambda: (None, run(x[:size], active[:size])), lambda _: verdict, **how)

    found = [engine("reference", 1, laid_out, repeat=20), engine("reference", batch, laid_out, repeat=5)]
    found.append(engine("reference, with its preparation", 1, partial(reference.simulate, net), repeat=3))
    if "brian2" not in without:
        found += brian2(net, x[:1], active[:1], 1, wanted, scratch / "one")
        found += brian2(net, x, active, LANES, wanted, scratch / "many")
    if "brian2-numpy" not in without:
        found.append(engine("Brian2 NumPy, whole", 1, partial(brian2_run.Brian2("numpy"), net), rounds=1))
    if "snntorch" not in without:
        for size in (1, batch):
            found.append(engine("snnTorch, our module", size, partial(snntorch_net.simulate, net), rounds=2))
            found.append(Engine("snnTorch RSynaptic", size, lambda size=size: (None, rsynaptic(net, x[:size])),
                                lambda spikes, size=size: f"no ({spikes / size / net.neurons:.1f} Hz)",
                                rounds=2))  # fmt: skip
    return found


def brian2(
    net: SpikingNet, x: np.ndarray, active: np.ndarray, lanes: int, wanted: np.ndarray, folder: Path
) -> list[Engine]:
    """Brian2 C++ standalone: the script's call, its program, the program's main loop."""
    batch, frames = active.shape
    folder.mkdir()
    (folder / "network.py").write_text(brian2_script.net_script(net, "net.npz"))
    (folder / "net.npz").write_bytes(net.to_bytes())
    np.savez(folder / "input.npz", x=x.astype(np.int32), lengths=active.sum(axis=1))
    script = [sys.executable, str(folder / "network.py")]
    start = time.perf_counter()
    how = ["--build", str(folder / "built"), "--lanes", str(lanes), "--frames", str(frames)]
    subprocess.run([*script, *how], check=True)
    print(f"  Brian2 standalone, {lanes} lanes: compiled in {time.perf_counter() - start:.1f} s", flush=True)
    call = [*script, str(folder / "input.npz"), str(folder / "output.npz"), "--built", str(folder / "built")]
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
    with np.load(folder / "output.npz") as found:
        raster = np.zeros((batch, frames * net.ticks, net.neurons), bool)
        raster[found["spike_sample"], found["spike_tick"], found["spike_neuron"]] = True
    verdict = same(raster, wanted)

    def programs() -> float:
        parts = [x[first : first + lanes] for first in range(0, batch, lanes)]
        return sum(run_program(net, folder / "built" / "net", part, lanes) for part in parts)

    name = f"Brian2 standalone, {lanes} lane{'s' * (lanes > 1)}"
    runs: dict[str, Callable[[], tuple[float | None, Any]]] = {
        "whole": lambda: (None, subprocess.run(call, check=True, stdout=subprocess.DEVNULL)),
        "program": lambda: (None, programs()),
        "inside": lambda: (programs(), None),
    }
    return [Engine(f"{name}: {part}", batch, run, lambda _: verdict) for part, run in runs.items()]


def run_program(net: SpikingNet, built: Path, x: np.ndarray, lanes: int) -> float:
    """Run a compiled program on one sample a lane; seconds of its main loop, as it says."""
    frames = x.shape[1]
    currents, phases = np.zeros((frames, net.neurons, lanes)), np.zeros((frames, lanes))
    currents[:, :, : len(x)] = np.moveaxis(net.current(x), 0, 2)
    phases[:, : len(x)] = 1
    phases[0, : len(x)] = 2
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["--results_dir", scratch + os.sep]
        for name, values in (("currents", currents), ("phases", phases)):
            values.tofile(Path(scratch) / f"{name}.feed")
            arguments.append(f"{name}.values={Path(scratch) / name}.feed")
        subprocess.run([built / "main", *arguments], cwd=built, check=True, stdout=subprocess.DEVNULL)
        return float((Path(scratch) / "last_run_info.txt").read_text().split()[0])


def rsynaptic(net: SpikingNet, x: np.ndarray) -> float:
    """All spikes of snnTorch's own recurrent neuron with the same constants and weights, as its users write it."""
    import snntorch
    import torch

    (projection,) = net.projections
    neuron: Any = snntorch.RSynaptic(
        torch.tensor(projection.alpha), torch.tensor(net.beta), linear_features=net.neurons, reset_mechanism="zero",
        threshold=float(net.threshold[0]),
    )  # fmt: skip
    with torch.inference_mode(), snntorch_net.exact():
        neuron.recurrent.weight.copy_(torch.tensor(projection.weights))
        neuron.recurrent.bias.zero_()
        J = torch.tensor(net.current(x) * (1 - projection.alpha))  # RSynaptic takes inputs into its synapse
        spikes = syn = torch.zeros(len(x), net.neurons)
        mem, total = torch.tensor(net.start).expand(len(x), -1), 0.0
        for tick in range(x.shape[1] * net.ticks):
            spikes, syn, mem = neuron(J[:, tick // net.ticks], spikes, syn, mem)
            total += float(spikes.sum())
    snntorch.SpikingNeuron.instances.remove(neuron)
    return total


def show(found: list[Engine]) -> None:
    """The table, each row beside the reference on as many samples."""
    own = {engine.batch: engine for engine in found if engine.name == "reference"}
    rows = []
    for e in found:
        beside, used = own[e.batch], ["", ""]
        if np.isfinite(e.processor):
            used = [f"{e.processor / e.batch * 1e3:.2f}", f"{e.processor / beside.processor:.1f}"]
        rows.append([e.name, e.batch, f"{e.seconds / e.batch * 1e3:.2f}", f"{e.seconds / beside.seconds:.1f}", *used,
                     e.same])  # fmt: skip
    columns = ["engine", "samples", "ms a sample", "times the reference's", "processor's ms", "times", "same spikes"]
    table("", columns, rows, right=columns[1:6])


def main() -> None:
    parser = argparse.ArgumentParser(description="The compiled reference, Brian2 and snnTorch on one spiking network.")
    parser.add_argument("--dt", type=float, nargs="+", default=[1e-3, 1e-4], help="seconds a tick")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--without", nargs="+", default=[], choices=["brian2", "brian2-numpy", "snntorch"])
    options = parser.parse_args()
    for dt in options.dt:
        with tempfile.TemporaryDirectory() as scratch:
            found = engines(dt, options.samples, options.without, Path(scratch))
            for _ in range(options.rounds):  # in turn, so that what else the machine does disturbs all alike
                for engine in (e for e in found if e.rounds > 0):
                    engine.measure()
        show(found)


if __name__ == "__main__":
    main()
