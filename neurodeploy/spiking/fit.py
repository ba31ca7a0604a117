"""Whether a spiking network fits a chip: how many cores it needs, what fills them, and what the chip can't do.

Neurons are placed in their order, each on the current core until one of its limits would be passed: neurons, axons
(different sources of spikes), synapses or the memory that holds them. So a placement with that many cores exists; the
fewest possible may be less. A neuron with more sources than a core has axons is split into a tree of relay neurons,
each of which hears a block of the sources; that many more neurons are counted, and their spikes only approximate the
sum. Input currents, traces and readout are computed beside the cores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.artifact import Figure
from neurodeploy.descriptions_neuromorphic import NeuromorphicChip, NeuronCore
from neurodeploy.errors import TargetError
from neurodeploy.ir.graph import Program
from neurodeploy.spiking.costs import weight_bits
from neurodeploy.spiking.energy import Work, work_of
from neurodeploy.spiking.net import SpikingNet

Indices = np.ndarray


@dataclass(frozen=True)
class Fit:
    """What a chip would need for a network.

    ``cores`` needed, or None where there is no placement or the chip's are unknown, of ``available``; ``limit``: what
    filled most of them; ``neurons`` placed, of which ``copies`` stand for neurons whose synapses would have two signs
    and ``relays`` collect what no core's axons can; ``largest_fan_in``: sources of one neuron. ``lacks``: what the chip
    can't do at all; ``losses``: what it would have to round or to approximate.
    """

    chip: str
    cores: int | None
    available: int | None
    limit: str
    neurons: int
    copies: int
    relays: int
    largest_fan_in: int
    lacks: tuple[str, ...]
    losses: tuple[str, ...]

    @property
    def fits(self) -> bool | None:
        """Whether it runs there, rounded or not; None where the chip's limits are unknown."""
        if self.lacks:
            return False
        return None if self.available is None or self.cores is None else self.cores <= self.available

    @property
    def words(self) -> str:
        """``3 of 128 cores``, ``needs 214 cores, loihi has 128`` or why that isn't known."""
        if self.available is None:
            return f"no published limits of {self.chip}'s cores"
        if self.cores is None:
            return f"no placement was found on {self.chip}'s {self.available} cores"
        if self.cores > self.available:
            return f"needs {self.cores} cores, {self.chip} has {self.available}"
        return f"{self.cores} of {self.available} cores"

    def figure(self) -> Figure:
        """The cores as a figure, unknown where the chip can't run the network; what limits them, what the chip can't do
        and what it would round stand in its source."""
        name = f"cores.{self.chip}"
        losses = "".join(f"; {text}" for text in self.losses)
        if self.lacks:
            why = f"can't run there: {'; '.join(self.lacks)} (by size: {self.words}){losses}"
            return Figure.unknown(name, "cores", why)
        if self.cores is None:
            return Figure.unknown(name, "cores", self.words + losses)
        made = f"{self.neurons} neurons"
        made += f", {self.copies} of them copies for a second sign" if self.copies else ""
        made += f", {self.relays} of them relays" if self.relays else ""
        full = f", most cores full of {self.limit}" if self.limit else ""
        return Figure(name, self.cores, "cores", "estimated", f"{self.words}: {made}, placed in order{full}{losses}")

    def warning(self) -> str | None:
        """That the network is too large, where it is."""
        large = self.cores is not None and self.available is not None and self.cores > self.available
        return self.words if large else None

    def require(self) -> None:
        """Raise :class:`TargetError` unless the network is known to fit."""
        if not self.fits:
            why = self.lacks[0] if self.lacks else self.words
            raise TargetError(f"{why}.", place=self.chip, hint="Use a smaller network or another chip.")


@dataclass(frozen=True)
class _Wiring:
    """Who hears whom: ``heard[i]`` are the sources of neuron i, by number; the first ``own`` neurons are the
    network's."""

    heard: list[Indices]
    own: int
    copies: int = 0

    @property
    def largest(self) -> int:
        return max((len(sources) for sources in self.heard), default=0)


def fit(built: SpikingNet | Program, chip: NeuromorphicChip) -> Fit:
    """Place a network of neurons, or a sigma-delta step program, on a chip."""
    if isinstance(built, SpikingNet):
        wiring, lacks, losses, bits = _of_net(built, chip)
    else:
        wiring, lacks, losses, bits = _of_program(built, chip)
    core = chip.core
    if core is None:
        return Fit(chip.name, None, None, "", len(wiring.heard), wiring.copies, 0, wiring.largest, lacks, losses)
    room = _synapses(core, chip, bits)
    split = _split(wiring, min(core.axons or wiring.largest, room or wiring.largest))
    relays = len(split.heard) - len(wiring.heard)
    if relays:
        losses = (*losses, f"a neuron has {wiring.largest} sources: {relays} relay neurons approximate its sum")
    cores, limit = _place(split, core, room)
    if cores is None:
        lacks = (*lacks, f"no placement was found in which a core has at most {core.outgoing} outgoing connections")
    return Fit(
        chip.name, cores, core.count, limit, len(split.heard), wiring.copies, relays, wiring.largest, lacks, losses
    )  # fmt: skip


