"""A board in the unicorn emulator: the resident firmware's own binary, with UART, timer and reset.

In this process (:class:`UnicornBoard`), or as a process of its own that offers the board's serial line on a TCP port::

    python -m neurodeploy.deploy.emulator_unicorn --target mps2-an386 --firmware firmware.elf

It prints ``port N``, serves one client at a time, and ends when its standard input closes. The devices are compiled
(``firmware/ports/unicorn``); Python only moves bytes while the firmware sleeps in WFI.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import select
import socket
import sys
from pathlib import Path
from typing import Any

from neurodeploy import hardware
from neurodeploy.backends import c_build
from neurodeploy.backends.c_toolchain import as_board
from neurodeploy.errors import DeviceError, NeurodeployError, TargetError, require
from neurodeploy.hardware import Board

# CPUID of each core as QEMU has it (Arm's technical reference manuals, register CPUID).
CPUID = {
    "CORTEX_M0": 0x410CC200, "CORTEX_M3": 0x410FC231, "CORTEX_M4": 0x410FC240, "CORTEX_M7": 0x411FC272,
    "CORTEX_M33": 0x410FD213,
}  # fmt: skip
SYSTEM_CONTROL = 0xE000E000
PAGE = 0x1000
HARD_FAULT = 3  # the exception's number
NEVER = 0xFFFFFFFE  # emulation runs until it is stopped
# Fault status for what unicorn says: IACCVIOL or IBUSERR for fetches, PRECISERR for data (Armv7-M ARM, B3.2.15).
CFSR_FETCH, CFSR_DATA, CFSR_UNDEFINED = 1 << 8, 1 << 9, 1 << 16
HOOK_BLOCK = 8  # UC_HOOK_BLOCK


class UnicornBoard:
    """One emulated board, at rest until bytes come."""

    def __init__(self, board: Board, firmware: Path) -> None:
        unicorn = require("unicorn", "board", "the emulator 'unicorn'")
        described = board.emulators.unicorn
        if described is None or not (board.uart and board.timer and board.memory):
            raise TargetError("has no emulator 'unicorn'.", place=board.name, hint="Choose --emulator qemu.")
        self._c = unicorn
        self._lib = _devices()
        self._uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(getattr(unicorn.arm_const, f"UC_CPU_ARM_{described.cpu}"))
        self._raw = _raw_unicorn(unicorn)
        self._state = ctypes.create_string_buffer(self._lib.nd_emulated_bytes())
        self._buffer = ctypes.create_string_buffer(1 << 16)
        stop = ctypes.cast(self._raw.uc_emu_stop, ctypes.c_void_p)
        self._lib.nd_emulated_init(self._state, board.timer.clock_hz or 0, CPUID[described.cpu], stop, self._uc._uch)
        self._memory = []
        for region in described.regions:
            block = ctypes.create_string_buffer(region.size_bytes + PAGE)
            aligned = (ctypes.addressof(block) + PAGE - 1) & ~(PAGE - 1)
            self._memory.append(block)
            self._uc.mem_map_ptr(region.origin, region.size_bytes, unicorn.UC_PROT_ALL, aligned)
            self._lib.nd_emulated_region(self._state, region.origin, region.size_bytes, aligned)
        self._device(board.uart.base, f"nd_{board.uart.driver}")
        self._device(board.timer.base or 0, f"nd_{board.timer.driver}")
        self._device(SYSTEM_CONTROL, "nd_system")
        for base in described.ignored:
            self._device(base, "nd_ignored")
        self._hook_blocks()
        self._vectors = board.memory.flash.origin
        _load(self._uc, firmware)
        self._reset()
        self.exchange(b"")

    def _device(self, base: int, name: str) -> None:
        symbol = name.replace("-", "_")
        read, write = (ctypes.cast(self._lib[f"{symbol}_{way}"], ctypes.c_void_p) for way in ("read", "write"))
        state = ctypes.addressof(self._state)
        page = base & ~(PAGE - 1)
        self._check(self._raw.uc_mmio_map(self._uc._uch, page, PAGE, read, state, write, state))

    def _hook_blocks(self) -> None:
        handle = ctypes.c_size_t()
        self._check(
            self._raw.uc_hook_add(
                self._uc._uch, ctypes.byref(handle), HOOK_BLOCK,
                ctypes.cast(self._lib.nd_on_block, ctypes.c_void_p), ctypes.c_void_p(ctypes.addressof(self._state)),
                ctypes.c_uint64(1), ctypes.c_uint64(0),
            )
        )  # fmt: skip

    def _check(self, status: int) -> None:
        if status:
            raise DeviceError(f"unicorn can't set up the board (its error {status}).")

    def _word(self, address: int) -> int:
        return int.from_bytes(self._uc.mem_read(address, 4), "little")

    def _reset(self) -> None:
        self._lib.nd_emulated_reset(self._state)
        self._uc.reg_write(self._c.arm_const.UC_ARM_REG_IPSR, 0)
        self._uc.reg_write(self._c.arm_const.UC_ARM_REG_SP, self._word(self._vectors))
        self._pc = self._word(self._vectors + 4)

    def _fault(self, error: Any) -> None:
        """What the processor does on a fault: push the registers, go to the HardFault handler."""
        regs = self._c.arm_const
        sp = (self._uc.reg_read(regs.UC_ARM_REG_SP) - 32) & ~7 & 0xFFFFFFFF
        names = ("R0", "R1", "R2", "R3", "R12", "LR", "PC", "XPSR")
        words = [self._uc.reg_read(getattr(regs, f"UC_ARM_REG_{name}")) & 0xFFFFFFFF for name in names]
        with contextlib.suppress(self._c.UcError):  # no room: the handler sees that this stack isn't readable
            self._uc.mem_write(sp, b"".join(word.to_bytes(4, "little") for word in words))
        fetch = error.errno in (self._c.UC_ERR_FETCH_UNMAPPED, self._c.UC_ERR_FETCH_PROT)
        data = error.errno in (self._c.UC_ERR_READ_UNMAPPED, self._c.UC_ERR_WRITE_UNMAPPED)
        self._lib.nd_emulated_fault(self._state, CFSR_FETCH if fetch else CFSR_DATA if data else CFSR_UNDEFINED)
        self._uc.reg_write(regs.UC_ARM_REG_SP, sp)
        self._uc.reg_write(regs.UC_ARM_REG_IPSR, HARD_FAULT)
        self._pc = self._word(self._vectors + 12)

    def _go(self) -> bool:
        """Run until the firmware sleeps (True), or it was reset or has more to send than there is room for (False)."""
        asleep = True
        try:
            self._uc.emu_start(self._pc | 1, NEVER)
            self._pc = self._uc.reg_read(self._c.arm_const.UC_ARM_REG_PC)
        except self._c.UcError as error:
            self._fault(error)
            asleep = False
        if self._lib.nd_emulated_restart(self._state):
            self._reset()
            asleep = False
        return asleep and not self._lib.nd_emulated_is_full(self._state)

    @property
    def instructions(self) -> int:
        """Instructions executed since the start."""
        return self._lib.nd_emulated_instructions(self._state)

    def pull(self) -> bytes:
        """The bytes that the board has sent."""
        parts = []
        while n := self._lib.nd_emulated_pull(self._state, self._buffer, len(self._buffer)):
            parts.append(self._buffer.raw[:n])
        return b"".join(parts)

    def exchange(self, data: bytes) -> bytes:
        """Give the board some bytes, let it run until it sleeps with nothing left to read, return what it sent."""
        sent = []
        for at in range(0, max(len(data), 1), len(self._buffer)):
            piece = data[at : at + len(self._buffer)]
            self._lib.nd_emulated_push(self._state, piece, len(piece))
            asleep = False
            while not asleep:
                asleep = self._go()
                sent.append(self.pull())
        return b"".join(sent)


def _devices() -> ctypes.CDLL:
    folder = hardware.data_folder("firmware") / "ports" / "unicorn"
    lib = ctypes.CDLL(str(c_build.compile_shared({p.name: p.read_bytes() for p in folder.glob("*.[ch]")})))
    lib.nd_emulated_instructions.restype = ctypes.c_uint64
    lib.nd_emulated_region.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
    pointer = ctypes.c_void_p
    lib.nd_emulated_init.argtypes = [pointer, ctypes.c_uint32, ctypes.c_uint32, pointer, pointer]
    return lib


def _raw_unicorn(unicorn: Any) -> ctypes.CDLL:
    """Unicorn's own library, to hand it compiled hooks."""
    folder = Path(unicorn.__file__).parent
    found = sorted(p for p in folder.rglob("*unicorn*") if p.name.split(".", 1)[-1].startswith(("so", "dylib", "dll")))
    if not found:
        raise DeviceError(f"the package in {folder} holds no library.", hint="pip install --force-reinstall unicorn")
    raw = ctypes.CDLL(str(found[0]))
    pointer = ctypes.c_void_p
    raw.uc_mmio_map.argtypes = [pointer, ctypes.c_uint64, ctypes.c_size_t, pointer, pointer, pointer, pointer]
    raw.uc_hook_add.argtypes = [pointer, pointer, ctypes.c_int, pointer, pointer, ctypes.c_uint64, ctypes.c_uint64]
    return raw


