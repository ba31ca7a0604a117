"""Sets the converters' ranges: input ranges and tiles' partial sums, from calibration data or from the worst case.

An input converter spans the largest magnitude that its segment of the input took in calibration (rounded up to whole
steps where inputs are whole numbers, for a wide converter to all that they can be); an output converter spans a
percentile of the magnitudes of its tile's currents (partial sums over the weight at full conductance), computed with
exact weights and the quantized inputs, over every read of a bit-serial input. Without data, an input range may come
from ``meta["ranges"]`` (what a calibration pass found); a partial sum is then bounded by ``sum_k |w_jk| * range``,
which wastes most of an 8-bit converter. A converter with a fixed range keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from neurodeploy.crossbar import direct
from neurodeploy.crossbar.converters import codes_of, digits, levels, steps
from neurodeploy.crossbar.mapping import encode, tiles
from neurodeploy.crossbar.mapping.encode import Stored
from neurodeploy.crossbar.mapping.tiles import Matrix, Segments, Tile
from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.hardware import Crossbar
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Graph, Program, Value
from neurodeploy.ir.types import int_range
from neurodeploy.passes.tiling import OP

Array = np.ndarray
KEPT_VECTORS = 8192
WITHOUT_DATA = "without calibration data the output converters span the worst case of their tiles: expect poor accuracy"


@dataclass
class Watch:
    """What one matrix was driven with: vectors ``[n, inputs]`` thinned to a bound, the largest magnitude of each input,
    and ``power``, the mean square of each input over all vectors."""

    kept: list[Array] = field(default_factory=list)
    largest: Array | None = None
    squares: Array | float = 0.0
    count: int = 0
    last: Array | None = None

    def add(self, vectors: Array, limit: int) -> None:
        """Take ``[n, inputs]`` into account, keeping at most ``limit`` of them."""
        largest = np.abs(vectors.astype(np.float64)).max(axis=0)
        squares = (vectors.astype(np.float64) ** 2).sum(axis=0)
        self.largest = largest if self.largest is None else np.maximum(self.largest, largest)
        self.squares = self.squares + squares
        self.count += len(vectors)
        self.kept.append(vectors[:: -(-len(vectors) // limit)])

    @property
    def power(self) -> Array:
        """Mean square of each input."""
        return np.asarray(self.squares) / max(self.count, 1)


def observe(program: Program, data: Data) -> dict[tuple[str, str], Watch]:
    """Run a tiled program on the data and keep what drives each ``crossbar`` value, where it counts."""
    held = {(s.name, v.name): (v, Watch()) for s in program.stages for v in s.graph.values if v.op == OP}
    inputs = data.inputs
    longest = max((a.shape[1] for n, a in inputs.items() if n in program.inputs and a.ndim > 1), default=1)
    limit = max(1, KEPT_VECTORS // longest)

    def see(stage: str, name: str, array: Array, active: Array) -> None:
        for (where, _), (value, watch) in held.items():
            if where != stage:
                continue
            if name == value.args[1]:
                watch.last = array
            elif name == value.name and watch.last is not None and active.any():
                x = watch.last if value.attrs["side"] != "left" else np.moveaxis(watch.last, 1, -1)
                x = np.broadcast_to(x, (len(active), *x.shape[1:]))[active]
                watch.add(x.reshape(-1, x.shape[-1]), limit)

    interpret.run(program, data.inputs, data.lengths, observe=see)
    return {key: watch for key, (_, watch) in held.items()}


def segments(program: Program, target: Crossbar, seen: Mapping[tuple[str, str], Watch] | None) -> Segments:
    """The full scales of every product's input converters: None where they are of infinite precision.

    Raises :class:`UsageError` where a range can't be known.
    """
    found: dict[tuple[str, str], tuple[tuple[int, int, float | None], ...]] = {}
    for stage in program.stages:
        for value in stage.graph.values:
            if value.op != OP:
                continue
            inputs = _inputs(value, stage.graph.params[value.args[0]].data)
            parts = value.attrs.get("segments") or [{"start": 0, "stop": inputs, "value": value.args[1]}]
            spans = [(part["start"], part["stop"], part["value"]) for part in parts]
            if not needed(target):
                found[stage.name, value.name] = tuple((a, b, None) for a, b, _ in spans)
            elif seen is not None:
                watch = seen[stage.name, value.name]
                if watch.largest is None:
                    raise UsageError(
                        "was never read on the calibration data, so the range of its converters is unknown.",
                        place=f"{stage.name}: %{value.name}",
                        hint="Calibrate with data that reach it.",
                    )
                tops = [float(watch.largest[a:b].max()) for a, b, _ in spans]
                found[stage.name, value.name] = _segments(spans, tops, value, stage.graph, target)
            else:
                tops = [_known(program, stage.name, name, target) for *_, name in spans]
                found[stage.name, value.name] = _segments(spans, tops, value, stage.graph, target)
    return found


def _segments(
    spans: Sequence[tuple[int, int, str]], tops: Sequence[float], value: Value, graph: Graph, target: Crossbar
) -> tuple[tuple[int, int, float | None], ...]:
    """Spans with their full scales.

    Whole inputs get steps that are whole, so that wide converters are exact; a converter with codes to spare for all
    that their dtype holds gets halves, quarters, ... of 1, and drives the lines with more than half of its range.
    """
    bits, type_ = target.dac.bits, graph.tensor(value.args[1])
    if bits is not None and type_.is_int:
        m = levels(bits)
        finest = 0.5 ** np.floor(np.log2(max(1.0, m / int_range(type_.dtype)[1])))
        tops = [m * float(max(finest, np.ceil(top / m) if top > m else 0.0)) for top in tops]
    return tuple((a, b, top) for (a, b, _), top in zip(spans, tops, strict=True))


def _inputs(value: Value, data: Array) -> int:
    return data.shape[1] if value.attrs["side"] == "left" else data.shape[0]


def _known(program: Program, stage: str, name: str, target: Crossbar) -> float:
    """The largest magnitude of a value that a calibration pass has found, or that its dtype can hold."""
    graph = program.stage(stage).graph
    value = next((v for v in graph.values if v.name == name), None)
    if value is not None and value.op == "const":
        return float(np.abs(value.attrs["value"]).max()) or 1.0
    bounds = ((program.meta.get("ranges") or {}).get(stage) or {}).get(name)
    type_ = graph.tensor(name)
    if type_.is_int and type_.quant is not None:
        bounds = (0, int_range(type_.dtype)[1])  # the quantizer set its scale so that the data fill the dtype
    if bounds is None:
        raise UsageError(
            f"its converters need a range for %{name} (stage '{stage}'); no calibration data given.",
            place=target.name,
            hint="Give data to calibrate on: --data FILE.npz.",
        )
    return float(max(abs(bounds[0]), abs(bounds[1])))


def with_ranges(
    program: Program,
    matrices: tuple[Matrix, ...],
    target: Crossbar,
    seen: Mapping[tuple[str, str], Watch] | None,
    percentile: float,
) -> tuple[tuple[Matrix, ...], list[str]]:
    """The matrices with their output converters' ranges, and warnings."""
    if target.adc.bits is None:
        return matrices, []
    fixed = target.adc.full_scale_siemens
    if fixed is not None:
        span = target.device.g_max_siemens - target.device.g_min_siemens
        return tuple(
            replace(m, tiles=tuple(replace(t, adc_range=(full_drive(m) * fixed / span,) * m.slices) for t in m.tiles))
            for m in matrices
        ), []
    ranged = []
    for matrix in matrices:
        weights = tiles.weights(program, matrix)
        kept = None if seen is None else np.concatenate(seen[matrix.stage, matrix.value].kept).astype(np.float64)
        driven = None if kept is None else drives(matrix, kept, target)
        found = []
        for tile in matrix.tiles:
            held = encode.stored(matrix, tile, weights)
            found.append(replace(tile, adc_range=_tile_range(matrix, tile, held, driven, target, percentile)))
        ranged.append(replace(matrix, tiles=tuple(found)))
    return tuple(ranged), [] if seen is not None else [WITHOUT_DATA]


