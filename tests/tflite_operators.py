"""Programs of one primitive and files of one operator, for the tables of ``docs/tflite/operators.md``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurodeploy.backends.tflite.write import Subgraph
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.types import Quant

# -- primitives --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """A graph under construction: ``d("x", 4)`` is an input of the column's kind, real numbers or i32."""

    b: Builder
    dtype: str

    def __call__(self, name: str, *shape: int) -> Sym:
        return self.b.input(name, list(shape), self.dtype)

    def weights(self, *shape: int) -> Sym:
        data = np.random.default_rng(1).normal(size=shape)
        return self.b.param("W", (4 * data).astype(np.int32) if self.dtype == "i32" else data)

    def index(self, *shape: int) -> Sym:
        return self.b.input("index", list(shape), "i32")


@dataclass(frozen=True)
class Row:
    """How a primitive is used; ``options`` of the quantizer."""

    op: str
    build: Callable[[Draft], Sym]
    options: Mapping[str, Any] = field(default_factory=dict)


def _of_one(op: str, *shape: int, **attrs: Any) -> Row:
    return Row(op, lambda d: d.b(op, d("x", *(shape or (4,))), **attrs))


def _of_two(op: str) -> Row:
    return Row(op, lambda d: d.b(op, d("x", 4), d("y", 4)))


def _affine(d: Draft) -> Sym:
    return d.weights(5, 4) @ d("x", 4) + d.weights(5, 3) @ d("h", 3) + d.weights(5)


def _einsum(equation: str, *shapes: tuple[int, ...]) -> Row:
    def build(d: Draft) -> Sym:
        W = d.weights(*shapes[0])
        return d.b("einsum", W, *(d(f"x{i}", *shape) for i, shape in enumerate(shapes[1:])), eq=equation)

    return Row("einsum", build)


def _random(d: Draft) -> Sym:
    return d.b("random", d.b.input("counter", [], "i32"), seed=1, shape=[4], dtype=d.dtype)


def _const(d: Draft) -> Sym:
    return d.b("add", d("x", 4), d.b.const(2, d.dtype))


ROWS: Mapping[str, Row] = {
    **{op: _of_two(op) for op in ("add", "sub", "mul", "min", "max", "eq", "lt", "ne", "div")},
    "div by a constant": Row("div", lambda d: d.b("div", d("x", 4), d.weights(4))),
    **{op: _of_one(op) for op in ("neg", "abs", "relu", "tanh", "sigmoid", "exp", "log", "sqrt", "softplus", "floor",
                                  "round")},
    "1 / sqrt(x + c)": Row("sqrt", lambda d: d.b("div", 1.0, d.b("sqrt", d("x", 4) + 0.1))),
    "select": Row("select", lambda d: d.b("select", d.b.input("c", [4], "bool"), d("x", 4), d("y", 4))),
    "cast to i32": _of_one("cast", to="i32"),
    "cast to f32": _of_one("cast", to="f32"),
    "cast to bool": _of_one("cast", to="bool"),
    "matmul with a constant": Row("matmul", lambda d: d.weights(5, 4) @ d("x", 4)),
    "W x + U h + b": Row("add", _affine),
    "W x + U h + b, weights of 4 bits": Row("add", _affine, {"weight_bits": 4}),
    "matmul of computed values": Row("matmul", lambda d: d("x", 3, 4) @ d("y", 4)),
    "einsum ijk,j,k->i": _einsum("ijk,j,k->i", (4, 3, 2), (3,), (2,)),
    "einsum ii->i, a diagonal": Row("einsum", lambda d: d.b("einsum", d("x", 3, 3), eq="ii->i")),
    **{op: _of_one(op, 3, 4, axis=1) for op in ("sum", "prod", "reduce_max", "argmax")},
    "softmax": _of_one("softmax", 3, 4, axis=1),
    "softmax, another axis": _of_one("softmax", 3, 4, axis=0),
    "solve, 2 unknowns": Row("solve", lambda d: d.b("solve", d("x", 2, 2), d("y", 2))),
    "solve, 9 unknowns": Row("solve", lambda d: d.b("solve", d("x", 9, 9), d("y", 9))),
    "random": Row("random", _random),
    "concat": Row("concat", lambda d: d.b("concat", d("x", 4), d("y", 4), axis=0)),
    "slice": Row("slice", lambda d: d("x", 6).slice(1, 4)),
    "slices of equal size": Row("slice", lambda d: d.b("mul", *d("x", 6).split(2))),
    "reshape": _of_one("reshape", 2, 3, shape=[3, 2]),
    "transpose": _of_one("transpose", 2, 3, perm=[1, 0]),
    "broadcast": _of_one("broadcast", 1, 3, shape=[2, 3]),
    "gather, one entry": Row("gather", lambda d: d.b("gather", d("x", 4, 3), d.index(), axis=0)),
    "gather, several": Row("gather", lambda d: d.b("gather", d("x", 4, 3), d.index(2), axis=0)),
    "row": Row("row", lambda d: d.b("row", d("x", 4, 3), d.index())),
    "put": Row("put", lambda d: d.b("put", d("x", 4, 3), d.index(), d("y", 3))),
    "shift": Row("shift", lambda d: d.b("shift", d("x", 4, 3), d("y", 3))),
    "const": Row("const", _const),
}  # fmt: skip


