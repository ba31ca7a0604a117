"""The trained example networks on boards, over the serial line: every bit of every output of every step.

By default on emulated boards; ``--board NAME --port URL`` runs the whole test set on a real one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import neurodeploy
from neurodeploy import data, hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends import c_build
from neurodeploy.compiler import Built
from neurodeploy.deploy import emulator
from neurodeploy.deploy.board import BoardRunner
from neurodeploy.deploy.emulator import open_board
from neurodeploy.errors import DeviceError, NeurodeployError, UsageError
from neurodeploy.report import build_report
from neurodeploy.report.records import save_run
from neurodeploy.report.schema import Run
from neurodeploy.validate import first_difference, validate

pytestmark = pytest.mark.board
EXAMPLES = Path(__file__).parents[2] / "examples"
BOARDS = [n for n in hardware.names("board") if hardware.find(n, hardware.Board).resident]
RUNS = [(t, n) for t in BOARDS for n in emulator.EMULATORS if getattr(hardware.find(t, hardware.Board).emulators, n)]
TEST_SAMPLES = 370


def compiled(model: str, target: str) -> tuple[Built, data.Data]:
    source = neurodeploy.load(EXAMPLES / "models" / model)
    train = data.load(EXAMPLES / "data" / "japanese_vowels_train.npz", source)
    test = data.load(EXAMPLES / "data" / "japanese_vowels_test.npz", source)
    return neurodeploy.compile(source, target, train, costs=False), test


@pytest.mark.parametrize("model", ["vowels_gru.onnx", "vowels_esn.npz"])
def test_whole_test_set(model: str, request: pytest.FixtureRequest) -> None:
    """Board, host C and golden model agree on every bit; accuracy within half a point of float."""
    target, port = str(request.config.getoption("--board")), request.config.getoption("--port")
    built, test = compiled(model, target)
    assert test.samples == TEST_SAMPLES
    run = validate(built, test, on="board", port=port).run
    for against, found in zip(("golden", "host"), run.agreement, strict=True):
        assert found.against == against
        assert found.bit_exact == found.compared == int(test.lengths.sum()), first_difference(run)  # type: ignore[union-attr]
    score = run.accuracy
    assert score and score.float_ and score.deployed
    assert score.float_.value > 0.95
    assert abs(score.deployed.value - score.float_.value) <= 0.005
    assert run.device and int(run.device.target_id, 16) == hardware.find(target, hardware.Board).target_id


@pytest.mark.parametrize("target", BOARDS)
def test_every_board_runs_the_whole_test_set(target: str) -> None:
    """Every bit of every step, in the emulator that is taken by default."""
    if not emulator.available(target):
        pytest.skip(f"no emulator of {target} is installed")
    built, test = compiled("vowels_gru.onnx", target)
    assert test.samples == TEST_SAMPLES
    run = validate(built, test, on="board").run
    assert [found.against for found in run.agreement] == ["golden", "host"]
    for found in run.agreement:
        assert found.bit_exact == found.compared == int(test.lengths.sum()), first_difference(run)  # type: ignore[union-attr]


#: Boards that have the same core.
TWINS = [("netduinoplus2", "mps2-an386"), ("lm3s6965evb", "mps2-an385"), ("sifive-e", "rv32-virt")]


@pytest.mark.parametrize(("one", "other"), TWINS)
@pytest.mark.parametrize("tool", ["zig", "gcc"])
def test_the_same_core_counts_the_same_on_every_board(one: str, other: str, tool: str) -> None:
    """Boards differ in timers and clocks, and counts must not."""
    counts = []
    for target in (one, other):
        if not emulator.available(target) or tool not in c_build.toolchains(target):
            pytest.skip(f"{tool} or an emulator of {target} isn't installed")
        built, test = compiled("vowels_gru.onnx", target)
        two = test.first(2)
        counters = BoardRunner().run(built.artifact, dict(two.inputs), two.lengths, toolchain=tool).counters
        assert [name.split(".")[-1] for name in counters] == ["instructions"]
        counts += [table.tolist() for table in counters.values()]
    assert counts[0] == counts[1]
    assert min(map(max, counts[0])) > 4_000


@pytest.mark.parametrize(("target", "name"), RUNS)
def test_every_board_in_every_emulator(target: str, name: str) -> None:
    """A tenth of the test set, equal instruction counts wherever it runs."""
    if name not in emulator.available(target):
        pytest.skip(f"{name} isn't installed: {target} is not run in it")
    built, test = compiled("vowels_gru.onnx", target)
    run = validate(built, test.first(37), on="board", emulator=name).run
    assert all(found.bit_exact == found.compared > 500 for found in run.agreement), first_difference(run)
    counts = {f.name: f.value or 0 for f in run.figures}
    assert counts["instructions_worst"] == INSTRUCTIONS.setdefault(target, counts["instructions_worst"])
    core = hardware.find(target, hardware.Board).core
    assert counts["instructions_worst"] < (10_000 if core.dsp else 70_000 if core.isa == "armv6m" else 40_000)


INSTRUCTIONS: dict[str, object] = {}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that has run on the emulated board, with its record."""
    built, test = compiled("vowels_gru.onnx", "mps2-an386")
    built = built.save(tmp_path_factory.mktemp("build") / "gru")
    assert built.folder
    save_run(built.folder, validate(built, test.first(5), on="board").run)
    return built.folder


