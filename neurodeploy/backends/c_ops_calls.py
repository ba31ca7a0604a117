"""C code of the ops that are no elementwise loops: products, reductions, tables, concats, solve, random."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from neurodeploy.backends import c_tflite_calls
from neurodeploy.backends.c_emit_index import subscript
from neurodeploy.backends.c_ops import HELD, STORED, WRAPS, stored
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.op import axis_of
from neurodeploy.ir.ops_math import einsum_terms
from neurodeploy.passes.fuse import Call, View
from neurodeploy.passes.views import TABLE_OPS

if TYPE_CHECKING:
    from neurodeploy.backends.c_emit_step import StepWriter

INDICES = "ijklmnpq"


def call(w: StepWriter, action: Call) -> None:
    """Write the code of a call. Raises :class:`UnsupportedError` for an op without any."""
    value = action.value
    if value.op not in CALLS:
        raise UnsupportedError(
            f"the C backend has no code for {value.op}.", place=f"%{value.name}", hint="Choose another target."
        )
    CALLS[value.op](w, value, action)
    if not value.tensor.shape:
        w.finish_scalar(value)


def contiguous_args(value: Value, align: int) -> Mapping[int, int]:
    """Which arguments of an op must lie contiguously, and at which alignment in elements."""
    if value.op == "matvec" and "window" not in value.attrs:
        return {0: align if "bias" in value.attrs else 1}
    if value.op in c_tflite_calls.CONTIGUOUS:
        return dict.fromkeys(range(len(value.args)), 1)
    return {1: 1} if value.op in TABLE_OPS else {}


def workspace(value: Value) -> tuple[str, int] | None:
    """Scratch that an op needs while it runs: dtype and count."""
    if value.op == "matvec" and "window" in value.attrs:
        return "i16", value.attrs["columns"]
    return ("f32", value.tensor.size * (value.tensor.size + 1)) if value.op == "solve" else None


def _close(w: StepWriter, count: int) -> None:
    for _ in range(count):
        w.close()


def _result(w: StepWriter, value: Value, index: Sequence[str]) -> str:
    w.target(value)
    return w.at(value.name, index)


def _matvec(w: StepWriter, value: Value, action: Call) -> None:
    if "window" in value.attrs:
        c_tflite_calls.windows(w, value, action)
        return
    rows, columns = value.attrs["rows"], value.attrs["columns"]
    y, x = w.pointer(value.name), w.pointer(value.args[0])
    if "bias" in value.attrs:
        kernel, product = w.product(value)
        kind = f"{kernel}_{value.tensor.dtype}"
        shifted = "_shifted" if kind == "nd_affine_i8_i16" and value.attrs.get("pre") else ""
        w.line(f"{kind}{shifted}(&{product}, {x}, {y});")
        return
    w.headers.add("nd_float.h")
    param = w.graph.params[value.attrs["weight"]]
    name = w.constants.array(value.attrs["weight"], param.data, "f32")
    w.constants.weights.add(name)
    w.line(f"nd_matvec_f32({name}, {x}, {rows}, {columns}, {y});")


def _einsum(w: StepWriter, value: Value, action: Call) -> None:
    _, terms, out = einsum_terms(value.attrs, len(value.args))
    _contract(w, value, action, terms, out)


def _matmul(w: StepWriter, value: Value, action: Call) -> None:
    left, right = (len(w.type(a).shape) for a in value.args)
    _contract(w, value, action, [("mk" if left == 2 else "k"), ("kn" if right == 2 else "k")],
              ("m" if left == 2 else "") + ("n" if right == 2 else ""))  # fmt: skip


def _contract(w: StepWriter, value: Value, action: Call, terms: Sequence[str], out: str) -> None:
    """Sum of products over the letters that the result lacks; integers wrap, so only the sum has to fit."""
    sizes = {
        letter: n
        for term, a in zip(terms, value.args, strict=True)
        for letter, n in zip(term, w.type(a).shape, strict=True)
    }
    summed = [letter for letter in sizes if letter not in out]
    index = dict(zip([*dict.fromkeys(out), *summed], INDICES, strict=False))
    dtype = value.tensor.dtype
    acc = WRAPS.get(dtype, "float")
    outer = w.loops([sizes[x] for x in dict.fromkeys(out)], [index[x] for x in dict.fromkeys(out)])
    if not outer:
        w.open("")
    w.line(f"{acc} acc = 0;")
    inner = w.loops([sizes[x] for x in summed], [index[x] for x in summed])
    factors = [w.at(a, [index[x] for x in term]) for a, term in zip(value.args, terms, strict=True)]
    narrow = dtype == "i32" and len(factors) == 2 and all(w.type(a).dtype in ("i8", "i16") for a in value.args)
    if dtype == "f32":
        product = " * ".join(factors)
    elif narrow:
        product = f"(uint32_t)({' * '.join(factors)})"
    else:
        product = " * ".join(f"({acc}){f}" for f in factors)
    w.line(f"acc = acc + {product};")
    _close(w, inner)
    result = _result(w, value, [index[x] for x in out])
    w.line(f"{result} = {f'({STORED[dtype]})acc' if dtype != 'f32' else 'acc'};")
    _close(w, outer or 1)


def _reduce(w: StepWriter, value: Value, action: Call) -> None:
    shape = w.type(value.args[0]).shape
    axis = axis_of(value.attrs, shape)
    rest = [n for i, n in enumerate(shape) if i != axis]
    outer = w.loops(rest, INDICES)
    if not outer:
        w.open("")
    free = list(INDICES[: len(rest)])
    source = w.at(value.args[0], [*free[:axis], "q", *free[axis:]])
    first = w.at(value.args[0], [*free[:axis], "0", *free[axis:]])
    made = REDUCTIONS[value.op](w, value, source, first, shape[axis])
    where = [*free[:axis], "0", *free[axis:]] if value.attrs.get("keepdims") else free
    w.line(f"{_result(w, value, where)} = {made};")
    _close(w, outer or 1)


def _sum(w: StepWriter, value: Value, source: str, first: str, count: int) -> str:
    dtype = value.tensor.dtype
    acc = WRAPS.get(dtype, "float")
    w.line(f"{acc} acc = 0;")
    w.open(f"for (int32_t q = 0; q < {count}; ++q)")
    w.line(f"acc = acc + {source if dtype == 'f32' else f'({acc}){source}'};")
    w.close()
    return "acc" if dtype == "f32" else f"({STORED[dtype]})acc"


def _prod(w: StepWriter, value: Value, source: str, first: str, count: int) -> str:
    w.line("float acc = 1.0f;")
    w.open(f"for (int32_t q = 0; q < {count}; ++q)")
    w.line(f"acc *= {source};")
    w.close()
    return "acc"


def _max(w: StepWriter, value: Value, source: str, first: str, count: int) -> str:
    dtype = value.tensor.dtype
    w.line(f"{HELD[dtype]} best = {first};")
    w.open(f"for (int32_t q = 1; q < {count}; ++q)")
    nan = f" || {source} != {source}" if dtype == "f32" else ""  # as NumPy has it: a NaN is the greatest
    w.line(f"best = {source} > best{nan} ? {source} : best;")
    w.close()
    return stored(dtype, "best")


def _argmax(w: StepWriter, value: Value, source: str, first: str, count: int) -> str:
    held = HELD[w.type(value.args[0]).dtype]
    w.line("int32_t at = 0;")
    w.line(f"{held} best = {first};")
    w.open(f"for (int32_t q = 1; q < {count}; ++q)")
    nan = f" || ({source} != {source} && best == best)" if held == "float" else ""  # the first NaN is the greatest
    w.open(f"if ({source} > best{nan})")
    w.line(f"best = {source};")
    w.line("at = q;")
    w.close()
    w.close()
    return "at"


REDUCTIONS: Mapping[str, Callable[..., str]] = {"sum": _sum, "prod": _prod, "reduce_max": _max, "argmax": _argmax}


def _softmax(w: StepWriter, value: Value, action: Call) -> None:
    w.headers.add("nd_float.h")
    shape = value.tensor.shape
    axis = axis_of(value.attrs, shape)
    rest = [n for i, n in enumerate(shape) if i != axis]
    outer = w.loops(rest, INDICES)
    if not outer:
        w.open("")
    free = list(INDICES[: len(rest)])
    index = [*free[:axis], "q", *free[axis:]]
    source, first = w.at(value.args[0], index), w.at(value.args[0], [*free[:axis], "0", *free[axis:]])
    w.target(value)
    result = w.at(value.name, index)
    loop = f"for (int32_t q = 0; q < {shape[axis]}; ++q)"
    w.line(f"float best = {first};")
    w.line("float acc = 0.0f;")
    w.open(loop)
    w.line(f"best = {source} > best ? {source} : best;")
    w.close()
    w.open(loop)
    w.line(f"{result} = nd_expf({source} - best);")
    w.line(f"acc += {result};")
    w.close()
    w.open(loop)
    w.line(f"{result} = {result} / acc;")
    w.close()
    _close(w, outer or 1)


def _solve(w: StepWriter, value: Value, action: Call) -> None:
    w.headers.add("nd_float.h")
    n = value.tensor.size
    work = f"{w.scratch}{w.buffers[value.name + '.work']}.v"
    a, b = value.args
    w.loops([n, n], "ij")
    w.line(f"{work}[{n} * i + j] = {w.at(a, 'ij')};")
    _close(w, 2)
    w.loops([n], "i")
    w.line(f"{work}[i + {n * n}] = {w.at(b, 'i')};")
    w.close()
    w.line(f"nd_solve({work}, {work} + {n * n}, {n});")
    w.loops([n], "i")
    w.line(f"{_result(w, value, 'i')} = {work}[i + {n * n}];")
    w.close()


def _random(w: StepWriter, value: Value, action: Call) -> None:
    shape = value.tensor.shape
    index = INDICES[: len(shape)]
    count = w.loops(shape, index)
    at = View.whole("", shape)
    where = subscript(at, index)
    word = f"nd_philox((uint32_t){w.at(value.args[0], ())}, (uint32_t)({where}), {value.attrs['seed'] & 0xFFFFFFFF}u)"
    made = (
        f"(float)({word} >> 8) * 5.9604644775390625e-08f" if value.tensor.dtype == "f32" else f"(int16_t)({word} >> 17)"
    )
    w.line(f"{_result(w, value, index)} = {made};")
    _close(w, count)


def _concat(w: StepWriter, value: Value, action: Call) -> None:
    """Copy the parts that weren't computed into their place. What a pack leaves between them is never used."""
    shape = value.tensor.shape
    axis = axis_of(value.attrs, shape)
    whole = w.fused.views[value.name]
    start, starts = 0, iter(value.attrs.get("at", ()))
    for arg in value.args:
        view = w.fused.views[arg]
        start = next(starts, start)
        own = View(whole.base, view.shape, whole.strides, whole.offset + start * whole.strides[axis])
        start += view.shape[axis]
        if view == own:
            continue
        if view.contiguous and own.contiguous and w.type(arg).dtype == value.tensor.dtype and view.shape:
            place = w.lvalue(w.target(value))
            w.line(
                f"memcpy({place}{f' + {own.offset}' if own.offset else ''}, {w.pointer(arg)}, {w.type(arg).nbytes});"
            )
            continue
        index = INDICES[: len(view.shape)]
        count = w.loops(view.shape, index)
        w.target(value)
        w.line(f"{w.element(own, index)} = {stored(value.tensor.dtype, w.at(arg, index))};")
        _close(w, count)


