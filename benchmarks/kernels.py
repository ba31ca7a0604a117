"""Instructions per multiply-accumulate of every family of kernels, counted in unicorn, with the call and the rescaling.

Random int8 weights and int16 inputs (a count does not depend on them unless a result saturates), results compared with
NumPy. ``plain`` are the kernels of firmware/core on the same core.

    python benchmarks/kernels.py [--target mps2-an385 ...] [--to i16|i8|i32] [--weights i8|i16] [--opt=-O2] [--no-asm]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy import hardware
from neurodeploy.backends import c_build
from neurodeploy.backends.c_emit_constants import numbers
from neurodeploy.backends.c_layouts import PLAIN, Layout, layout_of
from neurodeploy.backends.c_toolchain import compile_flags, toolchain, toolchains
from neurodeploy.cli.output import table
from neurodeploy.errors import BuildError, TargetError, require
from neurodeploy.hardware import Board

ROWS, COLUMNS = (31, 32, 64, 96), (8, 32, 40, 64, 128)
C_TYPES = {"i8": "int8_t", "i16": "int16_t", "i32": "int32_t"}
CODE, STACK_TOP, MEMORY_BYTES = 0x10000, 0x3F0000, 0x400000
BACK = 0x3F8000  # where a called function returns to
SPARE = 8  # elements behind an operand
PLAIN_FILES = ("nd_affine", "nd_math", "nd_fixed")
#: Registers that a function leaves as they were (Arm AAPCS32 6.1.1; RISC-V calling convention, integer registers).
KEPT = {"arm": [f"R{i}" for i in range(4, 12)], "rv": [f"S{i}" for i in range(12)]}
SCRIPT = f"""
SECTIONS
{{
    . = {CODE:#x};
    .text : {{ KEEP(*(.text .text.*)) }}
    .rodata : {{ KEEP(*(.rodata .rodata.* .srodata .srodata.*)) }}
    .data : {{ KEEP(*(.data .data.* .sdata .sdata.*)) }}
    .bss : {{ KEEP(*(.bss .bss.* .sbss .sbss.* COMMON)) }}
}}
"""


class Machine:
    """C functions as a board's core runs them: linked, loaded into unicorn, called one by one.

    Raises :class:`TargetError` for a core that unicorn does not have.
    """

    def __init__(
        self, board: Board, files: dict[str, bytes], tool: str | None = None, flags: Sequence[str] = ()
    ) -> None:
        self._c = require("unicorn", "board", "the emulator 'unicorn'")
        self._uc, self._is_arm = self._core(board), board.core.isa.startswith("arm")
        self._lengths: dict[tuple[int, int], int] = {}
        self._count = 0
        self._uc.mem_map(0, MEMORY_BYTES)
        self._uc.hook_add(self._c.UC_HOOK_BLOCK, self._on_block)
        self._symbols = self._load(_linked(board, files, tool, flags))

    def _core(self, board: Board) -> Any:
        c = self._c
        if board.core.isa == "rv32":
            return c.Uc(c.UC_ARCH_RISCV, c.UC_MODE_RISCV32)
        model = getattr(c.arm_const, f"UC_CPU_ARM_{board.core.cpu.upper().replace('-', '_')}", None)
        if model is None:
            raise TargetError(f"unicorn has no core '{board.core.cpu}'.", place=board.name)
        uc = c.Uc(c.UC_ARCH_ARM, c.UC_MODE_THUMB | c.UC_MODE_MCLASS)
        uc.ctl_set_cpu_model(model)
        return uc

    def _load(self, path: Path) -> dict[str, int]:
        elf = require("elftools.elf.elffile", "board", "reading machine code")
        with elf.ELFFile.load_from_path(str(path)) as read:
            for segment in read.iter_segments("PT_LOAD"):
                if segment["p_filesz"]:
                    self._uc.mem_write(segment["p_paddr"], segment.data())
            return {s.name: s["st_value"] for s in read.get_section_by_name(".symtab").iter_symbols()}

    def _on_block(self, uc: Any, address: int, size: int, _: Any) -> None:
        if address >= BACK:
            return
        key = (address, size)
        if key not in self._lengths:
            code, at, count = bytes(uc.mem_read(address, size)), 0, 0
            while at < size:
                wide = code[at + 1] >= 0xE8 if self._is_arm else code[at] & 3 == 3
                at += 4 if wide else 2
                count += 1
            self._lengths[key] = count
        self._count += self._lengths[key]

    def call(self, name: str, *arguments: int) -> int:
        """Instructions from the first of the function to its return; ``arguments`` are at most four words.

        Raises :class:`BuildError` if the function doesn't leave the registers that belong to its caller.
        """
        sp, back = (self._register(r) for r in (("SP", "LR") if self._is_arm else ("SP", "RA")))
        given = [self._register(f"{'R' if self._is_arm else 'A'}{i}") for i in range(len(arguments))]
        kept = [self._register(r) for r in KEPT["arm" if self._is_arm else "rv"]]
        before = {sp: STACK_TOP, **{register: 0x5A000000 + i for i, register in enumerate(kept)}}
        for register, value in [*before.items(), (back, BACK | self._is_arm), *zip(given, arguments, strict=True)]:
            self._uc.reg_write(register, value & 0xFFFFFFFF)
        self._count = 0
        self._uc.emu_start(self._symbols[name] | self._is_arm, BACK)
        if any(self._uc.reg_read(register) != value for register, value in before.items()):
            raise BuildError(f"{name} does not restore its caller's registers.")
        return self._count

    def _register(self, name: str) -> int:
        prefix = "UC_ARM_REG" if self._is_arm else "UC_RISCV_REG"
        return getattr(self._c.arm_const if self._is_arm else self._c.riscv_const, f"{prefix}_{name}")

    def write(self, name: str, data: np.ndarray) -> None:
        """To the object of that name."""
        self._uc.mem_write(self._symbols[name], data.tobytes())

    def read(self, name: str, dtype: Any, count: int) -> np.ndarray:
        """From the object of that name."""
        size = count * np.dtype(dtype).itemsize
        return np.frombuffer(bytes(self._uc.mem_read(self._symbols[name], size)), dtype)


def _linked(board: Board, files: dict[str, bytes], tool: str | None, flags: Sequence[str]) -> Path:
    """An ELF file at :data:`CODE` with all functions, in the user's cache."""
    compiler, firmware = toolchain(board, tool), hardware.data_folder("firmware") / "ports"
    sources = c_build.with_core(files, board) | {"nd_mem.c": (firmware / "nd_mem.c").read_bytes()}
    sources |= {"string.h": (firmware / "include" / "string.h").read_bytes(), "flat.ld": SCRIPT.encode()}
    with tempfile.TemporaryDirectory(prefix="neurodeploy-") as scratch:
        for name, data in sources.items():
            (Path(scratch) / name).write_bytes(data)
        used = (*compile_flags(compiler, board, "-O2"), *flags, "-I.", "-T", "flat.ld", "-Wl,-e,0", "-nostartfiles")
        code = sorted(name for name in sources if name.endswith(".c"))
        kept = c_build.cache_folder() / f"{c_build._digest(sorted(sources.items()), used, compiler.label)}.elf"
        for alone in (("-nostdlib",), ()):  # zig makes its runtime library in seconds: only for what needs it
            if kept.exists():
                break
            library = ("-lgcc",) if compiler.name == "gcc" else ()
            command = (*compiler.command, *used, *alone, *code, "-o", "linked.elf", *library)
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=600)
            if done.returncode == 0:
                c_build._keep(Path(scratch) / "linked.elf", kept.name)
            elif not alone:
                raise BuildError(done.stderr.strip().splitlines()[0], place=f"{board.name}, {compiler.label}")
    return kept


