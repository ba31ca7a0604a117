"""Where the vectors of a step's products lie: a state and the vectors multiplied together with it, side by side.

``W x + U h`` is one product whose operand is h and x in a row. Rather than copying both together at every step, the
state's field has room for x behind h, so that only x is copied: :class:`Region`. A product of h alone reads the front
of the same memory. Whatever stands in columns that a product hasn't is multiplied by zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neurodeploy.ir.graph import Graph, State
from neurodeploy.ir.types import TensorType


@dataclass(frozen=True)
class Region:
    """A state's field of int16 in elements: ``slots`` of operands by name (the state's own at 0), and its ``size``."""

    state: str
    slots: Mapping[str, int]
    size: int


def up(count: int, multiple: int) -> int:
    """The next multiple."""
    return -(-count // multiple) * multiple


def packed(sizes: Iterable[int], align: int) -> tuple[list[int], int]:
    """Offsets of vectors that stand one behind the other, each aligned, and where the last one ends."""
    at, offsets, end = 0, [], 0
    for size in sizes:
        offsets.append(at)
        end = at + size
        at = up(end, align)
    return offsets, end


def regions(graph: Graph, products: Sequence[Sequence[str]], columns: int, align: int) -> dict[str, Region]:
    """The regions of the states that products read; ``products``: the operands of each."""
    types = graph.types()
    states = {s.name: s for s in graph.states if _is_vector(s)}
    found: dict[str, Region] = {}
    for operands in sorted(products, key=len, reverse=True):
        state = host(operands, states)
        if state is None:
            continue
        order = [state, *(x for x in operands if x != state)]
        known = found.get(state)
        if known is None:
            offsets, end = packed((types[x].size for x in order), align)  # type: ignore[union-attr]
            slots = dict(zip(order, offsets, strict=True))
            alone = [up(types[x].size, columns) + at for x, at in slots.items()]  # type: ignore[union-attr]
            found[state] = Region(state, slots, max(up(end, columns), *alone))
    return found


def host(operands: Sequence[str], states: Mapping[str, State]) -> str | None:
    """The largest state among a product's operands; None if there is none, or one operand twice."""
    if len(set(operands)) != len(operands):
        return None
    found = [x for x in operands if x in states]
    return max(found, key=lambda x: states[x].type.size) if found else None


def _is_vector(state: State) -> bool:
    type_: TensorType = state.type
    return type_.dtype == "i16" and len(type_.shape) == 1 and state.next != state.name
