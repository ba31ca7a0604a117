"""8-bit weights for TFLite Micro: rounded against sample data, and how many scales they get."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodeploy.data import arrange
from neurodeploy.errors import UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.passes.pipeline import make, options, pipeline, print_pass, run
from neurodeploy.passes.tflite.quantize import QuantizeTFLite
from neurodeploy.passes.tflite.rounding import Rounded, rounded
from tests.families.case import one_stage

TOP = 127


def error(weights, steps, made: Rounded, bias, moment):
    gap = np.concatenate([weights - made.whole * steps[:, None], (bias - made.bias)[:, None]], axis=1)
    return np.einsum("rk,kl,rl->r", gap, moment, gap)


@given(
    seed=st.integers(0, 10_000), rows=st.integers(1, 9), columns=st.integers(1, 12), steps=st.sampled_from([1, 3, 99])
)
def test_no_row_is_worse_than_rounded_to_the_nearest(seed, rows, columns, steps):
    """Also where few vectors were seen, or some never moved."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(steps, columns)) @ rng.normal(size=(columns, columns)) * rng.integers(0, 2, columns)
    v = np.concatenate([v, np.ones((steps, 1))], axis=1)
    moment, weights, bias = v.T @ v / steps, rng.normal(size=(rows, columns)), rng.normal(size=rows)
    scale = np.abs(weights).max(axis=1) / TOP
    nearest = np.rint(weights / scale[:, None]) * scale[:, None] - weights
    plain = np.einsum("rk,kl,rl->r", nearest, moment[:-1, :-1], nearest)
    for moves in (False, True):
        made = rounded(weights, scale, TOP, bias, moment, moves)
        assert np.abs(made.whole).max() <= TOP
        assert moves or np.array_equal(made.bias, bias)
        without = moment if moves else np.pad(moment[:-1, :-1], (0, 1))
        assert np.all(error(weights, scale, made, bias, without) <= plain * (1 + 1e-9) + 1e-18)


def test_columns_that_move_together_make_up_for_each_other():
    rng = np.random.default_rng(0)
    v = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 24)) + 0.05 * rng.normal(size=(500, 24)) + 1.0
    v = np.concatenate([v, np.ones((500, 1))], axis=1)
    moment, weights, bias = v.T @ v / 500, rng.normal(size=(16, 24)), np.zeros(16)
    scale = np.array([np.abs(weights).max() / TOP])
    steps = np.broadcast_to(scale, 16)
    nearest = rounded(weights, scale, TOP, bias, None, moves=False)
    made = nearest, *(rounded(weights, scale, TOP, bias, moment, moves) for moves in (False, True))
    errors = [error(weights, steps, one, bias, moment).sum() for one in made]
    assert errors[1] < errors[0] / 15
    assert errors[2] < errors[1] / 2


def test_what_integers_hold_stays():
    rng = np.random.default_rng(1)
    whole = rng.integers(-TOP, TOP + 1, (5, 7))
    v = np.concatenate([rng.normal(size=(40, 7)), np.ones((40, 1))], axis=1)
    made = rounded(whole * 0.25, np.full(5, 0.25), TOP, np.zeros(5), v.T @ v / 40, moves=True)
    np.testing.assert_array_equal(made.whole, whole)
    np.testing.assert_array_equal(made.bias, np.zeros(5))


def layer(rng, gains: float | np.ndarray = 1.0, decides=False) -> tuple[Program, dict]:
    """An Elman network, its input weights' rows by ``gains``, and inputs that move together."""
    b = Builder()
    x, h = b.input("x", [6]), b.state("h", [16])
    into = b.param("W", rng.uniform(-1, 1, (16, 6)) * gains) @ x
    total = into + b.param("U", rng.uniform(-1, 1, (16, 16)) / 4) @ h
    new = b("tanh", total + b.param("b", rng.normal(size=16) / 4))
    new = b("select", new < h, new, h) if decides else new
    b.next(h, new)
    b.output("y", new)
    x = rng.normal(size=(8, 25, 3)) @ rng.normal(size=(3, 6)) / 2 + 0.3
    graph = b.graph()
    return one_stage("net", graph, inputs=graph.inputs, outputs={"y": "main.y"}), {"x": x.astype(np.float32)}


