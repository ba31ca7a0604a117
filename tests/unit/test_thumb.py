"""Thumb instructions by class, against encodings that an assembler gave; and what blocks of them make of it."""

from __future__ import annotations

import pytest

from neurodeploy.deploy import thumb
from neurodeploy.deploy.profile import LEAVES, Cost, costs

# (halfwords as GNU as 2.40 encodes them, assembly, class, words that it loads or stores)
KNOWN = [
    ("2001", "movs r0, #1", "alu", 0),
    ("1888", "adds r0, r1, r2", "alu", 0),
    ("4348", "muls r0, r1", "multiply", 0),
    ("448f", "add pc, r1", "branch", 0),
    ("468f", "mov pc, r1", "branch", 0),
    ("4688", "mov r8, r1", "alu", 0),
    ("4770", "bx lr", "branch", 0),
    ("4798", "blx r3", "call", 0),
    ("4802", "ldr r0, [pc, #8]", "load", 0),
    ("78c8", "ldrb r0, [r1, #3]", "load", 0),
    ("5e88", "ldrsh r0, [r1, r2]", "load", 0),
    ("f851 0022", "ldr.w r0, [r1, r2, lsl #2]", "load", 0),
    ("f831 0b02", "ldrh.w r0, [r1], #2", "load", 0),
    ("f8d1 f000", "ldr.w pc, [r1]", "load_pc", 0),
    ("6048", "str r0, [r1, #4]", "store", 0),
    ("5488", "strb r0, [r1, r2]", "store_indexed", 0),
    ("f821 0012", "strh.w r0, [r1, r2, lsl #1]", "store_indexed", 0),
    ("f841 0d04", "str.w r0, [r1, #-4]!", "store", 0),
    ("9001", "str r0, [sp, #4]", "store", 0),
    ("c80e", "ldmia r0!, {r1, r2, r3}", "load_multiple", 3),
    ("e8b0 0306", "ldmia.w r0!, {r1, r2, r8, r9}", "load_multiple", 4),
    ("c006", "stmia r0!, {r1, r2}", "store_multiple", 2),
    ("e9d2 0102", "ldrd r0, r1, [r2, #8]", "load_multiple", 2),
    ("e8e2 0102", "strd r0, r1, [r2], #8", "store_multiple", 2),
    ("b530", "push {r4, r5, lr}", "store_multiple", 3),
    ("e92d 4110", "stmdb sp!, {r4, r8, lr}", "store_multiple", 3),
    ("bc30", "pop {r4, r5}", "load_multiple", 2),
    ("bd30", "pop {r4, r5, pc}", "return_by_pop", 3),
    ("e8bd 8110", "ldmia.w sp!, {r4, r8, pc}", "return_by_pop", 3),
    ("e8df f000", "tbb [pc, r0]", "table_branch", 0),
    ("b110", "cbz r0, .+8", "branch_if", 0),
    ("d1fe", "bne.n .", "branch_if", 0),
    ("f47e affe", "bne.w .-0x1000", "branch_if", 0),
    ("e7fe", "b.n .", "branch", 0),
    ("f7fe bffe", "b.w .-0x1000", "branch", 0),
    ("f7ff ff7e", "bl .-0x100", "call", 0),
    ("bf06", "itte eq", "if_then", 0),
    ("bf00", "nop", "alu", 0),
    ("f3af 8000", "nop.w", "alu", 0),
    ("df00", "svc #0", "special", 0),
    ("f3ef 8000", "mrs r0, apsr", "special", 0),
    ("f240 40d2", "movw r0, #1234", "alu", 0),
    ("eb01 00c2", "add.w r0, r1, r2, lsl #3", "alu", 0),
    ("f321 100f", "ssat r0, #16, r1, asr #4", "alu", 0),
    ("f3c1 1007", "ubfx r0, r1, #4, #8", "alu", 0),
    ("fa2f f081", "sxtb16 r0, r1", "alu", 0),
    ("fa82 f081", "qadd r0, r1, r2", "alu", 0),
    ("eac1 4002", "pkhbt r0, r1, r2, lsl #16", "alu", 0),
    ("fb01 f002", "mul.w r0, r1, r2", "multiply", 0),
    ("fb51 f012", "smmulr r0, r1, r2", "multiply", 0),
    ("fb11 f002", "smulbb r0, r1, r2", "multiply", 0),
    ("fb01 3002", "mla r0, r1, r2, r3", "multiply_add", 0),
    ("fb01 3012", "mls r0, r1, r2, r3", "multiply_add", 0),
    ("fb21 3002", "smlad r0, r1, r2, r3", "multiply_add", 0),
    ("fb82 0103", "smull r0, r1, r2, r3", "multiply_long", 0),
    ("fba2 0103", "umull r0, r1, r2, r3", "multiply_long", 0),
    ("fbc2 0103", "smlal r0, r1, r2, r3", "multiply_long_add", 0),
    ("fbc2 01c3", "smlald r0, r1, r2, r3", "multiply_long_add", 0),
    ("fbe2 0163", "umaal r0, r1, r2, r3", "multiply_long_add", 0),
    ("fb91 f0f2", "sdiv r0, r1, r2", "divide", 0),
    ("fbb1 f0f2", "udiv r0, r1, r2", "divide", 0),
    ("e851 0f00", "ldrex r0, [r1]", "unknown", 0),
    ("ee30 0a81", "vadd.f32 s0, s1, s2", "float", 0),
    ("ee20 0a81", "vmul.f32 s0, s1, s2", "float", 0),
    ("eeb4 0a60", "vcmp.f32 s0, s1", "float", 0),
    ("eef1 fa10", "vmrs apsr_nzcv, fpscr", "float", 0),
    ("ee00 1a10", "vmov s0, r1", "float", 0),
    ("ec51 0a10", "vmov r0, r1, s0, s1", "float_move_pair", 0),
    ("ee00 0a81", "vmla.f32 s0, s1, s2", "float_multiply_add", 0),
    ("eea0 0a81", "vfma.f32 s0, s1, s2", "float_multiply_add", 0),
    ("ee90 0a81", "vfnms.f32 s0, s1, s2", "float_multiply_add", 0),
    ("ee80 0a81", "vdiv.f32 s0, s1, s2", "float_divide", 0),
    ("eeb1 0ae0", "vsqrt.f32 s0, s1", "float_divide", 0),
    ("ed90 0a01", "vldr s0, [r0, #4]", "float_load", 1),
    ("ed10 0b02", "vldr d0, [r0, #-8]", "float_load", 2),
    ("edc0 0a00", "vstr s1, [r0]", "float_store", 1),
    ("ecb0 0a04", "vldmia r0!, {s0-s3}", "float_load", 4),
    ("ed2d 8b04", "vpush {d8, d9}", "float_store", 4),
]


