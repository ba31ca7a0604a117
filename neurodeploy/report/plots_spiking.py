"""Charts of a spiking build's run as inline SVG: raster and rates of a sample, accuracy over time, energy by chip."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

from neurodeploy.report import svg
from neurodeploy.report.schema_spiking import Activity, Decision, Population
from neurodeploy.report.words import number

LINES = 4


def raster(activity: Activity) -> Markup:
    """A mark where a neuron shown has an event, populations one below the other; graded events go up or down."""
    frame_shown, unit = _clock(activity)
    tick_shown = frame_shown / activity.ticks
    x = _time_axis(0, activity.ticks_shown * tick_shown)
    rows = sum(len(p.shown) for p in activity.populations)
    pitch = (svg.FLOOR - svg.BELOW_NAME) / rows
    parts, names, row = [], [], 0
    for i, population in enumerate(activity.populations):
        top, bottom = svg.BELOW_NAME + row * pitch, svg.BELOW_NAME + (row + len(population.shown)) * pitch
        if i % 2:
            box = f'x="{svg.LEFT}" y="{top:.1f}" width="{svg.WIDTH - svg.LEFT - svg.RIGHT}" height="{bottom - top:.1f}"'
            parts.append(f'<rect class="band" {box}/>')
        parts.append(_marks(population, top, pitch, lambda tick: x((tick + 0.5) * tick_shown)))
        if len(activity.populations) > 1:
            names.append(_named(population.name, top, bottom))
        row += len(population.shown)
    frame = svg.grid(x, _no_axis(), [svg.tick(t) for t in x.ticks], [], f"Time, {unit}", _shown_of(activity))
    total = sum(len(events) for p in activity.populations for events in p.events)
    words = f"Raster of sample {activity.sample}: {number(total)} {activity.unit} of {_shown_of(activity)}."
    return svg.svg(words, frame + "".join(parts) + "".join(names))


def rates(activity: Activity) -> Markup:
    """Mean rate of each population over time."""
    frame_shown, unit = _clock(activity)
    to_shown = frame_shown * activity.bin_ticks / activity.ticks
    per = 1.0 / (activity.bin_ticks * activity.tick_s) if activity.tick_s else 1.0
    lines = {p.name: [rate * per for rate in p.rates] for p in activity.populations if p.rates}
    if len(lines) > LINES:
        lines = {"all neurons": _mean_rate(activity.populations, per)}
    longest = max(len(line) for line in lines.values())
    x = _time_axis(0, longest * to_shown)
    y = svg.linear_axis(0, max((max(line) for line in lines.values()), default=0) or 1, svg.FLOOR, svg.BELOW_NAME)
    y = svg.Axis(0, y.high, svg.FLOOR, svg.BELOW_NAME, tuple(t for t in y.ticks if t >= 0))
    name = "Rate, Hz" if activity.tick_s else f"Rate, {activity.unit} a neuron and step"
    parts = [svg.frame(x, y, f"Time, {unit}", name)]
    taken: list[svg.Box] = []
    for i, (title, line) in enumerate(lines.items()):
        points = [(x((t + 0.5) * to_shown), y(rate)) for t, rate in enumerate(line)]
        parts.append(svg.line(points, f"k-spiking d{i}"))
        top = min(range(len(points)), key=lambda j: points[j][1])
        parts.append(svg.label(*points[top], title, taken))
    told = "; ".join(f"{title} {number(float(f'{sum(line) / len(line):.3g}'))}" for title, line in lines.items())
    return svg.svg(f"{name}, over time. Means: {told}.", "".join(parts))


def decision(found: Decision, against: str, float_accuracy: float | None, frame_ms: float | None) -> Markup:
    """Accuracy of an answer taken after each frame, ``against`` ``"time"`` or ``"spikes"``; float as a dashed line."""
    timed = against == "time"
    step = frame_ms or 1.0
    xs = [(f * step if timed else s) for f, s in zip(found.frame, found.spikes, strict=True)]
    name = (f"Time, {'ms' if frame_ms else 'steps'}") if timed else "Mean spikes of a sample until then"
    ys = [100 * a for a in found.accuracy]
    base = [] if float_accuracy is None else [100 * float_accuracy]
    x = _time_axis(0, 1.03 * xs[-1]) if timed else svg.cost_axis(xs)
    y = svg.linear_axis(min(ys + base), max(ys + base), svg.FLOOR, svg.BELOW_NAME, pad=0.1)
    parts = [svg.frame(x, y, name + (", logarithmic" if x.log else ""), "Accuracy, %")]
    if base:
        parts.append(svg.baseline("float", y(base[0]), []))
    points = [(x(max(a, x.low)), y(b)) for a, b in zip(xs, ys, strict=True)]
    parts.append(svg.line(points, "k-spiking"))
    for (px, py), frame, acc, spikes in zip(points, found.frame, ys, found.spikes, strict=True):
        tip = f"after frame {frame}: {acc:.2f} %, {number(round(spikes, 1))} spikes"
        parts.append(
            f'<circle class="mark k-spiking" cx="{px}" cy="{py}" r="2.6"><title>{escape(tip)}</title></circle>'
        )
    words = f"Accuracy against {against}: {ys[0]:.2f} % after frame {found.frame[0]}, {ys[-1]:.2f} % after the last."
    return svg.svg(words, "".join(parts))


def accuracy_by_energy(found: Decision, float_accuracy: float | None) -> Markup:
    """Accuracy of an answer after each frame against the energy until then: two lines a chip, its low and its high."""
    ys = [100 * a for a in found.accuracy]
    base = [] if float_accuracy is None else [100 * float_accuracy]
    ends = {
        chip: [[pair[i] for pair in pairs] for i in ((0,) if all(a == b for a, b in pairs) else (0, 1))]
        for chip, pairs in found.energy.items()
    }
    x = svg.cost_axis([v for curves in ends.values() for curve in curves for v in curve if v > 0])
    y = svg.linear_axis(min(ys + base), max(ys + base), svg.FLOOR, svg.BELOW_NAME, pad=0.1)
    name = "Energy of a sample until then, nJ" + (", logarithmic" if x.log else "")
    parts, taken = [svg.frame(x, y, name, "Accuracy, %")], []
    if base:
        parts.append(svg.baseline("float", y(base[0]), taken))
    for i, (chip, curves) in enumerate(ends.items()):
        for curve in curves:
            points = [(x(max(v, x.low)), y(a)) for v, a in zip(curve, ys, strict=True)]
            parts.append(svg.line(points, f"k-spiking d{i % 4}"))
        middle = len(ys) // 2
        parts.append(svg.label(x(max(curves[-1][middle], x.low)), y(ys[middle]), chip, taken))
    told = "; ".join(
        f"{chip} {' to '.join(number(float(f'{curve[-1]:.4g}')) for curve in curves)} nJ at the end"
        for chip, curves in ends.items()
    )
    return svg.svg(f"Accuracy against energy: {told}.", "".join(parts))


def _clock(activity: Activity) -> tuple[float, str]:
    """What a frame is in the unit shown, and that unit: milliseconds where a tick has a length, else steps."""
    return (activity.ticks * activity.tick_s * 1e3, "ms") if activity.tick_s else (1.0, "steps")


def _shown_of(activity: Activity) -> str:
    shown = sum(len(p.shown) for p in activity.populations)
    size = sum(p.size for p in activity.populations)
    return f"{number(size)} neurons" if shown == size else f"{number(shown)} of {number(size)} neurons"


def _mean_rate(populations: Sequence[Population], per: float) -> list[float]:
    """Mean over all neurons, as long as the longest population runs."""
    total = sum(p.size for p in populations)
    longest = max(len(p.rates) for p in populations)
    return [sum(p.rates[t] * p.size for p in populations if t < len(p.rates)) * per / total for t in range(longest)]


def _marks(population: Population, top: float, pitch: float, x: Callable[[int], float]) -> str:
    """One path for a population's events."""
    height = max(1.5, min(6.0, pitch * 0.85))
    sizes = population.sizes or [[0] * len(events) for events in population.events]
    steps = []
    for row, (events, graded) in enumerate(zip(population.events, sizes, strict=True)):
        middle = top + (row + 0.5) * pitch
        for tick, size in zip(events, graded, strict=True):
            y, span = (middle - height / 2, height) if not size else (middle, -height / 2 if size > 0 else height / 2)
            steps.append(f"M{x(tick):.1f} {y:.1f}v{span:.1f}")
    return f'<path class="spikes k-spiking" d="{"".join(steps)}"/>' if steps else ""


