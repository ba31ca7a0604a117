"""The C text of one elementwise loop: one element at a time, or two where a core loads and stores pairs of int16.

Two at a time, an int16 that was loaded stays half of its word as long as an instruction takes it there (look-ups,
products), and constants that the loop needs again and again are held in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurodeploy.backends import c_tflite_ops
from neurodeploy.backends.c_emit_constants import identifier
from neurodeploy.backends.c_emit_index import collapse, subscript
from neurodeploy.backends.c_ops import HELD, expression, literal, stored
from neurodeploy.backends.c_rounding import I32
from neurodeploy.ir.fixed import lut_rounding
from neurodeploy.ir.graph import Value
from neurodeploy.passes.fuse import Loop, View
from neurodeploy.passes.memory import Place
from neurodeploy.passes.views import TABLE_OPS

if TYPE_CHECKING:
    from neurodeploy.backends.c_emit_step import StepWriter

INDICES = "ijklmnpq"
#: The core's table of the sigmoid: 513 int16.
SIGMOID_BYTES = 2 * 513
#: Loops of no more than this many values are unrolled once more.
_SHORT = 3


@dataclass(frozen=True)
class Operand:
    """An element in a register: its text; and the pair that it is half of, if it is."""

    text: str
    pair: str = ""


class LoopWriter:
    """Writes one loop into a step's text."""

    def __init__(self, w: StepWriter, loop: Loop) -> None:
        self.w, self.loop = w, loop
        self.own = {value.name for value in loop.values}
        self.kept = {value.name for value in loop.values if self._targets(value)}
        reads = [
            arg
            for value in loop.values
            for position, arg in enumerate(value.args)
            if w.fused.source.get(arg) not in self.own
            and not (value.op in TABLE_OPS and position == 1)
            and not self.conditional(value, position)
        ]
        self.views = {name: w.fused.views[name].broadcast(loop.shape) for name in dict.fromkeys(reads)}
        self.late = {
            v.args[1]: w.fused.views[v.args[1]].broadcast(loop.shape) for v in loop.values if self.conditional(v, 1)
        }
        whole = [w.fused.views[name] for name in self.kept]
        self.shape, self.axes = collapse(loop.shape, [*self.views.values(), *whole, *self.late.values()])
        self.luts: dict[str, str] = {}
        self.constants: dict[int, str] = {}
        self.curves = ""
        self.taken = set(w.used)

    def write(self) -> None:
        """The loop, and in front of it what it holds in registers."""
        w = self.w
        start = len(w.lines)
        if self._in_pairs():
            self._pairs()
        else:
            self._singles()
        head = [f"const nd_lut_t {name} = nd_lut_of({table});" for table, name in self.luts.items()]
        head += [f"const int32_t {name} = nd_held({number});" for number, name in self.constants.items()]
        head += [f"const nd_tfl_curves_t {self.curves} = nd_tfl_curves();"] if self.curves else []
        w.lines[start:start] = ["    " * w.depth + text for text in head]

    # -- one at a time ------------------------------------------------------------------------------------------------

    def _singles(self) -> None:
        count = self.w.loops(self.shape, INDICES)
        self._element(list(INDICES[: len(self.shape)]))
        for _ in range(count):
            self.w.close()

    def _element(self, index: Sequence[str]) -> None:
        """Loads, values and stores of one element."""
        w = self.w
        held: dict[View, Operand] = {}
        for view in self.views.values():
            if view not in held:
                held[view] = Operand(self._load(view, self._at(view, index)))
        env = {name: held[view] for name, view in self.views.items()}
        for name, view in self.late.items():
            place = w.place(view.base)
            lvalue = w.lvalue(place)
            env[name] = Operand(lvalue if w.is_scalar(place) else f"{lvalue}[{self._at(view, index)}]")
        for value in self.loop.values:
            env[value.name] = self._define(value, self._text(value, env, 0), w.names[value.name])
        for value in self.loop.values:
            for place in self._targets(value):
                target = w.lvalue(place)
                if not w.is_scalar(place):
                    target += f"[{self._at(self._target_view(value, place), index)}]"
                w.line(f"{target} = {stored(value.tensor.dtype, env[value.name].text)};")

    def _at(self, view: View, index: Sequence[str]) -> str:
        if not self.shape:
            return subscript(view, ["0"] * len(view.shape))
        return subscript(View(view.base, self.shape, self.axes(view), view.offset), index)

    def conditional(self, value: Value, position: int) -> bool:
        """Whether an argument is only computed where the select that takes it wants it: then it is read there only."""
        if value.op != "select" or position != 1:
            return False
        needed = self.w.fused.needs.get(value.args[1], frozenset())
        return any(set(self.w.guard_of.get(name, ())) - set(self.loop.guard) for name in needed)

    def _targets(self, value: Value) -> list[Place]:
        base = self.w.fused.views[value.name].base
        places = [self.w.plan.places[base]] if base in self.w.plan.places else []
        return [p for p in [*places, *self.w.plan.stores.get(value.name, ())] if p.kind != "local"]

    def _target_view(self, value: Value, place: Place) -> View:
        own = self.w.fused.views[value.name]
        return own if place == self.w.place(own.base) else View.whole(value.name, self.loop.shape)

    def _load(self, view: View, index: str) -> str:
        """A register for an element in memory; constants and scalars that are registers already stay what they are."""
        w = self.w
        place = w.place(view.base)
        if place.kind == "local":
            return w.lvalue(place)
        if place.kind == "const" and w.graph.params[place.name].type.size == 1:
            return w.element(view, ())
        lvalue = w.lvalue(place)
        name = self._fresh(place.name if view.base == place.name else view.base)
        if not self.shape:
            w.used.add(name)
        held = HELD[w.type(view.base).dtype]
        w.line(f"const {held} {name} = {lvalue if w.is_scalar(place) else f'{lvalue}[{index}]'};")
        return name

    def _fresh(self, stem: str) -> str:
        name = base = identifier(stem)
        number = 1
        while name in self.taken or name in self.w.used:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name

    def _define(self, value: Value, made: str, name: str) -> Operand:
        w, held = self.w, HELD[value.tensor.dtype]
        if "nd_tfl_" in made:
            w.headers.add("nd_tflite.h")
        if "nd_" in made and value.tensor.dtype == "f32" or "nd_truncate" in made or "ND_" in made:
            w.headers.add("nd_float.h")
        local = w.place(w.fused.views[value.name].base).kind == "local"
        if self.loop.guard and not self.loop.shape and local:  # it outlives the branch
            w.declared.append(f"{held} {name} = 0;")
            w.line(f"{name} = {made};")
        else:
            w.line(f"const {held} {name} = {made};")
        return Operand(name)

    # -- expressions --------------------------------------------------------------------------------------------------

    def _argument(self, name: str, env: dict[str, Operand]) -> Operand:
        source = self.w.fused.source.get(name)
        return env[str(source)] if source in self.own else env[name]

    def _text(self, value: Value, env: dict[str, Operand], half: int) -> str:
        """A value's expression; ``half`` tells which half of a pair an operand of one is."""
        if value.op == "lut":
            x = self._argument(value.args[0], env)
            offset, shift = lut_rounding(value.attrs)
            how = f"nd_lut_{_HALVES[half]}" if x.pair else "nd_lut"
            return f"{how}({self._lut(value.args[1])}, {x.pair or x.text}, {self._constant(offset)}) >> {shift}"
        if value.op == "table":
            return expression(value, [self._argument(value.args[0], env).text, self.w.pointer(value.args[1])], ())
        args = [self._argument(arg, env) for arg in value.args]
        if value.op == "rescale":
            return c_tflite_ops.rescale(value, [a.text for a in args], self._constant)
        if value.op == "weighted_sum":
            return c_tflite_ops.weighted_sum(value, [a.text for a in args], self._constant)
        if value.op in c_tflite_ops.CURVES:
            return c_tflite_ops.curve(value, args[0].text, self._curves(), self._constant)
        if value.op == "shift_down":
            return self._shifted(value, args[0])
        if value.op == "mul" and value.tensor.dtype == "i32":
            return self._product(value, args, half)
        return expression(value, [a.text for a in args], [self.w.type(a) for a in value.args])

    def _shifted(self, value: Value, x: Operand) -> str:
        add, shift, dtype = value.attrs["add"], value.attrs["shift"], value.tensor.dtype
        made = f"{x.text} + {add}" if add else x.text
        made = f"({made}) >> {shift}" if add else f"{made} >> {shift}" if shift else made
        return f"nd_sat{dtype[1:]}({made})" if value.attrs["saturate"] else made

    def _product(self, value: Value, args: Sequence[Operand], half: int) -> str:
        plus = value.attrs.get("plus", 0)
        for (pair, other), name in zip((args, args[::-1]), value.args[::-1], strict=True):
            number = self.w.number(name)
            if not pair.pair or (number is None and not self._is_int16(name)):
                continue
            if number is not None and _shift_of(number) is not None and not plus:
                return f"nd_{_HALVES[half]}_times({pair.pair}, {_shift_of(number)}, 0)"
            if self._is_int16(name):
                if plus:
                    return f"nd_mla_{_HALVES[half]}({other.text}, {pair.pair}, {self._addend(plus)})"
                return f"nd_mul_{_HALVES[half]}({other.text}, {pair.pair})"
        made = f"{args[0].text} * {args[1].text}"
        return f"{made} + {self._addend(plus)}" if plus else made

    def _is_int16(self, name: str) -> bool:
        low, high = self.w.bounds.get(name, I32)
        return low >= -32768 and high <= 32767

    def _lut(self, table: str) -> str:
        pointer = self.w.pointer(table)
        if pointer not in self.luts:
            self.luts[pointer] = self.w.fresh(f"{table}_at")
        return self.luts[pointer]

    def _curves(self) -> str:
        """The core's table of the sigmoid, as a loop holds it."""
        self.w.constants.nbytes["nd_tfl_sigmoid_table"] = SIGMOID_BYTES
        if not self.curves:
            self.curves = self.w.fresh("curves")
        return self.curves

    def _addend(self, number: int) -> str:
        """What is added to a product: in a register, unless an add can hold it itself."""
        immediate = number > 0 and number // (number & -number) < 256  # eight bits anywhere in the word
        return literal(number, "i32") if immediate else self._constant(number)

    def _constant(self, number: int) -> str:
        if not self.w.layout.packed or not self.shape:
            return literal(number, "i32")
        if number not in self.constants:
            self.constants[number] = self.w.fresh(f"k{number}" if number >= 0 else f"minus{-number}")
        return self.constants[number]

    # -- two at a time ------------------------------------------------------------------------------------------------

    def _in_pairs(self) -> bool:
        """Whether the loop walks one axis with an int16 array that lies element by element."""
        if not self.w.layout.packed or len(self.shape) != 1 or self.shape[0] < 2 or self.late:
            return False
        targets = [
            (self.w.type(v.name).dtype, self._target_view(v, p)) for v in self.loop.values for p in self._targets(v)
        ]
        reads = [(self.w.type(view.base).dtype, view) for view in self.views.values()]
        return any(dtype == "i16" and self.axes(view) == (1,) for dtype, view in [*reads, *targets])

    def _pairs(self) -> None:
        w, count = self.w, self.shape[0]
        step = 4 if len(self.loop.values) <= _SHORT and count % 4 == 0 else 2
        still = [view for view in dict.fromkeys(self.views.values()) if self.axes(view) == (0,)]
        fixed = {view: self._load(view, self._at(view, ["0"])) for view in still}
        w.used.update(fixed.values())  # they stand in front of the loop
        w.open(f"for (int32_t i = 0; i < {count - count % 2}; i += {step})")
        for first in range(0, step, 2):
            self._pair(first, fixed)
        w.close()
        if count % 2:
            w.open("")
            self._element([str(count - 1)])
            w.close()

    def _pair(self, first: int, fixed: dict[View, str]) -> None:
        """Loads, values and stores of elements i + first and the one behind it."""
        w = self.w
        indices = [f"i + {first + half}" if first + half else "i" for half in (0, 1)]
        loaded: dict[View, tuple[Operand, Operand]] = {}
        for view in self.views.values():
            if view in loaded:
                continue
            if view in fixed:
                loaded[view] = (Operand(fixed[view]), Operand(fixed[view]))
            elif self._packs(view):
                word = self._fresh(f"{view.base}_pair")
                w.line(
                    f"const uint32_t {word} = nd_pair({w.lvalue(w.place(view.base))} + {self._at(view, indices[:1])});"
                )
                loaded[view] = (Operand(f"nd_low({word})", word), Operand(f"nd_high({word})", word))
            else:
                loaded[view] = tuple(Operand(self._load(view, self._at(view, [i]))) for i in indices)  # type: ignore[assignment]
        made: list[dict[str, Operand]] = []
        for half in (0, 1):
            env = {name: loaded[view][half] for name, view in self.views.items()}
            waiting = self._fused_products(env)
            for value in self.loop.values:
                if value.name in waiting:
                    continue
                text = self._sum_of_product(value, env, half, waiting) or self._text(value, env, half)
                env[value.name] = self._define(value, text, self._fresh(w.names[value.name]))
            made.append(env)
        self._store_pairs(made, indices)

    def _packs(self, view: View) -> bool:
        return self.axes(view) == (1,) and self.w.type(view.base).dtype == "i16"

    def _fused_products(self, env: dict[str, Operand]) -> set[str]:
        """Products of a pair's half that only one sum reads: the sum takes them as multiply-accumulates."""
        found = set()
        for value in self.loop.values:
            if value.op != "mul" or value.tensor.dtype != "i32" or "plus" in value.attrs or value.name in self.kept:
                continue
            users = [v for v in self.w.graph.uses().get(value.name, []) if v.name in self.own]
            single = len(users) == 1 and users[0].op == "add" and users[0].args.count(value.name) == 1
            for name, other in (value.args, value.args[::-1]):
                pair = env[name].pair if name in env else ""
                if single and pair and (self._is_int16(other) or _shift_of(self.w.number(other)) is not None):
                    found.add(value.name)
        return found

    def _sum_of_product(self, value: Value, env: dict[str, Operand], half: int, waiting: set[str]) -> str:
        """``a + b * half``, if the sum is one; a second product that waits is made on the way."""
        made = {v.name: v for v in self.loop.values}
        products = [arg for arg in value.args if value.op == "add" and arg in waiting]
        if not products:
            return ""
        for name in products[1:]:
            env[name] = self._define(made[name], self._text(made[name], env, half), self._fresh(self.w.names[name]))
        chosen = made[products[0]]
        other = next(self._argument(a, env) for a in value.args if a != chosen.name)
        for name, factor in (chosen.args, chosen.args[::-1]):
            pair, bits = env[name].pair if name in env else "", _shift_of(self.w.number(factor))
            if pair and bits is not None:
                return f"nd_{_HALVES[half]}_times({pair}, {bits}, {other.text})"
            if pair and self._is_int16(factor):
                return f"nd_mla_{_HALVES[half]}({self._argument(factor, env).text}, {pair}, {other.text})"
        raise AssertionError("a product that waits has a pair")

    def _store_pairs(self, made: Sequence[dict[str, Operand]], indices: Sequence[str]) -> None:
        w = self.w
        for value in self.loop.values:
            packed = ""
            for place in self._targets(value):
                view = self._target_view(value, place)
                lvalue, dtype = w.lvalue(place), value.tensor.dtype
                if self.axes(view) == (1,) and dtype == "i16":
                    if not packed:
                        packed = self._fresh(f"{value.name}_pair")
                        low, high = (env[value.name].text for env in made)
                        w.line(f"const uint32_t {packed} = nd_pack({low}, {high});")
                    w.line(f"nd_put_pair({lvalue} + {self._at(view, indices[:1])}, {packed});")
                    continue
                for env, index in zip(made, indices, strict=True):
                    w.line(f"{lvalue}[{self._at(view, [index])}] = {stored(dtype, env[value.name].text)};")


_HALVES = ("low", "high")


def _shift_of(number: int | None) -> int | None:
    """k of a factor 2^k that a half of a pair can be shifted by."""
    if number is None or number <= 0 or number & (number - 1) or number > 1 << 15:
        return None
    return number.bit_length() - 1


#: Ops that are written here and not in c_ops.
LOOP_OPS = frozenset({"lut", "shift_down", *c_tflite_ops.CURVES})
