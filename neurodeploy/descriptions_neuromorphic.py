"""What a file may say about spiking: simulators, which are targets, and chips, whose limits and energies are published.

A chip says only what has a source that could be read; what is absent is unknown, and is printed as unknown. Where
sources disagree a figure is a range ``[low, high]``.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from neurodeploy.tables import Bytes, Description, Positive, Range, Sourced, Table, Target, Text, ordered, pair

Reset = Literal["subtract", "zero"]
Number = Annotated[int, Field(gt=0)]

#: [fewest, most] bits.
Bits = Annotated[
    tuple[Number, Number], Field(strict=False), BeforeValidator(pair), AfterValidator(ordered)
]  # fmt: skip


# --------------------------------------------------------------------------------------------------- simulators


class Clock(Sourced):
    """The simulator's time step."""

    dt_s: Positive


class Neuron(Sourced):
    """The neuron that a spiking target offers.

    ``reset``: what a spike does to the membrane, ``"subtract"`` the threshold or ``"zero"`` it. ``limits``: whether the
    membrane can be held between two values. ``max_delay_ticks``: the longest synaptic delay.
    """

    reset: Reset
    limits: bool = False
    max_delay_ticks: Number = 1


class Neuromorphic(Target):
    """A spiking simulator. ``method`` says how a network is turned into spikes; ``package`` must be importable.

    ``chips``: the neuromorphic chips for which a build's cores and a run's energy are estimated.
    """

    kind: Literal["neuromorphic"]
    backend: Literal["brian2", "snntorch", "nir"]
    package: Text
    method: Literal["attractor", "liquid-state-machine", "rate", "sigma-delta"]
    neuron: Neuron | None = None
    clock: Clock | None = None
    chips: Annotated[tuple[Text, ...], Field(strict=False)] = ()


# -------------------------------------------------------------------------------------------------------- chips


class NeuronCircuit(Sourced):
    """The neurons that a chip has.

    ``models``: ``"if"`` and ``"lif"`` (a membrane, without and with a leak), ``"cuba-lif"`` (a synaptic current that
    decays as well) or ``"programmable"`` (any arithmetic). ``resets``: what a spike can do to the membrane; empty where
    no source says. ``graded_spikes``: whether a spike carries a number.
    """

    models: Annotated[tuple[Literal["if", "lif", "cuba-lif", "programmable"], ...], Field(strict=False, min_length=1)]
    resets: Annotated[tuple[Reset, ...], Field(strict=False)] = ()
    graded_spikes: bool


class SynapseCircuit(Sourced):
    """The synapses that a chip has.

    ``weight_bits``: of a stored weight, its sign included where it has one. ``weight_values``: how many different
    weights other than 0 the synapses of one neuron can have (its axons have types, and a type has a weight).
    ``sign_by_source``: all synapses that leave a neuron have one sign. ``max_delay_ticks``: the longest delay.
    """

    weight_bits: Bits | None = None
    weight_values: Number | None = None
    sign_by_source: bool = False
    max_delay_ticks: Number | None = None


class NeuronCore(Sourced):
    """How many cores a chip has, and what one of them holds.

    ``neurons``; ``axons``: different sources of spikes; ``synapses``, or the ``synapse_memory_bytes`` that hold them;
    ``outgoing``: pairs of a neuron and another core that it sends to. What is absent doesn't limit, or is unknown.
    """

    count: Number
    neurons: Number
    axons: Number | None = None
    synapses: Number | None = None
    synapse_memory_bytes: Bytes | None = None
    outgoing: Number | None = None


class EventEnergy(Sourced):
    """Joules of one event."""

    joule: Range


class StaticPower(Sourced):
    """What the chip takes while nothing happens."""

    watt: Range


class ChipEnergy(Table):
    """Energy of a spike (that is sent), of a synaptic operation (an accumulate), of a neuron update (every neuron,
    every tick) and of a multiply-accumulate, and static power; an absent one is unknown."""

    spike: EventEnergy | None = None
    synaptic_operation: EventEnergy | None = None
    neuron_update: EventEnergy | None = None
    mac: EventEnergy | None = None
    static: StaticPower | None = None

    @model_validator(mode="after")
    def _multiplication_from_mac(self) -> Self:
        if self.mac and not (self.synaptic_operation and self.synaptic_operation.joule[1] < self.mac.joule[0]):
            raise ValueError("'mac' needs 'synaptic_operation' below it: their difference is a multiplication")
        return self


class NeuromorphicChip(Description):
    """A chip for spiking networks, or a silicon process by which arithmetic is priced (then it has no cores).

    It is no target: programs are compiled for simulators, which say what the chip would need and pay.
    """

    kind: Literal["neuromorphic-chip"]
    neuron: NeuronCircuit | None = None
    synapse: SynapseCircuit | None = None
    core: NeuronCore | None = None
    energy: ChipEnergy = ChipEnergy()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.core or any(getattr(self.energy, name) for name in ChipEnergy.model_fields)):
            raise ValueError("a chip needs 'core' or one of the tables of 'energy'")
        return self
