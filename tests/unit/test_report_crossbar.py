"""A crossbar's part of the report: spreads over chips, sweeps, attribution, costs by part, floor plan; old records."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurodeploy.artifact import Artifact, Figure
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.compiler import Built
from neurodeploy.crossbar import attribution, sweeps
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.errors import DataError, UsageError
from neurodeploy.report import (
    build_report,
    plots_crossbar,
    read_report,
    render_html,
    render_markdown,
    view,
    view_crossbar,
    words,
)
from neurodeploy.report.metrics import spread
from neurodeploy.report.records import build_of
from neurodeploy.report.schema import Build, DriftScore, ReportData, Run
from neurodeploy.report.schema_crossbar import Attribution, Effect, Measured, Repaired, Spread, Sweep, SweepPoint
from neurodeploy.validate import validate
from tests.golden.report import sample
from tests.unit.test_crossbar import IDEAL, PCM, gru, samples, small

PLAN = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><rect width="40" height="20" fill="teal"/></svg>'
#: A run's record as it was written and sealed before spreads had percentiles and runs had sweeps.
EARLIER = (
    '{"schema_version":1,"runner":"crossbar","command":"","when":"2020-01-02 03:04 UTC","where":"25 simulated chips",'
    '"emulator":null,"port":null,"device":null,"versions":{"neurodeploy":"0.1.0","numpy":"2.3.5"},"artifact":'
    '{"program.nd":"0000000000000000000000000000000000000000000000000000000000000000"},"accuracy":{"metric":'
    '"ClassificationAccuracy","data":{"name":"FixtureVowels, test","samples":370,"sha256":'
    '"5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"},"seeds":[0],"float":{"value":0.9757,"how":'
    '"measured","where":"float interpreter","sd":null,"n":null,"over":null},"quantized":{"value":0.9757,"how":"measured"'
    ',"where":"golden model","sd":null,"n":null,"over":null},"deployed":{"value":0.9589,"how":"simulated","where":'
    '"25 simulated PCM chips","sd":0.0081,"n":25,"over":"chips"},"drift":[{"seconds":1.0,"mean":0.9589,"sd":0.0081,'
    '"chips":25},{"seconds":3600.0,"mean":0.9549,"sd":0.0084888,"chips":25}]},"agreement":[],"figures":[],"not_run":[],'
    '"timing":{"wall_seconds":4.81,"samples":370,"steps":5687},"warnings":[],"activity":null,"decision":null,"seal":'
    '"c2a5485bed59988781424652c28c57060e7674070746478b5c9c5a2b2d7b6ef9"}'
)


def labelled(seed: int = 3) -> Data:
    x = samples((12, 7, 4), seed)
    return Data({"x": x}, None, np.arange(12) % 3, "made up", "0" * 64)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    made = CrossbarBackend().compile(gru(), small(32, 16, PCM), data=labelled(0))
    return replace(made, files={**made.files, "floor_plan.svg": PLAN.encode()})


def drawn_builds() -> list[Build]:
    """Fixture figures, made up to exercise the layout: two crossbars with all that the section shows, and a board."""
    made = []
    for k, name in enumerate(("gru-pcm", "gru-rram")):
        build = sample.crossbar(name, sample.GRU, 0.9589 - k / 50, 0.0081, 16640)
        score = build.accuracies[0]
        drift = [
            DriftScore.model_validate(
                s.model_dump() | {"median": s.mean + 0.002, "low": s.mean - 2 * s.sd, "high": s.mean + s.sd}
            )
            for s in score.drift
        ]
        score = score.model_copy(update={"drift": drift})
        points = [
            SweepPoint(x=b, mean=0.95 - 2.0 ** -b, sd=0.01, chips=25, median=0.951 - 2.0 ** -b, low=0.93 - 2.0 ** -b,
                       high=0.96 - 2.0 ** -b) for b in (3, 4, 5, 6, 8)
        ]  # fmt: skip
        stuck = [
            SweepPoint(x=s, mean=0.95 - s / 60, sd=0.01, chips=25, median=0.951 - s / 60, low=0.92 - s / 50, high=0.96 - s / 70)
            for s in (0.0, 1.0, 2.0, 5.0, 10.0)
        ]  # fmt: skip
        metric = "ClassificationAccuracy"
        swept = [
            Sweep(what="adc_bits", unit="bits", metric=metric, seconds=0, compiled=8, points=points),
            Sweep(what="stuck", unit="%", metric=metric, seconds=86400, points=stuck),
        ]
        rows = [
            Effect(effect=e, alone=Measured(error=r, error_sd=0.01, score=0.97 - r / 9, score_sd=0.004),
                   without=Measured(error=0.09 - r, error_sd=0.01, score=0.96, score_sd=0.0), share=r**2 / 0.0094)
            for e, r in (("programming", 0.061), ("read noise", 0.022), ("adc", 0.0089), ("wires", 0.0712))
        ] + [Effect(effect="stuck")]  # fmt: skip
        cause = Attribution(
            target="pcm-128", chips=25, seed=0, age_s=86400, compensate=True, samples=370, metric=metric, golden=0.9757,
            none=Measured(error=0, error_sd=0, score=0.9757, score_sd=0.0), rows=rows,
            every=Measured(error=0.098, error_sd=0.01, score=0.955, score_sd=0.008),
        )  # fmt: skip
        run = build.runs[0].model_copy(
            update={"accuracy": score, "sweeps": swept, "attribution": cause, "figures": costs(1 + k), "seal": ""}
        )
        figures = [f for f in build.figures if f.name != "energy"]
        update = {"accuracies": [score], "figures": figures, "runs": [run.sealed()], "arrays": {"floor_plan": PLAN}}
        made.append(Build.model_validate(build.model_dump() | update))
    return [*made, sample.sample_builds()[0], sample.sample_builds()[3]]


def costs(scale: float) -> list[Figure]:
    per, how, source = "pJ/inference", "estimated", "conversions times a sourced energy"
    return [
        Figure("energy.array", 410.0 * scale, per, how, source), Figure("energy.adc.low", 900.0 * scale, per, how, source),
        Figure("energy.adc.high", 2500.0 * scale, per, how, "another paper"), Figure("energy.dac", 120.5, per, how, source),
        Figure.unknown("energy.digital", per, "no checked source"),
        Figure("energy.array@cmos-32nm", 410.0, per, how, source), Figure("energy.adc@cmos-32nm", 1300.0, per, how, source),
        Figure("energy.low", 1430.5 * scale, per, how, source), Figure("energy.high", 3030.5 * scale, per, how, source),
        Figure("area.array", 5100.0, "um2", how, source), Figure("area.adc", 2200.0 * scale, "um2", how, source),
    ]  # fmt: skip


def test_an_earlier_records_seal_stays_good():
    run = Run.model_validate_json(EARLIER)
    assert run.intact and run.accuracy is not None and run.accuracy.drift[0].median is None
    told = json.loads(run.model_dump_json(by_alias=True))
    assert told["accuracy"] == json.loads(EARLIER)["accuracy"]
    later = run.model_copy(update={"sweeps": drawn_builds()[0].runs[0].sweeps})
    assert not later.intact and later.sealed().intact


def test_a_spread_is_the_percentiles_of_its_chips():
    found = spread(np.arange(101) / 100.0)
    assert [round(found[k], 9) for k in ("mean", "median", "low", "high")] == [0.5, 0.5, 0.05, 0.95]
    assert (found["chips"], round(found["sd"], 9)) == (101, round(np.sqrt(101 * 102 / 12) / 100, 9))
    assert spread([0.25]) == {"mean": 0.25, "sd": 0.0, "median": 0.25, "low": 0.25, "high": 0.25, "chips": 1}
    with pytest.raises(DataError, match="one a chip"):
        spread([])
    with pytest.raises(ValueError, match="low <= median <= high"):
        Spread(mean=1.0, sd=0.0, chips=2, median=0.5, low=0.6, high=0.7)


def test_a_run_on_chips_records_medians_and_percentiles(artifact: Artifact):
    run = validate(Built(artifact), labelled(), chips=9, times=(0.0, 86400.0)).run
    assert run.accuracy is not None and [s.seconds for s in run.accuracy.drift] == [0.0, 86400.0]
    for s in run.accuracy.drift:
        assert s.low is not None and s.median is not None and s.high is not None
        assert s.low <= s.median <= s.high and s.chips == 9
        assert round(s.median * 12) == pytest.approx(s.median * 12)


def test_a_sweep_changes_one_quantity_and_ends_where_it_was_compiled(artifact: Artifact):
    data = labelled()
    run = validate(Built(artifact), data, chips=6, times=(3600.0,), seed=2).run
    found = sweeps.sweep(artifact, data, "adc_bits", (2, 8), chips=6, seconds=3600.0, seed=2)
    assert (found.what, found.unit, found.compiled, [p.x for p in found.points]) == ("adc_bits", "bits", 8, [2, 8])
    assert run.accuracy is not None
    as_compiled = run.accuracy.drift[0]
    assert found.points[1].model_dump(exclude={"x"}) == as_compiled.model_dump(exclude={"seconds"})
    assert found.points[0] != found.points[1].model_copy(update={"x": 2.0})
    assert found.metric == run.accuracy.metric
    assert artifact.manifest["crossbar"]["adc"]["bits"] == 8


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("adc_bit=4", "Did you mean 'adc_bits'"),
        ("adc_bits=4,many", "no list of numbers"),
        ("adc_bits=4.5", "no whole number"),
        ("adc_bits=1", "no room for a sign"),
        ("adc_bits=40", "at 40: "),
        ("wires=1,2", "no .wires. whose resistance"),
    ],
)
def test_what_cant_be_swept_is_refused(artifact: Artifact, option: str, message: str):
    with pytest.raises(UsageError, match=message):
        sweeps.sweep(artifact, labelled(), *sweeps.parse(option))


def test_a_sweep_without_labels_runs_nothing(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CrossbarRunner, "run", None)
    with pytest.raises(DataError, match="holds no labels 'y'; a sweep is of accuracy"):
        sweeps.sweep(artifact, replace(labelled(), labels=None), "stuck", (0.1,))


def test_a_sweep_has_the_effects_that_are_on_and_its_own(artifact: Artifact):
    """Without any other effect, no stuck devices leave the golden model's accuracy, whatever the chip."""
    data = labelled()
    found = sweeps.sweep(artifact, data, "stuck", (0.0, 0.5), chips=6, effects=())
    (golden,) = {s.mean for s in validate(Built(artifact), data, chips=1, times=(0.0,), effects=()).run.accuracy.drift}  # type: ignore[union-attr]
    assert (found.points[0].mean, found.points[0].sd) == (golden, 0.0)
    assert found.points[1].sd > 0


