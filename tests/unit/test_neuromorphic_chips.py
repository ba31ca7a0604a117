"""Descriptions of neuromorphic chips: what is refused and how, and how a target names them."""

from pathlib import Path

import pytest

from neurodeploy import hardware
from neurodeploy.errors import TargetError

TARGETS = hardware.data_folder("targets")
LOIHI = (TARGETS / "neuromorphic-chips" / "loihi.toml").read_text()


def refusal(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(TargetError) as caught:
        hardware.validate(path)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("joule = 1.7e-12", "pj = 1.7", "has an unknown key 'energy.spike.pj'."),
        ("[52e-12, 81e-12]", "[81e-12, 52e-12]", "'energy.neuron_update.joule': 8.1e-11 is more than 5.2e-11; needed: [low, high]"),
        ("joule = 1.7e-12", "joule = -1.7e-12", "'energy.spike.joule.0' is -1.7e-12; needed: greater than 0"),
        ("joule = 1.7e-12", "joule = true", "'energy.spike.joule' is True; needed: a list"),
        ("weight_bits = [1, 9]", "weight_bits = [9, 1]", "'synapse.weight_bits': 9 is more than 1; needed: [low, high]"),
        ("neurons = 1024", "neurons = 0", "'core.neurons' is 0; needed: greater than 0"),
        ("neurons = 1024", "neuron = 1024", "has an unknown key 'core.neuron'. Did you mean 'neurons'?"),
        ('models = ["if", "lif", "cuba-lif"]', 'models = ["izhikevich"]', "'neuron.models.0' is 'izhikevich'; needed: 'if', 'lif', 'cuba-lif' or 'programmable'"),
        ("[energy.spike]\njoule = 1.7e-12\nsource", "[energy.spike]\njoule = 1.7e-12\nwhence", "has an unknown key 'energy.spike.whence'."),
    ],
)  # fmt: skip
def test_a_broken_chip_is_refused_by_its_key(tmp_path: Path, old: str, new: str, message: str):
    assert old in LOIHI
    assert f"loihi.toml: {message}" in refusal(tmp_path / "loihi.toml", LOIHI.replace(old, new, 1))


def test_every_figure_of_a_chip_needs_its_own_source(tmp_path: Path):
    text = LOIHI[: LOIHI.index("[energy.spike]")] + "[energy.spike]\njoule = 1.7e-12\n"
    assert refusal(tmp_path / "loihi.toml", text) == (
        "loihi.toml: lacks the key 'energy.spike.source'. Say where the numbers beside it come from."
    )


def test_a_chip_says_something(tmp_path: Path):
    text = LOIHI[: LOIHI.index("[neuron]")]
    assert "a chip needs 'core' or one of the tables of 'energy'" in refusal(tmp_path / "loihi.toml", text)


def test_a_mac_is_an_addition_and_a_multiplication(tmp_path: Path):
    text = (TARGETS / "neuromorphic-chips" / "cmos-45nm.toml").read_text().replace("0.9e-12", "5e-12")
    message = refusal(tmp_path / "cmos-45nm.toml", text)
    assert "'energy': 'mac' needs 'synaptic_operation' below it: their difference is a multiplication" in message


def test_one_number_is_a_range_of_one():
    energy = hardware.find_chip("loihi").energy
    assert energy.spike is not None and energy.spike.joule == (1.7e-12, 1.7e-12)
    assert energy.neuron_update is not None and energy.neuron_update.joule == (52e-12, 81e-12)


def test_a_target_names_chips_that_exist(tmp_path: Path):
    text = (TARGETS / "neuromorphic" / "brian2-lsm.toml").read_text().replace('"loihi"', '"lohi"')
    assert refusal(tmp_path / "brian2-lsm.toml", text) == (
        "brian2-lsm.toml: 'chips' names 'lohi', which doesn't exist. Did you mean 'loihi'?"
    )


def test_a_chip_is_found_by_name_or_file_and_is_no_target(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(LOIHI.replace('name = "loihi"', 'name = "mine"'))
    mine = hardware.find_chip(str(path))
    assert mine.core is not None and mine.core == hardware.find_chip("loihi").core
    with pytest.raises(TargetError, match=r"no neuromorphic chip 'lohi'\. Did you mean 'loihi'\?"):
        hardware.find_chip("lohi")
    with pytest.raises(TargetError, match="describes a neuromorphic, not a neuromorphic chip"):
        hardware.find_chip(str(TARGETS / "neuromorphic" / "brian2-lsm.toml"))
    with pytest.raises(TargetError, match=r"'loihi' is a neuromorphic chip, not a target\. Targets .*brian2-lsm"):
        hardware.find("loihi")
