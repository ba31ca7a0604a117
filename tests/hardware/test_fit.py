"""The fit table: its numbers are those of separate builds and runs; what lacks is said with why and by how much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurodeploy
from neurodeploy import compiler, hardware
from neurodeploy import data as data_files
from neurodeploy.__main__ import run as command
from neurodeploy.deploy import profile
from neurodeploy.deploy.board import BoardExecutor, BoardRunner, build_image
from neurodeploy.errors import DeviceError, TargetError, UsageError
from neurodeploy.hardware import Board
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph
from neurodeploy.report import cycles
from neurodeploy.report.fit_rows import Row, timing_of
from neurodeploy.report.fit_table import FitTable
from tests.families import driven

pytestmark = pytest.mark.board
ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples" / "models" / "vowels_gru.onnx"
TRAIN = ROOT / "examples" / "data" / "japanese_vowels_train.npz"
#: One board of each kind: counted elsewhere with and without published costs, resident, and one that is too small.
BOARDS = ["nucleo-f446re", "stm32f4-discovery", "nucleo-h743zi", "mps2-an385", "mps2-an386"]
SMALL = """\
kind = "board"
name = "small"
title = "A board with 4 KiB of flash and 256 bytes of RAM"
chip = "stm32f446re"
backend = "c"
resident = false

