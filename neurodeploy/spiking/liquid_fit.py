"""Fitting a liquid's constants: a fixed grid, scored by cross-validation of its readout on training data only."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.ir.fixed import quantize
from neurodeploy.spiking import net as definition
from neurodeploy.spiking.engine import Simulator
from neurodeploy.spiking.liquid_net import Constants
from neurodeploy.spiking.liquid_readout import Task, best_penalty, cross_validated
from neurodeploy.spiking.net import Activity, SpikingNet
from neurodeploy.spiking.net_program import input_type

TICKS = (4, 8)
GAINS = (1.0, 1.4)
MEMBRANES = (1.0, 0.9)
#: Of what scores this close to the best, the constants with the fewest spikes are taken.
TOLERANCE = 0.005
#: Samples that the constants are chosen with, evenly taken from all; the readout is fitted to all.
SEARCHED = 600


@dataclass(frozen=True)
class Trial:
    """Constants tried: what the readout sees, its penalty and cross-validated score, mean spikes a sample."""

    constants: Constants
    traces: str
    penalty: float
    score: float
    spikes: float


def simulator() -> Simulator:
    """The fast reference where numba is installed, else the definition: the same spikes."""
    if importlib.util.find_spec("numba") is None:
        return definition.simulate
    from neurodeploy.spiking.reference import simulate

    return simulate


def run(net: SpikingNet, x: np.ndarray, active: np.ndarray) -> Activity:
    """What a network does on real inputs ``[batch, frames, inputs]``."""
    return simulator()(net, quantize(x, input_type(net)), active)


def slow(traces: str, unit: np.ndarray) -> np.ndarray:
    """Which neurons' traces count their spikes since the start; the others' forget as the reservoir does."""
    return {"state": unit < -1, "count": unit > -2, "both": unit % 2 == 1}[traces]


def features(activity: Activity, counting: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Traces ``[rows, neurons]`` of the frames ``where``, of a network whose own traces all forget."""
    return np.where(counting, activity.counts.cumsum(axis=1)[where], activity.traces[where]).astype(np.float64)


def search(
    make: Callable[[Constants], tuple[SpikingNet, np.ndarray]], x: np.ndarray, active: np.ndarray, task: Task,
    grid: Sequence[Sequence[float]], traces: Sequence[str], say: Callable[[str], None],
) -> tuple[Trial, list[Trial]]:  # fmt: skip
    """The constants whose readout does best on samples left out, or about as well with the fewest spikes; all tried.

    ``make`` gives a network and the unit of each neuron; ``grid``: ticks, gains, membranes. Nothing is random.
    """
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), SEARCHED)).astype(int))
    task = task.part(some)
    tried = []
    for ticks, gain, membrane in itertools.product(*grid):
        constants = Constants(int(ticks), gain, membrane)
        net, unit = make(constants)
        activity = run(net, x[some], active[some])
        for kind in traces:
            penalty, score = best_penalty(cross_validated(features(activity, slow(kind, unit), task.where), task))
            tried.append(Trial(constants, kind, penalty, score, activity.spikes))
        best = max(tried[-len(traces) :], key=lambda trial: trial.score)
        say(f"liquid {constants.ticks} ticks, gain {gain:g}, membrane {membrane:g}: {task.metric} {best.score:.3f} "
            f"with {best.spikes:.0f} spikes")  # fmt: skip
    top = max(trial.score for trial in tried)
    chosen = min((t for t in tried if t.score >= top - TOLERANCE), key=lambda t: (t.spikes, -t.score))
    return chosen, tried
