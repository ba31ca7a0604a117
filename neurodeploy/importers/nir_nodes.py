"""What each kind of NIR node computes in a tick, on vectors: convolutions and pools become matrices.

A rule takes the builder, the node, its input (one vector), that input's shape and how the file is read; it gives the
node's output and its shape. Equations: the docstrings of NIR 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError, UnsupportedError
from neurodeploy.ir.build import Builder, Sym

Shape = tuple[int, ...]
#: Entries of a matrix that a convolution may become: 256 MB.
LARGEST = 1 << 26
LONGEST_DELAY = 1024


@dataclass(frozen=True)
class Node:
    """A node by its dotted name; ``data``: the object of the package ``nir``; ``word``: its name in the IR."""

    name: str
    kind: str
    data: Any
    word: str = ""


@dataclass(frozen=True)
class Reading:
    """How a file is read: seconds a tick, ``"euler"`` or ``"exponential"``, ``"value"`` or ``"subtract"``, its name."""

    dt: float
    method: str
    reset: str
    place: str

    def keep(self, tau: Any, node: Node, n: int) -> np.ndarray:
        """What a time constant keeps a tick [n]. Raises :class:`ModelError` for one that Euler's method can't step."""
        constants = vector(tau, n, node, self)
        if not (constants > 0).all():
            raise self.wrong(node, f"a time constant is {constants.min():.3g} s; needed more than 0")
        if self.method == "exponential":
            return np.exp(-self.dt / constants)
        if (constants < self.dt * (1 - 1e-9)).any():
            raise self.wrong(node, f"a time constant of {constants.min():.3g} s is shorter than dt, {self.dt:.3g} s",
                             "Read it with a smaller dt, or method='exponential'.")  # fmt: skip
        return 1.0 - self.dt / constants

    def wrong(self, node: Node, what: str, hint: str = "Check the file.") -> ModelError:
        """An error about a node."""
        return ModelError(f"{what}.", place=f"{self.place}: node '{node.name}' ({node.kind})", hint=hint)


#: Fields that may be infinite: a neuron that forgets nothing, or never fires.
ENDLESS = ("tau", "tau_mem", "v_threshold", "threshold")


def check_numbers(node: Node, reading: Reading) -> None:
    """Raises :class:`ModelError` for a parameter that isn't a number."""
    for field, value in vars(node.data).items():
        array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic, float)) else None
        if array is None or array.dtype.kind != "f":
            continue
        bad = np.isnan(array) if field in ENDLESS else ~np.isfinite(array)
        if bad.any():
            raise reading.wrong(node, f"{field} has {int(bad.sum())} values that are {array[bad].ravel()[0]}")


def vector(value: Any, n: int, node: Node, reading: Reading) -> np.ndarray:
    """A parameter as float64[n]."""
    array = np.asarray(value, np.float64).ravel()
    if array.size not in (1, n):
        raise reading.wrong(node, f"a parameter has {array.size} values, its input {n}")
    return np.broadcast_to(array, (n,))


def scaled(b: Builder, name: str, x: Sym, factor: np.ndarray) -> Sym:
    """``factor x``; without a product where all factors are 1 in float32."""
    single = factor.astype(np.float32)
    return x if (single == 1).all() else b.param(name, single) * x


def shifted(b: Builder, name: str, x: Sym, offset: np.ndarray) -> Sym:
    """``x + offset``, without a sum where it is 0."""
    return x if not offset.any() else x + b.param(name, offset.astype(np.float32))


