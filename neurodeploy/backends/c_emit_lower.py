"""From a step graph to the few shapes of work that the C kernels know.

Products of a constant matrix with vectors become ``matvec``, whose operand is one contiguous vector: several operands
are joined by ``pack`` (a concat that widens to i16 and may end in zeros). A ``requantize`` that is a product's only
reader becomes part of it. Both ops exist in this backend only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.backends.c_layouts import PLAIN, Layout
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Param, Value, prune
from neurodeploy.ir.ops_shape import slice_bounds
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.expand import expand_graph

PACKED_DTYPE = "i16"


def lower(graph: Graph, layout: Layout = PLAIN) -> Graph:
    """The graph with products as ``matvec`` and constants as params; every composite but ``affine`` is inlined."""
    graph = inline(graph)
    held = tuple(replace(s, when=None) if s.next == s.name else s for s in graph.states)
    graph = replace(graph, states=held)
    graph = prune(_constants_to_params(graph))
    graph = _Products(graph, layout).lower()
    graph = _fuse_requantize(_slice_products(graph))
    pruned = prune(graph)
    taken = {name: graph.params[name] for name in constant_names(pruned)}
    return replace(pruned, params={**pruned.params, **taken})


# -- composites --------------------------------------------------------------------------------------------------------


def inline(graph: Graph) -> Graph:
    """Replace composites by their bodies, except an integer ``affine`` with constant matrices."""
    marked = tuple(replace(v, op="product") if _is_kernel(v, graph) else v for v in graph.values)
    return expand_graph(replace(graph, values=marked), keep=("product",))


def _is_kernel(value: Value, graph: Graph) -> bool:
    return value.op == "affine" and all(w in graph.params for w in value.args[:-1:2]) and value.tensor.is_int


def _constants_to_params(graph: Graph) -> Graph:
    """Constants as params, and the scales of quantize and dequantize as an argument of theirs."""
    params, values = dict(graph.params), []
    types = graph.types()
    for value in graph.values:
        if value.op == "const":
            type_ = value.tensor
            params[value.name] = Param(type_, np.array(np.asarray(value.attrs["value"]).astype(type_.numpy), order="C"))
            continue
        if value.op in ("quantize", "dequantize"):
            marked = value.tensor if value.op == "quantize" else types[value.args[0]]
            quant = marked.quant if isinstance(marked, TensorType) else None
            if quant is None:
                raise UnsupportedError(
                    f"{value.op} has no scale.", place=f"%{value.name}", hint="Quantize the program."
                )
            scale = quant.shaped(len(value.tensor.shape))
            scale = (1.0 / scale if value.op == "quantize" else scale).astype(np.float32)
            name = f"{value.name}.scale"
            params[name] = Param(TensorType(scale.shape), np.array(scale, order="C"))
            value = replace(value, args=(*value.args, name), attrs={**value.attrs, "zero_point": quant.zero_point})
        values.append(value)
    return replace(graph, params=params, values=tuple(values))


# -- products ----------------------------------------------------------------------------------------------------------


@dataclass
class _Products:
    graph: Graph
    layout: Layout
    params: dict[str, Param] = field(default_factory=dict)
    packs: dict[tuple[str, ...], str] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)

    def lower(self) -> Graph:
        self.params = dict(self.graph.params)
        self.types = self.graph.types()
        for value in self.graph.values:
            if value.op == "product":
                *pairs, bias = value.args
                self._product(value, pairs[0::2], pairs[1::2], bias)
            elif value.op == "matmul" and self._constant_matrix(value):
                self._product(value, value.args[:1], value.args[1:], None)
            else:
                self.values.append(value)
        return replace(self.graph, params=self.params, values=tuple(self.values))

    def _type(self, name: str) -> TensorType:
        found = self.types[name]
        if not isinstance(found, TensorType):
            raise TypeError(f"%{name} is no tensor")
        return found

    def _constant_matrix(self, value: Value) -> bool:
        w, x = value.args
        kinds = (self._type(w).dtype, self._type(x).dtype)
        known = kinds == ("f32", "f32") or (kinds[0] in ("i8", "i16") and kinds[1] in ("i8", "i16"))
        return w in self.params and known and len(self._type(w).shape) == 2 and len(self._type(x).shape) == 1

    def _product(self, value: Value, matrices: Sequence[str], operands: Sequence[str], bias: str | None) -> None:
        if any(self._type(x).dtype not in ("i8", "i16", "f32") for x in operands):
            self._spell_out(value, matrices, operands, bias)
            return
        data = np.concatenate([self.params[w].data for w in matrices], axis=1)
        rows, columns = data.shape
        is_float = data.dtype.kind == "f"
        padded = columns if is_float else -(-columns // self.layout.columns) * self.layout.columns
        if data.dtype == np.int8 and data.size and data.min() < self.layout.minimum:
            data = data.astype(np.int16)
        attrs: dict[str, Any] = {"rows": rows, "columns": padded, "weight": f"{value.name}.weight"}
        whole = np.zeros((rows, padded), data.dtype)
        whole[:, :columns] = data
        self.params[attrs["weight"]] = Param.of(whole)
        x = operands[0]
        if len(operands) > 1 or padded != columns or (not is_float and self._type(x).dtype != PACKED_DTYPE):
            x = self._pack(operands, padded)
        if not is_float:
            attrs["bias"] = f"{value.name}.bias"
            if bias is None or bias in self.params:
                zeros = np.zeros(rows, np.int32)
                self.params[attrs["bias"]] = Param.of(zeros if bias is None else self.params[bias].data + zeros)
                bias = None
            else:  # a bias that is computed is added behind
                self.params[attrs["bias"]] = Param.of(np.zeros(rows, np.int32))
        if bias is None:
            self.values.append(Value(value.name, "matvec", (x,), attrs, value.tensor))
            return
        product = f"{value.name}.product"
        self.values.append(Value(product, "matvec", (x,), attrs, value.tensor.with_(quant=None)))
        self.values.append(Value(value.name, "add", (product, bias), {}, value.tensor))

    def _pack(self, operands: Sequence[str], size: int) -> str:
        key = (*operands, str(size))
        if key not in self.packs:
            name = f"{'_'.join(dict.fromkeys(operands))}.packed"
            while name in self.types:
                name += "_"
            self.types[name] = TensorType((size,), PACKED_DTYPE)
            self.packs[key] = name
            self.values.append(Value(name, "pack", tuple(operands), {}, TensorType((size,), PACKED_DTYPE)))
        return self.packs[key]

    def _spell_out(self, value: Value, matrices: Sequence[str], operands: Sequence[str], bias: str | None) -> None:
        """An affine of wider operands, as products and sums."""
        total = ""
        type_ = value.tensor.with_(quant=None)
        for i, (w, x) in enumerate(zip(matrices, operands, strict=True)):
            name = f"{value.name}.{i}"
            self.values.append(Value(name, "matmul", (w, x), {}, type_))
            if total:
                self.values.append(Value(f"{name}.sum", "add", (total, name), {}, type_))
                name = f"{name}.sum"
            total = name
        if bias is None:
            raise AssertionError("an affine has a bias")
        self.values.append(Value(value.name, "add", (total, bias), {}, value.tensor))


def _readers(graph: Graph) -> Mapping[str, list[Value]]:
    """Name -> its readers; what outputs and states name counts as read by two."""
    table = {name: list(found) for name, found in graph.uses().items()}
    for name in [*graph.outputs.values(), *(n for s in graph.states for n in (s.next, s.when) if n)]:
        table.setdefault(name, []).extend([Value(name, "kept", (), {}, TensorType(()))] * 2)
    return table


def _slice_products(graph: Graph) -> Graph:
    """Where every reader of a product takes some rows and rescales them, make it one product for each."""
    readers = _readers(graph)
    values: list[Value] = []
    params = dict(graph.params)
    split: dict[str, Value] = {}
    for value in graph.values:
        if value.name in split:
            values.append(split[value.name])
            continue
        parts = readers.get(value.name, [])
        if value.op != "matvec" or "bias" not in value.attrs or not _rescaled_slices(parts, readers):
            values.append(value)
            continue
        for part in parts:
            _, start, stop, _ = slice_bounds(part.attrs, value.tensor.shape)
            attrs = {**value.attrs, "rows": stop - start}
            for role in ("weight", "bias"):
                attrs[role] = f"{part.name}.{role}"
                params[attrs[role]] = Param.of(graph.params[value.attrs[role]].data[start:stop])
            split[part.name] = Value(part.name, "matvec", value.args, attrs, part.tensor)
    return replace(graph, values=tuple(values), params=params)


def _rescaled_slices(parts: Sequence[Value], readers: Mapping[str, list[Value]]) -> bool:
    if not parts or any(part.op != "slice" or part.attrs.get("step", 1) != 1 for part in parts):
        return False
    return all([r.op for r in readers.get(part.name, [])] == ["requantize"] for part in parts)


def _fuse_requantize(graph: Graph) -> Graph:
    """Let a product give the rescaled integer where nobody wants the sum."""
    readers = _readers(graph)
    products = {v.name: v for v in graph.values if v.op == "matvec" and "bias" in v.attrs}
    values: list[Value] = []
    gone: set[str] = set()
    params = dict(graph.params)
    for value in graph.values:
        product = products.get(value.args[0]) if value.op == "requantize" else None
        if (
            product is not None
            and len(readers[product.name]) == 1
            and value.args[1] in graph.params
            and value.tensor.shape == product.tensor.shape
            and value.attrs.get("to", "i16") in ("i8", "i16")
        ):
            mult = f"{value.name}.mult"
            full = np.broadcast_to(graph.params[value.args[1]].data, value.tensor.shape)
            params[mult] = Param.of(full.astype(np.int32))
            attrs = {**product.attrs, "mult": mult, "pre": value.attrs.get("pre", 0)}
            values.append(Value(value.name, "matvec", product.args, attrs, value.tensor))
            gone.add(product.name)
        else:
            values.append(value)
    return replace(graph, values=tuple(v for v in values if v.name not in gone), params=params)


def constant_names(graph: Graph) -> Iterator[str]:
    """Params that products take, by role."""
    for value in graph.values:
        for role in ("weight", "bias", "mult"):
            if role in value.attrs:
                yield value.attrs[role]