def test_every_class_has_an_example() -> None:
    kinds = {kind for _, _, kind, _ in KNOWN}
    made_where_executed = {"branch_taken", "branch_not_taken", "load_after_load"}
    assert kinds - {"branch", "branch_if"} == set(thumb.CLASSES) - made_where_executed


@pytest.mark.parametrize(("halfwords", "text", "kind", "registers"), KNOWN, ids=[row[1] for row in KNOWN])
def test_an_instruction_has_its_class(halfwords: str, text: str, kind: str, registers: int) -> None:
    code = b"".join(int(word, 16).to_bytes(2, "little") for word in halfwords.split())
    (found,) = thumb.instructions(code)
    assert (found.kind, found.registers, found.size_bytes) == (kind, registers, len(code))


@pytest.mark.parametrize(("code", "count"), [(0xBF08, 1), (0xBF04, 2), (0xBF06, 3), (0xBF01, 4), (0xBF0C, 2)])
def test_how_far_an_it_reaches(code: int, count: int) -> None:
    """IT EQ, ITT EQ, ITTE EQ, ITTTT EQ, ITE EQ."""
    assert thumb.decode(code, 2).kind == "if_then"
    assert thumb.skippable(code) == count


def block(*codes: int) -> list[Cost]:
    return list(costs(thumb.instructions(b"".join(code.to_bytes(2, "little") for code in codes))))


def test_a_load_after_a_load() -> None:
    ldr, movs, ldm = 0x6800, 0x2000, 0xC806
    assert [cost.kind for cost in block(ldr, ldr, ldr, movs, ldr, ldm, ldr)] == [
        "load", "load_after_load", "load_after_load", "alu", "load", "load_multiple", "load",
    ]  # fmt: skip


def test_what_an_it_may_pass_over() -> None:
    itt_eq, moveq, bx_lr = 0xBF04, 0x4608, 0x4770
    assert block(0x2000, itt_eq, moveq, bx_lr) == [
        Cost("alu"), Cost("if_then"), Cost("alu", skippable=True), Cost("branch", skippable=True),
    ]  # fmt: skip


def test_only_what_leaves_ends_a_block() -> None:
    """What profile resolves by the block that came after is what the tables call a branch, call, return or load_pc."""
    assert set(LEAVES) == {"branch", "branch_if", "call", "return_by_pop", "load_pc", "table_branch"}
