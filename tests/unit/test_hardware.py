"""Targets as data: every shipped file is valid, and every broken one is refused with one exact line."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodeploy import descriptions, hardware
from neurodeploy.descriptions import Board, Crossbar, Interpreter, Neuromorphic, Sourced, Table, Target
from neurodeploy.errors import TargetError, nearest

FILES = hardware.files()
RESIDENT = [name for name in hardware.names("board") if hardware.find(name, Board).resident]
IN_UNICORN = [name for name in RESIDENT if hardware.find(name, Board).emulators.unicorn]

CHIP = """\
kind = "chip"
name = "m0"
title = "A Cortex-M0"

[core]
cpu = "cortex-m0"
isa = "armv6m"
fpu = false
dsp = false
clock_hz = 48_000_000
source = "a manual"
"""

BOARD = """\
kind = "board"
name = "mine"
title = "My board"
chip = "cortex-m4f-mps2"
backend = "c"
resident = true
target_id = 0x1

[memory]
flash = { origin = 0x0, size_bytes = 0x1000 }
ram = { origin = 0x20000000, size_bytes = 0x1000 }
slot = { origin = 0x20001000, size_bytes = 0x1000 }
io = { origin = 0x20002000, size_bytes = 0x1000 }
source = "a manual"

[emulators.qemu]
machine = "mps2-an386"
"""


def refusal(path: Path, text: str | bytes) -> str:
    """The message that a file with this text is refused with, its folder left out."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(TargetError) as caught:
        hardware.validate(path)
    return str(caught.value).replace(f"{path.parent}/", "")


# ------------------------------------------------------------------------------------------------- what is shipped


def test_there_are_shipped_files():
    assert len(FILES) >= 15
    assert set(hardware.names("board")) >= {
        "mps2-an385",
        "mps2-an386",
        "mps2-an500",
        "mps2-an505",
        "mps3-an547",
        "host",
    }
    assert set(hardware.names("crossbar")) >= {"pcm-128", "ideal-128"}
    assert set(hardware.names("crossbar-technology")) >= {"cmos-22nm", "cmos-32nm"}
    assert set(hardware.names("neuromorphic")) >= {"brian2-lsm", "snntorch-sigma-delta"}
    assert set(hardware.names("neuromorphic-chip")) >= {"loihi", "loihi-2", "spinnaker2", "truenorth", "cmos-45nm"}
    assert "tflm" in hardware.names("interpreter")
    assert len(RESIDENT) >= 4
    assert set(hardware.names("board")) >= {
        "arduino-nano-33-ble", "esp32-c3-devkitm-1", "nrf52840-dk", "nucleo-f072rb", "nucleo-f411re", "nucleo-f446re",
        "nucleo-h743zi", "nucleo-l4r5zi", "nucleo-l552ze-q", "raspberry-pi-pico", "stm32f4-discovery",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(hardware.names("board")) - set(RESIDENT) - {"host"}))
def test_a_library_board_says_what_fitting_needs(name: str):
    board = hardware.find(name, Board)
    assert board.memory and board.core.clock_hz and board.core.zig_cpu and board.core.gcc_flags
    assert board.counted_on
    if board.counted_on in hardware.names("board"):
        other = hardware.find(board.counted_on, Board)
        assert other.resident
        assert (other.core.isa, other.core.fpu, other.core.dsp) == (board.core.isa, board.core.fpu, board.core.dsp)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("alu = [2, 1]", "mine.toml: 'timing.alu': 2 is more than 1; needed: [least, most]"),
        ("alu = [1]", "mine.toml: lacks the key 'timing.alu.1'"),
        ("alu = [1, -1]", "mine.toml: 'timing.alu.1' is -1; needed: greater than or equal to 0"),
        (
            "alu = [1, 1]\nmultiplies = [1, 1]",
            "mine.toml: has an unknown key 'timing.multiplies'. Did you mean 'multiply'?",
        ),
    ],
)
def test_a_broken_timing_is_refused(tmp_path: Path, found: str, message: str):
    whole = (hardware.data_folder("targets") / "chips" / "stm32f072rb.toml").read_text()
    table = whole[whole.index("[timing]") :].replace("alu = [1, 1]", found, 1)
    assert message in refusal(tmp_path / "mine.toml", f"{BOARD}\n{table}")


