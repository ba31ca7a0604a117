"""The export as an Arduino library.

Format: Arduino library specification, 1.5 format rev. 2.2 (arduino-cli, docs/library-specification.md).
"""

from __future__ import annotations

import re

from neurodeploy.backends.c_export_cmake import about, several
from neurodeploy.backends.c_export_example import example
from neurodeploy.backends.c_export_model import Model
from neurodeploy.errors import UnsupportedError

NAME_MAX = 63  # of a library and of a sketch
#: Names without arguments that Arduino.h of the AVR and SAM cores defines as macros: no field may have them.
MACROS = frozenset(
    (
        *("HIGH", "LOW", "INPUT", "OUTPUT", "INPUT_PULLUP", "INPUT_PULLDOWN", "LED_BUILTIN", "DEFAULT", "EXTERNAL"),
        *("PI", "HALF_PI", "TWO_PI", "DEG_TO_RAD", "RAD_TO_DEG", "EULER", "SERIAL", "DISPLAY", "LSBFIRST", "MSBFIRST"),
        *("CHANGE", "FALLING", "RISING", "INTERNAL", "DEC", "HEX", "OCT", "BIN"),
    )
)
_CONTRACT = b"""/* No multiply-add may be fused: Arduino gives a library no flags of its own. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize ("fp-contract=off")
#endif

"""
_INT = b"""#include <limits.h>
#if INT_MAX < 2147483647
#error "this network needs a board with an int of 32 bits; AVR boards have 16"
#endif

"""


def arduino(model: Model) -> dict[str, bytes]:
    """The library: sources in ``src/``, one example, keywords. Raises :class:`UnsupportedError` for a field's name."""
    if clash := sorted(set(re.findall(r"\w+", model.headers)) & MACROS):
        raise UnsupportedError(
            f"has an input, output or state '{clash[0]}', which Arduino.h defines as a macro.",
            place=model.title,
            hint="Rename it in the model.",
        )
    files = {f"src/{name}": data for name, data in model.sources.items()}
    for name in (n for n in files if n.endswith(".c") and re.search(rb"\bfloat\b", files[n])):
        files[name] = _CONTRACT + files[name]
    files[f"src/{model.name}.c"] = _INT + files[f"src/{model.name}.c"]
    sketch = model.name[:NAME_MAX]
    files[f"examples/{sketch}/{sketch}.ino"] = _sketch(model).encode()
    files["keywords.txt"] = _keywords(model).encode()
    files["library.properties"] = _properties(model).encode()
    files["README.md"] = _readme(model, sketch).encode()
    return files


def library_name(model: Model) -> str:
    """The library's name; with this prefix it is no other library's, and doesn't start with 'Arduino'."""
    return f"neurodeploy_{model.name}"[:NAME_MAX]


def _properties(model: Model) -> str:
    rows = {
        "name": library_name(model),
        "version": "1.0.0",
        "author": "neurodeploy",
        "maintainer": "neurodeploy",
        "sentence": f"The recurrent network {model.name}, one time step at a time.",
        "paragraph": f"C compiled by neurodeploy for {model.board.name}; allocates nothing. See README.md.",
        "category": "Data Processing",
        "url": "",
        "architectures": "*",
        "includes": f"{model.name}.h,{model.name}_run.h",
    }
    return "".join(f"{key}={value}\n" for key, value in rows.items())


def _keywords(model: Model) -> str:
    types = [f"{p}_{role}_t" for p in model.prefixes.values() for role in ("state", "in", "out")]
    functions = re.findall(rf"\b({model.name}\w*)\(", model.headers)
    rows = [f"{name}\tKEYWORD1" for name in [*types, f"{model.name}_run_t"]]
    rows += [f"{name}\tKEYWORD2" for name in dict.fromkeys(functions)]
    return "\n".join([f"# Colours for {library_name(model)}; fields are apart by a tab.", *rows, ""])


def _sketch(model: Model) -> str:
    made = example(model)
    lines = [
        f"/* Feeds {model.name} a window and prints every output over the serial line, again each second. */",
        f"#include <{model.name}_run.h>",
        "",
        "static void show(const char *name, int32_t index, float value)",
        "{",
        "    Serial.print(name);",
        "    Serial.print('[');",
        "    Serial.print((int)index);",
        '    Serial.print("] ");',
        "    Serial.println(value, 6);",
        "}",
        "",
        *made.body(model),
        "void setup()",
        "{",
        "    Serial.begin(115200);",
        "}",
        "",
        "void loop()",
        "{",
        "    const unsigned long start = micros();",
        "    const int32_t failed = run_window();",
        "    const unsigned long took = micros() - start;",
        "    if (failed) {",
        f'        Serial.println("{model.name}_run failed");',
        "    } else {",
        "        show_outputs();",
        '        Serial.print("microseconds for the window: ");',
        "        Serial.println(took);",
        "    }",
        "    delay(1000);",
        "}",
        "",
    ]
    return "\n".join(lines)


def _readme(model: Model, sketch: str) -> str:
    lines = [
        f"# {model.title}: an Arduino library",
        "",
        *about(model),
        "## Try it",
        "",
        f"1. Copy this folder into the `libraries` folder of your sketchbook, as `{library_name(model)}`, and restart",
        "   the IDE. (Or zip it and take *Sketch > Include Library > Add .ZIP Library*.)",
        f"2. Open *File > Examples > {library_name(model)} > {sketch}*, choose your board, upload.",
        "3. Open the serial monitor at 115200 baud: every output on the example's window, once a second.",
        "",
        f"With arduino-cli: `arduino-cli compile --fqbn BOARD --library . examples/{sketch}`.",
        "",
        "## Into your sketch",
        "",
        f"`#include <{model.name}.h>` for steps as they come, `#include <{model.name}_run.h>` for whole windows, as in",
        "the example. The board must have an `int` of 32 bits (no AVR). The functions in the table below turn real",
        "numbers into the network's and back. Before you publish the library, fill in `author`, `maintainer` and `url`",
        "of `library.properties`.",
        "",
        *several("Install each as a library and include both headers."),
        model.interface,
    ]
    return "\n".join(lines)
