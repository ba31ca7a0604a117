"""UNIDIRECTIONAL_SEQUENCE_LSTM and SVDF: the dialect's composites, their variable tensors as states.

A call of the operator over several steps becomes that many composites. The 24 inputs of the LSTM are those of
tensorflow/tflite-micro, ``micro/kernels/lstm_shared.h``, the five of SVDF those of ``micro/kernels/svdf.h``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.tflite_ops_shape import cut
from neurodeploy.importers.tflite_schema import ACTIVATIONS
from neurodeploy.importers.tflite_step import Call, Rule, identifier
from neurodeploy.ir.build import Sym
from neurodeploy.ir.types import TensorType

#: Inputs of the LSTM: W of the gates i f g o, U of the same, then their biases.
LSTM_WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15)
#: What TFLite Micro doesn't compute: peepholes, projection, layer normalisation.
LSTM_ABSENT = {9: "peepholes", 10: "peepholes", 11: "peepholes", 16: "a projection", 17: "a projection"}
LSTM_ABSENT |= dict.fromkeys((20, 21, 22, 23), "layer normalisation")
#: A call over several steps becomes as many composites.
MOST_STEPS = 256
HIDDEN, CELL, SVDF_STATE = 18, 19, 4


def held(call: Call, i: int, type_: TensorType) -> Sym:
    """The state of the operator's variable input i, held as that type; it begins at its zero point."""
    tensor, step = call.tensor(i), call.step
    if not tensor.variable or call.operator.inputs[i] in step.symbols:
        raise UnsupportedError(f"keeps its state in {tensor.name[:60]}, which isn't a variable of its own.")
    name = step.builder.fresh(identifier(tensor.name))
    zero = 0 if type_.quant is None else type_.quant.zero_point
    init = np.full(type_.shape, zero, type_.numpy) if zero else None
    step.symbols[call.operator.inputs[i]] = state = step.builder.state(name, type_, init)
    return state


def _lstm(call: Call) -> None:
    options = call.options
    for i, what in LSTM_ABSENT.items():
        if call.has(i):
            raise UnsupportedError(f"has {what}; TFLite Micro computes none.")
    if ACTIVATIONS[options["fused_activation_function"]] != "TANH" or options["proj_clip"]:
        raise UnsupportedError("has an activation other than TANH, or clips its projection.")
    if options["diagonal_recurrent_tensors"]:
        raise UnsupportedError("has diagonal recurrent weights.")
    shape = call.tensor().shape
    if len(shape) != 3 or shape[1 if options["time_major"] else 0] != 1:
        raise UnsupportedError(f"takes the shape {list(shape)}; needed a batch of 1.")
    steps, size = shape[0 if options["time_major"] else 1], shape[2]
    if steps > MOST_STEPS:
        raise UnsupportedError(
            f"runs {steps} steps a call; at most {MOST_STEPS} are taken apart.",
            hint="Convert it for fewer steps a call.",
        )
    hidden_type = call.step.type_of(call.tensor(HIDDEN)).with_(shape=call.tensor(HIDDEN).shape[-1:])
    hidden = held(call, HIDDEN, hidden_type)
    cell_type = call.step.type_of(call.tensor(CELL)).with_(shape=hidden.shape)
    cell = held(call, CELL, cell_type)
    weights = [call.param(i) for i in LSTM_WEIGHTS]
    clip = {"cell_clip": options["cell_clip"]} if options["cell_clip"] else {}
    series, states, made = call.shaped(call.x(), (steps, size)), (hidden, cell), []
    for k in range(steps):
        x = call.shaped(cut(call, series, 0, k, k + 1), (size,))
        name = identifier(call.result().name)
        states = call.step.builder.call("tflite_lstm", x, *states, *weights, name=name, **clip)
        made.append(call.shaped(states[0], (1, *hidden.shape)))
    call.step.builder.next(hidden, states[0])
    call.step.builder.next(cell, states[1])
    quant = states[0].type.quant
    call.give(call.emit("concat", *made, quant=quant, axis=0) if steps > 1 else states[0])


def _svdf(call: Call) -> None:
    options, result = call.options, call.step.type_of(call.result())
    if call.tensor().shape[:1] != (1,):
        raise UnsupportedError(f"takes the shape {list(call.tensor().shape)}; needed a batch of 1.")
    if call.quantized and call.tensor().kind != "INT8":
        raise UnsupportedError(f"takes {call.tensor().kind}; TFLite Micro computes it on int8 and float32.")
    features, weights = call.param(1), call.param(2)
    filters, memory = weights.shape
    state = call.step.type_of(call.tensor(SVDF_STATE)).with_(shape=(memory, filters))
    if call.quantized and call.tensor(SVDF_STATE).kind not in ("INT8", "INT16"):
        raise UnsupportedError("mixes floats and integers.", hint="Convert the model with full integer quantization.")
    line = held(call, SVDF_STATE, state)
    rank = options["rank"]
    if call.has(3):
        bias = call.param(3)
    elif call.quantized:
        raise UnsupportedError("has no bias, which TFLite Micro needs.", hint="Convert it with a bias of zeros.")
    else:
        bias = call.step.builder.param("bias", np.zeros(filters // max(rank, 1), np.float32))
    attrs: dict[str, Any] = {"rank": rank}
    if result.quant is None:
        attrs["activation"] = ACTIVATIONS[options["fused_activation_function"]].lower()
    else:
        attrs |= {"scale": float(result.quant.array), "zero_point": result.quant.zero_point}
    y, moved = call.step.builder.call("tflite_svdf", call.x(), line, features, weights, bias, **attrs)
    call.step.builder.next(line, moved)
    call.give(y)


RULES: Mapping[str, Rule] = {"UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm, "SVDF": _svdf}
