"""Targets as data: the TOML files under ``targets/``, their closed schema, and how they are found.

A file describes one thing: a *chip*, or a target (a *board* of a chip, a *crossbar*, a *neuromorphic* simulator or an
*interpreter*). Its name is its file name. Keys carry their unit (``size_bytes``, ``clock_hz``, ``g_max_siemens``), a
table that holds physical numbers names its ``source``, and an unknown key is an error. The only inheritance is board
to chip: a table that the board gives replaces the chip's table of that name as a whole.
"""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neurodeploy.errors import TargetError, nearest

Text = Annotated[str, Field(min_length=1)]
Address = Annotated[int, Field(ge=0, lt=2**32)]
Bytes = Annotated[int, Field(gt=0, le=2**32)]
Hz = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Flags = Annotated[tuple[str, ...], Field(strict=False)]


class Table(BaseModel):
    """A TOML table: no unknown keys, no silent conversions, never changed after it is read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Sourced(Table):
    """A table of physical numbers; ``source`` says where they come from (a paper, a manual, a measurement)."""

    source: Text


# ---------------------------------------------------------------------------------------------- boards and chips


class Core(Sourced):
    """The processor core, and how compilers are told about it.

    ``isa`` picks the folder of optimised kernels; ``zig_target`` and ``zig_cpu`` are ``zig cc``'s ``-target`` and
    ``-mcpu``; ``gcc_flags`` are for arm-none-eabi-gcc (the host's own compiler where ``isa`` is ``host``).
    """

    cpu: Text
    isa: Literal["armv6m", "armv7m", "armv7em", "armv8m", "host"]
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
    and data together), and ``io``, where inputs and outputs pass. No two of them overlap.
    """

    flash: Region
    ram: Region
    slot: Region | None = None
    io: Region | None = None

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        regions = [(name, getattr(self, name)) for name in ("flash", "ram", "slot", "io") if getattr(self, name)]
        for i, (name, region) in enumerate(regions):
            for other_name, other in regions[:i]:
                if region.overlaps(other):
                    raise ValueError(f"'{name}' overlaps '{other_name}'")
        return self


class Uart(Sourced):
    """A polled serial port. ``clock_hz`` is the clock that its divider divides.

    ``rx_irq`` is the number of its receive interrupt, which wakes the sleeping core (it is never taken).
    """

    driver: Literal["cmsdk"]
    base: Address
    clock_hz: Hz
    rx_irq: Annotated[int, Field(ge=0, lt=496)]
    baud: Annotated[int, Field(gt=0)] = 115200


class Timer(Sourced):
    """A free-running hardware counter of ``bits`` bits that ticks at ``clock_hz``."""

    driver: Literal["cmsdk-dual"]
    base: Address
    clock_hz: Hz
    bits: Literal[16, 32] = 32


class Qemu(Table):
    """QEMU's name of the machine; its ``-cpu`` only where the machine leaves a choice."""

    machine: Text
    cpu: Text | None = None


class Unicorn(Table):
    """``cpu`` is unicorn's constant ``UC_CPU_ARM_<cpu>``; ``regions`` are mapped as RAM before the firmware loads."""

    cpu: Annotated[str, Field(pattern=r"^CORTEX_M\w+$")]
    regions: Annotated[tuple[Region, ...], Field(strict=False, min_length=1)]


class Emulators(Table):
    """The emulators that run this board's firmware."""

    qemu: Qemu | None = None
    unicorn: Unicorn | None = None


class Description(Table):
    """What every file says. ``name`` is the file's own name."""

    kind: str
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: Text


class Chip(Description):
    """What boards of one chip share; a board names it and may replace whole tables of it."""

    kind: Literal["chip"]
    core: Core
    port: Text | None = None
    memory: Memory | None = None
    uart: Uart | None = None
    timer: Timer | None = None


class Target(Description):
    """Something that a program can be compiled for; ``backend`` is the one that compiles for it."""

    backend: Text


class Board(Target):
    """A microcontroller board, its chip's tables merged in.

    ``port`` is the folder ``firmware/ports/<port>``. ``resident``: our firmware lives on the board and takes models
    over the serial line; it answers with ``target_id`` (32 bits). Without it the board is for libraries and fit checks.
    """

    kind: Literal["board"]
    backend: Literal["c"]
    chip: Text
    resident: bool
    core: Core
    port: Text | None = None
    target_id: Annotated[int, Field(gt=0, lt=2**32)] | None = None
    memory: Memory | None = None
    uart: Uart | None = None
    timer: Timer | None = None
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
        """Room for a model's state (the slot of a resident board, else the RAM), None if unlimited."""
        if self.memory is None:
            return None
        return (self.memory.slot or self.memory.ram).size_bytes


# ------------------------------------------------------------------------------------------------------ crossbars


class Array(Sourced):
    """One tile: ``rows`` inputs by ``columns`` bit lines; ``differential``: a weight is two devices, g+ and g-."""

    rows: Annotated[int, Field(gt=0)]
    columns: Annotated[int, Field(gt=0)]
    differential: bool


class ProgrammingNoise(Sourced):
    """Standard deviation of a programmed conductance: ``sum_k sd_siemens[k] r^k``, r = g/g_max."""

    sd_siemens: Annotated[tuple[Finite, ...], Field(strict=False, min_length=1)]


class Drift(Sourced):
    """``g(t) = g0 ((t + t0)/t0)^-nu``; nu is normal, its mean and standard deviation clipped lines in ln r.

    ``mean = clip(nu_mean_slope ln r + nu_mean_offset, nu_mean_min, nu_mean_max)``, and so for ``sd``. No units but
    ``t0_s``, in seconds.
    """

    t0_s: Positive
    nu_mean_slope: Finite
    nu_mean_offset: Finite
    nu_mean_min: NonNegative
    nu_mean_max: NonNegative
    nu_sd_slope: Finite
    nu_sd_offset: Finite
    nu_sd_min: NonNegative
    nu_sd_max: NonNegative


class ReadNoise(Sourced):
    """1/f noise: ``sd(t) = g Q sqrt(ln((t + t_read)/(2 t_read)))``, ``Q = min(q_scale / r^q_exponent, q_max)``."""

    q_scale: NonNegative
    q_exponent: Finite
    q_max: NonNegative
    t_read_s: Positive


class Device(Sourced):
    """The memristive device; an absent noise table means that this effect is not modelled."""

    technology: Literal["pcm", "rram", "ideal"]
    g_min_siemens: NonNegative
    g_max_siemens: Positive
    programming: ProgrammingNoise | None = None
    drift: Drift | None = None
    read_noise: ReadNoise | None = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.g_min_siemens >= self.g_max_siemens:
            raise ValueError(f"g_min_siemens {self.g_min_siemens} is not below g_max_siemens {self.g_max_siemens}")
        return self


class ConversionEnergy(Sourced):
    """Energy of one conversion."""

    conversion_joule: Positive


class Converter(Sourced):
    """A DAC or ADC; without ``bits`` it is of infinite precision. Without ``energy`` its energy is unknown."""

    bits: Annotated[int, Field(ge=1, le=24)] | None = None
    energy: ConversionEnergy | None = None


class Cell(Sourced):
    """Area of one device with its selector."""

    area_m2: Positive


class Crossbar(Target):
    """Analog tiles of memristive devices behind converters, simulated."""

    kind: Literal["crossbar"]
    backend: Literal["crossbar"]
    array: Array
    device: Device
    dac: Converter
    adc: Converter
    cell: Cell | None = None


# ------------------------------------------------------------------------------------ spiking, interpreters


class Clock(Sourced):
    """The simulator's time step."""

    dt_s: Positive


class EventEnergy(Sourced):
    """What a chip would pay for the events that the simulator counts; an absent figure is unknown.

    ``device`` names the chip or process. Joules per synaptic operation (an accumulate), per neuron update, per MAC.
    """

    device: Text
    synaptic_operation_joule: Positive | None = None
    neuron_update_joule: Positive | None = None
    mac_joule: Positive | None = None


class Neuromorphic(Target):
    """A spiking simulator. ``method`` says how a network is turned into spikes; ``package`` must be importable."""

    kind: Literal["neuromorphic"]
    backend: Literal["brian2", "snntorch"]
    package: Text
    method: Literal["liquid-state-machine", "sigma-delta"]
    clock: Clock | None = None
    energy: Annotated[tuple[EventEnergy, ...], Field(strict=False)] = ()


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
        "neuromorphic": Neuromorphic,
        "interpreter": Interpreter,
    }
)
FOLDERS = MappingProxyType(
    {
        "chip": "chips",
        "board": "boards",
        "crossbar": "crossbars",
        "neuromorphic": "neuromorphic",
        "interpreter": "interpreters",
    }
)
T = TypeVar("T", bound=Target)

