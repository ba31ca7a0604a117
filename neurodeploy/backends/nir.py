"""NIR: a spiking network as a file for other simulators and chips, in the dialect of the one that shall read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Artifact, Figure, Resources, Trace
from neurodeploy.backends import Capability, check_run, spiking
from neurodeploy.errors import UnsupportedError, UsageError, require
from neurodeploy.spiking import costs, nir_run, nir_write
from neurodeploy.spiking.net import Activity, SpikingNet
from neurodeploy.spiking.net import simulate as definition

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic, Target
    from neurodeploy.ir.graph import Program

FILE = "network.nir"
#: Where the file's simulator rounds elsewhere: an accuracy this close to the golden model's.
ROUNDED = "statistical(0.02)"
#: The module that runs a dialect's files, whose version a run's record names.
MODULES = {"nir": "nir", "norse": "norse", "spikingjelly": "spikingjelly", "snntorch": "snntorch"}


class NirBackend:
    """Compiles recurrent networks for targets of ``backend = "nir"``; the target's ``package`` is the dialect."""

    name = "nir"

    def accepts(self, target: Target) -> Capability:
        """What the target's conversion takes; exact."""
        return Capability(frozenset(), frozenset({"f32"}), frozenset({"forward"}), frozenset(), "exact")

    def compile(
        self, program: Program, target: Neuromorphic, *, data: Data | None = None, source: Program | None = None,
        name: str | None = None, progress: Callable[[str], None] = lambda _: None, **options: Any,
    ) -> Artifact:  # fmt: skip
        """The target's conversion of the network, and ``network.nir``.

        Raises :class:`UsageError` without data or for an option that the conversion hasn't,
        :class:`UnsupportedError` for networks that it refuses and for what the dialect can't say.
        """
        source = source or program
        artifact, made = spiking.build(self.name, source, target, data, name, progress, options)
        if made.net is None:
            raise UnsupportedError(
                f"NIR has no graded events and no products, which the method '{target.method}' needs.",
                place=target.name, hint="Use a target with the method rate.",
            )  # fmt: skip
        artifact.files[FILE] = nir_write.to_bytes(made.net, target.package, f"{source.name} on {target.name}")
        if nir_write.rounds(made.net, target.package):
            artifact.manifest["equality"] = ROUNDED
        layout = artifact.manifest["layout"]
        layout["nir"] = {"dialect": target.package, "file": FILE, "dt_s": made.net.dt_s, "ticks": made.net.ticks}
        return artifact

    def resources(self, artifact: Artifact) -> Resources:
        """Neurons and synapses."""
        return spiking.resources(artifact)


class NirRunner:
    """Runs a build's file in the simulator that it is for, read by that simulator."""

    name = "nir"

    def run(
        self, artifact: Artifact, inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None = None, *,
        states: bool = False, **options: Any,
    ) -> Trace:  # fmt: skip
        """Run a batch; ``trace.counters["spikes"]`` is ``[batch, frames]``. Scores are read from the spikes here.

        Raises :class:`MissingExtraError` without the simulator, :class:`BuildError` where it can't read the file,
        :class:`DataError` for data that don't fit.
        """
        check_run(self, artifact, (self.name,), options)
        spiking.refuse_states(self.name, states)
        net = spiking.net_of(artifact)
        if net is None or FILE not in artifact.files:
            raise UsageError("the build holds no NIR file.", place=artifact.name, hint="Compile it again.")
        dialect = costs.target_of(artifact).package
        version = getattr(require(MODULES[dialect], "nir", nir_run.WHY), "__version__", "of unknown version")
        if dialect == "spikingjelly":
            from importlib.metadata import version as installed

            version = installed("spikingjelly")

        differ: list[tuple[int, int, int]] = []

        def simulate(net: SpikingNet, x: np.ndarray, active: np.ndarray) -> Activity:
            theirs = nir_run.simulate(net, artifact.files[FILE], dialect, x, active, raster=True)
            differ.append(_differences(theirs, definition(net, x, active, raster=True)))
            return theirs

        trace, engine = spiking.run_net(artifact, net, inputs, lengths, simulate)
        reader = "the importer and the golden model" if dialect == "nir" else f"{dialect} {version}"
        where = f"{reader}, reading {FILE}"
        trace.record = {
            "where": f"{where}, on this machine",
            "versions": {MODULES[dialect]: str(version), "numpy": np.__version__},
            "simulator": dialect,
            "version": str(version),
            "dt": net.dt_s,
            "seed": None,
            "figures": [*spiking.net_figures(artifact, net, trace, engine, where), *map(_agreement, differ)],
        }
        return trace


def _differences(theirs: Activity, ours: Activity) -> tuple[int, int, int]:
    """Spikes that only one of two has, all spikes of ours, and samples with any difference."""
    if theirs.raster is None or ours.raster is None:
        raise ValueError("rasters are needed")
    apart = theirs.raster != ours.raster
    return int(apart.sum()), int(ours.raster.sum()), int(apart.any(axis=(1, 2)).sum())


def _agreement(found: tuple[int, int, int]) -> Figure:
    apart, spikes, samples = found
    source = f"of {spikes} spikes of the definition; in {samples} samples"
    return Figure("spikes that differ", apart, "spikes", "measured", source)
