"""Noise-aware fine-tuning: backpropagation through time on chips that are drawn anew for every step of training.

The forward pass is the simulator itself: every product of a batch is what a few newly drawn chips give at one of the
ages, with all that the target says of devices, wires and converters. The backward pass takes the product for linear,
with the weights as they act on that chip (gains included), and their noise for a constant: a straight-through estimate
(Bengio, Leonard and Courville, arXiv:1308.3432), for converters as for devices. Training with the hardware's own noise:
Joshi et al., Nature Communications 11, 2473 (2020); Rasch et al., Nature Communications 14, 5282 (2023).

Trained are the float network's own params, by Adam on the cross-entropy of classes or the squared error of targets;
zeros of matrices stay zeros. After every epoch the network is mapped anew, with converter ranges from the training
samples, and judged on held-out samples by chips that training never sees. Chips 0, 1, ... of a run are yet others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Figure, Trace
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping.tiles import Matrix, input_scale
from neurodeploy.crossbar.repair.fine_tune_params import Key, Origins, origins
from neurodeploy.crossbar.simulate import Chips, run_chips
from neurodeploy.data import Data
from neurodeploy.errors import DataError, UnsupportedError, UsageError, require
from neurodeploy.hardware import Crossbar
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.spiking.fine_tune import BATCH, SCALES, split
from neurodeploy.spiking.snntorch_net import exact
from neurodeploy.validate import judge, scores_of

if TYPE_CHECKING:
    from torch import Tensor

    from neurodeploy.crossbar.analog import AnalogMatrix

Array = np.ndarray
Mapped = tuple[Program, tuple[Matrix, ...]]
WHY = "trains networks for noisy devices"
YEAR = 31_536_000.0
#: Part of a label that the other classes get: right answers have a finite best score, so margins go on to count where
#: every class is right. Szegedy et al., Rethinking the Inception architecture, CVPR 2016. Little: 0.1 blunts training.
SMOOTHING = 0.02
#: Chips that a batch is spread over, and chips that judge an epoch.
DRAWN, JUDGES = 4, 8
#: Numbers of the chips that train and that judge start here: a run's own start at 0.
_TRAINING, _JUDGING = 1 << 40, 1 << 32


@dataclass(frozen=True)
class Judged:
    """A network on the held-out samples after so many epochs: mean over chips and ages.

    The better one is that with the smaller ``loss``, which still tells networks apart that have all classes right.
    ``accuracy``: share of right classes, None for targets; ``by_age``: the accuracy, or the loss, at each age.
    """

    epoch: int
    accuracy: float | None
    loss: float
    by_age: tuple[float, ...]


@dataclass(frozen=True)
class Tuned:
    """The better network of both (``program``), and what was seen: ``before``, the ``best`` epoch, all ``epochs`` on
    ``held_out`` samples; ``kept``: whether the trained one is better."""

    program: Program
    before: Judged
    best: Judged
    epochs: tuple[Judged, ...]
    ages: tuple[float, ...]
    trained: int
    held_out: int
    seed: int
    kept: bool

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Accuracy, or loss, of the held-out samples before and after."""
        where = f"{self.held_out} held-out samples, mean of {JUDGES} chips at {len(self.ages)} ages, seed {self.seed}"
        found = []
        for when, judged in (("before", self.before), ("after", self.best)):
            accuracy, name = judged.accuracy, f"fine_tuning.{when}"
            if accuracy is None:
                found.append(Figure(name, judged.loss, "", "simulated", f"loss of {where}"))
            else:
                found.append(Figure(name, round(100 * accuracy, 2), "%", "simulated", f"accuracy of {where}"))
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """That nothing came of it, if so."""
        if self.kept:
            return ()
        return (
            f"fine-tuning gave no better network in {len(self.epochs)} epochs: loss {self.before.loss:.4f} on "
            f"{self.held_out} held-out samples before, {min(e.loss for e in self.epochs):.4f} at best after; the "
            "network is left as it was",
        )

    def record(self) -> dict[str, Any]:
        """What a manifest says of it, in JSON."""
        return {
            "kept": self.kept, "epoch": self.best.epoch, "seed": self.seed, "trained": self.trained,
            "held_out": self.held_out, "ages_s": list(self.ages), "chips": JUDGES,
            "epochs": [asdict(judged) for judged in (self.before, *self.epochs)],
        }  # fmt: skip


