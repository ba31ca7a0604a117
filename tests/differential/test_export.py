"""Exports built on this machine: what their examples print is the golden model's, bit for bit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from neurodeploy import hardware
from neurodeploy.backends import c_export
from neurodeploy.backends.c_export_model import own_core
from tests.export_tools import build, golden, printed, run, same, stand_in, tool, write
from tests.families import CASES

STRICT = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
FIRMWARE = hardware.data_folder("firmware")
INTEGER = [name for name, case in CASES.items() if case.integer]
#: Two models with a core in common; the board's one has other kernels than the host's.
PAIR = (("gru_reset_after", "host"), ("stacked_bidirectional", "host"))
MIXED = (("gru_reset_after", "host"), ("stacked_bidirectional", "mps2-an386"))
BOTH = "int main_0(void);\nint main_1(void);\nint puts(const char *);\n" \
    "int main(void)\n{\n    return main_0() || puts(\"--\") < 0 || main_1();\n}\n"  # fmt: skip


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.c") if "samples" not in path.parts and "example" not in path.parts)


def compiler() -> str:
    return tool("gcc", "cc", "clang")


def cmake_build(folder: Path, into: Path, *options: str) -> Path:
    cmake = tool("cmake")
    run(cmake, "-S", folder, "-B", into, f"-DCMAKE_C_COMPILER={compiler()}", *options)
    run(cmake, "--build", into)
    return into


def check_pair(output: str, pair: tuple) -> None:
    parts = output.split("--\n")
    assert len(parts) == 2
    for part, (family, target) in zip(parts, pair):
        same(printed(part), golden(build(family, target)))


def test_there_are_families_to_export():
    assert len(INTEGER) >= 29


@pytest.mark.parametrize("kernels", [None, *sorted(path.name for path in (FIRMWARE / "kernels").iterdir())])
def test_whatever_the_core_defines_has_a_name_of_its_own(kernels, tmp_path):
    """All that its objects let others see is weak and ends in a digest; what they want from one another does too."""
    files: dict[str, bytes] = {}
    for folder in ["core"] + ([f"kernels/{kernels}"] if kernels else []):
        files |= {path.name: path.read_bytes() for path in sorted((FIRMWARE / folder).glob("*.[ch]"))}
    for name, data in own_core(files).items():
        (tmp_path / name).write_bytes(data)
    seen = 0
    for source in sorted(tmp_path.glob("*.c")):
        made = source.with_suffix(".o")
        run(compiler(), "-std=c99", "-O1", "-c", source, "-o", made)
        with made.open("rb") as file:
            for symbol in ELFFile(file).get_section_by_name(".symtab").iter_symbols():  # type: ignore[union-attr]
                weak, shared = symbol["st_info"]["bind"] == "STB_WEAK", symbol["st_info"]["bind"] != "STB_LOCAL"
                if shared and (symbol["st_shndx"] != "SHN_UNDEF" or symbol.name.startswith("nd_")):
                    assert re.fullmatch(r"nd_\w+_[0-9a-f]{8}", symbol.name)
                    assert weak or symbol["st_shndx"] == "SHN_UNDEF"
                    seen += 1
    assert seen >= 30


@pytest.mark.parametrize("family", INTEGER)
def test_plain_files_run_every_family(family, tmp_path):
    artifact = build(family, "host")
    folder = write(artifact, "plain", tmp_path / "x")
    run(compiler(), *STRICT, *sources(folder), "-o", tmp_path / "example")
    same(printed(run(tmp_path / "example")), golden(artifact))


@pytest.mark.parametrize("family", CASES)
def test_float_programs_keep_close(family, tmp_path):
    artifact = build(family, "host", "float")
    folder = write(artifact, "plain", tmp_path / "x")
    run(compiler(), *STRICT, *sources(folder), "-o", tmp_path / "example")
    got, wanted = printed(run(tmp_path / "example")), golden(artifact)
    assert got.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-4, atol=1e-4, err_msg=name)


#: One of each drive, a recursive net's tree, and the cells whose functions are tables.
TFLITE = ("gru_reset_after", "lstm", "stacked_bidirectional", "encoder_decoder", "hopfield", "recursive")


@pytest.mark.parametrize("width", ["i8", "i16"])
def test_plain_files_with_tflites_numerics(width, tmp_path):
    for family in TFLITE:
        artifact = build(family, "host", "tflite", quantize={"activation_dtype": width})
        folder = write(artifact, "plain", tmp_path / family)
        made = tmp_path / f"{family}_example"
        run(compiler(), *STRICT, *sources(folder), "-o", made)
        same(printed(run(made)), golden(artifact))


def test_a_cmake_project_with_tflites_numerics(tmp_path):
    artifact = build("gru_reset_after", "mps2-an386", "tflite", quantize={"activation_dtype": "i8"})
    built = cmake_build(write(artifact, "cmake", tmp_path / "x"), tmp_path / "build", "-DND_ANY_MACHINE=ON")
    (example,) = built.rglob("*_example")
    same(printed(run(example)), golden(artifact))


def test_a_window_of_data_is_what_runs(tmp_path):
    artifact = build("lstm", "host")
    window = {"x": CASES["lstm"].inputs["x"][3][:5]}
    folder = c_export.write(c_export.export(artifact, "plain", window, "data"), tmp_path / "x")
    run(compiler(), *STRICT, *sources(folder), "-o", tmp_path / "example")
    same(printed(run(tmp_path / "example")), golden(artifact, window))


@pytest.mark.parametrize("target", ["host", "mps2-an386"])
@pytest.mark.parametrize("form", ["plain", "cmake"])
def test_what_a_readme_says_first_runs_the_example(form, target, tmp_path):
    """The first block of commands, as a newcomer copies it: builds on this machine whatever the target, and runs."""
    tool("cc")
    tool("cmake" if form == "cmake" else "cc")
    artifact = build("stacked_bidirectional", target)
    folder = write(artifact, form, tmp_path / "x")
    command = (folder / "README.md").read_text().split("```")[1]
    same(printed(run("sh", "-ec", command, cwd=folder)), golden(artifact))


@pytest.mark.parametrize("pair", [PAIR, MIXED])
def test_two_plain_exports_in_one_program(pair, tmp_path):
    objects = []
    for i, (family, target) in enumerate(pair):
        folder = write(build(family, target), "plain", tmp_path / str(i))
        for source in sources(folder):
            objects.append(tmp_path / f"{i}_{source.stem}.o")
            run(compiler(), *STRICT, "-DND_ANY_MACHINE", f"-Dmain=main_{i}", "-c", source, "-o", objects[-1])
    (tmp_path / "both.c").write_text(BOTH)
    run(compiler(), *STRICT, tmp_path / "both.c", *objects, "-o", tmp_path / "both")
    check_pair(run(tmp_path / "both"), pair)


@pytest.mark.parametrize("pair", [PAIR, MIXED])
def test_two_exports_in_one_cmake_project(pair, tmp_path):
    """Side by side with add_subdirectory, linked into one program; their own examples aren't built."""
    lists = ["cmake_minimum_required(VERSION 3.13)", "project(both LANGUAGES C)", "add_executable(both both.c)"]
    for i, (family, target) in enumerate(pair):
        write(build(family, target), "cmake", tmp_path / family)
        lists += [
            f"add_subdirectory({family})",
            f"add_library(main_{i} OBJECT {family}/example/main.c)",
            f"target_compile_definitions(main_{i} PRIVATE main=main_{i})",
            f"target_link_libraries(main_{i} PRIVATE {family})",
            f"target_sources(both PRIVATE $<TARGET_OBJECTS:main_{i}>)",
            f"target_link_libraries(both PRIVATE {family})",
        ]
    (tmp_path / "both.c").write_text(BOTH)
    (tmp_path / "CMakeLists.txt").write_text("\n".join(lists))
    built = cmake_build(tmp_path, tmp_path / "build", "-DND_ANY_MACHINE=ON")
    check_pair(run(built / "both"), pair)
    assert not list(built.rglob("*_example"))


