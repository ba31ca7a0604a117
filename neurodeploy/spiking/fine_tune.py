"""Fine-tuning a spiking network on labelled data: backpropagation through time with surrogate gradients, in snnTorch.

The forward pass is the network itself. Where a spike's derivative is needed, a smooth curve stands in for the step
(Neftci et al., Surrogate gradient learning in spiking neural networks, IEEE SPM 36(6), 2019); here snnTorch's
arctangent, of the membrane's distance from threshold in units of the threshold. Trained are the input, the non-zero
recurrent and the readout weights with their biases, by Adam on the cross-entropy of the last frame's scores; time
constants, thresholds and the pattern of connections stay. After every epoch the weights are put back on their grids,
and that network, run exactly, is judged on held-out samples, which are never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.artifact import Figure
from neurodeploy.errors import DataError, UnsupportedError, UsageError, require
from neurodeploy.spiking import snntorch_net
from neurodeploy.spiking.net import INPUT_LIMIT, SpikingNet, make, with_readout

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.spiking.convert import Conversion

WHY = "trains spiking networks"
#: Epochs without a better network after which training ends.
PATIENCE = 8
BATCH = 32
#: Scales of the scores that are tried as logits, before training, on the training part.
SCALES = tuple(2.0**k for k in range(-4, 8))


@dataclass(frozen=True)
class Judged:
    """A network on the held-out samples, after so many epochs."""

    epoch: int
    accuracy: float
    loss: float

    def better_than(self, other: Judged) -> bool:
        """More accurate; or as accurate, with the smaller loss."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True)
class Tuned:
    """The better network of both, and what was seen: ``before``, the ``best`` epoch, all ``epochs`` on ``held_out``
    samples; ``kept``: whether the trained one is better and therefore ``net``."""

    net: SpikingNet
    before: Judged
    best: Judged
    epochs: tuple[Judged, ...]
    trained: int
    held_out: int
    kept: bool


def fine_tune(
    net: SpikingNet, x: np.ndarray, lengths: np.ndarray, labels: np.ndarray, *, epochs: int, seed: int = 0,
    lr: float = 0.005, validation: float = 0.2, progress: Callable[[str], None] = lambda _: None,
) -> Tuned:  # fmt: skip
    """Train a network's weights on quantized inputs ``[n, frames, inputs]`` and classes ``labels`` [n].

    ``lr``: Adam's step for each group of weights, in units of their own root mean square. ``validation``: the part of
    the samples that is held out. Raises :class:`UsageError` for options and :class:`DataError` for data that can't
    be, :class:`UnsupportedError` for a network without readout, :class:`MissingExtraError` without snnTorch.
    """
    torch = require("torch", "spiking", WHY)
    require("snntorch", "spiking", WHY)
    _check(net, labels, epochs, lr, validation)
    rng = np.random.default_rng(seed)
    held, trained = split(labels, validation, rng)
    real = torch.from_numpy((np.clip(x, -INPUT_LIMIT, INPUT_LIMIT) * net.in_scale).astype(np.float32))
    classes = torch.from_numpy(labels.astype(np.int64))
    module = snntorch_net.module_of(net, _surrogate(net))
    with snntorch_net.exact():
        scale = _scale(net, x[trained], lengths[trained], labels[trained])
        optimizer = torch.optim.Adam(_groups(module, lr))
        before = best = _judge(net, x[held], lengths[held], labels[held], scale, 0)
        found, seen = net, []
        progress(f"fine-tuning: {before.accuracy:.2%} of {len(held)} held-out samples before")
        for epoch in range(1, epochs + 1):
            order = rng.permutation(trained)
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                ends = lengths[part]
                scores = _last_scores(module, real[part, : ends.max()], torch.from_numpy(ends))
                loss = torch.nn.functional.cross_entropy(scale * scores, classes[part])
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
            candidate = _regridded(net, module)
            seen.append(_judge(candidate, x[held], lengths[held], labels[held], scale, epoch))
            progress(f"fine-tuning, epoch {epoch}: {seen[-1].accuracy:.2%}, loss {seen[-1].loss:.4f}")
            if seen[-1].better_than(best):
                best, found = seen[-1], candidate
            if epoch - best.epoch >= PATIENCE:
                break
    return Tuned(found, before, best, tuple(seen), len(trained), len(held), best.epoch > 0)


