"""Modules that are one step, ``(x_t, h) -> (y_t, h')``: custom cells become step graphs with states.

``states`` says which argument is a state and which result is its next value. ``nn.GRUCell``, ``nn.LSTMCell`` and
``nn.RNNCell`` inside become the IR's own cells; everything else is traced op by op.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np

from neurodeploy.errors import IRError, ModelError, UnsupportedError, nearest
from neurodeploy.importers import torch_check, torch_export
from neurodeploy.importers.check import Arrays, Trial, unchecked
from neurodeploy.importers.time import Tensor, Tracer
from neurodeploy.importers.time_axes import Axes, describe, feature
from neurodeploy.importers.time_emit import StageGraph
from neurodeploy.importers.time_nodes import Node
from neurodeploy.importers.torch_ops import Rule
from neurodeploy.importers.torch_recurrent import CELL_OPS, KINDS, cell_weights
from neurodeploy.ir.build import Sym
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify

KEY = (0, 0, 0)
STEP = "step"


def _call(t: Tracer, kind: str, x: Tensor, starts: Sequence[Tensor], weights: Sequence[Any]) -> tuple[Tensor, ...]:
    """One call of the IR's cell; ``weights`` are PyTorch's ``w_ih, w_hh, b_ih, b_hh`` and perhaps ``w_hr``."""
    name, attrs = KINDS[kind]
    if len(weights) == 5:
        attrs = {**attrs, "projection": True}
    constants = [t.lift(w).node for w in cell_weights(t, name, weights)]
    for tensor in (x, *starts):
        if [a.label for a in tensor.axes] != ["batch", "feature"]:
            raise t.error(f"a cell reads {describe(tensor.axes)}; needed [batch, feature].")
    nodes = [x.node, *(s.node for s in starts)]
    made = t._add("rnn", [*nodes, *constants], {"cell": name, "attrs": dict(attrs)}, starts[0].node.type, None)
    return tuple(
        Tensor(t._add("result", [made], {"index": i}, s.node.type, None), (s.axes[0], feature(s.node.type.size)))
        for i, s in enumerate(starts)
    )


def _cell(kind: str, t: Tracer, x: Tensor, hidden: Any, *weights: Any) -> Any:
    """``gru_cell(x, h, w_ih, w_hh, b_ih, b_hh)`` and its kin."""
    starts = list(hidden) if isinstance(hidden, list | tuple) else [hidden]
    found = _call(t, kind, x, starts, [*weights, None, None][:4])
    return found if kind == "lstm" else found[0]


def _layer(
    kind: str, t: Tracer, x: Tensor, initial: Any, params: Sequence[Tensor], has_biases: bool, layers: int,
    dropout: float, train: bool, two_way: bool, batch_first: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """A stack of recurrent layers over a sequence of one step."""
    time = 1 if batch_first else 0
    if two_way or x.rank != 3 or x.shape[time] != 1:
        raise t.error(
            "a recurrent layer in a step runs over more than one step, or backwards.",
            "Give it x_t.unsqueeze(1), or load the module as one that takes whole sequences (without states=).",
        )
    starts = list(initial) if isinstance(initial, list | tuple) else [initial]
    finals: list[list[Tensor]] = [[] for _ in starts]
    each = len(params) // layers
    y = t.squeeze(x, [time])
    for layer in range(layers):
        own: list[Any] = list(params[layer * each : (layer + 1) * each])
        if not has_biases:
            own[2:2] = [None, None]
        found = _call(t, kind, y, [t.take(s, 0, layer) for s in starts], own)
        y = found[0]
        for final, value in zip(finals, found):
            final.append(t.unsqueeze(value, [0]))
    return (t.unsqueeze(y, [time]), *(t.concat(final, 0) for final in finals))


STEP_RULES: Mapping[str, Rule] = {
    **{name: partial(_cell, name.removesuffix("_cell")) for name in CELL_OPS},
    **{kind: partial(_layer, kind) for kind in KINDS},
}


@dataclass
class _OneStage:
    """A plan of a single stage, for :class:`StageGraph`."""

    core: Tracer
    members: Mapping[Any, set[int]]
    exports: Mapping[Any, Mapping[int, Node]] = field(default_factory=lambda: {KEY: {}})
    home: Mapping[int, Any] = field(default_factory=dict)


class StepGraph(StageGraph):
    """The step's graph: inputs that are states become registers, cells become calls."""

    def __init__(self, tracer: Tracer, live: set[int], initial: Mapping[str, np.ndarray | None]) -> None:
        self.initial = initial
        self.registers: dict[str, Sym] = {}
        super().__init__(cast(Any, _OneStage(tracer, {KEY: live})), KEY, {KEY: STEP}, {})

    def _input(self, name: str, type_: TensorType, ref: Ref) -> Sym:
        if name not in self.initial:
            return super()._input(name, type_, ref)
        self.registers[name] = self.b.state(name, type_, self.initial[name])
        return self.registers[name]

    def _rnn(self, node: Node) -> None:
        args = [self.symbols[a.index] for a in node.inputs]
        self._results[node.index] = self.b.call(
            node.attrs["cell"], *args, name=self.b.fresh(node.name), **node.attrs["attrs"]
        )


