"""Charts as inline SVG: drawn from a :class:`~neurodeploy.report.view.Chart`, styled by the page's own CSS variables.

Geometry only: no colours, no fonts, no scripts. Each point carries its words in ``<title>`` (and in ``data-tip``,
which the page's script shows on hover, tap and focus), so a chart says the same without script and to a screen reader.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from neurodeploy.report.figures import METRICS
from neurodeploy.report.schema import Accuracy, Build, Score
from neurodeploy.report.view import Chart
from neurodeploy.report.words import duration, number, plain_score, quantity, score_text

WIDTH, HEIGHT = 360, 262
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 44
CHARACTER = 6.1  # average width of an 11 px character
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels; ``ticks`` are values, ``log`` says that distances are ratios."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)


def scatter(chart: Chart, numbers: dict[str, int]) -> Markup:
    """Accuracy against one cost: points by kind, the Pareto front ringed and joined, float as dashed lines."""
    divisor, unit = _shown_unit(chart)
    xs = [p.x / divisor for p in chart.points]
    lows, highs = [p.y - p.sd for p in chart.points], [p.y + p.sd for p in chart.points]
    base = [y for _, y in chart.floats]
    x = cost_axis(xs)
    y = linear_axis(min(lows + base), max(highs + base), HEIGHT - BOTTOM, TOP, pad=0.12)
    metric = METRICS[chart.metric]
    label = f"{chart.title}, {unit or 'count'}{', logarithmic' if x.log else ''}"
    parts = [_grid(x, y, [tick(t) for t in x.ticks], [tick(t) for t in y.ticks], label)]
    taken: list[Box] = []
    for i, (name, value) in enumerate(chart.floats):
        parts.append(_baseline(f"float {name}" if i < 3 else "", y(value), taken))
    places = [(x(p.x / divisor), y(p.y)) for p in chart.points]
    front = sorted(place for p, place in zip(chart.points, places, strict=True) if p.front)
    if len(set(front)) > 1:
        line = " ".join(f"{px},{py}" for px, py in front)
        parts.append(f'<polyline class="front" points="{line}"/>')
    taken += [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    for p, (px, py) in zip(chart.points, places, strict=True):
        tip = (
            f"{p.build.name}: {number(round(p.y, 4))} {metric.unit}".rstrip()
            + (f" ± {number(round(p.sd, 4))}" if p.sd else "")
            + f", {quantity(p.x, chart.unit)} ({chart.how})"
            + (". On the Pareto front." if p.front else ".")
        )
        parts.append(_point(px, py, p.build, tip, p.front, (y(p.y - p.sd), y(p.y + p.sd)) if p.sd else None))
    for p, (px, py) in zip(chart.points, places, strict=True):
        parts.append(_label(px, py, f"{numbers[p.build.name]} {p.build.name}", taken))
    words = f"{metric.title} against {label} ({chart.how}), {len(chart.points)} builds."
    return _svg(words, "".join(parts))


def drift(builds: Sequence[tuple[Build, Accuracy]], numbers: dict[str, int]) -> Markup:
    """Accuracy of crossbars over the time since programming: mean, and one standard deviation either way."""
    metric = METRICS[builds[0][1].metric]
    scores = [s for _, accuracy in builds for s in accuracy.drift]
    base = list(dict.fromkeys((b.model.name, a.float_.value * metric.factor) for b, a in builds if a.float_))
    ys = [(s.mean + sign * s.sd) * metric.factor for s in scores for sign in (-1, 1)]
    levels = ys + [value for _, value in base]
    times = sorted({max(s.seconds, 1.0) for s in scores})
    low, high = (times[0], times[-1]) if len(times) > 1 else (times[0] / 2, times[0] * 2)
    x = Axis(low, high, LEFT + 12, WIDTH - RIGHT - 12, _spread(times), log=True)
    y = linear_axis(min(levels), max(levels), HEIGHT - BOTTOM, TOP, pad=0.12)
    label = "Time since programming, logarithmic"
    parts = [_grid(x, y, [duration(t) for t in x.ticks], [tick(t) for t in y.ticks], label)]
    taken: list[Box] = []
    parts += [_baseline(f"float {name}", y(value), taken) for name, value in base[:3]]
    for build, accuracy in builds:
        points = sorted(accuracy.drift, key=lambda s: s.seconds)
        line = " ".join(f"{x(max(s.seconds, 1.0))},{y(s.mean * metric.factor)}" for s in points)
        parts.append(f'<polyline class="line k-{build.target.kind}" points="{line}"/>')
        for s in points:
            score = Score(value=s.mean, sd=s.sd, how="simulated", where="")
            tip = f"{build.name}: {score_text(score, accuracy.metric)} after {duration(s.seconds)}, {s.chips} chips."
            px, py = x(max(s.seconds, 1.0)), y(s.mean * metric.factor)
            whisker = (y((s.mean - s.sd) * metric.factor), y((s.mean + s.sd) * metric.factor)) if s.sd else None
            parts.append(_point(px, py, build, tip, False, whisker))
            taken.append((px - 6, py - 6, px + 6, py + 6))
    for build, accuracy in builds:
        first = min(accuracy.drift, key=lambda s: s.seconds)
        px, py = x(max(first.seconds, 1.0)), y(first.mean * metric.factor)
        parts.append(_label(px, py, f"{numbers[build.name]} {build.name}", taken))
    return _svg(f"{metric.title} of crossbars over the time since programming.", "".join(parts))


def strip(accuracy: Accuracy, low: float, high: float) -> Markup:
    """One build's float, quantized and deployed accuracy on a common scale from ``low`` to ``high``."""
    factor = METRICS[accuracy.metric].factor
    span = (high - low) or 1.0
    place = {
        part: round(8 + (score.value * factor - low) / span * 164, 1)
        for part in ("float_", "quantized", "deployed")
        if (score := getattr(accuracy, part))
    }
    parts = ['<line class="rail" x1="8" x2="172" y1="12" y2="12"/>']
    if len(place) > 1:
        parts.append(f'<line class="span" x1="{min(place.values())}" x2="{max(place.values())}" y1="12" y2="12"/>')
    if "deployed" in place and accuracy.deployed and accuracy.deployed.sd:
        half = accuracy.deployed.sd * factor / span * 164
        at = place["deployed"]
        parts.append(f'<line class="sd" x1="{max(8, at - half):.1f}" x2="{min(172, at + half):.1f}" y1="19" y2="19"/>')
    if "float_" in place:
        parts.append(f'<circle class="float" cx="{place["float_"]}" cy="12" r="5.5"/>')
    if "quantized" in place:
        at = place["quantized"]
        parts.append(f'<path class="quantized" d="M{at} 5.5V18.5"/>')
    if "deployed" in place:
        parts.append(f'<circle class="deployed" cx="{place["deployed"]}" cy="12" r="4"/>')
    words = ", ".join(
        f"{part.strip('_')} {plain_score(getattr(accuracy, part), accuracy.metric)}" for part in place
    )  # fmt: skip
    return Markup(
        f'<svg class="strip" viewBox="0 0 180 24" role="img" aria-label="{escape(words)}">{"".join(parts)}</svg>'
    )


