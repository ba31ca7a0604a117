"""How fast a spiking network runs: the compiled reference beside Brian2 and snnTorch, spike for spike the same.

1,000 leaky integrate-and-fire neurons (800 excitatory, 200 inhibitory), 100,000 synapses chosen at random, 1 s of
biological time at about 19 spikes a second and neuron, in ticks of 1 ms or 0.1 ms; inputs change every 10 ms. All
engines run in this one process or under it, one thread each, and must give the same spikes; a row is the best of some
runs, by the clock and by what the processor worked, which others on the machine disturb less.

    python -m benchmarks.spiking_speed [--dt 1e-3 1e-4] [--samples 50] [--rounds 3] [--without brian2-numpy ...]

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
class Row:
    """An engine's best: seconds a sample in ``batch`` samples at once, by the clock and of the processor (None where
    only the engine's own clock is known), and whether its spikes were the same."""

    engine: str
    batch: int
    seconds: float
    processor: float | None
    same: str


def best(rounds: int, run: Callable[[], Any]) -> tuple[float, float, Any]:
    """The fewest seconds of some runs, by the clock and of the processor, children included; what the last one gave."""
    seconds, processor, result = np.inf, np.inf, None
    for _ in range(rounds):
        start, used = time.perf_counter(), processor_seconds()
        result = run()
        seconds = min(seconds, time.perf_counter() - start)
        processor = min(processor, processor_seconds() - used)
    return seconds, processor, result


def processor_seconds() -> float:
    """What this process and its finished children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def same(given: Activity, wanted: np.ndarray) -> str:
    """Whether the spikes are those of the first samples of a raster; ends the program where they aren't."""
    if given.raster is None or not np.array_equal(given.raster, wanted[: len(given.raster)]):
        raise SystemExit("the spikes differ")
    return "yes"


def measure(dt: float, batch: int, rounds: int, without: list[str]) -> list[Row]:
    """All engines on one network."""
    net = network(dt)
    x, active = inputs(batch)
    engine = reference.Reference(net)
    ran = engine(x, active, raster=True)
    wanted = np.asarray(ran.raster)
    same(simulate(net, x[:1], active[:1], raster=True), wanted)
    print(f"dt {dt * 1e3:g} ms: {ran.spikes / net.neurons / SECONDS:.1f} spikes a second and neuron", flush=True)
    rows: list[Row] = []

    def add(name: str, size: int, times: int, run: Callable[[], Any], verdict: Callable[[Any], str]) -> None:
        seconds, processor, given = best(times, run)
        rows.append(Row(name, size, seconds / size, processor / size, verdict(given)))

    def equal(given: Activity) -> str:
        return same(given, wanted)

    def raster_of(simulator: Callable[..., Activity], size: int) -> Callable[[], Activity]:
        return lambda: simulator(net, x[:size], active[:size], raster=True)

    for size in (1, batch):
        times = rounds * (20 if size == 1 else 3)
        add("reference", size, times, lambda size=size: engine(x[:size], active[:size]), lambda _: "yes")
    add("reference, with its preparation", 1, rounds, raster_of(reference.simulate, 1), equal)
    if "brian2" not in without:
        for lanes, size in ((1, 1), (LANES, batch)):
            rows += brian2(net, x[:size], active[:size], lanes, rounds, wanted)
    if "brian2-numpy" not in without:
        add("Brian2 NumPy, whole", 1, 1, raster_of(brian2_run.Brian2("numpy"), 1), equal)
    if "snntorch" not in without:
        for size in (1, batch):
            add("snnTorch, our module", size, 1, raster_of(snntorch_net.simulate, size), equal)
            add("snnTorch RSynaptic", size, 1, lambda size=size: rsynaptic(net, x[:size]),
                lambda spikes, size=size: f"no ({spikes / size / net.neurons:.1f} Hz)")  # fmt: skip
    return rows


def brian2(
    net: SpikingNet, x: np.ndarray, active: np.ndarray, lanes: int, rounds: int, wanted: np.ndarray
) -> list[Row]:
    """Brian2 C++ standalone: the script's call, its program, the program's main loop."""
    batch, frames = active.shape
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "network.py").write_text(brian2_script.net_script(net, "net.npz"))
        (folder / "net.npz").write_bytes(net.to_bytes())
        np.savez(folder / "input.npz", x=x.astype(np.int32), lengths=active.sum(axis=1))
        script = [sys.executable, str(folder / "network.py")]
        built = [*script, "--build", str(folder / "built"), "--lanes", str(lanes), "--frames", str(frames)]
        start = time.perf_counter()
        subprocess.run(built, check=True)
        print(f"  Brian2 standalone, {lanes} lanes: compiled in {time.perf_counter() - start:.1f} s", flush=True)
        call = [*script, str(folder / "input.npz"), str(folder / "output.npz"), "--built", str(folder / "built")]
        whole, used, _ = best(rounds, lambda: subprocess.run(call, check=True, stdout=subprocess.DEVNULL))
        with np.load(folder / "output.npz") as found:
            raster = np.zeros((batch, frames * net.ticks, net.neurons), bool)
            raster[found["spike_sample"], found["spike_tick"], found["spike_neuron"]] = True
        verdict = same(Activity(raster, raster, raster), wanted)
        chunks = range(0, batch, lanes)

        def programs() -> float:
            return sum(run_program(net, folder / "built" / "net", x[c : c + lanes], lanes) for c in chunks)

        runs = [best(1, programs) for _ in range(rounds)]
    name = f"Brian2 standalone, {lanes} lane{'s' * (lanes > 1)}"
    parts = (("whole", whole, used), ("program", *(min(run[i] for run in runs) for i in (0, 1))),
             ("inside", min(run[2] for run in runs), None))  # fmt: skip
    return [Row(f"{name}: {part}", batch, seconds / batch, None if used is None else used / batch, verdict)
            for part, seconds, used in parts]  # fmt: skip


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


def show(rows: list[Row]) -> None:
    """The table, each row beside the reference on as many samples."""
    own = {row.batch: row for row in rows if row.engine == "reference"}
    cells = []
    for row in rows:
        beside = own[row.batch]
        used = [None, None] if row.processor is None or beside.processor is None else [
            f"{row.processor * 1e3:.2f}", f"{row.processor / beside.processor:.1f}"]  # fmt: skip
        cells.append([row.engine, row.batch, f"{row.seconds * 1e3:.2f}", f"{row.seconds / beside.seconds:.1f}",
                      *used, row.same])  # fmt: skip
    columns = ["engine", "samples", "ms a sample", "times the reference's", "processor's ms", "times", "same spikes"]
    table("", columns, cells, right=columns[1:6])


def main() -> None:
    parser = argparse.ArgumentParser(description="The compiled reference, Brian2 and snnTorch on one spiking network.")
    parser.add_argument("--dt", type=float, nargs="+", default=[1e-3, 1e-4], help="seconds a tick")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="+", default=[], choices=["brian2", "brian2-numpy", "snntorch"])
    options = parser.parse_args()
    for dt in options.dt:
        show(measure(dt, options.samples, options.rounds, options.without))


if __name__ == "__main__":
    main()
