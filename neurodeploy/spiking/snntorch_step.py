"""An n-level step program run in snnTorch, a batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.artifact import Trace
from neurodeploy.errors import require
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.spiking.snntorch_net import exact

if TYPE_CHECKING:
    from neurodeploy.spiking.snntorch_step_module import StepEngine

WHY = "the target's simulator"


def run(
    program: Program, inputs: dict[str, np.ndarray], lengths: np.ndarray | None = None, *, states: bool = False,
    threads: int = 1,
) -> tuple[Trace, dict[str, np.ndarray]]:  # fmt: skip
    """Run an n-level program: its trace, and the events ``[batch, steps, n]`` of each sent value as ``stage.value``.

    Raises :class:`UnsupportedError` naming an op without an exact form, :class:`DataError` for data that don't fit,
    :class:`MissingExtraError` without snnTorch.
    """
    torch, _ = require("torch", "spiking", WHY), require("snntorch", "spiking", WHY)
    from neurodeploy.spiking.snntorch_step_module import StepEngine

    sent = program.meta["spiking"]["sent"]
    engines: dict[str, StepEngine] = {}

    def executor(stage: str, graph: Graph) -> StepEngine:
        engines[stage] = StepEngine(graph, sent.get(stage, ()), f"{program.name}/{stage}")
        return engines[stage]

    with torch.inference_mode(), exact(threads):
        trace = drive(program, inputs, lengths, executor, states=states)
    return trace, {f"{stage}.{name}": found for stage, e in engines.items() for name, found in e.events.items()}