# -- operators of files ------------------------------------------------------------------------------------------------

#: What an operator's result must be, by TFLite's rules.
FIXED: Mapping[tuple[str, str], Quant] = {
    ("LOGISTIC", "i8"): Quant(2.0**-8, -128), ("LOGISTIC", "i16"): Quant(2.0**-15),
    ("TANH", "i8"): Quant(2.0**-7), ("TANH", "i16"): Quant(2.0**-15),
    ("SOFTMAX", "i8"): Quant(2.0**-8, -128), ("SOFTMAX", "i16"): Quant(2.0**-15),
}  # fmt: skip
NUMPY = {"f32": np.float32, "i8": np.int8, "i16": np.int16, "i32": np.int32, "bool": np.bool_, "i64": np.int64}


@dataclass(frozen=True)
class File:
    """A subgraph of one operator in one type."""

    s: Subgraph
    dtype: str
    code: str

    def quant(self, result: bool = False) -> Quant | None:
        if self.dtype not in ("i8", "i16"):
            return None
        made = FIXED.get((self.code, self.dtype)) if result else None
        return made or Quant(2.0**-5, 3 if self.dtype == "i8" else 0)

    def x(self, *shape: int, name: str = "x", dtype: str | None = None) -> int:
        dtype = dtype or self.dtype
        self.s.inputs.append(self.s.tensor(name, shape, dtype, self.quant() if dtype == self.dtype else None))
        return self.s.inputs[-1]

    def y(self, *shape: int, name: str = "y", dtype: str | None = None) -> int:
        dtype = dtype or self.dtype
        self.s.outputs.append(self.s.tensor(name, shape, dtype, self.quant(True) if dtype == self.dtype else None))
        return self.s.outputs[-1]

    def op(self, inputs: list[int], outputs: list[int], table: str | None = None, **options: Any) -> None:
        self.s.op(self.code, inputs, outputs, table, **options)

    def ints(self, *data: Any) -> int:
        return self.s.tensor(f"ints{len(self.s.tensors)}", np.shape(data), "i32", data=np.array(data, np.int32))

    def weights(self, *shape: int, axis: int | None = None) -> int:
        data = np.random.default_rng(2).integers(-100, 100, shape)
        if self.dtype == "f32":
            return self.s.tensor("W", shape, "f32", data=(data / 100).astype(np.float32))
        scale = Quant(2.0**-7) if axis is None else Quant(tuple(2.0**-7 for _ in range(shape[axis])), 0, axis)
        return self.s.tensor("W", shape, "i8", scale, data.astype(np.int8))

    def bias(self, size: int, scale: float = 2.0**-12) -> int:
        dtype = {"f32": "f32", "i8": "i32"}.get(self.dtype, "i64")
        quant = None if dtype == "f32" else Quant(scale)
        return self.s.tensor("b", (size,), dtype, quant, np.ones(size, NUMPY[dtype]))


def _one(table: str | None = None, **options: Any) -> Callable[[File], None]:
    return lambda f: f.op([f.x(1, 6)], [f.y(1, 6)], table, **options)


def _two(table: str | None = None, **options: Any) -> Callable[[File], None]:
    return lambda f: f.op([f.x(1, 6), f.x(1, 6, name="x2")], [f.y(1, 6)], table, **options)


def _comparison(f: File) -> None:
    f.op([f.x(1, 6), f.x(1, 6, name="x2")], [f.y(1, 6, dtype="bool")])


def _shaped(result: tuple[int, ...], *constants: Any, table: str | None = None, **options: Any):
    def build(f: File) -> None:
        f.op([f.x(1, 2, 6), *(f.ints(*c) for c in constants)], [f.y(*result)], table, **options)

    return build


def _reduced(f: File) -> None:
    f.op([f.x(1, 3, 4), f.ints(2)], [f.y(1, 3)], "ReducerOptions")