def tune(
    program: Program, target: Crossbar, data: Data | None, epochs: Any, mapping: Mapping[str, Any],
    progress: Callable[[str], None],
) -> Tuned:  # fmt: skip
    """What ``compile`` does with ``fine_tune=epochs``: see :func:`fine_tune`; without data a :class:`DataError`."""
    if data is None:
        raise DataError(
            "fine-tuning needs samples with classes or targets; none given.",
            place=program.name,
            hint="Give them: --data FILE.npz with inputs and 'y'.",
        )
    return fine_tune(program, target, data, epochs=epochs, mapping=mapping, progress=progress)


def fine_tune(
    program: Program, target: Crossbar, data: Data, *, epochs: int = 30, ages: Sequence[float] = (0.0, YEAR),
    seed: int = 0, lr: float = 0.005, validation: float = 0.2, compensate: bool = True,
    mapping: Mapping[str, Any] | None = None, progress: Callable[[str], None] = lambda _: None,
) -> Tuned:  # fmt: skip
    """Train a float program's params for a target on labelled data.

    ``ages``: seconds since the first read; each batch is at one of them. ``lr``: Adam's first step for each param, in
    units of its own root mean square; it falls to 0 as half a cosine. ``validation``: the part of the samples that is
    held out. ``compensate``: global drift compensation. ``mapping``: options of the mapping onto arrays, those of
    :meth:`~neurodeploy.backends.crossbar.CrossbarBackend.compile`. Raises :class:`UsageError` for options and
    :class:`DataError` for data that can't be, :class:`UnsupportedError` naming what has no gradient,
    :class:`MissingExtraError` without PyTorch.
    """
    torch = require("torch", "torch", WHY)
    from neurodeploy.crossbar.repair import torch_program

    labels = _check(program, data, epochs, ages, lr, validation)
    mapped = partial(_mapped, target=target, data=data, options=dict(mapping or {}))
    found = origins(program, lambda changed: mapped(changed)[0])
    torch_program.check(found.tiled)
    work = _Work(found, mapped, target, data, labels, tuple(ages), seed, compensate, validation)
    with exact():
        numbers = [torch.nn.Parameter(torch.from_numpy(part.copy())) for part in _parts(found, found.numbers())]
        optimizer = torch.optim.Adam(_groups(found, numbers, lr))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        before = best = work.judged(program, 0)
        kept, seen = program, []
        progress(f"fine-tuning: {_words(before)} on {len(work.held)} held-out samples before")
        for epoch in range(1, epochs + 1):
            _, matrices = mapped(found.with_numbers(_flat(numbers)))
            order = work.rng.permutation(work.trained)
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                loss = work.loss(numbers, np.resize(part, -(-len(part) // DRAWN) * DRAWN), matrices)
                if not loss.requires_grad:
                    raise UnsupportedError(
                        "gives its outputs by comparisons and rounding only, which pass no gradient.",
                        place=program.name,
                        hint="Leave out fine-tuning.",
                    )
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(numbers, 1.0)
                optimizer.step()
            schedule.step()
            candidate = found.with_numbers(_flat(numbers))
            seen.append(work.judged(candidate, epoch))
            progress(f"fine-tuning, epoch {epoch}: {_words(seen[-1])}")
            if seen[-1].loss < best.loss:
                best, kept = seen[-1], candidate
    return Tuned(
        kept, before, best, tuple(seen), tuple(ages), len(work.trained), len(work.held), seed, best.epoch > 0
    )  # fmt: skip


def _words(judged: Judged) -> str:
    return f"loss {judged.loss:.4f}" if judged.accuracy is None else f"{judged.accuracy:.2%}, loss {judged.loss:.4f}"


def _check(
    program: Program, data: Data, epochs: int, ages: Sequence[float], lr: float, validation: float
) -> Array:  # fmt: skip
    """The labels. Raises what :func:`fine_tune` does."""
    if type(epochs) is not int or epochs < 1 or not lr > 0 or not 0 < validation < 1:
        raise UsageError(
            f"epochs {epochs}, lr {lr:g}, validation {validation:g}; needed epochs of at least 1, lr above 0 and "
            "validation between 0 and 1.", place="fine-tuning",
        )  # fmt: skip
    if not ages or not all(0 <= age < 1e12 for age in ages):
        raise UsageError(f"the ages are {list(ages)}; needed some, in seconds from 0.", place="fine-tuning")
    if program.numerics != "float":
        raise UnsupportedError(
            f"its numerics are '{program.numerics}'; fine-tuning takes the float program.",
            place=program.name,
            hint="Fine-tune before quantizing.",
        )
    if data.labels is None:
        raise DataError(
            "fine-tuning needs classes or targets.", place=data.name, hint="Give 'y': [n] classes, or like the output."
        )
    return data.labels


def _mapped(program: Program, target: Crossbar, data: Data, options: dict[str, Any]) -> Mapped:
    """The program as it is put onto arrays, and its matrices with converter ranges from the data."""
    from neurodeploy import compiler

    built = compiler.compile(program, target, data, costs=False, **options)
    return built.program, described(built.artifact)[1]


class _Work:
    """What stays the same over a training: data and their parts, the target, the loss."""

    def __init__(
        self, found: Origins, mapped: Callable[[Program], Mapped], target: Crossbar, data: Data, labels: Array,
        ages: tuple[float, ...], seed: int, compensate: bool, validation: float,
    ) -> None:  # fmt: skip
        self.found, self.mapped, self.target, self.data, self.labels = found, mapped, target, data, labels
        self.ages, self.seed, self.compensate = ages, seed, compensate
        self.rng = np.random.default_rng(seed)
        source = found.source
        plain = real_outputs(source, interpret.run(source, data.inputs, data.lengths))
        metric, _ = judge(source, plain, data)  # says what doesn't fit
        self.classes = metric == "ClassificationAccuracy"
        if self.classes:
            self.held, self.trained = split(labels, validation, self.rng)
        else:
            order, count = self.rng.permutation(len(labels)), max(1, round(validation * len(labels)))
            if count >= len(labels):
                raise DataError("there is no sample to train on beside the held-out one.", place=data.name)
            self.held, self.trained = np.sort(order[:count]), np.sort(order[count:])
        self.scale = 1.0
        if self.classes:
            scores = scores_of(source, plain, data.lengths, labels)[self.trained].astype(np.float64)
            self.scale = min(SCALES, key=lambda scale: smoothed(scale * scores, labels[self.trained]))
        self.drawn = 0

    def part(self, index: Array) -> tuple[dict[str, Array], Array | None]:
        """Inputs and lengths of some samples."""
        lengths = None if self.data.lengths is None else np.asarray(self.data.lengths)[index]
        return {name: array[index] for name, array in self.data.inputs.items()}, lengths

    def loss(self, numbers: Sequence[Tensor], index: Array, matrices: tuple[Matrix, ...]) -> Tensor:
        """The loss of some samples on chips drawn for them, ``DRAWN`` chips one after the other."""
        import torch

        from neurodeploy.crossbar.repair import torch_program

        held = self.found.tiled_with(_flat(numbers))
        drawn = range(_TRAINING + self.drawn, _TRAINING + self.drawn + DRAWN)
        self.drawn += DRAWN
        chips = Chips(held, matrices, self.target, drawn, len(index) // DRAWN, self.seed)
        chips.age(float(self.rng.choice(self.ages)), self.compensate)
        products = {
            (stage, value): _product(analog) for stage, those in chips.analog.items() for value, analog in those.items()
        }
        flat = torch.cat([n.reshape(-1) for n in numbers])
        inputs, lengths = self.part(index)
        outputs = torch_program.run(held, self._params(flat, held), inputs, lengths, products)
        name, ref = next(iter(held.outputs.items()))
        found, wanted = outputs[name], torch.from_numpy(self.labels[index])
        if held.is_series(ref) and self.labels.ndim == 1:
            ends = np.full(len(index), found.shape[1]) if lengths is None else lengths
            found = found[torch.arange(len(index)), torch.from_numpy(np.maximum(ends - 1, 0))]
        if self.classes:
            return torch.nn.functional.cross_entropy(self.scale * found, wanted.long(), label_smoothing=SMOOTHING)
        return torch.nn.functional.mse_loss(found.reshape(wanted.shape), wanted.to(found.dtype))

    def _params(self, flat: Tensor, held: Program) -> dict[Key, Tensor]:
        """The tiled program's params as they depend on the trained numbers."""
        import torch

        made = {}
        for (stage, name), places in self.found.places.items():
            fixed = torch.from_numpy(np.array(held.stage(stage).graph.params[name].data))
            at = torch.from_numpy(places)
            made[stage, name] = torch.where(at >= 0, flat[at.clamp(min=0)], fixed)
        return made

    def judged(self, program: Program, epoch: int) -> Judged:
        """A network on the held-out samples, mapped anew."""
        tiled, matrices = self.mapped(program)
        inputs, lengths = self.part(self.held)
        data = Data(inputs, lengths, self.labels[self.held])
        chips = Chips(tiled, matrices, self.target, range(_JUDGING, _JUDGING + JUDGES), len(self.held), self.seed)
        losses, right = [], []
        for age in self.ages:
            chips.age(age, self.compensate)
            trace, _ = run_chips(tiled, chips, inputs, lengths)
            here: list[tuple[float, float]] = []
            for chip in range(JUDGES):
                span = slice(chip * len(self.held), (chip + 1) * len(self.held))
                raw = Trace({name: array[span] for name, array in trace.outputs.items()})
                here.append(self._score(tiled, real_outputs(tiled, raw), data))
            losses.append(float(np.mean([loss for loss, _ in here])))
            right.append(float(np.mean([accuracy for _, accuracy in here])))
        loss = round(float(np.mean(losses)), 6)
        if self.classes:
            return Judged(epoch, float(np.mean(right)), loss, tuple(right))
        return Judged(epoch, None, loss, tuple(losses))

    def _score(self, program: Program, outputs: dict[str, Array], data: Data) -> tuple[float, float]:
        """Loss and accuracy of one chip."""
        labels = np.asarray(data.labels)
        scores = scores_of(program, outputs, data.lengths, labels).astype(np.float64)
        if self.classes:
            return smoothed(self.scale * scores, labels), judge(program, outputs, data)[1]
        return float(np.mean((scores.reshape(labels.shape) - labels) ** 2)), 0.0


def smoothed(logits: Array, labels: Array) -> float:
    """Mean cross-entropy of classes ``[n]`` with :data:`SMOOTHING`."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    surprise = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
    right = surprise[np.arange(len(labels)), labels]
    return float(np.mean((1 - SMOOTHING) * right + SMOOTHING * surprise.mean(axis=1)))


def _product(analog: AnalogMatrix) -> Callable[[Tensor, Tensor], Tensor]:
    """What the chips give for a matrix, with the gradient of a linear product by the weights as they act."""
    import torch

    matrix, chips = analog.matrix, len(analog.chips)
    acting = np.zeros((chips, matrix.inputs, matrix.outputs), np.float32)
    scale = input_scale(matrix)
    for block in analog.blocks:
        part = block.effective.reshape(chips, -1, matrix.slices, matrix.outputs).sum(axis=2)
        part = part / scale[slice(*block.inputs), None]
        acting[:, slice(*block.inputs)] = part if block.gain is None else part * block.gain
    drawn = torch.from_numpy(acting)

    def product(weight: Tensor, x: Tensor) -> Tensor:
        rows = chips * analog.samples
        x = x.expand(rows, *x.shape[1:])
        given = torch.from_numpy(analog([np.zeros(0), x.detach().numpy()]))
        left = matrix.side == "left"
        held = (weight.T if left else weight).expand(chips, matrix.inputs, matrix.outputs)
        acts = drawn + (held - held.detach())
        vectors = x.movedim(1, -1) if left else x
        y = vectors.reshape(chips, -1, matrix.inputs) @ acts
        y = y.reshape(rows, -1, matrix.outputs)
        y = (y.movedim(2, 1) if left else y).reshape(given.shape)
        return given + (y - y.detach())  # the chips' own bits, the gradient of the linear product

    return product


def _parts(found: Origins, flat: Array) -> list[Array]:
    """The numbers of each trained param, one after the other."""
    return np.split(flat, list(found.trained.values())[1:])


def _flat(numbers: Sequence[Tensor]) -> Array:
    return np.concatenate([n.detach().numpy().reshape(-1) for n in numbers])


def _groups(found: Origins, numbers: Sequence[Tensor], lr: float) -> list[dict[str, Any]]:
    """Adam's groups: each param with a step in units of the root mean square of what may change in it."""
    import torch

    groups = []
    for param, movable in zip(numbers, _parts(found, found.movable()), strict=True):
        values = param.detach().reshape(-1)[torch.from_numpy(movable)]
        size = float(values.square().mean().sqrt()) if len(values) else 0.0
        groups.append({"params": [param], "lr": lr * (size or 1.0)})
    return groups
