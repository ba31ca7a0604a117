"""Families that are one cell driven forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neurodeploy.ir.build import Builder
from neurodeploy.ir.cells import ctrnn_rate
from neurodeploy.ir.types import TensorType
from tests.families.case import LENGTHS, Case, Weights, head, one_stage, series, sigmoid

X, H = 4, 6


def cases() -> Iterator[Case]:
    yield _elman("elman_tanh", "tanh", np.tanh)
    yield _elman("elman_relu", "relu", lambda x: np.maximum(x, 0))
    yield _fully_recurrent()
    yield _jordan()
    yield from (_lstm(f"lstm{suffix}", **options) for suffix, options in _LSTMS.items())
    yield from (_gru(f"gru_{suffix}", **options) for suffix, options in _GRUS.items())
    yield _indrnn()
    yield _leaky("echo_state", 0.3)
    yield _leaky("echo_state_slow", 0.02)
    yield _ctrnn("ctrnn_euler", "euler", 0.05)
    yield _ctrnn("ctrnn_exponential", "exponential", 0.05)
    yield _ctrnn("mtrnn", "euler", np.repeat([0.03, 0.2], H // 2))
    yield _spiking()
    yield _second_order()
    yield _multilayer()


_LSTMS: dict[str, dict[str, bool]] = {
    "": {},
    "_peephole": {"peephole": True},
    "_projection": {"projection": True},
    "_coupled": {"input_forget": True},
}
_GRUS: dict[str, dict[str, Any]] = {
    "reset_after": {"reset_after": True},
    "reset_before": {"reset_after": False},
    "replace": {"reset_after": True, "update": "replace"},
}


def _close(b: Builder, name: str, w: Weights, h: Any, reference: Any, *, lengths: np.ndarray | None = None) -> Case:
    b.output("y", head(b, h, w))
    program = one_stage(name, b.graph(), inputs={"x": TensorType((X,))}, outputs={"y": "main.y", "last": "main.y@last"})
    x = series(7, X)
    return Case(name, program, {"x": x}, _over_time(w, reference), lengths)


def _over_time(w: Weights, step: Any) -> Any:
    """A reference for 'y' of each step and 'last', from ``step(x, carry) -> (h, carry)``."""

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        carry, rows = None, []
        for x in sample["x"][:steps].astype(np.float64):
            h, carry = step(x, carry)
            rows.append(w.V @ h + w.c)
        return {"y": np.array(rows), "last": rows[-1]}

    return reference


def _elman(name: str, activation: str, f: Any) -> Case:
    w, b = Weights(1), Builder()
    x, h = b.input("x", (X,)), b.state("h", (H,))
    (new,) = b.call(
        "elman", x, h, b.param("W", w("W", H, X)), b.param("U", w("U", H, H, scale=0.3)),
        b.param("b", w("b", H, scale=0.2)), activation=activation,
    )  # fmt: skip
    b.next(h, new)

    def step(x: np.ndarray, h: Any) -> tuple[Any, Any]:
        h = f(w.W @ x + w.U @ (np.zeros(H) if h is None else h) + w.b)
        return h, h

    return _close(b, name, w, new, step, lengths=LENGTHS)


def _fully_recurrent() -> Case:
    """Williams and Zipser: every unit sees every unit; the first units are also the outputs, by teacherless feedback."""
    w, b = Weights(2), Builder()
    x, z = b.input("x", (X,)), b.state("z", (H,))
    joint = b("concat", x, z, axis=0)
    new = b("sigmoid", b.param("W", w("W", H, X + H)) @ joint + b.param("b", w("b", H, scale=0.2)))
    b.next(z, new)

    def step(x: np.ndarray, z: Any) -> tuple[Any, Any]:
        z = sigmoid(w.W @ np.concatenate([x, np.zeros(H) if z is None else z]) + w.b)
        return z, z

    return _close(b, "fully_recurrent", w, new, step)


def _jordan() -> Case:
    w, b, n = Weights(3), Builder(), 3
    x, s = b.input("x", (X,)), b.state("s", (n,))
    params = [b.param(k, w(k, *shape)) for k, shape in
              {"W": (H, X), "U": (H, n), "b": (H,), "V": (n, H), "c": (n,)}.items()]  # fmt: skip
    y, following = b.call("jordan", x, s, *params, decay=0.4)
    b.next(s, following)
    b.output("y", y)
    outputs = {"y": "main.y", "last": "main.y@last"}
    program = one_stage("jordan", b.graph(), inputs={"x": TensorType((X,))}, outputs=outputs)

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        s, rows = np.zeros(n), []
        for x in sample["x"][:steps].astype(np.float64):
            y = w.V @ np.tanh(w.W @ x + w.U @ s + w.b) + w.c
            s = 0.4 * s + y
            rows.append(y)
        return {"y": np.array(rows), "last": rows[-1]}

    return Case("jordan", program, {"x": series(8, X)}, reference)


def _lstm(name: str, peephole: bool = False, projection: bool = False, input_forget: bool = False) -> Case:
    w, b, m = Weights(4), Builder(), 4 if projection else H
    x, h, c = b.input("x", (X,)), b.state("h", (m,)), b.state("c", (H,))
    args = [b.param("W", w("W", 4 * H, X)), b.param("U", w("U", 4 * H, m)), b.param("b", w("b", 4 * H, scale=0.3))]
    if peephole:
        args.append(b.param("p", w("p", 3 * H, scale=0.5)))
    if projection:
        args.append(b.param("R", w("R", m, H)))
    attrs: dict[str, Any] = {
        k: True
        for k, on in {"peephole": peephole, "projection": projection, "input_forget": input_forget}.items()
        if on
    }
    new_h, new_c = b.call("lstm", x, h, c, *args, **attrs)
    b.next(h, new_h)
    b.next(c, new_c)

    def step(x: np.ndarray, carry: Any) -> tuple[Any, Any]:
        h, c = carry or (np.zeros(m), np.zeros(H))
        zi, zf, zg, zo = np.split(w.W @ x + w.U @ h + w.b, 4)
        pi, pf, po = np.split(w.p, 3) if peephole else (0, 0, 0)
        i = sigmoid(zi + pi * c)
        f = 1 - i if input_forget else sigmoid(zf + pf * c)
        c = f * c + i * np.tanh(zg)
        h = sigmoid(zo + po * c) * np.tanh(c)
        h = w.R @ h if projection else h
        return h, (h, c)

    return _close(b, name, w, new_h, step, lengths=LENGTHS)


def _gru(name: str, reset_after: bool, update: str = "keep") -> Case:
    w, b = Weights(5), Builder()
    x, h = b.input("x", (X,)), b.state("h", (H,))
    args = [b.param("W", w("W", 3 * H, X)), b.param("U", w("U", 3 * H, H)), b.param("b", w("b", 3 * H, scale=0.3))]
    if reset_after:
        args.append(b.param("u", w("u", H, scale=0.3)))
    (new,) = b.call("gru", x, h, *args, reset_after=reset_after, update=update)
    b.next(h, new)

    def step(x: np.ndarray, h: Any) -> tuple[Any, Any]:
        h = np.zeros(H) if h is None else h
        (xr, xz, xn), (ur, uz, un) = np.split(w.W @ x + w.b, 3), np.split(w.U, 3)
        r, z = sigmoid(xr + ur @ h), sigmoid(xz + uz @ h)
        n = np.tanh(xn + (r * (un @ h + w.u) if reset_after else un @ (r * h)))
        h = (1 - z) * n + z * h if update == "keep" else (1 - z) * h + z * n
        return h, h

    return _close(b, name, w, new, step, lengths=LENGTHS)


def _indrnn() -> Case:
    w, b = Weights(6), Builder()
    x, h = b.input("x", (X,)), b.state("h", (H,))
    (new,) = b.call(
        "indrnn", x, h, b.param("W", w("W", H, X)), b.param("u", w("u", H, scale=0.4)), b.param("b", w("b", H))
    )
    b.next(h, new)

    def step(x: np.ndarray, h: Any) -> tuple[Any, Any]:
        h = np.maximum(w.W @ x + w.u * (0 if h is None else h) + w.b, 0)
        return h, h

    return _close(b, "indrnn", w, new, step)


def _leaky(name: str, leak: float) -> Case:
    w, b = Weights(9), Builder()
    x, h = b.input("x", (X,)), b.state("h", (H,))
    params = [b.param("W", w("W", H, X)), b.param("U", w("U", H, H)), b.param("b", w("b", H, scale=0.2))]
    (new,) = b.call("leaky", x, h, *params, b.const(leak))
    b.next(h, new)

    def step(x: np.ndarray, h: Any) -> tuple[Any, Any]:
        h = np.zeros(H) if h is None else h
        h = (1 - leak) * h + leak * np.tanh(w.W @ x + w.U @ h + w.b)
        return h, h

    return _close(b, name, w, new, step)


def _ctrnn(name: str, method: str, tau: Any, dt: float = 0.01) -> Case:
    w, b = Weights(10), Builder()
    x, y = b.input("x", (X,)), b.state("y", (H,))
    current = b.param("Win", w("Win", H, X)) @ x
    rate = b.param("rate", ctrnn_rate(tau, dt, method))
    (new,) = b.call("ctrnn", current, y, b.param("W", w("W", H, H)), b.param("theta", w("theta", H)), rate)
    b.next(y, new)

    def step(x: np.ndarray, y: Any) -> tuple[Any, Any]:
        y = np.zeros(H) if y is None else y
        drive = w.W @ sigmoid(y - w.theta) + w.Win @ x
        k = dt / np.asarray(tau)
        y = y + k * (drive - y) if method == "euler" else drive + (y - drive) * np.exp(-k)
        return y, y

    return _close(b, name, w, new, step)


def _spiking() -> Case:
    """Leaky integrate-and-fire neurons that hear each other a step later."""
    w, b = Weights(13), Builder()
    x, v, s = b.input("x", (X,)), b.state("v", (H,)), b.state("s", (H,))
    current = b.param("W", w("W", H, X)) @ x + b.param("U", w("U", H, H)) @ s + b.param("b", w("b", H, scale=0.3))
    new, spikes = b.call("lif", current, v, decay=0.9, threshold=1.0)
    b.next(v, new)
    b.next(s, spikes)

    def step(x: np.ndarray, carry: Any) -> tuple[Any, Any]:
        v, s = carry or (np.zeros(H), np.zeros(H))
        u = 0.9 * v + w.W @ x + w.U @ s + w.b
        s = (u >= 1.0).astype(float)
        return s, (u - s, s)

    return _close(b, "spiking", w, spikes, step)


def _second_order() -> Case:
    """Giles et al. 1992: ``h'_i = sigmoid(sum_jk W_ijk h_j x_k + b_i)``."""
    w, b = Weights(11), Builder()
    x, h = b.input("x", (X,)), b.state("h", (H,), init=np.r_[1.0, np.zeros(H - 1)])
    new = b("sigmoid", b("einsum", b.param("W", w("W", H, H, X)), h, x, eq="ijk,j,k->i") + b.param("b", w("b", H)))
    b.next(h, new)

    def step(x: np.ndarray, h: Any) -> tuple[Any, Any]:
        h = np.r_[1.0, np.zeros(H - 1)] if h is None else h
        h = sigmoid(np.array([h @ w.W[i] @ x for i in range(H)]) + w.b)
        return h, h

    return _close(b, "second_order", w, new, step)


def _multilayer() -> Case:
    """Recurrent multilayer perceptron: two recurrent hidden layers, each with its own feedback."""
    w, b = Weights(12), Builder()
    x, h1, h2 = b.input("x", (X,)), b.state("h1", (H,)), b.state("h2", (5,))
    p = {k: b.param(k, w(k, *s)) for k, s in
         {"W1": (H, X), "U1": (H, H), "b1": (H,), "W2": (5, H), "U2": (5, 5), "b2": (5,)}.items()}  # fmt: skip
    (n1,) = b.call("elman", x, h1, p["W1"], p["U1"], p["b1"])
    (n2,) = b.call("elman", n1, h2, p["W2"], p["U2"], p["b2"])
    b.next(h1, n1)
    b.next(h2, n2)

    def step(x: np.ndarray, carry: Any) -> tuple[Any, Any]:
        h1, h2 = carry or (np.zeros(H), np.zeros(5))
        h1 = np.tanh(w.W1 @ x + w.U1 @ h1 + w.b1)
        h2 = np.tanh(w.W2 @ h1 + w.U2 @ h2 + w.b2)
        return h2, (h1, h2)

    return _close(b, "multilayer_perceptron", w, n2, step)
