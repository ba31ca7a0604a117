"""How matrices lie on arrays.

A matrix of ``outputs x inputs`` weights is cut into tiles, one for each array that holds a part of it: ``inputs`` of a
tile drive word lines from ``row`` on, its ``outputs`` are read from bit lines from ``column`` on. Partial sums of one
output range on several arrays are added digitally, after conversion. An array may hold tiles of several matrices; they
are read one after the other. Cells that no tile uses (and ``empty`` rectangles within one) are never formed: they
conduct nothing. What a weight is on the devices is written in :mod:`neurodeploy.crossbar.mapping.encode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.crossbar.mapping import placement
from neurodeploy.descriptions_crossbar import Crossbar, Encoding
from neurodeploy.errors import UsageError, nearest
from neurodeploy.ir.graph import Program, Value
from neurodeploy.passes.tiling import OP, lines, outputs_that_fit
from neurodeploy.passes.tiling_plan import Rectangle, cut, empty

Array = np.ndarray
SCALINGS = ("output", "tile")
ZEROS = ("formed", "unformed")
PACKS = ("auto", "never")
Span = tuple[int, int]
#: (stage, value) -> segments of its input: (start, stop, full scale in the input's unit, None without a range).
Segments = Mapping[tuple[str, str], tuple[tuple[int, int, float | None], ...]]


@dataclass(frozen=True)
class Tile:
    """The part of a matrix on one array: inputs and outputs ``[start, stop)``, its first word line and bit line.

    ``weight_max``: for each output, the weight at full conductance. ``adc_range``: for each slice, the full scale of
    its converters as a sum of inputs times relative conductances ``w / weight_max``; empty where they have no range.
    ``empty``: rectangles (inputs, outputs) without devices, counted as the matrix counts them. ``unformed``: weights
    of exactly 0 elsewhere whose devices are not formed; 0 where such weights have devices too.
    """

    array: int
    row: int
    column: int
    inputs: Span
    outputs: Span
    weight_max: tuple[float, ...]
    adc_range: tuple[float, ...] = ()
    empty: tuple[tuple[Span, Span], ...] = ()
    unformed: int = 0

    @property
    def weights(self) -> int:
        """Weights that it holds on devices."""
        gone = self.unformed + sum((i[1] - i[0]) * (o[1] - o[0]) for i, o in self.empty)
        return (self.inputs[1] - self.inputs[0]) * (self.outputs[1] - self.outputs[0]) - gone


@dataclass(frozen=True)
class Matrix:
    """One ``crossbar`` value: ``[outputs, inputs]`` weights that multiply ``vectors`` vectors each step.

    ``index`` numbers the matrices of a program. ``input`` names the value that drives it, ``parts`` say which weights
    of the network lie on which outputs and inputs. ``side`` is where the weights stood in the product. ``segments``:
    consecutive ranges of inputs and the full scale of their converters in the input's unit (None without a range); they
    share the converters' voltages, so weights of a segment with a smaller range are stored smaller by as much.
    ``sources`` name the values that the segments come from. ``slices`` devices (or pairs) of ``slice_bits`` hold a
    weight of ``weight_bits``.
    """

    index: int
    stage: str
    value: str
    input: str
    side: str
    inputs: int
    outputs: int
    vectors: int
    parts: tuple[Mapping[str, Any], ...]
    tiles: tuple[Tile, ...]
    segments: tuple[tuple[int, int, float | None], ...] = ()
    encoding: Encoding = "differential"
    weight_bits: int | None = None
    slice_bits: int | None = None
    slices: int = 1
    sources: tuple[str, ...] = ()

    def conversions(self, kind: str) -> int:
        """Conversions of ``"dac"`` or ``"adc"`` each time that it is read."""
        return self.dac_conversions if kind == "dac" else self.adc_conversions

    def reads(self, cycles: int = 1) -> int:
        """Reads of arrays each time it multiplies: every tile for every vector, in each of ``cycles`` serial cycles.

        A read gives all slices. Serial cycles multiply the conversions below by as much.
        """
        return self.vectors * len(self.tiles) * cycles

    @property
    def dac_conversions(self) -> int:
        """Digital-to-analog conversions each time it is read: one for each word line in use of each tile."""
        return self.vectors * sum(t.inputs[1] - t.inputs[0] for t in self.tiles)

    @property
    def adc_conversions(self) -> int:
        """Analog-to-digital conversions each time it is read: one for each output and slice of each tile."""
        return self.vectors * sum(t.outputs[1] - t.outputs[0] for t in self.tiles) * self.slices

    @property
    def additions(self) -> int:
        """Digital additions each time it is read, of converted results: over tiles and slices of each output.

        ``one-sided`` also adds a tile's inputs up once and takes their share from every output.
        """
        converted = sum((t.outputs[1] - t.outputs[0]) for t in self.tiles) * self.slices
        count = converted - self.outputs
        if self.encoding == "one-sided":
            count += sum(t.inputs[1] - t.inputs[0] - 1 + t.outputs[1] - t.outputs[0] for t in self.tiles)
        return self.vectors * count

    @property
    def input_blocks(self) -> list[Span]:
        """The distinct ranges of inputs, in order: the partial sums of a result."""
        return sorted({t.inputs for t in self.tiles})

    @property
    def devices(self) -> int:
        """Devices in use."""
        return sum(self.devices_of(tile) for tile in self.tiles)

    def devices_of(self, tile: Tile) -> int:
        """Devices in use of one tile."""
        each, reference = lines(self.encoding, self.slices)
        return each * tile.weights + reference * (tile.inputs[1] - tile.inputs[0])

    def width(self, outputs: int) -> int:
        """Bit lines that a tile of so many outputs takes."""
        each, reference = lines(self.encoding, self.slices)
        return each * outputs + reference

    def lines(self, tile: Tile) -> tuple[Array, Array | None]:
        """Bit lines of the array on which a tile's currents add and subtract, ``[slices, outputs]``; None for none."""
        count = tile.outputs[1] - tile.outputs[0]
        places = np.arange(count * self.slices).reshape(count, self.slices).T
        if self.encoding == "differential":
            return tile.column + 2 * places, tile.column + 2 * places + 1
        if self.encoding == "offset":
            return tile.column + places, np.full_like(places, tile.column + count * self.slices)
        return tile.column + places, None

    def as_json(self) -> dict[str, Any]:
        """A JSON record of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Matrix:
        """What :meth:`as_json` gave."""
        cut = tuple(
            Tile(
                **{
                    **t,
                    "inputs": tuple(t["inputs"]),
                    "outputs": tuple(t["outputs"]),
                    "weight_max": tuple(t["weight_max"]),
                    "adc_range": tuple(t["adc_range"]),
                    "empty": tuple((tuple(i), tuple(o)) for i, o in t["empty"]),
                }
            )
            for t in record["tiles"]
        )
        segments = tuple((a, b, full) for a, b, full in record["segments"])
        listed = {"parts": tuple(record["parts"]), "sources": tuple(record["sources"])}
        return cls(**{**record, "tiles": cut, "segments": segments, **listed})


def weights(program: Program, matrix: Matrix) -> Array:
    """The matrix's weights, ``[outputs, inputs]``, in the dtype of its param."""
    graph = program.stage(matrix.stage).graph
    (value,) = (v for v in graph.values if v.name == matrix.value)
    data = graph.params[value.args[0]].data
    return data if matrix.side == "left" else data.T


