"""Families whose parts run only sometimes: clockwork, history compressor, hierarchical."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.types import TensorType
from tests.families.case import LENGTHS, Case, Weights, head, one_stage, series

X, H = 4, 5


def cases() -> Iterator[Case]:
    yield _clockwork()
    yield _history_compressor()


def _params(b: Builder, w: Weights, prefix: str, width: int) -> list[Sym]:
    shapes = {"W": (H, width), "U": (H, H), "b": (H,)}
    return [b.param(prefix + k, w(prefix + k, *s)) for k, s in shapes.items()]


def _clockwork() -> Case:
    """Koutnik et al. 2014: a slow module (period 3) feeds a fast one; a counter state drives its guard."""
    w, b, period = Weights(20), Builder(), 3
    x, fast, slow = b.input("x", (X,)), b.state("fast", (H,)), b.state("slow", (H,))
    count = b.state("count", (), dtype="i32")
    due = b("eq", count, b.const(0, dtype="i32"))
    wrapped = b("add", count, b.const(1, dtype="i32"))
    over = b("lt", wrapped, b.const(period, dtype="i32"))
    b.next(count, b("select", over, wrapped, b.const(0, dtype="i32")))
    (new_slow,) = b.call("elman", x, slow, *_params(b, w, "s", X))
    b.next(slow, new_slow, when=due)
    now_slow = b("select", due, new_slow, slow)
    (new_fast,) = b.call("elman", b("concat", x, now_slow, axis=0), fast, *_params(b, w, "f", X + H))
    b.next(fast, new_fast)
    b.output("y", head(b, new_fast, w))
    program = one_stage("clockwork", b.graph(), inputs={"x": TensorType((X,))}, outputs={"y": "main.y"})

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        fast, slow, rows = np.zeros(H), np.zeros(H), []
        for t, x in enumerate(sample["x"][:steps].astype(np.float64)):
            if t % period == 0:
                slow = np.tanh(w.sW @ x + w.sU @ slow + w.sb)
            fast = np.tanh(w.fW @ np.r_[x, slow] + w.fU @ fast + w.fb)
            rows.append(w.V @ fast + w.c)
        return {"y": np.array(rows)}

    return Case("clockwork", program, {"x": series(21, X)}, reference, LENGTHS)


def _history_compressor() -> Case:
    """Schmidhuber 1992: the higher net sees only what the lower one failed to predict.

    The lower net predicts the next input; where its error is above a threshold the higher net is updated with it.
    """
    w, b, threshold = Weights(22), Builder(), 2.2
    x, low, high = b.input("x", (X,)), b.state("low", (H,)), b.state("high", (H,))
    guess = b.state("guess", (X,))
    error = b("sum", b("abs", x - guess), axis=0)
    surprised = error > threshold
    (new_low,) = b.call("elman", x, low, *_params(b, w, "l", X))
    b.next(low, new_low)
    b.next(guess, b.param("P", w("P", X, H)) @ new_low)
    (new_high,) = b.call("elman", x, high, *_params(b, w, "h", X))
    b.next(high, new_high, when=surprised)
    b.output("y", head(b, b("concat", new_low, b("select", surprised, new_high, high), axis=0), w))
    b.output("surprised", surprised)
    outputs = {"y": "main.y", "surprised": "main.surprised"}
    program = one_stage("history_compressor", b.graph(), inputs={"x": TensorType((X,))}, outputs=outputs)

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        low, high, guess = np.zeros(H), np.zeros(H), np.zeros(X)
        rows, flags = [], []
        for x in sample["x"][:steps].astype(np.float64):
            flags.append(np.abs(x - guess).sum() > threshold)
            low = np.tanh(w.lW @ x + w.lU @ low + w.lb)
            guess = w.P @ low
            if flags[-1]:
                high = np.tanh(w.hW @ x + w.hU @ high + w.hb)
            rows.append(w.V @ np.r_[low, high] + w.c)
        return {"y": np.array(rows), "surprised": np.array(flags)}

    return Case("history_compressor", program, {"x": series(23, X)}, reference, LENGTHS)
