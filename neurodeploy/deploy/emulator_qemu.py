"""A board in QEMU: the resident firmware's own binary, its serial line on a TCP port.

A process of its own::

    python -m neurodeploy.deploy.emulator_qemu --target mps2-an386 --firmware firmware.elf

It prints ``port N``, and ends QEMU when its standard input closes. ``-icount shift=N`` lets every instruction take
2^N ns of the machine's time, which makes its timer an exact instruction counter.
"""

from __future__ import annotations

import argparse
import functools
import re
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from neurodeploy.backends.c_toolchain import as_board
from neurodeploy.errors import DeviceError, MissingExtraError, NeurodeployError, TargetError
from neurodeploy.hardware import Board


def program(board: Board) -> str:
    """The program that emulates this board's processor."""
    return "qemu-system-riscv32" if board.core.isa == "rv32" else "qemu-system-arm"


def package(board: Board) -> str:
    """Debian's package that holds it."""
    return "qemu-system-misc" if board.core.isa == "rv32" else "qemu-system-arm"


@functools.cache
def version(program: str) -> str | None:
    """QEMU's version, None if it isn't installed."""
    if not shutil.which(program):
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    found = re.search(r"version (\S+)", said)
    return found.group(1) if found else "unknown"


def start(board: Board, firmware: Path, server: socket.socket) -> subprocess.Popen[bytes]:
    """QEMU with the board's serial line on a listening socket that it takes over."""
    described = board.emulators.qemu
    if described is None:
        raise TargetError("has no emulator 'qemu'.", place=board.name, hint="Choose --emulator unicorn.")
    if version(program(board)) is None:
        other = ", or use --emulator unicorn" if board.emulators.unicorn else ""
        raise MissingExtraError(
            f"'{program(board)}' isn't installed.", hint=f"Install it (Debian: apt install {package(board)}){other}."
        )
    cpu = ("-cpu", described.cpu) if described.cpu else ()
    bios = ("-bios", "none") if board.core.isa == "rv32" else ()
    line = f"socket,id=line,fd={server.fileno()},server=on,wait=off,nodelay=on"
    command = [
        program(board), "-M", described.machine, *cpu, *bios, "-kernel", str(firmware),
        "-icount", f"shift={described.icount_shift}", "-display", "none", "-monitor", "none", "-nodefaults",
        "-chardev", line, "-serial", "chardev:line",
    ]  # fmt: skip
    return subprocess.Popen(
        command, pass_fds=[server.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m neurodeploy.deploy.emulator_qemu", description=__doc__)
    parser.add_argument("--target", required=True, help="name or TOML file of the board, or its JSON")
    parser.add_argument("--firmware", required=True, type=Path)
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: any free one")
    given = parser.parse_args(argv)
    try:
        with socket.create_server(("127.0.0.1", given.port)) as server:
            qemu = start(as_board(given.target), given.firmware, server)
            print(f"port {server.getsockname()[1]}", flush=True)
        try:
            return _wait(qemu)
        finally:
            qemu.kill()
            qemu.wait()
    except NeurodeployError as error:
        print(f"error {error}", flush=True)
        return error.exit_status


def _wait(qemu: subprocess.Popen[bytes]) -> int:
    """Until standard input closes (0), or QEMU ends by itself."""
    while qemu.stderr:
        ready, _, _ = select.select([sys.stdin, qemu.stderr], [], [])
        if sys.stdin in ready:
            return 0
        said = qemu.stderr.readline().decode(errors="replace").strip()
        if not said:
            raise DeviceError(f"QEMU ended with status {qemu.wait()}.")
        print(f"qemu: {said}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
