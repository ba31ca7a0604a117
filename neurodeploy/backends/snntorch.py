"""snnTorch: spiking networks and sigma-delta step programs as modules of its neurons, equal to the golden model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Artifact, Resources, Trace
from neurodeploy.backends import Capability, check_run, spiking
from neurodeploy.errors import UsageError, require
from neurodeploy.ir import text
from neurodeploy.spiking import snntorch_net, snntorch_step

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic, Target
    from neurodeploy.ir.graph import Program
    from neurodeploy.spiking.net import Activity, SpikingNet

DRIVES = frozenset({"forward", "reverse", "order", "until", "generate"})


class SnnTorchBackend:
    """Compiles recurrent networks for targets of ``backend = "snntorch"``."""

    name = "snntorch"

    def accepts(self, target: Target) -> Capability:
        """What the target's conversion takes; exact."""
        return Capability(frozenset(), frozenset({"f32"}), DRIVES, frozenset(), "exact")

    def compile(
        self, program: Program, target: Neuromorphic, *, data: Data | None = None, source: Program | None = None,
        name: str | None = None, progress: Callable[[str], None] = lambda _: None, **options: Any,
    ) -> Artifact:  # fmt: skip
        """The target's conversion of the network.

        Raises :class:`UsageError` without data or for an option that the conversion hasn't,
        :class:`UnsupportedError` for networks that it refuses.
        """
        artifact, _ = spiking.build(self.name, source or program, target, data, name, progress, options)
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """Neurons and synapses."""
        return spiking.resources(artifact)


class SnnTorchRunner:
    """Runs a build in snnTorch, all samples in one batch."""

    name = "snntorch"

    def run(
        self, artifact: Artifact, inputs: dict[str, np.ndarray], lengths: np.ndarray | None = None, *,
        states: bool = False, threads: int = 1, **options: Any,
    ) -> Trace:  # fmt: skip
        """Simulate a batch; ``trace.counters["spikes"]`` is ``[batch, frames]``, graded events where they are graded.

        Raises :class:`UsageError` for states of a network of neurons, :class:`MissingExtraError` without snnTorch,
        :class:`DataError` for data that don't fit, :class:`UnsupportedError` for what snnTorch can't run exactly.
        """
        check_run(self, artifact, spiking.BACKENDS, options)
        if threads < 1:
            raise UsageError(f"threads is {threads}; needed 1 or more.")
        torch = require("torch", "spiking", snntorch_step.WHY)
        snntorch = require("snntorch", "spiking", snntorch_step.WHY)
        version = f"snnTorch {snntorch.__version__}, torch {torch.__version__}"
        net = spiking.net_of(artifact)
        if net is not None:
            spiking.refuse_states(self.name, states)

            def simulate(net: SpikingNet, x: np.ndarray, active: np.ndarray) -> Activity:
                return snntorch_net.simulate(net, x, active, threads=threads)

            trace, engine = spiking.run_net(artifact, net, inputs, lengths, simulate)
            figures = spiking.net_figures(artifact, net, trace, engine, version)
        else:
            program = text.from_files(artifact.files, "program")
            trace, changes = snntorch_step.run(program, inputs, lengths, states=states, threads=threads)
            figures = spiking.step_figures(artifact, program, trace, changes, version)
        trace.record = {
            "where": f"{version} on this machine",
            "versions": {"snntorch": snntorch.__version__, "torch": str(torch.__version__), "numpy": np.__version__},
            "simulator": "snntorch",
            "version": snntorch.__version__,
            "dt": None if net is None else net.dt_s,
            "seed": None,
            "figures": figures,
        }
        return trace
