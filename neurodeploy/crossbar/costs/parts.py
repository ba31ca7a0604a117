"""Energy and area of crossbars by part: what happens how often, times what it costs.

Energy of a step or an inference::

    array    sum over reads of V^2 t_pulse sum_i d_i sum_j G_ij    d_i: mean (input/full scale)^2 of word line i
    line     cells on driven word lines, bit lines connected to converters
    dac      pulses of word lines in use
    adc      conversions
    digital  operations by kind and type
    buffer   bits read and written

Without a sample-and-hold a word line is driven again for every round of conversions. ``d`` is between 0 and 1 where it
isn't given. IR drop makes the array's part smaller. Leakage, control and what moves data between arrays have no
figure here; every total says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from neurodeploy.crossbar.costs.latency import rounds
from neurodeploy.crossbar.costs.prices import Pair, Price, Prices
from neurodeploy.crossbar.costs.work import Work, of_graph, of_matrix, total, width
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.mapping.encode import stored
from neurodeploy.crossbar.mapping.tiles import Matrix, Tile
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.ir.graph import Program

Array = np.ndarray
#: (stage, crossbar value) of a matrix.
Key = tuple[str, str]
#: Siemens that every input of a matrix drives, ``[inputs]``.
Loads = Mapping[Key, Array]
#: Mean (input/full scale)^2 of every word line of a matrix, ``[inputs]``.
Drive = Mapping[Key, Array]
ENERGY = ("array", "line", "dac", "adc", "digital", "buffer")
AREA = ("array", "line", "dac", "adc")


@dataclass(frozen=True)
class Activity:
    """How often things happen. ``reads``: how often each matrix multiplies; ``steps``: of each stage; what isn't named
    happens once. ``per``: what that is counted over, ``"step"`` or ``"inference"``."""

    per: str = "step"
    reads: Mapping[Key, float] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)

    def of(self, matrix: Matrix) -> float:
        """How often a matrix multiplies."""
        return self.reads.get((matrix.stage, matrix.value), 1.0)


@dataclass(frozen=True)
class Cost:
    """One part of a cost: ``cost`` (energy, latency, area), ``part``, and the ``node`` that it is priced in; ``range``
    is [low, high] in ``unit``, None where it is unknown, and then ``source`` says what is missing."""

    cost: str
    part: str
    node: str
    range: Pair | None
    unit: str
    source: str


def digital_work(program: Program, matrices: Sequence[Matrix], prices: Prices) -> dict[str, dict[str, Work]]:
    """The digital work of one step: stage -> value -> operations; a crossbar's is that of its converted codes."""
    found = {stage.name: of_graph(stage.graph) for stage in program.stages}
    bits = prices.target.dac.bits
    for matrix in matrices:
        graph = program.stage(matrix.stage).graph
        read = bits if bits is not None else width(graph.tensor(matrix.input).dtype)
        result = graph.tensor(matrix.value)
        found[matrix.stage][matrix.value] = of_matrix(matrix, result, read, prices.cycles)
    return found


def work_of(program: Program, matrices: Sequence[Matrix], prices: Prices, activity: Activity) -> Work:
    """All digital work of a step, or of an inference: a matrix's as often as it is read, the rest in every step."""
    own = {(m.stage, m.value): activity.of(m) for m in matrices}
    return total(
        own.get((stage, value), activity.steps.get(stage, 1.0)) * work
        for stage, values in digital_work(program, matrices, prices).items()
        for value, work in values.items()
    )


def energies(
    matrices: Sequence[Matrix], loads: Loads, work: Work, prices: Prices, activity: Activity, drive: Drive | None
) -> list[Cost]:
    """Energy by part, in pJ, of what :func:`loads_of` and :func:`work_of` give."""
    target, cycles = prices.target, prices.cycles
    per_adc = target.adc.columns_per_adc
    held = target.read is not None and target.read.sample_and_hold
    pulses, cells, conversions = 0.0, 0.0, 0.0
    for matrix in matrices:
        for tile in matrix.tiles:
            turns = rounds(matrix, tile, per_adc)
            applied = activity.of(matrix) * matrix.vectors * cycles
            rows = tile.inputs[1] - tile.inputs[0]
            driven = applied * (1 if held else turns)
            pulses += driven * rows
            cells += driven * rows * target.array.columns
            conversions += applied * (tile.outputs[1] - tile.outputs[0]) * matrix.slices
    made = {
        "array": _array(matrices, loads, target, activity, cycles, drive),
        "line": _lines(cells, conversions, prices),
        "dac": _priced(pulses, "pulses of a word line", prices.conversion("dac", "energy")),
        "adc": _priced(conversions, "conversions", prices.conversion("adc", "energy")),
        "digital": _digital(work, prices),
        "buffer": _buffer(work, prices),
    }
    return [
        Cost("energy", part, prices.node, made[part].range, f"pJ/{activity.per}", made[part].source) for part in ENERGY
    ]


