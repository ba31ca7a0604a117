"""Every rule: primitive of the float program -> how it becomes ops of TFLite."""

from __future__ import annotations

from collections.abc import Mapping

from neurodeploy.passes.tflite import fused, moves, pointwise, products
from neurodeploy.passes.tflite.stage import Rule

RULES: Mapping[str, Rule] = {**products.RULES, **pointwise.RULES, **moves.RULES, **fused.RULES}