# -------------------------------------------------------------------------------------------- finding and reading


def data_folder(name: str) -> Path:
    """The shipped folder ``"targets"`` or ``"firmware"``: inside an installed wheel, else at the checkout's root."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_data" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise TargetError(
        f"the folder '{name}' is neither in the package ({package / '_data'}) nor beside it.",
        hint="Install neurodeploy again, or run it from a whole checkout.",
    )


def names(kind: str | None = None) -> list[str]:
    """Names of the shipped targets, or of one kind (``"chip"`` too). Raises :class:`TargetError` for another kind."""
    if kind is not None and kind not in KINDS:
        raise TargetError(f"there is no kind of target '{kind}'.", hint=nearest(kind, KINDS))
    kinds = [kind] if kind else [k for k in KINDS if k != "chip"]
    return [path.stem for k in kinds for path in sorted((data_folder("targets") / FOLDERS[k]).glob("*.toml"))]


def files() -> list[Path]:
    """Every shipped file, chips included."""
    return sorted(data_folder("targets").rglob("*.toml"))


def find(name: str, of: type[T] = Target) -> T:
    """The target of that name, or of that path if it ends in ``.toml``.

    ``of`` is the class that the caller needs. Raises :class:`TargetError` that names the nearest target, or says that
    the target is of another kind.
    """
    target = load(name) if name.endswith(".toml") else _shipped(name)
    if not isinstance(target, of):
        wanted = [kind for kind, cls in KINDS.items() if issubclass(cls, of)]
        raise TargetError(
            f"'{name}' is a target of kind '{target.kind}'; needed: {' or '.join(wanted)}.",
            hint=f"There are: {', '.join(n for kind in wanted for n in names(kind))}.",
        )
    return target


@functools.cache
def _shipped(name: str) -> Target:
    for kind in KINDS:
        path = data_folder("targets") / FOLDERS[kind] / f"{name}.toml"
        if kind != "chip" and name in names(kind):
            return load(path)
    if name in names("chip"):
        boards = [board for board in names("board") if find(board, Board).chip == name]
        raise TargetError(f"'{name}' is a chip, not a target.", hint=f"Boards that have it: {', '.join(boards)}.")
    raise TargetError(f"there is no target '{name}'.", hint=nearest(name, names()))


def load(path: str | Path) -> Target:
    """Read and check one target's file. Raises :class:`TargetError` naming the file and the key."""
    described = validate(path)
    if not isinstance(described, Target):
        raise TargetError("describes a chip, not a target.", place=str(path), hint="Write a board that names it.")
    return described


