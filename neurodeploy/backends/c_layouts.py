"""In which order each family of kernels wants the constants of a product: one :class:`Layout` a family.

The plain kernels read a matrix row by row. The others read integer weights of 8 bits as one *stream* of 32-bit words in
which weights, biases and multipliers stand in the order of their use; ``nd_affine.h`` of each family in
``firmware/kernels/`` describes its own, and says its number as ``ND_AFFINE_LAYOUT``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from neurodeploy.hardware import Board

#: (weights i8 [rows, columns], bias i32 [rows], multipliers i32 [rows] or None for raw sums) -> words i32.
Stream = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]


@dataclass(frozen=True)
class Layout:
    """How a family of kernels wants its constants and operands.

    ``number``: its ``ND_AFFINE_LAYOUT``. ``columns``: a matrix's columns (and its operand) are filled up with zeros to
    a multiple of this. ``align``: alignment of operands, in elements. ``stream``: the order of a product with i8
    weights; None: row by row. ``minimum``: the least i8 weight that the kernels take; a matrix with a smaller one is
    stored as i16. ``packed``: elementwise loops take two int16 at a time, with the helpers of the family's
    ``nd_fixed.h``. ``nibbles``: the order of weights of 4 bits, ``signed`` or ``lifted``.
    """

    name: str
    number: int
    columns: int = 1
    align: int = 1
    stream: Stream | None = None
    minimum: int = -128
    packed: bool = False
    nibbles: str = "signed"

    @property
    def number4(self) -> int:
        """The ``ND_AFFINE4_LAYOUT`` of its kernels for weights of 4 bits."""
        return {"signed": 1, "lifted": 2}[self.nibbles]


def _pairs(weights: np.ndarray, bias: np.ndarray, mult: np.ndarray | None) -> np.ndarray:
    """See ``firmware/kernels/armv7em/nd_affine.h``."""
    rows, columns = weights.shape
    groups = -(-rows // 4)
    filled = np.zeros((groups * 4, columns), np.int32)
    filled[:rows] = weights
    pairs = (256 * filled[1::2] + filled[0::2]).astype(np.int16)
    tiles = pairs.reshape(groups, 2, columns // 4, 2, 2).transpose(0, 2, 3, 1, 4)  # group, tile, half, pair, column
    words = np.zeros((groups, columns + 10), np.int32)
    words[:, 6 : 6 + columns] = np.ascontiguousarray(tiles).view(np.int32).reshape(groups, columns)
    start = np.zeros(groups * 4, np.int64)
    start[:rows] = bias
    both = 256 * start[1::2] + start[0::2]  # as the sums are kept: 256 S1 + S0 in 64 bits, and S0
    words[:, (0, 3)] = start[0::2].reshape(groups, 2)
    words[:, (1, 4)] = (both & 0xFFFFFFFF).astype(np.uint32).view(np.int32).reshape(groups, 2)
    words[:, (2, 5)] = (both >> 32).reshape(groups, 2)
    if mult is not None:
        last = np.zeros(groups * 4, np.int32)
        last[:rows] = mult
        words[:, -4:] = last.reshape(groups, 4)
    return words


def _groups(least: Mapping[int, int], weights: np.ndarray, bias: np.ndarray, mult: np.ndarray | None) -> np.ndarray:
    """Rows in groups; a group holds the biases of its rows, then their weights (one byte each) column by column with
    zeros up to a whole word, then their multipliers.

    ``least``: size of a group -> with how many rows left there is one; from the greatest to 1. Missing rows are zeros.
    """
    rows = len(weights)
    mult = np.zeros(rows, np.int32) if mult is None else mult
    words: list[np.ndarray] = []
    row = 0
    while row < rows:
        size = next(n for n, needed in least.items() if rows - row >= needed)
        group, missing = slice(row, row + size), max(0, row + size - rows)
        by_column = np.pad(weights[group], ((0, missing), (0, 0))).T.tobytes()
        block = np.frombuffer(by_column + bytes(-len(by_column) % 4), "<i4")
        words += [np.pad(bias[group], (0, missing)), block, np.pad(mult[group], (0, missing))]
        row += size
    return np.concatenate(words).astype(np.int32)


def _eights(weights: np.ndarray, bias: np.ndarray, mult: np.ndarray | None) -> np.ndarray:
    """See ``firmware/kernels/armv7m/nd_affine.h``."""
    return _groups({8: 6, 4: 3, 1: 1}, weights, bias, mult)


def _offsets(weights: np.ndarray, bias: np.ndarray, mult: np.ndarray | None) -> np.ndarray:
    """See ``firmware/kernels/armv6m/nd_affine.h``."""
    lifted = (weights.astype(np.int16) + 128).astype(np.uint8)
    sums = weights.sum(1, dtype=np.int64)
    halves = None if mult is None else _wrapped(mult.astype(np.int64) + ((mult & 0x8000) << 1))
    return _groups({4: 3, 1: 1}, lifted, _wrapped(bias - 32768 * sums), halves)


def _wrapped(values: np.ndarray) -> np.ndarray:
    """The low 32 bits."""
    return (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def _blocks(weights: np.ndarray, bias: np.ndarray, mult: np.ndarray | None) -> np.ndarray:
    """See ``firmware/kernels/armv81m/nd_affine.h``."""
    rows, columns = weights.shape
    single = columns % 16
    starts = np.minimum(np.arange(0, rows, 4), max(rows - 4, 0))
    order = starts[:, None] + np.arange(4)  # group, row; fewer than four rows are filled up

    def grouped(values: np.ndarray) -> np.ndarray:
        filled = np.zeros((max(rows, 4), *values.shape[1:]), values.dtype)
        filled[:rows] = values
        return filled[order]

    tiles = grouped(weights.astype(np.int8))
    blocks = tiles[:, :, single:].reshape(len(order), 4, columns // 16, 16).transpose(0, 2, 1, 3)
    parts = [tiles[:, :, :single].reshape(len(order), -1), blocks.reshape(len(order), -1)]
    words = np.zeros((len(order), columns + 8), np.int32)
    words[:, 4:-4] = np.ascontiguousarray(np.concatenate(parts, axis=1)).view(np.int32)
    folded = bias + 128 * weights[:, single:].sum(axis=1, dtype=np.int64)
    words[:, :4] = grouped(folded.astype(np.int32))  # wraps, as the kernel's sums do
    if mult is not None:
        words[:, -4:] = grouped(mult)
    return words


PLAIN = Layout("plain", 1)
PAIRS = Layout("pairs", 2, columns=4, align=2, stream=_pairs, minimum=-127, packed=True, nibbles="lifted")
BLOCKS = Layout("blocks", 3, columns=8, align=2, stream=_blocks, packed=True, nibbles="lifted")
EIGHTS = Layout("eights", 4, stream=_eights)
OFFSETS = Layout("offsets", 5, stream=_offsets)

LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in (PLAIN, PAIRS, BLOCKS, EIGHTS, OFFSETS)}

#: isa of a core -> the layout of its kernels; others read the plain one.
_OF_ISA: Mapping[str, Layout] = {
    "armv7em": PAIRS,
    "armv8m": PAIRS,
    "armv81m": BLOCKS,
    "armv7m": EIGHTS,
    "armv6m": OFFSETS,
    "rv32": EIGHTS,
}


def layout_of(board: Board) -> Layout:
    """The order of weights that the kernels for a board read."""
    if board.core.isa in ("armv7em", "armv8m") and not board.core.dsp:
        return PLAIN
    return _OF_ISA.get(board.core.isa, PLAIN)
