"""A firmware that runs a build's models in TFLite Micro, on a port: the build's own project, flashed by the user."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact, Figure, Trace
from neurodeploy.backends.tflite.project import FOLDER, model_hash
from neurodeploy.backends.tflite.project_facts import FileFacts, facts_of
from neurodeploy.deploy import link
from neurodeploy.deploy.tflite_steps import run_artifact
from neurodeploy.errors import DeviceError, UsageError
from neurodeploy.ir.op import Array
from neurodeploy.report.metrics import worst_and_mean

#: What every such firmware says that it is (ND_TARGET_TFLM of ``firmware/ports/resident/nd_resident.h``).
TARGET_ID = 0x4D4C4654


@dataclass
class Seat:
    """One stage's interpreter on the board, and the engine whose state lies in it. ``counts``: what a step of each call
    took, a call being ``steps``."""

    board: link.Board
    stage: int
    facts: FileFacts
    taken_by: BoardEngine | None = None
    steps: int = 1
    counts: list[float] = field(default_factory=list)


class BoardEngine:
    """An interpreter of :mod:`.tflite_steps` that runs on the board.

    Several of one stage take turns: the board holds one state, which is read out and written back between them.
    """

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._inputs = [np.zeros(tensor.shape, tensor.dtype) for tensor in seat.facts.inputs]
        self._outputs: list[Array] = []
        self._state: bytes | None = None  # None: at its beginning

    def set_input(self, array: Array, index: int) -> None:
        self._inputs[index] = np.ascontiguousarray(array)

    def invoke(self) -> None:
        """Raises :class:`LinkError`."""
        seat = self._seat
        reset = self._take()
        data = b"".join(array.tobytes() for array in self._inputs)
        done = seat.board.step(seat.stage, data, 1, reset=reset)
        seat.counts += [count / seat.steps for count in done.counts]
        self._outputs, at = [], 0
        for tensor in seat.facts.outputs:
            piece = np.frombuffer(done.outputs[at : at + tensor.bytes], tensor.dtype)
            self._outputs.append(piece.reshape(tensor.shape).copy())
            at += tensor.bytes

    def get_output(self, index: int) -> Array:
        return self._outputs[index]

    def reset(self) -> None:
        self._state = None
        if self._seat.taken_by is self:
            self._seat.taken_by = None

    def _take(self) -> bool:
        """Put this engine's state on the board; True if it has to be reset instead."""
        seat, other = self._seat, self._seat.taken_by
        if other is self:
            return False
        if other is not None:
            if seat.facts.hidden_state:
                raise DeviceError(
                    f"the operators of stage {seat.stage} keep their state to themselves; needed: one stream.",
                    place=seat.board.port,
                    hint="Compile without --fused-lstm, or run it on tflm.",
                )
            other._state = seat.board.get_state(seat.stage)
        seat.taken_by = self
        if self._state is None:
            return True
        seat.board.set_state(seat.stage, self._state)
        return False


def run(
    artifact: Artifact,
    inputs: dict[str, np.ndarray],
    lengths: np.ndarray | None,
    *,
    states: bool,
    port: str | None,
    emulator: str,
    board: link.Board | None,
) -> Trace:
    """Step the firmware at ``port`` (or on an open ``board``) through a batch.

    Raises :class:`UsageError` without a port, :class:`DeviceError` if the firmware holds other models.
    """
    if states:
        raise UsageError("a board with TFLite Micro gives no states of every step.", hint="Run it on tflm.")
    if board is None and (port is None or emulator != "auto"):
        raise UsageError(
            f"there is no emulator for a build for TFLite Micro; its firmware is made of {FOLDER}/ in your own tree.",
            place=artifact.name,
            hint=f"Build and flash {FOLDER}/ (see its README.md) and give --port, or run it on tflm.",
        )
    with nullcontext(board) if board else link.Board(str(port), name="TFLite Micro") as opened:
        info = _check(opened, artifact)
        stages: Mapping[str, Any] = artifact.manifest["layout"]["stages"]
        files = [artifact.files[stage["file"]] for stage in stages.values()]
        calls = [stage["steps"] for stage in stages.values()]
        seats = [Seat(opened, i, facts_of(model), steps=calls[i]) for i, model in enumerate(files)]
        trace = run_artifact(artifact, inputs, lengths, lambda model, _: BoardEngine(seats[files.index(model)]))
        trace.record = _record(opened, info, dict(zip(stages, seats, strict=True)))
    return trace


def _check(board: link.Board, artifact: Artifact) -> link.ImageInfo:
    identity = board.ping()
    if identity.target_id != TARGET_ID:
        raise DeviceError(
            f"the board on the port says that it is {identity.target_id:#x}; needed: {TARGET_ID:#x}, TFLite Micro.",
            place=board.port,
            hint=f"Flash the firmware of {FOLDER}/.",
        )
    info = board.info()
    wanted = model_hash(artifact.files, artifact.manifest["layout"]["stages"])
    if info.model_hash != wanted:
        raise DeviceError(
            f"the firmware holds model {info.model_hash.hex()}; needed: {wanted.hex()}.",
            place=board.port,
            hint=f"Build and flash {FOLDER}/ of this build.",
        )
    return info


def _record(board: link.Board, info: link.ImageInfo, seats: Mapping[str, Seat]) -> dict[str, Any]:
    said = link.record(board)
    port, unit = said.pop("port"), said["counter"]
    del said["emulator"]  # a firmware on a port can't tell
    source = f"TFLite Micro on {port}"
    figures = [Figure("arena_used", info.bss_bytes, "B", "measured", f"{source}, arena_used_bytes() after planning")]
    for name, seat in seats.items():
        suffix = "" if len(seats) == 1 else f" of stage '{name}'"
        if seat.counts:
            worst, mean = worst_and_mean(np.array([seat.counts]), np.array([len(seat.counts)]))
            figures.append(Figure(f"{unit}_worst{suffix}", worst, f"{unit}/step", "measured", source))
            figures.append(Figure(f"{unit}_mean{suffix}", round(mean, 1), f"{unit}/step", "measured", source))
    return {
        "where": f"TFLite Micro on a board on {port}, over its serial line",
        "device": said,
        "versions": {"model_hash": info.model_hash.hex()},
        "figures": figures,
    }
