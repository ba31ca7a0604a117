"""Charts of a spiking build as inline SVG: raster and rates of a sample, accuracy against time, spikes and settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from neurodeploy.report import svg
from neurodeploy.report.schema_spiking import Activity, Decision, Population, Tried
from neurodeploy.report.words import number

#: Room for the vertical axis's name above the chart.
TOP = svg.TOP + 8
FLOOR = svg.HEIGHT - svg.BOTTOM
LINES = 4


def raster(activity: Activity) -> Markup:
    """A mark where a neuron shown has an event, populations one below the other; graded events go up or down."""
    frame_shown, unit = _clock(activity)
    tick_shown = frame_shown / activity.ticks
    x = _time_axis(0, activity.ticks_shown * tick_shown)
    rows = sum(len(p.shown) for p in activity.populations)
    pitch = (FLOOR - TOP) / rows
    parts, names, row = [], [], 0
    for i, population in enumerate(activity.populations):
        top, bottom = TOP + row * pitch, TOP + (row + len(population.shown)) * pitch
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
    """Mean rate of each population over the frames."""
    to_shown, unit = _clock(activity)
    per = 1.0 / (activity.ticks * activity.tick_s) if activity.tick_s else 1.0
    lines = {p.name: [rate * per for rate in p.rates] for p in activity.populations if p.rates}
    if len(lines) > LINES:
        lines = {"all neurons": _mean_rate(activity.populations, per)}
    longest = max(len(line) for line in lines.values())
    x = _time_axis(0, longest * to_shown)
    y = svg.linear_axis(0, max((max(line) for line in lines.values()), default=0) or 1, FLOOR, TOP)
    y = svg.Axis(0, y.high, FLOOR, TOP, tuple(t for t in y.ticks if t >= 0))
    name = "Rate, Hz" if activity.tick_s else f"Rate, {activity.unit} a neuron and step"
    parts = [_frame(x, y, f"Time, {unit}", name)]
    taken: list[svg.Box] = []
    for i, (title, line) in enumerate(lines.items()):
        points = [(x((t + 0.5) * to_shown), y(rate)) for t, rate in enumerate(line)]
        parts.append(_line(points, f"k-spiking d{i}"))
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
    x = svg.cost_axis(xs)
    y = svg.linear_axis(min(ys + base), max(ys + base), FLOOR, TOP, pad=0.1)
    parts = [_frame(x, y, name + (", logarithmic" if x.log else ""), "Accuracy, %")]
    if base:
        parts.append(svg.baseline("float", y(base[0]), []))
    points = [(x(max(a, x.low)), y(b)) for a, b in zip(xs, ys, strict=True)]
    parts.append(_line(points, "k-spiking"))
    for (px, py), frame, acc, spikes in zip(points, found.frame, ys, found.spikes, strict=True):
        tip = f"after frame {frame}: {acc:.2f} %, {number(round(spikes, 1))} spikes"
        parts.append(
            f'<circle class="mark k-spiking" cx="{px}" cy="{py}" r="2.6"><title>{escape(tip)}</title></circle>'
        )
    words = f"Accuracy against {against}: {ys[0]:.2f} % after frame {found.frame[0]}, {ys[-1]:.2f} % after the last."
    return svg.svg(words, "".join(parts))


def settings(tried: Tried) -> Markup | None:
    """Accuracy (error, where there is none) of every setting tried against its events; the chosen one ringed."""
    by_accuracy = any(t.accuracy is not None for t in tried.trials)
    found = [
        (t, t.events, 100 * t.accuracy if by_accuracy and t.accuracy is not None else t.error) for t in tried.trials
    ]
    shown = [(t, events, value) for t, events, value in found
             if events is not None and value is not None and (t.accuracy is not None) == by_accuracy]  # fmt: skip
    if not shown:
        return None
    base = [100 * tried.float_accuracy] if by_accuracy and tried.float_accuracy is not None else []
    ys = [value for *_, value in shown]
    x = svg.cost_axis([events for _, events, _ in shown])
    y = svg.linear_axis(min(ys + base), max(ys + base), FLOOR, TOP, pad=0.12)
    name = "Accuracy, %" if by_accuracy else f"Error ({tried.error or 'as stated'})"
    parts = [_frame(x, y, "Events of a sample" + (", logarithmic" if x.log else ""), name)]
    taken: list[svg.Box] = []
    if base:
        parts.append(svg.baseline("float", y(base[0]), taken))
    places = [(x(events), y(value)) for _, events, value in shown]
    taken += [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    for (trial, events, value), (px, py) in zip(shown, places, strict=True):
        result = f"{value:.2f} %" if by_accuracy else f"error {number(float(f'{value:.4g}'))}"
        tip = f"{trial.setting}: {result}, {number(round(events, 1))} events{' (chosen)' if trial.chosen else ''}."
        parts.append(svg.point(px, py, "spiking", tip, trial.chosen))
    for (trial, *_), place in zip(shown, places, strict=True):
        parts.append(svg.label(*place, trial.setting, taken))
    return svg.svg(f"{name} of {len(shown)} settings against their events.", "".join(parts))


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
    return svg.Axis(0, 1, FLOOR, TOP, ())


def _frame(x: svg.Axis, y: svg.Axis, name: str, up: str) -> str:
    return svg.grid(x, y, [svg.tick(t) for t in x.ticks], [svg.tick(t) for t in y.ticks], name, up)


def _line(points: Sequence[tuple[float, float]], classes: str) -> str:
    return f'<polyline class="line {classes}" points="{" ".join(f"{px},{py}" for px, py in points)}"/>'
