"""Sets the converters' ranges: input ranges and tiles' partial sums, from calibration data or from the worst case.

An input converter spans the largest magnitude that its input took in calibration; an output converter spans a
percentile of the magnitudes of its tile's currents (partial sums over the weight at full conductance), computed with
exact weights and the quantized inputs. Without data, an input range may come from ``meta["ranges"]`` (what a
calibration pass found); a partial sum is then bounded by ``sum_k |w_jk| * range``, which wastes most of an 8-bit
converter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from neurodeploy.crossbar import tiles
from neurodeploy.crossbar.converters import convert
from neurodeploy.crossbar.tiles import Matrix, Tile
from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.hardware import Crossbar
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Program
from neurodeploy.ir.types import int_range

Array = np.ndarray
KEPT_VECTORS = 8192


def with_ranges(
    program: Program,
    matrices: tuple[Matrix, ...],
    target: Crossbar,
    data: Data | None,
    percentile: float,
) -> tuple[tuple[Matrix, ...], list[str]]:
    """The matrices with their converters' ranges, and warnings.

    Ranges are left out where both converters are of infinite precision. Raises :class:`UsageError` where an input's
    range can't be known, or for a percentile outside (0, 100].
    """
    if not 0 < percentile <= 100:
        raise UsageError(f"the percentile is {percentile}; needed more than 0, at most 100.", place="crossbar")
    if target.dac.bits is None and target.adc.bits is None:
        return matrices, []
    if data is None:
        return _without_data(program, matrices, target)
    seen = _observe(program, matrices, data.inputs, data.lengths)
    ranged = []
    for matrix, watch in zip(matrices, seen, strict=True):
        if not watch.kept:
            raise UsageError(
                "was never read on the calibration data, so the range of its converters is unknown.",
                place=f"{matrix.stage}: %{matrix.value}",
                hint="Calibrate with data that reach it.",
            )
        vectors = np.concatenate(watch.kept).astype(np.float64)
        full = watch.largest
        driven, _ = convert(vectors, full, target.dac.bits)
        found = tuple(replace(t, adc_range=_tile_range(program, matrix, t, driven, percentile)) for t in matrix.tiles)
        ranged.append(replace(matrix, dac_range=full, tiles=found))
    return tuple(ranged), []


@dataclass
class _Watch:
    """What one matrix was driven with: the largest magnitude, and vectors ``[n, inputs]`` thinned to a bound."""

    largest: float = 0.0
    kept: list[Array] = field(default_factory=list)
    last: Array | None = None


def _observe(
    program: Program, matrices: tuple[Matrix, ...], data: Mapping[str, Array], lengths: Array | None
) -> list[_Watch]:
    """Run the program on the data and keep what drives each matrix, where it counts."""
    by_value = {(m.stage, m.value): (m, _Watch()) for m in matrices}
    steps = max((a.shape[1] for n, a in data.items() if n in program.inputs and a.ndim > 1), default=1)
    limit = max(1, KEPT_VECTORS // steps)

    def observe(stage: str, name: str, array: Array, active: Array) -> None:
        for (where, _), (matrix, watch) in by_value.items():
            if where != stage:
                continue
            if name == matrix.input:
                watch.last = array
            elif name == matrix.value and watch.last is not None and active.any():
                x = watch.last if matrix.side != "left" else np.moveaxis(watch.last, 1, -1)
                x = np.broadcast_to(x, (len(active), *x.shape[1:]))[active].reshape(-1, matrix.inputs)
                watch.largest = max(watch.largest, float(np.abs(x.astype(np.float64)).max()))
                watch.kept.append(x[:: -(-len(x) // limit)])

    interpret.run(program, data, lengths, observe=observe)
    return [watch for _, watch in by_value.values()]


def _tile_range(program: Program, matrix: Matrix, tile: Tile, vectors: Array, percentile: float) -> float:
    """The percentile of the magnitudes of a tile's currents, over its outputs that hold a weight."""
    block = _relative(program, matrix, tile)
    if not len(block):
        return 0.0
    sums = np.abs(vectors[:, slice(*tile.inputs)] @ block.T)
    return float(np.percentile(sums, percentile, method="higher"))


def _relative(program: Program, matrix: Matrix, tile: Tile) -> Array:
    """A tile's weights over the weight at full conductance, ``[outputs that hold any, inputs]``."""
    block = tiles.weights(program, matrix)[slice(*tile.outputs), slice(*tile.inputs)].astype(np.float64)
    largest = np.array(tile.weight_max)
    return block[largest > 0] / largest[largest > 0, None]


def _without_data(
    program: Program, matrices: tuple[Matrix, ...], target: Crossbar
) -> tuple[tuple[Matrix, ...], list[str]]:
    known = program.meta.get("ranges") or {}
    ranged = []
    for matrix in matrices:
        bounds = (known.get(matrix.stage) or {}).get(matrix.input)
        type_ = program.stage(matrix.stage).graph.tensor(matrix.input)
        if type_.is_int and type_.quant is not None:
            bounds = (0, int_range(type_.dtype)[1])  # the quantizer set its scale so that the data fill the dtype
        if bounds is None:
            raise UsageError(
                f"its converters need a range for %{matrix.input} (stage '{matrix.stage}'); no calibration data given.",
                place=target.name,
                hint="Give data to calibrate on: --data FILE.npz.",
            )
        full = float(max(abs(bounds[0]), abs(bounds[1])))
        found = []
        for tile in matrix.tiles:
            block = np.abs(_relative(program, matrix, tile))
            found.append(replace(tile, adc_range=float(full * block.sum(axis=1).max()) if len(block) else 0.0))
        ranged.append(replace(matrix, dac_range=full, tiles=tuple(found)))
    return tuple(ranged), [
        "without calibration data the output converters span the worst case of their tiles: expect poor accuracy"
    ]
