"""What a call of a ``.tflite`` file runs: operators, and the multiply-accumulates of their products."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurodeploy.backends.tflite.write import schema

#: Operators with weights -> how many of the inputs behind the first are these.
WEIGHTED = {"FULLY_CONNECTED": 1, "BATCH_MATMUL": 1, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "SVDF": 2,
            "UNIDIRECTIONAL_SEQUENCE_LSTM": 8}  # fmt: skip


def counts(model: bytes) -> dict[str, int]:
    """``operators`` and ``macs`` of the main subgraph. A WHILE counts with its rounds, without its condition."""
    root = schema().Model.GetRootAsModel(model, 0)
    operators, macs = _of(root, 0)
    return {"operators": operators, "macs": macs}


def _of(root: Any, index: int) -> tuple[int, int]:
    fb, graph = schema(), root.Subgraphs(index)
    names = {number: name for name, number in vars(fb.BuiltinOperator).items() if isinstance(number, int)}
    operators = macs = 0
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        kind = root.OperatorCodes(operator.OpcodeIndex())
        name = names[max(kind.BuiltinCode(), kind.DeprecatedBuiltinCode())]
        operators += 1
        if name == "WHILE":
            options = fb.WhileOptions()
            options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
            rounds = _rounds(root, options.CondSubgraphIndex())
            inside = _of(root, options.BodySubgraphIndex())
            operators, macs = operators + rounds * inside[0], macs + rounds * inside[1]
        elif name in WEIGHTED:
            weights = (graph.Tensors(operator.Inputs(1 + j)).ShapeAsNumpy() for j in range(WEIGHTED[name]))
            rows = int(np.prod(graph.Tensors(operator.Outputs(0)).ShapeAsNumpy()[:-1]))
            macs += rows * sum(int(np.prod(shape)) for shape in weights)
    return operators, macs


def _rounds(root: Any, condition: int) -> int:
    """Our loops count from 0 while the number is less than a constant."""
    graph = root.Subgraphs(condition)
    limit = graph.Tensors(graph.Operators(0).Inputs(1))
    return int(root.Buffers(limit.Buffer()).DataAsNumpy().view(np.int32)[0])
