"""From a build of the C backend to a project that another tool opens: Arduino, CMake, Zephyr, or a C compiler alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from neurodeploy.artifact import Artifact, put_folder
from neurodeploy.backends.c_export_arduino import arduino
from neurodeploy.backends.c_export_cmake import cmake, plain
from neurodeploy.backends.c_export_model import Model, model_of
from neurodeploy.backends.c_export_zephyr import zephyr
from neurodeploy.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy as np

#: Says that a folder is an export, and what was written into it.
MARK = "neurodeploy-export.json"
FORMS: Mapping[str, Callable[[Model], dict[str, bytes]]] = {
    "arduino": arduino,
    "cmake": cmake,
    "plain": plain,
    "zephyr": zephyr,
}


def export(
    artifact: Artifact, form: str, window: Mapping[str, np.ndarray] | None = None, note: str = "given"
) -> dict[str, bytes]:
    """The files of a project made of a build of the C backend: relative path -> bytes; writes nothing.

    ``form``: ``arduino``, ``cmake``, ``plain`` or ``zephyr``. ``window``: what the example feeds, program input -> real
    or raw values ``[steps, ...]`` (``[...]`` for a static input), and ``note``, where they come from; by default it is
    made up. Raises :class:`UsageError` for another form, :class:`UnsupportedError` for a build of another backend.
    """
    if form not in FORMS:
        raise UsageError(f"there is no export to '{form}'.", hint=nearest(form, FORMS))
    files = FORMS[form](model_of(artifact, window, note))
    mark = {
        "form": form,
        "model": artifact.name,
        "target": artifact.target,
        "program": artifact.manifest["hashes"]["program"],
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    return {**files, MARK: (json.dumps(mark, indent=1) + "\n").encode()}


def write(files: Mapping[str, bytes], folder: str | Path) -> Path:
    """Write an export as a folder, whole or not at all.

    An earlier export there is replaced if its files are as they were written; anything else is left alone with a
    :class:`UsageError`.
    """
    folder = Path(folder)
    if folder.exists():
        _check_ours(folder)
    return put_folder(files, folder)


def _check_ours(folder: Path) -> None:
    """Refuse a folder with anything in it that isn't an untouched earlier export's."""
    hint = "Choose another -o."
    if not folder.is_dir():
        raise UsageError("is a file.", place=str(folder), hint=hint)
    present = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if not p.is_dir()}
    if not present:
        return
    try:
        written = dict(json.loads((folder / MARK).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            "exists and is no earlier export; it is left as it is.", place=str(folder), hint=hint
        ) from None
    for name, path in present.items():
        known = path.is_file() and name in written
        if name != MARK and not (known and written[name] == hashlib.sha256(path.read_bytes()).hexdigest()):
            what = "changed" if name in written else "added"
            raise UsageError(
                f"'{name}' was {what} since this was exported; it is left as it is.",
                place=str(folder), hint="Move it away (or remove it, if a build made it), or choose another -o.",
            )  # fmt: skip
