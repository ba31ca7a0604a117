"""A spiking build's pictures: their data are those of what ran, and every format tells them."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from neurodeploy.artifact import SCHEMA_VERSION, Artifact, Figure
from neurodeploy.compiler import Built
from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.ir import interpret, text
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.report import build_report, conversion, plots_conversion, read_report, view, words
from neurodeploy.report.activity import of_sample
from neurodeploy.report.records import build_of, save_run
from neurodeploy.report.schema import Build, Run, digest
from neurodeploy.report.schema_spiking import Decision, Population
from neurodeploy.spiking.net import SpikingNet, simulate
from neurodeploy.spiking.net_program import program_of
from neurodeploy.validate import validate
from tests.golden.report import sample
from tests.unit.test_net import blank, random_net

TRIED = [
    {"ticks": 2, "spikes": 300.0, "accuracy": 0.5, "rmse": 0.4, "float_accuracy": 0.75},
    {"ticks": 3, "spikes": 420.5, "accuracy": 0.75, "rmse": 0.2, "float_accuracy": 0.75},
]


def artifact_of(program: Program, source: Program, layout: dict, **files: bytes) -> Artifact:
    manifest = {
        "schema": SCHEMA_VERSION, "name": "lively", "backend": "brian2", "target": "brian2-lsm", "numerics": "native",
        "equality": "exact", "layout": layout,
    }  # fmt: skip
    parts = {**text.to_files(program, "program"), **text.to_files(source, "source")}
    return Artifact("lively", "brian2", "brian2-lsm", {**parts, **files}, manifest)


def net_build(net: SpikingNet, **files: bytes) -> Artifact:
    source = blank(5)
    layout = {"method": "rate", "ticks": net.ticks, "tried": TRIED}
    program = program_of(net, source, "main", "x", "y", {})
    return artifact_of(program, source, layout, **{"net.npz": net.to_bytes(), **files})


def some_data(seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    return Data(
        {"x": rng.normal(0, 1, (4, 9, 5)).astype(np.float32)},
        np.array([7, 9, 3, 9]),
        rng.integers(0, 4, 4),
        "made up",
        "0" * 64,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("builds") / "lively"
    artifact = net_build(random_net(3))
    artifact.save(folder)
    save_run(folder, validate(Built(artifact, folder), some_data(), on="golden").run)
    return folder


def test_the_record_holds_the_first_samples_spikes(saved: Path):
    net, data = random_net(3), some_data()
    run = build_report([saved]).builds[0].runs[0]
    activity = run.activity
    assert activity is not None and run.intact
    x = np.clip(np.rint(data.inputs["x"][:1] / net.in_scale), -32768, 32767)
    truth = simulate(net, x, np.arange(9)[None] < 7, raster=True)
    assert truth.raster is not None and (activity.frames, activity.ticks, activity.unit) == (7, 3, "spikes")
    for population, (name, start, stop) in zip(activity.populations, net.populations, strict=True):
        assert (population.name, population.size) == (name, stop - start)
        assert population.shown == list(range(stop - start))
        for row, events in enumerate(population.events):
            assert events == np.flatnonzero(truth.raster[0, :21, start + row]).tolist()
        # seven frames are few: a bin is a third of a frame here
        assert activity.bin_ticks == 1
        np.testing.assert_allclose(population.rates, truth.raster[0, :21, start:stop].mean(axis=1), atol=1e-4)
        assert population.total == truth.counts[0, :, start:stop].sum()
    assert sum(len(events) for p in activity.populations for events in p.events) == truth.counts.sum() > 30


def test_a_net_of_many_neurons_is_thinned_but_its_rates_are_of_all():
    net = random_net(5, n=300, populations=[("positive", 100), ("negative", 200)])
    found = of_sample(net_build(net), text.from_files(net_build(net).files, "program"), some_data().inputs, None, 2)
    assert found is not None and found.sample == 2
    assert [(p.size, len(p.shown), p.shown[0], p.shown[-1]) for p in found.populations] == [
        (100, 40, 0, 99), (200, 80, 0, 199),
    ]  # fmt: skip
    x = np.rint(some_data().inputs["x"][2:3] / net.in_scale)
    counts = simulate(net, x, np.ones((1, 9), bool)).counts[0]
    assert found.bin_ticks == net.ticks
    np.testing.assert_allclose(found.populations[1].rates, counts[:, 100:].mean(axis=1), atol=1e-4)


def levels_program(levels: int = 3) -> Program:
    """``k' = round(levels x)``, sent; the output adds up what arrives."""
    b = Builder()
    x = b.input("x", TensorType((5,), "i16", Quant(1 / 1024)))
    old = b.state("old", (5,), dtype="i8")
    level = b("requantize", x, b.param("m", np.array(levels << 22, np.int32)), pre=0, to="i8")
    b.next(old, level)
    b.output("y", b("add", b.param("W", np.ones((4, 5), np.int8)) @ level, b.param("c", np.arange(4, dtype=np.int32))))
    stage = Stage("main", b.graph(), Drive("forward"), {"x": Ref("x")})
    meta = {"spiking": {"sent": {"main": [level.name]}}}
    inputs = {"x": ProgramInput(stage.graph.inputs["x"])}
    return Program("levels", inputs, (stage,), {"y": Ref("y", "main")}, numerics="native", meta=meta)


