"""What a step executes, instruction by instruction: a model's image run on a bare emulated core that is watched.

The image is the one that the resident firmware takes, at the same address; here unicorn calls its functions itself, so
that it needs no board's devices. The blocks of straight code that run are noted with what came after each, so that
every executed instruction has its class (:mod:`neurodeploy.deploy.thumb`) and every branch is known as taken or not.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends.c_build import Image
from neurodeploy.deploy import link, thumb
from neurodeploy.deploy.board import BoardExecutor
from neurodeploy.errors import DeviceError, TargetError, UsageError, require
from neurodeploy.hardware import Board
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph

#: Cores that unicorn has, by the compiler's name for them -> its own.
#: It lacks the M0+, whose instructions are the M0's.
CORES = {"cortex-m0": "CORTEX_M0", "cortex-m0plus": "CORTEX_M0", "cortex-m3": "CORTEX_M3", "cortex-m4": "CORTEX_M4",
         "cortex-m7": "CORTEX_M7", "cortex-m33": "CORTEX_M33"}  # fmt: skip
HEAD = struct.Struct("<5I16s2I")  # nd_image_t before its stages, and one of these (firmware/core/nd_image.h)
STAGE = struct.Struct("<6I")
PAGE = 0x1000
#: State, in and out of the stages, then the stack; a step returns to STOP. No board has its slot there.
WORK, WORK_BYTES, STACK_BYTES, STOP = 0x60000000, 0x1000000, 0x40000, 0x70000000
STACK_TOP, PAINT = WORK + WORK_BYTES, b"\xa5"


class Cost(NamedTuple):
    """What the price of an instruction depends on.

    ``registers``: words that it loads or stores. ``skippable``: it hangs on the condition of an IT, and may have been
    passed over.
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


