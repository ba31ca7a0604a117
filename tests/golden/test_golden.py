"""Golden tests of the passes: a program, the passes to run, and the exact text (or message) that must come out.

A ``.nd`` file holds ``# passes: ...``, the program, a line ``# expect``, and the expected text with every line behind
``# ``. Weights and calibration samples are multiples of 1/8 made from their names, so that results are exact. After a
change that is meant: ``ND_UPDATE_GOLDEN=1 pytest tests/golden``, and read the diff.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from neurodeploy.data import Data
from neurodeploy.errors import NeurodeployError
from neurodeploy.ir.graph import Program
from neurodeploy.ir.text import parse_program, print_program
from neurodeploy.ir.types import TensorType, parse_type
from neurodeploy.passes import parse, run

HERE = Path(__file__).parent
FILES = sorted(p for p in HERE.rglob("*.nd"))
FOLDERS = ("simplify", "expand", "delay_lines", "calibrate", "quantize", "spiking", "tflite", "tiling", "bad")
MARK = "# expect\n"


def numbers(name: str, shape: tuple[int, ...], top: int = 8) -> np.ndarray:
    """Multiples of 1/8 in [-top/8, top/8], the same for the same name."""
    r = np.random.default_rng(zlib.crc32(name.encode()))
    return (r.integers(-top, top + 1, shape) / 8).astype(np.float32)


def weights(text: str) -> dict[str, np.ndarray]:
    """Data for every ``param`` line. A name with ``nan`` in it gets one NaN, one with ``positive`` positive numbers."""
    found: dict[str, np.ndarray] = {}
    stage = ""
    for line in text.splitlines():
        if m := re.match(r"\s*stage (\S+)", line):
            stage = m[1]
        if m := re.match(r"\s*param %(\S+): (\S+)", line):
            type_ = parse_type(m[2])
            assert isinstance(type_, TensorType)
            data = numbers(m[1], type_.shape)
            data = np.abs(data) + np.float32(0.125) if "positive" in m[1] else data
            if "nan" in m[1]:
                data.reshape(-1)[0] = np.nan
            found[f"{stage}/{m[1]}"] = data.astype(type_.numpy)
    return found


def samples(program: Program) -> Data:
    """Two samples of three steps for every input; the second ends after one."""
    inputs = {
        name: numbers(name, (2, 3, *spec.type.shape) if spec.kind == "series" else (2, *spec.type.shape))
        for name, spec in program.inputs.items()
    }
    return Data(inputs, np.array([3, 1]), sha256="samples")


def outcome(text: str, passes: str) -> str:
    """The text of the resulting program, or the error's class and message."""
    try:
        program = parse_program(text, weights(text), "input.nd")
        return print_program(run(program, parse(passes, samples(program))))
    except NeurodeployError as error:
        return f"{type(error).__name__}: {error}\n"


def test_no_folder_is_empty():
    assert {p.parent.name for p in FILES} == set(FOLDERS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_golden(path: Path):
    whole = path.read_text()
    text, _, expected = whole.partition(MARK)
    passes = re.search(r"# passes: *(.*)", text)
    assert passes is not None, "a golden file says which passes to run"
    found = outcome(text, passes[1])
    commented = "".join(f"# {line}\n" for line in found.splitlines())
    if os.environ.get("ND_UPDATE_GOLDEN"):
        path.write_text(text + MARK + commented)
    else:
        assert commented == expected
    failed = re.match(r"\w+Error: ", found) is not None
    assert failed == (path.parent.name == "bad"), found
