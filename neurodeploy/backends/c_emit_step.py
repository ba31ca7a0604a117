"""The C text of one step function from its plan: loops, calls, copies, branches around guarded regions."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from neurodeploy.backends import c_ops_calls
from neurodeploy.backends.c_emit_constants import KEYWORDS, Constants, identifier
from neurodeploy.backends.c_emit_index import subscript
from neurodeploy.backends.c_emit_loop import INDICES, LoopWriter
from neurodeploy.backends.c_layouts import Layout
from neurodeploy.backends.c_ops import HELD, literal, stored
from neurodeploy.backends.c_rounding import bounds
from neurodeploy.backends.c_storage import Stored, encode
from neurodeploy.ir.graph import Value
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.fuse import Call, Loop, View
from neurodeploy.passes.memory import Copy, Place, Plan


class StepWriter:
    """Writes the body of a step function."""

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        constants: Constants,
        storage: Mapping[str, Stored],
        apart: str | None = None,
    ) -> None:
        """``apart``: a prefix for loops that become functions of their own, so that their registers aren't saved while
        a product runs; None leaves them in the step."""
        self.apart = apart
        self.functions: list[str] | None = None if apart is None else []
        self.scratch = "s." if apart is None else "s->"
        self.plan, self.fused, self.layout, self.constants = plan, plan.fused, layout, constants
        self.storage = storage
        self.graph = plan.fused.graph
        self.types = self.graph.types()
        self.lines: list[str] = []
        self.depth = 1
        self.used: set[str] = set(KEYWORDS)
        self.names: dict[str, str] = {}
        self.headers: set[str] = {"nd_math.h"}
        self.declared: list[str] = []
        for value in self.graph.values:
            self.names[value.name] = self.fresh(value.name)
        self.guard_of = {v.name: item.guard for item in plan.fused.items for v in item.values}
        self.buffers = {b.name: self.names.get(b.name) or self.fresh(b.name) for b in plan.buffers}

    # -- text ---------------------------------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        name = base = identifier(stem)
        number = 1
        while name in self.used:
            number += 1
            name = f"{base}_{number}"
        self.used.add(name)
        return name

    def line(self, text: str = "") -> None:
        self.lines.append("    " * self.depth + text if text else "")

    def open(self, text: str) -> None:
        self.line(f"{text} {{" if text else "{")
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1
        self.line("}")

    def loops(self, counts: Sequence[int], names: Sequence[str]) -> int:
        """Open nested loops; returns how many to close."""
        for count, name in zip(counts, names, strict=False):
            self.open(f"for (int32_t {name} = 0; {name} < {count}; ++{name})")
        return len(counts)

    @functools.cached_property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """Least and greatest value of every integer."""
        return bounds(self.graph)

    def number(self, name: str) -> int | None:
        """The number that a constant scalar is."""
        param = self.graph.params.get(self.fused.views[name].base)
        return int(param.data.reshape(-1)[0]) if param is not None and param.type.size == 1 else None

    def type(self, name: str) -> TensorType:
        found = self.types[name]
        if not isinstance(found, TensorType):
            raise TypeError(f"%{name} is no tensor")
        return found

    # -- where things are ---------------------------------------------------------------------------------------------

    def place(self, base: str) -> Place:
        """Where a base lies; what needs no memory is a local."""
        return self.plan.places.get(base, Place("local", base))

    def lvalue(self, place: Place) -> str:
        """The C expression of a place: an array, or a scalar."""
        if place.kind == "const":
            param = self.graph.params[place.name]
            return self.constants.array(place.name, param.data, param.type.dtype)
        if place.kind == "scratch":
            return f"{self.scratch}{self.buffers[place.name]}.v"
        if place.kind == "local":
            return self.names[place.name]
        return f"{place.kind}->{identifier(place.name)}"

    def element(self, view: View, index: Sequence[str], place: Place | None = None) -> str:
        """One element of a view; ``index`` has an expression for every axis."""
        place = place or self.place(view.base)
        if place.kind == "const" and self.graph.params[place.name].type.size == 1:
            param = self.graph.params[place.name]
            return literal(param.data.reshape(-1)[0], param.type.dtype)
        lvalue = self.lvalue(place)
        if self.is_scalar(place):
            return lvalue
        return f"{lvalue}[{subscript(view, index)}]"

    def is_scalar(self, place: Place) -> bool:
        """Whether a place is a scalar in C rather than an array."""
        if place.kind == "scratch":
            return False
        name = self.graph.outputs[place.name] if place.kind == "out" else place.name
        return not self.type(name).shape

    def at(self, name: str, index: Sequence[str]) -> str:
        """One element of a value."""
        return self.element(self.fused.views[name], index)

    def pointer(self, name: str) -> str:
        """The address of a contiguous value."""
        view = self.fused.views[name]
        place = self.place(view.base)
        lvalue = self.lvalue(place)
        if self.is_scalar(place):
            return f"&{lvalue}"
        return f"{lvalue} + {view.offset}" if view.offset else lvalue

    # -- actions ------------------------------------------------------------------------------------------------------

    def body(self) -> list[str]:
        """The statements of the step."""
        guard: tuple[str, ...] = ()
        for action in self.plan.actions:
            if action.guard != guard:
                if guard:
                    self.close()
                if action.guard:
                    self.open(f"if ({' && '.join(self.at(c, ()) for c in action.guard)})")
                guard = action.guard
            if isinstance(action, Loop):
                self._loop(action)
            elif isinstance(action, Call):
                c_ops_calls.call(self, action)
            else:
                self._copy(action)
        if guard:
            self.close()
        return self._all_used()

    def _loop(self, loop: Loop) -> None:
        start = len(self.lines)
        LoopWriter(self, loop).write()
        text = "\n".join(self.lines[start:])
        local = any(self.place(self.fused.views[n].base).kind == "local" for n in self.fused.reads(loop))
        if self.functions is None or loop.guard or not loop.shape or local:
            return
        name, p = self.fresh(f"{self.apart}_loop"), self.apart
        kinds = {
            "state": f"{p}_state_t *",
            "in": f"const {p}_in_t *",
            "out": f"{p}_out_t *",
            "s": f"union {p}_scratch *",
        }
        used = [role for role in kinds if re.search(rf"\b{role}->", text)]
        head = f"static ND_NOINLINE void {name}({', '.join(f'{kinds[role]}{role}' for role in used)})"
        self.functions += [head, "{", text, "}", ""]
        self.lines[start:] = ["    " * self.depth + f"{name}({', '.join(used)});"]

    def _all_used(self) -> list[str]:
        """The lines, with a mark behind scalars that nothing reads after all (the index of a table of one row)."""
        words = Counter(re.findall(r"\w+", "\n".join(self.lines)))
        marked = []
        for line in self.lines:
            marked.append(line)
            found = re.match(r"( +)const \w+ (\w+) = ", line)
            if found and words[found[2]] == 1:
                marked.append(f"{found[1]}(void){found[2]};")
        return marked

    def _copy(self, copy: Copy) -> None:
        view = self.fused.views[copy.source]
        origin = Place("scratch", copy.saved) if copy.saved else self.place(view.base)
        dtype = self.type(copy.source).dtype
        if self.is_scalar(copy.to) or not view.shape:
            target = self.lvalue(copy.to) + ("" if self.is_scalar(copy.to) else "[0]")
            self.line(f"{target} = {stored(dtype, self.element(view, (), origin))};")
            return
        if origin == copy.to:
            nbytes, size = self.type(copy.source).nbytes, self.type(copy.source).numpy.itemsize
            self.headers.add("nd_move.h")
            self.line(f"nd_move_down({self.lvalue(origin)}, {nbytes + view.offset * size}, {nbytes});")
            return
        if view.contiguous and not self.is_scalar(origin) and origin.kind != "local":
            source = f"{self.lvalue(origin)} + {view.offset}" if view.offset else self.lvalue(origin)
            self.line(f"memcpy({self.lvalue(copy.to)}, {source}, {self.type(copy.source).nbytes});")
            return
        index = INDICES[: len(view.shape)]
        count = self.loops(view.shape, index)
        whole = View.whole(copy.to.name, view.shape)
        self.line(
            f"{self.lvalue(copy.to)}[{subscript(whole, index)}] = {stored(dtype, self.element(view, index, origin))};"
        )
        for _ in range(count):
            self.close()

    # -- what calls need ----------------------------------------------------------------------------------------------

    def target(self, value: Value) -> Place:
        """Where a call's result goes; a scalar local is declared in front."""
        base = self.fused.views[value.name].base
        place = self.place(base)
        if place.kind == "local":
            declared = f"{HELD[value.tensor.dtype]} {self.names[value.name]} = 0;"
            if declared not in self.declared:
                self.declared.append(declared)
        return place

    def finish_scalar(self, value: Value) -> None:
        """Store a call's scalar where it is wanted besides its own place."""
        for place in self.plan.stores.get(value.name, ()):
            self.line(f"{self.lvalue(place)} = {stored(value.tensor.dtype, self.at(value.name, ()))};")

    def product(self, value: Value) -> tuple[str, str]:
        """What the names of an integer product's kernels begin with, and its constant structure."""
        kept = self.storage[value.name]
        made = encode(kept, self.layout)
        rows, columns = kept.product.weights.shape
        note = f"{value.name}: {rows} x {columns} {kept.form}, {self.layout.name}"
        self.headers.add(f"{made.struct.removesuffix('_t')}.h")
        names = []
        for array in made.arrays:
            if array is None:
                names.append("0")
                continue
            stem, data, dtype, align = array
            note = note if stem == "weights" else ""
            names.append(self.constants.array(f"{value.name}_{stem}", data, dtype, note, align))
        self.constants.weights |= {name for name in names if name != "0"}
        text = f"{{{', '.join([*names, *map(str, made.sizes)])}, {kept.product.pre}}}"
        return made.kernel, self.constants.struct(text, value.name, made.struct, 24)