def quantized(program, inputs, **given):
    return run(program, pipeline("tflite", "tflite", data=arrange(inputs, program), quantize_tflite=given))


def counts(program, inputs, **given) -> list[int]:
    """The scales of W and U."""
    graph = quantized(program, inputs, **given).stages[0].graph
    used = [v.args[1] for v in graph.values if v.op == "tfl_fully_connected"]
    return [np.size(graph.params[name].type.quant.array) for name in used]  # type: ignore[union-attr]


def test_outputs_come_closer():
    """With 16-bit activations, where the rounding of weights is what is lost."""
    program, inputs = layer(np.random.default_rng(3))
    plain = interpret.run(program, inputs).outputs["y"]

    def lost(**given):
        made = quantized(program, inputs, per_channel=False, **given)
        return np.sqrt(np.mean((real_outputs(made, interpret.run(made, inputs))["y"] - plain) ** 2))

    assert lost() < lost(rounding="nearest") / 2


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_rows_have_a_scale_each_where_one_costs_much(dtype):
    rng = np.random.default_rng(4)
    gains = np.where(np.arange(16) < 2, 1.0, 0.01)[:, None]
    products = 2 if dtype == "i8" else 1  # with 16 bits one takes both, unless their rows differ too much
    assert counts(*layer(rng), activation_dtype=dtype) == [1] * products
    assert counts(*layer(rng, gains), activation_dtype=dtype) == [16, 1]
    assert counts(*layer(rng, gains), activation_dtype=dtype, per_channel=False) == [1, 1]
    assert counts(*layer(rng), activation_dtype=dtype, per_channel=True) == [16] * products


def test_rows_have_a_scale_each_where_much_hangs_on_a_step():
    rng = np.random.default_rng(4)
    gains = np.where(np.arange(16) < 2, 1.0, 0.3)[:, None]
    assert counts(*layer(rng, gains))[0] == 1
    assert counts(*layer(rng, gains, decides=True))[0] == 16


def test_the_bias_takes_up_what_other_products_lose():
    """W has no bias of its own: what its product loses in the mean goes to the sum's."""
    program, inputs = layer(np.random.default_rng(5))
    plain = interpret.run(program, inputs).outputs["y"]
    made = quantized(program, inputs, per_channel=False, activation_dtype="i16")
    near = quantized(program, inputs, per_channel=False, activation_dtype="i16", rounding="nearest")
    biases = [
        next(p.data * p.type.quant.array for p in q.stages[0].graph.params.values() if p.type.dtype == "i64")  # type: ignore[union-attr]
        for q in (made, near)
    ]
    assert np.abs(biases[0] - biases[1]).max() > 1e-4
    off = [(real_outputs(q, interpret.run(q, inputs))["y"] - plain).mean(axis=(0, 1)) for q in (made, near)]
    assert np.abs(off[0]).mean() < np.abs(off[1]).mean() / 2


def test_without_data_8_bits_go_to_the_nearest():
    program, inputs = layer(np.random.default_rng(6))
    ready = run(program, pipeline("tflite", "tflite", data=arrange(inputs, program))[:-1])
    calibrated = QuantizeTFLite()(ready)
    assert calibrated == QuantizeTFLite(rounding="nearest")(ready)


def test_per_channel_is_true_false_or_left_out():
    assert options("quantize_tflite", "per_channel=false") == {"per_channel": False}
    assert print_pass(make("quantize_tflite", {})) == "quantize_tflite"
    assert "per_channel=true" in print_pass(make("quantize_tflite", {"per_channel": True}))
    with pytest.raises(UsageError, match="'per_channel' .* is 1; needed: true or false"):
        make("quantize_tflite", {"per_channel": 1})
