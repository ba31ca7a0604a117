"""Sums of products with constant weights: one int32 accumulator a row, proved not to overflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.types import Quant
from neurodeploy.passes.quantize_rounding import FEW_BITS, MOST_BITS, SHARES, UNCLIPPED, compensated, part_of
from neurodeploy.passes.quantize_values import I32_MAX, Const, Emitter, Fixed

#: A bias may take this much of the accumulator; the row's scale grows where it would take more.
_BIAS_MAX = 2**29
#: Bits of a vector that may be given up for bits of its weights.
_SPARE_BITS = 6


@dataclass
class Sum:
    """The terms that a tree of add and sub adds up: ``(sign, name)``."""

    products: list[tuple[int, Value]] = field(default_factory=list)
    constants: list[tuple[int, str]] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)


def find_sums(graph: Graph, constants: set[str]) -> tuple[dict[str, Sum], set[str]]:
    """Root value -> its sum, for every tree with a product in it; and the values that are absorbed into one."""
    made = {value.name: value for value in graph.values}
    kept = {*graph.outputs.values(), *(s.next for s in graph.states), *(s.when for s in graph.states)}
    uses = graph.uses()
    count = {v.name: sum(u.args.count(v.name) for u in uses.get(v.name, [])) for v in graph.values}

    def absorbed(name: str) -> bool:
        return name in made and count[name] == 1 and name not in kept

    def collect(name: str, sign: int, into: Sum, root: bool) -> None:
        value = made.get(name)
        if name in constants:
            into.constants.append((sign, name))
        elif value is not None and is_product(value, graph, constants) and (root or absorbed(name)):
            into.products.append((sign, value))
            into.inner.append(name)
        elif value is not None and value.op in ("add", "sub") and _float(value) and (root or absorbed(name)):
            into.inner.append(name)
            collect(value.args[0], sign, into, False)
            collect(value.args[1], -sign if value.op == "sub" else sign, into, False)
        else:
            into.others.append((sign, name))

    sums: dict[str, Sum] = {}
    taken: set[str] = set()
    for value in reversed(graph.values):
        if value.name in taken or value.name in constants or not _float(value):
            continue
        if value.op in ("add", "sub") or is_product(value, graph, constants):
            found = Sum()
            collect(value.name, 1, found, True)
            if found.products:
                sums[value.name] = found
                taken.update(name for name in found.inner if name != value.name)
    return sums, taken


def _float(value: Value) -> bool:
    return value.body is None and value.op != "get" and value.tensor.dtype == "f32"


def is_product(value: Value, graph: Graph, constants: set[str]) -> bool:
    """Whether a value is ``matmul(constant [m,k], vector)``."""
    return (
        value.op == "matmul"
        and value.args[0] in constants
        and value.args[1] not in constants
        and len(value.tensor.shape) == 1
        and value.tensor.dtype == "f32"
    )


def accumulate(
    e: Emitter,
    terms: list[tuple[str, np.ndarray, Fixed]],
    bias: np.ndarray,
    bits: Sequence[int],
    want: float,
    name: str,
    moment: np.ndarray | None = None,
) -> Fixed:
    """``sum W x + bias`` as one ``affine`` with an int32 accumulator, or a sum of several where one could overflow.

    terms: name of the weight, W[m, k] and x. The row's scale is ``a = max_p max|W_row| s_x / (2^(bits_p-1) - 1)``;
    weights of more than 8 bits take as many as the accumulator is proved to hold. Weights that are stored in 4, 8 and
    16 bits have accumulators of their own. ``moment``: ``E[v v^T]`` of the vectors and a 1, which weights of at
    most 8 bits are rounded against.
    """
    stored = [storage_bits(b) for b in bits]
    if len(set(stored)) > 1:
        return _apart(e, terms, bias, bits, want, name, moment)
    tops = [2 ** (b - 1) - 1 for b in bits]
    terms = _balanced(e, terms, bits)
    steps = [np.abs(w).max(axis=1) * float(x.scale) / top for (_, w, x), top in zip(terms, tops, strict=True)]
    a = np.max(steps, axis=0)
    least = np.abs(bias) / _BIAS_MAX
    a = np.maximum(a, least)
    floor = a[a > 0].min() if (a > 0).any() else float(terms[0][2].scale) / min(tops)
    a = np.where(a > 0, a, floor)
    if stored[0] == 16:
        fitting = np.maximum(a, _finest(terms, bias))
        if np.any(fitting > a * min(tops) / 127):
            return _split(e, terms, bias, bits, want, name)
        a = fitting
    moved = bias
    if moment is not None and max(bits) <= MOST_BITS:
        tried = SHARES if max(bits) <= FEW_BITS else UNCLIPPED
        a, whole, moved = _compensated(terms, tops, a, bias, moment, least, tried)
    else:
        whole = [
            np.clip(np.rint(w * (float(x.scale) / a)[:, None]), -top, top).astype(np.int64)
            for (_, w, x), top in zip(terms, tops, strict=True)
        ]
    offset = np.rint(moved / a).astype(np.int64)
    reach = sum(np.abs(w).sum(axis=1) * x.size for w, (_, _, x) in zip(whole, terms, strict=True)) + np.abs(offset)
    if int(np.max(reach)) <= I32_MAX:
        return _affine(e, terms, whole, offset, a, want, name, "i16" if stored[0] == 16 else "i8")
    return _split(e, terms, bias, bits, want, name, moment)


def storage_bits(bits: int) -> int:
    """The bits that a weight takes in flash: 4 (two a byte), 8 or 16."""
    return 4 if bits <= 4 else 8 if bits <= 8 else 16


def _finest(terms: list[tuple[str, np.ndarray, Fixed]], bias: np.ndarray) -> np.ndarray:
    """The least scale of each row at which 16-bit weights surely fit the accumulator, each rounded half a step up."""
    room = I32_MAX - 1 - sum((w.shape[1] * x.size + 1) // 2 for _, w, x in terms)
    if room <= 0:
        return np.full(len(bias), np.inf)
    return (sum(np.abs(w).sum(axis=1) * float(x.scale) * x.size for _, w, x in terms) + np.abs(bias)) / room


def _compensated(
    terms: list,
    tops: list[int],
    a: np.ndarray,
    bias: np.ndarray,
    moment: np.ndarray,
    least: np.ndarray,
    tried: np.ndarray,
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Scales, whole weights and bias with the least mean square error of the accumulated products."""
    columns = [w.shape[1] for _, w, _ in terms]
    scales = np.repeat([float(x.scale) for _, _, x in terms], columns)
    every = np.concatenate([w for _, w, _ in terms], axis=1)
    whole, share, bias = compensated(
        every, a[:, None] / scales, np.repeat(tops, columns), bias, moment, np.minimum(least / a, 1.0), tried
    )
    return a * share, np.split(whole, np.cumsum(columns)[:-1], axis=1), bias


