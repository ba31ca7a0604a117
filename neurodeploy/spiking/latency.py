"""Accuracy against time: how right a spiking network would be if one decided after its first frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy import hardware
from neurodeploy.artifact import Figure, Trace
from neurodeploy.spiking import energy

if TYPE_CHECKING:
    from neurodeploy.ir.graph import Program

#: What "settled" may lose against the decision at the end.
WITHIN = 0.005


def decision(program: Program, trace: Trace, labels: np.ndarray | None) -> dict[str, list[Any]] | None:
    """``frame`` (1, 2, ...), ``accuracy`` of the largest score after that many frames, mean ``spikes`` and ``steps``
    until then.

    A sample that ends earlier has decided at its end. None where that isn't a question: no spikes counted, no
    whole-number labels ``[batch]``, or no scores of every frame from the stage that gives the first output.
    """
    spikes = trace.counters.get("spikes")
    ref = next(iter(program.outputs.values()))
    scores = None if ref.stage is None else trace.series.get(f"{ref.stage}.{ref.name}")
    if spikes is None or scores is None or labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return None
    frames = scores.shape[1] if scores.ndim == 3 and scores.shape[2] > 1 else 0
    if frames < 2 or spikes.shape != scores.shape[:2] or program.stage(ref.stage or "").drive.kind != "forward":
        return None
    lengths = np.asarray(trace.steps[ref.stage or ""])
    right = scores.argmax(axis=2) == labels[:, None]
    samples = np.arange(len(labels))
    running = np.cumsum(spikes, axis=1)
    ends = [np.clip(np.minimum(frame, lengths) - 1, 0, None) for frame in range(1, frames + 1)]
    return {
        "frame": list(range(1, frames + 1)),
        "accuracy": [float(np.mean(right[samples, end])) for end in ends],
        "spikes": [float(np.mean(running[samples, end])) for end in ends],
        "steps": [float(np.mean(end + 1)) for end in ends],
    }


def energies(found: dict[str, list[Any]], figures: Sequence[Figure]) -> dict[str, list[tuple[float, float]]]:
    """Chip's name -> (low, high) nJ until each of the decision's frames, from the run's figures for whole inferences.

    Neuron updates grow with the steps, all else with the spikes until then. Left out: chips of unknown energy, and
    processes that price arithmetic (what grows with what isn't told apart in their figure).
    """
    updates = next((f.value for f in figures if f.name == "NeuronUpdates" and f.value is not None), 0.0)
    spikes, steps = found["spikes"][-1], found["steps"][-1]
    made: dict[str, list[tuple[float, float]]] = {}
    for name, whole in energy.ranges(figures).items():
        if name == "dense" or (priced := hardware.find_chip(name).energy).mac is not None or not spikes:
            continue
        each = priced.neuron_update.joule if priced.neuron_update else (0.0, 0.0)
        clocked = [updates * joule * 1e9 for joule in each]
        made[name] = [
            (
                (whole[0] - clocked[0]) * sent / spikes + clocked[0] * ran / steps,
                (whole[1] - clocked[1]) * sent / spikes + clocked[1] * ran / steps,
            )
            for sent, ran in zip(found["spikes"], found["steps"], strict=True)
        ]
    return made


def settled(found: dict[str, list[Any]]) -> Figure:
    """The first frame from which on the accuracy is never more than :data:`WITHIN` below that at the end."""
    last = found["accuracy"][-1]
    below = [frame for frame, right in zip(found["frame"], found["accuracy"], strict=True) if right < last - WITHIN]
    frame = below[-1] + 1 if below else found["frame"][0]
    spikes = found["spikes"][frame - 1]
    source = f"frames after which deciding loses at most {WITHIN:.1%} of samples for good; {spikes:.0f} spikes by then"
    return Figure("decision_frames", frame, "frames", "simulated", source)