@dataclass(frozen=True)
class Wiring:
    """Which argument (a leaf of the example) is a state, and which result is its next value."""

    names: Sequence[str]
    next: Mapping[str, int]
    initial: Mapping[str, np.ndarray | None]


def defaults(module: Any, states: Mapping[str, Any] | None, example: Any) -> tuple[Mapping[str, Any] | None, Any]:
    """The states of PyTorch's own cells, and zeros for those that the example leaves out."""
    import torch

    if states is not None or not isinstance(module, torch.nn.RNNCellBase):
        return states, example
    two = isinstance(module, torch.nn.LSTMCell)
    given = tuple(example) if isinstance(example, tuple | list) else (example,)
    if len(given) == 1 and hasattr(given[0], "shape"):
        zeros = torch.zeros(given[0].shape[0], module.hidden_size)
        example = (given[0], (zeros, zeros.clone()) if two else zeros)
    return {"hx": (0, 1) if two else 0}, example


def import_step(
    module: Any, example: Any, states: Mapping[str, Any], initial: Mapping[str, Any], outputs: Sequence[str] | None,
    name: str, source: str, checked: bool,
) -> Program:  # fmt: skip
    """A program that runs the module once a step. Raises :class:`ModelError`, :class:`UnsupportedError`."""
    import torch

    from neurodeploy.importers.torch import RULES, dtype_of, input_nodes, name_results, walk

    args = torch_export.grown(module, torch_export.arguments(module, example, source), source, one_axis=True)
    exported = torch_export.export(module, args, source)
    leaves, nodes = torch_check.tensors_of(args), input_nodes(exported)
    names = [node.name for node in nodes]
    keys = name_results(module, args)
    wiring = _wiring(names, keys, states, initial, source)
    fed = next(i for i, n in enumerate(names) if n not in wiring.next)
    tracer = Tracer(name, source)
    inputs: dict[Any, Tensor] = {}
    for node, leaf, labels in zip(nodes, leaves, torch_export.batch_axes(nodes, leaves, fed, source)):
        tracer.at("", node.name)
        sizes = ["B" if label == "batch" else int(size) for label, size in zip(labels, leaf.shape)]
        inputs[node] = tracer.input(node.name, labels, sizes, dtype_of(leaf))
    results = walk(tracer, exported, inputs, {**RULES, **STEP_RULES})
    named = _outputs(keys, results, wiring, outputs, source)
    program = _program(tracer, inputs, results, wiring, named, source)
    program = replace(program, meta={"origin": f"torch {torch.__version__}: {source}"})
    if not checked:
        return unchecked(program, "check=False")
    return _check(module, args, program, list(inputs.values()), results, wiring, named, source)


