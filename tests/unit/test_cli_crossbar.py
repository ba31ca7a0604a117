"""The command line on crossbars: odd options end in one line, before anything runs, and leave the build as it was."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from neurodeploy import validate as validation
from neurodeploy.__main__ import run
from neurodeploy.ir import text
from tests.families import CASES

CASE = CASES["gru_reset_after"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, data with and without labels, a map of stuck devices, and a build of it."""
    made = tmp_path_factory.mktemp("crossbar")
    for name, data in text.to_files(CASE.program, "net").items():
        (made / name).write_bytes(data)
    x, lengths = CASE.inputs["x"], CASE.lengths
    np.savez(made / "plain.npz", x=x, lengths=lengths)  # type: ignore[arg-type]
    np.savez(made / "data.npz", x=x, lengths=lengths, y=np.arange(len(x)) % 3)  # type: ignore[arg-type]
    np.savez(made / "map.npz", **{"0": np.zeros((128, 128), int)})  # type: ignore[arg-type]
    assert run(shlex.split(f"compile {made}/net.nd -t pcm-128 -d {made}/plain.npz -o {made}/build")) == 0
    return made


def called(folder: Path, capsys: pytest.CaptureFixture[str], words: str) -> tuple[int, str]:
    """A command in which ``@`` is the folder: exit status, standard error."""
    status = run([word.replace("@", str(folder)) for word in shlex.split(words)])
    return status, capsys.readouterr().err


@pytest.mark.parametrize(("mapping", "message"), [
    ("percentile=most", "the percentile is 'most'; needed more than 0"),
    ("percentile=null", "the percentile is None; needed more than 0"), ("percentile=true", "the percentile is True"),
    ("scaling=1", "there is no scaling '1'"), ("join=true", "'join' can't be 'True'"), ("bias=0", "'bias' can't be '0'"),
    ("pack=null", "'pack' can't be 'None'"), ("zeros=false", "'zeros' can't be 'False'"),
])  # fmt: skip
def test_mappings_of_another_type(folder: Path, capsys: pytest.CaptureFixture[str], mapping: str, message: str):
    status, said = called(folder, capsys, f"compile @/net.nd -t pcm-128 -d @/plain.npz -o @/new --mapping {mapping}")
    assert status == 2 and message in said, said
    assert not (folder / "new").exists()


@pytest.mark.parametrize(("options", "message"), [
    ("--data @/plain.npz --sweep stuck=0,0.1", "plain.npz: holds no labels 'y'; a sweep is of accuracy"),
    ("--data @/data.npz --sweep wires=0,1", "no [wires] whose resistance"),
    ("--data @/data.npz --sweep adc_bits=4 --sweep adc_bits=1", "no room for a sign"),
    ("--data @/data.npz --repair-data @/plain.npz", "--repair-data is for --repair; none is asked for"),
    ("--data @/data.npz --stuck-map @/map.npz --attribute", "takes chips as the target describes them"),
    ("--data @/data.npz --stuck-map @/map.npz --sweep stuck=0", "takes chips as the target describes them"),
    ("--data @/data.npz --save @", "can't be written (it is a folder)"),
])  # fmt: skip
def test_what_cant_be_done_is_said_before_anything_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: str, message: str
):
    monkeypatch.setattr(validation, "validate", None)
    status, said = called(folder, capsys, f"run @/build {options}")
    assert status == 2 and message in said, said
    assert not (folder / "build" / "runs").exists()


def test_ages_may_end_in_a_comma_and_more_jobs_than_chips_are_no_more(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from neurodeploy.cli import crossbar

    asked: list[int] = []

    class Pool:
        map = map

        def __init__(self, jobs: int) -> None:
            asked.append(jobs)

        def __enter__(self) -> type[Pool]:
            return Pool

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(crossbar, "ProcessPoolExecutor", Pool)
    words = "run @/build --data @/data.npz --ages 0s,1h, --attribute --chips 2 --jobs 500 --json"
    status = run([word.replace("@", str(folder)) for word in words.split()])
    record = json.loads(capsys.readouterr().out)
    assert status == 0 and asked == [2]
    assert record["attribution"]["age_s"] == 3600.0
    assert [d["seconds"] for d in record["accuracy"]["drift"]] == [0.0, 3600.0]
