"""Which boards a network fits: flash, RAM, instructions, cycles, time and energy of a step, for every board at once.

Boards of one core share one build and one run. A board's ``counted_on`` names the emulated board of the same core on
which its instructions are counted and its stack is measured; where that board or the core's published costs are
missing, the figure is unknown and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from neurodeploy import compiler, hardware
from neurodeploy.artifact import Artifact, Figure
from neurodeploy.backends import c_build
from neurodeploy.backends.c import CBackend, model_sources
from neurodeploy.backends.c_sizes import linked_sizes
from neurodeploy.backends.c_toolchain import toolchain
from neurodeploy.descriptions import Timing
from neurodeploy.errors import NeurodeployError, UsageError
from neurodeploy.hardware import Board
from neurodeploy.report import cycles as model

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.deploy.profile import Tally
    from neurodeploy.ir.graph import Program
    from neurodeploy.report.fit_table import FitTable

#: Steps that are run to count instructions: whole samples until there are so many, and at least one.
STEPS = 64


@dataclass(frozen=True)
class Counted:
    """What running on the emulated board of a core gave. ``worst``: of each stage, its dearest step."""

    board: str
    instructions: int
    stack_bytes: int
    steps: int
    worst: tuple[Tally, ...]
    source: str


@dataclass(frozen=True)
class Built:
    """A network compiled for a core: flash and RAM in bytes by name, and what counting gave, or why there is none."""

    sizes: tuple[Figure, ...]
    counted: Counted | str


@dataclass(frozen=True)
class Row:
    """One board. ``figures``: see :data:`neurodeploy.report.fit_table.FIGURES`. ``shortfalls``: bytes that lack."""

    board: str
    title: str
    core: str
    clock_hz: int | None
    flash_available: int
    ram_available: int
    figures: tuple[Figure, ...]
    shortfalls: dict[str, int]
    stack_known: bool
    meets_deadline: bool | None
    classes: dict[str, int]

    def value(self, name: str) -> float | int | None:
        """A figure's value, None where it is unknown."""
        return next(f.value for f in self.figures if f.name == name)

    @property
    def fits(self) -> bool:
        """Whether what is known of its flash and RAM fits."""
        return not self.shortfalls


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
    from neurodeploy.ir.graph import Program
    from neurodeploy.report.fit_table import FitTable

    if period_s is not None and not 0 < period_s < float("inf"):
        raise UsageError(f"the period is {period_s:g} s; needed: more than 0.")
    program = source if isinstance(source, Program) else compiler.load(source)
    found = [hardware.find(name, Board) for name in boards] if boards is not None else _all_boards()
    if not all(board.memory for board in found):
        lacking = next(board.name for board in found if not board.memory)
        raise UsageError(f"'{lacking}' has no memory of a known size to fit.", hint="Leave it out.")
    say = progress or (lambda _: None)
    data = compiler.calibration_data(calibration, program)
    kind = compiler.numerics_of("c", numerics)
    lowered = compiler.prepare(program, "c", kind, data, method=method, progress=say)
    work = _Work(lowered, program, _few(data), toolchain)
    cores = {_core_key(board): board for board in reversed(found)}
    built = {}
    for at, (key, board) in enumerate(reversed(cores.items()), 1):
        say(f"core {at} of {len(cores)}, {board.core.cpu}: compiling")
        sizes = work.sizes(board)
        say(f"core {at} of {len(cores)}, {board.core.cpu}: counting on {board.counted_on or board.name}")
        built[key] = Built(sizes, work.count(board))
    rows = tuple(_row(board, built[_core_key(board)], period_s) for board in found)
    return FitTable(program.name, lowered.numerics, period_s, rows)


def _all_boards() -> list[Board]:
    """The shipped boards that have a memory, real ones first."""
    found = [hardware.find(name, Board) for name in hardware.names("board")]
    return sorted((board for board in found if board.memory), key=lambda board: board.resident)


def _core_key(board: Board) -> str:
    core = board.core.model_dump_json(exclude={"clock_hz", "source"})
    return f"{_counting_board(board)} {core}"


def _counting_board(board: Board) -> str | None:
    return board.counted_on or (board.name if board.resident else None)


