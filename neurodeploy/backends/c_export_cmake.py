"""Exports for a C compiler by itself (``plain``) and for CMake."""

from __future__ import annotations

from neurodeploy.backends.c_export_example import example
from neurodeploy.backends.c_export_model import Model
from neurodeploy.backends.c_toolchain import CROSS_GCC

#: Flags that the golden model's bits rest on, and those that let a linker drop what isn't called.
FLAGS = ("-ffp-contract=off", "-ffunction-sections", "-fdata-sections")


def plain(model: Model) -> dict[str, bytes]:
    """The C files and an example, side by side."""
    sources = " ".join(sorted(name for name in model.sources if name.endswith(".c")))
    flags = " ".join(model.board.core.gcc_flags)
    native = not flags
    any_machine = "" if native else " -DND_ANY_MACHINE"
    lines = [
        f"# {model.title}: C files",
        "",
        *about(model),
        "On this machine, the example is built and run by",
        "",
        "```",
        f"cc -std=c99 -O2 -ffp-contract=off{any_machine} {sources} main.c -o example && ./example",
        "```",
        "",
        "It feeds a window and prints the outputs; see `main.c`.",
        "",
        "## Into your project",
        "",
        "Copy this folder into your project, compile the `.c` files but `main.c`, and include",
        f"`{model.name}.h` (steps) or `{model.name}_run.h` (whole windows). Compile with `-O2 -ffp-contract=off`"
        + ("." if native else f", and for {model.board.name}"),
        *([] if native else [f"with `{flags}`."]),
        "",
        *several(
            "Keep each model's files in a folder of its own, as files of the core have the same names, and compile all."
        ),
        model.interface,
    ]
    return {**model.sources, "main.c": host_main(model), "README.md": "\n".join(lines).encode()}


def cmake(model: Model) -> dict[str, bytes]:
    """A project with the model as a static library; the example is built where the project is the top one."""
    files = {f"src/{name}": data for name, data in model.sources.items()}
    files["example/main.c"] = host_main(model)
    files["CMakeLists.txt"] = _lists(model).encode()
    cross = bool(model.board.core.gcc_flags)
    toolchain = f"toolchain-{model.board.name}.cmake"
    if cross:
        files[toolchain] = _toolchain(model).encode()
    option, native = example_option(model), " -DND_ANY_MACHINE=ON" if cross else ""
    lines = [
        f"# {model.title}: a CMake project",
        "",
        *about(model),
        "Needs CMake 3.13 or later. On this machine, with the example:",
        "",
        "```",
        f"cmake -B build{native} && cmake --build build && ./build/{model.name}_example",
        "```",
        "",
        "The example feeds a window and prints the outputs; see `example/main.c`.",
        "",
        "## Into your project",
        "",
        "```cmake",
        f"add_subdirectory({model.name})                      # this folder",
        f"target_link_libraries(app PRIVATE {model.name})",
        "```",
        "",
        f"Then include `{model.name}.h` (steps) or `{model.name}_run.h` (whole windows). As a part of another",
        f"project the example isn't built, unless `{option}` is `ON`.",
        "",
        "## For a board",
        "",
        *_for_a_board(model, toolchain),
        *several("Add each with `add_subdirectory`."),
        model.interface,
    ]
    return {**files, "README.md": "\n".join(lines).encode()}


def about(model: Model) -> list[str]:
    """What the files are, the same in every form."""
    return [
        f"The recurrent network `{model.title}`, compiled by neurodeploy for {model.board.title}.",
        "The code is C99, needs `memcpy` and `memset`, allocates nothing and keeps no globals: several streams each",
        "have a state of their own.",
        f"A step takes {model.stack_bytes} bytes of stack for its inputs, outputs and scratch, beside saved registers.",
        "",
    ]


def several(how: str) -> list[str]:
    """The section on several models in one program."""
    return [
        "## Several models in one program",
        "",
        how,
        "Export them with the same version of neurodeploy. Functions that the models share (`nd_*`) end in a digest",
        "of their code and are weak symbols: the linker keeps one copy of those that are equal, and those that differ",
        "don't clash.",
        "",
    ]


def host_main(model: Model) -> bytes:
    """The example as a program with ``printf``; ``%.9g`` tells every bit of a float."""
    made = example(model)
    lines = [
        f"/* Feeds {model.name} a window and prints every output as a real number. */",
        "#include <stdio.h>",
        "",
        f'#include "{model.name}_run.h"',
        "",
        "static void show(const char *name, int32_t index, float value)",
        "{",
        '    printf("%s[%d] %.9g\\n", name, (int)index, (double)value);',
        "}",
        "",
        *made.body(model),
        "int main(void)",
        "{",
        "    const int32_t failed = run_window();",
        "    if (failed) {",
        f'        fprintf(stderr, "{model.name}_run gave %d\\n", (int)failed);',
        "        return 1;",
        "    }",
        "    show_outputs();",
        "    return 0;",
        "}",
        "",
    ]
    return "\n".join(lines).encode()


