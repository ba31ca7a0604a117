"""C of each op of the TFLite dialect on this machine: unary ones on every integer, others on wide random vectors."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from neurodeploy.backends.c_layouts import PAIRS, PLAIN
from neurodeploy.backends.c_tflite import RULES, TABLES
from neurodeploy.errors import NumericsError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.tflite import TFLITE_OPS
from neurodeploy.ir.types import Quant, TensorType
from tests.host_c import build

EVERY = {"i8": np.arange(-128, 128, dtype=np.int8), "i16": np.arange(-32768, 32768, dtype=np.int16)}
ACTS = [None, "relu", "relu6", "relu_n1_to_1"]


def tensor(dtype: str, scale: float, zero: int, *shape: int) -> TensorType:
    return TensorType(shape, dtype, Quant(float(np.float32(scale)), zero))


@dataclass(frozen=True)
class Case:
    """One op: its arguments' types, arrays for those that are inputs, constants for the others."""

    op: str
    types: Mapping[str, TensorType]
    quant: Quant | None
    arrays: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def wanted(self) -> np.ndarray:
        given = [{**self.arrays, **self.constants}[n][None] for n in self.types]
        types = list(self.types.values())
        found = OPS[self.op].check(types, self.attrs).with_(quant=self.quant)
        return np.broadcast_to(OPS[self.op].eval(given, self.attrs, found, types), (1, *found.shape))

    def program(self, name: str) -> Program:
        b = Builder()
        constants = {n: Param(t, self.constants[n]) for n, t in self.types.items() if n in self.constants}
        args = [b.param(n, constants[n]) if n in constants else b.input(n, t) for n, t in self.types.items()]
        b.output("y", b(self.op, *args, quant=self.quant, **self.attrs))
        inputs = {n: ProgramInput(self.types[n]) for n in self.arrays}
        stage = Stage("step", b.graph(), Drive(), {n: Ref(n) for n in inputs})
        return Program(name, inputs, (stage,), {"y": Ref("y", "step")}, numerics="tflite")


def exact(cases: list[Case], layout=PLAIN) -> None:
    """C gives what the ops' own rules give."""
    known = []
    for case in cases:
        try:
            known.append((case, case.wanted()))
        except NumericsError:  # beyond what the kernels take
            continue
    assert len(known) > 0.8 * len(cases)
    programs = [case.program(f"p{i}") for i, (case, _) in enumerate(known)]
    built = build(programs, layout).compile()
    for program, (case, wanted) in zip(programs, known, strict=True):
        found = built.run(program.name, {n: a[None, None] for n, a in case.arrays.items()}, states=False).outputs["y"]
        np.testing.assert_array_equal(found[:, 0], wanted, err_msg=str(case))
        assert found.dtype == wanted.dtype


# -- one argument ------------------------------------------------------------------------------------------------------

SCALES = [2.0**-k for k in (1, 8, 9, 10, 11, 12, 13, 14, 20)] + [2.0**-k * 1.0004 for k in (10, 11, 12, 13)]
SCALES += [2.442e-4, 3.3e-4, 1e-3, 1e-5, 0.4]


@pytest.mark.parametrize("layout", [PLAIN, PAIRS], ids=lambda v: v.name)
def test_functions_on_every_integer(layout):
    cases = []
    for op in ("tfl_logistic", "tfl_tanh"):
        cases += [Case(op, {"x": tensor("i16", s, 0, 65536)}, Quant(2.0**-15), {"x": EVERY["i16"]}) for s in SCALES]
        into = Quant(2.0**-8, -128) if op == "tfl_logistic" else Quant(2.0**-7)
        for scale in (1e-7, 1e-4, 0.031, 1 / 16, 0.7):
            cases += [Case(op, {"x": tensor("i8", scale, z, 256)}, into, {"x": EVERY["i8"]}) for z in (-128, 5)]
    exact(cases, layout)