def arrays(matrices: tuple[Matrix, ...] | list[Matrix]) -> int:
    """How many arrays the matrices take."""
    return 1 + max((t.array for m in matrices for t in m.tiles), default=-1)


def input_scale(matrix: Matrix) -> Array:
    """Every word line's full-scale input over the matrix's largest, ``[inputs]``: 1 where all share one range."""
    scale = np.ones(matrix.inputs)
    known = [full for *_, full in matrix.segments if full]
    for start, stop, full in matrix.segments:
        if full:
            scale[start:stop] = full / max(known)
    return scale


def matrices(
    program: Program,
    target: Crossbar,
    scaling: str = "output",
    segments: Segments | None = None,
    pack: str = "auto",
    zeros: str = "formed",
) -> tuple[Matrix, ...]:
    """The matrices of a tiled program, placed on arrays, without the ranges of output converters.

    ``scaling``: full conductance is the largest weight of an ``output`` or of a ``tile``. ``segments``: what input
    converters span (:func:`neurodeploy.crossbar.ranges.segments`), nothing without them. ``pack``: ``auto`` lets
    several matrices share an array, ``never`` gives each tile its own. ``zeros``: ``unformed`` leaves the pairs of
    weights that are exactly 0 unformed. Raises :class:`UsageError`.
    """
    for name, given, known in (("scaling", scaling, SCALINGS), ("pack", pack, PACKS), ("zeros", zeros, ZEROS)):
        if given not in known:
            message = f"there is no scaling '{given}'." if name == "scaling" else f"'{name}' can't be '{given}'."
            raise UsageError(message, place="crossbar", hint=nearest(given, known))
    if zeros == "unformed" and target.array.encoding != "differential":
        raise UsageError(
            f"zeros can't be left unformed with encoding '{target.array.encoding}': a weight of 0 conducts there.",
            place=target.name,
            hint="Use zeros=formed, or an array of pairs.",
        )
    found: list[Matrix] = []
    for stage in program.stages:
        for value in stage.graph.values:
            if value.op == OP:
                data = stage.graph.params[value.args[0]].data
                known = (segments or {}).get((stage.name, value.name))
                found.append(_matrix(len(found), stage.name, value, data, target, scaling, known, zeros))
    return placement.placed(found, target, pack)


