"""RELU as an attribute of the op before it: one rounding and one operator less, and at i8 no step spent below 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from neurodeploy.ir.graph import Graph, Value
from neurodeploy.passes.tflite.pointwise import multiplies
from neurodeploy.passes.tflite.products import adds, sums
from neurodeploy.passes.tflite.stage import StageQuantizer

#: Whether an op of those arguments can make a result of that type itself.
MAKES: Mapping[str, Callable[..., bool]] = {
    "tfl_add": adds,
    "tfl_sub": adds,
    "tfl_mul": multiplies,
    "tfl_fully_connected": sums,
}


def fuse(q: StageQuantizer, graph: Graph) -> Graph:
    """The graph without those RELU whose argument nothing else reads and whose kernel can clamp it."""
    made = {value.name: value for value in graph.values}
    uses = Counter(arg for value in graph.values for arg in value.args)
    uses.update([*graph.outputs.values(), *(n for s in graph.states for n in (s.next, s.when) if n)])
    values: dict[str, Value] = {}
    for value in graph.values:
        source = made.get(value.args[0]) if value.op == "tfl_relu" else None
        if source is not None and uses[source.name] == 1 and _fits(q, source, value):
            del values[source.name]
            value = replace(value, op=source.op, args=source.args, attrs={**source.attrs, "act": "relu"})
        values[value.name] = value
    return replace(graph, values=tuple(values.values()))


def _fits(q: StageQuantizer, source: Value, target: Value) -> bool:
    makes = MAKES.get(source.op)
    return makes is not None and source.tensor.dtype == target.tensor.dtype and makes(q, source.args, target.tensor)
