"""The host's C: the very sources of a build, compiled for this machine and driven through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from neurodeploy import hardware
from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends import c_build, check_run
from neurodeploy.deploy.structs import struct_dtype
from neurodeploy.errors import BuildError
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.ir.op import Array

#: Files of a build that a host's library is not made of.
NOT_MODEL = ("main.c", "_image.c", "_run.c", "_run.h")


class _Stage(ctypes.Structure):
    _fields_ = (
        ("step", ctypes.c_void_p),
        ("state_bytes", ctypes.c_int64),
        ("in_bytes", ctypes.c_int64),
        ("out_bytes", ctypes.c_int64),
    )


def _records(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Zeroed records at an address that any C type may have."""
    count = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(count // 8 + 2, np.int64)
    return raw.view(np.uint8)[:count].view(dtype).reshape(shape)


def library(files: Mapping[str, bytes], tool: str | None = None) -> ctypes.CDLL:
    """A build's C sources as a library of this machine. Raises :class:`BuildError` with the compiler's first words."""
    core = hardware.data_folder("firmware") / "core"
    sources = {
        name: data
        for name, data in files.items()
        if name.endswith((".c", ".h")) and "/" not in name and not name.endswith(NOT_MODEL)
    }
    sources |= {name: (core / name).read_bytes() for name in ("nd_batch.c", "nd_batch.h")}
    return ctypes.CDLL(str(c_build.compile_shared(sources, tool)))


class HostExecutor:
    """One stage of a build on a batch of streams, each with a state structure of its own."""

    def __init__(self, lib: ctypes.CDLL, layout: Mapping[str, Any], graph: Graph) -> None:
        self.graph = graph
        self._types = {role: struct_dtype(layout[role]) for role in ("state", "in", "out")}
        missing = [n for n in ("reset", "step") if not hasattr(lib, f"{layout['prefix']}_{n}")]
        if missing:
            raise BuildError(f"the C has no '{layout['prefix']}_{missing[0]}'.", hint="Compile the build again.")
        self._reset = getattr(lib, f"{layout['prefix']}_reset")
        self._reset.argtypes = [ctypes.c_void_p]
        self._reset.restype = None
        self._run = lib.nd_batch_run
        self._run.argtypes = [ctypes.POINTER(_Stage), *(ctypes.c_void_p,) * 4, ctypes.c_int64, ctypes.c_int64]
        self._run.restype = None
        step = ctypes.cast(getattr(lib, f"{layout['prefix']}_step"), ctypes.c_void_p)
        self._stage = _Stage(step, *(self._types[role].itemsize for role in ("state", "in", "out")))
        self.records = _records((0,), self._types["state"])

    def reset(self, batch: int, init: Mapping[str, Array]) -> None:
        """Every state as the C reset leaves it, and those named in ``init`` (``[B, ...]``) as given."""
        self.records = _records((batch,), self._types["state"])
        for i in range(batch):
            self._reset(self.records[i : i + 1].ctypes.data)
        self.set_states(init)

    def set_states(self, states: Mapping[str, Array]) -> None:
        """Overwrite states, ``[B, ...]`` each."""
        for name, array in states.items():
            self.records[name] = array

    def states(self) -> dict[str, Array]:
        """The states as they stand, ``[B, ...]``."""
        return {state.name: self.records[state.name].copy() for state in self.graph.states}

    def step(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """One step of the active streams; the outputs of the others are 0."""
        found = self.run_block({n: a[:, None] for n, a in inputs.items()}, active[:, None])
        return {name: array[:, 0] for name, array in found.items()}

    def run_block(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """Many steps at once: ``inputs`` ``[B, K, ...]``, ``active`` ``[B, K]``; outputs ``[B, K, ...]``."""
        shape = active.shape
        given, made = _records(shape, self._types["in"]), _records(shape, self._types["out"])
        for name, array in inputs.items():
            given[name] = array
        running = np.ascontiguousarray(active, dtype=np.uint8)
        pointers = (self.records.ctypes.data, given.ctypes.data, running.ctypes.data, made.ctypes.data)
        self._run(ctypes.byref(self._stage), *pointers, *shape)
        return {name: made[name].copy() for name in self.graph.outputs}


class HostRunner:
    """Runs a build of the C backend as a library of this machine."""

    name = "host"

    def run(
        self,
        artifact: Artifact,
        inputs: dict[str, np.ndarray],
        lengths: np.ndarray | None = None,
        *,
        states: bool = False,
        tool: str | None = None,
        **options: Any,
    ) -> Trace:
        """Compile the build's sources and run them on a batch; ``tool`` is ``gcc``, ``clang`` or ``zig``.

        Raises :class:`UsageError` for a build of another backend, :class:`BuildError`, :class:`DataError`.
        """
        check_run(self, artifact, ("c",), options)
        program = text.from_files(artifact.files, "program")
        lib = library(artifact.files, tool)
        trace = drive(program, inputs, lengths, partial(_executor, lib, artifact, program), states=states)
        trace.record["where"] = "C on this machine"
        trace.record["compiler"] = c_build.toolchain("host", tool).label
        return trace


def _executor(lib: ctypes.CDLL, artifact: Artifact, program: Program, name: str, graph: Graph) -> HostExecutor:
    return HostExecutor(lib, artifact.manifest["layout"][name], graph)
