"""NIR files (``.nir``) of spiking networks, from any simulator: a step of the program is a tick of dt seconds.

NIR says what neurons do in continuous time; a reader chooses how to step. ``method="euler"`` (what NIR's readers do):
``v(t) = (1 - dt / tau) v(t - dt) + dt / tau (v_leak + r I(t))``; ``"exponential"`` keeps ``exp(-dt / tau)`` instead of
``1 - dt / tau``, exact for inputs that hold during a tick. A neuron fires where ``v > v_threshold`` and its membrane
becomes ``v_reset``; ``reset="subtract"`` takes the threshold off instead, as some platforms do. Where nodes form a
circle, a neuron on it hears the others a tick later. Nested graphs are flattened. Formulas: NIR 1.0, Pedersen et al.,
Nature Communications 15, 8122 (2024), and the docstrings of the package ``nir``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.errors import ModelError, UnsupportedError, UsageError, nearest, require
from neurodeploy.importers.check import unchecked
from neurodeploy.importers.nir_nodes import RULES, SPIKING, STATEFUL, Node, Reading, check_numbers
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify

#: The time step of NIR's readers where a file doesn't say one.
DT_S = 1e-4
METHODS = ("euler", "exponential")
RESETS = ("value", "subtract")
#: Types of nodes that are read.
KNOWN = (*RULES, "Input", "Output", "NIRGraph")


def load_nir(
    source: Path, dt: float | None = None, method: str = "euler", reset: str = "value", check: bool = True
) -> Program:
    """A NIR file as a program that runs one tick a step; inputs and outputs are named as the file's nodes are.

    ``dt``: seconds a tick; by default what the file's metadata say, else 1e-4. ``check`` is taken for uniformity: there
    is no one framework that a NIR file comes from. Raises :class:`ModelError` for a file that can't be read,
    :class:`UnsupportedError` naming the node that isn't supported, :class:`UsageError` for a wrong option.
    """
    for name, found, known in (("method", method, METHODS), ("reset", reset, RESETS)):
        if found not in known:
            raise UsageError(f"{name} is '{found}'; needed {' or '.join(known)}.", hint=nearest(found, known))
    graph = _read(Path(source))
    place = Path(source).name
    stated = graph.metadata.get("dt") if isinstance(graph.metadata, dict) else None
    step = _seconds(dt if dt is not None else stated if stated is not None else DT_S, place)
    nodes, edges = _flatten(graph, place)
    program = _Importer(_named(nodes), edges, Reading(step, method, reset, place)).program(Path(source).stem)
    return unchecked(program, "a NIR file has no framework of its own")


def _seconds(value: Any, place: str) -> float:
    try:
        step = float(value)
    except (TypeError, ValueError):
        step = np.nan
    if not step > 0 or not np.isfinite(step):
        raise UsageError(f"dt is {value}; needed seconds above 0.", place=place, hint="Give dt as an option.")
    return step


def _read(path: Path) -> Any:
    nir = require("nir", "nir", "reads NIR files")
    try:
        graph = nir.read(path, type_check=False)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        for name, kind in _kinds(path):
            if kind not in KNOWN:
                raise _unread(kind, f"{path.name}: node '{name}'") from error
        raise ModelError(
            f"can't be read as NIR ({error or type(error).__name__}).", place=path.name,
            hint="It should be HDF5 as nir.write makes it; write it again.",
        ) from error  # fmt: skip
    if not isinstance(graph, nir.NIRGraph):
        raise ModelError(f"holds a single {type(graph).__name__}; needed a graph.", place=path.name)
    return graph


def _kinds(path: Path) -> list[tuple[str, str]]:
    """Names and types of the nodes of an HDF5 file, also where the package can't read them."""
    h5py = require("h5py", "nir", "reads NIR files")
    found: list[tuple[str, str]] = []

    def visit(name: str, item: Any) -> None:
        head, _, last = name.rpartition("/")
        if last == "type" and isinstance(item, h5py.Dataset) and "/nodes/" in head:
            value = item[()]
            found.append((head.rpartition("/nodes/")[2], value.decode() if isinstance(value, bytes) else str(value)))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, UnicodeDecodeError):
        return []
    return found


def _unread(kind: str, place: str) -> UnsupportedError:
    return UnsupportedError(
        f"nodes {kind} aren't read; these are: {', '.join(k for k in RULES if k != 'Identity')}.", place=place,
        hint="Write the network with these.",
    )  # fmt: skip


def _flatten(graph: Any, place: str, prefix: str = "") -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """All nodes by dotted names; a nested graph's inputs and outputs are identities. Edges to and from a nested graph
    go to its only input, from its only output."""
    nodes: dict[str, Node] = {}
    edges: list[tuple[str, str]] = []
    heads: dict[str, str] = {}
    tails: dict[str, str] = {}
    for name, node in graph.nodes.items():
        path, kind = f"{prefix}{name}", type(node).__name__
        if kind != "NIRGraph":
            nodes[path] = Node(path, kind if not prefix or kind not in ("Input", "Output") else "Identity", node)
            heads[name] = tails[name] = path
            continue
        inner, wires = _flatten(node, place, f"{path}.")
        nodes |= inner
        edges += wires
        for table, want in ((heads, "Input"), (tails, "Output")):
            ends = [f"{path}.{n}" for n, sub in node.nodes.items() if type(sub).__name__ == want]
            if len(ends) != 1:
                raise UnsupportedError(
                    f"it has {len(ends)} nodes {want}; needed one.", place=f"{place}: graph '{path}'",
                    hint="Write it flat.",
                )  # fmt: skip
            table[name] = ends[0]
    for source, target in dict.fromkeys(map(tuple, graph.edges)):
        for end in (source, target):
            if end not in graph.nodes:
                raise ModelError(f"an edge names '{end}', which there is no node of.", place=place)
        edges.append((tails[source], heads[target]))
    return nodes, edges