def _window(*weights: int, channels: int, table: str, **options: Any) -> Callable[[File], None]:
    def build(f: File) -> None:
        constants = [f.weights(*weights, axis=3 if "Depthwise" in table else 0), f.bias(channels)] if weights else []
        f.op([f.x(1, 6, 5, 4), *constants], [f.y(1, 4, 4, channels)], table, strideH=1, strideW=1, padding=1, **options)

    return build


def _transpose_conv(f: File) -> None:
    f.op([f.ints(1, 8, 6, 2), f.weights(2, 3, 2, 4, axis=0), f.x(1, 4, 3, 4), f.bias(2)], [f.y(1, 8, 6, 2)],
         "TransposeConvOptions", strideH=2, strideW=2)  # fmt: skip


def _power(f: File) -> None:
    two = f.s.tensor("two", (), f.dtype, f.quant(), np.array(2, NUMPY[f.dtype]))
    f.op([f.x(1, 6), two], [f.y(1, 6)])


def _looked_up(f: File) -> None:
    table = (
        f.weights(3, 6)
        if f.dtype == "f32"
        else f.s.tensor("W", (3, 6), f.dtype, f.quant(), np.ones((3, 6), NUMPY[f.dtype]))
    )
    f.op([f.ints(2, 0), table], [middle := f.s.tensor("middle", (2, 6), f.dtype, f.quant())])
    f.s.op("CONCATENATION", [middle, f.x(2, 6)], [f.y(2, 12)], "ConcatenationOptions", axis=1)


def _resized(table: str) -> Callable[[File], None]:
    return lambda f: f.op([f.x(1, 3, 4, 2), f.ints(6, 6)], [f.y(1, 6, 6, 2)], table, halfPixelCenters=True)


def _spaced(shape: tuple[int, ...], result: tuple[int, ...], blocks: Any, around: Any) -> Callable[[File], None]:
    return lambda f: f.op([f.x(*shape), f.ints(*blocks), f.ints(*around)], [f.y(*result)])


def _svdf(f: File) -> None:
    x, kind = f.x(1, 6), "f32" if f.dtype == "f32" else "i16"
    wide = None if kind == "f32" else Quant(2.0**-9)
    time = np.ones((4, 3), NUMPY[kind])
    state = f.s.tensor("state", (1, 12), "f32" if f.dtype == "f32" else "i16", wide)
    f.s.tensors[state].isVariable = True
    inputs = [x, f.weights(4, 6), f.s.tensor("time", (4, 3), kind, wide, time), f.bias(4, 2.0**-18), state]
    f.op(inputs, [f.y(1, 4)], "SVDFOptions", rank=1)


def _pad_with(f: File) -> None:
    number = f.s.tensor("number", (1,), f.dtype, f.quant(), np.ones(1, NUMPY[f.dtype]))
    f.op([f.x(1, 3, 2), f.ints([0, 0], [1, 2], [0, 0]), number], [f.y(1, 6, 2)])


def _variable(f: File) -> None:
    """All four operators of variables at once: a call gives what the last one was given."""
    x, kept = f.x(1, 4), f.y(1, 4)
    init, handles = f.s.model.subgraph("init"), []
    for graph in (f.s, init):
        handles.append(graph.tensor("handle", (1,), "resource"))
        graph.op("VAR_HANDLE", [], [handles[-1]], "VarHandleOptions", container="", sharedName="v")
    start = init.tensor("start", (1, 4), f.dtype, f.quant(), np.ones((1, 4), NUMPY[f.dtype]))
    init.op("ASSIGN_VARIABLE", [handles[1], start], [])
    f.s.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    f.s.op("READ_VARIABLE", [handles[0]], [kept])
    f.s.op("ASSIGN_VARIABLE", [handles[0], x], [])


def _updated(f: File) -> None:
    f.op([f.x(1, 4, 3), f.x(1, 1, 3, name="x2"), f.x(3, name="at", dtype="i32")], [f.y(1, 4, 3)])


def _gathered(f: File) -> None:
    f.op([f.x(1, 4, 3), f.ints(3, 0)], [f.y(1, 2, 3)], "GatherOptions", axis=1)


def _split(f: File) -> None:
    axis = f.s.tensor("axis", (), "i32", data=np.array(1, np.int32))
    outs = [f.y(1, 3, name=f"y{i}") for i in range(2)]
    if f.code == "SPLIT":
        f.op([axis, f.x(1, 6)], outs, "SplitOptions", numSplits=2)
    else:
        f.op([f.x(1, 6), f.ints(3, 3), axis], outs, "SplitVOptions", numSplits=2)


