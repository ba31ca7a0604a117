"""``docs/benchmarks.md`` from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.networks import GATES

if TYPE_CHECKING:
    from benchmarks.bench import Row
    from benchmarks.measure import Step

SHAPE = (8, 32)
REFERENCE = "mps2-an386"


def grid(head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> list[str]:
    """A Markdown table; columns from ``left`` on stand to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' if i < left else '---:' for i in range(len(head)))}|"]
    return [*lines, *(f"| {' | '.join(shown(cell) for cell in row)} |" for row in rows), ""]


def shown(cell: object) -> str:
    """A cell's text: whole numbers with commas."""
    return f"{cell:,}" if isinstance(cell, int) else "" if cell is None else str(cell)


def page(
    rows: Sequence[Row],
    edgemark: Sequence[tuple[str, Step, tuple[float, float] | None]],
    matvec: Sequence[tuple[str, str, int, dict[int, float]]],
    peers: dict[str, Any],
    emulators: str,
    python: str,
) -> str:
    """The whole page."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`benchmarks/bench.py`); every step was compared with the golden model, bit for bit, "
        f"before it counted. Instructions are measured in {emulators}; they are the same in all emulators and don't "
        "depend on the machine. **They are not cycles**: [cycles](cycles.md) are estimated. Bytes of code are compiled "
        "and linked with what they call; RAM is state, scratch and stack, the stack painted on the emulated board. "
        "Random weights (seed 0), int8 weights, int16 states.",
        "",
        "![Instructions, code and RAM of a step, beside the peers'](benchmarks.png)",
        "",
        "## Beside others",
        "",
        "One step, 8 inputs, 32 units, Cortex-M4F (mps2-an386), -O2. *code* is machine code and constants without the "
        "model's weights, biases and multipliers.",
        "",
    ]
    lines += _beside(rows, peers)
    lines += ["## Every board", "", "One step, 8 inputs, 32 units; instructions of the dearest step.", ""]
    lines += _boards(rows)
    lines += [
        "## Other shapes, little RAM, no assembly, cells that nobody named",
        "",
        "Cortex-M4F and M7. *traced* cells are PyTorch modules of linear layers, sigmoid, tanh and products.",
        "",
    ]
    lines += _variants(rows)
    lines += [
        "## Products alone",
        "",
        "Instructions a multiply-accumulate of `W x + b` with int8 weights, int16 x, rescaled to int16, with the call "
        "(`benchmarks/kernels.py` has all kinds and shapes; `tests/hardware/test_mve_kernels.py` those of the M55).",
        "",
    ]
    columns = sorted({c for *_, found in matvec for c in found})
    table = [(cpu, tool, n, *(f"{found[c]:.2f}" for c in columns)) for cpu, tool, n, found in matvec]
    lines += grid(("core", "compiler", "rows", *(f"{c} columns" for c in columns)), table, 2)
    lines += [
        "## EdgeMark's models",
        "",
        "32 inputs, 64 units, a dense layer of 32 after the last of 100 steps; Cortex-M4F. Time at 120 MHz is "
        "estimated from counted instructions and Arm's table of costs ([how, and what it leaves out](cycles.md)).",
        "",
    ]
    lines += _edgemark(edgemark, peers)
    lines += ["## Sources of the others' figures", ""]
    lines += [f"- {p['engine']} ({p['how']}): {p['source']}." for kind in ("step", "edgemark") for p in peers[kind]]
    return "\n".join([*lines, "", f"Python {python}.", ""])


def _chosen(rows: Sequence[Row], **wanted: object) -> list[Row]:
    return [r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())]


def _beside(rows: Sequence[Row], peers: dict[str, Any]) -> list[str]:
    table = []
    for kind in GATES:
        ours = [r.step for r in _chosen(rows, network=kind, shape=SHAPE, variant="") if r.step.board == REFERENCE]
        best = min(s.instructions for s in ours)
        for s in ours:
            table.append(
                (kind, f"neurodeploy, {s.compiler}", s.instructions, "", s.code + s.constants, s.ram, "measured")
            )
        for p in peers["step"]:
            if kind in p["instructions"]:
                count = p["instructions"][kind]
                ratio = f"{count / best:.1f} x"
                size, ram = p["code_and_constants_bytes"][kind], p["ram_bytes"][kind]
                table.append((kind, p["engine"], count, ratio, size, ram, p["how"]))
    return grid(("cell", "engine", "instructions", "to our best", "code B", "RAM B", "how"), table, 2)


def _boards(rows: Sequence[Row]) -> list[str]:
    table = []
    for board, compiler in dict.fromkeys((r.step.board, r.step.compiler) for r in rows):
        found = {
            r.network: r.step
            for r in _chosen(rows, shape=SHAPE, variant="")
            if (r.step.board, r.step.compiler) == (board, compiler)
        }
        g = found["gru"]
        counts = [found[kind].instructions for kind in GATES]
        table.append((board, compiler, *counts, g.code + g.constants, g.weights, g.ram))
    head = ("board", "compiler", *(k.upper() if k != "elman" else "Elman" for k in GATES), "GRU: code B", "weights B",
            "RAM B")  # fmt: skip
    return grid(head, table, 2)


def _variants(rows: Sequence[Row]) -> list[str]:
    table = []
    for r in rows:
        if r.step.board not in (REFERENCE, "mps2-an500") or (r.shape == SHAPE and not r.variant and r.network in GATES):
            continue
        s = r.step
        size = f"{r.shape[0]} x {r.shape[1]}"
        table.append((s.board, s.compiler, r.network, size, r.variant, s.instructions, s.code + s.constants, s.ram))
    return grid(("board", "compiler", "cell", "shape", "variant", "instructions", "code B", "RAM B"), table, 5)


def _edgemark(found: Sequence[tuple[str, Step, tuple[float, float] | None]], peers: dict[str, Any]) -> list[str]:
    table = []
    for kind, s, time in found:
        shown_time = f"{1e3 * time[0]:.0f}-{1e3 * time[1]:.0f} (estimated)" if time else "unknown"
        table.append((kind, f"neurodeploy, {s.compiler}", s.flash, s.ram_in_all, 100 * s.instructions, shown_time))
    for p in peers["edgemark"]:
        for kind in p["latency_ms"]:
            flash, ram = 1000 * p["flash_kilobytes"][kind], 1000 * p["ram_kilobytes"][kind]
            table.append((kind, p["engine"], flash, ram, None, f"{p['latency_ms'][kind]} ({p['how']})"))
    table.sort(key=lambda row: row[0] != "lstm")
    head = ("model", "engine", "flash B in all", "RAM B in all", "instructions", "100 steps at 120 MHz, ms")
    return grid(head, table, 2)
