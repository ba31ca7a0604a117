"""What the tests of exports share: builds of families, what the golden model gives, and how an example's output reads."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurodeploy
from neurodeploy.artifact import Artifact
from neurodeploy.backends import c_export
from neurodeploy.backends.c_export_model import made_up
from neurodeploy.data import Data
from neurodeploy.ir import interpret, text
from neurodeploy.ir.drive import real_outputs
from tests.families import CASES


def build(family: str, target: str, numerics: str = "native", name: str | None = None, **options: Any) -> Artifact:
    """A family's C build, calibrated on its own inputs."""
    case = CASES[family]
    data = Data(case.inputs, case.lengths) if numerics != "float" else None
    return neurodeploy.compile(
        case.program, target, data, numerics=numerics, costs=False, name=name or case.name, **options
    ).artifact


def write(artifact: Artifact, form: str, folder: Path) -> Path:
    return c_export.write(c_export.export(artifact, form), folder)


def golden(artifact: Artifact, window: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Every output of the golden model on the example's window, as flat float32."""
    program = text.from_files(artifact.files, "program")
    inputs = {name: array[None] for name, array in (window or made_up(program)).items()}
    real = real_outputs(program, interpret.run(program, inputs))
    return {name: np.asarray(array, np.float32).reshape(-1) for name, array in real.items()}


def printed(text: str) -> dict[str, np.ndarray]:
    """The example's lines ``name[index] value``, in order."""
    found: dict[str, list[str]] = {}
    for name, index, value in re.findall(r"^(\w.*)\[(\d+)\] (\S+)$", text, re.M):
        values = found.setdefault(name, [])
        assert int(index) == len(values)
        values.append(value)
    return {name: np.array(values, np.float32) for name, values in found.items()}


def same(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert got.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tool(*names: str) -> str:
    """The first of those programs that is installed; skips where none is."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"{' or '.join(names)} is not installed")


def stand_in(name: str) -> Path:
    """The folder that stands in for Arduino, Zephyr or a board's start-up."""
    return Path(__file__).parent / "stand_ins" / name
