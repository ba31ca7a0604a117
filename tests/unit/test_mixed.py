"""The search for mixed widths: within the loss, cheapest, deterministic, and honest about what it was chosen on."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import neurodeploy
from neurodeploy import mixed, mixed_front
from neurodeploy.cli import app
from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program
from neurodeploy.ir.interpret import run
from neurodeploy.ir.text import parse_program, print_program
from neurodeploy.mixed_judge import Judge, Loss, divided, flash_bytes, state_bytes
from neurodeploy.passes import make, parse
from neurodeploy.passes import run as run_passes
from tests.strategies import as_program


def network(seed: int = 0) -> Program:
    """A leaky net and its readout, with a wide-ranging input weight that few bits spoil."""
    r = np.random.default_rng(seed)
    b = Builder()
    x, h = b.input("x", [4]), b.state("h", [20])
    z = b.param("W", r.normal(size=(20, 4)) ** 3) @ x + b.param("U", r.normal(size=(20, 20)) / 5) @ h
    b.next(h, new := 0.5 * h + 0.5 * b("tanh", z))
    b.output("y", b.param("V", r.normal(size=(3, 20))) @ new)
    return as_program(b, "net")


def samples(count: int = 60, labels: bool = True, seed: int = 1) -> Data:
    x = np.random.default_rng(seed).normal(size=(count, 8, 4)).astype(np.float32)
    program = network()
    scores = run(program, {"x": x}).outputs["y"]
    return Data({"x": x}, labels=scores[:, -1].argmax(axis=1) if labels else None)


def integer(program: Program, data: Data, **options: object) -> Program:
    (calibrate,) = parse("calibrate", data)
    return run_passes(program, (calibrate, make("quantize", options, data)))


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "flash"), [
    ({}, 20 * (4 + 20) + 3 * 20 + 23 * 8),
    ({"weight_bits": 4}, 20 * (2 + 10) + 3 * 10 + 23 * 8),
    ({"weight_bits": 16}, 2 * (20 * (4 + 20) + 3 * 20) + 23 * 8),
    ({"weights": {"V": 4}}, 20 * (4 + 20) + 3 * 10 + 23 * 8),
    ({"weights": {"U": 4}}, 20 * (4 + 10) + 3 * 20 + 43 * 8),  # W and U apart: one more bias and multiplier a row
])  # fmt: skip
def test_flash_is_counted_from_the_integer_program(options: dict, flash: int):
    program = integer(network(), samples(), **options)
    assert flash_bytes(program) == flash
    assert state_bytes(program) == 40
    assert state_bytes(integer(network(), samples(), states={"h": "i8"})) == 20


def test_an_odd_row_of_four_bit_weights_ends_with_half_a_byte():
    b = Builder()
    b.output("y", b.param("W", np.random.default_rng(0).normal(size=(3, 7))) @ b.input("x", [7]))
    data = Data({"x": np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)})
    assert flash_bytes(integer(as_program(b, "odd"), data, weight_bits=4)) == 3 * (4 + 8)


# -- loss --------------------------------------------------------------------------------------------------------------


class Shifted(Judge):
    """A judge whose integer program gives what it is told."""

    def __init__(self, scores: np.ndarray, found: np.ndarray, classes: np.ndarray) -> None:
        b = Builder()
        b.output("y", b.input("x", [scores.shape[1]]) * 1.0)
        super().__init__(as_program(b, "given"), Data({"x": scores[:, None]}, labels=classes))
        self.found = Data({"x": found[:, None].astype(np.float32)})

    def loss(self):
        self.data = replace(self.data, inputs=self.found.inputs)
        return self(self.source)


def test_an_answer_gained_makes_up_for_none_lost():
    scores = np.array([[9, 0], [2, 0], [0, 2], [2, 0]], np.float32)
    classes = np.array([0, 0, 1, 1])  # the last one is wrong in float
    found = np.array([[9, 0], [0, 2], [0, 2], [0, 2]], np.float32)  # the second is lost, the last gained
    loss = Shifted(scores, found, classes).loss()
    assert loss.measured == 0
    assert loss.value == 25.0


def test_errors_are_tried_on_the_others_of_the_class():
    scores = np.array([[1, 0], [9, 0], [0, 5], [0, 5]], np.float32)
    found = np.array([[1, 0], [5, 0], [0, 5], [0, 5]], np.float32)  # an error of 4 where the margin is 9
    loss = Shifted(scores, found, np.array([0, 0, 1, 1])).loss()
    assert loss.measured == 0
    assert loss.value == pytest.approx(100 / 8)  # it would have cost the first sample its answer: 1 pair of 2, of 4


def test_without_classes_the_loss_is_the_output_error():
    program, data = network(), samples(labels=False)
    judge = Judge(program, data)
    coarse, fine = (judge(integer(program, data, weight_bits=b)) for b in (4, 16))
    assert coarse.value == coarse.rmse > 10 * fine.rmse > 0
    assert judge.measure == "output error, % of range"
    assert judge.float_accuracy is None


def test_steps_after_a_samples_end_do_not_count():
    program, data = network(), samples(labels=False)
    short = replace(data, lengths=np.full(data.samples, 3))
    cut = Data({"x": data.inputs["x"][:, :3]})
    made = integer(program, data, weight_bits=4)
    assert Judge(program, short)(made).rmse == pytest.approx(Judge(program, cut)(made).rmse, rel=0.05)
    assert Judge(program, data)(made).rmse != Judge(program, cut)(made).rmse


def test_a_quarter_of_every_class_is_held_out():
    labels = np.arange(48) % 4
    data = Data({"x": np.arange(48.0)[:, None]}, np.arange(48), labels)
    chosen, held = divided(data, labels)
    assert held is not None
    assert held.labels is not None
    assert np.bincount(held.labels).tolist() == [3, 3, 3, 3]
    assert sorted([*chosen.inputs["x"].ravel(), *held.inputs["x"].ravel()]) == list(range(48))
    np.testing.assert_array_equal(held.lengths, held.inputs["x"].ravel())
    assert divided(data.first(15), labels[:15])[1] is None


# -- search ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limit() -> float:
    """A loss that lies between that of 8 and of 4 bits everywhere."""
    return 1.0


@pytest.fixture(scope="module")
def every_mix() -> list[tuple[int, float]]:
    """Flash and loss of all 27 mixes, by brute force."""
    program, (chosen, _) = network(), divided(samples(labels=False), None)
    judge = Judge(program, chosen)
    mixes = (integer(program, chosen, weights=dict(zip("WUV", w, strict=True))) for w in product((4, 8, 16), repeat=3))
    return [(flash_bytes(made), judge(made).value) for made in mixes]


@pytest.mark.parametrize("allowed", [0.01, 0.1, 0.15, 0.3, 0.6, 1.0, 2.0])
def test_the_chosen_mix_is_the_cheapest_of_all_that_are_within(allowed: float, every_mix: list[tuple[int, float]]):
    front = mixed.search(network(), samples(labels=False), allowed)
    assert (front.chosen.flash, front.chosen.loss.value) == min(m for m in every_mix if m[1] <= allowed)
    assert front.evaluations < 27


def test_a_limit_between_two_uniform_widths_asks_for_a_mix(limit: float):
    assert len(set(mixed.search(network(), samples(labels=False), limit).chosen.widths.values())) > 1


def test_a_search_says_the_same_again_and_stays_within_its_evaluations(limit: float):
    program, data = network(), samples(labels=False)
    lines: list[str] = []
    assert mixed.search(program, data, limit) == mixed.search(program, data, limit, progress=lines.append)
    assert any(line.startswith("mix 1 of at most 200: ") for line in lines)
    short = mixed.search(program, data, limit, evaluations=5)
    assert short.evaluations <= 5
    assert short.chosen.loss.value <= limit


class Table:
    """Three tensors whose savings and losses add up, in place of programs that are run."""

    minimise = "flash"
    spent = False
    tensors = tuple(mixed.Tensor(name, "weight", (8, 4)) for name in "abc")
    saved, lost = (10, 6, 6), (0.6, 0.5, 0.5)

    def __init__(self) -> None:
        self.known: dict = {}

    def __call__(self, choice: tuple) -> mixed.Mix:
        few = [width == 4 for width in choice]
        loss = sum(x for x, narrow in zip(self.lost, few, strict=True) if narrow)
        flash = 100 - sum(x for x, narrow in zip(self.saved, few, strict=True) if narrow)
        named = dict(zip("abc", choice, strict=True))
        return self.known.setdefault(choice, mixed.Mix(named, flash, 0, Loss(loss, loss, loss**0.5)))


def test_two_small_savings_are_exchanged_for_a_large_one():
    bench = Table()
    greedy = mixed._narrowed(bench, (8, 8, 8), 1.0)  # type: ignore[arg-type]
    assert greedy == (4, 8, 8)  # a tells least for its bytes; beside it neither b nor c fits
    assert mixed._exchanged(bench, greedy, 1.0) == (8, 4, 4)  # type: ignore[arg-type]


def test_no_mix_of_the_front_beats_another(limit: float):
    front = mixed.search(network(), samples(labels=False), limit)
    axes = [(m.flash, m.loss.value, m.loss.rmse) for m in front.mixes]
    assert front.chosen in front.mixes
    assert axes == sorted(axes)
    for a in axes:
        assert not any(b != a and all(q <= p for p, q in zip(a, b, strict=True)) for b in axes)


def test_the_reported_loss_is_of_samples_that_nothing_was_chosen_by(limit: float):
    program, data = network(), samples(labels=False)
    data.inputs["x"][3::4] *= 9  # those held out need other ranges
    front = mixed.search(program, data, limit)
    chosen, held = divided(data, None)
    assert held is not None
    made = integer(program, chosen, **front.options)
    assert front.held_out == Judge(program, held)(made)
    assert (front.samples, front.held_out_samples) == (45, 15)
    assert mixed.search(program, data.first(12), limit).held_out is None


def test_nothing_within_the_loss_is_refused_with_the_least():
    with pytest.raises(UsageError, match=r"no widths lose as little as 1e-06 \(output error.*--max-loss 0\.0\d"):
        mixed.search(network(), samples(labels=False), 1e-6)


def test_wider_weights_are_taken_where_eight_bits_lose_too_much():
    front = mixed.search(network(), samples(labels=False), 0.1)
    assert 16 in front.chosen.widths.values()
    assert front.chosen.loss.value <= 0.1


def test_states_are_narrowed_to_save_ram():
    front = mixed.search(network(), samples(labels=False), 5.0, minimise="ram")
    assert dict(front.chosen.widths) == {"main.h": "i8"}
    assert front.chosen.ram == 20
    tight = mixed.search(network(), samples(labels=False), front.chosen.loss.value * 0.9, minimise="ram")
    assert dict(tight.chosen.widths) == {"main.h": "i16"}


def test_named_widths_stay_as_they_are(limit: float):
    front = mixed.search(network(), samples(labels=False), limit, options={"weights": {"V": 8}})
    assert {t.name for t in front.tensors} == {"main.W", "main.U"}
    assert front.options["weights"]["V"] == 8


@pytest.mark.parametrize(("arguments", "message"), [
    ({"max_loss": -1.0}, "max_loss is -1.0; needed 0 or more."),
    ({"max_loss": float("nan")}, "max_loss is nan"),
    ({"minimise": "flsh"}, "Did you mean 'flash'?"),
    ({"options": {"weights": {"Q": 4}}}, "option 'weights': names 'Q'"),
])  # fmt: skip
def test_a_search_that_can_not_be_is_refused(arguments: dict, message: str):
    with pytest.raises(UsageError) as caught:
        mixed.search(network(), samples(), **{"max_loss": 1.0, **arguments})
    assert message in str(caught.value)


# -- builds ------------------------------------------------------------------------------------------------------------


def test_a_build_carries_its_front_and_runs_the_chosen_mix(limit: float, tmp_path: Path):
    data = samples(labels=False)
    built = neurodeploy.compile(network(), "host", data, max_loss=limit, costs=False).save(tmp_path / "built")
    found = json.loads((tmp_path / "built" / "front.json").read_text())
    assert found["chosen"] in found["front"]
    assert built.artifact.manifest["mixed"]["chosen"] == found["chosen"]
    text = built.artifact.manifest["quantize"]
    again = integer(network(), data, **vars_of(text))
    assert print_program(built.program).split("stage")[1] == print_program(again).split("stage")[1]
    assert flash_bytes(built.program) == found["chosen"]["flash"]
    page = (tmp_path / "built" / "front.md").read_text()
    assert page.count("\n| ") == len(found["front"]) + 1
    assert "| chosen |" in page
    picture = ElementTree.fromstring((tmp_path / "built" / "front.svg").read_text())
    assert len(picture.findall("{*}circle")) == len(found["front"])


def vars_of(text: str) -> dict:
    from neurodeploy.passes import options

    return options("quantize", text.removeprefix("quantize{").removesuffix("}"))


def test_what_was_lost_on_held_out_samples_is_warned_of(limit: float):
    front = mixed.search(network(), samples(), 50.0)
    assert front.held_out is not None
    assert any("gets every sample right" in w for w in mixed_front.warnings(front))
    lossy = replace(front, held_out=replace(front.held_out, measured=60.0), float_accuracy=90.0)
    (warning,) = mixed_front.warnings(lossy)
    assert warning.startswith(
        "mixed widths: 60.00 points of accuracy are lost on 15 samples held out, 50 were allowed."
    )


@pytest.mark.parametrize(("target", "options", "message"), [
    ("host", {"numerics": "float"}, "'float' numerics on the backend 'c' takes no max_loss"),
    ("tflm", {}, "'tflite' numerics on the backend 'tflite' takes no max_loss"),
])  # fmt: skip
def test_numerics_without_widths_are_refused(target: str, options: dict, message: str):
    with pytest.raises(UsageError) as caught:
        neurodeploy.compile(network(), target, samples(), max_loss=1.0, costs=False, **options)
    assert message in str(caught.value)


def test_the_command_line_shows_the_front_and_takes_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    program, data = network(), samples()
    from neurodeploy.ir.text import to_files

    for name, content in to_files(program, "net").items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "data.npz", x=data.inputs["x"], y=np.asarray(data.labels))
    common = ["compile", str(tmp_path / "net.nd"), "-t", "host", "-d", str(tmp_path / "data.npz"), "--no-costs"]
    assert app([*common, "--max-loss", "5", "-o", str(tmp_path / "mixed")]) == 0
    said = capsys.readouterr().out
    assert "at most 5; least flash first" in said
    assert "chosen" in said
    assert "samples held out" in said
    once = ["--quantize", 'weight_bits=4,weights={"V": 8}']
    apart = ["--quantize", "weight_bits=4", "--quantize", 'weights={"V": 8}']
    for name, given in {"apart": apart, "given": once}.items():
        assert app([*common, *given, "-o", str(tmp_path / name)]) == 0
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["quantize"] == 'quantize{weight_bits=4,weights={"V": 8}}'
    assert parse_program((tmp_path / "given" / "program.nd").read_text(), given_params(tmp_path)).numerics == "native"


@pytest.mark.parametrize("option", [["--max-loss", "1"], ["--quantize", "weight_bits=4"]])
def test_all_boards_at_once_take_no_widths(option: list[str], tmp_path: Path):
    from neurodeploy.ir.text import to_files

    for name, content in to_files(network(), "net").items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match="--all-boards takes no --quantize and no --max-loss"):
        app(["compile", str(tmp_path / "net.nd"), "--all-boards", *option])


def given_params(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "given" / "program.npz") as archive:
        return {key: archive[key] for key in archive.files}