def areas(matrices: Sequence[Matrix], prices: Prices) -> list[Cost]:
    """Area of whole arrays with their converters and lines by part, in um2."""
    target, count = prices.target, tiles.arrays(list(matrices))
    rows, columns = target.array.rows, target.array.columns
    adcs = -(-columns // target.adc.columns_per_adc)
    lines = prices.circuits and prices.circuits.line_area
    if lines:
        each = tuple(rows * lines.row_m2[end] + columns * lines.column_m2[end] + lines.array_m2[end] for end in (0, 1))
        line = _priced(count, "arrays", Price((each[0], each[1]), lines.source), "um2")
    else:
        line = Price(None, f"area of the lines' circuits: {prices.node or repr(target.name)} has no sourced figure")
    made = {
        "array": _priced(count * rows * columns, "cells of whole arrays", prices.cell_area(), "um2"),
        "line": line,
        "dac": _priced(count * rows, "DACs", prices.conversion("dac", "area"), "um2"),
        "adc": _priced(count * adcs, "ADCs", prices.conversion("adc", "area"), "um2"),
    }
    return [Cost("area", part, prices.node, made[part].range, "um2", made[part].source) for part in AREA]


def loads_of(program: Program, matrices: Sequence[Matrix], target: Crossbar) -> Loads:
    """Siemens that each input of each matrix drives, ``[inputs]``, on all of its tiles together."""
    found: dict[Key, Array] = {}
    for matrix in matrices:
        weights = tiles.weights(program, matrix)
        g = found.setdefault((matrix.stage, matrix.value), np.zeros(matrix.inputs))
        for tile in matrix.tiles:
            g[slice(*tile.inputs)] += conductances(matrix, tile, weights, target)
    return found


def conductances(matrix: Matrix, tile: Tile, weights: Array, target: Crossbar) -> Array:
    """Siemens on each word line of a tile, all of its devices together, ``[inputs]``, as they are aimed at."""
    inputs = tile.inputs[1] - tile.inputs[0]
    return sum(
        (np.nansum(g.reshape(inputs, -1), axis=1) for g in devices(matrix, tile, weights, target)), np.zeros(inputs)
    )


def devices(matrix: Matrix, tile: Tile, weights: Array, target: Crossbar) -> list[Array]:
    """Siemens of a tile's devices, ``[inputs, ...]`` each; NaN where none is formed. A reference column counts once."""
    held, device = stored(matrix, tile, weights), target.device
    span = device.g_max_siemens - device.g_min_siemens
    found = [np.moveaxis(held.plus, 1, 0)]
    if held.minus is not None:
        minus = np.moveaxis(held.minus, 1, 0)
        if matrix.encoding == "offset":
            minus = np.where(np.isnan(minus).all(axis=(1, 2)), np.nan, 0.5)[:, None]
        found.append(minus)
    return [device.g_min_siemens + span * relative for relative in found]


def _array(
    matrices: Sequence[Matrix], loads: Loads, target: Crossbar, activity: Activity, cycles: int, drive: Drive | None
) -> Price:
    if target.read is None:
        return Price(None, f"array: '{target.name}' has no [read], so neither a voltage nor a pulse")
    siemens, bounded = [0.0, 0.0], False
    for matrix in matrices:
        key = matrix.stage, matrix.value
        given = None if drive is None or cycles > 1 else drive.get(key)
        times = activity.of(matrix) * matrix.vectors * cycles
        bounded |= given is None
        siemens[0] += 0.0 if given is None else times * float(loads[key] @ np.asarray(given))
        siemens[1] += times * float(loads[key].sum() if given is None else loads[key] @ np.asarray(given))
    volts, pulse = target.read.volts, target.read.pulse_s
    low, high = (volts**2 * pulse * g * 1e12 for g in siemens)
    what = "at most, every input at full scale" if bounded else "mean squares of the inputs as they were"
    words = f"V^2 G t of all devices, {volts:g} V for {pulse * 1e9:g} ns, {siemens[1] * 1e6:.4g} uS driven; {what}"
    return Price((low, high), f"{words}; IR drop makes it less; {target.read.source}")


def _lines(cells: float, conversions: float, prices: Prices) -> Price:
    lines = prices.circuits and prices.circuits.line_energy
    if not lines:
        return Price(None, f"word lines: {prices.node or repr(prices.target.name)} has no sourced figure")
    low, high = ((cells * lines.cell_joule[end] + conversions * lines.select_joule[end]) * 1e12 for end in (0, 1))
    words = f"{cells:.6g} cells on driven lines, {conversions:.6g} bit lines connected"
    return Price((low, high), f"{words}; {lines.source}")


def _priced(count: float, what: str, price: Price, unit: str = "pJ") -> Price:
    """So many times a price, in pJ or um2."""
    if price.range is None:
        return Price(None, price.source)
    low, high = (end * 1e12 for end in price.range)
    each = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return Price((count * low, count * high), f"{count:.6g} {what} x {each} {unit}; {price.source}")


def _digital(work: Work, prices: Prices) -> Price:
    if work.unpriced:
        return Price(None, f"digital: no published price of {', '.join(sorted(work.unpriced))}")
    low = high = 0.0
    sources: dict[str, None] = {}
    for (kind, dtype), count in work.operations.items():
        price = prices.operation(kind, dtype)
        if price.range is None:
            return Price(None, f"digital: {price.source}")
        low, high = low + count * price.range[0] * 1e12, high + count * price.range[1] * 1e12
        sources[price.source] = None
    return Price((low, high), "; ".join([work.words, *sources]))


def _buffer(work: Work, prices: Prices) -> Price:
    buffer = prices.technology and prices.technology.buffer
    if not buffer:
        return Price(None, f"buffers: {prices.node or repr(prices.target.name)} has no sourced figure")
    low, high = work.stored * buffer.bit_joule[0] * 1e12, work.bits * buffer.bit_joule[1] * 1e12
    words = (
        f"{work.stored:.6g} bits that must be stored (low), {work.bits:.6g} bits of all arguments and results (high)"
    )
    return Price((low, high), f"{words}; {buffer.source}")
