"""How the weights of each integer product are stored: 8 or 16 bits each, 4 bits, or only those that aren't zero.

For every product the candidates are counted: bytes exactly, instructions by the family's table in
:mod:`~neurodeploy.backends.c_costs`. A *rule* then chooses for all products of a program at once, because a form that
one product takes brings its kernel along:

- ``speed``: the fewest instructions, then the fewest bytes;
- ``size``: the fewest bytes of weights and kernels together, then the fewest instructions;
- ``balanced``: as ``size``, with all products together at most a quarter slower than all of them dense. Weights of 4
  bits were asked for to save bytes: their form counts as fast as the dense one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from neurodeploy.backends.c_costs import ARMV7M, Costs
from neurodeploy.backends.c_layouts import Layout
from neurodeploy.errors import UsageError, nearest
from neurodeploy.ir.graph import Graph, Value

#: More than this many times the instructions of the dense forms is too slow for ``balanced``.
SLOWER = 1.25
#: Four neighbouring columns with at least so many weights are a tile of the sparse form (five bytes; a single has two).
TILE_FROM = 3
WINDOW = 256


@dataclass(frozen=True)
class Product:
    """An integer product as the program has it: weights ``[rows, columns]``, bias and multipliers ``[rows]``."""

    name: str
    weights: np.ndarray
    bias: np.ndarray
    mult: np.ndarray | None
    pre: int

    @classmethod
    def of(cls, graph: Graph, value: Value) -> Product:
        """The product of a ``matvec``."""
        weights, bias = (graph.params[value.attrs[role]].data for role in ("weight", "bias"))
        mult = graph.params[value.attrs["mult"]].data if "mult" in value.attrs else None
        return cls(value.name, weights, bias, mult, value.attrs.get("pre", 0))

    @property
    def tail_bytes(self) -> int:
        """Bytes of bias and multipliers in arrays of their own."""
        return self.bias.nbytes + (0 if self.mult is None else self.mult.nbytes)


@dataclass(frozen=True)
class Candidate:
    """A form, its bytes (weights, bias and multipliers) and the instructions of one product."""

    form: str
    nbytes: int
    instructions: int


@dataclass(frozen=True)
class Stored:
    """A product in its form, and the other candidates."""

    product: Product
    form: str
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        """The candidate that it is stored as."""
        return next(c for c in self.candidates if c.form == self.form)


@dataclass(frozen=True)
class Encoded:
    """Constants of a product as C has them: the structure's type, what the kernels' names begin with, arrays
    (None: a null pointer) of (stem, data, dtype, alignment), and the two numbers behind them."""

    struct: str
    kernel: str
    arrays: tuple[tuple[str, np.ndarray, str, int] | None, ...]
    sizes: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return sum(a[1].nbytes for a in self.arrays if a)


# -- forms -------------------------------------------------------------------------------------------------------------


def _plain(product: Product, data: np.ndarray, dtype: str, align: int) -> tuple:
    mult = None if product.mult is None else ("mult", product.mult, "i32", 0)
    return (("weights", data, dtype, align), ("bias", product.bias, "i32", 0), mult)


def _dense(product: Product, layout: Layout) -> Encoded:
    """8 or 16 bits a weight, in the family's order."""
    dtype = "i8" if product.weights.dtype == np.int8 else "i16"
    if layout.stream is not None and dtype == "i8":
        words = layout.stream(product.weights, product.bias, product.mult)
        arrays: tuple = (("weights", words, "i32", 0), None, None)
    else:
        arrays = _plain(product, product.weights.reshape(-1), dtype, 4)
    return Encoded("nd_affine_t", f"nd_affine_{dtype}", arrays, product.weights.shape)


