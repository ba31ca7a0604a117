"""From C sources to machine code: a shared library for this host, an image for a board's slot, the board's firmware.

What is built is kept in the user's cache, under a hash of everything that went in: sources, flags, and the compiler's
version. A core source is compiled along when a generated file includes its header; ``kernels/<isa>/X.c`` then stands
in for ``core/X.c``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurodeploy import hardware
from neurodeploy.backends.c_toolchain import Toolchain, as_board, compile_flags, toolchain, toolchains
from neurodeploy.errors import BuildError, TargetError, UsageError, require
from neurodeploy.hardware import Board

__all__ = [
    "Firmware", "Image", "Sizes", "Toolchain", "build_firmware", "build_image", "cache_folder", "compile_shared",
    "image_table", "section_sizes", "toolchain", "toolchains",
]  # fmt: skip

Files = Mapping[str, bytes]
#: isa -> folders of ``firmware/kernels`` for it, the most special first; a file found earlier wins.
KERNEL_FOLDERS = {"armv81m": ("armv81m", "armv7em"), "armv8m": ("armv7em",), "armv7em": ("armv7em",),
                  "armv7m": ("armv7m",), "armv6m": ("armv6m",), "rv32": ("rv32",), "host": ()}  # fmt: skip
LINK = ("-Wl,--gc-sections",)
IMAGE_HEAD = ".nd_image"
IMAGE_LENGTH_AT, IMAGE_CRC_AT, IMAGE_CRC_FROM = 8, 12, 16  # offsets in nd_image_t
MAX_STAGES = 8


@dataclass(frozen=True)
class Sizes:
    """Bytes of machine code and data, by kind and by symbol; ``undefined`` symbols aren't in them.

    ``symbols`` maps a function's or object's name to (kind, bytes).
    """

    text: int
    rodata: int
    data: int
    bss: int
    symbols: dict[str, tuple[str, int]] = field(default_factory=dict)
    undefined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    """A linked model: ``data`` is what the board takes. ``sizes`` leave out the image's header of 240 bytes."""

    data: bytes
    sizes: Sizes
    target: str
    toolchain: str
    flags: tuple[str, ...]

    @property
    def crc32(self) -> int:
        return struct.unpack_from("<I", self.data, IMAGE_CRC_AT)[0]


@dataclass(frozen=True)
class Firmware:
    """A board's resident firmware. ``build_hash`` (16 bytes) is in the binary too: a board's PING tells it."""

    path: Path
    build_hash: bytes
    target: str
    toolchain: str

    @property
    def elf(self) -> bytes:
        return self.path.read_bytes()


# -------------------------------------------------------------------------------------------------------- sources


