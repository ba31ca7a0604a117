"""Many programs in one library of this machine: compiling each for itself would take minutes."""

from __future__ import annotations

import ctypes
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
from neurodeploy.ir.drive import Series, bind, drive
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

    def whole(self, name: str, inputs: Mapping[str, np.ndarray], length: int | None) -> dict[str, np.ndarray]:
        """One sample's integers through ``<model>_run``: the outputs that are series, or their last elements."""
        program, fields = self.programs[name], self.fields[name]
        room = max([len(a) for n, a in inputs.items() if program.inputs[n].kind == "series"], default=1)
        room = max([room, *(s.drive.max_steps or 0 for s in program.stages)])
        stages = iter(program.stages)
        kinds = [(f.name, _state(f, next(stages).graph) if f.kind == "state" else _member(f)) for f in fields]
        record, keep = type("Run", (ctypes.Structure,), {"_fields_": kinds})(), {}
        for f in fields:
            if f.kind == "in":
                keep[f.name] = np.ascontiguousarray(inputs[f.name][:length])
                setattr(record, f.name, keep[f.name].ctypes.data)
            elif f.kind == "steps":
                setattr(record, f.name, len(keep[f.name.removesuffix("_steps")]))
            elif f.kind == "series" and f.type is not None:
                keep[f.name] = np.full((room, *f.type.shape), 77).astype(f.type.numpy)
                setattr(record, f.name, keep[f.name].ctypes.data)
        assert getattr(self.lib, f"{self.codes[name].name}_run")(ctypes.byref(record)) == 0
        found = {}
        for out, ref in program.outputs.items():
            if ref.stage is not None and ref.at == "series":
                found[out] = keep[f"{ref.stage}_{ref.name}"][: getattr(record, f"{ref.stage}_steps")]
            elif ref.stage is not None and ref.at == "last":
                type_ = program.ref_type(ref)
                found[out] = np.array(getattr(record, f"{ref.stage}_{ref.name}_last"), type_.numpy).reshape(type_.shape)
        return found


def _state(f: Field, graph: Graph) -> Any:
    """A stage's states as numbers that are aligned as they are."""
    unit = ctypes.c_int64 if any(s.type.dtype == "i64" for s in graph.states) else ctypes.c_int32
    return unit * (f.nbytes // ctypes.sizeof(unit))


def _member(f: Field) -> Any:
    if f.kind in ("in", "series"):
        return ctypes.c_void_p
    if f.kind == "out" and f.type is not None:
        element = np.ctypeslib.as_ctypes_type(f.type.numpy)
        return element * f.type.size if f.type.shape else element
    return ctypes.c_int32


def assert_whole_runs(
    built: Built, program: Program, golden: Trace, inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None
) -> None:
    """``<model>_run`` gives the golden model's integers, a sample at a time."""
    bound, batch = bind(program, inputs, None)
    data = {n: v.data if isinstance(v, Series) else v for n, v in bound.items()}
    for i in range(batch):
        length = None if lengths is None else int(lengths[i])
        for out, array in built.whole(program.name, {n: a[i] for n, a in data.items()}, length).items():
            wanted = golden.outputs[out][i]
            if program.is_series(program.outputs[out]):
                assert len(array) or length == 0, out
                wanted = wanted[: len(array)]
            np.testing.assert_array_equal(array, wanted, err_msg=out)


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
