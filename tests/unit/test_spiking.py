"""Spiking backends without a simulator: what is wrong in a request, and what is missing."""

import sys

import pytest

from neurodeploy import hardware
from neurodeploy.backends.brian2 import Brian2Backend
from neurodeploy.backends.snntorch import SnnTorchBackend, SnnTorchRunner
from neurodeploy.errors import MissingExtraError, UsageError
from tests.differential.spiking_cases import random_data, random_layer

LSM = hardware.find("brian2-lsm", hardware.Neuromorphic)
SIGMA = hardware.find("snntorch-sigma-delta", hardware.Neuromorphic)


@pytest.mark.parametrize("backend,target", [(Brian2Backend, LSM), (SnnTorchBackend, SIGMA)])
def test_wrong_requests(backend, target):
    with pytest.raises(UsageError, match="sample inputs"):
        backend().compile(random_layer(0), target)
    with pytest.raises(UsageError, match="has no option 'speed'"):
        backend().compile(random_layer(0), target, data=random_data(0), speed=9)


def test_a_missing_simulator_names_the_extra(monkeypatch):
    artifact = SnnTorchBackend().compile(random_layer(0), SIGMA, data=random_data(0, classes=2))
    monkeypatch.setitem(sys.modules, "snntorch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'neurodeploy\[spiking\]'"):
        SnnTorchRunner().run(artifact, dict(random_data(1).inputs))


@pytest.mark.parametrize("backend,target", [(Brian2Backend, LSM), (SnnTorchBackend, SIGMA)])
def test_compiling_twice_gives_the_same_bytes(backend, target):
    once, twice = (backend().compile(random_layer(0), target, data=random_data(0, classes=2)) for _ in range(2))
    assert once.files == twice.files and once.manifest == twice.manifest
