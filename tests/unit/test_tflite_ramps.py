"""Functions of int16 as sums of ramps."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.passes.tflite import ramps

FUNCTIONS = {
    "exp": (np.exp, -5.0, 3.0),
    "log": (np.log, 0.003, 1.0),
    "reciprocal": (lambda x: 1 / x, 0.02, 1.5),
    "root": (np.sqrt, 0.01, 4.0),
    "softplus": (lambda x: np.logaddexp(0, x), -6.0, 10.0),
    "square": (np.square, -2.0, 2.0),
    "line": (lambda x: 3 * x - 1, -1.0, 1.0),
    "flat": (lambda x: 0 * x + 0.7, -1.0, 1.0),
}


def fitted(name):
    function, low, high = FUNCTIONS[name]
    step = max(-low, high) * 1.1 / 32767
    unit = np.abs(function(np.linspace(low, high, 999))).max() * 1.1 / 32767
    whole = np.arange(np.ceil(low / step), np.floor(high / step) + 1)
    return (
        ramps.fit(lambda x: function(x * step) / unit, int(whole[0]), int(whole[-1])),
        whole,
        function(whole * step) / unit,
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_kept_within_a_few_steps(name):
    made, x, wanted = fitted(name)
    assert len(made.weights) <= ramps.PIECES[-1]
    assert np.abs(made.weights).max() <= 127
    assert made.widths.min() >= ramps.SHORTEST
    np.testing.assert_allclose(made.starts[1:], made.starts[:-1] + made.widths[:-1], atol=1e-9)
    assert np.abs(made(x) - wanted).max() <= max(2.0, 2.0**-10 * np.ptp(wanted))


def test_it_is_flat_outside_its_range():
    made, x, _ = fitted("softplus")
    np.testing.assert_allclose(made(np.array([-32768.0, x[0], x[-1], 32767.0]))[[0, 3]], made(x[[0, -1]]), atol=1e-9)


def test_what_is_simple_takes_little():
    assert len(fitted("flat")[0].weights) == 1
    assert len(fitted("line")[0].weights) < len(fitted("exp")[0].weights)


def test_a_range_of_one_integer():
    made = ramps.fit(lambda x: x + 100, 7, 7)
    assert abs(made(np.array([7.0]))[0] - 107) < 1
