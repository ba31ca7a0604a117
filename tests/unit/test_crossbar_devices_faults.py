"""What devices do besides noise: write and verify, stuck ones, levels, cells that aren't formed, current and its noise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.crossbar.devices import Cells, stream
from neurodeploy.crossbar.devices import stuck as devices_stuck
from neurodeploy.crossbar.devices.formulas import (
    current,
    johnson_sd,
    johnson_variance,
    nonlinear_coefficients,
    slope,
    to_levels,
)
from neurodeploy.crossbar.effects import EFFECTS, only, present
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_devices import Device, Stuck, ThermalNoise, WriteVerify
from neurodeploy.errors import DataError, UsageError

MICRO = 1e-6
DAY = 86400.0
PCM = hardware.find("pcm-128", Crossbar).device
MILO = hardware.find("rram-milo-128", Crossbar).device


def normals(shape: tuple[int, ...] | int, seconds: float = 0.0, chip: int = 0):
    return lambda purpose: stream(5, chip, 0, purpose, seconds).standard_normal(shape)


def quiet(device: Device, **tables: object) -> Device:
    """A device without noise and drift, but for the tables given."""
    gone = ("programming", "drift", "spread", "relaxation", "read_noise", "thermal_noise", "nonlinear", "stuck")
    return device.model_copy(update=dict.fromkeys(gone) | tables)


def verified(device: Device = MILO, **numbers: float) -> Device:
    table = WriteVerify(**{"tolerance_siemens": 3 * MICRO, "max_pulses": 20, "source": "a test", **numbers})  # type: ignore[arg-type]
    return device.model_copy(update={"write_verify": table})


# ------------------------------------------------------------------------------------------------ write and verify


def truncated_sd(sd: float, tolerance: float) -> float:
    """Standard deviation of a normal number of mean 0, given that it lies within the tolerance."""
    a = tolerance / sd
    density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    return sd * math.sqrt(1 - 2 * a * density / math.erf(a / math.sqrt(2)))


@pytest.mark.parametrize("tolerance", [0.5, 3.0, 6.0])
def test_pulses_are_geometric_and_what_is_left_is_the_middle_of_the_distribution(tolerance: float):
    """A pulse succeeds with p = erf(tol / (sd sqrt 2)), whatever came before."""
    count, g, most = 100_000, 100.0, 10
    sd = 4.782321 - 0.009107 * g
    p = math.erf(tolerance / (sd * math.sqrt(2)))
    device = verified(tolerance_siemens=tolerance * MICRO, max_pulses=most, pulse_joule=2e-12)
    cells = Cells.program(device, np.full(count, g * MICRO), normals(count))
    pulses = cells.pulse_count()
    assert pulses.devices == count and pulses.most <= most
    assert sum(pulses.histogram) == count and pulses.histogram[0] == 0
    histogram = (*pulses.histogram, *[0] * most)
    for k in range(1, most):
        share = p * (1 - p) ** (k - 1)
        assert histogram[k] == pytest.approx(count * share, abs=5 * math.sqrt(count * share * (1 - share)) + 1)
    assert pulses.mean == pytest.approx((1 - (1 - p) ** most) / p, rel=0.02)
    left = (1 - p) ** most
    assert pulses.out_of_tolerance == pytest.approx(count * left, abs=5 * math.sqrt(count * left) + 1)
    assert pulses.joule == pytest.approx(pulses.total * 2e-12, rel=1e-12)
    error = cells.programmed / MICRO - g
    inside = error[np.abs(error) <= tolerance]
    assert inside.size == count - pulses.out_of_tolerance
    assert inside.std() == pytest.approx(truncated_sd(sd, tolerance), rel=0.03)


def test_enough_pulses_bring_every_device_home():
    device = verified(max_pulses=500)
    target = np.linspace(50, 225, 5000) * MICRO
    cells = Cells.program(device, target, normals(5000))
    assert np.abs(cells.programmed - target).max() <= 3 * MICRO
    assert cells.pulse_count().out_of_tolerance == 0
    one = Cells.program(MILO, target, normals(5000))
    assert np.abs(one.programmed - target).max() > 9 * MICRO
    assert one.pulse_count().mean == 1.0 and one.pulse_count().joule is None


def test_a_noisy_verifying_read_accepts_by_what_it_sees():
    """Success then goes by the read, sd and read error together; more true conductances lie outside."""
    count, g = 100_000, 100.0
    sd, read = 4.782321 - 0.009107 * g, 4.0
    device = verified(max_pulses=1000, read_sd_siemens=read * MICRO)
    cells = Cells.program(device, np.full(count, g * MICRO), normals(count))
    p = math.erf(3.0 / (math.hypot(sd, read) * math.sqrt(2)))
    assert cells.pulse_count().mean == pytest.approx(1 / p, rel=0.02)
    assert cells.pulse_count().out_of_tolerance > 0.2 * count


def test_a_devices_pulses_are_its_own():
    """Stopping early for some chips changes nothing for others."""
    device = verified()
    target = np.full((2, 40), 100 * MICRO)

    def drawn(purpose: str) -> np.ndarray:
        return np.stack([normals(40, chip=chip)(purpose) for chip in (8, 9)])

    both = Cells.program(device, target, drawn)
    for k, chip in enumerate((8, 9)):
        alone = Cells.program(device, target[:1], lambda purpose, chip=chip: normals(40, chip=chip)(purpose)[None])
        assert np.array_equal(both.programmed[k], alone.programmed[0])
        assert both.pulses is not None and alone.pulses is not None
        assert np.array_equal(both.pulses[k], alone.pulses[0])


def test_stuck_devices_take_all_pulses_and_unformed_cells_none():
    target = np.array([100.0, 100.0, 225.0, np.nan]) * MICRO
    cells = Cells.program(verified(max_pulses=7), target, normals(4), np.array([0, 1, 1, 1]))
    assert cells.pulses is not None
    assert cells.pulses[1] == 7, "225 uS is not 100 uS, however often it is pulsed"
    assert cells.pulses[2] == 1, "stuck where it should be"
    assert cells.pulses[3] == 0
    assert cells.pulse_count().devices == 3 and cells.pulse_count().out_of_tolerance == 1


# ------------------------------------------------------------------------------------------------------ stuck devices


@pytest.mark.parametrize(("on", "off"), [(0.0, 0.0), (0.09, 0.018), (0.0, 0.3), (0.6, 0.4), (1.0, 0.0)])
def test_stuck_devices_come_in_their_shares(on: float, off: float):
    count = 100_000
    device = devices_stuck.with_stuck(PCM, on, off)
    cells = Cells.program(device, np.full(count, 10 * MICRO), normals(count))
    assert cells.stuck is not None
    for value, share in ((devices_stuck.ON, on), (devices_stuck.OFF, off)):
        found = np.mean(cells.stuck == value)
        assert found == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / count))
    for age in (0.0, DAY, 365 * DAY):
        now = cells.at(age, normals(count, age))
        assert np.all(now[cells.stuck == devices_stuck.ON] == PCM.g_max_siemens)
        assert np.all(now[cells.stuck == devices_stuck.OFF] == 0.0)
        assert not np.isin(now[cells.stuck == devices_stuck.HEALTHY], [0.0, PCM.g_max_siemens]).any()


def test_healthy_devices_are_the_same_beside_stuck_ones():
    target = np.full(1000, 10 * MICRO)
    without, with_some = (
        Cells.program(devices_stuck.with_stuck(PCM, share, 0.0), target, normals(1000)) for share in (0.0, 0.3)
    )
    healthy = with_some.stuck == devices_stuck.HEALTHY
    for age in (0.0, DAY):
        a, b = (cells.at(age, normals(1000, age)) for cells in (without, with_some))
        assert np.array_equal(a[healthy], b[healthy])


def test_a_given_map_replaces_the_sampled_one_on_every_chip():
    table = Stuck(on_share=0.5, off_share=0.5, on_siemens=30e-6, off_siemens=1e-6, source="a test")
    device = quiet(PCM, stuck=table)
    given = np.array([[0, 1], [2, 0]])
    cells = Cells.program(device, np.full((3, 2, 2), 7 * MICRO), normals((3, 2, 2)), given)
    for chip in cells.at(DAY, normals((3, 2, 2))):
        assert chip.tolist() == [[7e-6, 30e-6], [1e-6, 7e-6]]


def test_maps_are_read_from_a_file_by_the_number_of_their_array(tmp_path: Path):
    path = tmp_path / "stuck.npz"
    first = np.zeros((4, 6), np.uint8)
    first[1, 2], first[3, 5] = 1, 2
    np.savez(path, **{"0": first, "2": np.ones((4, 6), np.int64)})
    maps = devices_stuck.load_maps(path, 3, 4, 6)
    assert sorted(maps) == [0, 2]
    assert np.array_equal(maps[0], first) and maps[2].sum() == 24


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"3": np.zeros((4, 6), int)}, "there is no array '3'; needed: a number from 0 to 2. The floor plan numbers"),
        ({"a": np.zeros((4, 6), int)}, "there is no array 'a'; needed"),
        ({"0": np.zeros((6, 4), int)}, "array '0': a map of stuck devices is 6 x 4; needed: 4 x 6, as the array is."),
        ({"0": np.zeros(6, int)}, "array '0' has 1 axes; needed: rows and columns."),
        ({"0": np.full((4, 6), 3)}, "array '0': a map of stuck devices holds 3; needed: 0 (healthy), 1 (stuck on)"),
        ({"0": np.full((4, 6), -1)}, "array '0': a map of stuck devices holds -1; needed"),
        ({"0": np.zeros((4, 6))}, "array '0': a map of stuck devices is float64; needed: whole numbers 0, 1 and 2."),
        ({"0": np.array([["x"]], object)}, "maps of stuck devices can't be read"),
    ],
)
def test_a_broken_file_of_maps(tmp_path: Path, arrays: dict[str, np.ndarray], message: str):
    path = tmp_path / "stuck.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError) as error:
        devices_stuck.load_maps(path, 3, 4, 6)
    assert message in str(error.value) and str(error.value).startswith(str(path))


def test_a_file_of_maps_that_is_none(tmp_path: Path):
    (tmp_path / "text.npz").write_text("not a zip")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut off")
    np.save(tmp_path / "one.npy", np.zeros((4, 6), int))
    for name, message in (
        ("text.npz", "can't be read"), ("cut.npz", "can't be read"), ("none.npz", "can't be read"),
        ("one.npy", "is a single array; needed a .npz with named ones. Write them .* for each physical array."),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            devices_stuck.load_maps(tmp_path / name, 1, 4, 6)


@pytest.mark.parametrize(("on", "off"), [(-0.1, 0.0), (0.0, 1.1), (0.6, 0.5), (math.nan, 0.0)])
def test_shares_that_cannot_be(on: float, off: float):
    with pytest.raises(UsageError, match="needed: from 0 to 1, together too"):
        devices_stuck.with_stuck(PCM, on, off)


# ------------------------------------------------------------------------------------- unformed cells, levels, ratio


@pytest.mark.parametrize("name", hardware.names("crossbar"))
def test_an_unformed_cell_conducts_exactly_nothing_through_everything(name: str):
    device = devices_stuck.with_stuck(hardware.find(name, Crossbar).device, 0.3, 0.3)
    target = np.full((50, 8), 0.7 * device.g_max_siemens)
    target[::3, 1::2] = np.nan
    gone = np.isnan(target)
    cells = Cells.program(device, target, normals(target.shape))
    for now in [cells.programmed, *(cells.at(age, normals(target.shape, age)) for age in (0.0, DAY, 365 * DAY))]:
        assert np.all(now[gone] == 0.0) and np.isfinite(now).all() and now.min() >= 0.0
        assert np.all(current(device, now, np.full(target.shape, 0.2))[gone] == 0.0)
        assert np.all(now[~gone & (cells.stuck == devices_stuck.HEALTHY)] > 0.0)


def test_without_effects_the_target_comes_back_to_the_last_bit_and_unformed_cells_as_zero():
    target = np.array([3.3e-6, np.nan, 25e-6])
    cells = Cells.program(quiet(PCM), target, normals(3))
    assert cells.at(DAY, normals(3)) is cells.target
    assert cells.target.tolist() == [3.3e-6, 0.0, 25e-6]


def test_levels_are_evenly_spaced_and_the_nearest_is_taken():
    device = quiet(PCM, levels=5, g_min_siemens=1e-6, g_max_siemens=9e-6)
    asked = np.array([1.0, 1.9, 2.1, 4.0, 5.2, 8.9, 9.0, 20.0, 0.0]) * MICRO
    found = Cells.program(device, asked, normals(9)).at(0.0, normals(9))
    np.testing.assert_allclose(found / MICRO, [1, 1, 3, 5, 5, 9, 9, 9, 1], rtol=1e-12)
    assert len(np.unique(to_levels(device, np.linspace(1, 9, 999) * MICRO).round(12))) == 5


def test_a_level_but_for_rounding_is_left_to_the_last_bit():
    device = quiet(PCM, levels=4, g_min_siemens=0.0, g_max_siemens=25e-6)
    exact = np.arange(4) / 3 * 25e-6
    nearly = exact * (1 + 1e-15)
    assert np.array_equal(to_levels(device, nearly), nearly)


def test_programming_noise_goes_by_the_level_and_drift_too():
    device = PCM.model_copy(update={"levels": 2})
    cells = Cells.program(device, np.full(20_000, 9.0 * MICRO), normals(20_000))  # rounds to 0
    at_zero = Cells.program(PCM, np.zeros(20_000), normals(20_000))
    assert np.array_equal(cells.programmed, at_zero.programmed)
    assert cells.nu is not None and at_zero.nu is not None and np.array_equal(cells.nu, at_zero.nu)


def test_a_finite_on_off_ratio_leaves_zeros_conducting_and_noisy():
    """g_min is where a weight of 0 lies: a pair's currents cancel but for the noise of two devices at g_min."""
    wan = hardware.find("rram-hfo2-128", Crossbar).device
    assert wan.g_max_siemens / wan.g_min_siemens == pytest.approx(40.0)
    zeros = np.full((100_000, 2), wan.g_min_siemens)
    exact = Cells.program(quiet(wan), zeros, normals(zeros.shape)).at(0.0, normals(zeros.shape))
    assert exact.sum() == pytest.approx(2 * 100_000 * 1e-6) and np.all(exact[:, 0] - exact[:, 1] == 0)
    noisy = Cells.program(wan, zeros, normals(zeros.shape)).at(0.0, normals(zeros.shape))
    sd = 0.348 + 16.030 / 40 - 43.853 / 40**2 + 45.393 / 40**3 - 16.815 / 40**4
    assert sd == pytest.approx(0.722, abs=1e-3)
    above, density = 0.5 * (1 + math.erf(1 / sd / math.sqrt(2))), math.exp(-0.5 / sd**2) / math.sqrt(2 * math.pi)
    mean, square = above + sd * density, (1 + sd**2) * above + sd * density  # of a normal number cut at 0
    assert noisy.mean() / MICRO == pytest.approx(mean, rel=0.005)
    assert (noisy[:, 0] - noisy[:, 1]).std() / MICRO == pytest.approx(math.sqrt(2 * (square - mean**2)), rel=0.01)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_an_age_is_a_finite_time_after_the_first_read(seconds: float):
    cells = Cells.program(PCM, np.full(3, 1e-6), normals(3))
    with pytest.raises(UsageError, match="needed: a finite number, at least 0"):
        cells.at(seconds, normals(3))


