"""A crossbar as a plain list of resistors, and Kirchhoff's laws for it: in floats, sparse, or in exact fractions."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from neurodeploy.descriptions_crossbar import Wires

Node = tuple[Any, ...]
Resistor = tuple[Node, Node, Fraction]  # its ends, its conductance


def made(**values) -> Wires:
    """Wires of 1 ohm a segment unless told otherwise."""
    return Wires(**{"row_ohm": 1.0, "column_ohm": 1.0, "source": "a test", **values})


def _conductance(ohm: float) -> Fraction:
    return 1 / Fraction(ohm) if ohm else Fraction(10) ** 40


def crosspoint(g: np.ndarray, wires: Wires) -> Iterator[Resistor]:
    """Nodes ``(word or bit, row, column)``, terminals ``(in, row)`` and ``(out, column)``."""
    rows, columns = g.shape
    row, column = _conductance(wires.row_ohm), _conductance(wires.column_ohm)
    drive = _conductance(wires.row_ohm + wires.driver_ohm)
    sense = _conductance(wires.column_ohm + wires.sense_ohm)
    for i in range(rows):
        yield ("in", i), ("word", i, 0), drive
        if wires.driven == "both ends":
            yield ("in", i), ("word", i, columns - 1), drive
        for j in range(columns):
            yield ("word", i, j), ("bit", i, j), Fraction(g[i, j])
            if j:
                yield ("word", i, j - 1), ("word", i, j), row
            if i:
                yield ("bit", i - 1, j), ("bit", i, j), column
    for j in range(columns):
        yield ("bit", 0, j), ("out", j), sense
        if wires.sensed == "both ends":
            yield ("bit", rows - 1, j), ("out", j), sense


def gated(g: np.ndarray, wires: Wires, on: np.ndarray, column: int) -> Iterator[Resistor]:
    """One column with its source line: terminals ``(in, 0)`` and ``(out, 0)``."""
    wire, last = _conductance(wires.column_ohm), len(g) - 1
    for kind, terminal, ohm, ends in (
        ("bit", "in", wires.driver_ohm, wires.driven),
        ("source", "out", wires.sense_ohm, wires.sensed),
    ):
        outer = _conductance(wires.column_ohm + ohm)
        yield (terminal, 0), (kind, 0), outer
        if ends == "both ends":
            yield (terminal, 0), (kind, last), outer
        for i in range(last):
            yield (kind, i), (kind, i + 1), wire
    for i in range(len(g)):
        yield ("bit", i), ("source", i), Fraction(g[i, column]) if on[i] else Fraction(0)


def _nodes(resistors: list[Resistor]) -> tuple[dict[Node, int], dict[Node, int], dict[Node, int]]:
    inner, inputs, outputs = {}, {}, {}
    for a, b, _ in resistors:
        for node in (a, b):
            kind = inputs if node[0] == "in" else outputs if node[0] == "out" else inner
            kind.setdefault(node, len(kind))
    order = {node: n for n, node in enumerate(sorted(inputs))}, {node: n for n, node in enumerate(sorted(outputs))}
    return inner, *order


def sparse(resistors: Iterator[Resistor]) -> np.ndarray:
    """Current of every output per volt on every input, ``[inputs, outputs]``: SciPy's sparse LU of all nodes."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import splu

    every = list(resistors)
    inner, inputs, outputs = _nodes(every)
    entries, into, out = [], np.zeros((len(inner), len(inputs))), np.zeros((len(outputs), len(inner)))
    for one, other, exact in every:
        y = float(exact)
        for a, b in ((one, other), (other, one)):
            if a in inner:
                entries.append((inner[a], inner[a], y))
                if b in inner:
                    entries.append((inner[a], inner[b], -y))
                elif b in inputs:
                    into[inner[a], inputs[b]] += y
                else:
                    out[outputs[b], inner[a]] += y
    i, j, values = zip(*entries, strict=True)
    return (out @ splu(coo_matrix((values, (i, j))).tocsc()).solve(into)).T


def exact(resistors: Iterator[Resistor]) -> np.ndarray:
    """The same in rational numbers, node after node eliminated; rounded once, at the end."""
    every = list(resistors)
    inner, inputs, outputs = _nodes(every)
    beside: dict[Node, dict[Node, Fraction]] = {}
    for a, b, y in every:
        if y:
            for one, other in ((a, b), (b, a)):
                beside.setdefault(one, {})
                beside[one][other] = beside[one].get(other, Fraction(0)) + y
    for node in inner:
        around = beside.pop(node, {})
        total = sum(around.values())
        for one, y in around.items():
            del beside[one][node]
            for other, z in around.items():
                if one != other:
                    beside[one][other] = beside[one].get(other, Fraction(0)) + y * z / total
    found = np.zeros((len(inputs), len(outputs)))
    for one, i in inputs.items():
        for other, j in outputs.items():
            found[i, j] = float(beside.get(one, {}).get(other, 0))
    return found
