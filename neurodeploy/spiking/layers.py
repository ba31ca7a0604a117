"""The recurrent layers of a program without gates, as :class:`~neurodeploy.spiking.units.Units`.

One stage, whose states each are fed by one cell leaky, elman, indrnn or ctrnn; a layer's input is an affine map of the
program's input or of the layer below it, the output one of a layer's new state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Program, Stage, Value
from neurodeploy.spiking import network
from neurodeploy.spiking.affine import Affine, affine_values
from neurodeploy.spiking.network import activation_function
from neurodeploy.spiking.tuning import Function
from neurodeploy.spiking.units import Units, of_layer

#: cell -> the names of its arguments.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "leaky": ("x", "h", "W", "U", "bias", "leak"),
    "elman": ("x", "h", "W", "U", "bias"),
    "indrnn": ("x", "h", "W", "u", "bias"),
    "ctrnn": ("x", "h", "U", "theta", "leak"),
}


@dataclass(frozen=True)
class _Layer:
    cell: Value
    below: str
    W: np.ndarray
    U: np.ndarray
    bias: np.ndarray
    leak: np.ndarray
    theta: np.ndarray


def find(program: Program) -> Units:
    """The units of a program. Raises :class:`UnsupportedError` naming the cell or value that rates can't follow."""
    for stage in program.stages:
        for value in stage.graph.values:
            if value.op in network.GATED:
                raise UnsupportedError(
                    f"its gates multiply two changing values, which neurons that add up spikes can't; needed "
                    f"{', '.join(ARGUMENTS)}.",
                    place=f"{program.name}/{stage.name}: %{value.name} ({value.op})",
                    hint="Use a target of the method sigma-delta, which takes gated cells.",
                )
    cells = [v for stage in program.stages for v in stage.graph.values if v.op in ARGUMENTS]
    if len(program.stages) != 1 or not cells or (len(cells) == 1 and cells[0].op in network.CELLS):
        found = network.find(program, "rate")
        return of_layer(found, f"{program.name}/{found.stage}")
    (stage,) = program.stages
    place = f"{program.name}/{stage.name}"
    return _units(program, stage, _layers(stage, place), place)


def _layers(stage: Stage, place: str) -> list[_Layer]:
    graph = stage.graph
    if stage.drive.kind != "forward":
        raise UnsupportedError(
            f"the drive is '{stage.drive.kind}'; spikes run forward in time.", place=place, hint="Use a board target."
        )
    state_of = {state.next: state for state in graph.states}
    cells = [value for value in graph.values if value.op in ARGUMENTS]
    for state in graph.states:
        if state.next not in {cell.name for cell in cells}:
            raise UnsupportedError(
                f"is not fed by a cell {', '.join(ARGUMENTS)}.", place=f"{place}: state %{state.name}",
                hint="Use a target of the method sigma-delta, or a board.",
            )  # fmt: skip
        start = None if state.init is None else graph.params[state.init].data
        if state.when or stage.state_from or (start is not None and np.any(start)):
            raise UnsupportedError(
                f"{'is guarded' if state.when else 'starts elsewhere'}; spikes start every state at zero and update it "
                "each step.",
                place=f"{place}: state %{state.name}",
                hint="Use a board target.",
            )
    known = affine_values(graph, [*network.vectors(graph), *(s.name for s in graph.states), *(c.name for c in cells)])
    return [_layer(graph, cell, state_of[cell.name].name if cell.name in state_of else "", known, place)
            for cell in cells]  # fmt: skip


def _layer(graph: Graph, cell: Value, state: str, known: dict[str, Affine], place: str) -> _Layer:
    names = dict(zip(ARGUMENTS[cell.op], cell.args, strict=False))
    here = f"{place}: %{cell.name} ({cell.op})"
    fixed = {}
    for key, name in names.items():
        if key not in ("x", "h"):
            if name not in known or known[name].base is not None:
                raise UnsupportedError(f"its {key} isn't constant.", place=here, hint="Use a board target.")
            fixed[key] = known[name].offset
    if names["h"] != state:
        raise UnsupportedError("is not fed by its own state.", place=here, hint="Use a board target.")
    x = known.get(names["x"])
    if x is None or x.base is None or x.base == state or x.base == cell.name:
        raise UnsupportedError(
            f"%{names['x']}, its input, is not an affine map of one input or one layer of the network.", place=here,
            hint="Move other layers in front of it out of the network.",
        )  # fmt: skip
    n = cell.tensor.shape[0]
    matrix = x.matrix if x.matrix is not None else np.eye(len(x.offset))
    W = fixed.get("W", np.eye(n))
    U = np.diag(np.broadcast_to(fixed["u"], (n,))) if cell.op == "indrnn" else fixed["U"]
    leak = np.broadcast_to(fixed.get("leak", np.ones(())), (n,)).astype(np.float64)
    if leak.min() <= 0 or leak.max() > 1:
        raise UnsupportedError(
            f"leaks {leak.min():.4g}..{leak.max():.4g}; needed above 0, at most 1.", place=here,
            hint="Use a board target.",
        )  # fmt: skip
    theta = np.broadcast_to(fixed.get("theta", np.zeros(())), (n,))
    return _Layer(cell, x.base, W @ matrix, U, fixed.get("bias", np.zeros(n)) + W @ x.offset, leak, theta)


