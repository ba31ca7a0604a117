"""What a step executes, instruction by instruction: an emulated board whose model code is watched as it runs.

The board is the same firmware in the same emulator (unicorn, in this process), driven by the same frames. The blocks of
straight code that run in the model's slot are noted with what came after each, so that every executed instruction has
its class (:mod:`neurodeploy.deploy.thumb`) and every branch is known as taken or not. The classes of a step add up to
the number of instructions that the firmware itself counted for it, or :class:`DeviceError` is raised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from neurodeploy.backends import c_build
from neurodeploy.backends.c_toolchain import as_board
from neurodeploy.deploy import emulator, link, thumb
from neurodeploy.deploy.emulator_unicorn import UnicornBoard
from neurodeploy.errors import DeviceError, TargetError
from neurodeploy.hardware import Board


class Cost(NamedTuple):
    """What the price of an instruction depends on.

    ``registers``: words that it loads or stores (of a list). ``skippable``: it depends on the condition of an IT, and
    may have been passed over.
    """

    kind: str
    registers: int = 0
    skippable: bool = False


BRANCHES = ("branch", "branch_if")
#: Classes that end a block of straight code.
LEAVES = (*BRANCHES, "call", "return_by_pop", "load_pc", "table_branch")
#: Executed instructions of one step, by what their price depends on.
Tally = Counter[Cost]
#: A block's address, its bytes, and the address of the block after it (None after the last one of a step).
Passage = tuple[int, int, int | None]


class ProfiledBoard(link.Board):
    """An emulated board that also says what each step executed: ``tallies[stage]``, one for every step in order."""

    def __init__(self, target: str | Board, tool: str | None = None) -> None:
        """Build the firmware and start it. Raises :class:`TargetError` for a board that unicorn doesn't run."""
        board = as_board(target)
        if not board.emulators.unicorn or not board.memory or not board.memory.slot:
            raise TargetError("doesn't run in unicorn, which is needed to watch its code.", place=board.name)
        firmware = c_build.build_firmware(board, tool)
        self._emulated = UnicornBoard(board, firmware.path)
        super().__init__(
            "in this process", ns_per_instruction=emulator.NS_PER_INSTRUCTION, name=board.name,
            line=_Line(self._emulated),
        )  # fmt: skip
        self._emulated.watch(board.memory.slot, self._saw)
        self.emulator = emulator.label("unicorn")
        self.firmware = firmware
        self.tallies: dict[int, list[Tally]] = {}
        self._passages: Counter[Passage] = Counter()
        self._last: tuple[int, int] | None = None
        self._blocks: dict[tuple[int, int], list[tuple[Cost, int]]] = {}
        link.verify(self.ping(), board, firmware)

    def load(self, image: c_build.Image | bytes) -> link.ImageInfo:
        """As of any board; what was noted of an earlier model is forgotten."""
        self.tallies, self._blocks = {}, {}
        return super().load(image)

    def step(
        self, stage: int, inputs: bytes, n: int, *, reset: bool = False, states: bool = False, stack: bool = False
    ) -> link.Steps:
        """As of any board, one step a request, each with its tally."""
        done = link.Steps(stack_bytes=0 if stack else None)
        if reset:
            self.reset(stage)
        size = len(inputs) // n if n else 0
        for at in range(n):
            self._begin()
            one = super().step(stage, inputs[at * size : (at + 1) * size], 1, states=states, stack=stack)
            self.tallies.setdefault(stage, []).append(self._end(one.counts[0]))
            done.outputs += one.outputs
            done.states += one.states
            done.counts += one.counts
            done.stack_bytes = None if one.stack_bytes is None else max(done.stack_bytes or 0, one.stack_bytes)
        return done

    # ------------------------------------------------------------------------------------------------- watching

    def _saw(self, address: int, size_bytes: int) -> None:
        if self._last is not None:
            self._passages[(*self._last, address)] += 1
        self._last = (address, size_bytes)

    def _begin(self) -> None:
        self._passages.clear()
        self._last = None

    def _end(self, counted: int) -> Tally:
        if self._last is not None:
            self._passages[(*self._last, None)] += 1
        tally: Tally = Counter()
        for (address, size_bytes, after), times in self._passages.items():
            falls_through = after == address + size_bytes
            for cost, number in self._block(address, size_bytes):
                tally[_resolved(cost, falls_through)] += number * times
        if tally.total() != counted:
            raise DeviceError(
                f"the watched code has {tally.total()} instructions, the board counted {counted}.", place=self.name,
                hint="Report this with the model; leave out the estimate of cycles meanwhile.",
            )  # fmt: skip
        return tally

    def _block(self, address: int, size_bytes: int) -> list[tuple[Cost, int]]:
        key = address, size_bytes
        if key not in self._blocks:
            code = self._emulated.read(address, size_bytes)
            self._blocks[key] = list(Counter(costs(thumb.instructions(code))).items())
        return self._blocks[key]


def costs(block: list[thumb.Instruction]) -> Iterator[Cost]:
    """What each instruction of a block is; only its last one is a branch."""
    before, left = "", 0
    for instruction in block:
        kind = instruction.kind
        if kind == "load" and before == "load":
            kind = "load_after_load"
        yield Cost(kind, instruction.registers, left > 0)
        left = thumb.skippable(instruction.code) if kind == "if_then" else max(left - 1, 0)
        before = instruction.kind


def _resolved(cost: Cost, falls_through: bool) -> Cost:
    """A branch as it went. What leaves the block under an IT was passed over if the next code ran."""
    if cost.kind == "branch_if" or (cost.skippable and cost.kind in LEAVES):
        kind = "branch_not_taken" if falls_through else "branch_taken" if cost.kind in BRANCHES else cost.kind
        return Cost(kind, 0 if falls_through else cost.registers)
    return Cost("branch_taken") if cost.kind == "branch" else cost


class _Line:
    """The board's serial line as pyserial would show it; the board runs while bytes are written."""

    def __init__(self, board: UnicornBoard) -> None:
        self._board, self._waiting, self.timeout = board, bytearray(), 0.0

    def write(self, data: bytes) -> None:
        self._waiting += self._board.exchange(data)

    def read(self, size: int) -> bytes:
        taken = bytes(self._waiting[:size])
        del self._waiting[:size]
        return taken

    def close(self) -> None:
        self._waiting.clear()
