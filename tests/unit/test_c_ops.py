"""Every primitive in C by itself, float and 64-bit ones too, against the golden model."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy.backends import backend, c_ops, c_tflite, runner
from neurodeploy.backends.c_ops import literal
from neurodeploy.deploy import emulator
from neurodeploy.errors import UnsupportedError
from neurodeploy.hardware import find
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.types import Quant
from tests.families import CASES
from tests.host_c import build

UNARY = ["neg", "abs", "tanh", "sigmoid", "exp", "relu", "softplus", "floor", "round"]
BINARY = ["add", "sub", "mul", "div", "min", "max", "eq", "lt", "ne"]


def _float(b):
    return b.input("x", (3, 4)), b.input("y", (3, 4))


def _positive(b):
    x, _ = _float(b)
    return b("abs", x) + 0.01


def _ints(b, dtype):
    return b("cast", b.input("x", (3, 4), "i16"), to=dtype), b("cast", b.input("y", (4,), "i16"), to=dtype)


def _wide(op):
    def grow(b):
        x, y = _ints(b, "i64")
        return b(op, x * x, y * b.const(1000, "i64"))

    return grow


def _index(b):
    return b("cast", b.input("i", (), "i16"), to="i32")


def _stored(b, op):
    """A table as a state, changed where it lies, with what it was as the output."""
    table = b.state("table", (3, 4), np.arange(12).reshape(3, 4))
    new = b.input("new", (4,))
    b.next(table, b("put", table, _index(b), new) if op == "put" else b("shift", table, new))
    return b("exp", table * 0.1)


CASES_OF_OPS = {
    **{op: (lambda b, op=op: b(op, _float(b)[0])) for op in UNARY},
    **{op: (lambda b, op=op: b(op, *_float(b))) for op in BINARY},
    "log": lambda b: b("log", _positive(b)),
    "sqrt": lambda b: b("sqrt", _positive(b)),
    "select": lambda b: (lambda x, y: b("select", x < y, x, 0.5))(*_float(b)),
    "const": lambda b: _float(b)[0] + b.const([1.5, -2.25, 3e-20, 1e30]),
    **{f"cast {d}": (lambda b, d=d: b("cast", _float(b)[0] * 1e4, to=d)) for d in ("i8", "i16", "i32", "i64", "bool")},
    **{f"cast f32 {d}": (lambda b, d=d: b("cast", _ints(b, d)[0], to="f32")) for d in ("i8", "i16", "i32", "i64", "bool")},
    **{f"cast i64 {d}": (lambda b, d=d: b("cast", _wide("mul")(b), to=d)) for d in ("i8", "i16", "i32", "bool")},
    **{f"i64 {op}": _wide(op) for op in ("add", "sub", "mul", "div", "eq", "lt")},
    "i64 min": lambda b: (lambda x, y: b("min", x, b("broadcast", y, shape=[3, 4])))(*_ints(b, "i64")),
    "i64 sqrt": lambda b: b("sqrt", _wide("mul")(b)),
    "i64 sum": lambda b: b("sum", _wide("mul")(b), axis=1),
    "i64 einsum": lambda b: b("einsum", *_ints(b, "i64"), eq="ij,j->i"),
    "i64 matmul": lambda b: _ints(b, "i64")[0] @ b("cast", b.input("z", (4,), "i16"), to="i64"),
    "i32 matmul": lambda b: b("cast", b.input("x", (3, 4), "i16"), to="i32") @ b.input("z", (4,), "i16"),
    "matmul": lambda b: b.input("x", (3, 4)) @ b.input("z", (4,)),
    "matmul row": lambda b: b.input("z", (3,)) @ b.input("x", (3, 4)),
    "matmul square": lambda b: b.input("x", (3, 4)) @ b.input("z", (4, 2)),
    "matmul dot": lambda b: b.input("x", (4,)) @ b.input("z", (4,)),
    "matmul constant": lambda b: b.param("w", np.linspace(-1, 1, 12).reshape(3, 4)) @ b.input("z", (4,)),
    "einsum": lambda b: b("einsum", b.input("x", (3, 4)), b.input("z", (4,)), b.input("v", (3,)), eq="ij,j,i->ji"),
    "einsum trace": lambda b: b("einsum", b.input("x", (3, 3)), eq="ii->i"),
    "sum": lambda b: b("sum", _float(b)[0], axis=1),
    "prod": lambda b: b("prod", _float(b)[0], axis=0, keepdims=True),
    "reduce_max": lambda b: b("reduce_max", _float(b)[0], axis=-1),
    "argmax": lambda b: b("argmax", _float(b)[0], axis=1),
    "softmax": lambda b: b("softmax", _float(b)[0], axis=0),
    "softmax vector": lambda b: b("softmax", b.input("z", (5,)) * 30.0, axis=0),
    "solve": lambda b: b("solve", b.input("x", (4, 4)) + b.const(np.eye(4) * 3), b.input("z", (4,))),
    "random": lambda b: b("random", _index(b), seed=-5, shape=[3, 2]),
    "random i16": lambda b: b("random", _index(b), seed=1 << 40, shape=[], dtype="i16"),
    "concat": lambda b: b("concat", *_float(b), axis=1),
    "slice": lambda b: _float(b)[0].slice(1, 4, axis=1, step=2),
    "reshape": lambda b: b("reshape", b("transpose", _float(b)[0], perm=[1, 0]), shape=[2, 6]),
    "transpose": lambda b: b("transpose", b.input("x", (2, 3, 4)), perm=[2, 0, 1]),
    "broadcast": lambda b: b("broadcast", b.input("x", (3, 1)), shape=[2, 3, 4]),
    "gather": lambda b: b("gather", _float(b)[0], b.input("j", (2, 2), "i16"), axis=1),
    "row": lambda b: b("row", _float(b)[0], _index(b)),
    "put": lambda b: _stored(b, "put"),
    "shift": lambda b: _stored(b, "shift"),
    "quantize": lambda b: b("quantize", _float(b)[0] * 100.0, to="i8", quant=Quant(0.7, 5)),
    "quantize axis": lambda b: b("quantize", _float(b)[0], to="i16", quant=Quant((0.1, 0.2, 0.3, 0.4), 0, 1)),
    "dequantize": lambda b: b("dequantize", b.input("x", (3, 4), "i8", Quant(0.25, -3))),
    "dequantize axis": lambda b: b("dequantize", b.input("x", (3, 4), "i16", Quant((0.1, 0.2, 0.3), 0, 0))),
    "requantize": lambda b: b("requantize", _ints(b, "i32")[0], b.const(123456789, "i32"), pre=2, to="i32"),
    "lut": lambda b: b("lut", b.input("x", (3, 4), "i16"), b.param("t", np.arange(-256, 257).astype(np.int16))),
}  # fmt: skip


@functools.cache
def program(case):
    b = Builder()
    b.output("out", CASES_OF_OPS[case](b))
    graph = b.graph()
    inputs = {n: ProgramInput(t) for n, t in graph.inputs.items()}
    stage = Stage("step", graph, inputs_from={n: Ref(n) for n in inputs})
    return Program(case.replace(" ", "_"), inputs, (stage,), {"out": Ref("out", "step")})


@functools.cache
def library():
    return build([program(case) for case in CASES_OF_OPS]).compile()


def inputs_of(p):
    rng = np.random.default_rng(3)
    made = {}
    for name, spec in p.inputs.items():
        shape = (3, 5, *spec.type.shape)
        low, high = {"i": (-2, 5), "j": (-2, 6)}.get(name, (-120, 120) if spec.type.dtype == "i8" else (-30000, 30000))
        real = spec.type.dtype == "f32"
        made[name] = (rng.normal(size=shape) * 2 if real else rng.integers(low, high, shape)).astype(spec.type.numpy)
    return made


@pytest.mark.parametrize("case", CASES_OF_OPS)
def test_an_op_is_the_golden_models(case):
    p = program(case)
    inputs = inputs_of(p)
    golden = interpret.run(p, inputs).outputs["out"]
    found = library().run(p.name, inputs, states=False).outputs["out"]
    if golden.dtype.kind == "f":
        np.testing.assert_allclose(found, golden, rtol=1e-4 if case == "solve" else 2e-6, atol=2e-6)
        assert np.abs(golden).max() > 0
    else:
        np.testing.assert_array_equal(found, golden)


def test_every_primitive_is_here_or_refused_by_name():
    here = {v.op for case in CASES_OF_OPS for v in program(case).stages[0].graph.values}
    accepted = backend("c").accepts(find("host")).ops
    assert here & set(OPS) == {op for op in accepted if not op.startswith("tfl_")}
    assert all(op.startswith("tfl_") for op in set(OPS) - accepted)


@pytest.mark.parametrize("op", ["floor", "tfl_tanh"])
def test_an_op_without_c_is_refused_by_name(op, monkeypatch):
    for rules in (c_ops.EXPRESSIONS, c_tflite.RULES):
        monkeypatch.delitem(rules, op, raising=False)
    p = program("floor")
    stage = p.stages[0]
    values = tuple(replace(v, op=op) if v.op == "floor" else v for v in stage.graph.values)
    p = replace(p, stages=(replace(stage, graph=replace(stage.graph, values=values)),))
    with pytest.raises(UnsupportedError, match=f"%floor: the C backend has no code for {op}"):
        backend("c").compile(p, find("host"))


def test_literals_are_read_back_exactly():
    rng = np.random.default_rng(0)
    for x in [*rng.integers(0, 1 << 32, 2000).astype(np.uint32).view(np.float32), np.float32(1), np.float32(1e-45)]:
        if np.isfinite(x):
            assert np.float32(float(literal(x, "f32").removesuffix("f"))) == x
    assert [literal(v, d) for v, d in ((-(1 << 31), "i32"), (-(1 << 63), "i64"), (7, "i64"))] == [
        "INT32_MIN", "INT64_MIN", "INT64_C(7)",
    ]  # fmt: skip
    assert literal(np.inf, "f32") == "ND_INFINITY"


@pytest.mark.board
@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an385"])
def test_floats_on_a_board_are_the_hosts_bit_for_bit(board):
    """With an FPU and without, own functions included."""
    if not emulator.available(board):
        pytest.skip("no emulator is installed")
    for name in ("lstm_peephole", "ntm"):
        case = CASES[name]
        artifact = backend("c").compile(case.program, find(board))
        host = runner("host").run(artifact, dict(case.inputs), case.lengths)
        found = runner("board").run(artifact, dict(case.inputs), case.lengths)
        for out, array in host.outputs.items():
            np.testing.assert_array_equal(found.outputs[out], array, err_msg=out)
