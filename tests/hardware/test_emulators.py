"""The resident firmware on every emulated board: the same model, the same outputs, the same instruction counts."""

import dataclasses
import functools
import os
import struct

import pytest

from neurodeploy import hardware
from neurodeploy.backends import c_build
from neurodeploy.deploy import emulator, link
from neurodeploy.deploy.emulator import open_board
from neurodeploy.deploy.emulator_unicorn import UnicornBoard
from neurodeploy.deploy.frames import Region
from neurodeploy.errors import DeviceError, UsageError
from tests.hardware import tiny_model as tiny

BOARDS = [name for name in hardware.names("board") if hardware.find(name, hardware.Board).resident]
pytestmark = pytest.mark.board


def test_there_are_boards():
    assert set(BOARDS) == {
        "mps2-an385", "mps2-an386", "mps2-an500", "mps2-an505", "mps3-an547", "netduinoplus2", "microbit",
        "lm3s6965evb", "rv32-virt", "sifive-e",
    }  # fmt: skip


def emulators(board):
    found = emulator.available(board)
    return [
        pytest.param(board, name, marks=[] if name in found else pytest.mark.skip(f"{name} isn't installed"))
        for name in emulator.EMULATORS
        if getattr(hardware.find(board, hardware.Board).emulators, name)
    ]


def run_all(board, wide):
    """Everything that the tiny model can do without breaking; what must be equal wherever it runs."""
    rows = tiny.sum_inputs(700)
    xs = [i / 8 - 3 for i in range(50)]
    assert 2 * wide > board.ping().max_payload, "tiny_wide fits no frame"
    board.reset(tiny.WILD)
    return {
        "sum": board.step(tiny.SUM, tiny.pack16(rows), len(rows), reset=True),
        "leak": board.step(tiny.LEAK, struct.pack("<50f", *xs), 50, reset=True, states=True),
        "wide": board.step(tiny.WIDE, tiny.pack16([range(wide), range(5, wide + 5)]), 2, reset=True, states=True),
        "known": board.step(tiny.KNOWN, bytes(4 * 3), 3, stack=True),
        "spin": board.step(tiny.WILD, tiny.wild(tiny.SPIN, 10) + tiny.wild(tiny.SPIN, 1000), 2),
    }


@functools.cache
def on(name, which):
    """What a board says and gives; run once for all tests that look at it."""
    image = c_build.build_image(tiny.files(name), name)
    with open_board(name, which) as board:
        info = board.load(image)
        assert (info.model_hash, info.crc32, len(info.stages)) == (tiny.MODEL_HASH, image.crc32, 5)
        got = run_all(board, tiny.width(name))
        assert board.get_state(tiny.SUM) == got["sum"].outputs[-16:]
        return got, board.ping(), link.record(board)


@pytest.mark.parametrize(("name", "which"), [p for board in BOARDS for p in emulators(board)])
def test_a_model_runs_as_it_should(name, which):
    got, identity, record = on(name, which)
    wide, described = tiny.width(name), hardware.find(name, hardware.Board)
    rows = tiny.sum_inputs(700)
    assert got["sum"].outputs == tiny.pack32(tiny.sum_outputs(rows))
    assert got["leak"].outputs == got["leak"].states == tiny.leak_outputs([i / 8 - 3 for i in range(50)])
    assert got["wide"].outputs == tiny.pack16([[-i for i in range(wide)], [-5] * wide])
    assert got["wide"].states == tiny.pack16([range(wide), range(5, wide + 5)])
    # Absolute truth for the counter and the stack: 104 instructions and 256 bytes, by construction.
    assert got["known"].counts == [tiny.KNOWN_INSTRUCTIONS] * 3
    assert got["known"].stack_bytes == tiny.KNOWN_STACK

    assert identity.target_id == described.target_id
    assert identity.max_payload == described.max_payload_bytes
    if described.core.isa == "rv32":
        assert identity.cpuid >> 30 == 1  # misa: 32 bits
    else:
        assert identity.cpuid >> 24 == 0x41  # CPUID: Arm
    assert record["firmware_hash"] == c_build.build_firmware(name).build_hash.hex()
    assert {"unicorn": "unicorn 2", "qemu": "QEMU "}[which] in record["emulator"]


@pytest.mark.qemu
@pytest.mark.parametrize("name", [n for n in BOARDS if hardware.find(n, hardware.Board).emulators.unicorn])
def test_both_emulators_count_the_same(name):
    if "qemu" not in emulator.available(name):
        pytest.skip("qemu-system-arm isn't installed")
    (ours, identity, _), (theirs, other, _) = on(name, "unicorn"), on(name, "qemu")
    assert ours == theirs
    # The processor's own id register among it. A ping that meets a firmware still starting is cut short, which that
    # firmware counts as a broken frame: on a wall clock (QEMU) it may happen.
    assert dataclasses.replace(identity, broken_frames=0) == dataclasses.replace(other, broken_frames=0)


def test_chunked_is_whole_and_reset_resets():
    rows = tiny.sum_inputs(40)
    with open_board("mps2-an386") as board:
        board.load(c_build.build_image(tiny.FILES, "mps2-an386"))
        whole = board.step(tiny.SUM, tiny.pack16(rows), 40).outputs
        board.reset(tiny.SUM)
        parts = [board.step(tiny.SUM, tiny.pack16(rows[i : i + 7]), len(rows[i : i + 7])) for i in range(0, 40, 7)]
        assert b"".join(part.outputs for part in parts) == whole

        board.set_state(tiny.SUM, tiny.pack32([[1, 2, 3, 4]]))
        assert board.step(tiny.SUM, bytes(8), 1).outputs == tiny.pack32([[1, 2, 3, 4]])
        board.write(tiny.SUM, Region.STATE, tiny.pack32([[9]]), offset=8)
        assert board.get_state(tiny.SUM) == tiny.pack32([[1, 2, 9, 4]])
        assert board.step(tiny.SUM, bytes(8), 1, reset=True).outputs == bytes(16)