def _units(program: Program, stage: Stage, layers: list[_Layer], place: str) -> Units:
    graph = stage.graph
    inside = [layer.cell.op == "ctrnn" for layer in layers]
    if any(inside) and len(layers) > 1:
        raise UnsupportedError(
            f"{len(layers)} layers with a ctrnn among them; spikes carry f(y), not the y that a layer above reads.",
            place=place,
            hint="Use one ctrnn layer, or leaky ones.",
        )
    start = dict(
        zip((layer.cell.name for layer in layers), np.cumsum([0, *(len(v.bias) for v in layers)]), strict=False)
    )
    n = sum(len(layer.bias) for layer in layers)
    bases = {layer.below for layer in layers if layer.below in graph.inputs}
    if len(bases) != 1:
        raise UnsupportedError(
            f"its layers read {len(bases)} inputs; needed one.", place=place, hint="Join them, or use a board target."
        )
    (base,) = bases
    W, U = np.zeros((n, graph.tensor(base).size)), np.zeros((n, n))
    fresh = np.zeros((n, n), bool)
    for layer in layers:
        a = int(start[layer.cell.name])
        rows = slice(a, a + len(layer.bias))
        U[rows, rows] = layer.U
        if layer.below == base:
            W[rows] = layer.W
        elif layer.below in start:
            b = int(start[layer.below])
            columns = slice(b, b + layer.W.shape[1])
            U[rows, columns], fresh[rows, columns] = layer.W, True
        else:
            raise UnsupportedError(
                f"%{layer.below} below it is a state of the step before; needed the input or a layer's new state.",
                place=f"{place}: %{layer.cell.name} ({layer.cell.op})",
                hint="Use a board target.",
            )
    output, name, readout = _readout(program, graph, layers, place)
    a = int(start[name])
    V = np.zeros((len(readout.offset), n))
    matrix = readout.matrix if readout.matrix is not None else np.eye(len(readout.offset))
    V[:, a : a + matrix.shape[1]] = matrix
    return Units(
        W=W, U=U, fresh=fresh, bias=np.concatenate([v.bias for v in layers]),
        leak=np.concatenate([v.leak for v in layers]), theta=np.concatenate([v.theta for v in layers]), V=V,
        c=np.asarray(readout.offset), inside=any(inside),
        layers=tuple((v.cell.name, int(start[v.cell.name]), int(start[v.cell.name]) + len(v.bias), _f(v.cell))
                     for v in layers),
        stage=stage.name, input=stage.inputs_from[base].name, output=output, place=place,
    )  # fmt: skip


def _f(cell: Value) -> Function:
    default = {"indrnn": "relu", "ctrnn": "sigmoid"}.get(cell.op, "tanh")
    return activation_function(cell.attrs.get("activation", default), cell.attrs.get("clip"))


def _readout(program: Program, graph: Graph, layers: list[_Layer], place: str) -> tuple[str, str, Affine]:
    """The output's name, the layer that it reads, and its map."""
    refs = list(program.outputs.items())
    if len({(ref.stage, ref.name) for _, ref in refs}) != 1 or any(ref.at == "final" for _, ref in refs):
        raise UnsupportedError(
            f"it has outputs {', '.join(f'{name} = {ref}' for name, ref in refs)}; needed one readout of a layer.",
            place=program.name,
            hint="Leave out the others, or use a board target.",
        )
    output = refs[0][1].name
    value = graph.outputs[output]
    names = [layer.cell.name for layer in layers]
    found = affine_values(graph, names).get(value)
    if found is None or found.base is None or found.base not in names:
        op = next((v.op for v in graph.values if v.name == value), "input")
        raise UnsupportedError(
            "is not an affine map of one layer's new state; the readout must be one.",
            place=f"{place}: %{value} ({op})",
            hint="Leave out a softmax at the end: the largest score is the same without it.",
        )  # fmt: skip
    return output, found.base, found
