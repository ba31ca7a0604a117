"""Sigma-delta: the pass that makes levels, the executor that sends their changes, and how levels are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodeploy import hardware, passes
from neurodeploy.data import Data
from neurodeploy.errors import NeurodeployError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import StepInterpreter
from neurodeploy.passes.spiking import SigmaDelta
from neurodeploy.passes.spiking_levels import level_multipliers, level_weights, short
from neurodeploy.report import metrics
from neurodeploy.spiking import sigma_delta, step_events
from tests.differential.spiking_cases import layer, random_data, random_layer
from tests.families import CASES
from tests.step_graphs import random_inputs, sent_programs

TARGET = hardware.find("snntorch-sigma-delta", hardware.Neuromorphic)
INTEGER = [name for name, case in CASES.items() if case.integer]


def native(program: Program, data: Data) -> Program:
    return passes.run(program, passes.pipeline("c", "native", data=data, quantize={"weight_bits": 16}))


def levelled(program: Program, data: Data, levels: int, **more) -> Program:
    return passes.run(native(program, data), (SigmaDelta(levels=levels, data=data, **more),))


def family(name: str, levels: int = 16) -> tuple[Program, Data]:
    data = Data(CASES[name].inputs, CASES[name].lengths)
    return levelled(CASES[name].program, data, levels), data


def convert(program: Program, data: Data | None, **options):
    return sigma_delta.convert(program, TARGET, data, lambda _: None, **options)


# -- numbers -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 0x7FFFFFFF))
def test_multipliers_have_20_bits(mult):
    (found,) = short(np.array([mult]))
    whole = int(found)
    assert 0 < whole <= 0x7FFFFFFF and (whole // (whole & -whole)).bit_length() <= 20
    assert abs(whole - mult) <= mult * 2.0**-19


@given(st.lists(st.integers(0, 32768), min_size=1, max_size=5), st.sampled_from([1, 3, 16, 127, 1000, 32767]))
def test_levels_reach_from_zero_to_the_range(ranges, levels):
    array = np.array(ranges)
    mult, pre, step = level_multipliers(array, levels)
    assert all((int(m) // (int(m) & -int(m))).bit_length() <= 20 for m in mult)
    np.testing.assert_allclose(step * mult, 2.0 ** (32 - pre), rtol=1e-15)
    top = int(array.max()) or levels
    reach = np.maximum(array, 0.01 * top)
    assert (step <= np.maximum(reach / levels, 1) * (1 + 1e-12)).all()  # n steps never pass the range
    assert (step >= np.maximum(reach / levels, 1) * (1 - 2.0**-17)).all()


@given(st.integers(0, 999), st.sampled_from([2, 8, 16]), st.sampled_from([1, 5, 127]))
def test_a_rows_sum_of_levels_stays_within_the_native_sum(seed, bits, levels):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-32767, 32768, (4, 9)) if seed % 3 else np.full((4, 9), int(rng.integers(1, 32768)))
    ranges = rng.integers(0, 32769, 9) if seed % 2 else np.full(9, int(rng.integers(1, 32769)))
    _, _, step = level_multipliers(ranges, levels)
    whole, f = level_weights(weights, step, levels, int(ranges.max()), bits)
    assert np.abs(whole.astype(int)).max() < 2 ** (bits - 1)
    largest = f * np.abs(whole.astype(np.int64)).sum(axis=1) * levels
    assert (largest <= np.abs(weights).sum(axis=1) * max(int(ranges.max()), levels)).all()
    assert (np.abs(f[:, None] * whole - weights * step) <= f[:, None] * (1 + 1e-9)).all()


@pytest.mark.parametrize("units", [6, 200])
def test_no_input_overflows(units):
    """The interpreter raises where an integer leaves its type; rows of equal weights reach furthest."""
    rng = np.random.default_rng(0)
    U = np.where(rng.random((units, units)) < 0.5, 0.1, -0.1)
    V = rng.normal(size=(2, units))
    program = layer(rng.normal(size=(units, 3)), U, np.zeros(units), 1.0, V, np.ones(2), activation="relu")
    for levels in (1, 7, 64):
        made = levelled(program, random_data(1), levels)
        x = np.sign(rng.normal(size=(8, 12, 3))).astype(np.float32) * 1e9
        interpret.run(made, {"x": x})


# -- the program -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INTEGER)
def test_every_product_of_a_computed_vector_is_sent_in_levels(name):
    """In primitives; what is sent stays within its levels, and every multiplier has 20 bits."""
    program, data = family(name)
    sent = program.meta["spiking"]["sent"]
    assert any(sent.values())
    seen: set[str] = set()

    def observe(stage: str, value: str, array: np.ndarray, active: np.ndarray) -> None:
        if value in sent[stage]:
            seen.add(f"{stage}.{value}")
            assert np.abs(array).max() <= 16, value

    interpret.run(program, data.inputs, data.lengths, observe=observe)
    assert seen == {f"{stage}.{value}" for stage, values in sent.items() for value in values}
    for stage in program.stages:
        consts = {v.name: v.attrs["value"] for v in stage.graph.values if v.op == "const"}
        for value in stage.graph.values:
            assert value.body is None
            if value.op == "matmul" and value.args[0] in stage.graph.params:
                assert value.args[1] in sent[stage.name] or value.args[1] in stage.graph.inputs
            if value.op == "requantize":
                mult = stage.graph.params[value.args[1]].data if value.args[1] in stage.graph.params else None
                for m in np.ravel(consts[value.args[1]] if mult is None else mult):
                    assert (int(m) // (int(m) & -int(m) or 1)).bit_length() <= 20


def test_a_level_is_within_half_a_step_of_its_value():
    program = random_layer(21, units=8)
    data = random_data(22)
    plain = native(program, data)
    made = SigmaDelta(levels=8, data=data)(plain)
    graph = made.stages[0].graph
    (level,) = [n for n in made.meta["spiking"]["sent"]["rnn"] if n not in {s.name for s in graph.states}]
    value = level.removesuffix(".level")
    found: dict[str, list[np.ndarray]] = {level: [], value: []}

    def observe(stage: str, name: str, array: np.ndarray, active: np.ndarray) -> None:
        if name in found:
            found[name].append(array[active].astype(float))

    interpret.run(made, data.inputs, data.lengths, observe=observe)
    x, k = np.concatenate(found[value]), np.concatenate(found[level])
    quant = graph.tensor(level).quant
    assert quant is not None
    scale, step = graph.tensor(value).quant.scale, quant.array  # type: ignore[union-attr]
    inside = np.abs(x * scale) <= 8 * step
    assert inside.mean() > 0.9
    assert (np.abs(x * scale - k * step) <= 0.5 * step * (1 + 1e-6))[inside].all()
    assert np.abs(k).max() == 8


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", ["hard_sigmoid", 0.2, 0.5]])
@pytest.mark.parametrize("leak", [0.3, np.linspace(0.1, 0.9, 6), 1.0], ids=["one", "each", "none"])
def test_more_levels_come_closer_to_the_network(leak, activation):
    program = random_layer(21, leak=leak, activation=activation, last=False)
    data = Data(random_data(22, samples=40).inputs)
    plain = interpret.run(program, data.inputs).outputs["y"]
    errors = []
    for levels in (4, 16, 64):
        made = levelled(program, data, levels)
        errors.append(metrics.nrmse(real_outputs(made, interpret.run(made, data.inputs))["y"], plain))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 0.05


def test_a_state_that_starts_elsewhere_starts_at_its_level():
    start = np.linspace(-1, 1, 6)
    program, data = random_layer(5, state_init=start, last=False, leak=1.0), random_data(6)
    made = levelled(program, data, 32)
    (state,) = [s for s in made.stages[0].graph.states if s.name == "h.level"]
    assert state.init is not None and state.type.quant is not None
    found = made.stages[0].graph.params[state.init].data * state.type.quant.array
    np.testing.assert_allclose(found, start, atol=0.5 * float(state.type.quant.array.max()))


def test_inputs_are_sent_if_asked():
    program, data = random_layer(3), random_data(4)
    assert levelled(program, data, 8, inputs=True).meta["spiking"]["sent"]["rnn"][1] == "x.level"
    assert "x.level" not in levelled(program, data, 8).meta["spiking"]["sent"]["rnn"]


def test_wrong_requests_of_the_pass():
    program, data = random_layer(0), random_data(0)
    with pytest.raises(UsageError, match="needed a native integer program"):
        SigmaDelta(data=data)(program)
    with pytest.raises(UsageError, match="levels of 'levels' are 0; needed 1 to 32767"):
        levelled(program, data, 0)
    with pytest.raises(UsageError, match=r"no vector 'rnn\.hh' is sent. Did you mean 'rnn\.h'"):
        levelled(program, data, 8, named={"rnn.hh": 3})
    with pytest.raises(UsageError, match="range of every unit on samples"):
        SigmaDelta()(native(program, data))


# -- events ------------------------------------------------------------------------------------------------------------


def _alike(program: Program, inputs: dict, lengths, *, compiled: bool) -> None:
    golden = interpret.run(program, inputs, lengths, states=True)
    trace, changes = step_events.run(program, inputs, lengths, states=True, compiled=compiled)
    for name in golden.series:
        np.testing.assert_array_equal(trace.series[name], golden.series[name], err_msg=name)
    for name in golden.states:
        np.testing.assert_array_equal(trace.states[name], golden.states[name], err_msg=name)
    for stage in program.stages:
        for state in stage.graph.states:
            levels, events = golden.states[f"{stage.name}.{state.name}"], changes.get(f"{stage.name}.{state.name}")
            if events is not None and state.when is None and stage.drive.kind == "forward":
                active = np.arange(levels.shape[1]) < trace.steps[stage.name][:, None]
                before = np.where(active[..., None], np.cumsum(events, axis=1), 0)
                np.testing.assert_array_equal(before[:, 1:], np.where(active[:, 1:, None], levels[:, :-1], 0))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", INTEGER)
def test_events_equal_the_golden_model(name, compiled):
    """Any drive; a state's events add up to its levels."""
    if compiled:
        pytest.importorskip("numba")
    program, data = family(name)
    _alike(program, dict(data.inputs), data.lengths, compiled=compiled)


