"""Costs of crossbars: a small network worked out by hand, every constant felt, unknown parts told."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.crossbar import costs
from neurodeploy.crossbar.costs import latency as costs_time
from neurodeploy.crossbar.costs import work as costs_work
from neurodeploy.crossbar.costs.latency import Span, Steps
from neurodeploy.crossbar.costs.parts import conductances
from neurodeploy.crossbar.costs.programming import expected
from neurodeploy.crossbar.devices import Cells
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.descriptions_devices import WriteVerify
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.ops import OPS
from tests.families import CASES
from tests.unit.priced_crossbars import (
    SAID,
    TECHNOLOGY,
    WEIGHTS,
    ends,
    figures,
    mapped,
    network,
    program_of,
    target_of,
    use,
    values,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _technology(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, TECHNOLOGY)


# ------------------------------------------------------------------------------------------------ worked out by hand

#: Bit lines 0, 2 and 4 hold g+ of the outputs; converters serve lines 0-3 and 4-7: two rounds.
#: uS: row 0 is 6+1, 11+1, 1+1 = 21, row 1 is 1+11, 1+1, 11+1 = 26.
BY_HAND = {
    "energy.array": (0.0, 0.25 * 10e-9 * 47e-6 * 1e12),
    "energy.line": (0.038, 0.038),  # 2 rows x 2 rounds x 8 cells x 1 fJ, 3 bit lines x 2 fJ
    "energy.dac": (4.0, 8.0),  # 2 rows x 2 rounds
    "energy.adc": (0.3, 0.6),  # 3 conversions
    "energy.digital": (15.6, 16.5),  # 3 scalings x 4 pJ, 3 additions x 1 pJ, 3 lookups
    "energy.buffer": (3.04, 11.84),  # 304 bits stored: 2 x 8, 3 x 32, h, h'; 592 in all: W x twice more, its sum twice
    "energy": (22.978, 37.0955),
    "latency.array": (20.0, 20.0),
    "latency.adc": (10.0, 40.0),
    "latency.digital": (3.0, 9.0),
    "latency": (33.0, 69.0),
    "sequence_interval": (30.0, 60.0),
    "interval": (30.0, 60.0),
    "area.array": (3.2, 6.4),  # 4 x 8 cells
    "area.line": (25.0, 25.0),  # 4 x 1 + 8 x 2 + 5
    "area.dac": (12.0, 12.0),
    "area.adc": (100.0, 100.0),  # 8 columns, 4 a converter
    "area": (140.2, 143.4),
    "tops_per_watt": (12 / 37.0955, 12 / 22.978),  # 2 x 6 weights
    "tops_per_mm2": (12 / 60e-9 / 1e12 / 143.4e-6, 12 / 30e-9 / 1e12 / 140.2e-6),
}


def test_a_network_worked_out_by_hand():
    found = values(target_of())
    for name, (low, high) in BY_HAND.items():
        assert ends(found, name) == (pytest.approx(low), pytest.approx(high)), name
    counts = ("array_reads", "digital_multiplications", "digital_additions", "digital_lookups", "array_operations")
    assert [found[name] for name in counts] == [1, 3, 3, 3, 12]
    assert (found["digital_comparisons"], found["digital_functions"], found["buffer_bits"]) == (0, 0, 592)


def test_inputs_as_they_were_make_the_arrays_energy_one_number():
    drive = {("s", mapped(network(), target_of())[1][0].value): np.array([0.1, 0.5])}
    found = values(target_of(), drive=drive)
    assert found["energy.array"] == pytest.approx(0.25 * 10e-9 * (21 * 0.1 + 26 * 0.5) * 1e-6 * 1e12)


def doubled(at: tuple[str, ...]) -> dict[str, Any]:
    """The technology with one constant twice as large."""
    made = copy.deepcopy(TECHNOLOGY)
    table = made
    for key in at[:-1]:
        table = table[key]
    table[at[-1]] = twice(table[at[-1]])
    return made


def twice(constant: Any) -> Any:
    return [twice(c) for c in constant] if isinstance(constant, list) else 2 * constant


@pytest.mark.parametrize(
    ("constant", "felt"),
    [
        (("adc", "energy", "joule"), {"energy.adc"}),
        (("adc", "time", "seconds"), {"latency.adc", "sequence_interval", "interval"}),
        (("adc", "area", "area_m2"), {"area.adc"}),
        (("dac", "energy", "joule"), {"energy.dac"}),
        (("dac", "area", "area_m2"), {"area.dac"}),
        (("transistor", "cell", "area_m2"), {"area.array"}),
        (("transistor", "line_energy", "cell_joule"), {"energy.line"}),
        (("transistor", "line_energy", "select_joule"), {"energy.line"}),
        (("transistor", "line_area", "row_m2"), {"area.line"}),
        (("transistor", "line_area", "column_m2"), {"area.line"}),
        (("transistor", "line_area", "array_m2"), {"area.line"}),
        (("digital", "float_add", "joule"), {"energy.digital"}),
        (("digital", "float_multiply", "joule"), {"energy.digital"}),
        (("digital", "lookup", "joule"), {"energy.digital"}),
        (("digital", "clock", "clock_hz"), {"latency.digital"}),
        (("buffer", "bit_joule"), {"energy.buffer"}),
        (("digital", "integer_add", "joule"), set()),
    ],
    ids=lambda c: ".".join(c) if isinstance(c, tuple) else "",
)
def test_a_constant_is_felt_in_its_part_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, constant: tuple[str, ...], felt: set[str]
):
    use(monkeypatch, doubled(constant))
    found = values(target_of())
    totals = {name.split(".")[0] for name in felt}
    rates = {"tops_per_watt"} if "energy" in totals else {"tops_per_mm2"} if totals & {"area", "interval"} else set()
    for name, by_hand in BY_HAND.items():
        same = ends(found, name) == (pytest.approx(by_hand[0]), pytest.approx(by_hand[1]))
        assert same != (name in felt | totals | rates), name


# --------------------------------------------------------------------------------------------------- unknown parts


@pytest.mark.parametrize(
    ("gone", "part", "said"),
    [
        (("adc", "energy"), "energy.adc", "energy of an ADC of 8 bits: made-up has no sourced figure"),
        (("dac", "energy"), "energy.dac", "energy of a DAC of 8 bits: made-up has no sourced figure"),
        (("transistor", "line_energy"), "energy.line", "word lines: made-up has no sourced figure"),
        (("digital", "float_add"), "energy.digital", "additions of f32: made-up has no sourced figure"),
        (("digital", "lookup"), "energy.digital", "lookups of f32: made-up has no sourced figure"),
        (("buffer",), "energy.buffer", "buffers: made-up has no sourced figure"),
        (("adc", "area"), "area.adc", "area of an ADC of 8 bits: made-up has no sourced figure"),
        (("transistor", "cell"), "area.array", "area of a 1T1R cell: made-up has no sourced figure"),
        (("transistor", "line_area"), "area.line", "made-up has no sourced figure"),
    ],
    ids=lambda c: ".".join(c) if isinstance(c, tuple) else "",
)
def test_without_a_price_a_total_is_unknown_and_says_what_the_known_sum_lacks(
    monkeypatch: pytest.MonkeyPatch, gone: tuple[str, ...], part: str, said: str
):
    made = copy.deepcopy(TECHNOLOGY)
    table = made
    for key in gone[:-1]:
        table = table[key]
    del table[gone[-1]]
    use(monkeypatch, made)
    found = figures(target_of())
    cost, name = part.split(".")
    assert (found[part].value, found[part].how) == (None, "unknown")
    assert said in found[part].source and said in found[cost].source
    assert (found[cost].value, found[cost].how) == (None, "unknown")
    for end, at in (("low", 0), ("high", 1)):
        known = found.get(f"known_{cost}.{end}", found.get(f"known_{cost}"))
        assert known is not None and f"without {name}" in known.source
        assert known.value == pytest.approx(BY_HAND[cost][at] - BY_HAND[part][at])
    rate = "tops_per_watt" if cost == "energy" else "tops_per_mm2"
    assert found[rate].how == "unknown"


def test_without_a_read_neither_the_arrays_energy_nor_a_latency_is_known():
    found = figures(target_of(read=None))
    assert found["energy.array"].how == found["latency"].how == found["tops_per_mm2"].how == "unknown"
    assert "'small' has no [read]" in found["latency"].source


def test_a_function_without_a_published_price_makes_energy_and_latency_unknown():
    b = Builder()
    x = b.input("x", (2,))
    b.output("y", b("softmax", b.param("W", WEIGHTS) @ x, axis=0))
    found = figures(target_of(), program_of(b, x=x.type))
    assert found["digital_functions"].value == 3
    assert "no published price of softmax" in found["energy.digital"].source
    assert "no published time of softmax" in found["latency"].source


def test_a_target_alone_has_only_its_own_figures():
    own = {"conversion_joule": [1e-12, 3e-12], **SAID}
    target = target_of(technologies=[], adc={"energy": own}, cell={"area_m2": 2e-12, **SAID})
    found = values(target)
    assert ends(found, "energy.adc") == (3.0, 9.0)
    assert found["area.array"] == pytest.approx(64.0)
    assert found["energy"] is None and found["energy.dac"] is None and found["latency"] is None
    assert ends(found, "known_energy")[1] == pytest.approx(9.0 + BY_HAND["energy.array"][1])


def test_a_targets_own_figure_is_taken_before_its_technologys():
    adc = {"energy": {"conversion_joule": 7e-12, **SAID}, "time": {"conversion_s": 1e-9, **SAID}}
    found = values(target_of(adc={**adc, "area": {"area_m2": 9e-12, **SAID}}))
    assert found["energy.adc"] == pytest.approx(21.0)
    assert found["latency.adc"] == pytest.approx(2.0)
    assert found["area.adc"] == pytest.approx(18.0)


# ---------------------------------------------------------------------------------------------------------- nodes


def test_every_further_technology_has_figures_of_its_own():
    found = values(target_of(technologies=["made-up", "cmos-22nm"]))
    assert ends(found, "energy.adc") == (pytest.approx(0.3), pytest.approx(0.6))
    assert found["energy.adc@cmos-22nm.high"] == pytest.approx(3 * 0.555)
    assert found["interval@cmos-22nm"] == pytest.approx(2 * (10 + 9))


# ----------------------------------------------------------------------------------------------------------- reads


def test_serial_inputs_are_read_in_as_many_cycles_and_added_as_integers():
    """Eight pieces of a bit: 1-bit drivers, eight conversions an output, seven integer additions of them."""
    found = values(target_of(dac={"serial_bits": 1}))
    assert found["array_reads"] == 8
    assert found["energy.dac"] == pytest.approx(2 * 2 * 8 * 0.5)
    assert ends(found, "energy.adc") == (pytest.approx(2.4), pytest.approx(4.8))
    assert found["digital_additions"] == 3 + 7 * 3
    assert ends(found, "energy.digital")[0] == pytest.approx(15.6 + 21 * 0.3)
    assert ends(found, "energy.array") == (0.0, pytest.approx(8 * BY_HAND["energy.array"][1]))
    assert ends(found, "interval") == (pytest.approx(8 * 30.0), pytest.approx(8 * 60.0))


def test_a_sample_and_hold_reads_once_and_converts_while_the_next_pulse_runs():
    found = values(target_of(read={"sample_and_hold": True}))
    assert ends(found, "energy.dac") == (2.0, 4.0)
    assert found["energy.line"] == pytest.approx(0.016 + 0.006)
    assert ends(found, "latency") == (pytest.approx(10 + 10 + 3), pytest.approx(10 + 40 + 9))
    assert ends(found, "interval") == (10.0, pytest.approx(40.0))
    serial = values(target_of(read={"sample_and_hold": True}, dac={"serial_bits": 1}))
    assert ends(serial, "latency.adc")[1] == pytest.approx(40 + 7 * 40)
    assert ends(serial, "interval") == (pytest.approx(80.0), pytest.approx(320.0))


def test_lanes_of_the_target_make_the_digital_time_one_number():
    found = values(target_of(digital={"lanes": 2, **SAID}, adc={"time": {"conversion_s": 5e-9, **SAID}}))
    assert found["latency.digital"] == pytest.approx(3 * 2)  # three values of 3 operations, 2 at a time
    assert found["latency"] == pytest.approx(36.0)


def test_operations_are_counted_by_kind():
    """Scaling 3, relu 3, a sum of 3, a product of two values with 3 multiply-accumulates, tanh 1, a division 1."""
    b = Builder()
    x = b.input("x", (2,))
    r = b("relu", b.param("W", WEIGHTS) @ x)
    b.output("y", b("tanh", b("sum", r, axis=0)) / (r @ r))
    found = values(target_of(), program_of(b, x=x.type))
    counted = {kind: found[f"digital_{kind}"] for kind in costs.KINDS}
    assert counted == {"multiplications": 6, "additions": 5, "comparisons": 3, "lookups": 1, "functions": 1}


def test_every_primitive_has_a_price_or_is_known_to_cost_nothing():
    """A new one must be put somewhere; TFLite's own arithmetic never comes here."""
    priced = {*costs_work.ELEMENTWISE, *costs_work.REDUCTIONS, "matmul", "einsum", "solve"}
    assert not priced & costs_work.FREE
    assert priced | costs_work.FREE == {op for op in OPS if not op.startswith("tfl_")}


