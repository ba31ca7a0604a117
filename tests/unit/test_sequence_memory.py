"""The example of sequence memory: what its text says of each part holds, and fails without that part."""

from dataclasses import replace

import numpy as np
import pytest

from examples.sequence_memory import ALL, CUE, ITEMS, PULSE, TICKS, Strengths, brian2_agrees, recalls, run, sequence


def recalled(seed, **changes):
    made = sequence(seed, items=7, last=60, strengths=replace(Strengths(), **changes))
    raster = run(made)
    return made, raster, recalls(made, raster)


@pytest.mark.parametrize("seed", range(5))
def test_items_come_in_their_order_and_silence_their_rivals(seed):
    made, raster, found = recalled(seed)
    assert [r.winner for r in found] == [*made.order, made.order[0]]
    assert all(r.rate > 80 and r.rivals < 5 for r in found)
    for _, end in made.held[:-1]:  # a pulse silences all groups
        assert not raster[(end + 2) * TICKS : (end + PULSE) * TICKS, :ALL].any()
    assert len(raster) == made.held[-1][1] * TICKS and made.held[0][0] == CUE


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        ({"following": 0.0}, lambda found: sum(r.winner == r.wanted for r in found) <= 3),  # no order
        ({"within": 0.5}, lambda found: max(r.rate for r in found) < 60),  # nothing is held
        ({"from_pool": 0.0}, lambda found: max(r.rivals for r in found) > 60),  # rivals fire
    ],
    ids=lambda value: min(value, default="") if isinstance(value, dict) else "",
)
def test_each_part_is_needed(part, broken):
    _, _, found = recalled(0, **part)
    assert broken(found)


def test_seeds_differ_in_order_and_wiring():
    a, b = sequence(0), sequence(1)
    assert sorted(a.order) == list(range(ITEMS)) and list(a.order) != list(b.order)
    assert not np.array_equal(a.net.projections[0].weights > 0, b.net.projections[0].weights > 0)


@pytest.mark.slow
def test_brian2_agrees():
    pytest.importorskip("brian2", reason="Brian2 isn't installed (pip: neurodeploy[spiking])")
    made = sequence(0, items=1, last=15)
    assert brian2_agrees(made, run(made)) is True
