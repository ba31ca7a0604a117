"""The TFLite dialect without the wheel: rounding rules at their ties, tables, refusals, and the choice of scales."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import compiler, passes
from neurodeploy.backends.tflite import cmsis_nn
from neurodeploy.data import arrange
from neurodeploy.errors import IRError, MissingExtraError, NumericsError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Drive, Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.ops import OPS
from neurodeploy.ir.tflite.fixed_point import multiply_32, multiply_64, quantize_multiplier, rounding_shift
from neurodeploy.ir.tflite.pointwise import mul_factor
from neurodeploy.ir.tflite.tables import sigmoid_table
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes.tflite.quantize import QuantizeTFLite

EVERY = np.arange(-32768, 32768, dtype=np.int16)[None]


def i16(scale, *shape):
    return TensorType(shape, "i16", Quant(scale))


def test_rounding_shift_takes_halves_away_from_zero():
    x = np.array([-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6])
    assert rounding_shift(x, 2).tolist() == [-2, -1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1, 2]
    assert rounding_shift(x, 0).tolist() == x.tolist()


def test_a_multiplier_is_31_bits_and_an_exponent():
    assert [int(v) for v in quantize_multiplier(0.5)] == [1 << 30, 0]
    assert [int(v) for v in quantize_multiplier(1.0)] == [1 << 30, 1]
    # rounding up to 2^31 moves on to the next exponent
    assert [int(v) for v in quantize_multiplier(1 - 2.0**-40)] == [1 << 30, 1]
    assert [int(v) for v in quantize_multiplier(2.0**-40)] == [0, 0]


def test_the_int32_product_rounds_twice():
    mult, shift = quantize_multiplier(2.0**-3)
    # 3/8: 1.5 goes up to 2, and 2/4 away from zero to 1; -3/8: -1.5 goes up to -1, and -1/4 to 0
    assert multiply_32(np.array([3, 4, -3, -4]), mult, shift).tolist() == [1, 1, 0, -1]


def test_the_int64_product_has_a_16_bit_multiplier():
    mult, shift = quantize_multiplier(0.7)
    reduced = round(0.7 * 2**15)
    x = np.array([10**9, -(10**9), 12345])
    assert multiply_64(x, mult, shift).tolist() == [(int(v) * reduced + (1 << 14)) >> 15 for v in x]
    # the largest multipliers are cut off, not rounded up into the sign bit
    cut = [((1 << 20) * 0x7FFF + (1 << 14)) >> 15]
    for largest in (0x7FFF0000, 0x7FFF8000, 0x7FFFFFFF):
        assert multiply_64(np.array([1 << 20]), np.array(largest), np.array(0)).tolist() == cut


def test_scales_are_the_float32_that_a_file_holds():
    a, b, c = (float(np.float32(s)) for s in (0.1, 0.3, 0.7))
    assert mul_factor(i16(0.1), i16(0.3), i16(0.7)) == a * b / c != 0.1 * 0.3 / 0.7


def test_overflow_raises_where_the_kernel_would_be_undefined():
    with pytest.raises(NumericsError, match="i32 holds"):
        multiply_32(np.array([1 << 20]), np.array(1 << 30), np.array(12))
    coarse = i16(8.0, 65536)
    with pytest.raises(NumericsError, match="i32 holds"):
        OPS["tfl_tanh"].eval([EVERY], {}, i16(2.0**-15, 65536), [coarse])


def test_the_table_is_the_sigmoid():
    table = sigmoid_table()
    exact = 65536 / (1 + np.exp(-np.arange(256) / 24))
    assert (table[0], table[-1], len(table)) == (32768, 65535, 256)
    assert (np.diff(table) >= 0).all()
    assert np.abs(table - exact).max() < 1.2


@pytest.mark.parametrize("scale", [2.0**-11, 2.0**-12, 2.0**-14, 3.3e-4])
@pytest.mark.parametrize(("op", "function"), [("tfl_tanh", np.tanh), ("tfl_logistic", lambda x: 1 / (1 + np.exp(-x)))])
def test_the_activations_are_close_to_the_functions(op, function, scale):
    found = OPS[op].eval([EVERY], {}, i16(2.0**-15, 65536), [i16(scale, 65536)])
    assert np.abs(found * 2.0**-15 - function(EVERY * scale)).max() < 2.5e-4
    assert (np.diff(found[0].astype(int)) >= 0).all()


def test_shapes_and_dtypes_are_checked():
    x, w = i16(0.1, 4), TensorType((3, 4), "i8", Quant((0.1, 0.1, 0.1), 0, 0))
    assert OPS["tfl_fully_connected"].check([x, w], {}).shape == (3,)
    assert OPS["tfl_add"].check([i16(0.1, 3, 1), x], {}).shape == (3, 4)
    for op, types in (
        ("tfl_fully_connected", [x, TensorType((3, 5), "i8")]),
        ("tfl_fully_connected", [x, w, TensorType((4,), "i64")]),
        ("tfl_fully_connected", [TensorType((4,), "i8"), w, TensorType((3,), "i64")]),
        ("tfl_add", [x, w]),
        ("tfl_mul", [x, TensorType((4,), "i16", Quant(0.1, 3))]),
        ("tfl_tanh", [TensorType((4,), "i32")]),
    ):
        with pytest.raises(IRError, match="takes"):
            OPS[op].check(types, {})
    with pytest.raises(IRError, match="needs a scale"):
        OPS["tfl_quantize"].eval([EVERY], {}, i16(0.1, 65536), [TensorType((65536,), "i16")])


# -- the quantizer -----------------------------------------------------------------------------------------------------


def program(b, ranges, **meta):
    graph = b.graph()
    inputs = {name: ProgramInput(type_) for name, type_ in graph.inputs.items()}
    stage = Stage("main", graph, Drive(), {name: Ref(name) for name in inputs})
    outputs = {name: Ref(name, "main") for name in graph.outputs}
    return Program("net", inputs, (stage,), outputs, meta={"ranges": {"main": ranges}, **meta})


def elman(reach=10.5):
    b = Builder()
    x, h = b.input("x", [2]), b.state("h", [3])
    z = b.param("W", np.ones((3, 2))) @ x + b.param("U", np.eye(3)) @ h + b.param("b", np.ones(3))
    new = b("tanh", z, name="new")
    b.next(h, new)
    b.output("y", new)
    ranges = {"x": [-5, 5], "h": [-1, 1], "new": [-1, 1], "matmul": [-9, 9], "matmul_1": [-1, 1], "add": [-9, 9]}
    return program(b, {**ranges, "add_1": [-reach, reach]}, kept=1)


def quant(type_: TensorType) -> Quant:
    """The quantization of a tensor that has one."""
    assert type_.quant is not None
    return type_.quant


def scale(type_: TensorType) -> float:
    """The one scale of a tensor."""
    return float(quant(type_).array)


def test_a_sum_of_products_becomes_two_products_and_an_add():
    made = QuantizeTFLite(activation_dtype="i8", prefer="size")(elman())
    graph = made.stages[0].graph
    assert made.numerics == "tflite"
    assert made.meta == {"kept": 1}
    assert [v.op for v in graph.values] == ["tfl_fully_connected", "tfl_fully_connected", "tfl_add", "tfl_tanh"]
    assert [len(v.args) for v in graph.values] == [2, 3, 2, 1]
    assert {p.type.dtype for p in graph.params.values()} == {"i8", "i32"}


def test_with_16_bits_it_becomes_one_product():
    """x is five times as large as h and its weights no larger: h is brought to the scale of x."""
    graph = QuantizeTFLite()(elman()).stages[0].graph
    assert [v.op for v in graph.values] == ["tfl_quantize", "concat", "tfl_fully_connected", "tfl_tanh"]
    assert graph.tensor("x").quant == graph.tensor(graph.values[0].name).quant == graph.values[1].tensor.quant
    assert [p.type.shape for p in graph.params.values()] == [(3, 5), (3,)]


def test_scales_follow_the_kernels_rules():
    made = QuantizeTFLite()(elman())
    graph = made.stages[0].graph
    assert graph.tensor("new") == graph.tensor("h") == TensorType((3,), "i16", Quant(2.0**-15))
    assert_next_above(scale(made.inputs["x"].type), 5 * 1.1 / 32767)
    assert_next_above(scale(QuantizeTFLite(headroom=2.0)(elman()).inputs["x"].type), 10 / 32767)


def assert_next_above(found: float, least: float) -> None:
    """The next number of 12 bits, so that a product of two scales is exact in float32."""
    unit = 2.0 ** (np.floor(np.log2(least)) - 11)
    assert found == np.ceil(least / unit) * unit


@pytest.mark.parametrize(
    ("reach", "power"), [(0.01, -14), (1.0, -14), (3.0, -13), (6.0, -12), (10.5, -11), (99.0, -11)]
)
def test_an_input_of_a_table_has_a_power_of_two_within_its_bounds(reach, power):
    graph = QuantizeTFLite()(elman(reach)).stages[0].graph
    assert scale(graph.tensor("add_1")) == 2.0**power


def test_what_has_no_kernel_is_refused_by_op_and_value():
    b = Builder()
    b.output("y", b("prod", b.input("x", [2]), axis=0))
    with pytest.raises(UnsupportedError, match="net/main: %prod: prod has no integer kernel"):
        QuantizeTFLite()(program(b, {"x": [-1, 1], "prod": [-1, 1]}))


@pytest.mark.parametrize("headroom", [0.0, -1.0, 0.99, 1e30])
def test_headroom_that_makes_no_ranges_is_refused(headroom):
    with pytest.raises(UsageError, match="headroom is .*; needed 1 to 100"):
        QuantizeTFLite(headroom=headroom)(elman())


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize("size", [1e-12, 1e-39, 0.0])
def test_weights_that_are_tiny_beside_their_bias_leave_it_right(dtype, size):
    """In steps of such weights the bias would be beyond every integer: the weights get coarser steps."""
    b, bias = Builder(), np.array([1.0, -3.0])
    b.output("y", b.param("W", np.full((2, 2), size)) @ b.input("x", [2]) + b.param("b", bias))
    made = QuantizeTFLite(activation_dtype=dtype, per_channel=True)(
        program(b, {"x": [-1, 1], "matmul": [-size, size], "add": [-3, 1]})
    )
    (held,) = (p for p in made.stages[0].graph.params.values() if p.type.dtype in ("i32", "i64"))
    assert np.abs(held.data).max() < 1 << (31 if dtype == "i8" else 47)
    np.testing.assert_allclose(held.data * quant(held.type).array, bias, rtol=1e-4)


def test_an_input_that_never_moves_on_the_samples_is_warned_of():
    b = Builder()
    b.output("y", b("mul", b.input("x", [2]), b.input("u", [2])))
    made = QuantizeTFLite()(program(b, {"x": [0.5, 0.5], "u": [-1, 1], "mul": [-0.5, 0.5]}))
    (warning,) = made.meta["warnings"]
    assert warning.startswith("input 'x' is 0.5 throughout the calibration samples")


def test_a_value_without_a_range_is_named():
    b = Builder()
    b.output("y", b("tanh", b.input("x", [2])))
    with pytest.raises(UsageError, match="main: %tanh: has no calibrated range"):
        QuantizeTFLite()(program(b, {"x": [-1, 1]}))


def test_a_composite_and_a_quantized_program_are_refused():
    with pytest.raises(UsageError, match="is tflite already"):
        QuantizeTFLite()(QuantizeTFLite()(elman()))
    b = Builder()
    x, h = b.input("x", [2]), b.state("h", [2])
    (new,) = b.call("elman", x, h, *(b.param(n, np.eye(2)) for n in "WU"), b.param("b", np.zeros(2)), name="cell")
    b.next(h, new)
    with pytest.raises(IRError, match="%cell: elman is a composite; expand the program first"):
        QuantizeTFLite()(program(b, {n: [-1, 1] for n in ("x", "h", "cell")}))


@pytest.mark.parametrize("dtype", ["i16", "i8"])
def test_a_state_that_stalls_is_named(dtype):
    step, words = (2.0**-15, "3.05e-05") if dtype == "i16" else (2.0**-7, "0.00781")
    remedy = "Choose a C target" if dtype == "i16" else "Give it 16 bits: --quantize state_dtype=i16"
    for share, warned in ((0.2 * step, True), (20 * step, False)):
        source = elman()
        meta = {**source.meta, "updates": {"main": {"h": [share] * 41}}, "warnings": ["older"]}
        made = QuantizeTFLite(activation_dtype=dtype)(replace(source, meta=meta))
        assert "updates" not in made.meta
        assert made.meta["warnings"][0] == "older"
        found = [w for w in made.meta["warnings"][1:] if remedy in w]
        assert [w.startswith(f"state 'main.h' ({dtype}, one step is {words}) stalls") for w in found] == (
            [True] if warned else []
        )


def test_eight_bits_use_the_whole_range():
    made = QuantizeTFLite(activation_dtype="i8", prefer="size")(elman())
    graph = made.stages[0].graph
    assert made.inputs["x"].type == TensorType((2,), "i8", Quant(scale(made.inputs["x"].type)))
    assert_next_above(scale(made.inputs["x"].type), 5 / 127)
    assert graph.tensor("h") == graph.tensor("new") == TensorType((3,), "i8", Quant(2.0**-7))
    assert {p.type.dtype for p in graph.params.values()} == {"i8", "i32"}
    # beyond 3.1 tanh is flat in steps of 2^-7: the sum needn't go further
    assert scale(graph.tensor("add_1")) * 127 == pytest.approx(np.arctanh(1 - 2.0**-8), rel=2.0**-11)
    b = Builder()
    b.output("y", b("relu", b.input("x", [4])))
    made = QuantizeTFLite(activation_dtype="i8")(program(b, {"x": [-1, 3], "relu": [0, 2.55]}))
    graph = made.stages[0].graph
    assert quant(graph.tensor("x")).zero_point == -64
    assert_next_above(scale(graph.tensor("x")), 4 / 255)
    assert quant(graph.tensor("relu")).zero_point == -128
    assert_next_above(scale(graph.tensor("relu")), 0.01)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_a_rectifier_is_part_of_the_op_before_it(dtype):
    b = Builder()
    x = b.input("x", [2])
    total = b.param("W", np.eye(2)) @ x + b.param("b", np.ones(2))
    b.output("y", b("relu", total))
    b.output("z", b("relu", b.param("V", np.eye(2)) @ x))
    product = x * x
    b.output("both", b("relu", product) + product)
    names = {v.name: [-2, 2] for v in b.graph().values}
    made = QuantizeTFLite(activation_dtype=dtype)(program(b, {**names, "x": [-1, 1], "relu": [0, 2], "relu_1": [0, 2]}))
    found = [(v.op, v.attrs.get("act")) for v in made.stages[0].graph.values]
    assert found.count(("tfl_fully_connected", "relu")) == 2
    assert ("tfl_relu", None) in found  # of the product, which is read elsewhere
    assert ("tfl_mul", None) in found


def leaky():
    """h' = 0.9 h + 0.1 tanh(W x + U h + b)."""
    b = Builder()
    x, h = b.input("x", [2]), b.state("h", [3])
    inner = b.param("W", np.ones((3, 2))) @ x + b.param("U", np.eye(3)) @ h + b.param("b", np.ones(3))
    new = b("add", 0.9 * h, 0.1 * b("tanh", inner), name="new")
    b.next(h, new)
    b.output("y", b.param("V", np.ones((2, 3))) @ new)
    names = [v.name for v in b.graph().values]
    return program(b, {**dict.fromkeys(names, [-9, 9]), "x": [-5, 5], "h": [-1, 1], "new": [-1, 1]})


