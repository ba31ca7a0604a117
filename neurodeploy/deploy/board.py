"""Running a C artifact on a board over its serial line: emulated here, or real on a port."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from neurodeploy import hardware
from neurodeploy.artifact import Artifact, Figure, Trace
from neurodeploy.backends import c_build, check_run
from neurodeploy.deploy import emulator as emulators
from neurodeploy.deploy import link
from neurodeploy.deploy.structs import pack, struct_dtype, unpack
from neurodeploy.errors import DeviceError, UsageError
from neurodeploy.ir import text
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.ir.op import Array
from neurodeploy.report.metrics import worst_and_mean


class BoardExecutor:
    """The steps of one stage on a board, whose one copy of the state serves the samples one after the other.

    Whole sequences go over the line many steps a frame. Step by step (drives that look at every result), a sample's
    state is written before its step and read after it.
    """

    def __init__(self, board: link.Board, index: int, layout: Mapping[str, Any], graph: Graph) -> None:
        self.board, self.index, self.graph = board, index, graph
        self.types = {role: struct_dtype(layout[role]) for role in ("state", "in", "out")}
        self._init: dict[str, Array] = {}
        self._now = np.zeros(0, self.types["state"])
        self.counts: list[list[int]] = []
        self.stack_bytes: int | None = None

    def reset(self, batch: int, init: Mapping[str, Array]) -> None:
        """Every sample to the model's initial state, with ``init`` in place of some of it."""
        self.board.reset(self.index)
        first = np.frombuffer(self.board.get_state(self.index), self.types["state"])
        self._now = np.repeat(first, batch)
        for name, array in init.items():
            self._now[name] = array
        self._init = dict(init)
        self.counts = [[] for _ in range(batch)]

    def run_block(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """Many steps of every sample: ``inputs`` ``[B, K, ...]``; outputs ``[B, K, ...]``, zero where not active."""
        packed = pack(self.types["in"], inputs, active.shape)
        out = np.zeros(active.shape, self.types["out"])
        for sample in range(len(active)):
            steps = np.nonzero(active[sample])[0]
            if not len(steps):
                continue
            if self._init:
                self.board.set_state(self.index, self._now[sample].tobytes())
            done = self.board.step(
                self.index,
                packed[sample, steps].tobytes(),
                len(steps),
                reset=not self._init,
                stack=self.stack_bytes is None,
            )
            out[sample, steps] = np.frombuffer(done.outputs, self.types["out"])
            self._note(sample, done)
            if self.graph.states:
                self._now[sample] = np.frombuffer(self.board.get_state(self.index), self.types["state"])[0]
        return unpack(out)

    def step(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """One step of the active samples."""
        packed = pack(self.types["in"], inputs, active.shape)
        out = np.zeros(active.shape, self.types["out"])
        for sample in map(int, np.nonzero(active)[0]):
            self.board.set_state(self.index, self._now[sample].tobytes())
            done = self.board.step(self.index, packed[sample].tobytes(), 1, stack=self.stack_bytes is None)
            out[sample] = np.frombuffer(done.outputs, self.types["out"])[0]
            self._now[sample] = np.frombuffer(self.board.get_state(self.index), self.types["state"])[0]
            self._note(sample, done)
        return unpack(out)

    def states(self) -> dict[str, Array]:
        """The states as they stand, ``[B, ...]``."""
        found = unpack(self._now)
        return {state.name: found[state.name] for state in self.graph.states}

    def _note(self, sample: int, done: link.Steps) -> None:
        self.counts[sample] += done.counts
        if done.stack_bytes is not None:
            self.stack_bytes = max(self.stack_bytes or 0, done.stack_bytes)

    def count_table(self) -> Array:
        """Counts of every step, ``[B, K]`` padded with zeros."""
        table = np.zeros((len(self.counts), max(map(len, self.counts), default=0)), np.int64)
        for row, counts in zip(table, self.counts, strict=True):
            row[: len(counts)] = counts
        return table


class BoardRunner:
    """Loads a model into the resident firmware's slot and drives it step by step over the serial line."""

    name = "board"

    def run(
        self,
        artifact: Artifact,
        inputs: dict[str, np.ndarray],
        lengths: np.ndarray | None = None,
        *,
        states: bool = False,
        port: str | None = None,
        emulator: str = "auto",
        toolchain: str | None = None,
        board: link.Board | None = None,
        **options: Any,
    ) -> Trace:
        """Run on the board at ``port``, on an emulated one (``unicorn``, ``qemu``, ``auto``), or on an open ``board``.

        A build for TFLite Micro runs in a firmware of its own, on a ``port`` (:mod:`.tflm_board`).
        The record holds what the board itself says it is, and the hash of the model that it says it holds.
        Raises :class:`UsageError` for an artifact that isn't C for a resident board, :class:`DeviceError`.
        """
        check_run(self, artifact, ("c", "tflite"), options)
        if artifact.backend == "tflite":
            from neurodeploy.deploy import tflm_board

            return tflm_board.run(artifact, inputs, lengths, states=states, port=port, emulator=emulator, board=board)
        target = hardware.built_for(artifact, hardware.Board)
        program = text.from_files(artifact.files, "program")
        tool = toolchain or artifact.manifest.get("toolchain")
        image = build_image(artifact, target, tool)
        stages = [stage.name for stage in program.stages]
        engines: dict[str, BoardExecutor] = {}
        opened = nullcontext(board) if board else emulators.open_board(target, emulator, port)
        with opened as board:
            info = board.load(image)
            wanted = model_hash(artifact)
            if info.model_hash != wanted:
                raise DeviceError(
                    f"the board says that it holds model {info.model_hash.hex()}; needed: {wanted.hex()}.",
                    place=board.port,
                    hint="Run it again; the line may be shared.",
                )

            def executor(name: str, graph: Graph) -> BoardExecutor:
                engines[name] = BoardExecutor(board, stages.index(name), artifact.manifest["layout"][name], graph)
                return engines[name]

            trace = drive(program, inputs, lengths, executor, states=states)
            trace.record = _record(board, target, image, info)
        _count(trace, program, engines, trace.record)
        return trace


def model_hash(artifact: Artifact) -> bytes:
    """The 16 bytes that an image carries of its model."""
    return bytes.fromhex(artifact.manifest["hashes"]["program"])[:16]


def build_image(artifact: Artifact, target: hardware.Board, tool: str | None) -> c_build.Image:
    """The artifact's C as an image for the board's slot."""
    files = {name: data for name, data in artifact.files.items() if name.endswith((".c", ".h")) and name != "main.c"}
    if not any(name.endswith("_image.c") for name in files):
        raise UsageError("has more stages than a board takes.", place=artifact.name, hint="Run it on the host.")
    return c_build.build_image(files, target, tool)


def _record(board: link.Board, target: hardware.Board, image: c_build.Image, info: link.ImageInfo) -> dict[str, Any]:
    said = link.record(board)
    port, running = said.pop("port"), said.pop("emulator")
    where = f"{target.title}, {'emulated by ' + running if running else 'on ' + port}, over its serial line"
    installed = [emulators.label(name, target) for name in emulators.available(target)]
    not_run = [
        {"what": name, "why": "installed, but another emulator was asked for"}
        for name in installed
        if running and name != running
    ]
    missing = [n for n in emulators.EMULATORS if getattr(target.emulators, n) and n not in emulators.available(target)]
    not_run += [{"what": name, "why": "not installed"} for name in missing]
    return {
        "where": where,
        "emulator": running,
        "device": said,
        "versions": {"model_toolchain": image.toolchain, "model_hash": info.model_hash.hex()},
        "counter_source": f"{running or port}; model built with {image.toolchain} {' '.join(image.flags)}",
        "not_run": not_run,
    }


def _count(trace: Trace, program: Program, engines: Mapping[str, BoardExecutor], record: dict[str, Any]) -> None:
    """Counters of every stage, and the figures of a report."""
    unit = record["device"]["counter"]
    figures = []
    for name, engine in engines.items():
        table = engine.count_table()
        trace.counters[f"{name}.{unit}"] = table
        suffix = "" if len(engines) == 1 else f" of stage '{name}'"
        if table.size:
            worst, mean = worst_and_mean(table, trace.steps[name])
            source = record["counter_source"]
            figures.append(Figure(f"{unit}_worst{suffix}", worst, f"{unit}/step", "measured", source))
            figures.append(Figure(f"{unit}_mean{suffix}", round(mean, 1), f"{unit}/step", "measured", source))
    deepest = [engine.stack_bytes for engine in engines.values() if engine.stack_bytes is not None]
    if deepest:
        figures.append(Figure("ram_stack", max(deepest), "B", "measured", f"painted stack; {record['counter_source']}"))
    record["figures"] = figures
