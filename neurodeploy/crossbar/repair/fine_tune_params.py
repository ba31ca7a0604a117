"""Which number of the network each number of its tiled program is: so that what is trained there can go back.

Passes cut, stack and fold weights. To see where each number goes, the network is lowered a second time with its numbers
replaced by their own places; a param of the tiled program that holds only such places is a copy of these numbers, which
is checked on the network itself. Params from which anything else was computed are left out of training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Param, Program

Array = np.ndarray
Key = tuple[str, str]
_LARGEST = 1 << 24  # whole numbers that float32 holds exactly


@dataclass(frozen=True)
class Origins:
    """``trained``: the network's float params, (stage, name) -> first place of its numbers in one long vector.

    ``places``: param of the tiled program -> the place of each of its numbers, -1 where it is none of them.
    ``zeros``: whether zeros of vectors may change; those of matrices never do: they are connections that aren't there.
    """

    source: Program
    tiled: Program
    trained: Mapping[Key, int]
    places: Mapping[Key, Array]
    zeros: bool = True

    def numbers(self) -> Array:
        """The trained numbers, float32, as one vector."""
        return np.concatenate([param(self.source, key).data.ravel() for key in self.trained])

    def movable(self) -> Array:
        """Which of them may change."""
        kept = [_places(param(self.source, key).data, 0, self.zeros).ravel() >= 0 for key in self.trained]
        return np.concatenate(kept)

    def with_numbers(self, numbers: Array) -> Program:
        """The network with other numbers."""
        given = {}
        for key, start in self.trained.items():
            old = param(self.source, key)
            given[key] = numbers[start : start + old.data.size].reshape(old.data.shape)
        return with_params(self.source, given)

    def tiled_with(self, numbers: Array) -> Program:
        """The tiled program with other numbers."""
        given = {}
        for key, places in self.places.items():
            given[key] = np.where(places >= 0, numbers[places], param(self.tiled, key).data)
        return with_params(self.tiled, given)


def param(program: Program, key: Key) -> Param:
    """A param of a stage."""
    return program.stage(key[0]).graph.params[key[1]]


def with_params(program: Program, given: Mapping[Key, Array]) -> Program:
    """The program with other data in some of its params."""
    stages = []
    for stage in program.stages:
        params = dict(stage.graph.params)
        for (where, name), data in given.items():
            if where == stage.name:
                params[name] = Param(params[name].type, np.array(data, dtype=params[name].data.dtype, order="C"))
        stages.append(replace(stage, graph=replace(stage.graph, params=params)))
    return replace(program, stages=tuple(stages))


def origins(source: Program, lower: Callable[[Program], Program]) -> Origins:
    """Where the numbers of ``lower(source)`` come from.

    Raises :class:`UnsupportedError` for more numbers than can be told apart, for a mapping that depends on the numbers,
    and where no param can be trained.
    """
    trained, count = {}, 0
    for stage in source.stages:
        for name, held in stage.graph.params.items():
            if held.type.dtype == "f32":
                trained[stage.name, name] = count
                count += held.data.size
    if count >= _LARGEST:
        raise UnsupportedError(
            f"holds {count:,} numbers; fine-tuning takes fewer than {_LARGEST:,}.",
            place=source.name,
            hint="Leave out fine-tuning.",
        )
    tiled = lower(source)
    unit = 2.0 ** -np.ceil(np.log2(count + 1))  # places as small numbers: the network still runs with them
    for zeros in (True, False):  # a bias of zeros may be left out of the mapping: then it stays so
        there = {key: _places(param(source, key).data, start, zeros) for key, start in trained.items()}
        marked = lower(with_params(source, {key: (at + 1) * unit for key, at in there.items()}))
        if _shape(marked) == _shape(tiled):
            break
    else:
        raise UnsupportedError(
            "is mapped onto arrays by what its weights are; fine-tuning changes them.",
            place=source.name,
            hint="Leave out fine-tuning.",
        )
    flat = np.concatenate([param(source, key).data.ravel() for key in trained]) if trained else np.zeros(0, np.float32)
    places, computed = {}, []
    for stage in tiled.stages:
        for name, held in stage.graph.params.items():
            if held.type.dtype == "f32":
                found = _copied(param(marked, (stage.name, name)).data.astype(np.float64) / unit, held.data, flat)
                if found is None:
                    computed.append((stage.name, name))
                else:
                    places[stage.name, name] = found
    if computed:
        trained, places = _without_computed(source, tiled, lower, trained, places, computed)
    if not trained:
        raise UnsupportedError("has no weights to train.", place=source.name, hint="Leave out fine-tuning.")
    return Origins(source, tiled, trained, places, zeros)


def _places(data: Array, start: int, zeros: bool) -> Array:
    """The place of each number; -1 for zeros that stay zeros: a matrix's, without ``zeros`` every one."""
    at = np.arange(start, start + data.size).reshape(data.shape)
    return np.where(data != 0, at, -1) if data.ndim > 1 or not zeros else at


def _shape(program: Program) -> list:
    """What a program is but for the data of its params."""
    return [
        (s.name, [(n, p.type) for n, p in s.graph.params.items()], [(v.name, v.op, v.args) for v in s.graph.values])
        for s in program.stages
    ]


def _copied(marks: Array, data: Array, flat: Array) -> Array | None:
    """The places that a param copies, or None where it does something else."""
    at = np.asarray(np.rint(marks).astype(np.int64) - 1)
    if (marks != at + 1).any() or at.min(initial=-1) < -1 or at.max(initial=-1) >= len(flat):
        return None
    wanted = np.where(at >= 0, flat[at], 0.0) if len(flat) else np.zeros_like(data)
    return at if np.array_equal(wanted, data) else None


def _without_computed(
    source: Program, tiled: Program, lower: Callable[[Program], Program], trained: Mapping[Key, int],
    places: Mapping[Key, Array], computed: list[Key],
) -> tuple[dict[Key, int], dict[Key, Array]]:  # fmt: skip
    """Leave out the params of which something was computed: a change of one changes a computed one."""
    kept, moved, count = {}, {}, 0
    for key, start in trained.items():
        data = param(source, key).data
        after = lower(with_params(source, {key: data * np.float32(1.25) + (data.ndim < 2) * np.float32(0.125)}))
        if not any(not np.array_equal(param(after, c).data, param(tiled, c).data) for c in computed):
            kept[key] = count
            moved[start, start + data.size] = count - start
            count += data.size
    found = {}
    for key, at in places.items():
        new = np.full_like(at, -1)
        for (start, stop), shift in moved.items():
            inside = (at >= start) & (at < stop)
            new[inside] = at[inside] + shift
        found[key] = new
    return kept, found
