"""Weights rounded against moments: what must hold whatever the samples were, few, constant, zero or with outliers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy.data import Data
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program
from neurodeploy.passes import parse
from neurodeploy.passes.quantize import Quantize
from neurodeploy.passes.quantize_rounding import UNCLIPPED, compensated, regularized
from tests.strategies import as_program
from tests.unit.test_widths import elman, error, quantized

KINDS = ("normal", "mixed", "constant", "zero", "some zero", "outlier", "together", "offset")


def vectors(kind: str, count: int, length: int, r: np.random.Generator) -> np.ndarray:
    """``[count, length]``, as samples may be that tell little or mislead."""
    v = r.normal(size=(count, length))
    if kind == "mixed":
        v = v @ r.normal(size=(length, length))
    elif kind == "constant":
        v = np.repeat(v[:1], count, axis=0)
    elif kind == "zero":
        v = np.zeros_like(v)
    elif kind == "some zero":
        v = v * (r.random(length) < 0.5)
    elif kind == "outlier":
        v[r.integers(count), r.integers(length)] = 1e9
    elif kind == "together":
        v = 0.01 * v + r.normal(size=(count, 1))
    elif kind == "offset":
        v = v + 100
    return v


def problem(
    kind: str, seed: int, bits: int, rows: int, length: int, count: int, sparse: float = 0.0, unit: float = 1.0
):
    """Weights, steps, tops, bias, and the moments of vectors in that unit."""
    r = np.random.default_rng(seed)
    v = np.concatenate([unit * vectors(kind, count, length, r), np.ones((count, 1))], axis=1)
    weights = r.normal(size=(rows, length)) * (r.random((rows, length)) >= sparse) / unit
    top = 2 ** (bits - 1) - 1
    largest = np.abs(weights).max(axis=1, keepdims=True)
    steps = np.repeat(np.where(largest > 0, largest, 1.0) / top, length, axis=1)
    return weights, steps, np.full(length, top), r.normal(size=rows), regularized(v.T @ v / count, [length], count)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    bits=st.sampled_from([4, 6, 8]),
    rows=st.integers(1, 12),
    length=st.integers(1, 24),
    count=st.integers(1, 40),
    sparse=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
    unit=st.sampled_from([1e-6, 1.0, 1e6]),
    clip=st.booleans(),
)
def test_whatever_the_samples_were(kind, seed, bits, rows, length, count, sparse, unit, clip):
    """Never worse than the nearest by the moments, and never far from it: no weight strays by more than 3 steps."""
    weights, steps, tops, bias, moment = problem(kind, seed, bits, rows, length, count, sparse, unit)
    least = np.zeros(rows)
    options = {} if clip else {"tried": UNCLIPPED}
    whole, share, moved = compensated(weights, steps, tops, bias, moment, least, **options)
    assert np.isfinite(moved).all() and np.isfinite(share).all()
    assert (np.abs(whole) <= tops).all()
    assert not whole[weights == 0].any()
    # The moments as they are damped: by 1 % of their mean in steps.
    sizes = np.square(steps).mean(axis=0)
    level = np.mean(np.diag(moment)[:-1] * sizes) or 1.0
    damped = moment + 0.01 * np.diag(np.append(level / sizes, moment[-1, -1]))
    nearest = np.clip(np.rint(weights / steps), -tops, tops)
    ours = squared(weights - whole * steps * share[:, None], bias - moved, damped)
    theirs = squared(weights - nearest * steps, np.zeros(rows), damped)
    assert (ours <= theirs * (1 + 1e-6) + 1e-12 * level).all()
    if not clip:
        assert (np.abs(weights / steps - whole) <= 3).all()


def squared(gap: np.ndarray, offset: np.ndarray, moment: np.ndarray) -> np.ndarray:
    e = np.concatenate([gap, offset[:, None]], axis=1)
    return np.einsum("rk,kl,rl->r", e, moment, e)


@pytest.mark.parametrize("count", [3, 10, 30])
def test_what_moves_together_by_chance_is_not_relied_on(count: int):
    """Vectors of 30 independent elements: on others like them the error stays near that of the nearest."""
    weights, steps, tops, bias, moment = problem("normal", 4, 8, 40, 30, count)
    whole, _, moved = compensated(weights, steps, tops, bias, moment, np.zeros(40), UNCLIPPED)
    gap, nearest = weights - whole * steps, weights - np.rint(weights / steps) * steps
    white = np.eye(31)
    assert squared(gap, bias - moved, white).sum() < 1.4 * squared(nearest, np.zeros(40), white).sum()


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_weights_stay_as_they_are(kind: str, clip: bool):
    _, _, tops, bias, moment = problem(kind, 0, 8, 20, 16, 30)
    r = np.random.default_rng(1)
    whole = r.integers(-127, 128, (20, 16))
    whole[:, 3] = 127
    steps = np.repeat(r.uniform(1e-3, 1, (20, 1)), 16, axis=1)
    weights = (whole * steps).astype(np.float32).astype(np.float64)
    options = {} if clip else {"tried": UNCLIPPED}
    found, share, moved = compensated(weights, steps, tops, bias, moment, np.zeros(20), **options)
    np.testing.assert_array_equal(found, whole)
    np.testing.assert_array_equal(share, 1)
    np.testing.assert_array_equal(moved, bias)


@pytest.mark.parametrize("sparse", [0.0, 0.5])
def test_rows_are_rounded_alike_together_and_alone(sparse: float):
    weights, steps, tops, bias, moment = problem("mixed", 2, 8, 30, 20, 200, sparse)
    whole, _, moved = compensated(weights, steps, tops, bias, moment, np.zeros(30), UNCLIPPED)
    for r in range(30):
        one = compensated(weights[[r]], steps[[r]], tops, bias[[r]], moment, np.zeros(1), UNCLIPPED)
        np.testing.assert_array_equal(one[0][0], whole[r])
        np.testing.assert_allclose(one[2][0], moved[r], rtol=1e-9)


def test_an_operand_s_unit_does_not_matter():
    """Half of the columns measured in thousandths, with weights and steps to match: the same whole weights."""
    weights, steps, tops, bias, moment = problem("mixed", 3, 8, 10, 12, 200)
    whole, _, moved = compensated(weights, steps, tops, bias, moment, np.zeros(10), UNCLIPPED)
    unit = np.append(np.repeat([1.0, 1000.0], 6), 1.0)
    other, _, shifted = compensated(
        weights / unit[:-1], steps / unit[:-1], tops, bias, moment * unit * unit[:, None], np.zeros(10), UNCLIPPED
    )
    np.testing.assert_array_equal(other, whole)
    np.testing.assert_allclose(shifted, moved, rtol=1e-9)


# -- in the quantizer --------------------------------------------------------------------------------------------------


def calibrated(program: Program, data: Data) -> Program:
    (calibrate,) = parse("calibrate", data)
    return calibrate(program)


def params(program: Program) -> dict[str, np.ndarray]:
    return {f"{s.name}.{n}": p.data for s in program.stages for n, p in s.graph.params.items()}


def same(one: Program, other: Program) -> bool:
    a, b = params(one), params(other)
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("seed", range(3))
def test_eight_bits_lose_less_on_new_samples_of_the_same_kind(seed: int):
    program, data = elman(seed=seed)
    mixes = np.random.default_rng(seed).normal(size=(80, 12)).astype(np.float32) / np.float32(12**0.5)
    drawn = np.einsum("ns,stk->ntk", mixes, data.inputs["x"])
    seen, fresh = Data({"x": drawn[:40]}), Data({"x": drawn[40:]})
    nearest = quantized(program, seen, rounding="nearest")
    assert error(program, quantized(program, seen), fresh) < 0.9 * error(program, nearest, fresh)


@pytest.mark.parametrize("bits", [7, 8, 16])
def test_without_samples_weights_of_more_than_6_bits_go_to_the_nearest(bits: int):
    program, data = elman()
    known = calibrated(program, data)
    nearest = Quantize(weight_bits=bits, rounding="nearest")(known)
    assert same(Quantize(weight_bits=bits)(known), nearest)
    assert same(Quantize(weight_bits=bits, data=data)(known), nearest) == (bits == 16)


def test_a_network_of_whole_weights_keeps_them():
    """Weights on a grid of their own, as another tool's 8-bit quantizer leaves them."""
    r = np.random.default_rng(0)
    whole = r.integers(-127, 128, (5, 8))
    whole[:, 2] = -127
    b = Builder()
    x = b.input("x", [8])
    b.output("y", b.param("W", whole * 0.013) @ x + b.param("b", r.normal(size=5)))
    program = as_program(b, "whole")
    data = Data({"x": r.normal(size=(4, 10, 8)).astype(np.float32)})
    np.testing.assert_array_equal(params(quantized(program, data))["main.W"], whole)


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_of_three_steps_misleads_little(seed: int):
    program, data = elman(units=40, seed=seed)
    tiny = Data({"x": data.inputs["x"][:1, :3]})
    known = calibrated(program, data)
    found, nearest = Quantize(data=tiny)(known), Quantize(rounding="nearest")(known)
    assert error(program, found, data) < 1.3 * error(program, nearest, data)


def test_halves_of_a_sum_that_could_overflow_are_compensated():
    """800 large weights need two accumulators, each with moments of its own."""
    r = np.random.default_rng(0)
    weights = r.uniform(0.9, 1.0, (4, 800)) * r.choice([-1, 1], 800)
    b = Builder()
    x = b.input("x", [800])
    b.output("y", b.param("W", weights) @ x + b.param("b", r.normal(size=4)))
    program = as_program(b, "wide")
    data = Data({"x": (1 + 0.1 * r.normal(size=(8, 40, 800))).astype(np.float32)})
    found, nearest = quantized(program, data), quantized(program, data, rounding="nearest")
    assert sum(v.op == "affine" for v in found.stages[0].graph.values) == 2
    assert error(program, found, data) < 0.7 * error(program, nearest, data)
