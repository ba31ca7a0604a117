"""Frames on a serial line: COBS, sequence numbers, CRC-32; the host's half of ``firmware/core/nd_link.h``.

A frame is ``type u8, version u8, seq u16, length u32, payload, crc32 u32``, little endian, stuffed by COBS (Cheshire
and Baker 1999, doi 10.1109/90.769765) so that it holds no zero byte, and ended by one. The requests and error codes
are those of ``firmware/ports/resident/nd_resident.h``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

VERSION = 1
MAX_PAYLOAD = 4096
HEADER = struct.Struct("<BBHI")
CRC_BYTES = 4
REPLY = 0x80


class Request(IntEnum):
    """Types of requests; a reply's type has the top bit set."""

    PING = 0x01
    INFO = 0x02
    LOAD_BEGIN = 0x03
    LOAD_CHUNK = 0x04
    LOAD_END = 0x05
    RESET = 0x06
    STEP = 0x07
    READ = 0x08
    WRITE = 0x09


NAK = 0xFF


class Flag(IntEnum):
    """Flags of STEP."""

    RESET_FIRST = 1
    STACK = 2
    STATES = 4
    IN_PLACE = 8


class Region(IntEnum):
    """What READ and WRITE reach."""

    STATE = 0
    IN = 1
    OUT = 2


FAULT = 11
REASONS = {
    1: "unknown request {0:#x}",
    2: "it speaks version {0} of the frames",
    3: "a payload of {0} bytes; needed: {1}",
    4: "no model is loaded",
    5: "there is no stage {0}; the model has {1}",
    6: "outside the buffer: byte {0} of {1}",
    7: "too big: {0} bytes; room: {1}",
    8: "out of order: {0}; needed: {1}",
    9: "the image is damaged: its CRC is {0:#010x}; its header says {1:#010x}",
    10: "the image's header makes no sense (field {0})",
    FAULT: "the model crashed (fault status {0:#x} at {1:#010x}); the board was reset and holds no model now",
    12: "the reply would not fit a frame ({0}; room: {1})",
    13: "TFLite Micro failed in stage {0}; its own log says why",
    14: "TFLite Micro can't begin stage {0} in its arena of {1} bytes; its own log says what is missing. Memory: "
    "enlarge the stage's arena_bytes in tflm/model_data.h and build again. An operator: build its kernel",
}


@dataclass(frozen=True)
class Frame:
    """A whole frame, its CRC checked."""

    type: int
    seq: int
    payload: bytes
    version: int = VERSION


def stuff(data: bytes) -> bytes:
    """COBS: the same bytes without zeros, at most one byte longer for every 254."""
    out = bytearray()
    for run in data.split(b"\0"):
        while len(run) >= 254:
            out += b"\xff" + run[:254]
            run = run[254:]
        out += bytes([len(run) + 1]) + run
    return bytes(out)


def unstuff(data: bytes) -> bytes | None:
    """What :func:`stuff` was given, or None if this can't have come from it."""
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        end = at + code
        if code == 0 or end > len(data):
            return None
        out += data[at + 1 : end]
        if code != 255 and end < len(data):
            out.append(0)
        at = end
    return bytes(out)


def encode(frame: Frame) -> bytes:
    """The bytes that go over the line. A zero comes first, to end whatever noise was on it."""
    body = HEADER.pack(frame.type, frame.version, frame.seq, len(frame.payload)) + frame.payload
    return b"\0" + stuff(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


def decode(stuffed: bytes) -> Frame | None:
    """The frame between two zeros, or None if it is damaged."""
    data = unstuff(stuffed)
    if data is None or not HEADER.size + CRC_BYTES <= len(data) <= HEADER.size + MAX_PAYLOAD + CRC_BYTES:
        return None
    body = data[:-CRC_BYTES]
    kind, version, seq, length = HEADER.unpack_from(body)
    if length != len(body) - HEADER.size or zlib.crc32(body) != struct.unpack("<I", data[-CRC_BYTES:])[0]:
        return None
    return Frame(kind, seq, body[HEADER.size :], version)


def reason(payload: bytes) -> str:
    """What a NAK says, in words."""
    if len(payload) != 12:
        return "it refused without a reason"
    code, *details = struct.unpack("<III", payload)
    return REASONS.get(code, f"unknown error {code} ({{0}}, {{1}})").format(*details)
