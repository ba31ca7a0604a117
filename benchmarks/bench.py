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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import kernels, products
from benchmarks.measure import Step, boards, build, measure, opened, pairs, with_switch
from benchmarks.networks import GATES, TFLITE, cell, edgemark, noise, traced_gru
from neurodeploy import fit, hardware
from neurodeploy.backends.c_layouts import PLAIN
from neurodeploy.backends.c_toolchain import toolchain
from neurodeploy.cli.output import out
from neurodeploy.deploy import emulator
from neurodeploy.errors import TargetError
from neurodeploy.hardware import Board
from neurodeploy.ir.graph import Program
from neurodeploy.version import release

ROOT = Path(__file__).parent.parent
PINS = ROOT / "tests" / "hardware" / "pinned_counts.json"
PAGE = ROOT / "docs" / "benchmarks.md"
REFERENCE = "mps2-an386"
SHAPE, ODD = (8, 32), (7, 31)
TRACED = ("GRU traced, reset after", "GRU traced, reset before")
NO_ASM = "without assembly"
VARIANTS: dict[str, dict[str, Any]] = {"": {}, "ram=small": {"ram": "small"}, NO_ASM: {"asm": False}}
PRODUCT_ROWS = (32, 96)


@dataclass(frozen=True)
class Row:
    """A measured step and what was measured."""

    network: str
    shape: tuple[int, int]
    variant: str
    step: Step


def networks(shape: tuple[int, int]) -> Iterator[tuple[str, Program]]:
    """The cells of a shape by name, and those that nobody named."""
    for kind in GATES:
        yield kind, cell(kind, *shape)
    yield TRACED[0], traced_gru(*shape, reset_after=True)
    yield TRACED[1], traced_gru(*shape, reset_after=False)


def steps(only_pins: bool = False) -> list[Row]:
    """Every cell and shape on every board and compiler; for the named ones also with little RAM and without assembly.

    ``only_pins``: what :func:`pin` takes, and nothing else.
    """
    rows = []
    made = {s: list(networks(s)) for s in (SHAPE, ODD)} if not only_pins else {}
    wanted = made or {SHAPE: [(kind, cell(kind, *SHAPE)) for kind in GATES]}
    cases = pairs(boards())
    for number, (name, tool) in enumerate(cases, 1):
        out.print(f"board {number} of {len(cases)}: {name}, {tool}")
        with opened(name, tool) as on:
            for shape, found in wanted.items():
                for network, program in found:
                    data = noise(program)
                    for variant, options in VARIANTS.items():
                        if variant and (only_pins or shape != SHAPE or network not in GATES):
                            continue
                        artifact = build(program, name, tool, data, **options)
                        if variant == NO_ASM and not with_switch(artifact):
                            continue  # this family's kernels are C already
                        rows.append(Row(network, shape, variant, measure(artifact, tool, data, on).step))
    return rows


def tflite_steps() -> list[Row]:
    """A GRU with TFLite's numerics on the reference board."""
    rows, program = [], cell("gru", *SHAPE)
    data = noise(program)
    for name, tool in pairs([REFERENCE] if REFERENCE in boards() else []):
        with opened(name, tool) as on:
            for label, options in TFLITE.items():
                artifact = build(program, name, tool, data, tflite=options)
                rows.append(Row(label, SHAPE, "", measure(artifact, tool, data, on).step))
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


@dataclass(frozen=True)
class Product:
    """Instructions a multiply-accumulate by columns: of a kernel ``alone`` with its call, or of a whole ``step``."""

    core: str
    compiler: str
    what: str
    rows: int
    costs: dict[int, float]


def product_rows() -> list[Product]:
    """Products on one board of every core, as steps; where unicorn has the core also of the kernel alone."""
    roomy = sorted((hardware.find(name, Board) for name in boards()), key=lambda board: board.flash_bytes or 0)
    rows, cores = [], {board.core.cpu: board.name for board in roomy}
    shapes = [(r, c) for r in PRODUCT_ROWS for c in products.COLUMNS]
    for cpu, name in sorted(cores.items()):
        for _, tool in pairs([name]):
            out.print(f"products: {name}, {tool}")
            label = toolchain(name, tool).label
            try:
                with opened(name, tool) as on:
                    parts = [products.costs([s for s in shapes if s[0] == r], name, tool, on) for r in PRODUCT_ROWS]
            except TargetError as error:
                out.print(f"left out: {error}", markup=False)
                continue
            by_what = {"step": {shape: value for part in parts for shape, value in part.items()}}
            with suppress(TargetError):  # no such core in unicorn
                found = kernels.counts(hardware.find(name, Board), tool, shapes)
                by_what["alone"] = {(r, c): v for (family, r, c), v in found.items() if family != PLAIN.name}
            for what in sorted(by_what):
                for r in PRODUCT_ROWS:
                    costs = {c: value for (count, c), value in by_what[what].items() if count == r}
                    rows.append(Product(cpu, label, what, r, costs))
    return rows


def pin(rows: list[Row], before: dict[str, Any]) -> dict[str, Any]:
    """What the test holds: board -> compiler -> cell -> what it takes.

    Of ``before`` stays what could not be counted here: boards without an emulator, compilers that aren't installed.
    """
    found = {board: dict(compilers) for board, compilers in before.items()}
    for row in rows:
        if row.variant or row.shape != SHAPE or row.network not in (*GATES, *TFLITE):
            continue
        step = asdict(row.step)
        place, compiler = found.setdefault(step.pop("board"), {}), step.pop("compiler")
        for older in [label for label in place if label.split()[0] == compiler.split()[0] and label != compiler]:
            del place[older]
        place[compiler] = {**place.get(compiler, {}), row.network: step}
    return {board: dict(sorted(found[board].items())) for board in sorted(found)}


def versions() -> list[str]:
    """What counts rest on: emulators and compilers, each with its version."""
    found: dict[str, None] = {}
    for name, tool in pairs(boards()):
        board = hardware.find(name, Board)
        found |= dict.fromkeys(emulator.label(e, board).partition(" shift=")[0] for e in emulator.available(board))
        compiler = toolchain(board, tool)
        found[f"{Path(compiler.command[0]).name} {compiler.version} -O2"] = None
    return [*sorted(found), f"neurodeploy {release()}", f"Python {platform.python_version()}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pin", action="store_true", help="write the pinned counts only")
    given = parser.parse_args()
    rows = steps(given.pin)
    if given.pin:
        rows += tflite_steps()
        PINS.write_text(json.dumps(pin(rows, json.loads(PINS.read_text())), indent=1) + "\n")
        out.print(f"wrote {PINS.relative_to(ROOT)}")
        return
    from benchmarks import page, picture

    peers = tomllib.loads((Path(__file__).parent / "peers.toml").read_text())
    text = page.page(rows, tflite_steps(), edgemark_rows(), product_rows(), peers, versions())
    PAGE.write_text(text)
    picture.draw(rows, peers, ROOT / "docs" / "benchmarks.png")
    out.print(text, markup=False)
    out.print(f"wrote {PAGE.relative_to(ROOT)} and docs/benchmarks.png")


if __name__ == "__main__":
    main()
