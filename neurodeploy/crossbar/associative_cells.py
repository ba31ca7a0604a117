"""A matrix written to the arrays of some chips, and the weights that it then acts as.

The way is that of every network: the matrix is tiled, encoded as pairs of devices and programmed. What differs is the
decision: a neuron's comparator looks at the sign of the current of its bit lines, so there is no converter and no
scale. A unit whose weights lie on several arrays has their bit lines joined before the comparator (the currents add),
which takes one scale for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neurodeploy import hardware
from neurodeploy.crossbar import encode, tiles
from neurodeploy.crossbar.devices import Cells, read_noise_sd, stream
from neurodeploy.errors import UsageError
from neurodeploy.hardware import Crossbar
from neurodeploy.ir.graph import Program
from neurodeploy.passes.tiling import Tiling

Array = np.ndarray
PURPOSES = {"stuck": 101, "reads": 102, "order": 103, "offset": 104, "start": 105}


def draws(seed: int, chip: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Random numbers of one chip that depend on nothing but what is named: Philox keyed by seed and purpose."""
    counter = np.array([0, index, 0, chip], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=np.array([seed, PURPOSES[purpose]], np.uint64)))


class Written:
    """One matrix on the arrays of ``chips``; ``inputs`` and ``outputs`` are its own.

    ``scaling``: full conductance is the largest weight of an ``"output"`` (one comparator each) or of the whole
    ``"matrix"`` (needed where the array is read both ways). ``stuck``: shares of devices at g_max and at g_min.
    """

    def __init__(
        self, program: Program, value: str, target: Crossbar, chips: Sequence[int], seed: int,
        stuck: tuple[float, float], scaling: str,
    ) -> None:  # fmt: skip
        tiled = Tiling(target.array.rows, target.array.columns)(program)
        (found,) = (m for m in tiles.matrices(tiled, target) if any(p["weight"] == value for p in m.parts))
        self.target, self.chips, self.seed, self.stuck = target, chips, seed, stuck
        self.weights = tiles.weights(tiled, found).T.astype(np.float64)  # [inputs, outputs]
        largest = np.abs(self.weights).max(axis=0)
        if scaling == "matrix":
            largest = np.full_like(largest, largest.max())
        self.largest = largest
        self.matrix = replace(
            found, tiles=tuple(replace(t, weight_max=tuple(largest[slice(*t.outputs)].tolist())) for t in found.tiles)
        )

    def effective(self, seconds: float, *, fresh: bool) -> Array:
        """Weights as they act ``seconds`` after the first read, ``[chips, inputs, outputs]``.

        ``fresh``: read noise is left out, since it is drawn anew at every read (:meth:`read_sd`). Computed as the weight
        plus the devices' errors, so that devices without errors give the weight to the last bit.
        """
        device = self.target.device
        if fresh:
            device = device.model_copy(update={"read_noise": None})
        span = device.g_max_siemens - device.g_min_siemens
        acting = np.repeat(self.weights[None], len(self.chips), axis=0)
        for tile in self.matrix.tiles:
            held = encode.stored(self.matrix, tile, self.weights.T)
            where = (slice(None), slice(*tile.inputs), slice(*tile.outputs))
            scale = self.largest[slice(*tile.outputs)]
            for k, (sign, relative) in enumerate(((1, held.plus), (-1, held.minus))):
                if relative is None:
                    continue
                goal = device.g_min_siemens + span * relative
                now = np.stack([self._conductances(device, goal, chip, tile, k, seconds) for chip in self.chips])
                acting[where] += sign * ((now - goal) / span * held.factor[:, None, None]).sum(axis=1) * scale
        return acting

    def read_sd(self, seconds: float) -> Array:
        """Standard deviation of a unit's field when every read draws its devices' read noise anew, ``[outputs]``.

        Inputs are -1 and 1, so variances of devices add up whatever the state. Taken at the conductances that were
        asked for.
        """
        device = self.target.device
        variance = np.zeros(self.weights.shape[1])
        span = device.g_max_siemens - device.g_min_siemens
        for tile in self.matrix.tiles:
            held = encode.stored(self.matrix, tile, self.weights.T)
            for relative in (held.plus, held.minus):
                if relative is not None:
                    g = device.g_min_siemens + span * relative
                    sd = read_noise_sd(device, g, g, seconds) / span * held.factor[:, None, None]
                    variance[slice(*tile.outputs)] += (sd**2).sum(axis=(0, 1))
        return np.sqrt(variance) * self.largest

    def _conductances(self, device, goal: Array, chip: int, tile: tiles.Tile, line: int, seconds: float) -> Array:  # noqa: ANN001
        def normals(purpose: str, at: float = 0.0) -> Array:
            return stream(self.seed, chip, 2 * tile.array + line, purpose, at).standard_normal(goal.shape)

        cells = Cells.program(device, goal, normals)
        now = cells.at(seconds, lambda purpose: normals(purpose, seconds))
        if any(self.stuck):
            u = draws(self.seed, chip, "stuck", 2 * tile.array + line).random(goal.shape)
            on, off = self.stuck
            now = np.where(u < on, device.g_max_siemens, np.where(u < on + off, device.g_min_siemens, now))
        return now


def target_of(target: str | Crossbar) -> Crossbar:
    """A crossbar by name, or itself. Raises :class:`TargetError`."""
    return hardware.find(target, Crossbar) if isinstance(target, str) else target


def chip_numbers(chips: int | Sequence[int]) -> list[int]:
    """``chips`` as numbers: how many, or which. Raises :class:`UsageError`."""
    numbers = list(range(chips)) if isinstance(chips, int) else [int(c) for c in chips]
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise UsageError(f"chips are {chips!r}; needed at least one, all different.", place="associative memory")
    return numbers


def shares(stuck: Sequence[float]) -> tuple[float, float]:
    """Shares of devices stuck at g_max and at g_min. Raises :class:`UsageError`."""
    on, off = (float(s) for s in stuck)
    if not (0 <= on and 0 <= off and on + off <= 1):
        raise UsageError(
            f"stuck shares are {on} (on) and {off} (off); needed 0 to 1, together at most 1.", place="associative memory"
        )
    return on, off
