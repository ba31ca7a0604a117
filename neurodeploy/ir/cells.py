"""Recurrent cells as composites: a name, attributes and a body in primitives, and the body is their meaning.

A cell is a function of a builder, its arguments' symbols and its attributes that returns its results by name. Weight
matrices multiply from the left, ``W[n, inputs] @ x``; gates stand stacked along axis 0 in the order that the docstring
gives. An ``activation`` is a name (``"tanh"``) or ``[name, alpha, beta]``, from :data:`ACTIVATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, nearest
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Graph
from neurodeploy.ir.tflite.lstm import tflite_lstm
from neurodeploy.ir.tflite.svdf import tflite_svdf
from neurodeploy.ir.types import TensorType

Results = dict[str, Sym]
Cell = Callable[..., Results]


def _plain(op: str) -> Callable[..., Sym]:
    return lambda b, x, alpha=0.0, beta=0.0: b(op, x)


def _elu(b: Builder, x: Sym, alpha: float, beta: float) -> Sym:
    return b("select", x < 0.0, alpha * (b("exp", b("min", x, 0.0)) - 1.0), x)


def _hard_sigmoid(b: Builder, x: Sym, alpha: float, beta: float) -> Sym:
    return b("max", b("min", alpha * x + beta, 1.0), 0.0)


#: name -> (function(builder, x, alpha, beta), default alpha, default beta); formulas as in the ONNX operator spec.
ACTIVATIONS: Mapping[str, tuple[Callable[..., Sym], float, float]] = {
    "tanh": (_plain("tanh"), 0.0, 0.0),
    "sigmoid": (_plain("sigmoid"), 0.0, 0.0),
    "relu": (_plain("relu"), 0.0, 0.0),
    "softplus": (_plain("softplus"), 0.0, 0.0),
    "identity": (lambda b, x, alpha, beta: x, 0.0, 0.0),
    "affine": (lambda b, x, alpha, beta: alpha * x + beta, 1.0, 0.0),
    "leaky_relu": (lambda b, x, alpha, beta: b("select", x < 0.0, alpha * x, x), 0.01, 0.0),
    "thresholded_relu": (lambda b, x, alpha, beta: b("select", x < alpha, b.const(0.0), x), 1.0, 0.0),
    "scaled_tanh": (lambda b, x, alpha, beta: alpha * b("tanh", beta * x), 1.0, 1.0),
    "hard_sigmoid": (_hard_sigmoid, 0.2, 0.5),
    "elu": (_elu, 1.0, 0.0),
    "softsign": (lambda b, x, alpha, beta: x / (1.0 + b("abs", x)), 0.0, 0.0),
    "sign": (lambda b, x, alpha, beta: b("select", x < 0.0, b.const(-1.0), b.const(1.0)), 0.0, 0.0),
}


def activate(b: Builder, activation: str | Sequence[Any], x: Sym) -> Sym:
    """Apply an activation. Raises :class:`IRError` naming the nearest one."""
    name, *numbers = [activation] if isinstance(activation, str) else activation
    if name not in ACTIVATIONS:
        raise IRError(f"there is no activation '{name}'.", hint=nearest(str(name), ACTIVATIONS))
    function, alpha, beta = ACTIVATIONS[name]
    given = [
        float(default if n is None else n) for n, default in zip([*numbers, None, None], (alpha, beta), strict=False)
    ]
    return function(b, x, *given)


def clip_to(b: Builder, x: Sym, clip: float | None) -> Sym:
    """``x`` limited to [-clip, clip], or as it is for None."""
    return x if clip is None else b("max", b("min", x, float(clip)), -float(clip))


def elman(
    b: Builder, x: Sym, h: Sym, W: Sym, U: Sym, bias: Sym, *, activation: Any = "tanh", clip: Any = None
) -> Results:
    """``h' = f(W x + U h + b)`` (Elman 1990)."""
    return {"h": activate(b, activation, clip_to(b, W @ x + U @ h + bias, clip))}


