"""A Hopfield network as an attractor network of spiking neurons: the pattern is which of them go on firing.

Unit i becomes two neurons, ``plus`` i and ``minus`` i; which of them fires is its sign. Each receives::

    I_plus,i = g / scale (sum_j W_ij (r_plus,j - r_minus,j) - theta_i) = - I_minus,i

where r_j is the filtered rate of neuron j as a part of the highest rate, one spike in ``PERIOD`` ticks, and ``scale``
is the median size of the binary network's fields ``|W s - theta|`` at its own fixed points for the cues given to
``compile``. A spike silences its neuron for the ticks of the period (a self-inhibition stronger than anything that it
receives): with ``g = GAIN`` a neuron is silent or near the highest rate, so a fixed point of the binary network is a
state of firing that sustains itself, and silences its rivals. Activity follows Hopfield's graded network (PNAS 81,
1984), all units at once in continuous time, where the binary network (PNAS 79, 1982) updates in steps.

The cue is short: two more neurons a unit, ``cue plus`` and ``cue minus``, receive the cue as a constant current; they
fire once (where the cue is above 1/2, or below -1/2) and silence themselves for good, and their one volley is all that
the network gets. One frame of ``ticks`` ticks is one recall. Scores are traces, 1 for a unit at the highest rate: their
signs are the recalled pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.errors import DataError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.fixed import quantize
from neurodeploy.ir.graph import Param
from neurodeploy.spiking.convert import Conversion
from neurodeploy.spiking.net import Activity, Projection, SpikingNet, make, simulate
from neurodeploy.spiking.net_program import input_type, program_of

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic
    from neurodeploy.ir.graph import Program, Stage, Value

#: Current into a unit of median field at a fixed point, in thresholds a tick.
GAIN = 8.0
#: Ticks between two spikes at the highest rate.
PERIOD = 4
#: Time constants in ticks: of the synapses, and of the traces.
SYNAPSE, TRACE = 5.0, 20.0
#: What the membrane keeps a tick.
MEMBRANE = 0.9
#: A unit's own coupling, in scales, beside its ``W_ii``: it holds a unit whose field is 0, as the binary rule does.
HOLD = 0.1
#: Current of a cue's volley at its arrival, in thresholds a tick.
CUE = 8.0
#: What the self-inhibition keeps a tick: little, so that it ends with the period.
ENDS = 2.0**-16
TICKS = (50, 100, 200)
#: Of what is this close to the best (RMSE over units of -1 and 1), the fewest ticks are taken.
TOLERANCE = 0.05
#: Cues of the data that are looked at.
CUES = 64
HINT = "Use another spiking target, or a board."


@dataclass(frozen=True)
class Hopfield:
    """What was found: ``W`` [n, n], ``theta`` [n]; names of the stage, the input that holds the cue, and the output."""

    W: np.ndarray
    theta: np.ndarray
    stage: str
    input: str
    output: str

    def recall(self, cues: np.ndarray, steps: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """The binary network's own recall of cues ``[batch, n]``, and which of them settled ``[batch]``: synchronous
        updates, a tie keeping the old value. What doesn't settle ends in a cycle."""
        s = cues.astype(np.float64)
        new = s
        for _ in range(steps):
            s = new
            field = s @ self.W.T - self.theta
            new = np.where(field > 0, 1.0, np.where(field < 0, -1.0, s))
            if np.array_equal(new, s):
                break
        return new, (new == s).all(axis=1)


def find(program: Program) -> Hopfield:
    """The Hopfield network of a program. Raises :class:`UnsupportedError` naming what doesn't fit."""
    stage, cell = _cell(program)
    place = f"{program.name}/{stage.name}"
    matrices = [stage.graph.params.get(name) for name in cell.args[1:]]
    if any(param is None for param in matrices):
        raise UnsupportedError(
            "its weights and thresholds must be constants.", place=f"{place}: %{cell.name}", hint=HINT
        )
    W, theta = (np.asarray(param.data, np.float64) for param in matrices if param is not None)
    n = len(theta)
    cues = [name for name, given in program.inputs.items() if given.kind == "static" and given.type.shape == (n,)]
    output = next(iter(program.outputs))
    fed = [ref.name for ref in stage.inputs_from.values() if ref.stage is None]
    if len(program.inputs) != 1 or cues != fed or program.outputs[output].at != "last":
        raise UnsupportedError(
            "needed one static input, the cue, from which the state starts, and the last state as the first output.",
            place=place,
            hint=HINT,
        )
    found = Hopfield(W, theta, stage.name, cues[0], output)
    if not _behaves(program, stage, cell, found):
        raise UnsupportedError(
            "doesn't compute s' = sign(W s - theta) from the cue until s is stable.",
            place=f"{place}: %{cell.name}",
            hint=HINT,
        )
    return found


