"""The one kind of network that the spiking backends convert: a layer without gates, fed by itself, read out linearly.

::

    x        = F u + g                                  u: the program's input; F and g are folded into W and b
    h'       = h + leak (f(W x + U h + b) - h)          cell leaky; cell elman is leak = 1
    output   = V h' + c
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.cells import activate, clip_to
from neurodeploy.ir.graph import Graph, Program, ProgramInput, Ref, Stage, State, Value
from neurodeploy.spiking.affine import Affine, affine_values

CELLS = ("leaky", "elman")
GATED = ("lstm", "gru")


@dataclass(frozen=True)
class Network:
    """What was found, input and output maps folded in, float64.

    ``W`` [n, inputs], ``U`` [n, n], ``bias`` [n], ``leak`` [n], ``V`` [outputs, n], ``c`` [outputs]; ``activation`` and
    ``clip`` as the cell has them. ``input``, ``stage``, ``state`` and ``output`` are the source program's names.
    """

    W: np.ndarray
    U: np.ndarray
    bias: np.ndarray
    leak: np.ndarray
    V: np.ndarray
    c: np.ndarray
    activation: object
    clip: float | None
    cell: str
    stage: str
    input: str
    state: str
    output: str

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.bias)

    @property
    def activation_name(self) -> str:
        """The activation without its numbers."""
        return self.activation if isinstance(self.activation, str) else str(self.activation[0])  # type: ignore[index]

    def f(self, z: np.ndarray) -> np.ndarray:
        """The activation of ``z`` (any shape), as the interpreter computes it."""
        return activation_function(self.activation, self.clip)(z)


def activation_function(activation: object, clip: float | None) -> Callable[[np.ndarray], np.ndarray]:
    """An activation of the IR, after a clip, as a function of arrays of any shape: as the interpreter computes it."""

    def f(z: np.ndarray) -> np.ndarray:
        builder = Builder()
        x = builder.input("z", (z.size,))
        builder.output("y", activate(builder, activation, clip_to(builder, x, clip)))  # type: ignore[arg-type]
        stage = Stage("f", builder.graph(), inputs_from={"z": Ref("z")})
        program = Program("f", {"z": ProgramInput(stage.graph.inputs["z"])}, (stage,), {"y": Ref("y", "f")})
        outputs = interpret.run(program, {"z": z.reshape(1, 1, -1).astype(np.float32)}).outputs["y"]
        return outputs.reshape(z.shape).astype(np.float64)

    return f


def find(program: Program, backend: str) -> Network:
    """The network of a program. Raises :class:`UnsupportedError` naming the stage or value that doesn't fit."""
    _refuse_gated(program)
    if len(program.stages) != 1:
        raise UnsupportedError(
            f"{backend} converts a single recurrent layer; this network has {len(program.stages)} stages.",
            place=f"{program.name}: stage '{program.stages[-1].name}'",
            hint="Use a network of one layer, or a board target.",
        )
    (stage,) = program.stages
    graph = stage.graph
    place = f"{program.name}/{stage.name}"
    if stage.drive.kind != "forward":
        raise UnsupportedError(
            f"the drive is '{stage.drive.kind}'; spikes run forward in time.", place=place, hint="Use a board target."
        )
    state, cell = _recurrence(graph, stage, backend, place)
    known = affine_values(graph, [*vectors(graph), state.name, cell.name])
    names = dict(zip(("x", "h", "W", "U", "bias", "leak"), cell.args, strict=False))
    x = known.get(names["x"])
    if x is None or x.base not in graph.inputs:
        raise UnsupportedError(
            f"%{names['x']}, its input, is not an affine map of one input of the network.",
            place=f"{place}: %{cell.name} ({cell.op})",
            hint="Move other layers in front of it out of the network.",
        )
    if names["h"] != state.name or any(_constant(known, names[k]) is None for k in names if k not in ("x", "h")):
        raise UnsupportedError(
            "is not fed by its own state through constant weights.", place=f"{place}: %{cell.name} ({cell.op})"
        )
    W, U, bias = (known[names[k]].offset for k in ("W", "U", "bias"))
    leak = known[names["leak"]].offset if cell.op == "leaky" else np.ones(())
    output, readout = _readout(program, graph, known, cell, place)
    matrix = x.matrix if x.matrix is not None else np.eye(W.shape[1])
    return Network(
        W=W @ matrix, U=U, bias=bias + W @ x.offset, leak=np.broadcast_to(leak, bias.shape).copy(),
        V=readout.matrix if readout.matrix is not None else np.eye(len(bias)), c=np.asarray(readout.offset),
        activation=cell.attrs.get("activation", "tanh"), clip=cell.attrs.get("clip"), cell=cell.op,
        stage=stage.name, input=stage.inputs_from[x.base or ""].name, state=state.name, output=output,
    )  # fmt: skip


