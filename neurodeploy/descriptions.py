"""What a target's file may say: a closed schema, every key with its unit, every physical number with its source.

One class a table; a board names its chip, and :mod:`neurodeploy.hardware` merges the two before the schema sees them.
What is about spiking stands in :mod:`neurodeploy.descriptions_neuromorphic`, what is about memristors in
:mod:`neurodeploy.descriptions_crossbar`, what is about the silicon around them in
:mod:`neurodeploy.descriptions_technology`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_neuromorphic import Neuromorphic, NeuromorphicChip
from neurodeploy.descriptions_technology import CrossbarTechnology
from neurodeploy.tables import (
    Address,
    Bytes,
    Description,
    Flags,
    Hz,
    Positive,
    Sourced,
    Table,
    Target,
    Text,
)

# ---------------------------------------------------------------------------------------------- boards and chips


class Core(Sourced):
    """The processor core, and how compilers are told about it.

    ``isa`` picks the folder of optimised kernels; ``zig_target`` and ``zig_cpu`` are ``zig cc``'s ``-target`` and
    ``-mcpu``; ``gcc_flags`` are for arm-none-eabi-gcc, for riscv64-unknown-elf-gcc where ``isa`` is ``rv32``, for the
    host's own compiler where it is ``host``.
    """

    cpu: Text
    isa: Literal["armv6m", "armv7m", "armv7em", "armv8m", "armv81m", "rv32", "host"]
    fpu: bool
    dsp: bool
    clock_hz: Hz | None = None
    gcc_flags: Flags = ()
    zig_target: Text | None = None
    zig_cpu: Text | None = None


class Region(Table):
    """``size_bytes`` of address space from ``origin``."""

    origin: Address
    size_bytes: Bytes

    @property
    def end(self) -> int:
        """The first address past it."""
        return self.origin + self.size_bytes

    def overlaps(self, other: Region) -> bool:
        """Whether the two share an address."""
        return self.origin < other.end and other.origin < self.end

    @model_validator(mode="after")
    def _within_32_bits(self) -> Self:
        if self.end > 2**32:
            raise ValueError(f"the region ends at {self.end:#x}, past the 32-bit address space")
        return self


class Memory(Sourced):
    """Where things lie. ``flash`` holds the firmware (vector table first), ``ram`` its data and stack.

    A resident board also has ``slot``, where a model image is loaded at run time (it is linked for that address, code
    and data together), and ``io``, where inputs and outputs pass. Where the slot is flash, ``data`` is RAM for a
    model's variables and state. No two of them overlap.
    """

    flash: Region
    ram: Region
    slot: Region | None = None
    io: Region | None = None
    data: Region | None = None

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        names = ("flash", "ram", "slot", "io", "data")
        regions = [(name, getattr(self, name)) for name in names if getattr(self, name)]
        for i, (name, region) in enumerate(regions):
            for other_name, other in regions[:i]:
                if region.overlaps(other):
                    raise ValueError(f"'{name}' overlaps '{other_name}'")
        return self


class Uart(Sourced):
    """A polled serial port. ``clock_hz`` is the clock that its divider divides.

    ``rx_irq`` is the number of its receive interrupt, which wakes the sleeping core (it is never taken). ``tx_pin`` and
    ``rx_pin`` are for chips that route it to any pin.
    """

    driver: Literal["cmsdk", "stm32-usart", "nrf51-uart", "pl011", "ns16550", "sifive-uart"]
    base: Address
    clock_hz: Hz
    rx_irq: Annotated[int, Field(ge=0, lt=496)]
    baud: Annotated[int, Field(gt=0)] = 115200
    tx_pin: Annotated[int, Field(ge=0, lt=256)] | None = None
    rx_pin: Annotated[int, Field(ge=0, lt=256)] | None = None


class Timer(Sourced):
    """A free-running hardware counter of ``bits`` bits that ticks at ``clock_hz``.

    ``minstret`` is RISC-V's own counter of instructions: a register of the core, without a ``base`` or a clock.
    """

    driver: Literal["cmsdk-dual", "sse-counter", "stm32-tim", "nrf51-timer", "stellaris-watchdog", "minstret"]
    base: Address | None = None
    clock_hz: Hz | None = None
    bits: Literal[16, 32] = 32

    @model_validator(mode="after")
    def _clocked(self) -> Self:
        given = [key for key in ("base", "clock_hz") if getattr(self, key) is not None]
        if self.driver == "minstret" and given:
            raise ValueError(f"'minstret' counts instructions: it has no {' and no '.join(map(repr, given))}")
        if self.driver != "minstret" and len(given) < 2:
            raise ValueError(f"'{self.driver}' needs 'base' and 'clock_hz'")
        return self


class EmulatedTimer(Sourced):
    """The clock that an emulator runs a board's timer at."""

    clock_hz: Hz


def _ordered(cycles: tuple[int, int]) -> tuple[int, int]:
    if cycles[0] > cycles[1]:
        raise ValueError(f"{cycles[0]} is more than {cycles[1]}; needed: [least, most]")
    return cycles


Count = Annotated[int, Field(ge=0)]
#: [least, most] cycles of one instruction.
Cycles = Annotated[tuple[Count, Count], Field(strict=False), AfterValidator(_ordered)]


