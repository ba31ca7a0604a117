"""What both quantizers check: their options before, and states that stall after."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurodeploy.errors import UsageError, nearest
from neurodeploy.ir.graph import Program, State

ROUNDINGS = ("compensated", "nearest")
#: A state is said to stall if this share of its updates is below half an LSB.
STALL_SHARE = 0.25


def require_quantizable(program: Program, rounding: str) -> None:
    """Raise :class:`UsageError` for a program that is quantized already, and for a rounding that isn't known."""
    if program.numerics != "float":
        raise UsageError(f"is {program.numerics} already; needed a float program.", place=program.name)
    if rounding not in ROUNDINGS:
        raise UsageError(
            f"rounding is '{rounding}'; needed {' or '.join(ROUNDINGS)}.", hint=nearest(str(rounding), ROUNDINGS)
        )


def stalls(
    program: Program, form: Callable[[str, State], tuple[str, float] | None], narrow: str, wide: str
) -> list[str]:
    """A warning for every state that loses :data:`STALL_SHARE` of its updates, by ``meta["updates"]``.

    ``form(stage, state)``: the dtype that a state gets, and its LSB; None where it isn't quantized. ``narrow`` and
    ``wide``: what to do about one of 8 bits, and about a wider one.
    """
    found = []
    for stage in program.stages:
        for state in stage.graph.states:
            given = form(stage.name, state)
            if given is None:
                continue
            dtype, lsb = given
            lost = lost_updates(program.meta.get("updates", {}).get(stage.name, {}).get(state.name), lsb)
            if lost >= STALL_SHARE:
                found.append(
                    f"state '{stage.name}.{state.name}' ({dtype}, one step is {lsb:.3g}) stalls: "
                    f"{100 * lost:.0f} % of its updates in calibration are below half a step and are lost. "
                    f"{narrow if dtype == 'i8' else wide}"
                )
    return found


def lost_updates(sizes: list[float] | None, lsb: float) -> float:
    """The share of a state's non-zero updates that are below half of ``lsb``, from their quantiles."""
    if not sizes or lsb / 2 <= sizes[0]:
        return 0.0
    return float(np.interp(np.log2(lsb / 2), np.log2(sizes), np.linspace(0, 1, len(sizes))))
