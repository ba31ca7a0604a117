"""The compiled reference as a runner: any spiking build, whatever simulator it was made for, in event-driven loops."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends import spiking
from neurodeploy.errors import UsageError, require
from neurodeploy.spiking import reference
from neurodeploy.version import release


class ReferenceRunner:
    """Runs a spiking build's network in compiled loops, equal to every simulator spike for spike."""

    name = "reference"

    def run(
        self, artifact: Artifact, inputs: dict[str, np.ndarray], lengths: np.ndarray | None = None, *,
        states: bool = False, threads: int = 1, **options: Any,
    ) -> Trace:  # fmt: skip
        """Run a batch on so many ``threads``; ``trace.counters["spikes"]`` is ``[batch, frames]``.

        Raises :class:`UsageError` for a build without spikes or steps' states, :class:`MissingExtraError` without
        numba, :class:`DataError` for data that don't fit.
        """
        if options:
            raise UsageError(f"the runner reference has no option '{min(options)}'; it has threads.")
        if threads < 1:
            raise UsageError(f"threads is {threads}; needed 1 or more.")
        numba = require("numba", "spiking", reference.WHY)
        net = spiking.net_of(artifact)
        if net is None:
            raise UsageError(
                f"holds no network of spiking neurons (backend {artifact.backend}).",
                place=artifact.name,
                hint="Compile it for a spiking target: neurodeploy targets.",
            )
        simulate = functools.partial(reference.simulate, threads=threads)
        trace, engine = spiking.run_net(artifact, net, inputs, lengths, simulate)
        where = f"compiled event-driven loops on this machine, {threads} thread{'s' * (threads > 1)}"
        trace.record = {
            "where": where,
            "versions": {"numba": numba.__version__, "numpy": np.__version__},
            "simulator": "reference",
            "version": release(),
            "dt": net.dt_s,
            "seed": None,
            "figures": spiking.net_figures(artifact, net, trace, engine, where),
        }
        return trace