def arduino_objects(library: Path, i: int, into: Path, flags: tuple[str, ...] = ()) -> list[Path]:
    """A library's sources as C and its sketch as C++, as Arduino compiles them; its setup and loop are renamed."""
    cpp = tool("g++", "c++", "clang++")
    objects = []
    for source in sources(library / "src"):
        objects.append(into / f"{i}_{source.stem}.o")
        run(compiler(), "-std=gnu11", "-Os", "-Wall", *flags, "-c", source, "-o", objects[-1])
    sketch = next(library.rglob("*.ino"))
    objects.append(into / f"{i}_sketch.o")
    include = (f"-I{library / 'src'}", f"-I{stand_in('arduino')}", "-include", "Arduino.h")
    names = (f"-Dsetup=setup_{i}", f"-Dloop=loop_{i}")
    run(
        cpp,
        "-x",
        "c++",
        "-std=gnu++11",
        "-Wall",
        "-Werror",
        "-Os",
        *flags,
        *include,
        *names,
        "-c",
        sketch,
        "-o",
        objects[-1],
    )
    return objects


@pytest.mark.parametrize("pair", [PAIR, MIXED])
def test_two_arduino_libraries_in_one_sketch(pair, tmp_path):
    """Against a stand-in for Arduino.h: six decimals of every output come over Serial. Objects are linked one by one."""
    objects, calls = [], []
    for i, (family, target) in enumerate(pair):
        library = write(build(family, target), "arduino", tmp_path / f"neurodeploy_{family}")
        objects += arduino_objects(library, i, tmp_path, ("-DND_ANY_MACHINE",))
        calls.append(f"    setup_{i}();\n    loop_{i}();\n")
    main = "#include <stdio.h>\n" + "".join(f"void setup_{i}();\nvoid loop_{i}();\n" for i in range(2))
    (tmp_path / "main.cpp").write_text(main + "int main()\n{\n" + '    puts("--");\n'.join(calls) + "}\n")
    cpp = tool("g++", "c++", "clang++")
    run(cpp, tmp_path / "main.cpp", *objects, "-o", tmp_path / "both")
    parts = run(tmp_path / "both").split("--\n")
    for part, (family, target) in zip(parts, pair):
        got, wanted = printed(part), golden(build(family, target))
        rounded = {n: np.array([f"{x:.6f}" for x in a.tolist()], np.float32) for n, a in wanted.items()}
        same(got, rounded)
    assert len(parts) == 2