[memory]
flash = { origin = 0x08000000, size_bytes = 0x1000 }
ram = { origin = 0x20000000, size_bytes = 0x100 }
source = "this test"
"""


def number(row: Row, name: str) -> float:
    """A figure that must be known."""
    value = row.figure(name).value
    assert value is not None
    return value


@pytest.fixture(scope="module")
def source():
    return compiler.load(MODEL)


@pytest.fixture(scope="module")
def samples(source):
    return data_files.load(TRAIN, source).first(4)


@pytest.fixture(scope="module")
def fitted(source, samples, tmp_path_factory) -> FitTable:
    small = tmp_path_factory.mktemp("boards") / "small.toml"
    small.write_text(SMALL)
    said: list[str] = []
    made = neurodeploy.fit_boards(source, samples, boards=[*BOARDS, str(small)], period_s=1e-4, progress=said.append)
    cores = [line for line in said if "compiling" in line and line.startswith("core ")]
    assert len(cores) == 3, "one build a core: M4 (three real boards and the emulated one), M7, M3"
    assert [line.split(",")[0] for line in cores] == ["core 1 of 3", "core 2 of 3", "core 3 of 3"]
    return made


@pytest.mark.parametrize("name", ["mps2-an385", "mps2-an386"])
def test_its_numbers_are_those_of_a_separate_build(fitted: FitTable, source, samples, name: str) -> None:
    built = neurodeploy.compile(source, name, samples)
    trace = BoardRunner().run(built.artifact, dict(samples.inputs), samples.lengths)
    ran = {f.name: f.value for f in trace.record["figures"]}
    planned = {f["name"]: f["value"] for f in built.artifact.manifest["figures"]}
    image = build_image(built.artifact, hardware.find(name, Board), None).sizes
    row = fitted.row(name)
    found = {f.name: f.value for f in row.figures}
    assert found["instructions"] == ran["instructions_worst"] > 1000
    assert found["ram_stack"] == ran["ram_stack"] > 0
    assert found["ram"] == planned["ram_state"] + planned["ram_ports"] + ran["ram_stack"] + image.data + image.bss
    assert found["flash"] == image.text + image.rodata + image.data
    assert found["flash"] <= planned["flash"], "what nothing calls is left out"
    assert row.fits is True


def test_a_resident_board_offers_all_of_its_memory(fitted: FitTable, source, tmp_path: Path) -> None:
    """The slot counts where it lies: in RAM, or in the flash that it follows."""
    row = fitted.row("mps2-an386")
    assert (row.flash_available, row.ram_available) == (4 << 20, 4 << 20)
    text = (hardware.data_folder("targets") / "boards" / "mps2-an386.toml").read_text()
    text = text.replace('name = "mps2-an386"', 'name = "other"').replace(
        "slot = { origin = 0x20100000", "slot = { origin = 0x400000"
    )
    (tmp_path / "other.toml").write_text(text)
    other = neurodeploy.fit_boards(source, boards=[str(tmp_path / "other.toml")], numerics="float").rows[0]
    assert (other.flash_available, other.ram_available) == (6 << 20, 2 << 20)


def test_a_model_in_flash_leaves_the_ram_to_all_else(source) -> None:
    row = neurodeploy.fit_boards(source, boards=["microbit"], numerics="float").rows[0]
    assert (row.flash_available, row.ram_available) == (256 << 10, 16 << 10)


def test_boards_of_one_core_share_its_numbers(fitted: FitTable) -> None:
    shared = ("flash", "ram", "ram_stack", "instructions", "cycles_min", "cycles_max")
    rows = [fitted.row(name) for name in ("nucleo-f446re", "stm32f4-discovery", "mps2-an386")]
    for name in shared:
        assert len({row.figure(name).value for row in rows}) == 1
        assert rows[0].figure(name).value is not None
    assert rows[0].classes == rows[2].classes


def test_a_class_for_every_counted_instruction(fitted: FitTable) -> None:
    for name in ("nucleo-f446re", "nucleo-h743zi", "mps2-an385"):
        row = fitted.row(name)
        assert sum(row.classes.values()) == row.figure("instructions").value
        assert "unknown" not in row.classes
    assert fitted.row("nucleo-f446re").classes.keys() >= {"load_multiple", "branch_taken", "branch_not_taken", "store"}


def test_time_is_cycles_at_the_clock(fitted: FitTable) -> None:
    for name in ("nucleo-f446re", "mps2-an385"):
        row, clock = fitted.row(name), hardware.find(name, Board).core.clock_hz
        for end in ("min", "max"):
            assert clock
            assert number(row, f"time_{end}") == pytest.approx(number(row, f"cycles_{end}") / clock)
            assert row.figure(f"time_{end}").how == "estimated"
        assert number(row, "instructions") < number(row, "cycles_min") < number(row, "cycles_max")


def test_energy_only_where_a_current_is_sourced(fitted: FitTable) -> None:
    row, power = fitted.row("stm32f4-discovery"), hardware.find("stm32f4-discovery", Board).power
    assert power is not None
    spent = number(row, "cycles_max")
    assert number(row, "energy_max") == pytest.approx(spent * power.volts * power.amperes_per_hertz)
    assert power.source in row.figure("energy_max").source
    other = fitted.row("nucleo-f446re").figure("energy_max")
    assert (other.value, other.how, other.source) == (None, "unknown", "no sourced current of this chip")


def test_a_core_without_published_costs_has_counts_but_no_time(fitted: FitTable) -> None:
    row = fitted.row("nucleo-h743zi")
    assert row.figure("instructions").how == "measured"
    assert row.figure("time_max").source == "no published cycles of cortex-m7"
    assert row.in_time is None and row.fits is True


def test_too_small_by_how_much(fitted: FitTable) -> None:
    row, roomy = fitted.row("small"), fitted.row("nucleo-f446re")
    flash, ram = int(number(roomy, "flash")), int(number(roomy, "ram"))
    assert row.fits is False
    assert row.shortfalls == {"flash": flash - 0x1000, "ram": ram - 0x100}
    verdict = f"no: {flash - 0x1000:,} B of flash too much, {ram - 0x100:,} B of RAM too much"
    assert verdict in fitted.to_markdown()


def test_the_deadline(fitted: FitTable, source, samples) -> None:
    row = fitted.row("nucleo-f446re")
    least, most = number(row, "time_min"), number(row, "time_max")

    def verdict(period_s: float) -> tuple[bool | None, str]:
        made = neurodeploy.fit_boards(source, samples, boards=["nucleo-f446re"], period_s=period_s)
        return made.rows[0].in_time, made.cells()[0][-1]

    assert verdict(most * 1.0001) == (True, "yes")
    assert verdict(least * 0.9999) == (False, "no")
    assert verdict((least + most) / 2) == (None, "within the estimate")


def own_board(folder: Path, chip: str, counted_on: str, name: str = "mine", size: str = "0x8000") -> str:
    """A board of the user's own, of a shipped chip that is counted elsewhere."""
    text = (hardware.data_folder("targets") / "chips" / f"{chip}.toml").read_text()
    was = next(line for line in text.splitlines() if line.startswith("counted_on"))
    text = text.replace(f'name = "{chip}"', 'name = "far"').replace(was, f'counted_on = "{counted_on}"')
    (folder / "far.toml").write_text(text)
    board = SMALL.replace('name = "small"', f'name = "{name}"').replace("stm32f446re", "far")
    (folder / f"{name}.toml").write_text(board.replace("0x1000", size).replace("0x100 ", "0x1000 "))
    return str(folder / f"{name}.toml")