def tune(
    made: Conversion, data: Data | None, epochs: Any, *, seed: int = 0, progress: Callable[[str], None] = lambda _: None
) -> Conversion:
    """A conversion with its network fine-tuned on ``data``; its layout says before, after, and which was kept.

    Raises what :func:`fine_tune` does, :class:`DataError` without a class for every sample.
    """
    from neurodeploy.ir.fixed import quantize
    from neurodeploy.spiking.net_program import program_of

    if made.net is None:
        raise UnsupportedError(
            "fine-tuning trains networks of spiking neurons; this conversion gives sigma-delta steps.",
            place=made.program.name,
            hint="Leave out fine_tune.",
        )
    labels = None if data is None else data.labels
    if data is None or labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            "fine-tuning needs one class for every sample.",
            place=made.program.name,
            hint="Give sample inputs with whole numbers 'y' [n].",
        )
    program = made.program
    (name, wanted), output = next(iter(program.inputs.items())), next(iter(program.outputs))
    real = data.inputs[name]
    lengths = np.full(len(real), real.shape[1]) if data.lengths is None else np.asarray(data.lengths)
    tuned = fine_tune(
        made.net, quantize(real, wanted.type), lengths, labels, epochs=epochs, seed=seed, progress=progress
    )
    figures = {
        "before": tuned.before.accuracy,
        "after": tuned.best.accuracy if tuned.kept else tuned.epochs[-1].accuracy,
    }
    report: dict[str, Any] = {
        **figures, "kept": tuned.kept, "epoch": tuned.best.epoch, "seed": seed, "trained": tuned.trained,
        "held_out": tuned.held_out, "epochs": [asdict(judged) for judged in (tuned.before, *tuned.epochs)],
    }  # fmt: skip
    layout = {**made.layout, "fine_tune": report}
    if not tuned.kept:
        warning = (
            f"fine-tuning gave no better network: {figures['before']:.2%} of {tuned.held_out} held-out samples before, "
            f"{figures['after']:.2%} after {len(tuned.epochs)} epochs; the network is left as it was"
        )
        return replace(made, layout=layout, warnings=(*made.warnings, warning))
    (stage,) = program.stages
    program = program_of(tuned.net, program, stage.name, name, output, {})
    earlier = tuple(replace(figure, source=f"{figure.source}; before fine-tuning") for figure in made.figures)
    return replace(
        made, program=program, net=tuned.net, layout=layout, figures=(*earlier, *_figures(report)),
        warnings=tuple(f"before fine-tuning: {warning}" for warning in made.warnings),
    )  # fmt: skip


def _figures(report: Mapping[str, Any]) -> tuple[Figure, ...]:
    where = f"{report['held_out']} held-out samples, seed {report['seed']}"
    return tuple(
        Figure(f"fine_tuning.{when}", round(100 * report[when], 2), "%", "simulated", f"accuracy of {where}")
        for when in ("before", "after")
    )


def _check(net: SpikingNet, labels: np.ndarray, epochs: int, lr: float, validation: float) -> None:
    if type(epochs) is not int or epochs < 1 or not lr > 0 or not 0 < validation < 1:
        raise UsageError(
            f"epochs {epochs}, lr {lr:g}, validation {validation:g}; needed epochs of at least 1, lr above 0 and "
            "validation between 0 and 1.", place="fine-tuning",
        )  # fmt: skip
    if not len(net.readout):
        raise UnsupportedError("the network has no readout to train.", place="fine-tuning")
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(net.readout):
        raise DataError(
            f"'y' runs {labels.min()}..{labels.max()}; the network has {len(net.readout)} classes, from 0.",
            place="fine-tuning",
        )


