"""Simulates the arrays of many chips at once: a chip's products are one batched GEMM beside those of the others.

The digital part is the golden interpreter itself; only ``crossbar`` values get another meaning here. Samples of all
chips stand one after the other on the batch axis, chip by chip. :class:`Chips` holds the physical arrays: it programs
their devices, lets them age and finds what every array does to voltages on its lines; :class:`AnalogMatrix` is one
matrix spread over them, with its converters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from neurodeploy.artifact import Trace
from neurodeploy.crossbar import direct
from neurodeploy.crossbar.analog import AnalogMatrix
from neurodeploy.crossbar.devices import Cells, stream
from neurodeploy.crossbar.devices.formulas import nonlinear_coefficients
from neurodeploy.crossbar.effects import ALL, only
from neurodeploy.crossbar.mapping import encode, tiles
from neurodeploy.crossbar.mapping.encode import Stored
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.hardware import Crossbar
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Program

Array = np.ndarray
COUNTS = ("reads", "dac_saturated", "adc_saturated")


@dataclass(frozen=True)
class _Placed:
    """A tile, the matrix that it is a part of, and what it was told to hold."""

    matrix: Matrix
    tile: int
    held: Stored


class Chips:
    """The physical arrays of some chips and the matrices on them; ``analog`` is what the interpreter calls.

    ``chips`` numbers them: chip i of a seed is the same device by device, whatever else is simulated beside it.
    ``effects``: the names in :data:`neurodeploy.crossbar.effects.EFFECTS` that are switched on. ``stuck``: maps of
    stuck devices by array (:mod:`neurodeploy.crossbar.devices.stuck`) in place of sampled ones, on every chip.
    """

    def __init__(
        self,
        program: Program,
        matrices: Sequence[Matrix],
        target: Crossbar,
        chips: Sequence[int],
        samples: int,
        seed: int,
        effects: frozenset[str] = ALL,
        stuck: Mapping[int, Array] | None = None,
    ) -> None:
        self.stuck = stuck or {}
        self.target, self.chips, self.seed = only(target, effects), list(chips), seed
        self.matrices = list(matrices)
        placed: dict[int, list[_Placed]] = {}
        self.analog: dict[str, dict[str, AnalogMatrix]] = {}
        self._of: dict[int, AnalogMatrix] = {}
        for matrix in matrices:
            weights = tiles.weights(program, matrix)
            held = [encode.stored(matrix, tile, weights) for tile in matrix.tiles]
            for k, stored in enumerate(held):
                placed.setdefault(matrix.tiles[k].array, []).append(_Placed(matrix, k, stored))
            analog = AnalogMatrix(
                program, matrix, self.target, self.chips, samples, seed, held, weights.dtype.kind == "i"
            )
            self.analog.setdefault(matrix.stage, {})[matrix.value] = analog
            self._of[matrix.index] = analog
        self.arrays = {number: _Physical(self, number, those) for number, those in sorted(placed.items())}
        self.age(0.0, compensate=False)

    def age(self, seconds: float, compensate: bool = True) -> None:
        """Let ``seconds`` pass since the first read; with ``compensate``, find every tile's drift gain.

        Global drift compensation (Joshi et al., Nature Communications 11, 2473, 2020): a tile's outputs are multiplied
        digitally by ``sum |w(first read)| / sum |w(now)|``, both found by reading the tile row by row (exactly, here).
        """
        for physical in self.arrays.values():
            physical.age(seconds)
        for analog in self._of.values():
            analog.settle(seconds, compensate and bool(self.target.device.drift))


class _Physical:
    """One array of all chips, cut to the lines in use: its devices, and the tiles on it."""

    def __init__(self, chips: Chips, number: int, placed: list[_Placed]) -> None:
        self.chips, self.number, self.placed = chips, number, placed
        self.device = chips.target.device
        self.span = self.device.g_max_siemens - self.device.g_min_siemens
        rows, columns = (max(end) for end in zip(*(_extent(p.matrix, p.tile) for p in placed), strict=True))
        line = chips.target.wires
        if line is not None and "both ends" in (line.driven, line.sensed):
            rows, columns = chips.target.array.rows, chips.target.array.columns
        goal = np.full((rows, columns), np.nan)
        for p in placed:
            _write(goal, p)
        self.goal = goal * self.span + self.device.g_min_siemens
        self.ideal = np.where(np.isnan(goal), 0.0, self.goal)
        every = np.broadcast_to(self.goal, (len(chips.chips), rows, columns))
        stuck = chips.stuck.get(number)
        self.cells = Cells.program(self.device, every, self._normals, None if stuck is None else stuck[:rows, :columns])

    def age(self, seconds: float) -> None:
        """Hand every tile its devices' errors as they are now, in units of the full conductance range."""
        now = self.cells.at(seconds, partial(self._normals, seconds=seconds))
        held, line = now, self.chips.target.wires
        alone = direct.needed(self.chips.target)
        if line is not None and not alone:
            from neurodeploy.crossbar import wires

            now = wires.effective(np.ascontiguousarray(now), line)
        curves = [] if alone else self._curves(held)
        error = None if now is self.cells.target else now - self.ideal
        for p in self.placed:
            plus, minus = p.matrix.lines(p.matrix.tiles[p.tile])
            rows = _rows(p)
            state = self.chips._of[p.matrix.index].tiles[p.tile]
            state.error = None if error is None else self._on_lines(p, error) / self.span
            if self.device.thermal_noise is not None:
                sums = held[:, rows].sum(axis=1)  # [chips, columns]
                state.conductance = sums[:, plus] + (0.0 if minus is None else sums[:, minus])
            state.direct = partial(self._direct, p, held) if alone else None
            state.curve = [self._on_lines(p, term) / self.span for term in curves]

    def _curves(self, held: Array) -> list[Array]:
        """What devices add to their current (A) at the full read voltage, over it: by its square and its cube (S)."""
        read = self.chips.target.read
        if self.device.nonlinear is None or read is None:
            return []
        square, cube = nonlinear_coefficients(self.device, held)
        return [square * read.volts, cube * read.volts**2]

    def _direct(self, placed: _Placed, held: Array, drive: Array) -> Array:
        """What a tile's lines give for drives ``[chips, n, inputs]`` over full scale: ``[chips, n, slices, outputs]``.

        Over the conductance range, as its weights are.
        """
        plus, minus = placed.matrix.lines(placed.matrix.tiles[placed.tile])
        full = np.zeros((*drive.shape[:2], held.shape[1]))
        full[:, :, _rows(placed)] = drive
        target = self.chips.target
        found = np.stack([direct.currents(target, np.ascontiguousarray(held[c]), full[c]) for c in range(len(held))])
        lines = found[:, :, plus] if minus is None else found[:, :, plus] - found[:, :, minus]
        return lines / self.span

    def _on_lines(self, placed: _Placed, cells: Array) -> Array:
        """Cells' values ``[chips, rows, columns]`` on a tile's lines, ``[chips, slices, inputs, outputs]``."""
        plus, minus = placed.matrix.lines(placed.matrix.tiles[placed.tile])
        here = cells[:, _rows(placed)]
        found = here[:, :, plus] if minus is None else here[:, :, plus] - here[:, :, minus]
        return np.moveaxis(found, 2, 1)

    def _normals(self, purpose: str, seconds: float = 0.0) -> Array:
        draws = [stream(self.chips.seed, chip, self.number, purpose, seconds) for chip in self.chips.chips]
        return np.stack([draw.standard_normal(self.goal.shape) for draw in draws])


