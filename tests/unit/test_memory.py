"""The memory plan: what is updated in place, what is copied, what shares bytes; and that aliasing never shows."""

import ctypes
import re

import numpy as np
import pytest

from neurodeploy.backends import c_emit
from neurodeploy.backends.c_layouts import PAIRS, PLAIN
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.passes.memory import Copy
from tests.host_c import build


def program(b, name="net"):
    graph = b.graph()
    inputs = {n: ProgramInput(t) for n, t in graph.inputs.items()}
    stage = Stage("step", graph, inputs_from={n: Ref(n) for n in inputs})
    return Program(name, inputs, (stage,), {o: Ref(o, "step") for o in graph.outputs}, "native")


def planned(p):
    return c_emit.emit(p).stages[0].plan


def step_text(p):
    code = c_emit.emit(p)
    text = code.files[f"{code.name}.c"].decode()
    return text[text.index("_step(") :]


def product_at(text):
    """Where the first product stands, however its weights are stored."""
    found = re.search(r"\bnd_(affine|sparse)\w*\(", text)
    assert found
    return found.start()


def copies(plan, kind="state"):
    return [a for a in plan.actions if isinstance(a, Copy) and a.to.kind == kind]


def exact(p, steps=7, batch=3, seed=0):
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, spec in p.inputs.items():
        high = 2 if spec.type.dtype == "bool" else 6 if spec.type.dtype == "i32" else 200
        low = -1 if spec.type.dtype == "i32" else 0
        inputs[name] = rng.integers(low, high, (batch, steps, *spec.type.shape)).astype(spec.type.numpy)
    golden = interpret.run(p, inputs, states=True)
    found = build([p]).compile().run(p.name, inputs)
    for part in ("outputs", "states"):
        for name, array in getattr(golden, part).items():
            np.testing.assert_array_equal(getattr(found, part)[name], array, err_msg=name)


def narrow(b, x):
    return b("cast", x, to="i16")


def test_elementwise_update_in_place():
    b = Builder()
    x, h = b.input("x", (5,), "i16"), b.state("h", (5,), None, "i16")
    b.next(h, narrow(b, h + x))
    b.output("y", x)
    p = program(b)
    plan = planned(p)
    assert plan.in_place() == {"h"} and not copies(plan) and plan.scratch_bytes == 0
    exact(p)


def test_states_that_swap_go_through_one_copy():
    b = Builder()
    x = b.input("x", (4,), "i16")
    s, t = b.state("s", (4,), np.arange(4), "i16"), b.state("t", (4,), np.arange(4) + 10, "i16")
    b.next(s, t)
    b.next(t, s)
    b.output("y", narrow(b, s + x))
    p = program(b)
    plan = planned(p)
    assert len(copies(plan)) == 2 and len(copies(plan, "scratch")) == 1
    assert sum(b.name.endswith(".old") for b in plan.buffers) == 1
    exact(p)


def test_three_states_in_a_circle_and_one_that_follows():
    b = Builder()
    x = b.input("x", (2,), "i16")
    names = [b.state(n, (2,), np.arange(2) + 10 * i, "i16") for i, n in enumerate("pqrs")]
    for state, source in zip(names, (names[1], names[2], names[0], names[0]), strict=True):
        b.next(state, source)
    for i, state in enumerate(names):
        b.output(f"y{i}", narrow(b, state + x))
    exact(program(b))


def test_an_output_reads_the_old_value():
    b = Builder()
    x, h = b.input("x", (3,), "i16"), b.state("h", (3,), [1, 2, 3], "i16")
    new = narrow(b, h + x)
    b.next(h, new)
    b.output("old", h)
    b.output("new", new)
    b.output("end", b("slice", h, axis=0, start=1, stop=3))
    p = program(b)
    assert planned(p).in_place() == {"h"}
    exact(p)


