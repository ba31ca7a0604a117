"""The tracer: whole-sequence programs run step by step give what they give on the whole sequence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.time import Tracer
from neurodeploy.importers.time_axes import Axis, Dim, feature, quotient, reshape, shape_of
from neurodeploy.ir.interpret import run
from neurodeploy.ir.text import param_data, parse_program, print_program

RNG = np.random.default_rng(0)
B, T, F = "batch", "time", "feature"


def normal(*shape):
    return (0.6 * RNG.normal(size=shape)).astype(np.float32)


class Elman:
    """A layer ``h' = tanh(W x + U h + b)`` for the tracer, and the same on a whole sequence."""

    def __init__(self, inputs, units):
        self.weights = [normal(units, inputs), normal(units, units), normal(units)]
        self.units = units

    def trace(self, t, x, start=None, reverse=False):
        t.at("'rnn' (RNN)", "rnn")
        return t.rnn("elman", x, self.weights, [start], sizes=[self.units], reverse=reverse)

    def __call__(self, x, start=None, reverse=False):
        W, U, b = self.weights
        h = np.zeros((len(x), self.units), np.float32) if start is None else start
        y = np.zeros((*x.shape[:2], self.units), np.float32)
        for k in range(x.shape[1])[:: -1 if reverse else 1]:
            h = np.tanh(x[:, k] @ W.T + h @ U.T + b)
            y[:, k] = h
        return y, h


def tracer(width=3):
    t = Tracer("net", "net.onnx")
    return t, t.input("x", [B, T, F], ["batch", "time", width])


def series(batch=2, steps=6, width=3):
    return RNG.normal(size=(batch, steps, width)).astype(np.float32)


def agree(t, outputs, given, wanted, stages=None, lengths=None):
    program = t.finish(outputs)
    again = parse_program(print_program(program), param_data(program))
    assert print_program(again) == print_program(program)
    found = run(program, given, lengths).outputs
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5)
    if stages is not None:
        assert [s.name for s in program.stages] == stages
    return program


# -- stages ------------------------------------------------------------------------------------------------------------


def test_stacked_forward_net_with_its_head_is_one_step():
    t, x = tracer()
    one, two, W = Elman(3, 4), Elman(4, 5), normal(2, 5)
    y = two.trace(t, t.activation("relu", one.trace(t, x).series[0])).series[0]
    out = t.linear(t.take(y, 1, -1), W)
    data = series()
    wanted = two(np.maximum(one(data)[0], 0))[0][:, -1] @ W.T
    agree(t, {"y": out}, {"x": data}, {"y": wanted}, ["forward"])


def test_stacked_bidirectional_net_shares_the_reverse_stage():
    """Layer two's reverse direction runs in the stage of layer one's: three stages for four directions, and a head."""
    t, x = tracer()
    f1, r1, f2, r2, W = Elman(3, 4), Elman(3, 4), Elman(8, 5), Elman(8, 5), normal(2, 10)
    y = t.concat([f1.trace(t, x).series[0], r1.trace(t, x, reverse=True).series[0]], 2)
    a, b = f2.trace(t, y), r2.trace(t, y, reverse=True)
    out = t.linear(t.concat([a.final[0], b.final[0]], 1), W)
    data = series()
    first = np.concatenate([f1(data)[0], r1(data, reverse=True)[0]], 2)
    wanted = np.concatenate([f2(first)[1], r2(first, reverse=True)[1]], 1) @ W.T
    agree(t, {"y": out}, {"x": data}, {"y": wanted}, ["forward", "reverse", "forward_2", "head"])


def test_reverse_net_with_a_layer_in_front_is_one_stage():
    t, x = tracer()
    net, W = Elman(4, 5), normal(4, 3)
    y = net.trace(t, t.linear(x, W), reverse=True).series[0]
    data = series()
    agree(t, {"y": y}, {"x": data}, {"y": net(data @ W.T, reverse=True)[0]}, ["reverse"])


