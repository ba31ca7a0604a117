"""Options of :func:`neurodeploy.compile` that are for some targets only, and what is said of one given to another.

C: ``optimize``, how weights are stored (``balanced``, ``speed`` or ``size``); ``ram`` (``fast``, or ``small`` for less
RAM and some more instructions); ``storage``, the form of every product that has it
(:meth:`neurodeploy.backends.c.CBackend.compile`); ``toolchain``. TFLite Micro: ``state``, ``steps`` and ``optimize`` of
:meth:`neurodeploy.backends.tflite.TFLiteBackend.compile`; ``fused_lstm``, also of C with tflite numerics: LSTMs become
TFLite's own, which TFLM's CMSIS-NN kernel runs without keeping its state
(:class:`neurodeploy.passes.tflite.fused.FuseLSTM`). Spikes: those of the target's conversion
(:data:`neurodeploy.spiking.convert.METHODS`). Crossbars: those of
:meth:`neurodeploy.backends.crossbar.CrossbarBackend.compile`. Crossbars and snnTorch: ``fine_tune``, train with the
devices' noise, or the spikes, for so many epochs first, by the ``labels``
(:mod:`neurodeploy.crossbar.repair.fine_tune`, :mod:`neurodeploy.spiking.fine_tune`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from neurodeploy.errors import UsageError, nearest

if TYPE_CHECKING:
    from neurodeploy.backends import Backend
    from neurodeploy.hardware import Target

#: backend -> its targets in words, and one of them.
TARGETS: Mapping[str, tuple[str, str]] = {
    "c": ("C (boards and the host)", "host"),
    "tflite": ("TFLite Micro", "tflm"),
    "brian2": ("spikes in Brian2", "brian2-lif"),
    "nir": ("spikes in NIR", "nir"),
    "snntorch": ("spikes in snnTorch", "snntorch-sigma-delta"),
    "crossbar": ("crossbars", "ideal-128"),
}
_ARRAYS = dict.fromkeys(("percentile", "scaling", "join", "bias", "pack", "zeros"), ("crossbar",))
#: option -> the backends that take it. Those of the conversions to spikes are in :mod:`neurodeploy.spiking.convert`.
TAKERS: Mapping[str, tuple[str, ...]] = {
    "toolchain": ("c",),
    "optimize": ("c", "tflite"),
    "ram": ("c",),
    "storage": ("c",),
    "state": ("tflite",),
    "steps": ("tflite",),
    "fused_lstm": ("tflite", "c"),
    "fine_tune": ("snntorch", "crossbar"),
    **_ARRAYS,
}
#: What every backend's ``compile`` takes from :func:`neurodeploy.compile` itself.
_OWN = ("program", "target", "source", "data", "name", "progress", "options")


def check(options: Iterable[str], engine: Backend, target: Target) -> None:
    """Raise :class:`UsageError` for an option that the target's backend hasn't, naming the targets that have it."""
    parameters = inspect.signature(engine.compile).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    has = {name for name in parameters if name not in _OWN} | {k for k, v in TAKERS.items() if engine.name in v}
    for key in options:
        takers = TAKERS.get(key, ())
        if key in has or (open_ended and not takers):
            continue
        if not takers:
            raise UsageError(
                f"the backend '{engine.name}' has no option '{key}'.", place=target.name, hint=nearest(key, has)
            )
        words = " and ".join(TARGETS[name][0] for name in takers)
        here = TARGETS[engine.name][0] if engine.name in TARGETS else f"the backend '{engine.name}'"
        raise UsageError(
            f"the option '{key}' is for {words}; this target is for {here}.",
            place=target.name,
            hint=f"Leave it out, or compile for another target, such as {TARGETS[takers[0]][1]}.",
        )
