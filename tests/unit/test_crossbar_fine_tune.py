"""Noise-aware fine-tuning: programs in PyTorch, where tiled weights come from, gradients, and training itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurodeploy import compiler, hardware
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.repair.fine_tune_params import origins, param
from neurodeploy.crossbar.simulate import Chips
from neurodeploy.data import Data
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import DataError, UnsupportedError, UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.passes.tiling import Tiling
from tests.families import CASES

pytest.importorskip("torch")

import torch

from neurodeploy.crossbar.repair import torch_program
from neurodeploy.crossbar.repair.fine_tune import Tuned, _product, fine_tune

PCM, IDEAL = hardware.find("pcm-128", Crossbar), hardware.find("ideal-128", Crossbar)
ITERATED = {
    name for name, case in CASES.items() if any(s.drive.kind in ("until", "generate") for s in case.program.stages)
}


def lower(program: Program) -> Program:
    return Tiling(16, 32)(program)


# ------------------------------------------------------------------------------------------- programs in PyTorch


@pytest.mark.parametrize("name", sorted(set(CASES) - ITERATED))
def test_a_family_means_in_pytorch_what_it_means(name: str):
    case = CASES[name]
    tiled = lower(case.program)
    torch_program.check(tiled)
    golden = interpret.run(tiled, case.inputs, case.lengths)
    with torch.no_grad():
        found = torch_program.run(tiled, {}, case.inputs, case.lengths, {})
    assert found.keys() == golden.outputs.keys()
    for output, tensor in found.items():
        np.testing.assert_allclose(tensor.numpy(), golden.outputs[output], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(ITERATED))
def test_iterated_drives_are_refused_by_name(name: str):
    with pytest.raises(
        UnsupportedError, match="is driven '(until|generate)'; fine-tuning takes forward, reverse, order"
    ):
        torch_program.check(lower(CASES[name].program))


def test_an_op_without_a_gradient_rule_is_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    tiled = lower(CASES["elman_tanh"].program)
    monkeypatch.setattr(torch_program, "OPS", {k: v for k, v in torch_program.OPS.items() if k != "tanh"})
    with pytest.raises(UnsupportedError, match=r"%\S+ \(tanh\) has no form in PyTorch that can be trained"):
        torch_program.check(tiled)


def test_gradients_are_those_of_finite_differences():
    case = CASES["lstm"]
    tiled = lower(case.program)
    key = next((s.name, n) for s in tiled.stages for n in s.graph.params)
    start = torch.from_numpy(param(tiled, key).data.copy())

    def loss(value: Any) -> Any:
        outputs = torch_program.run(tiled, {key: value}, case.inputs, case.lengths, {})
        return sum((a.double() ** 2).sum() for a in outputs.values())

    value = start.clone().requires_grad_()
    loss(value).backward()
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=start.shape).astype(np.float32))
    with torch.no_grad():
        slope = (loss(start + 1e-2 * direction) - loss(start - 1e-2 * direction)) / 2e-2
    assert value.grad is not None and float((value.grad * direction).sum()) == pytest.approx(float(slope), rel=2e-2)


# ------------------------------------------------------------------------------------------- where weights come from


@pytest.mark.parametrize("name", ["gru_reset_after", "lstm_coupled", "echo_state", "stacked_bidirectional", "ntm"])
def test_trained_numbers_go_where_lowering_would_put_them(name: str):
    program = CASES[name].program
    found = origins(program, lower)
    numbers = found.numbers()
    assert numbers.size and np.array_equal(found.numbers(), numbers)
    changed = np.where(found.movable(), numbers + np.linspace(0.1, 0.2, numbers.size, dtype=np.float32), numbers)
    by_passes, by_places = lower(found.with_numbers(changed)), found.tiled_with(changed)
    for stage in by_passes.stages:
        for key in stage.graph.params:
            at = (stage.name, key)
            np.testing.assert_array_equal(param(by_places, at).data, param(by_passes, at).data)


@pytest.mark.parametrize("computed", [np.square, np.sort])
def test_what_something_was_computed_from_is_left_out(computed: Callable[[np.ndarray], np.ndarray]):
    b, held_a = Builder(), np.array([4, 2, 3], np.float32)
    x, W, a = b.input("x", (3,)), b.param("W", np.eye(3, dtype=np.float32) + 1), b.param("a", held_a)
    b.output("y", (W @ x) * b.param("g", np.array([1, 2, 3], np.float32)) + a)
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    program = Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "s")})

    def folded(given: Program) -> Program:
        """Squares or sorts 'a', as a pass might that knows more than copying."""
        graph = given.stages[0].graph
        held = graph.params["a"]
        params = {**graph.params, "a": replace(held, data=computed(held.data))}
        return lower(replace(given, stages=(replace(given.stages[0], graph=replace(graph, params=params)),)))

    found = origins(program, folded)
    assert {key for _, key in found.trained} == {"W", "g"}
    changed = found.numbers() * np.float32(1.5)
    after = found.tiled_with(changed)
    np.testing.assert_array_equal(param(after, ("s", "a")).data, computed(held_a))
    np.testing.assert_array_equal(param(after, ("s", "g")).data, [1.5, 3, 4.5])
    np.testing.assert_array_equal(param(found.with_numbers(changed), ("s", "a")).data, held_a)


def test_a_bias_of_zeros_that_the_mapping_leaves_out_stays_out():
    program, data = network(bias=0.0), classes()
    found = origins(program, lambda changed: compiler.compile(changed, IDEAL, data).program)
    assert not found.zeros and found.movable().sum() == sum(
        np.count_nonzero(p.data) for p in program.stages[0].graph.params.values()
    )
    assert origins(network(), lambda changed: compiler.compile(changed, IDEAL, data).program).zeros


# --------------------------------------------------------------------------------------------------------- training


def network(units: int = 10, seed: int = 0, bias: float = 0.01) -> Program:
    w, b = np.random.default_rng(seed).normal, Builder()
    x, h = b.input("x", (3,)), b.state("h", (units,))
    U = w(size=(units, units)) * (np.random.default_rng(1).random((units, units)) < 0.3) / 2
    new = b("tanh", b.param("W", w(size=(units, 3))) @ x + b.param("U", U) @ h + b.param("b", np.full(units, bias)))
    b.next(h, new)
    b.output("y", b.param("V", w(size=(3, units)) * 0.3) @ new + b.param("c", np.full(3, bias)))
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "s", "last")})


def classes(count: int = 60, seed: int = 4) -> Data:
    """Three classes, each a direction of the inputs, with noise; of different lengths."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = np.eye(3)[labels][:, None] + rng.normal(0, 0.7, (count, 5, 3))
    return Data({"x": x.astype(np.float32)}, rng.integers(2, 6, count), labels)


