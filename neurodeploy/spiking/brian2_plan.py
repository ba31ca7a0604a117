"""What a stage of a step program becomes in Brian2: populations of neurons, their code, synapses, and their order.

Vectors that are computed from one another element by element live in one population, a variable each. A product of a
weight matrix and a vector is a synapse's work: neurons send the *change* of the vector's element, where there is one,
as a graded event, and the receiver adds ``w * change`` to an accumulator, which is therefore the product at all times.
A product of a program's own input that is not to be sent is an input current, computed outside.

A step runs in *levels*: all code of a level, then the events of what it changed, then their arrival; what needs the
arrived sums is in the next level. A state's product is delivered when its next value is computed, a step ahead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Graph, Stage, State, Value
from neurodeploy.spiking import brian2_ops as ops
from neurodeploy.spiking.brian2_names import Names
from neurodeploy.spiking.brian2_segments import Piece, Segments

DRIVES = ("forward", "reverse")


@dataclass
class Population:
    """Neurons that compute alike: ``code[level]``, ``variables``, ``constants`` by name, ``sends``: piece's name ->
    level."""

    name: str
    size: int
    pieces: list[Piece]
    code: dict[int, list[str]] = field(default_factory=dict)
    variables: list[str] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    sends: dict[str, int] = field(default_factory=dict)


@dataclass
class Feed:
    """What comes from outside each step: elements ``start:stop`` of an input, through ``weights`` if there are any."""

    name: str
    input: str
    start: int
    stop: int
    weights: np.ndarray | None = None


@dataclass
class Projection:
    """Synapses from a sent variable to accumulators of a population: (accumulator, weights [to, from])."""

    name: str
    source: Population
    sent: str
    target: Population
    sums: list[tuple[str, np.ndarray]] = field(default_factory=list)


@dataclass
class Plan:
    """A stage: see the module.

    ``records``: (output, population, variable, first element, one past the last). ``counted``: the variables whose
    events are recorded. ``senders``: value that is to be sent -> the variables that send it (variable, first element,
    one past the last, whether it sends a step ahead).
    """

    stage: Stage
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)
    feeds: list[Feed] = field(default_factory=list)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    records: list[tuple[str, Population, str, int, int]] = field(default_factory=list)
    counted: set[str] = field(default_factory=set)
    senders: dict[str, list[tuple[str, int, int, bool]]] = field(default_factory=dict)

    @property
    def levels(self) -> int:
        """Levels of a step."""
        return 1 + max((level for p in self.populations for level in p.code), default=0)


#: Ends of names: an input that a state starts from, an output that is a state when its stage has ended.
START, FINAL = "@start", "@final"


def plan(stage: Stage, sent: Collection[str], place: str, finals: Collection[str] = ()) -> Plan:
    """Plan a stage; ``finals``: states that are wanted when it has ended.

    Raises :class:`UnsupportedError` naming the drive, op or value that Brian2 can't run.
    """
    if stage.drive.kind not in DRIVES:
        raise UnsupportedError(
            f"the drive is '{stage.drive.kind}'; the script runs whole sequences, forward or reverse.",
            place=place,
            hint="Run it with snnTorch (target snntorch-sigma-delta) or with the runner reference.",
        )
    types = stage.graph.types()
    for value in stage.graph.values:
        ops.check(value, [types[arg] for arg in value.args], place)  # type: ignore[misc]
    return Planner(stage, frozenset(sent), place, finals).made


class Planner:
    """Works out a stage's levels and populations; what their code is written from."""

    def __init__(self, stage: Stage, sent: frozenset[str], place: str, finals: Collection[str]) -> None:
        self.graph: Graph = stage.graph
        self.from_data, self.finals = frozenset(stage.state_from), tuple(finals)
        self.sent, self.place = sent, place
        #: Where nothing is said of what is sent, everything that weights multiply is.
        self.all_sent = not sent
        self.segments = Segments(self.graph, place)
        self.values = self.segments.values
        self.states: dict[str, State] = {state.name: state for state in self.graph.states}
        self.names = Names()
        self.made = Plan(stage)
        self._levels: dict[Piece, int] = {}
        self.products = [v for v in self.graph.values if v.op == "matmul"]
        for value in self.products:
            self._check_product(value)
        #: States whose product is delivered ahead.
        self.ahead = {s.name for s in self.graph.states if self._may_go_ahead(s)}
        self._settle_levels()
        self._populate()
        self._write()

    # -- products ------------------------------------------------------------------------------------------------------

    def _check_product(self, value: Value) -> None:
        weights, vector = value.args
        if weights not in self.graph.params or len(self.graph.tensor(weights).shape) != 2 or not value.tensor.shape:
            raise UnsupportedError(
                f"%{value.name} (matmul) is no product of constant weights [m,n] and a vector [n].",
                place=self.place,
                hint="Run it with snnTorch (target snntorch-sigma-delta) or with the runner reference.",
            )
        if self.constant(vector):
            raise UnsupportedError(f"%{value.name} (matmul) is constant.", place=self.place, hint="Simplify it first.")

    def constant(self, name: str) -> bool:
        """Whether a name is a param or a constant."""
        return name in self.graph.params or (name in self.values and self.values[name].op == "const")

    def is_current(self, value: Value) -> bool:
        """Whether a product is one of an input that isn't sent: an input current."""
        return value.args[1] in self.graph.inputs and value.args[1] not in self.sent

    def _may_go_ahead(self, state: State) -> bool:
        pieces = [self.segments.source(piece) for piece in self.segments.of(state.next)]
        waits = state.when is not None or state.name in self.from_data
        return not waits and all(name in self.values for name, _, _ in pieces)

    # -- levels --------------------------------------------------------------------------------------------------------

    def _settle_levels(self) -> None:
        """Levels of all pieces; a state goes ahead only if its sum is read before the next one is delivered."""
        for name in sorted(self.ahead):
            self._levels.clear()
            arrives = min(self.level(self.segments.source(p)) for p in self.segments.of(self.states[name].next))
            for value in self.products:
                if any(source[0] == name for source in self.operand(value)):
                    readers = [
                        piece for v in self.graph.values if value.name in v.args for piece in self.sources(v.name)
                    ]
                    if value.name in self.graph.outputs.values():
                        readers += self.sources(value.name)
                    if any(self.level(reader) > arrives for reader in readers):
                        self.ahead.discard(name)
        self._levels.clear()

    def sources(self, name: str) -> list[Piece]:
        """The computed pieces that a name's pieces are."""
        return [self.segments.source(piece) for piece in self.segments.of(name)]

    def operand(self, value: Value) -> list[Piece]:
        """The computed pieces of a product's vector."""
        return self.sources(value.args[1])

    def level(self, piece: Piece) -> int:
        """The level in whose code a piece stands; for a product's piece, the first that may read it."""
        if piece not in self._levels:
            self._levels[piece] = self._level(piece)
        return self._levels[piece]

    def _level(self, piece: Piece) -> int:
        name = piece[0]
        value = self.values.get(name)
        if value is None or value.op == "const":
            return 0
        if value.op == "matmul":
            if self.is_current(value):
                return 0
            return max(0 if s[0] in self.ahead else self.level(s) + 1 for s in self.operand(value))
        return max((self.level(arg) for arg in self.arguments(value, piece) if arg is not None), default=0)

    def arguments(self, value: Value, piece: Piece) -> list[Piece | None]:
        """The pieces that a piece is computed from, None for a constant."""
        found: list[Piece | None] = []
        for arg in value.args[:1] if value.op == "lut" else value.args:
            whole = self.segments.sizes[arg] == self.segments.sizes[value.name]
            source = self.segments.source((arg, *piece[1:]) if whole else (arg, 0, 1))
            found.append(None if self.constant(source[0]) else source)
        return found

    def is_scalar(self, piece: Piece) -> bool:
        """Whether it is one number for all neurons, which each of them computes for itself."""
        value = self.values.get(piece[0])
        if self.segments.sizes[piece[0]] != 1 or (value is not None and value.op == "matmul"):
            return False
        if value is None:
            return self.graph.tensor(piece[0]).shape == ()
        return all(arg is None or self.is_scalar(arg) for arg in self.arguments(value, piece))

    def name(self, piece: Piece) -> str:
        """The variable of a piece."""
        return self.names(str(piece), self.label(piece))

    def label(self, piece: Piece) -> str:
        """What a piece's variable is named after."""
        pieces = self.segments.of(piece[0])
        return piece[0] if len(pieces) == 1 else f"{piece[0]}_p{pieces.index(piece)}"

    def unread(self, name: str) -> bool:
        """Whether a state is only there to be sent, and its next value is: then it needs no variable."""
        read = {*self.graph.outputs.values(), *self.finals}
        read |= {arg for v in self.graph.values if v.op != "matmul" for arg in v.args}
        read |= {n for s in self.graph.states for n in (s.next, s.when) if n}
        return name in self.ahead and name not in read

    # -- populations ---------------------------------------------------------------------------------------------------

    def _populate(self) -> None:
        """Join what is computed element by element; name each population after its states, inputs or outputs."""
        parent: dict[Piece, Piece] = {}

        def root(piece: Piece) -> Piece:
            parent.setdefault(piece, piece)
            while parent[piece] != piece:
                piece = parent[piece]
            return piece

        def join(a: Piece, b: Piece) -> None:
            parent[root(b)] = root(a)

        for value in self.graph.values:
            if value.op in ops.MOVES or value.op == "const":
                continue
            for piece in self.segments.of(value.name):
                if self.is_scalar(piece):
                    continue
                root(piece)
                for arg in self.arguments(value, piece) if value.op != "matmul" else ():
                    if arg is not None and not self.is_scalar(arg):
                        self._same_size(value, piece, arg)
                        join(piece, arg)
        for state in self.graph.states:
            for piece in self.segments.of(state.name):
                source = self.segments.source((state.next, *piece[1:]))
                if not self.is_scalar(piece) and not self.constant(source[0]):
                    join(piece, source)
        for name in (
            *self.graph.outputs.values(),
            *self.finals,
            *(v.args[1] for v in self.products if not self.is_current(v)),
        ):
            for piece in self.sources(name):
                if not self.constant(piece[0]):
                    root(piece)
        groups: dict[Piece, list[Piece]] = {}
        for piece in parent:
            groups.setdefault(root(piece), []).append(piece)
        outputs = {piece: out for out, name in self.graph.outputs.items() for piece in self.sources(name)}
        for pieces in groups.values():
            states = [name for name, _, _ in pieces if name in self.states and not self.unread(name)]
            inputs = [name for name, _, _ in pieces if name in self.graph.inputs]
            given = [outputs[piece] for piece in pieces if piece in outputs]
            label = "_".join(dict.fromkeys(states)) or next(iter([*inputs, *given]), pieces[0][0])
            size = pieces[0][2] - pieces[0][1]
            self.made.populations.append(Population(self.names.new(f"{label}_neurons"), size, pieces))
        self.home = {piece: p for p in self.made.populations for piece in p.pieces}

    def _same_size(self, value: Value, piece: Piece, arg: Piece) -> None:
        if piece[2] - piece[1] != arg[2] - arg[1]:
            raise UnsupportedError(
                f"%{value.name} ({value.op}) spreads one computed number over {piece[2] - piece[1]} neurons.",
                place=self.place,
                hint="Run it with snnTorch (target snntorch-sigma-delta) or with the runner reference.",
            )

    # -- code ----------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        from neurodeploy.spiking.brian2_code import write

        write(self)
