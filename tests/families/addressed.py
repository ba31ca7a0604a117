"""Families with addressable memory or an inner system: trees, NTM, DNC, pushdown automaton, memristive network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Drive
from neurodeploy.ir.types import TensorType
from tests.families.case import BATCH, STEPS, Case, Weights, head, one_stage, series, sigmoid

D, X = 4, 3
INDEX = TensorType((), "i32")


def cases() -> Iterator[Case]:
    yield _tree("recursive", tensor=False)
    yield _tree("rntn", tensor=True)
    yield _ntm()
    yield _dnc()
    yield _pushdown()
    yield _memristive()


def _trees() -> dict[str, np.ndarray]:
    """Random binary trees of STEPS nodes at most: children of node k (-1: none), and the post-order list."""
    rng = np.random.default_rng(30)
    left, right = (np.full((BATCH, STEPS), -1, np.int32) for _ in range(2))
    order = np.full((BATCH, STEPS), -1, np.int32)
    for b in range(BATCH):
        leaves = [3, 5, 4, 2, 1][b]
        labels = list(rng.permutation(2 * leaves - 1))  # nodes are numbered at random: only the order says what is next
        stack, listed = [], []
        for i in range(leaves):
            stack.append(labels.pop())
            listed.append(stack[-1])
            while len(stack) >= 2 and (i == leaves - 1 or rng.random() < 0.5):
                node, r, l = labels.pop(), stack.pop(), stack.pop()
                left[b, node], right[b, node] = l, r
                stack.append(node)
                listed.append(node)
        order[b, : len(listed)] = listed
    return {"left": left, "right": right, "order": order}


def _tree(name: str, tensor: bool) -> Case:
    """``p = tanh(W [l; r; x] + b)`` (Pollack 1990), with a bilinear term ``[l;r]^T T [l;r]`` for the RNTN (Socher 2013)."""
    w, b = Weights(31), Builder()
    x, l, r, node = b.input("x", (X,)), b.input("left", INDEX), b.input("right", INDEX), b.input("node", INDEX)
    table = b.state("table", (STEPS, D))
    children = b("concat", b("row", table, l), b("row", table, r), axis=0)
    total = b.param("W", w("W", D, 2 * D + X)) @ b("concat", children, x, axis=0) + b.param("b", w("b", D))
    if tensor:
        total = total + b(
            "einsum", b.param("T", w("T", D, 2 * D, 2 * D, scale=0.2)), children, children, eq="ijk,j,k->i"
        )
    p = b("tanh", total)
    b.next(table, b("put", table, node, p))
    b.output("y", head(b, p, w, 2))
    inputs = {"x": TensorType((X,)), "left": INDEX, "right": INDEX, "node": INDEX}
    program = one_stage(
        name, b.graph(), inputs=inputs, outputs={"y": "main.y", "table": "main.table@final"},
        drive=Drive("order", order="order"), extra={"order": INDEX},
    )  # fmt: skip
    data = {**_trees(), "node": np.tile(np.arange(STEPS, dtype=np.int32), (BATCH, 1)), "x": series(32, X)}

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        table, y = np.zeros((STEPS, D)), np.zeros((STEPS, 2))

        def visit(k: int) -> np.ndarray:
            l, r = (visit(c) if c >= 0 else np.zeros(D) for c in (sample["left"][k], sample["right"][k]))
            both = np.r_[l, r]
            bilinear = np.array([both @ w.T_[i] @ both for i in range(D)]) if tensor else 0
            table[k] = np.tanh(w.W @ np.r_[both, sample["x"][k]] + w.b + bilinear)
            y[k] = w.V @ table[k] + w.c
            return table[k]

        nodes = sample["order"][sample["order"] >= 0]
        visit(int(nodes[-1]))
        return {"y": y, "table": table}

    if tensor:
        w.made["T_"] = w.made["T"]
    return Case(name, program, data, reference)


def _interface(b: Builder, w: Weights, x: Sym, sizes: dict[str, int]) -> dict[str, Sym]:
    """A linear layer's outputs, cut into named pieces."""
    total = sum(sizes.values())
    z, at, pieces = b.param("Wz", w("Wz", total, x.shape[0])) @ x + b.param("bz", w("bz", total)), 0, {}
    for name, size in sizes.items():
        pieces[name] = z.slice(at, at + size)
        at += size
    return pieces


