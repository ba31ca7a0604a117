"""Products with scales in common: where it costs next to nothing, two weights have the same scale in every row.

A file then holds these scales once. A row's scale is its greatest weight over 127; the greater one of two products
serves both, and makes the weights of the other coarser. That is taken where it adds little to the noise that the
product has anyway: of its weights' own rounding, and of the rounding of its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from neurodeploy.passes.tflite.stage import StageQuantizer

#: By how much of its variance the noise of a product may grow.
SHARE = 0.25


@dataclass
class _Product:
    """One product: its rows' greatest weights, the mean square of its input's vector, its result's step squared."""

    name: str
    tops: np.ndarray
    power: float
    step: float

    def takes(self, tops: np.ndarray) -> bool:
        """Whether it can have these in place of its own. Rounding to a step has a variance of step^2 / 12."""
        own, more = np.mean(self.tops**2), np.mean(tops**2 - self.tops**2)
        scale = self.power / 127**2
        return bool(scale * more <= SHARE * (self.step + scale * own))


def shared_tops(q: StageQuantizer) -> dict[str, np.ndarray]:
    """The greatest weight of every row, ``[rows]``, by product: of all the products that share its scales."""
    groups: list[list[_Product]] = []
    for product in _products(q):
        for group in groups:
            tops = np.max([p.tops for p in (*group, product)], axis=0) if _fits(group, product) else None
            if tops is not None and all(p.takes(tops) for p in (*group, product)):
                group.append(product)
                break
        else:
            groups.append([product])
    return {p.name: np.max([other.tops for other in group], axis=0) for group in groups for p in group}


def _fits(group: list[_Product], product: _Product) -> bool:
    return len(group[0].tops) == len(product.tops)


def _products(q: StageQuantizer) -> list[_Product]:
    """Products of a computed value with constant weights of 8 bits that have a scale per row."""
    found = []
    for value in q.stage.graph.values:
        constant = [a for a in value.args if a in q.known]
        moving = [a for a in value.args if a not in q.known]
        if value.op != "matmul" or len(constant) != 1 or value.name in q.known or not q.scales.widths.per_channel:
            continue
        if value.tensor.dtype != "f32":  # whole numbers have no scales
            continue
        weights = np.asarray(q.known[constant[0]], np.float64)
        rows = weights.reshape(len(weights), -1).T if value.args[1] in q.known else weights
        if rows.ndim != 2 or len(rows) < 2 or q.scales.widths.bits(q.stage.name, constant[0]) != 8:
            continue
        # a value that is spread evenly over its range has a third of its square
        power = rows.shape[1] * max(abs(edge) for edge in q.span(moving[0])) ** 2 / 3
        step = q.span_form(*q.span(value.name), q.form(value.name).dtype).scale ** 2
        found.append(_Product(value.name, np.abs(rows).max(axis=1), power, step))
    return found
