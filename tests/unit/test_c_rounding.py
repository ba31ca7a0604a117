"""Rescales as shifts and halves of pairs: only where the bounds prove that they are the same."""

from dataclasses import replace

import numpy as np

from neurodeploy.backends import c_emit
from neurodeploy.backends.c_layouts import PAIRS, PLAIN
from neurodeploy.backends.c_rounding import bounds, round_by_shifts
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.fixed import lut_table
from neurodeploy.ir.graph import Param, Program, ProgramInput, Ref, Stage, Value
from neurodeploy.ir.types import TensorType
from tests.host_c import build

N = 6


def program(b, name="rounding"):
    graph = b.graph()
    inputs = {n: ProgramInput(t) for n, t in graph.inputs.items()}
    stage = Stage("step", graph, inputs_from={n: Ref(n) for n in inputs})
    return Program(name, inputs, (stage,), {o: Ref(o, "step") for o in graph.outputs}, "native")


def text(p, layout=PAIRS):
    code = c_emit.emit(p, layout)
    return code.files[f"{code.name}.c"].decode()


def exact(p, inputs, layout):
    golden = interpret.run(p, inputs)
    np.testing.assert_array_equal(build([p], layout).compile().run(p.name, inputs).outputs["y"], golden.outputs["y"])


def rescaled(dtype, mult, **attrs):
    b = Builder()
    x = b.input("x", (N,), dtype)
    b.output("y", b("requantize", x, b.const(mult, "i32"), **attrs))
    return program(b)


def test_a_power_of_two_is_a_shift_where_the_addend_fits():
    assert "nd_rescale" not in text(rescaled("i16", 1 << 28, to="i16"))
    assert "nd_rescale" in text(rescaled("i32", 1 << 28, to="i16"))  # 2^31 - 1 and the addend leave 32 bits
    assert "nd_rescale" in text(rescaled("i16", 3 << 26, to="i16"))


def test_shifts_at_the_ends_of_their_range():
    x = np.array([[[-32768, -32767, -9, -8, 8, 32767]]], np.int16)
    for mult, attrs in ((1 << 28, {"to": "i16"}), (1 << 30, {"pre": 2, "to": "i8"}), (1 << 16, {"to": "i32"})):
        for layout in (PLAIN, PAIRS):
            exact(rescaled("i16", mult, **attrs), {"x": x}, layout)
    wide = np.array([[[-(2**31), 2**31 - 1, 2**31 - 8, 7, 8, -8]]], np.int32)
    for layout in (PLAIN, PAIRS):
        exact(rescaled("i32", 1 << 28, to="i32"), {"x": wide}, layout)


def test_saturation_is_left_out_only_where_it_cannot_happen():
    table = lut_table(np.tanh, 2.0**-12, 2.0**-15)

    def gated(shift):
        b = Builder()
        x, t = b.input("x", (N,), "i16"), b.param("t", table)
        both = b("lut", x, t) * b("lut", x, t, half=True)
        b.output("y", b("requantize", both, b.const(1 << (32 - shift), "i32"), to="i16"))
        return program(b)

    assert "nd_sat16" not in text(gated(15)) and "nd_sat16" in text(gated(14))
    x = np.array([[[-32768, 32767, 0, 1, -1, 20000]]], np.int16)
    for shift in (14, 15):
        exact(gated(shift), {"x": x}, PAIRS)


def test_a_factor_of_17_bits_is_no_half_of_a_pair():
    """SMULBB reads 16 bits of a register: 32768 - z has 17."""

    def product(top):
        b = Builder()
        z, n = b.input("z", (N,), "i16"), b.input("n", (N,), "i16")
        b.output("y", (b.const(top, "i32") - b("relu", z)) * n)
        return program(b)

    assert "nd_mul_low" in text(product(32767)) and "nd_mul_low" not in text(product(32768))


def test_bounds_are_those_of_the_worst_case():
    b = Builder()
    x = b.input("x", (N,), "i16")
    wide = b("relu", x) * b.const(3, "i32") - b.const(7, "i32")
    b.output("y", wide)
    graph = b.graph()
    known = bounds(replace(graph, params={**graph.params, **_consts(graph)}))
    assert known[wide.name] == (-7, 3 * 32767 - 7)


def test_an_addend_moves_into_the_product_below():
    """``(a b + c d + 2^14) >> 15`` adds 2^14 in a multiply-accumulate; a product with a constant comes last."""
    i32, i16 = TensorType((N,), "i32"), TensorType((N,), "i16")
    values = (
        Value("ab", "mul", ("a", "b"), {}, i32),
        Value("c8", "mul", ("c", "eight"), {}, i32),
        Value("sum", "add", ("c8", "ab"), {}, i32),
        Value("y", "requantize", ("sum", "m"), {"to": "i16"}, i16),
    )
    b = Builder()
    for name in "abc":
        b.input(name, (N,), "i16")
    graph = b.graph()
    params = {"eight": Param.of(np.int32(8)), "m": Param.of(np.int32(1 << 17))}
    made = round_by_shifts(replace(graph, params=params, values=values, outputs={"y": "y"}))
    by_name = {v.name: v for v in made.values}
    assert by_name["ab"].attrs == {"plus": 1 << 14} and "plus" not in by_name["c8"].attrs
    assert by_name["y"].attrs == {"add": 0, "shift": 15, "saturate": True}


def _consts(graph):
    return {v.name: Param.of(np.asarray(v.attrs["value"], np.int32)) for v in graph.values if v.op == "const"}