def _gather(w: StepWriter, value: Value, action: Call) -> None:
    data, index = value.args
    shape = w.type(data).shape
    axis = axis_of(value.attrs, shape)
    rank = len(w.type(index).shape)
    names = list(INDICES[: len(value.tensor.shape)])
    count = w.loops(value.tensor.shape, names)
    if not count:
        w.open("")
    found = w.at(data, [*names[:axis], "at", *names[axis + rank :]])
    if re.search(r"\bat\b", found):  # an axis of one row, or of equal ones, needs no index
        w.line(f"const int32_t at = nd_index({w.at(index, names[axis : axis + rank])}, {shape[axis]});")
    w.line(f"{_result(w, value, names)} = {stored(value.tensor.dtype, found)};")
    _close(w, count or 1)


def _inside(w: StepWriter, index: str, count: int) -> None:
    """Open a block for a row's index ``at`` that lies inside the table; the block around it holds ``at``."""
    held = HELD[w.type(index).dtype]
    w.open("")
    w.line(f"const {held} at = {w.at(index, ())};")
    w.open(f"if (at >= 0 && at < {count})")


def _row(w: StepWriter, value: Value, action: Call) -> None:
    table, index = value.args
    shape = value.tensor.shape
    names = INDICES[: len(shape)]
    _inside(w, index, w.type(table).shape[0])
    count = w.loops(shape, names)
    row = w.at(table, ["at", *names])
    w.line(f"{_result(w, value, names)} = {stored(value.tensor.dtype, row)};")
    _close(w, count + 1)
    w.open("else")
    count = w.loops(shape, names)
    w.line(f"{_result(w, value, names)} = 0;")
    _close(w, count + 2)


