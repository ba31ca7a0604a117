"""``docs/benchmarks.md`` from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.networks import GATES

if TYPE_CHECKING:
    from benchmarks.bench import Product, Row
    from benchmarks.measure import Step

SHAPE = (8, 32)
REFERENCE = "mps2-an386"
NAMES = {"elman": "Elman", "gru": "GRU", "lstm": "LSTM"}
INTRODUCTION = """\
Written by `make bench` (`python -m benchmarks.bench`). Every step was compared with the golden model, bit for
bit, before it counted. Random weights (seed 0), int8 weights, int16 states. Instructions are *measured* on
emulated boards by their own counters: exact, the same in all emulators, the dearest of 120 steps. **They are
not cycles**: [cycles](cycles.md) are *estimated*. Bytes of flash are *compiled*: linked with what is called,
without start-up code. A stack is *measured*: painted on the emulated board, scratch is in it."""
BESIDE = """\
One step, 8 inputs, 32 units, Cortex-M4F (mps2-an386), -O2. *code* is machine code and constants without the
model's weights, biases and multipliers. *RAM in all* is ours with state, scratch, stack, inputs and outputs; of
the others what their sources below say. *tflite*: [TFLite's numerics in C](kernels.md#tflites-numerics)."""
BOARDS = """\
Instructions a step, inputs x units. *traced* is a PyTorch module of linear layers, sigmoid, tanh and products
that nobody named a GRU, imported op by op; *reset before* multiplies h itself by the reset gate."""
BYTES = """8 inputs, 32 units. *weights* are those of the products, with biases and multipliers."""
VARIANTS = """\
8 inputs, 32 units; RAM is state, scratch and stack. `ram=small` computes in pieces (`--ram small`); without
assembly is `-DND_NO_ASM`, for the families whose kernels have any."""
PRODUCTS = """\
Instructions a multiply-accumulate of `W x + b` with int8 weights and int16 x, rescaled to int16. *alone*: the
kernel with its call, on the bare core in unicorn, where that has the core (`benchmarks/kernels.py`: all kinds
of weights and results); *step*: a whole step of a model that is one product, on the board
(`benchmarks/products.py`)."""
EDGEMARK = """\
32 inputs, 64 units, a dense layer of 32 after the last of 100 steps; ours on the emulated Cortex-M4F, computing
the dense layer in every step. *RAM in all*: state, scratch, stack, inputs and outputs. Time at 120 MHz is
estimated from counted instructions and Arm's table of costs, for memory without wait states ([how, and what
that leaves out](cycles.md))."""
SOURCES = """\
*counted*: once, on the emulated board and with the compiler that count ours (arm-none-eabi-gcc 12.2), not again by
`make bench`. *published*: as their authors print it."""


def grid(head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> list[str]:
    """A Markdown table; columns from ``left`` on stand to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' if i < left else '---:' for i in range(len(head)))}|"]
    return [*lines, *(f"| {' | '.join(shown(cell) for cell in row)} |" for row in rows), ""]


def shown(cell: object) -> str:
    """A cell's text: whole numbers with commas."""
    return f"{cell:,}" if isinstance(cell, int) else "" if cell is None else str(cell)


def page(
    rows: Sequence[Row],
    tflite: Sequence[Row],
    edgemark: Sequence[tuple[str, Step, tuple[float, float] | None]],
    products: Sequence[Product],
    peers: dict[str, Any],
    versions: Sequence[str],
) -> str:
    """The whole page; ``tflite``: a GRU with TFLite's numerics."""
    return "\n".join(
        [
            "# Benchmarks",
            "",
            INTRODUCTION,
            "",
            f"Versions: {'; '.join(versions)}.",
            "",
            "![Instructions, code and RAM of a step, beside the peers'](benchmarks.png)",
            "",
            *_section("Beside others", BESIDE, _beside(rows, tflite, peers)),
            *_section("Every board", BOARDS, _boards(rows)),
            *_section("Bytes", BYTES, _bytes(rows)),
            *_section("Little RAM, no assembly", VARIANTS, _variants(rows)),
            *_section("Products alone", PRODUCTS, _products(products)),
            *_section("EdgeMark's models", EDGEMARK, _edgemark(edgemark, peers)),
            *_section("Sources of the others' figures", *_sources(peers)),
        ]
    )


def _section(title: str, text: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", text, "", *lines]


def _chosen(rows: Sequence[Row], **wanted: object) -> list[Row]:
    return [r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())]


def _beside(rows: Sequence[Row], tflite: Sequence[Row], peers: dict[str, Any]) -> list[str]:
    table = []
    for kind in GATES:
        ours = [r.step for r in _chosen(rows, network=kind, shape=SHAPE, variant="") if r.step.board == REFERENCE]
        best = min(s.instructions for s in ours)
        for s in ours:
            engine = f"neurodeploy, {s.compiler}"
            table.append((NAMES[kind], engine, s.instructions, "", s.code + s.constants, s.ram_in_all, "measured"))
        for label, s in ((r.network, r.step) for r in tflite if r.network.startswith(kind)):
            engine, times = f"neurodeploy, {s.compiler}, {label.split(', ')[1]}", f"{s.instructions / best:.1f}"
            table.append((NAMES[kind], engine, s.instructions, times, s.code + s.constants, s.ram_in_all, "measured"))
        for p in peers["step"]:
            if kind in p["instructions"]:
                count = p["instructions"][kind]
                size, ram = p["code_and_constants_bytes"][kind], p["ram_bytes"][kind]
                table.append((NAMES[kind], p["engine"], count, f"{count / best:.1f}", size, ram, p["how"]))
    head = ("cell", "engine", "instructions", "times our best", "code B", "RAM in all B", "how")
    return grid(head, table, 2)


def _boards(rows: Sequence[Row]) -> list[str]:
    networks = list(dict.fromkeys(r.network for r in rows))
    table = []
    for board, compiler in dict.fromkeys((r.step.board, r.step.compiler) for r in rows):
        for shape in dict.fromkeys(r.shape for r in rows):
            found = {r.network: r.step for r in _of(rows, board, compiler, shape=shape, variant="")}
            counts = (found[n].instructions if n in found else None for n in networks)
            table.append((board, compiler, f"{shape[0]} x {shape[1]}", *counts))
    return grid(("board", "compiler", "shape", *(NAMES.get(n, n) for n in networks)), table, 3)


def _bytes(rows: Sequence[Row]) -> list[str]:
    table = []
    for r in _chosen(rows, shape=SHAPE, variant=""):
        s = r.step
        if r.network in GATES:
            ram = (s.state, s.stack, s.ram, s.ports)
            table.append((s.board, s.compiler, NAMES[r.network], s.code, s.constants, s.weights, *ram))
    head = ("board", "compiler", "cell", "code", "constants", "weights", "state", "stack", "state + stack", "in + out")
    return grid(head, table, 3)


def _variants(rows: Sequence[Row]) -> list[str]:
    table = []
    for board, compiler in dict.fromkeys((r.step.board, r.step.compiler) for r in rows):
        for variant in dict.fromkeys(r.variant for r in rows if r.variant):
            found = {r.network: r.step for r in _of(rows, board, compiler, shape=SHAPE, variant=variant)}
            if found:
                pair = [n for kind in GATES for n in (found[kind].instructions, found[kind].ram)]
                table.append((board, compiler, variant, *pair))
    head = [h for kind in GATES for h in (f"{NAMES[kind]}: instructions", "RAM B")]
    return grid(("board", "compiler", "variant", *head), table, 3)


def _of(rows: Sequence[Row], board: str, compiler: str, **wanted: object) -> list[Row]:
    return [r for r in _chosen(rows, **wanted) if (r.step.board, r.step.compiler) == (board, compiler)]


def _products(rows: Sequence[Product]) -> list[str]:
    columns = sorted({c for r in rows for c in r.costs})
    table = [(r.core, r.compiler, r.what, r.rows, *(f"{r.costs[c]:.2f}" for c in columns)) for r in rows]
    return grid(("core", "compiler", "what", "rows", *(f"{c} columns" for c in columns)), table, 3)


def _sources(peers: dict[str, Any]) -> tuple[str, list[str]]:
    listed = [f"- {p['engine']} ({p['how']}): {p['source']}." for kind in ("step", "edgemark") for p in peers[kind]]
    return SOURCES, [*listed, *(f"- {p['engine']}: {p['why']}." for p in peers["missing"]), ""]


def _edgemark(found: Sequence[tuple[str, Step, tuple[float, float] | None]], peers: dict[str, Any]) -> list[str]:
    table = []
    for kind, s, time in found:
        shown_time = f"{1e3 * time[0]:.0f}-{1e3 * time[1]:.0f} (estimated)" if time else "unknown"
        table.append(
            (NAMES[kind], f"neurodeploy, {s.compiler}", s.flash, s.ram_in_all, 100 * s.instructions, shown_time)
        )
    for p in peers["edgemark"]:
        for kind in p["latency_ms"]:
            flash, ram = 1000 * p["flash_kilobytes"][kind], 1000 * p["ram_kilobytes"][kind]
            table.append((NAMES[kind], p["engine"], flash, ram, None, f"{p['latency_ms'][kind]} ({p['how']})"))
    table.sort(key=lambda row: row[0] != "LSTM")
    head = ("model", "engine", "flash B in all", "RAM B in all", "instructions", "100 steps at 120 MHz, ms")
    return grid(head, table, 2)
