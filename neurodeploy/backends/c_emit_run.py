"""``<model>_run``: the whole program in C, every stage along its drive, on memory that the caller gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from neurodeploy.backends.c_emit import END_EXTERN_C, EXTERN_C, Code, StageCode
from neurodeploy.backends.c_emit_constants import identifier
from neurodeploy.backends.c_ops import STORED
from neurodeploy.ir.drive import blank
from neurodeploy.ir.graph import Program, Ref
from neurodeploy.ir.types import TensorType


@dataclass(frozen=True)
class Field:
    """One field of ``<model>_run_t``.

    ``kind``: ``in`` or ``series`` (pointers that the caller sets), ``steps`` (a count that the caller sets), ``state``,
    ``count`` or ``out`` (filled by the run).
    """

    name: str
    kind: str
    text: str
    note: str
    type: TensorType | None = None
    nbytes: int = 0


@dataclass
class _Writer:
    program: Program
    code: Code
    fields: dict[tuple[str, ...], Field] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    # -- fields -------------------------------------------------------------------------------------------------------

    def add(self, key: tuple[str, ...], stem: str, kind: str, text: str, note: str, **more: object) -> Field:
        if key not in self.fields:
            taken = {f.name for f in self.fields.values()}
            name = identifier(stem)
            while name in taken:
                name += "_"
            self.fields[key] = Field(name, kind, text.replace("@", name), note, **more)  # type: ignore[arg-type]
        return self.fields[key]

    def declare(self) -> None:
        for name, given in self.program.inputs.items():
            kind = STORED[given.type.dtype]
            rows = f"one row of {given.type.size} a step" if given.kind == "series" else f"{given.type.size} elements"
            self.add(("input", name), name, "in", f"const {kind} *@;", rows, type=given.type)
            if given.kind == "series":
                self.add(("steps", name), f"{name}_steps", "steps", "int32_t @;", f"rows of {name}")
        for stage in self.code.stages:
            key, struct = stage.stage.name, f"{stage.prefix}_state_t @;"
            nbytes = stage.structs["state"].nbytes
            self.add(("state", key), f"{key}_state", "state", struct, "as it is at the end", nbytes=nbytes)
            self.add(("count", key), f"{key}_steps", "count", "int32_t @;", f"rows that {key} gave")
            if stage.stage.drive.kind in ("until", "generate"):
                self.add(
                    ("converged", key), f"{key}_converged", "count", "int32_t @;", "whether it ended before max_steps"
                )
        for ref in self.refs():
            if ref.stage is None or ref.at == "final":
                continue
            type_ = self.program.ref_type(ref)
            kind, stem = STORED[type_.dtype], f"{ref.stage}_{ref.name}"
            if ref.at == "series":
                text, note = f"{kind} *@;", f"room for a row of {type_.size} a step of {ref.stage}"
                self.add(("series", ref.stage, ref.name), stem, "series", text, note, type=type_)
            else:
                size = f"[{type_.size}]" if type_.shape else ""
                note = f"{ref.stage}'s {ref.name} at its last time index"
                self.add(("last", ref.stage, ref.name), f"{stem}_last", "out", f"{kind} @{size};", note, type=type_)

    def refs(self) -> list[Ref]:
        """Every ref of the program: what stages and outputs take."""
        found = [r for s in self.program.stages for r in (*s.inputs_from.values(), *s.state_from.values())]
        return list(dict.fromkeys([*found, *self.program.outputs.values()]))

    def name(self, *key: str) -> str:
        return f"run->{self.fields[key].name}"

    def source(self, ref: Ref) -> str:
        """A pointer to what a ref names."""
        if ref.stage is None:
            return self.name("input", ref.name)
        if ref.at == "series":
            return self.name("series", ref.stage, ref.name)
        type_ = self.program.ref_type(ref)
        if ref.at == "last":
            return _address(self.name("last", ref.stage, ref.name), type_)
        return _address(f"{self.name('state', ref.stage)}.{identifier(ref.name)}", type_)

    def rows(self, ref: Ref) -> str:
        return self.name("steps", ref.name) if ref.stage is None else self.name("count", str(ref.stage))

    # -- stages -------------------------------------------------------------------------------------------------------

    def stage(self, code: StageCode) -> None:
        stage, p = code.stage, code.prefix
        kind = stage.drive.kind
        series = {n: r for n, r in stage.inputs_from.items() if self.program.is_series(r)}
        put = self.lines.append
        put(f"/* {stage.name}: {_words(kind, stage.drive)}. */")
        put(f"static int32_t run_{identifier(stage.name)}({self.code.name}_run_t *run)")
        put("{")
        put(f"    {p}_in_t in;")
        put(f"    {p}_out_t out;")
        for n, r in list(series.items())[1:]:
            del n
            put(f"    if ({self.rows(r)} != {self.rows(next(iter(series.values())))}) {{")
            put("        return -1; /* its series differ in length */")
            put("    }")
        put("    memset(&in, 0, sizeof in);")
        put(f"    {p}_reset(&{self.name('state', stage.name)});")
        for n, r in stage.state_from.items():
            target = _address(f"{self.name('state', stage.name)}.{identifier(n)}", self.program.ref_type(r))
            put(f"    memcpy({target}, {self.source(r)}, {self.program.ref_type(r).nbytes});")
        for n, r in stage.inputs_from.items():
            if n not in series:
                type_ = self.program.ref_type(r)
                put(f"    memcpy({_address(f'in.{identifier(n)}', type_)}, {self.source(r)}, {type_.nbytes});")
        outs = [f for key, f in self.fields.items() if key[0] == "last" and key[1] == stage.name]
        for f in outs:
            if f.type is not None:
                self._blank(_address(f"run->{f.name}", f.type), f.type, "")
        if kind in ("until", "generate"):
            self._iterated(code)
        else:
            self._along(code, series)
        self.lines += ["    return 0;", "}", ""]

    def _along(self, code: StageCode, series: dict[str, Ref]) -> None:
        stage, put = code.stage, self.lines.append
        steps, count = self.name("count", stage.name), self.name("count", stage.name)
        order = self.name("input", stage.drive.order) if stage.drive.order else ""
        rows = self.rows(next(iter(series.values()))) if series else "1"
        if order:
            count = self.name("steps", str(stage.drive.order))
            rows = rows if series else count
        put(f"    {steps} = {rows};")
        if order:
            for key, f in self.fields.items():
                if key[:2] == ("series", stage.name) and f.type is not None:
                    self._blank(f"run->{f.name}", f.type, steps)
        put(f"    for (int32_t k = 0; k < {count}; ++k) {{")
        index = {"reverse": f"{steps} - 1 - k", "order": f"{order}[k]"}.get(stage.drive.kind, "k")
        put(f"        const int32_t row = {index};")
        if order:
            self.lines += ["        if (row < 0) {", "            continue;", "        }"]
            self.lines += [f"        if (row >= {steps}) {{", "            return -2; /* no such row */", "        }"]
        for n, r in series.items():
            type_ = self.program.ref_type(r)
            at = f"{self.source(r)} + row * {type_.size}" if type_.size > 1 else f"{self.source(r)} + row"
            put(f"        memcpy({_address(f'in.{identifier(n)}', type_)}, {at}, {type_.nbytes});")
        put(f"        {code.prefix}_step(&{self.name('state', stage.name)}, &in, &out);")
        self._keep(code, "row", f"row == {steps} - 1")
        put("    }")

    def _blank(self, pointer: str, type_: TensorType, rows: str) -> None:
        """Fill so many rows, one without ``rows``, with what no step gives."""
        value, put = blank(type_), self.lines.append
        if not value or type_.dtype == "i8":
            count = f"(size_t){rows} * {type_.nbytes}u" if rows else f"{type_.nbytes}"
            put(f"    memset({pointer}, {value}, {count});")
            return
        put(f"    for (int32_t k = 0; k < {f'{rows} * {type_.size}' if rows else type_.size}; ++k) {{")
        put(f"        ({pointer})[k] = {value};")
        put("    }")

    def _iterated(self, code: StageCode) -> None:
        stage, put = code.stage, self.lines.append
        drive, steps = stage.drive, self.name("count", stage.name)
        stop = drive.predicate if drive.kind == "until" else drive.stop
        put(f"    {self.name('converged', stage.name)} = 0;")
        put(f"    for (int32_t k = 0; k < {drive.max_steps}; ++k) {{")
        put(f"        {code.prefix}_step(&{self.name('state', stage.name)}, &in, &out);")
        put(f"        {steps} = k + 1;")
        self._keep(code, "k", "")
        if stop is not None:
            put(f"        if (out.{identifier(stop)}) {{")
            put(f"            {self.name('converged', stage.name)} = 1;")
            self.lines += ["            break;", "        }"]
        for into, output in drive.feedback.items():
            type_ = stage.graph.inputs[into]
            target, source = (_address(f"{r}.{identifier(n)}", type_) for r, n in (("in", into), ("out", output)))
            put(f"        memcpy({target}, {source}, {type_.nbytes});")
        put("    }")

    def _keep(self, code: StageCode, row: str, last: str) -> None:
        """Store a step's outputs where somebody wants them."""
        put = self.lines.append
        for key, f in self.fields.items():
            if key[0] not in ("series", "last") or key[1] != code.stage.name or f.type is None:
                continue
            source = _address(f"out.{identifier(key[2])}", f.type)
            if key[0] == "series":
                at = f"{row} * {f.type.size}" if f.type.size > 1 else row
                put(f"        memcpy(run->{f.name} + {at}, {source}, {f.type.nbytes});")
                continue
            copy = f"memcpy({_address(f'run->{f.name}', f.type)}, {source}, {f.type.nbytes});"
            self.lines += (
                [f"        if ({last}) {{", f"            {copy}", "        }"] if last else [f"        {copy}"]
            )