def _copy_table(w: StepWriter, value: Value) -> None:
    """The table's old rows, unless the result lies where it lay."""
    table, view = w.fused.views[value.args[0]], w.fused.views[value.name]
    if w.place(table.base) == w.place(view.base) and table.offset == view.offset:
        return
    names = INDICES[: len(view.shape)]
    count = w.loops(view.shape, names)
    w.line(f"{_result(w, value, names)} = {w.at(value.args[0], names)};")
    _close(w, count)


def _put(w: StepWriter, value: Value, action: Call) -> None:
    _, index, row = value.args
    shape = value.tensor.shape
    _copy_table(w, value)
    _inside(w, index, shape[0])
    names = INDICES[: len(shape) - 1]
    count = w.loops(shape[1:], names)
    w.line(f"{_result(w, value, ['at', *names])} = {stored(value.tensor.dtype, w.at(row, names))};")
    _close(w, count + 2)


def _shift(w: StepWriter, value: Value, action: Call) -> None:
    line, new = value.args
    rows, *shape = value.tensor.shape
    names = INDICES[: len(shape)]
    w.target(value)
    old, made = w.fused.views[line], w.fused.views[value.name]
    in_place = w.place(old.base) == w.place(made.base) and replace(old, base=made.base) == made and made.contiguous
    if rows > 1 and in_place and shape:
        w.headers.add("nd_move.h")
        nbytes = value.tensor.nbytes
        w.line(f"nd_move_down({w.pointer(value.name)}, {nbytes}, {nbytes // rows * (rows - 1)});")
    elif rows > 1:
        w.open(f"for (int32_t q = 1; q < {rows}; ++q)")
        count = w.loops(shape, names)
        w.line(f"{_result(w, value, ['q - 1', *names])} = {w.at(line, ['q', *names])};")
        _close(w, count + 1)
    count = w.loops(shape, names)
    newest = stored(value.tensor.dtype, w.at(new, names))
    w.line(f"{_result(w, value, [str(rows - 1) if rows > 1 else '0', *names])} = {newest};")
    _close(w, count)


CALLS: Mapping[str, Callable[[StepWriter, Value, Call], None]] = {
    "matvec": _matvec,
    "matmul": _matmul,
    "einsum": _einsum,
    "sum": _reduce,
    "prod": _reduce,
    "reduce_max": _reduce,
    "argmax": _reduce,
    "softmax": _softmax,
    "solve": _solve,
    "random": _random,
    "concat": _concat,
    "pack": _concat,
    "extend": _concat,
    "gather": _gather,
    "row": _row,
    "put": _put,
    "shift": _shift,
    **c_tflite_calls.CALLS,
}
