"""ONNX's RNN, GRU and LSTM, every attribute of them, and 1-d convolutions.

Gate orders: ONNX stacks an LSTM's gates i, o, f, c and a GRU's z, r, h; ours are i, f, g, o and r, z, n.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.errors import nearest
from neurodeploy.importers.onnx_node import Call, Lengths, Rule, WrongAxes
from neurodeploy.importers.time import Recurrence, Tensor

#: ONNX's activation -> ours, and which of alpha and beta it takes from the node's lists.
ACTIVATIONS: Mapping[str, tuple[str, bool, bool]] = {
    "relu": ("relu", False, False),
    "tanh": ("tanh", False, False),
    "sigmoid": ("sigmoid", False, False),
    "softsign": ("softsign", False, False),
    "softplus": ("softplus", False, False),
    "leakyrelu": ("leaky_relu", True, False),
    "thresholdedrelu": ("thresholded_relu", True, False),
    "elu": ("elu", True, False),
    "affine": ("affine", True, True),
    "scaledtanh": ("scaled_tanh", True, True),
    "hardsigmoid": ("hard_sigmoid", True, True),
}
#: Without alpha (and beta) the operator's specification and onnxruntime, which takes 0, disagree about these.
UNSETTLED = ("affine", "scaled_tanh", "thresholded_relu")
DEFAULT_ACTIVATIONS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DIRECTIONS = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}


def recurrent(call: Call) -> tuple[Tensor, ...]:
    """RNN, GRU or LSTM; gives Y, Y_h and for an LSTM Y_c."""
    layout = call.attrs.get("layout", 0)
    direction = call.attrs.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise call.error(f"direction '{direction}' is none of {', '.join(DIRECTIONS)}.")
    runs = DIRECTIONS[direction]
    x = call.tensor(0)
    _check_axes(call, x, layout)
    _check_lengths(call, x, layout)
    hidden = _hidden(call, len(runs), x)
    activations = _activations(call, len(runs))
    names = ["h", "c"] if call.op == "LSTM" else ["h"]
    starts = {name: _initial(call, 5 + i, len(runs), layout) for i, name in enumerate(names)}
    found: list[Recurrence] = []
    for d, reverse in enumerate(runs):
        cell, weights, attrs = WEIGHTS[call.op](call, d, hidden, activations[d])
        if call.attrs.get("clip") is not None:
            attrs["clip"] = float(call.attrs["clip"])
        first = [starts[name][d] for name in names]
        sizes = [hidden] * len(names)
        found.append(call.tracer.rnn(cell, x, weights, first, sizes=sizes, attrs=attrs, reverse=reverse))
    t = call.tracer
    order = ["time", "batch", "feature"] if layout == 0 else ["batch", "time", "feature"]
    series = [_full(call, r.series[0], order) for r in found]
    ends = [[_full(call, r.final[i], ["batch", "feature"]) for r in found] for i in range(len(names))]
    y = t.concat([t.unsqueeze(s, [1 if layout == 0 else 2]) for s in series], 1 if layout == 0 else 2)
    return (y, *(t.concat([t.unsqueeze(e, [layout]) for e in end], layout) for end in ends))


def _full(call: Call, x: Tensor, order: list[str]) -> Tensor:
    """The axes in ``order``; a batch axis that isn't there as a unit."""
    labels = [a.label for a in x.axes]
    missing = [label for label in order if label not in labels]
    wide = call.tracer.unsqueeze(x, [0]) if missing else x
    labels = [*missing, *labels]
    return call.tracer.transpose(wide, [labels.index(label) for label in order])


