"""What integers cost the outputs: the figure, the part of the samples that it is taken on, and the warning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurodeploy import compile, output_error
from neurodeploy.compiler import prepare
from neurodeploy.data import Data
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage, walk
from tests.families import CASES


def integrator(leak: float) -> Program:
    """``h' = h + leak x``: with a small leak its updates are below a step of an i8 state."""
    b = Builder()
    x, h = b.input("x", (2,)), b.state("h", (2,))
    new = h + b.param("W", leak * np.eye(2)) @ x
    b.next(h, new)
    b.output("y", new)
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref.parse("s.y")})


def samples(steps: int = 300, count: int = 5) -> Data:
    values = np.random.default_rng(0).uniform(0.5, 1, (count, steps, 2)).astype(np.float32)
    return Data({"x": values})


@pytest.mark.parametrize("numerics", ["native", "tflite"])
@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_a_state_that_stalls_is_told_with_its_remedy(numerics: str, dtype: str) -> None:
    source, data = integrator(0.01), samples()
    options = {"state_dtype": dtype, "activation_dtype": dtype}
    program = prepare(source, "c", numerics, data, quantize=options, progress=lambda _: None)
    found = output_error.warnings(source, program, data)
    if dtype == "i16":
        assert found == []
        return
    (warning,) = found
    assert "integers cost much: output 'y' by " in warning
    assert "of 5 calibration samples, " in warning
    assert warning.endswith(
        "Try --quantize state_dtype=i16, --quantize activation_dtype=i16, more calibration samples or --numerics float."
    )


def test_compile_puts_it_into_the_manifest_unless_it_is_to_leave_costs_out() -> None:
    source, data = integrator(0.01), samples()
    for costs in (True, False):
        built = compile(
            source, "ideal-128", data, numerics="native", costs=costs,
            quantize={"state_dtype": "i8", "activation_dtype": "i8", "weight_bits": 4},
        )  # fmt: skip
        told = [w for w in built.artifact.manifest["warnings"] if "integers cost much" in w]
        assert len(told) == costs
        assert all("--quantize weight_bits=8" in w for w in told)
    plain = compile(source, "ideal-128", data)
    assert not any("integers cost" in w for w in plain.artifact.manifest["warnings"])


def test_the_part_is_spread_over_all_samples_and_bounded() -> None:
    source = integrator(0.01)
    data = replace(samples(5000, 100), lengths=np.full(100, 4000), labels=np.arange(100))
    program = prepare(source, "c", "native", samples(), progress=lambda _: None)
    few = output_error.part(program, data)
    assert few is not None and few.samples == output_error.SAMPLES
    chosen = [int(np.nonzero((data.inputs["x"][:, 0] == x[0]).all(axis=1))[0][0]) for x in few.inputs["x"]]
    assert chosen[0] == 0 and chosen[-1] == 99 and len(set(chosen)) == len(chosen)
    steps = few.inputs["x"].shape[1]
    count = len(list(walk(program.stages[0].graph)))
    assert steps * count <= output_error.OPERATIONS["native"] < (steps + 1) * count
    assert few.lengths is not None and (few.lengths == steps).all()


def test_a_large_network_is_run_on_fewer_samples_then_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["gru_reset_after"]
    data = Data(case.inputs, case.lengths)
    program = prepare(case.program, "c", "native", data, progress=lambda _: None)
    whole = output_error.part(program, data)
    assert whole is not None and whole.samples == data.samples
    from neurodeploy.ir.cost import macs_per_step

    macs = macs_per_step(program)
    span = int(np.max(case.lengths)) if case.lengths is not None else whole.inputs["x"].shape[1]
    monkeypatch.setattr(output_error, "MACS", 2 * span * macs)
    fewer = output_error.part(program, data)
    assert fewer is not None and fewer.samples == 2
    monkeypatch.setattr(output_error, "MACS", 3 * macs)
    shorter = output_error.part(program, data)
    assert shorter is not None and shorter.samples == 1 and shorter.inputs["x"].shape[1] == 3
    monkeypatch.setattr(output_error, "MACS", macs - 1)
    assert output_error.part(program, data) is None


@pytest.mark.parametrize("kind", ["until", "order"])
def test_what_cannot_be_cut_is_left_out_or_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in CASES.values() if c.integer and any(s.drive.kind == kind for s in c.program.stages))
    data = Data(case.inputs, case.lengths)
    program = prepare(case.program, "c", "native", data, progress=lambda _: None)
    few = output_error.part(program, data)
    assert few is not None
    assert all(few.inputs[n].shape[1:] == array.shape[1:] for n, array in data.inputs.items())
    assert output_error.warnings(case.program, program, data) == []
    operations = sum(len(list(walk(s.graph))) * (s.drive.max_steps or 3) for s in program.stages)
    monkeypatch.setattr(output_error, "OPERATIONS", {"native": operations - 1})
    assert output_error.part(program, data) is None


def test_no_family_is_off_at_16_bits_but_those_that_cross_thresholds() -> None:
    off = set()
    for name, case in CASES.items():
        if case.integer:
            data = Data(case.inputs, case.lengths)
            program = prepare(case.program, "c", "native", data, progress=lambda _: None)
            if output_error.warnings(case.program, program, data):
                off.add(name)
    assert off <= {"spiking"}


def test_drives_that_go_on_by_themselves_count_all_their_steps() -> None:
    program = prepare(integrator(0.01), "c", "native", samples(), progress=lambda _: None)
    stage = replace(program.stages[0], drive=Drive("generate", max_steps=10**6))
    assert output_error.part(replace(program, stages=(stage,)), samples()) is None
