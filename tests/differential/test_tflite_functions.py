"""Sums, products of computed values, SOFTMAX and tables at i8 and i16: the wheel's kernels on every bit."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.ir.types import Quant, TensorType
from tests.differential.test_tflite_kernels import EVERY, PAIRS, assert_kernel, quant, tensor

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")


def whole(rng, dtype, *shape):
    """Random integers of all sizes, the extremes among them."""
    top = {"i8": 127, "i16": 32767}[dtype]
    x = np.rint(rng.uniform(-1, 1, shape) * top * 2.0 ** -rng.integers(0, 6, shape))
    x.reshape(-1)[:2] = [-top - 1, top]
    return x.astype({"i8": np.int8, "i16": np.int16}[dtype])


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((1, 7), (7, 1)), ((2, 3, 4), (4, 5)), ((2, 1, 4), (2, 4, 3))])
def test_products_of_computed_values(dtype, shapes):
    rng = np.random.default_rng(0)
    for _ in range(6):
        zeros = rng.integers(-128, 128, 3) if dtype == "i8" else (0, 0, 0)
        a, b = rng.uniform(1e-4, 0.1, 2)
        types = {
            n: tensor(dtype, s, int(z), *shape) for n, s, z, shape in zip("xy", (a, b), zeros, shapes, strict=False)
        }
        out = a * b * (127 if dtype == "i8" else 32767) * rng.uniform(0.01, 4)
        arrays = {n: whole(rng, dtype, 40, *t.shape) for n, t in types.items()}
        assert_kernel("tfl_batch_matmul", types, quant(out, int(zeros[2])), arrays)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("shape", [(9,), (4, 5), (3, 2, 4)])
def test_sums(dtype, shape):
    rng = np.random.default_rng(1)
    for axis in range(len(shape)):
        for keepdims in (False, True):
            zeros = rng.integers(-128, 128, 2) if dtype == "i8" else (0, 0)
            scale = rng.uniform(1e-4, 0.1)
            types = {"x": tensor(dtype, scale, int(zeros[0]), *shape)}
            result = quant(scale * rng.uniform(0.3, 8), int(zeros[1]))
            assert_kernel("tfl_sum", types, result, {"x": whole(rng, dtype, 60, *shape)}, axis=axis, keepdims=keepdims)


@pytest.mark.parametrize("scale", [1e-6, 1e-4, 3.05e-4, 2.0**-11, 1e-3, 0.02, 1.0])
def test_softmax_of_int16(scale):
    rng = np.random.default_rng(2)
    for shape in ((2,), (6,), (3, 40)):
        x = whole(rng, "i16", 200, *shape)
        assert_kernel("tfl_softmax", {"x": tensor("i16", scale, 0, *shape)}, Quant(2.0**-15), {"x": x})
    pairs = np.stack([np.full(65536, 32767, np.int16), EVERY["i16"][0]], axis=-1)[None]
    assert_kernel("tfl_softmax", {"x": tensor("i16", scale, 0, 65536, 2)}, Quant(2.0**-15), {"x": pairs})


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.01, 2.0**-5, 0.1, 1.0, 30.0])
def test_softmax_of_int8(scale):
    rng = np.random.default_rng(3)
    for shape in ((2,), (6,), (3, 40)):
        x = whole(rng, "i8", 200, *shape)
        assert_kernel("tfl_softmax", {"x": tensor("i8", scale, 17, *shape)}, Quant(2.0**-8, -128), {"x": x})
    pairs = np.stack([PAIRS["x"], PAIRS["y"]], axis=-1)
    assert_kernel("tfl_softmax", {"x": tensor("i8", scale, -3, 65536, 2)}, Quant(2.0**-8, -128), {"x": pairs})


def test_tables_of_every_int8():
    rng = np.random.default_rng(4)
    table = {"t": rng.integers(-128, 128, 256).astype(np.int8)}
    types = {"x": tensor("i8", 0.1, 7, 4, 64), "t": TensorType((256,), "i8", quant(0.3, 1))}
    assert_kernel("tfl_lookup", types, quant(0.3, 1), {"x": EVERY["i8"].reshape(1, 4, 64)}, table)