def rescalings() -> Iterator[Case]:
    zeros = {"i8": (-128, 0, 71), "i16": (0,), "i32": (0,)}
    rng = np.random.default_rng(0)
    for i, ratio in enumerate((1e-5, 0.004, 0.07, 0.25, 0.5, 0.99, 1.0, 1.7, 4.0, 256.0, 3000.0)):
        top = min(2.0**31 - 1, 2.0**30 / max(ratio, 1))
        wide = np.rint(rng.uniform(-1, 1, 5000) * top * 2.0 ** rng.uniform(-24, 0, 5000)).astype(np.int32)
        wide[:2] = top, -top
        for source, x in {**EVERY, "i32": wide}.items():
            for op in ("tfl_relu", "tfl_relu6", "tfl_quantize"):
                targets = zeros if op == "tfl_quantize" else () if source == "i32" else (source,)
                for target in targets:
                    if source == target == "i32" or (op == "tfl_relu6" and i):  # it has no scale of its own
                        continue
                    for k in range(max(len(zeros[source]), len(zeros[target]))):
                        zero, into = (z[(k + n) % len(z)] for z, n in ((zeros[source], 0), (zeros[target], i)))
                        type_ = tensor(source, 0.0123, zero, x.size)
                        quant = type_.quant if op == "tfl_relu6" else Quant(float(np.float32(0.0123 / ratio)), into)
                        attrs = {"to": target} if op == "tfl_quantize" else {}
                        yield Case(op, {"x": type_}, quant, {"x": x}, {}, attrs)


def test_rescaling_on_every_integer():
    exact(list(rescalings()))


