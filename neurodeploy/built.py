"""What :func:`neurodeploy.compile` gives: an artifact, with what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodeploy.artifact import Artifact

if TYPE_CHECKING:
    from neurodeploy.ir.graph import Program

#: backend -> the runner that runs on the target itself.
RUNNER_OF: Mapping[str, str] = {
    "c": "board",
    "tflite": "tflm",
    "brian2": "brian2",
    "nir": "nir",
    "snntorch": "snntorch",
    "crossbar": "crossbar",
}


@dataclass(frozen=True)
class Built:
    """A compiled network: its artifact, and the folder that it was saved to (if it was)."""

    artifact: Artifact
    folder: Path | None = None

    @property
    def program(self) -> Program:
        """What runs on the target, as the golden model knows it."""
        from neurodeploy.ir import text

        return text.from_files(self.artifact.files, "program")

    @property
    def source(self) -> Program:
        """The float program that it was made of."""
        from neurodeploy.ir import text

        return text.from_files(self.artifact.files, "source")

    @property
    def runner(self) -> str:
        """The runner for the target itself."""
        return runner_of(self.artifact)

    def save(self, folder: str | Path) -> Built:
        """Write the artifact as a folder. Raises :class:`UsageError` if something else is there."""
        return Built(self.artifact, self.artifact.save(folder))

    def export(self, form: str, folder: str | Path, window: Any = None) -> Path:
        """Write a C build as a project for another tool: ``arduino``, ``cmake``, ``plain`` or ``zephyr``.

        ``window``: what the project's example feeds, an array ``[steps, ...]`` or a dict by input name; by default made
        up. Raises :class:`UsageError` if something else is in the folder, :class:`UnsupportedError` for another
        backend's build.
        """
        from neurodeploy.backends import c_export

        if window is not None and not isinstance(window, dict):
            window = {next(iter(self.program.inputs)): window}
        return c_export.write(c_export.export(self.artifact, form, window), folder)

    def run(self, inputs: Any, lengths: Any = None, *, on: str | None = None, **options: Any) -> Any:
        """Run it and return its outputs as real numbers: one array, or a dict if there are several.

        ``inputs``: an array ``[batch, steps, ...]``, or a dict by input name. ``on``: ``golden``, ``host``, ``board``
        or another runner; by default the target itself, emulated where no ``port=`` names a real one.
        """
        from neurodeploy.backends import runner
        from neurodeploy.data import arrange
        from neurodeploy.ir.drive import real_outputs

        program = self.program
        data = arrange(inputs, program)
        trace = runner(on or self.runner).run(
            self.artifact, dict(data.inputs), data.lengths if lengths is None else lengths, **options
        )
        outputs = real_outputs(program, trace)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def validate(self, data: Any, *, on: str | None = None, **options: Any) -> Any:
        """Accuracy and agreement with the golden model: see :func:`neurodeploy.validate.validate`."""
        from neurodeploy.validate import validate

        return validate(self, data, on=on, **options)


def runner_of(artifact: Artifact) -> str:
    """The runner for the artifact's target itself (``host`` for the host's C)."""
    return "host" if artifact.target == "host" else RUNNER_OF.get(artifact.backend, artifact.backend)
