"""Nodes of a traced tensor program, and tensors: a node with labelled axes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurodeploy.importers.time_axes import Axes, Axis, find
from neurodeploy.ir.types import TensorType

#: What is worth computing once and handing on; everything else may be computed again in each stage that needs it.
HEAVY = frozenset({"linear", "matmul", "einsum", "softmax", "sum", "prod", "reduce_max", "argmax", "solve"})
#: Nodes that carry a state from step to step, or read the end of one.
ANCHORED = frozenset({"rnn", "result", "conv", "final", "last", "first", "accumulate"})


@dataclass(eq=False)
class Node:
    """One op of a traced program, per sample and per step.

    ``op``: a primitive of the IR, or ``input``, ``const``, ``linear`` (x, W, bias), ``activation``, ``rnn`` with its
    ``result`` (each step) and ``final`` (the state after the last step run), ``conv``, ``last``, ``first``,
    ``accumulate``. ``domain``: the time domain of a value that there is one of a step; None for one in all.
    ``data``: of a const. ``where`` names the source's node, for errors.
    """

    index: int
    op: str
    args: tuple[Node | None, ...]
    attrs: Mapping[str, Any]
    type: TensorType
    domain: str | None
    name: str
    where: str
    data: np.ndarray | None = None

    @property
    def inputs(self) -> list[Node]:
        """The arguments that are there."""
        return [a for a in self.args if a is not None]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the source program: what it is per step, and what its axes mean."""

    node: Node
    axes: Axes

    @property
    def rank(self) -> int:
        """The number of axes in the source program."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The source's shape: whole numbers, and :class:`Dim` where a size isn't known."""
        return tuple(a.extent for a in self.axes)

    @property
    def time(self) -> Axis | None:
        """The time axis, if there is one."""
        return find(self.axes, "time")

    @property
    def data(self) -> np.ndarray | None:
        """The numbers of a constant, per step; None for anything that depends on an input."""
        return self.node.data

    @property
    def dtype(self) -> str:
        """The IR's dtype."""
        return self.node.type.dtype


@dataclass(frozen=True)
class Recurrence:
    """What :meth:`Tracer.rnn` gives: each of the cell's states after every step, and after the last step run.

    ``series[i]`` has the axes of ``x`` with the feature axis replaced; ``final[i]`` is [batch, feature].
    """

    series: tuple[Tensor, ...]
    final: tuple[Tensor, ...]


@dataclass
class Names:
    """Unique names that are plain identifiers."""

    taken: set[str] = field(default_factory=set)

    def fresh(self, text: str, fallback: str = "v") -> str:
        """An identifier made of ``text`` that is not taken yet."""
        stem = identifier(text) or fallback
        name, count = stem, 1
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name


def identifier(text: str) -> str:
    """Letters, digits and single underscores; empty if nothing is left."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return f"v{name}" if name[:1].isdigit() else name