def rectifiers() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    for i, ratio in enumerate((0.004, 0.25, 0.99, 1.0, 1.7, 30.0)):
        for dtype, zeros in (("i8", (-128, 5)), ("i16", (0, 0))):
            quant = Quant(float(np.float32(0.0123 / ratio)), zeros[1])
            x, type_ = EVERY[dtype], tensor(dtype, 0.0123, zeros[0], EVERY[dtype].size)
            for alpha in (0.1, 0.0, -0.3, 1.5):
                yield Case("tfl_leaky_relu", {"x": type_}, quant, {"x": x}, {}, {"alpha": alpha})
            types = {"x": tensor(dtype, 0.0123, zeros[0], x.size // 4, 4), "a": tensor("i8", 0.02, 3 * i, 4)}
            yield Case(
                "tfl_prelu", types, quant, {"x": x.reshape(-1, 4)}, {"a": rng.integers(-128, 128, 4).astype(np.int8)}
            )
            if dtype == "i8":
                yield Case("tfl_elu", {"x": type_}, quant, {"x": x})
                if ratio <= 30 and ratio >= 1:
                    yield Case("tfl_hard_swish", {"x": type_}, Quant(0.0123, 7), {"x": x})


def test_rectifiers_on_every_integer():
    exact(list(rectifiers()))


# -- two arguments -----------------------------------------------------------------------------------------------------

#: Scales of both arguments and of the result, as far apart as the kernels take them, and zero points at both ends.
EXTREMES = [
    (0.1, 0.1, 0.1, 0, 0, 0),
    (1e-4, 3.0, 2.0, -128, 127, 0),
    (3.0, 1e-4, 0.7, 127, -128, -128),
    (1e-6, 1.0, 1e-4, 10, -20, 127),
    (0.5, 0.5, 1.5e-6, 0, 0, 0),
    (0.5, 0.5, 1.0, 0, 0, 0),
    (0.25, 0.5, 1000.0, -128, -128, -128),
    (2.0**-7, 2.0**-8, 2.0**-7, 0, -128, 0),
]


def arithmetic(seed: int, dtype: str) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    low, high, most = (-128, 128, 127) if dtype == "i8" else (-32768, 32768, 32767)
    size = 65536 if dtype == "i8" else 20000
    drawn = [
        (*np.exp(rng.uniform(-9, 2, 2)), np.exp(rng.uniform(-4, 2)), *rng.integers(-128, 128, 3)) for _ in range(6)
    ]
    for i, (left, right, ratio, *zeros) in enumerate([*EXTREMES, *drawn]):
        out = ratio if i < len(EXTREMES) else ratio * max(left, right)
        for op in ("tfl_add", "tfl_sub", "tfl_mul"):
            into = max(out, left * right / 30000) if op == "tfl_mul" else out
            za, zb, zo = map(int, zeros) if dtype == "i8" else (0, 0, 0)
            x, y = (rng.integers(low, high, size).astype(EVERY[dtype].dtype) for _ in range(2))
            if dtype == "i8":
                x, y = np.repeat(EVERY["i8"], 256), np.tile(EVERY["i8"], 256)
            else:
                x[:4], y[:4] = [low, low, most, most], [low, most, low, most]
            types = {"x": tensor(dtype, left, za, size), "y": tensor(dtype, right, zb, size)}
            attrs = {} if ACTS[i % 4] is None else {"act": ACTS[i % 4]}
            quant = Quant(float(np.float32(into)), zo)
            yield Case(op, types, quant, {"x": x, "y": y}, {}, attrs)
            one = {"y": np.array(rng.integers(low, high), x.dtype)}
            single = {"x": types["x"], "y": tensor(dtype, right, zb)}
            yield Case(op, single, quant, {"x": x}, one, attrs)
            yield Case(op, dict(reversed(single.items())), quant, {"x": x}, one, attrs)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("layout", [PLAIN, PAIRS], ids=lambda v: v.name)
def test_arithmetic(layout, dtype):
    exact(list(arithmetic(len(layout.name), dtype)), layout)


def test_int8_sums_are_two_multiplications_where_that_is_exact():
    """The kernel's three roundings are in the text only where no such form has its bits."""
    rng, arrays = np.random.default_rng(0), {"x": np.repeat(EVERY["i8"], 256), "y": np.tile(EVERY["i8"], 256)}
    cases = []
    for i in range(12):
        left, right = np.exp(rng.uniform(-5, -3, 2))
        types = {n: tensor("i8", s, int(rng.integers(-128, 128)), 65536) for n, s in zip("xy", (left, right))}
        quant = Quant(float(np.float32(max(left, right) * rng.uniform(0.6, 2))), int(rng.integers(-128, 128)))
        attrs = {"act": "relu"} if i % 3 == 0 else {}
        cases.append(Case(("tfl_add", "tfl_sub")[i % 2], types, quant, arrays, {}, attrs))
    types = dict.fromkeys("xy", tensor("i8", 0.1, 0, 65536))
    cases.append(Case("tfl_add", types, types["x"].quant, arrays))
    types = {"x": tensor("i8", 1e-4, -128, 65536), "y": tensor("i8", 3.0, 127, 65536)}
    far = [Case("tfl_add", types, Quant(2.0), arrays, {}, {"act": "relu"})]  # nothing leaves the clamp
    for case in (*cases, *far):
        text = build([case.program("p")]).files["models.c"].decode()
        assert ("nd_tfl_high(" in text or "nd_tfl_scale(" in text) == any(case is c for c in far), case
    exact([*cases, *far])


def test_comparisons():
    rng, cases = np.random.default_rng(3), []
    x, y = np.repeat(EVERY["i8"], 256), np.tile(EVERY["i8"], 256)
    for left, right, za, zb in (
        (0.02, 0.02, 0, 0),
        (1e-3, 1.7e-3, -128, 5),
        (0.999, 3e-5, 40, 127),
        (0.25, 0.5, 9, -9),
    ):
        for op in ("tfl_less", "tfl_equal"):
            cases.append(
                Case(
                    op,
                    {"x": tensor("i8", left, za, 65536), "y": tensor("i8", right, zb, 65536)},
                    None,
                    {"x": x, "y": y},
                )
            )
            types = {"x": tensor("i8", left, za, 64, 4), "y": tensor("i8", right, zb, 4)}
            arrays = {"x": EVERY["i8"].reshape(64, 4)}
            cases.append(Case(op, types, None, arrays, {"y": rng.integers(-128, 128, 4).astype(np.int8)}))
    exact(cases)


def test_broadcast_arguments():
    rng = np.random.default_rng(1)
    cases = []
    for dtype in ("i8", "i16"):
        for op in ("tfl_add", "tfl_sub", "tfl_mul"):
            types = {"x": tensor(dtype, 0.03, 0, 7, 40), "y": tensor(dtype, 0.01, 0, 40)}
            arrays = {n: rng.integers(-128, 128, t.shape).astype(t.numpy) for n, t in types.items()}
            cases.append(Case(op, types, Quant(0.02), arrays))
    exact(cases)


# -- products ----------------------------------------------------------------------------------------------------------


def product(rng, dtype, bias, rows, columns, *, per_channel, act, gain=1.0, lead=(), top=127) -> Case:
    into = float(np.float32(np.exp(rng.uniform(-6, -2) if dtype == "i8" else rng.uniform(-11, -6))))
    scales = tuple(float(np.float32(s)) for s in rng.uniform(1e-3, 1e-1, rows if per_channel else 1))
    zero, zero_out = map(int, rng.integers(-128, 128, 2)) if dtype == "i8" else (0, 0)
    scale = Quant(scales, 0, 0) if per_channel else Quant(scales[0])
    types = {"x": tensor(dtype, into, zero, *lead, columns), "w": TensorType((rows, columns), "i8", scale)}
    constants = {"w": rng.integers(-top, top + 1, (rows, columns)).astype(np.int8)}
    if bias:
        types["b"] = TensorType((rows,), bias)
        wide = 1 << (31 if bias == "i64" else 15)
        constants["b"] = rng.integers(-wide, wide, rows).astype(types["b"].numpy)
    x = rng.integers(EVERY[dtype][0], int(EVERY[dtype][-1]) + 1, (*lead, columns)).astype(types["x"].numpy)
    out = Quant(float(np.float32(into * np.mean(scales) * top / 2 * np.sqrt(columns) / gain)), zero_out)
    return Case("tfl_fully_connected", types, out, {"x": x}, constants, {"act": act} if act else {})


def products() -> Iterator[Case]:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        for rows, columns in ((1, 1), (1, 9), (7, 5), (32, 64), (3, 700)):
            for dtype, bias in (("i8", None), ("i8", "i32"), ("i16", None), ("i16", "i32"), ("i16", "i64")):
                act, gain = ACTS[seed // 2], 1.0 + 1000 * (seed == 7)
                yield product(rng, dtype, bias, rows, columns, per_channel=seed % 2 == 0, act=act, gain=gain)


@functools.cache
def all_products() -> list[Case]:
    rng = np.random.default_rng(9)
    shaped = [
        product(rng, d, None, 5, 6, per_channel=True, act=None, lead=s) for d in EVERY for s in ((1,), (3,), (1, 2))
    ]
    least = [product(rng, d, None, 5, 6, per_channel=False, act=None, top=128) for d in EVERY]
    return [*products(), *shaped, *least]


@pytest.mark.parametrize("layout", [PLAIN, PAIRS], ids=lambda v: v.name)
def test_products(layout):
    exact(all_products(), layout)


# -- products of computed values, sums, softmax ------------------------------------------------------------------------


def functions() -> Iterator[Case]:
    shapes = [((3, 5), (5, 4)), ((2, 3, 1), (1, 4)), ((1, 6, 40), (7, 40, 2))]
    for seed in range(6):
        rng = np.random.default_rng(seed)
        for dtype, every in EVERY.items():
            za, zb, zo = map(int, rng.integers(-128, 128, 3)) if dtype == "i8" else (0, 0, 0)

            def drawn(shape, every=every, rng=rng):
                return rng.integers(every[0], int(every[-1]) + 1, shape).astype(every.dtype)

            for a, b in shapes:
                types = {"x": tensor(dtype, 0.02, za, *a), "y": tensor(dtype, 0.013, zb, *b)}
                reach = 0.02 * 0.013 * float(every[-1]) * np.sqrt(a[-1]) * 10.0 ** (seed - 3)
                arrays = {"x": drawn(a), "y": drawn(b)}
                yield Case("tfl_batch_matmul", types, Quant(float(np.float32(reach)), zo), arrays)
            for axis, keep in ((0, False), (1, True), (-1, False)):
                attrs = {"axis": axis, "keepdims": keep}
                type_ = tensor(dtype, 0.02, za, 3, 50)
                yield Case("tfl_mean", {"x": type_}, Quant(0.02 * 2.0 ** (seed - 4), zo), {"x": drawn((3, 50))})
                yield Case(
                    "tfl_sum", {"x": type_}, Quant(0.02 * 2.0 ** (2 * seed - 4), zo), {"x": drawn((3, 50))}, {}, attrs
                )
            for shape, scale in (((9,), 1e-5), ((3, 40), 0.003), ((1,), 0.1), ((300,), 0.05), ((2, 5), 0.9)):
                into = Quant(2.0**-8, -128) if dtype == "i8" else Quant(2.0**-15)
                scale = scale if dtype == "i8" else scale / 256
                for x in (drawn(shape), np.full(shape, every[seed % every.size], every.dtype), drawn(shape) // 8):
                    yield Case("tfl_softmax", {"x": tensor(dtype, scale, za, *shape)}, into, {"x": x})


def test_products_of_computed_values_sums_and_softmax():
    exact(list(functions()))


def test_from_floats_and_to_them():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=4000) * 10.0 ** rng.uniform(-3, 4, 4000)).astype(np.float32)
    x[:9] = [0.0, -0.0, 0.05, -0.05, 0.15, 1e30, -1e30, 0.04999999701976776, -0.04999999701976776]
    cases = [Case("tfl_from_float", {"x": TensorType(x.shape, "f32")}, Quant(0.1 * 4**i, 7 * i), {"x": x}, {}, {"to": dtype})
             for dtype in EVERY for i in range(3)]  # fmt: skip
    for dtype, every in EVERY.items():
        cases.append(Case("tfl_to_float", {"x": tensor(dtype, 0.0123, -5, every.size)}, None, {"x": every}))
    exact(cases)


def test_a_lookup():
    types = {"x": tensor("i8", 0.1, 3, 256), "t": TensorType((256,), "i8")}
    table = np.random.default_rng(0).permutation(EVERY["i8"])
    exact([Case("tfl_lookup", types, Quant(0.1), {"x": EVERY["i8"]}, {"t": table})])


# -- windows -----------------------------------------------------------------------------------------------------------

#: Samples and windows, and attributes of the window: streams' windows in a row, and others that leave the sample.
WINDOWS = [
    ((5, 1, 8), (3, 1), {}),
    ((5, 1, 8), (3, 1), {"stride": [2, 1]}),
    ((9, 1, 5), (4, 1), {"dilation": [2, 1]}),
    ((1, 1, 16), (1, 1), {"padding": "same"}),
    ((6, 7, 3), (3, 2), {"padding": "same"}),
    ((6, 7, 3), (3, 3), {"stride": [2, 2], "padding": "same"}),
    ((8, 8, 4), (3, 3), {"stride": [1, 2]}),
    ((10, 9, 2), (3, 3), {"dilation": [2, 3]}),
    ((4, 6, 4), (2, 6), {}),
]


def windowed(seed: int) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for i, (shape, taps, attrs) in enumerate(WINDOWS):
        for dtype, every in EVERY.items():
            zero, zero_out = map(int, rng.integers(-128, 128, 2)) if dtype == "i8" else (0, 0)
            into = float(np.float32(0.02 if dtype == "i8" else 1e-4))
            x = rng.integers(every[0], int(every[-1]) + 1, shape).astype(every.dtype)
            type_ = tensor(dtype, into, zero, *shape)
            more = {**attrs, **({"act": ACTS[i % 4]} if i % 4 else {})}
            for op, wanted, outputs, axis in (
                ("tfl_conv_2d", (5, *taps, shape[2]), 5, 0),
                ("tfl_depthwise_conv_2d", (1, *taps, shape[2]), shape[2], 3),
                ("tfl_depthwise_conv_2d", (1, *taps, 2 * shape[2]), 2 * shape[2], 3),
            ):
                scales = tuple(float(np.float32(s)) for s in rng.uniform(1e-3, 1e-1, outputs if seed % 2 else 1))
                quant = Quant(scales, 0, axis) if seed % 2 else Quant(scales[0])
                types = {"x": type_, "w": TensorType(wanted, "i8", quant)}
                constants = {"w": rng.integers(-127, 128, wanted).astype(np.int8)}
                bias = [None, "i32", "i64" if dtype == "i16" else "i32"][(i + seed) % 3]
                if bias:
                    types["b"] = TensorType((outputs,), bias)
                    constants["b"] = rng.integers(-20000, 20000, outputs).astype(types["b"].numpy)
                reach = into * np.mean(scales) * 60 * np.sqrt(np.prod(wanted) / outputs)
                yield Case(op, types, Quant(float(np.float32(reach)), zero_out), {"x": x}, constants, more)
            for op in ("tfl_average_pool_2d", "tfl_max_pool_2d"):
                free = {key: v for key, v in more.items() if key != "dilation"}
                yield Case(op, {"x": type_}, type_.quant, {"x": x}, {}, {**free, "window": list(taps)})


@pytest.mark.parametrize(("seed", "layout"), [(0, PLAIN), (1, PAIRS), (2, PAIRS)], ids=lambda v: getattr(v, "name", v))
def test_windows(seed, layout):
    exact(list(windowed(seed)), layout)


def test_svdfs_sums_over_time():
    rng = np.random.default_rng(0)
    cases = []
    for rank, filters, steps in ((1, 6, 4), (2, 6, 5), (3, 3, 1)):
        for dtype, every in EVERY.items():
            top = int(every[-1])
            shape = (steps, filters)
            types = {"line": tensor(dtype, 0.01, 0, *shape), "w": tensor(dtype, 0.003, 0, filters, steps)}
            types["b"] = TensorType((filters // rank,), "i32")
            line, w = (rng.integers(-top, top + 1, t.shape).astype(every.dtype) // 4 for t in list(types.values())[:2])
            reach = steps * top * top // 16
            constants = {"w": w, "b": rng.integers(-reach, reach, filters // rank).astype(np.int32)}
            quant = Quant(float(np.float32(0.01 * 0.003 * reach / 60)), 9)
            cases.append(Case("tfl_svdf_time", types, quant, {"line": line}, constants, {"rank": rank}))
    exact(cases)


def by_sixteen(output: str) -> Program:
    """A sigmoid of an int8 by way of int16, and its result or what it is there as the output."""
    b = Builder()
    x = b.input("x", tensor("i8", 0.05, 0, 256))
    wide = b("cast", x, to="i16", quant=x.type.quant)
    curve = b("tfl_logistic", wide, quant=Quant(2.0**-15))
    half = b("tfl_mul", curve, b.param("half", Param(tensor("i16", 2.0**-15, 0), np.array(16384, np.int16))),
             quant=Quant(2.0**-15))  # fmt: skip
    back = b("tfl_quantize", half, quant=Quant(2.0**-9, -128), to="i8")
    b.output("y", {"narrow": back, "wide": half}[output])
    stage = Stage("step", b.graph(), Drive(), {"x": Ref("x")})
    return Program(output, {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "step")}, numerics="tflite")


def test_what_goes_by_way_of_sixteen_bits_is_one_table():
    programs = [by_sixteen("narrow"), by_sixteen("wide")]
    built = build(programs).compile()
    for program in programs:
        found = built.run(program.name, {"x": EVERY["i8"][None, None]}).outputs["y"]
        np.testing.assert_array_equal(found, interpret.run(program, {"x": EVERY["i8"][None, None]}).outputs["y"])
    narrow, wide = (built.codes[program.name] for program in programs)
    assert b"nd_tfl_logistic" in wide.files["wide.c"]
    assert b"nd_tfl_" not in narrow.files["narrow.c"]
    assert list(narrow.constants.values()) == [256]


def test_every_op_of_the_dialect_has_c():
    """By a rule, or as a table of what an int8 gives."""
    assert set(TFLITE_OPS) == set(RULES) | TABLES
    assert all(TFLITE_OPS[op].elementwise and TFLITE_OPS[op].arity == (1, 1) for op in TABLES)
