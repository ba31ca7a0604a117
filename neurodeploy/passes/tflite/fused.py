"""TFLite's fused LSTM: which LSTMs of a program its operator can run, and how one is quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.errors import UnsupportedError, UsageError
from neurodeploy.ir.cells import body_of
from neurodeploy.ir.graph import Graph, Param, Program, Stage, Value, prune
from neurodeploy.ir.ops import infer
from neurodeploy.ir.tflite.fixed_point import quantize_multiplier
from neurodeploy.ir.tflite.lstm import GATE_IN, GATES, WEIGHTS
from neurodeploy.ir.tflite.products import fully_connected_factor
from neurodeploy.ir.types import Quant, TensorType, TupleType, int_range
from neurodeploy.passes.rewrite import Names, rebuild
from neurodeploy.passes.tflite.scales import Form, constants, step

if TYPE_CHECKING:
    from neurodeploy.passes.tflite.stage import Rule, StageQuantizer

#: Where Q3.12 ends.
GATE_LIMIT = 8.0
#: What ``lstm`` can have and TFLM's operator hasn't, by its attribute.
ODD = {"peephole": "peepholes", "projection": "a projection", "clip": "a clip", "input_forget": "coupled gates"}


@dataclass(frozen=True)
class FuseLSTM:
    """Turn every plain ``lstm`` into TFLite's, ``tflite_lstm`` on floats, which has an operator of its own.

    Plain: no peepholes, projection, clip or coupled gates; sigmoid and tanh; constant weights; states of its own that
    begin at 0 and are read by nothing else. Others stay ``lstm`` or become it, and a warning names them. Raises
    :class:`UsageError` if there is no plain one.
    """

    def __call__(self, program: Program) -> Program:
        odd: list[str] = []
        stages = tuple(replace(s, graph=_fuse(s, f"{program.name}/{s.name}", odd)) for s in program.stages)
        if not any(v.op == "tflite_lstm" for s in stages for v in s.graph.values):
            found = f"no LSTM that it can run: {'; '.join(odd)}" if odd else "no LSTM"
            raise UsageError(
                f"asks for the fused LSTM, and the network has {found}.",
                place=program.name,
                hint="Compile without fused_lstm.",
            )
        if not odd:
            return replace(program, stages=stages)
        warnings = [*program.meta.get("warnings", []), *(f"{text}: stays apart, not fused." for text in odd)]
        return replace(program, stages=stages, meta={**program.meta, "warnings": warnings})


def _fuse(stage: Stage, place: str, odd: list[str]) -> Graph:
    graph = stage.graph
    known = constants(graph)
    names, params, values = Names(graph.types()), dict(graph.params), []
    for value in graph.values:
        if value.op in ("lstm", "tflite_lstm"):
            reason = _odd(stage, value, known)
            if reason is None:
                value = value if value.op == "tflite_lstm" else _fused(value, known, names, params)
            else:
                value = replace(value, op="lstm")
                odd.append(f"{place}: %{value.name} {reason}")
        values.append(value)
    return prune(rebuild(graph, values, params, {}))


def _odd(stage: Stage, call: Value, known: Mapping[str, np.ndarray]) -> str | None:
    """Why the operator can't be this LSTM, or None."""
    graph, attrs = stage.graph, call.attrs
    for key, words in ODD.items():
        if attrs.get(key) not in (None, False):
            return f"has {words}"
    kinds = [a if isinstance(a, str) else a[0] for a in attrs.get("activations", ("sigmoid", "tanh", "tanh"))]
    if kinds != ["sigmoid", "tanh", "tanh"]:
        return f"has the activations {', '.join(kinds)}"
    x, *states = call.args[:3]
    if any(a not in known for a in call.args[3:]):
        return "has computed weights"
    if len(graph.tensor(x).shape) != 1 or x in known:
        return "has an input that isn't a vector of the step"
    made = {v.name: v.attrs["index"] for v in graph.values if v.op == "get" and v.args[0] == call.name}
    table = {state.name: state for state in graph.states}
    for index, name in enumerate(states):
        state = table.get(name)
        if state is None or made.get(state.next) != index or state.when is not None or name in stage.state_from:
            return f"has in %{name} no state of its own that moves at every step"
        if state.init is not None and np.any(known[state.init]):
            return f"begins with a %{name} other than 0"
        readers = [v for v in graph.values if name in v.args]
        if len(readers) != 1 or call.args.count(name) != 1 or name in graph.outputs.values():
            return f"isn't the only reader of %{name}"
    return None