def test_wide_states_with_narrow_activations_widen_only_what_leads_to_them():
    graph = QuantizeTFLite(activation_dtype="i8", state_dtype="i16")(leaky()).stages[0].graph
    dtypes = {v.op: {w.tensor.dtype for w in graph.values if w.op == v.op} for v in graph.values}
    assert graph.tensor("h").dtype == graph.tensor("new").dtype == "i16"
    assert dtypes["tfl_fully_connected"] == {"i8"}
    assert dtypes["tfl_mul"] == dtypes["tfl_tanh"] == {"i16"}
    narrow = [v for v in graph.values if v.op == "tfl_quantize" and v.args == ("h",)]
    assert [v.attrs for v in narrow] == [{"to": "i8"}]
    alone = QuantizeTFLite(activation_dtype="i8", states={"h": "i16"})(leaky()).stages[0].graph
    assert [(v.op, v.tensor) for v in alone.values] == [(v.op, v.tensor) for v in graph.values]
    wide = QuantizeTFLite(activations={"x": "i8"})(leaky()).stages[0].graph
    assert wide.tensor("x").dtype == "i8"
    assert wide.tensor("h").dtype == "i16"
    small = QuantizeTFLite(activation_dtype="i8", state_dtype="i16", prefer="size")(leaky()).stages[0].graph
    assert {v.tensor.dtype for v in small.values if v.op in ("tfl_fully_connected", "tfl_tanh")} == {"i8"}


