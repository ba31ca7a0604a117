"""Crossbars' files: what they promise, and clear words for those that can't be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import TargetError
from neurodeploy.ir import interpret
from tests.families import CASES

NAMES = hardware.names("crossbar")
EXTRA = {name for name in NAMES if hardware.find(name, Crossbar).wires is not None}


def text(name: str) -> str:
    return (hardware.data_folder("targets") / "crossbars" / f"{name}.toml").read_text()


def test_the_shipped_crossbars():
    assert set(NAMES) == {
        "ideal-128", "pcm-128", "pcm-22nm-128", "pcm-joshi-128", "rram-hfo2-128", "rram-hfo2-256", "rram-milo-128",
        "cmo-hfox-128", "isaac-128",
    }  # fmt: skip


def test_the_page_of_devices_names_every_crossbar():
    page = (
        (Path(__file__).parents[2] / "docs" / "crossbar" / "devices.md")
        .read_text()
        .replace("`-256`", "`rram-hfo2-256`")
    )
    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_pcm_at_a_node_is_pcm_with_wires_a_read_and_thermal_noise():
    bare, wired = (hardware.find(name, Crossbar) for name in ("pcm-128", "pcm-22nm-128"))
    assert wired.wires is not None and wired.read is not None and wired.device.thermal_noise is not None
    assert bare.device == wired.device.model_copy(update={"thermal_noise": None})
    assert (bare.array, bare.dac, bare.adc, bare.cell) == (wired.array, wired.dac, wired.adc, wired.cell)


@pytest.mark.parametrize(
    ("name", "width", "aspect", "resistivity"),
    [("pcm-22nm-128", 40e-9, 1.9, 4.03e-8), ("rram-hfo2-128", 175e-9, 1.6, 2.20e-8), ("rram-hfo2-256", 175e-9, 1.6, 2.20e-8)],
)  # fmt: skip
def test_wires_are_those_of_the_node(name: str, width: float, aspect: float, resistivity: float):
    """NeuroSim V1.3: copper of this resistivity, cells of 4 by 12 wire widths."""
    wires = hardware.find(name, Crossbar).wires
    assert wires is not None
    square = resistivity / (width * aspect)
    assert (wires.row_ohm, wires.column_ohm) == pytest.approx((4 * square, 12 * square), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "t0", "oldest"),
    [("ideal-128", 0.0, None), ("pcm-128", 20.0, None), ("pcm-joshi-128", 0.0, None), ("cmo-hfox-128", 1.0, None),
     ("rram-hfo2-128", 1.0, 2 * 86400 - 1.0)],
)  # fmt: skip
def test_the_first_read_of_a_device(name: str, t0: float, oldest: float | None):
    device = hardware.find(name, Crossbar).device
    assert (device.t0_s, device.oldest_s) == (t0, oldest)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"ideal-128"}))
def test_every_crossbar_runs_a_network_and_bends_it_only_so_far(name: str):
    if name in EXTRA:
        pytest.importorskip("numba", reason="wires need the extra 'crossbar'")
    case = CASES["elman_tanh"]
    golden = interpret.run(case.program, case.inputs, case.lengths)
    built = CrossbarBackend().compile(
        case.program, hardware.find(name, Crossbar), data=Data(case.inputs, case.lengths)
    )  # fmt: skip
    made = CrossbarRunner().run(built, case.inputs, case.lengths, chips=4, times=["t0", "1day"])
    for output, exact in golden.outputs.items():
        error = made.chip_outputs[output] - exact
        scale = np.sqrt((exact.astype(float) ** 2).mean())
        assert 1e-4 < np.sqrt((error[0] ** 2).mean()) / scale < 0.3
        if name != "isaac-128":
            assert not np.array_equal(made.chip_outputs[output][0, 0], made.chip_outputs[output][0, 1]), "chips differ"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("pcm-128", "g_max_siemens = 25e-6", "g_max_siemens = -25e-6",
         "'device.g_max_siemens' is -2.5e-05; needed: greater than 0."),
        ("pcm-128", "g_min_siemens = 0.0", "g_min_siemens = -1e-6",
         "'device.g_min_siemens' is -1e-06; needed: greater than or equal to 0."),
        ("pcm-128", "g_min_siemens = 0.0", "g_min_siemens = 25e-6",
         "'device': g_min_siemens 2.5e-05 is not below g_max_siemens 2.5e-05."),
        ("pcm-128", "0.26348e-6, 1.9650e-6", "0.26348e-6, -1.9650e-6",
         "'device': a standard deviation of 'programming' is -4.75e-10 S at 3.13e-06 S; needed: >= 0."),
        ("pcm-128", 'technology = "pcm"', 'technology = "pcm"\nlevels = 1',
         "'device.levels' is 1; needed: greater than or equal to 2."),
        ("isaac-128", "full_scale_siemens = 0.0424575", "full_scale_siemens = 0.0",
         "'adc.full_scale_siemens' is 0.0; needed: greater than 0."),
        ("rram-hfo2-128", "times_s = [1.0, 86400.0, 172800.0]", "times_s = [1.0, 86400.0]",
         "'device.spread': 2 times and 3 polynomials; needed: one each."),
        ("rram-hfo2-128", "times_s = [1.0, 86400.0, 172800.0]", "times_s = [1.0, 172800.0, 86400.0]",
         "'device.spread': times_s [1.0, 172800.0, 86400.0] don't rise."),
        ("rram-hfo2-128", "sd_siemens = [0.348e-6", "sd_siemens = [0.349e-6",
         "'device': 'spread' starts at its first time; needed: the same polynomial in '[device.programming]'."),
        ("rram-hfo2-128", "[device.thermal_noise]",
         '[device.write_verify]\ntolerance_siemens = 1e-6\nmax_pulses = 9\nsource = "-"\n\n[device.thermal_noise]',
         "'device': 'spread' was measured after the source's own write and verify; needed: no 'write_verify'."),
        ("rram-hfo2-128", "[device.thermal_noise]",
         '[device.relaxation]\nt0_s = 1.0\nmean_siemens = [0.0]\nsd_siemens = [0.0]\nsource = "-"\n\n[device.thermal_noise]',
         "'device': 'spread' and 'relaxation' both say how it ages; needed: one of them."),
        ("ideal-128", "[dac]",
         '[device.write_verify]\ntolerance_siemens = 1e-6\nmax_pulses = 9\nsource = "-"\n\n[dac]',
         "'device': 'write_verify' repeats pulses; needed: '[device.programming]', the spread of one."),
        ("ideal-128", "[dac]", '[device.stuck]\non_share = 0.6\noff_share = 0.5\nsource = "-"\n\n[dac]',
         "'device.stuck': on_share 0.6 and off_share 0.5 are more than all devices."),
        ("ideal-128", "[dac]", "[device.stuck]\non_share = 0.6\noff_share = 0.1\n\n[dac]",
         "lacks the key 'device.stuck.source'. Say where the numbers beside it come from."),
        ("rram-milo-128", "fitted_min_siemens = 50e-6", "fitted_min_siemens = 250e-6",
         "'device.nonlinear': fitted_min_siemens 0.00025 is not below fitted_max_siemens 0.000225."),
        ("ideal-128", "[dac]", '[dac]\nbits = 8\nerrors = {noise_lsb = 1.0, source = "-"}',
         "'dac': 'errors.noise_lsb' is that of output converters; needed: none in 'dac'."),
        ("rram-milo-128", "temperature_kelvin = 300.0", "temperature_kelvin = 0.0",
         "'device.thermal_noise.temperature_kelvin' is 0.0; needed: greater than 0."),
    ],
)  # fmt: skip
def test_a_crossbar_that_cannot_be(tmp_path: Path, name: str, old: str, new: str, message: str):
    assert old in text(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(text(name).replace(old, new, 1))
    with pytest.raises(TargetError) as error:
        hardware.load(path)
    assert str(error.value) == f"{path}: {message}"
