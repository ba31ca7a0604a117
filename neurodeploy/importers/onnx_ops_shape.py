"""ONNX ops that move elements or work on sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.importers.onnx_node import Call, Rule, plain, sizes_array, tidy
from neurodeploy.importers.time import Dim, Tensor
from neurodeploy.importers.time_axes import product
from neurodeploy.importers.time_core import LARGEST_CONSTANT
from neurodeploy.importers.time_moves import FAR

DTYPES: Mapping[int, str] = {
    1: "f32", 10: "f32", 11: "f32", 16: "f32", 2: "i32", 3: "i32", 4: "i32", 5: "i32", 6: "i32", 7: "i32",
    9: "bool", 12: "i32", 13: "i32",
}  # fmt: skip
NUMPY = {"f32": np.float32, "i32": np.int64, "bool": np.bool_}


def small(call: Call, sizes: list[Any]) -> bool:
    """Whether sizes are all known; refuses what no model needs."""
    if any(isinstance(s, Dim) for s in sizes):
        return False
    if any(s < 0 for s in sizes) or product(sizes) > LARGEST_CONSTANT:  # type: ignore[operator]
        raise call.error(f"a constant of shape {sizes} is made.", "The file is damaged, or made for other hardware.")
    return True


def constant(call: Call) -> Any:
    """The attribute that holds the value."""
    for key in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if key in call.attrs:
            found = call.attrs[key]
            if key == "value":
                return found
            return np.asarray(found, np.float32 if "float" in key else np.int64)
    raise call.error("the constant holds neither numbers nor a tensor of numbers.")


def shape(call: Call) -> Any:
    x = call.value(0)
    return sizes_array(list(x.shape)[slice(call.attrs.get("start", 0), call.attrs.get("end"))])


def size(call: Call) -> Any:
    return sizes_array(product(call.value(0).shape))


def constant_of_shape(call: Call) -> Any:
    sizes = plain(call.array(0, "the shape"))
    value = np.asarray(call.attrs.get("value", np.zeros(1, np.float32))).ravel()[:1]
    if small(call, sizes):
        return np.full(sizes, value[0])
    return call.tracer.expand(call.tracer.constant(value[0]), sizes)


def expand(call: Call) -> Any:
    sizes = plain(call.array(1, "the shape"))
    x = call.value(0)
    if isinstance(x, np.ndarray) and x.dtype != object and small(call, sizes):
        full = np.broadcast_shapes(x.shape, tuple(sizes))
        return np.broadcast_to(x, full) if small(call, list(full)) else x
    return call.tracer.expand(call.tensor(0), sizes)


def tile(call: Call) -> Any:
    repeats = plain(call.array(1, "the repeats"))
    x = call.value(0)
    if all(r == 1 for r in repeats):
        return x
    if isinstance(x, np.ndarray) and small(call, [product(x.shape), *repeats]):
        return np.tile(x, repeats)
    t = call.tensor(0)
    if any(r != 1 and s != 1 for r, s in zip(repeats, t.shape)):
        raise call.error("axes with more than one element are repeated.", "Repeat axes of size 1 only.")
    return call.tracer.expand(t, [r if s == 1 else s for r, s in zip(repeats, t.shape)])


def reshape(call: Call) -> Any:
    x, sizes = call.value(0), call.numbers(1, "shape", [])
    sizes = sizes or []
    if not call.attrs.get("allowzero", 0):
        sizes = [x.shape[i] if s == 0 and i < len(x.shape) else s for i, s in enumerate(sizes)]
    if isinstance(x, np.ndarray) and not any(isinstance(s, Dim) for s in sizes):
        return x.reshape(sizes)
    return call.tracer.reshape(call.tensor(0), sizes)


def flatten(call: Call) -> Any:
    x, axis = call.tensor(0), call.attrs.get("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    return call.tracer.reshape(x, [product(x.shape[:axis]), product(x.shape[axis:])])


def transpose(call: Call) -> Any:
    x = call.value(0)
    perm = call.attrs.get("perm", list(range(len(x.shape)))[::-1])
    return np.transpose(x, perm) if isinstance(x, np.ndarray) else call.tracer.transpose(x, perm)


def squeeze(call: Call) -> Any:
    x, axes = call.value(0), call.numbers(1, "axes")
    if isinstance(x, np.ndarray):
        return np.squeeze(x, tuple(axes) if axes is not None else None)
    return call.tracer.squeeze(x, axes)


def unsqueeze(call: Call) -> Any:
    x, axes = call.value(0), call.numbers(1, "axes", [])
    return np.expand_dims(x, tuple(axes or [])) if isinstance(x, np.ndarray) else call.tracer.unsqueeze(x, axes or [])


def concat(call: Call) -> Any:
    values = [call.value(i) for i in range(len(call.values))]
    axis = call.attrs.get("axis", 1)
    if all(isinstance(v, np.ndarray) for v in values):
        return tidy(np.concatenate(values, axis=axis))
    return call.tracer.concat([call.tensor(i) for i in range(len(values))], axis)


def split(call: Call) -> tuple[Any, ...]:
    x, axis = call.tensor(0), call.attrs.get("axis", 0)
    along = x.axes[call.tracer.axis_number(x, axis)]
    count = len(call.outputs)
    sizes = call.numbers(1, "split")
    if sizes is None:
        if not isinstance(along.extent, int):
            raise call.error(f"the {along.label} axis is split in {count}.", "Split features only.")
        each = -(-along.extent // count)
        sizes = [min(each, along.extent - i * each) for i in range(count)]
    if len(sizes) != count or sum(sizes) != along.extent:
        raise call.error(f"an axis of {along.extent} is split into {sizes}.")
    starts = [sum(sizes[:i]) for i in range(count)]
    return tuple(call.tracer.slice(x, axis, a, a + n) for a, n in zip(starts, sizes))


def slices(call: Call) -> Any:
    x = call.value(0)
    starts, ends = call.numbers(1, "starts", []) or [], call.numbers(2, "ends", []) or []
    axes = call.numbers(3, "axes") or list(range(len(starts)))
    steps = call.numbers(4, "steps") or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise call.error("starts, ends, axes and steps differ in number.")
    if isinstance(x, np.ndarray):
        cut = [slice(None)] * x.ndim
        for axis, a, b, step in zip(axes, starts, ends, steps):
            cut[axis] = slice(a, None if step < 0 and b < -x.shape[axis] else b, step)
        return tidy(x[tuple(cut)])
    for axis, a, b, step in zip(axes, starts, ends, steps):
        end = b if isinstance(b, Dim) else min(b, FAR)
        if isinstance(end, int) and end < -FAR:
            raise call.error(f"steps {a}:{b}:{step} are taken.", "For a reversed sequence use direction 'reverse'.")
        x = call.tracer.slice(x, axis, a, end, step)
    return x


def gather(call: Call) -> Any:
    x, index, axis = call.value(0), call.value(1), call.attrs.get("axis", 0)
    if isinstance(index, Tensor) and index.data is None:
        if axis not in (0, -len(x.shape)):
            raise call.error(f"an input chooses along axis {axis}.", "Only rows of a constant table can be looked up.")
        return call.tracer.gather(call.tensor(0), index)
    index = call.array(1, "the index")
    if isinstance(x, np.ndarray):
        return tidy(np.take(x, index.astype(np.int64), axis=axis))
    chosen = plain(index)
    if index.ndim == 0:
        return call.tracer.take(x, axis, chosen[0])
    if index.ndim > 1 or not chosen:
        raise call.error(f"elements {chosen[:8]} are gathered in {index.ndim} axes.", "Gather along one axis.")
    at = call.tracer.axis_number(x, axis)
    rows = [call.tracer.unsqueeze(call.tracer.take(x, at, i), [at]) for i in chosen]
    return rows[0] if len(rows) == 1 else call.tracer.concat(rows, at)


def pad(call: Call) -> Any:
    x = call.tensor(0)
    pads = call.numbers(1, "pads", []) or []
    axes = call.numbers(3, "axes") or list(range(x.rank))
    value = call.array(2, "the padding's value", call.attrs.get("value", 0.0))
    if call.attrs.get("mode", "constant") != "constant" or np.any(value != 0):
        raise call.error("padding with other than zeros.", "Pad with zeros.")
    if len(pads) != 2 * len(axes):
        raise call.error(f"{len(pads)} pads for {len(axes)} axes.")
    for i, axis in enumerate(axes):
        left, right = pads[i], pads[i + len(axes)]
        if left == right == 0:
            continue
        at = call.tracer.axis_number(x, axis)
        if x.axes[at].label == "time":
            x = call.tracer.pad_time(x, at, left, right)
            continue
        if left < 0 or right < 0 or not small(call, [left, right, x.node.type.size]):
            raise call.error(f"axis {axis} is padded by {left} and {right}.")
        dtype = NUMPY.get(x.dtype, np.float32)
        zeros = [np.zeros([n if k == at else 1 for k in range(x.rank)], dtype) for n in (left, right)]
        x = call.tracer.concat([call.tracer.constant(zeros[0]), x, call.tracer.constant(zeros[1])], at)
    return x


def cast(call: Call) -> Any:
    to = int(call.attrs.get("to", 0))
    if call.op == "CastLike":
        like = call.value(1)
        wanted = like.dtype if isinstance(like, Tensor) else ("f32" if like.dtype.kind == "f" else "i32")
    elif to in DTYPES:
        wanted = DTYPES[to]
    else:
        raise call.error(f"a cast to ONNX's type {to}.", "Cast to float, an integer or bool.")
    x = call.value(0)
    if isinstance(x, np.ndarray):
        return x if x.dtype == object else x.astype(NUMPY[wanted])
    return x if x.dtype == wanted else call.tracer.pointwise("cast", x, to=wanted)


def range_(call: Call) -> Any:
    start, limit, delta = (call.array(i, "a range's bound").ravel()[0] for i in range(3))
    if any(isinstance(v, Dim) for v in (start, limit, delta)):
        raise call.error("a range as long as the sequence.", "Positions can't be counted step by step yet.")
    if delta == 0 or abs((limit - start) / delta) > LARGEST_CONSTANT:
        raise call.error(f"a range from {start} to {limit} by {delta}.")
    return np.arange(start, limit, delta)


def identity(call: Call) -> Any:
    return call.values[0] if call.given(0) else call.value(0)


def dropout(call: Call) -> Any:
    """Identity: this is inference. The mask, should something read it, is all true."""
    training = call.array(2, "training_mode", False)
    if training.any():
        raise call.error("dropout in training mode.", "Export the model in evaluation mode.")
    x = call.value(0)
    return (x,) if len(call.outputs) < 2 or not call.outputs[1] else (x, np.ones((), np.bool_))


RULES: Mapping[str, Rule] = {
    "Cast": cast,
    "CastLike": cast,
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Dropout": dropout,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "Identity": identity,
    "Pad": pad,
    "Range": range_,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "Slice": slices,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
