"""What chips would pay for a spiking network's events, and what arithmetic alone costs the network without spikes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurodeploy import hardware
from neurodeploy.artifact import Figure
from neurodeploy.descriptions_neuromorphic import EventEnergy, NeuromorphicChip
from neurodeploy.ir.graph import Graph
from neurodeploy.ir.types import TensorType

if TYPE_CHECKING:
    from neurodeploy.spiking.costs import Events

PER_INFERENCE = "/inference"
UNIT = "nJ" + PER_INFERENCE
#: The process by which arithmetic is priced, the float network's too.
PROCESS = "cmos-45nm"
DENSE = "energy.dense"
ADDS = frozenset({"add", "sub", "min", "max", "relu", "eq", "lt", "ne"})
MULTIPLIES = frozenset({"mul", "prod", "requantize", "quantize", "dequantize"})
FUNCTIONS = frozenset({"div", "tanh", "sigmoid", "exp", "log", "sqrt", "softplus", "softmax", "lut", "solve", "random"})
REDUCTIONS = frozenset({"sum", "reduce_max", "argmax"})


@dataclass(frozen=True)
class Work:
    """Arithmetic: ``additions`` (comparisons too), ``multiplications``, and ``functions`` (tables, divisions,
    exponentials ...), for which no energy is published. A multiply-accumulate is one of each of the first two."""

    additions: float = 0.0
    multiplications: float = 0.0
    functions: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.additions + other.additions,
            self.multiplications + other.multiplications,
            self.functions + other.functions,
        )

    def __rmul__(self, times: float) -> Work:
        return Work(times * self.additions, times * self.multiplications, times * self.functions)

    @property
    def words(self) -> str:
        """``1200 multiplications, 3400 additions, 64 functions``."""
        products, sums = f"{self.multiplications:.0f} multiplications", f"{self.additions:.0f} additions"
        return f"{products}, {sums}, {self.functions:.0f} functions"


def work_of(graph: Graph) -> Work:
    """The arithmetic of one step besides its products by weights: bodies included, every guard open.

    Negations, roundings, casts, selections and moves cost nothing here.
    """
    total, types = Work(), graph.types()
    for value in graph.values:
        if value.body is not None:
            total = total + work_of(value.body)
        elif value.op in REDUCTIONS:
            read = types[value.args[0]]
            total = total + Work(additions=read.size - value.tensor.size if isinstance(read, TensorType) else 0)
        elif value.op in ADDS:
            total = total + Work(additions=value.tensor.size)
        elif value.op in MULTIPLIES:
            total = total + Work(multiplications=value.tensor.size)
        elif value.op in FUNCTIONS:
            total = total + Work(functions=value.tensor.size)
    return total


def energies(events: Events, chips: Sequence[NeuromorphicChip]) -> list[Figure]:
    """Energy of an inference by each chip, and of the float network's arithmetic without spikes.

    A chip's figure is ``energy.NAME``, or ``energy.NAME.low`` and ``energy.NAME.high`` where its sources give a range;
    it is unknown where no source gives a synaptic operation.
    """
    priced = [figure for chip in chips for figure in _of_chip(events, chip)]
    return [*priced, _dense(events, hardware.find_chip(PROCESS))]


def _of_chip(events: Events, chip: NeuromorphicChip) -> list[Figure]:
    name = f"energy.{chip.name}"
    operation = chip.energy.synaptic_operation
    if operation is None:
        return [Figure.unknown(name, UNIT, f"{chip.title}: no published joules of a synaptic operation")]
    terms = _terms(events, chip, operation)
    sources = "; ".join(dict.fromkeys(source for *_, source in terms))
    left_out = "" if chip.energy.mac else "; " + _left_out(events, chip)
    ends = [(".low", 0), (".high", 1)] if any(joule[0] != joule[1] for _, _, joule, _ in terms) else [("", 0)]
    found = []
    for end, at in ends:
        nano = sum(count * joule[at] for count, _, joule, _ in terms) * 1e9
        formula = " + ".join(f"{count:.0f} {what} x {joule[at] * 1e12:.3g} pJ" for count, what, joule, _ in terms)
        found.append(Figure(name + end, round(nano, 2), UNIT, "estimated", f"{formula}{left_out}; {sources}"))
    return found


def _terms(
    events: Events, chip: NeuromorphicChip, operation: EventEnergy
) -> list[tuple[float, str, tuple[float, float], str]]:
    """What is counted, in words, its joules [low, high] and their source."""
    mac = chip.energy.mac
    if mac is not None:
        multiply = (mac.joule[0] - operation.joule[0], mac.joule[1] - operation.joule[1])
        terms = [(events.acs, "ACs", operation.joule, operation.source), (events.macs, "MACs", mac.joule, mac.source)]
        if events.neurons.additions:
            terms.append((events.neurons.additions, "additions in neurons", operation.joule, operation.source))
        if events.neurons.multiplications:
            terms.append((events.neurons.multiplications, "multiplications in neurons", multiply, mac.source))
        return terms
    graded = chip.neuron is not None and chip.neuron.graded_spikes
    count = events.event_ops if graded else events.unit_acs
    terms = [(events.acs if count is None else count, "synaptic operations" if graded or count is None else
              "synaptic operations of unit spikes", operation.joule, operation.source)]  # fmt: skip
    for counted, words, known in (
        (events.updates, "neuron updates", chip.energy.neuron_update), (events.spikes, "spikes", chip.energy.spike)
    ):  # fmt: skip
        if known is not None:
            terms.append((counted, words, known.joule, known.source))
    return terms


def _left_out(events: Events, chip: NeuromorphicChip) -> str:
    """What a chip's figure doesn't hold, for want of a published figure or of a known time."""
    lacks = ["input currents and readout", "static power"]
    if chip.energy.neuron_update is None:
        lacks.insert(0, f"{events.updates:.0f} neuron updates")
    fixed = events.event_ops is not None and chip.neuron is not None and "programmable" not in chip.neuron.models
    alone = "; its neurons can't compute a sigma-delta step: its events alone are priced" if fixed else ""
    return f"without {', '.join(lacks)}{alone}"


def _dense(events: Events, process: NeuromorphicChip) -> Figure:
    """The float network: every weight in every step, and its elementwise arithmetic."""
    add, mac = process.energy.synaptic_operation, process.energy.mac
    if add is None or mac is None:
        return Figure.unknown(DENSE, UNIT, f"{process.title}: no joules of an addition and a MAC")
    work, each, sum_ = events.network, mac.joule[1], add.joule[1]
    nano = (events.network_macs * each + work.additions * sum_ + work.multiplications * (each - sum_)) * 1e9
    other = f" + {work.additions:.0f} additions, {work.multiplications:.0f} multiplications" if work != Work() else ""
    source = (
        f"the float network without spikes: {events.network_macs:.0f} MACs x {each * 1e12:.3g} pJ{other}; "
        f"arithmetic alone, no memory; {mac.source}"
    )
    return Figure(DENSE, round(nano, 2), UNIT, "estimated", source)


def ranges(figures: Sequence[Figure]) -> dict[str, tuple[float, float]]:
    """Chip's name -> (low, high) nJ of an inference, from a run's figures; the float network is ``"dense"``.

    Chips whose energy is unknown are left out.
    """
    found: dict[str, tuple[float, float]] = {}
    for figure in figures:
        if figure.name.startswith("energy.") and figure.unit == UNIT and figure.value is not None:
            name = figure.name.removeprefix("energy.").removesuffix(".low").removesuffix(".high")
            low, high = found.get(name, (figure.value, figure.value))
            found[name] = (min(low, figure.value), max(high, figure.value))
    return found


def verdict(figures: Sequence[Figure]) -> str | None:
    """One sentence on whether spikes are cheaper than the float network's own arithmetic; None without energies."""
    found = ranges(figures)
    dense = found.pop("dense", None)
    if dense is None or not found:
        return None
    base = dense[1]
    groups: dict[str, list[str]] = {"costs more": [], "costs less": [], "may cost more or less": []}
    for name, (low, high) in found.items():
        groups["costs more" if low > base else "costs less" if high < base else "may cost more or less"].append(name)
    said = "; ".join(f"{words} on {', '.join(names)}" for words, names in groups.items() if names)
    return (
        "by published figures, compared with the network's arithmetic without spikes "
        f"({base:.4g} nJ in 45 nm, no memory), spiking {said}"
    )
