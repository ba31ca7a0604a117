"""Which figures and accuracies a report knows: their titles, order, and which way is better.

A figure whose name isn't here is shown too, under its own name, after the known ones. Names of NeuroBench 2.3 are
spelled as there; a metric with parts is ``Metric.Part``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["mcu", "tflite", "spiking", "crossbar", "other"]

KINDS: dict[str, str] = {
    "mcu": "Microcontroller",
    "tflite": "TensorFlow Lite Micro",
    "spiking": "Spiking",
    "crossbar": "Memristor crossbar",
    "other": "Other",
}

KIND_OF_BACKEND: dict[str, Kind] = {
    "c": "mcu",
    "tflite": "tflite",
    "brian2": "spiking",
    "snntorch": "spiking",
    "nir": "spiking",
    "crossbar": "crossbar",
}


@dataclass(frozen=True)
class Known:
    """A known figure: its title, the group of rows it stands in, whether it is a main cost (plotted, summarised)."""

    title: str
    group: str
    main: bool = False
    lower_is_better: bool = True

    @property
    def full_title(self) -> str:
        """The title where it stands without its group: ``RAM: State``."""
        led = self.title.startswith(self.group) or self.group not in (_FLASH, _RAM, _SYNOPS)
        return self.title if led else f"{self.group}: {self.title}"


_NETWORK = "Network"
_FLASH = "Flash"
_RAM = "RAM"
_WORK = "Work per step"
_TFLITE = "TensorFlow Lite"
_SPIKES = "Spikes and neurons"
_SYNOPS = "SynapticOperations"
_CROSSBAR = "Crossbar"
_TIME = "Time and energy"
_NUMERICS = "Quantization"

FIGURES: dict[str, Known] = {
    "ParameterCount": Known("Parameters", _NETWORK),
    "Footprint": Known("Footprint: parameters and states", _NETWORK),
    "ConnectionSparsity": Known("Connection sparsity", _NETWORK, lower_is_better=False),
    "flash": Known("Flash, total", _FLASH, main=True),
    "flash_code": Known("Code", _FLASH),
    "flash_tables": Known("Tables", _FLASH),
    "flash_weights": Known("Weights", _FLASH),
    "ram": Known("RAM, planned", _RAM, main=True),
    "ram_state": Known("State", _RAM),
    "ram_ports": Known("Inputs and outputs of a step", _RAM),
    "ram_scratch": Known("Scratch", _RAM),
    "ram_stack": Known("Stack", _RAM),
    "macs": Known("Multiply-accumulates", _WORK),
    "macs_always": Known("Multiply-accumulates, no guarded region running", _WORK),
    "instructions_worst": Known("Instructions, worst", _WORK),
    "instructions_mean": Known("Instructions, mean", _WORK, main=True),
    "cycles_worst": Known("Cycles, worst", _WORK),
    "cycles_mean": Known("Cycles, mean", _WORK, main=True),
    "tflite_bytes": Known("Model file (.tflite)", _TFLITE, main=True),
    "arena_bytes": Known("Tensor arena", _TFLITE, main=True),
    "operators": Known("Operators", _TFLITE),
    "spikes": Known("Spikes", _SPIKES, main=True),
    "SynapticOperations.Effective_ACs": Known("Effective_ACs", _SYNOPS, main=True),
    "SynapticOperations.Effective_MACs": Known("Effective_MACs", _SYNOPS),
    "SynapticOperations.Dense": Known("Dense", _SYNOPS),
    "MembraneUpdates": Known("MembraneUpdates", _SPIKES),
    "NeuronUpdates": Known("Neuron updates", _SPIKES),
    "NeuronOperations": Known("NeuronOperations", _SPIKES),
    "ActivationSparsity": Known("ActivationSparsity", _SPIKES, lower_is_better=False),
    "neurons": Known("Neurons", _SPIKES),
    "synapses": Known("Synapses", _SPIKES),
    "tiles": Known("Tiles", _CROSSBAR, main=True),
    "devices": Known("Memristive devices", _CROSSBAR, main=True),
    "utilisation": Known("Utilisation of the tiles", _CROSSBAR, lower_is_better=False),
    "dac_conversions": Known("DAC conversions", _CROSSBAR),
    "adc_conversions": Known("ADC conversions", _CROSSBAR, main=True),
    "dac_saturation": Known("DAC conversions out of range", _CROSSBAR),
    "adc_saturation": Known("ADC conversions out of range", _CROSSBAR),
    "programming_pulses": Known("Programming pulses", _CROSSBAR),
    "programming_energy": Known("Energy of programming", _CROSSBAR),
    "out_of_tolerance": Known("Devices that programming left out of tolerance", _CROSSBAR),
    "array_reads": Known("Reads of an array", _CROSSBAR),
    "array_operations": Known("Operations on the arrays, two a weight", _CROSSBAR, lower_is_better=False),
    "digital_multiplications": Known("Digital multiplications", _CROSSBAR),
    "digital_additions": Known("Digital additions", _CROSSBAR),
    "digital_comparisons": Known("Digital comparisons", _CROSSBAR),
    "digital_lookups": Known("Digital table look-ups", _CROSSBAR),
    "digital_functions": Known("Other digital functions", _CROSSBAR),
    "buffer_bits": Known("Bits read and written by the digital part", _CROSSBAR),
    "area": Known("Area", _CROSSBAR, main=True),
    "known_area": Known("Area of the parts that are known", _CROSSBAR),
    "cell_area": Known("Area of the cells", _CROSSBAR),
    "fine_tuning.before": Known("Held-out samples before", "Fine-tuning", lower_is_better=False),
    "fine_tuning.after": Known("Held-out samples after", "Fine-tuning", lower_is_better=False),
    "stalled_updates": Known("Stalled state updates", _NUMERICS),
    "output_error": Known("Output error against float", _NUMERICS),
    "latency": Known("Latency", _TIME),
    "interval": Known("Interval between steps of several sequences", _TIME),
    "sequence_interval": Known("Interval between steps of one sequence", _TIME),
    "decision_frames": Known("Frames to a settled decision", _TIME),
    "energy": Known("Energy", _TIME, main=True),
    "known_energy": Known("Energy of the parts that are known", _TIME, main=True),
    "tops_per_watt": Known("Operations a second and watt", _TIME, lower_is_better=False),
    "tops_per_mm2": Known("Operations a second and area", _TIME, lower_is_better=False),
    "dac_energy": Known("Energy of the DACs", _TIME),
    "adc_energy": Known("Energy of the ADCs", _TIME),
}

HOW: dict[str, str] = {
    "measured": "by running on the thing itself: a counter of the board, or of the emulated core",
    "compiled": "exact by construction: a linker map, a file's size, a shape",
    "simulated": "from a model of a chip or of its physics",
    "estimated": "a count times a constant from a named source",
    "unknown": "no figure, and no checked source for one",
}


@dataclass(frozen=True)
class Metric:
    """An accuracy metric: its title, unit, the factor from stored to shown value, and which way is better."""

    title: str
    unit: str = ""
    factor: float = 1.0
    higher_is_better: bool = False


METRICS: dict[str, Metric] = {
    "ClassificationAccuracy": Metric("Classification accuracy", "%", 100.0, True),
    "MSE": Metric("Mean squared error"),
    "RMSE": Metric("Root mean squared error"),
    "NRMSE": Metric("Normalised root mean squared error"),
    "MAE": Metric("Mean absolute error"),
    "R2": Metric("Coefficient of determination R2", higher_is_better=True),
    "SMAPE": Metric("Symmetric mean absolute percentage error", "%"),
}


#: Figures of one name for several chips: ``energy.NAME``, or ``energy.NAME.low`` and ``.high`` for a range.
BY_CHIP = "energy."
DENSE = Known("Energy of the network without spikes", _TIME)

#: Parts of a crossbar -> their titles, in the order in which bars are stacked.
PARTS: dict[str, str] = {
    "array": "Arrays",
    "line": "Lines and their drivers",
    "dac": "DACs",
    "adc": "ADCs",
    "digital": "Digital part",
    "buffer": "Buffers",
}
#: A crossbar's costs by part: ``energy.adc``, ``area.array`` ..., ranges as above; ``energy.adc@NODE`` where a target
#: is priced in several technologies.
BY_PART: dict[str, dict[str, str]] = dict.fromkeys(("energy", "latency", "area"), PARTS)

#: What a sweep changes in a crossbar's target, and the title of its axis.
QUANTITIES: dict[str, str] = {
    "adc_bits": "Resolution of the ADCs",
    "dac_bits": "Resolution of the DACs",
    "stuck": "Stuck devices",
    "wires": "Resistance of the wires, times the target's",
}


def known(name: str) -> Known:
    """The known figure of that name, or a plain one for a name that isn't known; both ends of a range are one."""
    name, _, node = without_end(name).partition("@")
    found = FIGURES.get(name) or by_part(name) or by_chip(name) or Known(name, "Other figures")
    return replace(found, title=f"{found.title}, {node}", main=False) if node else found


def by_part(name: str) -> Known | None:
    """The known figure of a crossbar's cost by part; None for other names."""
    place = part_of(name)
    group = _CROSSBAR if place and place[0] == "area" else _TIME
    return place and Known(f"{place[0].capitalize()}: {BY_PART[place[0]][place[1]]}", group)


def part_of(name: str) -> tuple[str, str, str] | None:
    """``("energy", "adc", "NODE")`` for ``energy.adc@NODE.low``; ``""`` for no node, None for other names."""
    whole, _, node = without_end(name).partition("@")
    cost, _, part = whole.partition(".")
    return (cost, part, node) if part in BY_PART.get(cost, {}) else None


def by_chip(name: str) -> Known | None:
    """The known figure of an energy by chip; None for other names."""
    if not name.startswith(BY_CHIP) or part_of(name) or name.removeprefix(BY_CHIP) in ("low", "high"):
        return None
    chip = without_end(name).removeprefix(BY_CHIP)
    return DENSE if chip == "dense" else Known(f"Energy on {chip}", _TIME)


def without_end(name: str) -> str:
    """The name that both ends of a range share."""
    return name.removesuffix(".low").removesuffix(".high")
