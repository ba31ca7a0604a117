"""``.tflite`` files that others made on an emulated board: what a step takes in our C.

Each file is read, compiled for the board and run on random inputs; integers must be the golden model's, floats near
it. Instructions are counted in the emulator, the dearest step's; RAM is state, inputs, outputs and the deepest stack.

    python -m benchmarks.tflite_files FILE... [--board mps2-an386] [--steps 4]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurodeploy import compiler
from neurodeploy.backends import runner
from neurodeploy.cli.output import number, table
from neurodeploy.errors import NeurodeployError
from neurodeploy.importers import load
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Program

#: Floats of C and of the golden model differ by less than this, relative to the largest output.
CLOSE = 1e-4


@dataclass(frozen=True)
class Cost:
    """A step on a board: multiply-accumulates, instructions, bytes of flash and RAM, the largest difference."""

    macs: int
    instructions: int
    flash: int
    ram: int
    apart: float


def cost(program: Program, given: dict[str, np.ndarray], board: str) -> Cost:
    """Compile a program, run it on the board, compare it with the golden model.

    ``given``: series ``[1, steps, ...]`` by input. Raises :class:`SystemExit` where the board gives something else.
    """
    numerics = "float" if program.numerics == "float" else None
    built = compiler.compile(program, board, numerics=numerics)
    trace, apart = runner("board").run(built.artifact, given), 0.0
    for name, wanted in interpret.run(built.program, given).outputs.items():
        found = np.asarray(trace.outputs[name], np.float64)
        apart = max(apart, float(np.abs(found - wanted).max()))
        if apart > (CLOSE * max(float(np.abs(wanted).max()), 1e-3) if wanted.dtype.kind == "f" else 0):
            raise SystemExit(f"{program.name}: the board's output '{name}' isn't the golden model's.")
    sizes = {figure["name"]: figure["value"] for figure in built.artifact.manifest["figures"]}
    stack = next(figure.value for figure in trace.record["figures"] if figure.name == "ram_stack")
    counts = max(int(counts.max()) for key, counts in trace.counters.items() if key.endswith(".instructions"))
    ram = sizes["ram_state"] + sizes["ram_ports"] + int(stack or 0)  # a step's scratch is on the stack
    return Cost(sizes["macs"], counts, sizes["flash"], ram, apart)


def drawn(program: Program, steps: int) -> dict[str, np.ndarray]:
    """Random inputs: integers of their whole range, floats of a normal distribution."""
    rng, found = np.random.default_rng(0), {}
    for name, spec in program.inputs.items():
        shape, dtype = (1, steps, *spec.type.shape), np.dtype(spec.type.numpy)
        if dtype.kind == "f":
            found[name] = rng.normal(size=shape).astype(dtype)
        elif dtype.kind == "b":
            found[name] = rng.integers(0, 2, shape).astype(bool)
        else:
            found[name] = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--board", default="mps2-an386")
    parser.add_argument("--steps", default=4, type=int)
    options = parser.parse_args()
    rows = []
    for path in options.files:
        try:
            program = load(path, check=False)
            found = cost(program, drawn(program, options.steps), options.board)
        except NeurodeployError as error:
            rows.append((path.stem, str(error)[:100], *[""] * 5))
            continue
        same = "bits" if program.numerics == "tflite" and not found.apart else f"{found.apart:.1e}"
        each = f"{found.instructions / max(found.macs, 1):.2f}"
        counts = (found.macs, found.instructions), (found.flash, found.ram)
        rows.append((path.stem, *map(number, counts[0]), each, *map(number, counts[1]), same))
    columns = ("file", "MAC/step", "instructions/step", "per MAC", "flash, B", "RAM, B", "board to model")
    table(f"Files on {options.board}", columns, rows, right=columns[1:6])


if __name__ == "__main__":
    main()
