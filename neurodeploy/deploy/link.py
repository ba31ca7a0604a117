"""A board on a serial line: load a model image, step it, read and write its state.

The port is anything that pyserial opens: ``/dev/ttyACM0``, ``COM3``, ``socket://127.0.0.1:5000``. Every request is
repeated with the same sequence number until it is answered; the board answers a repeated one from memory, so that a
lost reply never steps a model twice.
"""

from __future__ import annotations

import random
import struct
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from neurodeploy import hardware
from neurodeploy.backends.c_build import Firmware, Image
from neurodeploy.deploy import frames
from neurodeploy.deploy.frames import Flag, Frame, Region, Request
from neurodeploy.errors import DeviceError, LinkError, UsageError, require

PING = struct.Struct("<III16sIIIIII")
INFO = struct.Struct("<II16sIII")
STAGE = struct.Struct("<III")
READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Identity:
    """What a board says about itself.

    ``build_hash`` is of the firmware's sources, flags and compiler, baked into it; ``cpuid`` is the processor's own
    register; ``broken_frames`` counts frames that came damaged since the start.
    """

    target_id: int
    abi: int
    max_payload: int
    build_hash: bytes
    cpuid: int
    slot_origin: int
    slot_bytes: int
    timer_hz: int  # 0: it counts instructions
    broken_frames: int
    last_fault: int


@dataclass(frozen=True)
class StageInfo:
    """Sizes of a stage's structs in bytes."""

    state_bytes: int
    in_bytes: int
    out_bytes: int


@dataclass(frozen=True)
class ImageInfo:
    """What is loaded on a board, as it says; ``empty_ticks`` is what counting an empty step costs."""

    image_bytes: int
    crc32: int
    model_hash: bytes
    bss_bytes: int
    empty_ticks: int
    stages: tuple[StageInfo, ...]


@dataclass
class Steps:
    """What some steps gave: every step's out struct, its cost in the board's ``counter_unit``, and what was asked for.

    ``states``: every step's state struct; ``stack_bytes``: the deepest stack use of a step.
    """

    outputs: bytes = b""
    counts: list[int] = field(default_factory=list)
    states: bytes = b""
    stack_bytes: int | None = None