def linear_axis(low: float, high: float, start: float, end: float, pad: float = 0.0) -> Axis:
    """A linear axis over round ticks around ``low`` to ``high``; ``pad`` is the share left free at both ends."""
    room = (high - low) * pad or abs(high) * 0.02 or 1.0
    low, high = low - room, high + room
    step = nice((high - low) / 4)
    first = math.ceil(low / step - 1e-9)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1))
    return Axis(low, high, start, end, ticks)


def cost_axis(xs: Sequence[float]) -> Axis:
    """From zero, or logarithmic where the largest cost is 20 times the smallest."""
    start, end = LEFT + 10, WIDTH - RIGHT - 12
    low, high = min(xs), max(xs)
    if low > 0 and high / low >= 20:
        low, high = low / 1.6, high * 1.6
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        marks = [10.0**d for d in decades if low <= 10.0**d <= high]
        if len(marks) < 3:
            marks = [m * 10.0**d for d in decades for m in (1, 3) if low <= m * 10.0**d <= high]
        return Axis(low, high, start, end, tuple(marks[:: math.ceil(len(marks) / 7)]), log=True)
    high = high * 1.08 or 1.0
    step = nice(high / 4)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(math.floor(high / step + 1e-9) + 1))
    return Axis(0, high, start, end, ticks)


