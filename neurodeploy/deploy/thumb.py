"""Thumb machine code, sorted by what its instructions cost: one class for each row of Arm's tables of cycles.

Encodings are those of the Armv7-M Architecture Reference Manual (Arm DDI 0403E.e), chapter A5, and A6.4 for the
floating-point ones. An instruction of none of these classes is ``unknown``; it is counted, and costs are then unknown.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

#: Every class. A ``branch`` becomes ``branch_taken`` or ``branch_not_taken`` where it was executed.
CLASSES = (
    "alu", "multiply", "multiply_add", "multiply_long", "multiply_long_add", "divide",
    "load", "load_after_load", "store", "store_indexed", "load_multiple", "store_multiple",
    "branch_taken", "branch_not_taken", "call", "return_by_pop", "load_pc", "table_branch", "if_then", "special",
    "float", "float_multiply_add", "float_divide", "float_move_pair", "float_load", "float_store", "unknown",
)  # fmt: skip

#: Encoding (x: any bit) -> class; the first row that fits holds. ``branch_if``: a branch that may fall through.
_NARROW = """
00xxxxxxxxxxxxxx alu
0100001101xxxxxx multiply
010000xxxxxxxxxx alu
010001001xxxx111 branch
010001101xxxx111 branch
010001110xxxxxxx branch
010001111xxxxxxx call
010001xxxxxxxxxx alu
01001xxxxxxxxxxx load
0101000xxxxxxxxx store_indexed
0101001xxxxxxxxx store_indexed
0101010xxxxxxxxx store_indexed
0101xxxxxxxxxxxx load
01100xxxxxxxxxxx store
01101xxxxxxxxxxx load
01110xxxxxxxxxxx store
01111xxxxxxxxxxx load
10000xxxxxxxxxxx store
10001xxxxxxxxxxx load
10010xxxxxxxxxxx store
10011xxxxxxxxxxx load
1010xxxxxxxxxxxx alu
10110000xxxxxxxx alu
1011x0x1xxxxxxxx branch_if
10110010xxxxxxxx alu
1011010xxxxxxxxx store_multiple
10111010xxxxxxxx alu
10111100xxxxxxxx load_multiple
10111101xxxxxxxx return_by_pop
1011111100000000 alu
10111111xxxx0000 special
10111111xxxxxxxx if_then
1011xxxxxxxxxxxx special
11000xxxxxxxxxxx store_multiple
11001xxxxxxxxxxx load_multiple
1101111xxxxxxxxx special
1101xxxxxxxxxxxx branch_if
11100xxxxxxxxxxx branch
"""
_WIDE = """
1110100xx0x1xxxx1xxxxxxxxxxxxxxx return_by_pop
1110100xx0x1xxxxxxxxxxxxxxxxxxxx load_multiple
1110100xx0x0xxxxxxxxxxxxxxxxxxxx store_multiple
111010001101xxxx11110000000xxxxx table_branch
11101000x10xxxxxxxxxxxxxxxxxxxxx unknown
1110100xx1x1xxxxxxxxxxxxxxxxxxxx load_multiple
1110100xx1x0xxxxxxxxxxxxxxxxxxxx store_multiple
1110101xxxxxxxxxxxxxxxxxxxxxxxxx alu
11101100010xxxxxxxxx101xxxxxxxxx float_move_pair
1110110xxxx1xxxxxxxx101xxxxxxxxx float_load
1110110xxxx0xxxxxxxx101xxxxxxxxx float_store
111011100x0xxxxxxxxx101xxxx0xxxx float_multiply_add
111011101x01xxxxxxxx101xxxx0xxxx float_multiply_add
111011101x10xxxxxxxx101xxxx0xxxx float_multiply_add
111011101x00xxxxxxxx101xxxx0xxxx float_divide
111011101x110001xxxx101x11x0xxxx float_divide
11101110xxxxxxxxxxxx101xxxxxxxxx float
111100111010111110000000xxxxxxxx alu
111100111xxxxxxx10x0xxxxxxxxxxxx special
11110xxxxxxxxxxx0xxxxxxxxxxxxxxx alu
11110xxxxxxxxxxx10x0xxxxxxxxxxxx branch_if
11110xxxxxxxxxxx10x1xxxxxxxxxxxx branch
11110xxxxxxxxxxx11x1xxxxxxxxxxxx call
111110000xx0xxxxxxxx000000xxxxxx store_indexed
11111000xxx0xxxxxxxxxxxxxxxxxxxx store
11111000x101xxxx1111xxxxxxxxxxxx load_pc
1111100xxxx1xxxxxxxxxxxxxxxxxxxx load
11111010xxxxxxxxxxxxxxxxxxxxxxxx alu
111110110xxxxxxx1111xxxxxxxxxxxx multiply
111110110xxxxxxxxxxxxxxxxxxxxxxx multiply_add
1111101110x1xxxxxxxxxxxx1111xxxx divide
1111101110x0xxxxxxxxxxxxxxxxxxxx multiply_long
111110111xxxxxxxxxxxxxxxxxxxxxxx multiply_long_add
"""


def _rows(text: str) -> tuple[tuple[int, int, str], ...]:
    rows = (line.split() for line in text.split("\n") if line)
    return tuple(
        (int("".join("01"[bit != "x"] for bit in bits), 2), int(bits.replace("x", "0"), 2), name) for bits, name in rows
    )


_TABLES = {2: _rows(_NARROW), 4: _rows(_WIDE)}


@dataclass(frozen=True)
class Instruction:
    """``kind``: its class, or ``branch`` or ``branch_if``; ``registers``: words that a load or store moves, else 0."""

    kind: str
    registers: int
    size_bytes: int
    code: int


@functools.lru_cache(maxsize=1 << 14)
def decode(code: int, size_bytes: int) -> Instruction:
    """One instruction: 16 bits, or 32 with the first halfword on top."""
    kind = next((name for mask, value, name in _TABLES[size_bytes] if code & mask == value), "unknown")
    return Instruction(kind, _registers(kind, code, size_bytes), size_bytes, code)


def _registers(kind: str, code: int, size_bytes: int) -> int:
    if kind in ("float_load", "float_store"):
        single = code >> 24 == 0xED and not code >> 21 & 1  # VLDR and VSTR, of one word or two
        return 1 + (code >> 8 & 1) if single else code & 0xFF
    if kind not in ("load_multiple", "store_multiple", "return_by_pop"):
        return 0
    if size_bytes == 4:
        return 2 if code >> 22 & 1 else (code & 0xFFFF).bit_count()  # LDRD and STRD, or a list
    # PUSH and POP have LR or PC as a ninth register.
    return (code & (0x1FF if code >> 12 == 0xB else 0xFF)).bit_count()


def instructions(code: bytes) -> list[Instruction]:
    """A run of machine code. An instruction whose first five bits are 11101, 11110 or 11111 has 32 bits (A5.1)."""
    found, at = [], 0
    while at < len(code):
        first = int.from_bytes(code[at : at + 2], "little")
        if first >= 0xE800:
            found.append(decode(first << 16 | int.from_bytes(code[at + 2 : at + 4], "little"), 4))
        else:
            found.append(decode(first, 2))
        at += found[-1].size_bytes
    return found


def skippable(code: int) -> int:
    """How many instructions after an IT depend on its condition."""
    mask = code & 0xF
    return 4 - ((mask & -mask).bit_length() - 1)
