"""The pictures of a spiking build: each with its title, how it was got, a sentence and the drawing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from neurodeploy.artifact import How
from neurodeploy.report import plots_spiking as plots
from neurodeploy.report.schema import Build, Run
from neurodeploy.report.schema_spiking import Activity
from neurodeploy.report.words import number


@dataclass(frozen=True)
class Picture:
    """One figure of the page."""

    title: str
    how: How
    caption: str
    svg: Markup


def pictures(build: Build) -> list[Picture]:
    """All pictures that a build's records have the data for."""
    made = []
    run = next((r for r in build.runs if r.activity), None)
    if run is not None and run.activity is not None:
        made += _activity(run.activity)
    timed = next((r for r in build.runs if r.decision), None)
    if timed is not None:
        made += _decision(timed, run.activity if run else None)
    if build.spiking is not None and build.spiking.tried is not None:
        tried = build.spiking.tried
        if (drawing := plots.settings(tried)) is not None:
            caption = (
                f"{len(tried.trials)} settings that the conversion tried on the data given to compile; the ringed one "
                "was taken. The dashed line is the float network on the same data."
            )
            made.append(Picture("Settings tried", "simulated", caption, drawing))
    return made


def sentence(activity: Activity) -> str:
    """One sentence of numbers about a sample's activity: events in all, and by population."""
    totals = {p.name: sum(p.rates) * p.size for p in activity.populations}
    parts = list(totals.items()) if 1 < len(totals) <= 6 else []
    by = f" ({', '.join(f'{name} {number(round(count))}' for name, count in parts)})" if parts else ""
    neurons = sum(p.size for p in activity.populations)
    return (
        f"Sample {activity.sample}: {number(round(sum(totals.values())))} {activity.unit}{by} of {number(neurons)} "
        f"neurons in {number(activity.frames)} steps"
        + (
            f" of {activity.ticks} ticks ({number(activity.ticks * activity.tick_s * 1e3)} ms)"
            if activity.tick_s
            else ""
        )
        + f"; {activity.where}."
    )


def _activity(activity: Activity) -> Iterator[Picture]:
    graded = activity.unit == "graded events"
    marks = "a mark up or down is a level that rose or fell" if graded else "a mark is a spike"
    yield Picture("Raster", activity.how, f"{sentence(activity)} In the raster, {marks}.", plots.raster(activity))
    many = len(activity.populations) > plots.LINES
    means = "Mean over all neurons" if many else "Mean of each population"
    each = "events in a step of the network" if graded else "spikes in a step of the network over its length"
    yield Picture("Rates", activity.how, f"{means} of the same sample: {each}.", plots.rates(activity))


def _decision(run: Run, activity: Activity | None) -> Iterator[Picture]:
    found = run.decision
    if found is None:
        return
    frame_ms = activity.ticks * activity.tick_s * 1e3 if activity and activity.tick_s else None
    score = run.accuracy.float_ if run.accuracy and run.accuracy.metric == "ClassificationAccuracy" else None
    base = score.value if score else None
    where = f"over {number(run.accuracy.data.samples)} samples" if run.accuracy else "over the run's data"
    about = f"If the answer were taken after each step, {where}; the dashed line is the float network's at the end."
    yield Picture("Accuracy against time", "simulated", about, plots.decision(found, "time", base, frame_ms))
    about = f"The same answers against the spikes spent until then, a sample on average, {where}."
    yield Picture("Accuracy against spikes", "simulated", about, plots.decision(found, "spikes", base, frame_ms))