def jordan(
    b: Builder, x: Sym, s: Sym, W: Sym, U: Sym, bias: Sym, V: Sym, c: Sym,
    *, activation: Any = "tanh", out_activation: Any = "identity", decay: float = 0.0,
) -> Results:  # fmt: skip
    """``y = g(V f(W x + U s + b) + c)``, context ``s' = decay s + y`` (Jordan 1986)."""
    hidden = activate(b, activation, W @ x + U @ s + bias)
    y = activate(b, out_activation, V @ hidden + c)
    return {"y": y, "s": decay * s + y if decay else y}


def lstm(
    b: Builder, x: Sym, h: Sym, c: Sym, W: Sym, U: Sym, bias: Sym, *more: Sym,
    peephole: bool = False, projection: bool = False, activations: Sequence[Any] = ("sigmoid", "tanh", "tanh"),
    clip: Any = None, input_forget: bool = False,
) -> Results:  # fmt: skip
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers 2000); gates stacked i, f, g, o::

        i, f, o = F(W x + U h + b + P c)   (the peephole of o sees c')
        g = G(W x + U h + b);  c' = f c + i g;  h' = o H(c')

    ``peephole`` adds an argument p[3n] (for i, f, o), ``projection`` one R[m, n]: ``h' = R (o H(c'))``.
    ``input_forget`` couples ``f = 1 - i``. ``clip`` limits the gates' inputs.
    """
    extra = list(more)
    p_i, p_f, p_o = extra.pop(0).split(3) if peephole else (None, None, None)
    gate, cell, out = activations
    z_i, z_f, z_g, z_o = (W @ x + U @ h + bias).split(4)
    i = activate(b, gate, clip_to(b, z_i if p_i is None else z_i + p_i * c, clip))
    f = 1.0 - i if input_forget else activate(b, gate, clip_to(b, z_f if p_f is None else z_f + p_f * c, clip))
    g = activate(b, cell, clip_to(b, z_g, clip))
    new_c = f * c + i * g
    o = activate(b, gate, clip_to(b, z_o if p_o is None else z_o + p_o * new_c, clip))
    new_h = o * activate(b, out, new_c)
    return {"h": extra.pop(0) @ new_h if projection else new_h, "c": new_c}


def gru(
    b: Builder, x: Sym, h: Sym, W: Sym, U: Sym, bias: Sym, *more: Sym,
    reset_after: bool = True, update: str = "keep", activations: Sequence[Any] = ("sigmoid", "tanh"), clip: Any = None,
) -> Results:  # fmt: skip
    """Gated recurrent unit (Cho 2014); gates stacked r, z, n::

    r, z = F(W x + U h + b)
    n = G(W x + b + r (U h + u))   reset_after: with a second bias u[n], an extra argument
    n = G(W x + b + U (r h))       otherwise
    h' = (1 - z) n + z h           update "keep": PyTorch, ONNX, Keras
    h' = (1 - z) h + z n           update "replace": Cho's own polarity
    """
    n_units = h.shape[0]
    W_rz, W_n = W.slice(0, 2 * n_units), W.slice(2 * n_units, 3 * n_units)
    U_rz, U_n = U.slice(0, 2 * n_units), U.slice(2 * n_units, 3 * n_units)
    b_rz, b_n = bias.slice(0, 2 * n_units), bias.slice(2 * n_units, 3 * n_units)
    gate, cell = activations
    r, z = activate(b, gate, clip_to(b, W_rz @ x + U_rz @ h + b_rz, clip)).split(2)
    if reset_after:
        recurrent = U_n @ h + more[0] if more else U_n @ h
        n = activate(b, cell, clip_to(b, W_n @ x + b_n + r * recurrent, clip))
    else:
        n = activate(b, cell, clip_to(b, W_n @ x + U_n @ (r * h) + b_n, clip))
    if update not in ("keep", "replace"):
        raise IRError(f"gru's update is 'keep' or 'replace', not '{update}'.")
    old, new = (h, n) if update == "keep" else (n, h)
    return {"h": (1.0 - z) * new + z * old}


def indrnn(b: Builder, x: Sym, h: Sym, W: Sym, u: Sym, bias: Sym, *, activation: Any = "relu") -> Results:
    """``h' = f(W x + u h + b)`` with one recurrent weight a unit, u[n] (Li et al. 2018)."""
    return {"h": activate(b, activation, W @ x + u * h + bias)}