class Timing(Sourced):
    """Cycles of a core's instructions by class, least and most, as its maker publishes them, without wait states.

    Classes are those of :data:`neurodeploy.deploy.thumb.CLASSES`; one that is absent has no published cost. What moves
    a list of registers costs ``per_register`` more for each of them, PC and LR among them.
    """

    alu: Cycles
    multiply: Cycles | None = None
    multiply_add: Cycles | None = None
    multiply_long: Cycles | None = None
    multiply_long_add: Cycles | None = None
    divide: Cycles | None = None
    load: Cycles
    load_after_load: Cycles
    store: Cycles
    store_indexed: Cycles
    load_multiple: Cycles
    store_multiple: Cycles
    per_register: Cycles
    branch_taken: Cycles
    branch_not_taken: Cycles
    call: Cycles
    return_by_pop: Cycles
    load_pc: Cycles | None = None
    table_branch: Cycles | None = None
    if_then: Cycles | None = None
    special: Cycles | None = None
    float: Cycles | None = None
    float_multiply_add: Cycles | None = None
    float_divide: Cycles | None = None
    float_move_pair: Cycles | None = None
    float_load: Cycles | None = None
    float_store: Cycles | None = None


class Power(Sourced):
    """Supply current while the core runs code, at ``volts``: ``amperes_per_hertz`` of its clock."""

    volts: Positive
    amperes_per_hertz: Positive


class Qemu(Table):
    """QEMU's name of the machine; its ``-cpu`` only where the machine leaves a choice.

    An instruction takes ``2^icount_shift`` ns of the machine's time. ``timer`` is given where QEMU runs the board's
    timer at another clock than the board does.
    """

    machine: Text
    cpu: Text | None = None
    icount_shift: Annotated[int, Field(ge=0, le=10)] = 10
    timer: EmulatedTimer | None = None


class Unicorn(Table):
    """``cpu`` is unicorn's constant ``UC_CPU_ARM_<cpu>``; ``regions`` are mapped as RAM before the firmware loads.

    ``ignored`` are pages of registers that the firmware sets up and that don't matter here (clocks, pins): writes go
    nowhere, reads give 1.
    """

    cpu: Annotated[str, Field(pattern=r"^CORTEX_M\w+$")]
    regions: Annotated[tuple[Region, ...], Field(strict=False, min_length=1)]
    ignored: Annotated[tuple[Address, ...], Field(strict=False)] = ()


class Emulators(Table):
    """The emulators that run this board's firmware."""

    qemu: Qemu | None = None
    unicorn: Unicorn | None = None


class Chip(Description):
    """What boards of one chip share; a board names it and may replace whole tables of it.

    ``counted_on``: the resident board, emulated, on which instructions of code for this core are counted.
    """

    kind: Literal["chip"]
    core: Core
    counted_on: Text | None = None
    port: Text | None = None
    memory: Memory | None = None
    uart: Uart | None = None
    timer: Timer | None = None
    timing: Timing | None = None
    power: Power | None = None


class Board(Target):
    """A microcontroller board, its chip's tables merged in.

    ``port`` is the folder ``firmware/ports/<port>``. ``resident``: our firmware lives on the board and takes models
    over the serial line; it answers with ``target_id`` (32 bits). Without it the board is for libraries and fit checks.
    ``max_payload_bytes`` is the most that one frame carries; the firmware's RAM holds two of that size.
    """

    kind: Literal["board"]
    backend: Literal["c"]
    chip: Text
    resident: bool
    core: Core
    counted_on: Text | None = None
    port: Text | None = None
    target_id: Annotated[int, Field(gt=0, lt=2**32)] | None = None
    max_payload_bytes: Annotated[int, Field(ge=256, le=4096, multiple_of=4)] = 4096
    memory: Memory | None = None
    uart: Uart | None = None
    timer: Timer | None = None
    timing: Timing | None = None
    power: Power | None = None
    emulators: Emulators = Emulators()

    @model_validator(mode="after")
    def _resident_has_all(self) -> Self:
        if not self.resident:
            return self
        lacks = [key for key in ("port", "target_id", "memory", "uart", "timer") if getattr(self, key) is None]
        if self.memory:
            lacks += [f"memory.{key}" for key in ("slot", "io") if getattr(self.memory, key) is None]
        if not (self.emulators.qemu or self.emulators.unicorn):
            lacks.append("emulators")
        if lacks:
            raise ValueError(f"a resident board needs {', '.join(repr(key) for key in lacks)}")
        return self

    @property
    def flash_bytes(self) -> int | None:
        """Room for a model's code and constants (the slot of a resident board, else the flash), None if unlimited."""
        if self.memory is None:
            return None
        return (self.memory.slot or self.memory.flash).size_bytes

    @property
    def ram_bytes(self) -> int | None:
        """Room for a model's state (the slot of a resident board or its ``data``, else the RAM), None if unlimited."""
        if self.memory is None:
            return None
        return (self.memory.data or self.memory.slot or self.memory.ram).size_bytes


# ------------------------------------------------------------------------------------------------------ interpreters


class Interpreter(Target):
    """A software interpreter of a model file; ``package`` is the Python package that carries it."""

    kind: Literal["interpreter"]
    backend: Literal["tflite"]
    package: Text


KINDS = MappingProxyType(
    {
        "chip": Chip,
        "board": Board,
        "crossbar": Crossbar,
        "crossbar-technology": CrossbarTechnology,
        "neuromorphic": Neuromorphic,
        "neuromorphic-chip": NeuromorphicChip,
        "interpreter": Interpreter,
    }
)
FOLDERS = MappingProxyType(
    {
        "chip": "chips",
        "board": "boards",
        "crossbar": "crossbars",
        "crossbar-technology": "crossbar-technologies",
        "neuromorphic": "neuromorphic",
        "neuromorphic-chip": "neuromorphic-chips",
        "interpreter": "interpreters",
    }
)