@pytest.mark.parametrize("name", CASES)
def test_every_family_is_priced_or_its_functions_are_named(name: str):
    target = hardware.find("pcm-128", Crossbar)
    found = figures(target, CASES[name].program)
    for figure in found.values():
        low, high = figure.value, found[figure.name.replace(".low", ".high")].value
        assert low is None or (high is not None and 0 <= low <= high), figure.name
    functions = found["digital_functions"].value
    assert ("energy" in found and "no published price of" in found["energy"].source) == bool(functions)


def test_matrices_on_one_array_are_read_one_after_the_other():
    """Two products of different vectors, 2 x 2 weights each, side by side on 4 x 8 cells: 30 ns, then 30 ns."""
    b = Builder()
    x, z = b.input("x", (2,)), b.input("z", (2,))
    w = np.ones((2, 2), np.float32)
    b.output("y", b("tanh", b.param("A", w) @ x) * b("tanh", b.param("B", w) @ z))
    target = target_of(array={"rows": 4, "columns": 8})
    tiled, matrices = mapped(program_of(b, x=x.type, z=z.type), target)
    apart = [replace(m, tiles=tuple(replace(t, array=m.index, row=0, column=0) for t in m.tiles)) for m in matrices]
    together = [replace(m, tiles=tuple(replace(t, array=0, row=2 * m.index) for t in m.tiles)) for m in apart]
    assert len(matrices) == 2
    for given, reads in ((apart, 1), (together, 2)):
        found = {f.name: f.value for f in costs.compile_figures(tiled, given, target)}
        assert ends(found, "latency")[0] == pytest.approx(reads * 30.0 + 3)  # scaled, tanh, product
        assert ends(found, "interval")[0] == pytest.approx(reads * 30.0)


