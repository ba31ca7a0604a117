"""Devices against the published formulas; converters against their staircase."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodeploy import hardware
from neurodeploy.crossbar import converters
from neurodeploy.crossbar.devices import Cells, stream
from neurodeploy.crossbar.devices.formulas import drift_exponent, programming_sd, read_noise_sd
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_devices import Device
from neurodeploy.errors import TargetError, UsageError

PCM = hardware.find("pcm-128", Crossbar).device
HOUR, DAY, YEAR = 3600.0, 86400.0, 31536000.0
MICRO = 1e-6


def quiet(**tables: object) -> Device:
    """The PCM device without its noises, but for the tables given."""
    return PCM.model_copy(update={"programming": None, "drift": None, "read_noise": None, **tables})


def draws(count: int, seconds: float = 0.0, seed: int = 1):
    return lambda purpose: stream(seed, 0, 0, purpose, seconds).standard_normal(count)


# aihwkit's PCM model at 12.5 uS: mean and standard deviation in uS, s after the first read
@pytest.mark.parametrize(
    ("seconds", "mean", "sd"), [(0.0, 12.50, 1.20), (HOUR, 9.70, 1.06), (DAY, 8.31, 1.03), (YEAR, 6.25, 0.99)]
)
def test_moments_of_a_device_at_half_conductance(seconds: float, mean: float, sd: float):
    count = 200_000
    cells = Cells.program(PCM, np.full(count, 12.5 * MICRO), draws(count))
    g = cells.at(seconds, draws(count, seconds)) / MICRO
    assert g.mean() == pytest.approx(mean, abs=0.012)
    assert g.std() == pytest.approx(sd, abs=0.009)


@pytest.mark.parametrize("microsiemens", [5.0, 12.5, 20.0, 25.0])
def test_programming_noise_has_the_polynomials_moments(microsiemens: float):
    count = 100_000
    r = microsiemens / 25
    formula = 0.26348 + 1.9650 * r - 1.1731 * r * r
    target = np.full(count, microsiemens * MICRO)
    cells = Cells.program(PCM, target, draws(count))
    assert programming_sd(PCM, target)[0] / MICRO == pytest.approx(formula, rel=1e-9)
    assert cells.programmed.mean() / MICRO == pytest.approx(microsiemens, abs=0.015)
    assert cells.programmed.std() / MICRO == pytest.approx(formula, rel=0.01)
    assert np.array_equal(target, np.full(count, microsiemens * MICRO)), "the target itself was changed"


def test_no_conductance_is_negative():
    count = 20_000
    cells = Cells.program(PCM, np.zeros(count), draws(count))
    assert cells.programmed.min() == 0.0
    assert np.mean(cells.programmed == 0) == pytest.approx(0.5, abs=0.02)
    assert cells.at(YEAR, draws(count, YEAR)).min() >= 0.0


@pytest.mark.parametrize(
    ("r", "mean", "sd"),
    [(1.0, 0.049, 0.008), (0.1, 0.0244 + 0.0155 * np.log(10), 0.0125 * np.log(10) - 0.0059), (1e-4, 0.1, 0.045)],
)
def test_drift_exponents_follow_the_clipped_lines(r: float, mean: float, sd: float):
    found = drift_exponent(PCM, np.array([r * 25 * MICRO]))
    assert (found[0][0], found[1][0]) == (pytest.approx(mean, rel=1e-6), pytest.approx(sd, rel=1e-6))


def test_the_exponent_goes_by_what_a_device_was_meant_to_be():
    """A device meant to be 0 drifts as one of 0 does, though noise left it at a micro-siemens."""
    cells = Cells.program(PCM, np.zeros(20_000), draws(20_000))
    assert cells.nu is not None and cells.programmed.max() > 0.9 * MICRO
    assert cells.nu.mean() == pytest.approx(0.1, abs=1.5e-3)
    assert cells.nu.std() == pytest.approx(0.045, abs=1.5e-3)


def test_drift_is_a_power_law_of_each_devices_exponent():
    device = quiet(drift=PCM.drift)
    target = np.linspace(1, 25, 500) * MICRO
    cells = Cells.program(device, target, draws(500))
    assert cells.nu is not None
    assert np.array_equal(cells.at(0.0, draws(500)), target)
    for seconds in (20.0, HOUR, YEAR):
        slope = np.log(cells.at(seconds, draws(500)) / target) / np.log((seconds + 20) / 20)
        np.testing.assert_allclose(slope, -cells.nu, rtol=1e-9)


def test_read_noise_grows_with_the_root_of_the_logarithm_of_time():
    g = np.array([2.0, 12.5, 25.0]) * MICRO
    for seconds in (0.0, HOUR, YEAR):
        q = np.minimum(0.0088 / (g / (25 * MICRO)) ** 0.65, 0.2)
        formula = g * q * np.sqrt(np.log((seconds + 20 + 250e-9) / 500e-9))
        np.testing.assert_allclose(read_noise_sd(PCM, g, g, seconds), formula, rtol=1e-12)
    assert read_noise_sd(PCM, np.array([0.0]), np.array([0.0]), HOUR)[0] == 0.0


def test_devices_without_tables_stay_what_they_were():
    target = np.linspace(0, 25, 100) * MICRO
    cells = Cells.program(quiet(), target, draws(100))
    assert cells.programmed is target
    assert cells.at(YEAR, draws(100)) is target


def test_random_streams_depend_on_each_of_their_names():
    base = stream(0, 0, 0, "read", 0.0).standard_normal(8)
    assert np.array_equal(base, stream(0, 0, 0, "read", 0.0).standard_normal(8))
    others = [
        stream(1, 0, 0, "read"), stream(0, 1, 0, "read"), stream(0, 0, 1, "read"),
        stream(0, 0, 0, "drift"), stream(0, 0, 0, "read", 1.0),
    ]  # fmt: skip
    for other in others:
        assert not np.isin(other.standard_normal(8), base).any()


@pytest.mark.parametrize("seed", [-1, 1 << 64, 0.5])
def test_a_seed_is_a_64_bit_number(seed: int):
    with pytest.raises(UsageError, match="needed a whole number from 0 to"):
        stream(seed, 0, 0, "read")


# ------------------------------------------------------------------------------------------------------ converters


def test_the_staircase_is_exact():
    """8 bits over +-127: a step is one; halves go to the even code, and nothing passes 127."""
    x = np.array([-200.0, -127.6, -127.5, -126.5, -0.5, -0.4, 0.0, 0.5, 0.6, 1.5, 2.5, 126.5, 127.4, 128.0], np.float32)
    y, over = converters.convert(x, 127.0, 8)
    assert y.dtype == np.float32
    assert y.tolist() == [-127, -127, -127, -126, 0, 0, 0, 0, 1, 2, 2, 126, 127, 127]
    assert over is not None
    assert over.tolist() == [True, True, True, *[False] * 10, True]


@given(
    bits=st.integers(2, 12),
    scale=st.floats(1e-3, 1e3),
    x=st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=50),
)
def test_a_converter_rounds_to_the_nearest_of_its_levels(bits: int, scale: float, x: list[float]):
    values = np.sort(np.array(x)) * scale
    y, over = converters.convert(values, scale, bits)
    step = scale / (2 ** (bits - 1) - 1)
    assert over is None
    assert np.abs(y - values).max() <= step / 2 * (1 + 1e-9)
    assert (np.diff(y) >= 0).all()
    np.testing.assert_allclose(y / step, np.rint(y / step), atol=1e-6)


def test_every_code_can_be_reached_and_no_other():
    y, _ = converters.convert(np.linspace(-1, 1, 10_001), 1.0, 5)
    assert len(np.unique(y)) == 31
    assert 0.0 in y


def test_infinite_precision_passes_everything_and_no_range_gives_zero():
    x = np.array([1e30, -3.7])
    assert converters.convert(x, 1.0, None) == (x, None)
    y, over = converters.convert(np.array([0.0, 2.0]), 0.0, 8)
    assert y.tolist() == [0.0, 0.0] and over is None


def test_a_converter_needs_room_for_a_sign():
    target = hardware.find("pcm-128", Crossbar)
    one = target.model_copy(update={"dac": target.dac.model_copy(update={"bits": 1})})
    with pytest.raises(TargetError) as error:
        converters.check(one)
    assert str(error.value) == (
        "pcm-128: 'dac.bits' is 1; inputs and outputs have signs, needed at least 2. "
        "Leave 'bits' out for a converter of infinite precision; inputs one bit at a time are 'serial_bits = 1'."
    )
