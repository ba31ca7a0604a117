"""Random integer step graphs whose every value stays in its range: interval arithmetic goes along as they grow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurodeploy import passes
from neurodeploy.data import Data
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.fixed import LUT_SIZE
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType, int_range
from neurodeploy.ir.verify import verify
from neurodeploy.passes.spiking import SigmaDelta

LIMIT = 1 << 31


def broadcasts(*shapes: tuple[int, ...]) -> bool:
    try:
        return bool(np.broadcast_shapes(*shapes)) or True
    except ValueError:
        return False


class Grower:
    """Grows one graph op by op; ``pool`` holds what there is, ``bounds`` how large it can get."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder()
        self.pool: list[Sym] = []
        self.bounds: dict[str, int] = {}
        self.n, self.m = (int(v) for v in self.rng.integers(1, 7, 2))

    def pick(self, *dtypes: str, shape: tuple[int, ...] | None = None, rank: int | None = None) -> Sym | None:
        found = [
            s
            for s in self.pool
            if s.type.dtype in dtypes and (shape is None or s.shape == shape) and (rank is None or len(s.shape) == rank)
        ]
        return found[self.rng.integers(len(found))] if found else None

    def add(self, symbol: Sym, bound: int) -> Sym:
        self.pool.append(symbol)
        if symbol.type.is_int:
            low, high = int_range(symbol.type.dtype)
            self.bounds[symbol.name] = min(bound, max(-low, high))
        return symbol

    def start(self) -> None:
        for i, (shape, dtype) in enumerate([((self.n,), "i16"), ((self.m, self.n), "i8"), ((), "i32"), ((), "bool")]):
            x = self.b.input(f"x{i}", shape, dtype)
            self.add(x, {"i16": 32768, "i8": 128, "i32": 50, "bool": 1}[dtype])
        for i, (shape, dtype) in enumerate([((self.n,), "i16"), ((self.n,), "i16"), ((self.m, self.n), "i16")]):
            low, high = int_range(dtype)
            init = self.rng.integers(low, high, shape) if self.rng.random() < 0.5 else None
            self.add(self.b.state(f"s{i}", shape, init, dtype), high + 1)
        self.add(self.b.state("count", (), None, "i32"), 1 << 20)

    # -- ops ----------------------------------------------------------------------------------------------------------

    def requantized(self, x: Sym, to: str | None = None) -> Sym:
        to = to or str(self.rng.choice(["i8", "i16", "i16", "i32"]))
        size = self.bounds[x.name]
        pre = int(self.rng.integers(0, 4))
        while size << pre >= LIMIT:
            pre -= 1
        shape = x.shape if self.rng.random() < 0.5 else ()
        mult = self.b.param("mult", self.rng.integers(1 << 16, LIMIT - 1, shape).astype(np.int32))
        return self.add(self.b("requantize", x, mult, pre=max(pre, 0), to=to), (size << max(pre, 0)) // 2 + 1)

    def small(self, x: Sym) -> Sym:
        return x if x.type.dtype in ("i8", "i16") else self.requantized(x, "i16")

    def op_affine(self) -> None:
        xs = [x for _ in range(int(self.rng.integers(1, 4))) if (x := self.pick("i16", "i8", rank=1))]
        if not xs:
            return
        rows = int(self.rng.choice([self.n, self.m, 2 * self.n, 5]))
        args: list[Sym] = []
        dtype = self.rng.choice(["int8", "int8", "int16"])
        top = 127 if dtype == "int8" else 2000
        total = 0
        for x in xs:
            w = self.rng.integers(-top - (dtype == "int8" and self.rng.random() < 0.2), top + 1, (rows, x.shape[0]))
            args += [self.b.param("w", w.astype(dtype)), x]
            total += int(np.abs(w).sum(1).max()) * self.bounds[x.name]
        bias = self.b.param("bias", self.rng.integers(-100000, 100000, rows).astype(np.int32))
        if total + 100000 >= LIMIT:
            return
        (y,) = self.b.call("affine", *args, bias)
        self.add(y, total + 100000)
        if self.rng.random() < 0.8:
            self.requantized(y)
        if self.rng.random() < 0.3 and rows % 2 == 0:
            for half in y.split(2):
                self.bounds[half.name] = self.bounds[y.name]
                self.requantized(half)

    def op_binary(self) -> None:
        x = self.pick("i8", "i16", "i32")
        y = self.pick("i8", "i16", "i32")
        if x is None or y is None or not broadcasts(x.shape, y.shape):
            return
        op = str(self.rng.choice(["add", "sub", "mul", "div"]))
        a, c = self.bounds[x.name], self.bounds[y.name]
        bound = {"add": a + c, "sub": a + c, "mul": a * c, "div": LIMIT - 1}[op]
        if bound >= LIMIT or max(a, c) >= LIMIT:
            x, y, bound = self.small(x), self.small(y), 1 << 30
            bound = LIMIT - 1 if op == "div" else bound
        self.add(self.b(op, x, y), bound)

    def op_minmax(self) -> None:
        x = self.pick("i8", "i16", "i32")
        y = None if x is None else self.pick(x.type.dtype, shape=x.shape)
        if x is not None and y is not None:
            op = str(self.rng.choice(["min", "max"]))
            self.add(self.b(op, x, y), max(self.bounds[x.name], self.bounds[y.name]))

    def op_unary(self) -> None:
        x = self.pick("i8", "i16", "i32")
        if x is not None and self.bounds[x.name] < LIMIT:
            self.add(self.b(str(self.rng.choice(["neg", "abs", "relu", "sqrt"])), x), self.bounds[x.name])

    def op_lut(self) -> None:
        x = self.pick("i16")
        if x is not None:
            table = self.rng.integers(-32768, 32768, LUT_SIZE).astype(np.int16)
            self.add(self.b("lut", x, self.b.param("table", table)), 32768)

    def op_compare(self) -> None:
        x = self.pick("i8", "i16", "i32")
        y = None if x is None else self.pick("i8", "i16", "i32", shape=x.shape)
        if x is not None and y is not None:
            self.add(self.b(str(self.rng.choice(["eq", "lt", "ne"])), x, y), 1)

    def op_select(self) -> None:
        x = self.pick("i8", "i16", "i32")
        y = None if x is None else self.pick(x.type.dtype, shape=x.shape)
        c = self.pick("bool", rank=0) if self.rng.random() < 0.7 or x is None else self.pick("bool", shape=x.shape)
        if x is not None and y is not None and c is not None:
            self.add(self.b("select", c, x, y), max(self.bounds[x.name], self.bounds[y.name]))

    def op_cast(self) -> None:
        x = self.pick("i8", "i16", "i32", "bool")
        if x is not None:
            to = str(self.rng.choice(["i8", "i16", "i32", "bool"]))
            self.add(self.b("cast", x, to=to), self.bounds.get(x.name, 1))

    def op_move(self) -> None:
        x = self.pick("i8", "i16", "i32", "bool")
        if x is None or not x.shape:
            return
        bound = self.bounds.get(x.name, 1)
        kind = self.rng.integers(5)
        axis = int(self.rng.integers(len(x.shape)))
        if kind == 0:
            start = int(self.rng.integers(x.shape[axis]))
            stop = int(self.rng.integers(start, x.shape[axis])) + 1
            self.add(self.b("slice", x, axis=axis, start=start, stop=stop, step=int(self.rng.integers(1, 3))), bound)
        elif kind == 1:
            self.add(self.b("reshape", x, shape=[x.type.size] if len(x.shape) > 1 else [1, x.type.size]), bound)
        elif kind == 2 and len(x.shape) == 2:
            self.add(self.b("transpose", x, perm=[1, 0]), bound)
        elif kind == 3 and len(x.shape) == 1:
            self.add(self.b("broadcast", x, shape=[self.m, *x.shape]), bound)
        elif kind == 4:
            y = self.pick(x.type.dtype, shape=x.shape)
            if y is not None and x.type.size < 60:
                joined = self.b("concat", x, y, axis=axis)
                self.add(joined, max(bound, self.bounds.get(y.name, 1)))
                if self.rng.random() < 0.5:
                    left = self.b("slice", joined, axis=axis, start=0, stop=x.shape[axis], step=1)
                    self.add(left, self.bounds.get(joined.name, 1))

    def op_reduce(self) -> None:
        x = self.pick("i8", "i16", "i32")
        if x is None or not x.shape:
            return
        op = str(self.rng.choice(["sum", "reduce_max", "argmax"]))
        axis = int(self.rng.integers(len(x.shape)))
        bound = self.bounds[x.name] * (x.shape[axis] if op == "sum" else 1)
        if bound < LIMIT:
            made = self.b(op, x, axis=axis, keepdims=bool(self.rng.integers(2)))
            self.add(made, 64 if op == "argmax" else bound)

    def op_product(self) -> None:
        a, x = self.pick("i8", "i16", rank=2), self.pick("i8", "i16", rank=1)
        if a is None or x is None:
            return
        bound = self.bounds[a.name] * self.bounds[x.name] * max(a.shape)
        if bound >= LIMIT:
            return
        if a.shape[1] == x.shape[0] and self.rng.random() < 0.5:
            self.add(a @ x, bound)
        elif a.shape[0] == x.shape[0]:
            self.add(x @ a if self.rng.random() < 0.5 else self.b("einsum", a, x, eq="ij,i->j"), bound)
        elif a.shape[1] == x.shape[0]:
            self.add(self.b("einsum", a, x, eq="ij,j->ij"), bound)

    def op_table(self) -> None:
        table, index = self.pick("i8", "i16", "i32", rank=2), self.pick("i32", rank=0)
        if table is None or index is None:
            return
        bound = self.bounds[table.name]
        kind = self.rng.integers(4)
        if kind == 0:
            self.add(self.b("row", table, index), bound)
        elif kind == 1:
            rows = self.pick("i8", "i16", "i32", rank=1) if self.rng.random() < 0.5 else index
            self.add(self.b("gather", table, rows or index, axis=int(self.rng.integers(2))), bound)
        else:
            row = self.pick(table.type.dtype, shape=table.shape[1:])
            if row is not None:
                args = (table, index, row) if kind == 2 else (table, row)
                self.add(self.b("put" if kind == 2 else "shift", *args), max(bound, self.bounds[row.name]))

    def op_random(self) -> None:
        counter = self.pick("i32", rank=0)
        if counter is not None:
            self.add(
                self.b("random", counter, seed=int(self.rng.integers(1 << 20)), shape=[self.n], dtype="i16"), 32768
            )

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self, name: str) -> Program:
        """States get their next (others' old values, too), the rest of the pool becomes outputs."""
        b = self.b
        states = {s.name: s for s in self.pool if s.name in b._states}
        for state in states.values():
            if state.name == "count":
                one = b.const(1, "i32")
                b.next(state, b("select", b("lt", state, b.const(1 << 20, "i32")), state + one, one))
                continue
            found = [s for s in self.pool if s.type.same_data(state.type)]
            latest = found[-int(self.rng.integers(1, min(4, len(found)) + 1))]
            when = self.pick("bool", rank=0) if self.rng.random() < 0.4 else None
            b.next(state, latest, when)
        wanted = {self.pool[i].name: self.pool[i] for i in self.rng.integers(0, len(self.pool), 6)}
        for i, symbol in enumerate([*wanted.values(), self.pool[-1]]):
            b.output(f"y{i}", symbol)
        graph = b.graph()
        inputs = {n: ProgramInput(t) for n, t in graph.inputs.items()}
        stage = Stage("step", graph, inputs_from={n: Ref(n) for n in inputs})
        outputs = {o: Ref(o, "step") for o in graph.outputs}
        return verify(Program(name, inputs, (stage,), outputs, "native"))