def test_mean_squares_say_nothing_of_serial_pulses():
    target = target_of(dac={"serial_bits": 1})
    drive = {("s", mapped(network(), target)[1][0].value): np.array([0.1, 0.5])}
    assert ends(values(target, drive=drive), "energy.array") == (0.0, pytest.approx(8 * BY_HAND["energy.array"][1]))


def recurrent(units: int, inputs: int) -> Program:
    """``h' = tanh(U h)`` and ``y = V x``: products of different vectors, a loop through one of them."""
    b = Builder()
    x, h = b.input("x", (inputs,)), b.state("h", (units,))
    u = np.eye(units, dtype=np.float32)
    b.next(h, b("tanh", b.param("U", u) @ h))
    b.output("y", b.param("V", np.ones((1, inputs), np.float32)) @ x)
    return program_of(b, x=x.type)


def test_a_loop_through_an_array_sets_when_the_next_step_can_begin():
    """Two outputs of U are converted in two rounds of 15 to 30 ns, then scaled and put through tanh."""
    target = target_of()
    tiled, matrices = mapped(recurrent(2, 2), target)
    apart = [replace(m, tiles=tuple(replace(t, array=m.index) for t in m.tiles)) for m in matrices]
    found = {f.name: f.value for f in costs.compile_figures(tiled, apart, target)}
    # one lane: 2 scalings and 2 values of tanh, and the scaling of V
    assert ends(found, "sequence_interval") == (pytest.approx(30.0 + 2), pytest.approx(60.0 + 5))
    assert ends(found, "interval") == (pytest.approx(30.0), pytest.approx(60.0))


