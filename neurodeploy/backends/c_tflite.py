"""TFLite's integer ops as the few shapes of work that the C backend knows, with every multiplier a constant.

Multipliers come from the types by the very functions that the golden model uses. A rule for an op of the dialect stands
in one of the rooms ``c_tflite_pointwise``, ``_products``, ``_windows`` and ``_functions``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from neurodeploy.backends import (
    c_tflite_functions,
    c_tflite_pointwise,
    c_tflite_products,
    c_tflite_windows,
)
from neurodeploy.backends.c_tflite_lower import Lowering
from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.tflite import TFLITE_OPS

RULES: Mapping[str, Callable[[Lowering, Value], None]] = {
    **c_tflite_pointwise.RULES,
    **c_tflite_products.RULES,
    **c_tflite_functions.RULES,
    **c_tflite_windows.RULES,
}

#: Ops of one int8 that are always tables.
TABLES = frozenset({"tfl_elu", "tfl_hard_swish"})


def lower_tflite(graph: Graph) -> Graph:
    """The graph without ops of the dialect. Raises :class:`UnsupportedError` for one that has no C."""
    return Lowering(graph, RULES).lower() if any(v.op in TFLITE_OPS for v in graph.values) else graph