def _fused(call: Value, known: Mapping[str, np.ndarray], names: Names, params: dict[str, Param]) -> Value:
    """The call with a param for each gate's weights."""
    args = list(call.args[:3])
    for stem, name in zip(("W", "U", "b"), call.args[3:], strict=True):
        for gate, part in zip(GATES, np.split(np.asarray(known[name], np.float32), 4), strict=True):
            args.append(names.fresh(f"{call.name}.{stem}_{gate}"))
            params[args[-1]] = Param.of(part)
    if not isinstance(call.type, TupleType) or call.body is None:
        return call
    (h, c), x = call.type.items, call.body.inputs[next(iter(call.body.inputs))]
    body = body_of("tflite_lstm", [x, h, c, *(params[a].type for a in args[3:])], {})
    return replace(call, op="tflite_lstm", args=tuple(args), attrs={}, body=body)


def _held(q: StageQuantizer, call: Value) -> None:
    """A warning if the kernel will cut off what the LSTM multiplies, by the ranges of calibration."""
    names = [f"{call.name}.{gate}_{of}" for gate in GATES for of in "xh"]
    top = max((abs(float(v)) for name in names for v in q.ranges.get(name, ())), default=0.0)
    if top > GATE_LIMIT:
        q.scales.warnings.append(
            f"'{q.stage.name}.{call.name}' multiplies its inputs up to {top:.3g} in calibration; TFLite's fused LSTM "
            f"holds each product to {GATE_LIMIT:g}. Compare accuracies, or compile without fused_lstm."
        )


def _lstm(q: StageQuantizer, call: Value) -> None:
    """int8 weights with a scale per gate, and biases on the scales of the products (Li and Alvarez 2021)."""
    if q.scales.widths.weight_bits != 8:
        raise UnsupportedError(
            f"would have weights of {q.scales.widths.weight_bits} bits; TFLite Micro's fused LSTM has 8 alone.",
            place=q.place(call.name),
            hint="Leave out weight_bits, or compile without fused_lstm.",
        )
    _held(q, call)
    _, h, c, *weights = call.args
    dtype = q.held(h).dtype
    x = q.cast(call.args[0], dtype)
    args, scales = [x, h, c], []
    for name in weights[:8]:
        data = np.asarray(q.known[name], np.float64)
        scales.append(step((float(np.abs(data).max(initial=0)) or 1.0) / 127))
        args.append(q.param(name, data, Form("i8", Quant(scales[-1]))))
    for name, scale in zip(weights[8:], scales[:4], strict=True):
        args.append(q.param(name, q.known[name], Form(WEIGHTS[dtype][1], Quant(step(q.held(x).scale * scale)))))
    for gate, w, u, bias in zip(GATES, args[3:7], args[7:11], args[11:], strict=True):
        _check_reach(q, call, f"W_{gate} x", x, w, bias)
        _check_reach(q, call, f"U_{gate} h", h, u, None)
    body = body_of("tflite_lstm", [q.types[a] for a in args], call.attrs)
    made = TupleType(tuple(body.output_types().values()))
    q.values.append(Value(call.name, "tflite_lstm", tuple(args), call.attrs, made, body))


def _check_reach(q: StageQuantizer, call: Value, what: str, x: str, weights: str, bias: str | None) -> None:
    """Refuse a product that could leave the kernel's integers on its way to Q3.12, whatever x is."""
    type_, data = q.types[x], q.params[weights].data.astype(np.int64)
    low, high = int_range(type_.dtype)
    zero = 0 if type_.quant is None else type_.quant.zero_point
    sums = np.abs(data).sum(axis=1) * max(high - zero, zero - low)
    reach = int((sums if bias is None else sums + np.abs(q.params[bias].data.astype(np.int64))).max())
    factor = float(fully_connected_factor(type_, q.types[weights], TensorType((), "i16", GATE_IN)))
    shift = max(int(quantize_multiplier(factor)[1]), 0)
    wide = type_.dtype == "i16"
    if (reach >= 1 << 47 or shift >= 8 or reach * factor >= 1 << 31) if wide else reach << shift >= 1 << 31:
        raise UnsupportedError(
            f"multiplies {what} up to {reach * factor * 2.0**-12:.3g}, beyond the integers of TFLite's kernel.",
            place=q.place(call.name),
            hint="Scale the inputs down (the gates are flat beyond 8), or compile without fused_lstm.",
        )


def _get(q: StageQuantizer, value: Value) -> None:
    """A result of the composite in the form that its body gives."""
    call = next(v for v in reversed(q.values) if v.name == value.args[0])
    made = infer("get", [call.type], value.attrs)
    if isinstance(made, TensorType):
        q.types[value.name] = made
    q.values.append(replace(value, type=made))


RULES: Mapping[str, Rule] = {"tflite_lstm": _lstm, "get": _get}
