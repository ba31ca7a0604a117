"""Build folders: whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from neurodeploy import artifact
from neurodeploy.artifact import SCHEMA_VERSION, Artifact
from neurodeploy.errors import UsageError


def build(text: str) -> Artifact:
    manifest = {"schema": SCHEMA_VERSION, "name": "n", "backend": "c", "target": "host", "text": text}
    return Artifact("n", "c", "host", {"a.c": text.encode(), "deep/b.h": b"b"}, manifest)


@pytest.mark.parametrize(
    ("stop", "seen"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "full"), UsageError)]
)
def test_an_earlier_build_outlives_a_replacement_that_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, seen: type[BaseException]
):
    folder = build("one").save(tmp_path / "out")
    rename = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if Path(target) == folder and not Path(source).name.endswith(".old"):
            raise stop
        rename(source, target)

    monkeypatch.setattr(artifact.os, "replace", interrupted)
    with pytest.raises(seen):
        build("two").save(folder)
    assert Artifact.load(folder) == build("one")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_moment_has_half_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Before and after everything that is removed the folder holds one build whole."""
    folder = build("one").save(tmp_path / "out")
    remove = artifact.shutil.rmtree

    def watched(path: Path, **options: Any) -> None:
        assert Artifact.load(folder).files["deep/b.h"] == b"b"
        remove(path, **options)
        assert Artifact.load(folder).files["deep/b.h"] == b"b"

    monkeypatch.setattr(artifact.shutil, "rmtree", watched)
    build("two").save(folder)
    assert Artifact.load(folder) == build("two")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