def _wiring(
    names: Sequence[str], keys: Sequence[str], states: Mapping[str, Any], initial: Mapping[str, Any], source: str
) -> Wiring:
    """``states`` and ``initial`` by the names of the graph's inputs."""
    following: dict[str, int] = {}
    for argument, value in _spread(names, states, "states=", source):
        if isinstance(value, str):
            if value not in keys:
                raise ModelError(
                    f"states= takes '{argument}' from the result '{value}', and there is none.", place=source,
                    hint=nearest(value, keys),
                )  # fmt: skip
            value = list(keys).index(value)
        if not isinstance(value, int) or isinstance(value, bool) or not -len(keys) <= value < len(keys):
            raise ModelError(
                f"states= takes '{argument}' from result {value!r}; forward returns {len(keys)}, numbered from 0.",
                place=source,
                hint="Count the tensors that forward returns, nested ones in order.",
            )
        following[argument] = value % len(keys)
    if not following:
        raise ModelError("states= names no state.", place=source, hint="For example states={'h': 1}.")
    if not set(names) - set(following):
        raise ModelError("every argument is a state; needed an input for each step.", place=source)
    starts: dict[str, np.ndarray | None] = dict.fromkeys(following)
    for argument, value in _spread(names, initial, "initial=", source):
        if argument not in following:
            raise ModelError(f"initial= names '{argument}', which is no state.", place=source)
        starts[argument] = torch_check.as_array(value) if hasattr(value, "detach") else np.asarray(value, np.float32)
    return Wiring(names, following, starts)


def _spread(names: Sequence[str], given: Mapping[str, Any], option: str, source: str) -> list[tuple[str, Any]]:
    """Entries by input name; a tuple for an argument ``hx`` goes to ``hx_0``, ``hx_1`` ..."""
    if not isinstance(given, Mapping):
        raise ModelError(
            f"{option} is {given!r}; needed a dictionary by argument of forward.", place=source,
            hint="Like states={'h': 1}: argument 'h' takes result 1 of the step before.",
        )  # fmt: skip
    found: list[tuple[str, Any]] = []
    for key, value in given.items():
        parts = list(value) if isinstance(value, tuple | list) else None
        inner = [key] if key in names else [n for n in names if n.startswith(f"{key}_")]
        if not inner:
            raise ModelError(
                f"{option} names '{key}', which is no argument of forward.", place=source,
                hint=nearest(key, names),
            )  # fmt: skip
        if key in names:
            found.append((key, value))
        elif parts is None or len(parts) != len(inner):
            raise ModelError(
                f"{option} gives {value!r} for '{key}'; needed a tuple of {len(inner)}, for {', '.join(inner)}.",
                place=source,
            )
        else:
            found += list(zip(inner, parts))
    return found


def _outputs(
    keys: Sequence[str], results: Sequence[Any], wiring: Wiring, names: Sequence[str] | None, source: str
) -> dict[str, int]:
    """Output name -> the number of the result."""
    used = set(wiring.next.values())
    chosen = [i for i, r in enumerate(results) if i not in used and isinstance(r, Tensor)]
    chosen = chosen or [i for i, r in enumerate(results) if isinstance(r, Tensor)]
    if names is not None:
        if len(names) != len(chosen) or len(set(names)) != len(names):
            raise ModelError(
                f"outputs= gives {len(names)} names; there are {len(chosen)} results that are no state's next value.",
                place=source,
                hint="Give one name each, all different.",
            )
        return dict(zip(names, chosen))
    if len(chosen) == 1 and keys[chosen[0]].startswith("output"):
        return {"output": chosen[0]}
    return {keys[i]: i for i in chosen}