def drives(matrix: Matrix, vectors: Array, target: Crossbar) -> list[Array]:
    """What word lines carry for vectors ``[..., inputs]``, one array for each read of a product, ideal converters.

    In the input's unit over the word line's share of the range
    (:func:`~neurodeploy.crossbar.mapping.tiles.input_scale`); a full-scale drive is the matrix's largest full scale.
    """
    bits, serial, unit = target.dac.bits, target.dac.serial_bits, drive_unit(matrix, target)
    if bits is None:
        return [vectors / tiles.input_scale(matrix)]
    codes, _ = codes_of(vectors / steps(full_scales(matrix), bits, vectors.dtype), bits)
    if serial is None:
        return [codes * unit]
    return [piece * unit for piece, _ in digits(codes, bits, serial)]


def drive_unit(matrix: Matrix, target: Crossbar) -> Array | None:
    """What one code of every input drives its word line with, ``[inputs]`` in the unit of :func:`drives`.

    None where there are no codes and all word lines share one range.
    """
    bits, serial = target.dac.bits, target.dac.serial_bits
    scale = tiles.input_scale(matrix)
    if bits is None:
        return None if (scale == 1.0).all() else 1.0 / scale
    top = levels(bits) if serial is None else (1 << serial) - 1
    return full_scales(matrix) / top / scale


