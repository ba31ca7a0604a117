"""Files with the fused LSTM and SVDF, read: every step has TFLite Micro's bits, and so has our C."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.backends import runner
from neurodeploy.backends.tflite.write import Subgraph
from neurodeploy.compiler import compile
from neurodeploy.errors import NeurodeployError, UnsupportedError
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run
from neurodeploy.ir.types import Quant
from tests.differential.test_tflite_import import assert_as_tflm, f32, loaded, numbers, written

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")

TOPS = {"i8": 127, "i16": 32767}
BIASES = {"f32": "f32", "i8": "i32", "i16": "i64"}
#: Where the operator's inputs stand: W of i f g o, U of the same, biases, h and c.
W, U, B, H, C = (1, 2, 3, 4), (5, 6, 7, 8), (12, 13, 14, 15), 18, 19


def assert_in_c(program: Program, steps: int = 30, least: int = 11) -> None:
    """C on this machine gives the golden model's bits, of floats all but rounding."""
    pytest.importorskip("ziglang", reason="needs the extra 'board'")
    rng = np.random.default_rng(1)
    given = {n: numbers(rng, i.type.dtype, (1, steps, *i.type.shape)) for n, i in program.inputs.items()}
    built = compile(program, "host", numerics="float" if program.numerics == "float" else None, costs=False)
    wanted, found = run(built.program, given).outputs, runner("host").run(built.artifact, given).outputs
    for name, array in wanted.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(found[name], array, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], array, err_msg=name)
            assert len(np.unique(array)) >= least


def weight(s: Subgraph, rng, name: str, shape: tuple[int, ...], dtype: str = "i8") -> int:
    """A constant of random numbers, of a random scale."""
    if dtype == "f32":
        return s.tensor(name, shape, "f32", data=rng.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32))
    top = TOPS[dtype] if dtype == "i8" else 600
    scale = Quant(f32(rng.uniform(0.5, 2) / top / np.sqrt(shape[-1])))
    data = rng.integers(-top, top + 1, shape).astype({"i8": np.int8, "i16": np.int16}[dtype])
    return s.tensor(name, shape, dtype, scale, data)


def bias(s: Subgraph, rng, name: str, count: int, dtype: str, scale: float) -> int:
    kind = BIASES[dtype]
    if kind == "f32":
        return s.tensor(name, (count,), "f32", data=rng.normal(0, 0.5, count).astype(np.float32))
    data = np.rint(rng.normal(0, 0.7, count) / scale).astype({"i32": np.int32, "i64": np.int64}[kind])
    return s.tensor(name, (count,), kind, Quant(f32(scale)), data)


def scale_at(s: Subgraph, tensor: int) -> float:
    quant = s.tensors[tensor].quant
    return 1.0 if quant is None else float(quant.array)


def variable(s: Subgraph, name: str, shape: tuple[int, ...], dtype: str, quant: Quant | None) -> int:
    found = s.tensor(name, shape, dtype, quant)
    s.tensors[found].isVariable = True
    return found


def lstm(s: Subgraph, rng, x: int, dtype: str, n: int, steps: int, *, major=False, clip=0.0, **changed: int) -> int:
    """An LSTM behind tensor x, with states, zero points and scales of its own; ``changed`` are inputs by number."""
    k, top = s.tensors[x].shape[-1], TOPS.get(dtype, 1)
    zero = int(rng.integers(-40, 40)) if dtype == "i8" else 0
    hidden = None if dtype == "f32" else Quant(f32(rng.uniform(0.5, 1.2) / top), zero)
    cell = ("f32", None) if dtype == "f32" else ("i16", Quant(2.0 ** int(rng.integers(-13, -9))))
    inputs = [-1] * 24
    inputs[0] = x
    for w, u, b, gate in zip(W, U, B, "ifgo", strict=True):
        kind = "f32" if dtype == "f32" else "i8"
        inputs[w], inputs[u] = (weight(s, rng, f"{v}_{gate}", (n, size), kind) for v, size in (("W", k), ("U", n)))
        inputs[b] = bias(s, rng, f"b_{gate}", n, dtype, scale_at(s, x) * scale_at(s, inputs[w]))
    inputs[H] = variable(s, f"h{len(s.tensors)}", (1, n), dtype, hidden)
    inputs[C] = variable(s, f"c{len(s.tensors)}", (1, n), *cell)
    for number, tensor in changed.items():
        inputs[int(number[1:])] = tensor
    y = s.tensor(f"y{len(s.tensors)}", (steps, 1, n) if major else (1, steps, n), dtype, hidden)
    tanh = s.model.fb.ActivationFunctionType.TANH
    s.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], "UnidirectionalSequenceLSTMOptions",
         fusedActivationFunction=tanh, cellClip=clip, timeMajor=major)  # fmt: skip
    return y


