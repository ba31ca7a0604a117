"""Run records in build folders: sealed, tied to what was run, merged, and refused by name when they don't fit."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.artifact import Artifact, Figure
from neurodeploy.errors import UsageError
from neurodeploy.report import build_report
from neurodeploy.report.records import build_of, distinct_names, load_builds, merged, save_run
from neurodeploy.report.schema import Accuracy, Device, Run, Score
from tests.golden.report import sample

BOARD = "mps2-an386"


def artifact(**manifest: Any) -> Artifact:
    arrays = io.BytesIO()
    np.savez(arrays, w=np.zeros((3, 4), np.float32), b=np.zeros(3, np.float32))
    stated = {
        "schema": 1, "name": "gru", "backend": "c", "target": BOARD, "numerics": "native",
        "hashes": {"model": "ab" * 32}, "compiler": {"name": "zig cc", "version": "0.17", "flags": ["-O2", "-Wall"]},
        "warnings": ["stalls"], "figures": [{"name": "flash", "value": 100, "unit": "B", "how": "compiled", "source": "map"}],
    } | manifest  # fmt: skip
    files = {"program.nd": b"program", "program.npz": b"int", "source.nd": b"src", "source.npz": arrays.getvalue()}
    return Artifact("gru", stated["backend"], stated["target"], files, stated)


def board_id() -> str:
    board = hardware.find(BOARD)
    assert isinstance(board, hardware.Board)
    return f"{board.target_id:#010x}"


def board_run(**changes: Any) -> Run:
    ran = sample.accuracy(sample.GRU, 0.97, 0.96, "board")
    device = Device(target_id=board_id(), firmware_hash="f0" * 16)
    return Run(runner="board", when="now", where="emulated", accuracy=ran, device=device).model_copy(update=changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return artifact().save(tmp_path / "gru-m4f")


def test_a_saved_run_is_read_back_with_its_build(folder: Path) -> None:
    path = save_run(folder, board_run())
    assert path == folder / "runs" / "board.json"
    (build,) = load_builds([folder])
    assert build.name == "gru-m4f"
    assert (build.model.name, build.model.sha256, build.model.parameters) == ("gru", "ab" * 32, 15)
    assert (build.target.kind, build.compiler) == ("mcu", "zig cc 0.17 -O2 -Wall")
    assert build.target.title == hardware.find(BOARD).title
    assert build.figures == [Figure("flash", 100, "B", "compiled", "map")]
    assert build.warnings == ["stalls"]
    (run,) = build.runs
    assert run.intact
    assert run.device == Device(target_id=board_id(), firmware_hash="f0" * 16)
    assert set(run.artifact) == {"manifest.json", "program.nd", "program.npz", "source.nd", "source.npz"}
    assert build.accuracies == [run.accuracy]


@pytest.mark.parametrize("key", ["target_id", "firmware_hash"])
def test_an_edited_device_is_refused(folder: Path, key: str) -> None:
    path = save_run(folder, board_run())
    record = json.loads(path.read_text())
    record["device"][key] = "0x0badbeef"
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"runs/board\.json: was changed after it was written"):
        load_builds([folder])


def test_a_record_of_another_board_is_refused_even_if_sealed(folder: Path) -> None:
    save_run(folder, board_run(device=Device(target_id="0x0badbeef", firmware_hash="f0")))
    with pytest.raises(UsageError, match=f"0x0badbeef; '{BOARD}' is {board_id()}"):
        load_builds([folder])


@pytest.mark.parametrize("name", ["program.nd", "program.npz", "source.nd"])
def test_an_artifact_that_changed_since_is_refused(folder: Path, name: str) -> None:
    save_run(folder, board_run())
    (folder / name).write_bytes(b"changed")
    with pytest.raises(UsageError, match=rf"runs/board\.json: was made of another '{name}'"):
        load_builds([folder])


def test_a_missing_program_and_an_edited_manifest_are_refused(folder: Path) -> None:
    save_run(folder, board_run())
    (folder / "program.npz").unlink()
    with pytest.raises(UsageError, match="the build now has none"):
        load_builds([folder])
    artifact().save(folder)
    save_run(folder, board_run())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["figures"][0]["value"] = 1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=r"another 'manifest\.json'"):
        load_builds([folder])


def test_pinned_files_count_and_others_do_not(tmp_path: Path) -> None:
    made = artifact(pinned=["image.bin"])
    made.files["image.bin"] = b"1"
    folder = made.save(tmp_path / "b")
    save_run(folder, board_run())
    (folder / "notes.txt").write_text("mine")
    load_builds([folder])
    (folder / "image.bin").write_bytes(b"2")
    with pytest.raises(UsageError, match=r"another 'image\.bin'"):
        load_builds([folder])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runner": "board"}', '{"schema_version": 2}'])
def test_a_broken_record_is_one_clear_line(folder: Path, content: str) -> None:
    save_run(folder, board_run()).write_text(content)
    with pytest.raises(UsageError, match=r"runs/board\.json: is no run record") as caught:
        load_builds([folder])
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_builds(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a build folder"):
        load_builds([tmp_path])
    with pytest.raises(UsageError, match="no build was named"):
        load_builds([])
    with pytest.raises(UsageError, match="is not a build folder"):
        save_run(tmp_path, board_run())


def test_names_are_the_folders_and_as_much_more_as_it_takes() -> None:
    paths = [Path("/a/x/gru"), Path("/a/y/gru"), Path("/a/esn")]
    assert distinct_names(paths) == ["x/gru", "y/gru", "esn"]
    with pytest.raises(UsageError, match="named twice"):
        distinct_names([Path("/a/b"), Path("/a/c/../b")])


def test_a_manifest_that_breaks_the_schema_is_refused() -> None:
    full = {"name": "f", "value": 1, "unit": "B", "how": "compiled", "source": ""}
    for figures in ([{"name": "flash"}], [full | {"how": "guessed"}], [full | {"colour": 1}], [full | {"value": "x"}]):
        with pytest.raises(UsageError, match="can't be reported"):
            build_of(artifact(figures=figures))
    with pytest.raises(UsageError, match="unknown"):
        build_of(artifact(figures=[{"name": "f", "value": None, "unit": "B", "how": "measured", "source": ""}]))


def test_a_target_that_is_not_shipped_speaks_for_itself() -> None:
    build = build_of(artifact(target="my-chip", target_info={"title": "My chip", "kind": "crossbar"}))
    assert (build.target.title, build.target.kind) == ("My chip", "crossbar")
    assert build_of(artifact(target="my-chip", backend="plugin")).target.kind == "other"


def score(value: float, where: str) -> Score:
    return Score(value=value, how="measured", where=where)


def with_accuracy(runner: str, **parts: Any) -> Run:
    return Run(
        runner=runner, when="", where="", accuracy=Accuracy(metric="ClassificationAccuracy", data=sample.DATA, **parts)
    )


def test_runs_are_merged_and_the_board_speaks_for_the_deployed_accuracy() -> None:
    golden = with_accuracy("golden", float_=score(0.9, "f"), quantized=score(0.8, "g"))
    host = with_accuracy("host", deployed=score(0.8, "host"))
    board = with_accuracy("board", deployed=score(0.7, "board"))
    (found,), warnings = merged([golden, board, host])
    assert found.deployed is not None
    assert (found.deployed.where, found.float_, found.quantized) == ("board", score(0.9, "f"), score(0.8, "g"))
    assert warnings == []


def test_runs_that_contradict_each_other_are_not_merged_silently() -> None:
    _, warnings = merged(
        [with_accuracy("golden", quantized=score(0.8, "")), with_accuracy("board", quantized=score(0.7, ""))]
    )
    assert warnings == ["runs disagree on quantized ClassificationAccuracy: 0.7 and 0.8 (golden)"]


def test_accuracies_on_other_data_stay_apart() -> None:
    run = with_accuracy("host", deployed=score(0.8, ""))
    assert run.accuracy is not None
    other = run.accuracy.model_copy(update={"data": sample.DATA.model_copy(update={"sha256": "00" * 32})})
    assert len(merged([run, run.model_copy(update={"runner": "board", "accuracy": other})])[0]) == 2


def test_artifacts_and_what_holds_one_can_be_reported() -> None:
    class Built:
        def __init__(self) -> None:
            self.artifact, self.runs = artifact(), [board_run()]

    report = build_report([Built()])  # type: ignore[list-item]
    assert report.builds[0].name == f"gru-{BOARD}"
    assert report.builds[0].runs[0].intact
    with pytest.raises(UsageError, match="distinct"):
        build_report([artifact(), artifact()])
    with pytest.raises(UsageError, match="an int can't be reported|a int can't be reported"):
        build_report([3])  # type: ignore[list-item]
