"""Executors for :func:`neurodeploy.ir.drive.drive` that let a step program's Brian2 script run its stages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Program
from neurodeploy.spiking.brian2_plan import FINAL, START
from neurodeploy.spiking.brian2_program import STEPS, plan_of, sent_of
from neurodeploy.spiking.brian2_run import Brian2


class StepEngine:
    """Whole blocks of steps of one stage; after a run ``events`` holds the changes ``[batch, steps, n]`` of every sent
    value, as the receivers got them."""

    def __init__(self, program: Program, stage: str, files: Mapping[str, bytes], brian2: Brian2) -> None:
        self.program, self.stage, self.files, self.brian2 = program, program.stage(stage), files, brian2
        self.events: dict[str, np.ndarray] = {}
        self._init: dict[str, np.ndarray] = {}
        self._final: dict[str, np.ndarray] = {}

    def reset(self, batch: int, init: Mapping[str, np.ndarray]) -> None:
        """Forget everything; ``init``: the states that start from data."""
        self.events, self._init, self._final = {}, dict(init), {}

    def states(self) -> dict[str, np.ndarray]:
        """The states that the program reads when the stage has ended."""
        return self._final

    def step(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Not offered: Brian2 runs whole sequences."""
        raise UnsupportedError("Brian2 runs whole sequences, not steps.", hint="Leave out states=True.")

    def run_block(self, inputs: Mapping[str, np.ndarray], active: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs ``[batch, steps, ...]`` of whole inputs ``[batch, steps, ...]``."""
        graph, (batch, steps) = self.stage.graph, active.shape
        types = graph.output_types()
        outputs = {name: np.zeros((batch, steps, *t.shape), t.numpy) for name, t in types.items()}
        made = plan_of(self.program, self.stage.name)
        lengths = active.sum(axis=1)
        longest = int(lengths.max(initial=0))
        found: dict[str, np.ndarray] = {}
        if longest:
            given = {name: x.reshape(batch, steps, -1) for name, x in inputs.items()}
            for name, start in self._init.items():
                given[f"{name}{START}"] = np.repeat(start.reshape(batch, 1, -1), steps, axis=1)
            frames = max(STEPS, 1 << (longest - 1).bit_length())
            found = self.brian2.run_script(
                self.files, {**given, "lengths": lengths}, frames, ("--only", self.stage.name)
            )
            for name, t in types.items():
                outputs[name][:, :longest] = found[name].reshape(batch, longest, *t.shape)
        self._finish(found, lengths)
        sent = sent_of(self.program, self.stage.name)
        for name, senders in made.senders.items():
            if name in sent or not sent:
                self.events[name] = self._changes(found, name, senders, (batch, steps))
        return outputs

    def _finish(self, found: Mapping[str, np.ndarray], lengths: np.ndarray) -> None:
        """Final states; a sample without steps ends as it starts."""
        for state in self.stage.graph.states:
            if (array := found.get(f"{state.name}{FINAL}")) is None:
                continue
            start = self._init.get(state.name)
            if start is None:
                start = 0 if state.init is None else self.stage.graph.params[state.init].data
            last = array[np.arange(len(lengths)), np.maximum(lengths - 1, 0)].reshape(-1, *state.type.shape)
            ran = (lengths > 0).reshape(-1, *(1,) * len(state.type.shape))
            self._final[state.name] = np.where(ran, last, start).astype(state.type.numpy)

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