def given(s: Subgraph, rng, shape: tuple[int, ...], dtype: str) -> int:
    """The input x."""
    zero = int(rng.integers(-40, 40)) if dtype == "i8" else 0
    s.inputs = [
        s.tensor("x", shape, dtype, None if dtype == "f32" else Quant(f32(rng.uniform(1, 4) / TOPS[dtype]), zero))
    ]
    return s.inputs[0]


def one_lstm(dtype: str, steps: int, *, seed=0, k=5, n=7, major=False, clip=0.0) -> bytes:
    def build(s: Subgraph) -> None:
        rng = np.random.default_rng(seed)
        x = given(s, rng, (steps, 1, k) if major else (1, steps, k), dtype)
        s.outputs = [lstm(s, rng, x, dtype, n, steps, major=major, clip=clip)]

    return written(build)


@pytest.mark.parametrize("dtype", ["f32", "i8", "i16"])
@pytest.mark.parametrize(("steps", "major", "clip"), [(1, False, 0.0), (1, True, 0.7), (6, False, 0.0), (6, True, 1.1)])
def test_lstms_of_one_step_and_of_many(tmp_path, dtype, steps, major, clip):
    data = one_lstm(dtype, steps, seed=steps + major, major=major, clip=clip)
    program = assert_as_tflm(tmp_path, data, steps=60, close=2e-6 if dtype == "f32" else 0.0)
    (stage,) = program.stages
    assert [s.type.shape for s in stage.graph.states] == [(7,), (7,)]
    assert sum(v.op == "tflite_lstm" for v in stage.graph.values) == steps
    assert program.numerics == ("float" if dtype == "f32" else "tflite")


@pytest.mark.parametrize("dtype", ["f32", "i8", "i16"])
@pytest.mark.parametrize(("steps", "major"), [(1, False), (6, True)])
def test_lstms_in_c(tmp_path, dtype, steps, major):
    assert_in_c(loaded(tmp_path, one_lstm(dtype, steps, seed=3, major=major)))


def classifier(dtype: str, steps: int) -> bytes:
    """Two LSTMs, the last step of the second, a dense layer: a keyword spotter as converters write it."""

    def build(s: Subgraph) -> None:
        rng = np.random.default_rng(steps)
        y = lstm(s, rng, given(s, rng, (1, steps, 4), dtype), dtype, 6, steps)
        y = lstm(s, rng, y, dtype, 5, steps)
        last = s.tensor("last", (1, 5), dtype, s.tensors[y].quant)
        bounds = [s.ints(name, v) for name, v in (("from", (0, -1, 0)), ("to", (0, 0, 0)), ("by", (1, 1, 1)))]
        s.op("STRIDED_SLICE", [y, *bounds], [last], "StridedSliceOptions", beginMask=5, endMask=7, shrinkAxisMask=2)
        w = weight(s, rng, "V", (3, 5), "f32" if dtype == "f32" else "i8")
        b = bias(s, rng, "d", 3, dtype, scale_at(s, last) * scale_at(s, w))
        made = None if dtype == "f32" else Quant(f32(3 / TOPS[dtype]), 9 if dtype == "i8" else 0)
        s.outputs = [s.tensor("logits", (1, 3), dtype, made)]
        s.op("FULLY_CONNECTED", [last, w, b], s.outputs, "FullyConnectedOptions")

    return written(build)