def _behaves(program: Program, stage: Stage, cell: Value, found: Hopfield) -> bool:
    """Whether the program is the network that it was taken for: run with random weights, which make no ties."""
    rng, n = np.random.default_rng(0), len(found.theta)
    W = rng.normal(size=(n, n))
    other = replace(found, W=(W + W.T).astype(np.float32).astype(np.float64), theta=np.zeros(n))
    changed = dict(zip(cell.args[1:], (Param.of(other.W.astype(np.float32)), Param.of(other.theta.astype(np.float32)))))
    graph = replace(stage.graph, params={**stage.graph.params, **changed})
    probes = np.sign(rng.normal(size=(16, n)))
    twin = replace(program, stages=(replace(stage, graph=graph),))
    given = interpret.run(twin, {found.input: probes.astype(np.float32)}).outputs[found.output]
    return np.array_equal(given, other.recall(probes, stage.drive.max_steps or 0)[0])


def _cell(program: Program) -> tuple[Stage, Value]:
    cells = [(stage, value) for stage in program.stages for value in stage.graph.values if value.op == "hopfield"]
    if len(program.stages) != 1 or len(cells) != 1 or program.stages[0].drive.kind != "until":
        raise UnsupportedError(
            f"an attractor network is made of one cell 'hopfield' driven 'until' it is stable; found {len(cells)} of "
            f"them in {len(program.stages)} stages, driven '{program.stages[0].drive.kind}'.",
            place=program.name,
            hint=HINT,
        )
    return cells[0]


def build(found: Hopfield, scale: float, ticks: int, dt_s: float) -> SpikingNet:
    """The spiking network; ``scale``: the field that drives a unit with ``GAIN`` thresholds a tick."""
    n = len(found.theta)
    one, none = np.eye(n), np.zeros((n, n))
    fast, slow = np.exp(-1 / SYNAPSE), np.exp(-1 / TRACE)
    W = (found.W / scale + HOLD * one) * GAIN * (1 - fast) * PERIOD
    signed = np.array([[1.0, -1.0], [-1.0, 1.0]])
    synapses = np.block([[np.kron(signed, W), np.kron(signed, one * CUE)], [np.zeros((2 * n, 4 * n))]])
    # What a neuron receives at most: all that excites it at the highest rate, the volley, and its threshold.
    most = float(np.abs(W).sum(axis=1).max() / (1 - fast)) + CUE + GAIN / scale * float(np.abs(found.theta).max())
    silence = np.diag(np.full(4 * n, -2.0 * most / ENDS ** (PERIOD - 2)))
    ends = np.repeat([ENDS, 1.0], 2 * n)
    drive = found.theta * GAIN / scale
    return make(
        ticks=ticks, dt_s=dt_s, beta=np.repeat([MEMBRANE, 1.0], 2 * n), threshold=1.0, floor=0.0,
        W_in=np.concatenate([np.zeros((2 * n, n)), 2 * one, -2 * one]), largest_input=1.0,
        bias=np.concatenate([-drive, drive, np.zeros(2 * n)]),
        projections=[Projection("synapses", synapses, fast), Projection("silence", silence, ends)],
        keep=slow, readout=np.concatenate([one, -one, none, none], axis=1) * (1 - slow) * PERIOD,
        populations=[("plus", n), ("minus", n), ("cue plus", n), ("cue minus", n)],
    )  # fmt: skip


