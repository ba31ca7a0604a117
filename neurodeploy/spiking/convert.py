"""The conversions: each makes spikes of a trained network, and says what it chose and why."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neurodeploy.artifact import Figure
from neurodeploy.errors import UsageError, nearest
from neurodeploy.spiking.net import SpikingNet

if TYPE_CHECKING:
    from neurodeploy.data import Data
    from neurodeploy.hardware import Neuromorphic
    from neurodeploy.ir.graph import Program

Progress = Callable[[str], None]

#: method of a target -> its function ``(source, target, data, progress, **options) -> Conversion``; its keyword-only
#: arguments after ``progress`` are the options that ``compile`` takes.
METHODS: Mapping[str, str] = {
    "sigma-delta": "neurodeploy.spiking.sigma_delta:convert",
    "rate": "neurodeploy.spiking.rate:convert",
    "liquid-state-machine": "neurodeploy.spiking.liquid:convert",
    "attractor": "neurodeploy.spiking.hopfield:convert",
}
#: An option of every target of the backend snntorch: epochs of training after the conversion.
FINE_TUNE = "fine_tune"


@dataclass(frozen=True)
class Conversion:
    """What a conversion gives.

    ``program``: what runs, as the golden model knows it. ``net``: the network of neurons, or None where the program's
    own values are the neurons' (sigma-delta). ``layout``: JSON for the manifest, with ``method``, the knobs, and what
    was tried. ``files``: more for the build, such as tuning curves for the report's pictures.
    """

    program: Program
    net: SpikingNet | None
    layout: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def convert(
    method: str,
    source: Program,
    target: Neuromorphic,
    data: Data | None,
    progress: Progress,
    options: Mapping[str, Any],
) -> Conversion:
    """Run a method, and fine-tune what it gave where that is asked for (:mod:`neurodeploy.spiking.fine_tune`).

    Raises :class:`UsageError` for an option that there isn't, and what both raise.
    """
    module, _, name = METHODS[method].partition(":")
    function = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    if target.backend == "snntorch":
        known.append(FINE_TUNE)
    for key in options:
        if key not in known:
            raise UsageError(
                f"the conversion '{method}' has no option '{key}'; it has {', '.join(known) or 'none'}.",
                place=target.name,
                hint=nearest(key, known),
            )
    epochs = options.get(FINE_TUNE)
    made = function(source, target, data, progress, **{key: v for key, v in options.items() if key != FINE_TUNE})
    if epochs is None:
        return made
    from neurodeploy.spiking.fine_tune import tune

    return tune(made, data, epochs, progress=progress)