def example_option(model: Model) -> str:
    """The CMake option that decides whether the example is built."""
    return f"{model.name.upper()}_EXAMPLE"


def _lists(model: Model) -> str:
    sources = [f"    src/{name}" for name in sorted(model.sources) if name.endswith(".c")]
    option = example_option(model)
    lines = [
        f"# {model.title}, compiled by neurodeploy for {model.board.name}: see README.md.",
        "cmake_minimum_required(VERSION 3.13)",
        f"project({model.name} LANGUAGES C)",
        "",
        f"add_library({model.name} STATIC",
        *sources,
        ")",
        f"target_include_directories({model.name} PUBLIC src)",
        f"set_target_properties({model.name} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON)",
        'if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")',
        "    # The results are those of neurodeploy's golden model only if no multiply-add is fused.",
        f"    target_compile_options({model.name} PRIVATE {' '.join(FLAGS)} $<$<CONFIG:>:-O2>)",
        "endif()",
        "",
    ]
    if model.board.core.gcc_flags:
        lines += [
            'option(ND_ANY_MACHINE "Build for any machine, the weights as they are: slow, the same results" OFF)',
            "if(ND_ANY_MACHINE)",
            f"    target_compile_definitions({model.name} PRIVATE ND_ANY_MACHINE)",
            "endif()",
            "",
        ]
    lines += [
        "# The example prints on a hosted system; a bare board has its own start-up code and output.",
        f"set({model.name}_alone OFF)",
        "if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR AND NOT CMAKE_CROSSCOMPILING)",
        f"    set({model.name}_alone ON)",
        "endif()",
        f'option({option} "Build the example of {model.name}" ${{{model.name}_alone}})',
        f"if({option})",
        f"    add_executable({model.name}_example example/main.c)",
        f"    set_target_properties({model.name}_example PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON)",
        '    if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")',
        f"        target_compile_options({model.name}_example PRIVATE -ffp-contract=off)",
        "    endif()",
        f"    target_link_libraries({model.name}_example PRIVATE {model.name})",
        "endif()",
        "",
    ]
    return "\n".join(lines)


def _compiler(model: Model) -> str:
    return CROSS_GCC.get(model.board.core.isa, "arm-none-eabi-gcc")


def _toolchain(model: Model) -> str:
    core = model.board.core
    processor = "riscv" if core.isa.startswith("rv") else "arm"
    return "\n".join(
        [
            f"# {model.board.title}: {core.cpu}, with {_compiler(model)}.",
            "set(CMAKE_SYSTEM_NAME Generic)",
            f"set(CMAKE_SYSTEM_PROCESSOR {processor})",
            f"set(CMAKE_C_COMPILER {_compiler(model)})",
            f'set(CMAKE_C_FLAGS_INIT "{" ".join(core.gcc_flags)}")',
            "set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY) # nothing is linked without a board's start-up code",
            "",
        ]
    )


def _for_a_board(model: Model, toolchain: str) -> list[str]:
    if not model.board.core.gcc_flags:
        return [
            "These files are laid out for no board in particular; to have the kernels of one, compile the model for it",
            "(`neurodeploy targets list`) and export that. A toolchain file for a Cortex-M4 with `arm-none-eabi-gcc`:",
            "",
            "```cmake",
            "set(CMAKE_SYSTEM_NAME Generic)",
            "set(CMAKE_C_COMPILER arm-none-eabi-gcc)",
            'set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb")',
            "set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)",
            "```",
            "",
            "It is given as `cmake -B build-board -DCMAKE_TOOLCHAIN_FILE=FILE`.",
            "",
        ]
    flags = " ".join(model.board.core.gcc_flags)
    return [
        f"`{toolchain}` is for {model.board.name}: `{_compiler(model)}` with `{flags}`.",
        "",
        "```",
        f"cmake -B build-board -DCMAKE_TOOLCHAIN_FILE={toolchain} && cmake --build build-board",
        "```",
        "",
        f"gives `build-board/lib{model.name}.a`. In a project of your own your toolchain file serves, as long as it",
        "names the core of your chip: the compiler says so if the weights are laid out for another kind.",
        "",
    ]
