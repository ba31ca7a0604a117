"""C compilers, found by name, and the flags that every build has.

``zig`` is the ``ziglang`` wheel and builds for every target; ``gcc`` is ``arm-none-eabi-gcc`` for boards and the host's
own for ``host``; ``clang`` is for the host only. Code isn't built ``-ffreestanding``: that would turn a ``memcpy`` of
four bytes into a call.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from neurodeploy import hardware
from neurodeploy.errors import BuildError, MissingExtraError, UsageError, nearest
from neurodeploy.hardware import Board

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wstrict-prototypes", "-Werror")
CODE = (
    "-ffp-contract=off",  # a fused multiply-add rounds once where the golden model rounds twice
    "-fno-math-errno",
    "-ffunction-sections",
    "-fdata-sections",
    "-fomit-frame-pointer",
    "-fno-strict-aliasing",
)
#: isa -> the cross compiler that the name ``gcc`` stands for, where it isn't arm-none-eabi-gcc.
CROSS_GCC = {"rv32": "riscv64-unknown-elf-gcc"}
CROSS_PACKAGES = {"rv32": "gcc-riscv64-unknown-elf"}
ZIG_ONLY = ("-fno-sanitize=all", "-Wno-unused-command-line-argument")
#: For the cross compilers above, which Debian has without a C library: their own stdint.h, builtins all the same.
NO_LIBC = ("-ffreestanding", "-fbuiltin")
BOARD_ONLY = ("-g0", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")


@dataclass(frozen=True)
class Toolchain:
    """A C compiler for one target; ``label`` is what stands beside a figure that it made."""

    name: str
    command: tuple[str, ...]
    version: str

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


def toolchains(target: str | Board) -> list[str]:
    """Names of the compilers that are installed for a target, the one that is used by default first."""
    return [name for name in _names(as_board(target)) if _command(name, as_board(target))]


def toolchain(target: str | Board, name: str | None = None) -> Toolchain:
    """The compiler of that name, or the default one. Raises :class:`MissingExtraError` if it isn't installed."""
    board = as_board(target)
    known = _names(board)
    if name is not None and name not in known:
        raise UsageError(f"there is no toolchain '{name}' for '{board.name}'.", hint=nearest(name, known))
    for candidate in [name] if name else known:
        command = _command(candidate, board)
        if command:
            return Toolchain(candidate, command, _version(command))
    if name == "gcc" and board.core.isa != "host":
        package = CROSS_PACKAGES.get(board.core.isa, "gcc-arm-none-eabi")
        hint = f"Install it (Debian: apt install {package}), or use --toolchain zig."
    elif name in ("gcc", "clang"):
        hint = f"Install {name}, or use --toolchain zig."
    else:
        hint = "Install it: pip install ziglang"
    raise MissingExtraError(f"the compiler '{name or 'zig'}' for '{board.name}' isn't installed.", hint=hint)


def as_board(target: str | Board) -> Board:
    """The board of that name, path or description (JSON, as one process hands it to another), or the board itself."""
    if isinstance(target, str):
        return Board.model_validate_json(target) if target.startswith("{") else hardware.find(target, Board)
    return target


def _names(board: Board) -> list[str]:
    if board.core.isa == "host":
        return ["gcc", "clang", "zig"]
    return (["zig"] if board.core.zig_cpu else []) + ["gcc"]


def _command(name: str, board: Board) -> tuple[str, ...] | None:
    if name == "zig":
        return _zig()
    program = name if board.core.isa == "host" else CROSS_GCC.get(board.core.isa, "arm-none-eabi-gcc")
    path = shutil.which(program)
    return (path,) if path else None


@functools.cache
def _zig() -> tuple[str, ...] | None:
    try:
        import ziglang  # type: ignore[import-untyped]
    except ImportError:
        path = shutil.which("zig")
        return (path, "cc") if path else None
    return (str(Path(str(ziglang.__file__)).parent / "zig"), "cc")


@functools.cache
def _version(command: tuple[str, ...]) -> str:
    asked = (command[0], "version") if command[-1] == "cc" else (*command, "--version")
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"'{command[0]}' doesn't run ({error}).", hint="Install it again.") from error
    found = re.search(r"\d+\.\d+(\.\d+)?\S*", said.splitlines()[0].rsplit(")", 1)[-1]) or re.search(r"\d[\d.]+", said)
    return found.group() if found else said.strip()


def compile_flags(tool: Toolchain, board: Board, opt: str) -> tuple[str, ...]:
    """Flags that machine code for a target is compiled with; the first three of zig's name the machine."""
    flags = (*WARNINGS, *CODE, opt)
    if board.core.isa == "host":
        return (*flags, "-fPIC", *(ZIG_ONLY if tool.name == "zig" else ()))
    if tool.name == "zig":
        return ("-target", str(board.core.zig_target), f"-mcpu={board.core.zig_cpu}", *flags, *BOARD_ONLY, *ZIG_ONLY)
    return (*board.core.gcc_flags, *flags, *(NO_LIBC if board.core.isa in CROSS_GCC else ()), *BOARD_ONLY)
