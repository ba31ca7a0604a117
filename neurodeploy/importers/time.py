"""From a whole-sequence tensor program to steps: a tracer that importers call op by op.

An importer walks the source's ops in order and calls one method for each. Every tensor's axes are labelled ``batch``,
``time`` or ``feature``; the tracer carries the labels on, and refuses what can't be run one step at a time, by node.
::

    tracer = Tracer("gru")
    x = tracer.input("x", ["batch", "time", "feature"], ["B", "T", 12])   # str: a size that isn't known
    tracer.at("gru (GRU)", "gru")                   # where errors are, and what values are named after
    y = tracer.rnn("gru", x, [W, U, bias, u], [None], sizes=[32], attrs={"reset_after": True})
    tracer.at("fc (Gemm)", "fc")
    out = tracer.linear(tracer.take(y.series[0], axis=1, index=-1), fc_weight, fc_bias)
    program = tracer.finish({"logits": out})        # or finish(..., meta={...})

Methods, all with the *source's* axes and NumPy's broadcasting (axis numbers may be negative):

- leaves: ``input``, ``constant(array)``
- elementwise: ``pointwise(primitive, *tensors_or_numbers, **attrs)``, ``activation(name, x, alpha, beta)``
- products: ``linear(x, W[n, k], bias)``, ``matmul(a, b)``
- along axes: ``reduce(sum|mean|max|min|prod, x, axes, keepdims)`` (over features: a primitive; over time: a state),
  ``argmax``, ``softmax``, ``log_softmax``, ``layer_norm``
- shape: ``transpose(x, perm)``, ``reshape(x, sizes)``, ``squeeze``, ``unsqueeze``, ``expand(x, sizes)``, ``concat``,
  ``slice(x, axis, start, stop, step)``, ``take(x, axis, index)`` (over time: the first or last step),
  ``gather(table, ids)`` (embedding)
- recurrent: ``rnn(cell, x, weights, initial, ...)``, ``conv(x, W, bias, ...)`` with ``pad_time``
- ``finish(outputs, meta) -> Program``: forms the stages (:mod:`neurodeploy.importers.time_stages`).

Sizes may be :class:`~neurodeploy.importers.time_axes.Dim`: ``tensor.shape`` gives them, plain arithmetic works on them.
Everything refused raises :class:`UnsupportedError` with the place given to ``at``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from neurodeploy.errors import UnsupportedError, nearest
from neurodeploy.importers.time_axes import Axes, Axis, Dim, Size, describe, feature
from neurodeploy.importers.time_core import Operand, placed
from neurodeploy.importers.time_maths import Maths
from neurodeploy.importers.time_nodes import Node, Recurrence, Tensor
from neurodeploy.ir.cells import CELLS
from neurodeploy.ir.graph import Program
from neurodeploy.ir.types import TensorType

__all__ = ["Axis", "Dim", "Operand", "Recurrence", "Size", "Tensor", "Tracer"]


class Tracer(Maths):
    """Traces a whole-sequence tensor program; see the module's docstring."""

    @placed
    def rnn(
        self,
        cell: str,
        x: Tensor,
        weights: Sequence[Operand],
        initial: Sequence[Tensor | None],
        *,
        sizes: Sequence[int],
        attrs: Mapping[str, Any] | None = None,
        reverse: bool = False,
    ) -> Recurrence:
        """A recurrent layer, one direction of it.

        ``cell``: a name of :data:`neurodeploy.ir.cells.CELLS` whose arguments are x, its states, its weights, in this
        order; its results are its states. ``x``: one time axis, at most one batch axis, features (flattened).
        ``weights``: constants, as the cell wants them. ``initial``: for each state a tensor [batch, feature] in any
        arrangement, or None for zeros. ``sizes``: each state's size. ``reverse``: from the last step to the first.
        """
        axes = self._recurrent_axes(x, cell)
        node = self.shaped(self.as_series(x), [x.node.type.size])
        if node.type.dtype != "f32":
            raise UnsupportedError(f"{cell} reads {node.type.dtype}; needed float.", hint="Put an embedding before it.")
        starts = [None if t is None else self._initial(t, n, axes) for t, n in zip(initial, sizes, strict=True)]
        roles = _weight_roles(cell, len(sizes), len(weights))
        constants = [self.lift(w, role) for w, role in zip(weights, roles, strict=True)]
        if any(w.data is None for w in constants):
            raise UnsupportedError(f"the weights of {cell} are not constant.", hint="Export them as initializers.")
        settings = {"cell": cell, "attrs": dict(attrs or {}), "reverse": reverse}
        settings |= {"states": len(sizes), "sizes": tuple(sizes)}
        domain = node.domain
        made = self._add(
            "rnn", [node, *starts, *(w.node for w in constants)], settings, TensorType((sizes[0],)), domain
        )
        series, final = [], []
        for i, size in enumerate(sizes):
            type_ = TensorType((size,))
            full = tuple(feature(size) if a.label == "feature" else a for a in axes)
            series.append(Tensor(self._add("result", [made], {"index": i}, type_, domain), full))
            rest = tuple(a for a in full if a.label != "time")
            final.append(Tensor(self._add("final", [made], {"index": i}, type_, None), rest))
        return Recurrence(tuple(series), tuple(final))

    def _recurrent_axes(self, x: Tensor, cell: str) -> Axes:
        """The axes of x with its features as one, units gone."""
        if x.time is None or any(a.label == "merged" for a in x.axes):
            raise UnsupportedError(
                f"{cell} reads {describe(x.axes)}, which has no time axis of its own.",
                hint="Keep time apart from batch, and give it to the layer as its sequence axis.",
            )
        kept = [a for a in x.axes if a.label != "feature"]
        last = max((i for i, a in enumerate(x.axes) if a.label == "feature"), default=len(x.axes))
        place = sum(a.label != "feature" for a in x.axes[:last])
        return (*kept[:place], feature(x.node.type.size), *kept[place:])

    def _initial(self, start: Tensor, size: int, axes: Axes) -> Node | None:
        """The node of an initial state, per sample; None for zeros."""
        if start.data is not None and not start.data.any():
            return None
        if start.time is not None or any(a.label == "merged" for a in start.axes):
            raise UnsupportedError(f"an initial state is {describe(start.axes)}; needed [batch, feature {size}].")
        batch = next((a.size for a in axes if a.label == "batch"), 1)
        node = start.node
        if node.type.size != size and node.data is not None and isinstance(batch, int) and batch > 1:
            # The exporter fixed the batch and repeated one initial state for each of its samples.
            rows = node.data.reshape(-1, size) if node.data.size % size == 0 else node.data
            if len(rows) != batch or (rows != rows[0]).any():
                raise UnsupportedError(
                    "a constant initial state differs from sample to sample.", hint="Make it an input of the model."
                )
            node = self.constant(rows[0], name=f"{node.name}_row").node
        if node.type.size != size:
            raise UnsupportedError(f"an initial state is {describe(start.axes)}; needed [batch, feature {size}].")
        return self.shaped(node, [size])

    @placed
    def conv(
        self, x: Tensor, W: Operand, bias: Operand | None = None, *, dilation: int = 1, groups: int = 1, stride: int = 1
    ) -> Tensor:
        """A 1-d convolution along time without padding of its own (see ``pad_time``): ``W[out, in / groups, k]``.

        ``x`` has batch, time and one feature axis in any order; the result has the same order.
        """
        W = self.lift(W, "W")
        axes = self._recurrent_axes(x, "conv")
        if W.data is None or W.data.ndim != 3 or W.dtype != "f32":
            raise UnsupportedError(f"a convolution's weights are {W.node.type}; needed constant f32[out, in, k].")
        if x.node.domain is None or x.node.type.dtype != "f32":
            raise UnsupportedError("a convolution reads something that isn't a series of floats.")
        out, per_group, taps = W.data.shape
        if stride != 1:
            raise UnsupportedError(
                f"a convolution of stride {stride} gives less than one value a step.", hint="Use stride 1."
            )
        if x.node.type.size != per_group * groups or out % groups:
            raise UnsupportedError(
                f"a convolution of {x.node.type.size} channels in {groups} groups with weights {list(W.data.shape)}."
            )
        args = [self.shaped(x.node, [x.node.type.size]), W.node]
        if bias is not None:
            args.append(self._bias(bias, out))
        reach = (taps - 1) * dilation
        settings = {"dilation": dilation, "groups": groups, "rows": reach + 1}
        node = self._add("conv", args, settings, TensorType((out,)), x.node.domain)
        full = tuple(feature(out) if a.label == "feature" else a for a in axes)
        place = next(i for i, a in enumerate(full) if a.label == "time")
        if full[place].lead > reach:
            raise UnsupportedError(f"a convolution that reaches {reach} steps back is padded by {full[place].lead}.")
        return self.pad_time(Tensor(node, full), place, -reach, 0)

    @placed
    def finish(self, outputs: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None) -> Program:
        """The program: stages formed, unused parts left out, verified.

        ``outputs``: name -> tensor; one with a time axis becomes a series. ``meta`` joins the program's own.
        Raises :class:`UnsupportedError`.
        """
        from neurodeploy.importers.time_stages import form

        ends: dict[str, Node] = {}
        for name, tensor in outputs.items():
            self.at("", name)
            if any(a.label == "merged" for a in tensor.axes):
                raise self.error(
                    f"output '{name}' has batch and time in one axis.", "Reshape it to [batch, time, ...]."
                )
            node = tensor.node if tensor.time is None else self.as_series(tensor)
            ends[name] = node
        found = dict(meta or {})
        if self.warnings:
            found["warnings"] = [*found.get("warnings", []), *self.warnings]
        return form(self, ends, found)


def _weight_roles(cell: str, states: int, count: int) -> list[str]:
    """What the cell calls its weights; those that it takes as extra arguments by number."""
    if cell not in CELLS:
        raise UnsupportedError(f"there is no cell '{cell}'.", hint=nearest(cell, CELLS))
    parameters = [p.name for p in signature(CELLS[cell]).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = parameters[2 + states :][:count]
    return named + [f"extra{i}" if i else "extra" for i in range(count - len(named))]
