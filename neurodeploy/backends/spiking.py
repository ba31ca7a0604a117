"""What the spiking backends share: a conversion's result as an artifact, and a simulator's run as a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure, Resources, Trace
from neurodeploy.errors import UsageError
from neurodeploy.hardware import find_chip
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive
from neurodeploy.spiking import convert, costs, fit, step_events
from neurodeploy.spiking.engine import NetEngine, Simulator
from neurodeploy.spiking.net import SpikingNet

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic
    from neurodeploy.ir.graph import Graph, Program

NET = "net.npz"
#: Backends whose builds are spiking networks.
BACKENDS = ("brian2", "nir", "snntorch")


def build(
    backend: str, source: Program, target: Neuromorphic, data: Data | None, name: str | None,
    progress: Callable[[str], None], options: Mapping[str, Any],
) -> tuple[Artifact, convert.Conversion]:  # fmt: skip
    """The artifact of a conversion, to which a backend adds files of its own.

    Raises :class:`UsageError` without data and what the target's method raises.
    """
    if data is None:
        raise UsageError(
            "spikes are fitted to the network's own activity; needed sample inputs.",
            place=source.name,
            hint="Give them (--data FILE.npz with x, lengths and, for a classifier, y).",
        )
    made = convert.convert(target.method, source, target, data, progress, options)
    program = made.program
    files = {**text.to_files(program, "program"), **text.to_files(source, "source"), **made.files}
    if made.net is not None:
        files[NET] = made.net.to_bytes()
    manifest = {
        "schema": SCHEMA_VERSION,
        "name": name or source.name,
        "backend": backend,
        "target": target.name,
        "numerics": program.numerics,
        "equality": "exact",
        "inputs": [{"name": n, "kind": i.kind, **_tensor(i.type)} for n, i in program.inputs.items()],
        "outputs": [{"name": n, "from": str(program.outputs[n]), **_tensor(t)}
                    for n, t in program.output_types().items()],
        "layout": dict(made.layout),
        "warnings": [*program.meta.get("warnings", []), *made.warnings],
    }  # fmt: skip
    artifact = Artifact(manifest["name"], backend, target.name, files, manifest)
    on_chips = fit.fits(program if made.net is None else made.net, [find_chip(chip) for chip in target.chips])
    manifest["warnings"] += [found.warning() for found in on_chips if found.warning()]
    placed = [found.figure() for found in on_chips]
    manifest["figures"] = [vars(f) for f in (*resources(artifact), *made.figures, *placed)]
    return artifact, made


def _tensor(type_: Any) -> dict[str, Any]:
    quant = type_.quant
    scale = None if quant is None else quant.scale
    return {"shape": list(type_.shape), "dtype": type_.dtype, "scale": scale, "zero_point": 0}


def net_of(artifact: Artifact) -> SpikingNet | None:
    """The artifact's network of neurons, if it has one."""
    return SpikingNet.from_bytes(artifact.files[NET]) if NET in artifact.files else None


def refuse_states(runner: str, states: bool) -> None:
    """Raise :class:`UsageError` where the states of every step are asked for."""
    if states:
        raise UsageError(f"the runner '{runner}' gives no states of a network of neurons.", hint="Run it on golden.")


def resources(artifact: Artifact) -> Resources:
    """Neurons and synapses of a network of neurons."""
    net = net_of(artifact)
    if net is None:
        return ()
    source = "counted in the network: its neurons and their non-zero recurrent weights"
    return (
        Figure("neurons", net.neurons, "neurons", "compiled", source),
        Figure("synapses", net.synapses, "synapses", "compiled", source),
    )


def run_net(
    artifact: Artifact, net: SpikingNet, inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None,
    simulate: Simulator,
) -> tuple[Trace, NetEngine]:  # fmt: skip
    """Run a network of neurons in a simulator; ``trace.counters["spikes"]`` is ``[batch, frames]``.

    Raises :class:`DataError` for data that don't fit.
    """
    engines: list[NetEngine] = []

    def executor(stage: str, graph: Graph) -> NetEngine:
        engines.append(NetEngine(net, graph, simulate))
        return engines[-1]

    trace = drive(text.from_files(artifact.files, "program"), dict(inputs), lengths, executor)
    activity = engines[0].activity
    if activity is not None:
        trace.counters["spikes"] = activity.counts.sum(axis=2)
    return trace, engines[0]


def net_figures(artifact: Artifact, net: SpikingNet, trace: Trace, engine: NetEngine, where: str) -> list[Figure]:
    """What a run of a network of neurons cost: counts, and energy by the target's chips; ``where`` says what ran it."""
    if engine.activity is None:
        return []
    program = text.from_files(artifact.files, "program")
    target = costs.target_of(artifact)
    return costs.record_figures(artifact, program, net, engine.activity, trace, target, x=engine.x, where=where)


def step_figures(
    artifact: Artifact, program: Program, trace: Trace, changes: Mapping[str, np.ndarray], where: str
) -> list[Figure]:
    """What a run of a step program cost; sets ``trace.counters["spikes"]``."""
    trace.counters["spikes"] = step_events.spikes(program, changes)
    return costs.record_figures(artifact, program, None, changes, trace, costs.target_of(artifact), where=where)