def test_dear_work_in_front_of_both_directions_is_done_once():
    t, x = tracer()
    f, r, W = Elman(4, 5), Elman(4, 5), normal(4, 3)
    z = t.linear(x, W)
    y = t.concat([f.trace(t, z).series[0], r.trace(t, z, reverse=True).series[0]], 2)
    data = series()
    wanted = np.concatenate([f(data @ W.T)[0], r(data @ W.T, reverse=True)[0]], 2)
    program = agree(t, {"y": y}, {"x": data}, {"y": wanted}, ["forward", "reverse"])
    assert sum(v.op == "matmul" for s in program.stages for v in s.graph.values) == 1


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("index", [0, -1])
def test_first_and_last_step_of_either_direction(reverse, index):
    t, x = tracer()
    net, W = Elman(3, 4), normal(2, 4)
    y = net.trace(t, x, reverse=reverse).series[0]
    data, lengths = series(), np.array([6, 4])
    whole = np.stack([net(data[i : i + 1, :n], reverse=reverse)[0][0, index] for i, n in enumerate(lengths)])
    agree(t, {"y": t.linear(t.take(y, 1, index), W)}, {"x": data}, {"y": whole @ W.T}, lengths=lengths)


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("reverse", [False, True])
def test_reductions_over_time_count_the_steps_that_there_are(kind, reverse):
    t, x = tracer()
    net = Elman(3, 4)
    y = t.reduce(kind, net.trace(t, x, reverse=reverse).series[0], [1])
    data, lengths = series(), np.array([6, 2])
    wanted = [getattr(np, kind)(net(data[i : i + 1, :n], reverse=reverse)[0], axis=1)[0] for i, n in enumerate(lengths)]
    agree(t, {"y": y}, {"x": data}, {"y": np.stack(wanted)}, lengths=lengths)


def test_what_is_known_at_the_end_used_at_every_step_needs_two_stages():
    t, x = tracer()
    net = Elman(3, 3)
    y = net.trace(t, x).series[0]
    out = t.pointwise("sub", y, t.reduce("mean", y, [1], keepdims=True))
    data = series()
    whole = net(data)[0]
    agree(t, {"y": out}, {"x": data}, {"y": whole - whole.mean(1, keepdims=True)}, ["forward", "forward_2"])


def test_initial_state_from_an_input_through_a_layer():
    t, x = tracer()
    s = t.input("s", [B, F], ["batch", 2])
    net, W = Elman(3, 4), normal(4, 2)
    found = net.trace(t, x, t.activation("relu", t.linear(s, W)))
    data, start = series(), normal(2, 2)
    y, h = net(data, np.maximum(start @ W.T, 0))
    given = {"x": data, "s": start}
    program = agree(t, {"y": found.series[0], "h": found.final[0]}, given, {"y": y, "h": h}, ["head", "forward"])
    assert str(program.outputs["h"]) == "forward.rnn_h@final"


def test_constant_initial_state():
    t, x = tracer()
    net, start = Elman(3, 4), normal(4)
    found = net.trace(t, x, t.constant(start[None]))
    data = series()
    agree(t, {"y": found.series[0]}, {"x": data}, {"y": net(data, np.tile(start, (2, 1)))[0]}, ["forward"])


def test_encoder_and_decoder_run_over_times_of_their_own():
    t = Tracer("net")
    x, z = t.input("x", [B, T, F], ["batch", "source", 3]), t.input("z", [B, T, F], ["batch", "target", 2])
    encoder, decoder = Elman(3, 4), Elman(2, 4)
    y = decoder.trace(t, z, encoder.trace(t, x).final[0]).series[0]
    source, target = series(steps=7), series(steps=3, width=2)
    wanted = decoder(target, encoder(source)[1])[0]
    agree(t, {"y": y}, {"x": source, "z": target}, {"y": wanted}, ["forward", "forward_2"])