def serial_weights(matrix: Matrix, target: Crossbar) -> list[float]:
    """What each read of :func:`drives` counts for in the product."""
    bits, serial = target.dac.bits, target.dac.serial_bits
    if bits is None or serial is None:
        return [1.0]
    top = (1 << serial) - 1
    return [top * 2.0 ** (k * serial) / levels(bits) for k in range(-(-bits // serial))]


def full_scales(matrix: Matrix) -> Array:
    """The full scale of every input's converter in the input's unit, ``[inputs]``; 0 where it has none."""
    full = np.zeros(matrix.inputs)
    for start, stop, top in matrix.segments:
        full[start:stop] = top or 0.0
    return full


def full_drive(matrix: Matrix) -> float:
    """A full-scale drive in the units of :func:`drives`; 1 where the inputs have no range."""
    return max((top or 0.0 for *_, top in matrix.segments), default=0.0) or 1.0


def needed(target: Crossbar) -> bool:
    """Whether the inputs' ranges matter: converters have steps, or voltages a scale."""
    device = target.device
    physical = device.thermal_noise is not None or device.nonlinear is not None or direct.needed(target)
    return target.dac.bits is not None or target.adc.bits is not None or physical


def _tile_range(
    matrix: Matrix, tile: Tile, held: Stored, driven: list[Array] | None, target: Crossbar, percentile: float
) -> tuple[float, ...]:
    """For each slice the full scale of a tile's currents, over its outputs that hold a weight."""
    largest = np.array(tile.weight_max)
    some = largest > 0
    if not some.any():
        return (0.0,) * matrix.slices
    found, device = [], target.device
    for weight, factor, constant in zip(held.weight, held.factor, held.constant, strict=True):
        relative = weight[:, some] / (largest[some] * factor)
        if held.minus is None:  # what conducts at weight 0 is on the line too, and subtracted after conversion
            relative = relative + constant + device.g_min_siemens / (device.g_max_siemens - device.g_min_siemens)
        if driven is None:
            found.append(float(full_drive(matrix) * np.abs(relative).sum(axis=0).max()))
        else:
            sums = [np.abs(x[:, slice(*tile.inputs)] @ relative) for x in driven]
            found.append(float(np.percentile(np.stack(sums), percentile, method="higher")))
    return tuple(found)
