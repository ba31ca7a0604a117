"""Every rule: primitive of the float program -> how it becomes ops of TFLite."""

from __future__ import annotations

from collections.abc import Mapping

from neurodeploy.passes.tflite import functions, fused, moves, pointwise, products
from neurodeploy.passes.tflite.stage import Rule
from neurodeploy.passes.tflite.whole import with_whole

RULES: Mapping[str, Rule] = with_whole(
    {**products.RULES, **pointwise.RULES, **moves.RULES, **fused.RULES, **functions.RULES}
)
