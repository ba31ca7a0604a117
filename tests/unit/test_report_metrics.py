"""Metrics against values worked by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.artifact import Trace
from neurodeploy.errors import DataError
from neurodeploy.ir.graph import Graph, Param, Program, Ref, Stage, State
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.report import metrics


def test_accuracy_of_labels_and_of_scores() -> None:
    labels = np.array([0, 2, 1, 1])
    assert metrics.accuracy(np.array([0, 2, 2, 1]), labels) == 0.75
    scores = np.array([[3, 1, 2], [0, 0, 5], [1, 9, 0], [7, 7, 0]])  # a tie goes to the first: wrong here
    assert metrics.accuracy(scores, labels) == 0.75


def test_accuracy_refuses_nan_and_other_shapes() -> None:
    with pytest.raises(DataError, match="NaN"):
        metrics.accuracy(np.array([[np.nan, 1.0]]), np.array([1]))
    with pytest.raises(DataError, match=r"\(3,\) and \(2,\)"):
        metrics.accuracy(np.array([1, 2, 3]), np.array([1, 2]))
    with pytest.raises(DataError, match="not empty"):
        metrics.accuracy(np.array([], dtype=int), np.array([], dtype=int))


def test_mcnemar_by_hand() -> None:
    both, only_a, only_b, none = (True, True), (True, False), (False, True), (False, False)

    def p(*pairs: tuple[bool, bool]) -> float:
        return metrics.mcnemar(np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))

    # 1 of 6 differing samples is for b: 2 (C(6,0) + C(6,1)) / 2^6; what both or neither get right says nothing.
    assert p(*[only_a] * 5, only_b, both, both, none) == 14 / 64
    assert p(*[only_b] * 5, only_a) == 14 / 64
    assert p(only_a, only_b) == 1.0
    assert p(both, none) == 1.0
    assert p(*[only_a] * 2000) == 0.0  # 2^-1999 is below the smallest float


def test_mcnemar_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the independent opinion here")
    rng = np.random.default_rng(0)
    a, b = rng.random(370) < 0.95, rng.random(370) < 0.9
    wanted = stats.binomtest(int((a & ~b).sum()), int((a ^ b).sum())).pvalue
    assert metrics.mcnemar(a, b) == pytest.approx(wanted, rel=1e-9)


def test_mcnemar_takes_one_truth_value_a_sample() -> None:
    right = np.ones(3, bool)
    with pytest.raises(DataError, match="bool"):
        metrics.mcnemar(right.astype(int), right.astype(int))
    with pytest.raises(DataError, match="shapes"):
        metrics.mcnemar(right, right[:2])


def test_errors_by_hand() -> None:
    y, t = np.array([1.0, 2.0, 5.0]), np.array([1.0, 4.0, 4.0])  # errors 0, -2, 1; var(t) = 2
    assert metrics.mse(y, t) == pytest.approx(5 / 3)
    assert metrics.rmse(y, t) == pytest.approx((5 / 3) ** 0.5)
    assert metrics.nrmse(y, t) == pytest.approx((5 / 6) ** 0.5)
    assert metrics.mae(y, t) == 1.0
    assert metrics.r2(y, t) == pytest.approx(1 - 5 / 6)
    assert metrics.smape(y, t) == pytest.approx(200 * (0 + 2 / 6 + 1 / 9) / 3)


def test_errors_against_scikit_learn() -> None:
    sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the independent opinion here")
    rng = np.random.default_rng(3)
    t, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    assert metrics.mse(y, t) == pytest.approx(sk.mean_squared_error(t, y))
    assert metrics.mae(y, t) == pytest.approx(sk.mean_absolute_error(t, y))
    assert metrics.r2(y, t) == pytest.approx(sk.r2_score(t, y))
    labels, guess = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    assert metrics.accuracy(guess, labels) == pytest.approx(sk.accuracy_score(labels, guess))


def test_nrmse_of_the_mean_is_one_and_a_constant_target_is_refused() -> None:
    t = np.array([1.0, 2.0, 6.0])
    assert metrics.nrmse(np.full(3, 3.0), t) == pytest.approx(1.0)
    with pytest.raises(DataError, match="constant"):
        metrics.nrmse(t, np.ones(3))
    with pytest.raises(DataError, match="constant"):
        metrics.r2(t, np.ones(3))


def test_smape_of_two_zeros_is_right_not_wrong() -> None:
    assert metrics.smape(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.0
    assert metrics.smape(np.array([0.0, -1.0]), np.array([1.0, 1.0])) == 200.0


@pytest.mark.parametrize("name", ["mse", "mae", "smape"])
def test_values_that_are_not_finite_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        getattr(metrics, name)(np.array([np.inf]), np.array([1.0]))


def _program() -> Program:
    graph = Graph(
        params={
            "w": Param(TensorType((2, 3), "i8", Quant(0.5)), np.array([[0, 1, 2], [0, 0, -1]], np.int8)),
            "v": Param(TensorType((1, 2), "i8", Quant(0.5, 3)), np.array([[3, 0]], np.int8)),
            "b": Param(TensorType((2,), "i32"), np.zeros(2, np.int32)),
        },
        states=(State("h", TensorType((2,), "i16"), "h"),),
        outputs={"y": "h"},
    )
    return Program("net", {}, (Stage("rnn", graph),), {"y": Ref("y", "rnn")}, "native")


def test_static_metrics_of_a_program() -> None:
    assert metrics.parameter_count(_program()) == 6 + 2 + 2
    assert metrics.footprint(_program()) == 6 + 2 + 2 * 4 + 2 * 2  # int8, int8, int32 bias, int16 state
    assert metrics.connection_sparsity(_program()) == (3 + 1) / 8  # the zero of v is its zero point, 3


def test_spikes_and_sparsity() -> None:
    layers = [np.array([[0, 1], [2, 0]]), np.array([0, 0, 0, -1])]
    assert metrics.spike_count(layers) == 3
    assert metrics.activation_sparsity(layers) == 5 / 8
    with pytest.raises(DataError):
        metrics.activation_sparsity([])


def test_synaptic_operations_by_hand() -> None:
    weights = np.array([[1, 0, 2], [3, 4, 0]])  # non-zero per input: 2, 1, 1
    spikes = np.array([[[1, 0, 0], [1, 1, 0]], [[0, 0, 0], [0, 0, -1]]])  # events per input: 2, 1, 1
    graded = np.array([[[0.5, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 3]]])  # 1, 0, 1
    found = metrics.synaptic_operations([(spikes, weights), (graded, weights)])
    assert found == {"Effective_ACs": (4 + 1 + 1) / 2, "Effective_MACs": (2 + 0 + 1) / 2, "Dense": 2 * 2 * 3 * 2}


def test_synaptic_operations_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="needed"):
        metrics.synaptic_operations([(np.ones((1, 2, 3)), np.ones((2, 4)))])
    with pytest.raises(DataError, match="no samples"):
        metrics.synaptic_operations([])


def test_membrane_updates_count_the_first_step_and_the_resets() -> None:
    before = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    after = np.array([[[1.0, 2.0], [0.0, 4.0], [5.0, 0.0]]])
    assert metrics.membrane_updates(before, after) == 2 + 2


def _trace(values: np.ndarray, steps: list[int], **more: np.ndarray) -> Trace:
    return Trace({}, series={"m.y": values}, states=more, steps={"m": np.array(steps)})


def test_equal_runs_agree_on_every_executed_step() -> None:
    y = np.arange(12, dtype=np.int16).reshape(2, 3, 2)
    other = y.copy()
    other[1, 2] = 99  # padding: sample 1 ran two steps
    found = metrics.agreement(_trace(other, [3, 2]), _trace(y, [3, 2]), against="golden")
    assert (found.compared, found.bit_exact, found.holds, found.first_difference) == (5, 5, True, None)
    assert (found.max_difference, found.difference_unit, found.per) == (0, "LSB", "step")


def test_the_first_difference_is_by_sample_then_step_then_tensor() -> None:
    y = np.zeros((2, 3, 2), np.int16)
    outputs, states = y.copy(), y.copy()
    outputs[1, 0, 0], outputs[0, 2, 1], states[0, 1, 1] = 5, -4, 1
    a = _trace(outputs, [3, 3], **{"m.h": states})
    b = _trace(y, [3, 3], **{"m.h": y})
    found = metrics.agreement(a, b, against="golden")
    assert found.first_difference is not None
    first = found.first_difference
    assert (first.sample, first.step, first.tensor, first.index) == (0, 1, "m.h", 1)
    assert (first.value, first.reference) == (1, 0)
    assert (found.compared, found.bit_exact, found.max_difference, found.holds) == (6, 3, 5, False)


@pytest.mark.parametrize(("equality", "holds"), [("exact", False), ("lsb(1)", False), ("lsb(2)", True)])
def test_equality_classes(equality: str, holds: bool) -> None:
    y = np.zeros((1, 2, 1), np.int8)
    found = metrics.agreement(_trace(y + np.int8(2), [2]), _trace(y, [2]), against="host", equality=equality)
    assert found.holds is holds


@pytest.mark.parametrize(("size", "holds"), [(0.5, False), (1.0, False), (50.0, True)])
def test_close_is_a_share_of_the_largest_value(size, holds):
    y = np.array([[[size, -0.25 * size], [0.0, np.inf]]], np.float32)
    found = metrics.agreement(
        _trace(y + np.float32(1e-4), [2]), _trace(y, [2]), against="golden", equality="close(1e-5)"
    )
    assert found.holds is holds
    assert found.max_difference == pytest.approx(1e-4, rel=0.05)


def test_statistical_equality_is_not_judged_here_and_nonsense_is_refused() -> None:
    trace = _trace(np.zeros((1, 1, 1), np.int8), [1])
    assert metrics.agreement(trace, trace, against="golden", equality="statistical(0.02)").holds is None
    with pytest.raises(DataError, match="no equality"):
        metrics.agreement(trace, trace, against="golden", equality="roughly")


def test_a_step_that_only_one_executed_differs() -> None:
    y = np.zeros((1, 4, 1), np.int8)
    found = metrics.agreement(_trace(y, [2]), _trace(y, [4]), against="golden", equality="lsb(9)")
    assert (found.compared, found.bit_exact, found.holds) == (4, 2, False)
    assert found.first_difference is not None
    assert (found.first_difference.step, found.first_difference.value) == (2, "not executed")


def test_floats_are_compared_by_bits() -> None:
    a = np.array([[[0.0], [np.nan], [1.0]]], np.float32)
    b = np.array([[[-0.0], [np.nan], [np.nan]]], np.float32)
    found = metrics.agreement(_trace(a, [3]), _trace(b, [3]), against="golden")
    assert (found.bit_exact, found.max_difference, found.difference_unit) == (1, None, "absolute")


def test_final_outputs_are_compared_where_no_series_is_common() -> None:
    a, b = Trace({"y": np.array([[1], [2]], np.int8)}), Trace({"y": np.array([[1], [3]], np.int8)})
    found = metrics.agreement(a, b, against="golden")
    assert (found.per, found.compared, found.bit_exact) == ("inference", 2, 1)
    assert found.first_difference is not None
    assert (found.first_difference.sample, found.first_difference.step) == (1, None)


def test_agreement_refuses_what_can_not_be_compared() -> None:
    y = np.zeros((1, 2, 1), np.int8)
    with pytest.raises(DataError, match="int8.*int16"):
        metrics.agreement(_trace(y, [2]), _trace(y.astype(np.int16), [2]), against="golden")
    with pytest.raises(DataError, match="no tensor in common"):
        metrics.agreement(Trace({"a": y}), Trace({"b": y}), against="golden")
