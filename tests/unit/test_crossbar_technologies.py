"""The nodes that price crossbars: their files, that more bits take more, and what is published."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.cli.targets import main
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_technology import CrossbarTechnology
from neurodeploy.errors import TargetError
from neurodeploy.ir.build import Builder
from tests.unit.priced_crossbars import SAID, TECHNOLOGY, ends, figures, program_of, target_of, use, values


@pytest.fixture(autouse=True)
def _technology(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, TECHNOLOGY)


@pytest.mark.parametrize("name", ["cmos-22nm", "cmos-32nm"])
def test_more_bits_take_more_in_every_shipped_technology(name: str):
    """The tables rise (a falling one is refused); so do a build's figures, also between known numbers of bits."""
    found = [values(target_of(technologies=[name], adc={"bits": bits}, dac={"bits": bits})) for bits in (2, 4, 5, 8)]
    for figure in ("energy.adc", "energy.dac", "latency"):
        for end in (0, 1):
            row = [ends(f, figure)[end] for f in found]
            assert row == sorted(row), figure
    assert ends(found[0], "energy.adc") < ends(found[-1], "energy.adc")


def test_between_known_bits_a_price_spans_both_and_outside_it_is_unknown():
    table = CrossbarTechnology.model_validate(TECHNOLOGY).adc.energy
    assert table is not None
    assert table.at(8) == (0.1e-12, 0.2e-12)
    assert table.at(6) == (0.05e-12, 0.2e-12)
    assert table.at(3) is None and table.at(9) is None
    found = figures(target_of(adc={"bits": 12}))
    assert "energy of an ADC of 12 bits: made-up has no sourced figure" in found["energy.adc"].source


# ----------------------------------------------------------------------------------------------------- published


def test_isaacs_own_table_comes_out():
    """ISAAC (Shafiee et al., ISCA 2016): an array holds 128 inputs by 16 weights of 16 bits on 8 devices each.

    Table I: 2 mW an ADC, 4 mW of 1024 DACs, 1200 um2 an ADC, 0.166 um2 a DAC, 25 um2 an array. A dot product occupies
    an array for 16 cycles of 100 ns, one conversion for each multiplication.
    """
    described = copy.deepcopy(TECHNOLOGY)
    described["adc"] = {
        "energy": {"bits": [8], "joule": [2e-3 / 1.28e9], **SAID},
        "time": {"bits": [8], "seconds": [1 / 1.28e9], **SAID},
        "area": {"bits": [8], "area_m2": [1200e-12], **SAID},
    }
    described["dac"] = {
        "energy": {"bits": [1], "joule": [4e-3 / 1024 * 100e-9], **SAID},
        "area": {"bits": [1], "area_m2": [0.166e-12], **SAID},
    }
    described["passive"] = {"cell": {"area_m2": 0.0002e-6 / 8 / 128**2, **SAID}}
    isaac = hardware.find("isaac-128", Crossbar)
    target = isaac.model_copy(update={"technologies": ("made-up",), "adc": isaac.adc.model_copy(update={"bits": 8})})
    b = Builder()
    x = b.input("x", (128,))
    b.output("y", b.param("W", np.ones((16, 128), np.float32)) @ x)
    program = program_of(b, x=x.type)
    with pytest.MonkeyPatch.context() as patch:
        use(patch, described)
        found = values(target, program)
    assert found["array_reads"] == 16
    assert ends(found, "interval")[0] == pytest.approx(1600.0)
    assert found["energy.adc"] == pytest.approx(16 * 128 * 1.5625)
    assert ends(found, "energy.adc")[0] / 1600.0 == pytest.approx(2.0, rel=1e-6)  # pJ/ns = mW
    assert ends(found, "energy.dac")[0] / 1600.0 == pytest.approx(4.0 / 8)
    assert found["area.array"] == pytest.approx(25.0)
    assert found["area.adc"] == pytest.approx(1200.0)
    assert found["area.dac"] == pytest.approx(128 * 0.166)


