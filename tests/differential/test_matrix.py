"""Every family on every target: equal to the golden model as the backend promises, or refused by name.

``docs/support.md`` is the table of what was found here; a cell that changes fails. To write it anew:
``NEURODEPLOY_WRITE_SUPPORT=1 pytest tests/differential/test_matrix.py -n 0``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurodeploy
from neurodeploy import data, hardware
from neurodeploy.backends import c_toolchain
from neurodeploy.deploy import emulator, link
from neurodeploy.errors import TargetError, UnsupportedError
from neurodeploy.validate import first_difference, validate
from tests.families import CASES
from tests.families.case import Case

SUPPORT = Path(__file__).parents[2] / "docs" / "support.md"
#: Fewest families that each target runs; a target that loses some fails even if the table were written anew.
FEWEST = {
    "host": 32, "mps2-an385": 32, "mps2-an386": 32, "mps2-an500": 32, "mps2-an505": 32, "mps3-an547": 32,
    "netduinoplus2": 32, "lm3s6965evb": 32, "microbit": 32, "rv32-virt": 32, "sifive-e": 31,
    "tflm": 23, "ideal-128": 32, "pcm-128": 32, "brian2-lsm": 2, "snntorch-sigma-delta": 30,
}  # fmt: skip
EXTRAS = {"tflm": "tflite_micro", "brian2-lsm": "brian2", "snntorch-sigma-delta": "snntorch"}
HEAD = """# What runs where

Every recurrent family, small and with random weights, compiled for every target and compared with the golden model, in
every run of the tests. *exact*: every bit of every output of every step. *float, close*: float32, within 1e-4 (on a
board or the host where the family has no integer form). *statistical*: analog noise, judged by accuracy. *-*: refused,
for the reason below the table. *too big*: more than the board has room for.

"""


def test_every_target_and_a_floor_for_each() -> None:
    described = [hardware.find(name) for name in hardware.names()]
    runs = [d for d in described if not isinstance(d, hardware.Board) or d.resident or d.core.isa == "host"]
    assert set(FEWEST) == {d.name for d in runs}  # the others are targets for libraries and fit checks
    assert len(CASES) == 33


@pytest.mark.parametrize("target", list(FEWEST))
def test_column(target: str) -> None:
    if target in EXTRAS:
        pytest.importorskip(EXTRAS[target], reason=f"{EXTRAS[target]} isn't installed: target {target} is not tried")
    found: dict[str, str] = {}
    reasons: dict[str, str] = {}
    with _board(target) as board:
        for case in CASES.values():
            try:
                found[case.name] = _cell(case, target, board)
            except UnsupportedError as error:
                assert error.place, f"{case.name} on {target} is refused without a name: {error}"
                assert error.hint, f"{case.name} on {target} is refused without a remedy: {error}"
                found[case.name], reasons[case.name] = "-", _plain(str(error))
            except TargetError as error:
                assert "the model is too big" in str(error), f"{case.name} on {target}: {error}"
                found[case.name] = "too big"
    assert sum(word not in ("-", "too big") for word in found.values()) >= FEWEST[target], found
    if os.environ.get("NEURODEPLOY_WRITE_SUPPORT"):
        _write(target, found, reasons)
    assert _column(target) == found
    for name, reason in reasons.items():
        assert f"| {name} | {target} | {reason} |" in SUPPORT.read_text()


@contextmanager
def _board(target: str) -> Iterator[link.Board | None]:
    described = hardware.find(target)
    resident = isinstance(described, hardware.Board) and described.resident
    with emulator.open_board(described) if resident else nullcontext() as board:  # type: ignore[arg-type]
        yield board


def _cell(case: Case, target: str, board: link.Board | None) -> str:
    described = hardware.find(target)
    times = 4 if described.kind == "neuromorphic" else 1  # a readout is fitted there, which takes more samples
    tiled = {name: np.tile(array, (times, *(1,) * (array.ndim - 1))) for name, array in case.inputs.items()}
    lengths = None if case.lengths is None else np.tile(case.lengths, times)
    samples = replace(data.arrange(tiled, case.program), lengths=lengths)
    width = next(iter(case.program.output_types().values())).shape
    labelled = replace(samples, labels=np.arange(samples.samples) % min([3, *width]))
    float_only = described.backend == "c" and not case.integer
    tool = "gcc" if board and "gcc" in c_toolchain.toolchains(target) else None
    built = neurodeploy.compile(
        case.program, described, labelled, numerics="float" if float_only else None, toolchain=tool, costs=False
    )
    options: dict[str, Any] = {"board": board} if board else {}
    run = validate(built, samples, **options).run
    golden = run.agreement[0]
    assert all(a.holds is not False for a in run.agreement), f"{case.name} on {target}: {first_difference(run)}"
    assert golden.compared > 0
    if golden.equality == "exact":
        return "exact"
    return "float, close" if golden.equality.startswith("close") else "statistical"


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "/")


def _rows() -> tuple[list[str], dict[str, list[str]], list[str]]:
    """The table's targets, its rows, and the lines of reasons."""
    lines = SUPPORT.read_text().splitlines() if SUPPORT.exists() else []
    table = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    split = next((i for i, row in enumerate(table) if row[0] == "refused"), len(table))
    head = table[0][1:] if table else []
    reasons = [line for line in lines if line.startswith("|")][split + 2 :]
    return head, {row[0]: row[1:] for row in table[2:split]}, reasons


def _column(target: str) -> dict[str, str]:
    head, rows, _ = _rows()
    return {name: cells[head.index(target)] for name, cells in rows.items()} if target in head else {}


def _write(target: str, found: dict[str, str], reasons: dict[str, str]) -> None:
    head, rows, old = _rows()
    columns = {t: {name: cells[head.index(t)] for name, cells in rows.items()} for t in head} | {target: found}
    order = [t for t in FEWEST if t in columns]
    lines = [f"| family | {' | '.join(order)} |", "|" + "---|" * (len(order) + 1)]
    lines += [f"| {name} | {' | '.join(columns[t].get(name, '') for t in order)} |" for name in CASES]
    kept = [line for line in old if f"| {target} |" not in line]
    kept += [f"| {name} | {target} | {reason} |" for name, reason in reasons.items()]
    kept.sort(key=lambda line: list(CASES).index(line.strip("|").split("|")[0].strip()))
    SUPPORT.write_text(HEAD + "\n".join([*lines, "", "| refused | by target | why |", "|---|---|---|", *kept, ""]))
