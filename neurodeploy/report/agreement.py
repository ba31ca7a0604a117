"""Where two runs of one program agree, bit for bit, and where they first do not."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from neurodeploy.artifact import Trace
from neurodeploy.errors import DataError
from neurodeploy.report.schema import Accuracy, Agreement, FirstDifference

EQUALITY = re.compile(r"exact|lsb\(\d+\)|(?:close|statistical)\([0-9.eE+-]+\)")


def agreement(
    subject: Trace, reference: Trace, *, against: str, equality: str = "exact", states: bool = True
) -> Agreement:
    """Compare two runs of one program step by step.

    Compares every tensor that both traces hold: ``series``, and with ``states`` also ``states``; where they have none
    in common, the final ``outputs``, one comparison per inference. A step counts as bit-exact if all tensors of its
    stage have the same bits (so -0.0 differs from 0.0 and a NaN equals itself); one that only one run executed counts
    as different. The first difference is the first by sample, then step, then tensor. ``equality`` is ``exact``,
    ``lsb(n)`` (integers, every difference at most n), ``close(tolerance)`` (every difference at most that share of the
    tensor's largest value in the reference, or of 1 if that is larger) or ``statistical(tolerance)``; the last is
    judged on accuracies, not here, so ``holds`` is None.
    Raises :class:`DataError` if the tensors can't be compared.
    """
    if not EQUALITY.fullmatch(equality):
        raise DataError(
            f"'{equality}' is no equality; needed exact, lsb(n), close(tolerance) or statistical(tolerance).",
            place=against,
        )
    pairs = _pairs(subject, reference, states)
    stages: dict[str, list[_Pair]] = {}
    for pair in pairs:
        stages.setdefault(pair.stage, []).append(pair)
    equal = {stage: np.logical_and.reduce([p.equal for p in group]) for stage, group in stages.items()}
    compared = sum(int(group[0].executed.sum()) for group in stages.values())
    exact = sum(int((equal[stage] & group[0].executed).sum()) for stage, group in stages.items())
    largest = max(pair.largest() for pair in pairs)
    integer = all(pair.a.dtype.kind in "iub" for pair in pairs)
    holds = None
    if equality == "exact":
        holds = exact == compared
    elif equality.startswith(("lsb", "close")):
        whole = all((pair.executed == pair.shared).all() for pair in pairs)
        limit = float(equality[equality.index("(") + 1 : -1])
        close = equality.startswith("close")
        within = all(pair.largest() <= limit * (pair.size() if close else 1) for pair in pairs)
        holds = bool((integer or close) and whole and within)
    firsts = [found for pair in pairs if (found := pair.first())]
    return Agreement(
        against=against,
        equality=equality,
        holds=holds,
        per="inference" if pairs[0].stage == _OUTPUTS else "step",
        compared=compared,
        bit_exact=exact,
        max_difference=largest if np.isfinite(largest) else None,
        difference_unit="LSB" if integer else "absolute",
        first_difference=min(firsts, key=lambda f: (f.sample, f.step or 0)) if firsts else None,
        tensors=[pair.name for pair in pairs],
    )


def judged(agreement: Agreement, accuracy: Accuracy) -> Agreement:
    """The agreement with ``holds`` set, if it promises ``statistical(tolerance)``.

    It holds if the deployed accuracy is at most ``tolerance`` (in the metric's own unit) from the quantized one, or
    from the float one where there is no quantized one. Raises :class:`DataError` if either side is missing.
    """
    if not agreement.equality.startswith("statistical"):
        return agreement
    reference = accuracy.quantized or accuracy.float_
    if accuracy.deployed is None or reference is None:
        raise DataError("needs a deployed accuracy and one to compare it with.", place=agreement.equality)
    tolerance = float(agreement.equality[len("statistical(") : -1])
    return agreement.model_copy(update={"holds": abs(accuracy.deployed.value - reference.value) <= tolerance})


_OUTPUTS = ""


@dataclass(frozen=True)
class _Pair:
    """One tensor of both runs, ``[batch, steps, elements]``, padded to the longer run."""

    name: str
    stage: str
    a: np.ndarray
    b: np.ndarray
    executed: np.ndarray  # [batch, steps]: by either run
    shared: np.ndarray  # [batch, steps]: by both
    ran: np.ndarray  # [batch]: steps that the first run executed

    @property
    def equal(self) -> np.ndarray:
        """``[batch, steps]``: the same bits, executed by both or by none."""
        return (_same_bits(self.a, self.b).all(axis=2) & self.shared) | ~self.executed

    def largest(self) -> float:
        """Largest absolute difference over shared steps; infinite where only one side is finite."""
        a, b = self.a[self.shared], self.b[self.shared]
        if not a.size:
            return 0.0
        with np.errstate(invalid="ignore"):
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
        gap[_same_bits(a, b)] = 0
        return float(np.nan_to_num(gap, nan=np.inf).max())

    def size(self) -> float:
        """The reference's largest finite absolute value over shared steps, or 1 if that is larger."""
        b = np.abs(self.b[self.shared].astype(np.float64))
        return float(np.max(b, initial=1.0, where=np.isfinite(b)))

    def first(self) -> FirstDifference | None:
        """The first sample and step at which the two differ, with the first differing element's values."""
        where = np.argwhere(~self.equal)
        if not len(where):
            return None
        sample, step = (int(i) for i in where[0])
        number = None if self.stage == _OUTPUTS else step
        if not self.shared[sample, step]:
            words = ("executed", "not executed")
            value, reference = words if step < self.ran[sample] else words[::-1]
            return FirstDifference(
                sample=sample, step=number, tensor=self.name, index=0, value=value, reference=reference
            )
        index = int(np.argmin(_same_bits(self.a[sample, step], self.b[sample, step])))
        return FirstDifference(
            sample=sample, step=number, tensor=self.name, index=index,
            value=_plain(self.a[sample, step, index]), reference=_plain(self.b[sample, step, index]),
        )  # fmt: skip


def _pairs(subject: Trace, reference: Trace, states: bool) -> list[_Pair]:
    kinds = ("series", "states") if states else ("series",)
    pairs = []
    for kind in kinds:
        ours, theirs = getattr(subject, kind), getattr(reference, kind)
        for name in ours:
            if name in theirs:
                pairs.append(_pair(name, name.partition(".")[0], ours[name], theirs[name], subject, reference))
    if not pairs:
        for name in subject.outputs:
            if name in reference.outputs:
                a, b = (np.asarray(t.outputs[name])[:, None] for t in (subject, reference))
                pairs.append(_pair(name, _OUTPUTS, a, b, subject, reference))
    if not pairs:
        raise DataError("the two runs have no tensor in common.", place="agreement")
    return pairs


def _pair(name: str, stage: str, a: np.ndarray, b: np.ndarray, subject: Trace, reference: Trace) -> _Pair:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape[0] != b.shape[0] or a.shape[2:] != b.shape[2:] or not a.shape[0]:
        raise DataError(
            f"found {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}; needed the same type, samples and elements.",
            place=f"tensor '{name}'",
        )
    batch, steps = a.shape[0], max(a.shape[1], b.shape[1])
    ran_a = np.minimum(subject.steps.get(stage, np.full(batch, a.shape[1])), a.shape[1])
    ran_b = np.minimum(reference.steps.get(stage, np.full(batch, b.shape[1])), b.shape[1])
    time = np.arange(steps)
    executed = time < np.maximum(ran_a, ran_b)[:, None]
    shared = time < np.minimum(ran_a, ran_b)[:, None]
    return _Pair(name, stage, _padded(a, steps), _padded(b, steps), executed, shared, ran_a)


def _padded(array: np.ndarray, steps: int) -> np.ndarray:
    flat = array.reshape(*array.shape[:2], math.prod(array.shape[2:]))
    return np.pad(flat, ((0, 0), (0, steps - flat.shape[1]), (0, 0)))


def _same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Elementwise: the same bit pattern."""
    if a.dtype.kind != "f":
        return a == b
    bits = f"u{a.dtype.itemsize}"
    return np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)


def _plain(value: np.generic) -> int | float | str:
    """A JSON value: an int, a finite float, or the name of one that isn't finite."""
    number = value.item()
    return number if not isinstance(number, float) or np.isfinite(number) else str(number)
