"""The example of an export: a window of values through the whole program, every output printed as a real number."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from neurodeploy.backends.c_emit_constants import identifier
from neurodeploy.backends.c_export_model import Model
from neurodeploy.backends.c_ops import STORED, literal
from neurodeploy.ir.drive import quantize_input
from neurodeploy.ir.graph import Ref
from neurodeploy.ir.types import TensorType


@dataclass(frozen=True)
class Example:
    """C that any form of export puts into its own frame.

    ``data``: the window and the memory of the run. ``fill``: statements that set the run's inputs. ``show``: statements
    that call ``show(name, index, value)`` for every output element. ``run``: the structure's name.
    """

    data: list[str]
    fill: list[str]
    show: list[str]
    run: str

    def body(self, model: Model) -> list[str]:
        """``run_window``, which returns what ``<model>_run`` does; then the outputs can be shown."""
        return [
            *self.data,
            "/* The whole window through the network; 0 if it ran. */",
            "static int32_t run_window(void)",
            "{",
            *self.fill,
            f"    return {model.name}_run(&{self.run});",
            "}",
            "",
            "static void show_outputs(void)",
            "{",
            *self.show,
            "}",
            "",
        ]


def example(model: Model) -> Example:
    """The example's parts, in names that the model's headers leave free."""
    taken = set(re.findall(r"\w+", model.headers)) | {"show", "show_outputs", "run_window"}

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    run = free("run")
    data: list[str] = []
    fill: list[str] = []
    for name, place in model.run["inputs"].items():
        values, type_ = model.window[name], model.program.inputs[name].type
        given = model.program.inputs[name].kind
        array, function = free(f"{identifier(name)}_window"), _quantizer(model, name, type_)
        steps = f"{len(values)} steps of " if given == "series" else ""
        data.append(f"/* {name}: {steps}{type_.size} values, {model.window_note}. Put your own here. */")
        if function is None:
            raw = (
                values
                if type_.quant is None or values.dtype == type_.numpy
                else quantize_input(values, type_, model.program.numerics)
            )
            data += _array(array, raw.astype(type_.numpy), type_.dtype, type_.size)
            pointer = array
        else:
            data += _array(array, values, "f32", type_.size)
            pointer = free(f"{identifier(name)}_raw")
            data.append(f"static {STORED[type_.dtype]} {pointer}[{values.size}];")
            fill += [
                f"    for (int32_t k = 0; k < {values.size}; ++k) {{",
                f"        {pointer}[k] = {function}({array}[k]);",
                "    }",
            ]
        fill.append(f"    {run}.{place['field']} = {pointer};")
        if place["steps"]:
            fill.append(f"    {run}.{place['steps']} = {len(values)};")
    for series in model.run["series"]:
        room = free(f"{series['field']}_rows")
        count = max(1, rows_of(model, series["stage"]) * series["size"])
        data.append(f"static {STORED[series['dtype']]} {room}[{count}];")
        fill.append(f"    {run}.{series['field']} = {room};")
    data += [f"static {model.name}_run_t {run};", ""]
    show = [line for name, ref in model.program.outputs.items() for line in _show(model, run, name, ref)]
    return Example(data, fill, show, run)


def rows_of(model: Model, stage: str | None, name: str = "") -> int:
    """The most rows that a stage gives on the window, or that an input has."""
    if stage is None:
        return len(model.window[name])
    described = model.program.stage(stage)
    if described.drive.kind in ("until", "generate"):
        return int(described.drive.max_steps or 0)
    series = [ref for ref in described.inputs_from.values() if model.program.is_series(ref)]
    if series:
        return rows_of(model, series[0].stage, series[0].name)
    return len(model.window[described.drive.order]) if described.drive.order else 1


def _quantizer(model: Model, name: str, type_: TensorType) -> str | None:
    """The header's function that makes a real number an element of the input."""
    if type_.quant is None or type_.quant.axis is not None:
        return None
    for stage in model.program.stages:
        for inner, ref in stage.inputs_from.items():
            if ref.stage is None and ref.name == name and stage.graph.inputs[inner] == type_:
                return f"{model.prefixes[stage.name]}_quantize_{identifier(inner)}"
    return None


def _array(name: str, values: np.ndarray, dtype: str, width: int) -> list[str]:
    cells = [literal(x, dtype) for x in values.reshape(-1)]
    width = min(max(1, width), 12)
    rows = [f"    {', '.join(cells[i : i + width])}," for i in range(0, len(cells), width)]
    return [f"static const {STORED[dtype]} {name}[{max(1, len(cells))}] = {{", *(rows or ["    0"]), "};"]


def _show(model: Model, run: str, name: str, ref: Ref) -> list[str]:
    type_ = model.program.ref_type(ref)
    place = model.run["outputs"][name]
    indexed = place["rows"] is not None or bool(type_.shape)
    real = _real(model, ref, type_, f"{run}.{place['place']}" + ("[k]" if indexed else ""))
    label = re.sub(r"[^\x20-\x7e]|[\"\\%?]", "_", name)
    if not indexed:
        return [f'    show("{label}", 0, {real});']
    count = str(type_.size)
    if place["rows"] is not None:
        rows = f"{run}.{place['rows']}"
        count = f"{rows} * {type_.size}" if type_.size > 1 else rows
    return [f"    for (int32_t k = 0; k < {count}; ++k) {{", f'        show("{label}", k, {real});', "    }"]


def _real(model: Model, ref: Ref, type_: TensorType, raw: str) -> str:
    if type_.quant is None or type_.quant.axis is not None:
        return raw if type_.dtype == "f32" else f"(float){raw}"
    if ref.stage is not None and ref.at != "final":
        return f"{model.prefixes[ref.stage]}_dequantize_{identifier(ref.name)}({raw})"
    scale = literal(type_.quant.array.astype(np.float32), "f32")
    return f"nd_dequantize({raw}, {scale}, {type_.quant.zero_point})"
