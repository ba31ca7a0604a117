"""Executors for :func:`neurodeploy.ir.drive.drive` that let a step program's Brian2 script run its stages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Program
from neurodeploy.spiking.brian2_plan import plan
from neurodeploy.spiking.brian2_program import STEPS
from neurodeploy.spiking.brian2_run import Brian2


class StepEngine:
    """Whole blocks of steps of one stage; after a run ``events`` holds the changes ``[batch, steps, n]`` of every sent
    value, as the receivers got them."""

    def __init__(self, program: Program, stage: str, files: Mapping[str, bytes], brian2: Brian2) -> None:
        self.program, self.stage, self.files, self.brian2 = program, program.stage(stage), files, brian2
        self.events: dict[str, np.ndarray] = {}

    def reset(self, batch: int, init: Mapping[str, np.ndarray]) -> None:
        """Forget everything."""
        self.events = {}

    def states(self) -> dict[str, np.ndarray]:
        """None: programs that read a state at the end are refused."""
        return {}

    def step(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Not offered: Brian2 runs whole sequences."""
        raise UnsupportedError("Brian2 runs whole sequences, not steps.", hint="Leave out states=True.")

    def run_block(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs ``[batch, steps, ...]`` of whole inputs ``[batch, steps, ...]``."""
        graph, (batch, steps) = self.stage.graph, active.shape
        types = graph.output_types()
        outputs = {name: np.zeros((batch, steps, *t.shape), t.numpy) for name, t in types.items()}
        made = plan(self.stage, self._sent(), f"{self.program.name}/{self.stage.name}")
        lengths = active.sum(axis=1)
        longest = int(lengths.max(initial=0))
        found: dict[str, np.ndarray] = {}
        if longest:
            given = {name: x.reshape(batch, steps, -1) for name, x in inputs.items()}
            frames = max(STEPS, 1 << (longest - 1).bit_length())
            found = self.brian2.run_script(
                self.files, {**given, "lengths": lengths}, frames, ("--only", self.stage.name)
            )
            for name, t in types.items():
                outputs[name][:, :longest] = found[name].reshape(batch, longest, *t.shape)
        for name, senders in made.senders.items():
            if name in self._sent() or not self._sent():
                self.events[name] = self._changes(found, name, senders, (batch, steps))
        return outputs

    def _sent(self) -> tuple[str, ...]:
        return tuple(self.program.meta.get("spiking", {}).get("sent", {}).get(self.stage.name, ()))

    def _changes(
        self, found: Mapping[str, np.ndarray], name: str, senders: list[tuple[str, int, int, bool]],
        shape: tuple[int, int],
    ) -> np.ndarray:  # fmt: skip
        """What was sent of a value; what is sent a step ahead counts in the step that reads it."""
        size = int(np.prod(self.stage.graph.tensor(name).shape))
        changes = np.zeros((shape[0], shape[1] + 1, size), np.int64)
        for variable, start, _, ahead in senders:
            events = found.get(f"events.{self.stage.name}.{variable}")
            if events is not None:
                sample, step, neuron, change = events
                changes[sample, step + ahead, start + neuron] = change
        return changes[:, : shape[1]]
