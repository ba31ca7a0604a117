"""Input data for calibration, runs and validation: ``.npz`` files, or arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.archive import read_arrays
from neurodeploy.errors import DataError, nearest

if TYPE_CHECKING:
    from neurodeploy.ir.graph import Program

LENGTHS, LABELS = "lengths", "y"


@dataclass(frozen=True)
class Data:
    """Samples for a network.

    ``inputs``: program input -> ``[n, steps, ...]`` (series) or ``[n, ...]`` (static). ``lengths`` ``[n]``: steps of
    each sample, all where None. ``labels``: ``[n]`` classes or targets shaped like the output, where known.
    ``name`` and ``sha256`` say where they come from.
    """

    inputs: Mapping[str, np.ndarray]
    lengths: np.ndarray | None = None
    labels: np.ndarray | None = None
    name: str = "arrays"
    sha256: str = ""

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values()))) if self.inputs else 0

    def first(self, count: int | None) -> Data:
        """The first ``count`` samples (all for None)."""
        if count is None or count >= self.samples:
            return self
        cut = {name: array[:count] for name, array in self.inputs.items()}
        lengths = None if self.lengths is None else self.lengths[:count]
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, inputs=cut, lengths=lengths, labels=labels)


def load(path: str | Path, program: Program) -> Data:
    """Read a ``.npz``: an array for each input of the program (a single one may have any name), ``lengths``, ``y``.

    Raises :class:`DataError` for a file that can't be read, and for arrays that are missing or not known.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        arrays = read_arrays(path)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error}).", place=str(path), hint=_HINT) from error
    except ValueError as error:
        raise DataError(f"{error}.", place=str(path), hint=_HINT) from error
    data = arrange(arrays, program, place=str(path))
    return replace(data, name=path.name, sha256=hashlib.sha256(raw).hexdigest())


_HINT = "Make one: numpy.savez('data.npz', x=..., lengths=..., y=...)."


def arrange(arrays: Mapping[str, Any] | Any, program: Program, place: str = "data") -> Data:
    """Arrays by name, or one array for the only input, as :class:`Data`. Raises :class:`DataError`."""
    lengths_input = program.meta.get("lengths_input")
    if not isinstance(arrays, Mapping):
        arrays = {"x": arrays}
    given = {key: _array(key, array, place) for key, array in arrays.items()}
    lengths = given.pop(LENGTHS, given.pop(lengths_input, None) if lengths_input else None)
    labels = None if LABELS in program.inputs else given.pop(LABELS, None)
    wanted = list(program.inputs)
    if len(wanted) == 1 and len(given) == 1 and wanted[0] not in given:
        given = {wanted[0]: next(iter(given.values()))}
    for name in given:
        if name not in program.inputs:
            raise DataError(f"the model has no input '{name}'.", place=place, hint=nearest(name, wanted))
    for name in wanted:
        if name not in given:
            raise DataError(
                f"input '{name}' is missing.", place=place, hint=f"Given: {', '.join(arrays) or 'nothing'}."
            )
    for name, array in given.items():
        if program.inputs[name].kind == "series" and array.ndim > 1 and array.shape[1] == 0:
            raise DataError(f"input '{name}' has no steps: its shape is {list(array.shape)}.", place=place)
    digest = hashlib.sha256()
    for name in sorted(given):
        digest.update(np.ascontiguousarray(given[name]).tobytes())
    counts = {len(a) if a.ndim else 0 for a in [*given.values(), *(a for a in (lengths, labels) if a is not None)]}
    if len(counts) != 1 or counts == {0}:
        held = {**given, LENGTHS: lengths, LABELS: labels}
        found = ", ".join(f"'{name}' {len(a) if a.ndim else 0}" for name, a in held.items() if a is not None)
        raise DataError(f"samples: {found}; needed the same number in all, 1 or more.", place=place)
    return Data(given, lengths, labels, sha256=digest.hexdigest())


def _array(name: str, array: Any, place: str) -> np.ndarray:
    if isinstance(array, (str, Path)):
        raise DataError(
            f"'{name}' is the path {str(array)!r}; needed an array.",
            place=place,
            hint="Read it: data.load(path, model).",
        )
    try:
        return np.asarray(array)
    except ValueError as error:
        raise DataError(
            f"'{name}' is no array: its parts have unequal shapes.",
            place=place,
            hint="Pad its sequences with zeros, and give 'lengths'.",
        ) from error