def nice(step: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9))


def tick(value: float) -> str:
    """A short tick label: ``250``, ``12k``, ``1.5M``."""
    for least, size, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{number(float(f'{value / size:.4g}'))}{suffix}"
    return number(float(f"{value:.6g}"))


def _shown_unit(chart: Chart) -> tuple[int, str]:
    """What to divide by, and the unit then: KiB from 10 KiB on."""
    large = chart.unit == "B" and max(p.x for p in chart.points) >= 10240
    return (1024, "KiB") if large else (1, chart.unit)


def _spread(times: Sequence[float], room: float = 0.16) -> tuple[float, ...]:
    """The times whose labels keep apart on a logarithmic axis; first and last always."""
    if len(times) < 3:
        return tuple(times)
    span = math.log(times[-1] / times[0])
    kept = [times[0]]
    for time in times[1:-1]:
        clear = math.log(time / kept[-1]) / span > room and math.log(times[-1] / time) / span > room
        if clear:
            kept.append(time)
    return (*kept, times[-1])


def _grid(x: Axis, y: Axis, x_labels: Sequence[str], y_labels: Sequence[str], label: str) -> str:
    floor = HEIGHT - BOTTOM
    parts = []
    for value, text in zip(y.ticks, y_labels, strict=True):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y(value) + 3.5:.1f}" text-anchor="end">{text}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    for value, text in zip(x.ticks, x_labels, strict=True):
        parts.append(f'<line class="axis" x1="{x(value)}" x2="{x(value)}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text class="tick" x="{x(value)}" y="{floor + 16}" text-anchor="middle">{escape(text)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    shown = escape(_short(label, 52))
    parts.append(f'<text class="name" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{shown}</text>')
    return "".join(parts)


def _baseline(name: str, y: float, taken: list[Box]) -> str:
    name = _short(name, 24)
    box = (LEFT + 3.0, y - 14, LEFT + 3 + len(name) * CHARACTER, y - 1)
    if not name or any(_overlap(box, other) for other in taken):
        return f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    taken.append(box)
    text = f'<text class="base" x="{LEFT + 3}" y="{y - 4:.1f}">{escape(name)}</text>'
    return f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>{text}'


def _point(x: float, y: float, build: Build, tip: str, front: bool, whisker: tuple[float, float] | None) -> str:
    words = escape(tip)
    ring = f'<circle class="ring" cx="{x}" cy="{y}" r="8"/>' if front else ""
    bar = f'<path class="whisker" d="M{x} {whisker[0]}V{whisker[1]}"/>' if whisker else ""
    return (
        f'<g class="point k-{build.target.kind}" tabindex="0" role="img" aria-label="{words}" data-tip="{words}">'
        f'<title>{words}</title><circle class="hit" cx="{x}" cy="{y}" r="14"/>{bar}{ring}'
        f'<circle class="dot" cx="{x}" cy="{y}" r="4.5"/></g>'
    )


def _label(x: float, y: float, text: str, taken: list[Box]) -> str:
    """The text beside a point, in the first of eight places that is free; else the number alone; else nothing."""
    for words in (_short(text, 22), text.split(" ")[0]):
        width = len(words) * CHARACTER
        for dx, dy, anchor in (
            (11, 4, "start"), (-11, 4, "end"), (0, -12, "middle"), (0, 20, "middle"),
            (9, -9, "start"), (-9, -9, "end"), (9, 17, "start"), (-9, 17, "end"),
        ):  # fmt: skip
            left = x + dx - {"start": 0, "middle": width / 2, "end": width}[anchor]
            box = (left, y + dy - 9, left + width, y + dy + 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH - 2 and box[1] >= 2 and box[3] <= HEIGHT - BOTTOM - 1
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                return f'<text class="tag" x="{x + dx}" y="{y + dy}" text-anchor="{anchor}">{escape(words)}</text>'
    return ""


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _svg(words: str, body: str) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{escape(words)}">{body}</svg>'
    )
