"""Families that are defined by their drive: until, generate, several stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Drive, Graph, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify
from tests.families.case import BATCH, LENGTHS, Case, Weights, one_stage, series, sigmoid

X, H = 4, 5


def cases() -> Iterator[Case]:
    yield _hopfield()
    yield _bam()
    yield _ising()
    yield _bidirectional()
    yield _encoder_decoder()


def _patterns(n: int, count: int, seed: int) -> np.ndarray:
    return np.sign(np.random.default_rng(seed).normal(size=(count, n)))


def _start(b: Builder, static: Sym, state: Sym, begun: Sym) -> Sym:
    """The static input at the first step, then the state: ``begun`` is a state that is 0 at first."""
    first = b("eq", begun, b.const(0.0))
    b.next(begun, b.const(1.0))
    return b("select", first, static, state)


def _hopfield() -> Case:
    n, patterns = 16, _patterns(16, 2, 1)
    W = patterns.T @ patterns / n - np.eye(n) * len(patterns) / n
    b = Builder()
    probe, s, begun = b.input("probe", (n,)), b.state("s", (n,)), b.state("begun", ())
    now = _start(b, probe, s, begun)
    new, stable = b.call("hopfield", now, b.param("W", W.astype(np.float32)), b.param("theta", np.zeros(n, np.float32)))
    b.next(s, new)
    b.output("s", new)
    b.output("stable", stable)
    program = one_stage(
        "hopfield", b.graph(), inputs={}, static={"probe": TensorType((n,))}, outputs={"s": "main.s@last"},
        drive=Drive("until", predicate="stable", max_steps=20),
    )  # fmt: skip
    probes = patterns[np.arange(BATCH) % 2].copy()
    flips = np.random.default_rng(2).integers(0, n, (BATCH, 3))
    for row, places in zip(probes, flips, strict=True):
        row[places] *= -1

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        s = sample["probe"].astype(np.float64)
        for _ in range(20):
            field = np.float32(W) @ s
            new = np.where(field > 0, 1.0, np.where(field < 0, -1.0, s))
            done = (new == s).all()
            s = new
            if done:
                break
        return {"s": s}

    return Case("hopfield", program, {"probe": probes.astype(np.float32)}, reference)


def _bam() -> Case:
    """Kosko 1988: ``y = sign(W x)``, ``x' = sign(W^T y)``, until x stands."""
    n, m = 12, 7
    a, c = _patterns(n, 2, 3), _patterns(m, 2, 4)
    W = (c.T @ a).astype(np.float32)
    b = Builder()
    probe, x, begun = b.input("probe", (n,)), b.state("x", (n,)), b.state("begun", ())
    now, param = _start(b, probe, x, begun), b.param("W", W)

    def sign(v: Sym, old: Sym) -> Sym:
        return b("select", v > 0.0, b.const(1.0), b("select", v < 0.0, b.const(-1.0), old))

    y = sign(param @ now, b("broadcast", b.const(1.0), shape=[m]))
    new = sign(b.param("WT", np.ascontiguousarray(W.T)) @ y, now)
    b.next(x, new)
    b.output("x", new)
    b.output("y", y)
    b.output("stable", b("eq", b("sum", b("abs", new - now), axis=0), b.const(0.0)))
    program = one_stage(
        "bam", b.graph(), inputs={}, static={"probe": TensorType((n,))}, outputs={"x": "main.x@last", "y": "main.y@last"},
        drive=Drive("until", predicate="stable", max_steps=20),
    )  # fmt: skip
    probes = a[np.arange(BATCH) % 2].copy()
    probes[:, 1] *= -1

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        x, y = sample["probe"].astype(np.float64), np.ones(m)
        for _ in range(20):
            v = W @ x
            y = np.where(v > 0, 1.0, np.where(v < 0, -1.0, 1.0))
            v = W.T @ y
            new = np.where(v > 0, 1.0, np.where(v < 0, -1.0, x))
            done = (new == x).all()
            x = new
            if done:
                break
        return {"x": x, "y": y}

    return Case("bam", program, {"probe": probes.astype(np.float32)}, reference)


def _ising() -> Case:
    """Stochastic Hopfield net (Glauber dynamics): unit i is +1 with probability sigmoid(2 beta field_i)."""
    n, seed, beta = 8, 5, 0.8
    patterns = _patterns(n, 1, 6)
    W = (patterns.T @ patterns / n - np.eye(n) / n).astype(np.float32)
    b = Builder()
    bias, s, tick = b.input("bias", (n,)), b.state("s", (n,), init=patterns[0]), b.state("tick", (), dtype="i32")
    u = b("random", tick, seed=seed, shape=[n])
    up = u < b("sigmoid", (2 * beta) * (b.param("W", W) @ s + bias))
    new = b("select", up, b.const(1.0), b.const(-1.0))
    b.next(s, new)
    b.next(tick, b("add", tick, b.const(1, dtype="i32")))
    b.output("s", new)
    program = one_stage("ising", b.graph(), inputs={"bias": TensorType((n,))}, outputs={"s": "main.s"})

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        s, rows = patterns[0].astype(np.float64), []
        for t in range(steps):
            p = sigmoid(2 * beta * (W @ s + sample["bias"][t]))
            s = np.where(_philox_uniform(t, n, seed) < p, 1.0, -1.0)
            rows.append(s)
        return {"s": np.array(rows)}

    return Case("ising", program, {"bias": series(13, n, scale=0.3)}, reference)


