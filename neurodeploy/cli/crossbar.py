"""Options of ``compile`` and ``run`` that are for crossbars."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from neurodeploy import hardware, passes
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.cli.output import number
from neurodeploy.errors import UsageError, nearest

#: Keyword arguments of the backend that ``--mapping`` may give; the others are the compiler's own.
_OWN = ("self", "program", "target", "source", "data", "name")


def mapping_options(mapping: str, target: hardware.Target) -> dict[str, Any]:
    """What ``--mapping`` gives the backend. Raises :class:`UsageError` for what it doesn't know."""
    if not isinstance(target, hardware.Crossbar):
        raise UsageError(f"--mapping is for crossbars; '{target.name}' is none.", hint="Leave it out.")
    given = passes.options("--mapping", mapping)
    known = [key for key in inspect.signature(CrossbarBackend.compile).parameters if key not in _OWN]
    for key in given:
        if key not in known:
            hint = nearest(key, known) or f"Known: {', '.join(known)}."
            raise UsageError(f"--mapping has no '{key}'.", hint=hint)
    return given


@contextmanager
def run_options(given: dict[str, Any], runner: str) -> Iterator[dict[str, Any]]:
    """Options of the crossbar's runner from those of the command line; a pool of processes lives as long as they do.

    ``given``: chips, ages, seed, effects, compensate, jobs; None where an option wasn't given. Raises
    :class:`UsageError` for one that is given to another runner.
    """
    stated = {key: value for key, value in given.items() if value is not None}
    if runner != "crossbar":
        if stated:
            option = f"--{next(iter(stated))}"
            raise UsageError(f"{option} is for crossbars; this runs on '{runner}'.", hint=f"Leave {option} out.")
        yield {}
        return
    jobs = stated.pop("jobs", 1)
    for key, name in (("ages", "times"), ("effects", "effects")):
        if key in stated:
            stated[name] = [part.strip() for part in stated.pop(key).split(",") if part.strip()]
    if jobs == 1:
        yield stated
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield {**stated, "spread": pool.map}


def cost_rows(figures: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Figures as a table: columns and rows. A range is one cell, ``low - high``; every further technology is a column.

    ``figures`` are records of :class:`~neurodeploy.artifact.Figure`.
    """
    table: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    nodes: dict[str, None] = {}
    for f in figures:
        name, end = f["name"], ""
        for suffix in (".low", ".high"):
            if name.endswith(suffix):
                name, end = name.removesuffix(suffix), suffix
        name, _, node = name.partition("@")
        nodes.setdefault(node)
        table.setdefault((name, f["unit"], f["how"]), {}).setdefault(node, {})[end] = f["value"]
    others = [node for node in nodes if node]
    rows = []
    for (name, unit, how), cells in table.items():
        shown = [_range(cells.get(node, {})) for node in ("", *others)]
        rows.append((name, *shown, unit, how))
    return ("figure", "value", *(f"at {node}" for node in others), "unit", "how"), rows


def _range(cell: Mapping[str, Any]) -> str:
    if not cell:
        return ""
    if "" in cell:
        return number(cell[""])
    return f"{number(cell.get('.low'))} - {number(cell.get('.high'))}"