@pytest.mark.parametrize("dtype", ["f32", "i8", "i16"])
def test_a_classifier_of_two_lstms(tmp_path, dtype):
    program = assert_as_tflm(tmp_path, classifier(dtype, 4), steps=60, close=2e-6 if dtype == "f32" else 0.0)
    assert len(program.stages[0].graph.states) == 4
    assert_in_c(program)


def svdf(
    s: Subgraph, rng, x: int, units: int, rank: int, memory: int, dtype: str, act: int = 0, biased=True, zero: int = 0
) -> int:
    """An SVDF behind tensor x, its state of that dtype; with a zero point the state's scale is too fine for it."""
    k, filters, floats = s.tensors[x].shape[-1], units * rank, dtype == "f32"
    features = weight(s, rng, "features", (filters, k), "f32" if floats else "i8")
    time = weight(s, rng, "time", (filters, memory), dtype)
    held = None if floats else Quant(f32(rng.uniform(2, 6) / TOPS[dtype] / (8 if zero else 1)), zero)
    line = variable(s, f"line{len(s.tensors)}", (1, memory * filters), dtype, held)
    product = scale_at(s, line) * scale_at(s, time)
    shift = bias(s, rng, "bias", units, "f32" if floats else "i8", product) if biased else -1
    made = None if floats else Quant(f32(rng.uniform(2, 4) / 127), int(rng.integers(-30, 30)))
    y = s.tensor(f"y{len(s.tensors)}", (1, units), "f32" if floats else "i8", made)
    s.op("SVDF", [x, features, time, shift, line], [y], "SVDFOptions", rank=rank, fusedActivationFunction=act)
    return y


def one_svdf(dtype: str, rank: int, act: int, biased: bool = True) -> bytes:
    def build(s: Subgraph) -> None:
        rng = np.random.default_rng(rank + 10 * act)
        x = given(s, rng, (1, 9), "f32" if dtype == "f32" else "i8")
        s.outputs = [svdf(s, rng, x, 5, rank, 4 + rank, dtype, act, biased)]

    return written(build)


@pytest.mark.parametrize("dtype", ["f32", "i8", "i16"])
@pytest.mark.parametrize(("rank", "act"), [(1, 0), (1, 1), (2, 1), (2, 0)])
def test_svdf(tmp_path, dtype, rank, act):
    """The integer kernel has no activation, whatever the options say: the wheel's outputs are the proof."""
    data = one_svdf(dtype, rank, act)
    program = assert_as_tflm(tmp_path, data, steps=60, close=4e-6 if dtype == "f32" else 0.0)
    (state,) = program.stages[0].graph.states
    assert state.type.shape == (4 + rank, 5 * rank)
    if act:
        assert_in_c(program)


@pytest.mark.parametrize("zero", [-50, 37])
def test_svdf_whose_state_has_a_zero_point(tmp_path, zero):
    """The kernel clamps before it adds the zero point, and lets the sum wrap around: a saturated state turns over."""

    def build(s: Subgraph) -> None:
        rng = np.random.default_rng(5)
        s.outputs = [svdf(s, rng, given(s, rng, (1, 9), "i8"), 5, 2, 6, "i8", zero=zero)]

    program = assert_as_tflm(tmp_path, written(build), steps=60)
    (state,) = program.stages[0].graph.states
    assert state.init and (program.stages[0].graph.params[state.init].data == zero).all()
    assert_in_c(program)


