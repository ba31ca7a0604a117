"""One matrix on the arrays of some chips: what drives its word lines, what its bit lines give, and the digital sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from neurodeploy.crossbar import converters, ranges
from neurodeploy.crossbar.converters import Comparators, codes_of, drive_levels, levels
from neurodeploy.crossbar.devices import stream
from neurodeploy.crossbar.devices.formulas import johnson_sd
from neurodeploy.crossbar.mapping.encode import Stored
from neurodeploy.crossbar.mapping.tiles import Matrix, Span, Tile
from neurodeploy.crossbar.noise import Reads
from neurodeploy.descriptions_crossbar import ConverterErrors
from neurodeploy.hardware import Crossbar
from neurodeploy.ir.graph import Program
from neurodeploy.ir.op import saturate

Array = np.ndarray
_READS = 7  # sets the streams of reads apart from those of devices and converters


@dataclass
class TileState:
    """A tile on all chips: what it was told to hold, and how far its devices are off.

    ``error``: differences of the lines' conductances from the wanted ones over the conductance range,
    ``[chips, slices, inputs, outputs]``, None for none. ``conductance``: sums of conductances on the lines of an
    output (S), ``[chips, slices, outputs]``. ``curve``: what the square and the cube of a drive add, over the
    conductance range at the full drive, as ``error``; empty for ohmic devices. ``direct``: solves reads where the array
    has no matrix. ``first``: sum of the magnitudes of its
    weights at the first read, ``[chips]``.
    """

    tile: Tile
    held: Stored
    error: Array | None = None
    conductance: Array | None = None
    curve: list[Array] = field(default_factory=list)
    direct: Callable[[Array], Array] | None = None
    first: Array | None = None

    @property
    def unit(self) -> Array:
        """The weight of a relative conductance of 1, ``[slices, outputs]``."""
        return self.held.factor[:, None] * np.array(self.tile.weight_max)

    def weights(self, chips: int) -> Array:
        """Weights as they act, ``[chips, slices, inputs, outputs]`` float64.

        Computed as the weight plus the devices' errors, so that devices without errors give the weight to the last bit.
        """
        wanted = np.broadcast_to(self.held.weight, (chips, *self.held.weight.shape))
        return wanted if self.error is None else wanted + self.error * self.unit[:, None, :]


def _nothing() -> Array:
    return np.zeros(0)


@dataclass
class Block:
    """One range of a matrix's inputs on all chips; lines are ``slices * outputs``, slice by slice.

    ``effective``: weights as they act, ``[chips, inputs, lines]``; ``offset_on_line``: what every input adds to a
    line's current besides, and is subtracted digitally, ``[inputs, lines]``, None for nothing. ``full_scale``: of the
    output converters, in the product's unit, ``[lines]``; ``step``: of one code, 0 without a range. ``noise``: standard
    deviation of a read, in codes (without them in the product's unit), ``[chips, 1, lines]``. ``gain`` and ``shift``: a
    digital factor of every output and what is added to it, ``[chips, 1, outputs]``. ``folded``: what multiplies input
    codes to give output codes; ``curve``: what multiplies their squares and cubes.
    """

    inputs: Span
    full_scale: Array
    offset_on_line: Array | None
    dac_levels: Array | None = None
    comparators: Comparators | None = None
    effective: Array = field(default_factory=_nothing)
    folded: Array = field(default_factory=_nothing)
    curve: list[Array] = field(default_factory=list)
    step: Array | None = None
    noise: Array | None = None
    gain: Array | None = None
    shift: Array | None = None


class AnalogMatrix:
    """Takes and gives what a ``crossbar`` value does, over a batch of ``len(chips) * samples``.

    Integer matrices compute in float64, where ideal devices make every sum an exact integer; real ones in float32.
    ``saturated`` holds the counts of its last product: ``[dac, adc]``, each ``[batch]``; ``reads`` is how often one
    product reads its arrays.
    """

    def __init__(
        self,
        program: Program,
        matrix: Matrix,
        target: Crossbar,
        chips: Sequence[int],
        samples: int,
        seed: int,
        held: Sequence[Stored],
        integer: bool,
    ) -> None:
        self.matrix, self.target, self.chips, self.samples, self.seed = matrix, target, list(chips), samples, seed
        self.result = program.stage(matrix.stage).graph.tensor(matrix.value)
        self.dtype = np.dtype(np.float64 if integer else np.float32)
        self.tiles = [TileState(tile, stored) for tile, stored in zip(matrix.tiles, held, strict=True)]
        self.lines = matrix.slices * matrix.outputs
        self.saturated: list[Array] = []
        self.drivers = np.zeros(matrix.inputs, np.int64)  # every tile has its own input converters
        for tile in matrix.tiles:
            self.drivers[slice(*tile.inputs)] += 1
        self.serial = ranges.serial_weights(matrix, target)
        self.reads = converters.cycles(target)
        self.unit = ranges.drive_unit(matrix, target)
        self.dac_step = _nothing()
        if target.dac.bits is not None:
            self.dac_step = converters.steps(ranges.full_scales(matrix), target.dac.bits, self.dtype)
        self.blocks = [self._block(span) for span in matrix.input_blocks]

    def _block(self, span: Span) -> Block:
        full = self._spread(span, lambda state: state.unit * np.array(state.tile.adc_range or (0.0,))[:, None])
        block = Block(span, full, self._offset(span))
        if self.target.adc.bits is not None:
            step = converters.steps(full, self.target.adc.bits, self.dtype)
            block.step = np.where(step < converters.NO_RANGE, step, self.dtype.type(0))  # no range: an offset is 0 too
        dac, adc = self.target.dac, self.target.adc
        if dac.errors is not None and dac.errors.static and dac.bits is not None:
            bits = dac.bits if dac.serial_bits is None else dac.serial_bits + 1  # pieces have no sign but the last
            block.dac_levels = self._levels(dac.errors, bits, span, "dac")
        if adc.errors is not None and adc.errors.static and adc.bits is not None:
            block.comparators = Comparators(self._levels(adc.errors, adc.bits, span, "adc"), adc.errors.architecture)
        return block

    def _spread(self, span: Span, of: Callable[[TileState], Array]) -> Array:
        """Values ``[slices, outputs of a tile]`` of the tiles of one range of inputs, side by side on all lines."""
        spread = np.zeros((self.matrix.slices, self.matrix.outputs))
        for state in self._states(span):
            spread[:, slice(*state.tile.outputs)] = of(state)
        return spread.reshape(-1)

    def _states(self, span: Span) -> list[TileState]:
        return [state for state in self.tiles if state.tile.inputs == span]

    def _offset(self, span: Span) -> Array | None:
        """What devices conduct at weight 0 where nothing on the array takes it off again."""
        device = self.target.device
        base = device.g_min_siemens / (device.g_max_siemens - device.g_min_siemens)
        found = np.zeros((span[1] - span[0], self.matrix.slices, self.matrix.outputs))
        for state in self._states(span):
            if state.held.minus is None:
                formed = np.moveaxis(~np.isnan(state.held.plus), 0, 1)  # [inputs, slices, outputs]
                here = formed * (state.unit * (state.held.constant[:, None] + base))
                found[:, :, slice(*state.tile.outputs)] = here
        return found.reshape(len(found), -1).astype(self.dtype) if found.any() else None

    def _levels(self, errors: ConverterErrors, bits: int, span: Span, purpose: str) -> Array:
        """Levels of the converters of one range of inputs, ``[chips, lines or inputs, codes]``, as they lie on arrays.

        Arrays that stand side by side for one range of inputs are driven by the same input converters.
        """
        count = span[1] - span[0] if purpose == "dac" else self.lines
        found = np.zeros((len(self.chips), count, 2 * levels(bits) + 1))
        array = self.target.array
        for state in self._states(span):
            if purpose == "dac":
                size, places, lines = array.rows, state.tile.row + np.arange(count), np.arange(count)
            else:
                shared = self.target.adc.columns_per_adc  # a pair is converted where its first line is
                size = -(-array.columns // shared)
                places = (self.matrix.lines(state.tile)[0] // shared).ravel()
                outputs = np.arange(*state.tile.outputs)
                lines = (np.arange(self.matrix.slices)[:, None] * self.matrix.outputs + outputs).ravel()
            for c, chip in enumerate(self.chips):
                draw = stream(self.seed, chip, state.tile.array, purpose)
                found[c, lines] = converters.draw_levels(errors, bits, size, draw, shared_ramp=True)[places]
        return found.astype(np.float32)

    def settle(self, seconds: float, compensate: bool) -> None:
        """Take over what the arrays are now: weights as they act, noise of a read, drift gains."""
        chips = len(self.chips)
        for block in self.blocks:
            span = block.inputs
            acting = np.zeros((chips, span[1] - span[0], self.matrix.slices, self.matrix.outputs))
            gain = np.ones((chips, 1, self.matrix.outputs))
            for state in self._states(span):
                now = state.weights(chips)
                outputs = slice(*state.tile.outputs)
                acting[..., outputs] = np.moveaxis(now, 1, 2)
                total = np.abs(now.sum(axis=1)).sum(axis=(1, 2))
                first = total if state.first is None else state.first
                state.first = first
                ratio = np.divide(first, total, out=np.ones_like(total), where=total > 0)
                gain[:, 0, outputs] = ratio[:, None]
            acting = acting.reshape(chips, -1, self.lines)
            block.effective = acting.astype(self.dtype)
            block.gain = gain.astype(self.dtype) if compensate and seconds > 0 else None
            block.shift = None
            block.noise = self._noise(block)
            if block.noise is not None and block.step is not None:
                block.noise = np.divide(block.noise, block.step, out=np.zeros_like(block.noise), where=block.step > 0)
            on_line = acting if block.offset_on_line is None else acting + block.offset_on_line
            block.folded = self._folded(block, on_line, 1)
            block.curve = [self._folded(block, self._curve(span, k), 2 + k) for k in range(self._curves)]
        key = [_READS, self.seed, self.matrix.index, round(seconds * 1000)]
        self._reads = [Reads([*key, chip]) for chip in self.chips]

    @property
    def _curves(self) -> int:
        return max((len(state.curve) for state in self.tiles), default=0)

    def _curve(self, span: Span, term: int) -> Array:
        """What a power of the drive adds, ``[chips, inputs, lines]``, a full-scale drive to the power being itself."""
        found = np.zeros((len(self.chips), span[1] - span[0], self.matrix.slices, self.matrix.outputs))
        for state in self._states(span):
            found[..., slice(*state.tile.outputs)] = np.moveaxis(state.curve[term] * state.unit[:, None, :], 1, 2)
        return found.reshape(len(self.chips), -1, self.lines) / ranges.full_drive(self.matrix) ** (1 + term)

    def _folded(self, block: Block, weights: Array, power: int) -> Array:
        """Weights ``[chips, inputs, lines]`` of a power of drives -> of that power of codes, to output codes."""
        if self.unit is not None:
            weights = weights * self.unit[slice(*block.inputs), None] ** power
        if self.target.adc.bits is not None:
            weights = weights / converters.steps(block.full_scale, self.target.adc.bits, np.dtype(np.float64))
        return np.ascontiguousarray(weights, self.dtype)

    @property
    def solved(self) -> bool:
        """Whether reads are solved one by one."""
        return any(state.direct is not None for state in self.tiles)

    def _solved(self, driven: Array, block: Block) -> Array:
        """What lines give in output codes, ``[chips, n, lines]``, by solving every read on every array."""
        full = ranges.full_drive(self.matrix)
        unit = 1.0 if self.unit is None else self.unit[slice(*block.inputs)]
        drive = driven.astype(np.float64) * unit / full
        found = np.zeros((*driven.shape[:2], self.matrix.slices, self.matrix.outputs))
        for state in self._states(block.inputs):
            if state.direct is not None:
                found[..., slice(*state.tile.outputs)] = state.direct(drive) * (state.unit * full)
        lines = found.reshape(*driven.shape[:2], self.lines)
        if self.target.adc.bits is not None:
            lines = lines / converters.steps(block.full_scale, self.target.adc.bits, np.dtype(np.float64))
        return lines.astype(self.dtype)

    def _noise(self, block: Block) -> Array | None:
        device, adc, read = self.target.device, self.target.adc, self.target.read
        variance = np.zeros((len(self.chips), self.matrix.slices, self.matrix.outputs))
        if device.thermal_noise is not None and read is not None:
            volts_of_a_unit = read.volts / ranges.full_drive(self.matrix)
            span = device.g_max_siemens - device.g_min_siemens
            for state in self._states(block.inputs):
                if state.conductance is not None:
                    sd = johnson_sd(device.thermal_noise, state.conductance, read.pulse_s) / (volts_of_a_unit * span)
                    variance[..., slice(*state.tile.outputs)] = (sd * state.unit) ** 2
        flat = variance.reshape(len(self.chips), 1, -1)
        if adc.errors is not None and adc.errors.noise_lsb and adc.bits is not None:
            flat = flat + (adc.errors.noise_lsb * block.full_scale / levels(adc.bits)) ** 2
        return np.sqrt(flat).astype(self.dtype) if flat.any() else None

    def __call__(self, args: list[Array]) -> Array:
        """The product, as the ``crossbar`` value gives it."""
        x = args[1].astype(self.dtype, copy=False)
        if self.matrix.side == "left" and x.ndim > 2:
            x = np.moveaxis(x, 1, -1)  # [batch, vectors..., inputs]
        chips, rows = len(self.chips), len(self.chips) * self.samples
        if len(x) != rows:
            x = np.broadcast_to(x, (rows, *x.shape[1:]))
        x = x.reshape(chips, -1, self.matrix.inputs)
        pieces, over = self._codes(x)
        y: Array | None = None
        clipped: Array | None = None
        for piece, weight in zip(pieces, self.serial, strict=True):
            for block in self.blocks:
                part, found = self._read(piece[:, :, slice(*block.inputs)], block)
                if weight != 1.0:
                    part *= self.dtype.type(weight)
                y = part if y is None else np.add(y, part, out=y)
                if found is not None:
                    clipped = found if clipped is None else clipped + found.astype(np.int64)
        y = np.zeros((chips, x.shape[1], self.matrix.outputs), self.dtype) if y is None else y
        for block in self.blocks:
            if block.shift is not None:
                y += block.shift
        none = np.zeros(rows, np.int64)
        self.saturated = [
            none if over is None else over.reshape(rows, -1, x.shape[-1]).sum(axis=1) @ self.drivers * len(pieces),
            np.zeros(rows, np.int64) if clipped is None else clipped.reshape(rows, -1).sum(axis=1),
        ]
        y = y.reshape(rows, -1, self.matrix.outputs)
        if self.matrix.side == "left" and y.shape[1] > 1:
            y = np.moveaxis(y, 2, 1)
        y = y.reshape(rows, *self.result.shape)
        if self.result.is_int:
            return saturate(np.rint(y).astype(np.int64), self.result.dtype)
        return y

    def _codes(self, x: Array) -> tuple[list[Array], Array | None]:
        """Input codes ``[chips, n, inputs]`` for every read of a product, and where inputs were out of range."""
        dac = self.target.dac
        if dac.bits is None:
            return [x], None
        with np.errstate(over="ignore"):  # infinitely far out of range is out of range
            codes, over = codes_of(x / self.dac_step, dac.bits)
        if dac.serial_bits is None:
            return [codes], over
        return [piece for piece, _ in converters.digits(codes, dac.bits, dac.serial_bits)], over

    def _read(self, codes: Array, block: Block) -> tuple[Array, Array | None]:
        """One read of one range of inputs: ``[chips, n, outputs]``, and how often each result's converters clipped."""
        driven = codes if block.dac_levels is None else drive_levels(codes, block.dac_levels)
        part = self._solved(driven, block) if self.solved else np.matmul(driven, block.folded)
        power = driven
        for weights in block.curve:
            power = power * driven
            part += np.matmul(power, weights)
        bits, clipped = self.target.adc.bits, None
        if block.noise is not None:
            draws = np.empty(part.shape, np.float32)
            for reads, chip in zip(self._reads, draws, strict=True):
                reads.fill(chip)
            draws *= block.noise
            part += draws
        if bits is not None:
            if block.comparators is None:
                part, clipped = codes_of(part, bits)
            else:
                part, clipped = block.comparators.codes(part)
            part *= block.step
        if block.offset_on_line is not None:
            exact = codes if self.unit is None else codes * self.unit[slice(*block.inputs)].astype(self.dtype)
            part -= np.matmul(exact, block.offset_on_line)
        if self.matrix.slices > 1:
            split = (*part.shape[:2], self.matrix.slices, self.matrix.outputs)
            part = part.reshape(split).sum(axis=2)
            clipped = None if clipped is None else clipped.reshape(split).sum(axis=2)
        if block.gain is not None:
            part *= block.gain
        return part, clipped
