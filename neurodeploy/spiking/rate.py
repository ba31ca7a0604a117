"""Spikes with matched time constants: a trained leaky, relu or continuous-time network as integrate-and-fire neurons.

:mod:`~neurodeploy.spiking.rate_net` has the equations and the error law, :mod:`~neurodeploy.spiking.tuning` the neurons
of a unit, :mod:`~neurodeploy.spiking.rate_search` the choice of the knobs. ``docs/spiking/rate.md`` has measured
figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Figure
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.spiking import layers, rate_net, rate_search, tuning
from neurodeploy.spiking.convert import Conversion
from neurodeploy.spiking.net_program import program_of
from neurodeploy.spiking.rate_search import Made, Task
from neurodeploy.spiking.units import Units

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic
    from neurodeploy.ir.graph import Program

TUNING = "tuning.npz"
#: Seconds a tick where the target doesn't say.
DT_S = 1e-3
#: Largest share of a neuron's frames with a spike in every tick, where its activation doesn't level off.
SATURATED = 0.02
#: Largest state error (relative) that counts as following the network at all.
DIVERGED = 1.0


def convert(
    source: Program, target: Neuromorphic, data: Data | None, progress: Callable[[str], None], *,
    max_loss: float = 0.5, ticks: int | None = None, spikes: float | None = None, pieces: int | None = None,
    margin: float | None = None, beta: float | None = None, delay: str | None = None, scaling: str | None = None,
    readout: str = "network",
) -> Conversion:  # fmt: skip
    """The cheapest network of neurons that loses at most ``max_loss`` on ``data``.

    Loss is in points of accuracy where data has labels, else in % of the outputs' variance. Give samples that the
    network wasn't trained on where there are any: on those it knows, its margins are wider than on others.

    The others fix a knob that is chosen otherwise: ``ticks`` a step; ``spikes`` a step at the end of a unit's range,
    for activations that don't level off; ``pieces`` neurons a sign (1 to 3); ``margin`` of the membrane's limits, or
    ``beta`` without limits; ``delay`` (matched, early, none); ``scaling`` (unit, layer, kim). ``readout``: network (its
    own weights), refit, or auto (whichever is cheaper).

    Raises :class:`UnsupportedError` for networks that rates can't follow, :class:`UsageError` for wrong knobs,
    :class:`DataError` for data that don't fit.
    """
    if data is None:
        raise UsageError("spikes are fitted to data.", place=source.name, hint="Give them (--data FILE.npz).")
    fixed = {"ticks": ticks, "spikes": spikes, "pieces": pieces, "margin": margin, "beta": beta, "delay": delay,
             "scaling": scaling}  # fmt: skip
    _check(fixed, readout, max_loss, target)
    units = layers.find(source)
    name = next(iter(source.outputs))
    task = rate_search.task_of(units, data.inputs[units.input], data.lengths, data.labels,
                               source.is_series(source.outputs[name]))  # fmt: skip
    task = rate_search.first(task, rate_search.SAMPLES)
    z = task.z[task.active]
    sides = [tuning.sides(f, z[:, a:b], f"{units.place}: {layer}") for layer, a, b, f in units.layers]
    if scaling == "kim" and any(side.sign < 0 for own in sides for side in own):
        raise UnsupportedError(
            "its activation has two signs; Kim et al.'s scaling has one neuron a unit, whose rate has one.",
            place=units.place,
            hint="Use scaling unit.",
        )
    settings = rate_search.grid(target, [side for own in sides for side in own], fixed)
    readouts = rate_search.READOUTS if readout == "auto" else (readout,)
    dt_s = target.clock.dt_s if target.clock else DT_S
    made, tried = rate_search.search(units, sides, target, task, dt_s, settings, readouts, max_loss, progress)
    chosen = made.tried
    layout = {
        "method": "rate",
        "units": units.size,
        "neurons": made.net.neurons,
        "knobs": asdict(chosen.knobs),
        "delays": [p.delay for p in made.net.projections],
        "chosen": chosen.record(),
        "max_loss": max_loss,
        "score": "accuracy, %" if task.labels is not None else "100 - 100 (error / variance of the outputs)",
        "float_score": task.score,
        "calibration_samples": len(task.x),
        "tried": [t.record() for t in tried],
    }
    program = program_of(made.net, source, units.stage, units.input, units.output, {"spiking": {"method": "rate"}})
    return Conversion(program, made.net, layout, tuple(warnings(units, sides, made, task, max_loss)),
                      figures(made, task), {TUNING: made.curves.to_bytes(made.code)})  # fmt: skip


def _check(fixed: dict[str, Any], readout: str, max_loss: float, target: Neuromorphic) -> None:
    limits = bool(target.neuron and target.neuron.limits)

    def wrong(key: str, found: Any, needed: str) -> UsageError:
        return UsageError(f"option {key} is {found}; needed {needed}.", place=target.name)

    if fixed["ticks"] is not None and not 1 <= fixed["ticks"] <= 256:
        raise wrong("ticks", fixed["ticks"], "1 to 256")
    if fixed["spikes"] is not None and not fixed["spikes"] > 0:
        raise wrong("spikes", fixed["spikes"], "more than 0")
    if fixed["pieces"] is not None and fixed["pieces"] not in (1, 2, 3):
        raise wrong("pieces", fixed["pieces"], "1, 2 or 3")
    if fixed["margin"] is not None and (not limits or fixed["margin"] < 0):
        raise wrong("margin", fixed["margin"], "0 or more" if limits else "none: the target's membranes have no limits")
    if fixed["beta"] is not None and not 0 < fixed["beta"] <= 1:
        raise wrong("beta", fixed["beta"], "above 0, at most 1")
    for key, known in (("delay", rate_net.DELAYS), ("scaling", rate_net.SCALINGS)):
        if fixed[key] is not None and fixed[key] not in known:
            raise wrong(key, f"'{fixed[key]}'", " or ".join(known))
    if readout not in (*rate_search.READOUTS, "auto"):
        raise wrong("readout", f"'{readout}'", " or ".join((*rate_search.READOUTS, "auto")))
    if not isinstance(max_loss, int | float) or not max_loss >= 0:
        raise wrong("max_loss", max_loss, "0 or more")


def warnings(
    units: Units, sides: Sequence[Sequence[tuning.Side]], made: Made, task: Task, max_loss: float
) -> list[str]:
    """What a user must know of the chosen network, with its figure."""
    found, t, code = [], made.tried, made.code
    if t.surely > max_loss + 1e-9:
        found.append(f"no setting loses surely at most {max_loss:g} on the calibration data; the best loses "
                     f"{t.loss:.2f} with a standard error of {t.loss_error:.2f}")  # fmt: skip
    distinct = len(np.unique(units.leak))
    if not units.inside and distinct > rate_net.CLASSES:
        found.append(f"{distinct} different leaks share {rate_net.CLASSES} time constants of synapses: the states of "
                     "units err by what theirs differ")  # fmt: skip
    counts = made.activity.counts[task.active][:, : code.neurons]
    if not counts.any():
        found.append("the network is silent: no neuron spikes on the calibration data")
    # A unit is silent if none of its neurons ever spikes though its activation is worth half a spike somewhere.
    fired = np.bincount(code.unit, counts.sum(axis=0), minlength=units.size) > 0
    z = task.z[task.active]
    needed = (np.abs(units.f(z)).max(axis=0) > 1e-3) & ~fired
    if needed.any() and counts.any():
        found.append(f"{int(needed.sum())} of {units.size} units never spike on the calibration data although their "
                     "activation isn't zero")  # fmt: skip
    levels = {
        (a, side.sign): side.levels for (_, a, _, _), own in zip(units.layers, sides, strict=True) for side in own
    }
    start = np.array([a for _, a, b, _ in units.layers for _ in range(b - a)])
    endless = np.array([not levels[(int(start[u]), int(s))] for u, s in zip(code.unit, code.sign, strict=True)])
    full = float((counts[:, endless] >= t.knobs.ticks).mean()) if endless.any() and t.knobs.ticks > 1 else 0.0
    if full > SATURATED:
        found.append(f"{100 * full:.1f} % of the neurons' steps have a spike in every tick: rates are cut there; more "
                     "ticks give room")  # fmt: skip
    if t.state_error > DIVERGED:
        found.append(f"the states don't follow the network's: their error is {t.state_error:.2f} times the states "
                     "themselves")  # fmt: skip
    return found


def figures(made: Made, task: Task) -> tuple[Figure, ...]:
    """The chosen setting's figures on the calibration data."""
    t, where = made.tried, f"{len(task.x)} calibration samples, net.simulate"
    return (
        Figure("ticks_a_step", t.knobs.ticks, "ticks", "compiled", "chosen setting"),
        Figure("calibration_spikes", round(t.spikes, 1), "spikes/inference", "simulated", where),
        Figure("calibration_loss", round(t.loss, 3), "points", "simulated", where),
        Figure("state_error", round(t.state_error, 4), "of the states", "simulated", where),
        Figure("decoder_error", round(t.curve_error, 4), "of the activation", "simulated",
               "measured tuning curves, weighted by the calibration data"),
    )  # fmt: skip