def _philox_uniform(counter: int, count: int, key: int) -> np.ndarray:
    """Philox 2x32-10 written with Python's whole numbers."""
    words = []
    for index in range(count):
        left, right, k = counter, index, key
        for _ in range(10):
            product = left * 0xD256D193
            left, right = (product >> 32) ^ k ^ right, product & 0xFFFFFFFF
            k = (k + 0x9E3779B9) & 0xFFFFFFFF
        words.append((left >> 8) / 2**24)
    return np.array(words)


def _elman_graph(w: Weights, prefix: str, width: int) -> Graph:
    b = Builder()
    x, h = b.input("x", (width,)), b.state("h", (H,))
    shapes = {"W": (H, width), "U": (H, H), "b": (H,)}
    (new,) = b.call("elman", x, h, *(b.param(k, w(prefix + k, *s)) for k, s in shapes.items()))
    b.next(h, new)
    b.output("y", new)
    return b.graph()


def _joined(w: Weights) -> Graph:
    """Second layer's input from both directions of the first, one direction of the second itself, and the readout."""
    b = Builder()
    f, r = b.input("f", (H,)), b.input("r", (H,))
    b.output("y", b.param("V", w("V", 3, 2 * H)) @ b("concat", f, r, axis=0) + b.param("c", w("c", 3)))
    return b.graph()


def _concat_graph() -> Graph:
    b = Builder()
    f, r = b.input("f", (H,)), b.input("r", (H,))
    b.output("y", b("concat", f, r, axis=0))
    return b.graph()


def _bidirectional() -> Case:
    w = Weights(14)
    ref, stages = Ref.parse, []
    stages.append(Stage("f1", _elman_graph(w, "f1", X), Drive("forward"), {"x": ref("x")}))
    stages.append(Stage("r1", _elman_graph(w, "r1", X), Drive("reverse"), {"x": ref("x")}))
    stages.append(Stage("both1", _concat_graph(), Drive("forward"), {"f": ref("f1.y"), "r": ref("r1.y")}))
    stages.append(Stage("f2", _elman_graph(w, "f2", 2 * H), Drive("forward"), {"x": ref("both1.y")}))
    stages.append(Stage("r2", _elman_graph(w, "r2", 2 * H), Drive("reverse"), {"x": ref("both1.y")}))
    stages.append(Stage("head", _joined(w), Drive("forward"), {"f": ref("f2.y"), "r": ref("r2.y")}))
    outputs = {"y": ref("head.y"), "first_of_reverse": ref("r2.h@final")}
    program = verify(Program("stacked_bidirectional", {"x": ProgramInput(TensorType((X,)))}, tuple(stages), outputs))

    def direction(xs: np.ndarray, prefix: str, backwards: bool) -> np.ndarray:
        W, U, bias = (getattr(w, prefix + k) for k in ("W", "U", "b"))
        h, rows = np.zeros(H), []
        for x in xs[::-1] if backwards else xs:
            h = np.tanh(W @ x + U @ h + bias)
            rows.append(h)
        return np.array(rows[::-1] if backwards else rows)

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        xs = sample["x"][:steps].astype(np.float64)
        both = np.c_[direction(xs, "f1", False), direction(xs, "r1", True)]
        f, r = direction(both, "f2", False), direction(both, "r2", True)
        return {"y": np.c_[f, r] @ w.V.T + w.c, "first_of_reverse": r[0]}

    return Case("stacked_bidirectional", program, {"x": series(15, X)}, reference, LENGTHS)


def _encoder_decoder() -> Case:
    """An Elman encoder, and a decoder that feeds its own output back until a unit says stop."""
    w, out, limit = Weights(16), 3, 8
    encoder = _elman_graph(w, "e", X)
    b = Builder()
    token, h = b.input("token", (out,)), b.state("h", (H,))
    shapes = {"W": (H, out), "U": (H, H), "b": (H,)}
    (new,) = b.call("elman", token, h, *(b.param(k, w("d" + k, *s)) for k, s in shapes.items()))
    y = b("tanh", b.param("V", w("V", out, H)) @ new + b.param("c", w("c", out)))
    b.next(h, new)
    b.output("y", y)
    b.output("stop", b("reshape", y.slice(0, 1), shape=[]) < -0.35)
    decoder = Stage(
        "dec", b.graph(), Drive("generate", feedback={"token": "y"}, stop="stop", max_steps=limit),
        {"token": Ref("start")}, {"h": Ref.parse("enc.h@final")},
    )  # fmt: skip
    inputs = {"x": ProgramInput(TensorType((X,))), "start": ProgramInput(TensorType((out,)), "static")}
    stages = (Stage("enc", encoder, Drive(), {"x": Ref("x")}), decoder)
    program = verify(Program("encoder_decoder", inputs, stages, {"y": Ref.parse("dec.y")}))

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        h = np.zeros(H)
        for x in sample["x"][:steps].astype(np.float64):
            h = np.tanh(w.eW @ x + w.eU @ h + w.eb)
        token, rows = sample["start"].astype(np.float64), []
        for _ in range(limit):
            h = np.tanh(w.dW @ token + w.dU @ h + w.db)
            token = np.tanh(w.V @ h + w.c)
            rows.append(token)
            if token[0] < -0.35:
                break
        return {"y": np.array(rows)}

    data = {"x": series(17, X), "start": np.zeros((BATCH, out), np.float32)}
    return Case("encoder_decoder", program, data, reference, LENGTHS)
