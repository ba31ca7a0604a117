"""Arithmetic primitives: elementwise, products, reductions, solve, random."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from neurodeploy.errors import IRError, NumericsError
from neurodeploy.ir import fixed
from neurodeploy.ir.op import Array, Op, align, axis_of, broadcast, fit, same_kind
from neurodeploy.ir.types import TensorType

FLOAT = frozenset({"float"})
NUMBER = frozenset({"float", "int"})
ANY = frozenset({"float", "int", "bool"})


def _sigmoid(x: Array) -> Array:
    """``1 / (1 + e)`` for x >= 0 and ``e / (1 + e)`` below, ``e = exp(-|x|)``, with one array of either."""
    below = np.abs(x)
    np.negative(below, out=below)
    np.exp(below, out=below)
    found = np.minimum(x, 0)
    np.exp(found, out=found)  # 1 or e
    below += 1
    found /= below
    return found


def _softplus(x: Array) -> Array:
    return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))).astype(x.dtype)


def _wide(x: Array) -> Array:
    return x.astype(np.int64) if x.dtype.kind in "iub" else x


# -- elementwise -------------------------------------------------------------------------------------------------------


def _binary(name: str, function: Callable[[Array, Array], Array], *, keeps: bool = False) -> Op:
    """Integers give i32 (i64 if an argument is i64), or with ``keeps`` the arguments' own, equal dtype."""

    def infer(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
        shape = broadcast([t.shape for t in types])
        kind = same_kind(types)
        if kind == "bool" and not keeps:
            raise IRError(f"{name} is not defined on bool.")
        if keeps:
            if types[0].dtype != types[1].dtype:
                raise IRError(f"{name} takes two of one dtype, {types[0].dtype} and {types[1].dtype} given.")
            return TensorType(shape, types[0].dtype)
        if kind == "int":
            return TensorType(shape, "i64" if "i64" in (types[0].dtype, types[1].dtype) else "i32")
        return TensorType(shape, "f32")

    def evaluate(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, _: object) -> Array:
        a, b = align(args)
        if type_.is_int:
            return fit(function(_wide(a), _wide(b)), type_.dtype)
        return np.asarray(function(a, b)).astype(type_.numpy, copy=False)

    return Op(name, (2, 2), infer, evaluate, ANY if keeps else NUMBER, elementwise=True)


def _unary(name: str, function: Callable[[Array], Array], kinds: frozenset[str] = FLOAT) -> Op:
    def infer(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
        (t,) = types
        if not (t.dtype == "f32" or (t.is_int and "int" in kinds)):
            raise IRError(f"{name} is not defined on {t.dtype}.")
        keeps = t.dtype == "f32" or name == "relu"
        return TensorType(t.shape, t.dtype if keeps else ("i64" if t.dtype == "i64" else "i32"))

    def evaluate(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, _: object) -> Array:
        if type_.is_int:
            return fit(function(_wide(args[0])), type_.dtype)
        return np.asarray(function(args[0])).astype(type_.numpy, copy=False)

    return Op(name, (1, 1), infer, evaluate, kinds, elementwise=True)


def _compare(name: str, function: Callable[[Array, Array], Array]) -> Op:
    def infer(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
        same_kind(types)
        return TensorType(broadcast([t.shape for t in types]), "bool")

    def evaluate(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, _: object) -> Array:
        return function(*align(args))

    return Op(name, (2, 2), infer, evaluate, ANY, elementwise=True)


def _infer_select(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    if types[0].dtype != "bool":
        raise IRError(f"select needs a bool first, {types[0].dtype} given.")
    if types[1].dtype != types[2].dtype:
        raise IRError(f"select chooses between two of one dtype, {types[1].dtype} and {types[2].dtype} given.")
    return TensorType(broadcast([t.shape for t in types]), types[1].dtype)


def _infer_cast(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    if attrs.get("to") not in ("f32", "i8", "i16", "i32", "i64", "bool"):
        raise IRError(f"cast needs to= one of f32, i8, i16, i32, i64, bool; found {attrs.get('to')!r}.")
    return TensorType(types[0].shape, attrs["to"])


def _eval_cast(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, _: object) -> Array:
    """Into an integer: towards zero, saturating (NaN becomes 0). Into bool: whether it differs from 0."""
    x = args[0]
    if type_.dtype == "bool":
        return x != 0
    if not type_.is_int:
        return x.astype(np.float32)
    if x.dtype.kind == "f":
        wide = np.clip(np.trunc(np.nan_to_num(x.astype(np.float64))), -(2.0**62), 2.0**62).astype(np.int64)
        return fixed.saturate(wide, type_.dtype)
    return fixed.saturate(_wide(x), type_.dtype)


# -- products ----------------------------------------------------------------------------------------------------------


def _accumulator(types: Sequence[TensorType]) -> str:
    return "f32" if same_kind(types) == "float" else ("i64" if any(t.dtype == "i64" for t in types) else "i32")


def _infer_matmul(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    a, b = (t.shape for t in types)
    if not 1 <= len(a) <= 2 or not 1 <= len(b) <= 2 or a[-1] != b[0]:
        raise IRError(f"matmul of {a} and {b} is not defined; it takes [m,k]@[k], [k]@[k,n], [m,k]@[k,n] or [k]@[k].")
    return TensorType(a[:-1] + b[1:], _accumulator(types))


def _eval_matmul(
    args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, types: Sequence[TensorType]
) -> Array:
    """``a @ b``; integers accumulate in i32, exactly."""
    a, b = args
    if type_.is_int:
        return fixed.matmul(a, b, type_.dtype)
    return batched_matmul(a, b)


def batched_matmul(a: Array, b: Array) -> Array:
    """``a @ b`` with a batch axis in front of each; a constant matrix times a batch of vectors is one GEMM."""
    if a.ndim == 3 and a.shape[0] == 1 and b.ndim == 2:
        return b @ a[0].T
    if a.ndim == 2 and b.ndim == 3:
        return a @ b[0] if b.shape[0] == 1 else np.matmul(a[:, None, :], b)[:, 0]
    if a.ndim == 2 and b.ndim == 2:
        return (a * b).sum(axis=-1)
    if b.ndim == 2:
        return np.matmul(a, b[:, :, None])[:, :, 0]
    return np.matmul(a, b)


def _infer_einsum(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    inputs, terms, out = einsum_terms(attrs, len(types))
    sizes: dict[str, int] = {}
    for term, t in zip(terms, types, strict=True):
        if len(term) != len(t.shape):
            raise IRError(f"einsum '{inputs}': '{term}' does not match shape {t.shape}.")
        for letter, size in zip(term, t.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise IRError(f"einsum '{inputs}': '{letter}' is {sizes[letter]} and {size}.")
    if not set(out) <= set(sizes):
        raise IRError(f"einsum '{inputs}': the result names an index that no argument has.")
    return TensorType(tuple(sizes[letter] for letter in out), _accumulator(types))


def einsum_terms(attrs: Mapping[str, Any], count: int) -> tuple[str, list[str], str]:
    """Equation, argument terms and result term of attribute ``eq``, like ``ij,j->i``. Raises :class:`IRError`."""
    equation = attrs.get("eq", "")
    left, arrow, out = str(equation).partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != count or not all(t.isalpha() or not t for t in [*terms, out]) or "Z" in equation:
        raise IRError(f"einsum needs eq= like 'ij,j->i' with a term for each of {count} arguments; found {equation!r}.")
    return equation, terms, out


def _eval_einsum(
    args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, types: Sequence[TensorType]
) -> Array:
    """NumPy's ``einsum`` per sample; letter Z is the batch's. Integers accumulate in int64 and must fit i32."""
    _, terms, out = einsum_terms(attrs, len(args))
    batch = max(a.shape[0] for a in args)
    operands = [np.broadcast_to(_wide(a), (batch, *a.shape[1:])) if a.shape[0] != 1 else _wide(a)[0] for a in args]
    prefixed = [("Z" if a.shape[0] != 1 else "") + term for a, term in zip(args, terms, strict=True)]
    lead = "Z" if any(p.startswith("Z") for p in prefixed) else ""
    for chosen in _order(tuple(terms), out, tuple(a.shape[1:] for a in args)):
        picked = [(prefixed.pop(i), operands.pop(i)) for i in sorted(chosen, reverse=True)][::-1]
        kept = {*lead, *out, *"".join(prefixed)}
        result = lead + out if not prefixed else "".join(sorted({*"".join(p for p, _ in picked)} & kept))
        operands.append(np.einsum(f"{','.join(p for p, _ in picked)}->{result}", *(a for _, a in picked)))
        prefixed.append(result)
    result = operands[0] if lead else operands[0][None]
    return fit(result, type_.dtype) if type_.is_int else result.astype(np.float32, copy=False)


@lru_cache(maxsize=1024)
def _order(terms: tuple[str, ...], out: str, shapes: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Which arguments are multiplied first, by one sample's shapes: so it never depends on how many samples there are.

    NumPy's own choice does, and its BLAS then adds in another order.
    """
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    path, _ = np.einsum_path(f"{','.join(terms)}->{out}", *(np.broadcast_to(0.0, s) for s in shapes), optimize="greedy")
    return path[1:]


# -- reductions --------------------------------------------------------------------------------------------------------


def _reduced(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> tuple[int, ...]:
    shape = types[0].shape
    axis = axis_of(attrs, shape)
    return shape[:axis] + ((1,) if attrs.get("keepdims") else ()) + shape[axis + 1 :]


def _reduction(name: str, function: Any, kinds: frozenset[str]) -> Op:
    def infer(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
        t = types[0]
        if t.dtype == "bool" or (t.is_int and "int" not in kinds):
            raise IRError(f"{name} is not defined on {t.dtype}.")
        if name == "argmax":
            return TensorType(_reduced(types, attrs), "i32")
        wide = t.is_int and name == "sum"
        return TensorType(_reduced(types, attrs), ("i64" if t.dtype == "i64" else "i32") if wide else t.dtype)

    def evaluate(
        args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, types: Sequence[TensorType]
    ) -> Array:
        axis = axis_of(attrs, types[0].shape) + 1
        result = function(_wide(args[0]), axis=axis, keepdims=bool(attrs.get("keepdims")))
        return fit(result, type_.dtype) if type_.is_int else result.astype(type_.numpy, copy=False)

    return Op(name, (1, 1), infer, evaluate, kinds, ("axis", "keepdims"))


def _infer_softmax(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    if types[0].dtype != "f32":
        raise IRError(f"softmax is not defined on {types[0].dtype}.")
    axis_of(attrs, types[0].shape)
    return types[0].with_(quant=None)


def _eval_softmax(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, types: object) -> Array:
    axis = axis_of(attrs, type_.shape) + 1
    e = np.exp(args[0] - args[0].max(axis=axis, keepdims=True))
    return (e / e.sum(axis=axis, keepdims=True)).astype(np.float32, copy=False)


# -- solve and random --------------------------------------------------------------------------------------------------


def _infer_solve(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    a, b = types
    if len(a.shape) != 2 or a.shape[0] != a.shape[1] or b.shape != a.shape[:1] or {a.dtype, b.dtype} != {"f32"}:
        raise IRError(f"solve takes f32[n,n] and f32[n]; {a} and {b} given.")
    return TensorType(b.shape, "f32")


def _eval_solve(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, types: object) -> Array:
    """x with ``a x = b``. Raises :class:`NumericsError` where a is singular."""
    a, b = args
    try:
        return np.linalg.solve(a.astype(np.float64), b.astype(np.float64)[..., None])[..., 0].astype(np.float32)
    except np.linalg.LinAlgError as error:
        raise NumericsError("solve met a singular matrix.") from error


def _infer_random(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> TensorType:
    if types[0].shape != () or types[0].dtype != "i32":
        raise IRError(f"random takes a counter i32[], {types[0]} given.")
    if not isinstance(attrs.get("seed"), int) or attrs.get("dtype", "f32") not in ("f32", "i16"):
        raise IRError("random needs seed= (an int) and shape=, and dtype= f32 (the default) or i16.")
    return TensorType(tuple(attrs.get("shape", ())), attrs.get("dtype", "f32"))


def _eval_random(args: Sequence[Array], attrs: Mapping[str, Any], type_: TensorType, types: object) -> Array:
    """Uniform in [0, 1): 24 random bits times 2^-24 as f32, or 15 bits as i16. See :func:`fixed.philox`."""
    words = fixed.philox(args[0].astype(np.uint32), type_.size, attrs["seed"]).reshape(-1, *type_.shape)
    if type_.dtype == "i16":
        return (words >> np.uint32(17)).astype(np.int16)
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


_OPS = (
    _binary("add", np.add),
    _binary("sub", np.subtract),
    _binary("mul", np.multiply),
    _binary("div", lambda a, b: fixed.divide(a, b) if a.dtype.kind == "i" else np.divide(a, b)),
    _binary("min", np.minimum, keeps=True),
    _binary("max", np.maximum, keeps=True),
    _unary("neg", np.negative, NUMBER),
    _unary("abs", np.abs, NUMBER),
    _unary("tanh", np.tanh),
    _unary("sigmoid", _sigmoid),
    _unary("exp", np.exp),
    _unary("log", np.log),
    _unary("sqrt", lambda x: fixed.isqrt(x) if x.dtype.kind == "i" else np.sqrt(x), NUMBER),
    _unary("relu", lambda x: np.maximum(x, 0), NUMBER),
    _unary("softplus", _softplus),
    _unary("floor", np.floor),
    _unary("round", np.rint),
    _compare("eq", np.equal),
    _compare("lt", np.less),
    _compare("ne", np.not_equal),
    Op("select", (3, 3), _infer_select, lambda a, at, t, ts: np.where(*align(a)), ANY, elementwise=True),
    Op("cast", (1, 1), _infer_cast, _eval_cast, ANY, ("to",), elementwise=True),
    Op("matmul", (2, 2), _infer_matmul, _eval_matmul, NUMBER),
    Op("einsum", (1, 4), _infer_einsum, _eval_einsum, NUMBER, ("eq",)),
    _reduction("sum", np.sum, NUMBER),
    _reduction("prod", np.prod, FLOAT),
    _reduction("reduce_max", np.max, NUMBER),
    _reduction("argmax", np.argmax, NUMBER),
    Op("softmax", (1, 1), _infer_softmax, _eval_softmax, FLOAT, ("axis",)),
    Op("solve", (2, 2), _infer_solve, _eval_solve, FLOAT),
    Op("random", (1, 1), _infer_random, _eval_random, NUMBER, ("seed", "shape", "dtype")),
)
MATH_OPS: dict[str, Op] = {op.name: op for op in _OPS}
