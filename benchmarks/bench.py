"""``make bench``: every cell on every emulated board with every compiler, beside the peers' figures.

Prints tables, writes ``docs/benchmarks.md`` and its picture. Every step is compared with the golden model, bit for bit,
before it counts. Instructions are exact and don't depend on this machine.

    python -m benchmarks.bench [--pin]

``--pin`` writes the counts that ``tests/hardware/test_pinned_counts.py`` holds builds to, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import platform
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import kernels
from benchmarks.measure import Step, boards, build, measure, opened, pairs
from benchmarks.networks import GATES, cell, edgemark, noise, traced_gru
from neurodeploy import fit, hardware
from neurodeploy.cli.output import out
from neurodeploy.deploy import emulator
from neurodeploy.hardware import Board
from neurodeploy.ir.graph import Program

ROOT = Path(__file__).parent.parent
PINS = ROOT / "tests" / "hardware" / "pinned_counts.json"
PAGE = ROOT / "docs" / "benchmarks.md"
REFERENCE = "mps2-an386"
SHAPE, ODD = (8, 32), (7, 31)
MATVEC_ROWS = (32, 64, 96, 31)


@dataclass(frozen=True)
class Row:
    """A measured step and what was measured."""

    network: str
    shape: tuple[int, int]
    variant: str
    step: Step


def networks(shape: tuple[int, int], traced: bool) -> Iterator[tuple[str, Program]]:
    """The cells of a shape by name; with PyTorch also those that nobody named."""
    for kind in GATES:
        yield kind, cell(kind, *shape)
    if traced:
        yield "traced GRU, reset after", traced_gru(*shape, reset_after=True)
        yield "traced GRU, reset before", traced_gru(*shape, reset_after=False)


def steps() -> list[Row]:
    """Every cell on every board and compiler; on the Cortex-M4 and M7 also the other shape, variants, traced cells."""
    rows = []
    for name, tool in pairs(boards()):
        with opened(name, tool) as on:
            detailed = hardware.find(name, Board).core.cpu in ("cortex-m4", "cortex-m7") and name.startswith("mps2")
            for shape in (SHAPE, ODD) if detailed else (SHAPE,):
                for network, program in networks(shape, detailed):
                    data = noise(program)
                    out.print(f"{name}, {tool}: {network} {shape[0]} x {shape[1]}")
                    variants: list[tuple[str, dict[str, Any]]] = [("", {})]
                    if detailed and network in GATES:
                        variants += [("ram=small", {"ram": "small"}), ("without assembly", {"asm": False})]
                    for variant, options in variants:
                        made = measure(build(program, name, tool, data, **options), tool, data, on)
                        rows.append(Row(network, shape, variant, made.step))
    return rows


def edgemark_rows() -> list[tuple[str, Step, tuple[float, float] | None]]:
    """EdgeMark's models on the reference board, and the estimated seconds of 100 steps on its board at 120 MHz."""
    rows = []
    for kind in ("lstm", "gru"):
        program = edgemark(kind)
        data = noise(program, samples=1, steps=100)
        for tool in sorted(t for n, t in pairs([REFERENCE])):
            out.print(f"EdgeMark {kind}, {tool}")
            with opened(REFERENCE, tool) as on:
                step = measure(build(program, REFERENCE, tool, data), tool, data, on).step
            fitted = fit.fit_boards(program, data, boards=["nucleo-l4r5zi"], toolchain=tool).row("nucleo-l4r5zi")
            low, high = (fitted.figure(f"time_{end}").value for end in ("min", "max"))
            rows.append((kind, step, None if low is None or high is None else (100 * float(low), 100 * float(high))))
    return rows


def matvec_rows() -> list[tuple[str, str, int, dict[int, float]]]:
    """Core, compiler, rows, columns -> instructions a MAC of a product with int8 weights, rescaled to int16."""
    rows = []
    for name in ("microbit", "mps2-an385", "mps2-an386"):
        board = hardware.find(name, Board)
        for _, tool in pairs([name]):
            out.print(f"products, {name}, {tool}")
            found = kernels.counts(board, tool, Namespace(to="i16", weights="i8", no_asm=False))
            for family, count in dict.fromkeys((k[0], k[1]) for k in found):
                if family != "plain" and count in MATVEC_ROWS:
                    by_columns = {c: v for (f, r, c), v in found.items() if (f, r) == (family, count)}
                    rows.append((board.core.cpu, tool, count, by_columns))
    return rows


def pin(rows: list[Row]) -> dict[str, Any]:
    """What the test holds: board -> compiler -> cell -> what it takes."""
    found: dict[str, Any] = {}
    for row in rows:
        if row.variant or row.shape != SHAPE or row.network not in GATES:
            continue
        step = asdict(row.step)
        place = found.setdefault(step.pop("board"), {}).setdefault(step.pop("compiler"), {})
        place[row.network] = step
    return found


def versions() -> str:
    """What a count rests on."""
    board = hardware.find(REFERENCE, Board)
    return ", ".join(emulator.label(name, board) for name in emulator.available(board))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pin", action="store_true", help="write the pinned counts only")
    given = parser.parse_args()
    rows = steps()
    if given.pin:
        PINS.write_text(json.dumps(pin(rows), indent=1) + "\n")
        out.print(f"wrote {PINS.relative_to(ROOT)}")
        return
    from benchmarks import page, picture

    peers = tomllib.loads((Path(__file__).parent / "peers.toml").read_text())
    text = page.page(rows, edgemark_rows(), matvec_rows(), peers, versions(), platform.python_version())
    PAGE.write_text(text)
    picture.draw(rows, peers, ROOT / "docs" / "benchmarks.png")
    out.print(text, markup=False)
    out.print(f"wrote {PAGE.relative_to(ROOT)} and docs/benchmarks.png")


if __name__ == "__main__":
    main()
