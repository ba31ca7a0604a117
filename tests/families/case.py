"""A family's case, and how it is made of one step graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Drive, Graph, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify

BATCH, STEPS = 5, 9


@dataclass(frozen=True)
class Case:
    """``reference(sample inputs, steps)`` gives one sample's program outputs; ``integer``: whether it quantizes."""

    name: str
    program: Program
    inputs: Mapping[str, np.ndarray]
    reference: Callable[[Mapping[str, np.ndarray], int], Mapping[str, Any]]
    lengths: np.ndarray | None = None
    integer: bool = True
    refused: Mapping[str, str] = field(default_factory=dict)


class Weights:
    """Seeded random weights, kept by name so that references read the same numbers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.made: dict[str, np.ndarray] = {}

    def __call__(self, name: str, *shape: int, scale: float | None = None) -> np.ndarray:
        width = shape[-1] if len(shape) > 1 else 4
        array = self.rng.normal(size=shape) * (scale if scale is not None else 1 / np.sqrt(width))
        self.made[name] = array.astype(np.float32)
        return self.made[name]

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["made"][name].astype(np.float64)
        except KeyError:
            raise AttributeError(name) from None


def one_stage(
    name: str, graph: Graph, *, inputs: Mapping[str, TensorType], static: Mapping[str, TensorType] | None = None,
    outputs: Mapping[str, str], drive: Drive | None = None, extra: Mapping[str, TensorType] | None = None,
) -> Program:  # fmt: skip
    """A program of a single stage 'main'; ``extra`` are series inputs that the graph doesn't read (an order)."""
    series = {n: ProgramInput(t) for n, t in {**inputs, **(extra or {})}.items()}
    fixed = {n: ProgramInput(t, "static") for n, t in (static or {}).items()}
    wires = {n: Ref(n) for n in [*inputs, *(static or {})]}
    stage = Stage("main", graph, drive or Drive(), wires)
    return verify(Program(name, {**series, **fixed}, (stage,), {n: Ref.parse(r) for n, r in outputs.items()}))


def series(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Smooth random sequences ``[BATCH, STEPS, *shape]``."""
    noise = np.random.default_rng(seed).normal(size=(BATCH, STEPS, *shape))
    return (scale * (0.6 * noise + 0.4 * np.roll(noise, 1, axis=1))).astype(np.float32)


def head(b: Builder, h: Sym, w: Weights, outputs: int = 3) -> Sym:
    """A linear readout 'V h + c'."""
    return b.param("V", w("V", outputs, h.shape[0])) @ h + b.param("c", w("c", outputs, scale=0.1))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


LENGTHS = np.array([9, 4, 1, 7, 9])
