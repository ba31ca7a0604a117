"""Backends: each turns a program into an :class:`~neurodeploy.artifact.Artifact` for one kind of hardware.

A backend is a class with ``name``, ``accepts(target) -> Capability``, ``compile(program, target) -> Artifact`` (pure:
it writes nothing), and ``resources(artifact) -> Resources``. A runner has ``run(artifact, inputs) -> Trace``.
Registries are literal; a package may add its own under the entry-point groups ``neurodeploy.backends`` and
``neurodeploy.runners``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from neurodeploy.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy as np

    from neurodeploy.artifact import Artifact, Resources, Trace
    from neurodeploy.hardware import Target
    from neurodeploy.ir.graph import Program


@dataclass(frozen=True)
class Capability:
    """What a backend can do on a target.

    ``ops``: primitive ops that it runs; ``dtypes``; ``drives``: kinds of drive; ``native``: composites that it runs
    without their body; ``equality`` with the golden model: ``"exact"``, ``"lsb(n)"``, ``"close(tolerance)"`` (floats)
    or ``"statistical(tolerance)"`` (accuracies).
    """

    ops: frozenset[str]
    dtypes: frozenset[str]
    drives: frozenset[str]
    native: frozenset[str] = frozenset()
    equality: str = "exact"


class Backend(Protocol):
    """Compiles programs for one kind of hardware."""

    name: str

    def accepts(self, target: Target) -> Capability: ...
    def compile(self, program: Program, target: Target, **options: Any) -> Artifact: ...
    def resources(self, artifact: Artifact) -> Resources: ...


class Runner(Protocol):
    """Runs an artifact on real, emulated or simulated hardware.

    ``inputs``: program input name -> real-valued array ``[batch, time, ...]`` (series) or ``[batch, ...]`` (static);
    ``lengths`` ``[batch]``: steps of each sample, all of them where None.
    """

    name: str

    def run(
        self,
        artifact: Artifact,
        inputs: dict[str, np.ndarray],
        lengths: np.ndarray | None = None,
        *,
        states: bool = False,
        **options: Any,
    ) -> Trace: ...


def check_run(runner: Runner, artifact: Artifact, takes: tuple[str, ...] | None, options: Mapping[str, Any]) -> None:
    """What a runner checks first: raise :class:`UsageError` for a build of other backends than it ``takes`` (None: it
    looks into the build), and for ``options`` that it hasn't."""
    if takes is not None and artifact.backend not in takes:
        raise UsageError(
            f"is a build for '{artifact.backend}'; the runner '{runner.name}' needs one for "
            f"{' or '.join(map(repr, takes))}.",
            place=artifact.name,
            hint="Leave out --on: it then runs on its own target.",
        )
    for key in options:
        parameters = inspect.signature(runner.run).parameters.values()
        known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
        raise UsageError(f"the runner '{runner.name}' has no option '{key}'.", hint=nearest(key, known))


BACKENDS: dict[str, str] = {
    "c": "neurodeploy.backends.c:CBackend",
    "tflite": "neurodeploy.backends.tflite:TFLiteBackend",
    "brian2": "neurodeploy.backends.brian2:Brian2Backend",
    "nir": "neurodeploy.backends.nir:NirBackend",
    "snntorch": "neurodeploy.backends.snntorch:SnnTorchBackend",
    "crossbar": "neurodeploy.backends.crossbar:CrossbarBackend",
}

RUNNERS: dict[str, str] = {
    "golden": "neurodeploy.deploy.golden:GoldenRunner",
    "host": "neurodeploy.deploy.host:HostRunner",
    "board": "neurodeploy.deploy.board:BoardRunner",
    "tflm": "neurodeploy.deploy.tflm:TFLMRunner",
    "litert": "neurodeploy.deploy.litert:LiteRTRunner",
    "brian2": "neurodeploy.backends.brian2:Brian2Runner",
    "nir": "neurodeploy.backends.nir:NirRunner",
    "snntorch": "neurodeploy.backends.snntorch:SnnTorchRunner",
    "reference": "neurodeploy.deploy.reference:ReferenceRunner",
    "crossbar": "neurodeploy.deploy.crossbar:CrossbarRunner",
}


def names(kind: str) -> list[str]:
    """Names of the known ``"backends"`` or ``"runners"``, installed plug-ins included."""
    literal = {"backends": BACKENDS, "runners": RUNNERS}[kind]
    return [*literal, *(e.name for e in entry_points(group=f"neurodeploy.{kind}") if e.name not in literal)]


def _find(kind: str, literal: dict[str, str], name: str) -> Any:
    if name in literal:
        module, _, attribute = literal[name].partition(":")
        return getattr(importlib.import_module(module), attribute)()
    for entry in entry_points(group=f"neurodeploy.{kind}"):
        if entry.name == name:
            return entry.load()()
    raise UsageError(f"there is no {kind[:-1]} '{name}'.", hint=nearest(name, names(kind)))


def backend(name: str) -> Backend:
    """The backend of that name. Raises :class:`UsageError` naming the nearest one."""
    return _find("backends", BACKENDS, name)


def runner(name: str) -> Runner:
    """The runner of that name. Raises :class:`UsageError` naming the nearest one."""
    return _find("runners", RUNNERS, name)
