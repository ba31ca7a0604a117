"""Clocked sigma-delta conversion: any network with an integer form, its vectors sent by their changes, in few levels.

Unit j has the level ``k_j = round(n x_j / range_j)``, clipped to -n..n, range_j its largest size on the calibration
data. Each step of the clock it sends ``dk_j``, a graded event, if that isn't 0; a receiver i adds ``W'_ij dk_j`` to its
sum, which so is ``sum_j W_ij x_j`` to within the levels at all times. The numbers are those of the pass
:mod:`neurodeploy.passes.spiking`, whose program every simulator equals bit for bit. A gate's product is the neuron's
own arithmetic.

*Error*: what receivers know of a unit is wrong by at most half a level, ``range_j / 2n``, within its range. Nothing
adds up over time: the sum of all changes that were sent is the level itself. *Events*: at most one a unit and step,
none where its value is constant. The sizes of a unit's events add up to ``variation / level`` (the sum of its changes'
sizes, in levels), taken as the mean over all places that the levels' borders could lie at.

Sources: RNN-Morph (arXiv 2408.09403) converts recurrent nets so; sigma-delta low-pass RNNs on Loihi (arXiv 2407.13534);
sigma-delta neurons on Loihi 2 (arXiv 2505.06417).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy import passes
from neurodeploy.artifact import Figure
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.interpret import run
from neurodeploy.mixed_judge import classes_of
from neurodeploy.passes.spiking import MOST_LEVELS, SigmaDelta
from neurodeploy.report.metrics import accuracy, nrmse
from neurodeploy.spiking import step_events
from neurodeploy.spiking.convert import Conversion
from neurodeploy.validate import scores_of

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic
    from neurodeploy.ir.graph import Program

#: Numbers of levels that are tried: steps of a half and a third.
LEVELS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 127, 192, 256, 384, 512, 1024)
#: Outputs' NRMSE for each point of accuracy that may be lost. Networks know the samples that they were trained on too
#: well to lose any there, so the outputs' error is what chooses. Elman, GRU and LSTM networks trained on four fifths of
#: JapaneseVowels' training set lost up to some 25 points per NRMSE on the last fifth (benchmarks/spiking_sigma_delta.py
#: --rule); this takes twice as much.
NRMSE_PER_POINT = 0.02


def convert(
    source: Program,
    target: Neuromorphic,
    data: Data | None,
    progress: Callable[[str], None],
    *,
    levels: int | None = None,
    max_loss: float = 0.5,
    inputs: bool = False,
) -> Conversion:
    """The n-level program of a network.

    ``levels``: n, 1 to 32767. Without it the fewest whose outputs on ``data`` lie within an NRMSE of ``max_loss / 50``
    of the float network's and which, with labels, lose at most ``max_loss`` points of accuracy there; then fewer for
    each vector by itself, those first that save most events, as long as that holds. ``inputs``: code the inputs too.
    Raises :class:`UsageError`, and :class:`UnsupportedError` naming the op or network that has no integer form.
    """
    if data is None:
        raise UsageError("levels are fitted to samples.", place=source.name, hint="Give some (--data FILE.npz).")
    if levels is not None and (type(levels) is not int or not 1 <= levels <= MOST_LEVELS):
        raise UsageError(f"option levels is {levels}; needed 1 to {MOST_LEVELS}.", place=target.name)
    if not isinstance(max_loss, (int, float)) or not max_loss > 0:
        raise UsageError(f"option max_loss is {max_loss}; needed more than 0 points.", place=target.name)
    if not isinstance(inputs, bool):
        raise UsageError(f"option inputs is {inputs}; needed true or false.", place=target.name)
    pipeline = passes.pipeline("c", "native", data=data, quantize={"weight_bits": 16})
    try:
        native = passes.run(source, pipeline, progress=progress)
    except UnsupportedError as error:
        raise UnsupportedError(error.message, place=error.place, hint="Compile it for a board, as floats.") from error
    # The weights that events pass through are rounded anew, so how many bits they had here tells nothing.
    kept = [w for w in native.meta.get("warnings", []) if ": of 16 bits " not in w]
    native = replace(native, meta={k: v for k, v in native.meta.items() if k != "warnings"})
    judge = _Judge(source, data, float(max_loss))
    coder = SigmaDelta(data=data, inputs=inputs)
    tried = _levels(native, coder, judge, levels, progress)
    made, narrowed = tried[-1], []
    if levels is None and made.good:
        made, narrowed = _best(native, made, judge, progress)
    layout = {
        "method": "sigma-delta",
        "levels": made.coder.levels,
        "levels_of": made.program.meta["spiking"]["levels_of"],
        "chosen": levels is None,
        "max_loss": max_loss,
        "inputs": inputs,
        "calibration_samples": data.samples,
        "int16": judge(native).record(),
        "result": made.record(),
        "tried": [{"levels": t.coder.levels, **t.record()} for t in tried],
        "narrowed": [{"named": dict(t.coder.named), **t.record()} for t in narrowed],
    }
    if judge.float_accuracy is not None:
        layout["float_accuracy"] = judge.float_accuracy
    return Conversion(made.program, None, layout, (*kept, *_warnings(made, judge, levels)), _figures(made))


@dataclass(frozen=True)
class _Trial:
    """A program and what it does on the calibration data: outputs' NRMSE, accuracy, mean events a sample."""

    program: Program
    nrmse: float
    accuracy: float | None
    good: bool
    events: float | None = None
    coder: SigmaDelta = SigmaDelta()

    def record(self) -> dict[str, Any]:
        """As JSON."""
        found = {"nrmse": self.nrmse, "accuracy": self.accuracy, "events": self.events}
        return {key: float(f"{value:.6g}") for key, value in found.items() if value is not None}


