"""How matrices lie on tiles.

A matrix of ``outputs x inputs`` weights is cut into blocks of at most ``rows`` inputs and ``columns / 2`` outputs, one
tile each. An input drives a word line; an output is a pair of neighbouring bit lines, g+ and g-, whose currents are
subtracted before one analog-to-digital conversion. Blocks of one output range are added digitally, after conversion.
A tile holds one block: what it leaves free stays unused. Full conductance is the largest weight of an output
(``scaling = "output"``) or of the whole tile (``"tile"``)::

    g+ = g_min + max(w, 0) u,  g- = g_min + max(-w, 0) u,  u = (g_max - g_min) / max |w|

The factor back is applied digitally with the converter's step: one multiplication a conversion in either case. An
output whose weights on a tile are all 0 has the factor 0: its devices' noise reaches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neurodeploy.errors import UsageError, nearest
from neurodeploy.ir.graph import Program, Value
from neurodeploy.passes.tiling import OP

Array = np.ndarray
SCALINGS = ("output", "tile")


@dataclass(frozen=True)
class Tile:
    """One tile: its number in the artifact, its inputs ``[start, stop)`` and outputs ``[start, stop)``, its ranges.

    ``weight_max``: for each output, the weight at full conductance. ``adc_range``: the full scale of its converters as
    a sum of inputs times relative weights ``w / weight_max``, None where they have no range.
    """

    number: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    weight_max: tuple[float, ...]
    adc_range: float | None = None

    @property
    def devices(self) -> int:
        """Devices in use: two a weight."""
        return 2 * (self.inputs[1] - self.inputs[0]) * (self.outputs[1] - self.outputs[0])


@dataclass(frozen=True)
class Matrix:
    """One ``crossbar`` value: ``[outputs, inputs]`` weights that multiply ``vectors`` vectors each step.

    ``index`` numbers the matrices of a program. ``input`` names the value that drives it, ``parts`` say which weights
    of the network lie on which outputs. ``side`` is where the weights stood in the product. ``dac_range`` is the full
    scale of its input converters in the input's unit, None where they have no range.
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
    dac_range: float | None = None

    @property
    def dac_conversions(self) -> int:
        """Digital-to-analog conversions each time it is read: one for each word line in use of each tile."""
        return self.vectors * sum(t.inputs[1] - t.inputs[0] for t in self.tiles)

    @property
    def adc_conversions(self) -> int:
        """Analog-to-digital conversions each time it is read: one for each output of each tile."""
        return self.vectors * sum(t.outputs[1] - t.outputs[0] for t in self.tiles)

    @property
    def input_blocks(self) -> list[tuple[int, int]]:
        """The distinct ranges of inputs, in order: the partial sums of a result."""
        return sorted({t.inputs for t in self.tiles})

    def as_json(self) -> dict[str, Any]:
        """A JSON record of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Matrix:
        """What :meth:`as_json` gave."""
        tiles = tuple(
            Tile(t["number"], tuple(t["inputs"]), tuple(t["outputs"]), tuple(t["weight_max"]), t["adc_range"])
            for t in record["tiles"]
        )
        return cls(**{**record, "tiles": tiles, "parts": tuple(record["parts"])})


def spans(size: int, step: int) -> list[tuple[int, int]]:
    """``[start, stop)`` of consecutive pieces of at most ``step``."""
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def weights(program: Program, matrix: Matrix) -> Array:
    """The matrix's weights, ``[outputs, inputs]``, in the dtype of its param."""
    graph = program.stage(matrix.stage).graph
    (value,) = (v for v in graph.values if v.name == matrix.value)
    data = graph.params[value.args[0]].data
    return data if matrix.side == "left" else data.T


def matrices(program: Program, scaling: str = "output") -> tuple[Matrix, ...]:
    """The matrices of a tiled program, on tiles but without converter ranges. Raises :class:`UsageError`."""
    if scaling not in SCALINGS:
        raise UsageError(f"there is no scaling '{scaling}'.", place="crossbar", hint=nearest(scaling, SCALINGS))
    found: list[Matrix] = []
    number = 0
    for stage in program.stages:
        for value in stage.graph.values:
            if value.op == OP:
                matrix = _matrix(len(found), stage.name, value, stage.graph.params[value.args[0]].data, number, scaling)
                number += len(matrix.tiles)
                found.append(matrix)
    return tuple(found)


def _matrix(index: int, stage: str, value: Value, data: Array, number: int, scaling: str) -> Matrix:
    side = value.attrs["side"]
    held = data if side == "left" else data.T
    outputs, inputs = held.shape
    tiles = []
    for rows in spans(inputs, value.attrs["rows"]):
        for columns in spans(outputs, value.attrs["columns"] // 2):
            largest = np.abs(held[slice(*columns), slice(*rows)].astype(np.float64)).max(axis=1)
            if scaling == "tile":
                largest = np.full_like(largest, largest.max())
            tiles.append(Tile(number + len(tiles), rows, columns, tuple(largest.tolist())))
    vectors = value.tensor.size // outputs
    parts = tuple(value.attrs["parts"])
    return Matrix(index, stage, value.name, value.args[1], side, inputs, outputs, vectors, parts, tuple(tiles))


def weight_max(matrix: Matrix, block: tuple[int, int]) -> Array:
    """The weight at full conductance of every output, ``[outputs]`` float64, on the tiles of one range of inputs."""
    spread = np.zeros(matrix.outputs)
    for tile in matrix.tiles:
        if tile.inputs == block:
            spread[slice(*tile.outputs)] = tile.weight_max
    return spread


def full_scale(matrix: Matrix, block: tuple[int, int]) -> Array:
    """The converters' full scale in units of the partial sum, ``[outputs]``, on the tiles of one range of inputs."""
    spread = weight_max(matrix, block)
    for tile in matrix.tiles:
        if tile.inputs == block:
            spread[slice(*tile.outputs)] *= tile.adc_range or 0.0
    return spread
