"""The numerical check that ends every import: the program against the framework that the model came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run

#: A difference above this, relative to the largest output (at least 1), is an error of the import.
TOLERANCE = 1e-4
LENGTHS = (1, 4, 11)

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """Random inputs as the program takes them, ``[batch, time, ...]`` or ``[batch, ...]``, and the lengths or None."""

    inputs: Arrays
    lengths: np.ndarray | None


def trials(
    program: Program,
    *,
    batch: int | None = None,
    steps: Sequence[int] | Mapping[str, int] = LENGTHS,
    unequal: bool = False,
    seed: int = 0,
) -> list[Trial]:
    """Random inputs for a program.

    ``steps``: the lengths to try, or for each series input the one that the source fixes. ``unequal``: samples of
    different length within a batch. Whole numbers stay below the tables that they index.
    """
    rng = np.random.default_rng(seed)
    tries: list[Any] = [steps] if isinstance(steps, Mapping) else list(steps)
    found = []
    count = 3 if batch is None else batch
    for step in tries:
        inputs: Arrays = {}
        for name, spec in program.inputs.items():
            span = step.get(name, LENGTHS[-1]) if isinstance(step, Mapping) else step
            shape = (count, *((span,) if spec.kind == "series" else ()), *spec.type.shape)
            if spec.type.dtype == "f32":
                inputs[name] = rng.normal(size=shape).astype(np.float32)
            else:
                top = 2 if spec.type.dtype == "bool" else _rows(program, name)
                inputs[name] = rng.integers(0, top, size=shape).astype(spec.type.numpy)
        lengths = None
        if unequal and not isinstance(step, Mapping):
            lengths = rng.integers(1, step + 1, size=count).astype(np.int64)
            lengths[rng.integers(count)] = step
        found.append(Trial(inputs, lengths))
    return found


def _rows(program: Program, name: str) -> int:
    """The least number of rows of the tables that an input chooses from; 2 if it chooses from none."""
    rows = []
    for stage in program.stages:
        wired = {inner for inner, ref in stage.inputs_from.items() if ref.stage is None and ref.name == name}
        for value in stage.graph.values:
            if value.op == "gather" and value.args[1] in wired and value.args[0] in stage.graph.params:
                rows.append(stage.graph.params[value.args[0]].type.shape[0])
    return min(rows, default=2)


def check(
    program: Program,
    reference: Callable[[Trial], Arrays],
    tried: Sequence[Trial],
    against: str,
    place: str,
    tolerance: float = TOLERANCE,
) -> Program:
    """The program with ``meta["import_check"]`` set.

    ``reference`` gives the source's outputs, by the program's output names, ``[batch, time, ...]`` or ``[batch, ...]``.
    Raises :class:`ModelError` naming the output that differs, or that one of the two isn't finite.
    """
    worst, samples = 0.0, 0
    for trial in tried:
        wanted = reference(trial)
        trace = run(program, trial.inputs, trial.lengths)
        real = real_outputs(program, trace)
        for name, array in wanted.items():
            found = real[name] if array.dtype.kind == "f" else trace.outputs[name]
            worst = max(worst, _difference(name, found, array, against, place, tolerance))
        samples += len(next(iter(trial.inputs.values()), [0]))
    result = {"against": against, "max_abs_difference": worst, "samples": samples}
    return with_check(program, result)


def _difference(name: str, found: np.ndarray, wanted: np.ndarray, against: str, place: str, tolerance: float) -> float:
    if found.shape != wanted.shape:
        raise ModelError(
            f"output '{name}' has shape {list(found.shape)} here and {list(wanted.shape)} in {against}.",
            place=place,
            hint=_REPORT,
        )
    if not found.size:
        return 0.0
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if not np.isfinite(b).all():
        if (np.isfinite(a) == np.isfinite(b)).all():
            a, b = np.nan_to_num(a), np.nan_to_num(b)
        else:
            raise ModelError(f"output '{name}' of {against} isn't finite.", place=place, hint="Check the weights.")
    difference = float(np.abs(a - b).max())
    if not difference <= tolerance * max(1.0, float(np.abs(b).max())):
        raise ModelError(f"output '{name}' differs from {against} by {difference:.3g}.", place=place, hint=_REPORT)
    return difference


_REPORT = "The import would be wrong, so it is refused; please report the model."


def unchecked(program: Program, why: str) -> Program:
    """The program with a note of why it was not checked."""
    return with_check(program, {"against": None, "max_abs_difference": None, "samples": 0, "why": why})


def with_check(program: Program, result: Mapping[str, Any]) -> Program:
    """The program with ``meta["import_check"]`` set."""
    return replace(program, meta={**program.meta, "import_check": dict(result)})