def test_next_is_an_input_or_a_constant():
    b = Builder()
    x = b.input("x", (3,), "i16")
    s, t = b.state("s", (3,), None, "i16"), b.state("t", (3,), None, "i16")
    b.next(s, x)
    b.next(t, b.param("k", np.array([7, 8, 9], np.int16)))
    b.output("y", narrow(b, s + t))
    p = program(b)
    assert len(copies(planned(p))) == 2
    exact(p)


def test_a_state_that_is_read_shifted_is_not_overwritten_early():
    b = Builder()
    x, h = b.input("x", (6,), "i16"), b.state("h", (6,), np.arange(6), "i16")
    rolled = b("concat", h.slice(5, 6), h.slice(0, 5), axis=0)
    b.next(h, narrow(b, rolled + x))
    t = b.state("t", (6,), np.arange(6), "i16")
    reverse = b("reshape", b("transpose", b("reshape", t, shape=[2, 3]), perm=[1, 0]), shape=[6])
    b.next(t, reverse)
    b.output("y", h)
    exact(program(b))


def test_two_states_of_one_loop_read_each_other():
    b = Builder()
    x = b.input("x", (5,), "i16")
    s, t = b.state("s", (5,), np.arange(5), "i16"), b.state("t", (5,), np.arange(5) * 2, "i16")
    b.next(s, narrow(b, t + x))
    b.next(t, narrow(b, s - x))
    b.output("y", narrow(b, s + t))
    p = program(b)
    plan = planned(p)
    assert plan.in_place() == {"s", "t"} and not copies(plan) and len(plan.fused.items) == 1
    exact(p)


def test_put_stores_one_row():
    b = Builder()
    x, i = b.input("x", (3,), "i16"), b.input("i", (), "i32")
    table = b.state("table", (5, 3), np.arange(15).reshape(5, 3), "i16")
    b.output("read", b("row", table, i))
    b.next(table, b("put", b("put", table, i, x), b.const(2, "i32"), x))
    p = program(b)
    plan = planned(p)
    assert plan.in_place() == {"table"} and plan.scratch_bytes <= 8  # the row that is read, nothing of the table
    assert "< 5; ++" not in step_text(p)  # no loop over rows
    exact(p)


def test_a_put_whose_old_table_is_wanted_copies():
    b = Builder()
    x, i = b.input("x", (3,), "i16"), b.input("i", (), "i32")
    table = b.state("table", (5, 3), None, "i16")
    first = b("put", table, i, x)
    b.output("first", first)
    b.next(table, b("put", first, b.const(2, "i32"), x))
    exact(program(b))


def test_a_delay_line_moves_in_place():
    b = Builder()
    x, line = b.input("x", (2,), "i16"), b.state("line", (4, 2), np.arange(8).reshape(4, 2), "i16")
    b.output("oldest", line.slice(0, 1))
    b.next(line, b("shift", line, x))
    p = program(b)
    plan = planned(p)
    assert plan.in_place() == {"line"} and plan.scratch_bytes == 0
    exact(p)


def guarded():
    b = Builder()
    x, go = b.input("x", (4,), "i16"), b.input("go", (), "bool")
    h = b.state("h", (3,), [1, 2, 3], "i16")
    w = b.param("w", np.arange(12).reshape(3, 4).astype(np.int8))
    (acc,) = b.call("affine", w, x, b.param("bias", np.zeros(3, np.int32)))
    b.next(h, narrow(b, acc + h), go)
    b.output("y", h)
    return program(b)


def test_a_guarded_region_is_branched_around():
    p = guarded()
    text = step_text(p)
    assert text.index("if (in->go)") < product_at(text) and text.count("if (in->go)") == 1
    assert planned(p).in_place() == {"h"}
    exact(p)


