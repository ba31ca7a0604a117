"""Brian2: an echo state network as a liquid-state machine of integrate-and-fire neurons, its readout refitted.

The liquid is the reservoir itself, unit by unit and weight by weight (:mod:`neurodeploy.spiking.liquid`). It computes
in whole numbers, so that Brian2 and the golden model agree on every bit of every output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure, Resources, Trace
from neurodeploy.backends import Capability
from neurodeploy.errors import UnsupportedError, UsageError, require
from neurodeploy.hardware import find_chip
from neurodeploy.ir import interpret, text
from neurodeploy.ir.drive import drive, real_outputs
from neurodeploy.ir.fixed import quantize
from neurodeploy.spiking import liquid_fit, liquid_program, network
from neurodeploy.spiking.brian2_network import LiquidEngine
from neurodeploy.spiking.costs import Events, target_of
from neurodeploy.spiking.energy import energies
from neurodeploy.spiking.liquid import Constants, Liquid, build

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Target
    from neurodeploy.ir.graph import Graph, Program

LIQUID = "liquid.npz"
#: Activations that integrate-and-fire neurons follow -> whether they have two signs (a pair of neurons a unit).
ACTIVATIONS: Mapping[str, bool] = {"tanh": True, "softsign": True, "relu": False}


class LiquidBackend:
    """Compiles echo state networks for targets of ``backend = "brian2"``."""

    name = "brian2"

    def accepts(self, target: Target) -> Capability:
        """One forward stage with a composite ``leaky``; exact."""
        return Capability(frozenset(), frozenset({"f32"}), frozenset({"forward"}), frozenset({"leaky"}), "exact")

    def compile(
        self, program: Program, target: Target, *, data: Data | None = None, source: Program | None = None,
        name: str | None = None, progress: Callable[[str], None] = lambda _: None, **options: Any,
    ) -> Artifact:  # fmt: skip
        """A liquid-state machine fitted on ``data``, which holds training inputs and, for a classifier, labels.

        Without labels the readout learns the network's own outputs. Raises :class:`UnsupportedError` for other
        networks, :class:`UsageError` without data, :class:`DataError` for data that don't fit.
        """
        if options:
            raise UsageError(f"the backend brian2 has no option '{min(options)}'.")
        source = source or program
        found = network.find(program, self.name)
        signed = _fits(found, program)
        if data is None:
            raise UsageError(
                "the readout of a liquid-state machine is refitted; needed training data with labels.",
                place=program.name,
                hint="Give sample inputs (--data FILE.npz with x, lengths, y).",
            )
        amplitude, teacher, active = _observe(program, found, data)
        largest = float(np.abs(data.inputs[found.input]).max())
        scale = float(np.float32((largest or 1.0) / 32767))

        def make(constants: Constants) -> Liquid:
            return build(found.W, found.U, found.bias, found.leak[0], scale, amplitude, signed, constants)

        x = quantize(data.inputs[found.input], liquid_program.input_type(make(Constants(1, 1.0, 1.0, 0.0))))
        ref = next(iter(program.outputs.values()))
        task = liquid_fit.task_of(data.labels, teacher, active, len(found.c), program.is_series(ref))
        liquid, fit = liquid_fit.fit(make, x, active, task, progress)
        meta = {"spiking": {"method": "liquid-state-machine"}}
        compiled = liquid_program.program_of(liquid, source, found.stage, found.input, found.output, meta)
        files = {**text.to_files(compiled, "program"), **text.to_files(source, "source"), LIQUID: liquid.to_bytes()}
        manifest = {
            "schema": SCHEMA_VERSION,
            "name": name or source.name,
            "backend": self.name,
            "target": target.name,
            "numerics": compiled.numerics,
            "equality": "exact",
            "inputs": [{"name": n, "kind": i.kind, "shape": list(i.type.shape), "dtype": i.type.dtype, "scale": scale,
                        "zero_point": 0} for n, i in compiled.inputs.items()],
            "outputs": [{"name": n, "from": str(compiled.outputs[n]), "shape": list(t.shape), "dtype": t.dtype,
                         "scale": liquid.out_scale, "zero_point": 0} for n, t in compiled.output_types().items()],
            "layout": {
                "method": "liquid-state machine, readout refitted by ridge regression",
                "neurons_per_unit": 2 if signed else 1,
                "fit": {**asdict(fit), "amplitude": amplitude, "samples": data.samples, "folds": liquid_fit.FOLDS,
                        "seed": None, "labels": "given" if data.labels is not None else "the network's own outputs"},
            },
        }  # fmt: skip
        artifact = Artifact(manifest["name"], self.name, target.name, files, manifest)
        manifest["figures"] = [vars(figure) for figure in self.resources(artifact)]
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """Neurons and synapses."""
        liquid = Liquid.from_bytes(artifact.files[LIQUID])
        source = "counted in the network: recurrent neurons and their non-zero weights"
        return (
            Figure("neurons", liquid.neurons, "neurons", "compiled", source),
            Figure("synapses", int(np.count_nonzero(liquid.weights)), "synapses", "compiled", source),
        )


def _fits(found: network.Network, program: Program) -> bool:
    """Whether units have two signs. Raises :class:`UnsupportedError` for what isn't an echo state network's layer."""
    place = f"{program.name}/{found.stage}: state %{found.state} ({found.cell})"
    if found.activation_name not in ACTIVATIONS or found.clip is not None:
        raise UnsupportedError(
            f"activation {found.activation!r}{' with a clip' if found.clip is not None else ''} has no rate code here; "
            f"needed {', '.join(ACTIVATIONS)}.",
            place=place,
            hint="Use the target snntorch-sigma-delta, which takes any activation.",
        )
    if np.ptp(found.leak) > 0 or not 0 < found.leak[0] < 1:
        raise UnsupportedError(
            f"leaks {found.leak.min():.4g}..{found.leak.max():.4g}; needed one for all units, above 0 and below 1: it "
            "is the time constant of all synapses.",
            place=place,
            hint="Use the target snntorch-sigma-delta, which takes any leak.",
        )
    return ACTIVATIONS[found.activation_name]


def _observe(program: Program, found: network.Network, data: Data) -> tuple[float, np.ndarray, np.ndarray]:
    """What a saturated neuron stands for, the network's own outputs, and which frames run ``[batch, frames]``."""
    trace = interpret.run(program, data.inputs, data.lengths, states=True)
    states = trace.states[f"{found.stage}.{found.state}"]
    active = np.arange(states.shape[1]) < trace.steps[found.stage][:, None]
    bounded = found.activation_name != "relu"
    amplitude = 1.0 if bounded else float(np.percentile(states[active], 99.9)) or 1.0
    return amplitude, next(iter(real_outputs(program, trace).values())).astype(np.float64), active