def test_a_step_programs_graded_events_add_up_to_its_levels():
    program, data = levels_program(), some_data()
    artifact = artifact_of(program, blank(5), {"method": "sigma-delta", "levels": 3})
    found = of_sample(artifact, program, data.inputs, data.lengths)
    assert found is not None and (found.unit, found.frames, found.ticks) == ("graded events", 7, 1)
    (population,) = found.populations
    assert population.sizes is not None
    seen: list[np.ndarray] = []
    one = {"x": data.inputs["x"][:1]}
    name = program.meta["spiking"]["sent"]["main"][0]
    interpret.run(program, one, np.array([7]), observe=lambda s, n, a, on: seen.append(a[0]) if n == name else None)
    levels = np.array(seen, dtype=np.int64)[:7]
    assert np.ptp(levels) >= 3
    rebuilt = np.zeros((7, 5), np.int64)
    for unit, (ticks, sizes) in enumerate(zip(population.events, population.sizes, strict=True)):
        rebuilt[ticks, unit] = sizes
    assert np.array_equal(rebuilt.cumsum(axis=0), levels)


def test_other_builds_have_no_pictures():
    assert of_sample(artifact_of(blank(5), blank(5), {}), blank(5), some_data().inputs, None) is None
    assert conversion.of_build(artifact_of(blank(5), blank(5), {"ram": 3})) is None


def test_settings_tried_are_told_with_the_chosen_one(saved: Path):
    spiking = build_report([saved]).builds[0].spiking
    assert spiking is not None and spiking.tried is not None
    assert [(t.setting, t.events, t.accuracy, t.error, t.chosen) for t in spiking.tried.trials] == [
        ("ticks 2", 300.0, 0.5, 0.4, False), ("ticks 3", 420.5, 0.75, 0.2, True),
    ]  # fmt: skip
    assert (spiking.tried.float_accuracy, spiking.tried.error) == (0.75, "RMSE")
    levels = [{"levels": 8, "nrmse": 0.1, "accuracy": None, "float_accuracy": None, "events": 33}]
    only_error = conversion.of_build(
        artifact_of(blank(5), blank(5), {"method": "sigma-delta", "levels": 8, "tried": levels})
    )
    assert only_error is not None and only_error.tried is not None
    assert "Error (NRMSE) of 1 settings" in str(plots_conversion.settings(only_error.tried))
    with pytest.raises(UsageError, match=r"layout\.tried: needed a list of objects"):
        build_report([artifact_of(blank(5), blank(5), {"method": "rate", "tried": [3]})])


def decided(saved: Path, tmp_path: Path) -> Path:
    """The build again, its run with an accuracy over time."""
    folder = tmp_path / "decided"
    shutil.copytree(saved, folder)
    run = build_report([saved]).builds[0].runs[0]
    decision = Decision(frame=[1, 2, 3], accuracy=[0.25, 0.5, 0.625], spikes=[40.0, 81.5, 1234.0], steps=[1.0, 2.0, 2.5],
                        energy={"loihi": [(1.0, 2.0), (2.5, 4.0), (30.0, 40.0)]})  # fmt: skip
    save_run(folder, run.model_copy(update={"decision": decision}))
    return folder


