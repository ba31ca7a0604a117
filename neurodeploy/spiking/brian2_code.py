"""The code of a plan's populations: a statement for each value, in the program's order, level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import State, Value
from neurodeploy.spiking import brian2_ops as ops
from neurodeploy.spiking.brian2_plan import FINAL, START, Feed, Population, Projection
from neurodeploy.spiking.brian2_segments import Piece

if TYPE_CHECKING:
    from neurodeploy.spiking.brian2_plan import Planner

#: 1 in the first step of a sample, else 0.
FRESH = "fresh = int(phases(t, i % lanes) > 1)"


def write(planner: Planner) -> None:
    """Fill in the code, constants, feeds, tables, projections and records of a planner's plan."""
    _Writer(planner).write()


class _Writer:
    def __init__(self, planner: Planner) -> None:
        self.p, self.plan = planner, planner.made
        self.graph, self.segments = planner.graph, planner.segments
        self._feeds: dict[Piece, str] = {}
        self._tables: dict[tuple[str, object, object], str] = {}
        self._where: dict[Piece, dict[str, int]] = {}  # piece -> population -> the last level that reads it
        #: What a sent variable holds at the start, where that isn't 0.
        self.initial: dict[Piece, np.ndarray] = {}

    def write(self) -> None:
        self.sends = self._sends()
        for population in self.plan.populations:
            self._population(population)
        self._projections()
        for name in dict.fromkeys(v.args[1] for v in self.p.products if not self.p.is_current(v)):
            pieces = [(self.segments.source(piece), *piece[1:]) for piece in self.segments.of(name)]
            self.plan.senders[name] = [
                (self.p.name(self.sender(source)), start, stop, self.sender(source) != source)
                for source, start, stop in pieces
            ]

    # -- what is sent --------------------------------------------------------------------------------------------------

    def sender(self, piece: Piece) -> Piece:
        """The piece whose change is sent for an operand: of a state that goes ahead, its next value."""
        if piece[0] in self.p.ahead:
            return self.segments.source((self.p.states[piece[0]].next, *piece[1:]))
        return piece

    def _sends(self) -> list[Piece]:
        found: dict[Piece, None] = {}
        for value in self.p.products:
            if self.p.is_current(value):
                continue
            for piece in self.p.operand(value):
                sender = self.sender(piece)
                found[sender] = None
                if self.p.all_sent or value.args[1] in self.p.sent:
                    self.plan.counted.add(self.p.name(sender))
                if sender != piece:
                    self.initial[sender] = self._init(self.p.states[piece[0]], piece)
        return list(found)

    def _init(self, state: State, piece: Piece) -> np.ndarray:
        if state.init is None:
            return np.zeros(piece[2] - piece[1])
        return self.graph.params[state.init].data.reshape(-1)[piece[1] : piece[2]].astype(np.float64)

    # -- a population --------------------------------------------------------------------------------------------------

    def _population(self, home: Population) -> None:
        scalars = self._scalars(home)
        pieces = [*scalars, *(p for p in home.pieces if p not in scalars and not self.p.unread(p[0]))]
        order = {value.name: at for at, value in enumerate(self.graph.values)}
        pieces.sort(key=lambda piece: (order.get(piece[0], -1), piece))
        last = max([self.p.level(piece) for piece in pieces], default=0)
        kept = self._kept(home, pieces, last)
        resets, code = [FRESH], {level: [] for level in range(last + 1)}
        for piece in pieces:
            name, level = self.p.name(piece), self.p.level(piece)
            if piece[0] in self.p.states:
                home.variables.append(name)
                resets.append(_reset(name, self._start(home, piece)))
                if piece[0] in self.p.finals and self.p.home[piece] is home:
                    self.plan.records.append((f"{piece[0]}{FINAL}", home, name, *piece[1:]))
            elif self._is_sum(piece):
                home.variables.append(name)
                resets.append(_reset(name, self._number(home, f"{name}_start", self._sum_at_start(piece))))
            else:
                if piece in kept:
                    home.variables.append(name)
                code[level].append(f"{name} = {self._expression(home, piece)}")
        for piece in pieces:
            if piece in self.sends and piece not in scalars:
                name, level = self.p.name(piece), self.p.level(piece)
                start = self.initial.get(piece, np.zeros(home.size))
                resets.append(_reset(f"sent_{name}", self._number(home, f"{name}_start", start)))
                home.variables += [f"change_{name}", f"sent_{name}"]
                home.sends[name] = level
                code[level] += [f"change_{name} = {name} - sent_{name}", f"sent_{name} = {name}"]
        code[last] += self._records(home)
        code[last] += self._commits(home, pieces)
        if len(resets) > 1:
            code[0] = [*resets, *code[0]]
        home.code = {level: lines for level, lines in code.items() if lines}

    def _start(self, home: Population, piece: Piece) -> str:
        """A state's value at the start of a sample."""
        name = f"{self.p.name(piece)}_start"
        if piece[0] not in self.p.from_data:
            return self._number(home, name, self._init(self.p.states[piece[0]], piece))
        word = self.p.names(f"feed {name}", f"{name}_of_sample")
        if all(feed.name != word for feed in self.plan.feeds):
            self.plan.feeds.append(Feed(word, f"{piece[0]}{START}", *piece[1:]))
        return f"{word}(t, {'i % lanes' if self.p.is_scalar(piece) else 'i'})"

    def _scalars(self, home: Population) -> list[Piece]:
        """The numbers that the population's neurons compute each for itself."""
        found: dict[Piece, None] = {}

        def visit(piece: Piece) -> None:
            if piece in found or not self.p.is_scalar(piece):
                return
            found[piece] = None
            for arg in self._reads(piece):
                visit(arg)

        for piece in home.pieces:
            visit(piece)
            for arg in self._reads(piece):
                visit(arg)
        return list(found)

    def _reads(self, piece: Piece) -> list[Piece]:
        """What a piece is computed from; for a state, its next value and its condition."""
        if piece[0] in self.p.states:
            state = self.p.states[piece[0]]
            found = [self.segments.source((state.next, *piece[1:]))]
            if state.when:
                found.append(self.segments.source((state.when, 0, 1)))
            return [arg for arg in found if not self.p.constant(arg[0])]
        value = self.p.values.get(piece[0])
        if value is None or value.op in ("matmul", "const"):
            return []
        return [arg for arg in self.p.arguments(value, piece) if arg is not None]

    def _kept(self, home: Population, pieces: list[Piece], last: int) -> set[Piece]:
        """Pieces that must outlive the code in which they are computed."""
        kept = {piece for piece in pieces if piece in self.sends}
        kept |= {piece for name in self.graph.outputs.values() for piece in self.p.sources(name)}
        for piece in pieces:
            reader = last if piece[0] in self.p.states else self.p.level(piece)
            kept |= {arg for arg in self._reads(piece) if self.p.level(arg) != reader}
        return kept

    def _is_sum(self, piece: Piece) -> bool:
        value = self.p.values.get(piece[0])
        return value is not None and value.op == "matmul" and not self.p.is_current(value)

    def _sum_at_start(self, piece: Piece) -> np.ndarray:
        """A product's accumulator when all senders hold what they hold at the start."""
        value = self.p.values[piece[0]]
        weights = self.graph.params[value.args[0]].data[piece[1] : piece[2]].astype(np.float64)
        total = np.zeros(piece[2] - piece[1])
        for operand, columns in self._columns(value):
            if (sender := self.sender(operand)) in self.initial:
                total = total + weights[:, columns] @ self.initial[sender]
        return total

    def _columns(self, value: Value) -> list[tuple[Piece, slice]]:
        """The operand's pieces and the columns that they multiply."""
        return [(self.segments.source(piece), slice(*piece[1:])) for piece in self.segments.of(value.args[1])]

    def _commits(self, home: Population, pieces: list[Piece]) -> list[str]:
        """Every state's next value, all at once."""
        early, late = [], []
        for piece in pieces:
            if piece[0] not in self.p.states:
                continue
            state, name = self.p.states[piece[0]], self.p.name(piece)
            source = self.segments.source((state.next, *piece[1:]))
            new = self._operand(home, source)
            if source[0] in self.p.states:
                early.append(f"{name}_new = {new}")
                new = f"{name}_new"
            if state.when:
                when = self._operand(home, self.segments.source((state.when, 0, 1)))
                new = f"{name} + ({new} - {name}) * {when}"
            late.append(f"{name} = {new}")
        return early + late

    def _records(self, home: Population) -> list[str]:
        """Outputs, copied where they change before they are read."""
        lines = []
        for output, value in self.graph.outputs.items():
            for piece in self.segments.of(value):
                source = self.segments.source(piece)
                if self.p.constant(source[0]):
                    raise UnsupportedError(f"output '{output}' is constant.", place=self.p.place, hint="Leave it out.")
                if self.p.home[source] is not home:
                    continue
                name = self.p.name(source)
                if source[0] in self.p.states or self._is_sum(source):
                    copy = f"{name}_out"
                    if copy not in home.variables:
                        home.variables.append(copy)
                        lines.append(f"{copy} = {name}")
                    name = copy
                self.plan.records.append((output, home, name, *piece[1:]))
        return lines

    # -- expressions ---------------------------------------------------------------------------------------------------

    def _expression(self, home: Population, piece: Piece) -> str:
        name = piece[0]
        value = self.p.values.get(name)
        if value is None or value.op == "matmul":
            index = "i % lanes" if self.p.is_scalar(piece) else "i"
            return f"{self._feed(piece)}(t, {index})"
        types = [self.graph.tensor(arg) for arg in value.args]
        args = []
        for at, arg in enumerate(value.args):
            if value.op == "lut" and at == 1:
                args.append(self._table(value))
                continue
            whole = self.segments.sizes[arg] == self.segments.sizes[value.name]
            source = self.segments.source((arg, *piece[1:]) if whole else (arg, 0, 1))
            if value.op == "requantize" and at == 1:
                factor = ops.factors(self._array(source), value, types[0], self.p.place)
                args.append(self._number(home, f"{self.p.name(piece)}_factor", factor))
                if value.tensor.dtype == "i32" and np.abs(factor).max() <= 1:
                    return f"floor({args[0]} * {args[1]} + 0.5)"  # can't leave 32 bits
            else:
                args.append(self._operand(home, source))
        return ops.RULES[value.op](value, args, types)

    def _operand(self, home: Population, source: Piece) -> str:
        if self.p.constant(source[0]):
            return self._number(home, self.p.label(source), self._array(source).astype(np.float64))
        return self.p.name(source)

    def _array(self, piece: Piece) -> np.ndarray:
        """A constant's elements."""
        value = self.p.values.get(piece[0])
        if value is not None and value.op == "const":
            return np.asarray(value.attrs["value"]).reshape(-1)
        if piece[0] not in self.graph.params:
            raise UnsupportedError(
                f"%{piece[0]} is computed; a requantize multiplies by constants.", place=self.p.place,
                hint="Run it with the runner reference.",
            )  # fmt: skip
        return self.graph.params[piece[0]].data.reshape(-1)[piece[1] : piece[2]]

    def _number(self, home: Population, name: str, array: np.ndarray) -> str:
        """A number where all neurons have the same, else the name of a constant of each."""
        if (array == array.flat[0]).all():
            text = repr(float(array.flat[0]))
            text = text.removesuffix(".0")
            return f"({text})" if text.startswith("-") else text
        word = self.p.names(f"constant {name}", name)
        home.constants[word] = array.astype(np.float64)
        return word

    def _feed(self, piece: Piece) -> str:
        if piece not in self._feeds:
            value = self.p.values.get(piece[0])
            word = self.p.names(f"feed {piece}", f"{self.p.name(piece)}_of_step")
            if value is None:
                self.plan.feeds.append(Feed(word, *piece))
            else:
                vector = value.args[1]
                weights = self.graph.params[value.args[0]].data[piece[1] : piece[2]]
                self.plan.feeds.append(Feed(word, vector, 0, self.segments.sizes[vector], weights))
            self._feeds[piece] = word
        return self._feeds[piece]

    def _table(self, value: Value) -> str:
        key = (value.args[1], bool(value.attrs.get("half")), value.attrs.get("shift", 0))
        if key not in self._tables:
            ending = "_half" if key[1] else f"_shift_{key[2]}" if key[2] else ""
            word = self.p.names(f"table {key}", f"{value.args[1]}{ending}")
            self.plan.tables[word] = ops.table(self.graph.params[value.args[1]].data, value)
            self._tables[key] = word
        return self._tables[key]

    # -- synapses ------------------------------------------------------------------------------------------------------

    def _projections(self) -> None:
        found: dict[tuple[Piece, str], Projection] = {}
        for value in self.p.products:
            if self.p.is_current(value):
                continue
            weights = self.graph.params[value.args[0]].data
            for operand, columns in self._columns(value):
                sender = self.sender(operand)
                for piece in self.segments.of(value.name):
                    target = self.p.home[piece]
                    if (sender, target.name) not in found:
                        name = self.p.names(
                            f"synapses {sender} {target.name}", f"{self.p.name(sender)}_to_{target.name}"
                        )
                        source = self.p.home[sender]
                        found[sender, target.name] = Projection(name, source, self.p.name(sender), target)
                    sums = found[sender, target.name].sums
                    sums.append((self.p.name(piece), weights[piece[1] : piece[2], columns].astype(np.float64)))
        self.plan.projections = list(found.values())


def _reset(name: str, start: str) -> str:
    return f"{name} = {name} * (1 - fresh)" if start == "0" else f"{name} = {name} + ({start} - {name}) * fresh"
