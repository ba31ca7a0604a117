"""Counting what a spiking network does, with NeuroBench's names and definitions, and counted by us.

A *synaptic operation* is one event through one non-zero weight. It is an accumulate (AC) where all events of the
connection are -1, 0 or 1, else a multiply-accumulate (MAC); *Dense* counts every weight in every step (NeuroBench 2.3,
``SynapticOperations``; its own counter passes over recurrent layers). *MembraneUpdates* are all neurons in the first
tick and, later, those whose membrane a tick changed. A *neuron update* is any neuron in any tick, changed or not. All
counts are means of an inference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy import hardware
from neurodeploy.artifact import Artifact, Figure, Trace
from neurodeploy.errors import TargetError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.cost import macs_of
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.report.metrics import footprint, synaptic_operations
from neurodeploy.spiking.energy import PER_INFERENCE, Work, energies, work_of
from neurodeploy.spiking.net import Activity, SpikingNet
from neurodeploy.spiking.net_program import program_of

#: Samples that are simulated again, tick by tick, to see which membranes change.
FIRST = 16
MEMBRANES = f"of the first {FIRST} samples"
#: Steps that each sample executed, by stage: a trace's ``steps``.
Steps = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Events:
    """Mean counts of an inference.

    ``spikes``: events sent. ``updates``: neuron updates (neurons times ticks, or sent values times steps).
    ``event_ops``: synaptic operations of events alone, and ``unit_acs``: these if every graded event were sent as that
    many unit spikes (as a chip without graded spikes does); None where all spikes are units, then both are ``acs``.
    ``network_macs``, ``network``: multiply-accumulates by weights and other arithmetic of the float network without
    spikes. ``neurons``: the neurons' own arithmetic. ``footprint_bytes``: weights at the bits that they need, and
    states. ``zero_weights``: share of weights that are 0.
    """

    spikes: float
    acs: float
    macs: float
    dense: float
    membrane_updates: float | None
    updates: float
    network_macs: float
    unit_acs: float | None = None
    event_ops: float | None = None
    neurons: Work = Work()
    network: Work = Work()
    footprint_bytes: float | None = None
    zero_weights: float | None = None

    def figures(self, source: str) -> list[Figure]:
        """The counts as figures; ``source`` says what ran and what is counted."""
        operations, updates = "operations" + PER_INFERENCE, "updates" + PER_INFERENCE
        sparsity = 1.0 - self.spikes / self.updates if self.updates else 0.0
        total = self.neurons.additions + self.neurons.multiplications + self.neurons.functions
        found = [
            _figure("spikes", self.spikes, "spikes" + PER_INFERENCE, source),
            _figure("SynapticOperations.Effective_ACs", self.acs, operations, source),
            _figure("SynapticOperations.Effective_MACs", self.macs, operations, source),
            _figure("SynapticOperations.Dense", self.dense, operations, source),
            _figure("NeuronUpdates", self.updates, updates, source),
            _figure("NeuronOperations", total, operations, f"{self.neurons.words}, in the neurons; {source}"),
            _figure("ActivationSparsity", sparsity, "", source, 4),
        ]
        if self.membrane_updates is not None:
            found.append(_figure("MembraneUpdates", self.membrane_updates, updates, f"{MEMBRANES}; {source}"))
        if self.zero_weights is not None:
            share = round(self.zero_weights, 4)
            found.append(Figure("ConnectionSparsity", share, "", "compiled", "weights of 0 over all weights"))
        if self.footprint_bytes is not None:
            why = "all weights at the bits that they need, and all states"
            found.append(Figure("Footprint", math.ceil(self.footprint_bytes), "B", "compiled", why))
        return found


def record_figures(
    artifact: Artifact,
    program: Program,
    net: SpikingNet | None,
    ran: Activity | Mapping[str, np.ndarray],
    trace: Trace,
    target: hardware.Neuromorphic,
    *,
    x: np.ndarray | None = None,
    where: str = "",
) -> list[Figure]:
    """All cost figures of a run: counts, energy by each of the target's chips, and the float network's own.

    ``ran``: a network's activity, or a sigma-delta program's events (see :func:`of_program`). ``x``: the quantized
    inputs ``[batch, frames, inputs]`` of a network, with which zero inputs don't count. ``where``: the simulator.
    """
    source = text.from_files(artifact.files, "source")
    if isinstance(ran, Activity):
        if net is None:
            raise ValueError("an activity needs its network")
        found = of_net(net, ran, trace.steps, program, source=source, x=x)
        note = f"{net.neurons} neurons, {net.ticks} ticks a frame; ACs: recurrent synapses; MACs: input and readout"
    else:
        found = of_program(program, ran, trace.steps, source=source)
        note = "a spike is a graded event; MACs: inputs, and connections with an event beyond -1, 0, 1"
    note = f"{where}, {note}" if where else note
    chips = [hardware.find_chip(name) for name in target.chips]
    return [*found.figures(note), *energies(found, chips)]


def of_net(
    net: SpikingNet, activity: Activity, steps: Steps, program: Program, *, source: Program | None = None,
    x: np.ndarray | None = None,
) -> Events:  # fmt: skip
    """Counts of a network of neurons: recurrent spikes (ACs), input currents and readout (MACs).

    A spike counts through all its synapses, also in a sample's last ticks, when it arrives after the end. Input
    currents are computed once a frame; without ``x`` every input counts as non-zero, and membrane updates, for which
    the first samples are simulated again, aren't counted. The readout counts the frames whose scores are an output.
    """
    (stage,) = program.stages
    batch = max(1, len(activity.counts))
    active = _mask(steps[stage.name], activity.counts.shape[1])
    frames = float(active.sum()) / batch
    per_neuron = activity.counts.sum(axis=(0, 1)) / batch
    spikes = float(per_neuron.sum())
    recurrent = [p.weights for p in net.projections]
    series = program.is_series(next(iter(program.outputs.values())))
    reads = active if series else _last(active)
    read = np.rint(activity.traces.astype(np.float64) * 2.0**net.trace_bits) * reads[..., None]
    inputs = np.ones((*active.shape, net.W_in.shape[1])) if x is None else x
    inputs = inputs * active[..., None]
    macs = sum(float(_active(v) @ np.count_nonzero(w, axis=0)) for v, w in ((inputs, net.W_in), (read, net.readout)))
    weights = [*recurrent, net.W_in, net.readout]
    size = sum(w.size for w in weights)
    dense_macs, dense_work = _float_network(source or program, steps)
    return Events(
        spikes=spikes,
        acs=float(sum(per_neuron @ np.count_nonzero(w, axis=0) for w in recurrent)),
        macs=macs / batch,
        dense=frames * (net.ticks * sum(w.size for w in recurrent) + net.W_in.size)
        + float(reads.sum()) / batch * net.readout.size,
        membrane_updates=None if x is None else _membrane_updates(net, program, x, steps[stage.name]),
        updates=frames * net.ticks * net.neurons,
        neurons=_work_of_net(net, frames * net.ticks, spikes),
        network_macs=dense_macs,
        network=dense_work,
        footprint_bytes=sum(w.size * weight_bits(w) for w in weights) / 8 + _state_bytes(net),
        zero_weights=1 - sum(int(np.count_nonzero(w)) for w in weights) / size if size else 0.0,
    )


def _membrane_updates(net: SpikingNet, program: Program, x: np.ndarray, frames: np.ndarray) -> float:
    """Counted in the golden program of a network whose frames are single ticks, which is the same network."""
    (stage,) = program.stages
    ((name, _),) = program.inputs.items()
    fine = program_of(replace(net, ticks=1), program, stage.name, name, next(iter(program.outputs)), {})
    fine = replace(fine, inputs={name: replace(fine.inputs[name], kind="series")})  # a static cue lasts its frame
    lengths = np.asarray(frames)[:FIRST] * net.ticks
    inputs = np.repeat(x[:FIRST].astype(np.int16), net.ticks, axis=1)
    mem = interpret.run(fine, {name: inputs}, lengths, states=True).states[f"{stage.name}.mem"]
    changed = (mem[:, 1:] != mem[:, :-1]) & _mask(lengths, inputs.shape[1])[:, 1:, None]
    return float(np.count_nonzero(lengths) * net.neurons + changed.sum()) / max(1, len(lengths))


def _work_of_net(net: SpikingNet, ticks: float, spikes: float) -> Work:
    """A neuron's own arithmetic: a multiplication for every factor but 0 and 1; an addition for every current into the
    membrane, the comparison with the threshold and with limits, and for each spike its reset and its trace."""
    factors = [net.beta, net.keep, *(np.broadcast_to(p.alpha, (net.neurons,)) for p in net.projections)]
    multiplied = sum(int(np.count_nonzero((f != 0) & (f != 1))) for f in factors)
    limits = sum(int(np.isfinite(limit).sum()) for limit in (net.floor, net.ceiling))
    added = net.neurons * (len(net.projections) + 2) + limits
    return Work(ticks * added + spikes * (2 if net.reset == "subtract" else 1), ticks * multiplied, 0.0)


def _state_bytes(net: SpikingNet) -> int:
    """Membrane, trace and synaptic currents in float32, and one bit for each spike on its way."""
    longest = max([p.delay for p in net.projections], default=1)
    return net.neurons * 4 * (2 + len(net.projections)) + math.ceil(net.neurons * longest / 8)


def of_program(
    program: Program, events: Mapping[str, np.ndarray], steps: Steps, *, source: Program | None = None
) -> Events:
    """Counts of a sigma-delta step program.

    ``events``: the changes ``[batch, steps, n]`` of each sent value (whole numbers; what lies past a sample's steps
    doesn't count), under the value's name, or ``stage.value`` where two stages share one. What multiplies a sent value
    by weights is a connection; every other product counts as MACs of an input, all else as the neurons' own arithmetic.
    A state whose new value is sent too is the same event one step later: it isn't counted twice. A sent value's
    membrane is its level, which an event changes.
    """
    sent = program.meta["spiking"]["sent"]
    macs, work = _float_network(source or program, steps)
    counted = Events(0, 0, 0, 0, 0, 0, macs, 0.0, 0.0, network=work, footprint_bytes=footprint(program))
    zeros = weights = 0
    for stage in program.stages:
        names = set(sent.get(stage.name, ()))
        ran = steps[stage.name]
        mean = float(ran.sum()) / max(1, len(ran))
        changes = {name: _changes(events, stage.name, name, ran) for name in names}
        counted = _add_stage(counted, stage.graph, changes, mean)
        for param in (p for p in stage.graph.params.values() if len(p.type.shape) >= 2):
            zeros += param.type.size - int(np.count_nonzero(param.data))
            weights += param.type.size
    return replace(counted, zero_weights=zeros / weights if weights else 0.0)


def _add_stage(so_far: Events, graph: Graph, changes: Mapping[str, np.ndarray], steps: float) -> Events:
    later = {state.name for state in graph.states if state.next in changes}
    first_sent = [array for name, array in changes.items() if name not in later]
    batch = max([1, *(len(array) for array in changes.values())])
    spikes = sum(int(np.count_nonzero(array)) for array in first_sent) / batch
    first = sum(int(np.count_nonzero(array[:, :1])) for array in first_sent) / batch
    width = sum(array.shape[2] for array in first_sent)
    acs = macs = dense = unit = plain = 0.0
    products = macs_of(graph)
    for value in graph.values:
        if value.op == "matmul" and value.args[1] in changes and value.args[0] in graph.params:
            found, weights = changes[value.args[1]], graph.params[value.args[0]].data
            counts = synaptic_operations([(found, weights)])
            acs, macs = acs + counts["Effective_ACs"], macs + counts["Effective_MACs"]
            fan_out = np.count_nonzero(weights, axis=0)
            unit += float(np.abs(found).sum(axis=(0, 1)) / batch @ fan_out)
            plain += float(_active(found) / batch @ fan_out)
            dense += steps * weights.size
        elif value.name in products:
            known = [graph.params[a].data for a in value.args if a in graph.params]
            share = np.count_nonzero(known[0]) / known[0].size if known and known[0].size else 1.0
            macs += steps * products[value.name] * share
            dense += steps * products[value.name]
    return replace(
        so_far, spikes=so_far.spikes + spikes, acs=so_far.acs + acs, macs=so_far.macs + macs,
        dense=so_far.dense + dense, unit_acs=(so_far.unit_acs or 0.0) + unit,
        event_ops=(so_far.event_ops or 0.0) + plain, updates=so_far.updates + steps * width,
        neurons=so_far.neurons + steps * work_of(graph),
        membrane_updates=(so_far.membrane_updates or 0.0) + (width if steps else 0) + spikes - first,
    )  # fmt: skip


def _changes(events: Mapping[str, np.ndarray], stage: str, name: str, ran: np.ndarray) -> np.ndarray:
    found = events.get(f"{stage}.{name}", events.get(name))
    if found is None:
        raise ValueError(f"there are no events of '{name}' of stage '{stage}'; there are: {', '.join(events)}")
    return found * _mask(ran, found.shape[1])[..., None]


def _float_network(source: Program, steps: Steps) -> tuple[float, Work]:
    """MACs by weights and other arithmetic of a network without spikes, every step and weight. A stage that the spiking
    program hasn't runs as often as its first one."""
    first = next(iter(steps.values()))
    macs, work = 0.0, Work()
    for stage in source.stages:
        mean = float(np.mean(steps.get(stage.name, first)))
        macs += mean * sum(macs_of(stage.graph).values())
        work = work + mean * work_of(stage.graph)
    return macs, work


def weight_bits(weights: np.ndarray) -> int:
    """Bits, with a sign, of the whole numbers that weights are multiples of: the largest power of two divides all."""
    found = np.abs(np.asarray(weights, np.float64)[np.nonzero(weights)])
    if not found.size:
        return 1
    mantissa, exponent = np.frexp(found)
    whole = (mantissa * 2.0**53).astype(np.int64)
    lowest = int((exponent - 53 + np.log2(whole & -whole)).min())
    return int(np.log2(found.max()) - lowest) + 2


def _mask(ran: np.ndarray, frames: int) -> np.ndarray:
    return np.arange(frames) < np.asarray(ran)[:, None]


def _last(active: np.ndarray) -> np.ndarray:
    """Only the last frame of each sample."""
    return active & ~np.pad(active[:, 1:], ((0, 0), (0, 1)))


def _active(values: np.ndarray) -> np.ndarray:
    return np.count_nonzero(values, axis=(0, 1)).astype(np.float64)


def _figure(name: str, value: float, unit: str, source: str, digits: int = 1) -> Figure:
    return Figure(name, round(float(value), digits), unit, "simulated", source)


def target_of(artifact: Artifact) -> hardware.Neuromorphic:
    """The description of the artifact's target. Raises :class:`TargetError` if it is no spiking simulator."""
    target = hardware.built_for(artifact)
    if not isinstance(target, hardware.Neuromorphic):
        raise TargetError(f"'{artifact.target}' is no spiking simulator.", place=artifact.name)
    return target
