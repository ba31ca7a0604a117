"""Instructions of one step of Elman, GRU and LSTM on an emulated board, beside published figures for the same shapes.

Random weights (seed 0; a count does not depend on them), int8 weights, int16 states, ``native`` numerics. Every step is
also compared with the golden model. Counts are exact and equal in both emulators.

    python benchmarks/instructions.py [--target mps2-an386] [--inputs 8] [--units 32]
"""

from __future__ import annotations

import argparse

import numpy as np

import neurodeploy
from neurodeploy import data, hardware
from neurodeploy.backends.c_toolchain import toolchains
from neurodeploy.cli.output import number, table
from neurodeploy.deploy import emulator
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.validate import require_held, validate

GATES = {"elman": 1, "gru": 3, "lstm": 4}
#: TFLite Micro on a Cortex-M4F (mps2-an386, gcc 12.2), 8 inputs, 32 units, int8: (reference kernels, CMSIS-NN).
TFLM = {"elman": (29_851, 22_492), "gru": (98_672, 75_520), "lstm": (80_027, 28_169)}


def network(cell: str, inputs: int, units: int) -> Program:
    """One cell with random weights whose state is the output."""
    rng, b = np.random.default_rng(0), Builder()

    def weights(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    rows = GATES[cell] * units
    x, h = b.input("x", (inputs,)), b.state("h", (units,))
    arguments = [b.param("W", weights(rows, inputs)), b.param("U", weights(rows, units)), b.param("b", weights(rows))]
    if cell == "lstm":
        c = b.state("c", (units,))
        new, new_c = b.call("lstm", x, h, c, *arguments)
        b.next(c, new_c)
    else:
        (new,) = b.call(cell, x, h, *arguments, *([b.param("u", weights(units))] if cell == "gru" else []))
    b.next(h, new)
    b.output("h", new)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    return Program(cell, {"x": ProgramInput(TensorType((inputs,)))}, (stage,), {"h": Ref("h", "main")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="mps2-an386")
    parser.add_argument("--inputs", type=int, default=8)
    parser.add_argument("--units", type=int, default=32)
    args = parser.parse_args()
    board = hardware.find(args.target, hardware.Board)
    samples = np.random.default_rng(1).normal(size=(4, 30, args.inputs)).astype(np.float32)
    rows = []
    for cell in GATES:
        program = network(cell, args.inputs, args.units)
        for tool in toolchains(args.target):
            built = neurodeploy.compile(program, args.target, samples, toolchain=tool)
            sizes = {f["name"]: f["value"] for f in built.artifact.manifest["figures"]}
            for name in emulator.available(args.target):
                run = validate(built, data.arrange(samples, program), on="board", emulator=name).run
                require_held(run)
                found = {f.name: f.value for f in run.figures}
                ours = found["instructions_worst"]
                same = (args.target, args.inputs, args.units) == ("mps2-an386", 8, 32)
                peer = TFLM[cell][1] if same else None
                ratio = f"{peer / ours:.1f}" if peer and ours else ""
                rows.append((cell, f"{tool} -O2", emulator.label(name, board), number(ours), number(sizes["flash"]),
                             number(sizes["ram"]), number(peer) if peer else "", ratio))  # fmt: skip
    columns = ("cell", "compiler", "emulator", "instructions/step", "flash B", "RAM B", "TFLM CMSIS-NN", "ratio")
    table(f"{args.target}, {args.inputs} inputs, {args.units} units", columns, rows, right=columns[3:])


if __name__ == "__main__":
    main()