def _matrix(
    index: int,
    stage: str,
    value: Value,
    data: Array,
    target: Crossbar,
    scaling: str,
    known: tuple[tuple[int, int, float | None], ...] | None,
    zeros: str,
) -> Matrix:
    side, array = value.attrs["side"], target.array
    held = data if side == "left" else data.T
    outputs, inputs = held.shape
    given = tuple((s["start"], s["stop"], None) for s in value.attrs["segments"])
    rectangles: list[Rectangle] = [(tuple(p["inputs"]), tuple(p["outputs"])) for p in value.attrs["parts"]]
    fit = outputs_that_fit(array.columns, array.encoding, array.slices)
    matrix = Matrix(
        index,
        stage,
        value.name,
        value.args[1],
        side,
        inputs,
        outputs,
        value.tensor.size // outputs,
        tuple(value.attrs["parts"]),
        (),
        known or given,
        array.encoding,
        array.weight_bits,
        array.slice_bits,
        array.slices,
        tuple(s["value"] for s in value.attrs["segments"]),
    )
    scaled = held.astype(np.float64) * input_scale(matrix)
    tiles = []
    for rows, columns in cut(rectangles, array.rows, fit):
        block = scaled[slice(*columns), slice(*rows)]
        largest = _weight_max(block, array.weight_bits, held.dtype.kind == "i")
        if scaling == "tile":
            largest = np.full_like(largest, largest.max())
        gone = empty(rectangles, (rows, columns))
        tile = Tile(0, 0, 0, rows, columns, tuple(largest.tolist()), (), gone)
        if zeros == "unformed":
            tile = replace(tile, unformed=int((block == 0).sum()) - (block.size - tile.weights))
        tiles.append(tile)
    return replace(matrix, tiles=tuple(tiles))


def _weight_max(block: Array, bits: int | None, whole: bool) -> Array:
    """The weight at full conductance for each output of ``[outputs, inputs]``; 0 where all weights are.

    Whole numbers on a grid that is fine enough for them lie on it exactly: it is then that of the whole numbers, or of
    halves, quarters, ... of them where the weights are small.
    """
    largest = np.abs(block).max(axis=1)
    if bits is None or not whole or (block != np.rint(block)).any():
        return largest
    top = float((1 << (bits - 1)) - 1)
    fine = np.floor(np.log2(top / np.where(largest > 0, largest, top)))
    return np.where((largest > 0) & (largest <= top), top / np.exp2(np.maximum(fine, 0)), largest)
