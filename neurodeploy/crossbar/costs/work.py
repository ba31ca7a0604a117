"""What the digital part around crossbars does in a step: operations by kind and type, and bits read and written.

Counted from the shapes of a tiled program's primitives, every guard open. A product that stays digital is one
multiplication and one addition each. Moves, negations, roundings, casts and selections cost nothing here, as for
spiking networks (:mod:`neurodeploy.spiking.energy`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.ir.cost import macs_of
from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.types import INT_BITS, TensorType, Type
from neurodeploy.passes.tiling import OP

MULTIPLICATION, ADDITION, COMPARISON, LOOKUP, FUNCTION = (
    "multiplications", "additions", "comparisons", "lookups", "functions",
)  # fmt: skip
#: Kinds of operations in the order in which they are told. ``functions`` have no published price.
KINDS = (MULTIPLICATION, ADDITION, COMPARISON, LOOKUP, FUNCTION)
#: Op -> kind, one for each element of the result.
ELEMENTWISE: Mapping[str, str] = {
    **dict.fromkeys(("add", "sub"), ADDITION),
    **dict.fromkeys(("mul", "quantize", "dequantize", "requantize"), MULTIPLICATION),
    **dict.fromkeys(("min", "max", "relu", "eq", "lt", "ne"), COMPARISON),
    **dict.fromkeys(("tanh", "sigmoid", "lut"), LOOKUP),
    **dict.fromkeys(("div", "exp", "log", "sqrt", "softplus", "softmax", "random"), FUNCTION),
}
#: Op -> kind, one for each element that is folded into another.
REDUCTIONS: Mapping[str, str] = {
    "sum": ADDITION, "prod": MULTIPLICATION, "reduce_max": COMPARISON, "argmax": COMPARISON
}  # fmt: skip


#: The type in which codes of serial inputs are added up.
CODES = "i32"
#: Ops that cost nothing here: moves, and what is wiring or a sign.
FREE = frozenset(
    {"abs", "broadcast", "cast", "concat", "const", "floor", "gather", "neg", "put", "reshape", "round", "row",
     "select", "shift", "slice", "transpose"}
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """``operations``: (kind, dtype) -> how many; ``unpriced``: the ops that are ``functions``.

    ``bits`` read from or written to buffers: all arguments and results; ``stored``: those alone that must lie there
    (inputs, params, states and outputs, inputs of arrays and their results), the rest passed on at once.
    """

    operations: Mapping[tuple[str, str], float] = field(default_factory=dict)
    bits: float = 0.0
    stored: float = 0.0
    unpriced: frozenset[str] = frozenset()

    def __add__(self, other: Work) -> Work:
        merged = dict(self.operations)
        for key, count in other.operations.items():
            merged[key] = merged.get(key, 0.0) + count
        return Work(merged, self.bits + other.bits, self.stored + other.stored, self.unpriced | other.unpriced)

    def __rmul__(self, times: float) -> Work:
        counts = {key: times * n for key, n in self.operations.items()}
        return Work(counts, times * self.bits, times * self.stored, self.unpriced)

    def count(self, kind: str) -> float:
        """Operations of a kind, of all types."""
        return sum(n for (k, _), n in self.operations.items() if k == kind)

    @property
    def all(self) -> float:
        """Operations of every kind."""
        return sum(self.operations.values())

    @property
    def words(self) -> str:
        """``96 multiplications, 128 additions``; kinds that don't occur are left out."""
        told = [f"{count:.10g} {kind}" for kind in KINDS if (count := self.count(kind))]
        return ", ".join(told) if told else "no operations"


def of_graph(graph: Graph) -> dict[str, Work]:
    """Each value's work, bodies included; a crossbar's own is :func:`of_matrix`'s."""
    types, macs = graph.types(), macs_of(graph)
    read = {*graph.inputs, *graph.params, *(state.name for state in graph.states)}
    written = {*graph.outputs.values(), *(state.next for state in graph.states)}
    found = {}
    for value in graph.values:
        work = _operations(value, types, macs.get(value.name, 0))
        if work.all:
            args = [(a, t) for a in value.args if isinstance(t := types[a], TensorType)]
            sizes = [(name in read, _bits(type_)) for name, type_ in args]
            sizes.append((value.name in written, _bits(value.tensor)))
            bits, stored = (sum(n for kept, n in sizes if kept or every) for every in (True, False))
            work = Work(work.operations, float(bits), float(stored), work.unpriced)
        found[value.name] = work
    return found


def _operations(value: Value, types: Mapping[str, Type], macs: int) -> Work:
    if value.op == OP:
        return Work()
    if value.body is not None:
        return total(of_graph(value.body).values())
    dtype = _dtype(value, types)
    if value.op in ELEMENTWISE:
        kind = ELEMENTWISE[value.op]
        return Work({(kind, dtype): value.tensor.size}, unpriced=frozenset({value.op} if kind == FUNCTION else ()))
    if value.op in REDUCTIONS:
        read = types[value.args[0]]
        folded = read.size - value.tensor.size if isinstance(read, TensorType) else 0
        return Work({(REDUCTIONS[value.op], dtype): folded})
    if value.op in ("matmul", "einsum"):
        return Work({(MULTIPLICATION, dtype): macs, (ADDITION, dtype): macs})
    if value.op == "solve":
        return Work({(FUNCTION, dtype): value.tensor.size}, unpriced=frozenset({"solve"}))
    return Work()


def of_matrix(matrix: Matrix, result: TensorType, input_bits: int, cycles: int) -> Work:
    """What converted codes need each time that the matrix is read.

    The codes of ``cycles`` serial inputs are added up as integers, each sum is scaled by one multiplication, and tiles
    and slices are added in the result's type. Inputs are read, each tile's results written.
    """
    operations = {(MULTIPLICATION, result.dtype): float(matrix.adc_conversions)}
    if matrix.additions:
        operations[ADDITION, result.dtype] = float(matrix.additions)
    if cycles > 1:
        key = (ADDITION, CODES)
        operations[key] = operations.get(key, 0.0) + float((cycles - 1) * matrix.adc_conversions)
    results = matrix.vectors * sum(t.outputs[1] - t.outputs[0] for t in matrix.tiles)
    bits = float(matrix.dac_conversions * input_bits + results * width(result.dtype))
    return Work(operations, bits, bits)


def width(dtype: str) -> int:
    """Bits of an element; a boolean takes a byte."""
    return 32 if dtype == "f32" else INT_BITS.get(dtype, 8)


def _dtype(value: Value, types: Mapping[str, Type]) -> str:
    """The type in which an op computes: a float if an argument is one, else the widest of its arguments."""
    read = [t.dtype for a in value.args if isinstance(t := types[a], TensorType)] or [value.tensor.dtype]
    return "f32" if "f32" in read else max(read, key=width)


def _bits(type_: TensorType) -> int:
    return type_.size * width(type_.dtype)


def total(parts: Iterable[Work]) -> Work:
    """All of them together."""
    found = Work()
    for part in parts:
        found = found + part
    return found