def spare_bits(terms: list[tuple[str, np.ndarray, Fixed]], bits: Sequence[int]) -> list[int]:
    """Bits of every product's vector that its weights could make better use of.

    Products share one accumulator scale a row, so weights whose product is small against another's would be left with
    few levels. A vector has 16 bits, a weight 8: up to 6 bits of the vector are given for as many of the weights.
    Weights of 16 bits have levels enough; those that are stored apart don't compete.
    """
    stored = [storage_bits(b) for b in bits]
    if len(set(stored)) > 1:
        spare = [0] * len(terms)
        for width in set(stored):
            chosen = [i for i, s in enumerate(stored) if s == width]
            for i, own in zip(chosen, spare_bits([terms[i] for i in chosen], [bits[i] for i in chosen]), strict=True):
                spare[i] = own
        return spare
    if len(terms) == 1 or max(bits) > 8:
        return [0] * len(terms)
    tops = [2 ** (b - 1) - 1 for b in bits]
    steps = np.stack([np.abs(w).max(axis=1) * float(x.scale) / top for (_, w, x), top in zip(terms, tops, strict=True)])
    largest = steps.max(axis=0)
    found = []
    for (_, _, x), own in zip(terms, steps, strict=True):
        used = (own > 0) & (largest > 0)
        gain = float(np.median(np.log2(largest[used] / own[used]))) if used.any() else 0.0
        found.append(min(round(gain), _SPARE_BITS) if x.dtype == "i16" else 0)
    return found


def _balanced(
    e: Emitter, terms: list[tuple[str, np.ndarray, Fixed]], bits: Sequence[int]
) -> list[tuple[str, np.ndarray, Fixed]]:
    """The terms with vectors coarsened by powers of two so that the products' weights use their bits alike."""
    return [
        (stem, w, e.rescale(x, float(x.scale) * 2**spare, "i16") if spare >= 1 else x)
        for (stem, w, x), spare in zip(terms, spare_bits(terms, bits), strict=True)
    ]