def leaky(b: Builder, x: Sym, h: Sym, W: Sym, U: Sym, bias: Sym, leak: Sym, *, activation: Any = "tanh") -> Results:
    """Leaky integrator, the echo state network's reservoir: ``h' = (1 - leak) h + leak f(W x + U h + b)``.

    ``leak`` is ``f32[]`` or one a unit ``f32[n]`` (Jaeger et al. 2007).
    """
    new = activate(b, activation, W @ x + U @ h + bias)
    return {"h": h + leak * (new - h)}


def ctrnn(b: Builder, current: Sym, y: Sym, W: Sym, theta: Sym, rate: Sym, *, activation: Any = "sigmoid") -> Results:
    """Continuous-time network ``tau y' = -y + W f(y - theta) + I`` (Beer 1995), one time step; also MTRNN (tau a unit).

    ``y' = y + rate (W f(y - theta) + I - y)`` with ``rate`` from :func:`ctrnn_rate`.
    """
    drive = W @ activate(b, activation, y - theta) + current
    return {"y": y + rate * (drive - y)}


def ctrnn_rate(tau: Any, dt: float, method: str = "euler") -> np.ndarray:
    """``rate`` of :func:`ctrnn` for time constants ``tau`` (s, scalar or ``[n]``) and step ``dt`` (s).

    ``"euler"``: dt/tau. ``"exponential"``: 1 - exp(-dt/tau), exact for a constant drive. Raises :class:`IRError`.
    """
    ratio = dt / np.asarray(tau, dtype=np.float64)
    if method == "euler":
        return ratio.astype(np.float32)
    if method == "exponential":
        return (-np.expm1(-ratio)).astype(np.float32)
    raise IRError(f"integration is 'euler' or 'exponential', not '{method}'.")


def hopfield(b: Builder, s: Sym, W: Sym, theta: Sym) -> Results:
    """One synchronous update ``s' = sign(W s - theta)``, a tie keeping the old value; whether s is a fixed point."""
    field = W @ s - theta
    up, down = 0.0 < field, field < 0.0
    new = b("select", up, b.const(1.0), b("select", down, b.const(-1.0), s))
    changed = b("sum", b("abs", new - s), axis=0)
    return {"s": new, "stable": b("eq", changed, b.const(0.0))}


def ntm_head(b: Builder, memory: Sym, w: Sym, key: Sym, strength: Sym, gate: Sym, shift: Sym, sharpen: Sym) -> Results:
    """Addressing of a neural Turing machine's head (Graves, Wayne and Danihelka 2014, section 3.3).

    memory[n, m], previous weighting w[n], key[m], strength >= 0, gate in [0, 1], shift[3] (for -1, 0, +1; sums to 1),
    sharpen >= 1. Results: weighting w'[n] and the read vector ``r = w' memory``.
    """
    n = memory.shape[0]
    dot = memory @ key
    norms = b("sqrt", b("sum", memory * memory, axis=1) * b("sum", key * key, axis=0) + 1e-8)
    content = b("softmax", strength * (dot / norms), axis=0)
    gated = gate * content + (1.0 - gate) * w
    rolled = [b("concat", gated.slice(n - s, n), gated.slice(0, n - s), axis=0) if s else gated for s in (n - 1, 0, 1)]
    taps = [b("reshape", tap, shape=[]) for tap in shift.split(3)]
    shifted = taps[0] * rolled[0] + taps[1] * rolled[1] + taps[2] * rolled[2]
    sharp = b("exp", sharpen * b("log", b("max", shifted, 1e-12)))
    weights = sharp / b("sum", sharp, axis=0)
    return {"w": weights, "r": weights @ memory}


