"""The tracer's core: leaves, nodes, and where errors are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.time_axes import UNIT, Axes, Axis, Dim, Size, describe, feature, shape_of
from neurodeploy.importers.time_nodes import Names, Node, Tensor, identifier
from neurodeploy.ir.graph import Param, ProgramInput
from neurodeploy.ir.ops import OPS, infer
from neurodeploy.ir.types import TensorType

Operand = Tensor | np.ndarray | float | int
Method = TypeVar("Method", bound=Callable[..., Any])

#: Elements that a folded constant may have; more is a mistake (or an attack).
LARGEST_CONSTANT = 1 << 26


def placed(method: Method) -> Method:
    """Give errors that don't say where they are the tracer's place."""

    @wraps(method)
    def wrapper(self: Core, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (UnsupportedError, IRError) as error:
            if isinstance(error, UnsupportedError) and error.place:
                raise
            raise UnsupportedError(error.message, place=self.where, hint=error.hint) from error

    return wrapper  # type: ignore[return-value]


class Core:
    """Nodes and leaves; :class:`neurodeploy.importers.time.Tracer` is what importers use."""

    def __init__(self, name: str, source: str = "") -> None:
        """``name``: the program's. ``source``: the model as errors call it, such as its file's name."""
        self.names = Names()
        self.name = Names().fresh(name, "model")
        self.source = source or name
        self.inputs: dict[str, ProgramInput] = {}
        self.input_axes: dict[str, Axes] = {}
        self.nodes: list[Node] = []
        self.warnings: list[str] = []
        self.where, self._stem = self.source, "v"

    def at(self, node: str, stem: str = "") -> None:
        """What follows belongs to this node of the source: errors name it, values are named after ``stem``."""
        self.where = f"{self.source}: node {node}" if node else self.source
        self._stem = identifier(stem or node) or "v"

    def error(self, message: str, hint: str = "") -> UnsupportedError:
        """An error at the current node, to be raised."""
        return UnsupportedError(message, place=self.where, hint=hint)

    @placed
    def input(self, name: str, labels: Sequence[str], sizes: Sequence[Size | str], dtype: str = "f32") -> Tensor:
        """An input of the program.

        ``labels``: ``batch``, ``time`` or ``feature`` for each axis; without ``time`` it is static (one value in all).
        ``sizes``: whole numbers, a name for a size that isn't known. The program takes it as ``[batch, time, ...]``.
        """
        axes: list[Axis] = []
        for label, size in zip(labels, sizes, strict=True):
            known: Size = Dim.symbol(size) if isinstance(size, str) else size
            if label == "feature":
                axes.append(feature(known))
            else:
                axes.append(Axis(label, known, str(known) if label == "time" else ""))
        type_ = TensorType(shape_of(tuple(axes)), dtype)
        domain = next((a.domain for a in axes if a.label == "time"), None)
        fresh = self.names.fresh(name, "x")
        self.inputs[fresh] = ProgramInput(type_, "static" if domain is None else "series")
        self.input_axes[fresh] = tuple(axes)
        return Tensor(self._add("input", (), {"name": fresh}, type_, domain, name=fresh), tuple(axes))

    @placed
    def constant(self, array: Any, name: str = "") -> Tensor:
        """A constant; all of its axes are features. float64 becomes f32, int64 becomes i32."""
        array = np.asarray(array)
        if array.dtype.kind == "u":
            array = array.astype(np.int64)
        if array.dtype.kind not in "fib":
            raise UnsupportedError(f"a constant holds {array.dtype}; needed numbers.")
        if array.dtype.kind == "i" and array.dtype.itemsize == 8:
            array = np.clip(array, -(2**31), 2**31 - 1)
        param = Param.of(array)
        node = self._add("const", (), {}, param.type, None, data=param.data, name=name or f"{self._stem}_const")
        return Tensor(node, tuple(feature(n) for n in array.shape))

    def lift(self, value: Operand, role: str = "") -> Tensor:
        """A tensor as it is; a number or an array as a constant, named after the node and its role there."""
        if isinstance(value, Tensor):
            return value
        return self.constant(
            np.float32(value) if isinstance(value, int | float) else value, f"{self._stem}_{role}" if role else ""
        )

    def _add(
        self, op: str, args: Sequence[Node | None], attrs: Mapping[str, Any], type_: TensorType, domain: str | None,
        data: np.ndarray | None = None, name: str = "",
    ) -> Node:  # fmt: skip
        made = Node(
            len(self.nodes),
            op,
            tuple(args),
            dict(attrs),
            type_,
            domain,
            identifier(name) or self._stem,
            self.where,
            data,
        )
        self.nodes.append(made)
        return made

    def primitive(self, op: str, *args: Node, **attrs: Any) -> Node:
        """A primitive's node on per-step values; constants are folded."""
        types = [a.type for a in args]
        type_ = infer(op, types, attrs)
        if not isinstance(type_, TensorType):
            raise IRError(f"{op} has no single result.")
        if args and all(a.data is not None for a in args) and type_.size <= LARGEST_CONSTANT:
            with np.errstate(all="ignore"):
                found = OPS[op].eval([a.data[None] for a in args if a.data is not None], attrs, type_, types)[0]
            return self._add("const", (), {}, type_, None, data=np.array(found, order="C"))
        domain = next((a.domain for a in args if a.domain is not None), None)
        stem = self._stem if self._stem.lower().endswith(op) else f"{self._stem}_{op}"
        return self._add(op, args, attrs, type_, domain, name=stem)

    def shaped(self, node: Node, shape: Sequence[int]) -> Node:
        """The per-step value reshaped, or itself if it has that shape."""
        while node.type.shape != tuple(shape) and node.op == "reshape" and node.inputs[0].domain == node.domain:
            node = node.inputs[0]
        return node if node.type.shape == tuple(shape) else self.primitive("reshape", node, shape=list(shape))

    def aligned(self, tensor: Tensor, axes: Axes) -> Node:
        """The per-step value with the units that stand for batch or time in ``axes`` (the joined axes) dropped."""
        own = axes[len(axes) - tensor.rank :]
        sizes = [a.size for a, b in zip(tensor.axes, own, strict=True) if b.label == "feature"]
        return self.shaped(tensor.node, [s for s in sizes if isinstance(s, int)])

    def feature_index(self, axes: Axes, axis: int) -> int:
        """Which axis of the per-step value an axis of the source is."""
        return sum(a.label == "feature" for a in axes[:axis])

    def axis_number(self, x: Tensor, axis: int) -> int:
        """An axis counted from the front."""
        if not -x.rank <= axis < x.rank:
            raise UnsupportedError(f"axis {axis} doesn't exist in {describe(x.axes)}.")
        return axis % x.rank

    def as_series(self, x: Tensor) -> Node:
        """The node as one value a step, also where the value is the same at every step."""
        time = x.time
        if time is None:
            raise UnsupportedError(f"{describe(x.axes)} has no time axis.")
        self.whole(x)
        if x.node.domain is not None:
            return x.node
        return self._add("reshape", [x.node], {"shape": list(x.node.type.shape)}, x.node.type, time.domain)

    def whole(self, x: Tensor) -> None:
        """Refuse a time axis that doesn't run over just the steps."""
        time = x.time
        if time is not None and (time.lead or time.tail):
            if time.tail > 0:
                raise UnsupportedError(
                    f"the time axis runs {time.tail} past the last step, as if later inputs were known.",
                    hint="Make the convolution causal: pad on the left only, or cut what it adds on the right.",
                )
            raise UnsupportedError(
                f"the time axis is cut or padded ({time.lead:+d} at the front, {time.tail:+d} at the end).",
                hint="Pad it to the same length, so that there is one value for every step.",
            )

    def unit_like(self, x: Tensor) -> Axes:
        """All of the axes but units."""
        return tuple(a for a in x.axes if a is not UNIT and not a.is_unit)