def test_events_equal_the_golden_model_on_random_graphs():
    pytest.importorskip("numba")
    ran = 0
    for seed, program in sent_programs(range(40)):
        _alike(program, random_inputs(program, seed + 1000), None, compiled=True)
        ran += 1
    assert ran >= 30


@pytest.mark.parametrize("compiled", [False, True])
def test_steps_that_a_sample_misses_send_nothing(compiled):
    if compiled:
        pytest.importorskip("numba")
    program, data = family("elman_tanh")
    graph, sent = program.stages[0].graph, program.meta["spiking"]["sent"]["main"]
    events, golden = step_events.StepEvents(graph, sent, compiled=compiled), StepInterpreter(graph)
    rng = np.random.default_rng(0)
    x = rng.integers(-30000, 30000, (40, 3, *next(iter(graph.inputs.values())).shape)).astype(np.int16)
    active = rng.random((40, 3)) < 0.5
    for engine in (events, golden):
        engine.reset(3, {})
    (name,) = graph.inputs
    for now, on in zip(x, active, strict=True):
        found, wanted = (engine.step({name: now}, on) for engine in (events, golden))
        for out in wanted:
            np.testing.assert_array_equal(found[out][on], wanted[out][on])
    for state, array in golden.states().items():
        np.testing.assert_array_equal(events.states()[state], array)
    for found in events.events.values():
        assert found[active.T].any() and not found[~active.T].any()