def _program(
    tracer: Tracer, inputs: Mapping[Any, Tensor], results: Sequence[Any], wiring: Wiring, named: Mapping[str, int],
    source: str,
) -> Program:  # fmt: skip
    types = {node.name: tensor for node, tensor in inputs.items()}
    starts: dict[str, np.ndarray | None] = {}
    for state, index in wiring.next.items():
        held, new = types[state].node.type, results[index]
        if not isinstance(new, Tensor) or new.node.type != held:
            raise ModelError(
                f"state '{state}' is {held}, but result {index}, its next value, is "
                f"{new.node.type if isinstance(new, Tensor) else new}.",
                place=source,
                hint="states= maps an argument to the result that takes its place.",
            )
        start = wiring.initial[state]
        if start is not None and start.size != held.size:
            raise ModelError(
                f"initial= gives {list(start.shape)} for state '{state}'; needed {list(held.shape)}.", place=source
            )
        starts[types[state].node.attrs["name"]] = None if start is None else start.reshape(held.shape)
    ends = [results[i].node for i in (*wiring.next.values(), *named.values())]
    fed = [t.node for name, t in types.items() if name not in wiring.next]
    graph = StepGraph(tracer, _live([*ends, *fed, *(types[s].node for s in wiring.next)]), starts)
    try:
        for state, index in wiring.next.items():
            graph.b.next(graph.registers[types[state].node.attrs["name"]], graph.symbols[results[index].node.index])
        for name, index in named.items():
            graph.b.output(name, graph.symbols[results[index].node.index])
        stage = Stage(STEP, graph.finish(), Drive(), graph.inputs_from)
        series = {n: ProgramInput(i.type, "series") for n, i in tracer.inputs.items() if n not in starts}
        return verify(Program(tracer.name, series, (stage,), {n: Ref(n, STEP) for n in named}))
    except IRError as error:
        raise UnsupportedError(error.message, place=source, hint=error.hint) from error


def _live(ends: Sequence[Node]) -> set[int]:
    live: dict[int, Node] = {}
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node.index not in live:
            live[node.index] = node
            waiting += node.inputs
    return set(live)


def _check(
    module: Any, args: tuple[Any, ...], program: Program, inputs: Sequence[Tensor], results: Sequence[Any],
    wiring: Wiring, named: Mapping[str, int], source: str,
) -> Program:  # fmt: skip
    """Compare with the module run step by step. Raises :class:`ModelError` naming the output."""
    leaves = torch_check.tensors_of(args)
    fed = [i for i, name in enumerate(wiring.names) if name not in wiring.next]

    def reference(trial: Trial) -> Arrays:
        given = {i: trial.inputs[name] for i, name in zip(fed, program.inputs)}
        batch, steps = next(iter(given.values())).shape[:2]
        held = {
            name: _start(leaves[i], inputs[i].axes, wiring.initial[name], batch)
            for i, name in enumerate(wiring.names)
            if name in wiring.next
        }
        columns: dict[str, list[np.ndarray]] = {name: [] for name in named}
        for step in range(steps):
            now = [
                held[name] if name in held else torch_check.back(given[i][:, step], inputs[i], leaf)
                for i, (name, leaf) in enumerate(zip(wiring.names, leaves))
            ]
            found = torch_check.tensors_of(module(*torch_check.with_tensors(args, now)))
            for name, index in named.items():
                columns[name].append(torch_check.arranged(torch_check.as_array(found[index]), results[index], batch))
            held = {name: found[index] for name, index in wiring.next.items()}
        return {name: np.stack(column, axis=1) for name, column in columns.items()}

    example = {
        name: torch_check.arranged(torch_check.as_array(leaves[i]), inputs[i], 1)[:, None]
        for i, name in zip(fed, program.inputs)
    }
    return torch_check.compare(program, reference, Trial(example, None), 6, source, batches=(3, 2, 1))


def _start(leaf: Any, axes: Axes, initial: np.ndarray | None, batch: int) -> Any:
    """A state's tensor at the start."""
    import torch

    axis = next(i for i, a in enumerate(axes) if a.label == "batch")
    shape = list(leaf.shape)
    shape[axis] = 1
    start = torch.zeros(shape) if initial is None else torch.from_numpy(initial.reshape(shape).copy())
    return start.to(dtype=leaf.dtype, device=leaf.device).repeat_interleave(batch, dim=axis)
