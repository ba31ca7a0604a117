"""Liquid-state machine: a reservoir as spiking neurons, fitted to it, and a readout fitted to the liquid.

What becomes of units and weights: :mod:`neurodeploy.spiking.liquid_net`. What is fitted, all of it on the data given:

1. each unit's range and line, to its own activations (least squares);
2. ticks a frame, gain, membrane leak and what the readout sees, by cross-validation of the readout;
3. the readout's weights by ridge regression, its penalty by cross-validation that leaves out whole samples.

The readout sees each neuron's spikes filtered as the reservoir's state is (``state``), or counted since the start
(``count``; only where one output a sample is wanted), or the one for half of the units and the other for the rest.
Liquid-state machines: Maass, Natschlaeger and Markram, Neural Computation 14(11), 2002.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Figure
from neurodeploy.errors import DataError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.spiking import liquid_fit, liquid_net, liquid_spectrum, reservoir
from neurodeploy.spiking.convert import Conversion, Progress
from neurodeploy.spiking.liquid_dale import dale
from neurodeploy.spiking.liquid_net import TRACES, Code, Constants, Synapses, Wiring
from neurodeploy.spiking.liquid_readout import FOLDS, Ridge, Task, best_penalty, cross_validated, task_of
from neurodeploy.spiking.net import Activity, SpikingNet, with_readout
from neurodeploy.spiking.net_program import program_of
from neurodeploy.spiking.reservoir import Observed, Reservoir

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic
    from neurodeploy.ir.graph import Program

FILE = "liquid.npz"
#: Part of the ticks from which on a neuron counts as saturated.
SATURATED = 0.95
#: Parts of the neurons from which on silence and saturation are warned of.
MANY_SILENT, MANY_SATURATED = 0.5, 0.25


@dataclass(frozen=True)
class _Material:
    """Everything that fitting needs of source and data."""

    reservoir: Reservoir
    code: str
    x: np.ndarray
    active: np.ndarray
    observed: Observed
    task: Task
    synapses: Synapses
    delay: int | None
    dt_s: float

    @property
    def largest(self) -> float:
        return float(np.abs(self.x[self.active]).max(initial=0.0))


@dataclass(frozen=True)
class _Liquid:
    code: Code
    wiring: Wiring
    net: SpikingNet
    error: float | None = None

    @property
    def unit(self) -> np.ndarray:
        """The unit of each neuron."""
        return np.where(self.wiring.neuron < 0, 0, self.code.unit[self.wiring.neuron])


def convert(
    source: Program, target: Neuromorphic, data: Data | None, progress: Progress, *, neurons: int | None = None,
    ticks: int | None = None, gain: float | None = None, membrane: float | None = None, traces: str | None = None,
    excitatory: float | None = None, excitatory_tau: float | None = None, inhibitory_tau: float | None = None,
    delay: int | None = None,
) -> Conversion:  # fmt: skip
    """A liquid of a reservoir with one layer, fitted on ``data`` (inputs and labels, or the network's own outputs).

    ``neurons``: two a unit, or one and one more that always fires where the activation has two signs. ``ticks``,
    ``gain``, ``membrane``, ``traces`` (state, count, both): chosen by cross-validation where not given.
    ``excitatory``: Dale's law, the share of neurons that excite. ``excitatory_tau``, ``inhibitory_tau``: time constants
    in frames (the reservoir's where not given). ``delay`` in ticks: half a frame
    where not given, as a frame of the reservoir takes the state before it. Raises :class:`UnsupportedError` for other
    networks, :class:`UsageError` for options out of range, :class:`DataError` for data that don't fit.
    """
    _check(ticks=ticks, gain=gain, membrane=membrane, excitatory=excitatory, excitatory_tau=excitatory_tau,
           inhibitory_tau=inhibitory_tau, delay=delay)  # fmt: skip
    found = reservoir.find(source)
    code = _code(found, neurons, source.name)
    if data is None:
        raise UsageError("the readout of a liquid-state machine is fitted; needed data.", place=source.name)
    synapses = Synapses(excitatory, excitatory_tau, inhibitory_tau)
    task, observed, active = _task(source, found, data)
    kinds = _traces(traces, source)
    dt_s = target.clock.dt_s if target.clock else 1e-3
    material = _Material(
        found, code, data.inputs[found.input].astype(np.float64), active, observed, task, synapses, delay, dt_s
    )
    grid = [given if isinstance(given, tuple) else (given,) for given in
            (ticks or liquid_fit.TICKS, gain or liquid_fit.GAINS, membrane or liquid_fit.MEMBRANES)]  # fmt: skip

    def make(constants: Constants) -> tuple[SpikingNet, np.ndarray]:
        made = _make(material, constants)
        return made.net, made.unit

    trial, tried = liquid_fit.search(make, material.x, active, task, grid, kinds, progress)
    liquid = _make(material, trial.constants)
    activity = liquid_fit.run(liquid.net, material.x, active)
    counting = liquid_fit.slow(trial.traces, liquid.unit)
    rows = liquid_fit.features(activity, counting, task.where)
    penalty, score = best_penalty(cross_validated(rows, task))
    weights, bias = Ridge.of(rows, task.targets).weights(penalty)
    net = replace(liquid.net, keep=np.where(counting, np.float32(1), liquid.net.keep))
    net = with_readout(net, weights, bias)
    meta = {"spiking": {"method": "liquid-state-machine"}}
    program = program_of(net, source, found.stage, found.input, found.output, meta)
    spectrum = liquid_spectrum.compare(found, liquid.code, liquid.wiring, liquid.net, observed, activity, active)
    fit = {
        **asdict(trial.constants), "traces": trial.traces, "delay": net.projections[0].delay, "penalty": penalty,
        "score": score, "metric": task.metric, "spikes": activity.spikes, "folds": FOLDS, "samples": data.samples,
        "labels": "given" if data.labels is not None else "the network's own outputs", "seed": None,
        "tried": [{**asdict(t.constants), **{k: v for k, v in asdict(t).items() if k != "constants"}} for t in tried],
    }  # fmt: skip
    layout = {
        "method": "liquid-state machine, readout fitted by ridge regression", "code": code, "neurons": net.neurons,
        "populations": [list(p) for p in net.populations], "synapses": asdict(synapses), "fit": fit,
    }  # fmt: skip
    return Conversion(
        program, net, layout, _warnings(net, activity, active, task), _figures(liquid, score, task, spectrum),
        {FILE: liquid_spectrum.to_bytes(spectrum)},
    )  # fmt: skip


_RANGES: Mapping[str, tuple[type, float, float, str]] = {
    "ticks": (int, 1, 64, "a whole number from 1 to 64"),
    "gain": (float, 0.1, 10, "0.1 to 10"),
    "membrane": (float, 0.1, 1, "0.1 to 1"),
    "excitatory": (float, 0.05, 0.95, "0.05 to 0.95"),
    "excitatory_tau": (float, 0.05, 1000, "0.05 to 1000 frames"),
    "inhibitory_tau": (float, 0.05, 1000, "0.05 to 1000 frames"),
    "delay": (int, 1, 64, "a whole number from 1 to 64 ticks"),
}


def _check(**options: Any) -> None:
    for name, value in options.items():
        kind, low, high, words = _RANGES[name]
        fits = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        if value is not None and not (fits and low <= value <= high):
            raise UsageError(f"{name} is {value!r}; needed {words}.", place="liquid-state-machine")


def _code(found: Reservoir, neurons: int | None, place: str) -> str:
    """Pairs or single neurons, by their number. Raises :class:`UsageError`."""
    codes = liquid_net.codes_of(found)
    sizes = {liquid_net.size_of(found, code): code for code in codes}
    if neurons is None:
        return codes[0]
    if neurons not in sizes:
        extra = "" if codes == ("single",) else " (pairs of neurons), or single ones"
        raise UsageError(
            f"neurons is {neurons!r}; a reservoir of {found.units} units makes "
            f"{' or '.join(str(size) for size in sorted(sizes))}.",
            place=place, hint=f"Train a reservoir of {_units(neurons, codes)} units{extra}.",
        )  # fmt: skip
    return sizes[neurons]


def _units(neurons: object, codes: tuple[str, ...]) -> str:
    if not isinstance(neurons, int) or isinstance(neurons, bool) or neurons < 2:
        return "the size that you want"
    return str(neurons // 2 if "pairs" in codes else neurons)


def _traces(asked: str | None, source: Program) -> tuple[str, ...]:
    """What to try. Counts since the start have no bound in an endless stream, so they need one output a sample."""
    series = source.is_series(next(iter(source.outputs.values())))
    if asked is not None and (asked not in TRACES or (series and asked != "state")):
        needed = "state, as every step has an output" if series else ", ".join(TRACES)
        raise UsageError(f"traces is {asked!r}; needed {needed}.", place="liquid-state-machine")
    return ("state",) if series else TRACES if asked is None else (asked,)


def _task(source: Program, found: Reservoir, data: Data) -> tuple[Task, Observed, np.ndarray]:
    """What the readout learns, the reservoir's own activity, and which frames run ``[batch, frames]``."""
    if data.samples < FOLDS:
        raise DataError(
            f"{data.samples} samples; needed at least {FOLDS} to fit a liquid's readout.", place="calibration data"
        )
    trace = interpret.run(source, data.inputs, data.lengths)
    x = data.inputs[found.input]
    active = np.arange(x.shape[1]) < trace.steps[found.stage][:, None]
    teacher = next(iter(real_outputs(source, trace).values())).astype(np.float64)
    ref = next(iter(source.outputs.values()))
    task = task_of(data.labels, teacher, active, teacher.shape[-1], source.is_series(ref))
    return task, reservoir.observe(found, x.astype(np.float64), active), active


def _make(material: _Material, constants: Constants) -> _Liquid:
    """The liquid of some constants, under Dale's law where asked for."""
    found = material.reservoir
    delay = material.delay or max(1, constants.ticks // 2)
    plain = replace(material.synapses, excitatory=None, delay=delay)
    code = liquid_net.code_of(found, material.observed, material.code, constants)
    wiring = liquid_net.wiring_of(found, code)
    net = liquid_net.build(found, code, wiring, constants, plain, material.largest, material.dt_s)
    if material.synapses.excitatory is None:
        return _Liquid(code, wiring, net)
    activity = liquid_fit.run(net, material.x, material.active)
    rates = activity.traces[material.active] * (1.0 - net.keep.astype(np.float64))
    lawful = dale(wiring.weights, rates, material.synapses.excitatory)
    order = np.argsort(~lawful.excites, kind="stable")
    count = int(lawful.excites.sum())
    populations = [("excitatory", count), ("inhibitory", len(lawful.excites) - count)]
    wiring = Wiring(
        wiring.neuron[order], lawful.weights[np.ix_(order, order)], (wiring.bias + lawful.offset)[order],
        tuple(p for p in populations if p[1]),
    )  # fmt: skip
    synapses = replace(material.synapses, delay=delay)
    net = liquid_net.build(found, code, wiring, constants, synapses, material.largest, material.dt_s)
    return _Liquid(code, wiring, net, lawful.error)


def _warnings(net: SpikingNet, activity: Activity, active: np.ndarray, task: Task) -> tuple[str, ...]:
    rates = activity.counts.sum(axis=(0, 1)) / max(1.0, active.sum() * float(net.ticks))
    silent, full = float((rates == 0).mean()), float((rates >= SATURATED).mean())
    out = []
    if silent == 1:
        out.append("the liquid is silent: none of its neurons ever fires on the data given; its scores are constant.")
    elif silent >= MANY_SILENT:
        out.append(
            f"{100 * silent:.0f} % of the neurons never fire on the data given; the readout sees the others only."
        )
    if full >= MANY_SATURATED:
        out.append(
            f"{100 * full:.0f} % of the neurons fire in at least {100 * SATURATED:.0f} % of all ticks: they are "
            "saturated and say little. Lower the inputs' scale, or give a smaller gain."
        )
    samples = len(np.unique(task.samples))
    if samples < net.neurons:
        out.append(
            f"{samples} samples for a readout of {net.neurons} neurons; its accuracy on new data may be far below the "
            "cross-validated one. Give more data, or take a smaller reservoir."
        )
    return tuple(out)


def _figures(
    liquid: _Liquid, score: float, task: Task, spectrum: Mapping[str, np.ndarray]
) -> tuple[Figure, ...]:  # fmt: skip
    how = "fitted on the training data, in the definition's arithmetic"
    error = np.sqrt(
        (spectrum["state_error"] ** 2).mean() / max(1e-30, float((spectrum["reservoir_spread"] ** 2).mean()))
    )
    out = [
        Figure(f"cross-validated {task.metric}", round(score, 4), "", "simulated",
               f"{FOLDS} folds of whole samples; {how}"),
        Figure("state error", round(100 * float(error), 2), "%", "simulated",
               f"traces against the reservoir's states, in parts of their standard deviation; {how}"),
    ]  # fmt: skip
    if liquid.error is not None:
        out.append(Figure("Dale's law", round(100 * liquid.error, 2), "%", "simulated",
                          f"what recurrent currents lost, in parts of their standard deviation; {how}"))  # fmt: skip
    return tuple(out)
