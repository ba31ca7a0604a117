"""Every family on every target: equal to the golden model as the backend promises, or refused by name.

``docs/support.md`` is the table of what was found here; a cell that changes fails. To write it anew:
``NEURODEPLOY_WRITE_SUPPORT=1 pytest tests/differential/test_matrix.py -n 0``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
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
    "host": 33, "mps2-an385": 33, "mps2-an386": 33, "mps2-an500": 33, "mps2-an505": 33, "mps3-an547": 33,
    "netduinoplus2": 33, "lm3s6965evb": 33, "microbit": 33, "rv32-virt": 33, "sifive-e": 32,
    "tflm": 33, "tflm int8": 33, "tflm float": 33, "ideal-128": 33, "pcm-128": 33,
    "brian2-sigma-delta": 20, "snntorch-sigma-delta": 31, "brian2-lsm": 3, "brian2-attractor": 1, "brian2-lif": 10,
    "snntorch-lif": 10, "nir": 10, "nir-norse": 7, "nir-spikingjelly": 7, "nir-snntorch": 0,
}  # fmt: skip
#: Columns that are a target with options of the compiler.
VARIANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "tflm int8": ("tflm", {"quantize": {"activation_dtype": "i8"}}),
    "tflm float": ("tflm", {"numerics": "float"}),
}
EXTRAS = (
    dict.fromkeys(("tflm", *VARIANTS), "tflite_micro")
    | {"nir": "nir", "nir-norse": "norse", "nir-spikingjelly": "spikingjelly"}
    | {name: name.partition("-")[0] for name in FEWEST if name.startswith(("brian2", "snntorch"))}
)
HEAD = """# What runs where

Every recurrent family, small and with random weights, compiled for every target and compared with the golden model, in
every run of the tests. *exact*: every bit of every output of every step. *float, close*: float32, within 1e-4 (in
TFLite Micro 1e-5; on a board or the host: where the family has no integer form). *statistical*: analog noise, or a
simulator's own rounding, judged by accuracy. *-*: refused, for the reason below the tables. *too big*: more than the
board has room for. TFLite Micro: *tflm* is int16x8; [its operators and refusals](tflite/operators.md). Spiking columns
say that the simulator runs what the conversion made; how well that follows the network is in
[spiking](spiking.md).

"""


def test_every_target_and_a_floor_for_each() -> None:
    described = [hardware.find(name) for name in hardware.names()]
    runs = [d for d in described if not isinstance(d, hardware.Board) or d.resident or d.core.isa == "host"]
    # what a crossbar runs doesn't depend on its devices: two stand for all
    crossbars = {d.name for d in runs if isinstance(d, hardware.Crossbar)} - {"ideal-128", "pcm-128"}
    assert (
        set(FEWEST) - set(VARIANTS) == {d.name for d in runs} - crossbars
    )  # boards left out are for libraries and fit checks
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
    described = hardware.find(VARIANTS.get(target, (target,))[0])
    resident = isinstance(described, hardware.Board) and described.resident
    with emulator.open_board(described) if resident else nullcontext() as board:  # type: ignore[arg-type]
        yield board


def _cell(case: Case, target: str, board: link.Board | None) -> str:
    target, given = VARIANTS.get(target, (target, {}))
    described = hardware.find(target)
    times = 4 if described.kind == "neuromorphic" else 1  # a readout is fitted there, which takes more samples
    tiled = {name: np.tile(array, (times, *(1,) * (array.ndim - 1))) for name, array in case.inputs.items()}
    lengths = None if case.lengths is None else np.tile(case.lengths, times)
    samples = replace(data.arrange(tiled, case.program), lengths=lengths)
    width = next(iter(case.program.output_types().values())).shape
    labelled = replace(samples, labels=np.arange(samples.samples) % min([3, *width]))
    float_only = described.backend == "c" and not case.integer
    tool = "gcc" if board and "gcc" in c_toolchain.toolchains(target) else None
    # Rates with fixed ticks: the search for the cheapest has tests of its own.
    more: dict[str, Any] = {"ticks": 4, "pieces": 1} if getattr(described, "method", None) == "rate" else dict(given)
    more |= {"numerics": "float"} if float_only else {}
    built = neurodeploy.compile(case.program, described, labelled, toolchain=tool, costs=False, **more)
    options: dict[str, Any] = {"board": board} if board else {}
    if described.backend == "brian2":
        options["codegen"] = "numpy"  # one C++ build a family would take minutes
    run = validate(built, samples, **options).run
    golden = run.agreement[0]
    assert all(a.holds is not False for a in run.agreement), f"{case.name} on {target}: {first_difference(run)}"
    assert golden.compared > 0
    if golden.equality == "exact":
        return "exact"
    return "float, close" if golden.equality.startswith("close") else "statistical"


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "/")


def _tables() -> tuple[dict[str, dict[str, str]], list[str]]:
    """Target -> family -> what the page says, and the lines of reasons."""
    columns: dict[str, dict[str, str]] = {}
    head: list[str] = []
    reasons: list[str] = []
    for line in SUPPORT.read_text().splitlines() if SUPPORT.exists() else []:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or set(line) <= set("|-"):
            continue
        if cells[0] in ("family", "refused"):
            head = cells
        elif head[0] == "refused":
            reasons.append(line)
        else:
            for target, word in zip(head[1:], cells[1:], strict=True):
                columns.setdefault(target, {})[cells[0]] = word
    return columns, reasons


def _column(target: str) -> dict[str, str]:
    return _tables()[0].get(target, {})


def _write(target: str, found: dict[str, str], reasons: dict[str, str]) -> None:
    columns, old = _tables()
    columns[target] = found
    lines = []
    for title, wanted in (("Boards, TFLite Micro, crossbars", False), ("Spiking", True)):
        order = [t for t in FEWEST if t in columns and t.startswith(("brian2", "snntorch", "nir")) == wanted]
        lines += [f"## {title}", "", f"| family | {' | '.join(order)} |", "|" + "---|" * (len(order) + 1)]
        lines += [f"| {name} | {' | '.join(columns[t].get(name, '') for t in order)} |" for name in CASES]
        lines.append("")
    kept = [line for line in old if f"| {target} |" not in line]
    kept += [f"| {name} | {target} | {reason} |" for name, reason in reasons.items()]
    kept.sort(key=lambda line: (list(CASES).index(line.strip("|").split("|")[0].strip()),
                                list(FEWEST).index(line.strip("|").split("|")[1].strip())))  # fmt: skip
    lines += ["## Refused", "", "| refused | by target | why |", "|---|---|---|", *kept, ""]
    SUPPORT.write_text(HEAD + "\n".join(lines))