# --------------------------------------------------------------------------------------------- current and its noise


def test_thermal_noise_is_nyquists():
    """1 kOhm, 300 K, 1 MHz: 4.07 nA; a read of 0.5 us has that bandwidth; conductances add, temperatures scale."""
    noise = ThermalNoise(temperature_kelvin=300.0, source="a test")
    assert johnson_sd(noise, np.array([1e-3]), 0.5e-6)[0] == pytest.approx(4.0703e-9, rel=1e-4)
    g = np.array([[1.0, 2.0], [3.0, 5.0]]) * MICRO
    whole = johnson_variance(noise, g.sum(axis=0), 1e6)
    np.testing.assert_allclose(whole, johnson_variance(noise, g, 1e6).sum(axis=0), rtol=1e-12)
    hot = noise.model_copy(update={"temperature_kelvin": 600.0})
    np.testing.assert_allclose(johnson_variance(hot, g, 1e6), 2 * johnson_variance(noise, g, 1e6), rtol=1e-12)


def test_current_of_milos_devices_is_the_fitted_curve():
    """a2 and a3 as CrossSim computes them from the same fit, at the measured states and at the straight one."""
    g = np.array([62.5, 76.2, 93.9, 110.0, 225.0]) * MICRO
    log = np.log10(g)
    a2 = 0.0001388 * log**3 + 0.001541 * log**2 + 0.005711 * log + 0.007063
    a3 = 8.8710e-05 * log**2 + 6.7919e-04 * log + 1.2968e-03
    found = nonlinear_coefficients(MILO, g)
    np.testing.assert_allclose(found[0], a2, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found[1], a3, rtol=1e-9, atol=1e-15)
    for volts in (-0.5, -0.2, 0.1, 0.5):
        np.testing.assert_allclose(current(MILO, g, np.full(5, volts)), g * volts + a2 * volts**2 + a3 * volts**3)
    bent = np.abs(current(MILO, g, np.full(5, 0.5)) / (0.5 * g) - 1)
    assert bent[0] > 0.1 and bent[-1] < 0.02


