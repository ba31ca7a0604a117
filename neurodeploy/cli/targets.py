"""``neurodeploy targets list | show | check``."""

from __future__ import annotations

from typing import Any

from neurodeploy import hardware
from neurodeploy.cli.output import out, print_json, table


def main(action: str, json: bool, name: str = "") -> None:
    """List targets, show one, or check a file."""
    if action == "list":
        _list(json)
    elif action == "show":
        _show(name, json)
    else:
        described = hardware.validate(name)
        if json:
            print_json({"file": name, "kind": described.kind, "name": described.name, "ok": True})
        else:
            out.print(f"{name}: a {described.kind}, '{described.name}'; it is in order.", markup=False)


def _list(json: bool) -> None:
    found = [hardware.find(name) for name in hardware.names()]
    chips = [hardware.find_chip(name) for name in hardware.names("neuromorphic-chip")]
    nodes = [hardware.find_technology(name) for name in hardware.names("crossbar-technology")]
    if json:
        rows = [{"name": t.name, "kind": t.kind, "title": t.title, "backend": t.backend} for t in found]
        others = [{"name": c.name, "kind": c.kind, "title": c.title, "backend": None} for c in (*chips, *nodes)]
        print_json([*rows, *others])
        return
    table("", ("target", "kind", "backend", "title"), [(t.name, t.kind, t.backend, t.title) for t in found])
    out.print()
    rows = [(c.name, _cores(c), _price(c), c.title) for c in chips]
    table("neuromorphic chips, for estimates", ("chip", "cores", "pJ a synaptic operation", "title"), rows)
    out.print()
    rows = [(n.name, _range(n.adc.energy.at(8) if n.adc.energy else None), n.title) for n in nodes]
    table("crossbar technologies, for estimates", ("technology", "pJ an 8-bit conversion", "title"), rows)


def _cores(chip: hardware.NeuromorphicChip) -> str:
    """``128 of 1024 neurons``."""
    if chip.neuron is None:
        return "no chip"
    return "unknown" if chip.core is None else f"{chip.core.count} of {chip.core.neurons} neurons"


def _price(chip: hardware.NeuromorphicChip) -> str:
    """``23.6 to 35.5``."""
    energy = chip.energy.synaptic_operation
    return _range(energy.joule if energy else None)


def _range(joule: tuple[float, float] | None) -> str:
    if joule is None:
        return "unknown"
    low, high = (f"{end * 1e12:.3g}" for end in joule)
    return low if low == high else f"{low} to {high}"


def _show(name: str, json: bool) -> None:
    if name in hardware.names("neuromorphic-chip"):
        found = hardware.find_chip(name)
    elif name in hardware.names("crossbar-technology"):
        found = hardware.find_technology(name)
    else:
        found = hardware.find(name)
    described = found.model_dump(mode="json", exclude_none=True)
    if json:
        print_json(described)
        return
    table("", ("key", "value"), list(_flat(described)))


def _flat(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else name)
    else:
        hexed = isinstance(value, int) and key.rsplit(".", 1)[-1] in ("origin", "base", "target_id")
        yield key, hex(value) if hexed else value
