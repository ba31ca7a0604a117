"""What a guard saves on the board: steps in which a guarded region doesn't run cost fewer instructions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import neurodeploy
from neurodeploy import data
from neurodeploy.backends import runner
from neurodeploy.ir.cost import stage_cost
from tests.families import CASES

pytestmark = pytest.mark.board


@pytest.mark.parametrize("name", ["clockwork", "history_compressor"])
def test_a_step_that_skips_costs_less(name: str) -> None:
    case = CASES[name]
    samples = replace(data.arrange(dict(case.inputs), case.program), lengths=case.lengths)
    built = neurodeploy.compile(case.program, "mps2-an386", samples, costs=False)
    trace = runner("board").run(built.artifact, dict(case.inputs), case.lengths)
    counts = trace.counters["main.instructions"]
    steps = np.arange(counts.shape[1])
    ran = np.broadcast_to(steps % 3 == 0, counts.shape) if name == "clockwork" else trace.series["main.surprised"] != 0
    executed = steps < trace.steps["main"][:, None]
    dear, cheap = counts[ran & executed], counts[~ran & executed]
    assert len(dear) > 3 and len(cheap) > 3
    assert dear.min() > cheap.max() + 100, "the region is branched around"
    figures = {f.name: f.value for f in trace.record["figures"]}
    assert figures["instructions_worst"] == dear.max()
    assert figures["instructions_mean"] == pytest.approx(counts[executed].mean(), abs=0.1)
    cost = stage_cost(case.program.stages[0].graph)
    assert cost.macs_always < cost.macs