def with_core(files: Files, board: Board) -> dict[str, bytes]:
    """The files, and of the core (or its kernels) what they include: headers, and the source of each such header."""
    firmware = hardware.data_folder("firmware")
    folders = [firmware / "core"]
    if board.core.dsp or board.core.isa != "armv8m":
        folders += [firmware / "kernels" / name for name in reversed(KERNEL_FOLDERS[board.core.isa])]
    shelf = {path.name: path for folder in folders for path in sorted(folder.glob("*.[ch]"))}
    chosen = dict(files)
    queue = list(files)
    while queue:
        for included in re.findall(rb'^\s*#\s*include\s+"([^"]+)"', chosen[queue.pop()], re.M):
            header = included.decode("utf-8", "replace")
            for name in (header, header.removesuffix(".h") + ".c"):
                if name in shelf and name not in chosen:
                    chosen[name] = shelf[name].read_bytes()
                    queue.append(name)
    return chosen


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def cache_folder() -> Path:
    """Where builds are kept: ``$XDG_CACHE_HOME/neurodeploy/build``, by default under ``~/.cache``.

    Where that can't be written (a service without a home), a folder of the user's under the temporary one.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "neurodeploy" / "build"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"neurodeploy-{os.getuid()}" / "build"
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _keep(made: Path, name: str) -> Path:
    """Move a finished file into the cache in one step, so that nobody ever sees half of it."""
    kept = cache_folder() / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=kept.parent, prefix=f".{kept.name}-")
    os.close(handle)
    shutil.copyfile(made, scratch)
    os.chmod(scratch, 0o755)
    os.replace(scratch, kept)
    return kept


# ------------------------------------------------------------------------------------------------------ compiling


def _run(command: Sequence[str], folder: Path, what: str) -> None:
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder().parent / "zig"), **os.environ}
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, env=environment)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{what}: '{command[0]}' doesn't run ({error}).") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        faults = [line for line in lines if re.search(r"\berror\b|undefined|overflowed", line)] or lines
        first = faults[0] if faults else f"exit status {done.returncode}"
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise BuildError(f"{first}{more}", place=f"{what}, {Path(command[0]).name}")


def _objects(sources: Files, tool: Toolchain, flags: Sequence[str], folder: Path, what: str) -> list[Path]:
    for name, data in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    objects = {name: name.removesuffix(".c") + ".o" for name in sorted(sources) if name.endswith(".c")}
    for name, compiled in objects.items():  # one by one: zig cc -c makes an object of the first file only
        _run((*tool.command, *flags, "-I.", "-c", name, "-o", compiled), folder, what)
    return [folder / compiled for compiled in objects.values()]


def compile_shared(
    files: Files, tool: str | None = None, opt: str = "-O2", flags: Sequence[str] = (), what: str = "model"
) -> Path:
    """A shared library for this host, from the cache if it was built before; load it with :class:`ctypes.CDLL`.

    Raises :class:`BuildError` with the compiler's first words, :class:`MissingExtraError` without a compiler.
    """
    host = as_board("host")
    compiler = toolchain(host, tool)
    sources = with_core(files, host)
    used = (*compile_flags(compiler, host, opt), *flags)
    name = f"{_digest('shared', sorted(sources.items()), used, compiler.label, compiler.command)}.so"
    kept = cache_folder() / name
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory(prefix="neurodeploy-") as scratch:
        folder = Path(scratch)
        objects = _objects(sources, compiler, used, folder, what)
        # Left open, memcpy and memset are found in the process; so zig needs not build a libc to link against.
        alone = ("-nostdlib",) if compiler.name == "zig" and os.uname().sysname == "Linux" else ()
        _run((*compiler.command, "-shared", *alone, "-o", name, *map(str, objects)), folder, what)
        return _keep(folder / name, name)


def section_sizes(files: Files, target: str | Board, tool: str | None = None, opt: str = "-O2") -> Sizes:
    """What the sources (and the core that they include) take on a target, compiled but not linked."""
    board = as_board(target)
    compiler = toolchain(board, tool)
    flags = compile_flags(compiler, board, opt)
    with tempfile.TemporaryDirectory(prefix="neurodeploy-") as scratch:
        sources = _with_board_headers(with_core(files, board), board)
        return _measure(_objects(sources, compiler, flags, Path(scratch), board.name))


def link_sizes(files: Files, tool: Toolchain, flags: Sequence[str], board: Board, script: str) -> Sizes:
    """What the sources take once linked with a script among them; kept in the cache like every build."""
    sources = _with_board_headers(with_core(files, board), board)
    name = f"{_digest('linked', sorted(sources.items()), flags, LINK, tool.label, tool.command)}.elf"
    elf = cache_folder() / name
    return _measure([elf if elf.exists() else _link(sources, tool, flags, board, script, name)])


def _with_board_headers(sources: Files, board: Board) -> dict[str, bytes]:
    """With the string.h that zig's bare targets lack; a host has its own."""
    if board.core.isa == "host":
        return dict(sources)
    header = hardware.data_folder("firmware") / "ports" / "include" / "string.h"
    return {"string.h": header.read_bytes()} | dict(sources)


def build_image(files: Files, target: str | Board, tool: str | None = None, opt: str = "-O2") -> Image:
    """Compile and link a model for the slot of a resident board; ``files`` hold a table made by :func:`image_table`.

    Raises :class:`TargetError` for a board without a slot, :class:`BuildError` with the compiler's first words, or
    saying by how much the model is too big.
    """
    board = _resident(target)
    compiler = toolchain(board, tool)
    flags = compile_flags(compiler, board, opt)
    ports = hardware.data_folder("firmware") / "ports"
    sources = _with_board_headers(with_core(files, board), board) | {
        "nd_mem.c": (ports / "nd_mem.c").read_bytes(),
        "image.ld": _script(ports / "image.ld", board),
    }
    name = f"{_digest('image', sorted(sources.items()), flags, LINK, compiler.label, compiler.command)}.elf"
    elf = cache_folder() / name
    if not elf.exists():
        elf = _link(sources, compiler, flags, board, "image.ld", name)
    return Image(_flatten(elf, board), _measure([elf]), board.name, compiler.label, flags)


