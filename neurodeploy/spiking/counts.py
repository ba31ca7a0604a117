"""Counting events with NeuroBench's names, and what a chip would pay for them by its published figures.

Names and definitions as in :mod:`neurodeploy.report.metrics` (NeuroBench 2.3): a *synaptic operation* is one event
through one non-zero weight; it is an accumulate (AC) where the events of a connection are -1, 0 or 1, else a
multiply-accumulate (MAC). *Dense* counts every weight in every step.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurodeploy import hardware
from neurodeploy.artifact import Artifact, Figure
from neurodeploy.descriptions import EventEnergy
from neurodeploy.errors import TargetError

PER_INFERENCE = "/inference"


@dataclass(frozen=True)
class Events:
    """Mean counts of an inference.

    ``updates``: neuron updates, neurons times ticks. ``network_macs``: what the float network would multiply, densely.
    ``unit_acs``: accumulates if every graded event were sent as that
    many unit spikes (as a chip without graded spikes does); None where all spikes are units.
    """

    spikes: float
    acs: float
    macs: float
    dense: float
    membrane_updates: float
    updates: float
    network_macs: float
    unit_acs: float | None = None

    def figures(self, source: str) -> list[Figure]:
        """The counts as figures; ``source`` says what ran and what is counted."""
        operations = "operations" + PER_INFERENCE
        return [
            _figure("spikes", self.spikes, "spikes" + PER_INFERENCE, source),
            _figure("SynapticOperations.Effective_ACs", self.acs, operations, source),
            _figure("SynapticOperations.Effective_MACs", self.macs, operations, source),
            _figure("SynapticOperations.Dense", self.dense, operations, source),
            _figure("MembraneUpdates", self.membrane_updates, "updates" + PER_INFERENCE, source),
            _figure("ActivationSparsity", 1.0 - self.spikes / self.updates if self.updates else 0.0, "", source, 4),
        ]

    def energies(self, table: tuple[EventEnergy, ...]) -> list[Figure]:
        """Energy of an inference by each device's published joules an event; *unknown* where one is lacking."""
        spiking = [self._energy(device) for device in table]
        return spiking + [self._float_energy(device, device.mac_joule) for device in table if device.mac_joule]

    def _energy(self, device: EventEnergy) -> Figure:
        name, unit = f"energy.{device.device}", "nJ" + PER_INFERENCE
        accumulate, update = device.synaptic_operation_joule, device.neuron_update_joule
        if accumulate is None:
            return Figure.unknown(name, unit, f"no joules a synaptic operation: {device.source}")
        if device.mac_joule is not None:
            terms = [(self.acs, "ACs", accumulate), (self.macs, "MACs", device.mac_joule)]
            without = ""
        else:
            unit_acs = self.acs if self.unit_acs is None else self.unit_acs
            terms = [(unit_acs, "synaptic operations of unit spikes", accumulate)]
            without = "; without input currents and readout of traces, for which it has no figure"
        if update is not None:
            terms.append((self.updates, "neuron updates", update))
        joule = sum(float(count) * each for count, _, each in terms)
        formula = " + ".join(f"{count:.0f} {what} x {each * 1e12:.3g} pJ" for count, what, each in terms)
        return Figure(name, round(joule * 1e9, 2), unit, "estimated", f"{formula}{without}; {device.source}")

    def _float_energy(self, device: EventEnergy, mac_joule: float) -> Figure:
        """The float network's on the same device, to compare: spikes aren't always cheaper."""
        joule = self.network_macs * mac_joule
        source = f"{self.network_macs:.0f} MACs x {mac_joule * 1e12:.3g} pJ; {device.source}"
        name = f"energy.{device.device}: the network without spikes"
        return Figure(name, round(joule * 1e9, 2), "nJ" + PER_INFERENCE, "estimated", source)


def _figure(name: str, value: float, unit: str, source: str, digits: int = 1) -> Figure:
    return Figure(name, round(float(value), digits), unit, "simulated", source)


def target_of(artifact: Artifact) -> hardware.Neuromorphic:
    """The description of the artifact's target. Raises :class:`TargetError` if it is no spiking simulator."""
    target = hardware.built_for(artifact)
    if not isinstance(target, hardware.Neuromorphic):
        raise TargetError(f"'{artifact.target}' is no spiking simulator.", place=artifact.name)
    return target