def test_the_condition_is_computed_before_its_region():
    b = Builder()
    x, h = b.input("x", (4,), "i16"), b.state("h", (4,), None, "i16")
    w = b.param("w", np.eye(4, dtype=np.int8))
    (acc,) = b.call("affine", w, x, b.param("bias", np.zeros(4, np.int32)))
    new = narrow(b, acc + h)
    total = b("sum", x, axis=0)
    b.next(h, new, b("lt", b.const(300, "i32"), total))
    b.output("y", b("sum", h, axis=0))
    p = program(b)
    text = step_text(p)
    assert text.index("acc = acc +") < text.index("if (lt)") < product_at(text)
    exact(p)


def test_outputs_wait_for_the_last_read_of_an_input():
    """``in`` and ``out`` may be the same memory."""
    b = Builder()
    x = b.input("x", (4,), "i16")
    b.output("a", narrow(b, x * b.const(3, "i32")))
    b.output("b", narrow(b, b("sum", x, axis=0) + x))
    p = program(b)
    built = build([p]).compile()
    code = built.codes["net"]
    size = max(code.stages[0].structs[role].nbytes for role in ("in", "out"))
    memory = np.zeros(size // 2 + 8, np.int16)
    memory[:4] = [1, 2, 3, 4]
    built.lib.net_step(np.zeros(4, np.int32).ctypes.data_as(built_pointer()), memory.ctypes.data_as(built_pointer()),
                     memory.ctypes.data_as(built_pointer()))  # fmt: skip
    assert memory[:8].tolist() == [3, 6, 9, 12, 11, 12, 13, 14]


def built_pointer():
    import ctypes

    return ctypes.c_void_p


def test_scratch_is_shared_by_what_is_not_alive_together():
    b = Builder()
    x = b.input("x", (16,), "i16")
    for layer in range(6):
        w = b.param(f"w{layer}", np.full((16, 16), layer - 3, np.int8))
        (acc,) = b.call("affine", w, x, b.param(f"b{layer}", np.zeros(16, np.int32)))
        x = b("requantize", acc, b.param("m", np.array(1 << 27, np.int32)), to="i16")
    b.output("y", x)
    p = program(b)
    plan = planned(p)
    assert len(plan.buffers) == 5 and plan.scratch_bytes == 2 * 32  # ping and pong
    exact(p)


def gated(units=6, inputs=4):
    """A gated cell whose gates come from one product, with its new value as the output."""
    rng = np.random.default_rng(0)
    b = Builder()
    x, h = b.input("x", (inputs,), "i16"), b.state("h", TensorType((units,), "i16"))

    def product(stem, rows, *pairs):
        parts = [
            (b.param(f"{stem}{i}", rng.integers(-20, 20, (rows, v.shape[0])).astype(np.int8)), v) for i, v in pairs
        ]
        bias = b.param(f"{stem}_bias", rng.integers(-99, 99, rows).astype(np.int32))
        (y,) = b.call("affine", *[p for pair in parts for p in pair], bias)
        return b("requantize", y, b.param(f"{stem}_m", np.full(rows, 1 << 30, np.int32)), to="i16")

    r, z = product("g", 2 * units, (0, x), (1, h)).split(2)
    n = product("u", units, (0, h)) * b("relu", r) + product("n", units, (0, x))
    n = b("requantize", n, b.const(1 << 17, "i32"), to="i16")
    new = n * z + z * h
    new = b("requantize", new, b.const(1 << 17, "i32"), to="i16")
    b.next(h, new)
    b.output("y", new)
    return program(b, "gated")


def test_little_ram_computes_in_pieces_and_uses_the_outputs_memory():
    p = gated()
    fast, small = (c_emit.emit(p, PAIRS, small=s).stages[0].plan for s in (False, True))
    assert (fast.scratch_bytes, small.scratch_bytes) == (48, 24)  # four vectors of 12 bytes; two, and one in out
    assert "out" in {place.kind for name, place in small.places.items() if name not in ("y",)}
    code = c_emit.emit(p, PAIRS, small=True)
    assert code.files["gated.c"].decode().count("static ND_NOINLINE void gated_loop") == 2
    exact(p)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("layout", [PLAIN, PAIRS], ids=lambda v: v.name)
def test_in_and_out_may_be_the_same_memory(layout, small):
    p = gated()
    built = build([p], layout, small=small).compile()
    rng = np.random.default_rng(1)
    step, reset = built.lib.gated_step, built.lib.gated_reset
    states = [np.zeros(64, np.uint8) for _ in range(2)]
    for state in states:
        reset(ctypes.c_void_p(state.ctypes.data))
    for _ in range(5):
        x = rng.integers(-999, 999, 4).astype(np.int16)
        shared, out = np.zeros(16, np.int16), np.zeros(16, np.int16)
        shared[:4] = x
        given = [(states[0], shared, shared), (states[1], x, out)]
        for arrays in given:
            step(*(ctypes.c_void_p(a.ctypes.data) for a in arrays))
        np.testing.assert_array_equal(shared[:6], out[:6])
        np.testing.assert_array_equal(states[0], states[1])


def test_parts_are_written_into_their_concat():
    b = Builder()
    x, z = b.input("x", (4,), "i16"), b.input("z", (4,), "i16")
    both = b("concat", narrow(b, x + z), narrow(b, x - z), axis=0)
    b.output("y", both)
    b.output("top", b("reduce_max", both, axis=0))
    p = program(b)
    assert "memcpy(s.concat" not in step_text(p) and step_text(p).count("for (") <= 3
    exact(p)


@pytest.mark.parametrize("op", ["lut", "requantize"])
def test_slices_of_a_chain_are_read_at_offsets(op):
    b = Builder()
    x = b.input("x", (8,), "i16")
    knots = np.arange(-16384, 16640, 64)[:513].astype(np.int16)
    made = (
        b("lut", x, b.param("t", knots))
        if op == "lut"
        else b("requantize", x, b.param("m", np.array(1 << 30, np.int32)))
    )
    left, right = made.split(2)
    b.output("y", narrow(b, left + right))
    p = program(b)
    plan = planned(p)
    assert len([a for a in plan.actions if not isinstance(a, Copy)]) == 1
    exact(p)


def product(b, x, rows, stem):
    rng = np.random.default_rng(len(stem))
    w = b.param(stem, rng.integers(-60, 61, (rows, x.shape[0])).astype(np.int8))
    (y,) = b.call("affine", w, x, b.param(f"{stem}_bias", np.zeros(rows, np.int32)))
    return b("requantize", y, b.param(f"{stem}_m", np.full(rows, 1 << 26, np.int32)), to="i16")


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("layout", [PLAIN, PAIRS], ids=lambda v: v.name)
def test_a_product_is_not_written_over_its_operand(layout, small):
    b = Builder()
    x = b.input("x", (8,), "i16")
    y = product(b, product(b, product(b, x, 8, "a"), 8, "bb"), 8, "ccc")
    b.output("y", b("relu", y))
    p = program(b, "chain")
    inputs = {"x": np.random.default_rng(0).integers(-30000, 30000, (2, 3, 8)).astype(np.int16)}
    found = build([p], layout, small=small).compile().run(p.name, inputs)
    np.testing.assert_array_equal(found.outputs["y"], interpret.run(p, inputs).outputs["y"])


def test_an_outputs_memory_is_no_scratch_while_inputs_are_read():
    b = Builder()
    u, v = b.input("u", (8,), "i16"), b.input("v", (8,), "i16")
    b.output("y", b("max", product(b, u, 8, "a"), product(b, v, 8, "bb")))
    p = program(b, "late")
    built = build([p], PLAIN, small=True).compile()
    given = np.random.default_rng(0).integers(-30000, 30000, 16).astype(np.int16)
    state, shared = np.zeros(8, np.uint8), given.copy()
    built.lib.late_step(*(ctypes.c_void_p(a.ctypes.data) for a in (state, shared, shared)))
    wanted = interpret.run(p, {"u": given[None, None, :8], "v": given[None, None, 8:]}).outputs["y"]
    np.testing.assert_array_equal(shared[:8], wanted[0, 0])