def fits(built: SpikingNet | Program, chips: Sequence[NeuromorphicChip]) -> list[Fit]:
    """:func:`fit` for every one that is a chip: a process by which arithmetic is priced is none. A program that doesn't
    say what it sends is placed nowhere."""
    if isinstance(built, Program) and "sent" not in built.meta.get("spiking", {}):
        return []
    return [fit(built, chip) for chip in chips if chip.neuron is not None]


# ------------------------------------------------------------------------------------------ what is to be placed


def _of_net(net: SpikingNet, chip: NeuromorphicChip) -> tuple[_Wiring, tuple[str, ...], tuple[str, ...], int]:
    weights = [p.weights for p in net.projections]
    together = np.zeros((net.neurons, net.neurons), bool)
    positive, negative = together.copy(), together.copy()
    for w in weights:
        positive |= w > 0
        negative |= w < 0
    wiring = _signed(positive, negative) if chip.synapse and chip.synapse.sign_by_source else None
    if wiring is None:
        wiring = _Wiring([np.flatnonzero(row) for row in positive | negative], net.neurons)
    bits = max([weight_bits(w) for w in weights], default=1)
    values = max([len(np.unique(row[row != 0])) for w in weights for row in w], default=0)
    return wiring, _lacks_of_net(net, chip), _losses(chip, bits, values), bits


def _lacks_of_net(net: SpikingNet, chip: NeuromorphicChip) -> tuple[str, ...]:
    circuit = chip.neuron
    if circuit is None:
        return ("it has no neurons",)
    found = []
    models = circuit.models
    if "programmable" not in models:
        used = [p for p in net.projections if p.weights.any()]
        currents = {np.broadcast_to(p.alpha, (net.neurons,)).tobytes() for p in used}
        if len(currents) > 1:
            found.append(f"a neuron has {len(currents)} synaptic currents with decays of their own, it has one")
        if any(np.any(p.alpha) for p in used) and "cuba-lif" not in models:
            found.append("synaptic currents decay, its synapses have no memory")
        if (net.beta != 1).any() and not {"lif", "cuba-lif"} & set(models):
            found.append("membranes leak by a factor, its neurons don't")
        if net.limited:
            found.append("membranes have limits, its neurons have none")
        if circuit.resets and net.reset not in circuit.resets:
            kinds = {"subtract": "subtracts the threshold from", "zero": "sets to 0"}
            found.append(f"a spike {kinds[net.reset]} the membrane, there it {kinds[circuit.resets[0]]} it")
    longest = max([p.delay for p in net.projections], default=1)
    most = chip.synapse.max_delay_ticks if chip.synapse else None
    if most is not None and longest > most:
        found.append(f"a synapse delays by {longest} ticks, its longest delay is {most}")
    return tuple(found)


def _of_program(program: Program, chip: NeuromorphicChip) -> tuple[_Wiring, tuple[str, ...], tuple[str, ...], int]:
    """Every row of weights that events enter counts as a neuron, and where more values are sent, each of those; the
    i-th value that is sent is taken to lie with the i-th row."""
    sent = program.meta["spiking"]["sent"]
    heard: list[Indices] = []
    first, senders, bits, values, graded = 0, 0, 1, 0, False
    for stage in program.stages:
        graph, names = stage.graph, list(sent.get(stage.name, ()))
        aliases = {s.name: s.next for s in graph.states if s.name in names and s.next in names}
        starts: dict[str, int] = {}
        for name in (n for n in names if n not in aliases):
            starts[name] = first
            first += graph.tensor(name).size
        senders = first
        starts |= {old: starts[new] for old, new in aliases.items() if new is not None}
        for value in graph.values:
            if value.op == "matmul" and value.args[1] in starts and value.args[0] in graph.params:
                weights = np.atleast_2d(graph.params[value.args[0]].data)
                heard += [starts[value.args[1]] + np.flatnonzero(row) for row in weights]
                bits = max(bits, weight_bits(weights))
                values = max([values, *(len(np.unique(row[row != 0])) for row in weights)])
        graded |= any(graph.tensor(name).dtype != "bool" for name in names)
    heard += [np.zeros(0, np.int64)] * max(0, senders - len(heard))
    lacks, losses = [], list(_losses(chip, bits, values))
    circuit = chip.neuron
    if circuit is None:
        lacks.append("it has no neurons")
    elif "programmable" not in circuit.models:
        work = sum((work_of(stage.graph) for stage in program.stages), start=Work())
        lacks.append(f"neurons compute {work.words} a step, its neurons are fixed")
    if circuit is not None and graded and not circuit.graded_spikes:
        losses.append("events are graded, its spikes are units: an event of size k would be k spikes")
    return _Wiring(heard, len(heard)), tuple(lacks), tuple(losses), bits


def _losses(chip: NeuromorphicChip, bits: int, values: int) -> tuple[str, ...]:
    synapse, found = chip.synapse, []
    if synapse is not None and synapse.weight_bits is not None:
        most = synapse.weight_bits[1] + (1 if synapse.sign_by_source else 0)
        if bits > most:
            found.append(f"weights need {bits} bits with their sign, its synapses have {most}: rounding changes spikes")
    if synapse is not None and synapse.weight_values is not None and values > synapse.weight_values:
        found.append(f"a neuron has up to {values} different weights, there it has {synapse.weight_values}")
    return tuple(found)


