"""The pictures of a spiking build: each with its title, how it was got, a sentence and the drawing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from neurodeploy.artifact import How
from neurodeploy.report import plots_conversion as conversion
from neurodeploy.report import plots_spiking as plots
from neurodeploy.report.schema import Build, Run
from neurodeploy.report.schema_spiking import Activity, Spiking
from neurodeploy.report.words import number
from neurodeploy.spiking import energy


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
    if build.target.kind != "crossbar":
        made += _energy(build)
    if build.spiking is not None:
        made += _conversion(build.spiking)
    return made


def verdict(build: Build) -> str | None:
    """Whether spikes are cheaper than the network without, as a sentence; None where no energy is known."""
    said = next((said for run in build.runs if (said := energy.verdict(run.figures))), None)
    return said and f"{said[0].upper()}{said[1:]}."


def sentence(activity: Activity) -> str:
    """One sentence of numbers about a sample's activity: events in all, and by population."""
    totals = {p.name: p.total for p in activity.populations}
    parts = list(totals.items()) if 1 < len(totals) <= 6 else []
    by = f" ({', '.join(f'{name} {number(count)}' for name, count in parts)})" if parts else ""
    neurons = sum(p.size for p in activity.populations)
    steps = f"{number(activity.frames)} step{'s' if activity.frames > 1 else ''}"
    length = f" of {activity.ticks} ticks ({_ms(activity, activity.ticks)})" if activity.tick_s else ""
    return (
        f"Sample {activity.sample}: {number(sum(totals.values()))} {activity.unit}{by} of {number(neurons)} neurons in "
        f"{steps}{length}; {activity.where}."
    )


def _ms(activity: Activity, ticks: int) -> str:
    return f"{number(float(f'{ticks * (activity.tick_s or 0) * 1e3:.4g}'))} ms"


def _activity(activity: Activity) -> Iterator[Picture]:
    graded = activity.unit == "graded events"
    marks = "a mark up or down is a level that rose or fell" if graded else "a mark is a spike"
    yield Picture("Raster", activity.how, f"{sentence(activity)} In the raster, {marks}.", plots.raster(activity))
    many = len(activity.populations) > plots.LINES
    means = "Mean over all neurons" if many else "Mean of each population"
    each = f"spikes in bins of {_ms(activity, activity.bin_ticks)}" if activity.tick_s else "events in a step"
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
    if found.energy:
        about = (
            "The same answers against the energy until then, by published figures: two lines a chip where sources give "
            "a range. Neuron updates grow with the steps, the rest with the spikes."
        )
        yield Picture("Accuracy against energy", "estimated", about, plots.accuracy_by_energy(found, base))


def _energy(build: Build) -> Iterator[Picture]:
    """The first run's energies; chips for which nothing is published have none."""
    figures = next((run.figures for run in build.runs if energy.ranges(run.figures)), [])
    found = energy.ranges(figures)
    dense = found.pop("dense", None)
    if found:
        unknown = sum(f.value is None for f in figures if f.name.startswith("energy."))
        about = (
            "An inference by published energies of a synaptic operation, from the least to the most that sources say."
        )
        if dense:
            about += " The dashed line is the float network's arithmetic without spikes, in 45 nm and without memory."
        if unknown:
            about += f" {number(unknown)} more of the target's chips have no published figure."
        drawing = plots.energy(found, dense[1] if dense else None, energy.UNIT)
        yield Picture("Energy by chip", "estimated", about, drawing)


def _conversion(found: Spiking) -> Iterator[Picture]:
    if found.tried is not None and (drawing := conversion.settings(found.tried)) is not None:
        about = (
            f"{len(found.tried.trials)} settings that the conversion tried on the data given to compile; the ringed "
            "one was taken."
        )
        if found.tried.float_accuracy is not None:
            about += " The dashed line is the float network on the same data."
        yield Picture("Settings tried", "simulated", about, drawing)
    if (tuning := found.tuning) is not None:
        shown = f"Unit {tuning.unit}, the one of median error among {len(tuning.errors)}"
        about = f"{shown}: measured on the target's own neuron with constant inputs."
        yield Picture("Tuning curves", "simulated", about, conversion.tuning_curves(tuning))
        about = f"{shown}: what its {len(tuning.rates)} neurons' rates decode to; dashed is the activation itself."
        yield Picture("Decoded activation", "simulated", about, conversion.decoded(tuning))
        about = "Each unit's RMS error, weighted by how often its argument occurs in the data given to compile."
        yield Picture("Decoder error", "simulated", about, conversion.decoder_errors(tuning))
    if found.spectrum is not None:
        about = "Eigenvalues: rings are the reservoir's, dots the liquid's; the circle has radius 1."
        yield Picture("Spectrum", "compiled", about, conversion.spectrum(found.spectrum))