def gated():
    """h' = z h + tanh(W x) (1 - z), z = sigmoid(U h + V x), and the gate as an output."""
    b = Builder()
    x, h = b.input("x", [2]), b.state("h", [3])
    z = b("sigmoid", b.param("U", np.eye(3)) @ h + b.param("V", np.ones((3, 2))) @ x, name="z")
    new = b("add", z * h, b("tanh", b.param("W", np.ones((3, 2))) @ x) * (1.0 - z), name="new")
    b.next(h, new)
    b.output("y", b.param("Y", np.ones((2, 3))) @ new)
    names = [v.name for v in b.graph().values]
    return program(
        b, {**dict.fromkeys(names, [-3, 3]), "x": [-5, 5], "h": [-1, 1], "new": [-1, 1], "z": [0, 1], "tanh": [-1, 1]}
    )


def test_eight_bits_look_sigmoid_and_tanh_up_in_tables_of_sixteen():
    """TFLM's int8 kernels of them take 700 instructions an element, its int16 ones 30."""
    graph = QuantizeTFLite(activation_dtype="i8")(gated()).stages[0].graph
    made = {v.name: v for v in graph.values}
    assert {graph.tensor(n).dtype for n in ("x", "h", "new", *graph.outputs.values())} == {"i8"}
    for value in graph.values:
        wide = "i8" if value.op == "tfl_fully_connected" or value.name == "new" else "i16"
        assert value.tensor.dtype == wide, value
        if value.op == "cast":  # to 16 bits at the same scale, which QUANTIZE would take six times as long for
            assert graph.tensor(value.args[0]).quant == value.tensor.quant == Quant(scale(value.tensor))
    assert made["new"].op == "tfl_quantize"
    assert [v.op for v in graph.values].count("cast") == 4  # of three products and the state
    assert [v.op for v in graph.values].count("tfl_quantize") == 1
    small = QuantizeTFLite(activation_dtype="i8", prefer="size")(gated()).stages[0].graph
    assert {v.tensor.dtype for v in small.values} == {"i8"}
    assert len(small.values) == len(graph.values) - 5
    with pytest.raises(UsageError, match="prefer is 'ram'; needed speed or size"):
        QuantizeTFLite(prefer="ram")(gated())