OPS = ("affine", "affine", "binary", "binary", "minmax", "unary", "lut", "compare", "select", "select", "cast", "move",
       "move", "reduce", "product", "table", "table", "random")  # fmt: skip


def random_program(seed: int, size: int = 24) -> Program:
    """The integer step graph of a seed."""
    grower = Grower(seed)
    grower.start()
    for _ in range(size):
        getattr(grower, f"op_{OPS[grower.rng.integers(len(OPS))]}")()
    return grower.finish(f"g{seed}")


def random_inputs(program: Program, seed: int, batch: int = 3, steps: int = 6) -> dict[str, np.ndarray]:
    """Integers over each input's whole range (indices: near the tables)."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, given in program.inputs.items():
        type_: TensorType = given.type
        low, high = (0, 1) if type_.dtype == "bool" else (-2, 9) if type_.dtype == "i32" else int_range(type_.dtype)
        made[name] = rng.integers(low, high + 1, (batch, steps, *type_.shape)).astype(type_.numpy)
    return made


def sent_programs(seeds: range) -> Iterator[tuple[int, Program]]:
    """Random programs of these seeds with levels that events deliver; those that have nothing to send are left out."""
    for seed in seeds:
        plain = random_program(seed)
        data = Data(random_inputs(plain, seed))
        try:
            yield seed, passes.run(plain, (SigmaDelta(levels=(1, 3, 16, 1000)[seed % 4], data=data),))
        except UnsupportedError as error:
            assert "nothing to send" in str(error)
