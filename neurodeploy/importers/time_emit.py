"""The step graph of one stage of a traced program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.time_nodes import Names, Node
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.cells import activate
from neurodeploy.ir.graph import Graph, Param, Ref
from neurodeploy.ir.types import TensorType

if TYPE_CHECKING:
    from neurodeploy.importers.time_stages import Key, Plan

FORWARD, REVERSE = 1, 2


class StageGraph:
    """Builds one stage's graph from the plan.

    ``inputs_from`` and ``state_from`` are the stage's wiring; ``exported``: node index -> what others call it.
    """

    built: dict[Key, StageGraph]

    def __init__(self, plan: Plan, key: Key, names: Mapping[Key, str], earlier: Mapping[Key, StageGraph]) -> None:
        self.plan, self.key, self.names, self.earlier = plan, key, names, earlier
        self.b = Builder()
        self.inputs_from: dict[str, Ref] = {}
        self.state_from: dict[str, Ref] = {}
        self.exported: dict[int, Ref] = {}
        self.symbols: dict[int, Sym] = {}
        self._results: dict[int, tuple[Sym, ...]] = {}
        self._states: dict[int, list[Sym]] = {}
        self._counter: dict[str, Sym] = {}
        self._out = Names()
        for index in sorted(plan.members[key]):
            node = plan.core.nodes[index]
            try:
                self._emit(node)
            except IRError as error:
                raise UnsupportedError(error.message, place=node.where, hint=error.hint) from error
        for node in plan.exports[key].values():
            self._export(node)
        self._keep_time()

    @property
    def name(self) -> str:
        return self.names[self.key]

    def finish(self) -> Graph:
        """The graph."""
        return self.b.graph()

    def _emit(self, node: Node) -> None:
        home = self.plan.home.get(node.index)
        if node.op == "input":
            self.symbols[node.index] = self._input(node.attrs["name"], node.type, Ref(node.attrs["name"]))
        elif node.data is not None:
            self.symbols[node.index] = self._constant(node, node.data)
        elif home is not None and home < self.key:
            ref = self.earlier[home].exported[node.index]
            self.symbols[node.index] = self._input(f"{node.name}_in", node.type, ref)
        elif node.op == "rnn":
            self._rnn(node)
        else:
            rule = RULES.get(node.op)
            args = [self.symbols[a.index] for a in node.inputs if a.op != "rnn"]
            if rule is not None:
                self.symbols[node.index] = rule(self, node, args)
            else:
                self.symbols[node.index] = self.b(node.op, *args, name=self.b.fresh(node.name), **node.attrs)

    def _input(self, name: str, type_: TensorType, ref: Ref) -> Sym:
        for known, wired in self.inputs_from.items():
            if wired == ref:
                return Sym(known, self.b)
        fresh = self.b.fresh(name)
        self.inputs_from[fresh] = ref
        return self.b.input(fresh, type_)

    def _constant(self, node: Node, data: np.ndarray) -> Sym:
        if data.ndim == 0 and node.name.endswith("_const"):
            return self.b.const(data, dtype=node.type.dtype)
        return self.b.param(node.name, Param(node.type, data))

    # -- nodes with states ---------------------------------------------------------------------------------------------

    def _rnn(self, node: Node) -> None:
        count, cell = node.attrs["states"], node.attrs["cell"]
        x = self.symbols[node.inputs[0].index]
        weights = [self.symbols[a.index] for a in node.args[1 + count :] if a is not None]
        types = _state_types(node)
        states = []
        for i, (start, type_) in enumerate(zip(node.args[1 : 1 + count], types, strict=True)):
            name = self.b.fresh(f"{node.name}_{'hc'[i] if count <= 2 else i}")
            init = self.symbols[start.index] if start is not None and start.data is not None else None
            states.append(self.b.state(name, type_, init))
            if start is not None and start.data is None:
                self.state_from[name] = self._start(start)
        results = self.b.call(cell, x, *states, *weights, name=node.name, **node.attrs["attrs"])
        for state, new in zip(states, results, strict=False):
            self.b.next(state, new)
        self._results[node.index], self._states[node.index] = results, states

    def _start(self, start: Node) -> Ref:
        if start.op == "input":
            return Ref(start.attrs["name"])
        return self.earlier[self.plan.home[start.index]].exported[start.index]

    def _result(self, node: Node, _: list[Sym]) -> Sym:
        return self._results[node.inputs[0].index][node.attrs["index"]]

    def _is_first(self) -> Sym:
        """True at the first step that runs."""
        if "first" not in self._counter:
            started = self.b.state(self.b.fresh("started"), (), dtype="bool")
            self.b.next(started, self.b.const(True, dtype="bool"))
            self._counter["first"] = started
        return self._counter["first"]

    def _latch_first(self, node: Node, args: list[Sym]) -> Sym:
        """The value at the first step of the sequence, from then on; in a reverse stage that is the latest one."""
        if self.key[1] == REVERSE:
            return args[0]
        held = self.b.state(self.b.fresh(f"{node.name}_first"), node.type)
        new = self.b("select", self._is_first(), held, args[0], name=f"{node.name}_latch")
        self.b.next(held, new)
        return new

    def _accumulate(self, node: Node, args: list[Sym]) -> Sym:
        kind, (x,) = node.attrs["kind"], args
        held = self.b.state(self.b.fresh(f"{node.name}_{kind}"), node.type)
        if kind == "max":
            larger = self.b("max", held, x)
            total = self.b("select", self._is_first(), larger, x, name=f"{node.name}_running")
        else:
            total = self.b("add", held, x, name=f"{node.name}_running")
        self.b.next(held, total)
        return total / self._count() if kind == "mean" else total

    def _count(self) -> Sym:
        """How many steps have run, this one included."""
        if "count" not in self._counter:
            held = self.b.state(self.b.fresh("steps"), ())
            self._counter["count"] = self.b("add", held, 1.0, name="steps_now")
            self.b.next(held, self._counter["count"])
        return self._counter["count"]

    def _conv(self, node: Node, args: list[Sym]) -> Sym:
        """One step of a causal convolution: a delay line, and a product with the taps that are due."""
        x, W, *bias = args
        rows, dilation, groups = node.attrs["rows"], node.attrs["dilation"], node.attrs["groups"]
        weights = node.inputs[1].data
        if weights is None:
            raise IRError("a convolution's weights are not constant.")
        out, per_group, taps = weights.shape
        line = self.b.state(self.b.fresh(f"{node.name}_line"), (rows, x.shape[0]))
        new = self.b("shift", line, x, name=f"{node.name}_shift")
        self.b.next(line, new)
        window = self.b("slice", new, axis=0, start=0, stop=rows, step=dilation) if dilation > 1 else new
        if groups == 1:
            flat = self.b("reshape", window, shape=[taps * per_group])
            matrix = self.b.param(f"{node.name}_W", weights.transpose(0, 2, 1).reshape(out, -1))
            return self._affine(node, matrix, flat, bias)
        split = self.b("reshape", window, shape=[taps, groups, per_group])
        matrix = self.b.param(f"{node.name}_W", weights.reshape(groups, out // groups, per_group, taps))
        y = self.b("reshape", self.b("einsum", matrix, split, eq="goik,kgi->go"), shape=[out])
        return y + bias[0] if bias else y

    def _affine(self, node: Node, W: Sym, x: Sym, bias: list[Sym]) -> Sym:
        if bias:
            return self.b.call("affine", W, x, bias[0], name=self.b.fresh(node.name))[0]
        return self.b("matmul", W, x, name=self.b.fresh(node.name))

    def _linear(self, node: Node, args: list[Sym]) -> Sym:
        x, W, *bias = args
        if len(x.shape) == 1:
            return self._affine(node, W, x, bias)
        y = self.b("matmul", x, self.b("transpose", W, perm=[1, 0]), name=self.b.fresh(node.name))
        return y + bias[0] if bias else y

    def _activation(self, node: Node, args: list[Sym]) -> Sym:
        return activate(self.b, node.attrs["activation"], args[0])

    # -- what others read ----------------------------------------------------------------------------------------------

    def _export(self, node: Node) -> None:
        if node.op == "final":
            state = self._states[node.inputs[0].index][node.attrs["index"]]
            self.exported[node.index] = Ref(state.name, self.name, "final")
        elif node.op == "last" or (node.domain is None and self.key[1] != REVERSE):
            self.exported[node.index] = Ref(self._output(node), self.name, "last")
        elif node.domain is not None:
            self.exported[node.index] = Ref(self._output(node), self.name)
        else:
            held = self.b.state(self.b.fresh(f"{node.name}_end"), node.type)
            self.b.next(held, self.symbols[node.index])
            self.exported[node.index] = Ref(held.name, self.name, "final")

    def _output(self, node: Node) -> str:
        symbol = self.symbols[node.index]
        for known, value in self.b._outputs.items():
            if value == symbol.name:
                return known
        name = self._out.fresh(node.name)
        self.b.output(name, symbol)
        return name

    def _keep_time(self) -> None:
        """A stage that runs along time reads at least one series, so that it knows for how many steps."""
        rank, domain = self.key[1], self.key[2]
        if rank not in (FORWARD, REVERSE) or any(self._is_series(ref) for ref in self.inputs_from.values()):
            return
        core = self.plan.core
        for name, axes in core.input_axes.items():
            if any(a.label == "time" and self.plan.domains.get(a.domain) == domain for a in axes):
                self._input(name, core.inputs[name].type, Ref(name))
                return

    def _is_series(self, ref: Ref) -> bool:
        return self.plan.core.inputs[ref.name].kind == "series" if ref.stage is None else ref.at == "series"


def _state_types(node: Node) -> list[TensorType]:
    return [TensorType((n,)) for n in node.attrs["sizes"]]


Rule = Callable[[StageGraph, Node, list[Sym]], Sym]
RULES: Mapping[str, Rule] = {
    "result": StageGraph._result,
    "final": StageGraph._result,
    "last": lambda stage, node, args: args[0],
    "first": StageGraph._latch_first,
    "accumulate": StageGraph._accumulate,
    "conv": StageGraph._conv,
    "linear": StageGraph._linear,
    "activation": StageGraph._activation,
}
