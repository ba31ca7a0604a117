"""The compiled reference as a runner: any spiking build, whatever simulator it was made for, in event-driven loops."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends import check_run, spiking
from neurodeploy.errors import UsageError, require
from neurodeploy.ir import text
from neurodeploy.spiking import reference, step_events
from neurodeploy.version import release


class ReferenceRunner:
    """Runs a spiking build in compiled loops, equal to its simulator spike for spike: a network of neurons, or an
    n-level program whose products events deliver."""

    name = "reference"

    def run(
        self, artifact: Artifact, inputs: dict[str, np.ndarray], lengths: np.ndarray | None = None, *,
        states: bool = False, threads: int = 1, **options: Any,
    ) -> Trace:  # fmt: skip
        """Run a batch; ``trace.counters["spikes"]`` is ``[batch, frames]``. ``threads``: of a network of neurons.

        Raises :class:`UsageError` for a build without spikes or for states of neurons, :class:`MissingExtraError`
        without numba, :class:`DataError` for data that don't fit.
        """
        check_run(self, artifact, None, options)
        if threads < 1:
            raise UsageError(f"threads is {threads}; needed 1 or more.")
        numba = require("numba", "spiking", reference.WHY)
        where = f"compiled event-driven loops, {threads} thread{'s' * (threads > 1)}"
        net = spiking.net_of(artifact)
        if net is not None:
            spiking.refuse_states(self.name, states)
            simulate = functools.partial(reference.simulate, threads=threads)
            trace, engine = spiking.run_net(artifact, net, inputs, lengths, simulate)
            figures = spiking.net_figures(artifact, net, trace, engine, where)
        else:
            program = text.from_files(artifact.files, "program")
            if "sent" not in program.meta.get("spiking", {}):
                raise UsageError(
                    f"holds no spiking network (backend {artifact.backend}).",
                    place=artifact.name,
                    hint="Compile it for a spiking target: neurodeploy targets list.",
                )
            trace, changes = step_events.run(program, inputs, lengths, states=states)
            figures = spiking.step_figures(artifact, program, trace, changes, where)
        trace.record = {
            "where": f"{where}, on this machine",
            "versions": {"numba": numba.__version__, "numpy": np.__version__},
            "simulator": "reference",
            "version": release(),
            "dt": None if net is None else net.dt_s,
            "seed": None,
            "figures": figures,
        }
        return trace
