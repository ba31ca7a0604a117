"""Other simulators on the tiles of a build: what they are given, and where they are installed what they say."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar.adapters.products import CONVERTERS, Tiles, codes_compared, errors_compared
from neurodeploy.data import Data
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import MissingExtraError, UnsupportedError, UsageError
from tests.unit.test_crossbar import PCM, gru, samples, small

PEERS = {"aihwkit": "aihwkit", "crosssim": "simulator"}


def built(target: Crossbar) -> Artifact:
    data = Data({"x": samples((12, 7, 4))}, None, None, "made up", "0" * 64)
    return CrossbarBackend().compile(gru(20, 4), target, data=data)


def test_a_tiles_product_is_that_of_its_relative_weights():
    tiles = Tiles(built(small(16, 24, PCM)), vectors=9)
    exact, converted = tiles.chips(frozenset(), 2), tiles.chips(CONVERTERS, 1)
    products = list(tiles.products())
    assert len(products) > 4
    for product, ours in products:
        assert np.abs(product.weights).max() <= 1 and np.abs(product.weights).max(axis=0).min() > 0
        np.testing.assert_allclose(ours(exact), np.stack([product.exact] * 2), atol=2e-5)
        step = product.bound / 127
        drives = np.rint(product.drives * np.float32(127)) / 127
        wanted = np.clip(np.rint(drives @ product.weights.astype(np.float64) / step), -127, 127)
        assert (np.rint(ours(converted)[0] / step) == wanted).mean() > 0.99
        assert np.abs(wanted).max() > 60


def test_differences_are_told_in_codes_and_as_relative_errors():
    tiles = Tiles(built(small(16, 24, PCM)), vectors=9)
    product, _ = next(tiles.products())
    step = product.bound / 127
    ours = np.round(product.exact / step) * step
    theirs = ours.copy()
    theirs[0, 0] += 3 * step
    found = codes_compared(product, ours, theirs, 8)
    assert (found.same, found.worst) == (1 - 1 / ours.size, 3.0)
    found = errors_compared(product, "1 day", product.exact[None] * 1.1, product.exact[None] * 0.7)
    assert (found.ours, found.theirs) == (pytest.approx(0.1), pytest.approx(0.3))


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_isnt_installed_is_named_with_its_remedy(peer: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "aihwkit.nn", None)
    monkeypatch.setitem(__import__("sys").modules, "simulator", None)
    adapter = importlib.import_module(f"neurodeploy.crossbar.adapters.{peer}")
    with pytest.raises(MissingExtraError, match=r"Install it in a Python 3\.12|Clone github"):
        adapter.compare(built(PCM))


def test_builds_without_pairs_of_devices_are_refused():
    offset = PCM.model_copy(update={"array": PCM.array.model_copy(update={"encoding": "offset"})})
    with pytest.raises(UnsupportedError, match="only pairs of devices"):
        Tiles(built(offset))
    with pytest.raises(UsageError, match="only a crossbar's build has tiles"):
        Tiles(replace(built(PCM), backend="c"))


@pytest.mark.parametrize(("peer", "target"), [("aihwkit", "pcm-128"), ("crosssim", "pcm-joshi-128")])
def test_a_peer_gives_the_same_codes_and_errors_of_one_size(peer: str, target: str):
    if importlib.util.find_spec(PEERS[peer]) is None:
        pytest.skip(f"{peer} isn't installed (docs/crossbar/peers.md)")
    adapter = importlib.import_module(f"neurodeploy.crossbar.adapters.{peer}")
    found = adapter.compare(built(hardware.find(target, Crossbar)), chips=48)
    codes = [c for c in found if c.what == "converters"]
    devices = [c for c in found if c.what != "converters"]
    assert codes and all(c.same > 0.999 and c.worst <= 1 for c in codes)
    assert devices and all(abs(c.ours / c.theirs - 1) < 0.12 for c in devices)
