"""Associative memories as a .npz: imported, compiled for a crossbar from the command line, recalled there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurodeploy.__main__ import run as command
from neurodeploy.crossbar.associative.programs import bam_program, hopfield_program
from neurodeploy.errors import ModelError
from neurodeploy.importers.numpy import load_numpy

RNG = np.random.default_rng(2)
PATTERNS = np.where(RNG.random((4, 60)) < 0.5, -1.0, 1.0).astype(np.float32)
HEBB = ((PATTERNS.T @ PATTERNS) * (1 - np.eye(60)) / 60).astype(np.float32)


def written(path: Path, spec: Any, **arrays: Any) -> Path:
    np.savez(path, spec=np.array(spec if isinstance(spec, str) else json.dumps(spec)), **arrays)
    return path


def test_memories_are_the_programs_of_their_weights(tmp_path: Path):
    theta = np.full(60, 0.1, np.float32)
    spec = {"cell": "hopfield", "weights": ["W", "t"], "max_steps": 9}
    found = load_numpy(written(tmp_path / "memory.npz", spec, W=HEBB, t=theta))
    assert found.stages == hopfield_program(HEBB, theta, 9).stages and found.name == "memory"
    assert found.meta["origin"]["file"] == "memory.npz"
    pairs = RNG.normal(size=(12, 20)).astype(np.float32)
    bam = load_numpy(written(tmp_path / "pairs.npz", {"cell": "bam", "weights": ["K"]}, K=pairs))
    assert bam.stages == bam_program(pairs).stages


def test_a_memory_is_recalled_by_an_array_from_the_command_line(tmp_path: Path):
    model = written(tmp_path / "memory.npz", {"cell": "hopfield", "weights": ["W"]}, W=HEBB)
    cues = PATTERNS * np.where(RNG.random(PATTERNS.shape) < 0.1, -1, 1)
    np.savez(tmp_path / "cues.npz", cue=cues.astype(np.float32))
    build, out = tmp_path / "build", tmp_path / "out.npz"
    data = ["--data", str(tmp_path / "cues.npz")]
    assert command(["compile", str(model), "--target", "pcm-128", *data, "-o", str(build)]) == 0
    assert command(["run", str(build), *data, "--chips", "2", "--ages", "0s", "--save", str(out)]) == 0
    assert np.array_equal(np.load(out)["s"], PATTERNS)


@pytest.mark.parametrize(
    ("spec", "arrays", "message"),
    [
        ({"cell": "hopfield", "weights": ["W"]}, {"V": HEBB}, "the array 'W' is missing"),
        ({"cell": "hopfield", "weights": []}, {"W": HEBB}, "'weights' is []; needed names of W, theta"),
        ({"cell": "hopfield", "weights": ["W"], "steps": 3}, {"W": HEBB}, "has no key 'steps'"),
        ({"cell": "hopfield", "weights": ["W"], "max_steps": 0}, {"W": HEBB}, "'max_steps' is 0; needed a whole"),
        ({"cell": "hopfield", "weights": ["W"]}, {"W": HEBB[:9]}, "needed"),
        ({"cell": "hopfield", "weights": ["W"]}, {"W": HEBB * np.nan}, "NaN or infinity"),
    ],
)
def test_what_is_no_memory_is_named(tmp_path: Path, spec: Any, arrays: dict[str, np.ndarray], message: str):
    with pytest.raises(ModelError) as error:
        load_numpy(written(tmp_path / "memory.npz", spec, **arrays))
    assert message in str(error.value) and str(error.value).startswith("memory.npz: ")
