"""Where a crossbar's error comes from: each effect alone and all but one, on the same chips."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import compiler, hardware
from neurodeploy.compiler import Built
from neurodeploy.crossbar.attribution import ABSENT, Attribution, attribute
from neurodeploy.crossbar.effects import EFFECTS, present
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import DataError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage

PCM, IDEAL = hardware.find("pcm-128", Crossbar), hardware.find("ideal-128", Crossbar)
RNG = np.random.default_rng(2)
X = RNG.normal(size=(24, 6, 3)).astype(np.float32)
DATA = Data({"x": X}, RNG.integers(2, 7, len(X)), np.arange(len(X)) % 4)


def network(scale: float = 1.0) -> Program:
    w, b = np.random.default_rng(0).normal, Builder()
    x, h = b.input("x", (3,)), b.state("h", (8,))
    new = b("tanh", b.param("W", w(size=(8, 3))) @ x + b.param("U", w(size=(8, 8)) / 3) @ h)
    b.next(h, new)
    b.output("y", b.param("V", w(size=(4, 8)) * scale) @ new)
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "s", "last")})


def built(target: Crossbar, scale: float = 1.0) -> Built:
    return compiler.compile(network(scale), target, DATA)


def rows(found: Attribution) -> dict:
    return {row.effect: row for row in found.rows}


def test_an_ideal_target_has_no_error_and_no_effect():
    found = attribute(built(IDEAL).artifact, DATA, chips=2)
    assert found.none.error < 1e-6 and found.every == found.none and found.none.score == found.golden
    assert [row.effect for row in found.rows] == list(EFFECTS)
    assert all(row.alone is None and row.without is None and row.share is None for row in found.rows)
    heads, lines = found.table()
    assert all(len(line) == len(heads) for line in lines)
    assert [line[1] for line in lines if line[0] in EFFECTS] == [ABSENT] * len(EFFECTS)


def test_the_only_effect_is_all_of_the_error():
    device = IDEAL.device.model_copy(
        update={"programming": PCM.device.programming, "g_max_siemens": PCM.device.g_max_siemens}
    )
    target = IDEAL.model_copy(update={"device": device})
    assert present(target) == {"programming"}
    found = attribute(built(target).artifact, DATA, chips=3)
    row = rows(found)["programming"]
    assert row.alone == found.every and row.without == found.none and row.share == 1.0
    assert found.every.error > 0.01 and found.none.error < 1e-6


def test_errors_are_those_of_the_runner_with_these_effects():
    made, year = built(PCM), 31_536_000.0
    found = attribute(made.artifact, DATA, chips=3, age="1y", seed=5)
    golden = interpret.run(made.program, DATA.inputs, DATA.lengths).outputs["y"].astype(np.float64)

    def errors(effects: set[str]) -> list[float]:
        trace = CrossbarRunner().run(
            made.artifact, dict(DATA.inputs), DATA.lengths, chips=3, times=(year,), seed=5, effects=effects
        )
        return [float(np.linalg.norm(chip - golden) / np.linalg.norm(golden)) for chip in trace.chip_outputs["y"][0]]

    every = errors(set(EFFECTS))
    assert found.every.error == pytest.approx(np.mean(every)) and found.every.error_sd == pytest.approx(
        np.std(every, ddof=1)
    )
    drift = rows(found)["drift"]
    assert drift.alone is not None and drift.without is not None
    assert drift.alone.error == pytest.approx(np.mean(errors({"drift"})))
    assert drift.without.error == pytest.approx(np.mean(errors(set(EFFECTS) - {"drift"})))
    there = [row for row in found.rows if row.alone is not None]
    assert {row.effect for row in there} == present(PCM)
    assert sum(row.share or 0.0 for row in there) == pytest.approx(1.0)
    assert json.loads(json.dumps(found.as_dict()))["rows"][0]["effect"] == next(iter(EFFECTS))
    names = [line[0] for line in found.table()[1]]
    assert names[:2] == ["none", "all"] and names[2] == max(there, key=lambda row: row.share or 0.0).effect


def test_read_noise_alone_is_what_it_is_beside_drift():
    made = built(PCM)
    found = rows(attribute(made.artifact, DATA, chips=2))  # at the first read nothing has drifted yet
    alone, drift = found["read noise"].alone, found["drift"].alone
    assert alone is not None and drift is not None
    assert drift.error < 1e-6 and alone.error > 0.01


def test_without_labels_the_first_output_is_compared_and_no_score_is_given():
    found = attribute(built(PCM).artifact, replace(DATA, labels=None), chips=1)
    assert found.metric is None and found.golden is None and found.every.score is None
    assert found.every.error > 0 and found.every.error_sd == 0.0
    assert len(found.table()[0]) == 4


def test_what_has_no_relative_error_is_said():
    with pytest.raises(DataError, match="golden model's outputs are all zero"):
        attribute(built(IDEAL, scale=0.0).artifact, DATA, chips=1)
    with pytest.raises(UsageError, match="'next week' is no time"):
        attribute(built(IDEAL).artifact, DATA, age="next week")