@pytest.mark.parametrize("key", ["volts", "amperes_per_hertz", "source"])
def test_a_power_table_is_whole(tmp_path: Path, key: str):
    rows = {"volts": "3.0", "amperes_per_hertz": "5e-11", "source": '"a data sheet"'}
    table = "\n".join(f"{name} = {value}" for name, value in rows.items() if name != key)
    assert f"lacks the key 'power.{key}'" in refusal(tmp_path / "mine.toml", f"{BOARD}\n[power]\n{table}\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_file(path: Path):
    described = hardware.validate(path)
    assert path.parent.name == descriptions.FOLDERS[described.kind]
    assert isinstance(described, Target) == (described.kind not in ("chip", "neuromorphic-chip", "crossbar-technology"))
    if isinstance(described, Target):
        assert hardware.find(described.name) == described
        assert described.name in hardware.names(described.kind)


def test_names_and_target_ids_are_unique():
    stems = [path.stem for path in FILES]
    assert len(set(stems)) == len(stems)
    ids = [hardware.find(name, Board).target_id for name in RESIDENT]
    assert len(set(ids)) == len(ids)


def test_every_chip_has_a_board():
    used = {hardware.find(name, Board).chip for name in hardware.names("board")}
    assert used == set(hardware.names("chip"))


def test_every_resident_board_runs_in_qemu_and_most_in_unicorn():
    assert all(hardware.find(name, Board).emulators.qemu for name in RESIDENT)
    assert len(IN_UNICORN) >= 4


@pytest.mark.parametrize("name", IN_UNICORN)
def test_unicorn_maps_what_the_firmware_uses(name: str):
    board = hardware.find(name, Board)
    assert board.memory and board.memory.slot and board.memory.io and board.uart and board.timer
    assert board.emulators.unicorn
    mapped, memory = board.emulators.unicorn.regions, board.memory
    for region in filter(None, (memory.flash, memory.ram, memory.slot, memory.io, memory.data)):
        assert any(m.origin <= region.origin and region.end <= m.end for m in mapped)
    pages = [base & ~4095 for base in (board.uart.base, board.timer.base or 0, *board.emulators.unicorn.ignored)]
    for page in pages:
        assert not any(m.origin <= page < m.end for m in mapped)
    assert len(set(pages)) == len(pages)


def test_unicorn_has_most_boards():
    assert len(IN_UNICORN) >= 7
    assert {hardware.find(name, Board).core.isa for name in set(RESIDENT) - set(IN_UNICORN)} == {"armv81m", "rv32"}


@pytest.mark.parametrize("name", hardware.names("board"))
def test_a_boards_port_has_its_source(name: str):
    board = hardware.find(name, Board)
    if board.port is not None:
        assert (hardware.data_folder("firmware") / "ports" / board.port).is_dir()


def test_a_board_has_its_chips_tables():
    board = hardware.find("mps2-an386", Board)
    assert (board.core.cpu, board.core.isa, board.core.fpu, board.core.dsp) == ("cortex-m4", "armv7em", True, True)
    assert board.timer is not None
    assert board.timer.clock_hz == 25_000_000
    assert board.flash_bytes == board.ram_bytes == 2 * 1024 * 1024
    host = hardware.find("host", Board)
    assert (host.core.isa, host.resident, host.flash_bytes, host.ram_bytes) == ("host", False, None, None)


def test_pcm_constants_give_the_published_spread():
    """aihwkit's PCM model at 12.5 uS: programming sd 0.953 uS, a mean of 9.70 uS after an hour."""
    device = hardware.find("pcm-128", Crossbar).device
    assert device.programming and device.drift and device.read_noise
    r = 12.5e-6 / device.g_max_siemens
    assert sum(c * r**k for k, c in enumerate(device.programming.sd_siemens)) == pytest.approx(0.953e-6, rel=1e-3)
    drift = device.drift
    nu = min(max(drift.nu_mean_slope * math.log(r) + drift.nu_mean_offset, drift.nu_mean_min), drift.nu_mean_max)
    assert 12.5 * ((3600 + drift.t0_s) / drift.t0_s) ** -nu == pytest.approx(9.70, abs=0.02)


def test_an_ideal_crossbar_has_no_noise_and_no_bits():
    ideal = hardware.find("ideal-128", Crossbar)
    assert (ideal.device.programming, ideal.device.drift, ideal.device.read_noise) == (None, None, None)
    assert (ideal.adc.bits, ideal.dac.bits) == (None, None)


def test_a_described_target_never_changes():
    with pytest.raises(ValueError, match="frozen"):
        hardware.find("tflm", Interpreter).backend = "c"  # pyright: ignore[reportAttributeAccessIssue]


# --------------------------------------------------------------------------------------------------------- finding


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mps2-an368", "there is no target 'mps2-an368'. Did you mean 'mps2-an386'?"),
        ("brian2", "there is no target 'brian2'. Did you mean 'brian2-lsm'?"),
        ("../boards/host", "there is no target '../boards/host'. " + nearest("../boards/host", hardware.names())),
        (
            "cortex-m4f-mps2",
            "'cortex-m4f-mps2' is a chip, not a target. Boards that have it: mps2-an386.",
        ),
        ("no-such.toml", "no-such.toml: there is no such file. See: neurodeploy targets list"),
    ],
)
def test_a_target_that_does_not_exist(name: str, message: str):
    with pytest.raises(TargetError) as caught:
        hardware.find(name)
    assert str(caught.value) == message
    assert caught.value.exit_status == 2


