"""Many programs in one library of this machine: compiling each for itself would take minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from neurodeploy import hardware
from neurodeploy.artifact import Trace
from neurodeploy.backends import c_build, c_emit
from neurodeploy.backends.c_emit_run import Field, emit_run
from neurodeploy.backends.c_layouts import PLAIN, Layout
from neurodeploy.backends.c_storage import Rule
from neurodeploy.deploy import host
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph, Program

#: Whose kernels read a layout; on this machine they run in their C form.
BOARD_OF = {
    "plain": "host",
    "pairs": "mps2-an386",
    "blocks": "mps3-an547",
    "eights": "mps2-an385",
    "offsets": "microbit",
}


@dataclass
class Built:
    """Programs in one library; ``codes`` and ``fields`` by name."""

    programs: dict[str, Program]
    codes: dict[str, c_emit.Code]
    fields: dict[str, list[Field]]
    files: dict[str, bytes]
    lib: Any = None

    def compile(self, tool: str | None = None, opt: str = "-O1") -> Built:
        sources = dict(self.files)
        core = hardware.data_folder("firmware") / "core"
        sources |= {name: (core / name).read_bytes() for name in ("nd_batch.c", "nd_batch.h")}
        self.lib = host.ctypes.CDLL(str(c_build.compile_shared(sources, tool, opt)))
        return self

    def executor(self, name: str, stage: str, graph: Graph) -> host.HostExecutor:
        return host.HostExecutor(self.lib, self.codes[name].layout[stage], graph)

    def run(
        self,
        name: str,
        inputs: Mapping[str, np.ndarray],
        lengths: np.ndarray | None = None,
        states: bool = True,
    ) -> Trace:
        return drive(self.programs[name], inputs, lengths, partial(self.executor, name), states=states)


def build(
    programs: Sequence[Program],
    layout: Layout = PLAIN,
    *,
    runs: bool = False,
    small: bool = False,
    rule: Rule | None = None,
) -> Built:
    """Emit programs (of different names) as one translation unit with the core that it needs."""
    codes, fields, text, files = {}, {}, [], {}
    for program in programs:
        code = c_emit.emit(program, layout, small=small, rule=rule)
        codes[program.name] = code
        files[f"{code.name}.h"] = code.files[f"{code.name}.h"]
        text.append(code.files[f"{code.name}.c"])
        if runs:
            made, fields[program.name] = emit_run(program, code)
            files |= made
    files["models.c"] = b"\n".join(text)
    files = c_build.with_core(files, hardware.find(BOARD_OF[layout.name], hardware.Board))
    return Built({p.name: p for p in programs}, codes, fields, files)
