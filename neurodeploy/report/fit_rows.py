"""One board's row of the fit table: what its core's build takes, beside what the board has."""

from __future__ import annotations

from dataclasses import dataclass

from neurodeploy import hardware
from neurodeploy.artifact import Figure
from neurodeploy.deploy.counts import Counted
from neurodeploy.deploy.profile import Tally
from neurodeploy.descriptions import Timing
from neurodeploy.errors import TargetError, UsageError
from neurodeploy.hardware import Board
from neurodeploy.report import cycles
from neurodeploy.report.cycles import Range


@dataclass(frozen=True)
class Cost:
    """What a network takes on a core: ``sizes`` in bytes, and what counting gave, or why there is nothing."""

    sizes: tuple[Figure, ...]
    counted: Counted | str


@dataclass(frozen=True)
class Row:
    """One board.

    ``figures``: ``flash``, ``ram`` and its parts, ``instructions``; ``cycles``, ``time`` (s) and ``energy`` (J), each
    with ``_min`` and ``_max``. ``shortfalls``: bytes too many by kind of memory. ``stack_known``: whether ``ram`` has
    the measured stack in it. ``in_time``: None where that is unknown or lies within the estimate. ``classes``:
    instructions of the worst step by class.
    """

    board: str
    title: str
    core: str
    clock_hz: int | None
    flash_available: int
    ram_available: int
    figures: tuple[Figure, ...]
    shortfalls: dict[str, int]
    stack_known: bool
    in_time: bool | None
    classes: dict[str, int]

    def figure(self, name: str) -> Figure:
        """A figure by its name."""
        return next(f for f in self.figures if f.name == name)

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None where what is known does, but not all is known."""
        if self.shortfalls:
            return False
        return True if self.stack_known and self.figure("flash").value is not None else None


def row(board: Board, cost: Cost, period_s: float | None) -> Row:
    """A board's row. Raises :class:`TargetError` for a board without memory."""
    flash, ram = _room(board)
    sizes, counted = {f.name: f for f in cost.sizes}, cost.counted
    figures = [sizes["flash"], *_ram(sizes, counted), _instructions(counted), *_estimates(board, counted)]
    values = {f.name: f.value for f in figures}
    needed = {kind: int(values[kind] or 0) for kind in ("flash", "ram")}
    return Row(
        board=board.name,
        title=board.title,
        core=board.core.cpu,
        clock_hz=board.core.clock_hz,
        flash_available=flash,
        ram_available=ram,
        figures=tuple(figures),
        shortfalls={
            kind: needed[kind] - room for kind, room in {"flash": flash, "ram": ram}.items() if needed[kind] > room
        },
        stack_known=not isinstance(counted, str),
        in_time=_in_time(values["time_min"], values["time_max"], period_s),
        classes=_classes(counted),
    )


def _room(board: Board) -> tuple[int, int]:
    """All of a board's flash and of its RAM: a library takes what the resident firmware divides."""
    memory = board.memory
    if memory is None:
        raise TargetError("has no memory of a known size to fit.", place=board.name, hint="Leave it out.")
    in_flash = [region for region in (memory.slot, memory.io) if region and region.origin == memory.flash.end]
    in_ram = [region for region in (memory.slot, memory.io) if region and region not in in_flash]
    return (
        memory.flash.size_bytes + sum(region.size_bytes for region in in_flash),
        memory.ram.size_bytes + sum(region.size_bytes for region in in_ram),
    )


def _ram(sizes: dict[str, Figure], counted: Counted | str) -> list[Figure]:
    """RAM as a whole, and its parts. Scratch lies on the stack: without a measured one it stands for it."""
    parts = [sizes[name] for name in ("ram_state", "ram_ports", "ram_static")]
    apart = sum(int(figure.value or 0) for figure in parts)
    scratch = sizes["ram_scratch"]
    if isinstance(counted, str):
        said = f"state, in, out and scratch; calls and saved registers are {counted}"
        total = Figure("ram", apart + int(scratch.value or 0), "B", "compiled", said)
        return [total, *parts, scratch, Figure.unknown("ram_stack", "B", counted)]
    stack = Figure("ram_stack", counted.stack_bytes, "B", "measured", f"painted, scratch in it; {counted.source}")
    said = f"state, in and out as compiled; stack {stack.source}"
    return [Figure("ram", apart + counted.stack_bytes, "B", "measured", said), *parts, scratch, stack]


def _instructions(counted: Counted | str) -> Figure:
    if isinstance(counted, str):
        return Figure.unknown("instructions", "instructions/step", counted)
    said = f"worst of {counted.steps} steps; {counted.source}"
    return Figure("instructions", counted.instructions, "instructions/step", "measured", said)


def _classes(counted: Counted | str) -> dict[str, int]:
    """Instructions of the worst step of every stage by class; empty where they can't be told apart."""
    if isinstance(counted, str) or isinstance(counted.tallies, str):
        return {}
    total: Tally = Tally()
    for stage in counted.tallies:
        total += max(stage, key=lambda tally: tally.total())
    return dict(cycles.by_class(total))


def timing_of(board: Board) -> Timing | None:
    """A core's published costs: those that the board's chip states, or else another shipped chip of the same core."""
    if board.timing:
        return board.timing
    others = (hardware.find(name, Board) for name in hardware.names("board"))
    return next((other.timing for other in others if other.core.cpu == board.core.cpu and other.timing), None)


def _estimates(board: Board, counted: Counted | str) -> list[Figure]:
    """Cycles, time and energy of one step of every stage, least and most."""
    spent = _cycles(board, counted)
    timing, power, clock = timing_of(board), board.power, board.core.clock_hz
    figures = []
    for name, unit in (("cycles", "cycles/step"), ("time", "s/step"), ("energy", "J/step")):
        value, why = spent, ""
        said = f"{timing.source}; without wait states" if timing else ""
        if isinstance(value, str):
            value, why = None, value
        elif name == "time":
            value, why = (cycles.seconds(value, clock), "") if clock else (None, "no clock is given")
            said += f"; {(clock or 0) / 1e6:g} MHz"
        elif name == "energy":
            value, why = (cycles.joules(value, power), "") if power else (None, "no sourced current of this chip")
            said += f"; {power.source if power else ''}"
        if value is None:
            figures += [Figure.unknown(f"{name}_{end}", unit, why) for end in ("min", "max")]
        else:
            least, most = (int(n) if name == "cycles" else n for n in value)
            figures.append(Figure(f"{name}_min", least, unit, "estimated", said))
            figures.append(Figure(f"{name}_max", most, unit, "estimated", said))
    return figures


def _cycles(board: Board, counted: Counted | str) -> Range | str:
    """Of the dearest step of every stage, added up; or why they are unknown."""
    timing = timing_of(board)
    if isinstance(counted, str):
        return counted
    if timing is None:
        return f"no published cycles of {board.core.cpu}"
    if isinstance(counted.tallies, str):
        return f"instructions can't be told apart: {counted.tallies}"
    try:
        dearest = [max((cycles.cycles(t, timing) for t in stage), key=lambda r: r.most) for stage in counted.tallies]
    except UsageError as error:
        return str(error)
    return Range(sum(r.least for r in dearest), sum(r.most for r in dearest))


def _in_time(least: float | None, most: float | None, period_s: float | None) -> bool | None:
    if period_s is None or least is None or most is None:
        return None
    return True if most <= period_s else False if least > period_s else None