def test_without_the_board_that_counts_the_bare_core_does(fitted: FitTable, source, samples, tmp_path: Path) -> None:
    row = neurodeploy.fit_boards(source, samples, boards=[own_board(tmp_path, "stm32f446re", "nowhere")]).rows[0]
    same = fitted.row("mps2-an386")
    for name in ("instructions", "ram", "ram_stack", "flash", "cycles_min", "cycles_max"):
        assert row.figure(name).value == same.figure(name).value
    assert row.classes == same.classes and row.fits is True
    said = row.figure("instructions").source
    assert "bare cortex-m4, unicorn 2" in said and said.endswith("(nowhere is not among the targets)")


def test_a_counting_board_that_is_too_small(fitted: FitTable, source, samples, tmp_path: Path) -> None:
    text = (hardware.data_folder("targets") / "boards" / "mps2-an386.toml").read_text()
    text = text.replace('name = "mps2-an386"', 'name = "tight"').replace("0x4e440386", "0x4e440001")
    (tmp_path / "tight.toml").write_text(text.replace("size_bytes = 0x200000", "size_bytes = 0x1000"))
    mine = own_board(tmp_path, "stm32f446re", str(tmp_path / "tight.toml"))
    row = neurodeploy.fit_boards(source, samples, boards=[mine]).rows[0]
    assert row.figure("instructions").value == fitted.row("mps2-an386").figure("instructions").value
    assert "(not on tight: tight: the model needs" in row.figure("instructions").source


def test_a_core_that_nothing_runs(source, samples, tmp_path: Path) -> None:
    mine = own_board(tmp_path, "esp32-c3", "nowhere")
    made = neurodeploy.fit_boards(source, samples, boards=[mine], period_s=1.0)
    row = made.rows[0]
    why = "not counted: nowhere is not among the targets; bare-esp32-c3: has the core 'esp32-c3'"
    for name in ("ram_stack", "instructions", "cycles_max", "time_max", "energy_max"):
        assert row.figure(name).value is None and row.figure(name).source.startswith(why)
    parts = [row.figure(name).value for name in ("ram_state", "ram_ports", "ram_static", "ram_scratch")]
    assert row.figure("ram").value == sum(int(part or 0) for part in parts)
    assert row.figure("flash").value and row.fits is None and row.in_time is None
    assert any(
        note.startswith(f"stack, instructions, cycles, time, energy unknown on mine: {why}") for note in made.notes()
    )
    assert "yes, but for the stack" in made.to_markdown()


def test_the_small_cores(source, samples) -> None:
    """One machine code, two sets of costs: a branch and a call are cheaper on M0+, and its multiplier is known."""
    made = neurodeploy.fit_boards(source, samples, boards=["nucleo-f072rb", "raspberry-pi-pico"])
    m0, plus = made.rows
    assert m0.figure("instructions").value == plus.figure("instructions").value
    assert number(plus, "cycles_min") < number(m0, "cycles_min")
    assert number(plus, "cycles_max") < 1.01 * number(plus, "cycles_min")
    spread = number(m0, "cycles_max") - number(m0, "cycles_min")
    assert spread >= 31 * m0.classes["multiply"]


def test_without_data_only_sizes_are_known(source) -> None:
    made = neurodeploy.fit_boards(source, boards=["nucleo-f446re"], numerics="float")
    row = made.rows[0]
    assert row.figure("flash").value and row.figure("instructions").source == "without sample inputs nothing was run"
    assert row.fits is None and "yes, but for the stack" in made.to_markdown()


def test_a_float_network_is_priced_too(source, samples) -> None:
    row = neurodeploy.fit_boards(source, samples.first(2), boards=["nucleo-f446re"], numerics="float").rows[0]
    assert row.classes["float"] > 1000 and row.classes["float_divide"] > 0
    assert row.figure("cycles_max").value


def test_stages_are_added_up() -> None:
    """A bidirectional net: one step of each of its stages."""
    case = next(case for case in driven.cases() if case.name == "stacked_bidirectional")
    made = neurodeploy.fit_boards(case.program, case.inputs["x"], boards=["mps2-an386"], numerics="float")
    row = made.rows[0]
    built = neurodeploy.compile(case.program, "mps2-an386", case.inputs["x"], numerics="float")
    trace = BoardRunner().run(built.artifact, dict(case.inputs))
    worst = [int(table.max()) for table in trace.counters.values()]
    assert len(worst) > 1 and row.figure("instructions").value == sum(worst) == sum(row.classes.values())


