"""How large the memory of a model in TFLite Micro must be: its tensor arena."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arena:
    """``bytes`` to reserve, and the ``reason``, as lines of text."""

    bytes: int
    reason: tuple[str, ...]


def arena_of(model: bytes) -> Arena:
    from neurodeploy.deploy.tflm import arena_bytes

    measured = arena_bytes(model)
    return Arena(-(-measured // 16) * 16, (f"measured {measured}",))
