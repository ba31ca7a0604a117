"""The choice of a rate conversion's knobs: settings are tried on the calibration data, the cheapest good one is taken.

A setting's **loss** is, with whole-number labels, the accuracy lost against the float network, in points; else the
share of the outputs' variance that it gets wrong, in %. The cheapest setting, by spikes a sample, whose loss and two
standard errors of it together are at most ``max_loss`` is taken: of many settings tried, the cheapest that seems good
enough would often be one that was lucky. Of n samples, b right only in floats and c right only in spikes, the loss is
``(b - c) / n`` and its standard error ``sqrt(b + c) / n``. Nothing is random.

Each run gives two settings: with the network's own readout, and with one refitted to the float network's outputs by
ridge regression on the decoded states. Its penalty pulls towards the network's own weights and is chosen, as its
accuracy is stated, by five-fold cross-validation over samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neurodeploy import errors
from neurodeploy.errors import DataError, UsageError
from neurodeploy.hardware import Neuromorphic
from neurodeploy.ir.fixed import quantize
from neurodeploy.spiking import rate_inside, rate_net, tuning
from neurodeploy.spiking.net import Activity, SpikingNet, simulate
from neurodeploy.spiking.net_program import input_type
from neurodeploy.spiking.rate_net import Built, Knobs
from neurodeploy.spiking.tuning import Code, Curves
from neurodeploy.spiking.units import Units

TICKS = (1, 2, 3, 4, 6, 8, 12, 16)
SPIKES = (1, 2, 3, 4, 6, 8, 12, 16)
PIECES = (1, 2)
MARGINS = (0.1, 0.25)
BETAS = (0.8, 0.9, 0.95)
READOUTS = ("network", "refit")
#: Samples that settings are tried on: the first of the data.
SAMPLES = 512
#: Settings are tried up to this many times the spikes of the one that is good enough.
BEYOND = 2.0
#: Standard errors that are added to a loss.
SURE = 2.0
FOLDS = 5
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Task:
    """What settings are judged on. ``x`` [batch, steps, inputs], ``active`` [batch, steps]; the float network's ``z``
    and ``states`` [batch, steps, units]; ``read`` [batch, steps]: the frames whose outputs count; ``wanted`` [rows,
    outputs], the float outputs there; ``labels`` [batch] or None."""

    x: np.ndarray
    active: np.ndarray
    z: np.ndarray
    states: np.ndarray
    read: np.ndarray
    wanted: np.ndarray
    labels: np.ndarray | None

    @property
    def score(self) -> float:
        """The float network's accuracy in %, or 100."""
        return 100.0 if self.labels is None else 100.0 * float((self.wanted.argmax(axis=1) == self.labels).mean())

    def loss(self, outputs: np.ndarray) -> tuple[float, float]:
        """Loss of ``outputs`` [rows, outputs] and its standard error; see the module."""
        if self.labels is None:
            return 100.0 * float(((outputs - self.wanted) ** 2).mean() / (self.wanted.var() or 1.0)), 0.0
        right, was_right = outputs.argmax(axis=1) == self.labels, self.wanted.argmax(axis=1) == self.labels
        n, differ = len(right), float((right != was_right).sum())
        return 100.0 * (int(was_right.sum()) - int(right.sum())) / n, 100.0 * float(np.sqrt(differ)) / n


@dataclass(frozen=True)
class Tried:
    """A setting and what it gave on the calibration data. ``state_error``: root mean square of decoded minus float
    states over that of the states; ``curve_error``: root mean square of the decoders' errors over units."""

    knobs: Knobs
    readout: str
    penalty: float | None
    neurons: int
    spikes: float
    ticks: float
    state_error: float
    curve_error: float
    score: float
    loss: float
    loss_error: float

    @property
    def surely(self) -> float:
        """The loss with its standard errors on top."""
        return self.loss + SURE * self.loss_error

    def record(self) -> dict[str, Any]:
        """As JSON."""
        record = {**asdict(self), **asdict(self.knobs), "spikes_a_frame": self.knobs.spikes,
                  "ticks_a_frame": self.knobs.ticks, "spikes": self.spikes, "ticks": self.ticks}  # fmt: skip
        del record["knobs"]
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in record.items()}


@dataclass(frozen=True)
class Made:
    """A network of neurons with what it was made from."""

    net: SpikingNet
    code: Code
    curves: Curves
    activity: Activity
    tried: Tried


