"""Repair of the chips that were drawn, at their age: factors for columns, readouts refitted to a chip's own states.

Both use calibration data on the chip itself, never test data, and nothing but digital numbers changes: devices stay as
they are. ``columns``: every tile's outputs get a factor and a term, by least squares of what its converters give
against the exact products on the calibration vectors,

    min_{a, b} sum_n (a y_n + b - z_n)^2,

one pair for each chip, tile and output. Converted codes are multiplied by a scale in any case, so the factor costs
nothing while running; the term is one addition an output. It takes the place of drift compensation. ``readout``:
see :mod:`neurodeploy.crossbar.repair.readouts`. ``both``: columns first, the readout on the states that then come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.crossbar.analog import AnalogMatrix
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.ranges import observe
from neurodeploy.errors import DataError, UsageError, nearest
from neurodeploy.ir.graph import Program

if TYPE_CHECKING:
    from neurodeploy.crossbar.repair.readouts import Readout
    from neurodeploy.crossbar.simulate import Chips
    from neurodeploy.data import Data

Array = np.ndarray
Key = tuple[str, str]
KINDS = ("none", "columns", "readout", "both")
#: Calibration vectors that a matrix's columns are measured with, and samples that a readout is refitted on, at most.
VECTORS, SAMPLES = 512, 1024


@dataclass(frozen=True)
class Repair:
    """What a repair needs besides chips: ``vectors`` of each matrix ``[n, inputs]`` and ``readouts`` with their wanted
    outputs. ``counts``: what it costs, see :meth:`record`."""

    kind: str
    program: Program
    data: Data
    vectors: Mapping[Key, Array] = field(default_factory=dict)
    readouts: tuple[Readout, ...] = ()

    def apply(self, chips: Chips) -> None:
        """Repair chips as they are now; call it each time that they have aged. Chips are changed in place."""
        from neurodeploy.crossbar.repair import readouts as repair_readout

        if self.vectors:
            _columns(chips, self.program, self.vectors)
        if self.readouts:
            repair_readout.refit(chips, self.program, self.data, self.readouts)

    def record(self) -> dict[str, Any]:
        """What was done and what it takes, in JSON.

        ``calibration_reads``: reads of matrices on one chip; ``digital``: multiply-accumulates a step of readouts that
        have left their arrays, ``numbers`` that a chip has of its own.
        """
        names = {}
        for r in self.readouts:
            several = sum((o.stage, o.value) == (r.stage, r.value) for o in self.readouts) > 1
            names[f"{r.stage}.{r.value}" + f"[{r.start}:{r.stop}]" * several] = [r.outputs, r.inputs]
        weights = sum(outputs * (inputs + 1) for outputs, inputs in names.values())
        return {
            "kind": self.kind,
            "data": {"name": self.data.name, "samples": self.data.samples, "sha256": self.data.sha256},
            "columns": {f"{stage}.{value}": len(v) for (stage, value), v in self.vectors.items()},
            "readouts": {name: {"place": "digital", "weights": size} for name, size in names.items()},
            "digital_macs_per_step": sum(outputs * inputs for outputs, inputs in names.values()),
            "readout_numbers_per_chip": weights,
        }


def prepare(kind: str, program: Program, data: Data | None) -> Repair | None:
    """A repair of a tiled program's chips by calibration data; None for ``"none"``.

    Raises :class:`UsageError` for another word than :data:`KINDS`, :class:`DataError` without data, and
    :class:`UnsupportedError` for a program without a readout to refit where one is asked for.
    """
    from neurodeploy.crossbar.repair import readouts as repair_readout

    if kind not in KINDS:
        raise UsageError(f"there is no repair '{kind}'.", place="crossbar", hint=nearest(kind, KINDS))
    if kind == "none":
        return None
    if data is None:
        raise DataError(
            f"repair '{kind}' measures chips on calibration data; none given.",
            place=program.name,
            hint="Give some that are no test data: --repair-data FILE.npz.",
        )
    vectors = measured(program, data) if kind in ("columns", "both") else {}
    data = _thinned(data)
    readouts = repair_readout.prepare(program, data) if kind in ("readout", "both") else ()
    return Repair(kind, program, data, vectors, readouts)


def columns(chips: Chips, program: Program, data: Data) -> None:
    """Give every tile's outputs the factors and terms that fit it best as it is now."""
    _columns(chips, program, measured(program, data))


