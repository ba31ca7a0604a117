"""Programs that neurodeploy wrote itself, ``.nd`` with the weights beside it."""

from __future__ import annotations

from pathlib import Path

from neurodeploy.errors import IRError, ModelError
from neurodeploy.ir import text
from neurodeploy.ir.graph import Program


def load_native(source: Path, *, check: bool = True) -> Program:
    """A program from ``.nd`` and the ``.npz`` beside it; there is nothing to ``check`` it against.

    Raises :class:`ModelError`.
    """
    try:
        return text.load(source)
    except IRError as error:
        raise ModelError(error.message, place=error.place or str(source), hint=error.hint) from error
