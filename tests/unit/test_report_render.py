"""The report's three formats: the same facts, escaped, never mixed, written whole or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neurodeploy.report
from neurodeploy.artifact import Figure
from neurodeploy.errors import UsageError
from neurodeploy.report import build_report, read_report, svg, view, words
from neurodeploy.report.figures import FIGURES, KIND_OF_BACKEND, KINDS, METRICS
from neurodeploy.report.metrics import judged
from neurodeploy.report.render_json import json_schema
from neurodeploy.report.report import Report
from neurodeploy.report.schema import Build, Model, ReportData
from tests.golden.report import sample

GOLDEN = Path(__file__).parents[1] / "golden" / "report"
EVIL = "<script>alert(1)</script>'\"&amp; | `x`"


def fixed_report() -> Report:
    """The sample with a fixed date and version, so that its text can be compared."""
    data = ReportData(generator="neurodeploy (test)", created="2020-01-02 03:04 UTC", builds=sample.sample_builds())
    return Report(data)


def changed(build: Build, **changes: Any) -> Build:
    return build.model_copy(update=changes)


def bare(build: Build) -> Build:
    return changed(build, runs=[], accuracies=[])


def test_json_holds_everything_and_is_read_back(tmp_path: Path) -> None:
    report = fixed_report()
    path = report.write(tmp_path / "report.json")
    assert read_report(path) == report
    assert json.loads(path.read_text())["builds"][0]["accuracies"][0]["float"]["value"] == 0.9757


def test_the_json_schema_is_pinned() -> None:
    """A change here changes what others read: raise SCHEMA_VERSION if it breaks them, then write the file anew."""
    assert json.loads(json_schema()) == json.loads((GOLDEN / "schema.json").read_text())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["builds", 0, "surprise"], 1, "surprise"),
        (["schema_version"], 2, "schema_version"),
        (["builds"], [], "builds"),
        (["builds", 0, "figures", 0, "how"], "guessed", "how"),
        (["builds", 0, "figures", 0, "value"], None, "unknown"),
        (["builds", 0, "accuracies", 0, "metric"], "Vibes", "no known metric"),
        (["builds", 1, "name"], "gru-m4f", "distinct"),
        (["builds", 0, "runs", 0, "device", "firmware_hash"], "00", "was edited"),
    ],
)
def test_json_that_breaks_the_schema_is_refused(tmp_path: Path, path: list, value: object, message: str) -> None:
    data = json.loads(fixed_report().render(".json"))
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    file = tmp_path / "report.json"
    file.write_text(json.dumps(data))
    with pytest.raises(UsageError, match=message):
        read_report(file)


def test_markdown_is_pinned() -> None:
    assert fixed_report().render(".md") == (GOLDEN / "report.md").read_text()


def test_every_format_names_every_build_and_every_figure() -> None:
    report = fixed_report()
    for ending in (".json", ".md", ".html"):
        text = report.render(ending)
        for build in report.builds:
            assert build.name in text
        for exact in ("11,824", "23,371.2", "718.3", "16,640") if ending != ".json" else ("11824", "23371.2", "718.3"):
            assert exact in text, (ending, exact)


def test_the_page_needs_nothing_from_outside() -> None:
    page = fixed_report().render(".html")
    assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", page)
    assert not re.search(r"url\(|@import|https?://|<link(?! rel=\"icon\" href=\"data:,\")", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize("ending", [".md", ".html"])
def test_text_from_outside_is_escaped(ending: str) -> None:
    build = sample.sample_builds()[0]
    evil = changed(
        build, name=EVIL, model=Model(name=EVIL), compiler=EVIL, warnings=[f"{EVIL}\n# head"],
        figures=[*build.figures, Figure(EVIL, 1, EVIL, "compiled", EVIL)],
        runs=[build.runs[0].model_copy(update={"where": EVIL, "emulator": EVIL, "warnings": [EVIL]})],
    )  # fmt: skip
    text = build_report([evil, *sample.sample_builds()[:2]]).render(ending)
    assert "<script>alert" not in text
    if ending == ".md":
        assert "\n# head" not in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert all(len(re.findall(r"(?<!\\)\|", row)) <= 8 for row in rows)


def test_what_is_unknown_says_unknown() -> None:
    report = fixed_report()
    page, text = report.render(".html"), report.render(".md")
    assert re.search(r"Cycles, mean</.*?>unknown<|Cycles, mean <.*?>unknown<", page, re.S)
    assert "| Work per step | Cycles, mean, cycles/step | unknown | unknown | unknown |" in text
    nothing = build_report([bare(b) for b in report.builds[:2]])
    assert "accuracy unknown" in nothing.render(".html")
    assert "No build has been run." in nothing.render(".html")
    assert "| Microcontroller | gru-m4f | unknown |" in nothing.render(".md")


def test_float_is_stated_first() -> None:
    page, text = fixed_report().render(".html"), fixed_report().render(".md")
    assert page.index("Float baseline") < page.index('<article class="card k-mcu"')
    assert text.index("Float baseline") < text.index("| Microcontroller |")


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("ending", [".json", ".md", ".html"])
def test_one_build_and_twelve(count: int, ending: str) -> None:
    builds = (sample.sample_builds() + [changed(b, name=f"{b.name}-2") for b in sample.sample_builds()])[:count]
    text = build_report(builds).render(ending)
    assert all(build.name in text for build in builds)


def test_a_report_is_written_by_its_ending_and_whole_or_not_at_all(tmp_path: Path) -> None:
    report = fixed_report()
    assert report.write(tmp_path / "Report.HTML").read_text().startswith("<!doctype html>")
    for name, message in (("report.pdf", r"'\.pdf' is no format.*\.json, \.md, \.html"), ("report", "no ending")):
        with pytest.raises(UsageError, match=message):
            report.write(tmp_path / name)
    with pytest.raises(UsageError, match="can't be written"):
        report.write(tmp_path / "missing" / "report.md")
    assert [path.name for path in tmp_path.iterdir()] == ["Report.HTML"]


def test_the_module_is_the_function() -> None:
    assert neurodeploy.report([sample.sample_builds()[0]]).builds[0].name == "gru-m4f"  # type: ignore[operator]
    with pytest.raises(UsageError, match="no build was given"):
        neurodeploy.report([])  # type: ignore[operator]


@pytest.mark.parametrize(
    ("low_x", "high_y", "front"),
    [(True, True, [True, True, False, True]), (True, False, [True, False, False, False]),
     (False, True, [False, False, False, True])],
)  # fmt: skip
def test_pareto_front_by_hand(low_x: bool, high_y: bool, front: list[bool]) -> None:
    assert view.pareto([1, 2, 3, 4], [5, 7, 6, 8], low_x, high_y) == front


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_every_point_is_on_the_front_or_beaten_by_one_that_is(points: list[tuple[int, int]]) -> None:
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    front = view.pareto(xs, ys)
    best = [p for p, on in zip(points, front, strict=True) if on]
    for (x, y), on in zip(points, front, strict=True):
        beaten = any(bx <= x and by >= y and (bx, by) != (x, y) for bx, by in best)
        assert on is not beaten


def test_no_chart_mixes_units_ways_metrics_or_data() -> None:
    """One build's flash estimated instead of compiled, one's accuracy on other data: both leave the chart."""
    a, b, c, d = (changed(sample.sample_builds()[0], name=name) for name in "abcd")
    c = changed(
        c, figures=[Figure("flash", 9, "B", "estimated", "guess") if f.name == "flash" else f for f in c.figures]
    )
    other = d.accuracies[0].model_copy(update={"data": sample.DATA.model_copy(update={"sha256": "00" * 32})})
    charts, alone = view.charts([a, b, c, changed(d, accuracies=[other])])
    flash = [chart for chart in charts if chart.title == "Flash, total"]
    assert [[p.build.name for p in chart.points] for chart in flash] == [["a", "b"]]
    assert {"Flash, total (estimated)", "Flash, total (compiled)"} <= set(alone)


def test_a_figure_got_in_two_ways_is_shown_twice_and_charted_by_the_stronger() -> None:
    build = sample.sample_builds()[0]
    estimate = Figure("instructions_mean", 15000, "instructions/step", "estimated", "formula")
    build = changed(build, figures=[*build.figures, estimate])
    row = next(r for g in view.table([build]) for r in g.rows if r.title == "Instructions, mean")
    assert [(f.value, f.how) for f in row.cells[0]] == [(14104.6, "measured"), (15000, "estimated")]
    picked = view.pick(build, "instructions_mean")
    assert picked is not None
    assert picked.how == "measured"


def test_one_figure_in_two_units_has_two_rows_and_two_charts() -> None:
    per_step = Figure("adc_conversions", 512, "conversions/step", "compiled", "")
    per_inference = Figure("adc_conversions", 9000, "conversions/inference", "simulated", "")
    builds = [changed(b, figures=[per_step, per_inference]) for b in sample.sample_builds()[4::3]]
    assert [r.unit for g in view.table(builds) for r in g.rows] == ["conversions/step", "conversions/inference"]
    charts, _ = view.charts(builds)
    assert [(c.unit, c.how) for c in charts if c.title == "ADC conversions"] == [
        ("conversions/step", "compiled"), ("conversions/inference", "simulated"),
    ]  # fmt: skip


def test_an_unknown_figure_gives_way_to_a_known_one_only() -> None:
    build = bare(sample.sample_builds()[0])
    unknown = Figure.unknown("energy", "uJ/inference", "no meter")
    (cell,) = next(r for g in view.table([changed(build, figures=[unknown])]) for r in g.rows).cells
    assert cell == (unknown,)
    known = Figure("energy", 2.0, "uJ/inference", "estimated", "paper")
    (cell,) = next(r for g in view.table([changed(build, figures=[unknown, known])]) for r in g.rows).cells
    assert cell == (known,)


def test_figures_nobody_knows_are_shown_last() -> None:
    build = changed(sample.sample_builds()[0], figures=[Figure("warp", 9, "c", "compiled", "")])
    assert view.table([build])[-1].title == "Other figures"


def test_the_best_of_a_kind_is_the_most_accurate_then_the_cheapest() -> None:
    (summary,) = view.summaries(sample.sample_builds())
    assert [(best.kind, best.build.name) for best in summary.best] == [
        ("mcu", "esn-m4f"), ("tflite", "gru-tflm"), ("spiking", "esn-lsm"), ("crossbar", "esn-pcm"),
    ]  # fmt: skip
    assert [name for name, _ in summary.floats] == ["gru", "esn"]
    (equal,) = view.summaries(sample.sample_builds()[:2])
    assert equal.best[0].build.name == "gru-m3"  # less flash at the same accuracy


def test_an_error_metric_is_better_when_lower() -> None:
    builds = []
    for name, value in (("a", 0.3), ("b", 0.2)):
        build = sample.sample_builds()[0]
        scored = build.accuracies[0].model_copy(
            update={"metric": "NRMSE", "deployed": sample.Score(value=value, how="measured", where="")}
        )
        builds.append(changed(build, name=name, accuracies=[scored]))
    assert view.summaries(builds)[0].best[0].build.name == "b"
    assert [p.front for p in view.charts(builds)[0][0].points] == [False, True]


def test_golden_only_is_said_to_be_not_deployed() -> None:
    build = sample.sample_builds()[0]
    golden = build.accuracies[0].model_copy(update={"deployed": None})
    report = build_report([changed(build, accuracies=[golden])])
    assert "golden model, not deployed" in report.render(".html")
    assert "golden model, not deployed" in report.render(".md")


def test_statistical_agreement_is_judged_on_accuracies() -> None:
    build = sample.sample_builds()[3]
    agreement, accuracy = build.runs[0].agreement[0], build.accuracies[0]
    assert judged(agreement, accuracy).holds is True  # 0.9703 against 0.9757 within 0.02
    strict = agreement.model_copy(update={"equality": "statistical(0.001)"})
    assert judged(strict, accuracy).holds is False


@pytest.mark.parametrize(
    ("value", "text"),
    [(14512, "14,512"), (0.03125, "0.03125"), (1234.56, "1,234.6"), (-3, "−3"), (0, "0"), (1e-7, "1e-07"), (2.0, "2")],
)
def test_numbers(value: float, text: str) -> None:
    assert words.number(value) == text


def test_words_of_accuracies_and_amounts() -> None:
    accuracy = sample.sample_builds()[4].accuracies[0]
    assert words.score_text(accuracy.deployed, accuracy.metric) == "95.89 ± 0.81 %"
    assert words.change_text(accuracy, accuracy.deployed) == "−1.68 points"
    assert words.change_text(accuracy, accuracy.float_) == "±0.00 points"
    assert words.score_text(None, accuracy.metric) == "unknown"
    assert (words.quantity(18432, "B"), words.quantity(900, "B")) == ("18.0 KiB", "900 B")
    assert [words.duration(s) for s in (1, 3600, 86400, 2592000, 31536000)] == [
        "1 s",
        "1 h",
        "1 day",
        "30 days",
        "1 year",
    ]


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=8))
def test_axes_hold_every_value_between_their_ends(xs: list[float]) -> None:
    axis = svg.cost_axis(xs)
    assert 2 <= len(axis.ticks) <= 9
    assert all(axis.start - 0.1 <= axis(x) <= axis.end + 0.1 for x in xs if not axis.log or x > 0)
    y = svg.linear_axis(min(xs), max(xs), 218, 14, pad=0.12)
    assert all(14 <= y(x) <= 218 for x in xs)
    assert np.all(np.diff(y.ticks) > 0)


def test_every_known_name_is_complete() -> None:
    assert set(KIND_OF_BACKEND.values()) <= set(KINDS)
    assert all(known.title and known.group for known in FIGURES.values())
    assert all(metric.title for metric in METRICS.values())
