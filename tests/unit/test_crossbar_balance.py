"""Full scales of joined vectors: what is balanced, what isn't, and that chips err less for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurodeploy import hardware
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.crossbar import balance, ranges
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.mapping.tiles import Segments
from neurodeploy.crossbar.simulate import Chips, run_chips
from neurodeploy.data import Data
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.passes.tiling import Tiling

RRAM, IDEAL = hardware.find("rram-milo-128", Crossbar), hardware.find("ideal-128", Crossbar)
NO_DAC = RRAM.dac.model_copy(update={"bits": None})
KEY = ("s", "add")


def network(small: float) -> tuple[Program, dict[str, np.ndarray]]:
    """``W x + U h``: x of magnitude 2, h of 1, and weights U that are ``small`` against W."""
    rng = np.random.default_rng(0)
    b = Builder()
    x, h = b.input("x", (10,)), b.input("h", (40,))
    w, u = (rng.normal(size=(30, n)).astype(np.float32) for n in (10, 40))
    b.output("y", b.param("W", w) @ x + b.param("U", small * u) @ h)
    stage = Stage("s", b.graph(), inputs_from={n: Ref(n) for n in "xh"})
    program = Program("net", {"x": ProgramInput(x.type), "h": ProgramInput(h.type)}, (stage,), {"y": Ref("y", "s")})
    data = {n: rng.uniform(-m, m, (50, 1, s)).astype(np.float32) for n, m, s in (("x", 2, 10), ("h", 1, 40))}
    return Tiling()(program), data


def quiet(encoding: str = "differential", **converters: Any) -> Crossbar:
    """Programming noise far from any end of the range, and ADCs of infinite precision."""
    device = RRAM.device.model_copy(update={"nonlinear": None, "thermal_noise": None})
    adc = RRAM.adc.model_copy(update={"bits": None})
    array = RRAM.array.model_copy(update={"encoding": encoding})
    return RRAM.model_copy(update={"device": device, "adc": adc, "array": array, **converters})


def error_of(program: Program, data: dict[str, np.ndarray], target: Crossbar, segments: Segments) -> float:
    """Mean square error of 20 chips' outputs."""
    found = tiles.matrices(program, target, segments=segments)
    trace, _ = run_chips(program, Chips(program, found, target, range(20), 50, 0), data, None)
    golden, _ = run_chips(program, Chips(program, found, target, range(1), 50, 0, frozenset()), data, None)
    apart = trace.outputs["y"].reshape(20, 50, -1) - golden.outputs["y"].reshape(1, 50, -1)
    return float((apart.astype(np.float64) ** 2).mean())


@pytest.mark.parametrize("encoding", ["differential", "offset", "one-sided"])
def test_small_weights_get_a_larger_full_scale_and_chips_err_less(encoding: str):
    """As much less as expected: the noise of 20 chips is that of the formula, for any full scale."""
    program, data = network(0.1)
    target = quiet(encoding)
    seen = ranges.observe(program, Data(data))
    plain = ranges.segments(program, target, seen)
    made = balance.balanced(program, target, plain, seen)
    (_, _, first), (_, _, second) = plain[KEY]
    (_, _, x), (_, _, h) = made[KEY]
    assert [s[:2] for s in made[KEY]] == [(0, 10), (10, 50)]
    assert first is not None
    assert second is not None
    assert h is not None
    assert x == pytest.approx(first)
    assert 6 < h / second < 18  # U times h is about 15 times smaller than W times x
    weights = np.abs(program.stages[0].graph.params["add.weight"].data.astype(np.float64))
    found = []
    for factor in (1.0, 4.0, h / second, 50.0):
        segments: Segments = {KEY: ((0, 10, first), (10, 50, second * factor))}
        full = np.array([first, second * factor])
        expected = balance.noise(weights, plain[KEY], full, seen[KEY].power, target.model_copy(update={"dac": NO_DAC}))
        found.append(error_of(program, data, target, segments))
        assert found[-1] == pytest.approx(expected / 30, rel=0.15)
    assert 3 * found[2] < found[0]
    assert found[2] < 1.1 * min(found)


def test_coarse_input_converters_are_weighed_against_the_devices():
    program, data = network(0.1)
    seen = ranges.observe(program, Data(data))
    scales = []
    for bits in (3, 4, 5, 8):
        target = quiet(dac=RRAM.dac.model_copy(update={"bits": bits}))
        made = balance.balanced(program, target, ranges.segments(program, target, seen), seen)
        scales.append(made[KEY][1][2])
    assert scales == sorted(scales)
    assert scales[0] < scales[-1]


def test_devices_without_errors_keep_the_finest_steps():
    program, data = network(0.1)
    target = IDEAL.model_copy(update={"dac": RRAM.dac})
    seen = ranges.observe(program, Data(data))
    plain = ranges.segments(program, target, seen)
    assert not balance.variance(target, np.linspace(0, 1, 5)).any()
    assert balance.balanced(program, target, plain, seen) == plain
    built = CrossbarBackend().compile(program, IDEAL, data=Data(data))
    assert [full for *_, full in built.manifest["layout"]["matrices"][0]["segments"]] == [None, None]


def test_equal_segments_stay_and_nothing_is_needed_but_ranges():
    for small, low, high in ((2.0, 0.8, 1.3), (0.1, 6, 18)):
        program, data = network(small)
        target = quiet()
        plain = ranges.segments(program, target, ranges.observe(program, Data(data)))
        (_, _, first), (_, _, before) = plain[KEY]
        made = balance.balanced(program, target, plain, None)
        (_, _, x), (_, _, h) = made[KEY]
        assert first is not None
        assert before is not None
        assert low < (h or 0) / before / ((x or 0) / first) < high
