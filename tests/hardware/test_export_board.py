"""Exports on an emulated Cortex-M4F: cross-compiled as their READMEs say, printing by semihosting what the golden model gives.

The program around them is newlib's with a start-up of these tests (``tests/stand_ins/board``); QEMU runs it.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends.c_export_model import own_core
from tests.export_tools import build, golden, printed, run, same, stand_in, tool, write

BOARD = "mps2-an386"
FLAGS = hardware.find(BOARD, hardware.Board).core.gcc_flags
pytestmark = pytest.mark.qemu


def on_board(objects: list[Path], elf: Path, linker: str = "arm-none-eabi-gcc") -> str:
    """Link with the start-up, run under QEMU, and return what is printed."""
    qemu = tool("qemu-system-arm")
    start = stand_in("board") / "start.c"
    link = ("--specs=rdimon.specs", "-Wl,--gc-sections", "-Wl,-u,vectors", "-Wl,--section-start=.vectors=0")
    run(tool(linker), *FLAGS, "-O2", "-x", "c", start, "-x", "none", *objects, *link, "-o", elf)
    machine = ("-M", BOARD, "-nographic", "-monitor", "none", "-serial", "none")
    return run(qemu, *machine, "-semihosting-config", "enable=on,target=native", "-kernel", elf)


def compiled(source: Path, made: Path, *flags: str, compiler: str = "arm-none-eabi-gcc") -> Path:
    run(tool(compiler), *FLAGS, "-O2", "-ffp-contract=off", "-ffunction-sections", *flags, "-c", source, "-o", made)
    return made


def cross(artifact: Artifact, folder: Path) -> tuple[Path, Path]:
    """The CMake project, and the library that its toolchain file gives."""
    tool("arm-none-eabi-gcc")
    cmake = tool("cmake")
    project = write(artifact, "cmake", folder)
    toolchain = project / f"toolchain-{BOARD}.cmake"
    run(cmake, "-S", project, "-B", project / "build", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")
    run(cmake, "--build", project / "build")
    return project, next((project / "build").glob("lib*.a"))


def symbols(elf: Path, pattern: str) -> list[str]:
    with elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return sorted(s.name for s in table.iter_symbols() if re.fullmatch(pattern, s.name))  # type: ignore[union-attr]


def test_two_cmake_exports_on_a_board_share_one_core(tmp_path):
    """Both libraries in one program: each gives the golden model's bits, and the kernels are there once."""
    families = ("gru_reset_after", "stacked_bidirectional")
    artifacts = [build(family, BOARD) for family in families]
    objects = []
    for i, artifact in enumerate(artifacts):
        project, library = cross(artifact, tmp_path / families[i])
        include = f"-I{project / 'src'}"
        objects += [compiled(project / "example/main.c", tmp_path / f"m{i}.o", f"-Dmain=main_{i}", include), library]
    both = tmp_path / "both.c"
    both.write_text(
        "int main_0(void);\nint main_1(void);\nint puts(const char *);\n"
        'int main(void)\n{\n    return main_0() || puts("--") < 0 || main_1();\n}\n'
    )
    parts = on_board([compiled(both, tmp_path / "both.o"), *objects], tmp_path / "both.elf").split("--\n")
    assert len(parts) == 2
    for part, artifact in zip(parts, artifacts):
        same(printed(part), golden(artifact))
    assert len(symbols(tmp_path / "both.elf", r"nd_affine_i8_i16_[0-9a-f]{8}")) == 1


def test_an_arduino_library_on_a_board(tmp_path):
    """C as Arduino's cores compile it, without a flag of ours; the sketch as C++ against a stand-in for Arduino.h."""
    artifact = build("lstm", BOARD)
    library = write(artifact, "arduino", tmp_path / "library")
    flags = ("-std=gnu11", "-Os", "-Wall", "-ffp-contract=fast")
    objects = [compiled(s, tmp_path / f"{s.stem}.o", *flags) for s in sorted((library / "src").glob("*.c"))]
    include = (f"-I{library / 'src'}", f"-I{stand_in('arduino')}", "-include", "Arduino.h", "-x", "c++")
    sketch = next(library.rglob("*.ino"))
    cpp = ("-std=gnu++11", "-fno-exceptions", "-fno-rtti", "-Wall", "-Werror")
    objects.append(compiled(sketch, tmp_path / "s.o", *cpp, *include, compiler="arm-none-eabi-g++"))
    main = tmp_path / "main.c"
    main.write_text("void start(void);\nint main(void)\n{\n    start();\n    return 0;\n}\n")
    glue = tmp_path / "glue.cpp"
    glue.write_text('void setup();\nvoid loop();\nextern "C" void start() { setup(), loop(); }\n')
    objects += [compiled(main, tmp_path / "main.o"), compiled(glue, tmp_path / "glue.o", compiler="arm-none-eabi-g++")]
    got = printed(on_board(objects, tmp_path / "sketch.elf"))
    rounded = {n: np.array([f"{x:.6f}" for x in a.tolist()], np.float32) for n, a in golden(artifact).items()}
    same(got, rounded)


def test_arduinos_flags_fuse_no_multiply_add(tmp_path):
    """GCC fuses by default on a core that can; the library's own pragma keeps it from that."""
    artifact = build("lstm", BOARD, "float")
    library = write(artifact, "arduino", tmp_path / "library")
    plain = write(artifact, "plain", tmp_path / "plain")
    fused = {}
    for name in ("nd_float", "lstm"):
        for kind, source in (("arduino", library / "src" / f"{name}.c"), ("plain", plain / f"{name}.c")):
            made = tmp_path / f"{kind}_{name}.o"
            run(tool("arm-none-eabi-gcc"), *FLAGS, "-std=gnu11", "-Os", "-c", source, "-o", made)
            fused[kind, name] = len(re.findall(r"\bvfn?m[as]\.", run(tool("arm-none-eabi-objdump"), "-d", made)))
    assert fused["arduino", "nd_float"] == fused["arduino", "lstm"] == 0
    assert fused["plain", "nd_float"] > 0  # else the test would show nothing


def test_weak_kernels_are_the_same_machine_code(tmp_path):
    """A core exported is the core that was measured, instruction for instruction."""
    artifact = build("gru_reset_after", BOARD)
    code = {}
    for kind, files in (("build", artifact.files), ("export", own_core(artifact.files))):
        folder = tmp_path / kind
        folder.mkdir()
        for name, data in files.items():
            if name.startswith("nd_"):
                (folder / name).write_bytes(data)
        compiled(folder / "nd_affine.c", folder / "nd_affine.o", "-std=c99")
        text = run(tool("arm-none-eabi-objdump"), "-d", folder / "nd_affine.o")
        code[kind] = re.sub(r"(nd_\w+?)_[0-9a-f]{8}\b", r"\1", text.split("\n", 3)[3])
    assert code["build"] == code["export"]
    assert code["build"].count("smlald") > 0


def test_a_build_for_another_machine_is_refused_by_the_compiler(tmp_path):
    folder = write(build("gru_reset_after", BOARD), "plain", tmp_path / "x")
    gcc = tool("arm-none-eabi-gcc")
    with pytest.raises(AssertionError, match="was compiled for mps2-an386, a core with the DSP extension"):
        run(gcc, "-mcpu=cortex-m3", "-mthumb", "-c", folder / "gru_reset_after.c", "-o", tmp_path / "a.o")
    run(gcc, "-mcpu=cortex-m7", "-mthumb", "-c", folder / "gru_reset_after.c", "-o", tmp_path / "a.o")