def _chosen(f: File) -> None:
    f.op([f.x(1, 6, name="c", dtype="bool"), f.x(1, 6), f.x(1, 6, name="x2")], [f.y(1, 6)])


def _fully_connected(f: File) -> None:
    f.op([f.x(1, 6), f.weights(3, 6, axis=0), f.bias(3)], [f.y(1, 3)], "FullyConnectedOptions")


def _batch_matmul(f: File) -> None:
    f.op([f.x(1, 3, 4), f.x(1, 4, 5, name="x2")], [f.y(1, 3, 5)], "BatchMatMulOptions")


def _argmax(f: File) -> None:
    f.op(
        [f.x(1, 3, 4), f.ints(2)],
        [f.y(1, 3, dtype="i32")],
        f"{f.code.replace('_', ' ').title().replace(' ', '')}Options",
        outputType=2,
    )


def _known(f: File) -> None:
    """What depends on a shape alone, added to or joined with x."""
    x, shape = f.x(1, 6), {"SHAPE": (2,), "RANK": ()}.get(f.code, (1, 6))
    like = f.code == "ZEROS_LIKE"
    made = f.s.tensor("made", shape, f.dtype if like else "i32", f.quant() if like else None)
    f.op([x], [made], "ShapeOptions" if f.code == "SHAPE" else None, **({"outType": 2} if f.code == "SHAPE" else {}))
    y = f.y(*shape, dtype=f.dtype if like else "i32")
    f.s.op("RESHAPE", [made], [y], "ReshapeOptions", newShape=list(shape))


def _filled(f: File) -> None:
    number = f.s.tensor("number", (), f.dtype, f.quant(), np.array(3, NUMPY[f.dtype]))
    f.x(1, 6)
    f.op([f.ints(1, 6), number], [f.y(1, 6)])


def _cast(f: File) -> None:
    f.op([f.x(1, 6)], [f.y(1, 6, dtype="f32" if f.dtype == "i32" else "i32")], "CastOptions")


def _quantize(f: File) -> None:
    """Another scale; from floats inside of a model."""
    dtype = "i8" if f.dtype == "f32" else f.dtype
    scale = Quant(2.0**-4, 0)
    middle = f.s.tensor("middle", (1, 6), dtype, scale)
    if f.dtype == "f32":
        given, back = (f.s.tensor(name, (1, 6), "f32") for name in ("given", "back"))
        f.s.op("NEG", [f.x(1, 6)], [given], "NegOptions")
        f.op([given], [middle], "QuantizeOptions")
        f.s.op("DEQUANTIZE", [middle], [back])
        f.s.op("NEG", [back], [f.y(1, 6)], "NegOptions")
    else:
        f.op([f.x(1, 6)], [middle], "QuantizeOptions")
        f.s.outputs.append(f.s.tensor("y", (1, 6), dtype, scale))
        f.s.op("MAXIMUM", [middle, middle], f.s.outputs, "MaximumMinimumOptions")


def _dequantize(f: File) -> None:
    """Of floats a constant float16 is one."""
    wide = f.s.tensor("wide", (1, 6), "f32")
    if f.dtype == "f32":
        half = f.s.tensor("half", (1, 6), "float16", data=np.ones((1, 6), np.float16))
        f.op([half], [wide])
        f.s.op("ADD", [f.x(1, 6), wide], [f.y(1, 6)], "AddOptions")
    else:
        f.op([f.x(1, 6)], [wide])
        f.s.op("NEG", [wide], [f.y(1, 6, dtype="f32")], "NegOptions")


def _broadcast(f: File) -> None:
    f.op([f.x(1, 1, 3), f.ints(1, 4, 3)], [f.y(1, 4, 3)], "BroadcastToOptions")


def _prelu(f: File) -> None:
    f.op([f.x(1, 6), f.weights(1, 6)], [f.y(1, 6)])