class LiquidRunner:
    """Runs a liquid-state machine in Brian2, samples side by side as one block-diagonal network."""

    name = "brian2"

    def run(
        self, artifact: Artifact, inputs: dict[str, np.ndarray], lengths: np.ndarray | None = None, *,
        states: bool = False, **options: Any,
    ) -> Trace:  # fmt: skip
        """Simulate a batch; ``trace.counters["spikes"]`` is ``[batch, frames]``.

        Raises :class:`MissingExtraError` without Brian2, :class:`DataError` for data that don't fit.
        """
        if options or states:
            raise UsageError(f"the runner brian2 has no option '{min(options) if options else 'states'}'.")
        brian2 = require("brian2", "spiking", "the target's simulator")
        target = target_of(artifact)
        liquid = Liquid.from_bytes(artifact.files[LIQUID])
        program = text.from_files(artifact.files, "program")
        engines: list[LiquidEngine] = []

        def executor(stage: str, graph: Graph) -> LiquidEngine:
            engines.append(LiquidEngine(liquid, graph, target.clock.dt_s if target.clock else 1e-3))
            return engines[-1]

        trace = drive(program, inputs, lengths, executor)
        engine = engines[0]
        trace.counters["spikes"] = engine.spikes.sum(axis=2)
        events = _events(liquid, engine, trace, program)
        source = (
            f"Brian2 {brian2.__version__}, {liquid.neurons} neurons, {liquid.ticks} ticks a step; ACs: recurrent "
            "synapses; MACs: input currents and readout"
        )
        trace.record = {
            "where": f"Brian2 {brian2.__version__} on this machine, {engine.codegen} code",
            "versions": {"brian2": brian2.__version__, "numpy": np.__version__},
            "simulator": "brian2",
            "version": brian2.__version__,
            "dt": engine.dt_s,
            "seed": None,
            "figures": [*events.figures(source), *energies(events, [find_chip(name) for name in target.chips])],
        }
        return trace


def _events(liquid: Liquid, engine: LiquidEngine, trace: Trace, program: Program) -> Events:
    """Mean counts of an inference; the readout counts every step only where every step's scores are an output."""
    batch, n = len(engine.spikes), liquid.neurons
    steps = float(sum(s.sum() for s in trace.steps.values())) / batch
    per_neuron = engine.spikes.sum(axis=(0, 1)) / batch
    reads = steps if program.is_series(next(iter(program.outputs.values()))) else 1.0
    spikes = float(per_neuron.sum())
    return Events(
        spikes=spikes,
        acs=float(per_neuron @ np.count_nonzero(liquid.weights, axis=0)),
        macs=steps * np.count_nonzero(liquid.W_in) + reads * np.count_nonzero(liquid.readout),
        dense=steps * (liquid.ticks * n * n + liquid.W_in.size) + reads * liquid.readout.size,
        membrane_updates=None,  # the simulator doesn't keep them
        updates=steps * liquid.ticks * n,
        network_macs=steps * (liquid.W_in.size + liquid.W.size) + reads * len(liquid.readout) * len(liquid.bias),
    )