def task_of(units: Units, x: np.ndarray, lengths: np.ndarray | None, labels: np.ndarray | None, series: bool) -> Task:
    """The task of calibration data. Raises :class:`DataError` for samples without steps and labels out of range."""
    batch, steps = x.shape[:2]
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    if (ends < 1).any():
        raise DataError("a sample has no steps; spikes can't be fitted to it.", place="calibration data")
    active = np.arange(steps) < ends[:, None]
    z, states = units.run(x)
    last = np.arange(steps) == ends[:, None] - 1
    classes = labels if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu" else None
    if classes is not None and (classes.min() < 0 or classes.max() >= len(units.c)):
        raise DataError(
            f"labels run {classes.min()}..{classes.max()}; the network has {len(units.c)} outputs.",
            place="calibration data",
        )
    read = active if series and classes is None else last
    return Task(x, active, z, states, read, units.scores(states[read]), classes)


def first(task: Task, samples: int) -> Task:
    """The first ``samples`` samples of a task."""
    if len(task.x) <= samples:
        return task
    rows = np.nonzero(task.read)[0] < samples
    labels = None if task.labels is None else task.labels[:samples]
    return Task(task.x[:samples], task.active[:samples], task.z[:samples], task.states[:samples],
                task.read[:samples], task.wanted[rows], labels)  # fmt: skip


def grid(target: Neuromorphic, sides: Sequence[tuning.Side], fixed: Mapping[str, Any]) -> list[Knobs]:
    """The settings to try, each knob as ``fixed`` says where it does. Scaling "kim" is Kim et al.'s conversion, for
    comparison: one neuron a unit, one scale, reset to zero, a leaky membrane without limits, no delay."""
    levels = all(side.levels for side in sides)
    limits = bool(target.neuron and target.neuron.limits)
    choices: dict[str, tuple[Any, ...]] = {
        "ticks": TICKS, "pieces": PIECES if any(s.levels for s in sides) else (1,),
        "margin": MARGINS if limits else (None,), "beta": (1.0,) if limits else BETAS,
        "delay": ("early", "matched"), "scaling": ("unit",),
    }  # fmt: skip
    if fixed.get("scaling") == "kim":
        choices |= {"pieces": (1,), "margin": (None,), "beta": (None,), "delay": ("none",)}
    choices = {key: (fixed[key],) if fixed.get(key) is not None else options for key, options in choices.items()}
    made = []
    for values in itertools.product(*choices.values()):
        named = dict(zip(choices, values, strict=True))
        ticks = named["ticks"]
        if named["beta"] is None:
            named["beta"] = float(np.exp(-1.0 / ticks))
        if fixed.get("spikes") is not None:
            spikes = [fixed["spikes"]]
        elif named["scaling"] == "kim":
            spikes = [0.5 * ticks, ticks, 2 * ticks, 4 * ticks]
        else:
            spikes = [ticks] if levels else [m for m in SPIKES if m in (ticks, ticks / 2)]
        if ticks > 1 or named["delay"] != "early" or len(choices["delay"]) == 1:  # with one tick they are the same
            made += [Knobs(spikes=float(m), **named) for m in spikes]
    return made


def make(
    units: Units, sides: Sequence[Sequence[tuning.Side]], knobs: Knobs, target: Neuromorphic, task: Task, dt_s: float
) -> tuple[Built, Code, Curves]:
    """The network of a setting: placed, measured, decoded, built."""
    points, weight = tuning.grid_of(task.z[task.active])
    codes, integrator = [], knobs.integrator(target)
    for (_, a, b, f), own in zip(units.layers, sides, strict=True):
        code = tuning.place(f, tuple(own), points[:, a:b], weight[:, a:b], ticks=knobs.ticks, spikes=knobs.spikes,
                            pieces=knobs.pieces, scaling=knobs.scaling)  # fmt: skip
        codes.append(tuning.shifted(code, a))
    code = tuning.joined(codes)
    rates = tuning.measure(code, integrator, points)
    code, curves = tuning.decode(code, rates, points, weight, units.f, common=knobs.scaling == "kim")
    largest = float(np.abs(task.x[task.active]).max())
    if units.inside:
        relay = rate_inside.relays(task.states[task.active], knobs, target)
        return rate_inside.build(units, code, relay, knobs, target, largest, dt_s), code, curves
    return rate_net.build(units, code, knobs, target, largest, dt_s), code, curves