def _halves(weights: np.ndarray, lift: int, columns: int) -> np.ndarray:
    """Four rows of a column in 16 bits, ``[rows / 4, columns]``; the first three weights lifted, missing ones zero."""
    groups = -(-len(weights) // 4)
    filled = np.zeros((groups * 4, columns), np.int32)
    filled[: len(weights), : weights.shape[1]] = weights
    w = filled.reshape(groups, 4, columns)
    lower = sum(((w[:, r] + lift) & 15) << 4 * r for r in range(3))
    return (lower + 4096 * w[:, 3]).astype(np.int16)


def _int4(product: Product, layout: Layout) -> Encoded:
    """4 bits a weight: see ``nd_affine4.h`` of the core, and of ``kernels/armv7em`` for the lifted order."""
    weights = product.weights
    if layout.nibbles == "signed":
        words = _halves(weights, 0, weights.shape[1] + weights.shape[1] % 2).view(np.int32)
        return Encoded("nd_affine4_t", "nd_affine_i4", _plain(product, words, "i32", 0), weights.shape)
    parts = [_halves(weights, 8, weights.shape[1]).view(np.int32)]
    for values in (product.bias, product.mult):
        if values is not None:
            padded = np.zeros(len(parts[0]) * 4, np.int32)
            padded[: len(values)] = values
            parts.append(padded.reshape(-1, 4))
    arrays = (("weights", np.concatenate(parts, axis=1), "i32", 0), None, None)
    return Encoded("nd_affine4_t", "nd_affine_i4", arrays, weights.shape)


def fits_int4(weights: np.ndarray, layout: Layout) -> bool:
    """Whether every weight has 4 bits, and the sums are what ``nd_affine4.h`` needs them to be."""
    if not weights.size or weights.min() < -8 or weights.max() > 7:
        return False
    if layout.nibbles == "signed":
        return True
    sizes = np.zeros(-(-len(weights) // 4) * 4, np.int64)
    sizes[: len(weights)] = np.abs(weights.astype(np.int64)).sum(1)
    return int((sizes[0::4] + 16 * sizes[1::4]).max()) < 65536


def tiles_and_singles(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which fours of columns ``[rows, columns // 4]`` are tiles, which weights ``[rows, columns]`` are singles."""
    rows, columns = weights.shape
    used = weights != 0
    whole = columns // 4 * 4
    tiles = used[:, :whole].reshape(rows, -1, 4).sum(2) >= TILE_FROM
    singles = used.copy()
    singles[:, :whole] &= ~np.repeat(tiles, 4, axis=1)
    return tiles, singles


def _windows(columns: int) -> int:
    return max(1, -(-columns // WINDOW))


def _sparse(product: Product, layout: Layout) -> Encoded:
    """Only what isn't zero: see ``firmware/core/nd_sparse.h``."""
    rows, columns = product.weights.shape
    values = product.weights.astype(np.int8)
    tiles, singles = tiles_and_singles(values)
    parts: list[np.ndarray] = []
    for row in range(rows):
        for first in range(0, max(columns, 1), WINDOW):
            tile = np.flatnonzero(tiles[row, first // 4 : (first + WINDOW) // 4])
            single = np.flatnonzero(singles[row, first : first + WINDOW])
            window = values[row, first : first + WINDOW]
            parts.append(np.array([len(tile), len(single)], np.uint8))
            ordered = window[4 * tile[:, None] + [0, 2, 1, 3]].view(np.uint8)
            parts.append(np.concatenate([tile[:, None].astype(np.uint8), ordered], axis=1).reshape(-1))
            parts.append(np.stack([single.astype(np.uint8), window[single].view(np.uint8)], axis=1).reshape(-1))
    stream = np.concatenate(parts).view(np.int8)
    return Encoded("nd_sparse_t", "nd_sparse_i8", _plain(product, stream, "i8", 0), (rows, _windows(columns)))


FORMS: Mapping[str, Callable[[Product, Layout], Encoded]] = {
    "i8": _dense,
    "i16": _dense,
    "i4": _int4,
    "sparse": _sparse,
}


def encode(stored: Stored, layout: Layout) -> Encoded:
    """The constants of a product in its form."""
    return FORMS[stored.form](stored.product, layout)


# -- candidates --------------------------------------------------------------------------------------------------------


def candidates(product: Product, layout: Layout, costs: Costs) -> tuple[Candidate, ...]:
    """Every form that a product can be stored in, the dense one first."""
    weights = product.weights
    rows, columns = weights.shape
    dense = "i8" if weights.dtype == np.int8 else "i16"
    tail = product.tail_bytes
    found = [Candidate(dense, _dense(product, layout).nbytes, costs.forms[dense].dense(rows, columns))]
    if fits_int4(weights, layout):
        found.append(Candidate("i4", _int4(product, layout).nbytes, costs.forms["i4"].dense(rows, columns)))
    if weights.size and -128 <= weights.min() and weights.max() <= 127:
        tiles, singles = (int(mask.sum()) for mask in tiles_and_singles(weights))
        windows = _windows(columns)
        nbytes = 2 * rows * windows + 5 * tiles + 2 * singles + tail
        found.append(Candidate("sparse", nbytes, costs.forms["sparse"].sparse(rows, windows, singles, tiles)))
    return tuple(found)


# -- rules -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """How forms are chosen: ``optimize`` by a rule of this module's head, with the costs of a family of kernels.

    ``form``: store so whatever can be, at any cost (to measure a form).
    """

    optimize: str = "balanced"
    costs: Costs = ARMV7M
    form: str | None = None

    def __post_init__(self) -> None:
        for what, value, known in (("optimize", self.optimize, OPTIMIZE), ("storage", self.form, (*FORMS, None))):
            if value not in known:
                names = [k for k in known if k]
                raise UsageError(f"{what} is '{value}'; needed: {', '.join(names)}.", hint=nearest(str(value), names))

    def allowed(self, found: Sequence[Candidate]) -> list[Candidate]:
        """The candidates of one product; never none."""
        if self.form is None:
            return list(found)
        return [c for c in found if c.form == self.form] or [found[0]]


OPTIMIZE = ("balanced", "speed", "size")


@dataclass
class Storage:
    """What was decided for a program: one mapping of value names a stage, and the rule."""

    rule: Rule
    stages: list[dict[str, Stored]] = field(default_factory=list)

    @property
    def products(self) -> Iterable[tuple[int, Stored]]:
        """(stage's number, product) in the order of the program."""
        return ((i, stored) for i, stage in enumerate(self.stages) for stored in stage.values())


def decide(graphs: Sequence[Graph], layout: Layout, rule: Rule) -> Storage:
    """Choose the form of every integer product of a program's stages (lowered graphs)."""
    products = [
        (i, Product.of(graph, value))
        for i, graph in enumerate(graphs)
        for value in graph.values
        if value.op == "matvec" and "bias" in value.attrs
    ]
    found = [candidates(product, layout, rule.costs) for _, product in products]
    best = _best([rule.allowed(each) for each in found], rule)
    storage = Storage(rule, [{} for _ in graphs])
    for (i, product), each, form in zip(products, found, best, strict=True):
        storage.stages[i][product.name] = Stored(product, form, each)
    return storage


def _best(allowed: Sequence[Sequence[Candidate]], rule: Rule) -> list[str]:
    """A form for each product: the best choice under the best set of kernels."""
    forms = sorted({c.form for each in allowed for c in each})
    best: tuple[tuple[int, int], list[str]] | None = None
    for count in range(1, len(forms) + 1):
        for kernels in combinations(forms, count):
            chosen = _under(allowed, frozenset(kernels), rule)
            if chosen is None:
                continue
            code = sum(rule.costs.forms[form].code for form in {c.form for c in chosen})
            nbytes, instructions = code + sum(c.nbytes for c in chosen), sum(c.instructions for c in chosen)
            key = (instructions, nbytes) if rule.optimize == "speed" else (nbytes, instructions)
            if best is None or key < best[0]:
                best = key, [c.form for c in chosen]
    return best[1] if best else []


def _under(allowed: Sequence[Sequence[Candidate]], kernels: frozenset[str], rule: Rule) -> list[Candidate] | None:
    """The best candidate of each product among some kernels; None if there is none."""
    among = [[c for c in each if c.form in kernels] for each in allowed]
    if not all(among):
        return None
    if rule.optimize == "speed":
        return [min(each, key=lambda c: (c.instructions, c.nbytes)) for each in among]
    chosen = [min(each, key=lambda c: (c.nbytes, c.instructions)) for each in among]
    if rule.optimize == "size" or rule.form is not None:
        return chosen
    dense = [each[0].instructions for each in allowed]

    def time(i: int, c: Candidate) -> int:
        return dense[i] if c.form == "i4" else c.instructions

    while sum(time(i, c) for i, c in enumerate(chosen)) > SLOWER * sum(dense):  # buy time where it costs least bytes
        faster = [
            ((c.nbytes - chosen[i].nbytes) / (time(i, chosen[i]) - time(i, c)), i, c)
            for i, each in enumerate(among)
            for c in each
            if time(i, c) < time(i, chosen[i])
        ]
        if not faster:
            return None
        _, at, better = min(faster, key=lambda found: found[:2])
        chosen[at] = better
    return chosen


def manifest_rows(storage: Storage, stages: Sequence[str]) -> dict[str, Any]:
    """What the manifest says of the decisions: the rule, and every product with its form and all candidates."""
    products = [
        {
            "stage": stages[i],
            "name": stored.product.name,
            "shape": list(stored.product.weights.shape),
            "nonzero": int(np.count_nonzero(stored.product.weights)),
            "form": stored.form,
            "candidates": {c.form: {"bytes": c.nbytes, "instructions": c.instructions} for c in stored.candidates},
        }
        for i, stored in storage.products
    ]
    return {"optimize": storage.rule.optimize, "costs": storage.rule.costs.source, "products": products}