def image_table(stages: Sequence[str], headers: Sequence[str], model_hash: bytes) -> bytes:
    """The C file that makes an image of a model: its header, with one row for each stage's prefix.

    ``headers`` declare ``<prefix>_state_t``, ``_in_t``, ``_out_t``, ``_reset``, ``_step``; ``model_hash`` is 16 bytes.
    """
    if not 1 <= len(stages) <= MAX_STAGES:
        raise UsageError(f"the model has {len(stages)} stages; needed: 1 to {MAX_STAGES} for a board.")
    if len(model_hash) != 16:
        raise UsageError(f"the model's hash has {len(model_hash)} bytes; needed: 16.")
    includes = "\n".join(f'#include "{header}"' for header in headers)
    rows = ",\n        ".join(f"ND_STAGE({stage})" for stage in stages)
    digest = ", ".join(f"0x{byte:02x}" for byte in model_hash)
    return f"""/* The model as an image for the resident firmware: see nd_image.h. */
#include "nd_image.h"
{includes}

extern const nd_image_t nd_image;
const nd_image_t nd_image ND_IMAGE_PLACE = {{
    ND_IMAGE_HEAD({len(stages)}),
    {{ {digest} }},
    ND_IMAGE_BSS,
    {{
        {rows},
    }},
}};
""".encode()


def build_firmware(target: str | Board, tool: str | None = None, opt: str = "-O2") -> Firmware:
    """The resident firmware of a board, from the cache if these very sources were built before."""
    board = _resident(target)
    compiler = toolchain(board, tool)
    flags = compile_flags(compiler, board, opt)
    root = hardware.data_folder("firmware")
    port = root / "ports" / str(board.port)
    paths = [*(root / "ports").glob("*.[ch]"), *(root / "ports" / "resident").glob("*.[ch]"), *port.glob("*.[ch]")]
    sources = with_core({p.name: p.read_bytes() for p in paths} | {"nd_board.h": _board_header(board)}, board)
    sources = _with_board_headers(sources, board) | {"firmware.ld": _script(port / "firmware.ld", board)}
    digest = bytes.fromhex(_digest("firmware", sorted(sources.items()), flags, LINK, compiler.label))
    listed = ", ".join(f"0x{byte:02x}" for byte in digest)
    hashed = f'#include "nd_board.h"\n\nconst uint8_t nd_build_hash[16] = {{ {listed} }};\n'
    name = f"{board.name}-{digest.hex()}.elf"
    elf = cache_folder() / name
    if not elf.exists():
        elf = _link(sources | {"nd_build.c": hashed.encode()}, compiler, flags, board, "firmware.ld", name)
    return Firmware(elf, digest, board.name, compiler.label)


def _resident(target: str | Board) -> Board:
    board = as_board(target)
    if not board.resident:
        raise TargetError(
            f"'{board.name}' has no resident firmware.",
            hint="Use the generated C as a library there, or choose one of: "
            + ", ".join(n for n in hardware.names("board") if hardware.find(n, Board).resident) + ".",
        )  # fmt: skip
    return board


def _numbers(board: Board) -> dict[str, int]:
    memory, uart, timer = board.memory, board.uart, board.timer
    if not (memory and memory.slot and memory.io and uart and timer and board.target_id):
        raise TargetError("lacks memory, uart or timer.", place=board.name)
    regions = {"FLASH": memory.flash, "RAM": memory.ram, "SLOT": memory.slot, "IO": memory.io}
    return {
        "TARGET_ID": board.target_id,
        "UART_BASE": uart.base,
        "UART_CLOCK_HZ": uart.clock_hz,
        "UART_BAUD": uart.baud,
        "UART_RX_IRQ": uart.rx_irq,
        "TIMER_BASE": timer.base,
        "TIMER_HZ": timer.clock_hz,
        **{f"{name}_ORIGIN": region.origin for name, region in regions.items()},
        **{f"{name}_BYTES": region.size_bytes for name, region in regions.items()},
    }


def _board_header(board: Board) -> bytes:
    lines = [f"#define ND_{name} {value:#x}u" for name, value in _numbers(board).items()]
    head = "#ifndef ND_BOARD_H\n#define ND_BOARD_H\n\n#include <stdint.h>\n\n"
    return (head + "\n".join(lines) + "\n\nextern const uint8_t nd_build_hash[16];\n\n#endif\n").encode()