class _Judge:
    """Compares programs with the float network on the calibration data."""

    def __init__(self, source: Program, data: Data, max_loss: float) -> None:
        self.source, self.data, self.max_loss = source, data, max_loss
        trace = run(source, data.inputs, data.lengths)
        self.wanted = real_outputs(source, trace)
        self.classes = classes_of(source, self.wanted, data)
        self.float_accuracy = self._accuracy(source, self.wanted)

    def __call__(self, program: Program, coder: SigmaDelta | None = None) -> _Trial:
        sent = program.meta.get("spiking", {}).get("sent")
        events = None
        if sent is None:
            trace = run(program, self.data.inputs, self.data.lengths)
        else:
            trace, changes = step_events.run(program, self.data.inputs, self.data.lengths, compiled=False)
            events = int(step_events.spikes(program, changes).sum()) / self.data.samples
        found = real_outputs(program, trace)
        error = max(self._error(name, found[name]) for name in self.wanted)
        right = self._accuracy(program, found)
        good = error <= NRMSE_PER_POINT * self.max_loss
        if right is not None and self.float_accuracy is not None:
            good = good and right >= self.float_accuracy - self.max_loss / 100 - 1e-9
        return _Trial(program, error, right, good, events, coder or SigmaDelta())

    def _accuracy(self, program: Program, outputs: dict[str, np.ndarray]) -> float | None:
        if self.classes is None:
            return None
        return accuracy(scores_of(program, outputs, self.data.lengths, self.classes), self.classes)

    def _error(self, name: str, found: np.ndarray) -> float:
        """NRMSE over the steps that count; the share that differs of outputs that aren't real numbers."""
        wanted, ref = self.wanted[name], self.source.outputs[name]
        if wanted.shape != found.shape:
            return 1.0  # it stopped after another number of steps
        if self.source.is_series(ref) and self.data.lengths is not None and wanted.shape[1]:
            counts = np.arange(wanted.shape[1]) < np.asarray(self.data.lengths)[:, None]
            wanted, found = wanted[counts], found[counts]
        if wanted.dtype.kind != "f" or np.ptp(wanted) == 0:
            return float(np.mean(wanted != found)) if wanted.size else 0.0
        return nrmse(found, wanted)