def _few(data: Data | None) -> Data | None:
    """The first samples, whole, that have :data:`STEPS` steps together."""
    if data is None:
        return None
    taken, steps = 0, 0
    longest = max((a.shape[1] for a in data.inputs.values() if a.ndim > 1), default=1)
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
        roomy = board.model_copy(update={"memory": None, "resident": False})
        made = self.artifact(roomy)
        known = {f["name"]: f["value"] for f in made.manifest["figures"]}
        parts = [Figure(n, known[n], "B", "compiled", "planned") for n in ("ram_state", "ram_ports", "ram_scratch")]
        try:
            compiled_by = toolchain(board, self.tool)
            roots = [f"{stage['prefix']}_{call}" for stage in _stages(made) for call in ("reset", "step")]
            linked = linked_sizes(model_sources(made), board, roots, compiled_by.name)
        except NeurodeployError as error:
            return (Figure.unknown("flash", "B", str(error)), Figure.unknown("ram_static", "B", str(error)), *parts)
        said = f"linked with what it calls, {compiled_by.label} -O2"
        flash = linked.text + linked.rodata + linked.data
        return (
            Figure("flash", flash, "B", "compiled", said),
            Figure("ram_static", linked.data + linked.bss, "B", "compiled", said),
            *parts,
        )

    def count(self, board: Board) -> Counted | str:
        """Run on the emulated board of the same core; or why that can't be."""
        name = _counting_board(board)
        if name is None:
            return f"no emulated board counts for {board.core.cpu}"
        if self.data is None:
            return "no data to run: give sample inputs"
        try:
            emulated = hardware.find(name, Board) if name != board.name else board
            return _counted(self.artifact(emulated), emulated, self.data, self.tool)
        except NeurodeployError as error:
            return f"not counted on {name}: {error}"


def _stages(artifact: Artifact) -> list[dict[str, str]]:
    return [{"prefix": layout["prefix"]} for layout in artifact.manifest["layout"].values()]


def _counted(artifact: Artifact, board: Board, data: Data, tool: str | None) -> Counted:
    from neurodeploy.deploy.board import BoardRunner, build_image
    from neurodeploy.deploy.profile import ProfiledBoard

    toolname = tool or artifact.manifest.get("toolchain")
    if board.emulators.unicorn:
        with ProfiledBoard(board, toolname) as line:
            trace = BoardRunner().run(artifact, dict(data.inputs), data.lengths, toolchain=toolname, board=line)
            worst = tuple(max(tallies, key=lambda t: t.total()) for tallies in line.tallies.values())
    else:
        trace = BoardRunner().run(artifact, dict(data.inputs), data.lengths, toolchain=toolname)
        worst = ()
    unit = trace.record["device"]["counter"]
    counts = [table for name, table in trace.counters.items() if name.endswith(f".{unit}")]
    stack = next(f.value for f in trace.record["figures"] if f.name == "ram_stack")
    image = build_image(artifact, board, toolname)
    return Counted(
        board=board.name,
        instructions=sum(int(table.max()) for table in counts),
        stack_bytes=int(stack or 0),
        steps=sum(int(s.sum()) for s in trace.steps.values()),
        worst=worst,
        source=f"emulated {board.name}, {trace.record['emulator']}; {image.toolchain} -O2",
    )


# ---------------------------------------------------------------------------------------------------------- rows


def _row(board: Board, built: Built, period_s: float | None) -> Row:
    memory = board.memory
    if memory is None or board.flash_bytes is None or board.ram_bytes is None:
        raise UsageError(f"'{board.name}' has no memory of a known size to fit.", hint="Leave it out.")
    sizes = {f.name: f for f in built.sizes}
    counted = built.counted
    figures = [sizes["flash"], *_ram(sizes, counted)]
    spent: model.Range | str = counted if isinstance(counted, str) else _spent(board, counted)
    if isinstance(counted, str):
        figures.append(Figure.unknown("instructions", "instructions/step", counted))
        classes = {}
    else:
        worst = f"worst of {counted.steps} steps; {counted.source}"
        figures.append(Figure("instructions", counted.instructions, "instructions/step", "measured", worst))
        total = sum(counted.worst, start=type(counted.worst[0])()) if counted.worst else None
        classes = dict(model.by_class(total)) if total else {}
    figures += _estimates(board, spent)
    found = {f.name: f.value for f in figures}
    room = {"flash": board.flash_bytes, "ram": board.ram_bytes}
    short = {kind: int(found[kind] or 0) - have for kind, have in room.items() if (found[kind] or 0) > have}
    return Row(
        board=board.name,
        title=board.title,
        core=board.core.cpu,
        clock_hz=board.core.clock_hz,
        flash_available=board.flash_bytes,
        ram_available=board.ram_bytes,
        figures=tuple(figures),
        shortfalls=short,
        stack_known=not isinstance(counted, str),
        meets_deadline=_meets(found["time_min"], found["time_max"], period_s),
        classes=classes,
    )


