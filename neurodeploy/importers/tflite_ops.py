"""TFLite's operators that compute: their rules on floats, and those that also compute on quantized integers."""

from __future__ import annotations

from neurodeploy.importers import tflite_ops_division as division
from neurodeploy.importers import tflite_ops_logic as logic
from neurodeploy.importers import tflite_ops_pointwise as pointwise
from neurodeploy.importers import tflite_ops_products as products
from neurodeploy.importers import tflite_ops_reduce as reduce
from neurodeploy.importers.tflite_step import Rule

FLOAT_RULES: dict[str, Rule] = {**pointwise.RULES, **division.RULES, **products.RULES, **reduce.RULES, **logic.RULES}
QUANTIZED_RULES: dict[str, Rule] = {
    **products.RULES,
    **pointwise.QUANTIZE,
    **{code: room.RULES[code] for room in (pointwise, reduce, logic) for code in room.ON_INTEGERS},
}
