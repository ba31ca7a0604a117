"""The C files of a program: one header and one source, structures whose layout is known here to the byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurodeploy.backends.c_emit_constants import Constants, identifier
from neurodeploy.backends.c_emit_lower import lower, split_rows
from neurodeploy.backends.c_emit_step import StepWriter
from neurodeploy.backends.c_layouts import PLAIN, Layout
from neurodeploy.backends.c_ops import STORED, literal
from neurodeploy.backends.c_ops_calls import contiguous_args, workspace
from neurodeploy.backends.c_storage import Rule, Storage, Stored, decide
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Program, Stage
from neurodeploy.ir.types import TensorType, int_range
from neurodeploy.passes.cut import cut
from neurodeploy.passes.fuse import fuse
from neurodeploy.passes.memory import Plan, plan
from neurodeploy.passes.views import push_slices

#: Headers that the C files include, and the example; a model's own files must not stand in for them.
_HEADERS = frozenset({"main", "string", "stdint", "stddef", "stdio"})
_NAME_MAX = 64
#: Around a header's declarations, so that C++ links with the C.
EXTERN_C = ("#ifdef __cplusplus", 'extern "C" {', "#endif", "")
END_EXTERN_C = ("#ifdef __cplusplus", "}", "#endif", "")


@dataclass(frozen=True)
class Struct:
    """One of a stage's structures: fields of (name, type, offset), its size in bytes, and ``room``: name -> elements,
    of fields that are longer than their type."""

    fields: tuple[tuple[str, TensorType, int], ...]
    nbytes: int
    room: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, types: Mapping[str, TensorType], room: Mapping[str, int] | None = None) -> Struct:
        """Fields in order, each aligned to 4 bytes or to its elements; ``room``: elements of those that have more."""
        at, fields, widest = 0, [], 4
        room = room or {}
        for name, type_ in types.items():
            align = max(4, type_.numpy.itemsize)
            at = -(-at // align) * align
            fields.append((name, type_, at))
            at += max(type_.nbytes, room.get(name, 0) * type_.numpy.itemsize)
            widest = max(widest, align)
        return cls(tuple(fields), max(-(-at // widest) * widest, 4), dict(room))

    def manifest(self) -> dict[str, Any]:
        """The layout as the manifest has it."""
        rows = [{"name": n, "offset": at, "dtype": t.dtype, "shape": list(t.shape)} for n, t, at in self.fields]
        return {"bytes": self.nbytes, "fields": rows}


@dataclass
class StageCode:
    """One stage as C: its prefix, structures, step and what it costs."""

    stage: Stage
    prefix: str
    plan: Plan
    structs: dict[str, Struct]
    body: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    buffers: dict[str, str] = field(default_factory=dict)
    functions: list[str] | None = None  # loops by themselves, where memory is to be small


@dataclass
class Code:
    """A program as C: ``files``, ``headers`` of the core that they include, stages, and bytes of every constant,
    which of them belong to products, and how those are stored."""

    name: str
    stages: list[StageCode]
    files: dict[str, bytes]
    headers: set[str]
    constants: dict[str, int]
    weights: set[str]
    storage: Storage

    @property
    def layout(self) -> dict[str, Any]:
        """The manifest's ``layout``: stage -> prefix, and fields of ``state``, ``in`` and ``out``."""
        return {
            code.stage.name: {"prefix": code.prefix, **{k: s.manifest() for k, s in code.structs.items()}}
            for code in self.stages
        }