def split(labels: np.ndarray, validation: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Held-out and trained samples: the same part of every class. Raises :class:`DataError` where one has too few."""
    held: list[np.ndarray] = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        part = max(1, round(validation * len(members)))
        if part >= len(members):
            raise DataError(
                f"class {label} has {len(members)} sample{'s' * (len(members) > 1)}; needed one to train on and one to "
                "hold out.", place="fine-tuning", hint="Give more data.",
            )  # fmt: skip
        held.append(members[:part])
    if not held:
        raise DataError("there are no samples.", place="fine-tuning")
    chosen = np.sort(np.concatenate(held))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def _surrogate(net: SpikingNet) -> Callable[[Any], Any]:
    """snnTorch's arctangent, of the membrane's distance from threshold in thresholds."""
    import torch
    from snntorch import surrogate

    curve = surrogate.atan()
    unit = torch.tensor(np.where(net.threshold > 0, net.threshold, 1).astype(np.float32))
    return lambda distance: curve(distance / unit)


def _groups(module: Any, lr: float) -> list[dict[str, Any]]:
    """Adam's groups: each tensor with a step in units of its root mean square; zero connections stay zero."""
    groups = []
    for weights in (*module.current.parameters(), *module.synapses.parameters(), *module.readout.parameters()):
        there = weights.detach() != 0
        size = weights.detach()[there].square().mean().sqrt() if bool(there.any()) else weights.new_tensor(1.0)
        groups.append({"params": [weights], "lr": lr * float(size)})
    for layer in module.synapses:
        mask = (layer.weight.detach() != 0).float()
        layer.weight.register_hook(lambda gradient, mask=mask: gradient * mask)
    return groups


def _last_scores(module: Any, x: Any, lengths: Any) -> Any:
    """Scores after each sample's last frame; later frames run too, and are not read."""
    traces = module(x)
    return module.readout(traces[range(len(x)), lengths - 1])


def _scores(net: SpikingNet, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Real scores ``[n, classes]`` of the network itself after each sample's last frame."""
    active = np.arange(x.shape[1]) < lengths[:, None]
    traces = snntorch_net.simulate(net, x, active).traces
    return net.scores(traces[np.arange(len(x)), np.maximum(lengths - 1, 0)]) * net.out_scale


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def _scale(net: SpikingNet, x: np.ndarray, lengths: np.ndarray, labels: np.ndarray) -> float:
    """What scores are multiplied by to be logits: of :data:`SCALES` what fits the labels best."""
    scores = _scores(net, x, lengths)
    return min(SCALES, key=lambda scale: cross_entropy(scale * scores, labels))


def _judge(net: SpikingNet, x: np.ndarray, lengths: np.ndarray, labels: np.ndarray, scale: float, epoch: int) -> Judged:
    scores = _scores(net, x, lengths)
    accuracy = float(np.mean(np.argmax(scores, axis=1) == labels))
    return Judged(epoch, accuracy, round(cross_entropy(scale * scores, labels), 6))


def _regridded(net: SpikingNet, module: Any) -> SpikingNet:
    """The module's weights in the network, on grids of their own."""
    W_in, bias, readout, readout_bias = (
        tensor.detach().double().numpy()
        for layer in (module.current, module.readout)
        for tensor in (layer.weight, layer.bias)
    )
    projections = [replace(p, weights=layer.weight.detach().double().numpy())
                   for p, layer in zip(net.projections, module.synapses, strict=True)]  # fmt: skip
    made = make(
        ticks=net.ticks, dt_s=net.dt_s, beta=net.beta, threshold=net.threshold, W_in=W_in, bias=bias,
        largest_input=net.in_scale * INPUT_LIMIT, projections=projections, keep=net.keep, start=net.start,
        populations=[(name, stop - start) for name, start, stop in net.populations], reset=net.reset, floor=net.floor,
        ceiling=net.ceiling, input_to=net.input_to,
    )  # fmt: skip
    return with_readout(made, readout, readout_bias)
