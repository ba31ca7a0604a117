"""Generated Brian2 scripts of step programs: equal to the n-level program in every step and event, for all families."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.backends.brian2 import Brian2Runner
from neurodeploy.data import Data
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.build import Builder
from neurodeploy.ir.drive import drive
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.passes.pipeline import pipeline
from neurodeploy.passes.spiking import SigmaDelta
from neurodeploy.spiking.brian2_plan import plan
from neurodeploy.spiking.brian2_program import plan_of, program_files
from neurodeploy.spiking.brian2_run import Brian2, find_compiler
from neurodeploy.spiking.brian2_step import StepEngine
from tests.families import CASES

pytest.importorskip("brian2")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEURODEPLOY_CACHE", str(tmp_path / "cache"))


def _n_level(name: str, **options) -> tuple[Program, Data]:
    """A family's program in levels, and its inputs."""
    case = CASES[name]
    data = Data(dict(case.inputs), case.lengths, None)
    program = case.program
    for step in pipeline("c", "native", data=data):
        program = step(program)
    return SigmaDelta(levels=16, data=data, **options)(program), data


def _run(program: Program, data: Data, brian2: Brian2) -> tuple[Trace, dict[str, StepEngine]]:
    files, engines = program_files(program, program.name), {}

    def executor(stage, graph):
        engines[stage] = StepEngine(program, stage, files, brian2)
        return engines[stage]

    return drive(program, data.inputs, data.lengths, executor), engines


def _changes(program: Program, data: Data) -> dict[str, np.ndarray]:
    """What the golden model says is sent: each sent value's changes, 0 before the first step."""
    sent = {(stage, name) for stage, names in program.meta["spiking"]["sent"].items() for name in names}
    seen: dict[str, list[np.ndarray]] = {}

    def observe(stage, name, array, active):
        if (stage, name) in sent:
            whole = np.broadcast_to(array, (data.samples, *array.shape[1:])).astype(int)
            seen.setdefault(f"{stage}.{name}", []).append(np.where(active[:, None], whole, -999))

    interpret.run(program, data.inputs, data.lengths, observe=observe)
    found = {}
    for name, arrays in seen.items():
        values = np.stack(arrays, 1)
        changes = np.diff(np.concatenate([np.zeros_like(values[:, :1]), values], axis=1), axis=1)
        found[name] = np.where(values == -999, 0, changes)
    return found