def test_what_lies_to_one_side_of_zero_keeps_its_zero_point():
    source = gated()
    ranges = {**source.meta["ranges"]["main"], "matmul_2": [0, 6]}
    graph = QuantizeTFLite(activation_dtype="i8")(replace(source, meta={"ranges": {"main": ranges}})).stages[0].graph
    tanh = next(v for v in graph.values if v.op == "tfl_tanh")
    (widened,) = (v for v in graph.values if v.name == tanh.args[0])
    assert widened.op == "tfl_quantize" and quant(graph.tensor(widened.args[0])).zero_point == -128


def test_four_bit_weights_have_one_scale():
    made = QuantizeTFLite(activation_dtype="i8", weights={"U": 4}, rounding="nearest")(leaky()).stages[0].graph
    marked = [v for v in made.values if v.attrs.get("weight_bits") == 4]
    (weights,) = {v.args[1] for v in marked}
    assert quant(made.params[weights].type).axis is None
    assert np.abs(made.params[weights].data).max() == 7
    everywhere = QuantizeTFLite(activation_dtype="i8", weight_bits=4, rounding="nearest")(leaky()).stages[0].graph
    assert all(v.attrs == {"weight_bits": 4} for v in everywhere.values if v.op == "tfl_fully_connected")
    even = QuantizeTFLite(per_channel=False)(leaky()).stages[0].graph
    assert all(quant(p.type).axis is None for p in even.params.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight_bits": 4}, "4-bit weights go with 8-bit activations alone"),
        ({"weight_bits": 3, "activation_dtype": "i8"}, "weight_bits is 3; needed 8 or 4"),
        ({"activation_dtype": "f32"}, "activation_dtype is 'f32'; needed i8 or i16"),
        ({"weight_bits": 4, "activation_dtype": "i8"}, "weights of 4 bits are rounded against samples"),
        ({"rounding": "up"}, "rounding is 'up'; needed compensated or nearest"),
        ({"state_dtype": "i4"}, "state_dtype is 'i4'"),
        ({"weights": {"W": 16}}, "gives 'W' 16; needed 8 or 4 bits"),
        ({"states": {"hh": "i8"}}, "names 'hh'"),
        ({"activations": {"h": "i8"}}, "names 'h'"),
        ({"states": {"h": "i16"}, "activations": {"new": "i8"}}, "share one scale and width"),
    ],
)
def test_widths_that_do_not_exist_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        QuantizeTFLite(**options)(leaky())


