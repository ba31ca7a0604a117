"""Runs generated Brian2 scripts: compiled once, kept by their content, then run as they are with every new input.

The script runs in a process of its own, so that Brian2's state, which is global, never meets another's; a script that
was compiled before runs without Brian2 being imported at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurodeploy.errors import BuildError, DataError, MissingExtraError, NumericsError, UsageError, require
from neurodeploy.spiking.brian2_script import SCRIPT, frames_of, net_script
from neurodeploy.spiking.net import Activity, SpikingNet

CODEGEN = ("auto", "cpp", "numpy")
BUILT = "built"
#: Hashes of all files of a finished build.
SEAL = "seal.json"
NET_FILE = "net.npz"
#: How folders of unfinished builds begin; one that is a day old was left by a process that was killed.
BUILDING, ABANDONED_S = ".building-", 86400.0


@dataclass
class Run:
    """How the last run went: Brian2's ``version``, ``engine`` in words, ``build_seconds`` (None where nothing was
    compiled), ``seconds`` in the script, ``warnings``."""

    version: str = ""
    engine: str = ""
    build_seconds: float | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


class Brian2:
    """Simulates networks of neurons in Brian2; ``run`` says how.

    ``codegen``: ``"cpp"`` compiles, ``"numpy"`` doesn't, ``"auto"`` compiles where there is a compiler. ``script``: a
    build's own script, where it is not to be generated anew.
    """

    def __init__(self, codegen: str = "auto", script: bytes | None = None) -> None:
        if codegen not in CODEGEN:
            raise UsageError(f"codegen is '{codegen}'; needed {', '.join(CODEGEN)}.")
        self.codegen, self.script = codegen, script
        self.run = Run()

    def __call__(self, net: SpikingNet, x: np.ndarray, active: np.ndarray, *, raster: bool = False) -> Activity:
        """Spikes and traces: a :data:`~neurodeploy.spiking.engine.Simulator`.

        Raises :class:`MissingExtraError` without Brian2 or with ``"cpp"`` without a compiler, :class:`BuildError`,
        :class:`NumericsError` for a network that diverges.
        """
        batch, frames = active.shape
        if not active.any():
            empty = np.zeros((batch, frames, net.neurons), np.float32)
            return Activity(empty, empty.astype(np.int32))
        lengths = active.sum(axis=1)
        longest = int(lengths.max())
        files = {SCRIPT: self.script or net_script(net, NET_FILE).encode(), NET_FILE: net.to_bytes()}
        given = {"x": x.astype(np.int32), "lengths": lengths}
        found = self.run_script(files, given, frames_of(net, longest))
        raster_of = None
        if raster:
            raster_of = np.zeros((batch, frames * net.ticks, net.neurons), bool)
            raster_of[found["spike_sample"], found["spike_tick"], found["spike_neuron"]] = True
        return Activity(found["traces"], found["counts"], raster_of)

    def run_script(
        self, files: Mapping[str, bytes], given: Mapping[str, np.ndarray], frames: int, more: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """What a script writes for inputs of which no sample needs more than ``frames``; ``more``: its arguments.

        ``self.run`` says how it went. Raises as a call does.
        """
        version = brian2_version()
        compiler = None if self.codegen == "numpy" else find_compiler()
        if self.codegen == "cpp" and compiler is None:
            raise MissingExtraError(
                "no C++ compiler and make were found, which codegen='cpp' needs.",
                place="brian2",
                hint="Install g++ and make, or use codegen='numpy'.",
            )
        self.run = Run(version)
        with tempfile.TemporaryDirectory(prefix="neurodeploy-") as scratch:
            folder = Path(scratch)
            np.savez(folder / "input.npz", **given)  # type: ignore[arg-type]
            arguments = [str(folder / "input.npz"), str(folder / "output.npz"), *more]
            if compiler is None:
                _write(files, folder)
                script, how = folder / SCRIPT, ["--codegen", "numpy"]
                self.run.engine = f"Brian2 {version}, NumPy code"
                if self.codegen == "auto":
                    self.run.warnings = ("no C++ compiler and make were found: Brian2 ran its slower NumPy code.",)
            else:
                built = self._built(files, frames, version, compiler)
                script, how = built / SCRIPT, ["--built", str(built / BUILT)]
                self.run.engine = f"Brian2 {version}, C++ standalone ({compiler.version}, -O2 -ffp-contract=off)"
            began = time.perf_counter()
            _python(script, [*arguments, *how], "run")
            self.run.seconds = time.perf_counter() - began
            with np.load(folder / "output.npz") as found:
                return {name: found[name] for name in found.files}

    def _built(self, files: Mapping[str, bytes], frames: int, version: str, compiler: Compiler) -> Path:
        """The folder of a script and what was compiled from it, from the cache or made now."""
        root = cache_folder()
        key = hashlib.sha256()
        for part in (*(p for name in sorted(files) for p in (name.encode(), files[name])), str(frames).encode(),
                     version.encode(), compiler.version.encode()):  # fmt: skip
            key.update(hashlib.sha256(part).digest())
        place = root / key.hexdigest()[:32]
        if _sound(place):
            return place
        began = time.perf_counter()
        try:
            root.mkdir(parents=True, exist_ok=True)
            _forget_abandoned(root)
            scratch = Path(tempfile.mkdtemp(prefix=BUILDING, dir=root))
        except OSError as error:
            raise UsageError(
                f"can't be written ({error.strerror or error}).",
                place=str(root),
                hint="Set NEURODEPLOY_CACHE to a folder that can.",
            ) from error
        try:
            _write(files, scratch)
            _python(scratch / SCRIPT, ["--build", str(scratch / BUILT), "--frames", str(frames)], "build", compiler)
            _keep_little(scratch / BUILT)
            (scratch / SEAL).write_text(json.dumps(_hashes(scratch)))
            _put(scratch, place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self.run.build_seconds = time.perf_counter() - began
        return place


def simulate(net: SpikingNet, x: np.ndarray, active: np.ndarray, *, raster: bool = False) -> Activity:
    """Run a network in Brian2, compiled where there is a compiler: see :class:`Brian2`."""
    return Brian2()(net, x, active, raster=raster)


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler as ``make`` is told of it, and its version."""

    command: str
    version: str