@dataclass(frozen=True)
class Product:
    """One product with its constants; ``to`` is the type of its result, ``pre`` as in ``nd_affine.h``."""

    weights: np.ndarray
    bias: np.ndarray
    mult: np.ndarray
    pre: int = 0
    to: str = "i16"

    @property
    def kind(self) -> str:
        return "i8" if self.weights.dtype == np.int8 else "i16"

    def sums(self, x: np.ndarray) -> np.ndarray:
        """W x + bias, as wide as it is."""
        return self.weights.astype(np.int64) @ x.astype(np.int64) + self.bias

    def result(self, x: np.ndarray) -> np.ndarray:
        """y for an input, where every sum fits 32 bits after ``pre`` too."""
        if self.to == "i32":
            return self.sums(x)
        top = 127 if self.to == "i8" else 32767
        return np.clip(((self.sums(x) << self.pre) * self.mult + (1 << 31)) >> 32, -top - 1, top)


def padded(product: Product, layout: Layout) -> Product:
    """With zeros up to the columns that a layout wants."""
    more = -product.weights.shape[1] % layout.columns
    return replace(product, weights=np.pad(product.weights, ((0, 0), (0, more))))


def source(products: Sequence[Product], layout: Layout) -> bytes:
    """C with operands ``x`` and ``y`` and one function ``run_<number>(void)`` for each product."""
    size = max(max(p.weights.shape) for p in products) + SPARE
    text = ['#include "nd_affine.h"', f"int16_t x[{size}] __attribute__((aligned(8)));", f"int32_t y[{size}];"]
    for i, product in enumerate(padded(p, layout) for p in products):
        rows, columns = product.weights.shape
        kind, mult = product.kind, None if product.to == "i32" else product.mult
        if layout.stream is not None and kind == "i8":
            arrays = {"w": (layout.stream(product.weights, product.bias, mult).reshape(-1), "i32")}
        else:
            arrays = {"w": (product.weights.reshape(-1), kind), "b": (product.bias, "i32"), "m": (product.mult, "i32")}
        for name, (data, dtype) in arrays.items():
            head = f"static const {C_TYPES[dtype]} {name}_{i}[] __attribute__((aligned(4)))"
            text.append(f"{head} = {{\n{numbers(data, dtype)}\n}};")
        names = [f"{name}_{i}" if name in arrays else "0" for name in "wbm"]
        text.append(f"static const nd_affine_t a_{i} = {{{', '.join(names)}, {rows}, {columns}, {product.pre}}};")
        how = "_shifted" if (kind, product.to) == ("i8", "i16") and product.pre else ""
        call = f"nd_affine_{kind}_{product.to}{how}(&a_{i}, x, ({C_TYPES[product.to]} *)y)"
        text.append(f"void run_{i}(void);\nvoid run_{i}(void) {{ {call}; }}")
    return "\n".join(text).encode() + b"\n"


