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
    if json:
        print_json([{"name": t.name, "kind": t.kind, "title": t.title, "backend": t.backend} for t in found])
        return
    table("", ("target", "kind", "backend", "title"), [(t.name, t.kind, t.backend, t.title) for t in found])


def _show(name: str, json: bool) -> None:
    described = hardware.find(name).model_dump(mode="json", exclude_none=True)
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