def validate(path: str | Path) -> Description:
    """Read and check any file, a chip's too. Raises :class:`TargetError` naming the file and the key."""
    path = Path(path)
    data = _read(path)
    kind = data.get("kind")
    if "kind" not in data:
        raise TargetError("lacks the key 'kind'.", place=str(path), hint=f"One of: {', '.join(KINDS)}.")
    if not isinstance(kind, str) or kind not in KINDS:
        raise TargetError(f"'kind' is {kind!r}, which doesn't exist.", place=str(path), hint=nearest(str(kind), KINDS))
    _own_keys(path, KINDS[kind], data)
    if kind == "board":
        data = _with_chip(path, data)
    try:
        described = KINDS[kind].model_validate(data)
    except ValidationError as error:
        raise _explain(path, KINDS[kind], error) from None
    if described.name != path.stem:
        raise TargetError(
            f"'name' is '{described.name}', but the file is called '{path.stem}'.",
            place=str(path),
            hint="Make the two equal: a target is found by its file's name.",
        )
    return described


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise TargetError("there is no such file.", place=str(path), hint="See: neurodeploy targets list") from None
    except OSError as error:
        raise TargetError(f"can't be read ({error.strerror}).", place=str(path)) from None
    except UnicodeDecodeError as error:
        raise TargetError(f"is not UTF-8 text (byte {error.start}).", place=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"is not TOML: {error}.", place=str(path)) from None
    except RecursionError:
        raise TargetError("is nested too deeply to be a target.", place=str(path)) from None