def convert(
    source: Program, target: Neuromorphic, data: Data | None, progress: Callable[[str], None], *,
    ticks: int | None = None,
) -> Conversion:  # fmt: skip
    """Method ``attractor``: see the module. ``ticks`` of a recall: by default the fewest of 50, 100 and 200 whose
    signs are about as near to the binary network's own recall of the data's cues as the best.

    Raises :class:`UnsupportedError` for other networks and for neurons without limits, :class:`DataError` for cues
    that hold other values than -1 and 1, :class:`UsageError` for ticks out of range.
    """
    found = find(source)
    if target.neuron is not None and not (target.neuron.limits and target.neuron.reset == "subtract"):
        raise UnsupportedError(
            "its neurons have no lower limit or no soft reset; an attractor network needs both.",
            place=target.name,
            hint=HINT,
        )
    if ticks is not None and not 2 * PERIOD <= ticks <= 10_000:
        raise UsageError(f"ticks is {ticks}; needed {2 * PERIOD} to 10000.", place=target.name)
    cues = _cues(found, data)
    goal, settled = found.recall(cues)
    scale = float(np.median(np.abs(goal[settled] @ found.W.T - found.theta))) if settled.any() else 0.0
    if not scale > 0:
        raise UnsupportedError(
            f"{int(settled.sum())} of {len(cues)} cues lead to a fixed point, with fields of 0 there; needed one with "
            "fields.",
            place=source.name, hint="Give cues that the network recalls.",
        )  # fmt: skip
    dt_s = target.clock.dt_s if target.clock else 1e-3
    tried: list[dict[str, Any]] = []
    nets: list[SpikingNet] = []
    for count in TICKS if ticks is None else (ticks,):
        net = build(found, scale, count, dt_s)
        activity = run(net, cues)
        signs = np.sign(net.scores(activity.traces)[settled, 0])
        error = float(np.sqrt(np.mean((signs - goal[settled]) ** 2)))
        tried.append({"ticks": count, "spikes": activity.spikes, "rmse": error})
        nets.append(net)
        progress(
            f"attractor network, {count} ticks: RMSE {error:.3f} to the binary network, {activity.spikes:.0f} spikes"
        )
    best = min(entry["rmse"] for entry in tried)
    chosen = next(i for i, entry in enumerate(tried) if entry["rmse"] <= best + TOLERANCE)
    net = nets[chosen]
    layout = {"method": "attractor", "ticks": net.ticks, "scale": scale, "gain": GAIN, "period": PERIOD, "tried": tried}
    meta = {"spiking": {"method": "attractor"}}
    program = program_of(net, source, found.stage, found.input, found.output, meta)
    return Conversion(program, net, layout, _warnings(found, net, cues, settled))


def run(net: SpikingNet, cues: np.ndarray, *, raster: bool = False) -> Activity:
    """Recall of cues ``[batch, n]``: one frame."""
    x = quantize(cues[:, None].astype(np.float32), input_type(net))
    return simulate(net, x, np.ones((len(cues), 1), bool), raster=raster)


def _cues(found: Hopfield, data: Data | None) -> np.ndarray:
    """The first cues of the data ``[at most 64, n]``."""
    if data is None or found.input not in data.inputs:
        raise UsageError("the network's scale is taken from cues; needed sample inputs.", place="attractor network")
    cues = np.asarray(data.inputs[found.input])[:CUES]
    if cues.shape[1:] != found.theta.shape or not np.isin(cues, (-1, 1)).all():
        raise DataError(
            f"cues hold other values than -1 and 1, or have shape {list(cues.shape)}; needed "
            f"[batch, {len(found.theta)}] of -1 and 1.",
            place=data.name,
        )
    return cues.astype(np.float64)


def _warnings(found: Hopfield, net: SpikingNet, cues: np.ndarray, settled: np.ndarray) -> tuple[str, ...]:
    """Asymmetry, cues that lead the binary network into a cycle, and activity that died out."""
    made = []
    if not np.allclose(found.W, found.W.T, atol=1e-6 * float(np.abs(found.W).max())):
        made.append("its weights are not symmetric: no energy falls, so activity may never settle")
    if not settled.all():
        lost = int((~settled).sum())
        made.append(f"{lost} of {len(cues)} cues lead the binary network into a cycle, not to a fixed point")
    raster = run(net, cues, raster=True).raster
    silent = 0 if raster is None else int((~raster[:, -2 * PERIOD :].any(axis=(1, 2))).sum())
    if silent:
        made.append(f"{silent} of {len(cues)} cues die out: no neuron fires in the last {2 * PERIOD} ticks")
    return tuple(made)
