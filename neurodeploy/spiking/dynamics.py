"""What a recurrent step computes, read off its primitives: affine maps and pointwise functions, whatever cell it was.

::

    a_m    = f_m(z_m)        layer m: a pointwise function of an affine map
    z_m    = affine in the input, the states and earlier layers
    state' = affine in the same;  output = affine in the same

An Elman, leaky, CTRNN, IndRNN, Jordan or stacked network is of this form, written as a composite or as primitives (a
PyTorch cell of one's own). A gated cell isn't: it multiplies two changing values, and is refused by the product's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Program, Stage, Value
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import TensorType

LINEAR = ("add", "sub", "neg", "concat", "reshape", "slice", "cast")


@dataclass(frozen=True)
class Form:
    """``sum_k matrices[k] @ k + offset`` over bases k (inputs, states, layers), float64: offset ``[n]``, matrices
    ``[n, size of k]``."""

    offset: np.ndarray
    matrices: Mapping[str, np.ndarray]

    def of(self, base: str, size: int) -> np.ndarray:
        """The matrix of a base, zeros where it takes no part."""
        return self.matrices.get(base, np.zeros((len(self.offset), size)))


@dataclass(frozen=True)
class Layer:
    """``a = f(z)``, unit by unit. ``value``: the name of its result in the graph; ``words``: its ops, for messages."""

    value: str
    z: Form
    words: str
    graph: Graph
    root: str

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.z.offset)

    def f(self, z: np.ndarray) -> np.ndarray:
        """The function of ``z [..., units]``, computed as the interpreter does, in float32."""
        flat = np.asarray(z, np.float32).reshape(-1, self.units)
        table: dict[str, np.ndarray] = {self.root: flat}
        types = self.graph.types()
        by_name = {v.name: v for v in self.graph.values}

        def get(name: str) -> np.ndarray:
            if name not in table:
                if name in self.graph.params:
                    table[name] = self.graph.params[name].data[None]
                else:
                    v = by_name[name]
                    args = [get(a) for a in v.args]
                    table[name] = OPS[v.op].eval(args, v.attrs, v.tensor, [types[a] for a in v.args])  # type: ignore[arg-type]
            return table[name]

        return np.broadcast_to(get(self.value), flat.shape).reshape(np.shape(z)).astype(np.float64)


@dataclass(frozen=True)
class Dynamics:
    """A step in this form. ``inputs`` and ``states``: name -> size; ``init``: state -> its start ``[n]``; ``next``:
    state -> its form; ``layers`` in the order of the graph; ``outputs``: name -> form. Sizes of layers are theirs."""

    stage: Stage
    inputs: Mapping[str, int]
    states: Mapping[str, int]
    init: Mapping[str, np.ndarray]
    next: Mapping[str, Form]
    layers: tuple[Layer, ...]
    outputs: Mapping[str, Form]

    def layer(self, name: str) -> Layer | None:
        """The layer of a base, or None for an input or a state."""
        return next((layer for layer in self.layers if layer.value == name), None)


def find(program: Program, backend: str, advice: str) -> Dynamics:
    """The dynamics of a program's only stage.

    ``advice``: what to use instead, for the errors. Raises :class:`UnsupportedError` naming the stage, the state or
    the value that doesn't fit.
    """
    from neurodeploy.passes import parse, run

    place = program.name
    if len(program.stages) != 1:
        raise UnsupportedError(
            f"{backend} converts one stage; this network has {len(program.stages)}.",
            place=f"{place}: stage '{program.stages[-1].name}'", hint=advice,
        )  # fmt: skip
    stage = run(program, parse("simplify,expand,simplify")).stages[0]
    place = f"{place}/{stage.name}"
    if stage.drive.kind != "forward" or stage.state_from:
        what = f"the drive is '{stage.drive.kind}'" if not stage.state_from else "a state starts from another stage"
        raise UnsupportedError(f"{what}; spikes run forward in time.", place=place, hint=advice)
    graph = stage.graph
    for state in graph.states:
        if state.when is not None or len(state.type.shape) != 1 or state.type.dtype != "f32":
            why = "holds under a condition" if state.when is not None else f"is {state.type}, needed a float vector"
            raise UnsupportedError(f"it {why}.", place=f"{place}: state %{state.name}", hint=advice)
    reader = _Reader(graph, backend, place, advice)
    following = {s.name: reader.form(s.next) for s in graph.states}
    outputs = {name: reader.form(value) for name, value in graph.outputs.items()}
    init = {s.name: np.zeros(s.type.size) if s.init is None else graph.params[s.init].data.astype(np.float64).ravel()
            for s in graph.states}  # fmt: skip
    order = [v.name for v in graph.values]
    layers = tuple(sorted(reader.layers.values(), key=lambda layer: order.index(layer.value)))
    return Dynamics(
        stage, {n: t.size for n, t in graph.inputs.items()}, {s.name: s.type.size for s in graph.states}, init,
        following, layers, outputs,
    )  # fmt: skip


class _Reader:
    """Forms of a graph's values, found where they are asked for."""

    def __init__(self, graph: Graph, backend: str, place: str, advice: str) -> None:
        self.graph, self.backend, self.place, self.advice = graph, backend, place, advice
        self.values = {v.name: v for v in graph.values}
        self.order = {v.name: i for i, v in enumerate(graph.values)}
        self.types = graph.types()
        self.layers: dict[str, Layer] = {}
        self._forms: dict[str, Form | None] = {}
        self._constants: dict[str, np.ndarray | None] = {n: p.data.astype(np.float64) for n, p in graph.params.items()}

    def form(self, name: str) -> Form:
        """The form of a value that is needed. Raises :class:`UnsupportedError` naming the value that has none."""
        found = self._form(name)
        if found is None:
            raise self._refusal(name)
        return found

    def _refusal(self, name: str) -> UnsupportedError:
        value = self._culprit(name)
        changing = sum(self.constant(a) is None for a in value.args)
        what = "multiplies two changing values" if value.op in ("mul", "matmul", "einsum") and changing > 1 else (
            "is neither an affine map nor a function of one unit at a time")  # fmt: skip
        return UnsupportedError(
            f"it {what}, which neurons that add up spikes can't; {self.backend} needs weights, sums and activations.",
            place=f"{self.place}: %{value.name} ({value.op})",
            hint=self.advice,
        )

    def _culprit(self, name: str) -> Value:
        """The earliest value without a form that this one is made of."""
        value = self.values[name]
        for arg in value.args:
            if arg in self.values and self.constant(arg) is None and self._form(arg) is None:
                return self._culprit(arg)
        return value

    def constant(self, name: str) -> np.ndarray | None:
        """A value that is the same in every step, as float64, or None."""
        if name not in self._constants:
            value = self.values.get(name)
            known = value is not None and value.op != "random" and all(self.constant(a) is not None for a in value.args)
            self._constants[name] = self._evaluate(value) if known and value is not None else None
        return self._constants[name]

    def _evaluate(self, value: Value) -> np.ndarray:
        types = [self.graph.tensor(a) for a in value.args]
        arrays = [np.asarray(self.constant(a))[None].astype(t.numpy) for a, t in zip(value.args, types, strict=True)]
        return np.asarray(OPS[value.op].eval(arrays, value.attrs, value.tensor, types)[0], np.float64)

    def _form(self, name: str) -> Form | None:
        if name not in self._forms:
            self._forms[name] = self._find(name)
        return self._forms[name]

    def _find(self, name: str) -> Form | None:
        constant = self.constant(name)
        if constant is not None:
            return Form(constant.ravel(), {}) if constant.ndim <= 1 else None
        type_ = self.types[name]
        if not isinstance(type_, TensorType) or type_.dtype != "f32" or len(type_.shape) > 1:
            return None
        if name not in self.values:
            return Form(np.zeros(type_.size), {name: np.eye(type_.size)})
        value = self.values[name]
        return self._affine(value) or self._pointwise(value)

    def _affine(self, value: Value) -> Form | None:
        """An affine op's form, if its changing arguments have one."""
        op, args, size = value.op, value.args, value.tensor.size
        constants = [self.constant(a) for a in args]
        if op in LINEAR:
            forms = [self._form(a) for a in args]
            known = [f for f in forms if f is not None]
            return _linear(value, known) if len(known) == len(forms) else None
        moving = [a for a, c in zip(args, constants, strict=True) if c is None]
        if op not in ("mul", "div", "matmul") or len(moving) != 1 or (op == "div" and constants[0] is not None):
            return None
        form = self._form(moving[0])
        factor = next(c for c in constants if c is not None)
        if form is None:
            return None
        if op == "matmul":
            weight = np.atleast_2d(factor.T if constants[0] is None else factor)
            return Form(weight @ form.offset, {k: weight @ m for k, m in form.matrices.items()})
        return _scaled(_wide(form, size), 1.0 / factor if op == "div" else factor)

    def _pointwise(self, value: Value) -> Form | None:
        """A value that is a function of one earlier affine value, unit by unit, as a layer."""
        seen = [value.name]
        for name in seen:
            seen += [
                a for a in self.values[name].args if a in self.values and a not in seen and self._elementwise(name)
            ]
        ends = {
            a for name in seen for a in self.values[name].args if a not in self.values and a not in self.graph.params
        }
        candidates = sorted(seen[1:], key=self.order.__getitem__, reverse=True) + sorted(ends)
        for root in candidates:
            fits = self.constant(root) is None and self._size(root) == value.tensor.size
            if fits and self._only(value.name, root):
                z = self._form(root)
                if z is not None:
                    self.layers[value.name] = Layer(value.name, z, self._words(value.name, root), self.graph, root)
                    return Form(np.zeros(value.tensor.size), {value.name: np.eye(value.tensor.size)})
        return None

    def _size(self, name: str) -> int:
        type_ = self.types[name]
        return type_.size if isinstance(type_, TensorType) else -1

    def _words(self, name: str, root: str) -> str:
        """The ops from a value back to its root: ``"tanh"``."""
        seen = [name]
        for n in seen:
            seen += [a for a in self.values[n].args if a in self.values and a not in (root, *seen)]
        return " of ".join(self.values[n].op for n in seen if self.values[n].op != "const")

    def _elementwise(self, name: str) -> bool:
        return name in self.values and OPS[self.values[name].op].elementwise and self.values[name].op != "cast"

    def _only(self, name: str, root: str) -> bool:
        if name == root or self.constant(name) is not None:
            return True
        return self._elementwise(name) and all(self._only(a, root) for a in self.values[name].args)


