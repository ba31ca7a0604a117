"""From a step graph to the few shapes of work that the C kernels know.

Products of a constant matrix with vectors become ``matvec``, whose operand is one contiguous vector: several operands
are joined by ``pack`` (a concat that widens to i16 and may leave gaps), or by ``extend`` behind the state that is one
of them (:mod:`~neurodeploy.backends.c_operands`). A ``requantize`` that is a product's only reader becomes part of it.
These ops exist in this backend only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.backends.c_layouts import PLAIN, Layout
from neurodeploy.backends.c_operands import Region, packed, regions, up
from neurodeploy.backends.c_rings import rings_in_place
from neurodeploy.backends.c_rounding import round_by_shifts
from neurodeploy.backends.c_tflite import lower_tflite
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
    graph = rings_in_place(lower_tflite(prune(_constants_to_params(graph))))
    graph = _Products(graph, layout).lower()
    graph = round_by_shifts(_fuse_requantize(_slice_products(graph)))
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
        wanted = [self._operands(v) for v in self.graph.values if self._is_product(v)]
        narrow = [xs for xs in wanted if all(self._type(x).dtype in ("i8", "i16") for x in xs)]
        self.regions = regions(self.graph, narrow, self.layout.columns, self.layout.align)
        for value in self.graph.values:
            if value.op == "product":
                *pairs, bias = value.args
                self._product(value, pairs[0::2], pairs[1::2], bias)
            elif self._is_product(value):
                self._product(value, value.args[:1], value.args[1:], None)
            elif value.op == "windows":
                self._windows(value)
            else:
                self.values.append(value)
        return replace(self.graph, params=self.params, values=tuple(self.values))

    def _is_product(self, value: Value) -> bool:
        return value.op == "product" or (value.op == "matmul" and self._constant_matrix(value))

    def _operands(self, value: Value) -> tuple[str, ...]:
        return value.args[1:-1:2] if value.op == "product" else value.args[1:]

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
        blocks = [self.params[w].data for w in matrices]
        is_float = blocks[0].dtype.kind == "f"
        x, at, columns = self._operand(operands, is_float)
        rows = blocks[0].shape[0]
        whole = np.zeros((rows, columns), np.result_type(*blocks))
        for start, block in zip(at, blocks, strict=True):
            whole[:, start : start + block.shape[1]] = block
        attrs = self._weight(value, whole)
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

    def _weight(self, value: Value, whole: np.ndarray) -> dict[str, Any]:
        """A product's attributes, with its matrix as a param."""
        if whole.dtype == np.int8 and whole.size and whole.min() < self.layout.minimum:
            whole = whole.astype(np.int16)
        name = f"{value.name}.weight"
        self.params[name] = Param.of(whole)
        return {"rows": len(whole), "columns": whole.shape[1], "weight": name}

    def _windows(self, value: Value) -> None:
        """A product of every position of a window over a sample; the kernel gets what it sees as one vector."""
        w, x, bias = value.args
        data = self.params[w].data
        whole = np.zeros((len(data), up(data.shape[1], self.layout.columns)), data.dtype)
        whole[:, : data.shape[1]] = data
        attrs = {**self._weight(value, whole), "bias": bias, "window": value.attrs["window"]}
        self.values.append(Value(value.name, "matvec", (x,), attrs, value.tensor))

    def _operand(self, operands: Sequence[str], is_float: bool) -> tuple[str, list[int], int]:
        """A product's operand as one vector, where each of its parts begins in it, and how many columns it has."""
        sizes = [self._type(x).size for x in operands]
        if is_float:
            at, columns = packed(sizes, 1)
            return operands[0] if len(operands) == 1 else self._pack(operands, columns), at, columns
        columns_of = self.layout.columns
        region = self._region(operands)
        if region is not None:
            at = [region.slots[x] for x in operands]
            first = min(at)
            columns = up(max(a + n for a, n in zip(at, sizes, strict=True)) - first, columns_of)
            return self._window(region, operands, first, columns), [a - first for a in at], columns
        at, end = packed(sizes, self.layout.align)
        columns = up(end, columns_of)
        x = operands[0]
        if len(operands) > 1 or columns != end or self._type(x).dtype != PACKED_DTYPE:
            x = self._pack(operands, columns, at)
        return x, at, columns

    def _region(self, operands: Sequence[str]) -> Region | None:
        """The region in which a product's operands lie side by side with no others between them."""
        for region in self.regions.values():
            slots = [x for x in region.slots if x in operands]
            first = list(region.slots).index(slots[0]) if slots else 0
            if len(slots) != len(operands) or list(region.slots)[first : first + len(slots)] != slots:
                continue
            if region.state in operands:
                return region
            if tuple(region.slots) in self.packs:  # they were copied there already
                return region
        return None

    def _window(self, region: Region, operands: Sequence[str], start: int, columns: int) -> str:
        """A part of a region as a vector, with the operands copied that it needs."""
        whole = tuple(region.slots)
        key = whole if region.state not in operands else tuple(x for x in whole if x in operands)
        type_ = TensorType((region.size,), PACKED_DTYPE)
        if key not in self.packs:
            self.packs[key] = self._named(f"{region.state}.operand", type_)
            attrs = {"at": [region.slots[x] for x in key]}
            self.values.append(Value(self.packs[key], "extend", key, attrs, type_))
        if columns == region.size:
            return self.packs[key]
        part = (self.packs[key], str(start), str(columns))
        if part not in self.packs:
            made = TensorType((columns,), PACKED_DTYPE)
            self.packs[part] = self._named(f"{region.state}.columns", made)
            bounds = {"axis": 0, "start": start, "stop": start + columns, "step": 1}
            self.values.append(Value(self.packs[part], "slice", part[:1], bounds, made))
        return self.packs[part]

    def _named(self, stem: str, type_: TensorType) -> str:
        name = stem
        while name in self.types:
            name += "_"
        self.types[name] = type_
        return name

    def _pack(self, operands: Sequence[str], size: int, at: Sequence[int] = ()) -> str:
        """Vectors copied together; ``at`` where each begins, one behind the other if not given."""
        key = ("pack", *operands, str(size))
        if key not in self.packs:
            type_ = TensorType((size,), self._type(operands[0]).dtype if not at else PACKED_DTYPE)
            self.packs[key] = self._named(f"{'_'.join(dict.fromkeys(operands))}.packed", type_)
            attrs = {"at": list(at)} if at else {}
            self.values.append(Value(self.packs[key], "pack", tuple(operands), attrs, type_))
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
    return _split(graph, readers, lambda value: _rescaled_slices(readers.get(value.name, []), readers))


def split_rows(graph: Graph) -> Graph:
    """Every product that is only read in slices as a product for each: their results need not be alive together."""
    readers = _readers(graph)

    def sliced(value: Value) -> bool:
        parts = readers.get(value.name, [])
        return bool(parts) and all(part.op == "slice" and part.attrs.get("step", 1) == 1 for part in parts)

    return _split(graph, readers, sliced)


def _split(graph: Graph, readers: Mapping[str, list[Value]], wanted: Callable[[Value], bool]) -> Graph:
    """The chosen integer products as one product for each of their slices, in front of its first reader."""
    values: list[Value] = []
    params = dict(graph.params)
    split: dict[str, Value] = {}
    for value in graph.values:
        if value.name in split:
            values.append(split[value.name])
            continue
        if value.op != "matvec" or "bias" not in value.attrs or "window" in value.attrs or not wanted(value):
            values.append(value)
            continue
        for part in readers[value.name]:
            _, start, stop, _ = slice_bounds(part.attrs, value.tensor.shape)
            attrs = {**value.attrs, "rows": stop - start}
            for role in {"weight", "bias", "mult"} & set(attrs):
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
    products = {v.name: v for v in graph.values if v.op == "matvec" and "bias" in v.attrs and "window" not in v.attrs}
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