def test_svdf_without_a_bias(tmp_path):
    """In float it is 0; TFLite Micro dies without one, so integers are refused."""
    with pytest.raises(UnsupportedError, match="has no bias, which TFLite Micro needs"):
        loaded(tmp_path, one_svdf("i8", 2, 0, biased=False))
    found = loaded(tmp_path, one_svdf("f32", 2, 0, biased=False))
    wanted = loaded(tmp_path, one_svdf("f32", 2, 0)).stages[0].graph
    params = found.stages[0].graph.params
    added = [p for p in params.values() if p.type.shape == (5,)]
    assert len(added) == 1 and not added[0].data.any() and set(wanted.params) == set(params)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_a_stack_of_svdfs(tmp_path, dtype):
    """As keyword spotters have it: SVDF, SVDF, dense, softmax."""

    def build(s: Subgraph) -> None:
        rng = np.random.default_rng(4)
        y = svdf(s, rng, given(s, rng, (1, 9), "i8"), 6, 1, 5, dtype)
        y = svdf(s, rng, y, 5, 2, 3, dtype, 1)
        w, made = weight(s, rng, "V", (4, 5)), s.tensor("logits", (1, 4), "i8", Quant(0.05, -4))
        s.op("FULLY_CONNECTED", [y, w, bias(s, rng, "d", 4, "i8", scale_at(s, y) * scale_at(s, w))], [made],
             "FullyConnectedOptions")  # fmt: skip
        s.outputs = [s.tensor("likely", (1, 4), "i8", Quant(1 / 256, -128))]
        s.op("SOFTMAX", [made], s.outputs, "SoftmaxOptions", beta=1.0)

    program = assert_as_tflm(tmp_path, written(build), steps=60)
    assert len(program.stages[0].graph.states) == 2
    assert_in_c(program)


def changed(dtype: str, change) -> bytes:
    """An LSTM of which ``change(s, options)`` alters a part."""

    def build(s: Subgraph) -> None:
        rng = np.random.default_rng(0)
        x = given(s, rng, (1, 1, 3), dtype)
        s.outputs = [lstm(s, rng, x, dtype, 4, 1)]
        change(s, s.operators[0])

    return written(build)


def shifted(s: Subgraph, operator) -> None:
    for tensor in (operator.inputs[0], operator.inputs[H], operator.outputs[0]):
        s.tensors[tensor].quant = Quant(0.001, 5)


def constant_state(s: Subgraph, operator) -> None:
    operator.inputs[C] = s.tensor("c", (1, 4), "i16", Quant(2.0**-11), np.zeros((1, 4), np.int16))


def fed_state(s: Subgraph, operator) -> None:
    s.inputs = [*s.inputs, operator.inputs[C]]


def constant(s: Subgraph, operator) -> None:
    operator.inputs[10] = s.tensor("peephole", (4,), "i16", Quant(0.001), np.ones(4, np.int16))


CHANGES = {
    "has peepholes": constant,
    "has an activation other than TANH": lambda s, op: op.options.update(fusedActivationFunction=1),
    "clips its projection": lambda s, op: op.options.update(projClip=0.5),
    "diagonal recurrent weights": lambda s, op: op.options.update(diagonalRecurrentTensors=True),
    "a power of two as its scale": lambda s, op: setattr(s.tensors[op.inputs[C]], "quant", Quant(0.001)),
    "has no input 3": lambda s, op: op.inputs.__setitem__(3, -1),
}


@pytest.mark.parametrize("said", CHANGES)
def test_other_lstms_are_refused(tmp_path, said):
    with pytest.raises(NeurodeployError, match=said):
        loaded(tmp_path, changed("i8", CHANGES[said]))


@pytest.mark.parametrize("change", [constant_state, fed_state])
def test_states_are_variables(tmp_path, change):
    with pytest.raises(UnsupportedError, match="which isn't a variable of its own"):
        loaded(tmp_path, changed("i8", change))


def test_an_int16_lstm_has_no_zero_points(tmp_path):
    """The dialect's form; converters give int16 none."""
    with pytest.raises(NeurodeployError, match="with the zero point 0"):
        loaded(tmp_path, changed("i16", shifted))
