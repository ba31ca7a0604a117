"""Which tensor costs how much accuracy when it is quantized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.ir.fixed import dequantize, quantize
from neurodeploy.ir.graph import Graph, Param, Program, Value
from neurodeploy.ir.interpret import run
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.calibrate import Calibrate, expanded
from neurodeploy.passes.quantize import Quantize, legal_form

Key = tuple[str, str, str]
#: What they give is a tensor that has been counted already.
_MOVES = frozenset({"slice", "reshape", "transpose", "broadcast", "get"})


@dataclass(frozen=True)
class Sensitivity:
    """What quantizing one tensor does to the outputs.

    ``rmse_alone``: root mean square error of the outputs over their range with this tensor alone quantized;
    ``rmse_others``: with all but this one. ``accuracy_*``: share of samples whose largest output is their label,
    None without labels. ``kind``: weight, input, state or activation.
    """

    tensor: str
    kind: str
    dtype: str
    elements: int
    rmse_alone: float
    rmse_others: float
    accuracy_alone: float | None = None
    accuracy_others: float | None = None


@dataclass(frozen=True)
class SensitivityTable:
    """Every tensor, the costliest first, with the float network and the wholly quantized one to compare with."""

    rows: tuple[Sensitivity, ...]
    rmse_all: float
    accuracy_float: float | None
    accuracy_all: float | None


def sensitivity(
    program: Program,
    data: Data,
    *,
    calibration: Data | None = None,
    method: str = "minmax",
    quantizer: Quantize | None = None,
    progress: Callable[[str], None] | None = None,
) -> SensitivityTable:
    """Quantize one tensor at a time, and all but one at a time, and measure the outputs on ``data``.

    A tensor is rounded to the scale and bits that ``quantizer`` gives it, weights to the nearest (what makes up for
    one weight's rounding is in the others and in the bias); the arithmetic around it stays float.
    ``calibration``: samples for the ranges (``data`` itself if None). Accuracy is of the first output, if data has
    labels. Raises :class:`UsageError` for a program that is not float.
    """
    if program.numerics != "float":
        raise UsageError(f"is {program.numerics} already; needed a float program.", place=program.name)
    calibrated = Calibrate(method=method, data=calibration or data)(program)
    quantized = (quantizer or Quantize())(calibrated)
    legal = legal_form(expanded(calibrated))
    tensors = _tensors(legal, quantized)
    reference = _outputs(legal, data, tensors, set())
    every = set(tensors)

    def measure(rounded: set[Key]) -> tuple[float, float | None]:
        found = _outputs(legal, data, tensors, rounded)
        return _error(reference, found, data), _accuracy(found, data)

    rows = []
    for i, (key, type_) in enumerate(tensors.items(), 1):
        stage, name, kind = key
        if progress is not None:
            progress(f"sensitivity: {i} of {len(tensors)} tensors (%{name})")
        alone, others = measure({key}), measure(every - {key})
        rows.append(
            Sensitivity(f"{stage}.{name}" if stage else name, kind, type_.dtype, type_.size, alone[0], others[0],
                        alone[1], others[1])
        )  # fmt: skip
    rows.sort(key=lambda row: -row.rmse_alone)
    rmse_all, accuracy_all = measure(every)
    return SensitivityTable(tuple(rows), rmse_all, _accuracy(reference, data), accuracy_all)


def _tensors(legal: Program, quantized: Program) -> dict[Key, TensorType]:
    """(stage, name, kind) of every tensor that has a quantized type, and that type."""
    found: dict[Key, TensorType] = {}
    for name, spec in quantized.inputs.items():
        if spec.type.quant is not None:
            found["", name, "input"] = spec.type
    for stage in legal.stages:
        graph = quantized.stage(stage.name).graph
        for name, param in graph.params.items():
            if param.type.quant is not None and name in stage.graph.params and param.type.dtype == "i8":
                found[stage.name, name, "weight"] = param.type
        nexts = {s.next for s in stage.graph.states}
        for state in graph.states:
            if state.type.quant is not None:
                found[stage.name, state.name, "state"] = state.type
        floats = {
            v.name
            for v in stage.graph.values
            if v.op not in _MOVES and isinstance(v.type, TensorType) and v.type.dtype == "f32"
        }
        for value in graph.values:
            name = _float_name(value.name)
            type_ = value.type
            if (
                name in floats - nexts
                and isinstance(type_, TensorType)
                and type_.dtype in ("i8", "i16")
                and type_.quant
            ):
                found.setdefault((stage.name, name, "activation"), type_)
    return found


def _float_name(name: str) -> str:
    """The float value that an integer one was made of."""
    for ending in (".i16", ".i8", ".acc", ".out"):
        name = name.removesuffix(ending)
    return name


def _rounded(array: np.ndarray, type_: TensorType) -> np.ndarray:
    return dequantize(quantize(array, type_), type_)


def _outputs(legal: Program, data: Data, tensors: Mapping[Key, TensorType], rounded: set[Key]) -> dict[str, np.ndarray]:
    """The outputs with some tensors rounded."""
    inputs: dict[str, Any] = dict(data.inputs)
    for stage, name, kind in rounded:
        if kind == "input":
            inputs[name] = _rounded(inputs[name], tensors[stage, name, kind])
    stages, overrides = [], {}
    for stage in legal.stages:
        chosen = {(n, k): tensors[s, n, k] for s, n, k in rounded if s == stage.name}
        params = {
            n: Param(p.type, _rounded(p.data, chosen[n, "weight"])) if (n, "weight") in chosen else p
            for n, p in stage.graph.params.items()
        }
        graph = replace(stage.graph, params=params)
        stages.append(replace(stage, graph=graph))
        overrides[stage.name] = _overrides(graph, chosen)
    program = replace(legal, stages=tuple(stages))
    return run(program, inputs, data.lengths, overrides=overrides).outputs


def _overrides(graph: Graph, chosen: Mapping[tuple[str, str], TensorType]) -> dict[str, Any]:
    """Values computed as ever, then rounded; a state is rounded where it is made."""
    types = graph.types()
    wanted = {n: t for (n, kind), t in chosen.items() if kind == "activation"}
    wanted |= {s.next: chosen[s.name, "state"] for s in graph.states if (s.name, "state") in chosen}

    def rounding(value: Value, type_: TensorType) -> Any:
        arg_types = [types[a] for a in value.args]

        def compute(args: list[np.ndarray]) -> np.ndarray:
            return _rounded(OPS[value.op].eval(args, value.attrs, value.tensor, arg_types), type_)  # type: ignore[arg-type]

        return compute

    return {v.name: rounding(v, wanted[v.name]) for v in graph.values if v.name in wanted and v.body is None}


def _error(reference: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], data: Data) -> float:
    """The largest error over the outputs: rmse over the range of the float output."""
    worst = 0.0
    for name, array in reference.items():
        if array.dtype.kind != "f":
            continue
        span = float(np.ptp(array)) or 1.0
        worst = max(worst, float(np.sqrt(np.mean((array.astype(np.float64) - found[name]) ** 2))) / span)
    return worst


def _accuracy(outputs: Mapping[str, np.ndarray], data: Data) -> float | None:
    """Share of samples whose largest element of the first output is their label."""
    scores = next(iter(outputs.values()))
    if data.labels is None or data.labels.ndim != 1 or scores.ndim != 2 or data.labels.dtype.kind not in "iu":
        return None
    return float(np.mean(scores.argmax(axis=1) == data.labels))
