"""A build of the C backend as every form of export takes it: sources that link beside another model's.

The core's functions have the same names in every build. Here each gets a digest of the code that it is compiled from at
the end of its name, and is weak: a linker then keeps one copy of cores that are equal, and two that differ (models of
different targets or versions) stand side by side. That needs nothing of the build system, so it holds in all forms.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.artifact import Artifact
from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.hardware import Board, built_for
from neurodeploy.ir import text
from neurodeploy.ir.drive import bind
from neurodeploy.ir.graph import Program

STEPS = 16
#: isa -> what a compiler for it defines, and what that is called; the weights are laid out for it.
MACHINES = {
    "armv7em": ("__ARM_FEATURE_DSP", "the DSP extension (Cortex-M4, M7)"),
    "armv8m": ("__ARM_FEATURE_DSP", "the DSP extension (Cortex-M33)"),
    "armv81m": ("__ARM_FEATURE_MVE", "the vector extension MVE (Cortex-M55)"),
}
_INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.M)
#: A function or array that other files see, as the core's sources define it: at the start of a line, not static.
_DEFINED = re.compile(rb"^(?!static\b|typedef\b|extern\b|#)[A-Za-z_][\w \t*]*?\b(nd_\w+)[ \t]*[(\[]", re.M)


@dataclass(frozen=True)
class Model:
    """``name`` is the C name; ``sources`` the model's and the core's files; ``interface`` the README's part on fields.

    ``run`` is the manifest's description of ``<model>_run_t``; ``window`` input -> values ``[steps, ...]`` or ``[...]``
    that the example feeds, ``window_note`` where they come from; ``stack_bytes`` what a step needs.
    """

    name: str
    title: str
    board: Board
    program: Program
    sources: Mapping[str, bytes]
    interface: str
    run: Mapping[str, Any]
    prefixes: Mapping[str, str]
    window: Mapping[str, np.ndarray]
    window_note: str
    stack_bytes: int

    @property
    def headers(self) -> str:
        """The text of the model's own headers, without comments."""
        text = "".join(self.sources[f"{self.name}{end}"].decode() for end in (".h", "_run.h"))
        return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def model_of(artifact: Artifact, window: Mapping[str, np.ndarray] | None, note: str) -> Model:
    """The parts of a build that an export is made of. Raises :class:`UsageError` for a build that has none."""
    if artifact.backend == "tflite":
        raise UnsupportedError(
            f"is a build for '{artifact.target}', whose tflm/ is an Arduino sketch and a project for CMake, Zephyr and "
            "ESP-IDF already.",
            place=artifact.name,
            hint="Its README.md says how to go on. For C without TFLite Micro compile the model for a board.",
        )
    if artifact.backend != "c":
        raise UnsupportedError(
            f"is a build of the backend '{artifact.backend}' for '{artifact.target}'; needed: a C build.",
            place=artifact.name,
            hint="Compile the model for a board: neurodeploy compile MODEL --target mps2-an386 -o FOLDER",
        )
    run = artifact.manifest.get("run")
    try:
        name = run["name"]  # type: ignore[index]
        own = [f"{name}.c", f"{name}.h", f"{name}_run.c", f"{name}_run.h"]
        files = {n: artifact.files[n] for n in own}
        prefixes = {stage: layout["prefix"] for stage, layout in artifact.manifest["layout"].items()}
        interface = artifact.files["README.md"].decode()
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"lacks what an export is made of ({error}).", place=artifact.name, hint="Compile the build again."
        ) from error
    board = built_for(artifact, Board)
    program = text.from_files(artifact.files, "program")
    files |= {n: data for n, data in artifact.files.items() if re.fullmatch(r"nd_\w+\.[ch]", n)}
    laid_out = artifact.manifest["compiler"]["weights"] != "plain" and program.numerics == "native"
    if laid_out and board.core.isa in MACHINES:
        files[f"{name}.c"] = _demand(name, board) + files[f"{name}.c"]
    values = {n: np.asarray(a) for n, a in window.items()} if window else made_up(program)
    bind(program, {n: a[None] for n, a in values.items()}, None)  # refuses what doesn't fit
    sizes = {f["name"]: int(f["value"] or 0) for f in artifact.manifest["figures"]}
    return Model(
        name, artifact.name, board, program, own_core(files), interface[interface.index("\n## ") + 1 :], run or {},
        prefixes, values, note if window else "made up", sizes["ram_scratch"] + sizes["ram_ports"],
    )  # fmt: skip


def _demand(name: str, board: Board) -> bytes:
    macro, what = MACHINES[board.core.isa]
    lines = [
        f"#if !defined({macro}) && !defined(ND_ANY_MACHINE)",
        f'#error "{name} was compiled for {board.name}, a core with {what}. Build for such a core, or compile the '
        'model for yours. -DND_ANY_MACHINE builds it anyway: the same results, slowly."',
        "#endif",
        "",
    ]
    return "\n".join(lines).encode()


def own_core(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with the core's functions under names that end in a digest of what they are compiled from, and weak."""
    names: dict[bytes, bytes] = {}
    weak: dict[str, list[bytes]] = {}
    for source in sorted(f for f in files if f.startswith("nd_") and f.endswith(".c")):
        digest = hashlib.sha256(b"".join(files[f] for f in _closure(source, files))).hexdigest()[:8].encode()
        found = sorted(set(_DEFINED.findall(files[source])))
        names |= {name: name + b"_" + digest for name in found}
        weak[source] = [names[name] for name in found]
    if not names:
        return dict(files)
    spelled = re.compile(rb"\b(" + b"|".join(sorted(names, key=len, reverse=True)) + rb")\b")
    made = {f: spelled.sub(lambda m: names[m[1]], data) for f, data in files.items()}
    for source, defined in weak.items():
        note = (
            b"/* Each function's name ends in a digest of this code, and the linker keeps one of equal copies:\n"
            b" * exports of several models fit into one program. */\n"
        )
        made[source] = note + b"".join(b"#pragma weak %s\n" % name for name in defined) + b"\n" + made[source]
    return made


def _closure(source: str, files: Mapping[str, bytes]) -> list[str]:
    """A file and all that it includes, in a fixed order."""
    found, queue = {source}, [source]
    while queue:
        for included in _INCLUDE.findall(files[queue.pop()]):
            name = included.decode()
            if name in files and name not in found:
                found.add(name)
                queue.append(name)
    return sorted(found)


def made_up(program: Program) -> dict[str, np.ndarray]:
    """A window of :data:`STEPS` steps of slow waves between -1 and 1; whole numbers are 0, an order is 0, 1, 2 ..."""
    orders = {stage.drive.order for stage in program.stages}
    made: dict[str, np.ndarray] = {}
    for name, given in program.inputs.items():
        shape = ((STEPS,) if given.kind == "series" else ()) + given.type.shape
        if name in orders:
            made[name] = np.arange(STEPS, dtype=given.type.numpy)
        elif given.type.is_int and given.type.quant is None or given.type.dtype == "bool":
            made[name] = np.zeros(shape, given.type.numpy)
        else:
            rows, width = (STEPS if given.kind == "series" else 1), given.type.size
            phase = 0.4 * np.arange(rows)[:, None] + 0.7 * np.arange(width)[None]
            made[name] = np.round(np.sin(phase), 3).reshape(shape).astype(np.float32)
    return made
