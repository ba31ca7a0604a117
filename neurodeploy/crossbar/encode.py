"""What a weight is on devices: relative conductances ``(g - g_min) / (g_max - g_min)`` from 0 to 1, and the way back.

A slice s of a weight on output j is::

    w_s = weight_max_j factor_s (plus - minus - constant_s),    w = sum_s w_s

``differential``: ``plus`` and ``minus`` are the pair's devices, the one that isn't needed at 0. ``offset``: ``minus``
is the reference column, at one half. ``one-sided``: there is no ``minus``; the constant is subtracted digitally, times
the sum of the inputs. Weights count as multiplied by their word line's share of the input range
(:func:`neurodeploy.crossbar.tiles.input_scale`). On ``weight_bits`` a weight is a whole number of
``weight_max / (2^(weight_bits-1) - 1)``, and on ``slice_bits`` a slice holds that many bits of its magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.crossbar.tiles import Matrix, Tile, input_scale

Array = np.ndarray


@dataclass(frozen=True)
class Stored:
    """What a tile is told to hold; arrays ``[slices, inputs, outputs]``, factors and constants ``[slices]``.

    ``weight``: the slices in units of weights, exact where weights are whole numbers. ``plus`` and ``minus``: relative
    conductances; NaN where no device is formed; ``minus`` is None where nothing is subtracted on the array.
    """

    weight: Array
    plus: Array
    minus: Array | None
    factor: Array
    constant: Array


def stored(matrix: Matrix, tile: Tile, weights: Array) -> Stored:
    """What a tile holds of ``weights`` (``[outputs, inputs]``, the whole matrix)."""
    block = weights[slice(*tile.outputs), slice(*tile.inputs)].T.astype(np.float64)
    block = block * input_scale(matrix)[slice(*tile.inputs), None]
    largest = np.array(tile.weight_max)
    relative = block / np.where(largest > 0, largest, 1.0)
    return Stored(
        block[None], np.maximum(relative, 0)[None], np.maximum(-relative, 0)[None], np.ones(1), np.zeros(1)
    )  # fmt: skip