# ------------------------------------------------------------------------------------------------------ watching


def test_counts_that_differ_are_an_error(source, samples) -> None:
    built = neurodeploy.compile(source, "mps2-an386", samples)
    few, board = samples.first(1), hardware.find("mps2-an386", Board)
    trace = BoardRunner().run(built.artifact, dict(few.inputs), few.lengths)
    image = build_image(built.artifact, board, None)
    (stage,) = profile.tallies(built.artifact, board, image, few.inputs, few.lengths, trace)
    (counts,) = trace.counters.values()
    assert [tally.total() for tally in stage] == counts[0].tolist()
    counts[0, 2] += 1
    with pytest.raises(DeviceError, match="1 of 20 steps of stage '.*' have another number of instructions"):
        profile.tallies(built.artifact, board, image, few.inputs, few.lengths, trace)


def test_the_watched_core_gives_what_the_golden_model_gives(source, samples) -> None:
    built = neurodeploy.compile(source, "mps2-an386", samples)
    board, program = hardware.find("mps2-an386", Board), built.program
    core: Any = profile.BareCore(board, build_image(built.artifact, board, None))

    def executor(name: str, graph: Graph) -> BoardExecutor:
        return BoardExecutor(core, 0, built.artifact.manifest["layout"][name], graph)

    found = drive(program, dict(samples.inputs), samples.lengths, executor)
    golden = interpret.run(program, samples.inputs, samples.lengths)
    for name, outputs in golden.outputs.items():
        assert np.array_equal(found.outputs[name], outputs)
    assert len(core.tallies[0]) == int(samples.lengths.sum())
    priced = timing_of(board)
    assert priced and cycles.cycles(core.tallies[0][0], priced).least > core.tallies[0][0].total()


def test_a_core_that_unicorn_lacks_is_refused(source, samples) -> None:
    board = hardware.find("mps2-an386", Board)
    image = build_image(neurodeploy.compile(source, "mps2-an386", samples).artifact, board, None)
    other = board.model_copy(update={"core": board.core.model_copy(update={"cpu": "cortex-m55"})})
    with pytest.raises(TargetError, match="has the core 'cortex-m55', which unicorn doesn't run"):
        profile.BareCore(other, image)


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("neurodeploy.fit._all_boards", lambda: [hardware.find(n, Board) for n in BOARDS[:2]])
    base = ["compile", str(MODEL), "--all-boards", "-d", str(TRAIN), "--samples", "2", "--period-ms", "0.1"]
    for ending in ("json", "md"):
        assert command([*base, "-o", str(tmp_path / f"fit.{ending}")]) == 0
        shown = capsys.readouterr().out
        assert "nucleo-f446re" in shown and "in 0.1 ms" in shown and "without wait states" in shown
    saved = json.loads((tmp_path / "fit.json").read_text())
    assert command([*base, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == saved
    assert saved["period_s"] == 1e-4 and [board["board"] for board in saved["boards"]] == BOARDS[:2]
    assert {f["how"] for board in saved["boards"] for f in board["figures"]} == {
        "compiled", "measured", "estimated", "unknown",
    }  # fmt: skip
    assert all(f["source"] for board in saved["boards"] for f in board["figures"])
    assert "| nucleo-f446re | cortex-m4 | 180 |" in (tmp_path / "fit.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--all-boards", "-t", "host"], "exclude each other"),
        (["--all-boards", "-o", "x.html"], "needed: .json or .md"),
        (["--all-boards", "-o", "no/such/x.md"], "no such folder"),
        (["--all-boards", "--period-ms", "0"], "needed: a time above 0"),
        (["--all-boards", "--toolchain", "icc"], "no toolchain 'icc'"),
        (["--all-boards", "--numerics", "integer"], "no numerics 'integer'"),
        (["-t", "host", "-o", "b", "--period-ms", "1"], "goes with --all-boards"),
        (["-t", "host"], "Missing option '--output'"),
        (["-o", "b"], "Missing option '--target'"),
    ],
)
def test_misuse_is_one_line(arguments, words, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["compile", str(MODEL), *arguments, "-d", str(TRAIN), "--samples", "2"]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_board_without_memory_is_refused(source, samples) -> None:
    with pytest.raises(TargetError, match="host: has no memory of a known size"):
        neurodeploy.fit_boards(source, samples, boards=["host"])
    with pytest.raises(UsageError, match="the period is -1 s"):
        neurodeploy.fit_boards(source, samples, boards=["nucleo-f446re"], period_s=-1)
