"""C and TensorFlow Lite Micro side by side in the report, and what a build's numerics lost."""

import numpy as np
import pytest

from neurodeploy.artifact import Figure
from neurodeploy.ir.build import Builder
from neurodeploy.ir.cost import widths
from neurodeploy.ir.graph import Param, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.report import view_micro
from neurodeploy.validate import output_error
from tests.golden.report.sample import sample_builds


def program(output="y", series=True, dtype="f32"):
    b = Builder()
    x = b.input("x", [2])
    b.output("y", x if dtype == "f32" else b("cast", x, to=dtype))
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    ref = Ref("y", "main", "series" if series else "last")
    return Program("net", {"x": ProgramInput(TensorType((2,)))}, (stage,), {output: ref})


def test_only_networks_that_are_there_both_ways_are_compared():
    builds = sample_builds()
    (gru,) = view_micro.comparisons(builds)
    assert gru.model == "gru"
    assert {b.target.kind for b in gru.builds} == {"mcu", "tflite"}
    assert {b.model.sha256 for b in gru.builds} == {gru.builds[0].model.sha256}
    assert not view_micro.comparisons([b for b in builds if b.target.kind != "tflite"])
    apart = [b if b.target.kind != "tflite" else b.model_copy(update={"model": builds[0].model.model_copy(
        update={"sha256": "9" * 64})}) for b in builds]  # fmt: skip
    assert not view_micro.comparisons(apart)


def test_a_row_holds_the_figure_of_each_kind_of_build():
    (found,) = view_micro.comparisons(sample_builds())
    lines = {line.title: line for line in found.lines}
    for title, names in (("Flash: code, tables and weights, or the .tflite file", {"flash", "tflite_bytes"}),
                         ("RAM: state, inputs, outputs and scratch, or the arena", {"ram", "arena_bytes"})):  # fmt: skip
        figures = [figure for _, figure in lines[title].cells]
        assert {f.name for f in figures if f} == names
        for build, (told, figure) in zip(found.builds, lines[title].cells, strict=True):
            assert figure is not None and figure in build.all_figures()
            assert told == f"{figure.value:,}"
    assert lines["Agreement with the golden model"].cells[0][0] == "5,687 of 5,687 steps bit-exact"
    assert "Stack" in lines and None in [figure for _, figure in lines["Stack"].cells]


def test_a_looser_promise_is_told_as_such():
    builds = sample_builds()
    for i, build in enumerate(builds):
        if build.target.kind == "tflite":
            near = (
                build.runs[0]
                .agreement[0]
                .model_copy(
                    update={
                        "equality": "close(1e-05)",
                        "bit_exact": 0,
                        "max_difference": 2e-6,
                        "difference_unit": "absolute",
                    }
                )
            )
            builds[i] = build.model_copy(update={"runs": [build.runs[0].model_copy(update={"agreement": [near]})]})
    (found,) = view_micro.comparisons(builds)
    line = next(line for line in found.lines if line.title.startswith("Agreement"))
    assert line.cells[-1][0] == "all within 2e-06 of golden: holds"


def test_the_output_error_is_relative_and_the_worst_outputs():
    p = program()
    plain = {"y": np.array([[[3.0, 4.0], [9.0, 9.0]]], np.float32)}
    got = {"y": np.array([[[3.0, 4.5], [0.0, 0.0]]], np.float32)}
    found = output_error(p, got, plain, np.array([1]), "tflm")
    assert (found.value, found.unit, found.how) == (10.0, "%", "measured")
    whole = output_error(p, got, plain, None, "crossbar")
    assert whole.value is not None
    assert abs(whole.value - 100 * np.sqrt((0.25 + 162) / 187)) < 0.1
    assert whole.how == "simulated"


@pytest.mark.parametrize(
    ("got", "plain"),
    [
        (np.ones((1, 2, 2), np.float32), np.ones((1, 3, 2), np.float32)),
        (np.ones((1, 2, 2), np.int32), np.ones((1, 2, 2), np.int32)),
        (np.ones((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.float32)),
        (np.full((1, 2, 2), np.nan, np.float32), np.ones((1, 2, 2), np.float32)),
    ],
)
def test_an_output_error_that_means_nothing_is_unknown(got, plain):
    found = output_error(program(), {"y": got}, {"y": plain}, None, "tflm")
    assert isinstance(found, Figure)
    assert found.value is None and found.how == "unknown"


def test_widths_in_words():
    b = Builder()
    x = b.input("x", TensorType((2,), "i16", Quant(0.5)))
    h = b.state("h", TensorType((2,), "i8", Quant(0.5)))
    b.next(h, h)
    four = b.param("w", Param(TensorType((2, 2), "i8", Quant(0.5)), np.array([[7, -7], [1, 0]], np.int8)))
    b.param("v", Param(TensorType((2, 2), "i8", Quant(0.5)), np.array([[8, -7], [1, 0]], np.int8)))
    b.output("y", b("matmul", four, x))
    made = Program(
        "net",
        {"x": ProgramInput(x.type)},
        (Stage("main", b.graph(), inputs_from={"x": Ref("x")}),),
        {"y": Ref("y", "main")},
        "native",
    )
    assert widths(made) == "i4 and i8 weights, i8 states"


def test_parts_for_paper_hold_every_build_once():
    (found,) = view_micro.comparisons(sample_builds())
    parts = found.parts(2)
    assert [build for part in parts for build in part.builds] == list(found.builds)
    for i, line in enumerate(found.lines):
        assert tuple(cell for part in parts for cell in part.lines[i].cells) == line.cells