@pytest.fixture(scope="module")
def tuned() -> Tuned:
    return fine_tune(network(), PCM, classes(), epochs=6, lr=0.03, seed=1)


def test_it_brings_the_loss_on_unseen_samples_and_chips_down(tuned: Tuned):
    assert tuned.kept and tuned.best.loss < 0.8 * tuned.before.loss
    assert tuned.trained + tuned.held_out == 60 and len(tuned.before.by_age) == 2
    unseen = classes(seed=9)
    before, after = (
        interpret.run(p, unseen.inputs, unseen.lengths).outputs["y"].argmax(1) == unseen.labels
        for p in (network(), tuned.program)
    )
    assert after.mean() > before.mean()


def test_the_network_stays_the_same_but_for_its_numbers(tuned: Tuned):
    (old,), (new,) = network().stages, tuned.program.stages
    assert new.graph.values == old.graph.values and new.graph.states == old.graph.states
    assert {n: p.type for n, p in new.graph.params.items()} == {n: p.type for n, p in old.graph.params.items()}
    np.testing.assert_array_equal(new.graph.params["U"].data == 0, old.graph.params["U"].data == 0)
    assert all(not np.array_equal(new.graph.params[n].data, old.graph.params[n].data) for n in old.graph.params)


def test_the_same_seed_gives_the_same_bits_whatever_the_number_of_threads(tuned: Tuned):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        threads = []
        again = fine_tune(
            network(),
            PCM,
            classes(),
            epochs=6,
            lr=0.03,
            seed=1,
            progress=lambda _: threads.append(torch.get_num_threads()),
        )
        assert torch.get_num_threads() == 2 and set(threads) == {1}
    finally:
        torch.set_num_threads(before)
    assert again.record() == tuned.record()
    for name, held in tuned.program.stages[0].graph.params.items():
        np.testing.assert_array_equal(again.program.stages[0].graph.params[name].data, held.data)
    assert fine_tune(network(), PCM, classes(), epochs=1, lr=0.03, seed=2).epochs[0] != tuned.epochs[0]


def test_a_network_that_training_does_not_better_is_given_back():
    program, data = network(), classes()
    found = fine_tune(program, PCM, data, epochs=1, lr=30.0)
    assert not found.kept and found.program is program and found.best == found.before


def test_a_build_is_of_the_tuned_network_and_says_what_tuning_brought(tuned: Tuned):
    data = classes()
    made = compiler.compile(network(), PCM, data, fine_tune=2)
    manifest = made.artifact.manifest
    figures = {f["name"]: f for f in manifest["figures"] if f["name"].startswith("fine_tuning.")}
    best = manifest["fine_tune"]["epochs"][manifest["fine_tune"]["epoch"]]
    assert manifest["fine_tune"]["kept"] and figures["fine_tuning.after"]["value"] == round(100 * best["accuracy"], 2)
    assert figures["fine_tuning.before"]["unit"] == "%"
    assert not np.array_equal(made.source.stages[0].graph.params["W"].data, network().stages[0].graph.params["W"].data)
    again = fine_tune(network(), PCM, data, epochs=2)
    np.testing.assert_array_equal(
        made.source.stages[0].graph.params["W"].data, again.program.stages[0].graph.params["W"].data
    )
    assert not tuned.warnings
    nothing = fine_tune(network(), PCM, data, epochs=1, lr=30.0)
    assert "gave no better network in 1 epochs" in nothing.warnings[0]
    with pytest.raises(DataError, match="fine-tuning needs samples with classes or targets; none given"):
        compiler.compile(network(), IDEAL, fine_tune=2)
    with pytest.raises(UsageError, match="the option 'fine_tune' is for spikes in snnTorch and crossbars"):
        compiler.compile(network(), "host", data, fine_tune=2)