def emit_run(program: Program, code: Code) -> tuple[dict[str, bytes], list[Field]]:
    """``<model>_run.h`` and ``.c``, and the fields of its structure in order."""
    writer = _Writer(program, code)
    writer.declare()
    for stage in code.stages:
        writer.stage(stage)
    name = code.name
    fields = list(writer.fields.values())
    source = [f'#include "{name}_run.h"', "", "#include <stddef.h>", "#include <string.h>", "", *writer.lines]
    source += [f"int32_t {name}_run({name}_run_t *run)", "{"]
    for stage in code.stages:
        call = f"run_{identifier(stage.stage.name)}(run)"
        source += [
            "    {",
            f"        const int32_t failed = {call};",
            "        if (failed) {",
            "            return failed;",
        ]
        source += ["        }", "    }"]
    source += ["    return 0;", "}", ""]
    header = _header(name, fields, {out: writer.source(ref) for out, ref in program.outputs.items()})
    return {f"{name}_run.h": header.encode(), f"{name}_run.c": "\n".join(source).encode()}, fields


def describe_run(program: Program, code: Code) -> dict[str, Any]:
    """``<model>_run_t`` as the manifest has it, for those who write a call of ``<model>_run``.

    ``inputs``: program input -> its ``field`` and the field of its ``steps`` (None for a static one). ``series``: what
    needs memory for a row a step of ``stage``. ``outputs``: program output -> the C ``place`` where it is afterwards,
    and the field that says how many ``rows`` it has (None if it is no series).
    """
    writer = _Writer(program, code)
    writer.declare()
    inputs = {
        name: {
            "field": writer.fields["input", name].name,
            "steps": writer.fields["steps", name].name if given.kind == "series" else None,
        }
        for name, given in program.inputs.items()
    }
    series = [
        {"field": f.name, "stage": key[1], "dtype": f.type.dtype, "size": f.type.size}
        for key, f in writer.fields.items()
        if key[0] == "series" and f.type is not None
    ]
    outputs = {
        name: {
            "place": writer.source(ref).lstrip("&").removeprefix("run->"),
            "rows": writer.rows(ref).removeprefix("run->") if program.is_series(ref) else None,
        }
        for name, ref in program.outputs.items()
    }
    return {"name": code.name, "inputs": inputs, "series": series, "outputs": outputs}