@pytest.mark.parametrize(
    ("node", "energy", "area"),
    [
        # pJ a cycle: switches of the word lines, lines and multiplexer, converters on columns of 100 and 1.5 kOhm;
        # um2: cells, 16 converters of 8 bits, switch matrices with multiplexer and level shifters
        ("cmos-22nm", (7.0804, 7.0581 + 0.2527, 128 * 0.08526, 128 * 0.55494), (380.6, 2887.2, 4538.3)),
        ("cmos-32nm", (8.8714, 11.9650 + 0.3821, 128 * 0.16891, None), (805.3, 6108.4, 9830.7)),
    ],
)
def test_a_subarray_of_neurosim_comes_out(node: str, energy: tuple[Any, ...], area: tuple[float, ...]):
    """What NeuroSim V1.4's own code gives for 128 x 128 RRAM cells, inputs of a bit, 8 columns a converter of 8 bits."""
    target = target_of(
        technologies=[node], array={"rows": 128, "columns": 128, "encoding": "one-sided"},
        dac={"bits": 2, "serial_bits": 1}, adc={"columns_per_adc": 8},
    )  # fmt: skip
    b = Builder()
    x = b.input("x", (128,))
    b.output("y", b.param("W", np.ones((128, 128), np.float32)) @ x)
    found = values(target, program_of(b, x=x.type))
    assert found["array_reads"] == 2
    switches, lines, least, most = energy
    assert ends(found, "energy.dac")[0] == pytest.approx(2 * switches, rel=2e-3)
    assert found["energy.line"] == pytest.approx(2 * lines, rel=2e-3)
    assert ends(found, "energy.adc")[0] == pytest.approx(2 * least, rel=2e-3)
    if most is not None:
        assert ends(found, "energy.adc")[1] == pytest.approx(2 * most, rel=2e-3)
    assert ends(found, "area.array")[0] == pytest.approx(area[0], rel=2e-3)
    assert ends(found, "area.adc")[0] == pytest.approx(area[1], rel=2e-3)
    assert ends(found, "area.line")[1] == pytest.approx(area[2], rel=2e-3)


def test_the_shipped_node_of_isaac_holds_its_figures():
    node = hardware.find_technology("cmos-32nm")
    assert node.adc.energy and node.adc.time and node.adc.area and node.dac.energy and node.passive.cell
    for (low, high), published in (
        (node.adc.energy.at(8) or (0, 0), 16e-3 * 100e-9 / 1024),
        (node.adc.time.at(8) or (0, 0), 100e-9 / 128),
        (node.adc.area.at(8) or (0, 0), 0.0096e-6 / 8),
        (node.dac.energy.at(1) or (0, 0), 4e-3 * 100e-9 / 1024),
        (node.passive.cell.area_m2, 0.0002e-6 / 8 / 128**2),
    ):
        assert low * 0.995 <= published <= high * 1.005


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bits = [1, 8]", "bits = [8, 1]", "'dac.energy': 'bits' is [8, 1]; needed: rising."),
        ("bits = [1, 8]", "bits = [1]", "'dac.energy': 'joule' holds 2 figures for 1 numbers of bits."),
        ("joule = [[6.91e-15, 0.391e-12], [37.5e-15, 4.99e-12]]", "joule = [1e-12, 0.5e-12]", "'dac.energy': 'joule' falls from [1e-12, 1e-12] to [5e-13, 5e-13] with more bits."),
        ("node_nm = 22", "node_nm = 0", "'node_nm' is 0; needed: greater than 0."),
        ("clock_hz", "clock_mhz", "has an unknown key 'digital.clock.clock_mhz'. Did you mean 'clock_hz'?"),
        ("bit_joule = [0.0380e-12, 0.120e-12]", "bit_joule = [2.0, 1.0]", "'buffer.bit_joule': 2.0 is more than 1.0; needed: [low, high]."),
    ],
)  # fmt: skip
def test_a_broken_technology(tmp_path: Path, old: str, new: str, message: str):
    text = (hardware.data_folder("targets") / "crossbar-technologies" / "cmos-22nm.toml").read_text()
    assert old in text
    path = tmp_path / "cmos-22nm.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(TargetError) as caught:
        hardware.validate(path)
    assert str(caught.value).replace(f"{tmp_path}/", "") == f"cmos-22nm.toml: {message}"


def test_a_technology_that_a_target_names_must_exist(tmp_path: Path):
    text = (hardware.data_folder("targets") / "crossbars" / "pcm-128.toml").read_text()
    path = tmp_path / "pcm-128.toml"
    path.write_text(text.replace('"cmos-32nm"', '"cmos-33nm"', 1))
    with pytest.raises(TargetError, match="'technologies' names 'cmos-33nm', which doesn't exist. Did you mean"):
        hardware.validate(path)


def test_a_technology_is_no_target():
    with pytest.raises(TargetError, match=r"'cmos-22nm' is a crossbar technology, not a target\. .*pcm-128"):
        hardware.find("cmos-22nm")
    with pytest.raises(TargetError, match="there is no crossbar technology 'cmos-2nm'"):
        hardware.find_technology("cmos-2nm")


def test_technologies_are_listed_and_shown(capsys: pytest.CaptureFixture[str]):
    main("list", json=True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["cmos-22nm"] == {
        "name": "cmos-22nm",
        "kind": "crossbar-technology",
        "title": "22 nm CMOS",
        "backend": None,
    }
    main("show", json=True, name="cmos-22nm")
    assert json.loads(capsys.readouterr().out)["digital"]["clock"]["clock_hz"] == 1e9
    main("list", json=False)
    assert "0.0853 to 0.555" in capsys.readouterr().out
