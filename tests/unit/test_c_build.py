"""Compilers found and missing, errors in their own words, the cache, kernels that stand in, sizes."""

import ctypes
import shutil
import struct
import subprocess
import zlib

import pytest

from neurodeploy import hardware
from neurodeploy.backends import c_build, c_toolchain
from neurodeploy.errors import BuildError, MissingExtraError, TargetError, UsageError
from tests.hardware import tiny_model as tiny

ADD = {
    "add.c": b"#include <string.h>\nint add(int a, int b);\nint add(int a, int b) { int c; memcpy(&c, &a, sizeof c); return c + b; }\n"
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "zig"))
    return tmp_path / "cache" / "neurodeploy" / "build"


def forbid_compilers(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a compiler ran: {args[0]}")

    monkeypatch.setattr(c_build, "_run", refuse)


@pytest.mark.parametrize("tool", c_build.toolchains("host"))
def test_a_shared_library_is_built_once(cache, monkeypatch, tool):
    path = c_build.compile_shared(ADD, tool)
    assert path.parent == cache
    assert ctypes.CDLL(str(path)).add(2, 40) == 42
    assert [p.name for p in cache.iterdir()] == [path.name]  # nothing half-written stays
    forbid_compilers(monkeypatch)
    assert c_build.compile_shared(ADD, tool) == path
    with pytest.raises(AssertionError, match="a compiler ran"):
        c_build.compile_shared(ADD, tool, flags=("-DOTHER",))


def test_zig_alone_is_enough(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert c_build.toolchains("host") == ["zig"]
    assert c_build.toolchains("mps2-an386") == ["zig"]
    assert c_build.toolchain("mps2-an386").label.startswith("zig 0.")
    with pytest.raises(
        MissingExtraError, match=r"'gcc' for 'mps2-an386' isn't installed\. .*apt install gcc-arm-none-eabi"
    ):
        c_build.toolchain("mps2-an386", "gcc")
    with pytest.raises(MissingExtraError, match="Install clang, or use --toolchain zig"):
        c_build.toolchain("host", "clang")
    monkeypatch.setattr(c_toolchain, "_zig", lambda: None)
    with pytest.raises(MissingExtraError, match="pip install ziglang"):
        c_build.toolchain("host")
    with pytest.raises(UsageError, match="no toolchain 'gc' for 'host'. Did you mean 'gcc'"):
        c_build.toolchain("host", "gc")


@pytest.mark.parametrize("tool", c_build.toolchains("host"))
@pytest.mark.parametrize(
    "source", [b"int f(int x) { return y; }", b"static int unused;", b"int f(void) { int x; return x; }"]
)
def test_errors_and_warnings_stop_the_build(cache, tool, source):
    with pytest.raises(BuildError, match=r"model, (gcc|clang|zig): bad\.c:1:\d+: error: "):
        c_build.compile_shared({"bad.c": source}, tool, opt="-O2")
    assert not cache.exists() or not list(cache.iterdir())


def test_a_compiler_that_dies_is_a_build_error(monkeypatch):
    def gone(*args, **kwargs):
        raise subprocess.TimeoutExpired("zig", 600)

    monkeypatch.setattr(c_build.subprocess, "run", gone)
    with pytest.raises(BuildError, match="doesn't run"):
        c_build.section_sizes({"odd-one-out.c": b"int a;\n"}, "mps2-an386", "zig")


def test_kernels_stand_in_for_the_core(tmp_path, monkeypatch):
    boards = {name: hardware.find(name, hardware.Board) for name in ("mps2-an385", "mps2-an386", "mps2-an505")}
    for folder, answer in (("core", 1), ("kernels/armv7em", 2)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "nd_which.c").write_text(
            f'#include "nd_which.h"\nconst char nd_which[{answer}] = {{0}};\n'
        )
    (tmp_path / "core" / "nd_which.h").write_text("extern const char nd_which[];\n")
    (tmp_path / "core" / "nd_unused.c").write_text("this is no C\n")
    monkeypatch.setattr(hardware, "data_folder", lambda name: tmp_path)
    (tmp_path / "ports" / "include").mkdir(parents=True)
    (tmp_path / "ports" / "include" / "string.h").write_text("\n")
    files = {"m.c": b'#include "nd_which.h"\nint m(void);\nint m(void) { return nd_which[0]; }\n'}
    sizes = {name: c_build.section_sizes(files, board, "zig").symbols["nd_which"] for name, board in boards.items()}
    assert sizes == {"mps2-an385": ("rodata", 1), "mps2-an386": ("rodata", 2), "mps2-an505": ("rodata", 2)}
    # What the caller brings wins over both.
    own = files | {"nd_which.c": b'#include "nd_which.h"\nconst char nd_which[3] = {0};\n'}
    assert c_build.section_sizes(own, boards["mps2-an386"], "zig").symbols["nd_which"] == ("rodata", 3)


@pytest.mark.parametrize("tool", c_build.toolchains("mps2-an386"))
def test_sizes_by_section_and_symbol(tool):
    source = b"""
    #include <stdint.h>
    const int16_t table[50] = {1};
    int32_t counter = 7;
    int32_t cleared[20];
    int64_t divide(int64_t a, int64_t b);
    int64_t divide(int64_t a, int64_t b) { return a / b; }
    """
    sizes = c_build.section_sizes({"s.c": source}, "mps2-an386", tool)
    assert (sizes.rodata, sizes.data, sizes.bss) == (100, 4, 80)
    assert sizes.symbols["table"] == ("rodata", 100) and sizes.symbols["cleared"] == ("bss", 80)
    assert sizes.text >= sizes.symbols["divide"][1] > 0
    assert sizes.undefined == ("__aeabi_ldivmod",)  # what it needs besides, and isn't counted


@pytest.mark.parametrize("tool", c_build.toolchains("mps2-an386"))
def test_an_image_describes_itself(tool):
    image = c_build.build_image(tiny.FILES, "mps2-an386", tool)
    magic, abi, length, crc, stages = struct.unpack_from("<4sIIII", image.data)
    assert (magic, abi, length, stages) == (b"NIMG", 1, len(image.data), 5)
    assert crc == image.crc32 == zlib.crc32(image.data[16:])
    assert image.data[20:36] == tiny.MODEL_HASH
    assert image.sizes.bss == 32 and image.sizes.data == 4 + 4  # aligned to 8
    assert image.sizes.undefined == ()
    assert image.toolchain.startswith(tool)


def test_a_model_too_big_for_the_slot():
    files = tiny.FILES | {"big.c": b"extern char big[];\nchar big[3000000] = {1};\n"}
    files["tiny.c"] = files["tiny.c"] + b"\nextern char big[];\nvoid *keep(void);\nvoid *keep(void) { return big; }\n"
    files["tiny.c"] = files["tiny.c"].replace(
        b"s->steps = cleared[0];", b"extern char big[]; s->steps = cleared[0] + (uint32_t)big[1];"
    )
    for tool in c_build.toolchains("mps2-an386"):
        with pytest.raises(
            TargetError, match=r"mps2-an386: the model is too big by \d+ B or more; there are 2097152 B"
        ):
            c_build.build_image(files, "mps2-an386", tool)


def test_what_has_no_slot_takes_no_image():
    with pytest.raises(TargetError, match="'host' has no resident firmware"):
        c_build.build_image(tiny.FILES, "host")
    with pytest.raises(UsageError, match="has 9 stages; needed: 1 to 8"):
        c_build.image_table(["s"] * 9, ["s.h"], bytes(16))
    with pytest.raises(UsageError, match="has 3 bytes; needed: 16"):
        c_build.image_table(["s"], ["s.h"], bytes(3))


def test_firmware_is_known_by_its_hash():
    hashes = {}
    for name in ("mps2-an385", "mps2-an386"):
        for tool in c_build.toolchains(name):
            firmware = c_build.build_firmware(name, tool)
            assert firmware.build_hash in firmware.elf
            assert c_build.build_firmware(name, tool) == firmware
            hashes[name, tool] = firmware.build_hash
    hashes["opt"] = c_build.build_firmware("mps2-an386", "zig", opt="-Os").build_hash
    assert len(set(hashes.values())) == len(hashes)


def test_without_a_home_builds_are_kept_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nope")
    assert c_build.cache_folder().is_dir()
    assert "/proc" not in str(c_build.cache_folder())