def test_matrices_that_depend_on_each_other_wait_and_others_do_not():
    b = Builder()
    x = b.input("x", (4,))
    w = np.ones((4, 4), np.float32)
    inner = b("tanh", b.param("A", w) @ x)
    b.output("y", b.param("B", w) @ inner)
    b.output("z", b.param("C", w) @ b("tanh", x))
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    outputs = {"y": Ref.parse("s.y"), "z": Ref.parse("s.z")}
    target = target_of()
    tiled, matrices = mapped(Program("net", {"x": ProgramInput(x.type)}, (stage,), outputs), target)
    assert len({t.array for m in matrices for t in m.tiles}) == 3
    found = {f.name: f.value for f in costs.compile_figures(tiled, matrices, target)}
    assert ends(found, "latency")[0] == pytest.approx(2 * 30.0 + 1 + 1 + 1)  # A, scale, tanh, B, scale
    assert ends(found, "interval") == (pytest.approx(30.0), pytest.approx(60.0))


def test_the_mean_of_the_slowest_cycle_of_states():
    none = -np.inf
    assert costs_time._cycle_mean([[3.0, 5.0], [7.0, 1.0]]) == pytest.approx(6.0)
    assert costs_time._cycle_mean([[none, 5.0], [none, none]]) == 0.0
    assert costs_time._cycle_mean([[2.0, 100.0], [none, 4.0]]) == pytest.approx(4.0)
    assert costs_time._cycle_mean([]) == 0.0