def test_every_format_tells_the_pictures_numbers(saved: Path, tmp_path: Path):
    report = build_report([decided(saved, tmp_path)])
    page, text_ = report.render(".html"), report.render(".md")
    for title in (
        "Raster",
        "Rates",
        "Accuracy against time",
        "Accuracy against spikes",
        "Accuracy against energy",
        "Settings tried",
    ):
        assert page.count(f"<b>{title}</b>") == 1
    figures = re.findall(r"<figure class=\"k-spiking\">.*?</figure>", page, re.S)
    assert len(figures) == 6
    for figure in figures:
        assert re.search(r'aria-label="[^"]{20,}"', figure) and re.search(
            r'class="badge h-(simulated|estimated)"', figure
        )
        assert len(re.findall(r'<text class="name"', figure)) == 2 and re.search(
            r'<p class="fine told">.{30,}</p>', figure
        )
    assert "after frame 2: 50.00 %, 81.5 spikes" in page
    assert "| 2 | 50.00 % | 81.5 | 2.5 to 4 |" in text_ and "| ticks 3 (chosen) | 420.5 | 75.00 % | 0.2 |" in text_
    sentence = re.search(r"Sample 0: ([\d,]+) spikes", text_)
    assert sentence is not None
    assert sentence[0] in page
    events = report.builds[0].runs[0].activity
    assert events is not None
    assert int(sentence[1].replace(",", "")) == sum(len(e) for p in events.populations for e in p.events)
    path = report.write(tmp_path / "r.json")
    assert read_report(path) == report
    drawn = re.search(r'<path class="spikes k-spiking" d="([^"]*)"', figures[0])
    assert drawn is not None
    assert drawn[1].count("M") == sum(len(e) for e in events.populations[0].events)


def test_seals_of_records_without_pictures_stay_good():
    """A record sealed before a run could hold an activity or a decision: the digest is over the fields it has."""
    run = Run(runner="golden", when="2020-01-02 03:04 UTC", where="here").sealed()
    older = {k: v for k, v in run.model_dump(mode="json", by_alias=True).items()
             if k not in ("activity", "decision", "sweeps", "attribution", "repair", "seal")}  # fmt: skip
    assert run.seal == digest(older)
    assert (
        run.model_copy(update={"decision": Decision(frame=[1], accuracy=[1.0], spikes=[2.0], steps=[1.0])}).intact
        is False
    )


@pytest.mark.parametrize(
    "broken",
    [
        lambda: Decision(frame=[1, 2], accuracy=[0.5], spikes=[1.0, 2.0], steps=[1.0, 2.0]),
        lambda: Decision(frame=[1], accuracy=[0.5], spikes=[1.0], steps=[1.0], energy={"loihi": []}),
        lambda: Population(name="a", size=2, total=2, rates=[1.0], shown=[0], events=[]),
        lambda: Population(name="a", size=2, total=2, rates=[1.0], shown=[0], events=[[1, 2]], sizes=[[1]]),
    ],
)
def test_data_that_dont_fit_together_are_refused(broken):
    with pytest.raises(ValueError, match="one accuracy|one row"):
        broken()


def arrays(**given) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **given)
    return buffer.getvalue()


def tuned(error) -> bytes:
    z = np.linspace(-1, 1, 5)[:, None] * np.ones(3)
    unit = np.array([0, 1, 1, 2])
    rates = np.arange(20.0).reshape(5, 4)
    return arrays(z=z, rates=rates, f=np.tanh(z), decoded=z, error=np.array(error), unit=unit)


def test_tuning_curves_are_of_the_unit_with_the_median_error():
    layout = {"method": "rate"}
    found = conversion.of_build(artifact_of(blank(5), blank(5), layout, **{"tuning.npz": tuned([0.3, 0.2, 0.1])}))
    assert found is not None and found.tuning is not None
    assert (found.tuning.unit, found.tuning.neurons, found.tuning.errors) == (1, 4, [0.3, 0.2, 0.1])
    assert found.tuning.rates == [[1.0, 5.0, 9.0, 13.0, 17.0], [2.0, 6.0, 10.0, 14.0, 18.0]]
    page = build_report([artifact_of(blank(5), blank(5), layout, **{"tuning.npz": tuned([0.3, 0.2, 0.1])})]).render(
        ".html"
    )
    assert "Tuning curves of the 2 neurons of unit 1: rates of up to 18 spikes a step" in page
    assert "Decoder error of 3 units: median 0.2, largest 0.3." in page
    assert "Decoded activation of unit 1: at most 0.238 from the wanted one." in page
    for broken in (b"no archive", arrays(z=np.zeros(3))):
        with pytest.raises(UsageError, match=r"tuning\.npz can't be read"):
            build_report([artifact_of(blank(5), blank(5), layout, **{"tuning.npz": broken})])