def test_four_bit_weights_are_compensated_on_the_samples():
    """Inputs that move together make up for each other's rounding: the products lose less than to the nearest."""
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(6, 8)), rng.normal(size=6)
    x = (rng.normal(size=(50, 20, 3)) @ rng.normal(size=(3, 8)) + 0.5).astype(np.float32)
    b = Builder()
    b.output("y", b.param("W", weights) @ b.input("x", [8]) + b.param("b", bias))
    source = replace(program(b, {}), meta={})
    data, error = arrange({"x": x}, source), {}
    for rounding in ("nearest", "compensated"):
        options = {"activation_dtype": "i8", "weight_bits": 4, "rounding": rounding}
        made = passes.run(source, passes.pipeline("tflite", "tflite", data=data, quantize_tflite=options))
        found = real_outputs(made, interpret.run(made, {"x": x}))["y"]
        error[rounding] = float(np.sqrt(np.square(found - (x @ weights.T + bias)).mean()))
    assert error["compensated"] < 0.5 * error["nearest"]


def test_a_row_of_tiny_weights_makes_room_for_its_bias():
    b = Builder()
    x = b.input("x", [2])
    b.output("y", b.param("W", np.array([[1e-9, 0], [1, 1]])) @ x + b.param("b", np.array([3.0, 0.5])))
    made = QuantizeTFLite(activation_dtype="i8")(program(b, {"x": [-1, 1], "matmul": [-2, 2], "add": [-2, 4]}))
    graph = made.stages[0].graph
    (value,) = graph.values
    given = np.array([[127, 127]], np.int8)
    arrays = [given, *(graph.params[a].data[None] for a in value.args[1:])]
    found = OPS[value.op].eval(arrays, value.attrs, value.tensor, [graph.tensor(a) for a in value.args])
    assert np.abs((found - quant(value.tensor).zero_point) * scale(value.tensor) - [[3, 2.5]]).max() < 0.03


