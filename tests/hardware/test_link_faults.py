"""What can go wrong on a serial line and in an image; the real firmware answers, in the emulator, in this process."""

import contextlib
import random
import socket
import struct
import threading
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy import hardware
from neurodeploy.backends import c_build
from neurodeploy.deploy import frames, link
from neurodeploy.deploy.emulator_unicorn import UnicornBoard
from neurodeploy.deploy.frames import Frame, Region, Request
from neurodeploy.errors import DeviceError, LinkError
from tests.hardware import tiny_model as tiny

BOARD = "mps2-an386"
DESCRIBED = hardware.find(BOARD, hardware.Board)
HEADER_BYTES = 16 + 4 + 16 + 8 + 8 * 24  # nd_image_t


@pytest.fixture(scope="module")
def image():
    return c_build.build_image(tiny.FILES, BOARD)


def emulated(path=None):
    return UnicornBoard(DESCRIBED, path or c_build.build_firmware(BOARD).path)


@contextlib.contextmanager
def served(board, line=lambda data, outward: data, retries=3, timeout_s=0.15):
    """A link to an emulated board over TCP; ``line`` is what the wire makes of the bytes on it."""
    server = socket.create_server(("127.0.0.1", 0))

    def carry():
        client = server.accept()[0]
        with client:
            while data := client.recv(1 << 16):
                client.sendall(line(board.exchange(line(data, True)), False))

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    url = f"socket://127.0.0.1:{server.getsockname()[1]}"
    with server, link.Board(url, retries=retries, timeout_s=timeout_s, ns_per_instruction=1024) as there:
        yield there


def ask(board, kind, payload=b"", seq=None, version=frames.VERSION):
    """One request, one reply, without a link in between."""
    seq = random.randrange(1 << 16) if seq is None else seq
    answer = board.exchange(frames.encode(Frame(kind, seq, payload, version)))
    (reply,) = [frames.decode(piece) for piece in answer.split(b"\0") if piece]
    assert reply is not None and reply.seq == seq
    return reply


def load(board, data):
    """Load without a link; the reply to LOAD_END, or to what was refused before."""
    reply = ask(board, Request.LOAD_BEGIN, struct.pack("<I", len(data)))
    for at in range(0, len(data), 4000):
        if reply.type != frames.NAK:
            reply = ask(board, Request.LOAD_CHUNK, struct.pack("<I", at) + data[at : at + 4000])
    return ask(board, Request.LOAD_END) if reply.type != frames.NAK else reply


def alive(board):
    return ask(board, Request.PING).type == Request.PING | frames.REPLY


class Wire:
    """Spoils the given messages (counted from 0, over both directions) in one way."""

    def __init__(self, spoiled, how):
        self.spoiled, self.how, self.n = spoiled, how, -1

    def __call__(self, data, outward):
        self.n += 1
        return self.how(data) if self.n in self.spoiled and data else data


def flipped(data):
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


