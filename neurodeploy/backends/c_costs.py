"""What a product costs in each form that its weights can be stored in: one table for each family of kernels.

The numbers are fitted to instructions counted in an emulator by ``benchmarks/storage_costs.py``, which prints them;
what a table was counted with stands beside it. They choose between forms and are printed as estimates: a line through
the shapes counted, within 11 % of every one on Armv7E-M and M55, 18 % on M3, 16 % on M0, 25 % on RV32 (the worst: five
rows). What a step takes is counted when it runs.
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
        "i8": Cost(72.9, 10.4, 2.00, column=0.19, group=8, code=1490),
        "i16": Cost(50.3, 24.8, 2.62, column=1.20, code=822),
        "i4": Cost(63.7, 36.0, 2.85, group=4, code=426),
        "sparse": Cost(43.5, 44.2, 5.36, tile=16.3, code=430),
    },
)
ARMV6M = Costs(
    "microbit, zig 0.17.1 -O2, unicorn 2.1.4",
    {
        "i8": Cost(131.9, 29.3, 3.34, column=9.43, code=2426),
        "i16": Cost(21.6, 72.9, 4.42, column=2.68, code=258),
        "i4": Cost(61.8, 72.2, 5.92, group=4, code=474),
        "sparse": Cost(11.4, 90.2, 8.94, tile=32.8, code=486),
    },
)
RV32 = Costs(
    "rv32-virt, zig 0.17.1 -O2, QEMU 7.2",
    {
        "i8": Cost(143.2, 15.8, 3.42, column=1.33, group=4, code=766),
        "i16": Cost(37.4, 37.2, 3.99, column=2.71, code=480),
        "i4": Cost(81.1, 38.4, 4.59, group=4, code=500),
        "sparse": Cost(40.5, 51.8, 7.31, tile=21.3, code=546),
    },
)
ARMV81M = Costs(
    "mps3-an547, zig 0.17.1 -O2, QEMU 7.2",
    {
        "i8": Cost(65.8, 4.27, 0.23, column=0.32, group=4, code=556),
        "i16": Cost(41.4, 9.21, 0.31, column=0.14, group=4, code=296),
        "i4": Cost(62.7, 14.4, 1.03, column=2.36, group=4, code=472),
        "sparse": Cost(56.4, 19.8, 4.22, tile=10.1, code=346),
    },
)

#: Costs of kernels by the ISA of their core; another's are those of Armv7-M.
_OF_ISA: Mapping[str, Costs] = {
    "armv7em": ARMV7EM,
    "armv8m": ARMV7EM,
    "armv81m": ARMV81M,
    "armv7m": ARMV7M,
    "armv6m": ARMV6M,
    "rv32": RV32,
}


def costs_of(board: Board) -> Costs:
    """The costs of the kernels for a board; those of a Cortex-M3 where nobody has counted."""
    if board.core.isa in ("armv7em", "armv8m") and not board.core.dsp:
        return ARMV7M
    return _OF_ISA.get(board.core.isa, ARMV7M)