def _ram(sizes: dict[str, Figure], counted: Counted | str) -> list[Figure]:
    """RAM as a whole (without the stack's own share where it isn't known), and its parts."""
    static = int(sizes["ram_static"].value or 0)
    parts = sum(int(sizes[name].value or 0) for name in ("ram_state", "ram_ports")) + static
    scratch = int(sizes["ram_scratch"].value or 0)
    shown = [sizes[name] for name in ("ram_state", "ram_ports", "ram_static", "ram_scratch")]
    if isinstance(counted, str):
        total = Figure("ram", parts + scratch, "B", "compiled", f"without calls and saved registers: {counted}")
        return [total, *shown, Figure.unknown("ram_stack", "B", counted)]
    source = f"painted stack, scratch in it; {counted.source}"
    total = Figure("ram", parts + counted.stack_bytes, "B", "measured", f"compiled state, in and out; {source}")
    return [total, *shown, Figure("ram_stack", counted.stack_bytes, "B", "measured", source)]


def timing_of(board: Board) -> Timing | None:
    """A board's published costs: its own, or those of the board of the same core that it is counted on."""
    if board.timing or board.counted_on is None or board.counted_on not in hardware.names("board"):
        return board.timing
    other = hardware.find(board.counted_on, Board)
    return other.timing if other.core.cpu == board.core.cpu else None


def _spent(board: Board, counted: Counted) -> model.Range | str:
    """Cycles of one step of every stage; or why they are unknown."""
    timing = timing_of(board)
    if timing is None:
        return f"no published cycles of {board.core.cpu}"
    if not counted.worst:
        return f"{counted.board} doesn't run in unicorn, which is needed to tell instructions apart"
    try:
        each = [model.cycles(tally, timing) for tally in counted.worst]
    except UsageError as error:
        return str(error)
    return model.Range(sum(r.least for r in each), sum(r.most for r in each))


def _estimates(board: Board, spent: model.Range | str) -> list[Figure]:
    """Cycles, time and energy of a step, least and most."""
    timing, power, clock = timing_of(board), board.power, board.core.clock_hz
    units = {"cycles": "cycles/step", "time": "s/step", "energy": "J/step"}
    why = spent if isinstance(spent, str) else None
    no = {
        "cycles": why,
        "time": why or (None if clock else "no clock"),
        "energy": why or (None if power else "no sourced current of this chip"),
    }
    figures = []
    for name, unit in units.items():
        reason = no[name]
        if reason is not None or isinstance(spent, str) or timing is None:
            figures += [Figure.unknown(f"{name}_{end}", unit, reason or "unknown") for end in ("min", "max")]
            continue
        source = f"{timing.source}; without wait states"
        value = spent
        if name == "time" and clock:
            value, source = model.seconds(spent, clock), f"{source}; {clock / 1e6:g} MHz"
        elif name == "energy" and power:
            value, source = model.joules(spent, power), f"{source}; {power.source}"
        for end, number in (("min", value.least), ("max", value.most)):
            figures.append(Figure(f"{name}_{end}", int(number) if name == "cycles" else number, unit, "estimated", source))
    return figures


def _meets(least: float | None, most: float | None, period_s: float | None) -> bool | None:
    """Whether a step is done in time; None where that isn't known or lies within the estimate."""
    if period_s is None or least is None or most is None:
        return None
    return True if most <= period_s else False if least > period_s else None
