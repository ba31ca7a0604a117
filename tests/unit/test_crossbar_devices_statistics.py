"""Sampled devices against the published formulas, typed in here from the sources and not read from the targets' files.

A sample agrees if its mean and its standard deviation lie within 5 standard errors; a coefficient that is a fifth off
must be found out by the same judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.crossbar.devices import Cells, age_warning, stream
from neurodeploy.crossbar.devices.formulas import spread_sd
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_devices import Device, polynomial

MICRO = 1e-6
COUNT = 200_000
ALLOWED = 5.0
DAY = 86400.0

#: Target -> standard deviation (uS) of a device programmed to G (uS), as its source gives it.
PROGRAMMING: dict[str, Callable[[float], float]] = {
    "pcm-128": lambda g: 0.26348 + 1.9650 * (g / 25) - 1.1731 * (g / 25) ** 2,
    "pcm-22nm-128": lambda g: 0.26348 + 1.9650 * (g / 25) - 1.1731 * (g / 25) ** 2,
    "pcm-joshi-128": lambda g: -0.00178767 * g**2 + 0.07585724 * g + 0.28638599,
    "rram-hfo2-128": lambda g: polynomial([0.348, 16.030, -43.853, 45.393, -16.815], g / 40),
    "rram-hfo2-256": lambda g: polynomial([0.348, 16.030, -43.853, 45.393, -16.815], g / 40),
    "rram-milo-128": lambda g: -0.009107 * g + 4.782321,
    "cmo-hfox-128": lambda g: 0.00106879 * g + 0.00081107,
}
#: Wan et al., standard deviation from the target (uS) at x = G/40 uS, some seconds after programming.
WAN = {
    1.0: [0.348, 16.030, -43.853, 45.393, -16.815],
    DAY: [0.701, 22.086, -50.773, 47.095, -16.458],
    2 * DAY: [0.782, 20.274, -43.507, 37.062, -11.934],
}


def device(name: str) -> Device:
    return hardware.find(name, Crossbar).device


def normals(shape: tuple[int, ...] | int, seconds: float = 0.0, chip: int = 0):
    return lambda purpose: stream(3, chip, 0, purpose, seconds).standard_normal(shape)


def conductances(name: str) -> list[float]:
    """Some conductances (uS) of a target, so high that noise doesn't reach 0."""
    low, high = device(name).g_min_siemens / MICRO, device(name).g_max_siemens / MICRO
    return [max(low, 0.2 * high), 0.5 * (low + high), 0.75 * high, high]


def surprise(sample: np.ndarray, mean: float, sd: float) -> float:
    """How far a normal sample is from a mean and a standard deviation, in standard errors; the larger one."""
    n = sample.size
    return max(abs(sample.mean() - mean) / (sd / math.sqrt(n)), abs(sample.std() / sd - 1) * math.sqrt(2 * n))


def programmed(described: Device, g: float) -> np.ndarray:
    return Cells.program(described, np.full(COUNT, g * MICRO), normals(COUNT)).programmed / MICRO


@pytest.mark.parametrize("name", PROGRAMMING)
def test_programming_has_the_published_moments(name: str):
    for g in conductances(name):
        assert surprise(programmed(device(name), g), g, PROGRAMMING[name](g)) < ALLOWED, g


@pytest.mark.parametrize("name", PROGRAMMING)
def test_a_coefficient_that_is_a_fifth_off_is_found_out(name: str):
    right = device(name)
    assert right.programming is not None
    for k in range(len(right.programming.sd_siemens)):
        wrong = [c * 1.2 if i == k else c for i, c in enumerate(right.programming.sd_siemens)]
        noise = right.programming.model_copy(update={"sd_siemens": tuple(wrong)})
        changed = right.model_copy(update={"programming": noise})
        found = [surprise(programmed(changed, g), g, PROGRAMMING[name](g)) for g in conductances(name)]
        assert max(found) > ALLOWED, f"coefficient {k}"


def test_every_target_with_programming_noise_is_judged():
    noisy = {name for name in hardware.names("crossbar") if device(name).programming is not None}
    assert noisy == set(PROGRAMMING)


@pytest.mark.parametrize("name", ["pcm-128", "rram-hfo2-128", "rram-milo-128"])
def test_programming_is_normal(name: str):
    """Kolmogorov and Smirnov's test at one in ten thousand, against the published normal distribution, cut at 0."""
    for g in (device(name).g_min_siemens / MICRO, conductances(name)[1]):
        found = np.sort(programmed(device(name), g)[:20_000])
        z = (found - g) / (PROGRAMMING[name](g) * math.sqrt(2))
        below = np.array([0.5 * (1 + math.erf(x)) for x in z])
        n = found.size
        above_zero = found > 0
        distance = np.abs(below - (np.arange(n) + 0.5) / n)[above_zero].max() + 0.5 / n
        assert distance * math.sqrt(n) < 2.23
        assert np.mean(~above_zero) == pytest.approx(
            0.5 * (1 + math.erf(-g / (PROGRAMMING[name](g) * math.sqrt(2)))), abs=0.02
        )


@pytest.mark.parametrize("name", ["rram-hfo2-128", "rram-hfo2-256"])
@pytest.mark.parametrize("after", WAN)
def test_a_spread_is_the_measured_one_at_measured_times(name: str, after: float):
    seconds = after - 1.0  # the first read is a second after programming
    for g in (10.0, 20.0, 38.0):
        cells = Cells.program(device(name), np.full(COUNT, g * MICRO), normals(COUNT))
        found = cells.at(seconds, normals(COUNT, seconds)) / MICRO
        assert surprise(found, g, polynomial(WAN[after], g / 40)) < ALLOWED
        assert surprise(found, g, 1.1 * polynomial(WAN[after], g / 40)) > ALLOWED


