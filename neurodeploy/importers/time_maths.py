"""Arithmetic of a traced program: elementwise ops, products, reductions over features and over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.time_axes import UNIT, Axes, describe, feature, join, shape_of
from neurodeploy.importers.time_core import Operand, placed
from neurodeploy.importers.time_moves import Moves
from neurodeploy.importers.time_nodes import Node, Tensor
from neurodeploy.ir.cells import ACTIVATIONS
from neurodeploy.ir.op import kind_of
from neurodeploy.ir.types import TensorType

REDUCTIONS = ("sum", "mean", "max", "min", "prod")


class Maths(Moves):
    """The arithmetic of :class:`neurodeploy.importers.time.Tracer`."""

    @placed
    def pointwise(self, op: str, *operands: Operand, **attrs: Any) -> Tensor:
        """An elementwise primitive of the IR, broadcast as NumPy does. Whole numbers meet floats as floats."""
        tensors = [self.lift(o) for o in operands]
        axes = join([t.axes for t in tensors])
        for t in tensors:
            self._unpadded(t)
        nodes = [self.aligned(t, axes) for t in tensors]
        if op == "add" and (merged := self._biased(*nodes)) is not None:
            return Tensor(merged, axes)
        return Tensor(self.primitive(op, *self._same_dtype(op, nodes), **attrs), axes)

    def _unpadded(self, x: Tensor) -> None:
        if x.time is not None and x.time.lead > 0:
            raise UnsupportedError(
                "a padded time axis is used before the convolution that it is padded for.",
                hint="Pad right before the convolution.",
            )

    def _same_dtype(self, op: str, nodes: Sequence[Node]) -> list[Node]:
        """Casts so that a primitive's arguments are of one dtype; a select's condition stays bool."""
        skip = 1 if op == "select" else 0
        rest = list(nodes[skip:])
        dtypes = {n.type.dtype for n in rest}
        if len(dtypes) > 1:
            wanted = "f32" if "f32" in dtypes else "i32"
            rest = [n if n.type.dtype == wanted else self.primitive("cast", n, to=wanted) for n in rest]
        return [*nodes[:skip], *rest]

    def _biased(self, a: Node, b: Node) -> Node | None:
        """A product plus a constant vector is one linear layer with a bias."""
        if b.op == "linear":
            a, b = b, a
        if a.op != "linear" or len(a.args) != 2 or b.data is None or b.type.dtype != "f32":
            return None
        shape = a.type.shape
        if len(shape) != 1 or b.type.shape not in ((), (1,), shape):
            return None
        bias = self.constant(np.broadcast_to(b.data, shape), name=f"{a.name}_bias").node
        return self._add("linear", [*a.args, bias], {}, a.type, a.domain, name=a.name)

    @placed
    def activation(self, name: str, x: Operand, alpha: float | None = None, beta: float | None = None) -> Tensor:
        """An activation of :data:`neurodeploy.ir.cells.ACTIVATIONS`, with its own numbers where given."""
        x = self.lift(x)
        _, default_alpha, default_beta = ACTIVATIONS[name]
        numbers = [default_alpha if alpha is None else float(alpha), default_beta if beta is None else float(beta)]
        if x.dtype != "f32":
            raise UnsupportedError(f"{name} of {x.dtype} is not defined; needed float.")
        self._unpadded(x)
        attrs = {"activation": name if numbers == [default_alpha, default_beta] else [name, *numbers]}
        return Tensor(self._add("activation", [x.node], attrs, x.node.type, x.node.domain), x.axes)

    # -- products ------------------------------------------------------------------------------------------------------

    @placed
    def linear(self, x: Tensor, W: Operand, bias: Operand | None = None) -> Tensor:
        """``x W^T + bias`` over the last axis, which is a feature axis: ``W[n, k]``, ``bias[n]``."""
        W = self.lift(W, "W")
        if W.data is None or W.data.ndim != 2 or W.dtype != "f32" or x.dtype != "f32":
            raise UnsupportedError(
                f"a linear layer needs float inputs and constant weights [n, k]; {W.node.type} given."
            )
        if not x.axes or x.axes[-1].label != "feature":
            raise UnsupportedError(f"a product runs over the last axis of {describe(x.axes)}; needed a feature axis.")
        n, k = W.data.shape
        shape = x.node.type.shape
        if shape[-1] != k:
            raise UnsupportedError(f"a product of {shape[-1]} features with weights for {k}.")
        args = [self.shaped(x.node, [x.node.type.size // k, k] if len(shape) > 2 else shape), W.node]
        if bias is not None:
            args.append(self._bias(bias, n))
        type_ = TensorType((*args[0].type.shape[:-1], n), "f32")
        node = self._add("linear", args, {}, type_, x.node.domain)
        return Tensor(self.shaped(node, (*shape[:-1], n)), (*x.axes[:-1], feature(n)))

    def _bias(self, bias: Operand, n: int) -> Node:
        bias = self.lift(bias, "bias")
        if bias.data is None or bias.dtype != "f32" or bias.data.size not in (1, n):
            raise UnsupportedError(f"a bias of {bias.node.type} for {n} results; needed constant f32[{n}].")
        return bias.node if bias.data.shape == (n,) else self.constant(np.broadcast_to(bias.data.ravel(), (n,))).node

    @placed
    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """``numpy.matmul`` where it runs over features; batch and time lead."""
        if b.data is not None and b.data.ndim == 2:
            return self.linear(a, b.data.T)
        if b.data is not None and b.data.ndim == 1:
            return self.squeeze(self.linear(a, b.data[None]), [-1])
        if any(x.label != "feature" for x in (*a.axes[-2:], *b.axes[-2:])) or min(a.rank, b.rank) < 2:
            raise UnsupportedError(
                f"a product of {describe(a.axes)} and {describe(b.axes)}, neither constant, runs over batch or time.",
                hint="Attention over a whole sequence can't be run step by step.",
            )
        lead = join([a.axes[:-2] or (UNIT,), b.axes[:-2] or (UNIT,)])
        if shape_of(lead) not in ((), (1,)):
            raise UnsupportedError(f"a product of {describe(a.axes)} and {describe(b.axes)} has leading feature axes.")
        left, right = self.shaped(a.node, a.node.type.shape[-2:]), self.shaped(b.node, b.node.type.shape[-2:])
        axes = (*lead, a.axes[-2], b.axes[-1])
        node = self.primitive("matmul", left, right)
        return Tensor(self.shaped(node, shape_of(axes)), axes)

    # -- along axes ----------------------------------------------------------------------------------------------------

    @placed
    def reduce(self, kind: str, x: Tensor, axes: Sequence[int], keepdims: bool = False) -> Tensor:
        """``sum``, ``mean``, ``max``, ``min`` or ``prod`` over features (a primitive) and time (a running state)."""
        if kind not in REDUCTIONS:
            raise UnsupportedError(f"there is no reduction '{kind}'; there are {', '.join(REDUCTIONS)}.")
        chosen = sorted({self.axis_number(x, a) for a in axes})
        for i in chosen:
            if x.axes[i].label in ("batch", "merged"):
                raise UnsupportedError(
                    f"{kind} over the {x.axes[i].label} axis mixes samples.", hint="Reduce over time or features."
                )
        node, left = x.node, list(x.axes)
        if any(x.axes[i].label == "time" for i in chosen):
            node = self._over_time(kind, x)
        for i in reversed(chosen):
            if x.axes[i].label == "feature":
                node = self._over_features(kind, node, self.feature_index(x.axes, i))
            left[i] = UNIT
        result: Axes = tuple(a for i, a in enumerate(left) if keepdims or i not in chosen)
        return Tensor(self.shaped(node, shape_of(result)), result)

    def _over_features(self, kind: str, node: Node, axis: int) -> Node:
        """Reduce one axis, keeping it with size 1."""
        if kind == "min":
            return self.primitive("neg", self._over_features("max", self.primitive("neg", node), axis))
        if kind == "mean":
            total = self._over_features("sum", node, axis)
            return self.primitive("mul", total, self.lift(1.0 / node.type.shape[axis]).node)
        return self.primitive("reduce_max" if kind == "max" else kind, node, axis=axis, keepdims=True)

    def _over_time(self, kind: str, x: Tensor) -> Node:
        if kind == "prod" or kind_of(x.node.type) != "float":
            raise UnsupportedError(f"{kind} of {x.dtype} over time is not supported.", hint="Use sum, mean or max.")
        node = self.as_series(x)
        if kind == "min":
            flipped = self.primitive("neg", node)
            return self.primitive("neg", self._add("accumulate", [flipped], {"kind": "max"}, node.type, None))
        return self._add("accumulate", [node], {"kind": kind}, node.type, None)

    def _feature_axis(self, x: Tensor, axis: int, what: str) -> tuple[int, int]:
        axis = self.axis_number(x, axis)
        if x.axes[axis].label != "feature":
            raise UnsupportedError(
                f"{what} over the {x.axes[axis].label} axis.",
                hint="It needs the whole sequence at once; use it over features, or pool over time.",
            )
        return axis, self.feature_index(x.axes, axis)

    @placed
    def softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        """Softmax over a feature axis."""
        _, at = self._feature_axis(x, axis, "softmax")
        return Tensor(self.primitive("softmax", x.node, axis=at), x.axes)

    @placed
    def log_softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        """``x - max - log(sum(exp(x - max)))`` over a feature axis."""
        axis, _ = self._feature_axis(x, axis, "log_softmax")
        shifted = self.pointwise("sub", x, self.reduce("max", x, [axis], keepdims=True))
        total = self.reduce("sum", self.pointwise("exp", shifted), [axis], keepdims=True)
        return self.pointwise("sub", shifted, self.pointwise("log", total))

    @placed
    def argmax(self, x: Tensor, axis: int = -1, keepdims: bool = False) -> Tensor:
        """Index of the largest along a feature axis (the first of equals), i32."""
        axis, at = self._feature_axis(x, axis, "argmax")
        axes = (*x.axes[:axis], *((UNIT,) if keepdims else ()), *x.axes[axis + 1 :])
        return Tensor(self.primitive("argmax", x.node, axis=at, keepdims=keepdims), axes)

    @placed
    def layer_norm(
        self, x: Tensor, axes: Sequence[int], scale: Operand | None, bias: Operand | None, epsilon: float
    ) -> Tensor:
        """``(x - mean) / sqrt(var + epsilon) * scale + bias`` over feature axes (Ba et al. 2016)."""
        for axis in axes:
            self._feature_axis(x, axis, "layer normalisation")
        centred = self.pointwise("sub", x, self.reduce("mean", x, axes, keepdims=True))
        variance = self.reduce("mean", self.pointwise("mul", centred, centred), axes, keepdims=True)
        y = self.pointwise("div", centred, self.pointwise("sqrt", self.pointwise("add", variance, float(epsilon))))
        y = y if scale is None else self.pointwise("mul", y, scale)
        return y if bias is None else self.pointwise("add", y, bias)


__all__ = ["Maths"]
