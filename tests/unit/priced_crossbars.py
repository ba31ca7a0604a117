"""A made-up technology, a small target and a network whose costs can be worked out by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.artifact import Figure
from neurodeploy.crossbar import costs
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_technology import CrossbarTechnology
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.passes.tiling import Tiling

SAID: dict[str, Any] = {"source": "made up"}
TECHNOLOGY: dict[str, Any] = {
    "kind": "crossbar-technology", "name": "made-up", "title": "Made up", "node_nm": 10,
    "adc": {
        "energy": {"bits": [4, 8], "joule": [0.05e-12, [0.1e-12, 0.2e-12]], **SAID},
        "time": {"bits": [8], "seconds": [[5e-9, 20e-9]], **SAID},
        "area": {"bits": [8], "area_m2": [50e-12], **SAID},
    },
    "dac": {
        "energy": {"bits": [1, 8], "joule": [0.5e-12, [1e-12, 2e-12]], **SAID},
        "area": {"bits": [1, 8], "area_m2": [1e-12, 3e-12], **SAID},
    },
    "transistor": {
        "cell": {"area_m2": [0.1e-12, 0.2e-12], **SAID},
        "line_energy": {"cell_joule": 1e-15, "select_joule": 2e-15, **SAID},
        "line_area": {"row_m2": 1e-12, "column_m2": 2e-12, "array_m2": 5e-12, **SAID},
    },
    "digital": {
        "integer_add": {"bits": [8, 32], "joule": [0.1e-12, 0.3e-12], **SAID},
        "integer_multiply": {"bits": [8, 32], "joule": [0.2e-12, 2e-12], **SAID},
        "float_add": {"bits": [32], "joule": [1e-12], **SAID},
        "float_multiply": {"bits": [32], "joule": [4e-12], **SAID},
        "lookup": {"joule": [0.2e-12, 0.5e-12], **SAID},
        "clock": {"clock_hz": 1e9, **SAID},
    },
    "buffer": {"bit_joule": [0.01e-12, 0.02e-12], **SAID},
}  # fmt: skip
TARGET: dict[str, Any] = {
    "kind": "crossbar", "name": "small", "title": "Small", "backend": "crossbar", "technologies": ["made-up"],
    "array": {"rows": 4, "columns": 8, **SAID},
    "device": {"technology": "ideal", "g_min_siemens": 1e-6, "g_max_siemens": 11e-6, **SAID},
    "read": {"volts": 0.5, "pulse_s": 10e-9, **SAID},
    "dac": {"bits": 8, **SAID},
    "adc": {"bits": 8, "columns_per_adc": 4, **SAID},
}  # fmt: skip
WEIGHTS = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]], np.float32)


def target_of(**tables: Any) -> Crossbar:
    given = copy.deepcopy(TARGET)
    for name, table in tables.items():
        given[name] = {**given[name], **table} if isinstance(table, dict) and name in given else table
    return Crossbar.model_validate({name: table for name, table in given.items() if table is not None})


def use(monkeypatch: pytest.MonkeyPatch, described: dict[str, Any]) -> None:
    made = CrossbarTechnology.model_validate(described)
    real = hardware.find_technology
    monkeypatch.setattr(hardware, "find_technology", lambda name: made if name == made.name else real(name))


def program_of(b: Builder, **inputs: Any) -> Program:
    stage = Stage("s", b.graph(), inputs_from={name: Ref(name) for name in inputs})
    return Program("net", {n: ProgramInput(t) for n, t in inputs.items()}, (stage,), {"y": Ref.parse("s.y")})


def network() -> Program:
    """``h' = tanh(W x + h)``: the state is added digitally, so that one matrix of two inputs is on the array."""
    b = Builder()
    x, h = b.input("x", (2,)), b.state("h", (3,))
    new = b("tanh", b.param("W", WEIGHTS) @ x + h)
    b.next(h, new)
    b.output("y", new)
    return program_of(b, x=x.type)


def mapped(program: Program, target: Crossbar) -> tuple[Program, tuple[Matrix, ...]]:
    tiled = Tiling.of(target.array)(program)
    return tiled, tiles.matrices(tiled, target)


def figures(target: Crossbar, program: Program | None = None, **given: Any) -> dict[str, Figure]:
    tiled, matrices = mapped(program or network(), target)
    found = costs.compile_figures(tiled, matrices, target, **given)
    assert len({f.name for f in found}) == len(found)
    return {f.name: f for f in found}


def values(target: Crossbar, program: Program | None = None, **given: Any) -> dict[str, float | None]:
    return {name: f.value for name, f in figures(target, program, **given).items()}


def ends(found: dict[str, float | None], name: str) -> tuple[float, float]:
    """Both ends of a figure that is known."""
    low, high = found.get(name, found.get(f"{name}.low")), found.get(name, found.get(f"{name}.high"))
    assert low is not None and high is not None, name
    return low, high