@dataclass
class _Importer:
    """Emits the nodes in an order in which each one's inputs come first, or a tick later."""

    nodes: Mapping[str, Node]
    edges: list[tuple[str, str]]
    reading: Reading

    def program(self, name: str) -> Program:
        """The whole program."""
        place = self.reading.place
        inputs = [n for n, node in self.nodes.items() if node.kind == "Input"]
        outputs = [n for n, node in self.nodes.items() if node.kind == "Output"]
        if not inputs or not outputs:
            raise ModelError("it has no node Input or no node Output.", place=place)
        for node in self.nodes.values():
            if node.kind not in KNOWN:
                raise _unread(node.kind, f"{place}: node '{node.name}'")
            check_numbers(node, self.reading)
            if node.kind == "Input" and any(target == node.name for _, target in self.edges):
                raise ModelError("an edge leads into an input.", place=f"{place}: node '{node.name}'")
        b, made, late = Builder(), dict[str, Sym](), dict[str, Sym]()
        shapes: dict[str, tuple[int, ...]] = {}
        for target in self._order(inputs):
            node = self.nodes[target]
            if node.kind == "Input":
                shapes[target] = tuple(int(s) for s in np.asarray(node.data.input_type["input"]).ravel())
                made[target] = b.input(node.word, (int(np.prod(shapes[target])),))
                continue
            sources = [s for s, t in self.edges if t == target]
            if not sources:
                raise ModelError("nothing leads into it.", place=f"{place}: node '{target}'")
            symbols = []
            for source in sources:
                if source not in made and source not in late:
                    late[source], shapes[source] = self._late(b, source)
                symbols.append(made[source] if source in made else late[source])
            total = symbols[0]
            for more in symbols[1:]:
                if more.shape != total.shape:
                    raise ModelError(f"inputs of sizes {total.shape[0]} and {more.shape[0]} are added.",
                                     place=f"{place}: node '{target}'")  # fmt: skip
                total = total + more
            shape = next((shapes[s] for s in sources if s in shapes), (total.shape[0],))
            rule = RULES.get(node.kind, RULES["Identity"])
            made[target], shapes[target] = rule(b, node, total, shape, self.reading)
        for source, symbol in late.items():
            b.next(symbol, made[source])
        for out in outputs:
            b.output(self.nodes[out].word, made[out])
        graph = b.graph()
        fed = [self.nodes[n].word for n in inputs]
        stage = Stage("main", graph, inputs_from={word: Ref(word) for word in fed})
        types = {word: ProgramInput(TensorType(graph.inputs[word].shape)) for word in fed}
        meta = {"origin": {"format": "NIR", "dt_s": self.reading.dt, "method": self.reading.method}}
        refs = {self.nodes[n].word: Ref(self.nodes[n].word, "main") for n in outputs}
        return verify(Program(_word(name), types, (stage,), refs, meta=meta))

    def _late(self, b: Builder, source: str) -> tuple[Sym, tuple[int, ...]]:
        """What a node gave a tick ago, as a state, and its shape as the file says it."""
        node = self.nodes[source]
        said = next(iter(node.data.output_type.values()), None)
        if said is None:
            raise self.reading.wrong(node, "it is on a circle, and the file doesn't say its output's shape")
        shape = tuple(int(s) for s in np.asarray(said).ravel())
        return b.state(f"{node.word}_before", (int(np.prod(shape)),)), shape

    def _order(self, inputs: list[str]) -> list[str]:
        """Nodes in an order of evaluation: a circle is cut behind a neuron that fires, or else in front of a state."""
        before: dict[str, set[str]] = {n: set() for n in self.nodes}
        for source, target in self.edges:
            before[target].add(source)
        done: list[str] = []
        while len(done) < len(self.nodes):
            ready = [n for n in self.nodes if n not in done and before[n] <= set(done)]
            if ready:
                done += ready
                continue
            waiting = [n for n in self.nodes if n not in done]
            # What only waits for spikes of its own circle gets them a tick later; else a state is cut free.
            cut = [n for n in waiting if all(self.nodes[m].kind in SPIKING for m in before[n] - set(done))]
            cut = [n for n in cut if before[n] - set(done) <= self._after(n)]
            if not cut:
                cut = [n for n in waiting if self.nodes[n].kind in STATEFUL]
                cut = [n for n in cut if before[n] & set(done)] or cut
            if not cut:
                raise UnsupportedError(
                    f"a circle of {', '.join(waiting)} has no neuron on it.", place=self.reading.place,
                    hint="Put a neuron or a delay on it.",
                )  # fmt: skip
            done.append(cut[0])
        return done

    def _after(self, name: str) -> set[str]:
        """All nodes that a node leads to."""
        seen, todo = set[str](), [name]
        while todo:
            node = todo.pop()
            found = {t for s, t in self.edges if s == node} - seen
            seen |= found
            todo += found
        return seen


def _named(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The nodes with their names in the IR, no two alike."""
    taken: set[str] = set()
    named = {}
    for name, node in nodes.items():
        word = unique = _word(name)
        count = 2
        while unique in taken:
            unique, count = f"{word}_{count}", count + 1
        taken.add(unique)
        named[name] = replace(node, word=unique)
    return named


def _word(name: str) -> str:
    """Letters, digits and _; readers of PyTorch modules name nodes by numbers."""
    word = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return word if word[:1].isalpha() or word[:1] == "_" else f"n_{word}"