def test_converters_without_a_range_cant_be_swept():
    ideal = CrossbarBackend().compile(gru(), small(32, 16, IDEAL), data=labelled(0))
    for what in ("adc_bits", "dac_bits"):
        with pytest.raises(UsageError, match="infinite precision"):
            sweeps.sweep(ideal, labelled(), what, (4,))


def test_every_format_tells_the_sections_numbers(tmp_path: Path):
    report = build_report(drawn_builds())
    page, markdown = report.render(".html"), report.render(".md")
    for title in ("Accuracy over age", "Resolution of the ADCs", "Stuck devices", "Energy by part", "Area by part"):
        assert page.count(f"<b>{title}</b>") == 1
    assert "Energy by chip" not in page  # a part is no chip
    assert "gru-pcm: 94.61 ± 1.00 % (median 94.71, 5 to 95 % of chips 92.61 to 95.61), 25 chips, at 8 bits." in page
    assert "| gru-pcm | 8 | 94.61 | 1.00 | 94.71 | 92.61 | 95.61 | 25 |" in markdown
    assert "| wires | 96.21 ± 0.40 % | 7.12 % | 53.9 % | 96.00 ± 0.00 % | 1.88 % |" in markdown
    assert "Not in this target: stuck." in page
    assert "| ADCs | gru-pcm | 900 to 2,500 | estimated | conversions times a sourced energy |" in markdown
    assert "| Digital part | gru-pcm | unknown | unknown | no checked source |" in markdown
    assert "Energy by part, pJ/inference, sums of the known parts: gru-pcm (low) 1,430; gru-pcm (high) 3,030" in page
    path = report.write(tmp_path / "r.json")
    assert read_report(path) == report