def _same(wanted: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
    assert wanted.keys() == found.keys()
    for name in wanted:
        assert np.array_equal(wanted[name], found[name]), name


@pytest.mark.parametrize("name", ["elman_tanh", "gru_reset_after", "lstm_peephole", "clockwork"])
def test_every_step_and_every_event_equal_the_program(name):
    program, data = _n_level(name, inputs=name == "elman_tanh")
    trace, engines = _run(program, data, Brian2("numpy"))
    wanted = interpret.run(program, data.inputs, data.lengths)
    _same(wanted.outputs, trace.outputs)
    _same(wanted.series, trace.series)
    events = {f"{stage}.{name}": array for stage, e in engines.items() for name, array in e.events.items()}
    ran = np.arange(next(iter(events.values())).shape[1]) < trace.steps["main"][:, None]
    changes = _changes(program, data)
    assert sum(np.count_nonzero(a) for a in changes.values()) > 100
    _same(changes, {name: array * ran[..., None] for name, array in events.items()})


def test_several_stages_by_the_script_itself(tmp_path):
    """Forward and backward layers on one another, and the last state: the script drives them as the program says."""
    program, data = _n_level("stacked_bidirectional")
    for name, content in program_files(program, "it").items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "in.npz", **data.inputs)  # type: ignore[arg-type]
    command = [sys.executable, "network.py", "in.npz", "out.npz", "--codegen", "numpy"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    wanted = interpret.run(program, data.inputs).outputs
    with np.load(tmp_path / "out.npz") as found:
        _same(wanted, {name: found[name].reshape(array.shape) for name, array in wanted.items()})
        assert any(name.startswith("events.r2.") for name in found.files)


def _handed_over() -> Program:
    """A stage that needs its product of the old state beside one of the new, and one that starts from what the first
    ends with and swaps two states."""
    b = Builder()
    x = b.input("x", TensorType((3,), "i16", Quant(1.0)))
    h = b.state("h", (3,), dtype="i16")
    product = b("matmul", b.param("W", np.array([[1, 2, 0], [0, 1, -1], [3, 0, 1]], np.int8)), h)
    total = b("add", product, x)
    new = b("requantize", total, b.param("half", np.full(3, 1 << 31 - 2, np.int32)), pre=1, to="i16")
    b.next(h, new)
    b.output("y", total)
    b.output("late", b("add", product, b("matmul", b.param("V", np.eye(3, dtype=np.int8)[::-1]), new)))
    first = Stage("first", b.graph(), inputs_from={"x": Ref("x")})
    b = Builder()
    x = b.input("x", TensorType((3,), "i16", Quant(1.0)))
    a, c = b.state("a", (3,), dtype="i16"), b.state("c", (3,), init=np.array([5, -6, 7], np.int16), dtype="i16")
    b.next(a, c)
    b.next(c, a)
    b.output("y", b("add", b("matmul", b.param("V", np.array([[1, -1, 2]], np.int8)), a), b.const(1, "i32")))
    b.output("z", c)
    second = Stage("second", b.graph(), Drive("reverse"), {"x": Ref("x")}, {"a": Ref("h", "first", "final")})
    return Program("handed", {"x": ProgramInput(first.graph.inputs["x"])}, (first, second),
                   {"y": Ref("y", "second"), "z": Ref("z", "second"), "t": Ref("y", "first", "last"), "late": Ref("late", "first")}, "native")  # fmt: skip


def test_states_from_data_and_at_the_end():
    program = _handed_over()
    x = np.random.default_rng(0).integers(-50, 50, (5, 6, 3)).astype(np.int16)
    data = Data({"x": x}, np.array([6, 1, 4, 6, 3]), None)
    trace, _ = _run(program, data, Brian2("numpy"))
    _same(interpret.run(program, data.inputs, data.lengths).outputs, trace.outputs)


def test_gates_are_variables_of_the_same_neurons():
    program, _ = _n_level("gru_reset_after")
    made = plan_of(program, "main")
    sizes = {p.name: p.size for p in made.populations}
    assert sizes["h_neurons"] == 6 and sum(name.startswith("h_") for name in sizes) == 1
    (recurrent,) = [p for p in made.projections if p.source is p.target]
    assert [w.shape for _, w in recurrent.sums] == [(6, 6)] * 3  # reset gate, update gate, candidate
    assert made.levels == 2


REFUSED = {
    "hopfield": "hopfield/main: the drive is 'until'; the script runs whole sequences, forward or reverse.",
    "recursive": "recursive/main: the drive is 'order';",
    "encoder_decoder": "encoder_decoder/dec: the drive is 'generate';",
    "history_compressor": "history_compressor/main: %sum: Brian2's neurons have no sum.",
    "second_order": "second_order/main: %einsum.outer: Brian2's neurons have no einsum.",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    with pytest.raises(UnsupportedError) as caught:
        program_files(_n_level(name)[0])
    assert str(caught.value).startswith(REFUSED[name]) and "runner reference" in str(caught.value)


def test_products_that_float64_would_round_are_refused():
    program, _ = _n_level("elman_tanh")
    stage = program.stages[0]
    mult = next(v.args[1] for v in stage.graph.values if v.op == "requantize" and v.args[1] in stage.graph.params)
    param = stage.graph.params[mult]
    params = {**stage.graph.params, mult: replace(param, data=param.data | 1)}
    with pytest.raises(UnsupportedError, match="significant bits, which float64 doesn't hold exactly"):
        plan(replace(stage, graph=replace(stage.graph, params=params)), (), "elman/main")


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")
def test_a_compiled_build_runs_and_says_how():
    program, data = _n_level("gru_reset_before")
    files = {**text.to_files(program, "program"), **text.to_files(CASES["gru_reset_before"].program, "source")}
    artifact = Artifact("g", "brian2", "brian2-sigma-delta", {**files, **program_files(program, "g")}, {})
    first, again = (Brian2Runner().run(artifact, dict(data.inputs), data.lengths, codegen="cpp") for _ in range(2))
    _same(interpret.run(program, data.inputs, data.lengths).outputs, again.outputs)
    _same(first.outputs, again.outputs)
    assert [any(f.name == "compile time" for f in trace.record["figures"]) for trace in (first, again)] == [True, False]
    spikes = next(f for f in again.record["figures"] if f.name == "spikes")
    assert again.counters["spikes"].sum() == pytest.approx(spikes.value * data.samples, rel=0.01)
    assert "C++ standalone" in again.record["where"]
