"""Cycles, time and energy from counts and published costs, worked out by hand; and the shipped costs themselves."""

from __future__ import annotations

from collections import Counter

import pytest

from neurodeploy import hardware
from neurodeploy.deploy.profile import Cost
from neurodeploy.deploy.thumb import CLASSES
from neurodeploy.descriptions import Power, Timing
from neurodeploy.errors import UsageError
from neurodeploy.hardware import Board
from neurodeploy.report import cycles
from neurodeploy.report.fit_rows import timing_of

M4 = timing_of(hardware.find("mps2-an386", Board))
M3 = timing_of(hardware.find("mps2-an385", Board))
M0 = timing_of(hardware.find("nucleo-f072rb", Board))
M0_PLUS = timing_of(hardware.find("raspberry-pi-pico", Board))

LOOP = Counter(
    {
        Cost("alu"): 10,
        Cost("load"): 4,
        Cost("load_after_load"): 6,
        Cost("store"): 3,
        Cost("multiply_add"): 5,
        Cost("multiply_long_add"): 2,
        Cost("divide"): 1,
        Cost("load_multiple", 4): 2,
        Cost("store_multiple", 5): 1,
        Cost("branch_taken"): 3,
        Cost("branch_not_taken"): 1,
        Cost("call"): 1,
        Cost("return_by_pop", 5): 1,
        Cost("if_then"): 1,
        Cost("alu", skippable=True): 2,
        Cost("load", skippable=True): 1,
    }
)
#: Straight from the manuals' tables; the terms in the order of LOOP.
BY_HAND = {
    "M4": (10 + 4 * 2 + 6 * 1 + 3 * 1 + 5 * 1 + 2 * 1 + 2 + 2 * 5 + 6 + 3 * 2 + 1 + 2 + 7 + 0 + 2 + 1,
           10 + 4 * 3 + 6 * 2 + 3 * 2 + 5 * 1 + 2 * 1 + 12 + 2 * 5 + 6 + 3 * 4 + 1 + 4 + 9 + 1 + 2 + 3),
    "M3": (10 + 4 * 2 + 6 * 1 + 3 * 1 + 5 * 2 + 2 * 4 + 2 + 2 * 5 + 6 + 3 * 2 + 1 + 2 + 7 + 0 + 2 + 1,
           10 + 4 * 3 + 6 * 2 + 3 * 2 + 5 * 2 + 2 * 7 + 12 + 2 * 5 + 6 + 3 * 4 + 1 + 4 + 9 + 1 + 2 + 3),
}  # fmt: skip


def priced(timing: Timing | None) -> Timing:
    assert timing is not None
    return timing


@pytest.mark.parametrize(("core", "timing"), [("M4", M4), ("M3", M3)])
def test_cycles_by_hand(core: str, timing: Timing | None) -> None:
    assert cycles.cycles(LOOP, priced(timing)) == BY_HAND[core]


def test_the_small_cores_differ_where_their_manuals_do() -> None:
    """A delay loop of 10: SUBS, BNE taken nine times (3 cycles on M0, 2 on M0+); then POP {r4, pc}."""
    loop = Counter({Cost("alu"): 10, Cost("branch_taken"): 9, Cost("branch_not_taken"): 1, Cost("return_by_pop", 2): 1})
    assert cycles.cycles(loop, priced(M0)) == (10 + 27 + 1 + 6,) * 2
    assert cycles.cycles(loop, priced(M0_PLUS)) == (10 + 18 + 1 + 5,) * 2
    multiply = Counter({Cost("multiply"): 1})
    assert cycles.cycles(multiply, priced(M0)) == (1, 32)
    assert cycles.cycles(multiply, priced(M0_PLUS)) == (1, 1)


def test_a_class_without_a_published_cost_has_no_cycles() -> None:
    with pytest.raises(UsageError, match=r"3 instructions of class 'float' have no published cost \(Arm Cortex-M3"):
        cycles.cycles(Counter({Cost("alu"): 5, Cost("float"): 3}), priced(M3))
    with pytest.raises(UsageError, match="1 instructions of class 'unknown'"):
        cycles.cycles(Counter({Cost("unknown"): 1}), priced(M4))


def test_time_and_energy() -> None:
    spent = cycles.Range(1000, 1500)
    assert cycles.seconds(spent, 100_000_000) == pytest.approx((10e-6, 15e-6))
    assert cycles.joules(spent, Power(volts=3.0, amperes_per_hertz=5e-11, source="a data sheet")) == pytest.approx(
        (1.5e-7, 2.25e-7)
    )


def test_by_class_adds_up() -> None:
    found = cycles.by_class(LOOP)
    assert sum(found.values()) == LOOP.total()
    assert found["alu"] == 12 and found["load"] == 5
    assert list(found) == [kind for kind in CLASSES if kind in found]


def test_costs_are_by_the_same_classes() -> None:
    """No class without a place for its cost, and no cost of something that is never counted."""
    assert set(Timing.model_fields) - {"source", "per_register"} == set(CLASSES) - {"unknown"}


def test_a_chip_takes_the_costs_of_its_core_from_another() -> None:
    assert hardware.find("nucleo-f446re", Board).timing is None
    assert timing_of(hardware.find("nucleo-f446re", Board)) == M4
    assert timing_of(hardware.find("nucleo-h743zi", Board)) is None
    assert timing_of(hardware.find("host", Board)) is None