def _header(name: str, fields: Sequence[Field], outputs: dict[str, str]) -> str:
    lines = [
        f"/* The whole of {name} over a sequence: set the pointers and counts, call {name}_run, read the outputs. */",
        f"#ifndef {name.upper()}_RUN_H",
        f"#define {name.upper()}_RUN_H",
        "",
        f'#include "{name}.h"',
        "",
        *EXTERN_C,
        "typedef struct {",
    ]
    titles = {"in": "inputs", "steps": "inputs", "series": "series: memory that the caller gives"}
    last = ""
    for f in fields:
        title = titles.get(f.kind, "filled in by the run")
        if title != last:
            lines.append(f"    /* {title} */")
            last = title
        lines.append(f"    {f.text} /* {f.note} */")
    shown = ", ".join(f"{out}: {place.lstrip('&')}" for out, place in outputs.items())
    return "\n".join(
        [
            *lines,
            f"}} {name}_run_t;",
            "",
            f"/* Outputs: {shown}.",
            " * Returns 0; -1 if a stage's series differ in length, -2 if an order names a row that isn't there. */",
            f"int32_t {name}_run({name}_run_t *run);",
            "",
            *END_EXTERN_C,
            "#endif",
            "",
        ]
    )


def _address(expression: str, type_: TensorType | None) -> str:
    return expression if type_ is not None and type_.shape else f"&{expression}"


def _words(kind: str, drive: object) -> str:
    return {
        "forward": "a step for every row, from the first",
        "reverse": "a step for every row, from the last",
        "order": f"rows in the order that {getattr(drive, 'order', '')} lists",
        "until": f"until {getattr(drive, 'predicate', '')}",
        "generate": "each step takes what the one before gave",
    }[kind]
