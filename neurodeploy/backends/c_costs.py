"""What a product costs in each form that its weights can be stored in: one table for each family of kernels.

The numbers are fitted to instructions counted in an emulator by ``benchmarks/storage_costs.py``, which prints this
file's rows; what a row was counted with stands beside it. They choose between forms and are printed as estimates; what a
step takes is counted when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurodeploy.hardware import Board


@dataclass(frozen=True)
class Cost:
    """Instructions of a kernel that gives i16, and its code in bytes.

    ``call``; ``row``: each row, and in the sparse form each window of it; ``mac``: each product of a dense matrix or
    each single of a sparse one; ``tile``: each tile of a sparse one. ``group``: rows are filled up to a multiple of it.
    """

    call: float
    row: float
    mac: float
    tile: float = 0.0
    group: int = 1
    code: int = 0

    def dense(self, rows: int, columns: int) -> int:
        """Instructions of a product of ``[rows, columns]``."""
        filled = -(-rows // self.group) * self.group
        return round(self.call + filled * (self.row + columns * self.mac))

    def sparse(self, rows: int, windows: int, singles: int, tiles: int) -> int:
        """Instructions of a product in the sparse form."""
        return round(self.call + rows * windows * self.row + singles * self.mac + tiles * self.tile)


@dataclass(frozen=True)
class Costs:
    """The costs of a family by form (``i8``, ``i16``, ``i4``, ``sparse``), and what they were counted with."""

    source: str
    forms: Mapping[str, Cost]


ARMV7EM = Costs(
    "mps2-an386",
    {
        "i8": Cost(60, 14, 1.0, group=4, code=500),
        "i16": Cost(30, 20, 1.2, code=200),
        "i4": Cost(90, 16, 1.1, group=4, code=600),
        "sparse": Cost(40, 40, 4.75, 9, code=400),
    },
)
ARMV7M = Costs(
    "mps2-an385",
    {
        "i8": Cost(30, 20, 5, code=100),
        "i16": Cost(30, 20, 5, code=100),
        "i4": Cost(30, 20, 5, code=100),
        "sparse": Cost(40, 40, 4.75, 14, code=400),
    },
)

_OF_ISA: Mapping[str, Costs] = {"armv7em": ARMV7EM, "armv8m": ARMV7EM, "armv81m": ARMV7EM}


def costs_of(board: Board) -> Costs:
    """The costs of the kernels for a board; those of a Cortex-M3 where nobody has counted."""
    if board.core.isa in ("armv7em", "armv8m") and not board.core.dsp:
        return ARMV7M
    return _OF_ISA.get(board.core.isa, ARMV7M)