def test_an_attribution_is_recorded_as_it_was_found(artifact: Artifact):
    found = attribution.attribute(artifact, labelled(), chips=3, age="1day")
    read = Attribution.model_validate_json(json.dumps(found.as_dict()))
    assert json.loads(read.model_dump_json()) == json.loads(json.dumps(found.as_dict()))
    assert {row.effect for row in read.rows if row.alone} == {"programming", "drift", "read noise", "dac", "adc"}


def test_effects_are_ranked_between_none_and_all():
    found = drawn_builds()[0].runs[0].attribution
    assert found is not None
    names = [e.effect for e in view_crossbar.effects(found)]
    assert names == ["none", "wires", "programming", "read noise", "adc", "all"]


def test_energies_of_other_units_and_ranges_share_a_chart():
    charts, alone = view.charts(drawn_builds())
    (chart,) = [c for c in charts if c.title == "Energy"]
    assert chart.unit == "pJ/inference" and "Energy (estimated)" not in alone
    told = {p.name: (p.low, p.x, p.front) for p in chart.points}
    assert told["gru-pcm"] == (1430.5, 3030.5, True) and told["gru-rram"] == (2861.0, 6061.0, False)
    assert told["gru-snn"] == (pytest.approx(41880.4 * 23.6), pytest.approx(41880.4 * 23.6), True)
    rows = {row.title: row for group in view.table(drawn_builds()) for row in group.rows}
    assert words.cell(rows["Energy: ADCs"].cells[0])[0][0] == "900 to 2,500"
    assert rows["Energy"].unit == "pJ/inference"
    assert [words.cell(cell)[0][0] for cell in rows["Energy"].cells if cell] == [
        "1,430.5 to 3,030.5",
        "2,861 to 6,061",
        "988,377.4",
    ]