def test_a_constant_signal_sends_nothing_once_settled():
    rng = np.random.default_rng(0)
    # Each unit's state rises with its own old one only: levels that act on one another can go round in a cycle.
    program = layer(rng.normal(size=(8, 3)), 0.5 * np.eye(8), np.zeros(8), 1.0, np.eye(8), np.zeros(8))
    made = levelled(program, random_data(1), 16)
    x = np.repeat(rng.normal(size=(4, 1, 3)).astype(np.float32), 30, axis=1)
    trace, changes = step_events.run(made, {"x": x}, compiled=False)
    counts = step_events.spikes(made, changes)
    assert counts[:, 0].all() and not counts[:, 15:].any()
    changing = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    _, changes = step_events.run(made, {"x": changing}, compiled=False)
    assert step_events.spikes(made, changes).sum() > 4 * counts.sum()


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_levels_are_the_fewest_that_keep_the_outputs():
    program, data = random_layer(24), random_data(25, samples=40)
    made = convert(program, data)
    tried = made.layout["tried"]
    assert made.layout["levels"] == tried[-1]["levels"] and len(tried) > 1
    assert [entry["nrmse"] <= 0.01 for entry in tried] == [False] * (len(tried) - 1) + [True]
    assert convert(program, data, max_loss=5.0).layout["levels"] < made.layout["levels"]
    assert convert(program, data, levels=3).layout["levels"] == 3
    assert made.program.meta["spiking"]["levels"] == made.layout["levels"]