def _load(uc: Any, path: Path) -> None:
    elf = require("elftools.elf.elffile", "board", "reading machine code")
    try:
        with path.open("rb") as stream:
            for segment in elf.ELFFile(stream).iter_segments("PT_LOAD"):
                if segment["p_filesz"]:
                    uc.mem_write(segment["p_paddr"], segment.data())
    except (OSError, elf.ELFError) as error:
        raise DeviceError(f"can't be loaded as firmware ({error}).", place=str(path)) from error


def serve(board: UnicornBoard, server: socket.socket) -> None:
    """Carry bytes between the board and whoever connects, until standard input closes."""
    client: socket.socket | None = None
    while True:
        ready, _, _ = select.select([sys.stdin, client or server], [], [])
        if sys.stdin in ready:
            return
        if client is None:
            client = server.accept()[0]
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            continue
        try:
            data = client.recv(1 << 16)
            answer = board.exchange(data) if data else b""
            client.sendall(answer)
        except OSError:
            data = b""  # the client is gone: wait for the next
        if not data:
            client.close()
            client = None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m neurodeploy.deploy.emulator_unicorn", description=__doc__)
    parser.add_argument("--target", required=True, help="name or TOML file of the board, or its JSON")
    parser.add_argument("--firmware", required=True, type=Path)
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: any free one")
    given = parser.parse_args(argv)
    try:
        board = UnicornBoard(as_board(given.target), given.firmware)
    except NeurodeployError as error:
        print(f"error {error}", flush=True)
        return error.exit_status
    with socket.create_server(("127.0.0.1", given.port)) as server:
        print(f"port {server.getsockname()[1]}", flush=True)
        serve(board, server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
