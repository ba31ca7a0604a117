"""What a weight is on devices: relative conductances ``(g - g_min) / (g_max - g_min)`` from 0 to 1, and the way back.

A slice s of a weight on output j is::

    w_s = weight_max_j factor_s (plus - minus - constant_s),    w = sum_s w_s

``differential``: ``plus`` and ``minus`` are the pair's devices, the one that isn't needed at 0. ``offset``: ``minus``
is the reference column, at one half. ``one-sided``: there is no ``minus``; the constant is subtracted digitally, times
the sum of the inputs. Weights count as multiplied by their word line's share of the input range
(:func:`neurodeploy.crossbar.mapping.tiles.input_scale`). Empty cells (NaN) conduct nothing, and no constant is
subtracted for them: their weight is 0.

On ``weight_bits`` a weight is a whole number k of ``weight_max / m``, ``m = 2^(weight_bits-1) - 1``, and on
``slice_bits`` its digits lie on devices of their own, the lowest first. ``differential`` and ``offset`` take the digits
of ``|k|``, each with k's sign: a digit d of at most D is ``|d|/D`` on one device of the pair, or ``(1 + d/D)/2``.
``one-sided`` takes those of ``k + 2^(weight_bits-1)``, which are never negative; the bias is one bit of the highest
digit, so only its constant isn't 0 (the biased weights of ISAAC; Shafiee et al., ISCA 2016). The highest digit may be
shorter; its largest value has full conductance too. Where ``weight_max`` makes the grid that of whole numbers, whole
weights and all their slices are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.crossbar.mapping.tiles import Matrix, Tile, input_scale
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import TargetError

Array = np.ndarray


@dataclass(frozen=True)
class Stored:
    """What a tile is told to hold; arrays ``[slices, inputs, outputs]``, factors and constants ``[slices]``.

    ``weight``: the slices in units of weights, exact where weights are whole numbers on a grid of such. ``plus`` and
    ``minus``: relative conductances; NaN where no device is formed; ``minus`` is None where nothing is subtracted on
    the array.
    """

    weight: Array
    plus: Array
    minus: Array | None
    factor: Array
    constant: Array


def stored(matrix: Matrix, tile: Tile, weights: Array) -> Stored:
    """What a tile holds of ``weights`` (``[outputs, inputs]``, the whole matrix), rounded to ``weight_bits``."""
    block = weights[slice(*tile.outputs), slice(*tile.inputs)].T.astype(np.float64)
    block = block * input_scale(matrix)[slice(*tile.inputs), None]
    largest = np.array(tile.weight_max)
    made = _analog(matrix, block, largest) if matrix.weight_bits is None else _digits(matrix, block, largest)
    for inputs, outputs in tile.empty:
        rows = slice(inputs[0] - tile.inputs[0], inputs[1] - tile.inputs[0])
        columns = slice(outputs[0] - tile.outputs[0], outputs[1] - tile.outputs[0])
        for conductances in (made.plus, made.minus):
            if conductances is not None:
                conductances[:, rows, columns] = np.nan
    if tile.unformed:
        for conductances in (made.plus, made.minus):
            if conductances is not None:
                conductances[:, block == 0] = np.nan
    return made


def decoded(made: Stored, weight_max: Array) -> Array:
    """The weights that conductances stand for, ``[inputs, outputs]``: the rule above, read backwards."""
    difference = made.plus - (0.0 if made.minus is None else made.minus) - made.constant[:, None, None]
    held = np.where(np.isnan(difference), 0.0, difference) * made.factor[:, None, None]
    return held.sum(axis=0) * weight_max


def levels_needed(weight_bits: int, slice_bits: int | None, encoding: str) -> int:
    """Equally spaced conductances, both ends counted, that the digits of a weight need on one device."""
    held = weight_bits if encoding == "one-sided" else weight_bits - 1
    top = (1 << min(slice_bits or held, held)) - 1
    return 2 * top + 1 if encoding == "offset" else top + 1


def check(target: Crossbar) -> None:
    """Raise :class:`TargetError` where a device can't hold as many levels as the digits of a weight need."""
    array, device = target.array, target.device
    if array.weight_bits is None or device.levels is None:
        return
    needed = levels_needed(array.weight_bits, array.slice_bits, array.encoding)
    if needed > device.levels:
        cut = f"'slice_bits' {array.slice_bits}" if array.slice_bits else f"'weight_bits' {array.weight_bits} unsliced"
        raise TargetError(
            f"{cut} with encoding '{array.encoding}' needs {needed} levels, more than the device holds "
            f"('device.levels' is {device.levels}).",
            place=target.name,
            hint="Cut weights into smaller slices: 'array.slice_bits'.",
        )


def _analog(matrix: Matrix, block: Array, largest: Array) -> Stored:
    """Any conductance: the weight over the weight at full conductance."""
    relative = block / np.where(largest > 0, largest, 1.0)
    one = np.ones(1)
    if matrix.encoding == "differential":
        return Stored(block[None], np.maximum(relative, 0)[None], np.maximum(-relative, 0)[None], one, 0 * one)
    plus = (1 + relative[None]) / 2
    if matrix.encoding == "offset":
        return Stored(block[None], plus, np.full_like(plus, 0.5), 2 * one, 0 * one)
    return Stored(block[None], plus, None, 2 * one, one / 2)


def _digits(matrix: Matrix, block: Array, largest: Array) -> Stored:
    """Whole numbers on a grid, in digits."""
    bits = matrix.weight_bits or 0
    m = (1 << (bits - 1)) - 1
    step = largest / m
    whole = np.rint(block / np.where(step > 0, step, 1.0)).astype(np.int64)
    biased = matrix.encoding == "one-sided"
    size = np.abs(whole) if not biased else whole + (1 << (bits - 1))
    sign = np.ones_like(whole) if biased else np.sign(whole)
    left = bits if biased else bits - 1
    each = matrix.slice_bits or left
    weight, plus, minus, factor, constant = [], [], [], [], []
    for s in range(matrix.slices):
        width = min(each, left - s * each)
        top, place = (1 << width) - 1, 1 << (s * each)
        digit = (size >> (s * each)) & top
        bias = 1 << (width - 1) if biased and s == matrix.slices - 1 else 0
        signed = (digit * sign - bias).astype(np.float64)
        weight.append(signed * place * step)
        relative = digit * sign / top
        if matrix.encoding == "differential":
            plus.append(np.maximum(relative, 0.0))
            minus.append(np.maximum(-relative, 0.0))
        elif matrix.encoding == "offset":
            plus.append((1 + relative) / 2)
            minus.append(np.full_like(relative, 0.5))
        else:
            plus.append(relative)
        factor.append((2.0 if matrix.encoding == "offset" else 1.0) * top * place / m)
        constant.append(bias / top)
    return Stored(np.stack(weight), np.stack(plus), np.stack(minus) if minus else None,
                  np.array(factor), np.array(constant))  # fmt: skip