def _levels(
    native: Program, coder: SigmaDelta, judge: _Judge, levels: int | None, progress: Callable[[str], None]
) -> list[_Trial]:
    """Trials of one number of levels for all vectors, until one is good."""
    tried: list[_Trial] = []
    for n in (levels,) if levels else LEVELS:
        own = replace(coder, levels=n)
        tried.append(judge(own(native), own))
        progress(f"sigma-delta, {n} levels: {tried[-1].record()}")
        if tried[-1].good:
            break
    return tried


def _best(
    native: Program, start: _Trial, judge: _Judge, progress: Callable[[str], None]
) -> tuple[_Trial, list[_Trial]]:
    """The good trial with the fewest events, and the steps to it: from ``start``, or from the next more levels."""
    steps = _narrowed(native, start, judge, progress)
    more = [n for n in LEVELS if n > start.coder.levels]
    if len(start.program.meta["spiking"]["groups"]) > 1 and more:
        own = replace(start.coder, levels=more[0])
        other = _narrowed(native, judge(own(native), own), judge, progress)
        if other and (other[-1].events or 0) < ([start, *steps][-1].events or 0):
            steps = other
    return [start, *steps][-1], steps


def _narrowed(native: Program, start: _Trial, judge: _Judge, progress: Callable[[str], None]) -> list[_Trial]:
    """Fewer levels for one vector after another, the one that saves most events first, while the outputs stay good."""
    names = sorted(start.program.meta["spiking"]["levels_of"])
    shared = _shared(start.program, names)
    groups = list({shared[name]: None for name in names})
    steps: list[_Trial] = []
    now = start
    while len(groups) > 1:
        trials = []
        for group in list(groups):
            n = now.coder.named.get(group[0], now.coder.levels)
            fewer = [m for m in LEVELS if m < n]
            if not fewer:
                continue
            own = replace(now.coder, named={**now.coder.named, **dict.fromkeys(group, fewer[-1])})
            trial = judge(own(native), own)
            if trial.good and (trial.events or 0) < (now.events or 0):
                trials.append(trial)
            else:
                groups.remove(group)
        if not trials:
            break
        now = min(trials, key=lambda t: t.events or 0.0)
        steps.append(now)
        progress(f"sigma-delta, fewer levels of one vector: {now.record()}")
    return steps


def _shared(program: Program, names: list[str]) -> dict[str, tuple[str, ...]]:
    """Sent vector -> the sent vectors that have its steps."""
    groups = program.meta["spiking"]["groups"]
    return {name: next((tuple(g) for g in groups if name in g), (name,)) for name in names}


def _warnings(made: _Trial, judge: _Judge, levels: int | None) -> list[str]:
    found = []
    if not made.good:
        what = f"{made.coder.levels} levels" + ("" if levels else ", the most that are tried,")
        limit = NRMSE_PER_POINT * judge.max_loss
        found.append(f"{what} miss what max_loss={judge.max_loss:g} allows: NRMSE {made.nrmse:.3g}, needed {limit:.3g}")
    if made.events == 0:
        found.append("no unit ever changes its level on the calibration data: nothing is sent.")
    return found


def _figures(made: _Trial) -> tuple[Figure, ...]:
    program = made.program
    sent = program.meta["spiking"]["sent"]
    neurons = synapses = 0
    for stage in program.stages:
        names = sent[stage.name]
        later = {s.name for s in stage.graph.states if s.next in names}
        neurons += sum(stage.graph.tensor(name).size for name in names if name not in later)
        products = step_events.products(stage.graph, names)
        synapses += sum(int(np.count_nonzero(stage.graph.params[w].data)) for w, _ in products.values())
    source = "counted in the n-level program: elements of sent vectors, and non-zero weights that multiply them"
    return (
        Figure("neurons", neurons, "neurons", "compiled", source),
        Figure("synapses", synapses, "synapses", "compiled", source),
        Figure("levels", made.coder.levels, "levels", "compiled", "from zero to a unit's largest size"),
    )