def test_spectra_are_drawn_around_the_unit_circle():
    file = arrays(
        reservoir_eigenvalues=np.array([0.5 + 0.5j, 0.5 - 0.5j]), liquid_eigenvalues=np.array([0.9, -0.3 + 0j])
    )
    page = build_report(
        [artifact_of(blank(5), blank(5), {"method": "liquid-state-machine"}, **{"liquid.npz": file})]
    ).render(".html")
    assert "2 eigenvalues of the reservoir, largest 0.707 in size; 2 of the liquid, largest 0.900." in page
    drawn = re.search(r"<b>Spectrum</b>.*?</figure>", page, re.S)
    assert drawn is not None and drawn[0].count('class="hollow"') == 2 and drawn[0].count('class="mark') == 2


def test_settings_of_every_conversion_are_read():
    rate = {
        "method": "rate", "score": "accuracy, %", "float_score": 98.0,
        "chosen": {"pieces": 2, "ticks_a_frame": 3},
        "tried": [{"pieces": n, "ticks_a_frame": 3, "ticks": 40.0 + n, "spikes": 10.0 * n, "score": 90.0 + n,
                   "state_error": 0.1, "beta": 1.0} for n in (1, 2)],
    }  # fmt: skip
    liquid = {
        "method": "liquid-state machine", "fit": {"metric": "accuracy", "ticks": 8, "penalty": 7.0, "tried": [
            {"ticks": n, "penalty": 0.1, "score": 0.5 + n / 100, "spikes": 5.0} for n in (4, 8)]},
    }  # fmt: skip
    told = []
    for layout in (rate, liquid):
        found = conversion.of_build(artifact_of(blank(5), blank(5), layout))
        assert found is not None and found.tried is not None
        told.append((found.tried.float_accuracy, [(t.setting, t.accuracy, t.chosen) for t in found.tried.trials]))
    assert told[0] == (0.98, [("pieces 1", pytest.approx(0.91), False), ("pieces 2", pytest.approx(0.92), True)])
    assert told[1] == (None, [("ticks 4", pytest.approx(0.54), False), ("ticks 8", pytest.approx(0.58), True)])


def energies() -> list[Figure]:
    unit = "nJ/inference"
    return [
        Figure("energy.loihi.low", 12.5, unit, "estimated", "a"), Figure("energy.loihi.high", 34, unit, "estimated", "b"),
        Figure("energy.dense", 20.0, unit, "estimated", "c"), Figure.unknown("energy.loihi-2", unit, "nothing published"),
        Figure("spikes", 80, "spikes/inference", "simulated", "d"),
    ]  # fmt: skip


def test_both_ends_of_an_energy_share_a_row_beside_a_boards(saved: Path):
    spiking = build_report([saved]).builds[0].model_copy(update={"figures": energies()})
    board = sample.sample_builds()[0]
    rows = {row.title: row for group in view.table([board, spiking]) for row in group.rows}
    assert [words.cell(cell) for cell in rows["Energy on loihi"].cells] == [[], [("12.5 to 34", energies()[0])]]
    assert words.cell(rows["Energy of the network without spikes"].cells[1])[0][0] == "20"
    assert words.cell(rows["Energy on loihi-2"].cells[1])[0][0] == "unknown"
    report = build_report([board, spiking])
    assert ">12.5 to 34 <" in report.render(".html") and "12.5 to 34 (estimated)" in report.render(".md")
    titles = [row.title for group in view.table([board, spiking]) for row in group.rows]
    assert titles.index("Spikes") < titles.index("Energy on loihi")


def test_energies_by_chip_are_drawn_and_judged(saved: Path):
    build = build_report([saved]).builds[0]
    run = build.runs[0].model_copy(update={"figures": energies()})
    page = build_report([build.model_copy(update={"runs": [run]})]).render(".html")
    assert "Energy in nJ/inference: loihi 12.5 to 34. The network without spikes: 20." in page
    assert "spiking may cost more or less on loihi." in page and "1 more of the target&#39;s chips" in page


def drawn_build() -> Build:
    """A build with every picture."""
    file = arrays(reservoir_eigenvalues=np.array([0.5 + 0.5j, 0.5 - 0.5j]), liquid_eigenvalues=np.array([0.9 + 0j]))
    artifact = net_build(random_net(5, n=300), **{"tuning.npz": tuned([0.3, 0.2, 0.1]), "liquid.npz": file})
    run = validate(Built(artifact), some_data(), on="golden").run
    decision = Decision(frame=[1, 2], accuracy=[0.25, 0.5], spikes=[4.0, 8.0], steps=[1.0, 2.0],
                        energy={"loihi": [(1.0, 2.0), (2.5, 4.0)]})  # fmt: skip
    return build_of(
        artifact, [run.model_copy(update={"decision": decision, "figures": energies(), "seal": ""}).sealed()]
    )