def _affine(
    e: Emitter,
    terms: list,
    whole: list[np.ndarray],
    offset: np.ndarray,
    a: np.ndarray,
    want: float,
    name: str,
    dtype: str,
) -> Fixed:
    args = []
    low, high = offset.copy(), offset.copy()
    for (stem, _, x), w in zip(terms, whole, strict=True):
        args += [e.weights(w, dtype, stem, Quant(tuple((a / float(x.scale)).tolist()), 0, 0)), x.sym]
        ends = np.stack([w * int(x.lo), w * int(x.hi)])
        low, high = low + ends.min(axis=0).sum(axis=1), high + ends.max(axis=0).sum(axis=1)
    bias = e.integers(offset, "i32", f"{name}.bias")
    (sym,) = e.b.call("affine", *args, bias, name=e.b.fresh(f"{name}.acc"))
    return Fixed(sym, a, low, high, want)


def _split(
    e: Emitter,
    terms: list,
    bias: np.ndarray,
    bits: Sequence[int],
    want: float,
    name: str,
    moment: np.ndarray | None = None,
) -> Fixed:
    """The columns in two halves, each accumulated and brought to one scale, then added."""
    halves: list[list] = [[], []]
    parts = [bits[:1], bits[1:]]
    columns = [w.shape[1] for _, w, _ in terms]
    chosen = [[0], list(range(1, len(terms)))]
    if len(terms) > 1:
        halves = [terms[:1], terms[1:]]
    else:
        stem, w, x = terms[0]
        parts = [bits, bits]
        middle = w.shape[1] // 2
        columns, chosen = [middle, w.shape[1] - middle], [[0], [1]]
        for i, (start, stop) in enumerate(((0, middle), (middle, w.shape[1]))):
            part = e.emit(
                "slice", (x.sym,), x.scale, x.lo, x.hi, x.want, f"{x.sym.name}.part", axis=0, start=start, stop=stop
            )
            halves[i] = [(f"{stem}.{start}_{stop}", w[:, start:stop], part)]
    own = [None if moment is None else part_of(moment, columns, c) for c in chosen]
    first = accumulate(e, halves[0], bias, parts[0], want, name, own[0])
    second = accumulate(e, halves[1], np.zeros_like(bias), parts[1], want, name, own[1])
    return _joined(e, first, second, want, name)


def _apart(
    e: Emitter, terms: list, bias: np.ndarray, bits: Sequence[int], want: float, name: str, moment: np.ndarray | None
) -> Fixed:
    """An accumulator for every width that weights are stored in; the widest weights have the bias."""
    total: Fixed | None = None
    columns = [w.shape[1] for _, w, _ in terms]
    stored = [storage_bits(b) for b in bits]
    for width in sorted(set(stored), reverse=True):
        chosen = [i for i, s in enumerate(stored) if s == width]
        own = None if moment is None else part_of(moment, columns, chosen)
        offset = bias if total is None else np.zeros_like(bias)
        part = accumulate(e, [terms[i] for i in chosen], offset, [bits[i] for i in chosen], want, name, own)
        total = part if total is None else _joined(e, total, part, want, name)
    if total is None:
        raise AssertionError("a sum of products has a product")
    return total


def _joined(e: Emitter, first: Fixed, second: Fixed, want: float, name: str) -> Fixed:
    """The sum of two accumulators, in 32 bits where both reach a scale well below the result's: parts may be large."""
    scale = 2.0 ** math.ceil(math.log2(max(first.real + second.real, 1e-30) / 2.0**29))
    while scale <= want / 4 and not (e.reaches(first, scale) and e.reaches(second, scale)):
        scale *= 2
    if scale <= want / 4:
        one, other = e.rescale(first, scale, "i32"), e.rescale(second, scale, "i32")
    else:
        one, other = e.align(first, second, want)
    lo, hi = one.lo + other.lo, one.hi + other.hi
    return e.emit("add", (one.sym, other.sym), one.scale, lo, hi, want, f"{name}.sum")


def product_terms(found: Sum, consts: dict[str, Const]) -> list[tuple[str, np.ndarray, str]]:
    """Name of the weight, signed weights and name of the vector, of every product."""
    return [(v.args[0], sign * consts[v.args[0]].data.astype(np.float64), v.args[1]) for sign, v in found.products]
