"""Frames: Python's half against the firmware's own C, compiled for this host."""

import ctypes
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neurodeploy import hardware
from neurodeploy.backends import c_build
from neurodeploy.deploy import frames, link
from neurodeploy.deploy.frames import Frame
from neurodeploy.errors import LinkError

MORE, WHOLE, BROKEN = 0, 1, -1
PUT = ctypes.CFUNCTYPE(None, ctypes.c_uint8)


class Rx(ctypes.Structure):
    _fields_ = [
        ("align", ctypes.c_uint64), ("frame", ctypes.c_uint8 * (8 + 4096 + 4)), ("length", ctypes.c_uint32),
        ("left", ctypes.c_uint8), ("owes_zero", ctypes.c_uint8), ("started", ctypes.c_uint8), ("broken", ctypes.c_uint8),
        ("guard", ctypes.c_uint8 * 64),
    ]  # fmt: skip


class FirmwareFrames:
    """nd_link.c by ctypes, with a guard behind its buffer."""

    def __init__(self, flags=()):
        source = {"nd_link.c": (hardware.data_folder("firmware") / "core" / "nd_link.c").read_bytes()}
        self.lib = ctypes.CDLL(str(c_build.compile_shared(source, flags=flags)))
        self.lib.nd_link_crc32.restype = ctypes.c_uint32
        self.rx = Rx()
        ctypes.memset(self.rx.guard, 0x5A, 64)

    def feed(self, data):
        """The events that the bytes give, and the frames among them."""
        events, whole = [], []
        for byte in data:
            event = self.lib.nd_link_feed(ctypes.byref(self.rx), byte)
            if event != MORE:
                events.append(event)
            if event == WHOLE:
                raw = bytes(self.rx.frame)
                kind, version, seq, length = frames.HEADER.unpack_from(raw)
                whole.append(Frame(kind, seq, raw[8 : 8 + length], version))
        assert bytes(self.rx.guard) == b"\x5a" * 64
        return events, whole

    def send(self, frame):
        buffer = ctypes.create_string_buffer(8 + 4096 + 4)
        ctypes.memmove(ctypes.addressof(buffer) + 8, frame.payload, len(frame.payload))
        size = self.lib.nd_link_seal(buffer, frame.type, frame.seq, len(frame.payload))
        out = bytearray()
        self.lib.nd_link_send(buffer, size, PUT(out.append))
        return bytes(out)


@pytest.fixture(scope="module")
def c():
    return FirmwareFrames()


payloads = st.one_of(
    st.binary(max_size=600),
    st.integers(0, 4096).map(bytes),  # zeros alone
    st.integers(0, 4096).map(lambda n: b"\x01" * n),  # none at all
)
some_frames = st.builds(Frame, st.integers(0, 255), st.integers(0, 65535), payloads)


@given(data=st.binary(max_size=1500))
@example(data=b"\x01" * 253)
@example(data=b"\x01" * 254)
@example(data=b"\x01" * 255 + b"\0")
@example(data=b"\x01" * 254 + b"\0\0")
def test_stuffing_has_no_zeros_and_comes_back(data):
    stuffed = frames.stuff(data)
    assert 0 not in stuffed
    assert len(stuffed) <= len(data) + 1 + len(data) // 254
    assert frames.unstuff(stuffed) == data


@given(data=st.binary(max_size=300))
def test_unstuffing_never_crashes(data):
    frames.unstuff(data)
    frames.decode(data)


@given(frame=some_frames)
@example(frame=Frame(7, 1, bytes(4096)))
@example(frame=Frame(7, 1, b"\xff" * 4096))
@example(frame=Frame(1, 0, b""))
def test_both_halves_agree(c, frame):
    assert c.feed(frames.encode(frame)) == ([WHOLE], [frame])
    sent = c.send(frame)
    assert b"\0" + sent == frames.encode(frame)
    assert frames.decode(sent[:-1]) == frame


@given(data=st.binary(max_size=200))
def test_the_crc_is_zlibs(c, data):
    assert c.lib.nd_link_crc32(data, len(data)) == zlib.crc32(data)


@given(noise=st.binary(max_size=400), frame=some_frames)
def test_after_noise_a_frame_gets_through(c, noise, frame):
    c.feed(noise)
    _, whole = c.feed(frames.encode(frame))
    assert whole[-1:] == [frame]


@given(frame=some_frames, at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_one_flipped_bit_is_never_a_frame(c, frame, at, bit):
    sent = bytearray(frames.encode(frame))
    sent[at % len(sent)] ^= 1 << bit
    _, whole = c.feed(bytes(sent) + b"\0")
    assert whole in ([], [frame])  # the flip may only hit the zeros around it
    assert all(frames.decode(piece) in (None, frame) for piece in bytes(sent).split(b"\0"))


@given(frame=some_frames, cut=st.integers(1, 5000))
def test_a_frame_cut_short_is_broken(c, frame, cut):
    sent = frames.encode(frame)
    piece = sent[: max(2, len(sent) - 1 - cut)]
    assert c.feed(piece + b"\0") == ([BROKEN], [])


def test_a_frame_too_long_is_broken_and_writes_nowhere(c):
    assert c.feed(frames.encode(Frame(1, 1, bytes(4097)))) == ([BROKEN], [])
    assert c.feed(b"\x02\x01" * 30000 + b"\0") == ([BROKEN], [])
    assert frames.decode(frames.encode(Frame(1, 1, bytes(4097)))[1:-1]) is None


def test_a_board_of_little_memory_takes_shorter_frames():
    lib = FirmwareFrames(["-DND_LINK_MAX_PAYLOAD=256u"]).lib
    rx = (ctypes.c_uint8 * 400)(*[0x5A] * 400)
    ctypes.memset(rx, 0, 8 + 268 + 8)  # align, frame, and what follows it
    for size, event in ((256, WHOLE), (257, BROKEN), (4096, BROKEN), (256, WHOLE)):
        line = frames.encode(Frame(1, 1, b"\x07" * size))
        events = [e for e in (lib.nd_link_feed(ctypes.byref(rx), byte) for byte in line) if e != MORE]
        assert events == [event]
        assert bytes(rx)[8 + 268 + 8 + 4 :] == b"\x5a" * (400 - 288)


def test_refusals_have_words():
    assert frames.reason(struct.pack("<III", 5, 3, 2)) == "there is no stage 3; the model has 2"
    assert frames.reason(struct.pack("<III", 99, 3, 2)) == "unknown error 99 (3, 2)"
    assert frames.reason(b"") == "it refused without a reason"
    # Every code of the firmware's header is known here.
    header = (hardware.data_folder("firmware") / "ports" / "resident" / "nd_resident.h").read_text()
    codes = [int(line.split("=")[1].split("/")[0].strip(" ,")) for line in header.splitlines() if "ND_ERR_" in line]
    assert sorted(codes) == sorted(frames.REASONS) and codes


def test_a_port_that_does_not_exist():
    with pytest.raises(LinkError, match=r"^/dev/no-such-port: can't be opened .* Is it plugged in"):
        link.Board("/dev/no-such-port")
    with pytest.raises(LinkError, match="can't be opened"):
        link.Board("socket://127.0.0.1:1")
    with pytest.raises(LinkError, match="can't be opened"):
        link.Board("nonsense://x")


def test_an_echo_is_no_board():
    with (
        link.Board("loop://", name="mps2-an386") as board,
        pytest.raises(LinkError, match="no answer after 3 PINGs in 0"),
    ):
        board.ping(retries=2, timeout_s=0.02)