def test_stages_that_share_an_array_add_up_until_it_is_free():
    first = Steps(Span(), 0.0, {0: 1.0, 1: 2.0})
    assert costs_time.interval([first, Steps(Span(), 0.0, {0: 3.0, 2: 1.5})]) == 4.0
    assert costs_time.interval([first, Steps(Span(), 0.0, {2: 1.5})]) == 2.0


def test_a_matrix_of_several_vectors_is_read_one_after_the_other():
    b = Builder()
    x = b.input("x", (2, 5))
    b.output("y", b.param("W", WEIGHTS) @ x)
    found = values(target_of(), program_of(b, x=x.type))
    assert found["array_reads"] == 5
    assert found["latency.array"] == pytest.approx(5 * 20.0)
    assert found["array_operations"] == 60


# ----------------------------------------------------------------------------------------------------- conductances


@pytest.mark.parametrize(
    ("encoding", "rows"),
    [
        ("differential", (21.0, 26.0)),
        # (1 + w/w_max)/2 of 10 uS above 1: .75 1 .5 and 0 .5 1, and the reference column's 6 uS once
        ("offset", (3 + 22.5 + 6, 3 + 15.0 + 6)),
        ("one-sided", (3 + 22.5, 3 + 15.0)),
    ],
)
def test_conductances_on_a_word_line(encoding: str, rows: tuple[float, float]):
    target = target_of(array={"encoding": encoding})
    tiled, (matrix,) = mapped(network(), target)
    g = conductances(matrix, matrix.tiles[0], tiles.weights(tiled, matrix), target)
    assert g * 1e6 == pytest.approx(np.array(rows))


def test_empty_cells_conduct_nothing():
    target = target_of()
    tiled, (matrix,) = mapped(network(), target)
    (tile,) = matrix.tiles
    holed = tiles.Tile(**{**vars(tile), "empty": (((0, 1), (0, 2)),)})
    g = conductances(matrix, holed, tiles.weights(tiled, matrix), target)
    assert g * 1e6 == pytest.approx(np.array([2.0, 26.0]))


