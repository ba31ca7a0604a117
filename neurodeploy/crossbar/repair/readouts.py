"""Refits a network's readouts to the states that a drawn chip really has, by ridge regression.

A readout is a product whose result reaches an output through a bias, slices, functions of one value and running means
only, and that doesn't feed back into its own input. On calibration data the exact program says what it should give,
``z``; the chip says from which states, ``s``. For every chip, with centred s and z,

    min_D  sum_n |(W + D) s_n - z_n|^2 + lambda m |D|^2,

W the trained weights, m the mean square of a state: without evidence the readout stays as it was trained. lambda is of
:data:`PENALTIES`, for each chip the one with the smallest leave-one-out error (Allen, Technometrics 16(1), 1974), which
one singular value decomposition gives for all. The refitted readout is digital from then on: it is of the chip's own
numbers, without noise and converters, and costs one multiply-accumulate a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.crossbar.mapping import tiles
from neurodeploy.errors import DataError, UnsupportedError
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Graph, Program, Value
from neurodeploy.ir.ops import OPS
from neurodeploy.passes.tiling import OP

if TYPE_CHECKING:
    from neurodeploy.crossbar.analog import AnalogMatrix
    from neurodeploy.crossbar.simulate import Chips
    from neurodeploy.data import Data

Array = np.ndarray
PENALTIES = tuple(10.0**k for k in range(-6, 4))
#: Rows of a regression, at most: where every step counts they are thinned.
ROWS = 4096
_MOVES = ("slice", "reshape", "transpose", "concat", "softmax", "argmax")


@dataclass(frozen=True)
class Readout:
    """A readout: outputs ``start`` to ``stop`` of a ``crossbar`` value.

    ``last``: whether only each sample's last step counts. ``rows``: the steps that the regression uses, as places
    ``[rows]`` in a ``[samples, steps]`` table. ``wanted``: what the product should give there, ``[rows, outputs]``.
    """

    stage: str
    value: str
    input: str
    start: int
    stop: int
    inputs: int
    last: bool
    rows: Array
    wanted: Array

    @property
    def outputs(self) -> int:
        """How many."""
        return self.stop - self.start


class RefittedReadout:
    """A ``crossbar`` value of which some rows are digital and each chip's own; the others stay on the array.

    ``parts``: for each readout its weights ``[chips, inputs, rows]`` and terms ``[chips, 1, rows]``, which are added to
    the program's own bias. Where all rows are digital, the array isn't read.
    """

    def __init__(self, analog: AnalogMatrix, parts: Sequence[tuple[Readout, Array, Array]]) -> None:
        self.analog, self.matrix = analog, analog.matrix
        self.parts = [(r, weights.astype(np.float32), shift.astype(np.float32)) for r, weights, shift in parts]
        self.alone = whole([r for r, *_ in parts], self.matrix.outputs)
        self.saturated: list[Array] = []

    @property
    def reads(self) -> int:
        """How often the array is read for one product."""
        return 0 if self.alone else self.analog.reads

    def __call__(self, args: list[Array]) -> Array:
        """The product, as the ``crossbar`` value gives it."""
        rows = len(self.analog.chips) * self.analog.samples
        x = np.broadcast_to(args[1].astype(np.float32), (rows, self.matrix.inputs))
        x = x.reshape(len(self.analog.chips), -1, self.matrix.inputs)
        none = np.zeros(rows, np.int64)
        every = np.empty((rows, self.matrix.outputs), np.float32) if self.alone else np.array(self.analog(args))
        self.saturated = [none, none] if self.alone else self.analog.saturated
        for readout, weights, shift in self.parts:
            every[:, readout.start : readout.stop] = (np.matmul(x, weights) + shift).reshape(rows, -1)
        return every


def whole(readouts: Sequence[Readout], outputs: int) -> bool:
    """Whether the readouts of one product are all of its ``outputs``."""
    return len({k for r in readouts for k in range(r.start, r.stop)}) == outputs


# ------------------------------------------------------------------------------------------------- finding them


def prepare(program: Program, data: Data) -> tuple[Readout, ...]:
    """The readouts of a tiled program and what they should give on the data.

    Raises :class:`UnsupportedError` where there is none, :class:`DataError` where the data don't reach one.
    """
    if program.numerics != "float":
        raise UnsupportedError(
            f"its numerics are '{program.numerics}'; readouts are refitted in float programs.",
            place=program.name,
            hint="Compile with --numerics float, or repair columns only.",
        )
    found: dict[tuple[str, str, int, int], tuple[Value, bool]] = {}
    reasons = []
    for name, ref in program.outputs.items():
        stage = program.stage(ref.stage) if ref.stage else None
        if stage is None or ref.at == "final" or stage.drive.kind not in ("forward", "reverse"):
            how = "an input" if stage is None else "a state" if ref.at == "final" else f"driven '{stage.drive.kind}'"
            reasons.append(f"output '{name}' is {how}")
            continue
        met = _walk(stage.graph, stage.graph.outputs[ref.name])
        if isinstance(met, str):
            reasons.append(f"output '{name}' comes through {met}")
            continue
        value, rows, running = met
        last = ref.at == "last" and not running and stage.drive.kind == "forward"
        key = (stage.name, value.name, *rows)
        found[key] = value, last and (key not in found or found[key][1])
    if not found:
        raise UnsupportedError(
            f"has no readout that can be refitted: {'; '.join(reasons)}; needed a product with constant weights that "
            "gives an output.",
            place=program.name,
            hint="Repair columns only.",
        )
    return tuple(_wanted(program, data, key, value.args[1], last) for key, (value, last) in found.items())


def _walk(graph: Graph, name: str) -> tuple[Value, tuple[int, int], bool] | str:
    """The product that a value is made of, which of its outputs, whether it is summed on the way; or what hinders."""
    values = {v.name: v for v in graph.values}
    states = {s.name: s for s in graph.states}
    constants = {*graph.params, *(v.name for v in graph.values if v.op == "const")}
    running, rows = False, None
    while name in values:
        value = values[name]
        if value.op == OP:
            if len(value.tensor.shape) != 1:
                return f"%{name}, which multiplies several vectors a step"
            if _feeds_back(graph, value):
                return f"%{name}, which feeds back into its own input"
            return value, rows or (0, value.tensor.shape[0]), running
        moving = [a for a in value.args if a not in constants]
        summed = [a for a in moving if a in states and states[a].next == name]
        if value.op == "add" and len(summed) == 1 and len(moving) == 2:
            running = True
            moving.remove(summed[0])
        if value.op == "div" and len(moving) == 2 and _digital(graph, moving[1]):
            moving = moving[:1]
        if len(moving) != 1 or not (value.op in _MOVES or (value.op in OPS and OPS[value.op].elementwise)):
            return f"%{name} ({value.op})"
        if value.op == "slice" and values.get(moving[0], value).op == OP and value.attrs.get("step", 1) == 1:
            rows = (value.attrs.get("start", 0), value.attrs.get("stop", graph.tensor(moving[0]).shape[0]))
        name = moving[0]
    return f"%{name}, which no product gives"


def _reached(graph: Graph, start: str) -> set[str]:
    """Names that a value has a part in, now or at a later step."""
    reached = {start}
    while True:
        more = {v.name for v in graph.values if not reached.isdisjoint(v.args)}
        more |= {s.name for s in graph.states if reached & {s.next, s.when}}
        if more <= reached:
            return reached
        reached |= more


def _feeds_back(graph: Graph, value: Value) -> bool:
    return value.args[1] in _reached(graph, value.name)


def _digital(graph: Graph, name: str) -> bool:
    """Whether no product has a part in a value."""
    return not any(v.op == OP and name in _reached(graph, v.name) for v in graph.values)


def _wanted(program: Program, data: Data, key: tuple[str, str, int, int], input_: str, last: bool) -> Readout:
    stage, value, start, stop = key
    table = _Table(stage, {input_, value})
    interpret.run(program, data.inputs, data.lengths, observe=table)
    active = table.active(value)
    if not active.any():
        raise DataError(
            "was never read on the repair's data, so it can't be refitted.",
            place=f"{stage}: %{value}",
            hint="Give data that reach it.",
        )
    if last:
        final = active.shape[1] - 1 - np.argmax(active[:, ::-1], axis=1)
        rows = (np.arange(len(active)) * active.shape[1] + final)[active.any(axis=1)]
    else:
        rows = np.flatnonzero(active)
        rows = rows[:: -(-len(rows) // ROWS)]
    wanted = table.rows(value, len(active))[:, rows][0][:, start:stop].astype(np.float64)
    inputs = table.rows(input_, len(active)).shape[-1]
    return Readout(stage, value, input_, start, stop, inputs, last, rows, wanted)


class _Table:
    """Keeps values of one stage, every step of them."""

    def __init__(self, stage: str, names: set[str]) -> None:
        self.stage, self.seen = stage, {name: [] for name in names}

    def __call__(self, stage: str, name: str, array: Array, active: Array) -> None:
        if stage == self.stage and name in self.seen:
            self.seen[name].append((array, active))

    def active(self, name: str) -> Array:
        """Where it counted, ``[batch, steps]``."""
        return np.stack([active for _, active in self.seen[name]], axis=1)

    def rows(self, name: str, samples: int) -> Array:
        """Its values ``[chips, samples * steps, size]`` of a batch of chips times samples."""
        batch = len(self.seen[name][0][1])
        every = np.stack([np.broadcast_to(a, (batch, *a.shape[1:])) for a, _ in self.seen[name]], axis=1)
        return every.reshape(batch // samples, samples * every.shape[1], -1)


# ------------------------------------------------------------------------------------------------- fitting them


def refit(chips: Chips, program: Program, data: Data, readouts: Sequence[Readout]) -> None:
    """Give the chips readouts of their own, for what they are now. Changes ``chips.analog``."""
    from neurodeploy.crossbar.repair import samples

    for readout in readouts:
        placed = chips.analog[readout.stage]
        found = placed[readout.value]
        placed[readout.value] = found.analog if isinstance(found, RefittedReadout) else found
    count = len(chips.chips)
    repeated = {name: np.tile(a, (count, *(1,) * (a.ndim - 1))) for name, a in data.inputs.items()}
    lengths = None if data.lengths is None else np.tile(data.lengths, count)
    tables = [_Table(r.stage, {r.input}) for r in readouts]

    def see(stage: str, name: str, array: Array, active: Array) -> None:
        for table in tables:
            table(stage, name, array, active)

    every = [matrix for stage in chips.analog.values() for matrix in stage.values()]
    with samples(*every, count=data.samples):
        interpret.run(program, repeated, lengths, observe=see, overrides=chips.analog)
    made: dict[tuple[str, str], list[tuple[Readout, Array, Array]]] = {}
    for readout, table in zip(readouts, tables, strict=True):
        analog = chips.analog[readout.stage][readout.value]
        states = table.rows(readout.input, data.samples)[:, readout.rows].astype(np.float64)
        trained = tiles.weights(program, analog.matrix)[readout.start : readout.stop].astype(np.float64)
        fitted = [ridge(s, readout.wanted, trained) for s in states]
        weights, shift = (np.stack(parts) for parts in zip(*fitted, strict=True))
        made.setdefault((readout.stage, readout.value), []).append(
            (readout, np.swapaxes(weights, 1, 2), shift[:, None])
        )
    for (stage, value), parts in made.items():
        refitted = RefittedReadout(chips.analog[stage][value], parts)
        chips.analog[stage][value] = refitted  # type: ignore[assignment]


def ridge(s: Array, z: Array, weights: Array, penalties: Sequence[float] = PENALTIES) -> tuple[Array, Array]:
    """Weights ``[outputs, inputs]`` and a term ``[outputs]`` that give z ``[n, outputs]`` from s ``[n, inputs]``.

    The penalty, in units of the mean square of a centred state, holds them near ``weights``; of several the one with
    the smallest leave-one-out error is taken, the first of equal ones.
    """
    mean, wanted = s.mean(axis=0), z.mean(axis=0)
    centred = s - mean
    left = (z - wanted) - centred @ weights.T
    u, size, vt = np.linalg.svd(centred, full_matrices=False)
    along = u.T @ left
    unit = float((centred**2).mean()) * len(s)
    best, change = np.inf, np.zeros_like(weights)
    for penalty in penalties:
        kept = size**2 + penalty * unit
        share = np.divide(size**2, kept, out=np.zeros_like(size), where=kept > 0)
        lever = (u**2) @ share + 1.0 / len(s)
        error = (left - u @ (share[:, None] * along)) / np.maximum(1.0 - lever, 1e-9)[:, None]
        press = float((error**2).sum())
        if press < best:
            inverse = np.divide(size, kept, out=np.zeros_like(size), where=kept > 0)
            best, change = press, (vt.T @ (inverse[:, None] * along)).T
    fitted = weights + change
    return fitted, wanted - fitted @ mean