def test_repeated_static_input_as_a_sequence():
    """A decoder fed with one vector at every step takes its number of steps from the sequence that says it."""
    t, x = tracer()
    s = t.input("s", [B, F], ["batch", 2])
    net = Elman(2, 4)
    y = net.trace(t, t.expand(t.unsqueeze(s, [1]), [x.shape[0], x.shape[1], 2])).series[0]
    data, start = series(), normal(2, 2)
    wanted = net(np.repeat(start[:, None], 6, axis=1))[0]
    agree(t, {"y": y}, {"x": data, "s": start}, {"y": wanted}, ["forward"])


def test_time_major_source():
    t = Tracer("net")
    x = t.input("x", [T, B, F], ["time", "batch", 3])
    net = Elman(3, 4)
    y = net.trace(t, x).series[0]
    assert [a.label for a in y.axes] == [T, B, F]
    data = series()
    agree(t, {"y": t.take(y, 0, -1)}, {"x": data}, {"y": net(data)[1]})


@pytest.mark.parametrize(("taps", "dilation"), [(1, 1), (3, 1), (3, 2)])
def test_causal_convolution_is_a_delay_line(taps, dilation):
    t = Tracer("net")
    x = t.input("x", [B, F, T], ["batch", 3, "time"])
    W, b, reach = normal(4, 3, taps), normal(4), (taps - 1) * dilation
    y = t.conv(t.pad_time(x, 2, reach, 0), W, b, dilation=dilation)
    data = series()
    padded = np.pad(data, ((0, 0), (reach, 0), (0, 0)))
    wanted = sum(padded[:, k * dilation : k * dilation + 6] @ W[:, :, k].T for k in range(taps)) + b
    program = agree(t, {"y": y}, {"x": data}, {"y": wanted}, ["forward"])
    assert [s.type.shape for s in program.stages[0].graph.states] == [(reach + 1, 3)]


def test_unused_parts_are_left_out():
    t, x = tracer()
    net = Elman(3, 4)
    net.trace(t, x, reverse=True)
    y = net.trace(t, x).series[0]
    assert [s.name for s in t.finish({"y": y}).stages] == ["forward"]


def test_outputs_that_are_an_input_or_a_constant():
    t, x = tracer()
    data = series()
    agree(t, {"x": x, "c": t.constant(np.ones(2))}, {"x": data}, {"x": data, "c": np.ones((2, 2))})


# -- refusals ----------------------------------------------------------------------------------------------------------