@pytest.mark.parametrize(("name", "which"), emulators("mps2-an386") + emulators("microbit"))
def test_loading_again_starts_afresh(name, which):
    """Also where flash must be erased first: another image lies there."""
    images = [c_build.build_image(tiny.files(name), name, opt=opt) for opt in ("-O2", "-Os", "-O2")]
    assert images[0].data != images[1].data
    with open_board(name, which) as board:
        for image in images:
            board.load(image)
            # tiny_wild's reset shows what its cleared memory holds: 0, or the last load's steps.
            assert board.get_state(tiny.WILD) == bytes(4)
            board.step(tiny.WILD, tiny.wild(0) * 5, 5)


def test_gcc_and_zig_agree():
    if "gcc" not in c_build.toolchains("mps2-an386"):
        pytest.skip("arm-none-eabi-gcc isn't installed")
    with open_board("mps2-an386", tool="gcc") as board:
        assert board.firmware and board.firmware.toolchain.startswith("gcc 1")
        outputs = {}
        for tool in ("gcc", "zig"):
            board.load(c_build.build_image(tiny.FILES, "mps2-an386", tool))
            ran = run_all(board, tiny.width("mps2-an386"))
            outputs[tool] = {name: steps.outputs for name, steps in ran.items()}
    assert outputs["gcc"] == outputs["zig"]


def test_a_board_of_ones_own_is_one_toml(tmp_path):
    text = (hardware.data_folder("targets") / "boards" / "mps2-an386.toml").read_text()
    own = text.replace('name = "mps2-an386"', 'name = "own-board"', 1).replace(
        "target_id = 0x4e440386", "target_id = 0x0000beef"
    )
    (tmp_path / "own-board.toml").write_text(own)
    target = str(tmp_path / "own-board.toml")
    with open_board(target, "unicorn") as board:
        board.load(c_build.build_image(tiny.FILES, target))
        assert board.ping().target_id == 0xBEEF
        assert board.step(tiny.KNOWN, bytes(4), 1).counts == [tiny.KNOWN_INSTRUCTIONS]


@pytest.mark.parametrize("name", [n for n in BOARDS if hardware.find(n, hardware.Board).emulators.unicorn])
def test_the_emulated_board_sleeps_when_idle(name):
    board = UnicornBoard(hardware.find(name, hardware.Board), c_build.build_firmware(name).path)
    before = board.instructions
    board.exchange(b"")
    assert board.instructions - before < 100


def test_the_emulator_ends_with_its_context():
    with open_board("mps2-an386", "unicorn") as board:
        port = int(board.port.rsplit(":", 1)[1])
        assert _listens(port)
    assert not _listens(port)


def _listens(port):
    """Whether a process of this machine listens there (Linux)."""
    path = "/proc/net/tcp"
    if not os.path.exists(path):
        pytest.skip("needs /proc/net/tcp")
    with open(path) as lines:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)


def test_wrong_requests_are_refused_by_name():
    with (
        pytest.raises(UsageError, match="no emulator 'unicron'. Did you mean 'unicorn'"),
        open_board("mps2-an386", "unicron"),
    ):
        pass
    with pytest.raises(UsageError, match="'host' has no resident firmware"), open_board("host"):
        pass
    with open_board("mps2-an386") as board:
        board.load(c_build.build_image(tiny.FILES, "mps2-an386"))
        with pytest.raises(UsageError, match="there is no stage 5; the model on the board has 5"):
            board.step(5, b"", 1)
        with pytest.raises(UsageError, match="7 bytes of inputs; needed: 1 x 8 for stage 0"):
            board.step(0, bytes(7), 1)
        with pytest.raises(UsageError, match="a state of 3 bytes; needed: 16"):
            board.set_state(0, bytes(3))


@pytest.mark.parametrize(("name", "which"), [p for board in BOARDS for p in emulators(board)])
def test_a_crashing_model_is_reported_and_the_board_lives_on(name, which):
    image = c_build.build_image(tiny.files(name), name)
    nowhere = 0xA0000001 if name in ("sifive-e", "lm3s6965evb") else 0x2F000001  # nothing is there
    crashes = [tiny.READ, tiny.JUMP, tiny.UNDEFINED, tiny.RECURSE]
    if (name, which) == ("lm3s6965evb", "qemu"):
        crashes.remove(tiny.READ)  # on this machine of QEMU's, reading where nothing is gives 0
    with open_board(name, which) as board:
        for what in crashes:
            board.load(image)
            with pytest.raises(DeviceError, match=r"refused STEP: the model crashed \(fault status 0x[0-9a-f]+ at 0x"):
                board.step(tiny.WILD, tiny.wild(what, nowhere), 1)
            assert board.ping().last_fault != 0
            with pytest.raises(DeviceError, match="no model is loaded"):
                board.info()
        board.load(image)
        assert board.step(tiny.SUM, tiny.pack16([[1, 2, 3, 4]]), 1).outputs == tiny.pack32([[3, 6, 9, 12]])
