"""The golden model as a runner: the artifact's own program in the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.ir import interpret, text


class GoldenRunner:
    """Runs ``program.nd`` in the interpreter; what every other runner is compared with."""

    name = "golden"

    def run(
        self,
        artifact: Artifact,
        inputs: dict[str, np.ndarray],
        lengths: np.ndarray | None = None,
        *,
        states: bool = False,
        **options: Any,
    ) -> Trace:
        """Interpret the program on a batch. Raises :class:`DataError` for data that don't fit."""
        trace = interpret.run(text.from_files(artifact.files, "program"), inputs, lengths, states=states)
        trace.record["where"] = "interpreter on this machine"
        trace.record["versions"] = {"numpy": np.__version__}
        return trace