class Board:
    """A board with the resident firmware, on a port.

    ``ns_per_instruction`` is set for emulated boards, whose timer is driven by executed instructions; then counts are
    instructions from a step's first to its return. ``timer_hz`` is given where the emulated timer ticks at another
    clock than the board's. On a real board counts are ticks of its timer, or instructions where it counts those.
    Raises :class:`LinkError` if the port can't be opened.
    """

    def __init__(
        self, port: str, *, baud: int = 115200, timeout_s: float = 5.0, retries: int = 3,
        ns_per_instruction: float | None = None, timer_hz: int | None = None, name: str = "board",
    ) -> None:  # fmt: skip
        serial = require("serial", "board", "a serial port")
        self.port, self.name, self.timeout_s, self.retries = port, name, timeout_s, retries
        self.ns_per_instruction, self._timer_hz = ns_per_instruction, timer_hz
        self.emulator: str | None = None
        self.firmware: Firmware | None = None
        self._errors = (serial.SerialException, OSError)
        try:
            self._line = serial.serial_for_url(port, baudrate=baud, timeout=0)
        except (*self._errors, ValueError) as error:
            raise LinkError(
                f"can't be opened ({error}).",
                place=port,
                hint="Is it plugged in, is the name right, is another program on it?",
            ) from error
        self._pending = bytearray()
        self._seq = random.randrange(1 << 16)  # unlike an earlier session's, whose last reply the board remembers
        self._identity: Identity | None = None
        self._info: ImageInfo | None = None

    def close(self) -> None:
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- requests

    def ping(self, retries: int = 20, timeout_s: float = 0.25) -> Identity:
        """Ask until answered: bytes sent before a board's UART is up are lost. Raises :class:`LinkError` on silence."""
        start = time.monotonic()
        answer = self._ask(Request.PING, b"", tries=retries + 1, timeout_s=timeout_s)
        if answer is None:
            raise LinkError(
                f"no answer after {retries + 1} PINGs in {time.monotonic() - start:.1f} s.",
                place=self.port,
                hint=f"Is it powered, is the firmware flashed ({self.name}), is another program on the port?",
            )
        if len(answer) != PING.size:
            raise LinkError(
                f"its PING has {len(answer)} bytes; needed: {PING.size}.",
                place=self.port,
                hint="Flash the firmware of this version.",
            )
        self._identity = Identity(*PING.unpack(answer))
        return self._identity

    def info(self) -> ImageInfo:
        """What is loaded. Raises :class:`LinkError` if nothing is."""
        answer = self._request(Request.INFO)
        try:
            image_bytes, crc32, model_hash, bss_bytes, empty_ticks, n_stages = INFO.unpack_from(answer)
            stages = tuple(StageInfo(*STAGE.unpack_from(answer, INFO.size + i * STAGE.size)) for i in range(n_stages))
        except struct.error as error:
            raise LinkError("its INFO is cut short.", place=self.port) from error
        self._info = ImageInfo(image_bytes, crc32, model_hash, bss_bytes, empty_ticks, stages)
        return self._info

    def load(self, image: Image | bytes) -> ImageInfo:
        """Put an image into the board's slot; every stage is reset. Raises :class:`LinkError` if it is refused."""
        data = image if isinstance(image, bytes) else image.data
        self._info = None
        self._request(Request.LOAD_BEGIN, struct.pack("<I", len(data)))
        room = self._max_payload - 4
        for at in range(0, len(data), room):
            self._request(Request.LOAD_CHUNK, struct.pack("<I", at) + data[at : at + room])
        self._request(Request.LOAD_END)
        return self.info()

    def reset(self, stage: int = 0) -> None:
        """Put a stage's state back to its initial value."""
        self._request(Request.RESET, struct.pack("<I", stage))

    def step(
        self, stage: int, inputs: bytes, n: int, *, reset: bool = False, states: bool = False, stack: bool = False
    ) -> Steps:
        """Step a stage ``n`` times on ``n`` in structs, one after the other in ``inputs``.

        ``reset`` resets the stage before the first of them; ``states`` and ``stack`` ask for what :class:`Steps` names.
        """
        sizes = self._sizes(stage)
        if len(inputs) != n * sizes.in_bytes:
            raise UsageError(f"{len(inputs)} bytes of inputs; needed: {n} x {sizes.in_bytes} for stage {stage}.")
        room = self._max_payload - 8
        reply = 4 + sizes.out_bytes + (sizes.state_bytes if states else 0)
        at_once = min(room // reply, room // max(sizes.in_bytes, 1))
        done = Steps(stack_bytes=0 if stack else None)
        for at in range(0, n, max(at_once, 1)):
            if at == 0 and reset and at_once == 0:
                self.reset(stage)
            flags = (Flag.STACK if stack else 0) | (Flag.RESET_FIRST if reset and at == 0 else 0)
            if at_once:
                count = min(at_once, n - at)
                piece = inputs[at * sizes.in_bytes : (at + count) * sizes.in_bytes]
                self._step_frame(stage, flags | (Flag.STATES if states else 0), piece, count, sizes, done)
            else:
                piece = inputs[at * sizes.in_bytes : (at + 1) * sizes.in_bytes]
                self._step_in_place(stage, flags, piece, sizes, states, done)
        return done

    def _step_frame(self, stage: int, flags: int, inputs: bytes, n: int, sizes: StageInfo, done: Steps) -> None:
        answer = self._request(Request.STEP, struct.pack("<BBHI", stage, flags, 0, n) + inputs)
        out_bytes = 0 if flags & Flag.IN_PLACE else n * sizes.out_bytes
        state_bytes = n * sizes.state_bytes if flags & Flag.STATES else 0
        if len(answer) != 8 + 4 * n + out_bytes + state_bytes:
            raise LinkError(f"its answer to STEP has {len(answer)} bytes.", place=self.port)
        _, deepest, *ticks = struct.unpack_from(f"<II{n}I", answer)
        outputs_at = 8 + 4 * n
        done.outputs += answer[outputs_at : outputs_at + out_bytes]
        done.states += answer[outputs_at + out_bytes :]
        done.counts += [self._count(tick) for tick in ticks]
        if done.stack_bytes is not None:
            done.stack_bytes = max(done.stack_bytes, deepest)

    def _step_in_place(
        self, stage: int, flags: int, inputs: bytes, sizes: StageInfo, states: bool, done: Steps
    ) -> None:
        """One step whose structs are too large for a frame."""
        self.write(stage, Region.IN, inputs)
        self._step_frame(stage, flags | Flag.IN_PLACE, b"", 1, sizes, done)
        done.outputs += self.read(stage, Region.OUT, sizes.out_bytes)
        if states:
            done.states += self.read(stage, Region.STATE, sizes.state_bytes)

    def read(self, stage: int, region: Region, size: int, offset: int = 0) -> bytes:
        """Bytes of a stage's state, in or out struct."""
        parts = []
        for at in range(offset, offset + size, self._max_payload):
            wanted = min(self._max_payload, offset + size - at)
            parts.append(self._request(Request.READ, struct.pack("<BBHII", stage, region, 0, at, wanted)))
        return b"".join(parts)

    def write(self, stage: int, region: Region, data: bytes, offset: int = 0) -> None:
        """Put bytes into a stage's state, in or out struct."""
        room = self._max_payload - 8
        for at in range(0, len(data), room):
            head = struct.pack("<BBHI", stage, region, 0, offset + at)
            self._request(Request.WRITE, head + data[at : at + room])

    def get_state(self, stage: int = 0) -> bytes:
        """A stage's whole state struct."""
        return self.read(stage, Region.STATE, self._sizes(stage).state_bytes)

    def set_state(self, stage: int, state: bytes) -> None:
        """Replace a stage's whole state struct."""
        needed = self._sizes(stage).state_bytes
        if len(state) != needed:
            raise UsageError(f"a state of {len(state)} bytes; needed: {needed} for stage {stage}.")
        self.write(stage, Region.STATE, state)

    # ------------------------------------------------------------------------------------------------ counting

    @property
    def counter_unit(self) -> str:
        """The unit of :attr:`Steps.counts`."""
        counts = self.ns_per_instruction or (self._identity or self.ping()).timer_hz == 0
        return "instructions" if counts else "timer ticks"

    def _count(self, ticks: int) -> int:
        info, identity = self._info or self.info(), self._identity or self.ping()
        net = ticks - info.empty_ticks
        # The empty step that was subtracted is one instruction itself, its return.
        if identity.timer_hz == 0:
            return net + 1
        if not self.ns_per_instruction:
            return net
        return round(net * 1e9 / (self._timer_hz or identity.timer_hz) / self.ns_per_instruction) + 1

    def _sizes(self, stage: int) -> StageInfo:
        stages = (self._info or self.info()).stages
        if not 0 <= stage < len(stages):
            raise UsageError(f"there is no stage {stage}; the model on the board has {len(stages)}.", place=self.port)
        return stages[stage]

    @property
    def _max_payload(self) -> int:
        return min((self._identity or self.ping()).max_payload, frames.MAX_PAYLOAD)

    # -------------------------------------------------------------------------------------------------- frames

    def _request(self, kind: Request, payload: bytes = b"") -> bytes:
        answer = self._ask(kind, payload, self.retries + 1, self.timeout_s)
        if answer is None:
            raise LinkError(
                f"no answer to {kind.name} after {self.retries + 1} tries of {self.timeout_s:g} s.",
                place=self.port,
                hint="Reset the board and try again; if it comes back, a step may be too long for the timeout.",
            )
        return answer

    def _ask(self, kind: Request, payload: bytes, tries: int, timeout_s: float) -> bytes | None:
        """The payload of the reply; None if there was none in time."""
        self._seq = (self._seq + 1) & 0xFFFF
        sent = frames.encode(Frame(kind, self._seq, payload))
        for _ in range(tries):
            try:
                self._line.write(sent)
                answer = self._answer(kind, time.monotonic() + timeout_s)
            except self._errors as error:
                raise LinkError(
                    f"the line was lost ({error}).", place=self.port, hint="Is the board still connected and powered?"
                ) from error
            if answer is not None:
                return answer
        return None

    def _answer(self, kind: Request, deadline: float) -> bytes | None:
        while True:
            while (end := self._pending.find(0)) >= 0:
                stuffed = bytes(self._pending[:end])
                del self._pending[: end + 1]
                frame = frames.decode(stuffed) if stuffed else None
                if frame is None or frame.seq != self._seq:
                    continue  # damaged, or the late answer to an earlier request
                if frame.type == frames.NAK:
                    self._refused(kind, frame.payload)
                if frame.type == kind | frames.REPLY:
                    return frame.payload
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._line.timeout = left
            first = self._line.read(1)
            self._line.timeout = 0
            self._pending += first + (self._line.read(READ_BYTES) if first else b"")

    def _refused(self, kind: Request, payload: bytes) -> None:
        text = f"the board refused {kind.name}: {frames.reason(payload)}."
        if payload[:4] == frames.FAULT.to_bytes(4, "little"):
            self._info = None
            raise DeviceError(text, place=self.port, hint="Load the model again; run it on the host to find the fault.")
        raise LinkError(text, place=self.port)


def verify(identity: Identity, board: hardware.Board, firmware: Firmware) -> None:
    """Check that a board is what it should be. Raises :class:`DeviceError` naming what differs and the remedy."""
    if identity.target_id != board.target_id:
        raise DeviceError(
            f"the board on the port says that it is {identity.target_id:#x}; needed: {board.target_id or 0:#x}.",
            place=board.name,
            hint="Choose the target that it is, or flash its firmware.",
        )
    if identity.build_hash != firmware.build_hash:
        raise DeviceError(
            f"its firmware is {identity.build_hash.hex()}; needed: {firmware.build_hash.hex()} ({firmware.toolchain}).",
            place=board.name,
            hint=f"Flash {firmware.path}.",
        )


def record(board: Board) -> dict[str, Any]:
    """What a run's record holds about where it ran, as read from the board itself."""
    identity = board.ping()
    return {
        "target_id": f"{identity.target_id:#010x}",
        "firmware_hash": identity.build_hash.hex(),
        "firmware_abi": identity.abi,
        "cpuid": f"{identity.cpuid:#010x}",
        "emulator": board.emulator,
        "port": board.port,
        "counter": board.counter_unit,
        "firmware_toolchain": board.firmware.toolchain if board.firmware else None,
    }
