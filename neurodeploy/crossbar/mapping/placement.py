"""Which array a tile goes to, and where on it: shelves of tiles, the tallest first.

Word line 0 is nearest to the sense amplifiers and bit line 0 to the drivers, so arrays fill from there. Tiles of one
matrix never share an array: they are read at the same time. Tiles of several matrices may; they are read one after the
other, and lie on cells of their own. The order depends on sizes and on the matrices' order only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from neurodeploy.descriptions_crossbar import Crossbar

if TYPE_CHECKING:
    from neurodeploy.crossbar.mapping.tiles import Matrix


@dataclass
class _Shelf:
    """Tiles side by side from word line ``row`` on; ``column``: the next free bit line."""

    row: int
    height: int
    column: int = 0


@dataclass
class _Array:
    shelves: list[_Shelf] = field(default_factory=list)
    matrices: set[int] = field(default_factory=set)

    def place(self, height: int, width: int, rows: int, columns: int) -> tuple[int, int] | None:
        """Word line and bit line for a tile on the first shelf that has room, or on a new one; None without room."""
        for shelf in self.shelves:
            if height <= shelf.height and shelf.column + width <= columns:
                at = shelf.row, shelf.column
                shelf.column += width
                return at
        top = max((s.row + s.height for s in self.shelves), default=0)
        if top + height > rows:
            return None
        self.shelves.append(_Shelf(top, height, width))
        return top, 0


def placed(matrices: Sequence[Matrix], target: Crossbar, pack: str = "auto") -> tuple[Matrix, ...]:
    """The matrices with their tiles on arrays.

    Arrays are numbered in the order in which the matrices need them.
    """
    sizes = [
        (tile.inputs[1] - tile.inputs[0], matrix.width(tile.outputs[1] - tile.outputs[0]), m, t)
        for m, matrix in enumerate(matrices)
        for t, tile in enumerate(matrix.tiles)
    ]
    count = 0
    free: list[tuple[int, _Array]] = []  # those that may have room
    at: dict[tuple[int, int], tuple[int, int, int]] = {}
    passed: dict[tuple[int, int, int], int] = {}  # tiles of that size and matrix fit none of so many of the free ones
    for height, width, m, t in sorted(sizes, key=lambda s: (-s[0], -s[1], s[2], s[3])):
        found = None
        first = passed.get((height, width, m), 0) if pack != "never" else len(free)
        for i in range(first, len(free)):
            passed[height, width, m] = i + 1
            number, array = free[i]
            spot = None
            if m not in array.matrices:
                spot = array.place(height, width, target.array.rows, target.array.columns)
            if spot is not None:
                array.matrices.add(m)
                found = number, spot[0], spot[1]
                break
        if found is None:
            fresh = _Array(matrices={m})
            fresh.place(height, width, target.array.rows, target.array.columns)
            found = count, 0, 0
            if height < target.array.rows or width < target.array.columns:
                free.append((count, fresh))
            count += 1
        at[m, t] = found
    numbers = {old: new for new, old in enumerate(dict.fromkeys(at[m, t][0] for *_, m, t in sizes))}
    return tuple(
        replace(matrix, tiles=tuple(
            replace(tile, array=numbers[at[m, t][0]], row=at[m, t][1], column=at[m, t][2])
            for t, tile in enumerate(matrix.tiles)
        ))
        for m, matrix in enumerate(matrices)
    )  # fmt: skip