def _own_keys(path: Path, model: type[Table], data: dict[str, Any]) -> None:
    """Refuse unknown top-level keys before a chip is merged in, so that the message is about this very file."""
    for key in data:
        if key not in model.model_fields:
            raise _unknown(path, key, model, key)


def _with_chip(path: Path, board: dict[str, Any]) -> dict[str, Any]:
    """The board's tables over its chip's, which lies beside the board's file or among the shipped ones."""
    name = board.get("chip")
    if not isinstance(name, str):
        return board  # the schema says what is wrong with it
    known = names("chip")
    beside = path.parent / f"{name}.toml"
    if name != path.stem and beside.is_file():
        chip_path = beside
    elif name in known:
        chip_path = data_folder("targets") / FOLDERS["chip"] / f"{name}.toml"
    else:
        raise TargetError(f"'chip' is '{name}', which doesn't exist.", place=str(path), hint=nearest(name, known))
    chip = validate(chip_path)
    if not isinstance(chip, Chip):
        raise TargetError(f"'chip' is '{name}', which is a {chip.kind}.", place=str(path), hint=nearest(name, known))
    inherited = _read(chip_path)
    return {key: value for key, value in inherited.items() if key in Board.model_fields} | board


# --------------------------------------------------------------------------------------------------------- errors


def _unknown(path: Path, key: str, model: type[Table], dotted: str) -> TargetError:
    return TargetError(f"has an unknown key '{dotted}'.", place=str(path), hint=nearest(key, model.model_fields))


def _explain(path: Path, model: type[Table], error: ValidationError) -> TargetError:
    """One line for the first thing that is wrong: its dotted key, what was found, what was needed."""
    # A misspelt key is also a missing one: name the spelling, which leads to the other.
    first, *more = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    dotted = ".".join(str(part) for part in first["loc"])
    rest = f" (and {len(more)} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return _unknown(path, str(first["loc"][-1]), _model_at(model, first["loc"][:-1]), dotted)
    if first["type"] == "missing":
        is_source = first["loc"][-1] == "source"
        return TargetError(
            f"lacks the key '{dotted}'.{rest}",
            place=str(path),
            hint="Say where the numbers beside it come from." if is_source else "Add it.",
        )
    reason = first["msg"].removeprefix("Value error, ")
    for wording in ("Input should be", "Input should have", "String should have", "String should", "Tuple should have"):
        reason = reason.replace(wording, "needed:", 1)
    if first["type"] in ("model_type", "tuple_type"):
        reason = "needed: a table" if first["type"] == "model_type" else "needed: a list"
    if first["type"] == "value_error":
        text = f"'{dotted}': {reason}" if dotted else reason
    else:
        text = f"'{dotted}' is {first['input']!r}; {reason}"
    return TargetError(f"{text}.{rest}", place=str(path))


def _model_at(model: type[Table], loc: tuple[int | str, ...]) -> type[Table]:
    """The model of the table at a location, found through optional and repeated tables."""
    for part in loc:
        if isinstance(part, int):
            continue
        model = _table_in(model.model_fields[part].annotation)
    return model


def _table_in(annotation: Any) -> type[Table]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    for inner in get_args(annotation):
        try:
            return _table_in(inner)
        except LookupError:
            continue
    raise LookupError(f"no table in {annotation}")