def edited(recorded: Path, folder: Path, key: str, value: str, *, reseal: bool) -> Path:
    shutil.copytree(recorded, folder)
    path = folder / "runs" / "board.json"
    record = json.loads(path.read_text())
    record["device"][key] = value
    text = json.dumps(record)
    path.write_text(Run.model_validate_json(text).sealed().model_dump_json(by_alias=True) if reseal else text)
    return folder


def test_the_record_holds_what_the_board_said(recorded: Path) -> None:
    record = json.loads((recorded / "runs" / "board.json").read_text())
    with open_board("mps2-an386") as board:
        identity = board.ping()
    assert record["device"]["firmware_hash"] == identity.build_hash.hex()
    assert int(record["device"]["target_id"], 16) == identity.target_id == 0x4E440386
    build_report([recorded])


@pytest.mark.parametrize("key", ["firmware_hash", "target_id"])
def test_an_edited_record_is_refused(recorded: Path, tmp_path: Path, key: str) -> None:
    folder = edited(recorded, tmp_path / "b", key, "0x4e440385" if key == "target_id" else "00" * 16, reseal=False)
    with pytest.raises(UsageError, match="its seal doesn't fit"):
        build_report([folder])


def test_another_board_is_refused_even_with_a_new_seal(recorded: Path, tmp_path: Path) -> None:
    folder = edited(recorded, tmp_path / "b", "target_id", "0x4e440385", reseal=True)
    with pytest.raises(UsageError, match="was compiled for"):
        build_report([folder])


def test_a_changed_model_is_refused(recorded: Path, tmp_path: Path) -> None:
    shutil.copytree(recorded, tmp_path / "b")
    path = tmp_path / "b" / "program.nd"
    path.write_text(path.read_text().replace("series", "series "))
    with pytest.raises(UsageError, match=r"program\.nd"):
        build_report([tmp_path / "b"])


def test_a_board_with_other_firmware_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated board runs firmware whose hash isn't that of these sources."""
    from dataclasses import replace

    from neurodeploy.backends import c_build

    real = c_build.build_firmware
    monkeypatch.setattr(c_build, "build_firmware", lambda *a, **k: replace(real(*a, **k), build_hash=bytes(16)))
    built, test = compiled("vowels_gru.onnx", "mps2-an386")
    with pytest.raises(DeviceError, match="its firmware is"):
        validate(built, test.first(1), on="board")


def test_a_model_of_another_build_is_not_taken_for_this_one() -> None:
    built, test = compiled("vowels_gru.onnx", "mps2-an386")
    artifact = built.artifact
    other = {**artifact.manifest, "hashes": {**artifact.manifest["hashes"], "program": "ab" * 32}}
    wrong = Built(Artifact(artifact.name, artifact.backend, artifact.target, artifact.files, other))
    with pytest.raises(NeurodeployError, match="holds model"):
        validate(wrong, test.first(1), on="board")