def _rows(placed: _Placed) -> slice:
    tile = placed.matrix.tiles[placed.tile]
    return slice(tile.row, tile.row + tile.inputs[1] - tile.inputs[0])


def _extent(matrix: Matrix, index: int) -> tuple[int, int]:
    """The first word line and bit line past a tile."""
    tile = matrix.tiles[index]
    return tile.row + tile.inputs[1] - tile.inputs[0], tile.column + matrix.width(tile.outputs[1] - tile.outputs[0])


def _write(goal: Array, placed: _Placed) -> None:
    """Put a tile's relative conductances on its lines."""
    matrix, held = placed.matrix, placed.held
    rows = _rows(placed)
    plus, minus = matrix.lines(matrix.tiles[placed.tile])
    goal[rows, plus.ravel()] = np.moveaxis(held.plus, 1, 0).reshape(goal[rows].shape[0], -1)
    if minus is not None and held.minus is not None:
        goal[rows, minus.ravel()] = np.moveaxis(held.minus, 1, 0).reshape(goal[rows].shape[0], -1)


class Counter:
    """Counts, per sample, how often each matrix was read and how often its converters clipped."""

    def __init__(self, analog: Mapping[str, Mapping[str, AnalogMatrix]], batch: int) -> None:
        self.analog = analog
        self.counts = {
            (stage, name): {what: np.zeros(batch, np.int64) for what in COUNTS}
            for stage, names in analog.items()
            for name in names
        }

    def __call__(self, stage: str, name: str, array: Array, active: Array) -> None:
        """Observe one value: samples that have ended, and guards that are false, don't count."""
        matrix = self.analog.get(stage, {}).get(name)
        if matrix is not None:
            counts = self.counts[stage, name]
            for what, found in zip(COUNTS, [matrix.reads, *matrix.saturated], strict=True):
                counts[what] += np.where(active, found, 0)


def run_chips(
    program: Program,
    chips: Chips,
    inputs: Mapping[str, Array],
    lengths: Array | None,
    *,
    states: bool = False,
) -> tuple[Trace, Counter]:
    """Run the chips on all samples; arrays of the trace are ``[chips * samples, ...]``, chip by chip."""
    count = len(chips.chips)
    repeated = {
        name: array if count == 1 else np.tile(array, (count, *(1,) * (array.ndim - 1)))
        for name, array in inputs.items()
    }
    batch = len(next(iter(repeated.values()))) if repeated else count
    counter = Counter(chips.analog, batch)
    trace = interpret.run(
        program,
        repeated,
        None if lengths is None else np.tile(lengths, count),
        states=states,
        observe=counter,
        watched={stage: tuple(names) for stage, names in chips.analog.items()},
        overrides=chips.analog,
    )
    return trace, counter