def dnc_allocation(b: Builder, usage: Sym) -> Results:
    """Allocation weighting of a differentiable neural computer (Graves et al. 2016, Methods), without a sort.

    ``a_i = (1 - u_i) prod_j {u_j : u_j < u_i, or u_j = u_i and j < i}``: usage[n] in [0, 1].
    """
    n = usage.shape[0]
    row, column = b("reshape", usage, shape=[n, 1]), b("reshape", usage, shape=[1, n])
    earlier = b.const(np.tril(np.ones((n, n)), -1).astype(bool), dtype="bool")
    tie = b("min", b("eq", column, row), earlier)
    before = b("max", b("lt", column, row), tie)
    factors = b("select", before, b("broadcast", column, shape=[n, n]), b.const(1.0))
    return {"a": (1.0 - usage) * b("prod", factors, axis=1)}


def ctdv(b: Builder, w: Sym, S: Sym, omega: Sym, *, alpha: float, beta: float, xi: float, dt: float) -> Results:
    """One Euler step of a memristive network (Caravelli, Traversa and Di Ventra, Phys. Rev. E 95, 022140, 2017)::

        dw/dt = alpha w - (1/beta) (I + xi Omega W)^-1 Omega S,   0 <= w <= 1,  W = diag(w)

    w[n] memory, S[n] series voltage sources (V), omega[n, n] the projector on the circuit's cycles.
    """
    n = w.shape[0]
    system = b.const(np.eye(n)) + xi * (omega * b("reshape", w, shape=[1, n]))
    current = b("solve", system, omega @ S)
    new = w + dt * (alpha * w - (1.0 / beta) * current)
    return {"w": b("max", b("min", new, 1.0), 0.0)}


def lif(b: Builder, current: Sym, v: Sym, *, decay: float, threshold: float = 1.0, reset: str = "subtract") -> Results:
    """Leaky integrate-and-fire neuron in discrete time: ``u = decay v + I``; a spike where ``u >= threshold``.

    Reset ``"subtract"``: v' = u - threshold; ``"zero"``: v' = 0. Results: v' and spikes as 0 or 1.
    """
    u = decay * v + current
    quiet = u < threshold
    fired = u - threshold if reset == "subtract" else b.const(0.0)
    return {"v": b("select", quiet, u, fired), "spikes": b("select", quiet, b.const(0.0), b.const(1.0))}


def affine(b: Builder, *args: Sym) -> Results:
    """``y = W_1 x_1 + W_2 x_2 + ... + bias``; arguments W_1, x_1, W_2, x_2, ..., bias. Integers accumulate in i32."""
    *pairs, bias = args
    total = pairs[0] @ pairs[1]
    for i in range(2, len(pairs), 2):
        total = total + pairs[i] @ pairs[i + 1]
    return {"y": total + bias}


CELLS: Mapping[str, Cell] = {
    "affine": affine,
    "elman": elman,
    "jordan": jordan,
    "lstm": lstm,
    "gru": gru,
    "indrnn": indrnn,
    "leaky": leaky,
    "ctrnn": ctrnn,
    "hopfield": hopfield,
    "ntm_head": ntm_head,
    "dnc_allocation": dnc_allocation,
    "ctdv": ctdv,
    "lif": lif,
    "tflite_lstm": tflite_lstm,
    "tflite_svdf": tflite_svdf,
}


def body_of(cell: str, types: Sequence[TensorType], attrs: Mapping[str, Any]) -> Graph:
    """The body of a cell for arguments of these types. Raises :class:`IRError` for an unknown cell or attributes."""
    import inspect

    if cell not in CELLS:
        raise IRError(f"there is no cell '{cell}'.", hint=nearest(cell, CELLS))
    parameters = list(inspect.signature(CELLS[cell]).parameters.values())[1:]
    roles = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for key in attrs:
        if key not in known:
            raise IRError(f"{cell} has no attribute '{key}'.", hint=nearest(key, known))
    roles += [f"more{i}" for i in range(len(types) - len(roles))]
    builder = Builder()
    symbols = [builder.input(role, type_) for role, type_ in zip(roles, types, strict=False)]
    try:
        results = CELLS[cell](builder, *symbols, **attrs)
    except (TypeError, IndexError) as error:
        raise IRError(f"{cell} can't take {len(types)} arguments with {dict(attrs)}: {error}.") from error
    for name, symbol in results.items():
        builder.output(name, symbol)
    return builder.graph()
