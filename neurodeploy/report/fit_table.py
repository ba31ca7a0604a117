"""The fit table as a value: rows for people (Markdown, the command line) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodeploy.artifact import Figure
from neurodeploy.errors import UsageError
from neurodeploy.report.fit_rows import Row
from neurodeploy.report.records import write_whole

SCHEMA_VERSION = 1
ENDINGS = (".json", ".md")
ASSUMED = (
    "Cycles, time and energy are estimates, from least to most: counted instructions times the core's published costs, "
    "with code and data in memory without wait states. Stated currents are the chip's, not the board's."
)


@dataclass(frozen=True)
class FitTable:
    """A network's fit table: ``rows``, one a board; ``period_s``: a step's deadline, if one was given."""

    model: str
    numerics: str
    period_s: float | None
    rows: tuple[Row, ...]

    def row(self, board: str) -> Row:
        """The row of a board."""
        return next(row for row in self.rows if row.board == board)

    # -------------------------------------------------------------------------------------------------- writing

    def write(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.md``, whole or not at all. Raises :class:`UsageError` for another ending."""
        path = Path(path)
        text = self.to_markdown() if checked_ending(path) == ".md" else json.dumps(self.to_json(), indent=1) + "\n"
        try:
            write_whole(path, text)
        except OSError as error:
            raise UsageError(f"can't be written ({error.strerror}).", place=str(path)) from error
        return path

    def to_json(self) -> dict[str, Any]:
        """Everything, with how each figure was got and its source; bytes, seconds and joules."""
        return {
            "schema": SCHEMA_VERSION,
            "model": self.model,
            "numerics": self.numerics,
            "period_s": self.period_s,
            "boards": [_row_json(row) for row in self.rows],
        }

    def to_markdown(self) -> str:
        """The table and its notes."""
        head = self.columns()
        title = f"# {self.model} on every board, {self.numerics} numerics"
        lines = [title, "", _line(head), _line(["---:" if name in self.numbers() else "---" for name in head])]
        lines += [_line(cells) for cells in self.cells()]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes()), ""])

    # ---------------------------------------------------------------------------------------------------- cells

    def columns(self) -> list[str]:
        """Headings, each with how its figures were got and their unit."""
        deadline = [] if self.period_s is None else [f"in {self.period_s * 1e3:g} ms"]
        return [
            "board", "core", "MHz", "flash B (compiled)", "of KiB", "RAM B (compiled, stack measured)", "of KiB",
            "instructions (measured)", "time us (estimated)", "energy uJ (estimated)", "fits",
            *deadline,
        ]  # fmt: skip

    def numbers(self) -> list[str]:
        """The headings of columns of numbers."""
        return self.columns()[2:10]

    def cells(self) -> list[list[str]]:
        """One list a board, as :meth:`columns`."""
        return [self._cells(row) for row in self.rows]

    def _cells(self, row: Row) -> list[str]:
        ram = _number(row.figure("ram")) + ("" if row.stack_known else " + stack")
        deadline = [] if self.period_s is None else [_verdict(row)]
        return [
            row.board, row.core, f"{row.clock_hz / 1e6:g}" if row.clock_hz else "",
            _number(row.figure("flash")), f"{row.flash_available / 1024:,g}", ram, f"{row.ram_available / 1024:,g}",
            _number(row.figure("instructions")), _range(row, "time", 1e6),
            _range(row, "energy", 1e6), fits(row), *deadline,
        ]  # fmt: skip

    def notes(self) -> list[str]:
        """What is unknown and why, once for all boards that share it; and what the estimates assume."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            for name, key in UNKNOWNS.items():
                figure = row.figure(key)
                if figure.value is None:
                    reasons.setdefault((row.board, figure.source), []).append(name)
        grouped: dict[tuple[str, str], list[str]] = {}
        for (board, why), names in reasons.items():
            grouped.setdefault((", ".join(names), why), []).append(board)
        unknown = [f"{names} unknown on {', '.join(boards)}: {why}" for (names, why), boards in grouped.items()]
        return [*unknown, ASSUMED]


#: What a note calls a figure that is unknown.
UNKNOWNS = {"flash": "flash", "stack": "ram_stack", "instructions": "instructions", "cycles": "cycles_max",
            "time": "time_max", "energy": "energy_max"}  # fmt: skip


def fits(row: Row) -> str:
    """Yes; no and by how much; or what isn't known."""
    if row.shortfalls:
        names = {"flash": "flash", "ram": "RAM"}
        return "no: " + ", ".join(f"{n:,} B of {names[kind]} too much" for kind, n in row.shortfalls.items())
    missing = [what for what, known in (("flash", row.figure("flash").value is not None), ("stack", row.stack_known))
               if not known]  # fmt: skip
    return f"yes, but for the {' and '.join(missing)}" if missing else "yes"


def checked_ending(path: Path) -> str:
    """The ending of a file that a table can be written to. Raises :class:`UsageError` for another."""
    if path.suffix not in ENDINGS:
        raise UsageError(
            f"ends in '{path.suffix}'; needed: {' or '.join(ENDINGS)}.", place=str(path), hint="Choose another -o."
        )
    return path.suffix


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "board": row.board,
        "title": row.title,
        "core": row.core,
        "clock_hz": row.clock_hz,
        "flash_available": row.flash_available,
        "ram_available": row.ram_available,
        "fits": row.fits,
        "shortfalls": row.shortfalls,
        "in_time": row.in_time,
        "figures": [vars(figure) for figure in row.figures],
        "classes": row.classes,
    }


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(figure: Figure) -> str:
    return "unknown" if figure.value is None else f"{int(figure.value):,}"


def _range(row: Row, name: str, factor: float) -> str:
    least, most = row.figure(f"{name}_min").value, row.figure(f"{name}_max").value
    if least is None or most is None:
        return "unknown"
    shown = [f"{n * factor:,.0f}" if n * factor >= 1000 else f"{n * factor:.3g}" for n in (least, most)]
    return shown[0] if shown[0] == shown[1] else "-".join(shown)


def _verdict(row: Row) -> str:
    if row.in_time is None and row.figure("time_max").value is not None:
        return "within the estimate"
    return {True: "yes", False: "no", None: "unknown"}[row.in_time]
