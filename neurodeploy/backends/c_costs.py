"""What a product costs in each form that its weights can be stored in: one table for each family of kernels.

The numbers are fitted to instructions counted in an emulator by ``benchmarks/storage_costs.py``, which prints them;
what a table was counted with stands beside it. They choose between forms and are printed as estimates, within 11 % of
every shape counted (the worst: five rows); what a step takes is counted when it runs.
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
    each single of a sparse one; ``column``: each column of a dense one, once; ``tile``: each tile of a sparse one.
    ``group``: rows are filled up to a multiple of it.
    """

    call: float
    row: float
    mac: float
    column: float = 0.0
    tile: float = 0.0
    group: int = 1
    code: int = 0

    def dense(self, rows: int, columns: int) -> int:
        """Instructions of a product of ``[rows, columns]``."""
        filled = -(-rows // self.group) * self.group
        return round(self.call + columns * self.column + filled * (self.row + columns * self.mac))

    def sparse(self, rows: int, windows: int, singles: int, tiles: int) -> int:
        """Instructions of a product in the sparse form."""
        return round(self.call + rows * windows * self.row + singles * self.mac + tiles * self.tile)


@dataclass(frozen=True)
class Costs:
    """The costs of a family by form (``i8``, ``i16``, ``i4``, ``sparse``), and what they were counted with."""

    source: str
    forms: Mapping[str, Cost]


ARMV7EM = Costs(
    "mps2-an386, zig 0.17.1 -O2, unicorn 2.1.4",
    {
        "i8": Cost(69.7, 5.79, 0.92, column=0.15, group=4, code=1060),
        "i16": Cost(47.9, 24.2, 2.26, column=0.15, code=134),
        "i4": Cost(78.0, 12.1, 1.06, column=2.27, group=4, code=480),
        "sparse": Cost(59.0, 20.2, 4.22, tile=10.1, code=346),
    },
)
ARMV7M = Costs(
    "mps2-an385, zig 0.17.1 -O2, unicorn 2.1.4",
    {
        "i8": Cost(51.5, 34.1, 4.26, column=0.14, code=258),
        "i16": Cost(51.6, 38.0, 5.02, column=0.14, code=310),
        "i4": Cost(62.5, 37.8, 2.85, group=4, code=426),
        "sparse": Cost(43.8, 45.1, 5.35, tile=16.3, code=434),
    },
)

#: Costs of kernels by the ISA of their core; another's are those of Armv7-M.
_OF_ISA: Mapping[str, Costs] = {"armv7em": ARMV7EM, "armv8m": ARMV7EM, "armv81m": ARMV7EM}


def costs_of(board: Board) -> Costs:
    """The costs of the kernels for a board; those of a Cortex-M3 where nobody has counted."""
    if board.core.isa in ("armv7em", "armv8m") and not board.core.dsp:
        return ARMV7M
    return _OF_ISA.get(board.core.isa, ARMV7M)
