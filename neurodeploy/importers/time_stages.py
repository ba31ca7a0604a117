"""Stage formation: which part of a traced program runs in which stage, and the step graphs of the stages.

Every node gets a *floor*, the earliest stage that it can run in, and those that carry state or are costly a *home*.
Stages are keyed ``(level, rank, domain)``, rank 0 static (one step), 1 forward, 2 reverse, and run in
the order of keys.

- A value of each step can be used in the same stage, at the same step, or later as a series.
- A value at the end (last step, final state, mean over time ...) is, in a forward stage, the running value read at
  the last step: what follows it can run in the same step, so a whole classifier stays one step graph. Used back in
  time, or where a reverse stage came before, it is handed on when the stage has ended.
- Cheap nodes have no home: each stage that needs one computes it again rather than storing a series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neurodeploy.errors import IRError, UnsupportedError
from neurodeploy.importers.time_emit import StageGraph
from neurodeploy.importers.time_nodes import ANCHORED, HEAVY, Names, Node
from neurodeploy.ir.graph import Drive, Program, Ref, Stage
from neurodeploy.ir.verify import verify

if TYPE_CHECKING:
    from neurodeploy.importers.time_core import Core

Key = tuple[int, int, int]
Floor = tuple[int, int, float]
STATIC, FORWARD, REVERSE = 0, 1, 2
LOWEST: Floor = (-1, 0, 0)


def after(floor: Floor) -> Floor:
    """The floor of what must run in a later stage."""
    return floor if floor == LOWEST else (floor[0], floor[1], int(floor[2]) + 0.5)


def form(core: Core, outputs: Mapping[str, Node], meta: Mapping[str, Any]) -> Program:
    """Place every node, build the stages and verify the program. Raises :class:`UnsupportedError`."""
    plan = Plan(core, outputs)
    stages: dict[Key, StageGraph] = {}
    names = _stage_names(sorted(plan.members))
    for key in sorted(plan.members):
        stages[key] = StageGraph(plan, key, names, stages)
    ended = {key: graph.finish() for key, graph in stages.items()}
    refs: dict[str, Ref] = {}
    out_names = Names()
    for name, node in outputs.items():
        refs[out_names.fresh(name, "y")] = plan.ref(node, names, stages)
    built = []
    for key, graph in stages.items():
        drive = Drive("reverse" if key[1] == REVERSE else "forward")
        built.append(Stage(names[key], ended[key], drive, graph.inputs_from, graph.state_from))
    try:
        return verify(named(Program(core.name, dict(core.inputs), tuple(built), refs, "float", dict(meta))))
    except IRError as error:
        raise UnsupportedError(error.message, place=core.source, hint=error.hint) from error


def named(program: Program) -> Program:
    """Stage outputs called as the program calls them, so that C and reports use the model's own words."""
    new: dict[tuple[str, str], str] = {}
    for name, ref in program.outputs.items():
        if ref.stage is not None and ref.at != "final" and (ref.stage, ref.name) not in new:
            graph = program.stage(ref.stage).graph
            taken = {*graph.outputs, *(n for (stage, _), n in new.items() if stage == ref.stage)}
            if name == ref.name or name not in taken:
                new[ref.stage, ref.name] = name

    def moved(ref: Ref) -> Ref:
        known = ref.stage is not None and ref.at != "final" and (ref.stage, ref.name) in new
        return replace(ref, name=new[ref.stage, ref.name]) if known and ref.stage else ref

    stages = tuple(
        replace(
            stage,
            graph=replace(
                stage.graph, outputs={new.get((stage.name, o), o): v for o, v in stage.graph.outputs.items()}
            ),
            inputs_from={n: moved(r) for n, r in stage.inputs_from.items()},
            state_from={n: moved(r) for n, r in stage.state_from.items()},
        )
        for stage in program.stages
    )
    return replace(program, stages=stages, outputs={n: moved(r) for n, r in program.outputs.items()})


def _stage_names(keys: list[Key]) -> dict[Key, str]:
    stems = {STATIC: "head", FORWARD: "forward", REVERSE: "reverse"}
    names = Names()
    return {key: names.fresh(stems[key[1]]) for key in keys}


