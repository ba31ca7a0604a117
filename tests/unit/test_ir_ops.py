"""The meaning of primitives against independent references: Python's whole numbers for integers, NumPy for floats."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodeploy.errors import IRError, NumericsError
from neurodeploy.ir import fixed
from neurodeploy.ir.build import Builder
from neurodeploy.ir.interpret import StepInterpreter
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import TensorType, int_range

I16 = st.integers(*int_range("i16"))
I32 = st.integers(*int_range("i32"))


def compute(op: str, *arrays: np.ndarray, attrs: dict | None = None) -> np.ndarray:
    """One op on one sample, through the interpreter."""
    kinds = {"float32": "f32", "int8": "i8", "int16": "i16", "int32": "i32", "bool": "bool", "int64": "i64"}
    b = Builder()
    symbols = [b.input(f"a{i}", list(a.shape), kinds[a.dtype.name]) for i, a in enumerate(arrays)]
    b.output("y", b(op, *symbols, **(attrs or {})))
    interpreter = StepInterpreter(b.graph())
    interpreter.reset(1, {})
    return interpreter.step({f"a{i}": a[None] for i, a in enumerate(arrays)}, np.ones(1, bool))["y"][0]


def i(value: int | list, dtype: type = np.int32) -> np.ndarray:
    return np.array(value, dtype=dtype)


def nearest_away(a: int, b: int) -> int:
    """a / b to the nearest whole number, halves away from zero."""
    q = abs(Fraction(a, b))
    whole = int(q + Fraction(1, 2))
    return whole if (a < 0) == (b < 0) else -whole


# -- integers against Python -------------------------------------------------------------------------------------------


@given(I32, I32)
def test_add_sub_mul_are_exact_or_refuse(a: int, b: int):
    for op, exact in (("add", a + b), ("sub", a - b), ("mul", a * b)):
        if -(2**31) <= exact < 2**31:
            assert compute(op, i(a), i(b)) == exact
        else:
            with pytest.raises(NumericsError, match="i32 holds -2147483648..2147483647"):
                compute(op, i(a), i(b))


@given(I32, I32)
def test_div_rounds_halves_away_from_zero(a: int, b: int):
    if b == 0:
        expected = 2**31 - 1 if a > 0 else (-(2**31) if a < 0 else 0)
    else:
        expected = nearest_away(a, b)
    if expected == 2**31:
        return
    assert compute("div", i(a), i(b)) == expected


@pytest.mark.parametrize(("a", "b", "q"), [(7, 2, 4), (-7, 2, -4), (5, 10, 1), (4, 10, 0), (-5, 10, -1), (0, 0, 0)])
def test_div_examples(a: int, b: int, q: int):
    assert compute("div", i(a), i(b)) == q


@given(I32)
def test_sqrt_is_the_integer_root(x: int):
    assert compute("sqrt", i(x)) == math.isqrt(max(x, 0))


@given(I32, st.integers(0, 2**31 - 1), st.integers(0, 15), st.sampled_from(["i8", "i16", "i32"]))
def test_requantize_is_one_rounding_multiply(x: int, mult: int, pre: int, to: str):
    shifted = x << pre
    attrs = {"pre": pre, "to": to}
    if not -(2**31) <= shifted < 2**31:
        with pytest.raises(NumericsError):
            compute("requantize", i(x), i(mult), attrs=attrs)
        return
    low, high = int_range(to)
    expected = min(max(math.floor(Fraction(shifted * mult, 2**32) + Fraction(1, 2)), low), high)
    assert compute("requantize", i(x), i(mult), attrs=attrs) == expected


@given(st.floats(1e-9, 16383.9))
def test_multiplier_is_within_half_a_step(factor: float):
    mult, pre = fixed.multiplier(factor)
    assert 0 <= mult < 2**31 and 0 <= pre <= 15
    assert abs(mult * 2.0 ** (pre - 32) - factor) <= 2.0 ** (pre - 33) * 1.0001
    assert pre == 0 or round(factor * 2.0 ** (32 - pre + 1)) > 2**31 - 1, "a smaller shift would do"


def test_multiplier_refuses_what_is_out_of_reach():
    with pytest.raises(IRError, match="out of reach"):
        fixed.multiplier(16384.0)


@given(I16, st.integers(0, 2**32 - 1))
def test_lut_interpolates_between_knots(x: int, seed: int):
    table = np.random.default_rng(seed).integers(-(2**15), 2**15, 513).astype(np.int16)
    knot, part = divmod(x + 32768, 128)
    exact = Fraction(int(table[knot]) * (128 - part) + int(table[knot + 1]) * part, 128)
    assert compute("lut", i(x, np.int16), table) == math.floor(exact + Fraction(1, 2))


@pytest.mark.parametrize(("function", "limit"), [(np.tanh, 1.2e-4), (lambda x: 1 / (1 + np.exp(-x)), 5e-5)])
def test_gate_tables_are_close_to_their_functions(function: object, limit: float):
    table = fixed.lut_table(function, 2.0**-12, 2.0**-15)
    x = np.arange(-32768, 32768).astype(np.int16)
    found = compute("lut", x, table) * 2.0**-15
    assert np.abs(found - function(x * 2.0**-12)).max() < limit  # type: ignore[operator]
    assert np.all(np.diff(found) >= 0)


def test_a_table_takes_the_nearest_finite_knot_where_its_function_is_not_finite():
    table = fixed.lut_table(np.log, 2.0**-10, 2.0**-12)
    assert table[0] == table[256] == table[257]
    with pytest.raises(NumericsError):
        fixed.lut_table(lambda x: x * np.nan, 1.0, 1.0)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_matmul_is_exact(k: int, seed: int):
    r = np.random.default_rng(seed)
    w, x = r.integers(-127, 128, (3, k)).astype(np.int8), r.integers(-32768, 32768, k).astype(np.int16)
    expected = [sum(int(a) * int(b) for a, b in zip(row, x, strict=True)) for row in w]
    assert compute("matmul", w, x).tolist() == expected
    assert compute("einsum", w, x, attrs={"eq": "ij,j->i"}).tolist() == expected
    assert compute("matmul", x, w.T.copy()).tolist() == expected


def test_matmul_that_leaves_i32_is_refused():
    w, x = np.full((1, 600), 127, np.int8), np.full(600, 32767, np.int16)
    with pytest.raises(NumericsError):
        compute("matmul", w, x)


def test_matmul_beyond_53_bits_stays_exact():
    a, b = np.full((1, 3), 2**40 + 1, np.int64), np.full(3, 2**20 + 1, np.int64)
    assert compute("matmul", a, b)[0] == 3 * (2**40 + 1) * (2**20 + 1)


@given(I32, st.sampled_from(["i8", "i16"]))
def test_cast_saturates(x: int, to: str):
    low, high = int_range(to)
    assert compute("cast", i(x), attrs={"to": to}) == min(max(x, low), high)


def test_cast_of_floats_goes_towards_zero():
    x = np.array([1.9, -1.9, np.nan, 1e9, -1e9], np.float32)
    assert compute("cast", x, attrs={"to": "i16"}).tolist() == [1, -1, 0, 32767, -32768]
    assert compute("cast", x[:2] * 0, attrs={"to": "bool"}).tolist() == [False, False]


def test_extremes_of_16_bits_do_not_wrap():
    low = i([-32768], np.int16)
    assert compute("abs", low).tolist() == [32768]
    assert compute("neg", low).tolist() == [32768]
    assert compute("sub", low, -1 - low).tolist() == [-65535]
    assert compute("mul", low, low).tolist() == [2**30]
    assert compute("relu", low).dtype == np.int16


@given(st.lists(I16, min_size=1, max_size=9))
def test_reductions(x: list[int]):
    a = i(x, np.int16)
    assert compute("sum", a, attrs={"axis": 0}) == sum(x)
    assert compute("reduce_max", a, attrs={"axis": 0}) == max(x)
    assert compute("argmax", a, attrs={"axis": 0}) == x.index(max(x))


def test_random_is_counted_and_uniform():
    counter = np.arange(2000, dtype=np.int32)
    words = fixed.philox(counter, 8, 7)
    assert np.array_equal(words[5], fixed.philox(counter[5:6], 8, 7)[0])
    assert not np.array_equal(words, fixed.philox(counter, 8, 8))
    unit = words / 2.0**32
    assert abs(unit.mean() - 0.5) < 0.01 and abs(unit.var() - 1 / 12) < 0.005
    value = compute("random", i(5), attrs={"seed": 7, "shape": [8], "dtype": "i16"})
    assert value.tolist() == [int(w) >> 17 for w in words[5]]
    real = compute("random", i(5), attrs={"seed": 7, "shape": [8]})
    assert real.tolist() == [(int(w) >> 8) * 2.0**-24 for w in words[5]]


def philox_reference(counter: int, index: int, key: int) -> int:
    left, right = counter, index
    for _ in range(10):
        product = 0xD256D193 * left
        left, right = ((product >> 32) ^ key ^ right) & 0xFFFFFFFF, product & 0xFFFFFFFF
        key = (key + 0x9E3779B9) % 2**32
    return left


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_philox_against_python(counter: int, index: int, key: int):
    assert int(fixed.philox(np.array([counter]), index + 1, key)[0, index]) == philox_reference(counter, index, key)


# -- moves, and floats against NumPy -----------------------------------------------------------------------------------

X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


@pytest.mark.parametrize(("op", "attrs", "expected"), [
    ("slice", {"axis": 1, "start": 1, "stop": 4, "step": 2}, X[:, 1:4:2]),
    ("reshape", {"shape": [2, 6]}, X.reshape(2, 6)),
    ("transpose", {"perm": [1, 0]}, X.T),
    ("broadcast", {"shape": [2, 3, 4]}, np.broadcast_to(X, (2, 3, 4))),
    ("relu", {}, np.maximum(X, 0)),
    ("tanh", {}, np.tanh(X)),
    ("exp", {}, np.exp(X)),
    ("floor", {}, np.floor(X)),
    ("softplus", {}, np.log1p(np.exp(X))),
    ("sigmoid", {}, 1 / (1 + np.exp(-X))),
    ("prod", {"axis": 0}, X.prod(axis=0)),
    ("sum", {"axis": 1, "keepdims": True}, X.sum(axis=1, keepdims=True)),
    ("softmax", {"axis": 1}, np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)),
])  # fmt: skip
def test_against_numpy(op: str, attrs: dict, expected: np.ndarray):
    assert np.allclose(compute(op, X, attrs=attrs), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("eq", "constant"), [
    ("ijk,j,k->i", (True, False, False)), ("ij,jk,k->i", (True, True, False)), ("ijk,j,l,k->il", (False,) * 4),
])  # fmt: skip
def test_a_sample_s_einsum_does_not_depend_on_the_others(eq: str, constant: tuple[bool, ...]):
    """To the last bit: simulated chips are samples beside each other."""
    sizes, rng = {"i": 6, "j": 13, "k": 9, "l": 3}, np.random.default_rng(0)
    shapes = [tuple(sizes[letter] for letter in term) for term in eq.split("->")[0].split(",")]
    whole = [rng.normal(size=(1 if c else 70, *s)).astype(np.float32) for c, s in zip(constant, shapes, strict=True)]
    types = [TensorType(shape) for shape in shapes]

    def first(samples: int) -> np.ndarray:
        result = OPS["einsum"].infer(types, {"eq": eq})
        return OPS["einsum"].eval([a[:samples] for a in whole], {"eq": eq}, result, types)[0]

    exact = np.einsum(eq, *(a[0].astype(np.float64) for a in whole))
    assert np.allclose(first(70), exact, rtol=1e-4, atol=1e-5)
    for samples in (1, 2, 14, 21):
        assert np.array_equal(first(samples), first(70)), samples


def test_tables_rows_and_delay_lines():
    index = i(2)
    assert np.array_equal(compute("gather", X, i([9, -4, 1]), attrs={"axis": 0}), X[[2, 0, 1]])
    assert np.array_equal(compute("gather", X, i([1, 1]), attrs={"axis": 1}), X[:, [1, 1]])
    assert np.array_equal(compute("row", X, index), X[2])
    assert np.array_equal(compute("row", X, i(3)), np.zeros(4))
    assert np.array_equal(compute("row", X, i(-1)), np.zeros(4))
    put = compute("put", X, index, X[0])
    assert np.array_equal(put, np.stack([X[0], X[1], X[0]]))
    assert np.array_equal(compute("put", X, i(-1), X[0]), X)
    assert np.array_equal(compute("shift", X, X[0]), np.stack([X[1], X[2], X[0]]))
    assert np.array_equal(compute("concat", X, X, attrs={"axis": 1}), np.concatenate([X, X], 1))
    assert np.array_equal(compute("solve", np.diag(X[2, :3]), X[1, :3]), X[1, :3] / X[2, :3])
    with pytest.raises(NumericsError, match="singular"):
        compute("solve", np.zeros((2, 2), np.float32), X[0, :2])


def test_select_and_comparisons_broadcast():
    test = compute("lt", X, np.zeros(4, np.float32))
    assert test.dtype == np.bool_ and np.array_equal(test, X < 0)
    assert np.array_equal(compute("select", test, X, -X), np.where(X < 0, X, -X))
    both = compute("min", test, ~test)
    assert both.dtype == np.bool_ and not both.any()


@pytest.mark.parametrize(("op", "types", "attrs", "message"), [
    ("add", ["f32[2]", "i16[2]"], {}, "mix f32 and i16"),
    ("add", ["f32[2]", "f32[3]"], {}, "don't broadcast"),
    ("min", ["i8[2]", "i16[2]"], {}, "two of one dtype"),
    ("matmul", ["f32[2]", "f32[3]"], {}, "matmul of"),
    ("slice", ["f32[2]"], {"start": 1, "stop": 5}, "leaves shape"),
    ("lut", ["i8[2]", "i16[513]"], {}, "lut takes i16"),
    ("requantize", ["i32[2]", "i16[]"], {}, "i32 multipliers"),
    ("requantize", ["i32[2]", "i32[]"], {"pre": 16}, "0 to 15"),
    ("tanh", ["i16[2]"], {}, "not defined on i16"),
    ("einsum", ["f32[2]"], {"eq": "ij->i"}, "does not match shape"),
    ("tanh", ["f32[2]"], {"axes": 0}, "no attribute 'axes'"),
    ("sub", ["f32[2]"], {}, "takes 2 arguments, 1 given"),
])  # fmt: skip
def test_wrong_types_are_refused(op: str, types: list[str], attrs: dict, message: str):
    from neurodeploy.ir.types import parse_type

    with pytest.raises(IRError, match=message):
        OPS[op].check([t for t in map(parse_type, types) if isinstance(t, TensorType)], attrs)
