"""The golden model: what a program means, float or integer, over a batch of samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np

from neurodeploy.artifact import Trace
from neurodeploy.errors import NeurodeployError, NumericsError
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Graph, Program
from neurodeploy.ir.op import Array
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import TensorType

Observer = Callable[[str, Array, Array], None]
Override = Callable[[list[Array]], Array]


class StepInterpreter:
    """Runs one graph step by step on a batch.

    ``observe(name, array, active)`` sees every input, state and value of every step, with the samples for which it
    counts: those that are still running and whose guards hold; with ``watched``, only what is named there.
    ``overrides`` replaces the meaning of values by name (a crossbar's product in place of ``matmul``); it gets the
    argument arrays ``[B or 1, ...]``.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        observe: Observer | None = None,
        watched: Collection[str] | None = None,
        overrides: Mapping[str, Override] | None = None,
    ) -> None:
        self.graph, self.observe, self.watched, self.overrides = graph, observe, watched, overrides or {}
        self.values: dict[str, Array] = {}
        self._types = graph.types()
        self._params = {name: param.data[None] for name, param in graph.params.items()}
        self.batch = 0

    def reset(self, batch: int, init: Mapping[str, Array]) -> None:
        """Every state to ``init`` (``[B, ...]``), its param, or zeros."""
        self.batch = batch
        self.values = {}
        for state in self.graph.states:
            if state.name in init:
                start = init[state.name]
            elif state.init is not None:
                start = self._params[state.init]
            else:
                start = np.zeros((1, *state.type.shape), state.type.numpy)
            self.values[state.name] = np.broadcast_to(start, (batch, *state.type.shape))

    def step(self, inputs: Mapping[str, Array], active: Array) -> dict[str, Array]:
        """One step of all samples; states of samples that are not active hold. Returns the outputs, ``[B, ...]``."""
        held = {state.name: self.values[state.name] for state in self.graph.states}
        table: dict[str, object] = {**self._params, **inputs, **held}
        with np.errstate(all="ignore"):
            _evaluate(self.graph, self._types, table, self.overrides)
        if self.observe is not None:
            self._report(table, active)
        for state in self.graph.states:
            moves = active
            if state.when is not None:
                moves = moves & np.broadcast_to(table[state.when], (self.batch,))  # type: ignore[arg-type]
            new = _spread(table[state.next], (self.batch, *state.type.shape))  # type: ignore[arg-type]
            mask = moves.reshape(-1, *(1,) * len(state.type.shape))
            self.values[state.name] = new if moves.all() else np.where(mask, new, held[state.name])
        return {
            name: _spread(table[value], (self.batch, *self._types[value].shape))  # type: ignore
            for name, value in self.graph.outputs.items()
        }

    def states(self) -> dict[str, Array]:
        """The states as they stand, ``[B, ...]``."""
        return {state.name: self.values[state.name] for state in self.graph.states}

    def _report(self, table: Mapping[str, object], active: Array) -> None:
        from neurodeploy.ir.graph import guards

        if not hasattr(self, "_guards"):
            self._guards = guards(self.graph)
        for name in table if self.watched is None else self.watched:
            array = table[name]
            if isinstance(array, np.ndarray) and name not in self._params:
                counts = active
                for condition in self._guards.get(name, ()):
                    counts = counts & np.broadcast_to(table[condition], (self.batch,))  # type: ignore[arg-type]
                self.observe(name, array, counts)  # type: ignore[misc]


def _spread(array: Array, shape: tuple[int, ...]) -> Array:
    return array if array.shape == shape else np.broadcast_to(array, shape)


def _evaluate(
    graph: Graph, types: Mapping[str, object], table: dict[str, object], overrides: Mapping[str, Override]
) -> None:
    """Compute every value of a graph into ``table``; a composite's value is a tuple of its results."""
    for value in graph.values:
        args = [table[a] for a in value.args]
        try:
            if value.name in overrides:
                table[value.name] = overrides[value.name](args)  # type: ignore[arg-type]
            elif value.body is not None:
                inner: dict[str, object] = dict(zip(value.body.inputs, args, strict=True))
                _evaluate(value.body, value.body.types(), inner, {})
                results = tuple(inner[out] for out in value.body.outputs.values())
                table[value.name] = results[0] if isinstance(value.type, TensorType) else results
            elif value.op == "get":
                table[value.name] = args[0][value.attrs["index"]]  # type: ignore[index]
            else:
                arg_types = [types[a] for a in value.args]
                table[value.name] = OPS[value.op].eval(args, value.attrs, value.tensor, arg_types)  # type: ignore[arg-type]
        except NumericsError as error:
            raise NumericsError(
                error.message, place=error.place or f"%{value.name} ({value.op})", hint=error.hint
            ) from error
        except (ValueError, IndexError, TypeError) as error:
            raise NeurodeployError(f"{value.op} failed: {error}", place=f"%{value.name}") from error


def run(
    program: Program,
    inputs: Mapping[str, Array],
    lengths: Array | None = None,
    *,
    states: bool = False,
    observe: Callable[[str, str, Array, Array], None] | None = None,
    watched: Mapping[str, Collection[str]] | None = None,
    overrides: Mapping[str, Mapping[str, Override]] | None = None,
) -> Trace:
    """Run a program on a batch.

    ``inputs``: program input -> ``[B, T, ...]`` (series) or ``[B, ...]`` (static); real values are quantized where the
    program's input is. ``lengths``: ``[B]`` steps of each sample. ``observe(stage, name, array, active)`` sees every
    value, or those that ``watched`` names by stage. ``overrides``: stage -> value -> its replacement. Raises
    :class:`DataError` for data that don't fit.
    """

    def executor(stage_name: str, graph: Graph) -> StepInterpreter:
        watch = None if observe is None else partial(observe, stage_name)
        names = None if watched is None else watched.get(stage_name, ())
        return StepInterpreter(graph, observe=watch, watched=names, overrides=(overrides or {}).get(stage_name))

    return drive(program, inputs, lengths, executor, states=states)