def test_the_floor_plan_is_an_image_from_the_builds_own_files(artifact: Artifact):
    page = build_report([artifact]).render(".html")
    (address,) = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert base64.b64decode(address).decode() == PLAN
    assert (
        build_of(replace(artifact, files={k: v for k, v in artifact.files.items() if k != "floor_plan.svg"})).arrays
        is None
    )


@pytest.mark.parametrize(
    "broken",
    [b"\xff\xfe", b"<svg", b"<html/>", b'<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>'],
)
def test_a_floor_plan_that_is_no_drawing_is_refused(artifact: Artifact, broken: bytes):
    with pytest.raises(UsageError, match="floor plan|floor_plan"):
        build_report([replace(artifact, files={**artifact.files, "floor_plan.svg": broken})])


def test_what_scripts_a_floor_plan_holds_stay_inside_the_image(artifact: Artifact):
    evil = PLAN.replace("<rect", "<script>throw 1</script><rect")
    page = build_report([replace(artifact, files={**artifact.files, "floor_plan.svg": evil.encode()})]).render(".html")
    assert "throw 1" not in page and "data:image/svg+xml;base64," in page


def test_a_repair_stands_beside_the_same_chips_before_it():
    builds = drawn_builds()
    run = builds[0].runs[0]
    assert run.accuracy is not None
    drift = run.accuracy.drift
    before = [d.model_copy(update={"mean": d.mean - 0.05}) for d in drift]
    told = Repaired(kind="both", data="train.npz", samples=270, sha256="0" * 64, digital_macs_per_step=288,
                    numbers_per_chip=297, before=before[1:])  # fmt: skip
    run = run.model_copy(update={"repair": told, "seal": ""}).sealed()
    report = ReportData(generator="x", created="x", builds=[builds[0].model_copy(update={"runs": [run]})])
    first, second = drift[:2]
    after = f"{100 * second.mean:.2f} ± {100 * second.sd:.2f} %"
    was = f"{100 * (second.mean - 0.05):.2f} ± {100 * second.sd:.2f} %"
    markdown, page = render_markdown.render(report), render_html.render(report)
    assert f"| {words.duration(first.seconds)} | – | {100 * first.mean:.2f}" in markdown
    assert f"| {words.duration(second.seconds)} | {was} | {after} |" in markdown
    assert "288 digital multiply-accumulates a step and 297 numbers a chip" in markdown
    assert "270 samples of train" in page and was in page and after in page
    assert run.intact and not run.model_copy(update={"repair": None}).intact


def test_ranges_of_a_build_and_of_its_run_stay_ranges():
    """The same range twice, but for rounding, is told once; of two that share an end both are told whole."""
    build = drawn_builds()[0]

    def ends(high: float) -> list[Figure]:
        how = "estimated"
        return [
            Figure("tops_per_watt.low", 1.5, "TOPS/W", how, "a"),
            Figure("tops_per_watt.high", high, "TOPS/W", how, "a"),
        ]

    for again, told in ((10.25 * (1 + 1e-15), ["1.5 to 10.25"]), (8.0, ["1.5 to 10.25", "1.5 to 8"])):
        run = build.runs[0].model_copy(update={"figures": ends(again), "seal": ""}).sealed()
        both = Build.model_validate(build.model_dump() | {"figures": ends(10.25), "runs": [run]})
        (row,) = [r for group in view.table([both]) for r in group.rows if r.title == "Operations a second and watt"]
        assert [text for text, _ in words.cell(row.cells[0])] == told


def test_the_axis_of_ages_begins_with_the_first_age():
    build = drawn_builds()[0]
    score = build.accuracies[0]
    for first in (0.0, 1.0):
        ages = [score.drift[0].model_copy(update={"seconds": first}), *score.drift[1:]]
        drawn = plots_crossbar.drift([(build, score.model_copy(update={"drift": ages}))], {build.name: 1})
        assert (">0 s</text>" in drawn, ">1 s</text>" in drawn) == (first == 0, first == 1)