@pytest.mark.parametrize("how", [lambda d: b"", flipped, lambda d: d[: len(d) // 2], lambda d: d + d, lambda d: b"\x07\x99" + d], ids=["lost", "flipped", "cut", "doubled", "noise"])  # fmt: skip
@pytest.mark.parametrize("first", [0, 1], ids=["request", "reply"])
def test_a_spoiled_frame_never_steps_twice(image, how, first):
    board = emulated()
    with served(board) as there:
        there.load(image)
    wire = Wire(set(), how)
    with served(board, wire) as there:
        there.info()
        there.ping()
        wire.n, wire.spoiled = -1, {first}
        one = there.step(tiny.SUM, tiny.pack16([[1, 2, 3, 4]]), 1).outputs
        two = there.step(tiny.SUM, tiny.pack16([[1, 2, 3, 4]]), 1).outputs
    assert (one, two) == (tiny.pack32([[3, 6, 9, 12]]), tiny.pack32([[6, 12, 18, 24]]))


def test_a_lossy_line_carries_a_whole_load(image):
    dice = random.Random(5)
    with served(emulated(), lambda data, _: flipped(data) if data and dice.random() < 0.2 else data, retries=20, timeout_s=0.05) as there:  # fmt: skip
        there.load(image)
        rows = tiny.sum_inputs(900)
        assert there.step(tiny.SUM, tiny.pack16(rows), 900).outputs == tiny.pack32(tiny.sum_outputs(rows))
        assert there.ping().broken_frames > 0


def test_a_silent_line_is_said_so():
    start = time.monotonic()
    with (
        served(emulated(), lambda data, outward: b"") as there,
        pytest.raises(
            LinkError,
            match=r"socket://\S+: no answer after 4 PINGs in 0\.\d s\. Is it powered, is the firmware flashed",
        ),
    ):
        there.ping(retries=3, timeout_s=0.05)
    assert time.monotonic() - start < 3


def test_a_line_that_goes_dead_is_said_so(image):
    wire = Wire(range(4, 10**9), lambda data: b"")
    with (
        served(emulated(), wire, retries=1, timeout_s=0.05) as there,
        pytest.raises(LinkError, match="no answer to LOAD_CHUNK after 2 tries"),
    ):
        there.load(image)


def test_a_lost_connection_is_said_so():
    server = socket.create_server(("127.0.0.1", 0))
    with server, link.Board(f"socket://127.0.0.1:{server.getsockname()[1]}") as there:
        server.accept()[0].close()
        with pytest.raises(LinkError, match="the line was lost"):
            there.ping()


@pytest.mark.parametrize("cut", [0, 1, 15, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, -8, -1])
def test_an_image_cut_short_is_refused(image, cut):
    board = emulated()
    with served(board) as there:
        with pytest.raises(LinkError, match="refused LOAD_(BEGIN|END)"):
            there.load(image.data[:cut])
        with pytest.raises(LinkError, match="no model is loaded"):
            there.info()
        there.load(image)
        assert there.step(tiny.SUM, bytes(8), 1).outputs == bytes(16)


def test_every_byte_of_an_image_is_checked(image):
    board = emulated()
    for at in [*range(0, HEADER_BYTES, 3), *range(HEADER_BYTES, len(image.data), 97)]:
        data = bytearray(image.data)
        data[at] ^= 0x10
        reply = load(board, bytes(data))
        assert reply.type == frames.NAK, f"byte {at}"
        assert ask(board, Request.STEP, struct.pack("<BBHI", 0, 0, 0, 1) + bytes(8)).type == frames.NAK
    assert load(board, image.data).type == Request.LOAD_END | frames.REPLY


def patched(image, offset, value):
    """An image with one word of its header changed and its CRC made to fit: only sanity checks can stop it."""
    data = bytearray(image.data)
    struct.pack_into("<I", data, offset, value)
    struct.pack_into("<I", data, 12, zlib.crc32(data[16:]))
    return bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "says"),
    [
        (0, 0, "field 0"), (4, 2, "field 1"), (16, 0, "field 4"), (16, 9, "field 4"), (16, 0xFFFFFFFF, "field 4"),
        (36, 0, "field 6"), (40, 0xFFFFFFF0, "field 6"), (40, 0, "field 6"),
        (44, 0, "field 8"), (48, 0x20000001, "field 8"), (48, 0x20100400, "field 8"), (44, 0x20100001, "field 8"),
        (52, 0xFFFFFFF0, "too big"), (56, 0x80000000, "too big"), (60, 0x00100001, "too big"),
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_refused(image, offset, value, says):
    board = emulated()
    reply = load(board, patched(image, offset, value))
    assert reply.type == frames.NAK
    assert says in frames.reason(reply.payload)
    assert alive(board)
    assert ask(board, Request.INFO).type == frames.NAK


def test_requests_are_checked(image):
    board = emulated()
    step = struct.pack("<BBHI", 0, 0, 0, 1) + bytes(8)
    cases = [
        (Request.STEP, step, "no model is loaded"),
        (Request.RESET, bytes(4), "no model is loaded"),
        (Request.READ, bytes(12), "no model is loaded"),
        (Request.LOAD_END, b"", "out of order"),
        (Request.LOAD_CHUNK, bytes(8), "out of order"),
        (Request.LOAD_BEGIN, struct.pack("<I", 0xFFFFFFFF), "too big: 4294967295 bytes; room: 2097152"),
        (Request.LOAD_BEGIN, b"", "a payload of 0 bytes; needed: 4"),
        (0x55, b"", "unknown request 0x55"),
        (Request.PING, b"x", "a payload of 1 bytes; needed: 0"),
    ]
    for kind, payload, says in cases:
        reply = ask(board, kind, payload)
        assert reply.type == frames.NAK and says in frames.reason(reply.payload), (kind, frames.reason(reply.payload))
    assert "version 1 of the frames" in frames.reason(ask(board, Request.PING, version=2).payload)

    assert load(board, image.data).type == Request.LOAD_END | frames.REPLY
    cases = [
        (Request.STEP, b"\x05" + step[1:], "there is no stage 5; the model has 5"),
        (Request.STEP, step[:-1], "a payload of 15 bytes; needed: 16"),
        (Request.STEP, struct.pack("<BBHI", 0, 0, 0, 0xFFFFFFFF), "the reply would not fit"),
        (Request.STEP, struct.pack("<BBHI", 0, 0, 0, 0x20000000), "the reply would not fit"),
        (Request.STEP, step[:3], "a payload of 3 bytes; needed: 8"),
        (Request.RESET, struct.pack("<I", 7), "there is no stage 7"),
        (Request.READ, struct.pack("<BBHII", 0, 0, 0, 16, 1), "outside the buffer: byte 17 of 16"),
        (Request.READ, struct.pack("<BBHII", 0, 0, 0, 0xFFFFFFFF, 2), "outside the buffer"),
        (Request.READ, struct.pack("<BBHII", 0, 3, 0, 0, 1), "outside the buffer: byte 3 of 3"),
        (Request.READ, struct.pack("<BBHII", tiny.WIDE, 0, 0, 0, 5000), "the reply would not fit"),
        (Request.WRITE, struct.pack("<BBHI", 0, 0, 0, 12) + bytes(5), "outside the buffer: byte 17 of 16"),
        (Request.LOAD_CHUNK, bytes(8), "out of order"),
    ]
    for kind, payload, says in cases:
        reply = ask(board, kind, payload)
        assert reply.type == frames.NAK and says in frames.reason(reply.payload), (kind, frames.reason(reply.payload))
    assert ask(board, Request.STEP, step).type == Request.STEP | frames.REPLY


def test_a_repeated_request_is_answered_from_memory(image):
    board = emulated()
    load(board, image.data)
    step = struct.pack("<BBHI", tiny.SUM, 0, 0, 1) + tiny.pack16([[1, 1, 1, 1]])
    first = ask(board, Request.STEP, step, seq=77)
    assert ask(board, Request.STEP, step, seq=77) == first
    assert ask(board, Request.STEP, step, seq=78).payload[-16:] == tiny.pack32([[6, 6, 6, 6]])


@pytest.fixture(scope="module")
def fuzzed(image):
    board = emulated()
    load(board, image.data)
    return board


@given(kind=st.integers(0, 255), payload=st.binary(max_size=64), seq=st.integers(0, 65535))
def test_any_sound_frame_is_answered(fuzzed, kind, payload, seq):
    assert ask(fuzzed, kind, payload, seq).type in (kind | frames.REPLY, frames.NAK)
    assert alive(fuzzed)


@given(
    kind=st.sampled_from([*Request]), head=st.lists(st.sampled_from([0, 1, 4, 16, 255, 1 << 16, 1 << 31, 2**32 - 1]), max_size=4)
)  # fmt: skip
@settings(max_examples=150)
def test_any_numbers_are_answered(image, fuzzed, kind, head):
    reply = ask(fuzzed, kind, struct.pack(f"<{len(head)}I", *head))
    assert reply.type in (kind | frames.REPLY, frames.NAK)
    assert alive(fuzzed)


@given(
    noise=st.lists(st.binary(max_size=300), max_size=6), flips=st.lists(st.integers(0, 10**6), min_size=1, max_size=4)
)
def test_noise_and_flipped_bits_are_dropped(fuzzed, noise, flips):
    fuzzed.exchange(b"\0".join(noise))
    sent = bytearray(
        frames.encode(Frame(Request.WRITE, 3, struct.pack("<BBHI", tiny.SUM, Region.STATE, 0, 0) + bytes(16)))
    )
    for flip in flips:
        sent[flip % len(sent)] ^= 1 << (flip // len(sent) % 8)
    fuzzed.exchange(bytes(sent))
    assert alive(fuzzed)


def test_a_frame_too_long_is_dropped(fuzzed):
    assert fuzzed.exchange(b"\0" + b"\x01" * 20000 + b"\0") == b""
    assert fuzzed.exchange(frames.encode(Frame(Request.WRITE, 1, bytes(frames.MAX_PAYLOAD + 1)))) == b""
    assert alive(fuzzed)


def test_a_board_of_little_memory_takes_small_frames_and_whole_words():
    """The micro:bit: frames of its own size, and a model that goes to its flash."""
    described = hardware.find("microbit", hardware.Board)
    board = UnicornBoard(described, c_build.build_firmware("microbit").path)
    longest = described.max_payload_bytes
    whole = ask(board, Request.LOAD_CHUNK, struct.pack("<I", 0) + bytes(longest - 4))
    assert whole.type == frames.NAK and whole.payload[:4] == struct.pack("<I", 8)  # out of order, but understood
    assert board.exchange(frames.encode(Frame(Request.LOAD_CHUNK, 1, bytes(longest + 1)))) == b""

    assert ask(board, Request.LOAD_BEGIN, struct.pack("<I", 2000)).type == Request.LOAD_BEGIN | frames.REPLY
    refused = ask(board, Request.LOAD_CHUNK, struct.pack("<I", 0) + bytes(6))
    assert refused.payload == struct.pack("<III", 3, 6, 8)
    assert alive(board)


def tampered(tmp_path, old, new):
    firmware = c_build.build_firmware(BOARD)
    assert firmware.elf.count(old) >= 1
    path = tmp_path / "tampered.elf"
    path.write_bytes(firmware.elf.replace(old, new))
    return path


def test_other_firmware_is_noticed(tmp_path):
    firmware = c_build.build_firmware(BOARD)
    with served(emulated()) as there:
        link.verify(there.ping(), DESCRIBED, firmware)
    path = tampered(tmp_path, firmware.build_hash, bytes(16))
    with (
        served(emulated(path)) as there,
        pytest.raises(DeviceError, match=f"its firmware is {'00' * 16}; needed: {firmware.build_hash.hex()}"),
    ):
        link.verify(there.ping(), DESCRIBED, firmware)


def test_another_board_is_noticed():
    # The firmware of the M3 board runs on the M4, and tells what it was built for.
    other = c_build.build_firmware("mps2-an385")
    with (
        served(emulated(other.path)) as there,
        pytest.raises(DeviceError, match="says that it is 0x4e440385; needed: 0x4e440386"),
    ):
        link.verify(there.ping(), DESCRIBED, c_build.build_firmware(BOARD))