def _cut(z: np.ndarray, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    ends = np.cumsum(list(sizes.values()))[:-1]
    return dict(zip(sizes, np.split(z, ends), strict=True))


_NTM = {"key": D, "strength": 1, "gate": 1, "shift": 3, "sharpen": 1, "erase": D, "add": D}


def _ntm() -> Case:
    """A neural Turing machine with a linear controller and one head that reads and writes."""
    w, b, n = Weights(33), Builder(), 6
    memory0 = np.random.default_rng(34).normal(size=(n, D)) * 0.3
    x, memory = b.input("x", (X,)), b.state("memory", (n, D), init=memory0)
    weighting = b.state("w", (n,), init=np.eye(n)[0])
    p = _interface(b, w, x, _NTM)
    scalar = {k: b("reshape", p[k], shape=[]) for k in ("strength", "gate", "sharpen")}
    new_w, read = b.call(
        "ntm_head", memory, weighting, b("tanh", p["key"]), b("softplus", scalar["strength"]), b("sigmoid", scalar["gate"]),
        b("softmax", p["shift"], axis=0), 1.0 + b("softplus", scalar["sharpen"]),
    )  # fmt: skip
    column = b("reshape", new_w, shape=[n, 1])
    erase, add = (b("reshape", b(f, p[k]), shape=[1, D]) for f, k in (("sigmoid", "erase"), ("tanh", "add")))
    b.next(memory, memory * (1.0 - column * erase) + column * add)
    b.next(weighting, new_w)
    b.output("y", head(b, read, w))
    program = one_stage("ntm", b.graph(), inputs={"x": TensorType((X,))}, outputs={"y": "main.y"})

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        M, wt, rows = memory0.astype(np.float32).astype(np.float64), np.eye(n)[0], []
        for x in sample["x"][:steps].astype(np.float64):
            p = _cut(w.Wz @ x + w.bz, _NTM)
            key, strength = np.tanh(p["key"]), np.log1p(np.exp(p["strength"][0]))
            gate, sharpen = sigmoid(p["gate"][0]), 1 + np.log1p(np.exp(p["sharpen"][0]))
            shift = np.exp(p["shift"]) / np.exp(p["shift"]).sum()
            similarity = M @ key / np.sqrt((M * M).sum(1) * (key @ key) + 1e-8)
            content = np.exp(strength * similarity) / np.exp(strength * similarity).sum()
            gated = gate * content + (1 - gate) * wt
            moved = sum(shift[i] * np.roll(gated, i - 1) for i in range(3))
            wt = moved**sharpen / (moved**sharpen).sum()
            rows.append(w.V @ (wt @ M) + w.c)
            M = M * (1 - np.outer(wt, sigmoid(p["erase"]))) + np.outer(wt, np.tanh(p["add"]))
        return {"y": np.array(rows)}

    return Case("ntm", program, {"x": series(35, X)}, reference)


def _dnc() -> Case:
    """The differentiable neural computer's writing: usage, allocation, content, and the temporal link matrix."""
    w, b, n = Weights(36), Builder(), 5
    sizes = {"allocate": 1, "free": 1, "write": D}
    x, usage, memory = b.input("x", (X,)), b.state("usage", (n,)), b.state("memory", (n, D))
    link, precedence = b.state("link", (n, n)), b.state("precedence", (n,))
    p = _interface(b, w, x, sizes)
    gate, free = (b("sigmoid", b("reshape", p[k], shape=[])) for k in ("allocate", "free"))
    kept = usage * (1.0 - 0.5 * free)
    (allocation,) = b.call("dnc_allocation", kept)
    ww = gate * allocation
    b.next(usage, kept + ww - kept * ww)
    column, row = b("reshape", ww, shape=[n, 1]), b("reshape", ww, shape=[1, n])
    vector = b("tanh", p["write"])
    b.next(memory, memory * (1.0 - column) + column * b("reshape", vector, shape=[1, D]))
    off_diagonal = b.const(1.0 - np.eye(n))
    b.next(link, off_diagonal * ((1.0 - column - row) * link + column * b("reshape", precedence, shape=[1, n])))
    b.next(precedence, (1.0 - b("sum", ww, axis=0)) * precedence + ww)
    b.output("allocation", allocation)
    b.output("forward", link @ ww)
    b.output("y", b("sum", memory, axis=0))
    outputs = {k: f"main.{k}" for k in ("allocation", "forward", "y")}
    program = one_stage("dnc", b.graph(), inputs={"x": TensorType((X,))}, outputs=outputs)

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        u, M, L, prec = np.zeros(n), np.zeros((n, D)), np.zeros((n, n)), np.zeros(n)
        rows: dict[str, list[Any]] = {"allocation": [], "forward": [], "y": []}
        for x in sample["x"][:steps].astype(np.float64):
            p = _cut(w.Wz @ x + w.bz, sizes)
            kept = u * (1 - 0.5 * sigmoid(p["free"][0]))
            free_list = np.argsort(kept, kind="stable")  # the paper's sort; equal usages in order of index
            a, product = np.zeros(n), 1.0
            for i in free_list:
                a[i] = (1 - kept[i]) * product
                product *= kept[i]
            ww = sigmoid(p["allocate"][0]) * a
            rows["allocation"].append(a)
            rows["forward"].append(L @ ww)
            rows["y"].append(M.sum(0))
            u = kept + ww - kept * ww
            M = M * (1 - ww[:, None]) + np.outer(ww, np.tanh(p["write"]))
            L = (1 - ww[:, None] - ww[None]) * L + np.outer(ww, prec)
            np.fill_diagonal(L, 0)
            prec = (1 - ww.sum()) * prec + ww
        return {k: np.array(v) for k, v in rows.items()}

    return Case("dnc", program, {"x": series(37, X)}, reference, integer=False)


def _pushdown() -> Case:
    """A neural stack (Das, Giles and Sun 1992; Grefenstette et al. 2015): values with strengths, newest last.

    ``pop`` d takes strength from the top down, ``push`` u puts a new value with strength u, the read takes the top 1.
    """
    w, b, depth = Weights(38), Builder(), 5
    sizes = {"pop": 1, "push": 1, "value": D}
    x, values, strengths = b.input("x", (X,)), b.state("values", (depth, D)), b.state("strengths", (depth,))
    p = _interface(b, w, x, sizes)
    pop, push = (b("sigmoid", b("reshape", p[k], shape=[])) for k in ("pop", "push"))
    above = b.param("above", np.triu(np.ones((depth, depth), np.float32), 1))  # (above s)_i: strength above i
    left = b("relu", strengths - b("relu", pop - above @ strengths))
    new_values, new_strengths = b("shift", values, b("tanh", p["value"])), b("shift", left, push)
    taken = b("min", new_strengths, b("relu", 1.0 - above @ new_strengths))
    b.next(values, new_values)
    b.next(strengths, new_strengths)
    b.output("y", head(b, taken @ new_values, w))
    program = one_stage("pushdown_automaton", b.graph(), inputs={"x": TensorType((X,))}, outputs={"y": "main.y"})

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        v, s, rows = [np.zeros(D)] * depth, np.zeros(depth).tolist(), []
        for x in sample["x"][:steps].astype(np.float64):
            p = _cut(w.Wz @ x + w.bz, sizes)
            left = sigmoid(p["pop"][0])
            for i in reversed(range(depth)):
                s[i], left = float(max(s[i] - left, 0.0)), max(left - s[i], 0.0)
            v, s = [*v[1:], np.tanh(p["value"])], [*s[1:], sigmoid(p["push"][0])]
            read, room = np.zeros(D), 1.0
            for i in reversed(range(depth)):
                read = read + min(s[i], room) * v[i]
                room = max(room - s[i], 0.0)
            rows.append(w.V @ read + w.c)
        return {"y": np.array(rows)}

    return Case("pushdown_automaton", program, {"x": series(39, X)}, reference)


def _memristive() -> Case:
    """Two meshes of memristors under series voltage sources: one equation step a time step."""
    incidence = np.array([[1, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1], [-1, 0, 0, 1], [1, 0, -1, 0]], float)  # E x V
    omega = np.eye(5) - incidence @ np.linalg.pinv(incidence)
    constants: dict[str, Any] = {"alpha": 0.1, "beta": 2.0, "xi": 9.0, "dt": 0.05}
    b = Builder()
    source, w_state = b.input("S", (5,)), b.state("w", (5,), init=np.full(5, 0.4))
    (new,) = b.call("ctdv", w_state, source, b.param("omega", omega.astype(np.float32)), **constants)
    b.next(w_state, new)
    b.output("w", new)
    program = one_stage("memristive_network", b.graph(), inputs={"S": TensorType((5,))}, outputs={"w": "main.w"})

    def reference(sample: Mapping[str, np.ndarray], steps: int) -> dict[str, Any]:
        w, rows = np.full(5, np.float32(0.4), np.float64), []
        for s in sample["S"][:steps].astype(np.float64):
            current = np.linalg.inv(np.eye(5) + constants["xi"] * omega @ np.diag(w)) @ omega @ s
            w = np.clip(w + constants["dt"] * (constants["alpha"] * w - current / constants["beta"]), 0, 1)
            rows.append(w)
        return {"w": np.array(rows)}

    return Case("memristive_network", program, {"S": series(40, 5)}, reference, integer=False)
