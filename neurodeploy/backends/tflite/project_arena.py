"""How large the memory of a model in TFLite Micro must be: its tensor arena."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

#: The wheel says what is used once all is planned, in 64-bit pointers. While it plans, TFLM needs more: on a 32-bit
#: board up to 7 % more than that figure, in TFLM's own build for a Cortex-M4 (docs/tflite/measuring.md).
MARGIN = 1 / 8
LEAST_MARGIN = 256
ALIGNMENT = 16


@dataclass(frozen=True)
class Arena:
    """``bytes`` to reserve, and the ``reason`` as lines of text."""

    bytes: int
    reason: tuple[str, ...]


def arena_of(model: bytes) -> Arena:
    """What the wheel's recording allocator counts, and a margin.

    Raises :class:`MissingExtraError` without the wheel, :class:`DeviceError` if it can't run the model.
    """
    from neurodeploy.deploy.tflm import arena_bytes

    used = arena_bytes(model)
    wanted = used + max(LEAST_MARGIN, int(used * MARGIN))
    total = -(-wanted // ALIGNMENT) * ALIGNMENT
    return Arena(
        total,
        (
            f"{used} bytes are used, says the recording allocator of tflite-micro {version('tflite-micro')}",
            f"(a 64-bit build, reference kernels, after a step); {total - used} more are margin: an eighth of it,",
            f"{LEAST_MARGIN} at least. A 32-bit board uses 47 to 76 % of that figure once all is planned, but needed",
            "up to 7 % more than it while it plans. Kernels with scratch memory of their own (CMSIS-NN) may",
            "need more still.",
        ),
    )
