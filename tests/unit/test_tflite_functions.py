"""Sums, products, softmax and tables of the TFLite dialect without the wheel: what they compute, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.errors import IRError
from neurodeploy.ir.ops import OPS, infer
from neurodeploy.ir.tflite.fixed_point import scale_of, zero_of
from neurodeploy.ir.tflite.functions import int16_table, look_up
from neurodeploy.ir.types import Quant, TensorType


def step(type_):
    return float(scale_of(type_))


def real(array, type_):
    return (array.astype(np.float64) - zero_of(type_)) * type_.quant.array


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_they_compute_what_they_are_named_after(dtype):
    rng = np.random.default_rng(0)
    top, zero = (127, 9) if dtype == "i8" else (32767, 0)
    a, b = (TensorType(s, dtype, Quant(2.0 / top, zero)) for s in ((3, 4), (4, 2)))
    x, y = (rng.integers(-top + 20, top - 20, (5, *t.shape)).astype(a.numpy) for t in (a, b))
    out = TensorType((3, 2), dtype, Quant(25.0 / top, zero))
    found = OPS["tfl_batch_matmul"].eval([x, y], {}, out, [a, b])
    assert np.abs(real(found, out) - real(x, a) @ real(y, b)).max() <= 0.51 * step(out) + 1e-3
    total = TensorType((4,), dtype, Quant(8.0 / top, zero))
    found = OPS["tfl_sum"].eval([x], {"axis": 0}, total, [a])
    assert np.abs(real(found, total) - real(x, a).sum(1)).max() <= 0.76 * step(total)  # it rounds twice
    share = TensorType((3, 4), dtype, Quant(2.0**-8, -128) if dtype == "i8" else Quant(2.0**-15))
    found = OPS["tfl_softmax"].eval([x], {}, share, [a])
    e = np.exp(real(x, a))
    assert np.abs(real(found, share) - e / e.sum(-1, keepdims=True)).max() <= (0.51 / 256 if dtype == "i8" else 2e-4)


def test_a_table_of_513_knots_is_its_function():
    table = int16_table(np.exp, 10 / 65535, 32767, 2 / 65535)
    x = np.arange(-32768, 32768)
    wanted = np.exp((x - 32767) * 10 / 65535) * 65536 / 2
    assert len(table) == 513
    assert np.abs(look_up(x, table) - wanted).max() < 7  # a chord ends one step behind the last knot


@pytest.mark.parametrize(
    ("op", "types", "attrs", "message"),
    [
        ("tfl_batch_matmul", ("i8[3,4]", "i16[4,2]"), {}, "both i8 or both i16"),
        ("tfl_batch_matmul", ("i8[3,4]", "i8[3,2]"), {}, "both i8 or both i16"),
        ("tfl_batch_matmul", ("i8[4]", "i8[4,2]"), {}, "both i8 or both i16"),
        ("tfl_batch_matmul", ("i16[3,4]{0.1:5}", "i16[4,2]{0.1:0}"), {}, "zero point 0"),
        ("tfl_sum", ("i32[3,4]",), {"axis": 0}, "takes i8 or i16"),
        ("tfl_sum", ("i8[3,4]",), {"axis": 2}, "axis 2 doesn't exist"),
        ("tfl_softmax", ("i8[]",), {}, "takes i8"),
        ("tfl_lookup", ("i8[3]", "i8[255]"), {}, "a table i8.256."),
        ("tfl_lookup", ("i16[3]", "i8[256]"), {}, "a table i8.256."),
    ],
)
def test_what_the_kernels_do_not_take_is_refused(op, types, attrs, message):
    from neurodeploy.ir.types import parse_type

    with pytest.raises(IRError, match=message):
        infer(op, [parse_type(t) for t in types], attrs)
