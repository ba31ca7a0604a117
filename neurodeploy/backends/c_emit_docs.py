"""What stands beside the generated C: an example ``main.c`` and a README for the engineer who takes it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neurodeploy.artifact import Figure
from neurodeploy.backends.c_emit import Code, StageCode
from neurodeploy.backends.c_emit_constants import identifier
from neurodeploy.ir.graph import Program, Stage
from neurodeploy.ir.types import TensorType


def example(program: Program, code: Code) -> str:
    """A program that runs ten steps on zeros; it compiles as it stands."""
    lines = [f"/* How {code.name} is used: ten steps on inputs of zero. */", f'#include "{code.name}.h"', ""]
    for stage in code.stages:
        p = stage.prefix
        lines += [f"static {p}_state_t {p}_state;", f"static {p}_in_t {p}_in;", f"static {p}_out_t {p}_out;", ""]
    lines += ["int main(void)", "{"]
    for stage in code.stages:
        lines += _example_stage(stage)
    return "\n".join([*lines, "    return 0;", "}", ""])


def _example_stage(stage: StageCode) -> list[str]:
    p = stage.prefix
    lines = [f"    {p}_reset(&{p}_state);", "    for (int step = 0; step < 10; ++step) {"]
    for name, type_, _ in stage.structs["in"].fields:
        field = f"{p}_in.{identifier(name)}"
        quantized = type_.quant is not None and type_.quant.axis is None
        zero = f"{p}_quantize_{identifier(name)}(0.0f)" if quantized else "0"
        if type_.shape:
            lines += [
                f"        for (int i = 0; i < {type_.size}; ++i) {{",
                f"            {field}[i] = {zero};",
                "        }",
            ]
        else:
            lines.append(f"        {field} = {zero};")
    return [*lines, f"        {p}_step(&{p}_state, &{p}_in, &{p}_out);", "    }"]


def readme(
    program: Program, code: Code, manifest: Mapping[str, Any], figures: Sequence[Figure], files: Sequence[str]
) -> str:
    """How to put the files into a project, feed inputs, read outputs; and what the model takes."""
    name = code.name
    sources = ", ".join(
        f"`{f}`" for f in files if f.endswith(".c") and f != "main.c" and not f.endswith(("_image.c", "_run.c"))
    )
    parts = [
        f"# {program.name}: C for {manifest['target']}",
        "",
        f"Copy {sources} and the `.h` files into your project and include `{name}.h`. The code is C99, needs `memcpy` "
        "and `memset` and nothing else, allocates nothing and keeps no globals: two models, or two streams of one "
        "(each with its own state), run side by side. A step may not be interrupted by a step on the *same* state. "
        "Compile with `-O2 -ffp-contract=off`; `main.c` is an example.",
        "",
    ]
    if manifest["compiler"]["weights"] == "pairs" and {"nd_affine.c", "nd_affine4.c"} & set(files):
        parts += [
            "The weights are laid out for cores with SMLAD (Cortex-M4, M7, M33); on others the same code runs slowly.",
            "",
        ]
    for stage in code.stages:
        parts += _stage_section(stage, alone=len(code.stages) == 1 and stage.stage.drive.kind == "forward")
    parts += [f"`{name}_run.c` runs the program over whole sequences, stage after stage: see `{name}_run.h`.", ""]
    parts += _meaning(manifest)
    parts += _storage(manifest["storage"])
    parts += ["## What it takes", "", "| | | |", "|---|---:|---|"]
    parts += [f"| {f.name} | {f.value} {f.unit} | {f.source} |" for f in figures]
    return "\n".join([*parts, ""])


#: How a stage's steps follow one another, for a person who writes the loop.
_DRIVES = {
    "forward": "Steps from the first row of its series inputs to the last (one step if it has none)",
    "reverse": "Steps from the last row of its series inputs to the first",
    "order": "Steps along a list of row numbers",
    "until": "Steps on the same inputs until an output says that it is done",
    "generate": "Steps on its own outputs",
}


def _wiring(stage: Stage) -> str:
    """How a stage is driven, and where its inputs and first states come from."""
    given = [f"`in.{identifier(name)}` is `{ref}`" for name, ref in stage.inputs_from.items()]
    given += [f"state `{identifier(name)}` begins as `{ref}`" for name, ref in stage.state_from.items()]
    return "; ".join([_DRIVES[stage.drive.kind], *given]) + "."


def _stage_section(stage: StageCode, alone: bool) -> list[str]:
    p = stage.prefix
    wiring = [] if alone else [_wiring(stage.stage), ""]
    lines = [
        f"## `{p}`",
        "",
        *wiring,
        "```c",
        f"{p}_state_t state;",
        f"{p}_in_t in;",
        f"{p}_out_t out;",
        "",
        f"{p}_reset(&state);                /* once, or when a new sequence begins */",
        f"{p}_step(&state, &in, &out);      /* every time step */",
        "```",
        "",
        "| field | type | as a real number |",
        "|---|---|---|",
    ]
    for role in ("in", "out"):
        for name, type_, _ in stage.structs[role].fields:
            lines.append(
                f"| `{role}.{identifier(name)}` | {_shape(type_)} | {_real(p, role, identifier(name), type_)} |"
            )
    return [*lines, ""]


def _shape(type_: TensorType) -> str:
    return f"{type_.dtype}{list(type_.shape)}"


def _real(prefix: str, role: str, name: str, type_: TensorType) -> str:
    if type_.quant is None:
        return "itself"
    zero = f" - {type_.quant.zero_point}" if type_.quant.zero_point else ""
    how = f"{prefix}_quantize_{name}(real)" if role == "in" else f"{prefix}_dequantize_{name}(raw)"
    call = f"; `{how}`" if type_.quant.axis is None else ""
    return f"(raw{zero}) * {type_.quant.scale}{call}"


_FORMS = {"i8": "8 bits", "i16": "16 bits", "i4": "4 bits", "sparse": "rows without zeros"}


def _storage(storage: Mapping[str, Any]) -> list[str]:
    """Every product with its form; bytes are exact, instructions come from the kernels' measured costs."""
    if not storage["products"]:
        return []
    lines = [
        "## How the weights are stored",
        "",
        f"Chosen by the rule `{storage['optimize']}`. Bytes are those of weights, biases and multipliers; instructions "
        f"of one product are estimated from counts on {storage['costs']}.",
        "",
        "| product | shape | not zero | stored as | bytes | instructions | instead of |",
        "|---|---|---:|---|---:|---:|---|",
    ]
    for row in storage["products"]:
        chosen = row["candidates"][row["form"]]
        others = "; ".join(
            f"{_FORMS[form]}: {c['bytes']} B, {c['instructions']}"
            for form, c in row["candidates"].items()
            if form != row["form"]
        )
        shape = " x ".join(map(str, row["shape"]))
        lines.append(
            f"| {row['name']} | {shape} | {row['nonzero']} | {_FORMS[row['form']]} | {chosen['bytes']} "
            f"| {chosen['instructions']} | {others} |"
        )
    return [*lines, ""]


def _meaning(manifest: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    normalisation = manifest.get("normalisation")
    if normalisation:
        lines += [
            "## Inputs",
            "",
            "The network was trained on normalised inputs: give it `(x - mean) / std` with",
            "",
            f"- mean: {normalisation.get('mean')}",
            f"- std: {normalisation.get('std')}",
            "",
        ]
    labels = manifest.get("labels")
    if labels:
        lines += ["## Classes", "", "The index of the largest output is the class:", ""]
        lines += [f"{i}. {label}" if i else f"0. {label}" for i, label in enumerate(labels)]
        lines.append("")
    return lines
