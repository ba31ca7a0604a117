"""Simulates the tiles of many chips at once: a chip's products are one batched GEMM beside those of the others.

The digital part is the golden interpreter itself; only ``crossbar`` values get another meaning here. Samples of all
chips stand one after the other on the batch axis, chip by chip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from neurodeploy.artifact import Trace
from neurodeploy.crossbar import tiles
from neurodeploy.crossbar.converters import convert
from neurodeploy.crossbar.devices import Cells, stream
from neurodeploy.crossbar.tiles import Matrix
from neurodeploy.hardware import Crossbar
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Program
from neurodeploy.ir.op import saturate

Array = np.ndarray
COUNTS = ("reads", "dac_saturated", "adc_saturated")


class AnalogMatrix:
    """One matrix on the tiles of some chips: devices, converters and the sum of partial products.

    Takes and gives what the ``crossbar`` value does, over a batch of ``len(chips) * samples``. Integer matrices
    compute in float64, where ideal devices make every sum an exact integer; real ones in float32. ``saturated`` holds
    the counts of its last product: ``[dac, adc]``, each ``[batch]``.
    """

    def __init__(
        self, program: Program, matrix: Matrix, target: Crossbar, chips: Sequence[int], samples: int, seed: int
    ) -> None:
        held = tiles.weights(program, matrix)
        self.matrix, self.target, self.chips, self.samples, self.seed = matrix, target, chips, samples, seed
        self.dtype = np.dtype(np.float64 if held.dtype.kind == "i" else np.float32)
        self.result = program.stage(matrix.stage).graph.tensor(matrix.value)
        self.weight = held.T.astype(np.float64)
        self.saturated: list[Array] = []
        device = target.device
        span = device.g_max_siemens - device.g_min_siemens
        largest = np.stack([tiles.weight_max(matrix, b) for b in matrix.input_blocks for _ in range(*b)])
        targets = np.stack([np.maximum(self.weight, 0), np.maximum(-self.weight, 0)])
        targets *= span / np.where(largest > 0, largest, 1.0)
        self.weight_per_siemens = largest / span  # [inputs, outputs]
        self.ideal = np.broadcast_to(targets + device.g_min_siemens, (len(chips), *targets.shape))
        self.cells = Cells.program(device, self.ideal, self._normals)
        self.first_read = self._effective(0.0)
        self.effective = self.first_read.astype(self.dtype)
        self.gain: Array | None = None
        self.full_scale = [
            None if target.adc.bits is None else tiles.full_scale(matrix, block) for block in matrix.input_blocks
        ]

    def set_time(self, seconds: float, compensate: bool) -> None:
        """Let ``seconds`` pass since the first read; with ``compensate``, find every tile's drift gain.

        Global drift compensation (Joshi et al., Nature Communications 11, 2473, 2020): a tile's outputs are multiplied
        digitally by ``sum |w(first read)| / sum |w(now)|``, both found by reading the tile row by row (exactly, here).
        """
        now = self.first_read if seconds == 0 else self._effective(seconds)
        self.effective = now.astype(self.dtype)
        self.gain = None
        if compensate and seconds > 0 and self.target.device.drift is not None:
            blocks = self.matrix.input_blocks
            self.gain = np.ones((len(self.chips), len(blocks), 1, self.matrix.outputs), self.dtype)
            for tile in self.matrix.tiles:
                part = (slice(None), slice(*tile.inputs), slice(*tile.outputs))
                before, after = (np.abs(w[part]).sum(axis=(1, 2)) for w in (self.first_read, now))
                gain = np.divide(before, after, out=np.ones_like(before), where=after > 0)
                self.gain[:, blocks.index(tile.inputs), 0, slice(*tile.outputs)] = gain[:, None]

    def __call__(self, args: list[Array]) -> Array:
        """The product, as the ``crossbar`` value gives it."""
        x = args[1].astype(self.dtype)
        if self.matrix.side == "left":
            x = np.moveaxis(x, 1, -1)  # [batch, vectors..., inputs]
        rows = len(self.chips) * self.samples
        x = np.broadcast_to(x, (rows, *x.shape[1:])).reshape(len(self.chips), -1, self.matrix.inputs)
        x, over = convert(x, self.matrix.dac_range or 0.0, self.target.dac.bits)
        y, clipped = self._product(x)
        columns = len({t.outputs for t in self.matrix.tiles})  # every tile has its own input converters
        self.saturated = [
            np.zeros(rows, np.int64) if over is None else over.reshape(rows, -1).sum(axis=1) * columns,
            np.zeros(rows, np.int64) if clipped is None else clipped.reshape(rows, -1).sum(axis=1),
        ]
        y = y.reshape(rows, -1, self.matrix.outputs)
        if self.matrix.side == "left":
            y = np.moveaxis(y, 2, 1)
        y = y.reshape(rows, *self.result.shape)
        if self.result.is_int:
            return saturate(np.rint(y).astype(np.int64), self.result.dtype)
        return y

    def _product(self, x: Array) -> tuple[Array, Array | None]:
        """``[chips, vectors, inputs] -> [chips, vectors, outputs]``, and how often each result's converters clipped."""
        total: Array | None = None
        clipped: Array | None = None
        for k, block in enumerate(self.matrix.input_blocks):
            part = np.matmul(x[:, :, slice(*block)], self.effective[:, slice(*block)])
            scale = self.full_scale[k]
            if scale is not None:
                part, over = convert(part, scale, self.target.adc.bits)
                if over is not None:
                    clipped = over.astype(np.int64) if clipped is None else clipped + over
            if self.gain is not None:
                part *= self.gain[:, k]
            total = part if total is None else total + part
        return np.asarray(total), clipped

    def _effective(self, seconds: float) -> Array:
        """Weights that the tiles hold now, ``[chips, inputs, outputs]`` float64.

        Computed as the weight plus the devices' errors, so that devices without errors give the weight to the last bit.
        """
        g = self.cells.at(seconds, partial(self._normals, seconds=seconds))
        if g is self.ideal:
            return np.broadcast_to(self.weight, (len(self.chips), *self.weight.shape))
        error = g - self.ideal
        return self.weight + (error[:, 0] - error[:, 1]) * self.weight_per_siemens

    def _normals(self, purpose: str, seconds: float = 0.0) -> Array:
        draws = [stream(self.seed, chip, self.matrix.index, purpose, seconds) for chip in self.chips]
        return np.stack([draw.standard_normal((2, *self.weight.shape)) for draw in draws])


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
            for what, found in zip(COUNTS, [1, *matrix.saturated], strict=True):
                counts[what] += np.where(active, found, 0)


def run_chips(
    program: Program,
    analog: Mapping[str, Mapping[str, AnalogMatrix]],
    inputs: Mapping[str, Array],
    lengths: Array | None,
    chips: int,
    *,
    states: bool = False,
) -> tuple[Trace, Counter]:
    """Run ``chips`` chips on all samples; arrays of the trace are ``[chips * samples, ...]``, chip by chip."""
    repeated = {name: np.tile(array, (chips, *(1,) * (array.ndim - 1))) for name, array in inputs.items()}
    batch = len(next(iter(repeated.values()))) if repeated else chips
    counter = Counter(analog, batch)
    trace = interpret.run(
        program,
        repeated,
        None if lengths is None else np.tile(lengths, chips),
        states=states,
        observe=counter,
        overrides=analog,
    )
    return trace, counter
