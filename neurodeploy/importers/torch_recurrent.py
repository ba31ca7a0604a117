"""PyTorch's recurrent layers and cells: their weights as the cells of :mod:`neurodeploy.ir.cells` want them.

PyTorch stacks an LSTM's gates i, f, g, o and a GRU's r, z, n, as the cells do. It keeps two biases. They add up, except
the candidate's in a GRU, whose recurrent bias stands inside the reset gate: ``n = tanh(W x + b + r (U h + u))``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurodeploy.importers.time import Tensor, Tracer
from neurodeploy.importers.torch_ops import Rule

#: ATen's name -> the cell, and its attributes.
KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gru": ("gru", {"reset_after": True, "update": "keep"}),
    "lstm": ("lstm", {}),
    "rnn_tanh": ("elman", {"activation": "tanh"}),
    "rnn_relu": ("elman", {"activation": "relu"}),
}


def constant_of(t: Tracer, weight: Tensor) -> np.ndarray:
    """A weight's numbers."""
    if weight.data is None:
        raise t.error("its weights depend on the input.", "Use weights that are parameters of the module.")
    return weight.data


def cell_weights(t: Tracer, cell: str, weights: Sequence[Tensor | None]) -> list[np.ndarray]:
    """``W, U, bias`` (and a GRU's ``u``, a projection's ``R``) of ``w_ih, w_hh, b_ih, b_hh`` (and ``w_hr``)."""
    w_ih, w_hh, b_ih, b_hh, *projection = [None if w is None else constant_of(t, w) for w in weights]
    if w_ih is None or w_hh is None:
        raise t.error("it has no weights.")
    n = w_hh.shape[0]
    if b_ih is None or b_hh is None:
        bias, extra = np.zeros(n, np.float32), []
    elif cell == "gru":
        units = n // 3
        bias = np.concatenate([b_ih[: 2 * units] + b_hh[: 2 * units], b_ih[2 * units :]])
        extra = [b_hh[2 * units :]]
    else:
        bias, extra = b_ih + b_hh, []
    return [w_ih, w_hh, bias, *extra, *(p for p in projection if p is not None)]


def _layer(
    kind: str, t: Tracer, x: Tensor, initial: Any, params: Sequence[Tensor], has_biases: bool, layers: int,
    dropout: float, train: bool, two_way: bool, batch_first: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """A stack of recurrent layers: outputs at every step, then each state's final value ``[layers * ways, B, n]``."""
    if train and dropout:
        raise t.error("its dropout is on in evaluation mode.")
    cell, attrs = KINDS[kind]
    starts = list(initial) if isinstance(initial, list | tuple) else [initial]
    ways = 2 if two_way else 1
    each = len(params) // (layers * ways)
    projected = each in (3, 5)
    if projected:
        attrs = {**attrs, "projection": True}
    finals: list[list[Tensor]] = [[] for _ in starts]
    stem = t._stem
    for layer in range(layers):
        outputs = []
        for way in range(ways):
            i = layer * ways + way
            own: list[Tensor | None] = list(params[i * each : (i + 1) * each])
            if not has_biases:
                own[2:2] = [None, None]
            weights = cell_weights(t, cell, own)
            units = weights[1].shape[0] // {"gru": 3, "lstm": 4, "elman": 1}[cell]
            sizes = [weights[1].shape[1], units][: len(starts)]
            suffix = (f"_l{layer}" if layers > 1 else "") + ("_reverse" if way else "")
            t._stem = stem + suffix
            made = t.rnn(
                cell, x, weights, [t.take(s, 0, i) for s in starts], sizes=sizes, attrs=attrs, reverse=bool(way)
            )
            outputs.append(made.series[0])
            for final, value in zip(finals, made.final):
                final.append(value)
        t._stem = stem
        x = _like_torch(t, t.concat(outputs, -1), batch_first)
    # A sequence without a batch axis has an axis of size 1 in its place.
    each_final = [[f if f.rank == 2 else t.unsqueeze(f, [0]) for f in final] for final in finals]
    return (x, *(t.concat([t.unsqueeze(f, [0]) for f in final], 0) for final in each_final))


def _like_torch(t: Tracer, y: Tensor, batch_first: bool) -> Tensor:
    """Three axes, as PyTorch has them."""
    return y if y.rank == 3 else t.unsqueeze(y, [0 if batch_first else 1])


def _cell_alone(t: Tracer, *_: Any) -> Any:
    raise t.error(
        "a single step of a recurrent cell inside a module that takes whole sequences (a loop over time is unrolled "
        "when traced).",
        "Use the layer (nn.GRU, nn.LSTM, nn.RNN), or give the step itself: load(cell, (x_t, h), states={'h': 1}).",
    )


CELL_OPS = ("gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell")
LAYERS: Mapping[str, Rule] = {
    **{kind: partial(_layer, kind) for kind in KINDS},
    **dict.fromkeys(CELL_OPS, _cell_alone),
}