def test_a_target_of_another_kind():
    with pytest.raises(TargetError) as caught:
        hardware.find("pcm-128", Neuromorphic)
    assert str(caught.value) == (
        "'pcm-128' is a target of kind 'crossbar'; needed: neuromorphic. There are: "
        f"{', '.join(hardware.names('neuromorphic'))}."
    )


def test_a_kind_that_does_not_exist():
    with pytest.raises(TargetError, match=r"there is no kind of target 'boards'\. Did you mean 'board'\?"):
        hardware.names("boards")


def test_all_targets_are_no_chips():
    chips = {n for kind in ("chip", "neuromorphic-chip", "crossbar-technology") for n in hardware.names(kind)}
    assert set(hardware.names()) == {p.stem for p in FILES} - chips


def test_a_users_own_board(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(BOARD)
    board = hardware.find(str(path), Board)
    assert board.core == hardware.find("mps2-an386", Board).core
    assert board.uart == hardware.find("mps2-an386", Board).uart
    assert board.memory is not None
    assert board.memory.flash.size_bytes == 0x1000


def test_a_users_own_chip_lies_beside_the_board(tmp_path: Path):
    (tmp_path / "m0.toml").write_text(CHIP)
    path = tmp_path / "mine.toml"
    path.write_text('kind = "board"\nname = "mine"\ntitle = "Mine"\nchip = "m0"\nbackend = "c"\nresident = false\n')
    board = hardware.find(str(path), Board)
    assert (board.core.isa, board.core.clock_hz, board.memory) == ("armv6m", 48_000_000, None)


def test_a_boards_table_replaces_the_chips(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(
        BOARD
        + '[uart]\ndriver = "cmsdk"\nbase = 0x40005000\nclock_hz = 1_000_000\nrx_irq = 2\nbaud = 9600\nsource = "x"\n'
    )
    uart = hardware.find(str(path), Board).uart
    assert uart is not None
    assert (uart.base, uart.clock_hz, uart.rx_irq, uart.baud) == (0x40005000, 1_000_000, 2, 9600)


# ----------------------------------------------------------------------------------------------------- broken files

BROKEN_BOARDS = [
    ("kind", 'kind = "board"', 'kind = "bord"', "'kind' is 'bord', which doesn't exist. Did you mean 'board'?"),
    ("no kind", 'kind = "board"\n', "", "lacks the key 'kind'. One of: chip, board, crossbar, crossbar-technology, neuromorphic, neuromorphic-chip, interpreter."),
    ("top key", "resident = true", "residant = true", "has an unknown key 'residant'. Did you mean 'resident'?"),
    ("nested key", "size_bytes = 0x1000 }\nram", "sizebytes = 0x1000 }\nram", "has an unknown key 'memory.flash.sizebytes'. Did you mean 'size_bytes'?"),
    ("extra nested key", "machine =", 'cpus = "x"\nmachine =', "has an unknown key 'emulators.qemu.cpus'. Did you mean 'cpu'?"),
    ("unit-less key", "flash = { origin = 0x0, ", "flash = { origin = 0x0, size = 1, ", "has an unknown key 'memory.flash.size'. Did you mean 'size_bytes'?"),
    ("no source", 'source = "a manual"\n', "", "lacks the key 'memory.source'. Say where the numbers beside it come from."),
    ("empty source", 'source = "a manual"', 'source = ""', "'memory.source' is ''; needed: at least 1 character."),
    ("missing key", "0x0, size_bytes = 0x1000", "0x0", "lacks the key 'memory.flash.size_bytes'. Add it."),
    ("text for a number", "0x0, size_bytes = 0x1000", '0x0, size_bytes = "4 KiB"', "'memory.flash.size_bytes' is '4 KiB'; needed: a valid integer."),
    ("fraction of a byte", "0x0, size_bytes = 0x1000", "0x0, size_bytes = 0.5", "'memory.flash.size_bytes' is 0.5; needed: a valid integer."),
    ("negative", "0x0, size_bytes = 0x1000", "0x0, size_bytes = -1", "'memory.flash.size_bytes' is -1; needed: greater than 0."),
    ("text for a bool", "resident = true", 'resident = "yes"', "'resident' is 'yes'; needed: a valid boolean."),
    ("no such chip", "cortex-m4f-mps2", "cortex-m4-mps", "'chip' is 'cortex-m4-mps', which doesn't exist. Did you mean 'cortex-m4f-mps2'?"),
    ("chip is a number", '"cortex-m4f-mps2"', "4", "'chip' is 4; needed: a valid string. (and 1 more)"),
    ("name is not the file's", '"mine"', '"yours"', "'name' is 'yours', but the file is called 'mine'. Make the two equal: a target is found by its file's name."),
    ("no table", '[emulators.qemu]\nmachine = "mps2-an386"', "[emulators]\nqemu = 3", "'emulators.qemu' is 3; needed: a table."),
    ("no list", "[emulators.qemu]", '[emulators.unicorn]\ncpu = "CORTEX_M4"\nregions = 3\n[emulators.qemu]', "'emulators.unicorn.regions' is 3; needed: a list."),
    ("overlap", "0x20002000", "0x20001800", "'memory': 'io' overlaps 'slot'."),
    ("past 32 bits", "0x20002000", "0xfffffffc", "'memory.io': the region ends at 0x100000ffc, past the 32-bit address space."),
    ("resident without id", "target_id = 0x1\n", "", "a resident board needs 'target_id'."),
    ("resident without slot", "slot = { origin = 0x20001000, size_bytes = 0x1000 }\n", "", "a resident board needs 'memory.slot'."),
    ("resident without emulator", '[emulators.qemu]\nmachine = "mps2-an386"\n', "", "a resident board needs 'emulators'."),
    ("minstret with a clock", "[emulators.qemu]", '[timer]\ndriver = "minstret"\nbase = 0\nclock_hz = 1\nsource = "x"\n[emulators.qemu]', "'timer': 'minstret' counts instructions: it has no 'base' and no 'clock_hz'."),
    ("timer without a clock", "[emulators.qemu]", '[timer]\ndriver = "stm32-tim"\nbase = 0\nsource = "x"\n[emulators.qemu]', "'timer': 'stm32-tim' needs 'base' and 'clock_hz'."),
    ("frames too small for INFO", "resident = true", "max_payload_bytes = 128\nresident = true", "'max_payload_bytes' is 128; needed: greater than or equal to 256."),
    ("frames of odd length", "resident = true", "max_payload_bytes = 258\nresident = true", "'max_payload_bytes' is 258; needed: a multiple of 4."),
    ("shift too large", "machine =", "icount_shift = 11\nmachine =", "'emulators.qemu.icount_shift' is 11; needed: less than or equal to 10."),
    ("data over io", "io = {", "data = { origin = 0x20002ffc, size_bytes = 8 }\nio = {", "'memory': 'data' overlaps 'io'."),
    ("not TOML", "resident = true", "resident = ", "is not TOML: Invalid value (at line 6, column 12)."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"), [row[1:] for row in BROKEN_BOARDS], ids=[r[0] for r in BROKEN_BOARDS]
)
def test_a_broken_board(tmp_path: Path, old: str, new: str, message: str):
    assert BOARD.count(old) >= 1
    assert refusal(tmp_path / "mine.toml", BOARD.replace(old, new, 1)) == f"mine.toml: {message}"


def test_bytes_that_are_no_text(tmp_path: Path):
    assert refusal(tmp_path / "x.toml", b'kind = "\xff"') == "x.toml: is not UTF-8 text (byte 8)."


def test_a_bottomless_file(tmp_path: Path):
    assert refusal(tmp_path / "x.toml", "kind = " + "[" * 100_000).startswith("x.toml: is ")


@given(data=st.data())
def test_a_damaged_file_is_refused_or_valid_and_never_more(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    """Any cut or changed bytes of a shipped file: a TargetError that names the file, or a valid description."""
    original = data.draw(st.sampled_from(FILES))
    text = bytearray(original.read_bytes())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    text[start:end] = data.draw(st.binary(max_size=6))
    path = tmp_path_factory.mktemp("damaged") / original.name
    path.write_bytes(text)
    try:
        described = hardware.validate(path)
    except TargetError as error:
        assert str(path) in str(error) or original.stem in str(error)
    else:
        assert described.name == original.stem


def test_a_file_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "x.toml").mkdir()
    with pytest.raises(TargetError, match=r"can't be read \(Is a directory\)\.$"):
        hardware.validate(tmp_path / "x.toml")


def test_a_broken_chip_is_named_itself(tmp_path: Path):
    (tmp_path / "m0.toml").write_text(CHIP.replace("clock_hz", "clock_mhz"))
    text = 'kind = "board"\nname = "mine"\ntitle = "Mine"\nchip = "m0"\nbackend = "c"\nresident = false\n'
    assert refusal(tmp_path / "mine.toml", text) == (
        "m0.toml: has an unknown key 'core.clock_mhz'. Did you mean 'clock_hz'?"
    )


def test_a_chip_that_is_no_chip(tmp_path: Path):
    (tmp_path / "other.toml").write_text(BOARD.replace('"mine"', '"other"'))
    message = refusal(tmp_path / "mine.toml", BOARD.replace("cortex-m4f-mps2", "other"))
    assert message.startswith("mine.toml: 'chip' is 'other', which is a board.")


def test_a_chip_is_no_target(tmp_path: Path):
    path = tmp_path / "m0.toml"
    path.write_text(CHIP)
    with pytest.raises(TargetError, match="describes a chip, not a target"):
        hardware.load(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("g_max_siemens = 25e-6", "g_max_siemens = -1.0", "'device.g_max_siemens' is -1.0; needed: greater than 0."),
        ("g_max_siemens = 25e-6", "g_max_siemens = inf", "'device.g_max_siemens' is inf; needed: a finite number."),
        ("g_max_siemens", "g_max_us", "has an unknown key 'device.g_max_us'. Did you mean 'g_max_siemens'?"),
        ("t0_s = 20.0", "t0_s = 20.0\nt0_ms = 1", "has an unknown key 'device.drift.t0_ms'. Did you mean 't0_s'?"),
        ("g_min_siemens = 0.0", "g_min_siemens = 1.0", "'device': g_min_siemens 1.0 is not below g_max_siemens 2.5e-05."),
        ("bits = 8", "bits = 0", "'dac.bits' is 0; needed: greater than or equal to 1."),
    ],
)  # fmt: skip
def test_a_broken_crossbar(tmp_path: Path, old: str, new: str, message: str):
    text = (hardware.data_folder("targets") / "crossbars" / "pcm-128.toml").read_text()
    assert old in text
    assert refusal(tmp_path / "pcm-128.toml", text.replace(old, new, 1)) == f"pcm-128.toml: {message}"


def _models(model: type[Table]) -> set[type[Table]]:
    """A model and every table inside it."""

    def inside(annotation: Any) -> set[type[Table]]:
        if isinstance(annotation, type) and issubclass(annotation, Table):
            return _models(annotation)
        return set().union(*(inside(inner) for inner in get_args(annotation)))

    return {model}.union(*(inside(field.annotation) for field in model.model_fields.values()))


MODELS = sorted(
    set().union(*(_models(model) for model in descriptions.KINDS.values())), key=lambda model: model.__name__
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_table_of_physical_numbers_demands_a_source(model: type[Table]):
    units = ("_hz", "_siemens", "_joule", "_s")
    numbers = [n for n, f in model.model_fields.items() if "float" in str(f.annotation) or n.endswith(units)]
    if numbers:
        assert issubclass(model, Sourced), f"{model.__name__} holds {numbers} and asks for no source"
        assert model.model_fields["source"].is_required()
    assert model.model_config.get("extra") == "forbid"


def test_the_models_are_all_there():
    assert {"Board", "Core", "Memory", "Region", "Device", "Drift", "EventEnergy"} <= {m.__name__ for m in MODELS}


def _tables_of_numbers(table: dict, place: str = ""):
    """The tables that hold a float or a number whose key has a unit, with whether a source covers them."""
    for key, value in table.items():
        here = f"{place}.{key}" if place else key
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from _tables_of_numbers(item, here)
    physical = [k for k, v in table.items() if isinstance(v, float) or (isinstance(v, int) and k.endswith("_hz"))]
    if physical:
        yield place, "source" in table


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_physical_numbers_have_a_source(path: Path):
    """Looks at the files themselves, not at the schema, so that a new table without a source is seen."""
    for place, sourced in _tables_of_numbers(tomllib.loads(path.read_text())):
        assert sourced, f"{path.name}: [{place}] has physical numbers and no source"
