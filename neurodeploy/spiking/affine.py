"""Which values of a graph are affine in one other value, and their matrices: ``value = matrix @ base + offset``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from neurodeploy.ir.graph import Graph, Value
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import TensorType


@dataclass(frozen=True)
class Affine:
    """``matrix @ base + offset`` in float64: matrix ``[n, m]``, offset ``[n]``; a constant of any shape has no base."""

    offset: np.ndarray
    base: str | None = None
    matrix: np.ndarray | None = None


def affine_values(graph: Graph, bases: Iterable[str]) -> dict[str, Affine]:
    """Every name whose value is constant or affine in exactly one of ``bases`` (vectors) -> how."""
    known = {name: Affine(param.data.astype(np.float64)) for name, param in graph.params.items()}
    for base in bases:
        size = graph.tensor(base).size
        known[base] = Affine(np.zeros(size), base, np.eye(size))
    _extend(graph, known)
    return known


def _extend(graph: Graph, known: dict[str, Affine]) -> None:
    types = graph.types()
    for value in graph.values:
        if value.name in known or any(arg not in known for arg in value.args):
            continue
        if not isinstance(value.type, TensorType) or value.type.dtype != "f32":
            continue
        args = [known[arg] for arg in value.args]
        if value.body is not None:
            inner = dict(zip(value.body.inputs, args, strict=True))
            _extend(value.body, inner)
            found = inner.get(next(iter(value.body.outputs.values())))
        elif all(arg.base is None for arg in args):
            found = _constant(value, args, types)
        else:
            found = _rule(value, args)
        if found is not None:
            known[value.name] = found


def _constant(value: Value, args: list[Affine], types: Mapping[str, object]) -> Affine:
    arrays = [arg.offset[None].astype(np.float32) for arg in args]
    arg_types = [types[arg] for arg in value.args]
    result = OPS[value.op].eval(arrays, value.attrs, value.tensor, arg_types)  # type: ignore[arg-type]
    return Affine(result[0].astype(np.float64))


def _rule(value: Value, args: list[Affine]) -> Affine | None:
    shape = value.tensor.shape
    if len(shape) != 1:
        return None
    moving = [arg for arg in args if arg.base is not None]
    if any(arg.base != moving[0].base for arg in moving):
        return None
    op, first = value.op, args[0]
    if op in ("add", "sub"):
        return _sum(args, shape[0], 1.0 if op == "add" else -1.0)
    if op == "neg":
        return _times(first, np.asarray(-1.0))
    if op == "mul" and len(moving) == 1 and moving[0].offset.shape == shape:
        factor = args[1] if first.base is not None else first
        return _times(moving[0], factor.offset)
    if op == "div" and len(moving) == 1 and first.base is not None and first.offset.shape == shape:
        return _times(first, 1.0 / args[1].offset)
    if op == "matmul" and len(moving) == 1:
        weight = args[1].offset.T if first.base is not None else first.offset
        return Affine(weight @ moving[0].offset, moving[0].base, weight @ _matrix(moving[0]))
    if op == "reshape":
        return first
    if op == "slice":
        part = slice(value.attrs.get("start"), value.attrs.get("stop"), value.attrs.get("step", 1))
        return Affine(first.offset[part], first.base, _matrix(first)[part])
    if op == "concat":
        width = _matrix(moving[0]).shape[1]
        rows = [arg.matrix if arg.matrix is not None else np.zeros((arg.offset.size, width)) for arg in args]
        return Affine(np.concatenate([arg.offset for arg in args]), moving[0].base, np.concatenate(rows))
    return None


def _matrix(arg: Affine) -> np.ndarray:
    return arg.matrix if arg.matrix is not None else np.zeros((arg.offset.size, 0))


def _times(arg: Affine, factor: np.ndarray) -> Affine:
    column = np.broadcast_to(factor, arg.offset.shape)[:, None]
    return Affine(arg.offset * factor, arg.base, _matrix(arg) * column)


def _sum(args: list[Affine], size: int, sign: float) -> Affine | None:
    a, b = args
    if any(arg.base is not None and arg.offset.size != size for arg in args):
        return None
    base = a.base or b.base
    left, right = (arg.matrix if arg.matrix is not None else 0.0 for arg in args)
    return Affine(np.broadcast_to(a.offset + sign * b.offset, (size,)), base, np.asarray(left + sign * right))
