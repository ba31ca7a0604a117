"""A board to run on: emulated here, or real on a port."""

from __future__ import annotations

import importlib.util
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurodeploy import hardware
from neurodeploy.backends import c_build
from neurodeploy.backends.c_toolchain import as_board
from neurodeploy.deploy import emulator_qemu, link
from neurodeploy.errors import DeviceError, MissingExtraError, UsageError, nearest

# Emulator -> the module that is run as a process of its own.
EMULATORS = {"unicorn": "neurodeploy.deploy.emulator_unicorn", "qemu": "neurodeploy.deploy.emulator_qemu"}
UNICORN_SHIFT = 10  # an instruction takes 2^10 ns of timer time: see nd_unicorn.c
START_S = 60.0


def available(target: str | hardware.Board) -> list[str]:
    """The emulators that are installed and run this board, the default one first."""
    board = as_board(target)
    described = board.emulators
    found = ["unicorn"] if described.unicorn and importlib.util.find_spec("unicorn") else []
    return found + (["qemu"] if described.qemu and emulator_qemu.version(emulator_qemu.program(board)) else [])


def label(emulator: str, board: hardware.Board) -> str:
    """Name and version, and what its counts rest on; what a report prints."""
    qemu = board.emulators.qemu
    if emulator == "qemu" and qemu:
        return f"QEMU {emulator_qemu.version(emulator_qemu.program(board))} -icount shift={qemu.icount_shift}"
    from importlib.metadata import version

    return f"unicorn {version('unicorn')}"


@contextmanager
def open_board(
    target: str | hardware.Board, emulator: str = "auto", port: str | None = None, tool: str | None = None
) -> Iterator[link.Board]:
    """A board that has answered PING and runs the firmware of these sources, built with ``tool``.

    With ``port`` it is the real board there; otherwise an emulated one (``"unicorn"``, ``"qemu"``, or ``"auto"``: the
    first that is installed), which ends with the context. ``board.emulator`` says which one ran.
    Raises :class:`UsageError` for an emulator that this board hasn't, :class:`MissingExtraError` if it isn't installed,
    :class:`DeviceError` if the board doesn't answer or is not what it should be.
    """
    described = as_board(target)
    firmware = c_build.build_firmware(described, tool)
    if port is not None:
        with link.Board(port, baud=described.uart.baud if described.uart else 115200, name=described.name) as board:
            yield _checked(board, described, firmware)
        return
    name = _choose(described, emulator)
    qemu = described.emulators.qemu if name == "qemu" else None
    shift = qemu.icount_shift if qemu else UNICORN_SHIFT
    timer_hz = qemu.timer.clock_hz if qemu and qemu.timer else None
    with (
        _process(name, described, firmware.path) as url,
        link.Board(url, ns_per_instruction=1 << shift, timer_hz=timer_hz, name=described.name) as board,
    ):
        board.emulator = label(name, described)
        yield _checked(board, described, firmware)


def _checked(board: link.Board, described: hardware.Board, firmware: c_build.Firmware) -> link.Board:
    board.firmware = firmware
    link.verify(board.ping(), described, firmware)
    return board


def _choose(board: hardware.Board, emulator: str) -> str:
    if emulator not in ("auto", *EMULATORS):
        raise UsageError(f"there is no emulator '{emulator}'.", hint=nearest(emulator, ("auto", *EMULATORS)))
    installed = available(board)
    if emulator == "auto" and installed:
        return installed[0]
    if emulator in installed:
        return emulator
    known = [name for name in EMULATORS if getattr(board.emulators, name)]
    if emulator != "auto" and emulator not in known:
        raise UsageError(f"'{board.name}' doesn't run in '{emulator}'.", hint=f"It runs in: {', '.join(known)}.")
    raise MissingExtraError(
        f"no emulator of '{board.name}' is installed." if emulator == "auto" else f"'{emulator}' isn't installed.",
        hint="Install one: " + ", or (Debian) ".join(_to_install(board)) + ".",
    )


def _to_install(board: hardware.Board) -> list[str]:
    emulators = board.emulators
    ways = ["pip install unicorn"] if emulators.unicorn else []
    return ways + ([f"apt install {emulator_qemu.package(board)}"] if emulators.qemu else [])


@contextmanager
def _process(emulator: str, board: hardware.Board, firmware: Path) -> Iterator[str]:
    """The URL of an emulator in a process that ends when its standard input closes, even if this one is killed."""
    command = [
        sys.executable,
        "-m",
        EMULATORS[emulator],
        "--target",
        board.model_dump_json(),
        "--firmware",
        str(firmware),
    ]
    pipe = subprocess.PIPE
    # The package is found from wherever this process found it, also from a bare checkout on sys.path.
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield f"socket://127.0.0.1:{_port(process, emulator)}"
        finally:
            if process.stdin:
                process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def _port(process: subprocess.Popen[str], emulator: str) -> int:
    """The TCP port that the process says it serves."""
    out = process.stdout
    said = out.readline().split(maxsplit=1) if out and select.select([out], [], [], START_S)[0] else []
    if said[:1] == ["port"]:
        return int(said[1])
    process.kill()
    errors = process.stderr.read().splitlines() if process.stderr else []
    told = said[1:] or errors[-1:] or ["it said nothing"]
    raise DeviceError(f"the emulator '{emulator}' didn't start ({told[0].strip()}).")