def test_the_slope_is_the_currents_derivative_and_never_negative():
    g = np.geomspace(1, 400, 50) * MICRO
    for volts in np.linspace(-0.5, 0.5, 11):
        step = 1e-6
        up, down = (current(MILO, g, np.full(50, volts + s)) for s in (step, -step))
        np.testing.assert_allclose(slope(MILO, g, np.full(50, volts)), (up - down) / (2 * step), rtol=1e-6)
        assert slope(MILO, g, np.full(50, volts)).min() > 0


def test_outside_the_fitted_range_the_curves_shape_is_held():
    low, high = 50 * MICRO, 225 * MICRO
    for outside, edge in ((5 * MICRO, low), (400 * MICRO, high)):
        for a, b in zip(*(nonlinear_coefficients(MILO, np.array([g])) for g in (outside, edge)), strict=True):
            assert a[0] / outside == pytest.approx(b[0] / edge, rel=1e-12)
    assert nonlinear_coefficients(MILO, np.zeros(2))[0].tolist() == [0.0, 0.0]
    assert current(PCM, np.array([2e-6]), np.array([0.5])).tolist() == [1e-6]


# ------------------------------------------------------------------------------------------------- effects switched off


@pytest.mark.parametrize("name", hardware.names("crossbar"))
def test_every_effect_of_a_target_can_be_switched_off(name: str):
    target = hardware.find(name, Crossbar)
    tables = {"stuck": Stuck(on_share=0.1, off_share=0.1, source="a test")}
    target = target.model_copy(update={"device": target.device.model_copy(update=tables)})
    for effect in present(target):
        rest = only(target, EFFECTS.keys() - {effect})
        drift = rest.device.drift if effect == "drift" else None
        if drift is None:
            assert effect not in present(rest)
        else:  # it is the clock of 1/f noise, and moves nothing
            assert rest.device.read_noise is not None and drift.t0_s == rest.device.t0_s == 20.0
            cells = Cells.program(quiet(rest.device, drift=drift), np.full(9, 7 * MICRO), normals(9))
            assert np.array_equal(cells.at(DAY, normals(9, DAY)), cells.programmed)
    bare = only(target, ()).device
    g = np.linspace(0.1, 1, 9) * bare.g_max_siemens
    assert Cells.program(bare, g, normals(9)).at(DAY, normals(9)) is g
    held = Device.model_fields.keys() - {"source", "technology", "g_min_siemens", "g_max_siemens"}
    assert all(getattr(bare, table) is None for table in held), "an effect has no switch"
