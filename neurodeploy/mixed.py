"""Mixed widths: the cheapest integer program that loses no more than it may, and the front of all that were tried.

Every mix is judged by running the *integer* program in the golden model on calibration samples. The search is greedy:
the tensors whose narrowing tells least for the bytes that it saves go first; then pairs are exchanged as long as that
helps. It is deterministic and bounded by a number of evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from neurodeploy.data import Data
from neurodeploy.errors import UsageError, nearest
from neurodeploy.ir.graph import Program
from neurodeploy.mixed_judge import Judge, Loss, divided, flash_bytes, state_bytes
from neurodeploy.passes.calibrate import Calibrate, expanded
from neurodeploy.passes.quantize import Quantize, legal_form, quantized
from neurodeploy.passes.quantize_moments import moments
from neurodeploy.passes.quantize_widths import Key, label, state_keys, table_keys, weight_keys, widths_of

MINIMISE = ("flash", "ram")
#: Widths that cost differently: 5 to 8 bits take a byte, 2 to 4 half of one.
WEIGHT_LEVELS, TABLE_LEVELS, STATE_LEVELS = (16, 8, 4), (16, 8), ("i16", "i8")
#: Programs that a search runs at most.
EVALUATIONS = 200
Width = int | str
Choice = tuple[Width, ...]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Tensor:
    """A tensor whose width is chosen: its name, what it is (weight or state), its widths from the widest on."""

    name: str
    kind: str
    widths: tuple[Width, ...]


@dataclass(frozen=True)
class Mix:
    """A width for every tensor, with what it costs (B) and loses."""

    widths: Mapping[str, Width]
    flash: int
    ram: int
    loss: Loss

    def cost(self, minimise: str) -> int:
        """The bytes that the search saves."""
        return self.flash if minimise == "flash" else self.ram


@dataclass(frozen=True)
class Front:
    """What a search found.

    ``mixes``: every mix tried that no other beats in cost, loss and output error together, the cheapest first.
    ``chosen``: the cheapest within ``max_loss``. ``held_out``: its loss on samples that it was neither calibrated nor
    chosen by (None: too few to hold any out). ``options`` are those of the pass ``quantize``.
    """

    tensors: tuple[Tensor, ...]
    mixes: tuple[Mix, ...]
    chosen: Mix
    max_loss: float
    minimise: str
    measure: str
    float_accuracy: float | None
    samples: int
    held_out_samples: int
    held_out: Loss | None
    evaluations: int
    options: Mapping[str, Any] = field(default_factory=dict)


def search(
    source: Program,
    data: Data,
    max_loss: float,
    *,
    minimise: str = "flash",
    method: str = "minmax",
    options: Mapping[str, Any] | None = None,
    evaluations: int = EVALUATIONS,
    progress: Progress | None = None,
) -> Front:
    """The cheapest widths with which a float program loses at most ``max_loss``.

    ``max_loss``: percentage points of accuracy where the data have a class for every sample, else the outputs' rmse in
    percent of their range. ``minimise``: ``flash``, by the widths of the weights (16, 8, 4 bits), or ``ram``, by those
    of the states (i16, i8). ``options``: of the pass ``quantize``; tensors that they name keep their widths.
    A quarter of the samples is held out: neither calibrated nor chosen by. Raises :class:`UsageError` if no mix that
    was tried loses that little.
    """
    if not max_loss >= 0:
        raise UsageError(f"max_loss is {max_loss}; needed 0 or more.")
    if minimise not in MINIMISE:
        raise UsageError(f"'{minimise}' can't be minimised; needed flash or ram.", hint=nearest(minimise, MINIMISE))
    bench = _Bench(source, data, minimise, method, Quantize(**(options or {})), evaluations, progress)
    chosen = _cheapest(bench, max_loss)
    return Front(
        tensors=bench.tensors,
        mixes=_front(list(bench.known.values()), minimise),
        chosen=chosen,
        max_loss=max_loss,
        minimise=minimise,
        measure=bench.judge.measure,
        float_accuracy=bench.judge.float_accuracy,
        samples=bench.judge.data.samples,
        held_out_samples=bench.held_out.samples if bench.held_out else 0,
        held_out=Judge(source, bench.held_out)(bench.program(bench.choice_of(chosen))) if bench.held_out else None,
        evaluations=len(bench.known),
        options=bench.options(bench.choice_of(chosen)),
    )


class _Bench:
    """Makes and judges mixes, each once."""

    def __init__(
        self, source: Program, data: Data, minimise: str, method: str, base: Quantize, limit: int, progress: Any
    ) -> None:
        self.minimise, self.base, self.limit, self.say = minimise, base, limit, progress or (lambda _: None)
        whole = Judge(source, data)
        choosing, self.held_out = divided(data, whole.classes)
        self.judge = Judge(source, choosing) if self.held_out else whole
        self.legal = legal_form(expanded(Calibrate(method=method, data=choosing, progress=progress)(source)))
        fixed = widths_of(self.legal, base)
        self.tensors = tuple(
            t for key, t in _tensors(self.legal, minimise) if key not in fixed.weights and key not in fixed.kept
        )
        self._moments = moments(self.legal, choosing, progress) if base.rounding == "compensated" else None
        self.known: dict[Choice, Mix] = {}

    def uniform(self, level: int) -> Choice:
        """Every tensor at its level-th width, or its narrowest."""
        return tuple(t.widths[min(level, len(t.widths) - 1)] for t in self.tensors)

    def options(self, choice: Choice) -> dict[str, Any]:
        """The options of ``quantize`` for a mix."""
        given = {k: v for k, v in vars(self.base).items() if k not in ("data", "progress")}
        for kind, option in (("weight", "weights"), ("state", "states")):
            named = {t.name: w for t, w in zip(self.tensors, choice, strict=True) if t.kind == kind}
            given[option] = {**given[option], **named}
        return given

    def program(self, choice: Choice) -> Program:
        """The integer program of a mix, calibrated on the samples that are chosen by."""
        options = Quantize(**self.options(choice))
        return quantized(self.legal, options, widths_of(self.legal, options), self._moments)

    @property
    def spent(self) -> bool:
        return len(self.known) >= self.limit

    def __call__(self, choice: Choice) -> Mix:
        """A mix judged on the samples that are chosen by."""
        if choice not in self.known:
            program = self.program(choice)
            named = {t.name: w for t, w in zip(self.tensors, choice, strict=True)}
            mix = Mix(named, flash_bytes(program), state_bytes(program), self.judge(program))
            self.known[choice] = mix
            self.say(
                f"mix {len(self.known)} of at most {self.limit}: "
                f"{mix.cost(self.minimise):,} B {self.minimise}, loses {mix.loss.value:.2f}"
            )
        return self.known[choice]

    def choice_of(self, mix: Mix) -> Choice:
        return tuple(mix.widths[t.name] for t in self.tensors)


def _tensors(legal: Program, minimise: str) -> list[tuple[Key, Tensor]]:
    """What may be narrowed."""
    if minimise == "ram":
        return [(key, Tensor(label(key), "state", STATE_LEVELS)) for key in state_keys(legal)]
    tables = table_keys(legal)
    return [
        (key, Tensor(label(key), "weight", TABLE_LEVELS if key in tables else WEIGHT_LEVELS))
        for key in weight_keys(legal)
    ]


# -- search ------------------------------------------------------------------------------------------------------------


def _cheapest(bench: _Bench, max_loss: float) -> Mix:
    """The cheapest mix within the loss: narrowed step by step from a uniform one that is, then by exchanges."""
    levels = max((len(t.widths) for t in bench.tensors), default=1)
    uniform = [bench.uniform(level) for level in range(levels)]
    within = [c for c in uniform if bench(c).loss.value <= max_loss]
    if not within:
        best = min((bench(c) for c in uniform), key=lambda m: m.loss.value)
        raise UsageError(
            f"no widths lose as little as {max_loss:g} ({bench.judge.measure}): the least is {best.loss.value:.3g}, "
            f"at {best.flash:,} B of weights and {best.ram:,} B of states.",
            place=bench.legal.name,
            hint=f"Allow that (--max-loss {_above(best.loss.value):g}), or take --numerics float.",
        )
    # If even the narrowest widths are within, the steps that lead there still belong to the front.
    start = within[-2] if within[-1] == uniform[-1] and len(within) > 1 else within[-1]
    choice = _narrowed(bench, start, max_loss)
    choice = _exchanged(bench, choice, max_loss)
    best = min((m for m in bench.known.values() if m.loss.value <= max_loss), key=lambda m: _rank(m, bench))
    return min(best, bench(choice), key=lambda m: _rank(m, bench))


def _above(loss: float) -> float:
    """The next hundredth above a loss."""
    return -(-loss * 100 // 1) / 100


def _rank(mix: Mix, bench: _Bench) -> tuple[float, float, float]:
    return (mix.cost(bench.minimise), mix.loss.value, mix.loss.rmse)


def _steps_down(bench: _Bench, choice: Choice) -> list[tuple[int, Choice]]:
    """Every mix with one tensor one width narrower."""
    found = []
    for i, (tensor, width) in enumerate(zip(bench.tensors, choice, strict=True)):
        below = tensor.widths.index(width) + 1
        if below < len(tensor.widths):
            found.append((i, (*choice[:i], tensor.widths[below], *choice[i + 1 :])))
    return found


def _narrowed(bench: _Bench, choice: Choice, max_loss: float) -> Choice:
    """Narrow one tensor after another, those first that tell least for the bytes saved (their own sensitivity)."""
    while not bench.spent:
        here = bench(choice)
        order = []
        for i, other in _steps_down(bench, choice):
            if bench.spent:
                break
            mix = bench(other)
            saved = here.cost(bench.minimise) - mix.cost(bench.minimise)
            told = max(mix.loss.rmse**2 - here.loss.rmse**2, 0.0)
            if saved > 0:
                order.append((told / saved, i, other[i]))
        start = choice
        for _, i, width in sorted(order, key=lambda entry: entry[:2]):
            wanted = (*choice[:i], width, *choice[i + 1 :])
            if (wanted in bench.known or not bench.spent) and bench(wanted).loss.value <= max_loss:
                choice = wanted
        if choice == start:
            break
    return choice


def _exchanged(bench: _Bench, choice: Choice, max_loss: float) -> Choice:
    """Widen one tensor and narrow another, or two, as long as a mix within the loss becomes cheaper by it."""
    improved = True
    while improved and not bench.spent:
        improved = False
        for i, (tensor, width) in enumerate(zip(bench.tensors, choice, strict=True)):
            above = tensor.widths.index(width) - 1
            if above < 0 or bench.spent:
                continue
            wider = (*choice[:i], tensor.widths[above], *choice[i + 1 :])
            found = wider
            for j, other in _steps_down(bench, wider):
                narrowed = (*found[:j], other[j], *found[j + 1 :])
                if i == j or bench.spent:
                    continue
                mix = bench(narrowed)
                if mix.loss.value <= max_loss:
                    found = narrowed
            if found != wider and _rank(bench(found), bench) < _rank(bench(choice), bench):
                choice, improved = found, True
                break
    return choice


def _front(mixes: list[Mix], minimise: str) -> tuple[Mix, ...]:
    """The mixes that no other beats, the cheapest first."""

    def axes(m: Mix) -> tuple[float, float, float]:
        return (m.cost(minimise), m.loss.value, m.loss.rmse)

    kept: list[Mix] = []
    for mix in sorted(mixes, key=axes):
        if not any(all(a <= b for a, b in zip(axes(k), axes(mix), strict=True)) for k in kept):
            kept.append(mix)
    return tuple(kept)