def _signed(positive: np.ndarray, negative: np.ndarray) -> _Wiring:
    """Where a source's synapses have one sign: a neuron that needs both gets a copy, which hears what it hears."""
    n = len(positive)
    mixed = np.flatnonzero(positive.any(axis=0) & negative.any(axis=0))
    second = np.full(n, -1)
    second[mixed] = n + np.arange(len(mixed))
    heard = []
    for i in range(n):
        by_copy = np.flatnonzero(negative[i] & (second >= 0))
        plain = np.flatnonzero(positive[i] | (negative[i] & (second < 0)))
        heard.append(np.concatenate([plain, second[by_copy]]))
    return _Wiring([*heard, *(heard[i] for i in mixed)], n, len(mixed))


# ---------------------------------------------------------------------------------------------------- placement


def _synapses(core: NeuronCore, chip: NeuromorphicChip, bits: int) -> int | None:
    """Synapses that a core holds; its memory at the bits of their weights alone, so there may be fewer."""
    if core.synapses is not None or core.synapse_memory_bytes is None:
        return core.synapses
    least, most = chip.synapse.weight_bits if chip.synapse and chip.synapse.weight_bits else (bits, bits)
    return core.synapse_memory_bytes * 8 // max(least, min(bits, most))


def _split(wiring: _Wiring, most: int) -> _Wiring:
    """Trees of relay neurons for neurons with more than ``most`` sources; relays of one block of sources lie together,
    so that they share axons."""
    heard = list(wiring.heard)
    if most < 2:
        return wiring
    while large := [i for i, sources in enumerate(heard) if len(sources) > most]:
        parts = {i: _parts(heard[i], most) for i in large}
        collected: dict[int, list[int]] = {i: [] for i in large}
        for block in range(max(len(found) for found in parts.values())):
            for i in (i for i in large if block < len(parts[i])):
                collected[i].append(len(heard))
                heard.append(parts[i][block])
        for i in large:
            heard[i] = np.array(collected[i])
    return _Wiring(heard, wiring.own, wiring.copies)


def _parts(sources: Indices, most: int) -> list[Indices]:
    """A neuron's sources by the block of ``most`` that they are numbered in; in turn where that hardly gathers them."""
    blocks = sources // most
    parts = [sources[blocks == block] for block in np.unique(blocks)]
    if 2 * len(parts) > len(sources):
        parts = [sources[at : at + most] for at in range(0, len(sources), most)]
    return parts


def _place(wiring: _Wiring, core: NeuronCore, room: int | None) -> tuple[int | None, str]:
    """Cores that are needed, and what most of them are full of. Where a core has too many outgoing connections, cores
    hold fewer neurons; None if even that doesn't help."""
    neurons = core.neurons
    while True:
        on, full = _fill(wiring, core, room, neurons)
        cores = int(on.max(initial=-1)) + 1
        limit = full.most_common(1)[0][0] if full else ""
        if core.outgoing is None or cores <= 1:
            return cores, limit
        most = int(_outgoing(wiring, on, cores).max())
        if most <= core.outgoing:
            return cores, limit if neurons == core.neurons else "outgoing connections"
        if neurons == 1:
            return None, "outgoing connections"
        neurons = max(1, min(neurons - 1, neurons * core.outgoing // most))


def _fill(wiring: _Wiring, core: NeuronCore, room: int | None, neurons: int) -> tuple[np.ndarray, Counter[str]]:
    """The core of each neuron, and how often each limit closed one."""
    sources = max([len(wiring.heard), *(int(s.max()) + 1 for s in wiring.heard if len(s))])
    on = np.zeros(len(wiring.heard), np.int64)
    full: Counter[str] = Counter()
    known = np.zeros(sources, bool)
    at = placed = axons = synapses = 0
    for i, heard in enumerate(wiring.heard):
        new = int(np.count_nonzero(~known[heard]))
        closed = (
            "neurons" if placed + 1 > neurons
            else "axons" if core.axons is not None and axons + new > core.axons
            else "synapses" if room is not None and synapses + len(heard) > room
            else ""
        )  # fmt: skip
        if closed and placed:
            full[closed] += 1
            known[:] = False
            at, placed, axons, synapses, new = at + 1, 0, 0, 0, len(heard)
        known[heard] = True
        on[i] = at
        placed, axons, synapses = placed + 1, axons + new, synapses + len(heard)
    return on, full


def _outgoing(wiring: _Wiring, on: np.ndarray, cores: int) -> np.ndarray:
    """For each core, the pairs of one of its neurons and another core that hears it."""
    reached = np.zeros((len(on), cores), bool)
    for i, heard in enumerate(wiring.heard):
        reached[heard[heard < len(on)], on[i]] = True
    reached[np.arange(len(on)), on] = False
    return np.bincount(on, weights=reached.sum(axis=1), minlength=cores)
