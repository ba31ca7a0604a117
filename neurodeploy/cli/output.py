"""What commands print: tables and lines for people, JSON for programs, progress on standard error."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from neurodeploy.compiler import Progress

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """JSON on standard output, and nothing else there."""
    sys.stdout.write(json_module.dumps(value, indent=1, default=str) + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """A table; columns named in ``right`` are numbers."""
    if title:  # rich would wrap a title at the table's own width
        out.print(title, style="bold", markup=False)
    made = Table(box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(made)


def number(value: Any) -> str:
    """A figure's value with thousands apart; ``unknown`` for None."""
    if value is None:
        return "unknown"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return f"{int(value):,}"


@contextmanager
def progress(what: str, quiet: bool = False) -> Iterator[Progress]:
    """A spinner with the current stage of long work, on standard error; nothing where that is no terminal."""
    if quiet or not err.is_terminal:
        yield lambda text: None
        return
    with err.status(what) as status:
        yield lambda text: status.update(f"{what}: {text}")
