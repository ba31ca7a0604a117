"""Which boards a network fits: flash, RAM, instructions, cycles, time and energy of a step, for every board at once.

Boards of one core share one build and one run. A board's ``counted_on`` names the emulated board of the same core on
which its instructions are counted and its stack is measured. Where that board is missing or too small, the bare core
serves; where unicorn hasn't that either, the figures are unknown and say why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from neurodeploy import compiler, hardware
from neurodeploy.artifact import Artifact, Figure
from neurodeploy.backends.c import CBackend, model_sources
from neurodeploy.backends.c_sizes import linked_sizes, roots
from neurodeploy.backends.c_toolchain import toolchain as find_toolchain
from neurodeploy.deploy import counts
from neurodeploy.deploy.counts import Counted
from neurodeploy.errors import DeviceError, MissingExtraError, NeurodeployError, TargetError, UsageError
from neurodeploy.hardware import Board
from neurodeploy.ir.graph import Program
from neurodeploy.report.fit_rows import Cost, row
from neurodeploy.report.fit_table import FitTable

if TYPE_CHECKING:
    from neurodeploy.data import Data

#: Steps that are run to count instructions: whole samples until there are so many, and at least one.
STEPS = 64


def fit_boards(
    source: Any,
    calibration: Any = None,
    *,
    boards: Sequence[str] | None = None,
    period_s: float | None = None,
    numerics: str | None = None,
    method: str = "minmax",
    toolchain: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> FitTable:
    """The fit table of a network.

    ``source``: a program, or what :func:`neurodeploy.load` takes. ``calibration``: sample inputs as for
    :func:`neurodeploy.compile`; the first of them are run to count instructions. ``boards``: names or ``.toml`` paths;
    by default every shipped board. ``period_s``: a step's deadline in seconds. ``toolchain``: the C compiler, by
    default each core's first that is installed. Raises :class:`UsageError` and its kin.
    """
    if period_s is not None and not 0 < period_s < float("inf"):
        raise UsageError(f"the period is {period_s:g} s; needed: a time above 0.")
    found = [hardware.find(name, Board) for name in boards] if boards is not None else _all_boards()
    for board in found:
        if board.memory is None:
            raise TargetError("has no memory of a known size to fit.", place=board.name, hint="Leave it out.")
        if toolchain is not None:
            with suppress(MissingExtraError):  # then that board's figures are unknown
                find_toolchain(board, toolchain)
    program = source if isinstance(source, Program) else compiler.load(source)
    say = progress or (lambda _: None)
    data = compiler.calibration_of(calibration, None, None, program)
    numerics = compiler.numerics_of("c", numerics, program)
    lowered = compiler.prepare(program, "c", numerics, data, method=method, progress=say)
    work = _Work(lowered, program, _few(data), toolchain)
    cores: dict[str, list[Board]] = {}
    for board in found:
        cores.setdefault(_core_key(board), []).append(board)
    costs: dict[str, Cost] = {}
    for at, (key, alike) in enumerate(cores.items(), 1):
        what = f"core {at} of {len(cores)}, {alike[0].core.cpu} of {', '.join(board.name for board in alike)}"
        say(f"{what}: compiling")
        sizes = work.sizes(alike[0])
        say(f"{what}: counting on {_counting_board(alike[0])}")
        costs[key] = Cost(sizes, work.count(alike[0]))
    rows = tuple(row(board, costs[_core_key(board)], period_s) for board in found)
    return FitTable(program.name, lowered.numerics, period_s, rows)


def _all_boards() -> list[Board]:
    """The shipped boards that have a memory, real ones first."""
    found = [hardware.find(name, Board) for name in hardware.names("board")]
    return sorted((board for board in found if board.memory), key=lambda board: board.resident)


def _core_key(board: Board) -> str:
    """What decides which machine code a board runs, and where that is counted."""
    core = board.core.model_dump_json(exclude={"clock_hz", "source"})
    return f"{_counting_board(board)} {core}"


def _counting_board(board: Board) -> str | None:
    return board.counted_on or (board.name if board.resident else None)


def _find_counting(board: Board) -> Board | str:
    name = _counting_board(board)
    if name is None:
        return "its chip names no board in 'counted_on'"
    try:
        return board if name == board.name else hardware.find(name, Board)
    except TargetError:
        return f"{name} is not among the targets"


def _few(data: Data | None) -> Data | None:
    """The first samples, whole, that have :data:`STEPS` steps together."""
    if data is None:
        return None
    longest = max((array.shape[1] for array in data.inputs.values() if array.ndim > 1), default=1)
    taken = steps = 0
    while taken < data.samples and steps < STEPS:
        steps += longest if data.lengths is None else int(data.lengths[taken])
        taken += 1
    return data.first(max(taken, 1))


@dataclass(frozen=True)
class _Work:
    """A program to build and run for one core after the other."""

    program: Program
    source: Program
    data: Data | None
    tool: str | None

    def artifact(self, board: Board) -> Artifact:
        made = CBackend().compile(self.program, board, source=self.source)
        return replace(made, files={**made.files, **hardware.carried(board)})

    def sizes(self, board: Board) -> tuple[Figure, ...]:
        """Flash and RAM of the program on a core, whatever the board has."""
        made = self.artifact(board.model_copy(update={"memory": None, "resident": False}))
        known = {f["name"]: Figure(**f) for f in made.manifest["figures"]}
        parts = [known[name] for name in ("ram_state", "ram_ports", "ram_scratch")]
        try:
            tool = find_toolchain(board, self.tool)
            linked = linked_sizes(model_sources(made), board, roots(made), tool.name)
        except NeurodeployError as error:
            return (*(Figure.unknown(name, "B", str(error)) for name in ("flash", "ram_static")), *parts)
        said = f"linked with what it calls, {tool.label} -O2"
        flash = linked.text + linked.rodata + linked.data
        return (
            Figure("flash", flash, "B", "compiled", said),
            Figure("ram_static", linked.data + linked.bss, "B", "compiled", said),
            *parts,
        )

    def count(self, board: Board) -> Counted | str:
        """Run on the emulated board of the same core, or on the bare core; or why that can't be."""
        if self.data is None:
            return "without sample inputs nothing was run"
        emulated = _find_counting(board)
        why = emulated if isinstance(emulated, str) else ""
        if isinstance(emulated, Board):
            try:
                return counts.on_board(self.artifact(emulated), emulated, self.data, self.tool)
            except DeviceError as error:
                return f"not counted on {emulated.name}: {error}"
            except NeurodeployError as error:
                why = f"not on {emulated.name}: {error}"
        try:
            bare = counts.roomy(board)
            found = counts.on_bare_core(self.artifact(bare), bare, self.data, self.tool)
            return replace(found, source=f"{found.source} ({why})")
        except NeurodeployError as error:
            return f"not counted: {why}; {error}"