def find_compiler() -> Compiler | None:
    """The C++ compiler that Brian2's makefile will use: ``$CXX``, g++ or clang++; None without one or without make."""
    if shutil.which("make") is None:
        return None
    for command in [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]:
        try:
            said = subprocess.run([*command.split(), "--version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        return Compiler(command, (said.splitlines() or ["unknown"])[0].strip())
    return None


def brian2_version() -> str:
    """The version that is installed, without importing it. Raises :class:`MissingExtraError` if none is."""
    try:
        if "brian2" in sys.modules:
            return require("brian2", "spiking", "the target's simulator").__version__
        return importlib.metadata.version("brian2")
    except importlib.metadata.PackageNotFoundError:
        return require("brian2", "spiking", "the target's simulator").__version__


def cache_folder() -> Path:
    """``$NEURODEPLOY_CACHE``, else ``neurodeploy`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; in it, ``brian2``."""
    own, shared = os.environ.get("NEURODEPLOY_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else Path(shared or Path.home() / ".cache") / "neurodeploy"
    return root / "brian2"


def _python(script: Path, arguments: list[str], what: str, compiler: Compiler | None = None) -> None:
    """Run a script. Raises :class:`BuildError` or :class:`NumericsError` with its last words."""
    environment = {**os.environ, **({"CXX": compiler.command} if compiler else {})}
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, env=environment, errors="replace",
        cwd=script.parent,
    )  # fmt: skip
    if done.returncode == 0:
        return
    words = "\n".join(done.stderr.strip().splitlines()[-8:])
    if "diverged" in words:
        raise NumericsError(words, place="brian2", hint="Lower its weights or bound its membranes.")
    if what == "build":
        raise BuildError(
            f"compiling the generated script failed:\n{words}", place="brian2",
            hint="Use codegen='numpy' to run without a compiler.",
        )  # fmt: skip
    raise DataError(f"the generated script failed:\n{words}", place="brian2")


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _forget_abandoned(root: Path) -> None:
    for folder in root.glob(f"{BUILDING}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)


def _keep_little(folder: Path) -> None:
    """Leave of every network the program and the arrays that it reads."""
    for path in folder.glob("*/*"):
        if path.name in ("main", "built.json", "static_arrays"):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SEAL and "__pycache__" not in path.parts
    }


def _sound(place: Path) -> bool:
    """Whether a finished build is there and none of its files has changed."""
    try:
        return json.loads((place / SEAL).read_text()) == _hashes(place)
    except (OSError, ValueError):
        return False


def _put(scratch: Path, place: Path) -> None:
    """Move a finished build to its place, unless another process did so meanwhile; a broken one there is replaced."""
    for _ in range(2):
        try:
            scratch.rename(place)
        except OSError:
            if _sound(place):
                return
            shutil.rmtree(place, ignore_errors=True)
        else:
            return
    raise BuildError("a finished build could not be moved to its place.", place=str(place), hint="Empty the cache.")