def _check_axes(call: Call, x: Tensor, layout: int) -> None:
    time, batch = (0, 1) if layout == 0 else (1, 0)
    fits = x.rank == 3 and x.axes[time].label == "time" and x.axes[2].label == "feature"
    if layout not in (0, 1) or not fits or not (x.axes[batch].label == "batch" or x.axes[batch].is_unit):
        needed = "[time, batch, feature]" if layout == 0 else "[batch, time, feature]"
        raise WrongAxes(
            f"X is [{', '.join(map(str, x.axes))}]; needed {needed}.",
            place=call.tracer.where,
            hint="If the axes were taken for something else, say so: axes={'x': ['batch', 'time', 'feature']}.",
        )


def _check_lengths(call: Call, x: Tensor, layout: int) -> None:
    """sequence_lens is the input that the runner calls ``lengths``; a constant one must be the whole length."""
    found = call.values[4] if len(call.values) > 4 else None
    if found is None or isinstance(found, Lengths):
        return
    steps = x.shape[layout]
    if not isinstance(found, np.ndarray) or any(v != steps for v in found.ravel().tolist()):
        raise call.error(
            "sequence_lens is computed or fixed in the file.", "Make it an input of the model, int32 [batch]."
        )


def _hidden(call: Call, directions: int, x: Tensor) -> int:
    gates = GATES[call.op]
    W, R = call.array(1, "W"), call.array(2, "R")
    if R.ndim != 3 or W.ndim != 3:
        raise call.error(f"W and R have shapes {list(W.shape)} and {list(R.shape)}; needed three axes each.")
    hidden = R.shape[2]
    width = x.node.type.size
    if R.shape != (directions, gates * hidden, hidden) or W.shape != (directions, gates * hidden, width) or not hidden:
        raise call.error(
            f"W and R have shapes {list(W.shape)} and {list(R.shape)}; needed "
            f"{[directions, gates * hidden, width]} and {[directions, gates * hidden, hidden]}."
        )
    if call.attrs.get("hidden_size", hidden) != hidden:
        raise call.error(f"hidden_size is {call.attrs['hidden_size']}, R is for {hidden}.")
    return hidden


def _activations(call: Call, directions: int) -> list[list[Any]]:
    """For each direction its activations; alpha and beta are taken in order by those that have them."""
    default = DEFAULT_ACTIVATIONS[call.op]
    names = list(call.attrs.get("activations") or default * directions)
    if len(names) != len(default) * directions:
        raise call.error(f"{len(names)} activations are given; needed {len(default) * directions}.")
    alphas, betas = list(call.attrs.get("activation_alpha", [])), list(call.attrs.get("activation_beta", []))
    found: list[Any] = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise call.error(f"there is no activation '{name}'.", nearest(name, ACTIVATIONS))
        own, takes_alpha, takes_beta = ACTIVATIONS[name.lower()]
        alpha = alphas.pop(0) if takes_alpha and alphas else None
        beta = betas.pop(0) if takes_beta and betas else None
        if own in UNSETTLED and (alpha is None or (takes_beta and beta is None)):
            raise call.error(
                f"the activation {name} has no numbers of its own, and what it means without is not settled.",
                "Give activation_alpha and activation_beta.",
            )
        found.append(own if alpha is None and beta is None else [own, alpha, beta])
    return [found[i : i + len(default)] for i in range(0, len(found), len(default))]


def _initial(call: Call, index: int, directions: int, layout: int) -> list[Tensor | None]:
    if not call.given(index):
        return [None] * directions
    start = call.tensor(index)
    axis = 0 if layout == 0 else 1
    if start.rank != 3 or start.axes[axis].extent != directions:
        raise call.error(f"an initial state is [{', '.join(map(str, start.axes))}]; needed {directions} directions.")
    return [call.tracer.take(start, axis, d) for d in range(directions)]