class Plan:
    """Where every live node runs.

    ``home``: node index -> stage key. ``members``: stage key -> indices of the nodes that it computes. ``exports``:
    stage key -> nodes that others read from it.
    """

    def __init__(self, core: Core, outputs: Mapping[str, Node]) -> None:
        self.core = core
        self.outputs = dict(outputs)
        self.live = self._live()
        self.domains = {d: i for i, d in enumerate(dict.fromkeys(n.domain for n in self.live if n.domain))}
        self.home: dict[int, Key] = {}
        self.floor: dict[int, Floor] = {}
        self.backward: set[int] = set()  # nodes that need a reverse stage: they can't stream
        self._anchor = self._first_direction()
        for node in self.live:
            self._place(node)
        self.members: dict[Key, set[int]] = {}
        self.exports: dict[Key, dict[int, Node]] = {}
        ends = [node for node in self.outputs.values() if node.op != "input"]
        for node in ends:
            self._settle(node)
        for node in ends:
            self.demand(node, self.home[node.index])
            self.exports[self.home[node.index]][node.index] = node

    def _live(self) -> list[Node]:
        seen: dict[int, Node] = {}
        pending = list(self.outputs.values())
        while pending:
            node = pending.pop()
            if node.index not in seen:
                seen[node.index] = node
                pending += node.inputs
        return [seen[i] for i in sorted(seen)]

    def _first_direction(self) -> dict[str, int]:
        """For each domain the rank in which work on the inputs alone is done: forward if anything runs forward."""
        ranks: dict[str, set[int]] = {}
        for node in self.live:
            if node.op in ("rnn", "conv", "accumulate") and (domain := node.domain or node.inputs[0].domain):
                ranks.setdefault(domain, set()).add(REVERSE if node.attrs.get("reverse") else FORWARD)
        return {domain: FORWARD if FORWARD in found else REVERSE for domain, found in ranks.items()}

    def at_least(self, floor: Floor, rank: int, domain: int) -> Key:
        """The first stage of that rank and domain that isn't below the floor."""
        level = max(floor[0], 0)
        return (level, rank, domain) if (level, rank, domain) >= floor else (level + 1, rank, domain)

    def _place(self, node: Node) -> None:
        floor = LOWEST
        for position, arg in enumerate(node.args):
            if arg is None:
                continue
            own = self.floor[arg.index]
            starts = node.op == "rnn" and 1 <= position <= node.attrs["states"]
            handed_on = arg.domain is None and (node.domain is not None or starts) and node.op != "final"
            if starts and arg.data is None and arg.op != "input":
                self._settle(arg)
                own = self.home[arg.index]
            floor = max(floor, after(own) if handed_on else own)
        self.floor[node.index] = floor
        if node.attrs.get("reverse") or any(a.index in self.backward for a in node.inputs):
            self.backward.add(node.index)
        costly = node.op in HEAVY and not self._is_free(node)
        if node.op in ANCHORED or costly or (node.domain is None and floor != LOWEST):
            self._fix(node, floor)

    def _is_free(self, node: Node) -> bool:
        """Whether a costly node hangs on nothing but constants."""
        return all(a.data is not None for a in node.inputs)

    def _fix(self, node: Node, floor: Floor) -> None:
        """Give a node its home."""
        if node.op in ("result", "final"):
            key = self.home[node.inputs[0].index]
        elif node.op in ("last", "first", "accumulate"):
            key = self._series_home(node.inputs[0], floor)
        elif node.domain is not None:
            key = self._series_home(node, floor)
        else:
            key = self._static_home(floor, node.index not in self.backward)
        self.home[node.index] = key
        # What a reverse stage ends with can't be used in its steps: they run towards the first step, not the last.
        self.floor[node.index] = after(key) if node.domain is None and key[1] == REVERSE else key

    def _series_home(self, node: Node, floor: Floor) -> Key:
        domain = self.domains[node.domain or ""]
        if node.op == "rnn" and node.attrs["reverse"]:
            return self.at_least(floor, REVERSE, domain)
        if node.op in ("rnn", "conv"):
            return self.at_least(floor, FORWARD, domain)
        rank = self._anchor.get(node.domain or "", FORWARD) if floor == LOWEST else FORWARD
        return self.at_least(floor, REVERSE if floor[1:] == (REVERSE, domain) else rank, domain)

    def _static_home(self, floor: Floor, streams: bool) -> Key:
        """Along with the steps of a forward stage, so that it streams; if that is lost anyway, once at the end."""
        ranks = (STATIC, FORWARD) if streams else (STATIC,)
        if floor != LOWEST and floor[2] == int(floor[2]) and floor[1] in ranks:
            return (floor[0], floor[1], int(floor[2]))
        return self.at_least(floor, STATIC, 0)

    def _settle(self, node: Node) -> None:
        """Make sure that a node has a home, because somebody reads it from outside."""
        if node.index not in self.home:
            self._fix(node, self.floor[node.index])

    def demand(self, node: Node, key: Key) -> None:
        """``node`` is needed in a stage: compute it there, or read it from its home."""
        pending = [(node, key)]
        while pending:
            wanted, at = pending.pop()
            members = self.members.setdefault(at, set())
            self.exports.setdefault(at, {})
            if wanted.index in members:
                continue
            members.add(wanted.index)
            home = self.home.get(wanted.index)
            if home is not None and home < at and wanted.op not in ("const", "input"):
                self.exports.setdefault(home, {})[wanted.index] = wanted
                pending.append((wanted, home))
                continue
            for position, arg in enumerate(wanted.args):
                if arg is None:
                    continue
                starts = wanted.op == "rnn" and 1 <= position <= wanted.attrs["states"]
                if starts and arg.data is None:
                    if arg.op != "input":
                        source = self.home[arg.index]
                        self.exports.setdefault(source, {})[arg.index] = arg
                        pending.append((arg, source))
                else:
                    pending.append((arg, at))

    def ref(self, node: Node, names: Mapping[Key, str], stages: Mapping[Key, StageGraph]) -> Ref:
        """What a node is called outside of its stage."""
        if node.op == "input":
            return Ref(node.attrs["name"])
        key = self.home[node.index]
        return stages[key].exported[node.index]