REFUSALS = {
    "the batch is reduced": (lambda t, x: t.reduce("sum", x, [0]), "sum over the batch axis mixes samples"),
    "softmax over time": (lambda t, x: t.softmax(x, 1), "softmax over the time axis"),
    "a step in the middle": (lambda t, x: t.take(x, 1, 2), "the step 2 after the first is taken"),
    "a sample": (lambda t, x: t.take(x, 0, 0), "sample 0 of the batch axis is taken"),
    "some steps": (lambda t, x: t.slice(x, 1, 1, 3), "steps 1 to 3 of the time axis are taken"),
    "time with features": (lambda t, x: t.reshape(x, [x.shape[0], -1]), "which mixes time with feature 3"),
    "time joined": (lambda t, x: t.concat([x, x], 1), "tensors are joined along the time axis"),
    "time meets features": (
        lambda t, x: t.pointwise("add", x, np.zeros((5, 3))),
        "axis 1 is time and feature 5 at once",
    ),
    "attention": (lambda t, x: t.matmul(x, t.transpose(x, [0, 2, 1])), "runs over batch or time"),
    "every other step": (lambda t, x: t.slice(x, 1, 0, 9, 2), "the time axis is sliced 0:9:2"),
    "a cut series at its end": (lambda t, x: t.finish({"y": t.slice(x, 1, 1)}), "the time axis is cut or padded"),
    "two times": (
        lambda t, x: t.pointwise("add", x, t.input("z", [B, T, F], ["batch", "other", 3])),
        "axes of different extent meet",
    ),
    "merged at the end": (
        lambda t, x: t.finish({"y": t.reshape(x, [-1, 3])}),
        "output 'y' has batch and time in one axis",
    ),
    "an rnn over static data": (
        lambda t, x: Elman(3, 4).trace(t, t.take(x, 1, -1)),
        "which has no time axis of its own",
    ),
    "weights that don't fit": (lambda t, x: Elman(5, 4).trace(t, x), "matmul of (4, 5) and (3,) is not defined"),
    "a wide stride": (lambda t, x: t.conv(x, normal(4, 3, 2), stride=2), "a convolution of stride 2"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_names_the_node(case):
    work, words = REFUSALS[case]
    t, x = tracer()
    t.at("'odd' (Op)", "odd")
    with pytest.raises(UnsupportedError) as caught:
        t.finish({"y": y}) if not hasattr(y := work(t, x), "stages") and not hasattr(y, "series") else None
        t.finish({"y": y.series[0]})
    assert words in str(caught.value)
    assert caught.value.place.startswith("net.onnx")


# -- axes --------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 4), min_size=0, max_size=3),
    st.integers(0, 3),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_reshape_of_labelled_axes_is_numpys(features, batch_at, time_at, random):
    """Whatever reshape is accepted, the per-step reshape and the labels together are NumPy's row-major reshape."""
    axes = [feature(n) for n in features]
    axes.insert(min(batch_at, len(axes)), Axis("batch", 5))
    axes.insert(min(time_at, len(axes)), Axis("time", 7))
    sizes = [int(str(a.size)) for a in axes]
    array = np.arange(np.prod(sizes)).reshape(sizes)
    wanted = list(sizes)
    for _ in range(random.randint(0, 3)):
        at = random.randrange(len(wanted) + 1)
        if random.random() < 0.4:
            wanted.insert(at, 1)
        elif at + 1 < len(wanted):
            wanted[at : at + 2] = [wanted[at] * wanted[at + 1]]
    try:
        found = reshape(tuple(axes), wanted)
    except UnsupportedError:
        return
    if any(a.label == "merged" for a in found):
        return
    assert [a.size for a in found] == wanted
    np.testing.assert_array_equal(
        per_step(array.reshape(wanted), found), per_step(array, axes).reshape(5, 7, *shape_of(found))
    )


def per_step(array, axes):
    labels = [a.label for a in axes]
    order = [labels.index("batch"), labels.index("time")]
    return np.transpose(array, order + [i for i, label in enumerate(labels) if label == "feature"])


def test_merged_batch_and_time_split_again():
    b, t = Axis("batch", Dim.symbol("b")), Axis("time", Dim.symbol("t"), "t")
    merged = reshape((b, t, feature(4)), [-1, 2, 2])
    assert [a.label for a in merged] == ["merged", F, F]
    assert reshape(merged, [b.size, t.size, 4]) == (b, t, feature(4))
    with pytest.raises(UnsupportedError):
        reshape(merged, [t.size, b.size, 4])


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9), st.integers(1, 50), st.integers(1, 50))
def test_sizes_compute_as_numbers(p, q, r, b, t):
    """A polynomial in unknown sizes has the value that the same arithmetic gives on numbers."""
    B_, T_ = Dim.symbol("b"), Dim.symbol("t")
    size = (p * B_ + q) * T_ - r * B_ + (T_ - T_)
    value = sum(c * np.prod([{"b": b, "t": t}[s] for s in m]) for m, c in terms(size))
    assert value == (p * b + q) * t - r * b
    assert quotient(size * (r * T_), r * T_) == size
    assert (B_ * r) // r == B_


def terms(size):
    return size.terms if isinstance(size, Dim) else [((), size)]


def test_sizes_that_are_not_known_are_not_compared():
    with pytest.raises(UnsupportedError, match="the size b is compared with 3"):
        _ = Dim.symbol("b") < 3  # type: ignore[operator]
    with pytest.raises(UnsupportedError, match="is divided by 2, which isn't known to be exact"):
        _ = Dim.symbol("b") // 2