def _identity(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    return x, shape


def _matrix(b: Builder, node: Node, x: Sym, weight: np.ndarray, reading: Reading) -> Sym:
    if weight.ndim != 2 or weight.shape[1] != x.shape[0]:
        raise reading.wrong(node, f"weights {list(weight.shape)} don't fit an input of {x.shape[0]}")
    return b("matmul", b.param(f"{node.word}_weight", weight.astype(np.float32)), x)


def _linear(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    y = _matrix(b, node, x, np.asarray(node.data.weight), reading)
    if node.kind == "Affine":
        y = shifted(b, f"{node.word}_bias", y, vector(node.data.bias, y.shape[0], node, reading))
    return y, y.shape


def _scale(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    return scaled(b, f"{node.word}_scale", x, vector(node.data.scale, x.shape[0], node, reading)), shape


def _fires(b: Builder, name: str, u: Sym, threshold: np.ndarray) -> tuple[Sym, Sym]:
    """Whether ``u > threshold``, and that as 0 or 1."""
    fires = b("lt", b.param(f"{name}_threshold", threshold.astype(np.float32)), u)
    zero, one = (b("broadcast", b.const(v), shape=list(u.shape)) for v in (0.0, 1.0))
    return fires, b("select", fires, one, zero)


def _threshold(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    return _fires(b, node.word, x, vector(node.data.threshold, x.shape[0], node, reading))[1], shape


def _flatten(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    first, last = int(node.data.start_dim), int(node.data.end_dim)
    if not all(-len(shape) <= d < len(shape) for d in (first, last)):
        raise reading.wrong(node, f"it flattens axes {first} to {last} of an input of shape {list(shape)}")
    first, last = first % len(shape), last % len(shape)
    return x, (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])


def _delay(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    """A chain of states; a delay is rounded to whole ticks."""
    ticks = np.rint(vector(node.data.delay, x.shape[0], node, reading) / reading.dt).astype(int)
    if ticks.min() < 0 or ticks.max() > LONGEST_DELAY:
        raise reading.wrong(node, f"a delay of {ticks.min()}..{ticks.max()} ticks; needed 0 to {LONGEST_DELAY}")
    chain = [x]
    for age in range(1, int(ticks.max()) + 1):
        state = b.state(f"{node.word}_{age}", x.shape)
        b.next(state, chain[-1])
        chain.append(state)
    if ticks.min() == ticks.max():
        return chain[ticks[0]], shape
    parts = [chain[t] * b.param(f"{node.word}_is_{t}", (ticks == t).astype(np.float32)) for t in np.unique(ticks)]
    total = parts[0]
    for more in parts[1:]:
        total = total + more
    return total, shape


def _filtered(b: Builder, name: str, x: Sym, keep: np.ndarray, gain: np.ndarray, rest: np.ndarray) -> tuple[Sym, Sym]:
    """``v' = keep v + gain x + rest``: the state v, and v'."""
    v = b.state(f"{name}_v", x.shape)
    decayed = v if (keep.astype(np.float32) == 1).all() else b.param(f"{name}_keep", keep.astype(np.float32)) * v
    return v, shifted(b, f"{name}_rest", decayed + scaled(b, f"{name}_gain", x, gain), rest)


def _neuron(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    """I, LI, CubaLI and the ones that fire: IF, LIF, CubaLIF."""
    data, name, n = node.data, node.word, x.shape[0]
    if node.kind.startswith("Cuba"):
        keep = reading.keep(data.tau_syn, node, n)
        gain = (1.0 - keep) * vector(data.w_in, n, node, reading)
        i, x = _filtered(b, f"{name}_synapse", x, keep, gain, np.zeros(n))
        b.next(i, x)
    r = vector(data.r, n, node, reading)
    if node.kind in ("I", "IF"):
        keep, gain, rest = np.ones(n), reading.dt * r, np.zeros(n)
    else:
        tau = data.tau_mem if node.kind.startswith("Cuba") else data.tau
        keep = reading.keep(tau, node, n)
        gain, rest = (1.0 - keep) * r, (1.0 - keep) * vector(data.v_leak, n, node, reading)
    v, u = _filtered(b, name, x, keep, gain, rest)
    if node.kind in ("I", "LI", "CubaLI"):
        b.next(v, u)
        return u, shape
    threshold = vector(data.v_threshold, n, node, reading)
    fires, spikes = _fires(b, name, u, threshold)
    resting = vector(data.v_reset, n, node, reading).astype(np.float32)
    after = u - b.param(f"{name}_step", threshold.astype(np.float32)) if reading.reset == "subtract" else (
        b.param(f"{name}_reset", resting))  # fmt: skip
    b.next(v, b("select", fires, after, u))
    return spikes, shape


def _convolution(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    """Conv1d and Conv2d as a matrix, found by convolving every unit vector of an input channel."""
    data, dims = node.data, 1 if node.kind == "Conv1d" else 2
    weight = np.asarray(data.weight, np.float64)
    if len(shape) != dims + 1:
        raise reading.wrong(node, f"its input has shape {list(shape)}; needed {dims + 1} axes")
    if weight.ndim != dims + 2:
        raise reading.wrong(node, f"weights have {weight.ndim} axes; needed {dims + 2}")
    stride, dilation = _whole(node, "stride", dims, 1, reading), _whole(node, "dilation", dims, 1, reading)
    words = data.padding.decode() if isinstance(data.padding, bytes) else data.padding  # files hold bytes
    if isinstance(words, str):
        spans = [(k - 1) * d for k, d in zip(weight.shape[2:], dilation, strict=True)]
        padding = tuple((s // 2, s - s // 2) if words == "same" else (0, 0) for s in spans)
    else:
        padding = tuple((p, p) for p in _whole(node, "padding", dims, 0, reading))
    matrix, out = _unrolled(weight, shape, stride, padding, dilation, int(data.groups), node, reading)
    y = _matrix(b, node, x, matrix, reading)
    bias = np.repeat(vector(data.bias, out[0], node, reading), int(np.prod(out[1:])))
    return shifted(b, f"{node.word}_bias", y, bias), out


def _pool(b: Builder, node: Node, x: Sym, shape: Shape, reading: Reading) -> tuple[Sym, Shape]:
    """SumPool2d and AvgPool2d: a convolution of each channel with ones."""
    if len(shape) != 3:
        raise reading.wrong(node, f"its input has shape {list(shape)}; needed 3 axes")
    size, stride = _whole(node, "kernel_size", 2, 1, reading), _whole(node, "stride", 2, 1, reading)
    padding = _whole(node, "padding", 2, 0, reading)
    value = 1.0 / np.prod(size) if node.kind == "AvgPool2d" else 1.0
    weight = np.full((shape[0], 1, *size), value)
    spread = tuple((p, p) for p in padding)
    matrix, out = _unrolled(weight, shape, stride, spread, (1, 1), shape[0], node, reading)
    return _matrix(b, node, x, matrix, reading), out


def _whole(node: Node, field: str, dims: int, least: int, reading: Reading) -> tuple[int, ...]:
    """A field as ``dims`` whole numbers of at least ``least``."""
    found = np.asarray(getattr(node.data, field)).ravel()
    if found.size not in (1, dims) or found.dtype.kind not in "iuf" or not (found >= least).all():
        raise reading.wrong(node, f"{field} is {found.tolist()}; needed {dims} whole numbers of at least {least}")
    return tuple(int(v) for v in np.broadcast_to(found, (dims,)))


def _unrolled(
    weight: np.ndarray, shape: Shape, stride: Shape, padding: tuple[tuple[int, int], ...], dilation: Shape, groups: int,
    node: Node, reading: Reading,
) -> tuple[np.ndarray, Shape]:  # fmt: skip
    """A convolution's matrix ``[outputs, inputs]`` and the shape of its output ``[channels, ...]``."""
    kernel = weight.shape[2:]
    sizes = tuple((s + sum(p) - d * (k - 1) - 1) // st + 1
                  for s, p, d, k, st in zip(shape[1:], padding, dilation, kernel, stride, strict=True))  # fmt: skip
    channels, per_group = weight.shape[0], weight.shape[1]
    if groups < 1 or min(sizes) < 1 or per_group * groups != shape[0] or channels % groups:
        raise reading.wrong(node, f"weights {list(weight.shape)} in {groups} groups don't fit an input {list(shape)}")
    rows, columns = channels * int(np.prod(sizes)), int(np.prod(shape))
    if rows * columns > LARGEST:
        raise UnsupportedError(
            f"as a matrix it has {rows} x {columns} entries; at most {LARGEST} are taken.",
            place=f"{reading.place}: node '{node.name}' ({node.kind})",
            hint="Use a smaller image.",
        )
    matrix = np.zeros((channels, *sizes, *shape))
    for where in np.ndindex(*sizes):
        for tap in np.ndindex(*kernel):
            at = [w * s + t * d - p[0] for w, s, t, d, p in zip(where, stride, tap, dilation, padding, strict=True)]
            if all(0 <= a < s for a, s in zip(at, shape[1:], strict=True)):
                for group in range(groups):
                    outs = slice(group * channels // groups, (group + 1) * channels // groups)
                    ins = slice(group * per_group, (group + 1) * per_group)
                    matrix[(outs, *where, ins, *at)] += weight[(outs, slice(None), *tap)]
    return matrix.reshape(rows, columns), (channels, *sizes)


Rule = Callable[[Builder, Node, Sym, Shape, Reading], tuple[Sym, Shape]]
RULES: Mapping[str, Rule] = {
    "Identity": _identity,
    "Linear": _linear,
    "Affine": _linear,
    "Scale": _scale,
    "Threshold": _threshold,
    "Flatten": _flatten,
    "Delay": _delay,
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    **dict.fromkeys(("I", "LI", "CubaLI", "IF", "LIF", "CubaLIF"), _neuron),
}
#: Nodes that fire.
SPIKING = ("IF", "LIF", "CubaLIF", "Threshold")
#: Nodes in front of which a circle may be cut.
STATEFUL = ("IF", "LIF", "CubaLIF", "I", "LI", "CubaLI", "Delay")