@pytest.mark.parametrize("pair", [PAIR, MIXED])
def test_two_zephyr_modules_in_one_application(pair, tmp_path):
    """Against a stand-in for Zephyr's CMake package; libraries are linked whole, as Zephyr links them."""
    modules = [write(build(family, target), "zephyr", tmp_path / family) for family, target in pair]
    names = [family for family, _ in pair]
    app = tmp_path / "app"
    app.mkdir()
    (app / "both.c").write_text(BOTH)
    (app / "prj.conf").write_text("".join(f"CONFIG_NEURODEPLOY_{name.upper()}=y\n" for name in names))
    lists = [
        "cmake_minimum_required(VERSION 3.20.0)",
        f"list(APPEND EXTRA_ZEPHYR_MODULES {' '.join(map(str, modules))})",
        "find_package(Zephyr REQUIRED)",
        "project(both LANGUAGES C)",
        "target_sources(app PRIVATE both.c)",
    ]
    for i, name in enumerate(names):
        lists += [
            f"add_library(main_{i} OBJECT ../{name}/samples/{name}/src/main.c)",
            f"target_compile_definitions(main_{i} PRIVATE main=main_{i})",
            f"target_link_libraries(main_{i} PRIVATE zephyr_interface)",
            f"target_sources(app PRIVATE $<TARGET_OBJECTS:main_{i}>)",
        ]
    (app / "CMakeLists.txt").write_text("\n".join(lists))
    options = (f"-DZephyr_DIR={stand_in('zephyr')}", "-DCMAKE_C_FLAGS=-DND_ANY_MACHINE")
    built = cmake_build(app, tmp_path / "build", *options)
    check_pair(run(built / "zephyr_elf"), pair)


def test_a_zephyr_sample_finds_its_module(tmp_path):
    artifact = build("gru_reset_after", "host")
    module = write(artifact, "zephyr", tmp_path / "x")
    sample = module / "samples" / "gru_reset_after"
    built = cmake_build(sample, tmp_path / "build", f"-DZephyr_DIR={stand_in('zephyr')}")
    same(printed(run(built / "zephyr_elf")), golden(artifact))
    conf = sample / "prj.conf"
    conf.write_text(conf.read_text().replace("CONFIG_NEURODEPLOY_GRU_RESET_AFTER=y", ""))
    with pytest.raises(AssertionError, match="gru_reset_after_run.h"):  # switched off, it isn't built
        cmake_build(sample, tmp_path / "off", f"-DZephyr_DIR={stand_in('zephyr')}")