def _refuse_gated(program: Program) -> None:
    for stage in program.stages:
        for value in stage.graph.values:
            if value.op in GATED:
                raise UnsupportedError(
                    f"its gates multiply two changing values, which neurons that add up spikes can't; needed "
                    f"{' or '.join(CELLS)}.",
                    place=f"{program.name}/{stage.name}: %{value.name} ({value.op})",
                    hint="Train a leaky or Elman network, or compile this one for a board, tflm or a crossbar.",
                )


def _recurrence(graph: Graph, stage: Stage, backend: str, place: str) -> tuple[State, Value]:
    values = {value.name: value for value in graph.values}
    cells = [v for v in graph.values if v.op in CELLS]
    if len(graph.states) != 1 or len(cells) != 1 or graph.states[0].next != cells[0].name:
        states = ", ".join(f"%{s.name} <- {values[s.next].op if s.next in values else s.next}" for s in graph.states)
        raise UnsupportedError(
            f"{backend} converts one state fed by one cell {' or '.join(CELLS)}; found states {states or 'none'}.",
            place=place,
            hint="Use a network of one such layer, or a board target.",
        )
    state = graph.states[0]
    start = None if state.init is None else graph.params[state.init].data
    if state.when or stage.state_from or (start is not None and np.any(start)):
        raise UnsupportedError(
            f"{backend} starts every state at zero and updates it each step; this one "
            f"{'is guarded' if state.when else 'starts elsewhere'}.",
            place=f"{place}: state %{state.name}",
            hint="Use a board target.",
        )
    return state, cells[0]


def vectors(graph: Graph) -> list[str]:
    """The float inputs of a graph that are vectors."""
    return [name for name, type_ in graph.inputs.items() if type_.dtype == "f32" and len(type_.shape) == 1]


def _constant(known: dict[str, Affine], name: str) -> np.ndarray | None:
    return known[name].offset if name in known and known[name].base is None else None


def _readout(program: Program, graph: Graph, known: dict[str, Affine], cell: Value, place: str) -> tuple[str, Affine]:
    """The graph's output that the program gives, as an affine map of the new state."""
    refs = list(program.outputs.items())
    if len({(ref.stage, ref.name) for _, ref in refs}) != 1 or any(ref.at == "final" for _, ref in refs):
        raise UnsupportedError(
            f"it has outputs {', '.join(f'{name} = {ref}' for name, ref in refs)}; needed one readout of the layer.",
            place=program.name,
            hint="Leave out the others, or use a board target.",
        )
    output = refs[0][1].name
    value = graph.outputs[output]
    found = known.get(value)
    if found is None or found.base != cell.name:
        op = next((v.op for v in graph.values if v.name == value), "input")
        raise UnsupportedError(
            "is not an affine map of the new state; the readout must be one.",
            place=f"{place}: %{value} ({op})",
            hint="Leave out a softmax at the end: the largest score is the same without it.",
        )
    return output, found
