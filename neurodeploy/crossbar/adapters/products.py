"""The products of a build's tiles, for comparing with another simulator: the same relative weights, drives and ranges.

Everything is normalised as the array sees it: weights are relative conductances from -1 to 1, a drive is an input over
its converter's full scale, and a product is a sum of drives times weights. ``bound`` is the output converter's full
scale in that unit, so both simulators are told the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from neurodeploy.artifact import Artifact
from neurodeploy.crossbar import ranges
from neurodeploy.crossbar.analog import AnalogMatrix
from neurodeploy.crossbar.converters import levels
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping.tiles import Matrix, Tile
from neurodeploy.crossbar.simulate import Chips
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.ir import text

Array = np.ndarray
CONVERTERS = frozenset({"dac", "adc"})


@dataclass(frozen=True)
class Product:
    """A tile: relative ``weights`` ``[inputs, outputs]`` float32, ``drives`` ``[n, inputs]`` and the output converter's
    ``bound``; ``where`` names it."""

    where: str
    weights: Array
    drives: Array
    bound: float

    @property
    def exact(self) -> Array:
        """The product itself, ``[n, outputs]`` float64."""
        return self.drives.astype(np.float64) @ self.weights.astype(np.float64)


@dataclass(frozen=True)
class Compared:
    """One tile in both simulators.

    Converters alone: the share of results whose codes are the ``same`` and the ``worst`` difference in codes. Devices
    alone: RMS error of the products over their RMS, over all chips, of ``ours`` and of ``theirs``. ``what``:
    ``converters``, or an age of the devices.
    """

    where: str
    what: str
    same: float | None = None
    worst: float | None = None
    ours: float | None = None
    theirs: float | None = None


class Tiles:
    """The tiles of a build and our simulator of them.

    Raises :class:`UsageError` for another backend's build, :class:`UnsupportedError` for weights that aren't a pair of
    devices each.
    """

    def __init__(self, artifact: Artifact, vectors: int = 64, seed: int = 0) -> None:
        if artifact.backend != "crossbar":
            raise UsageError(
                f"was compiled for '{artifact.backend}'; only a crossbar's build has tiles.",
                place=artifact.name,
                hint="Compile it with --target pcm-128.",
            )
        self.target, self.matrices = described(artifact)
        for matrix in self.matrices:
            if matrix.encoding != "differential" or matrix.slices != 1:
                raise UnsupportedError(
                    f"its weights are {matrix.encoding}, {matrix.slices} slices; only pairs of devices are compared.",
                    place=f"{matrix.stage}: %{matrix.value}",
                )
        self.program = text.from_files(artifact.files, "program")
        self.vectors, self.seed = vectors, seed

    def products(self) -> Iterator[tuple[Product, Callable[[Chips], Array]]]:
        """Every tile, and what gives our simulator's product of it on some chips, ``[chips, n, outputs]``."""
        chips = self.chips(frozenset(), 1)
        rng = np.random.default_rng(self.seed)
        for matrix in self.matrices:
            analog = chips.analog[matrix.stage][matrix.value]
            for k, tile in enumerate(matrix.tiles):
                drives = rng.uniform(-1, 1, (self.vectors, tile.inputs[1] - tile.inputs[0])).astype(np.float32)
                yield _product(matrix, tile, analog, k, drives), _ours(matrix, tile, drives, self.vectors)

    def chips(self, effects: frozenset[str], count: int) -> Chips:
        """``count`` chips with some effects only."""
        return Chips(self.program, self.matrices, self.target, range(count), self.vectors, self.seed, effects)


def _product(matrix: Matrix, tile: Tile, analog: AnalogMatrix, index: int, drives: Array) -> Product:
    state = analog.tiles[index]
    largest = state.unit[0]
    relative = state.held.weight[0] / np.where(largest > 0, largest, 1.0)
    bound = (tile.adc_range[0] if tile.adc_range else 0.0) / ranges.full_drive(matrix)
    where = f"{matrix.stage}: %{matrix.value}[{tile.outputs[0]}:{tile.outputs[1]}, {tile.inputs[0]}:{tile.inputs[1]}]"
    return Product(where, relative.astype(np.float32), drives, bound)


def _ours(matrix: Matrix, tile: Tile, drives: Array, vectors: int) -> Callable[[Chips], Array]:
    """Only this tile's inputs are driven, so that others of the same outputs add nothing."""
    full = ranges.full_scales(matrix)
    full = np.where(full > 0, full, 1.0)

    def run(chips: Chips) -> Array:
        count = len(chips.chips)
        x = np.zeros((vectors, matrix.inputs), np.float32)
        x[:, slice(*tile.inputs)] = drives * full[slice(*tile.inputs)]
        analog = chips.analog[matrix.stage][matrix.value]
        if matrix.vectors > 1:
            x = np.repeat(x[:, None], matrix.vectors, axis=1)
            x = np.moveaxis(x, 1, -1) if matrix.side == "left" else x
        y = np.asarray(analog([x, np.tile(x, (count, *(1,) * (x.ndim - 1)))]), np.float64)
        if matrix.vectors > 1:
            y = (np.moveaxis(y, 1, -1) if matrix.side == "left" else y)[:, 0]
        y = y.reshape(count, vectors, matrix.outputs)[:, :, slice(*tile.outputs)]
        largest = np.array(tile.weight_max)
        return y / (ranges.full_drive(matrix) * np.where(largest > 0, largest, 1.0))

    return run


def codes_compared(product: Product, ours: Array, theirs: Array, bits: int) -> Compared:
    """Results of both in codes of the output converter, ``[n, outputs]``."""
    step = product.bound / levels(bits)
    difference = np.abs(np.rint(ours / step) - np.rint(theirs / step)) if step > 0 else np.zeros(ours.shape)
    return Compared(product.where, "converters", float(np.mean(difference == 0)), float(difference.max()))


def errors_compared(product: Product, what: str, ours: Array, theirs: Array) -> Compared:
    """RMS errors of both over chips, ``[chips, n, outputs]``, relative to the exact products' RMS."""
    exact = product.exact
    size = float(np.sqrt(np.mean(exact**2))) or 1.0
    found = [float(np.sqrt(np.mean((y - exact) ** 2))) / size for y in (ours, theirs)]
    return Compared(product.where, what, ours=found[0], theirs=found[1])