def builder_platform(folder: Path) -> Path:
    """A hardware folder for arduino-builder: this machine as a board, with the stand-in for a core."""
    here = folder / "hardware" / "tests" / "host"
    core = here / "cores" / "stand_in"
    core.mkdir(parents=True)
    (core / "Arduino.h").write_bytes((stand_in("arduino") / "Arduino.h").read_bytes())
    (core / "main.cpp").write_text(
        '#include "Arduino.h"\nvoid setup();\nvoid loop();\nint main()\n{\n    setup(), loop();\n}\n'
    )
    (here / "boards.txt").write_text("host.name=Host\nhost.build.core=stand_in\nhost.build.board=HOST\n")
    c, cpp = (f'"{tool(*names)}"' for names in (("gcc", "cc"), ("g++", "c++")))
    flags = "-Os -Wall -ffunction-sections -fdata-sections -DND_ANY_MACHINE {includes}"
    recipes = {
        "name": "Tests",
        "version": "1.0.0",
        "recipe.c.o.pattern": f'{c} -c -std=gnu11 {flags} "{{source_file}}" -o "{{object_file}}"',
        "recipe.cpp.o.pattern": f'{cpp} -c -std=gnu++11 {flags} "{{source_file}}" -o "{{object_file}}"',
        "recipe.ar.pattern": f'"{tool("ar")}" rcs "{{archive_file_path}}" "{{object_file}}"',
        "recipe.c.combine.pattern": f"{cpp} -Wl,--gc-sections -o "
        '"{build.path}/{build.project_name}.elf" {object_files} "{build.path}/{archive_file}"',
        "recipe.preproc.macros": f'{cpp} -w -x c++ -E -CC {{includes}} "{{source_file}}" -o "{{preprocessed_file_path}}"',
        "tools.ctags.cmd.path": tool("arduino-ctags"),
        "tools.ctags.pattern": '"{cmd.path}" -u --language-force=c++ -f - --c++-kinds=svpf --fields=KSTtzns '
        '--line-directives "{source_file}"',
    }
    (here / "platform.txt").write_text("".join(f"{key}={value}\n" for key, value in recipes.items()))
    return folder / "hardware"


@pytest.mark.parametrize("pair", [PAIR, MIXED])
def test_arduino_builder_takes_the_libraries(pair, tmp_path):
    """Arduino's own builder finds the libraries by their headers, makes prototypes, compiles and links; one's example runs,
    and so does a sketch with both."""
    builder = tool("arduino-builder")
    hardware_folder, libraries = builder_platform(tmp_path), tmp_path / "libraries"
    folders = [write(build(family, target), "arduino", libraries / f"neurodeploy_{family}") for family, target in pair]
    options = (
        "-hardware",
        hardware_folder,
        "-tools",
        hardware_folder,
        "-libraries",
        libraries,
        "-fqbn",
        "tests:host:host",
    )

    def built(sketch: Path) -> Path:
        into = tmp_path / f"build_{sketch.stem}"
        into.mkdir()
        run(builder, "-compile", *options, "-build-path", into, sketch)
        return into / f"{sketch.name}.elf"

    wanted = golden(build(*pair[0]))
    rounded = {n: np.array([f"{x:.6f}" for x in a.tolist()], np.float32) for n, a in wanted.items()}
    same(printed(run(built(next(folders[0].rglob("*.ino"))))), rounded)
    both = tmp_path / "both" / "both.ino"
    both.parent.mkdir()
    lines = [f"#include <{family}.h>" for family, _ in pair]
    lines += ["void setup() { step_all(); }", "void loop() {}", "void step_all()", "{"]
    for family, target in pair:
        for stage in build(family, target).manifest["layout"].values():
            p = stage["prefix"]
            lines += [f"    static {p}_state_t {p}_s; static {p}_in_t {p}_i; static {p}_out_t {p}_o;"]
            lines += [f"    {p}_reset(&{p}_s); {p}_step(&{p}_s, &{p}_i, &{p}_o);"]
    both.write_text("\n".join([*lines, '    Serial.println("done");', "}", ""]))
    assert run(built(both)) == "done\n"