class BareCore:
    """A model's image on an emulated core and nothing else; steps like :class:`neurodeploy.deploy.link.Board`.

    ``tallies[stage]``: what each step executed, in order.
    """

    def __init__(self, board: Board, image: Image) -> None:
        """Raises :class:`TargetError` for a core that unicorn hasn't."""
        unicorn = require("unicorn", "board", "the emulator 'unicorn'")
        if board.core.cpu not in CORES or not board.memory or not board.memory.slot:
            raise TargetError(f"has the core '{board.core.cpu}', which unicorn doesn't run.", place=board.name)
        self._c, self._slot = unicorn, board.memory.slot
        self._uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(getattr(unicorn.arm_const, f"UC_CPU_ARM_{CORES[board.core.cpu]}"))
        end = -(-self._slot.end // PAGE) * PAGE
        for origin, size in ((self._slot.origin & ~(PAGE - 1), end), (WORK, WORK + WORK_BYTES), (STOP, STOP + PAGE)):
            self._uc.mem_map(origin, size - origin)
        self._uc.mem_write(self._slot.origin, image.data)
        self._uc.hook_add(unicorn.UC_HOOK_BLOCK, self._saw, begin=self._slot.origin, end=self._slot.end - 1)
        n_stages = HEAD.unpack_from(image.data)[4]
        self.stages = [STAGE.unpack_from(image.data, HEAD.size + i * STAGE.size) for i in range(n_stages)]
        self._at: list[tuple[int, int, int]] = []
        free = WORK
        for stage in self.stages:
            places = []
            for size in stage[2:5]:
                places.append(free)
                free += (size + 15) & ~15
            self._at.append((places[0], places[1], places[2]))
        if free > WORK + WORK_BYTES - STACK_BYTES:
            raise TargetError(f"needs {free - WORK} B of states, inputs and outputs.", place=board.name)
        self.tallies: dict[int, list[Tally]] = {}
        self._passages: Counter[Passage] = Counter()
        self._last: tuple[int, int] | None = None
        self._blocks: dict[tuple[int, int], list[tuple[Cost, int]]] = {}

    def reset(self, stage: int = 0) -> None:
        """Put a stage's state back to its initial value."""
        self._call(self.stages[stage][0], self._at[stage][:1])

    def get_state(self, stage: int = 0) -> bytes:
        """A stage's whole state struct."""
        return bytes(self._uc.mem_read(self._at[stage][0], self.stages[stage][2]))

    def set_state(self, stage: int, state: bytes) -> None:
        """Replace a stage's whole state struct."""
        self._uc.mem_write(self._at[stage][0], state)

    def step(self, stage: int, inputs: bytes, n: int, *, reset: bool = False, stack: bool = False) -> link.Steps:
        """Step a stage ``n`` times on ``n`` in structs; with ``stack``, say how deep a step's stack went."""
        in_bytes, out_bytes = self.stages[stage][3:5]
        done = link.Steps(stack_bytes=0 if stack else None)
        if reset:
            self.reset(stage)
        for at in range(n):
            self._uc.mem_write(self._at[stage][1], inputs[at * in_bytes : (at + 1) * in_bytes])
            self._passages.clear()
            if stack:
                self._uc.mem_write(STACK_TOP - STACK_BYTES, PAINT * STACK_BYTES)
            self._call(self.stages[stage][1], self._at[stage])
            tally = self._tally()
            self.tallies.setdefault(stage, []).append(tally)
            done.counts.append(tally.total())
            done.outputs += bytes(self._uc.mem_read(self._at[stage][2], out_bytes))
            if done.stack_bytes is not None:
                painted = bytes(self._uc.mem_read(STACK_TOP - STACK_BYTES, STACK_BYTES))
                done.stack_bytes = max(done.stack_bytes, len(painted.lstrip(PAINT)))
        return done

    def _call(self, function: int, arguments: tuple[int, ...]) -> None:
        regs = self._c.arm_const
        for register, value in zip((regs.UC_ARM_REG_R0, regs.UC_ARM_REG_R1, regs.UC_ARM_REG_R2), arguments):
            self._uc.reg_write(register, value)
        self._uc.reg_write(regs.UC_ARM_REG_SP, STACK_TOP)
        self._uc.reg_write(regs.UC_ARM_REG_LR, STOP | 1)
        self._last = None
        try:
            self._uc.emu_start(function | 1, STOP)
        except self._c.UcError as error:
            raise DeviceError(
                f"the emulated core stopped ({error}).", hint="Run it on the host to find why."
            ) from error

    # ------------------------------------------------------------------------------------------------- watching

    def _saw(self, _uc: Any, address: int, size_bytes: int, _data: Any) -> None:
        if self._last is not None:
            self._passages[(*self._last, address)] += 1
        self._last = (address, size_bytes)

    def _tally(self) -> Tally:
        if self._last is not None:
            self._passages[(*self._last, None)] += 1
        tally: Tally = Counter()
        for (address, size_bytes, after), times in self._passages.items():
            for cost, number in self._block(address, size_bytes):
                tally[resolved(cost, after == address + size_bytes)] += number * times
        return tally

    def _block(self, address: int, size_bytes: int) -> list[tuple[Cost, int]]:
        key = address, size_bytes
        if key not in self._blocks:
            code = bytes(self._uc.mem_read(address, size_bytes))
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


def resolved(cost: Cost, falls_through: bool) -> Cost:
    """A branch as it went. What leaves the block under an IT was passed over if the next code ran."""
    if cost.kind == "branch_if" or (cost.skippable and cost.kind in LEAVES):
        kind = "branch_not_taken" if falls_through else "branch_taken" if cost.kind in BRANCHES else cost.kind
        return Cost(kind, 0 if falls_through else cost.registers)
    return Cost("branch_taken") if cost.kind == "branch" else cost


def tallies(
    artifact: Artifact, board: Board, image: Image, inputs: Mapping[str, np.ndarray], lengths: Any, counted: Trace
) -> list[list[Tally]]:
    """What every step of every stage executed, in the same run as ``counted``, which a board has counted.

    Raises :class:`DeviceError` unless the classes of every step add up to the board's own number for that step, and
    :class:`TargetError` for a core that unicorn hasn't.
    """
    program = text.from_files(artifact.files, "program")
    core = BareCore(board, image)
    names = [stage.name for stage in program.stages]
    engines: dict[str, BoardExecutor] = {}

    def executor(name: str, graph: Graph) -> BoardExecutor:
        bare: Any = core
        engines[name] = BoardExecutor(bare, names.index(name), artifact.manifest["layout"][name], graph)
        return engines[name]

    drive(program, dict(inputs), lengths, executor)
    unit = counted.record["device"]["counter"]
    for name, engine in engines.items():
        ours, theirs = engine.count_table(), counted.counters[f"{name}.{unit}"]
        if not np.array_equal(ours, theirs):
            different = int((ours != theirs).sum()) if ours.shape == theirs.shape else ours.size
            raise DeviceError(
                f"{different} of {ours.size} steps of stage '{name}' have another number of instructions when watched.",
                place=board.name, hint="Report this with the model.",
            )  # fmt: skip
    if not core.tallies:
        raise UsageError("no step was run.", place=artifact.name)
    return [core.tallies[names.index(name)] for name in engines]
