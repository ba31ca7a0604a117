"""The events of one sample, as a report draws them: a network's spikes by tick, a step program's graded events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.backends import spiking as backend
from neurodeploy.ir import interpret
from neurodeploy.report.schema_spiking import Activity, Population
from neurodeploy.spiking.net import SpikingNet, simulate

if TYPE_CHECKING:
    from neurodeploy.artifact import Artifact
    from neurodeploy.ir.graph import Program

ROWS, TICKS, BINS = 120, 1200, 600
#: Fewer frames than this are cut into more bins.
FEW = 8
_NUMPY = "recomputed in NumPy by the definition that the run is compared with"


def of_sample(
    artifact: Artifact, program: Program, inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None, sample: int = 0
) -> Activity | None:
    """The activity of one sample of a spiking build; None for a build that isn't one, or a sample without steps.

    At most 120 neurons, 1,200 ticks and 600 bins are kept; rates are those of all neurons. A bin is a frame, or a part
    of it where there are fewer than 8 frames.
    """
    one = {name: array[sample : sample + 1] for name, array in inputs.items()}
    steps = None if lengths is None else lengths[sample : sample + 1]
    net = backend.net_of(artifact)
    if net is not None:
        return _of_net(artifact, net, one, steps, sample)
    sent = (program.meta.get("spiking") or {}).get("sent")
    if not sent:
        return None
    seen: dict[str, list[np.ndarray]] = {f"{stage}.{value}": [] for stage, values in sent.items() for value in values}

    def observe(stage: str, name: str, array: np.ndarray, active: np.ndarray) -> None:
        if (key := f"{stage}.{name}") in seen and active.any():
            seen[key].append(np.asarray(array, np.int64).reshape(-1))

    interpret.run(program, one, steps, observe=observe)
    changes = {key: np.diff(levels, axis=0, prepend=0 * levels[:1]) for key, rows in seen.items()
               if len(levels := np.array(rows))}  # fmt: skip
    if not changes:
        return None
    frames = max(len(rows) for rows in changes.values())
    return Activity(
        sample=sample, unit="graded events", frames=frames, ticks=1, ticks_shown=min(frames, TICKS), bin_ticks=1,
        how="simulated", where=_NUMPY,
        populations=_populations(changes, 1, min(frames, TICKS), graded=True),
    )  # fmt: skip


def _of_net(
    artifact: Artifact, net: SpikingNet, inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None, sample: int
) -> Activity | None:
    trace, engine = backend.run_net(artifact, net, inputs, lengths, partial(simulate, raster=True))
    frames = int(next(iter(trace.steps.values()))[0])
    if engine.activity is None or engine.activity.raster is None or not frames:
        return None
    raster = engine.activity.raster[0, : frames * net.ticks].astype(np.int64)
    shown = min(frames * net.ticks, TICKS)
    width = net.ticks if frames >= FEW else max(1, net.ticks * frames // 32)
    rows = {name: raster[:, start:stop] for name, start, stop in net.populations}
    return Activity(
        sample=sample, unit="spikes", frames=frames, ticks=net.ticks, tick_s=net.dt_s,
        bin_ticks=width, ticks_shown=shown,
        how="simulated", where=_NUMPY,
        populations=_populations(rows, width, shown, graded=False),
    )  # fmt: skip


def _populations(rows: Mapping[str, np.ndarray], width: int, shown: int, *, graded: bool) -> list[Population]:
    """From events ``[ticks, neurons]`` by name; rates are of whole bins of ``width`` ticks, and the rows drawn are
    spread evenly over each population."""
    total = sum(array.shape[1] for array in rows.values())
    made = []
    for name, array in rows.items():
        size = array.shape[1]
        kept = min(size, max(1, round(size * min(1.0, ROWS / total))))
        chosen = [int(i) for i in np.linspace(0, size - 1, kept).round()]
        drawn = array[:shown, chosen]
        events = [np.flatnonzero(column).tolist() for column in drawn.T]
        whole = array[: len(array) // width * width]
        counts = np.count_nonzero(whole.reshape(-1, width, size), axis=(1, 2)) / size
        made.append(
            Population(
                name=name, size=size, total=int(np.count_nonzero(array)), shown=chosen, events=events,
                rates=[round(float(rate), 4) for rate in counts[:BINS]],
                sizes=[column[column != 0].tolist() for column in drawn.T] if graded else None,
            )
        )  # fmt: skip
    return made