def model_name(name: str) -> str:
    """A program's name as the prefix of C symbols and of files."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_").lower()[:_NAME_MAX].strip("_") or "model"
    if made.startswith("nd_"):
        made = f"m_{made}"  # the core's files
    if made.endswith(("_run", "_image")) or made in _HEADERS:
        made += "_model"  # other files of a build, or of C
    return identifier(made if not made[0].isdigit() else f"m{made}")


def emit(
    program: Program,
    layout: Layout = PLAIN,
    name: str | None = None,
    *,
    small: bool = False,
    rule: Rule | None = None,
) -> Code:
    """The C text of a program, its weights stored by ``rule``.

    ``small``: less RAM for some more instructions (:mod:`~neurodeploy.passes.cut`).

    Raises :class:`UnsupportedError` naming the value that has no C.
    """
    name = name or model_name(program.name)
    _distinct((stage.name for stage in program.stages), lambda n: identifier(n).upper(), program.name)
    constants = Constants(name)
    stages, headers = [], {"nd_math.h"}
    graphs = [_lowered(stage, layout, small) for stage in program.stages]
    storage = decide(graphs, layout, rule or Rule())
    for stage, graph, stored in zip(program.stages, graphs, storage.stages, strict=True):
        prefix = name if len(program.stages) == 1 else f"{name}_{identifier(stage.name)}"
        code, used = _stage(stage, graph, prefix, layout, constants, stored, small)
        stages.append(code)
        headers |= used
    files = {
        f"{name}.h": _header(program, name, stages).encode(),
        f"{name}.c": _source(program, name, stages, constants, headers, layout).encode(),
    }
    return Code(name, stages, files, headers, dict(constants.nbytes), constants.weights, storage)


def _distinct(names: Iterable[str], spelled: Callable[[str], str], place: str) -> None:
    """Refuse two names that C would not tell apart. Raises :class:`UnsupportedError`."""
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(spelled(name), name)
        if other != name:
            raise UnsupportedError(
                f"'{other}' and '{name}' are both '{spelled(name)}' in C.", place=place, hint="Rename one of them."
            )


def _lowered(stage: Stage, layout: Layout, small: bool) -> Graph:
    graph = lower(stage.graph, layout)
    if not small:
        return graph
    apart = split_rows(push_slices(graph))
    return min((graph, apart), key=lambda g: _planned(g, layout, small).scratch_bytes)


def _planned(graph: Graph, layout: Layout, small: bool) -> Plan:
    """The plan of a step; where memory is to be small, the smaller of two: with loops whole, and cut."""
    fused = fuse(graph, lambda value: contiguous_args(value, layout.align))
    plans = [plan(work, workspace, small=small) for work in ([fused, cut(fused)] if small else [fused])]
    return min(plans, key=lambda made: made.scratch_bytes)


def _stage(
    stage: Stage,
    graph: Graph,
    prefix: str,
    layout: Layout,
    constants: Constants,
    storage: Mapping[str, Stored],
    small: bool,
) -> tuple[StageCode, set[str]]:
    planned = _planned(graph, layout, small)
    structs = {
        "state": Struct.of({s.name: s.type for s in stage.graph.states}, _room(planned.fused.graph)),
        "in": Struct.of(stage.graph.inputs),
        "out": Struct.of(stage.graph.output_types()),
    }
    for role, struct in structs.items():
        _distinct((name for name, _, _ in struct.fields), identifier, f"stage '{stage.name}', {role}")
    writer = StepWriter(planned, layout, constants, storage, prefix if small else None)
    body = writer.body()
    code = StageCode(stage, prefix, planned, structs, body, writer.declared, writer.buffers, writer.functions)
    return code, writer.headers


def _room(graph: Graph) -> dict[str, int]:
    """State -> elements of its field, for those that have others' operands behind them."""
    return {v.args[0]: v.tensor.size for v in graph.values if v.op == "extend"}


# -- header ------------------------------------------------------------------------------------------------------------


