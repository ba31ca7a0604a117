"""Brian2: a spiking network as a readable script of its own, compiled once and run with every new input.

The build holds ``network.py`` and its data, which need nothing of neurodeploy; the runner runs that very script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Artifact, Figure, Resources, Trace
from neurodeploy.backends import Capability, check_run, spiking
from neurodeploy.errors import UsageError
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive
from neurodeploy.spiking import brian2_program, brian2_script
from neurodeploy.spiking.brian2_run import Brian2
from neurodeploy.spiking.brian2_script import SCRIPT
from neurodeploy.spiking.brian2_step import StepEngine

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic, Target
    from neurodeploy.ir.graph import Graph, Program


class Brian2Backend:
    """Compiles recurrent networks for targets of ``backend = "brian2"``."""

    name = "brian2"

    def accepts(self, target: Target) -> Capability:
        """What the target's conversion takes; exact."""
        return Capability(frozenset(), frozenset({"f32"}), frozenset({"forward", "reverse"}), frozenset(), "exact")

    def compile(
        self, program: Program, target: Neuromorphic, *, data: Data | None = None, source: Program | None = None,
        name: str | None = None, progress: Callable[[str], None] = lambda _: None, **options: Any,
    ) -> Artifact:  # fmt: skip
        """The target's conversion of the network, and the script that runs it.

        Raises :class:`UsageError` without data or for an option that the conversion hasn't,
        :class:`UnsupportedError` for networks that it refuses.
        """
        artifact, made = spiking.build(self.name, source or program, target, data, name, progress, options)
        if made.net is not None:
            artifact.files[SCRIPT] = brian2_script.net_script(made.net, spiking.NET, artifact.name).encode()
        else:
            artifact.files.update(brian2_program.program_files(made.program, artifact.name))
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """Neurons and synapses."""
        return spiking.resources(artifact)


class Brian2Runner:
    """Runs a build's script in Brian2, samples side by side and one after another in one network."""

    name = "brian2"

    def run(
        self, artifact: Artifact, inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None = None, *,
        states: bool = False, codegen: str = "auto", **options: Any,
    ) -> Trace:  # fmt: skip
        """Simulate a batch; ``trace.counters["spikes"]`` is ``[batch, frames]``.

        ``codegen``: ``"cpp"`` compiles, ``"numpy"`` doesn't, ``"auto"`` compiles where there is a compiler. Raises
        :class:`MissingExtraError` without Brian2 or compiler, :class:`BuildError`, :class:`DataError`.
        """
        check_run(self, artifact, (self.name,), options)
        spiking.refuse_states(self.name, states)
        if SCRIPT not in artifact.files:
            raise UsageError(f"holds no {SCRIPT}.", place=artifact.name, hint="Compile it again.")
        net = spiking.net_of(artifact)
        brian2 = Brian2(codegen, artifact.files[SCRIPT])
        if net is None:
            return _run_program(artifact, inputs, lengths, brian2)
        trace, engine = spiking.run_net(artifact, net, inputs, lengths, brian2)
        trace.record = _record(brian2, net.dt_s, spiking.net_figures(artifact, net, trace, engine, brian2.run.engine))
        return trace


def _run_program(
    artifact: Artifact, inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None, brian2: Brian2
) -> Trace:
    """Run a step program's script, stage by stage."""
    program = text.from_files(artifact.files, "program")
    files = {name: artifact.files[name] for name in (SCRIPT, brian2_program.DATA)}
    engines: dict[str, StepEngine] = {}

    def executor(stage: str, graph: Graph) -> StepEngine:
        engines[stage] = StepEngine(program, stage, files, brian2)
        return engines[stage]

    trace = drive(program, dict(inputs), lengths, executor)
    events = {f"{stage}.{name}": array for stage, engine in engines.items() for name, array in engine.events.items()}
    trace.record = _record(brian2, None, spiking.step_figures(artifact, program, trace, events, brian2.run.engine))
    return trace


def _record(brian2: Brian2, dt_s: float | None, figures: list[Figure]) -> dict[str, Any]:
    how = brian2.run
    if how.build_seconds is not None:
        figures.append(Figure("compile time", round(how.build_seconds, 2), "s", "measured", f"once; {how.engine}"))
    return {
        "where": f"{how.engine}, on this machine",
        "versions": {"brian2": how.version, "numpy": np.__version__},
        "simulator": "brian2",
        "version": how.version,
        "dt": dt_s,
        "seed": None,
        "warnings": list(how.warnings),
        "figures": figures,
    }
