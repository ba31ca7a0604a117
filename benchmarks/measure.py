"""One network on one emulated board with one compiler: built, run, compared with the golden model, counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

import neurodeploy
from neurodeploy import hardware
from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends.c import model_sources
from neurodeploy.backends.c_sizes import linked_sizes, roots
from neurodeploy.backends.c_toolchain import toolchain, toolchains
from neurodeploy.data import Data
from neurodeploy.deploy import emulator, link
from neurodeploy.deploy.board import BoardRunner
from neurodeploy.errors import NeurodeployError
from neurodeploy.hardware import Board
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Program

NO_ASM = b"ND_NO_ASM"


@dataclass(frozen=True)
class Step:
    """What a network takes on a board; bytes and instructions.

    ``instructions``: of the dearest step. ``code``: machine code, linked, with what it calls. ``constants``: tables and
    descriptions of products. ``weights``: of the products, with their biases and multipliers. ``state``, ``ports``: the
    state, and the in and out structures. ``stack``: the deepest that a step painted, with its scratch.
    """

    board: str
    compiler: str
    instructions: int
    code: int
    constants: int
    weights: int
    state: int
    ports: int
    stack: int

    @property
    def flash(self) -> int:
        return self.code + self.constants + self.weights

    @property
    def ram(self) -> int:
        """State, scratch and stack."""
        return self.state + self.stack

    @property
    def ram_in_all(self) -> int:
        """The same, and inputs and outputs."""
        return self.ram + self.ports


@dataclass(frozen=True)
class Measured:
    """A :class:`Step`, with the build and the run that it was taken from."""

    step: Step
    artifact: Artifact
    trace: Trace


def boards() -> list[str]:
    """Boards whose resident firmware runs in an emulator that is installed here."""
    found = [hardware.find(name, Board) for name in hardware.names("board")]
    return [board.name for board in found if board.resident and emulator.available(board)]


def pairs(names: list[str]) -> list[tuple[str, str]]:
    """(board, compiler) for every compiler that is installed, gcc first."""
    return [(name, tool) for name in names for tool in sorted(toolchains(name))]


@contextmanager
def opened(board: str, tool: str) -> Iterator[link.Board]:
    """An emulated board that takes one model after the other."""
    with emulator.open_board(board, tool=tool) as found:
        yield found


def build(
    program: Program, board: str, tool: str, data: Data, *, asm: bool = True, ram: str = "fast",
    tflite: dict[str, str] | None = None,
) -> Artifact:  # fmt: skip
    """The C of a network for a board; ``asm=False`` as with ``-DND_NO_ASM``, for kernels that know it.

    ``tflite``: options of its quantizer, for TFLite's numerics rather than native ones.
    """
    options = {} if tflite is None else {"numerics": "tflite", "quantize": tflite}
    made = neurodeploy.compile(program, board, data, toolchain=tool, costs=False, ram=ram, **options).artifact
    if asm:
        return made
    files = {n: b"#define ND_NO_ASM\n" + f if n in with_switch(made) else f for n, f in made.files.items()}
    return replace(made, files=files)


def with_switch(artifact: Artifact) -> list[str]:
    """The files of a build in which ``ND_NO_ASM`` chooses C instead of assembly."""
    return [name for name, text in artifact.files.items() if name.endswith((".c", ".h")) and NO_ASM in text]


def measure(artifact: Artifact, tool: str, data: Data, on: link.Board | None = None) -> Measured:
    """Run a build on its board and count. Raises :class:`NeurodeployError` if it leaves the golden model."""
    board = hardware.find(artifact.target, Board)
    trace = BoardRunner().run(artifact, dict(data.inputs), data.lengths, toolchain=tool, board=on)
    program = neurodeploy.Built(artifact).program
    golden = interpret.run(program, data.inputs, data.lengths)
    for name, wanted in golden.outputs.items():
        if not np.array_equal(trace.outputs[name], wanted):
            raise NeurodeployError(f"output '{name}' leaves the golden model.", place=f"{program.name}, {board.name}")
    known = {f["name"]: int(f["value"]) for f in artifact.manifest["figures"]}
    ran = {f.name: f.value for f in trace.record["figures"]}
    worst = [int(value or 0) for name, value in ran.items() if name.startswith("instructions_worst")]
    if not worst:
        raise NeurodeployError("its counter does not count instructions.", place=board.name)
    sizes = linked_sizes(model_sources(artifact), board, roots(artifact), tool)
    step = Step(
        board=board.name,
        compiler=toolchain(board, tool).label,
        instructions=sum(worst),
        code=sizes.text,
        constants=sizes.rodata + sizes.data - known["flash_weights"],
        weights=known["flash_weights"],
        state=known["ram_state"],
        ports=known["ram_ports"],
        stack=int(ran["ram_stack"] or 0),
    )
    return Measured(step, artifact, trace)