def test_the_compiler_hands_its_options_to_this_quantizer():
    pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")
    data = {"x": np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)}
    source = replace(leaky(), meta={})
    built = compiler.compile(source, "tflm", data, quantize={"activation_dtype": "i8"}, costs=False)
    assert built.artifact.manifest["quantize"] == 'quantize_tflite{activation_dtype="i8"}'
    assert built.artifact.manifest["inputs"][0]["dtype"] == "i8"
    with pytest.raises(UsageError, match="'quantize_tflite' has no option 'weight_bit'"):
        compiler.compile(source, "tflm", data, quantize={"weight_bit": 4})


def test_without_a_schema_module_the_extra_is_named(monkeypatch):
    from neurodeploy.backends.tflite.stage import stage_model

    for name in ("ai_edge_litert.schema_py_generated", "tflite_micro"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tflite_micro.tensorflow.lite.micro.python.schema_py_generated", None)
    with pytest.raises(MissingExtraError, match=r"neurodeploy\[tflite\]"):
        stage_model(QuantizeTFLite()(elman()).stages[0].graph, "net/main")


def test_only_what_helps_against_cmsis_nn_is_advised():
    """Functions made of ramps have a scale per row whatever the option says."""
    option = "compile with --quantize per_channel=false"

    def warning(*names):
        b, w = Builder(), TensorType((2, 1), "i8", Quant((0.1, 0.2), 0, 0))
        x, weights = b.input("x", i16(0.1, 1)), b.param("W", Param(w, np.ones((2, 1), np.int8)))
        for name in names:
            b.output(name, b("tfl_fully_connected", x, weights, name=name, quant=Quant(0.1)))
        (said,) = cmsis_nn.warnings(program(b, {}), 1)
        assert "reference kernel" in said
        return said

    assert option not in warning("div_ramps")
    assert option in warning("dense")
    assert "those of functions" not in warning("dense")
    assert option in (both := warning("dense", "div_ramps"))
    assert "those of functions that TFLM lacks, '..._ramps', keep theirs" in both
