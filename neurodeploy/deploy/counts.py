"""What a step costs on a core, measured: on the emulated board that has it, or on the bare core where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.deploy import profile
from neurodeploy.deploy.board import BoardExecutor, BoardRunner, build_image
from neurodeploy.errors import TargetError
from neurodeploy.hardware import Board
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.ir.graph import Graph


@dataclass(frozen=True)
class Counted:
    """What running on an emulated core gave.

    ``instructions``: of one step, the worst; where there are several stages, of one step of each. ``tallies[stage]``:
    what each step executed, or why that is unknown. ``source``: where it ran, and what it was built with.
    """

    instructions: int
    stack_bytes: int
    steps: int
    tallies: tuple[tuple[profile.Tally, ...], ...] | str
    source: str


def on_board(artifact: Artifact, board: Board, data: Data, tool: str | None) -> Counted:
    """Run on an emulated board and, where unicorn has its core, watch the same run on that.

    Raises :class:`DeviceError` if the two don't count the same, and what the board's runner raises.
    """
    inputs = dict(data.inputs)
    trace = BoardRunner().run(artifact, inputs, data.lengths, toolchain=tool)
    unit = trace.record["device"]["counter"]
    image = build_image(artifact, board, tool)
    tallies: tuple[tuple[profile.Tally, ...], ...] | str
    try:
        found = profile.tallies(artifact, board, image, inputs, data.lengths, trace)
        tallies = tuple(tuple(stage) for stage in found)
    except TargetError as error:
        tallies = str(error)
    tables = [table for name, table in trace.counters.items() if name.endswith(f".{unit}")]
    stack = next(f.value for f in trace.record["figures"] if f.name == "ram_stack")
    return Counted(
        instructions=sum(int(table.max()) for table in tables),
        stack_bytes=int(stack or 0),
        steps=sum(int(steps.sum()) for steps in trace.steps.values()),
        tallies=tallies,
        source=f"emulated {board.name}, {trace.record['emulator']}; {image.toolchain} -O2",
    )


def roomy(board: Board) -> Board:
    """A board that nobody sells: this one's core with the largest slot that a shipped board has."""
    resident = [b for name in hardware.names("board") if (b := hardware.find(name, Board)).memory and b.memory.slot]
    largest = max(resident, key=lambda b: b.memory.slot.size_bytes if b.memory and b.memory.slot else 0)
    return largest.model_copy(update={"core": board.core, "name": f"bare-{board.core.cpu}"})


def on_bare_core(artifact: Artifact, board: Board, data: Data, tool: str | None) -> Counted:
    """Run on the core alone, without a board's firmware. Raises :class:`TargetError` for a core that unicorn hasn't."""
    image = build_image(artifact, board, tool)
    core: Any = profile.BareCore(board, image)
    program = text.from_files(artifact.files, "program")
    names = [stage.name for stage in program.stages]
    engines: dict[str, BoardExecutor] = {}

    def executor(name: str, graph: Graph) -> BoardExecutor:
        engines[name] = BoardExecutor(core, names.index(name), artifact.manifest["layout"][name], graph)
        return engines[name]

    trace = drive(program, dict(data.inputs), data.lengths, executor)
    return Counted(
        instructions=sum(int(engine.count_table().max()) for engine in engines.values()),
        stack_bytes=max(engine.stack_bytes or 0 for engine in engines.values()),
        steps=sum(int(steps.sum()) for steps in trace.steps.values()),
        tallies=tuple(tuple(core.tallies[names.index(name)]) for name in engines),
        source=f"bare {board.core.cpu}, unicorn {version('unicorn')}; {image.toolchain} -O2",
    )
