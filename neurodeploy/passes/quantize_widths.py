"""How many bits every tensor gets: one width for all, and others for tensors by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neurodeploy.errors import UsageError, nearest
from neurodeploy.ir.graph import Graph, Program

if TYPE_CHECKING:
    from neurodeploy.passes.quantize import Quantize

#: Bits that a weight may have.
WEIGHT_BITS = (*range(2, 9), 16)
KEPT_DTYPES = ("i8", "i16")
#: Ops whose constant argument is a weight, and those that read a constant table.
_PRODUCTS, _TABLES = ("matmul", "einsum"), ("gather", "row")

#: (stage, tensor); the stage is None for an input of the program.
Key = tuple[str | None, str]


@dataclass(frozen=True)
class Widths:
    """Bits of weights, dtypes of what is kept. ``kept``: states and activations that have a dtype of their own."""

    default: int = 8
    weights: Mapping[Key, int] = field(default_factory=dict)
    kept: Mapping[Key, str] = field(default_factory=dict)

    def bits(self, stage: str, name: str) -> int:
        """Bits of a weight of products."""
        return self.weights.get((stage, name), self.default)

    def table_bits(self, stage: str, name: str) -> int:
        """Bits of a constant table whose rows are looked up: 8 unless it is named."""
        return self.weights.get((stage, name), 8)


def widths_of(legal: Program, options: Quantize) -> Widths:
    """The widths that a quantizer's options give a legal program.

    A tensor is named as the legal program names it (``U.0_64``), in every stage that has it, or in one of them
    (``main.U.0_64``). Raises :class:`UsageError` for a width that does not exist, naming the nearest known tensor for
    one that the program doesn't have.
    """
    if options.weight_bits not in WEIGHT_BITS:
        raise UsageError(f"weight_bits is {options.weight_bits}; needed 2 to 8, or 16.")
    for name in ("state_dtype", "activation_dtype"):
        if getattr(options, name) not in KEPT_DTYPES:
            raise UsageError(f"{name} is '{getattr(options, name)}'; needed i8 or i16.")
    weights = placed("weights", options.weights, weight_keys(legal), WEIGHT_BITS, "2 to 8 bits, or 16")
    states = placed("states", options.states, state_keys(legal), KEPT_DTYPES, "i8 or i16")
    others = placed("activations", options.activations, activation_keys(legal), KEPT_DTYPES, "i8 or i16")
    return Widths(options.weight_bits, weights, {**others, **states})


def weight_keys(legal: Program) -> list[Key]:
    """Constants that products multiply with or whose rows are looked up, in the program's order."""
    found: dict[Key, None] = {}
    for stage in legal.stages:
        consts = _constants(stage.graph)
        for value in stage.graph.values:
            read = [a for a in value.args if a in consts]
            if value.op in _PRODUCTS and len(read) < len(value.args):
                found.update(((stage.name, a), None) for a in read)
            elif value.op in _TABLES and value.args[0] in consts:
                found[stage.name, value.args[0]] = None
    return list(found)


def table_keys(legal: Program) -> set[Key]:
    """Those of the weights whose rows are looked up."""
    return {
        (stage.name, value.args[0])
        for stage in legal.stages
        for value in stage.graph.values
        if value.op in _TABLES and value.args[0] in _constants(stage.graph)
    }


def state_keys(legal: Program) -> list[Key]:
    """States of real numbers."""
    return [(stage.name, s.name) for stage in legal.stages for s in stage.graph.states if s.type.dtype == "f32"]


def activation_keys(legal: Program) -> list[Key]:
    """Inputs, outputs, and the vectors of products: what may have 8 bits besides weights and states."""
    found: dict[Key, None] = {(None, n): None for n, spec in legal.inputs.items() if spec.type.dtype == "f32"}
    for stage in legal.stages:
        graph, consts = stage.graph, _constants(stage.graph)
        types = graph.types()
        names = [*graph.inputs, *graph.outputs.values()]
        for value in graph.values:
            if value.op == "matmul" and value.args[0] in consts:
                names.append(value.args[1])
        states = {s.name for s in graph.states}
        for name in names:
            if getattr(types[name], "dtype", None) == "f32" and name not in states | consts:
                found[stage.name, name] = None
    return list(found)


def _constants(graph: Graph) -> set[str]:
    params = {n for n, p in graph.params.items() if p.type.dtype == "f32"}
    return params | {v.name for v in graph.values if v.op == "const" and v.tensor.dtype == "f32"}


def label(key: Key) -> str:
    """How a tensor is named in options and messages."""
    stage, name = key
    return f"{stage}.{name}" if stage else name


def placed(option: str, given: Mapping, known: Iterable[Key], allowed: tuple, words: str) -> dict:
    """Each named tensor's key -> its width."""
    keys = list(known)
    found = {}
    for name, width in given.items():
        if isinstance(width, bool) or width not in allowed:
            raise UsageError(f"gives '{name}' {width!r}; needed {words}.", place=f"option '{option}'")
        places = [k for k in keys if label(k) == name] or [k for k in keys if k[1] == name]
        if not places:
            names = {k[1] for k in keys} | {label(k) for k in keys if "." in str(name)}
            raise UsageError(
                f"names '{name}', which is none of the network's; needed a tensor of it.",
                place=f"option '{option}'",
                hint=nearest(str(name), names) or "The network has none.",
            )
        found |= dict.fromkeys(places, width)
    return found