def run(
    units: Units, sides: Sequence[Sequence[tuning.Side]], knobs: Knobs, target: Neuromorphic, task: Task, dt_s: float,
    readouts: Sequence[str],
) -> list[Made]:  # fmt: skip
    """A setting with each readout, tried."""
    built, code, curves = make(units, sides, knobs, target, task, dt_s)
    x = quantize(task.x.astype(np.float32), input_type(built.net)).astype(np.int64)
    activity = fastest()(built.net, x, task.active)
    states = activity.traces @ built.reader
    power = float((task.states[task.active] ** 2).mean()) or 1.0
    error = float(np.sqrt(((states - task.states)[task.active] ** 2).mean() / power))
    steps = float(task.active.sum(axis=1).mean())
    made = []
    for readout in readouts:
        penalty, outputs, V, c = None, units.scores(states[task.read]), units.V, units.c
        if readout == "refit":
            penalty, outputs, V, c = refit(units, states[task.read], task)
        loss, loss_error = task.loss(outputs)
        tried = Tried(knobs, readout, penalty, built.net.neurons, activity.spikes, steps * knobs.ticks, error,
                      float(np.sqrt((curves.error**2).mean())), task.score - loss, loss, loss_error)  # fmt: skip
        made.append(Made(rate_net.read_out(built, V, c), code, curves, activity, tried))
    return made


def refit(units: Units, states: np.ndarray, task: Task) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Penalty, out-of-fold outputs [rows, outputs], and the readout V, c that maps decoded ``states`` [rows, units] to
    the float outputs; penalties are relative to the states' power."""
    fold = np.nonzero(task.read)[0] % FOLDS
    residual = task.wanted - units.scores(states)
    centre = states.mean(axis=0)
    features = np.concatenate([states - centre, np.ones((len(states), 1))], axis=1)
    power = float((features[:, :-1] ** 2).sum(axis=0).mean()) or 1.0

    def solve(rows: np.ndarray, penalty: float) -> np.ndarray:
        gram = features[rows].T @ features[rows]
        ridge = np.full(len(gram), penalty * power)
        ridge[-1] = 1e-9
        return np.linalg.solve(gram + np.diag(ridge), features[rows].T @ residual[rows])

    best = (np.inf, PENALTIES[-1], residual)
    for penalty in PENALTIES:
        predicted = np.zeros_like(residual)
        for k in range(FOLDS):
            if (fold == k).any() and (fold != k).any():
                predicted[fold == k] = features[fold == k] @ solve(fold != k, penalty)
        error = float(((predicted - residual) ** 2).mean())
        if error < best[0]:
            best = (error, penalty, predicted)
    _, penalty, predicted = best
    more = solve(np.ones(len(features), bool), penalty)
    V = units.V + more[:-1].T
    return penalty, units.scores(states) + predicted, V, units.c + more[-1] - more[:-1].T @ centre


def search(
    units: Units, sides: Sequence[Sequence[tuning.Side]], target: Neuromorphic, task: Task, dt_s: float,
    settings: Sequence[Knobs], readouts: Sequence[str], max_loss: float, progress: Callable[[str], None],
) -> tuple[Made, list[Tried]]:  # fmt: skip
    """The cheapest setting that surely loses at most ``max_loss``, or the one that loses least; and all that were
    tried, which ends at :data:`BEYOND` times the cost of the first that is good enough."""
    best: Made | None = None
    tried: list[Tried] = []

    def rank(made: Made) -> tuple[bool, float, float, float]:
        t = made.tried
        good = t.surely <= max_loss + 1e-9
        return (not good, t.spikes if good else t.surely, t.ticks, t.loss)

    for knobs in sorted(settings, key=lambda k: (cost(k), k.ticks)):
        if best is not None and not rank(best)[0] and cost(knobs) > BEYOND * cost(best.tried.knobs):
            break
        found = run(units, sides, knobs, target, task, dt_s, readouts)
        for made in found:
            tried.append(made.tried)
            if best is None or rank(made) < rank(best):
                best = made
        t = found[0].tried
        losses = ", ".join(f"{made.tried.loss:.2f}" for made in found)
        progress(
            f"{knobs.ticks} ticks, {knobs.spikes:g} spikes, {knobs.pieces} a side, margin {knobs.margin}, delay "
            f"{knobs.delay}: {t.spikes:.0f} spikes a sample, state error {t.state_error:.3f}, loss {losses}"
        )
    if best is None:
        raise UsageError("these knobs leave no setting to try.", place=target.name)
    return best, tried


def cost(knobs: Knobs) -> float:
    """Most spikes a frame that a unit's neurons fire, to order settings by."""
    return knobs.spikes * knobs.pieces


def fastest() -> Callable[[SpikingNet, np.ndarray, np.ndarray], Activity]:
    """The compiled simulator where numba is installed, else NumPy's: both give the same bits."""
    try:
        errors.require("numba", "spiking", "a search in compiled loops")
    except errors.MissingExtraError:
        return simulate
    from neurodeploy.spiking import reference

    return reference.simulate
