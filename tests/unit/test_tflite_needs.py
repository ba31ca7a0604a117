"""At int8 what 8 bits can't hold gets 16, where a trial on the calibration samples shows the need, and says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurodeploy.data import Data, arrange
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.passes import pipeline, run
from neurodeploy.passes.tflite.needs import LIMIT, SAMPLES, STEPS, _trial, deciding
from neurodeploy.passes.tflite.scales import Scales
from tests.families import CASES


def quantized(program: Program, data: Data, **options: Any) -> Program:
    return run(program, pipeline("tflite", "tflite", data=data, quantize_tflite={"activation_dtype": "i8", **options}))


def notes(program: Program) -> list[str]:
    return [text for text in program.meta.get("warnings", []) if "kept at 16 bits" in text]


def dtypes(program: Program) -> dict[str, str]:
    return {state.name: state.type.dtype for stage in program.stages for state in stage.graph.states}


def family(name: str) -> tuple[Program, Data]:
    case = CASES[name]
    data = arrange(dict(case.inputs), case.program)
    return case.program, data if case.lengths is None else replace(data, lengths=np.asarray(case.lengths))


def integrator(rate: float, changing: bool = False) -> tuple[Program, Data]:
    """A state that goes a little of the way to its input, for long; the input stands still or changes."""
    b = Builder()
    x, h = b.input("x", [3]), b.state("h", [3])
    b.next(h, h + rate * (x - h))
    b.output("y", h)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    program = Program("integrator", {"x": ProgramInput(TensorType((3,)))}, (stage,), {"y": Ref("y", "main")})
    level = np.random.default_rng(0).uniform(-1, 1, (4, 150 if changing else 1, 3)) * np.ones((1, 150, 1))
    return program, arrange({"x": level.astype(np.float32)}, program)


def test_a_state_that_stalls_gets_16_bits_unless_8_are_asked_for():
    program, data = integrator(0.01)
    made = quantized(program, data)
    assert dtypes(made) == {"h": "i16"}
    (note,) = notes(made)
    assert note.startswith("states main.h are kept at 16 bits, since too many of their updates")
    assert not any("stalls" in text for text in made.meta["warnings"])
    asked = quantized(program, data, state_dtype="i8")
    assert dtypes(asked) == {"h": "i8"} and not notes(asked)
    assert any("stalls" in text for text in asked.meta["warnings"])
    named = quantized(program, data, states={"h": "i8"})
    assert dtypes(named) == {"h": "i8"} and not notes(named)


@pytest.mark.parametrize("changing", [True, False])
def test_a_state_that_gets_where_it_goes_keeps_8_bits(changing):
    """On an input that stands still its last updates are small, and nothing is lost."""
    made = quantized(*integrator(0.4, changing))
    assert dtypes(made) == {"h": "i8"} and not notes(made)


@pytest.mark.parametrize("name", ["elman_tanh", "lstm", "gru_reset_after", "echo_state", "encoder_decoder"])
def test_what_is_near_enough_keeps_every_bit(name):
    program, data = family(name)
    made, asked = quantized(program, data), quantized(program, data, state_dtype="i8")
    assert not notes(made)
    for ours, theirs in zip(made.stages, asked.stages, strict=True):
        assert ours.graph.values == theirs.graph.values and ours.graph.types() == theirs.graph.types()
        for key, param in ours.graph.params.items():
            np.testing.assert_array_equal(param.data, theirs.graph.params[key].data)


def firing() -> tuple[Program, Data]:
    """Integrate-and-fire neurons on long sequences."""
    program, data = family("spiking")
    x = np.tile(data.inputs["x"], (1, 20, 1))
    x = x * np.random.default_rng(9).choice([1.0, 1.0, 0.7, -0.4], x.shape)
    return program, replace(data, inputs={"x": x.astype(np.float32)})


def test_what_decisions_hang_on_gets_16_bits_and_nothing_else():
    program, data = firing()
    made = quantized(program, data)
    assert set(dtypes(made).values()) == {made.inputs["x"].type.dtype} == {"i16"}
    assert notes(made)[-1].startswith("inputs x and states main.s, main.v and ")
    graph = made.stages[0].graph
    compared = [graph.tensor(arg).dtype for value in graph.values if value.op == "lt" for arg in value.args]
    assert compared and set(compared) == {"i16"}
    assert {type_.dtype for type_ in made.output_types().values()} == {"i8"}
    given = quantized(program, data, activations={"x": "i8"})
    assert given.inputs["x"].type.dtype == "i8"


def test_decisions_are_traced_through_stages_and_states():
    program, data = family("encoder_decoder")
    calibrated = run(program, pipeline("tflite", "tflite", data=data)[:-1])
    scales = Scales(calibrated, 1.1)
    wide = deciding(calibrated, scales, inputs=True)
    assert {("", "x"), ("", "start"), ("enc", "h"), ("dec", "h"), ("dec", "token")} <= wide
    without = deciding(calibrated, scales, inputs=False)
    assert ("enc", "h") in without and not {("", "x"), ("enc", "x"), ("", "start"), ("dec", "token")} & without
    plain, samples = family("elman_tanh")
    assert not deciding(run(plain, pipeline("tflite", "tflite", data=samples)[:-1]), scales, inputs=True)


def test_a_trial_is_short_and_fills_up_few_samples():
    program, data = integrator(0.4)
    trial = _trial(program, data)
    assert trial.data.samples == SAMPLES
    assert trial.data.inputs["x"].shape[1] == 150 < STEPS
    np.testing.assert_array_equal(trial.data.inputs["x"][:4], data.inputs["x"])
    ratio = trial.data.inputs["x"][4:8] / data.inputs["x"]
    assert 0.979 < ratio.min() < ratio.max() <= 1
    assert trial.worst(quantized(program, data)).rms < LIMIT


def test_a_trial_of_the_last_step_sees_every_step():
    program, data = integrator(0.4)
    last = replace(program, outputs={"end": Ref("y", "main", "last")})
    assert _trial(last, data).plain["end"].shape == (SAMPLES, 150, 3)


def test_a_trial_of_an_end_that_is_waited_for_sees_the_end():
    """Steps differ in number there."""
    program, data = family("hopfield")
    assert _trial(program, data).plain["s"].shape == (SAMPLES, 16)


def test_without_samples_nothing_is_tried():
    program, data = integrator(0.01)
    calibrated = run(program, pipeline("tflite", "tflite", data=data)[:-1])
    last = pipeline("tflite", "tflite", quantize_tflite={"activation_dtype": "i8"})[-1]
    assert dtypes(run(calibrated, [last])) == {"h": "i8"}
