"""A float program in PyTorch: the golden model's meaning with gradients, so that its params can be trained.

Importing this needs torch. Float values are float32 tensors ``[batch or 1, ...]``; whole numbers are float64, without
gradient; conditions are bool. The ops that an integer program has too are those of the snnTorch runner
(:mod:`neurodeploy.spiking.snntorch_ops`), which torch computes alike on both. A step that a sample has no more part in
leaves its states as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import fixed
from neurodeploy.ir.drive import Series, bind, path
from neurodeploy.ir.graph import Program, Ref, Stage
from neurodeploy.ir.op import axis_of
from neurodeploy.ir.types import TensorType, int_range
from neurodeploy.passes.tiling import OP
from neurodeploy.spiking import snntorch_ops

Key = tuple[str, str]
#: A product in place of a ``crossbar`` value's own: ``(weight, x) -> y``.
Product = Callable[[Tensor, Tensor], Tensor]
_SHARED = (
    "add", "sub", "mul", "min", "max", "neg", "abs", "relu", "eq", "lt", "ne", "select", "matmul", "einsum", "sum",
    "reduce_max", "argmax", "concat", "slice", "reshape", "transpose", "broadcast", "gather", "row", "put", "shift",
)  # fmt: skip
DRIVES = ("forward", "reverse", "order")


def tensor_of(array: np.ndarray) -> Tensor:
    """An array of the golden model: float32 as it is, whole numbers as float64, conditions as bool."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array.astype(np.float64) if array.dtype.kind in "iu" else array.copy())


def check(program: Program) -> None:
    """Raise :class:`UnsupportedError` naming the first value or drive without a form that can be trained."""
    for stage in program.stages:
        if stage.drive.kind not in DRIVES:
            raise UnsupportedError(
                f"is driven '{stage.drive.kind}'; fine-tuning takes {', '.join(DRIVES)}.",
                place=f"{program.name}: stage '{stage.name}'",
                hint="Leave out fine-tuning.",
            )
        for value in stage.graph.values:
            if value.op != OP and (value.op not in OPS or value.body is not None):
                raise UnsupportedError(
                    f"%{value.name} ({value.op}) has no form in PyTorch that can be trained.",
                    place=f"{program.name}: stage '{stage.name}'",
                    hint="Leave out fine-tuning.",
                )


def run(
    program: Program, params: Mapping[Key, Tensor], inputs: Mapping[str, np.ndarray], lengths: np.ndarray | None,
    products: Mapping[Key, Product],
) -> dict[str, Tensor]:  # fmt: skip
    """Run a tiled program (see :func:`check`) on a batch: program output -> ``[B, T, ...]`` or ``[B, ...]``.

    ``params``: (stage, name) -> tensor in place of the program's own; ``products``: (stage, value) -> what computes
    that ``crossbar`` value, in place of the exact product. Raises :class:`DataError` for data that don't fit.
    """
    bound, batch = bind(program, inputs, lengths)
    data = {n: _series(tensor_of(a.data), a.lengths) if isinstance(a, Series) else tensor_of(a)
            for n, a in bound.items()}  # fmt: skip
    results: dict[str, tuple[dict[str, Series], dict[str, Tensor]]] = {}
    for stage in program.stages:
        start = {name: _found(ref, data, results) for name, ref in stage.state_from.items()}
        feed = {name: _found(ref, data, results) for name, ref in stage.inputs_from.items()}
        engine = _Step(stage, params, products, batch, start)
        results[stage.name] = _along(stage, feed, bound, batch, engine), engine.states
    found = {name: _found(ref, data, results) for name, ref in program.outputs.items()}
    return {name: a.data if isinstance(a, Series) else a for name, a in found.items()}  # type: ignore[misc]


def _series(data: Any, lengths: np.ndarray) -> Series:
    """A series of tensors: nothing that walks one asks what its data are."""
    return Series(data, lengths)


def _found(ref: Ref, data: Mapping[str, Any], results: Mapping[str, tuple[Mapping, Mapping]]) -> Any:
    if ref.stage is None:
        return data[ref.name]
    outputs, final = results[ref.stage]
    if ref.at == "final":
        return final[ref.name]
    series = outputs[ref.name]
    if ref.at == "series":
        return series
    last = torch.from_numpy(np.maximum(series.lengths - 1, 0))
    return series.data[torch.arange(len(last)), last]


def _along(
    stage: Stage, feed: Mapping[str, Any], data: Mapping[str, Any], batch: int, engine: _Step
) -> dict[str, Series]:
    index, active, lengths, span = path(stage, feed, data, batch)
    rows, places, on = torch.arange(batch)[:, None], torch.from_numpy(np.array(index)), torch.from_numpy(active)
    fed = {n: a.data[rows, places] if isinstance(a, Series) else a for n, a in feed.items()}
    columns: dict[str, list[Tensor]] = {name: [] for name in stage.graph.outputs}
    for k in range(index.shape[1]):
        now = {n: fed[n][:, k] if isinstance(feed[n], Series) else fed[n] for n in feed}
        for name, found in engine.step(now, on[:, k]).items():
            columns[name].append(found)
    where = torch.nonzero(on, as_tuple=True)
    outputs = {}
    for name, column in columns.items():
        stepped = torch.stack(column, dim=1)
        placed = stepped.new_zeros((batch, span, *stepped.shape[2:]))
        outputs[name] = _series(placed.index_put((where[0], places[where]), stepped[where]), lengths)
    return outputs