def _header(program: Program, name: str, stages: Iterable[StageCode]) -> str:
    guard = f"{name.upper()}_H"
    lines = [
        f"/* {program.name}: a recurrent network, one time step at a time. Made by neurodeploy; see README.md. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
        '#include "nd_math.h"',
        "",
        *EXTERN_C,
    ]
    for code in stages:
        for role, text in (
            ("state", "What a stream remembers from step to step."),
            ("in", "What a step takes."),
            ("out", "What a step gives."),
        ):
            lines += [f"/* {text} {code.structs[role].nbytes} bytes. */", "typedef struct {"]
            lines += [f"    {line}" for line in _fields(code.structs[role])]
            lines += [f"}} {code.prefix}_{role}_t;", ""]
        p = code.prefix
        lines += [
            f"/* Scratch of a step, on the stack: {code.plan.scratch_bytes} bytes. */",
            f"#define {p.upper()}_SCRATCH_BYTES {code.plan.scratch_bytes}",
            "",
            f"void {p}_reset({p}_state_t *state);",
            f"void {p}_step({p}_state_t *state, const {p}_in_t *in, {p}_out_t *out);",
            "",
        ]
        lines += _conversions(code, program.numerics)
    return "\n".join([*lines, *END_EXTERN_C, "#endif", ""])


def _fields(struct: Struct) -> list[str]:
    if not struct.fields:
        return ["int32_t unused;"]
    lines = []
    for name, type_, at in struct.fields:
        room = max(struct.room.get(name, 0), type_.size)
        size = f"[{room}]" if type_.shape else ""
        aligned = " ND_ALIGNED(4)" if type_.numpy.itemsize < 4 else ""
        what = f" [{', '.join(map(str, type_.shape))}]" if len(type_.shape) > 1 else ""
        what += f", {type_.size} and room for operands" if room > type_.size else ""
        scale = f" scale {type_.quant.scale!r}" if type_.quant is not None and type_.quant.axis is None else ""
        lines.append(f"{STORED[type_.dtype]} {identifier(name)}{size}{aligned}; /* at {at}{what}{scale} */")
    return lines


def _conversions(code: StageCode, numerics: str) -> list[str]:
    """Real numbers to the integers of inputs, by the rule of the numerics, and integers of outputs to real numbers."""
    lines: list[str] = []
    p = code.prefix
    for name, type_, _ in code.structs["in"].fields:
        if type_.quant is None or type_.quant.axis is not None:
            continue
        tflite = numerics == "tflite"
        rule = "nd_quantize_away" if tflite else "nd_quantize"
        factor = literal((type_.quant.array if tflite else 1.0 / type_.quant.array).astype(np.float32), "f32")
        low, high = int_range(type_.dtype)
        lines += [
            f"/* A real number as an element of in.{identifier(name)}. */",
            f"static inline {STORED[type_.dtype]} {p}_quantize_{identifier(name)}(float real)",
            "{",
            f"    return ({STORED[type_.dtype]}){rule}(real, {factor}, {type_.quant.zero_point}, {low}, {high});",
            "}",
            "",
        ]
    for name, type_, _ in code.structs["out"].fields:
        if type_.quant is None or type_.quant.axis is not None:
            continue
        scale = literal(type_.quant.array.astype(np.float32), "f32")
        lines += [
            f"/* An element of out.{identifier(name)} as a real number. */",
            f"static inline float {p}_dequantize_{identifier(name)}({STORED[type_.dtype]} raw)",
            "{",
            f"    return nd_dequantize(raw, {scale}, {type_.quant.zero_point});",
            "}",
            "",
        ]
    return lines


# -- source ------------------------------------------------------------------------------------------------------------


def _source(
    program: Program, name: str, stages: list[StageCode], constants: Constants, headers: set[str], layout: Layout
) -> str:
    parts = [f'#include "{name}.h"', "", "#include <stddef.h>", "#include <string.h>", ""]
    parts += [f'#include "{h}"' for h in sorted((headers | constants.headers) - {"nd_math.h"})]
    for header, macro, number in (
        ("nd_affine.h", "ND_AFFINE_LAYOUT", layout.number),
        ("nd_affine4.h", "ND_AFFINE4_LAYOUT", layout.number4),
    ):
        if header in headers:
            parts += ["", f"#if {macro} != {number}"]
            parts += ['#error "the weights below are laid out for other kernels"', "#endif"]
    resets = {code.prefix: _reset(code, constants) for code in stages}
    parts += ["", *constants.text]
    for code in stages:
        parts += [*_assertions(code), "", *resets[code.prefix], "", *_step(code), ""]
    return "\n".join(parts)