def _named(name: str, top: float, bottom: float) -> str:
    """A population's name in the corner of its rows, where there is room."""
    if bottom - top < 12:
        return ""
    return f'<text class="tag" x="{svg.LEFT + 3}" y="{top + 9:.1f}">{escape(svg.short(name, 24))}</text>'


def _time_axis(low: float, high: float) -> svg.Axis:
    step = svg.nice((high - low) / 5)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(int((high - low) / step + 1e-9) + 1))
    return svg.Axis(low, high, svg.LEFT, svg.WIDTH - svg.RIGHT, ticks)


def _no_axis() -> svg.Axis:
    return svg.Axis(0, 1, svg.FLOOR, svg.BELOW_NAME, ())


def energy(found: Mapping[str, tuple[float, float]], dense: float | None, unit: str) -> Markup:
    """One bar a chip from its low to its high energy, logarithmic; the float network's arithmetic as a dashed line."""
    values = [v for pair in found.values() for v in pair if v > 0] + ([dense] if dense else [])
    low, high = min(values) / 1.5, max(values) * 1.5
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [m * 10.0**d for d in decades for m in (1, 3) if low <= m * 10.0**d <= high]
    left = svg.LEFT + 52
    x = svg.Axis(low, high, left, svg.WIDTH - svg.RIGHT, tuple(marks[:: math.ceil(len(marks) / 6)]), log=True)
    parts = [svg.grid(x, _no_axis(), [svg.tick(t) for t in x.ticks], [], f"Energy, {unit}, logarithmic", "Chip")]
    pitch = (svg.FLOOR - svg.BELOW_NAME) / len(found)
    for i, (chip, (least, most)) in enumerate(found.items()):
        y = svg.BELOW_NAME + (i + 0.5) * pitch
        told = number(least) if least == most else f"{number(least)} to {number(most)}"
        label = escape(svg.short(chip, 15))
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>')
        ends = [max(v, low) for v in (least, most)]
        tip = escape(f"{chip}: {told} {unit}")
        parts.append(
            f'<g class="k-spiking"><title>{tip}</title><path class="bar" d="M{x(ends[0])} {y:.1f}H{x(ends[1])}"/>'
            f'<circle class="mark" cx="{x(ends[0])}" cy="{y:.1f}" r="3.4"/>'
            f'<circle class="mark" cx="{x(ends[1])}" cy="{y:.1f}" r="3.4"/></g>'
        )
    if dense:
        parts.append(f'<path class="upright" d="M{x(dense)} {svg.BELOW_NAME}V{svg.FLOOR}"/>')
    words = "; ".join(
        f"{chip} {number(a)}" if a == b else f"{chip} {number(a)} to {number(b)}" for chip, (a, b) in found.items()
    )
    beside = f" The network without spikes: {number(dense)}." if dense else ""
    return svg.svg(f"Energy in {unit}: {words}.{beside}", "".join(parts))
