"""Operators of :mod:`neurodeploy.ir.tflite.functions`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurodeploy.backends.tflite.stage import Rule, StageWriter
from neurodeploy.ir.graph import Value


def _batch_matmul(writer: StageWriter, value: Value) -> None:
    inputs = [writer.at(a) for a in value.args]
    writer.main.op("BATCH_MATMUL", inputs, [writer.out(value)], "BatchMatMulOptions")


def _sum(writer: StageWriter, value: Value) -> None:
    axis = value.attrs.get("axis", 0) % len(writer.types[value.args[0]].shape)
    inputs = [writer.at(value.args[0]), writer.main.ints(f"{value.name}_axis", [axis + 1])]
    keep = bool(value.attrs.get("keepdims"))
    writer.main.op("SUM", inputs, [writer.out(value)], "ReducerOptions", keepDims=keep)


def _softmax(writer: StageWriter, value: Value) -> None:
    writer.main.op("SOFTMAX", [writer.at(value.args[0])], [writer.out(value)], "SoftmaxOptions", beta=1.0)


def _lookup(writer: StageWriter, value: Value) -> None:
    """GATHER from the table at ``x + 128``, in int32."""
    main, shape = writer.main, (1, *value.tensor.shape)
    wide, index = (main.tensor(f"{value.name}_{stem}", shape, "i32") for stem in ("wide", "index"))
    middle = main.tensor(f"{value.name}_middle", (1,), "i32", data=np.array([128], np.int32))
    main.op("CAST", [writer.at(value.args[0])], [wide], "CastOptions")
    main.op("ADD", [wide, middle], [index], "AddOptions")
    main.op("GATHER", [writer.weights(value.args[1]), index], [writer.out(value)], "GatherOptions", axis=0)


RULES: Mapping[str, Rule] = {
    "tfl_batch_matmul": _batch_matmul,
    "tfl_sum": _sum,
    "tfl_softmax": _softmax,
    "tfl_lookup": _lookup,
}