def test_targets_are_learnt_by_squared_error():
    data = classes()
    golden = interpret.run(network(seed=8), data.inputs, data.lengths).outputs["y"]
    found = fine_tune(network(), PCM, replace(data, labels=golden), epochs=3, lr=0.03, ages=(0.0,))
    assert found.before.accuracy is None and found.best.loss < 0.9 * found.before.loss


@pytest.mark.parametrize("noisy", [True, False])
def test_a_drawn_product_is_the_chips_own_with_the_gradient_of_its_weights(noisy: bool):
    data, target = classes(), PCM
    if not noisy:
        quiet = PCM.device.model_copy(update={"programming": None, "drift": None, "read_noise": None})
        target = PCM.model_copy(update={"device": quiet})
    made = compiler.compile(network(), target, data)
    target, matrices = described(made.artifact)
    chips = Chips(made.program, matrices, target, range(2), 4, 0)
    chips.age(31_536_000.0)
    analog = max(chips.analog["s"].values(), key=lambda a: a.matrix.inputs)
    x = np.random.default_rng(0).normal(size=(8, analog.matrix.inputs)).astype(np.float32)
    tensor = torch.from_numpy(x).requires_grad_()
    weight = torch.zeros(analog.matrix.outputs, analog.matrix.inputs, requires_grad=True)
    y = _product(analog)(weight, tensor)
    np.testing.assert_array_equal(y.detach().numpy(), analog([x, x]))
    y.sum().backward()
    assert tensor.grad is not None and weight.grad is not None
    np.testing.assert_allclose(weight.grad, np.tile(x.sum(axis=0), (len(weight), 1)), rtol=1e-5, atol=1e-5)
    exact = tiles.weights(made.program, analog.matrix).sum(axis=0)
    if noisy:  # the weights as they act, in the input's own unit: what a small step of each input changes
        assert not np.allclose(tensor.grad[0], exact, rtol=0.01)
        free = target.model_copy(
            update={k: getattr(target, k).model_copy(update={"bits": None}) for k in ("dac", "adc")}
        )
        linear = Chips(made.program, matrices, free, range(2), 4, 0)
        linear.age(31_536_000.0)
        same = linear.analog["s"][analog.matrix.value]
        for k in range(analog.matrix.inputs):
            step = np.zeros_like(x)
            step[:, k] = 1.0
            np.testing.assert_allclose(same([step, step]).sum(axis=1), tensor.grad[:, k], rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_allclose(tensor.grad, np.tile(exact, (8, 1)), rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------------------------------- what can't be


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"lr": 0.0}, {"validation": 1.0}, {"ages": ()}, {"ages": (-1.0,)}, {"epochs": 2.5}]
)
def test_options_that_cannot_be_are_said(options: dict[str, Any]):
    with pytest.raises(UsageError, match="fine-tuning: .*needed"):
        fine_tune(network(), PCM, classes(), **options)


def test_data_and_programs_that_cannot_be_are_said():
    with pytest.raises(DataError, match="needs classes or targets"):
        fine_tune(network(), PCM, replace(classes(), labels=None))
    with pytest.raises(DataError, match="'y' runs 0..7"):
        fine_tune(network(), PCM, replace(classes(), labels=np.arange(60) % 8))
    native = compiler.compile(network(), IDEAL, classes(), numerics="native").program
    with pytest.raises(UnsupportedError, match="numerics are 'native'; fine-tuning takes the float program"):
        fine_tune(native, PCM, classes())
    case = CASES["hopfield"]
    labels = np.zeros((len(next(iter(case.inputs.values()))), 1), np.float32)
    with pytest.raises(UnsupportedError, match="driven 'until'"):
        fine_tune(case.program, IDEAL, Data(case.inputs, case.lengths, labels))


def test_a_network_that_passes_no_gradient_is_refused():
    b = Builder()
    x = b.input("x", (3,))
    b.output("y", b("cast", b("lt", b.param("W", np.eye(3)) @ x, 0.0), to="f32"))
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    program = Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref("y", "s", "last")})
    with pytest.raises(UnsupportedError, match="by comparisons and rounding only, which pass no gradient"):
        fine_tune(program, IDEAL, classes(), epochs=1)