def run(machine: Machine, number: int, product: Product, x: np.ndarray) -> tuple[int, np.ndarray]:
    """Instructions and y of a product on a machine made of :func:`source`; raises if more than y is written."""
    rows, columns = product.weights.shape
    filled = np.zeros(columns + SPARE, np.int16)
    filled[:columns] = x
    machine.write("x", filled)
    guard = np.full(rows + SPARE // 2, 0x5A, f"<{product.to[0]}{int(product.to[1:]) // 8}")
    machine.write("y", guard)
    instructions = machine.call(f"run_{number}")
    y = machine.read("y", guard.dtype, len(guard))
    if (y[rows:] != 0x5A).any():
        raise AssertionError(f"product {number} writes behind its result")
    return instructions, y[:rows]


def random_product(rows: int, columns: int, dtype: str, to: str, seed: int) -> Product:
    """Weights of all sizes whose results don't saturate."""
    rng = np.random.default_rng(seed)
    top = 127 if dtype == "i8" else 30000 // columns
    weights = rng.integers(-top, top + 1, (rows, columns)).astype(np.int8 if dtype == "i8" else np.int16)
    bias = rng.integers(-(1 << 20), 1 << 20, rows).astype(np.int32)
    return Product(weights, bias, rng.integers(1 << 9, 1 << 12, rows).astype(np.int32), to=to)


def machines(board: Board, tool: str, products: Sequence[Product], flags: Sequence[str] = ()) -> dict[str, Machine]:
    """A machine with the products for the kernels of a board's family, and one for the plain kernels on its core."""
    core = hardware.data_folder("firmware") / "core"
    plain = {path.name: path.read_bytes() for path in core.glob("nd_*.[ch]") if path.stem in PLAIN_FILES}
    own = layout_of(board)
    made = {own.name: Machine(board, {"products.c": source(products, own)}, tool, flags)}
    if own is not PLAIN:
        made["plain"] = Machine(board, {"products.c": source(products, PLAIN), **plain}, tool, flags)
    return made


def counts(
    board: Board,
    tool: str,
    shapes: Sequence[tuple[int, int]],
    weights: str = "i8",
    to: str = "i16",
    flags: Sequence[str] = (),
) -> dict[tuple[str, int, int], float]:
    """(family, rows, columns) -> instructions per multiply-accumulate."""
    products = [random_product(*shape, weights, to, i) for i, shape in enumerate(shapes)]
    found = {}
    for family, machine in machines(board, tool, products, flags).items():
        for i, (product, (rows, columns)) in enumerate(zip(products, shapes, strict=True)):
            x = np.random.default_rng(i).integers(-32768, 32768, columns).astype(np.int16)
            instructions, y = run(machine, i, product, x)
            np.testing.assert_array_equal(y, product.result(x))
            found[family, rows, columns] = instructions / (rows * columns)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", help="boards; by default one for every core that unicorn has")
    parser.add_argument("--to", choices=("i8", "i16", "i32"), default="i16")
    parser.add_argument("--weights", choices=("i8", "i16"), default="i8")
    parser.add_argument("--no-asm", action="store_true", help="the kernels' C twins")
    args = parser.parse_args()
    boards = {b.core.cpu: b for b in (hardware.find(n, Board) for n in hardware.names("board")) if b.core.isa != "host"}
    chosen = [hardware.find(name, Board) for name in args.target] if args.target else list(boards.values())
    shapes = [(rows, columns) for rows in ROWS for columns in COLUMNS]
    flags = ["-DND_NO_ASM"] if args.no_asm else []
    for board in chosen:
        try:
            made = {tool: counts(board, tool, shapes, args.weights, args.to, flags) for tool in toolchains(board)}
        except TargetError as error:
            print(error)
            continue
        keys = [(tool, family) for tool, found in made.items() for family in dict.fromkeys(k[0] for k in found)]
        rows = [(r, c, *(f"{made[tool][family, r, c]:.2f}" for tool, family in keys)) for r in ROWS for c in COLUMNS]
        columns = ("rows", "columns", *(f"{toolchain(board, tool).label}, {family}" for tool, family in keys))
        table(
            f"{board.core.cpu}: {args.weights} weights to {args.to}, instructions per MAC", columns, rows, right=columns
        )


if __name__ == "__main__":
    main()