def _script(path: Path, board: Board) -> bytes:
    text = path.read_text()
    for name, value in _numbers(board).items():
        text = text.replace(f"@{name}@", f"{value:#x}")
    return text.encode()


def _link(
    sources: Files, tool: Toolchain, flags: Sequence[str], board: Board, script: str, name: str
) -> Path:  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="neurodeploy-") as scratch:
        folder = Path(scratch)
        objects = _objects(sources, tool, flags, folder, board.name)
        # zig compiles its runtime library once for every core (seconds): only if something asks for it.
        needs_runtime = any(symbol.startswith("__") for symbol in _measure(objects).undefined)
        machine = flags[:3] if tool.name == "zig" else board.core.gcc_flags
        runtime = ("-lgcc",) if tool.name == "gcc" else ()
        alone = () if tool.name == "zig" and needs_runtime else ("-nostdlib",)
        quiet = ("-Wl,--no-warn-rwx-segments",) if tool.name == "gcc" and _knows_rwx(tool) else ()
        command = (*tool.command, *machine, *alone, "-T", script, *LINK, *quiet, "-o", name)
        _run((*command, *(path.name for path in objects), *runtime), folder, board.name)
        return _keep(folder / name, name)


def _knows_rwx(tool: Toolchain) -> bool:
    """GNU ld warns of writable code since 2.39, which came with gcc 12.2's Arm builds."""
    return int(tool.version.split(".")[0]) >= 12


# ------------------------------------------------------------------------------------------------------ measuring


def _open_elf(path: Path) -> Any:
    elf = require("elftools.elf.elffile", "board", "reading machine code")
    try:
        return elf.ELFFile.load_from_path(str(path))
    except elf.ELFError as error:
        raise BuildError(f"is not an ELF file ({error}).", place=path.name) from error


def _kind(section: Any) -> str | None:
    """text, rodata, data or bss for a section that takes memory on the target."""
    flags = section["sh_flags"]
    if not flags & 2 or section.name.startswith((".ARM.exidx", ".eh_frame")) or section.name == IMAGE_HEAD:
        return None
    if section["sh_type"] == "SHT_NOBITS":
        return "bss"
    return "text" if flags & 4 else "data" if flags & 1 else "rodata"


def _measure(paths: Iterable[Path]) -> Sizes:
    totals: dict[str, int] = dict.fromkeys(("text", "rodata", "data", "bss"), 0)
    symbols: dict[str, tuple[str, int]] = {}
    defined: set[str] = set()
    wanted: set[str] = set()
    for path in paths:
        with _open_elf(path) as elf:
            kinds = {i: kind for i, s in enumerate(elf.iter_sections()) if (kind := _kind(s))}
            for i, kind in kinds.items():
                totals[kind] += elf.get_section(i)["sh_size"]
            table = elf.get_section_by_name(".symtab")
            for symbol in table.iter_symbols() if table else ():
                if symbol["st_shndx"] == "SHN_UNDEF":
                    wanted.add(symbol.name)
                    continue
                defined.add(symbol.name)
                if symbol["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT") and symbol["st_shndx"] in kinds:
                    symbols[symbol.name] = (kinds[symbol["st_shndx"]], symbol["st_size"])
    return Sizes(**totals, symbols=symbols, undefined=tuple(sorted(wanted - defined - {""})))


def _flatten(path: Path, board: Board) -> bytes:
    """The bytes that go into the slot, with length and CRC filled in."""
    origin = _numbers(board)["SLOT_ORIGIN"]
    with _open_elf(path) as elf:
        marks = elf.get_section_by_name(".symtab").get_symbol_by_name("nd_image_bss_start")
        data = bytearray(marks[0]["st_value"] - origin)
        for section in elf.iter_sections():
            if section["sh_flags"] & 2 and section["sh_type"] != "SHT_NOBITS":
                at = section["sh_addr"] - origin
                data[at : at + section["sh_size"]] = section.data()
    struct.pack_into("<I", data, IMAGE_LENGTH_AT, len(data))
    struct.pack_into("<I", data, IMAGE_CRC_AT, zlib.crc32(data[IMAGE_CRC_FROM:]))
    return bytes(data)