def _linear(value: Value, forms: list[Form]) -> Form:
    """The form of an op that is linear in all its arguments together."""
    op, size, first = value.op, value.tensor.size, forms[0]
    if op in ("add", "sub"):
        return _sum(_wide(first, size), _wide(forms[1], size), 1.0 if op == "add" else -1.0)
    if op == "concat":
        return _concat(forms)
    if op == "neg":
        return _scaled(first, np.asarray(-1.0))
    if op == "slice":
        part = slice(value.attrs.get("start"), value.attrs.get("stop"), value.attrs.get("step", 1))
        return Form(first.offset[part], {k: m[part] for k, m in first.matrices.items()})
    return first


def _wide(form: Form, size: int) -> Form:
    """A scalar as a vector."""
    if len(form.offset) == size:
        return form
    return Form(np.repeat(form.offset, size), {k: np.repeat(m, size, axis=0) for k, m in form.matrices.items()})


def _sum(a: Form, b: Form, sign: float) -> Form:
    matrices = dict(a.matrices)
    for key, matrix in b.matrices.items():
        matrices[key] = matrices[key] + sign * matrix if key in matrices else sign * matrix
    return Form(a.offset + sign * b.offset, matrices)


def _scaled(form: Form, factor: np.ndarray) -> Form:
    column = np.broadcast_to(factor, form.offset.shape)
    return Form(form.offset * column, {k: m * column[:, None] for k, m in form.matrices.items()})


def _concat(parts: Sequence[Form]) -> Form:
    widths = {k: m.shape[1] for f in parts for k, m in f.matrices.items()}
    return Form(
        np.concatenate([f.offset for f in parts]),
        {k: np.concatenate([f.of(k, width) for f in parts]) for k, width in widths.items()},
    )
