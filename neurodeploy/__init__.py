"""neurodeploy compiles trained recurrent networks to microcontrollers, TFLite Micro, spikes and memristor crossbars.

::

    import neurodeploy

    model = neurodeploy.load("gru.onnx")                                # or load(torch_module, example)
    built = neurodeploy.compile(model, "mps2-an386", calibration=x)     # x: [samples, steps, inputs]
    scores = built.run(x)                                               # on the emulated board, over its serial line
    neurodeploy.report([built]).write("report.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurodeploy import report
    from neurodeploy.compiler import Built, compile, load
    from neurodeploy.fit import fit_boards

__all__ = ["Built", "compile", "fit_boards", "load", "report"]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `neurodeploy --help` answers at once.
    if name in ("Built", "compile", "load"):
        return getattr(importlib.import_module("neurodeploy.compiler"), name)
    if name == "fit_boards":
        return importlib.import_module("neurodeploy.fit").fit_boards
    if name == "report":
        return importlib.import_module("neurodeploy.report")
    raise AttributeError(f"module 'neurodeploy' has no attribute '{name}'")
