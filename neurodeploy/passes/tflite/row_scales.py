"""How many scales the weights of a product have: one in all, or one for each row; and which products share them.

A scale per row costs twelve bytes a row in the file. TFLM's CMSIS-NN kernels refuse it with 16 bits, TFLM before
September 2024 altogether. So weights have one where the noise that this adds is little beside the product itself,
unless ``per_channel`` of the pass is set.

Where rows have scales of their own, two products share them if that costs next to nothing: a file holds equal scales
once. A row's scale is its greatest weight over 127; the greater one of two serves both, and makes the weights of the
other coarser. That is taken where it adds little to the noise that the product has anyway, of its weights' rounding and
of the rounding of its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.passes.tflite.rounding import TOPS, rounded

if TYPE_CHECKING:
    from neurodeploy.ir.graph import Value
    from neurodeploy.passes.tflite.stage import StageQuantizer

#: The noise of one scale that is little: a share of the product's rms, root mean square over its rows.
LITTLE = 0.03
#: The same where a stage compares real numbers: there noise turns decisions, and what follows is another course.
LITTLE_WHERE_DECIDED = 0.005
DECIDES = frozenset({"lt", "eq", "ne", "argmax"})
#: By how much of its variance the noise of a product may grow for the sake of shared scales.
SHARE = 0.25


def row_tops(weights: np.ndarray) -> np.ndarray:
    """The greatest weight of every row ``[R]``, or the greatest of all for a row of zeros."""
    tops = np.abs(weights).max(axis=1, initial=0)
    return np.where(tops > 0, tops, tops.max(initial=0) or 1.0)


@dataclass
class _Product:
    """One product: its weights ``[R, K]``, their rows' greatest, the moments and the mean square of the vector that
    they multiply, the square of its result's step."""

    name: str
    weights: np.ndarray
    tops: np.ndarray
    moment: np.ndarray | None
    power: float
    step_squared: float

    def one_is_enough(self, little: float) -> bool:
        """Whether one scale for all rows adds ``little``. Without data a white vector stands for the product's."""
        moment = np.eye(self.weights.shape[1] + 1) if self.moment is None else self.moment
        one = self.tops.max(keepdims=True) / TOPS[8]
        noise = rounded(self.weights, one, TOPS[8], np.zeros(len(self.weights)), moment, moves=False).error
        itself = np.einsum("rk,rk->r", self.weights @ moment[:-1, :-1], self.weights)
        live = itself > 0
        return bool(np.mean(noise[live] / itself[live]) <= little**2) if live.any() else True

    def takes(self, tops: np.ndarray) -> bool:
        """Whether it can have these in place of its own. Rounding to a step has a variance of step^2 / 12."""
        own, more = np.mean(self.tops**2), np.mean(tops**2 - self.tops**2)
        scale = self.power / TOPS[8] ** 2
        return bool(scale * more <= SHARE * (self.step_squared + scale * own))


def chosen_tops(q: StageQuantizer) -> dict[str, np.ndarray]:
    """The greatest weight that each scale of a product of 8-bit weights is for, ``[1]`` or ``[rows]``, by product."""
    asked = q.scales.widths.per_channel
    little = LITTLE_WHERE_DECIDED if _decides(q) else LITTLE
    found: dict[str, np.ndarray] = {}
    groups: list[list[_Product]] = []
    for product in _products(q):
        if len(product.tops) < 2 or asked is False or (asked is None and product.one_is_enough(little)):
            found[product.name] = product.tops.max(keepdims=True)
            continue
        for group in groups:
            tops = np.max([p.tops for p in (*group, product)], axis=0) if _fits(group, product) else None
            if tops is not None and all(p.takes(tops) for p in (*group, product)):
                group.append(product)
                break
        else:
            groups.append([product])
    for group in groups:
        tops = np.max([p.tops for p in group], axis=0)
        found |= {p.name: tops for p in group}
    return found


def _decides(q: StageQuantizer) -> bool:
    return any(
        v.op in DECIDES and any(a not in q.known and q.source[a].dtype == "f32" for a in v.args)
        for v in q.stage.graph.values
    )


def _fits(group: list[_Product], product: _Product) -> bool:
    return len(group[0].tops) == len(product.tops)


def factors(q: StageQuantizer, value: Value) -> tuple[str, np.ndarray, str] | None:
    """Of a ``matmul`` with constant weights the vector, the weights ``[rows, columns]`` and their name."""
    first, second = value.args
    if second in q.known:
        return first, q.known[second].reshape(len(q.known[second]), -1).T.astype(np.float64), second
    if first in q.known and len(q.stage.graph.tensor(second).shape) == 1:
        return second, q.known[first].reshape(-1, q.known[first].shape[-1]).astype(np.float64), first
    return None


def _products(q: StageQuantizer) -> list[_Product]:
    """Products of real vectors with constant weights of 8 bits."""
    found = []
    for value in q.stage.graph.values:
        if value.op != "matmul" or value.tensor.dtype != "f32" or value.name in q.known:
            continue
        parts = factors(q, value)
        if parts is None or q.scales.widths.bits(q.stage.name, parts[2]) != 8:
            continue
        x, weights, _ = parts
        # a value that is spread evenly over its range has a third of its square
        power = weights.shape[1] * max(abs(edge) for edge in q.span(x)) ** 2 / 3
        step = q.span_form(*q.span(value.name), q.form(value.name).dtype).scale ** 2
        moment = q.moments.get((q.stage.name, x))
        found.append(_Product(value.name, weights, row_tops(weights), moment, power, step))
    return found