FILES: Mapping[str, Callable[[File], None]] = {
    **{code: _two(f"{code.title()}Options") for code in ("ADD", "SUB", "MUL", "DIV")},
    **{code: _two("MaximumMinimumOptions") for code in ("MAXIMUM", "MINIMUM")},
    **dict.fromkeys(("SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD", "ADD_N"), _two()),
    "POW": _power,
    "EMBEDDING_LOOKUP": _looked_up,
    "TILE": _shaped((1, 4, 12), (1, 2, 2)),
    "MIRROR_PAD": _shaped((1, 4, 8), ([0, 0], [1, 1], [0, 2]), table="MirrorPadOptions", mode=1),
    "REVERSE_V2": _shaped((1, 2, 6), (2,)),
    "RESIZE_NEAREST_NEIGHBOR": _resized("ResizeNearestNeighborOptions"),
    "RESIZE_BILINEAR": _resized("ResizeBilinearOptions"),
    "SPACE_TO_DEPTH": lambda f: f.op([f.x(1, 4, 6, 2)], [f.y(1, 2, 3, 8)], "SpaceToDepthOptions", blockSize=2),
    "DEPTH_TO_SPACE": lambda f: f.op([f.x(1, 2, 3, 8)], [f.y(1, 4, 6, 2)], "DepthToSpaceOptions", blockSize=2),
    "SPACE_TO_BATCH_ND": _spaced((1, 6, 1, 3), (2, 3, 1, 3), (2, 1), ([0, 0], [0, 0])),
    "BATCH_TO_SPACE_ND": _spaced((2, 3, 1, 3), (1, 5, 1, 3), (2, 1), ([1, 0], [0, 0])),
    **{code: _one() for code in ("RELU", "RELU6", "LOGISTIC", "TANH", "HARD_SWISH", "ELU", "ABS", "EXP", "FLOOR",
                                 "LOG", "NEG", "ROUND", "SQRT", "RSQRT", "SQUARE", "LOGICAL_NOT", "RELU_N1_TO_1", "RELU_0_TO_1",
                                 "CEIL", "SIGN", "LOG_SOFTMAX", "L2_NORMALIZATION")},
    "LEAKY_RELU": _one("LeakyReluOptions", alpha=0.3),
    "PRELU": _prelu,
    "SOFTMAX": _one("SoftmaxOptions", beta=1.0),
    **dict.fromkeys(("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL"), _comparison),
    "LOGICAL_AND": _two(),
    "LOGICAL_OR": _two(),
    **dict.fromkeys(("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL"), _reduced),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), _argmax),
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "TRANSPOSE_CONV": _transpose_conv,
    "CONV_2D": _window(2, 3, 2, 4, channels=2, table="Conv2DOptions"),
    "DEPTHWISE_CONV_2D": _window(1, 3, 2, 4, channels=4, table="DepthwiseConv2DOptions", depthMultiplier=1),
    "AVERAGE_POOL_2D": _window(channels=4, table="Pool2DOptions", filterHeight=3, filterWidth=2),
    "MAX_POOL_2D": _window(channels=4, table="Pool2DOptions", filterHeight=3, filterWidth=2),
    "SVDF": _svdf,
    "CAST": _cast,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
    "RESHAPE": _shaped((1, 3, 4), (1, 3, 4)),
    "SQUEEZE": lambda f: f.op([f.x(1, 6, 1)], [f.y(1, 6)], "SqueezeOptions", squeezeDims=[2]),
    "EXPAND_DIMS": lambda f: f.op([f.x(1, 6), f.ints(2)], [f.y(1, 6, 1)]),
    "TRANSPOSE": _shaped((1, 6, 2), (0, 2, 1)),
    "CONCATENATION": lambda f: f.op([f.x(1, 6), f.x(1, 6, name="x2")], [f.y(1, 12)], "ConcatenationOptions", axis=1),
    "SPLIT": _split,
    "SPLIT_V": _split,
    "SLICE": _shaped((1, 1, 3), (0, 1, 2), (1, 1, 3)),
    "STRIDED_SLICE": _shaped((1, 1, 3), (0, 1, 0), (1, 2, 6), (1, 1, 2), table="StridedSliceOptions"),
    "PACK": lambda f: f.op([f.x(1, 6), f.x(1, 6, name="x2")], [f.y(1, 2, 6)], "PackOptions", axis=1, valuesCount=2),
    "UNPACK": lambda f: f.op([f.x(1, 2, 6)], [f.y(1, 6), f.y(1, 6, name="y2")], "UnpackOptions", num=2, axis=1),
    "PAD": _shaped((1, 4, 6), ([0, 0], [1, 1], [0, 0])),
    "PADV2": _pad_with,
    "GATHER": _gathered,
    "DYNAMIC_UPDATE_SLICE": _updated,
    **dict.fromkeys(("SHAPE", "RANK", "ZEROS_LIKE"), _known),
    "FILL": _filled,
    "BROADCAST_TO": _broadcast,
    "SELECT": _chosen,
    "SELECT_V2": _chosen,
    **dict.fromkeys(("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"), _variable),
}  # fmt: skip
#: Those with weights, which whole numbers have none of.
WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D", "SVDF", "PRELU")
