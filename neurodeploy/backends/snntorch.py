"""snnTorch: one leaky or Elman layer as clocked sigma-delta neurons, equal to the network with quantized levels.

Nothing is fitted but the number of levels: the smallest that keeps the accuracy on the calibration data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure, Resources, Trace
from neurodeploy.backends import Capability
from neurodeploy.errors import UsageError, require
from neurodeploy.hardware import find_chip
from neurodeploy.ir import interpret, text
from neurodeploy.ir.drive import drive, real_outputs
from neurodeploy.report.metrics import accuracy, nrmse, synaptic_operations
from neurodeploy.spiking import network, sigma_delta
from neurodeploy.spiking.costs import Events, target_of
from neurodeploy.spiking.energy import energies
from neurodeploy.spiking.snntorch_network import WHY, SigmaDeltaEngine

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Target
    from neurodeploy.ir.graph import Graph, Program

LAYER = "sigma_delta.npz"
#: What the chosen levels may cost on the calibration data. The outputs are judged too, as training data flatter.
ACCURACY_LOSS = 0.005
NRMSE_LIMIT = 0.1


class SnnTorchBackend:
    """Compiles one recurrent layer without gates for targets of ``backend = "snntorch"``."""

    name = "snntorch"

    def accepts(self, target: Target) -> Capability:
        """One forward stage with a composite ``leaky`` or ``elman``; exact."""
        return Capability(
            frozenset(), frozenset({"f32"}), frozenset({"forward"}), frozenset(network.CELLS), equality="exact"
        )

    def compile(
        self, program: Program, target: Target, *, data: Data | None = None, source: Program | None = None,
        name: str | None = None, levels: int | None = None, progress: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> Artifact:  # fmt: skip
        """Sigma-delta neurons with ``levels`` levels from zero to each unit's largest activation (1 to 64).

        Without ``levels``, the fewest of 2, 4, ..., 64 whose outputs on ``data`` are within an NRMSE of 0.1 of the
        float network's and, where there are labels, whose accuracy is at most 0.5 points below its. Raises
        :class:`UnsupportedError` for other networks, :class:`UsageError` without data.
        """
        if options:
            raise UsageError(f"the backend snntorch has no option '{min(options)}'.")
        if levels is not None and not 1 <= levels <= max(sigma_delta.LEVELS):
            raise UsageError(f"levels is {levels}; needed 1 to {max(sigma_delta.LEVELS)}.")
        source = source or program
        found = network.find(program, self.name)
        if data is None:
            raise UsageError(
                "the levels of sigma-delta neurons need the range of every state.",
                place=program.name,
                hint="Give sample inputs (--data FILE.npz).",
            )
        trace = interpret.run(program, data.inputs, data.lengths, states=True)
        states = trace.states[f"{found.stage}.{found.state}"]
        active = np.arange(states.shape[1]) < trace.steps[found.stage][:, None]
        ranges = sigma_delta.ranges_of(found, data.inputs[found.input], states, active)
        layer, compiled, tried = _choose(source, found, ranges, data, trace, levels, progress)
        files = {**text.to_files(compiled, "program"), **text.to_files(source, "source"), LAYER: layer.to_bytes()}
        types = compiled.output_types()
        manifest = {
            "schema": SCHEMA_VERSION,
            "name": name or source.name,
            "backend": self.name,
            "target": target.name,
            "numerics": compiled.numerics,
            "equality": "exact",
            "inputs": [{"name": n, "kind": i.kind, "shape": list(i.type.shape), "dtype": i.type.dtype,
                        "scale": layer.in_scale, "zero_point": 0} for n, i in compiled.inputs.items()],
            "outputs": [{"name": n, "from": str(compiled.outputs[n]), "shape": list(t.shape), "dtype": t.dtype,
                         "scale": layer.out_scale, "zero_point": 0} for n, t in types.items()],
            "layout": {"method": "clocked sigma-delta", "levels": layer.levels, "leak_at": layer.leak_at,
                       "chosen": levels is None, "tried": tried, "seed": None},
            "warnings": _warnings(compiled, tried, levels),
        }  # fmt: skip
        artifact = Artifact(manifest["name"], self.name, target.name, files, manifest)
        manifest["figures"] = [vars(figure) for figure in self.resources(artifact)]
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """Neurons and synapses."""
        layer = sigma_delta.SigmaDelta.from_bytes(artifact.files[LAYER])
        source = "counted in the network: recurrent neurons and their non-zero weights"
        return (
            Figure("neurons", len(layer.bias), "neurons", "compiled", source),
            Figure("synapses", int(np.count_nonzero(layer.U)), "synapses", "compiled", source),
            Figure("levels", layer.levels, "levels", "compiled", "of a neuron's activation, from zero to its largest"),
        )


def _choose(
    source: Program, found: network.Network, ranges: sigma_delta.Ranges, data: Data, plain: Trace,
    levels: int | None, progress: Callable[[str], None],
) -> tuple[sigma_delta.SigmaDelta, Program, list[dict[str, Any]]]:  # fmt: skip
    """The layer, its program and every number of levels tried with its score."""
    from neurodeploy.validate import scores_of

    labels = data.labels
    ref = next(iter(source.outputs.values()))
    wanted = next(iter(real_outputs(source, plain).values()))
    tried: list[dict[str, Any]] = []
    for count in [levels] if levels else sigma_delta.LEVELS:
        layer = sigma_delta.build(found, ranges, count)
        meta = {"spiking": {"method": "sigma-delta", "levels": count}}
        compiled = sigma_delta.program_of(layer, source, found, meta)
        outputs = real_outputs(compiled, interpret.run(compiled, data.inputs, data.lengths))
        given = next(iter(outputs.values()))
        steps = plain.steps[found.stage][:, None]
        ran = np.arange(given.shape[1]) < steps if source.is_series(ref) else slice(None)
        entry: dict[str, Any] = {"levels": count, "nrmse": nrmse(given[ran], wanted[ran])}
        good = entry["nrmse"] <= NRMSE_LIMIT
        if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
            entry["accuracy"] = accuracy(scores_of(compiled, outputs, data.lengths, labels), labels)
            plain_scores = scores_of(source, {next(iter(outputs)): wanted}, data.lengths, labels)
            entry["float_accuracy"] = accuracy(plain_scores, labels)
            good &= entry["accuracy"] >= entry["float_accuracy"] - ACCURACY_LOSS
        tried.append({**entry, "kept": bool(good)})
        progress(f"sigma-delta, {count} levels: {tried[-1]}")
        if good:
            break
    return layer, compiled, tried


def _warnings(program: Program, tried: list[dict[str, Any]], levels: int | None) -> list[str]:
    found = list(program.meta.get("warnings", []))
    if levels is None and not tried[-1]["kept"]:
        last = tried[-1]
        found.append(
            f"{last['levels']} levels, the most there are, miss the wanted accuracy (NRMSE {last['nrmse']:.3g})"
        )
    return found


class SnnTorchRunner:
    """Runs sigma-delta neurons in snnTorch, a batch at a time."""

    name = "snntorch"

    def run(
        self, artifact: Artifact, inputs: dict[str, np.ndarray], lengths: np.ndarray | None = None, *,
        states: bool = False, **options: Any,
    ) -> Trace:  # fmt: skip
        """Simulate a batch; ``trace.counters["spikes"]`` is ``[batch, steps]``, graded events sent.

        Raises :class:`MissingExtraError` without snnTorch, :class:`DataError` for data that don't fit.
        """
        if options:
            raise UsageError(f"the runner snntorch has no option '{min(options)}'.")
        snntorch, torch = require("snntorch", "spiking", WHY), require("torch", "spiking", WHY)
        target = target_of(artifact)
        layer = sigma_delta.SigmaDelta.from_bytes(artifact.files[LAYER])
        program = text.from_files(artifact.files, "program")
        engines: list[SigmaDeltaEngine] = []

        def executor(stage: str, graph: Graph) -> SigmaDeltaEngine:
            engines.append(SigmaDeltaEngine(layer, graph))
            return engines[-1]

        with torch.inference_mode():
            trace = drive(program, inputs, lengths, executor, states=states)
        events = engines[0].events
        trace.counters["spikes"] = np.count_nonzero(events, axis=2)
        counted = _events(layer, events, trace)
        version = f"snnTorch {snntorch.__version__}, torch {torch.__version__}"
        note = (
            f"{version}; {layer.levels} levels, {len(layer.bias)} neurons; a spike is a graded event; connections "
            "whose events are all -1, 0 or 1 count ACs, the others MACs"
        )
        trace.record = {
            "where": f"{version} on this machine",
            "versions": {"snntorch": snntorch.__version__, "torch": str(torch.__version__), "numpy": np.__version__},
            "simulator": "snntorch",
            "version": snntorch.__version__,
            "dt": None,
            "seed": None,
            "figures": [*counted.figures(note), *energies(counted, [find_chip(name) for name in target.chips])],
        }
        return trace


def _events(layer: sigma_delta.SigmaDelta, events: np.ndarray, trace: Trace) -> Events:
    """Mean counts of an inference: input currents, recurrent synapses and readout."""
    batch, n = len(events), len(layer.bias)
    steps = float(sum(s.sum() for s in trace.steps.values())) / batch
    spiking = synaptic_operations([(events, layer.U), (events, layer.V)])
    fanout = np.count_nonzero(layer.U, axis=0) + np.count_nonzero(layer.V, axis=0)
    unit = np.abs(events).sum(axis=(0, 1)) / batch
    spikes = np.count_nonzero(events) / batch
    first = np.count_nonzero(events[:, 0]) / batch if events.shape[1] else 0.0
    return Events(
        spikes=spikes,
        acs=spiking["Effective_ACs"],
        macs=spiking["Effective_MACs"] + steps * np.count_nonzero(layer.W),
        dense=steps * (layer.W.size + layer.U.size + layer.V.size),
        membrane_updates=n + spikes - first,
        updates=steps * n,
        network_macs=steps * (layer.W.size + layer.U.size + layer.V.size),
        unit_acs=float(unit @ fanout),
    )
