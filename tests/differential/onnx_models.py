"""Small ONNX models for the importer's tests."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def make_model(nodes, inputs, outputs, weights=None, opset=17):
    """A checked model. ``inputs``/``outputs``: name -> (dtype, shape); ``weights``: name -> array."""
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "i32": TensorProto.INT32, "b": TensorProto.BOOL}
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(n, kinds[k], s) for n, (k, s) in inputs.items()],
        [helper.make_tensor_value_info(n, kinds[k], s) for n, (k, s) in outputs.items()],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def recurrent(
    op: str, *, direction="forward", hidden=4, size=3, bias=True, peepholes=False, lengths=False, starts=None, layout=0,
    outputs=("Y", "Y_h", "Y_c"), seed=0, scale=0.7, steps: str | int = "time", batch: str | int = "batch", **attrs,
):  # fmt: skip
    """One recurrent layer. ``starts``: None, ``"input"`` or ``"constant"`` initial states."""
    rng = np.random.default_rng(seed)
    directions = 2 if direction == "bidirectional" else 1
    gates = GATES[op]

    def normal(*shape):
        return (scale * rng.normal(size=shape)).astype(np.float32)

    weights = {"W": normal(directions, gates * hidden, size), "R": normal(directions, gates * hidden, hidden)}
    shape = [batch, steps, size] if layout else [steps, batch, size]
    inputs = {"X": ("f", shape)}
    names = ["X", "W", "R", "", "", "", "", ""]
    if bias:
        weights["B"], names[3] = normal(directions, 2 * gates * hidden), "B"
    if lengths:
        inputs["lens"], names[4] = ("i32", [batch]), "lens"
    for i, state in enumerate(["initial_h", "initial_c"] if op == "LSTM" else ["initial_h"]):
        if starts:
            names[5 + i] = state
        if starts == "input":
            inputs[state] = ("f", [batch, directions, hidden] if layout else [directions, batch, hidden])
        elif starts == "constant":
            weights[state] = normal(directions, 1, hidden)
    if peepholes:
        weights["P"], names[7] = normal(directions, 3 * hidden), "P"
    while names and not names[-1]:
        names.pop()
    known = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    kept = [o if o in outputs else "" for o in known]
    ends = [batch, directions, hidden] if layout else [directions, batch, hidden]
    full = [batch, steps, directions, hidden] if layout else [steps, directions, batch, hidden]
    results = {o: ("f", full if o == "Y" else ends) for o in kept if o}
    if layout:
        attrs["layout"] = layout
    if direction != "forward":
        attrs["direction"] = direction
    node = helper.make_node(op, names, kept, name="layer", hidden_size=hidden, **attrs)
    return make_model([node], inputs, results, weights)