@pytest.mark.parametrize("name,max_loss", [("gru_reset_before", 0.5), ("ctrnn_euler", 2.0), ("rntn", 2.0)])
def test_vectors_get_fewer_levels_where_that_keeps_the_outputs(name, max_loss):
    case = CASES[name]
    made = convert(case.program, Data(case.inputs, case.lengths), max_loss=max_loss)
    result, narrowed = made.layout["result"], made.layout["narrowed"]
    assert result["nrmse"] <= 0.02 * made.layout["max_loss"]
    counts = [entry["events"] for entry in narrowed]
    assert narrowed and counts == sorted(counts, reverse=True)
    assert result == {k: v for k, v in narrowed[-1].items() if k != "named"}
    assert result["events"] < made.layout["tried"][-1]["events"]
    assert min(made.layout["levels_of"].values()) < made.layout["levels"]


def test_what_the_choice_misses_is_warned_of():
    program, data = random_layer(24), random_data(25, samples=40)
    assert (
        "the most that are tried, miss what max_loss=1e-06 allows" in convert(program, data, max_loss=1e-6).warnings[-1]
    )
    assert "2 levels miss what max_loss=0.5 allows" in convert(program, data, levels=2).warnings[-1]
    assert not any("16 bits" in w for w in convert(program, data, levels=2).warnings)


def test_nothing_that_changes_is_warned_of():
    still = layer(np.zeros((4, 3)), np.zeros((4, 4)), np.zeros(4), 1.0, np.ones((2, 4)), np.zeros(2))
    assert "nothing is sent" in convert(still, random_data(0), levels=4).warnings[-1]


def test_labels_judge_too():
    program, data = random_layer(24, outputs=3), random_data(25, samples=40, classes=3)
    made = convert(program, data)
    assert made.layout["float_accuracy"] - made.layout["result"]["accuracy"] <= 0.005
    assert {"accuracy", "nrmse"} <= set(made.layout["int16"])


@pytest.mark.parametrize(
    "options,message",
    [
        ({"levels": 0}, "option levels is 0; needed 1 to 32767"),
        ({"levels": 2.5}, "option levels is 2.5"),
        ({"levels": True}, "option levels is True"),
        ({"max_loss": 0}, "option max_loss is 0; needed more than 0 points"),
        ({"inputs": 1}, "option inputs is 1; needed true or false"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        convert(random_layer(0), random_data(0), **options)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.integer])
def test_networks_without_an_integer_form_are_refused_by_name(name):
    case = CASES[name]
    with pytest.raises(
        UnsupportedError, match="has no integer form in native numerics. Compile it for a board"
    ) as caught:
        convert(case.program, Data(case.inputs, case.lengths))
    assert caught.value.place


def test_without_data():
    with pytest.raises(NeurodeployError, match="levels are fitted to samples"):
        convert(random_layer(0), None)