def _bias(call: Call, d: int, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """The input's bias and the recurrence's, ``[gates * hidden]`` each."""
    size = GATES[call.op] * hidden
    if not call.given(3):
        return np.zeros(size, np.float32), np.zeros(size, np.float32)
    B = call.array(3, "B")
    if B.ndim != 2 or B.shape[0] <= d or B.shape[1] != 2 * size:
        raise call.error(f"B has shape {list(B.shape)}; needed [directions, {2 * size}].")
    return B[d, :size], B[d, size:]


def _gates(array: np.ndarray, hidden: int, order: tuple[int, ...]) -> np.ndarray:
    """Blocks of ``hidden`` rows in another order."""
    return np.concatenate([array[g * hidden : (g + 1) * hidden] for g in order])


def _rnn(call: Call, d: int, hidden: int, activations: list[Any]) -> tuple[str, list[np.ndarray], dict[str, Any]]:
    own, recurrence = _bias(call, d, hidden)
    W, R = call.array(1, "W"), call.array(2, "R")
    return "elman", [W[d], R[d], own + recurrence], {"activation": activations[0]}


def _gru(call: Call, d: int, hidden: int, activations: list[Any]) -> tuple[str, list[np.ndarray], dict[str, Any]]:
    own, recurrence = (_gates(b, hidden, (1, 0, 2)) for b in _bias(call, d, hidden))
    W, R = (_gates(call.array(i, "W")[d], hidden, (1, 0, 2)) for i in (1, 2))
    after = bool(call.attrs.get("linear_before_reset", 0))
    attrs: dict[str, Any] = {"reset_after": after}
    if activations != ["sigmoid", "tanh"]:
        attrs["activations"] = activations
    if not after:
        return "gru", [W, R, own + recurrence], attrs
    bias = own + recurrence
    bias[2 * hidden :] = own[2 * hidden :]
    return "gru", [W, R, bias, recurrence[2 * hidden :]], attrs


def _lstm(call: Call, d: int, hidden: int, activations: list[Any]) -> tuple[str, list[np.ndarray], dict[str, Any]]:
    own, recurrence = _bias(call, d, hidden)
    weights = [_gates(call.array(i, "W")[d], hidden, (0, 2, 3, 1)) for i in (1, 2)]
    weights.append(_gates(own + recurrence, hidden, (0, 2, 3, 1)))
    attrs: dict[str, Any] = {}
    if activations != ["sigmoid", "tanh", "tanh"]:
        attrs["activations"] = activations
    if call.attrs.get("input_forget", 0):
        attrs["input_forget"] = True
    if call.given(7):
        P = call.array(7, "P")
        if P.ndim != 2 or P.shape[0] <= d or P.shape[1] != 3 * hidden:
            raise call.error(f"P has shape {list(P.shape)}; needed [directions, {3 * hidden}].")
        if P[d].any():
            weights.append(_gates(P[d], hidden, (0, 2, 1)))
            attrs["peephole"] = True
    return "lstm", weights, attrs


WEIGHTS = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}


def conv(call: Call) -> Tensor:
    """A convolution along time, ``[batch, channel, time]``; it must be causal in the end."""
    x, W = call.tensor(0), call.array(1, "W")
    if W.ndim != 3 or x.rank != 3 or [a.label for a in x.axes[1:]] != ["feature", "time"]:
        raise call.error(
            f"a {max(W.ndim - 2, 0)}-d convolution over [{', '.join(map(str, x.axes))}].",
            "Only 1-d convolutions along time, [batch, channel, time], can be run step by step.",
        )
    pads = list(call.attrs.get("pads", [0, 0]))
    if call.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise call.error(f"auto_pad is {call.attrs['auto_pad']}.", "Pad explicitly, on the left only.")
    if len(pads) != 2:
        raise call.error(f"pads are {pads}; needed two.")
    bias = call.array(2, "B") if call.given(2) else None
    padded = call.tracer.pad_time(x, 2, pads[0], pads[1])
    return call.tracer.conv(
        padded,
        W,
        bias,
        dilation=call.attrs.get("dilations", [1])[0],
        groups=call.attrs.get("group", 1),
        stride=call.attrs.get("strides", [1])[0],
    )


RULES: Mapping[str, Rule] = {"RNN": recurrent, "GRU": recurrent, "LSTM": recurrent, "Conv": conv}
