"""What width every tensor gets on TFLite Micro: 8- and 16-bit values, 8- and 4-bit weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Program
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.quantize_widths import KEPT_DTYPES, Key, placed, state_keys, weight_keys

if TYPE_CHECKING:
    from neurodeploy.passes.tflite.quantize import QuantizeTFLite

WEIGHT_BITS = (4, 8)
#: How far beyond its calibrated range a value of 16 bits may be let go, at most.
MOST_HEADROOM = 100
#: What sigmoid and tanh of an 8-bit network are computed in, by what is preferred: TFLM's kernel of int8 takes 700
#: instructions an element, that of int16, which needs CAST and QUANTIZE beside it, 30.
TABLES = {"speed": "i16", "size": "i8"}


@dataclass(frozen=True)
class Widths:
    """``activations`` and ``states`` are dtypes; ``named`` tensors have one of their own; ``wide`` ones get 16 bits
    where they have none by name. ``weights``: all there are;
    of 8 bits they have a scale per row with ``per_channel``, one in all without, either if it is None. ``tables``: what
    sigmoid and tanh of an 8-bit network are computed in."""

    activations: str = "i16"
    states: str = "i16"
    weight_bits: int = 8
    named: Mapping[Key, str] = field(default_factory=dict)
    named_weights: Mapping[Key, int] = field(default_factory=dict)
    weights: frozenset[Key] = frozenset()
    per_channel: bool | None = None
    tables: str = "i16"
    wide: frozenset[tuple[str, str]] = frozenset()

    def bits(self, stage: str, name: str) -> int:
        """Bits of a product's constant: 8 for one that isn't a weight of the network."""
        key = stage, name
        return self.named_weights.get(key, self.weight_bits if key in self.weights else 8)

    def all_wide(self) -> bool:
        """Whether every value has 16 bits and every weight 8, and none was asked for by name."""
        return (
            self.activations == self.states == "i16"
            and self.weight_bits == 8
            and not (self.named or self.named_weights)
        )

    def every_weight(self) -> set[int]:
        """The bits that weights of the network have."""
        return {self.bits(stage or "", name) for stage, name in self.weights}


def widths_of(program: Program, options: QuantizeTFLite) -> Widths:
    """The widths that the pass's options give a program.

    Raises :class:`UsageError` for a width that TFLite Micro doesn't have, naming the nearest known tensor for one that
    the program doesn't have.
    """
    if options.weight_bits not in WEIGHT_BITS:
        raise UsageError(f"weight_bits is {options.weight_bits}; needed 8 or 4 (TFLite Micro has no others).")
    states = options.state_dtype or options.activation_dtype
    for name, dtype in (("activation_dtype", options.activation_dtype), ("state_dtype", states)):
        if dtype not in KEPT_DTYPES:
            raise UsageError(f"{name} is '{dtype}'; needed i8 or i16.")
    if options.prefer not in TABLES:
        raise UsageError(f"prefer is '{options.prefer}'; needed speed or size.")
    if not 1 <= options.headroom <= MOST_HEADROOM:
        raise UsageError(
            f"headroom is {options.headroom:g}; needed 1 to {MOST_HEADROOM}.",
            hint="It multiplies the calibrated ranges of 16-bit values; 1.1 if not given.",
        )
    if options.activation_dtype != "i8" and (options.weight_bits == 4 or 4 in options.weights.values()):
        raise UsageError(
            "4-bit weights go with 8-bit activations alone in TFLite Micro.",
            hint="Add activation_dtype=i8, or keep weights of 8 bits.",
        )
    weights = weight_keys(program)
    named = {
        **placed("activations", options.activations, _activations(program), KEPT_DTYPES, "i8 or i16"),
        **placed("states", options.states, state_keys(program), KEPT_DTYPES, "i8 or i16"),
    }
    return Widths(
        options.activation_dtype,
        states,
        options.weight_bits,
        named,
        placed("weights", options.weights, weights, WEIGHT_BITS, "8 or 4 bits"),
        frozenset(weights),
        options.per_channel,
        TABLES[options.prefer],
    )


def _activations(program: Program) -> Iterable[Key]:
    """Inputs and every value of real numbers that isn't a state or a constant."""
    yield from ((None, n) for n, spec in program.inputs.items() if spec.type.dtype == "f32")
    for stage in program.stages:
        graph = stage.graph
        others = {s.name for s in graph.states} | set(graph.params)
        for name, type_ in graph.types().items():
            if isinstance(type_, TensorType) and type_.dtype == "f32" and name not in others:
                yield stage.name, name