# ------------------------------------------------------------------------------------------------------------ runs


def test_an_inference_costs_what_was_counted():
    """Six reads in eight steps (a guard was closed twice): energies follow the reads, the rest the steps."""
    target = target_of()
    tiled, (matrix,) = mapped(network(), target)
    key = (matrix.stage, matrix.value)
    found = {f.name: f.value for f in costs.run_figures(tiled, (matrix,), target, {key: 6.0}, {"s": 8.0})}
    assert ends(found, "energy.adc") == (pytest.approx(6 * 0.3), pytest.approx(6 * 0.6))
    assert ends(found, "energy.digital")[0] == pytest.approx(6 * 12 + 8 * 3.6)
    assert ends(found, "latency") == (pytest.approx(33 + 7 * 30), pytest.approx(69 + 7 * 60))
    assert "area" not in found and "interval" not in found
    assert all(f.unit.endswith(("/inference", "TOPS/W")) for f in costs.run_figures(
        tiled, (matrix,), target, {key: 6.0}, {"s": 8.0}))  # fmt: skip
    drive = {key: np.array([0.1, 0.5])}
    driven = {f.name: f.value for f in costs.run_figures(tiled, (matrix,), target, {key: 6.0}, {"s": 8.0}, drive)}
    assert driven["energy.array"] == pytest.approx(6 * 0.25 * 10e-9 * 15.1e-6 * 1e12)


def test_samples_of_no_steps_cost_nothing():
    """Lengths of 0 are legal: no step ran, so there is no energy to divide operations by."""
    target = target_of()
    tiled, (matrix,) = mapped(network(), target)
    key = (matrix.stage, matrix.value)
    found = {f.name: f for f in costs.run_figures(tiled, (matrix,), target, {key: 0.0}, {"s": 0.0})}
    assert found["energy"].value == 0.0
    assert found["tops_per_watt"].value is None and found["tops_per_watt"].source == "nothing was read"


def test_serial_cycles_are_counted_once_while_running():
    target = target_of(dac={"serial_bits": 2})
    tiled, (matrix,) = mapped(network(), target)
    compiled = {f.name: f.value for f in costs.compile_figures(tiled, (matrix,), target)}
    ran = {f.name: f.value for f in costs.run_figures(
        tiled, (matrix,), target, {(matrix.stage, matrix.value): 4.0}, {"s": 1.0})}  # fmt: skip
    assert ran["energy.adc.low"] == pytest.approx(compiled["energy.adc.low"])


# ----------------------------------------------------------------------------------------------------- programming


@pytest.mark.parametrize("read_sd", [0.0, 0.2e-6])
def test_expected_pulses_are_those_that_devices_take(read_sd: float):
    device = hardware.find("pcm-128", Crossbar).device.model_copy(
        update={"write_verify": WriteVerify(tolerance_siemens=0.5e-6, max_pulses=10, read_sd_siemens=read_sd, **SAID)}
    )
    aimed = np.array([0.0, 0.3e-6, 5e-6, 25e-6])
    rng = np.random.default_rng(0)
    many = np.broadcast_to(aimed, (20000, 4))
    taken = Cells.program(device, many, lambda _: rng.standard_normal(many.shape)).pulses
    assert taken is not None
    assert taken.mean(axis=0) == pytest.approx(expected(device, aimed), rel=0.02)


def test_programming_energy_is_pulses_times_joules():
    verify = {"tolerance_siemens": 1e-9, "max_pulses": 4, "pulse_joule": 2e-12, **SAID}
    device = {"programming": {"sd_siemens": [1e-3], **SAID}, "write_verify": verify}
    found = values(target_of(device=device))
    # hopeless: every device takes all 4 pulses, but those aimed at g_min = 1 uS find 0 half of the time: no, outside
    assert found["programming_pulses"] == pytest.approx(12 * 4, rel=1e-3)
    assert found["programming_energy"] == pytest.approx(12 * 4 * 2e-3, rel=1e-3)
    unknown = figures(target_of())
    assert unknown["programming_pulses"].how == unknown["programming_energy"].how == "unknown"
