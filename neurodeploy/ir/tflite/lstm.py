"""TFLite's fused LSTM, UNIDIRECTIONAL_SEQUENCE_LSTM: its kernel as a composite whose body is written in primitives.

Sources: tensorflow/tflite-micro, ``micro/kernels/lstm_eval.h`` (``LstmStep``), ``lstm_eval_common.cc`` (multipliers)
and ``lstm_eval.cc``; the recipe is of Li and Alvarez, "On the quantization of recurrent neural networks"
(arXiv 2101.05453). The three primitives here are what the kernel does inside and TFLM has no operator for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.errors import IRError
from neurodeploy.ir.op import Array, Op, align, broadcast, saturate
from neurodeploy.ir.tflite import pointwise, products
from neurodeploy.ir.tflite.fixed_point import INT, Attrs, Types, scale_of
from neurodeploy.ir.types import Quant, TensorType

if TYPE_CHECKING:
    from neurodeploy.ir.build import Builder, Sym

#: Scale of the gates' inputs (Q3.12), and of their outputs (Q0.15).
GATE_IN, GATE_OUT = Quant(2.0**-12), Quant(2.0**-15)
#: How the gates stand in the arguments of :func:`tflite_lstm`.
GATES = ("i", "f", "g", "o")
#: Dtypes of weights, biases and c by the dtype of x and h.
WEIGHTS: dict[str, tuple[str, str, str]] = {
    "f32": ("f32", "f32", "f32"),
    "i8": ("i8", "i32", "i16"),
    "i16": ("i8", "i64", "i16"),
}

_EVAL: dict[str, Callable[..., Array]] = {op.name: op.eval for op in (*products.OPS, *pointwise.OPS)}


def _infer_wide(types: Types, attrs: Attrs) -> TensorType:
    x, w = types[:2]
    if (x.dtype, w.dtype) != ("i8", "i8") or not x.shape or len(w.shape) != 2 or x.shape[-1] != w.shape[1]:
        raise IRError(f"takes i8[...,k], weights i8[n,k] and perhaps a bias i32[n]; {x} and {w} given.")
    if len(types) == 3 and (types[2].dtype, types[2].shape) != ("i32", w.shape[:1]):
        raise IRError(f"takes a bias i32[{w.shape[0]}]; {types[2]} given.")
    return TensorType((*x.shape[:-1], w.shape[0]), "i16")


def _infer_add(types: Types, attrs: Attrs) -> TensorType:
    if {t.dtype for t in types} != {"i16"}:
        raise IRError(f"takes two i16; {' and '.join(map(str, types))} given.")
    if types[0].quant != types[1].quant:
        raise IRError(f"adds integers of one scale; {types[0]} and {types[1]} given.")
    return TensorType(broadcast([t.shape for t in types]), "i16")


def _eval_add(args: Sequence[Array], attrs: Attrs, type_: TensorType, types: Types) -> Array:
    a, b = (x.astype(np.int64) for x in align(args))
    return saturate(a + b, "i16")


def _infer_narrow(types: Types, attrs: Attrs) -> TensorType:
    if {t.dtype for t in types} != {"i16"}:
        raise IRError(f"takes two i16; {' and '.join(map(str, types))} given.")
    return TensorType(broadcast([t.shape for t in types]), "i8")


OPS = (
    Op("tfl_fully_connected_wide", (2, 3), _infer_wide, _EVAL["tfl_fully_connected"], INT),
    Op("tfl_add_saturating", (2, 2), _infer_add, _eval_add, INT, elementwise=True),
    Op("tfl_mul_narrow", (2, 2), _infer_narrow, _EVAL["tfl_mul"], INT, elementwise=True),
)


def tflite_lstm(b: Builder, x: Sym, h: Sym, c: Sym, *weights: Sym, cell_clip: float = 0.0) -> dict[str, Sym]:
    """TFLite's LSTM; ``weights`` are ``W_i W_f W_g W_o  U_i U_f U_g U_o  b_i b_f b_g b_o``::

        i, f, o = logistic(W x + b + U h);  g = tanh(the same of its own)
        c' = clip(f c + i g);  h' = o tanh(c')

    All f32, or on integers: x and h both i8 (a zero point each) or both i16 (zero points 0), on scales of their own; h'
    has h's. c is i16 with a power-of-two scale and its sum saturates. W[n, k] and U[n, n] are i8 with one scale each,
    the biases i32 for i8 and i64 for i16, on the scales of x times W. Each product of a gate saturates as Q3.12, as
    does their sum; gates are Q0.15. ``cell_clip`` > 0 limits c'. Raises :class:`IRError` for other types.
    """
    if len(weights) != 12:
        raise IRError(f"tflite_lstm takes x, h, c, four W, four U and four biases; {3 + len(weights)} arguments given.")
    _check(x.type, h.type, c.type, [w.type for w in weights])
    if x.type.dtype == "f32":
        return _floats(b, x, h, c, weights, cell_clip)
    wide = "tfl_fully_connected" if x.type.dtype == "i16" else "tfl_fully_connected_wide"
    scale = c.type.quant

    def gate(index: int) -> Sym:
        name = GATES[index]
        seen = b(wide, x, weights[index], weights[8 + index], name=f"{name}_x", quant=GATE_IN)
        kept = b(wide, h, weights[4 + index], name=f"{name}_h", quant=GATE_IN)
        total = b("tfl_add_saturating", seen, kept, name=f"{name}_in", quant=GATE_IN)
        return b("tfl_tanh" if name == "g" else "tfl_logistic", total, name=f"{name}_gate", quant=GATE_OUT)

    i, f, g, o = map(gate, range(4))
    kept, new = b("tfl_mul", f, c, name="kept", quant=scale), b("tfl_mul", i, g, name="new", quant=scale)
    cell = b("tfl_add_saturating", kept, new, name="cell", quant=scale)
    if cell_clip > 0:
        cell = _clipped(b, cell, cell_clip)
    out = b("tfl_tanh", cell, name="cell_tanh", quant=GATE_OUT)
    narrow = "tfl_mul" if h.type.dtype == "i16" else "tfl_mul_narrow"
    return {"h": b(narrow, out, o, name="hidden", quant=h.type.quant), "c": cell}


def _floats(b: Builder, x: Sym, h: Sym, c: Sym, weights: Sequence[Sym], clip: float) -> dict[str, Sym]:
    def gate(index: int) -> Sym:
        name = GATES[index]
        seen = b("add", weights[index] @ x, weights[8 + index], name=f"{name}_x")
        kept = b("matmul", weights[4 + index], h, name=f"{name}_h")
        total = b("add", seen, kept, name=f"{name}_in")
        return b("tanh" if name == "g" else "sigmoid", total, name=f"{name}_gate")

    i, f, g, o = map(gate, range(4))
    cell = f * c + i * g
    if clip > 0:
        cell = b("max", b("min", cell, clip), -clip)
    return {"h": b("tanh", cell) * o, "c": cell}


def _clipped(b: Builder, cell: Sym, clip: float) -> Sym:
    """c' limited to the integers of ``clip``, cut off towards zero as ``CreateLstmCellStateInfo`` does."""
    limit = int(min(np.float64(np.float32(clip)) / np.float64(scale_of(cell.type)), 32767.0))
    quant = cell.type.quant
    top = b("const", value=limit, dtype="i16", name="top", quant=quant)
    bottom = b("const", value=-limit, dtype="i16", name="bottom", quant=quant)
    return b("max", b("min", cell, top, name="cell_low", quant=quant), bottom, name="cell_clipped", quant=quant)


def _check(x: TensorType, h: TensorType, c: TensorType, weights: Sequence[TensorType]) -> None:
    n, k = h.shape[-1:], x.shape[-1:]
    kinds = WEIGHTS.get(x.dtype)
    if kinds is None or h.dtype != x.dtype or (len(x.shape), len(h.shape)) != (1, 1) or c.shape != h.shape:
        raise IRError(f"tflite_lstm takes x[k], h[n] and c[n], x and h as f32, i8 or i16; {x}, {h} and {c} given.")
    pointwise.centred((x, h))
    weight, bias, cell = kinds
    wanted = [*[((*n, *k), weight)] * 4, *[((*n, *n), weight)] * 4, *[(n, bias)] * 4]
    for type_, (shape, dtype) in zip(weights, wanted, strict=True):
        if (type_.shape, type_.dtype) != (shape, dtype):
            raise IRError(f"tflite_lstm takes {TensorType(shape, dtype)} here; {type_} given.")
        if dtype == "i8" and (type_.quant is None or type_.quant.array.size != 1 or type_.quant.zero_point):
            raise IRError(f"tflite_lstm takes weights with one scale and zero point 0; {type_} given.")
    if c.dtype != cell:
        raise IRError(f"tflite_lstm takes c as {cell} where x is {x.dtype}; {c} given.")
    if cell == "i16" and (c.quant is None or np.frexp(float(scale_of(c)))[0] != 0.5 or c.quant.zero_point):
        raise IRError(f"tflite_lstm takes c with a power of two as its scale and zero point 0; {c} given.")
