"""Cycles, time and energy of a step, estimated: counted instructions times a core's published costs.

The counts are exact (:mod:`neurodeploy.deploy.profile`); a core's costs are its maker's, least and most
(``[timing]`` of a chip, with the manual's table), so an estimate is a range. What it leaves out is in
``docs/cycles.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from neurodeploy.deploy.thumb import CLASSES
from neurodeploy.errors import UsageError

if TYPE_CHECKING:
    from neurodeploy.deploy.profile import Tally
    from neurodeploy.descriptions import Power, Timing

#: Classes whose cost grows with the number of registers that they move.
BY_REGISTER = ("load_multiple", "store_multiple", "return_by_pop", "float_load", "float_store")
PASSED_OVER = 1  # an instruction whose IT condition fails takes a cycle (Armv7-M cores issue it as a NOP)


class Range(NamedTuple):
    """From the least to the most."""

    least: float
    most: float

    def __mul__(self, factor: float) -> Range:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Range(self.least * factor, self.most * factor)


def cycles(tally: Tally, timing: Timing) -> Range:
    """Cycles of the counted instructions on a core. Raises :class:`UsageError` for a class without a published cost."""
    least = most = 0
    for cost, times in tally.items():
        published = getattr(timing, cost.kind, None)
        if published is None:
            raise UsageError(f"{times} instructions of class '{cost.kind}' have no published cost ({timing.source}).")
        low, high = published
        if cost.kind in BY_REGISTER:
            low += timing.per_register[0] * cost.registers
            high += timing.per_register[1] * cost.registers
        if cost.skippable:
            low, high = min(low, PASSED_OVER), max(high, PASSED_OVER)
        least += low * times
        most += high * times
    return Range(least, most)


def seconds(spent: Range, clock_hz: int) -> Range:
    """Time of so many cycles."""
    return spent * (1 / clock_hz)


def joules(spent: Range, power: Power) -> Range:
    """Energy of so many cycles: volts times amperes per hertz times cycles; a cycle costs the same at every clock."""
    return spent * (power.volts * power.amperes_per_hertz)


def by_class(tally: Tally) -> Mapping[str, int]:
    """How many instructions of each class, in the order of :data:`~neurodeploy.deploy.thumb.CLASSES`."""
    return {
        kind: number for kind in CLASSES if (number := sum(times for cost, times in tally.items() if cost.kind == kind))
    }
