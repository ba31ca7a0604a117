"""Products of two values, general einsums, and reductions, in int32 with proven bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.ir.graph import Value
from neurodeploy.ir.ops_math import einsum_terms
from neurodeploy.passes.quantize_values import I32_MAX, Const, Fixed, Plain

if TYPE_CHECKING:
    from neurodeploy.passes.quantize_lower import Lowering


def _fitted(z: Lowering, factors: list[Fixed], count: int) -> list[Fixed]:
    """Factors with bits cut off, the widest first, until ``count`` products add up within i32."""
    while True:
        product = count
        for factor in factors:
            product *= factor.size
        if product <= I32_MAX:
            return factors
        i = max(range(len(factors)), key=lambda j: factors[j].size)
        x = factors[i]
        factors = [*factors[:i], z.e.rescale(x, float(x.scale) * 2, "i16"), *factors[i + 1 :]]


def _weight(z: Lowering, name: str, const: Const) -> Fixed:
    """A constant factor in the weights' bits with one scale."""
    bits = z.widths.bits(z.stage.name, name)
    scale = (const.top or 1.0) / (2 ** (bits - 1) - 1)
    return z.e.constant(const, scale, "i8" if bits <= 8 else "i16", name, scale)


def _product(z: Lowering, value: Value, count: int, attrs: Mapping[str, Any]) -> Fixed:
    factors = []
    for name in value.args:
        found = z.env[name]
        factors.append(_weight(z, name, found) if isinstance(found, Const) else z.e.narrow(z.fixed(name)))
    factors = _fitted(z, factors, count)
    scale, size = 1.0, count
    for factor in factors:
        scale, size = scale * float(factor.scale), size * factor.size
    low = 0 if all(int(f.lo) >= 0 for f in factors) else -size
    return z.e.emit(value.op, tuple(f.sym for f in factors), scale, low, size, z.want(value), value.name, **attrs)


def _matmul(z: Lowering, value: Value) -> Fixed:
    inner = z.types[value.args[0]].shape[-1]  # type: ignore[union-attr]
    return _product(z, value, inner, {})


def _einsum(z: Lowering, value: Value) -> Fixed:
    _, terms, out = einsum_terms(value.attrs, len(value.args))
    sizes: dict[str, int] = {}
    for term, name in zip(terms, value.args, strict=True):
        sizes.update(zip(term, z.types[name].shape, strict=True))  # type: ignore[union-attr]
    count = int(np.prod([size for letter, size in sizes.items() if letter not in out], dtype=np.int64))
    return _product(z, value, count, value.attrs)


def _sum(z: Lowering, value: Value) -> Fixed:
    x = z.e.single(z.fixed(value.args[0]))
    count = x.shape[value.attrs.get("axis", 0)]
    scale = float(x.scale)
    if x.size * count > I32_MAX:
        while (x.size * float(x.scale) / scale + 1) * count > I32_MAX or not z.e.reaches(x, scale):
            scale *= 2
        x = z.e.rescale(x, scale, "i32")
    low, high = int(x.lo) * count, int(x.hi) * count
    return z.e.emit("sum", (x.sym,), scale, low, high, z.want(value), value.name, **value.attrs)


def _reduce_max(z: Lowering, value: Value) -> Fixed:
    x = z.e.single(z.fixed(value.args[0]))
    return z.e.emit("reduce_max", (x.sym,), x.scale, x.lo, x.hi, z.want(value), value.name, **value.attrs)


def _argmax(z: Lowering, value: Value) -> Plain:
    x = z.e.single(z.fixed(value.args[0]))
    return Plain(z.b("argmax", x.sym, name=value.name, **value.attrs))


def product_rules() -> dict[str, Any]:
    """Op -> rule."""
    return {"matmul": _matmul, "einsum": _einsum, "sum": _sum, "reduce_max": _reduce_max, "argmax": _argmax}
