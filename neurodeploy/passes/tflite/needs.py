"""What 8 bits can't hold gets 16, where the user left it open: measured on the calibration samples.

Two needs are known:

- a state that would *stall*: too many of its updates are below half a step of 8 bits (``meta["updates"]``);
- what *decides*: the values that a comparison, an argmax, a floor or a cast to integers hangs on. A step more or less
  turns the decision, and what follows is another course altogether: a spike, another place in a memory, another pivot.

The golden model is run with them and without, and 16 bits are kept where they divide the error of the worst output by
1.5 at least: those of states that stall; then, if it is still too far off, those of what decides, first of all that is
computed, then of the network's inputs too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from neurodeploy.data import Data
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.fixed import dequantize
from neurodeploy.ir.graph import Program
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.quantize_checks import STALL_SHARE, lost_updates
from neurodeploy.passes.tflite.scales import Key, Scales
from neurodeploy.passes.tflite.widths import Widths

#: Outputs may be that far off, rms, as a share of their range.
LIMIT = 0.05
#: A state that stalls is none where outputs are off by less.
SLIGHT = 0.01
#: By how much more bits must divide the error.
GAIN = 1.5
#: Ops whose result turns where an argument moves by a step.
DECIDES = frozenset({"lt", "eq", "ne", "argmax", "floor", "round", "cast"})
STALLS = "too many of their updates are below half a step of 8 bits"
ALONG = ("forward", "reverse")
#: How much is run: steps of a sample, samples, and weights times steps of samples in all.
STEPS, SAMPLES, WORK = 200, 32, 2e8


# -- states that stall -------------------------------------------------------------------------------------------------


def stalling(program: Program, scales: Scales) -> frozenset[Key]:
    """The states of 8 bits that lose :data:`STALL_SHARE` of their updates, by ``meta["updates"]``."""
    found = set[Key]()
    for stage in program.stages:
        for name, sizes in program.meta.get("updates", {}).get(stage.name, {}).items():
            form = scales.form((stage.name, name))
            if form.dtype == "i8" and lost_updates(sizes, form.scale) >= STALL_SHARE:
                found.add((stage.name, name))
    return frozenset(found)


# -- what decides ------------------------------------------------------------------------------------------------------


def deciding(program: Program, scales: Scales, inputs: bool) -> frozenset[Key]:
    """Every real value that a decision hangs on, through states and stages; program inputs too, or none that shares a
    scale with one."""
    found, open_ = set[Key](), [(s.name, a) for s in program.stages for v in s.graph.values if v.op in DECIDES
                                for a in v.args]  # fmt: skip
    while open_:
        if (key := open_.pop()) not in found:
            found.add(key)
            open_ += _made_of(program, scales, key)
    real = {key for key in found if _real(program, scales, key)}
    given = {scales.find(("", name)) for name in program.inputs}
    return frozenset(key for key in real if inputs or scales.find(key) not in given)


def _made_of(program: Program, scales: Scales, key: Key) -> Iterable[Key]:
    """What a value, state or input is made of."""
    place, name = key
    if not place or name in scales.constant[place]:
        return ()
    stage = program.stage(place)
    for value in stage.graph.values:
        if value.name == name:
            return [(place, a) for a in value.args]
    for state in stage.graph.states:
        if state.name == name:
            first = [scales.source(stage.state_from[name])] if name in stage.state_from else []
            return [(place, state.next), *first]
    fed = [(place, stage.graph.outputs[stage.drive.feedback[name]])] if name in stage.drive.feedback else []
    return [scales.source(stage.inputs_from[name]), *fed]


def _real(program: Program, scales: Scales, key: Key) -> bool:
    place, name = key
    type_ = program.stage(place).graph.types()[name] if place else program.inputs[name].type
    constant = bool(place) and name in scales.constant[place]
    return isinstance(type_, TensorType) and type_.dtype == "f32" and not constant


# -- trials ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """Some samples, and the float outputs for them."""

    data: Data
    plain: Mapping[str, np.ndarray]

    def worst(self, made: Program) -> Error:
        """The output that is furthest off."""
        found = _outputs(made, self.data)
        return max(Error(_off(found[name], wanted), name) for name, wanted in self.plain.items())


class Error(NamedTuple):
    """How far an output is off: rms as a share of its range."""

    rms: float
    output: str

    def __str__(self) -> str:
        return f"'{self.output}' is off by {100 * self.rms:.2g} % of its range"


def _off(found: np.ndarray, wanted: np.ndarray) -> float:
    wanted = wanted.astype(np.float64)
    if not wanted.size:
        return 0.0
    return float(np.sqrt(np.mean((found - wanted) ** 2))) / (float(np.ptp(wanted)) or 1.0)


def _outputs(program: Program, data: Data) -> dict[str, np.ndarray]:
    """Real outputs; of one that is the last step's all steps, where their number is the data's."""
    trace = interpret.run(program, data.inputs, data.lengths)
    found = real_outputs(program, trace)
    for name, ref in program.outputs.items():
        if ref.stage and ref.at == "last" and program.stage(ref.stage).drive.kind in ALONG:
            graph = program.stage(ref.stage).graph
            found[name] = dequantize(trace.series[f"{ref.stage}.{ref.name}"], graph.tensor(graph.outputs[ref.name]))
    return found


def _trial(program: Program, data: Data) -> _Trial:
    """The first samples and steps of the data, so many that a trial is short."""
    weights = sum(param.data.size for stage in program.stages for param in stage.graph.params.values())
    series = [data.inputs[name].shape[1] for name, spec in program.inputs.items() if spec.kind == "series"]
    along = bool(series) and all(stage.drive.kind in ALONG for stage in program.stages)
    steps = min(*series, STEPS) if along else max(series, default=1)
    count = max(1, min(SAMPLES, int(WORK / (max(weights, 1) * max(steps, 1)))))
    few = _more(data.first(count), count)
    if along:
        cut = {n: a[:, :steps] if program.inputs[n].kind == "series" else a for n, a in few.inputs.items()}
        few = replace(few, inputs=cut, lengths=None if few.lengths is None else np.minimum(few.lengths, steps))
    return _Trial(few, _outputs(program, few))


def _more(data: Data, count: int) -> Data:
    """So many samples, where there are fewer: copies whose numbers are up to 2 % smaller at random. Whether a rounding
    turns a decision is a matter of luck, of which a few samples say little."""
    places, rng = np.arange(count) % data.samples, np.random.default_rng(0)
    copies = np.arange(count) >= data.samples
    inputs = {}
    for name, array in data.inputs.items():
        inputs[name] = array[places]
        if array.dtype.kind == "f":
            shrunk = inputs[name] * rng.uniform(0.98, 1.0, inputs[name].shape)
            inputs[name] = np.where(copies.reshape(-1, *(1,) * (array.ndim - 1)), shrunk, inputs[name]).astype(
                array.dtype
            )
    return Data(inputs, None if data.lengths is None else np.asarray(data.lengths)[places])


def quantized(
    program: Program, widths: Widths, headroom: float, data: Data | None, build: Callable[[Widths], Program]
) -> Program:
    """What ``build`` makes of the widths, which are widened by what the network needs, with a note in
    ``meta["warnings"]``. Nothing is tried without data, nor where no need is known."""
    made, levels = build(widths), list(_levels(program, Scales(program, headroom, widths)))
    if data is None or not data.samples or not levels:
        return made
    trial, notes = _trial(program, data), list[str]()
    error = trial.worst(made)
    for wide, why in levels:
        if error.rms <= (SLIGHT if why == STALLS else LIMIT):
            continue
        try:
            other = build(wider := replace(widths, wide=widths.wide | wide))
        except UnsupportedError:  # a fused cell has no kernel for such a mixture
            continue
        found = trial.worst(other)
        if found.rms * GAIN < error.rms:
            notes.append(
                f"{_kept(program, wide)} kept at 16 bits, since {why}: with 8 the output {error} (rms over calibration "
                f"samples), so {found}. --quantize state_dtype=i8 forces 8."
            )
            made, error, widths = other, found, wider
    return replace(made, meta={**made.meta, "warnings": [*made.meta.get("warnings", []), *notes]}) if notes else made


def _levels(program: Program, scales: Scales) -> Iterator[tuple[frozenset[Key], str]]:
    """What is widened one after the other, and why."""
    if found := stalling(program, scales):
        yield found, STALLS
    for inputs in (False, True):
        if found := deciding(program, scales, inputs):
            yield found, "decisions hang on them (comparisons, argmax, whole numbers)"


def _kept(program: Program, wide: frozenset[Key]) -> str:
    """In words what gets 16 bits."""
    states = {(stage.name, state.name) for stage in program.stages for state in stage.graph.states}
    parts = {
        "inputs": sorted(name for place, name in wide if not place),
        "states": sorted(".".join(key) for key in wide & states),
    }
    words = [f"{what} {', '.join(names)}" for what, names in parts.items() if names]
    rest = sum(bool(key[0]) for key in wide - states)
    return " and ".join([*words, *([f"{rest} values"] if rest else [])]) + " are"
