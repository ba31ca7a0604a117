"""Cutting a loop in two, so that fewer of the vectors that it reads are alive together.

A gated cell's one loop reads the products of all its gates. Where some of them are all that a part of the loop needs,
that part goes first and leaves one vector behind; the other products are computed after it, into the memory of the
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from neurodeploy.ir.graph import Value
from neurodeploy.passes.fuse import Call, Fused, Item, Loop

#: A loop that reads more products than this is left whole: every subset of them is looked at.
_MOST = 10


@dataclass(frozen=True)
class _Cut:
    """``first``: values computed before the other products; ``peak``: bytes alive together at the most, and then."""

    products: frozenset[str]
    first: tuple[Value, ...]
    peak: tuple[int, int]


def cut(fused: Fused) -> Fused:
    """The work with every loop cut in two where that lowers the peak of its memory."""
    makers = {item.value.name: item for item in fused.items if isinstance(item, Call) and item.value.op == "matvec"}
    items: list[Item] = list(fused.items)
    for loop in fused.items:
        if not isinstance(loop, Loop) or loop.guard or not loop.shape:
            continue
        products = _products(fused, loop, makers)
        chosen = _best(fused, loop, products) if 3 <= len(products) <= _MOST else None
        if chosen is None:
            continue
        early = {v.name for v in chosen.first}
        late = [makers[n] for n in products if n not in chosen.products]
        at = items.index(loop)
        rest = tuple(v for v in loop.values if v.name not in early)
        before = [item for item in items[:at] if not any(item is m for m in late)]
        items = [*before, Loop(chosen.first), *late, Loop(rest), *items[at + 1 :]]
    return replace(fused, items=tuple(items))


def _products(fused: Fused, loop: Loop, makers: Mapping[str, Call]) -> dict[str, int]:
    """Products that this loop alone reads -> their bytes."""
    read = set(fused.reads(loop))
    others = {n for item in fused.items if item is not loop for n in fused.reads(item)}
    found: dict[str, int] = {}
    for name in sorted(read):
        source = fused.source.get(name, "")
        elsewhere = any(fused.source.get(n) == source for n in others)
        if source in makers and not makers[source].guard and not elsewhere and fused.views[source].base == source:
            found[source] = makers[source].value.tensor.nbytes
    return found


def _best(fused: Fused, loop: Loop, products: Mapping[str, int]) -> _Cut | None:
    whole = sum(products.values())
    best: _Cut | None = None
    for count in range(2, len(products)):
        for chosen in combinations(products, count):
            found = _cut(fused, loop, frozenset(chosen), products)
            if found is not None and found.peak < (best.peak if best else (whole, 0)):
                best = found
    return best


def _cut(fused: Fused, loop: Loop, chosen: frozenset[str], products: Mapping[str, int]) -> _Cut | None:
    """What can be computed from some of the products (and states, inputs, constants), and what it leaves behind."""
    own = {value.name for value in loop.values}
    done: dict[str, Value] = {}
    for value in loop.values:
        sources = [fused.source.get(a, "") for a in value.args]
        waits = any((s in products and s not in chosen) or (s in own and s not in done) for s in sources)
        uses = any(s in chosen or s in done for s in sources)
        if uses and not waits:
            done[value.name] = value
    rest = [value for value in loop.values if value.name not in done]
    needed = {fused.source.get(a, "") for value in rest for a in value.args} & set(done)
    if not done or not rest or any(done[n].tensor.dtype == "i64" for n in needed):
        return None
    first = sum(products[n] for n in chosen)
    left = sum(done[n].tensor.nbytes for n in needed)
    later = sum(size for n, size in products.items() if n not in chosen)
    return _Cut(chosen, tuple(done.values()), (max(first, left + later), left + later))
