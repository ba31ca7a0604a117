"""A matrix written to the arrays of some chips, and the weights that it then acts as.

The way is that of every network: tiled, encoded as pairs of devices, programmed, aged and read through the same
:class:`neurodeploy.crossbar.simulate.Chips`. What differs is the decision: a neuron's comparator looks at the sign of
the current of its bit lines, so there is no converter and no scale. A unit whose weights lie on several arrays has
their bit lines joined before the comparator (the currents add), which takes one scale for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neurodeploy import hardware
from neurodeploy.crossbar.devices import read_noise_sd
from neurodeploy.crossbar.effects import ALL
from neurodeploy.crossbar.mapping import encode, tiles
from neurodeploy.crossbar.simulate import Chips
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.hardware import Crossbar
from neurodeploy.ir.graph import Program
from neurodeploy.passes.tiling import Tiling

Array = np.ndarray
PURPOSES = {"reads": 101, "order": 102, "offset": 103, "start": 104}
CONVERTERS = frozenset({"dac", "adc"})


def draws(seed: int, chip: int, purpose: str) -> np.random.Generator:
    """Random numbers of one chip that depend on nothing but what is named: Philox keyed by seed and purpose."""
    counter = np.array([0, 0, 0, chip], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=np.array([seed, PURPOSES[purpose]], np.uint64)))


class Written:
    """One matrix on the arrays of ``chips``; ``weights [inputs, outputs]`` are those that were meant.

    ``value`` names the param of the program. ``scaling``: full conductance is the largest weight of an ``"output"``
    (one comparator each) or of the whole ``"matrix"`` (needed where the array is read both ways). ``fresh``: read
    noise is left out of the weights, since it is drawn anew at every read. ``conductance``: what the largest weight
    takes of the conductance range. ``largest``: the weight at full conductance, ``[outputs]``. Raises
    :class:`UnsupportedError` for arrays whose currents say nothing to a comparator: sliced weights, and weights on one
    device without a reference.
    """

    def __init__(
        self, program: Program, value: str, target: Crossbar, chips: Sequence[int], seed: int, scaling: str,
        fresh: bool = False, conductance: float = 1.0,
    ) -> None:  # fmt: skip
        if not 0 < conductance <= 1:
            raise UsageError(
                f"conductance is {conductance}; needed a share, above 0 up to 1.", place="associative memory"
            )
        tiled = Tiling(target.array.rows, target.array.columns)(program)
        (found,) = (m for m in tiles.matrices(tiled, target) if any(p["weight"] == value for p in m.parts))
        if found.slices > 1 or found.encoding == "one-sided":
            what = "weights in slices" if found.slices > 1 else "one-sided weights"
            raise UnsupportedError(
                f"{what} are put together digitally, so a comparator on a bit line decides nothing.",
                place=target.name, hint="Use a target with pairs of devices, or compile the network as a program.",
            )  # fmt: skip
        self.target, self.chips = target, chips
        self.weights = tiles.weights(tiled, found).T.astype(np.float64)
        self.largest = np.abs(self.weights).max(axis=0)
        if scaling == "matrix":
            self.largest = np.full_like(self.largest, self.largest.max())
        self.largest /= conductance
        one_scale = (replace(t, weight_max=tuple(self.largest[slice(*t.outputs)].tolist())) for t in found.tiles)
        self.matrix = replace(found, tiles=tuple(one_scale))
        effects = ALL - CONVERTERS - ({"read noise"} if fresh else set())
        self.simulated = Chips(tiled, (self.matrix,), target, chips, 1, seed, effects)
        self.fresh = fresh

    def age(self, seconds: float) -> Array:
        """Weights as they act ``seconds`` after the first read, ``[chips, inputs, outputs]``."""
        self.simulated.age(seconds, compensate=False)
        acting = np.zeros((len(self.chips), *self.weights.shape))
        for state in self._analog.tiles:
            acting[:, slice(*state.tile.inputs), slice(*state.tile.outputs)] = state.weights(len(self.chips))[:, 0]
        return acting

    def read_sd(self, seconds: float) -> Array:
        """Standard deviation of fields from one read to the next, ``[chips, outputs]``: thermal noise, and read noise
        where it is fresh.

        Inputs are -1 and 1, so variances of devices add up whatever the state. Read noise is taken at the conductances
        that were asked for.
        """
        variance = np.zeros((len(self.chips), self.weights.shape[1]))
        for block in self._analog.blocks:
            if block.noise is not None:
                variance += block.noise[:, 0].astype(np.float64) ** 2
        device = self.target.device
        if self.fresh and device.read_noise is not None:
            span = device.g_max_siemens - device.g_min_siemens
            for tile in self.matrix.tiles:
                held = encode.stored(self.matrix, tile, self.weights.T)
                scale = self.largest[slice(*tile.outputs)]
                for relative in (held.plus, held.minus):
                    if relative is not None:
                        g = device.g_min_siemens + span * np.nan_to_num(relative[0])
                        sd = np.where(np.isnan(relative[0]), 0.0, read_noise_sd(device, g, g, seconds)) / span
                        variance[:, slice(*tile.outputs)] += (sd**2).sum(axis=0) * scale**2
        return np.sqrt(variance)

    @property
    def _analog(self):  # noqa: ANN202 - simulate's
        return self.simulated.analog[self.matrix.stage][self.matrix.value]


def target_of(target: str | Crossbar, stuck: Sequence[float]) -> Crossbar:
    """A crossbar by name, or itself; ``stuck``: shares of devices at g_max and at g_min, (0, 0) for the target's own.

    Raises :class:`TargetError`, :class:`UsageError`.
    """
    found = hardware.find(target, Crossbar) if isinstance(target, str) else target
    on, off = (float(share) for share in stuck)
    if not on and not off:
        return found
    from neurodeploy.crossbar.devices.stuck import with_stuck

    return found.model_copy(update={"device": with_stuck(found.device, on, off)})


def chip_numbers(chips: int | Sequence[int]) -> list[int]:
    """``chips`` as numbers: how many, or which. Raises :class:`UsageError`."""
    numbers = list(range(chips)) if isinstance(chips, int) else [int(c) for c in chips]
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise UsageError(f"chips are {chips!r}; needed at least one, all different.", place="associative memory")
    return numbers
