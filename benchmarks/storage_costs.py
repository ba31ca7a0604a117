"""What the kernels of a family cost in each form of storage: the rows of ``neurodeploy/backends/c_costs.py``.

Counts instructions of one step of single products (i16 results) on an emulated board, for shapes that differ in rows,
columns, singles and tiles, and fits the table's line to them by least squares of the relative error, with the ``group``
that fits best. ``code`` is what the linked image has of functions that are neither the model's own nor memcpy and
memset.

    python benchmarks/storage_costs.py [--target mps2-an386] [--toolchain gcc]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from neurodeploy import hardware
from neurodeploy.backends import backend, c_build, runner
from neurodeploy.backends.c_storage import FORMS, WINDOW, tiles_and_singles
from neurodeploy.cli.output import table
from neurodeploy.deploy import emulator
from neurodeploy.deploy.board import build_image
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage

DENSE = [(4, 8), (8, 8), (4, 40), (16, 24), (32, 40), (64, 20), (100, 112), (12, 128), (5, 40), (7, 24), (34, 64)]
#: rows, columns, singles and tiles of a row.
SPARSE = [(4, 16, 2, 0), (16, 64, 3, 1), (16, 128, 10, 0), (16, 128, 0, 12), (100, 112, 10, 3), (32, 256, 25, 2),
          (24, 512, 21, 4), (64, 40, 5, 3)]  # fmt: skip


def matrices(form: str) -> list[np.ndarray]:
    """Weights that have the form."""
    rng = np.random.default_rng(0)
    if form == "sparse":
        made = []
        for rows, columns, singles, tiles in SPARSE:
            w = np.zeros((rows, columns // 4, 4), np.int16)
            for row in w:
                places = rng.permutation(len(row))
                row[places[:tiles]] = 5
                row[places[tiles : tiles + singles], 1] = -3
            made.append(w.reshape(rows, columns).astype(np.int8))
        return made
    top, dtype = {"i8": (127, np.int8), "i16": (200, np.int16), "i4": (7, np.int8)}[form]
    made = [rng.integers(-top, top + 1, shape) for shape in DENSE]
    for w in made:
        w[0, 0] = top  # so that an i16 matrix isn't one of i8
    return [w.astype(dtype) for w in made]


def program(weights: Sequence[np.ndarray]) -> Program:
    """A stage for every product."""
    stages, inputs = [], {}
    for i, w in enumerate(weights):
        b = Builder()
        x = b.input("x", (w.shape[1],), "i16")
        bias = b.param("bias", np.zeros(len(w), np.int32))
        (y,) = b.call("affine", b.param("w", w), x, bias)
        b.output("y", b("requantize", y, b.param("m", np.full(len(w), 1 << 25, np.int32)), to="i16"))
        graph = b.graph()
        inputs[f"x{i}"] = ProgramInput(graph.inputs["x"])
        stages.append(Stage(f"s{i}", graph, inputs_from={"x": Ref(f"x{i}")}))
    return Program(
        "products", inputs, tuple(stages), {f"y{i}": Ref("y", f"s{i}") for i in range(len(weights))}, "native"
    )


def features(form: str, w: np.ndarray, group: int) -> list[float]:
    """What the table's numbers are multiplied by: call, row, mac, column, tile."""
    rows, columns = w.shape
    if form == "sparse":
        tiles, singles = tiles_and_singles(w)
        return [1, rows * -(-columns // WINDOW), singles.sum(), 0, tiles.sum()]
    filled = -(-rows // group) * group
    return [1, filled, filled * columns, columns, 0]


def solve(rows: np.ndarray) -> np.ndarray:
    """The least squares of ``rows @ numbers = 1``."""
    return np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]


def fitted(form: str, weights: Sequence[np.ndarray], counts: np.ndarray) -> tuple[float, int, np.ndarray]:
    """The worst relative error, the group, and the numbers of :func:`features`."""
    tried = []
    for group in (1, 4, 8):
        rows = np.array([features(form, w, group) for w in weights])
        solved = solve(rows / counts[:, None])
        if solved.min() < 0:  # a line that begins below nothing: without what takes it there
            solved = solve(np.where(solved < 0, 0, rows) / counts[:, None])
        tried.append((float(np.abs(rows @ solved / counts - 1).max()), group, solved))
    return min(tried, key=lambda found: (round(found[0], 3), found[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="mps2-an386")
    parser.add_argument("--toolchain")
    args = parser.parse_args()
    board = hardware.find(args.target, hardware.Board)
    tool = c_build.toolchain(board, args.toolchain)
    rows = []
    for form in FORMS:
        weights = matrices(form)
        counts, symbols = np.zeros(0), {}
        for first in range(0, len(weights), c_build.MAX_STAGES):
            part = weights[first : first + c_build.MAX_STAGES]
            artifact = backend("c").compile(program(part), board, storage=form)  # type: ignore[call-arg]
            data = {f"x{i}": np.full((1, 1, w.shape[1]), 100, np.int16) for i, w in enumerate(part)}
            trace = runner("board").run(artifact, data, toolchain=tool.name)
            counts = np.append(counts, [trace.counters[f"s{i}.instructions"].max() for i in range(len(part))])
            symbols = build_image(artifact, board, tool.name).sizes.symbols
        worst, group, solved = fitted(form, weights, counts)
        code = sum(n for s, (kind, n) in symbols.items() if kind == "text" and not s.startswith(("products", "mem")))
        rows.append((form, *(f"{v:.2f}" for v in solved), group, code, f"{100 * worst:.1f} %"))
    title = f"{board.name}, {tool.label} -O2, {emulator.label(emulator.available(board)[0], board)}"
    table(title, ("form", "call", "row", "mac", "column", "tile", "group", "code B", "worst error"), rows)


if __name__ == "__main__":
    main()
