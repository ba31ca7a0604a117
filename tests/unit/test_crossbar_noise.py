"""Deviates for reads: their table against the normal distribution, their stream, what an unwatched value costs nobody."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from neurodeploy.crossbar.noise import Reads, quantiles
from neurodeploy.ir import interpret
from tests.unit.test_crossbar import gru, samples


def test_the_quantiles_are_those_of_a_normal_distribution():
    table = quantiles().astype(np.float64)
    assert len(table) == 65536 and (np.diff(table) >= 0).all()
    assert abs(table.mean()) < 1e-7 and abs(table.var() - 1) < 1e-6
    below = np.array([NormalDist().cdf(z) for z in table[::997]])
    wanted = (np.arange(65536)[::997] + 0.5) / 65536
    assert np.abs(below - wanted).max() < 2e-5
    assert abs((table**4).mean() - 3) < 2e-3 and 4.32 < table[-1] < 4.34


def test_a_stream_is_normal_independent_and_named_by_its_key():
    drawn = np.empty((400, 501), np.float32)
    Reads([7, 0, 1]).fill(drawn)
    n = drawn.size
    assert abs(drawn.mean()) < 5 / n**0.5 and abs(drawn.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs(np.mean(drawn[:, 1:] * drawn[:, :-1])) < 5 / n**0.5
    again, other = np.empty_like(drawn), np.empty_like(drawn)
    Reads([7, 0, 1]).fill(again)
    Reads([7, 0, 2]).fill(other)
    assert np.array_equal(again, drawn) and abs(np.mean(other * drawn)) < 5 / n**0.5


def test_only_what_is_watched_is_observed():
    program = gru()
    seen: dict[str, int] = {}

    def observe(stage: str, name: str, array: np.ndarray, active: np.ndarray) -> None:
        seen[name] = seen.get(name, 0) + int(active.sum())

    data = {"x": samples((3, 5, 4))}
    interpret.run(program, data, np.array([5, 2, 4]), observe=observe, watched={"s": ("h",)})
    assert seen == {"h": 11}
    interpret.run(program, data, None, observe=observe)
    assert len(seen) > 3
