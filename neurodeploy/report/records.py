"""From build folders and run records to a report's builds, and run records into build folders.

A build folder holds ``manifest.json`` and the artifact's files; each run adds ``runs/<runner>.json``. A run record
carries the hashes of what was run and a seal over itself: a build whose files changed since, or a record that was
edited, is refused by name instead of being reported.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neurodeploy import hardware
from neurodeploy.archive import read_arrays
from neurodeploy.artifact import Artifact, Figure
from neurodeploy.errors import TargetError, UsageError
from neurodeploy.report import arrays, conversion
from neurodeploy.report.figures import KIND_OF_BACKEND, KINDS
from neurodeploy.report.schema import Accuracy, Build, Model, Run, Target, digest

RUNS = "runs"
PROGRAMS = ("program.nd", "program.npz", "source.nd", "source.npz")
MANIFEST_HASH = "manifest.json"
_SEAL_HINT = "Run it again: neurodeploy run FOLDER --data FILE."


def fingerprint(artifact: Artifact) -> dict[str, str]:
    """SHA-256 of what an artifact is: its manifest (canonical JSON), its programs, and what the manifest pins.

    The manifest may list further files that run on the target under ``"pinned"`` (an image, a ``.tflite``).
    """
    names = [*PROGRAMS, *artifact.manifest.get("pinned", [])]
    hashes = {n: hashlib.sha256(artifact.files[n]).hexdigest() for n in names if n in artifact.files}
    return {MANIFEST_HASH: digest(artifact.manifest), **hashes}


def save_run(folder: str | Path, run: Run) -> Path:
    """Seal a run record and write it as ``runs/<runner>.json``; an earlier record of that runner is replaced.

    Fills ``artifact`` from the folder if it is empty. Raises :class:`UsageError` if the folder is no build.
    """
    artifact = Artifact.load(folder)
    run = run if run.artifact else run.model_copy(update={"artifact": fingerprint(artifact)})
    path = Path(folder) / RUNS / f"{run.runner}.json"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, run.sealed().model_dump_json(indent=1, by_alias=True) + "\n")
    return path


def load_runs(artifact: Artifact, place: str = "") -> list[Run]:
    """The run records among an artifact's files, each checked against it.

    Raises :class:`UsageError`, naming the file, for a record that can't be read, whose seal doesn't fit, that was made
    of other files than the folder now holds, or whose board spoke for another firmware or target.
    """
    runs = []
    for name in sorted(artifact.files):
        if name.startswith(f"{RUNS}/") and name.endswith(".json"):
            where = f"{place}/{name}" if place else name
            try:
                run = Run.model_validate_json(artifact.files[name])
            except ValidationError as error:
                raise UsageError(f"is no run record ({_first_line(error)}).", place=where, hint=_SEAL_HINT) from error
            check_run(artifact, run, where)
            runs.append(run)
    return sorted(runs, key=_strength)


def check_run(artifact: Artifact, run: Run, where: str) -> None:
    """Raise :class:`UsageError` unless the record is intact and was made of this very artifact and its board."""
    if not run.intact:
        raise UsageError("was changed after it was written (its seal doesn't fit).", place=where, hint=_SEAL_HINT)
    now = fingerprint(artifact)
    if not run.artifact:
        raise UsageError("doesn't say what was run (no hashes of the artifact).", place=where, hint=_SEAL_HINT)
    for name, then in run.artifact.items():
        if now.get(name) != then:
            raise UsageError(
                f"was made of another '{name}' (SHA-256 {then[:12]}...; the build now has {now.get(name, 'none')[:12]}"
                f"{'...' if name in now else ''}).",
                place=where,
                hint=_SEAL_HINT,
            )
    expected = _target_id(artifact)
    if run.device and expected is not None and run.device.target_id != expected:
        raise UsageError(
            f"the board said that it is {run.device.target_id}; '{artifact.target}' is {expected}.",
            place=where,
            hint="Run it on the board that it was compiled for.",
        )


def build_of(artifact: Artifact, runs: Sequence[Run] | None = None, *, name: str = "", place: str = "") -> Build:
    """The report's record of an artifact; ``runs`` default to the records among its files.

    Reads of the manifest, where present: ``model`` {name, parameters, macs_per_step}, ``hashes.model``, ``numerics``,
    ``widths``, ``compiler`` (text, or name, version and flags), ``warnings``, ``figures``, ``layout`` (a spiking
    build's conversion), and ``target_info`` {title, kind} for a target that isn't among the shipped ones. Raises
    :class:`UsageError` for what breaks the schema.
    """
    manifest = artifact.manifest
    if runs is None:
        runs = load_runs(artifact, place)
    model = manifest.get("model") or {}
    warnings = [str(warning) for warning in manifest.get("warnings", [])]
    accuracies, disagreements = merged(runs)
    try:
        figures = [Figure(**figure) for figure in manifest.get("figures", [])]
        return Build(
            name=name or f"{artifact.name}-{artifact.target}",
            model=Model(
                name=str(model.get("name", artifact.name)),
                sha256=(manifest.get("hashes") or {}).get("model"),
                parameters=model.get("parameters", _elements(artifact)),
                macs_per_step=model.get("macs_per_step", _value(figures, "macs")),
            ),
            backend=artifact.backend,
            target=_target(artifact),
            numerics=str(manifest.get("numerics", "float")),
            widths=manifest.get("widths"),
            compiler=_compiler(manifest.get("compiler")),
            warnings=warnings + disagreements,
            figures=figures,
            accuracies=accuracies,
            runs=[run if run.seal else run.sealed() for run in runs],
            spiking=conversion.of_build(artifact),
            arrays=arrays.of_build(artifact),
        )
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(
            f"its manifest can't be reported ({_first_line(error)}); kinds are {', '.join(KINDS)}.",
            place=place or artifact.name,
            hint="Compile it again.",
        ) from error


def load_builds(paths: Iterable[str | Path]) -> list[Build]:
    """Read build folders with their runs; each is named after its folder, with parents where names collide.

    Raises :class:`UsageError` for a path that is no build folder and for records that don't fit it.
    """
    folders = [Path(path) for path in paths]
    if not folders:
        raise UsageError("no build was named.", place="report", hint="neurodeploy report build/* -o report.html")
    names = distinct_names(folders)
    return [
        build_of(Artifact.load(folder), name=name, place=str(folder))
        for folder, name in zip(folders, names, strict=True)
    ]


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """The folders' last parts, as many as it takes to tell them apart; a folder named twice is an error."""
    parts = [folder.resolve().parts for folder in folders]
    for part in parts:
        if parts.count(part) > 1:
            raise UsageError("is named twice.", place=str(Path(*part)), hint="Name each build once.")
    names = []
    for part in parts:
        depth = 1
        while any(other != part and other[-depth:] == part[-depth:] for other in parts):
            depth += 1
        names.append("/".join(part[-depth:]))
    return names


def merged(runs: Sequence[Run]) -> tuple[list[Accuracy], list[str]]:
    """One accuracy per metric and data set over all runs, and warnings where runs contradict each other.

    ``deployed`` is that of the run nearest to the hardware (board before simulators before host before golden), the
    others the first stated.
    """
    table: dict[tuple[str, str, int], Accuracy] = {}
    warnings = []
    for run in sorted(runs, key=_strength, reverse=True):
        new = run.accuracy
        if new is None:
            continue
        old = table.get(new.key)
        if old is None:
            table[new.key] = new
            continue
        for part in ("float_", "quantized"):
            a, b = getattr(old, part), getattr(new, part)
            if a and b and a.value != b.value:
                warnings.append(
                    f"runs disagree on {part.strip('_')} {new.metric}: {a.value} and {b.value} ({run.runner})"
                )
        fill = {part: getattr(old, part) or getattr(new, part) for part in ("float_", "quantized", "deployed")}
        seeds = sorted({*old.seeds, *new.seeds})
        table[new.key] = old.model_copy(update={**fill, "seeds": seeds, "drift": old.drift or new.drift})
    return list(table.values()), warnings


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place, then rename it: it is there whole or not at all."""
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _strength(run: Run) -> int:
    """How near to the hardware a run is."""
    return {"golden": 0, "host": 1, "board": 3}.get(run.runner, 2)


def _target(artifact: Artifact) -> Target:
    """The target's title and kind: as the manifest states them, or as its description does, or from the backend."""
    stated = artifact.manifest.get("target_info") or {}
    title = stated.get("title")
    if not title:
        try:
            title = hardware.built_for(artifact).title
        except TargetError:  # a build of an earlier version, for a user's own file
            title = artifact.target
    kind = stated.get("kind") or KIND_OF_BACKEND.get(artifact.backend, "other")
    return Target(name=artifact.target, title=title, kind=kind)


def _target_id(artifact: Artifact) -> str | None:
    """The id that the target's board must answer with, spelled as a run record spells it; None if it has none."""
    try:
        target = hardware.built_for(artifact)
    except TargetError:
        return None
    return f"{target.target_id:#010x}" if isinstance(target, hardware.Board) and target.target_id else None


def _compiler(value: Any) -> str | None:
    if not value:
        return None
    if isinstance(value, dict):
        flags = value.get("flags", "")
        words = [value.get("name"), value.get("version"), flags if isinstance(flags, str) else " ".join(flags)]
        return " ".join(str(word) for word in words if word)
    return str(value)


def _elements(artifact: Artifact) -> int | None:
    """Number of elements of the float program's parameters, or None if the artifact holds none."""
    data = artifact.files.get("source.npz")
    if not data:
        return None
    return sum(int(array.size) for array in read_arrays(io.BytesIO(data)).values())


def _value(figures: Sequence[Figure], name: str) -> float | None:
    return next((figure.value for figure in figures if figure.name == name), None)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error) or type(error).__name__).splitlines()[0]