def _assertions(code: StageCode) -> list[str]:
    lines = ["/* The layout that the manifest tells; a compiler that has another one stops here. */"]
    for role, struct in code.structs.items():
        kind = f"{code.prefix}_{role}_t"
        checks = [(f"sizeof({kind})", struct.nbytes)]
        checks += [(f"offsetof({kind}, {identifier(n)})", at) for n, _, at in struct.fields]
        condition = " && ".join(f"{left} == {right}" for left, right in checks)
        lines.append(f"typedef char {code.prefix}_{role}_layout[({condition}) ? 1 : -1];")
    return lines


def _reset(code: StageCode, constants: Constants) -> list[str]:
    lines = [f"void {code.prefix}_reset({code.prefix}_state_t *state)", "{", "    memset(state, 0, sizeof *state);"]
    for state in code.stage.graph.states:
        if state.init is None:
            continue
        data = code.stage.graph.params[state.init].data
        if not state.type.shape:
            lines.append(f"    state->{identifier(state.name)} = {literal(data, state.type.dtype)};")
        elif state.type.dtype == "i8" and (data == data.flat[0]).all() and data.any():
            lines.append(f"    memset(state->{identifier(state.name)}, {int(data.flat[0])}, {state.type.nbytes});")
        elif data.any():
            array = constants.array(state.init, data, state.type.dtype)
            lines.append(f"    memcpy(state->{identifier(state.name)}, {array}, {state.type.nbytes});")
    return [*lines, "}"]


def _step(code: StageCode) -> list[str]:
    p = code.prefix
    scratch = _scratch(code)
    before: list[str] = []
    lines = [f"void {p}_step({p}_state_t *state, const {p}_in_t *in, {p}_out_t *out)", "{"]
    if code.functions is None:
        lines += [f"    {line}" for line in [*scratch, *(["} s;"] if scratch else [])]]
    else:
        before = [
            *([scratch[0].replace("union {", f"union {p}_scratch {{"), *scratch[1:], "};", ""] if scratch else [])
        ]
        before += code.functions
        lines += [f"    union {p}_scratch scratch, *const s = &scratch;"] if scratch else []
    lines += [f"    {text}" for text in code.declared]
    text = "\n".join(code.body)
    lines += [f"    (void){role};" for role in ("state", "in", "out") if not re.search(rf"\b{role}\b", text)]
    return [*before, *lines, *code.body, "}"]


def _scratch(code: StageCode) -> list[str]:
    """The union of what a step remembers while it runs, without its end."""
    if not code.plan.buffers:
        return []
    lines = ["union { /* values that aren't alive together share bytes */"]
    for buffer in code.plan.buffers:
        skip = f"uint8_t skip[{buffer.offset}]; " if buffer.offset else ""
        kind = STORED[buffer.dtype]
        aligned = " ND_ALIGNED(4)" if np.dtype(TensorType((), buffer.dtype).numpy).itemsize < 4 else ""
        lines.append(f"    struct {{ {skip}{kind} v[{buffer.count}]{aligned}; }} {code.buffers[buffer.name]};")
    return lines


def manifest_types(types: Mapping[str, tuple[TensorType, str]]) -> list[dict[str, Any]]:
    """Rows of the manifest's ``inputs`` and ``outputs``: name, dtype, shape, kind, scale, zero_point."""
    return [
        {
            "name": name,
            "dtype": type_.dtype,
            "shape": list(type_.shape),
            "kind": kind,
            "scale": None if type_.quant is None else np.asarray(type_.quant.scale).tolist(),
            "zero_point": None if type_.quant is None else type_.quant.zero_point,
        }
        for name, (type_, kind) in types.items()
    ]