def readout(chips: Chips, program: Program, data: Data) -> None:
    """Refit the readouts to the chips' own states as they are now. Raises :class:`UnsupportedError` without one."""
    from neurodeploy.crossbar.repair import readouts as repair_readout

    data = _thinned(data)
    repair_readout.refit(chips, program, data, repair_readout.prepare(program, data))


def _thinned(data: Data) -> Data:
    """At most :data:`SAMPLES` samples, evenly from all: files are often sorted by class."""
    every = -(-data.samples // SAMPLES)
    if every <= 1:
        return data
    lengths, labels = (None if a is None else a[::every] for a in (data.lengths, data.labels))
    return replace(data, inputs={n: a[::every] for n, a in data.inputs.items()}, lengths=lengths, labels=labels)


def measured(program: Program, data: Data) -> dict[Key, Array]:
    """The vectors that drive each matrix in the exact program, thinned to :data:`VECTORS` of them, ``[n, inputs]``.

    Matrices that the data don't reach are left out.
    """
    found = {}
    for key, watch in observe(program, data).items():
        if watch.kept:
            every = np.concatenate(watch.kept)
            found[key] = every[:: -(-len(every) // VECTORS)]
    return found


def _columns(chips: Chips, program: Program, vectors: Mapping[Key, Array]) -> None:
    for (stage, value), x in vectors.items():
        analog = chips.analog[stage][value]
        if not isinstance(analog, AnalogMatrix):
            analog = analog.analog  # under a readout that was refitted before
        exact = tiles.weights(program, analog.matrix).astype(np.float64)
        silent = np.zeros((1, 1, analog.matrix.outputs), analog.dtype)
        found = []
        for block in analog.blocks:  # the partial sum of one range of inputs, the others multiplied by nothing
            for other in analog.blocks:
                other.gain, other.shift = (None if other is block else silent), None
            y = read(analog, x).astype(np.float64)
            part = slice(*block.inputs)
            found.append(fit(y, x[:, part].astype(np.float64) @ exact[:, part].T))
        for block, (gain, shift) in zip(analog.blocks, found, strict=True):
            block.gain, block.shift = gain.astype(analog.dtype), shift.astype(analog.dtype)


def fit(y: Array, z: Array) -> tuple[Array, Array]:
    """Factors and terms ``[chips, 1, outputs]`` with the least squares of ``a y + b - z``.

    ``y``: ``[chips, n, outputs]``, ``z``: ``[n, outputs]``. An output that gives always the same keeps its factor of 1.
    """
    mean, wanted = y.mean(axis=1, keepdims=True), z.mean(axis=0)
    centred = y - mean
    power = (centred**2).sum(axis=1, keepdims=True)
    along = (centred * (z - wanted)).sum(axis=1, keepdims=True)
    gain = np.divide(along, power, out=np.ones_like(power), where=power > 0)
    return gain, wanted - gain * mean


def read(analog: AnalogMatrix, vectors: Array) -> Array:
    """What every chip gives for vectors ``[n, inputs]``: ``[chips, n, outputs]``; whole reads only, the rest is zeros.

    A matrix that multiplies several vectors a step takes as many of them at once.
    """
    matrix, chips = analog.matrix, len(analog.chips)
    steps = -(-len(vectors) // matrix.vectors)
    x = np.zeros((steps * matrix.vectors, matrix.inputs), vectors.dtype)
    x[: len(vectors)] = vectors
    x = x.reshape(steps, matrix.vectors, matrix.inputs)
    if matrix.side == "left":
        x = np.moveaxis(x, 1, -1)
    single = len(analog.result.shape) == 1
    x = np.tile(x.reshape(steps, matrix.inputs) if single else x, (chips, *(1,) * (1 if single else 2)))
    with samples(analog, count=steps):
        y = analog([x, x])
    y = y.reshape(chips, steps, *analog.result.shape)
    if matrix.side == "left" and not single:
        y = np.moveaxis(y, 2, -1)
    return y.reshape(chips, steps * matrix.vectors, matrix.outputs)[:, : len(vectors)]


@contextmanager
def samples(*matrices: AnalogMatrix, count: int) -> Iterator[None]:
    """Matrices that take ``count`` samples a chip; then as many as before."""
    before = [m.samples for m in matrices]
    for m in matrices:
        m.samples = count
    try:
        yield
    finally:
        for m, old in zip(matrices, before, strict=True):
            m.samples = old
