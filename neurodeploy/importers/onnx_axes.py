"""What the axes of an ONNX model's inputs may mean: candidates in the order of how likely they are.

ONNX doesn't say which axis is time. The tracer does: it refuses a labelling that doesn't fit the model's ops, so the
candidates are tried in turn. Sizes that aren't fixed can only be batch or time, and their names are a hint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from neurodeploy.errors import ModelError, nearest
from neurodeploy.importers.onnx_read import RECURRENT, InputSpec, Model

B, T, F = "batch", "time", "feature"
BATCH_NAME = re.compile(r"batch|^(n|b|bs|samples?)$", re.IGNORECASE)
TIME_NAME = re.compile(r"time|seq|step|len|frame|^(t|l)$", re.IGNORECASE)

#: rank -> labellings of a sequence or a static input, likely ones first.
SHAPES: Mapping[int, tuple[tuple[str, ...], ...]] = {
    0: ((),),
    1: ((F,), (T,), (B,)),
    2: ((B, F), (T, F), (B, T), (T, B), (F, T), (F, F)),
    3: ((B, T, F), (T, B, F), (B, F, T), (F, B, F), (B, F, F), (F, F, B), (F, F, F)),
    4: ((B, T, F, F), (T, B, F, F), (B, F, T, F), (B, F, F, T), (F, F, B, F), (B, F, F, F), (F, B, F, F)),
}
START = {2: ((B, F), (F, F)), 3: ((F, B, F), (B, F, F), (F, F, F))}


def labellings(model: Model, given: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Sequence[str]]]:
    """Labels for every input, likely ones first. Raises :class:`ModelError` for labels that don't fit."""
    names = [i.name for i in model.inputs if i.name not in model.lengths]
    for name in given:
        if name not in names:
            raise ModelError(
                f"axes are given for '{name}', which is no input.", place=model.file, hint=nearest(name, names)
            )
    starts = _starts(model)
    options = []
    for spec in model.inputs:
        if spec.name in model.lengths:
            continue
        if spec.name in given:
            options.append([tuple(_checked(model, spec, given[spec.name]))])
        else:
            options.append(_candidates(spec, spec.name in starts))
    ranked = product(*(list(enumerate(choice)) for choice in options))
    for combination in sorted(ranked, key=lambda c: sum(rank for rank, _ in c)) if _few(options) else ranked:
        yield dict(zip(names, (labels for _, labels in combination)))


def _few(options: Sequence[Sequence[object]]) -> bool:
    count = 1
    for choice in options:
        count *= len(choice)
    return count <= 4096


def _checked(model: Model, spec: InputSpec, labels: Sequence[str]) -> Sequence[str]:
    wrong = [label for label in labels if label not in (B, T, F)]
    if wrong or len(labels) != len(spec.sizes):
        raise ModelError(
            f"axes {list(labels)} are given for input '{spec.name}' of shape {list(spec.sizes)}.",
            place=model.file,
            hint="Give one of batch, time and feature for each axis.",
        )
    return labels


def _starts(model: Model) -> set[str]:
    """Inputs that reach the initial state of a recurrent layer through ops that only move elements."""
    source: dict[str, str] = {}
    movers = ("Identity", "Cast", "Unsqueeze", "Squeeze", "Transpose", "Reshape", "Slice", "Split", "Gather", "Expand")
    found = set()
    for node in model.nodes:
        if node.op_type in movers and node.input:
            for output in node.output:
                source[output] = source.get(node.input[0]) or node.input[0]
        if node.op_type in RECURRENT:
            found |= {source.get(name, name) for name in node.input[5:7] if name}
    return found


def _candidates(spec: InputSpec, start: bool) -> list[tuple[str, ...]]:
    rank = len(spec.sizes)
    shapes = START.get(rank) if start else None
    every = list(shapes or SHAPES.get(rank, ((B, *(F,) * (rank - 1)),)))
    possible = [labels for labels in every if _possible(spec, labels)]
    return sorted(possible, key=lambda labels: -_score(spec, labels))


def _possible(spec: InputSpec, labels: Sequence[str]) -> bool:
    """Features have fixed sizes; an input of whole numbers has no need of features, but may have them."""
    return all(isinstance(size, int) or label != F for size, label in zip(spec.sizes, labels))


def _score(spec: InputSpec, labels: Sequence[str]) -> int:
    """How well the labels fit the names of the sizes (sorting is stable, so equal scores keep their order)."""
    score = 0
    for size, label in zip(spec.sizes, labels):
        if isinstance(size, str):
            score += (label == B) * bool(BATCH_NAME.search(size)) + (label == T) * bool(TIME_NAME.search(size))
            score -= (label == T) * bool(BATCH_NAME.search(size)) + (label == B) * bool(TIME_NAME.search(size))
    if spec.dtype != "f32" and len(labels) == 2 and F not in labels:
        score += 1
    return score
