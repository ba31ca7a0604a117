"""What a compilation yields and what a run yields: the words that backends, runners and reports share."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurodeploy.errors import UsageError

How = Literal["measured", "compiled", "simulated", "estimated", "unknown"]
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Figure:
    """One number of a report.

    ``value`` is None when unknown (then ``how`` is ``"unknown"``). ``unit`` is spelled out ("B", "instructions/step",
    "MAC/step", "%", "spikes/inference", "pJ"). ``how`` says how it was got: *measured* by running on the thing itself
    (a board's or an emulated core's counter), *compiled* (exact by construction: a linker map, a shape), *simulated*
    (a model of physics or of a chip), *estimated* (a sourced constant times a count). ``source`` names the tool and
    its flags, the formula or the paper.
    """

    name: str
    value: float | int | None
    unit: str
    how: How
    source: str

    @classmethod
    def unknown(cls, name: str, unit: str, why: str) -> Figure:
        return cls(name, None, unit, "unknown", why)


Resources = tuple[Figure, ...]


@dataclass(frozen=True)
class Artifact:
    """A compiled network: files and a manifest, nothing written yet.

    ``files`` maps relative paths to bytes. ``manifest`` is JSON: ``schema``, ``name``, ``backend``, ``target``,
    ``numerics``, ``inputs``/``outputs`` (name, dtype, shape, kind, scale, zero_point), ``labels``, ``normalisation``,
    ``layout`` (backend's own: struct offsets, tile map ...), ``hashes`` {model, calibration}, ``compiler``,
    ``warnings``, ``figures`` (compile-time ones).
    Every artifact holds ``program.nd``/``program.npz`` (what runs on the target) and ``source.nd``/``source.npz``
    (the float program it came from), so that any build can be validated on its own.
    """

    name: str
    backend: str
    target: str
    files: dict[str, bytes]
    manifest: dict[str, Any]

    def save(self, folder: str | Path) -> Path:
        """Write the artifact as a folder, whole or not at all: written beside, then renamed.

        An existing folder is replaced only if it holds an artifact (a manifest); anything else is left alone.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).exists())):
            raise UsageError(
                "exists and holds no earlier build; it is left as it is.", place=str(folder), hint="Choose another -o."
            )
        put_folder({**self.files, MANIFEST: (json.dumps(self.manifest, indent=1) + "\n").encode()}, folder)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Artifact:
        """Read a folder that :meth:`save` wrote. Raises :class:`UsageError` if it isn't one."""
        folder = Path(folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            names = {k: manifest[k] for k in ("name", "backend", "target")}
            if manifest["schema"] != SCHEMA_VERSION:
                raise UsageError(
                    f"was written with schema {manifest['schema']}, this version reads {SCHEMA_VERSION}.",
                    place=str(folder), hint="Compile it again.",
                )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                "is not a build folder (no readable manifest.json).",
                place=str(folder),
                hint="Make one: neurodeploy compile MODEL --target NAME -o FOLDER",
            ) from error
        files = {
            str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name != MANIFEST
        }
        return cls(**names, files=files, manifest=manifest)


def put_folder(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write files as a folder in place of what is there, whole or not at all: written beside, then renamed.

    Raises :class:`UsageError` where that can't be; whether the folder may be replaced is the caller's to check.
    """
    if folder.resolve() == Path.cwd():
        raise UsageError("is the folder that you are in.", place=str(folder), hint="Choose another -o.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UsageError(
            f"can't be written ({error.strerror or error}).", place=str(folder), hint="Choose another -o."
        ) from error
    try:
        for name, data in files.items():
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        scratch.chmod(0o755)
        _put(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _put(made: Path, folder: Path) -> None:
    """Rename a folder into place; an earlier one is set aside until the new one stands, and put back if it can't."""
    aside = made.with_name(f"{made.name}.old")
    try:
        if folder.exists():
            os.replace(folder, aside)
        try:
            os.replace(made, folder)
        except BaseException:
            if aside.exists() and not folder.exists():
                os.replace(aside, folder)
            raise
    except OSError as error:
        raise UsageError(
            f"can't be replaced ({error.strerror or error}).", place=str(folder),
            hint="Another process may be writing it; try again.",
        ) from error  # fmt: skip
    finally:
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)


@dataclass
class Trace:
    """What a run gave.

    ``outputs``: program output name -> array ``[batch, ...]`` or ``[batch, time, ...]``, *raw* (integers stay
    integers; dequantize with the program's output types). ``series``: ``"stage.output"`` -> ``[batch, steps, ...]``,
    every step's outputs. ``states``: ``"stage.state"`` -> ``[batch, steps, ...]`` after each step, if asked for.
    ``steps``: stage name -> ``[batch]`` steps executed. ``converged``: stage name -> ``[batch]`` bool, for ``until``.
    ``counters``: what was counted while it ran ("instructions" -> ``[batch, steps]``, "spikes" ...).
    ``record``: where it ran, as read from the device itself (target id, firmware hash, emulator, versions).
    """

    outputs: dict[str, np.ndarray]
    series: dict[str, np.ndarray] = field(default_factory=dict)
    states: dict[str, np.ndarray] = field(default_factory=dict)
    steps: dict[str, np.ndarray] = field(default_factory=dict)
    converged: dict[str, np.ndarray] = field(default_factory=dict)
    counters: dict[str, np.ndarray] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
