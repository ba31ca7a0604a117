"""The export as a Zephyr module with a sample.

Format: Zephyr's documentation "Modules (External projects)" and the schema in its scripts/zephyr_module.py.
"""

from __future__ import annotations

from neurodeploy.backends.c_export_cmake import about, several
from neurodeploy.backends.c_export_example import example
from neurodeploy.backends.c_export_model import Model

#: Of the sample's own thread, beside what a step takes: calls, saved registers, printk.
STACK_BESIDE = 2048


def zephyr(model: Model) -> dict[str, bytes]:
    """The module: ``zephyr/module.yml``, CMake, Kconfig, sources in ``src/``, and ``samples/<model>/``."""
    name, config = model.name, config_of(model)
    sample = f"samples/{name}"
    files = {f"src/{source}": data for source, data in model.sources.items()}
    sources = [f"        src/{source}" for source in sorted(model.sources) if source.endswith(".c")]
    made = {
        "zephyr/module.yml": [
            f"name: {module_of(model)}",
            "build:",
            "  cmake: .",
            "  kconfig: Kconfig",
            "samples:",
            "  - samples",
        ],
        "Kconfig": [
            f"config {config}",
            f'\tbool "The recurrent network {name}"',
            "\thelp",
            f"\t  The network {name}, compiled by neurodeploy for {model.board.name}.",
            "\t  Include the header " + f"{name}.h.",
        ],
        "CMakeLists.txt": [
            f"# {model.title}, compiled by neurodeploy for {model.board.name}: see README.md.",
            f"if(CONFIG_{config})",
            f"    zephyr_library_named({module_of(model)})",
            "    zephyr_library_sources(",
            *sources,
            "    )",
            "    # The results are those of neurodeploy's golden model only if no multiply-add is fused.",
            "    zephyr_library_compile_options(-ffp-contract=off)",
            "    zephyr_include_directories(src)",
            "endif()",
        ],
        f"{sample}/CMakeLists.txt": [
            "cmake_minimum_required(VERSION 3.20.0)",
            "",
            "list(APPEND EXTRA_ZEPHYR_MODULES ${CMAKE_CURRENT_SOURCE_DIR}/../..)",
            "find_package(Zephyr REQUIRED HINTS $ENV{ZEPHYR_BASE})",
            f"project({name}_sample LANGUAGES C)",
            "",
            "target_sources(app PRIVATE src/main.c)",
        ],
        f"{sample}/prj.conf": [
            f"CONFIG_{config}=y",
            "CONFIG_PRINTK=y",
            "# printk shows real numbers",
            "CONFIG_CBPRINTF_FP_SUPPORT=y",
            f"# a step takes {model.stack_bytes} bytes of inputs, outputs and scratch",
            f"CONFIG_MAIN_STACK_SIZE={-(-(model.stack_bytes + STACK_BESIDE) // 256) * 256}",
        ],
        f"{sample}/sample.yaml": [
            "sample:",
            f"  name: {name}",
            "tests:",
            f"  sample.neurodeploy.{name}:",
            "    tags: neurodeploy",
            "    harness: console",
            "    harness_config:",
            "      type: one_line",
            "      regex:",
            '        - "\\\\[0\\\\] "',
        ],
        f"{sample}/src/main.c": _main(model),
        "README.md": _readme(model, sample),
    }
    return files | {path: "\n".join([*lines, ""]).encode() for path, lines in made.items()}


def config_of(model: Model) -> str:
    """The Kconfig symbol, without ``CONFIG_``."""
    return f"NEURODEPLOY_{model.name.upper()}"


def module_of(model: Model) -> str:
    """The module's name, and its library's."""
    return f"neurodeploy_{model.name}"


def _main(model: Model) -> list[str]:
    return [
        f"/* Feeds {model.name} a window and prints every output on the console. */",
        "#include <zephyr/kernel.h>",
        "#include <zephyr/sys/printk.h>",
        "",
        f'#include "{model.name}_run.h"',
        "",
        "static void show(const char *name, int32_t index, float value)",
        "{",
        '    printk("%s[%d] %.9g\\n", name, (int)index, (double)value);',
        "}",
        "",
        *example(model).body(model),
        "int main(void)",
        "{",
        "    const int32_t failed = run_window();",
        "    if (failed) {",
        f'        printk("{model.name}_run gave %d\\n", (int)failed);',
        "        return 0;",
        "    }",
        "    show_outputs();",
        "    return 0;",
        "}",
    ]


def _readme(model: Model, sample: str) -> list[str]:
    return [
        f"# {model.title}: a Zephyr module",
        "",
        *about(model),
        "## Try it",
        "",
        "With Zephyr (3.5 or later), west and a toolchain in place, from this folder:",
        "",
        "```",
        f"west build -b BOARD {sample} && west flash",
        "```",
        "",
        "The sample finds the module by itself, feeds a window, and prints the outputs on the console.",
        "",
        "## Into your application",
        "",
        "Before `find_package(Zephyr)` in its CMakeLists.txt:",
        "",
        "```cmake",
        "list(APPEND EXTRA_ZEPHYR_MODULES /path/to/this/folder)",
        "```",
        "",
        f"or add the folder to your west manifest. In `prj.conf`: `CONFIG_{config_of(model)}=y`. Then include",
        f"`{model.name}.h` (steps) or `{model.name}_run.h` (whole windows). The thread that steps needs the stack",
        "named above beside its own. On a core with a floating-point unit set `CONFIG_FPU=y`: turning real numbers",
        "into the network's and back is then quick.",
        "",
        *several("Add each folder to `EXTRA_ZEPHYR_MODULES` and switch each on."),
        model.interface,
    ]