def test_a_spread_between_measured_times_is_a_line_in_the_logarithm_of_time():
    g = np.array([5.0, 20.0, 38.0]) * MICRO
    halfway = math.sqrt(DAY)  # between 1 s and a day, in ln t
    between = spread_sd(device("rram-hfo2-128"), g, halfway - 1.0) / MICRO
    expected = [(polynomial(WAN[1.0], x) + polynomial(WAN[DAY], x)) / 2 for x in g / (40 * MICRO)]
    np.testing.assert_allclose(between, expected, rtol=1e-9)
    later = spread_sd(device("rram-hfo2-128"), g, math.sqrt(2) * DAY - 1.0) / MICRO
    expected = [(polynomial(WAN[DAY], x) + polynomial(WAN[2 * DAY], x)) / 2 for x in g / (40 * MICRO)]
    np.testing.assert_allclose(later, expected, rtol=1e-9)


def test_past_the_last_measurement_devices_are_held_and_a_warning_says_so():
    described = device("rram-hfo2-128")
    cells = Cells.program(described, np.full(100, 20 * MICRO), normals(100))
    last = 2 * DAY - 1.0
    assert np.array_equal(cells.at(last, normals(100)), cells.at(365 * DAY, normals(100)))
    assert not np.array_equal(cells.at(DAY, normals(100)), cells.at(last, normals(100)))
    assert age_warning(described, last) is None
    assert age_warning(device("pcm-128"), 1e9) is None
    assert age_warning(described, 365 * DAY) == (
        "an age of 3.1536e+07 s is past the last measured one, 172799 s after the first read: "
        "the devices are as they were then."
    )


def test_a_device_of_a_measured_spread_ages_along_one_curve():
    cells = Cells.program(device("rram-hfo2-128"), np.full(1000, 20 * MICRO), normals(1000))
    first, later = (cells.at(seconds, normals(1000, seconds)) - 20 * MICRO for seconds in (0.0, DAY - 1.0))
    assert np.array_equal(cells.programmed - 20 * MICRO, first)
    np.testing.assert_allclose(later / first, polynomial(WAN[DAY], 0.5) / polynomial(WAN[1.0], 0.5), rtol=1e-6)


def test_drift_alone_of_a_measured_spread_is_what_it_adds_to_the_first_read():
    described = device("rram-hfo2-128").model_copy(update={"programming": None})
    cells = Cells.program(described, np.full(COUNT, 20 * MICRO), normals(COUNT))
    assert np.array_equal(cells.at(0.0, normals(COUNT)), np.full(COUNT, 20 * MICRO))
    added = polynomial(WAN[DAY], 0.5) - polynomial(WAN[1.0], 0.5)
    assert surprise(cells.at(DAY - 1.0, normals(COUNT)) / MICRO, 20.0, added) < ALLOWED


@pytest.mark.parametrize("seconds", [0.0, 3600.0, 365 * DAY])
def test_relaxation_shifts_and_spreads_with_the_logarithm_of_time(seconds: float):
    """Falcone et al.: whatever the conductance; the programming error of before stays in it."""
    log = math.log(seconds + 1.0)
    for g in (9.0, 50.0, 88.0):
        cells = Cells.program(device("cmo-hfox-128"), np.full(COUNT, g * MICRO), normals(COUNT))
        found = cells.at(seconds, normals(COUNT, seconds)) / MICRO
        sd = math.hypot(0.04201137 * log + 0.41183342, PROGRAMMING["cmo-hfox-128"](g))
        assert surprise(found, g - 0.08900206 * log, sd) < ALLOWED
        assert surprise(found, g - 0.08900206 * log, 1.05 * sd) > ALLOWED
        if seconds:
            assert surprise(found, g, sd) > ALLOWED


def test_relaxation_stops_at_nothing():
    cells = Cells.program(device("cmo-hfox-128"), np.full(10_000, 0.5 * MICRO), normals(10_000))
    found = cells.at(365 * DAY, normals(10_000))
    assert found.min() == 0.0 and np.mean(found == 0) == pytest.approx(0.82, abs=0.02)


def test_two_published_fits_of_pcm_agree_in_the_middle_of_the_range():
    assert PROGRAMMING["pcm-128"](12.5) == pytest.approx(PROGRAMMING["pcm-joshi-128"](12.5), rel=0.01)


@pytest.mark.parametrize("name", ["pcm-128", "rram-hfo2-128", "cmo-hfox-128"])
def test_a_chip_is_the_same_alone_and_among_others_and_in_any_order_of_times(name: str):
    target = np.linspace(0.2, 1.0, 60).reshape(6, 10) * device(name).g_max_siemens

    def chips(numbers: list[int], ages: list[float]) -> dict[float, np.ndarray]:
        def drawn(purpose: str, seconds: float = 0.0) -> np.ndarray:
            return np.stack([stream(0, c, 2, purpose, seconds).standard_normal(target.shape) for c in numbers])

        cells = Cells.program(device(name), np.broadcast_to(target, (len(numbers), 6, 10)), drawn)
        return {t: cells.at(t, lambda purpose, t=t: drawn(purpose, t)) for t in ages}

    together = chips([4, 7, 1], [0.0, DAY, 3600.0])
    for k, number in enumerate([4, 7, 1]):
        alone = chips([number], [3600.0, DAY])
        for age in (3600.0, DAY):
            assert np.array_equal(alone[age][0], together[age][k])
    assert not np.array_equal(together[DAY][0], together[DAY][1])
