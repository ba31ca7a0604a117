"""The physical effects that a simulation has, by name, and targets with some of them switched off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_devices import Drift
from neurodeploy.errors import UsageError, nearest

#: Effect -> the tables of the target that it stands in, as (table, key); the first that is there switches it.
EFFECTS: dict[str, tuple[tuple[str, str], ...]] = {
    "levels": (("device", "levels"),),
    "programming": (("device", "programming"), ("device", "write_verify")),
    "stuck": (("device", "stuck"),),
    "drift": (("device", "drift"), ("device", "spread"), ("device", "relaxation")),
    "read noise": (("device", "read_noise"),),
    "thermal noise": (("device", "thermal_noise"),),
    "nonlinear": (("device", "nonlinear"),),
    "wires": (("", "wires"),),
    "dac": (("dac", "bits"), ("dac", "errors")),
    "adc": (("adc", "bits"), ("adc", "errors")),
}
ALL = frozenset(EFFECTS)


def present(target: Crossbar) -> frozenset[str]:
    """The effects that a target has."""
    found = set()
    for effect, places in EFFECTS.items():
        for table, key in places:
            owner: Any = getattr(target, table) if table else target
            held = getattr(owner, key, None)
            if held is not None and not (isinstance(held, Drift) and held == _still(held)):
                found.add(effect)
    return frozenset(found)


def only(target: Crossbar, effects: Iterable[str]) -> Crossbar:
    """The target with no effects but these; those that it lacks stay absent. Raises :class:`UsageError` for a name.

    Gated wires keep their input converters: only bits can switch transistors.
    """
    wanted = set(effects)
    for effect in wanted:
        if effect not in EFFECTS:
            raise UsageError(f"there is no effect '{effect}'.", place="crossbar", hint=nearest(effect, EFFECTS))
    if "wires" in wanted and target.wires is not None and target.wires.topology == "gated":
        wanted.add("dac")
    for effect in EFFECTS.keys() - wanted:
        for table, key in EFFECTS[effect]:
            owner: Any = getattr(target, table) if table else target
            if getattr(owner, key, None) is None:
                continue
            off = _still(owner.drift) if key == "drift" and "read noise" in wanted and owner.read_noise else None
            changed = owner.model_copy(update={key: off})
            target = target.model_copy(update={table: changed}) if table else changed
    return target


def _still(drift: Drift) -> Drift:
    """Drift that doesn't move: 1/f noise needs its clock, which counts from the first read."""
    return drift.model_copy(update={name: 0.0 for name in type(drift).model_fields if name.startswith("nu_")})