class _Step:
    """Runs one stage's step; ``states`` are the states as they stand."""

    def __init__(
        self, stage: Stage, params: Mapping[Key, Tensor], products: Mapping[Key, Product], batch: int,
        start: Mapping[str, Tensor],
    ) -> None:  # fmt: skip
        self.graph, self.types, self.batch = stage.graph, stage.graph.types(), batch
        self.products = {value: product for (where, value), product in products.items() if where == stage.name}
        self.params = {
            name: params[stage.name, name][None] if (stage.name, name) in params else tensor_of(param.data[None])
            for name, param in self.graph.params.items()
        }
        self.states: dict[str, Tensor] = {}
        for state in self.graph.states:
            first = start.get(state.name)
            if first is None:
                zeros = tensor_of(np.zeros((1, *state.type.shape), state.type.numpy))
                first = self.params[state.init] if state.init else zeros
            self.states[state.name] = first.expand(batch, *state.type.shape)

    def step(self, inputs: Mapping[str, Tensor], active: Tensor) -> dict[str, Tensor]:
        """One step of all samples: the stage's outputs ``[B, ...]``."""
        table: dict[str, Tensor] = {**self.params, **inputs, **self.states}
        for value in self.graph.values:
            args = [table[a] for a in value.args]
            if value.name in self.products:
                weight, x = args if value.attrs["side"] == "left" else reversed(args)
                table[value.name] = self.products[value.name](weight[0], x)
            else:
                rule = OPS["matmul" if value.op == OP else value.op]
                types = [self.types[a] for a in value.args]
                table[value.name] = rule(args, value.attrs, value.tensor, types)
        states = {}
        for state in self.graph.states:
            moves = active if state.when is None else active & table[state.when].expand(self.batch)
            mask = moves.reshape(-1, *(1,) * len(state.type.shape))
            states[state.name] = torch.where(mask, table[state.next], self.states[state.name])
        self.states = states
        shapes = self.graph.output_types()
        return {out: table[name].expand(self.batch, *shapes[out].shape) for out, name in self.graph.outputs.items()}


# --------------------------------------------------------------------------------------------------- float ops


def _one(function: Callable[[Tensor], Tensor]) -> snntorch_ops.Rule:
    return lambda args, attrs, type_, types: function(args[0])


def _by_kind(name: str, function: Callable[..., Tensor]) -> snntorch_ops.Rule:
    """``function`` on floats, the integer op on whole numbers."""
    whole = snntorch_ops.OPS[name]

    def rule(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Any) -> Tensor:
        return whole(args, attrs, type_, types) if type_.is_int else function(*snntorch_ops.align(args))

    return rule


def _cast(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Any) -> Tensor:
    x = args[0]
    if type_.dtype == "bool":
        return x != 0
    if not type_.is_int:
        return x.float()
    return torch.trunc(torch.nan_to_num(x.double())).clamp(*int_range(type_.dtype))


def _const(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Any) -> Tensor:
    return tensor_of(np.asarray(attrs["value"]).astype(type_.numpy)[None])


def _random(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Any) -> Tensor:
    if type_.is_int:
        return snntorch_ops.OPS["random"](args, attrs, type_, types)
    counter = args[0].long().numpy().astype(np.int32)
    words = fixed.philox(counter.astype(np.uint32), type_.size, attrs["seed"]).reshape(-1, *type_.shape)
    return torch.from_numpy((words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24))


def _softmax(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Any) -> Tensor:
    return torch.softmax(args[0], dim=axis_of(attrs, type_.shape) + 1)


def _prod(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Any) -> Tensor:
    return args[0].prod(dim=axis_of(attrs, types[0].shape) + 1, keepdim=bool(attrs.get("keepdims")))


def _solve(args: list[Tensor], attrs: Mapping[str, Any], type_: TensorType, types: Any) -> Tensor:
    a, b = snntorch_ops.batched(args)
    return torch.linalg.solve(a.double(), b.double()[..., None])[..., 0].float()


#: Ops that can stand in a trained program; ``floor``, ``round`` and comparisons pass no gradient.
OPS: Mapping[str, snntorch_ops.Rule] = {
    **{name: snntorch_ops.OPS[name] for name in _SHARED},
    "div": _by_kind("div", torch.div),
    "sqrt": _by_kind("sqrt", torch.sqrt),
    "tanh": _one(torch.tanh),
    "sigmoid": _one(torch.sigmoid),
    "exp": _one(torch.exp),
    "log": _one(torch.log),
    "softplus": _one(torch.nn.functional.softplus),
    "floor": _one(torch.floor),
    "round": _one(torch.round),
    "softmax": _softmax,
    "prod": _prod,
    "solve": _solve,
    "cast": _cast,
    "const": _const,
    "random": _random,
}
