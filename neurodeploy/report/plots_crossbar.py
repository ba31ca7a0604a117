"""Charts of crossbars as inline SVG: accuracy over chips against age or a quantity, errors by effect, costs by part.

Over chips a line joins the medians, a band spans the 5th to the 95th percentile, and dots are means; records without
percentiles are drawn as means with one standard deviation either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from neurodeploy.report import svg
from neurodeploy.report.figures import METRICS, PARTS
from neurodeploy.report.schema import Accuracy, Build, Score
from neurodeploy.report.schema_crossbar import Effect, Spread
from neurodeploy.report.view_crossbar import Breakdown, SweepChart
from neurodeploy.report.words import duration, number, scaled, score_text

SHADES = 8


@dataclass(frozen=True)
class _Curve:
    """One build's spreads along an axis; ``at`` says each place in words."""

    build: Build
    xs: Sequence[float]
    spreads: Sequence[Spread]
    at: Sequence[str]


def drift(builds: Sequence[tuple[Build, Accuracy]], numbers: dict[str, int]) -> Markup:
    """Accuracy of crossbars over the time since their first read."""
    metric = builds[0][1].metric
    curves = []
    for build, accuracy in builds:
        points = sorted(accuracy.drift, key=lambda s: s.seconds)
        at = [f"after {duration(s.seconds)}" for s in points]
        curves.append(_Curve(build, [max(s.seconds, 1.0) for s in points], points, at))
    times = sorted({t for curve in curves for t in curve.xs})
    low, high = (times[0], times[-1]) if len(times) > 1 else (times[0] / 2, times[0] * 2)
    x = svg.Axis(low, high, svg.LEFT + 12, svg.WIDTH - svg.RIGHT - 12, svg.spread(times), log=True)
    floats = [(b.model.name, a.float_.value) for b, a in builds if a.float_]
    fresh = min(s.seconds for _, accuracy in builds for s in accuracy.drift)  # drawn at 1 s where it is less
    ticks = [duration(fresh if t == 1.0 else t) for t in x.ticks]
    body = _chips(curves, metric, x, ticks, "Time since the first read, logarithmic", floats, numbers)
    return svg.svg(f"{METRICS[metric].title} of crossbars over the time since their first read.", body)


def sweep(chart: SweepChart, numbers: dict[str, int]) -> Markup:
    """Accuracy of crossbars against one quantity of their targets; upright lines are what was compiled."""
    curves = []
    for build, found in chart.members:
        points = sorted(found.points, key=lambda p: p.x)
        at = [f"at {number(p.x)} {chart.unit}".rstrip() for p in points]
        curves.append(_Curve(build, [p.x for p in points], points, at))
    places = sorted({x for curve in curves for x in curve.xs})
    label = f"{chart.title}, {chart.unit}" if chart.unit else chart.title
    start, end = svg.LEFT + 12, svg.WIDTH - svg.RIGHT - 12
    if len(places) > 1:
        x = svg.Axis(places[0], places[-1], start, end, _apart(places))
    else:
        x = svg.Axis(places[0] - 1, places[0] + 1, start, end, tuple(places))
    body = _chips(curves, chart.metric, x, [svg.tick(t) for t in x.ticks], label, chart.float_values, numbers)
    for value in chart.compiled:
        if x.low <= value <= x.high:
            tip = f"<title>as compiled: {number(value)}</title>"
            body += f'<path class="upright" d="M{x(value)} {svg.TOP}V{svg.FLOOR}">{tip}</path>'
    return svg.svg(f"{METRICS[chart.metric].title} of crossbars against: {label}.", body)


def _chips(
    curves: Sequence[_Curve], metric: str, x: svg.Axis, x_labels: Sequence[str], label: str,
    floats: Sequence[tuple[str, float]], numbers: dict[str, int],
) -> str:  # fmt: skip
    """Axes, float baselines, then each build's band, line and dots."""
    factor = METRICS[metric].factor
    base = list(dict.fromkeys((name, value * factor) for name, value in floats))
    ys = [v * factor for c in curves for s in c.spreads for v in (*s.ends, s.mean)] + [value for _, value in base]
    y = svg.linear_axis(min(ys), max(ys), svg.HEIGHT - svg.BOTTOM, svg.TOP, pad=0.12)
    parts = [svg.grid(x, y, x_labels, [svg.tick(t) for t in y.ticks], label)]
    taken: list[svg.Box] = []
    parts += [svg.baseline(f"float {name}", y(value), taken) for name, value in base[:3]]
    for curve in curves:
        kind = f"k-{curve.build.target.kind}"
        banded = all(s.low is not None for s in curve.spreads)
        if banded:
            ends = [(px, s.ends) for px, s in zip(curve.xs, curve.spreads, strict=True)]
            edge = [f"{x(px)},{y(e[1] * factor)}" for px, e in ends] + [
                f"{x(px)},{y(e[0] * factor)}" for px, e in ends[::-1]
            ]
            parts.append(f'<polygon class="chips {kind}" points="{" ".join(edge)}"/>')
        middle = [s.mean if s.median is None else s.median for s in curve.spreads]
        parts.append(svg.line([(x(px), y(m * factor)) for px, m in zip(curve.xs, middle, strict=True)], kind))
        for px, s, at in zip(curve.xs, curve.spreads, curve.at, strict=True):
            place = x(px), y(s.mean * factor)
            whisker = tuple(y(e * factor) for e in s.ends)
            bar = (whisker[0], whisker[1]) if s.sd and not banded else None
            parts.append(
                svg.point(*place, curve.build.target.kind, f"{curve.build.name}: {told(s, metric)} {at}.", False, bar)
            )
            taken.append((place[0] - 6, place[1] - 6, place[0] + 6, place[1] + 6))
    for curve in curves:
        px, py = x(curve.xs[0]), y(curve.spreads[0].mean * factor)
        parts.append(svg.label(px, py, f"{numbers[curve.build.name]} {curve.build.name}", taken))
    return "".join(parts)


def told(s: Spread, metric: str) -> str:
    """A spread in words: mean and standard deviation, median, percentiles, how many chips."""
    words = score_text(Score(value=s.mean, sd=s.sd, how="simulated", where=""), metric)
    if s.median is not None and s.low is not None and s.high is not None:
        ends = f"{scaled(s.low, metric)} to {scaled(s.high, metric)}"
        words += f" (median {scaled(s.median, metric)}, 5 to 95 % of chips {ends})"
    return f"{words}, {s.chips} chips,"


def errors(rows: Sequence[Effect]) -> Markup:
    """RMS error of the outputs with each effect alone, as bars."""
    told = [(row.effect, 100 * row.alone.error) for row in rows if row.alone and row.effect != "none"]
    left = svg.LEFT + 62
    high = max(value for _, value in told) * 1.12 or 1.0
    step = svg.nice(high / 4)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(int(high / step + 1e-9) + 1))
    x = svg.Axis(0, high, left, svg.WIDTH - svg.RIGHT, ticks)
    parts = [svg.grid(x, _no_axis(), [svg.tick(t) for t in ticks], [], "RMS error of the outputs, % of their RMS")]
    pitch = (svg.FLOOR - svg.TOP) / len(told)
    for i, (effect, value) in enumerate(told):
        middle, height = svg.TOP + (i + 0.5) * pitch, min(16, pitch * 0.62)
        words = escape(f"{effect}: {value:.3g} %")
        parts.append(_left(svg.short(effect, 16), left, middle))
        parts.append(
            f'<rect class="part s{7 if effect == "all" else 0}" x="{left}" y="{middle - height / 2:.1f}" '
            f'width="{max(x(value) - left, 0.8):.1f}" height="{height:.1f}"><title>{words}</title></rect>'
        )
    spoken = "; ".join(f"{effect} {value:.3g} %" for effect, value in told)
    body = f'<g class="k-crossbar">{"".join(parts)}</g>'
    return svg.svg(f"RMS error of the outputs with each effect alone: {spoken}.", body)


def breakdown(found: Breakdown, numbers: dict[str, int]) -> Markup:
    """One cost by part as stacked bars, one a build; two where sources give a range, its low and its high end."""
    bars = []
    for bar in found.bars:
        ranged = any(p.ends[0] != p.ends[1] for p in bar.parts)
        short = f"{numbers[bar.build.name]} {svg.short(bar.node or bar.build.name, 9)}"
        for end in (0, 1) if ranged else (0,):
            known = [(p.title, p.ends[end]) for p in bar.parts if p.known]
            bars.append((bar.name, short, ("low", "high")[end] if ranged else "", known))
    left = svg.LEFT + 62
    high = max(sum(v for _, v in parts) for *_, parts in bars) * 1.04 or 1.0
    step = svg.nice(high / 4)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(int(high / step + 1e-9) + 1))
    x = svg.Axis(0, high, left, svg.WIDTH - svg.RIGHT, ticks)
    legend, top = _legend(found.titles)
    drawn = [svg.grid(x, _no_axis(), [svg.tick(t) for t in ticks], [], found.unit), legend]
    pitch = (svg.FLOOR - top) / len(bars)
    spoken = []
    for i, (name, short, end, parts) in enumerate(bars):
        middle = top + (i + 0.5) * pitch
        height = min(20, pitch * 0.66)
        drawn.append(_left(short if end != "high" else "", left, middle, end))
        at = 0.0
        for title, value in parts:
            shade = _shade(title)
            words = escape(f"{name}, {title}{f' ({end})' if end else ''}: {number(float(f'{value:.4g}'))} {found.unit}")
            width = max(x(at + value) - x(at), 0.0)
            drawn.append(
                f'<rect class="part s{shade}" x="{x(at)}" y="{middle - height / 2:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}"><title>{words}</title></rect>'
            )
            at += value
        spoken.append(f"{name}{f' ({end})' if end else ''} {number(float(f'{at:.4g}'))}")
    body = f'<g class="k-crossbar">{"".join(drawn)}</g>'
    return svg.svg(f"{found.title}, {found.unit}, sums of the known parts: {'; '.join(spoken)}.", body)


def _shade(title: str) -> int:
    """A part has one colour in every chart."""
    return list(PARTS.values()).index(title) % SHADES


def _legend(titles: Sequence[str]) -> tuple[str, float]:
    """A square and a name for each part, in rows; where the drawing may begin below."""
    parts, px, py = [], float(4), 10.0
    for title in titles:
        shown = svg.short(title, 26)
        width = 16 + len(shown) * svg.CHARACTER + 10
        if px + width > svg.WIDTH and px > 4:
            px, py = 4.0, py + 15
        parts.append(f'<rect class="part s{_shade(title)}" x="{px:.1f}" y="{py - 8:.1f}" width="9" height="9"/>')
        parts.append(f'<text class="name" x="{px + 13:.1f}" y="{py:.1f}">{escape(shown)}</text>')
        px += width
    return "".join(parts), py + 8


def _left(name: str, left: float, middle: float, end: str = "") -> str:
    """A bar's name to its left, and below it which end of a range it is."""
    text = f"{name} {end}".strip()
    return f'<text class="tick" x="{left - 6}" y="{middle + 3.5:.1f}" text-anchor="end">{escape(text)}</text>'


def _apart(places: Sequence[float], room: float = 0.13) -> tuple[float, ...]:
    """The places whose labels keep apart on a linear axis; first and last always."""
    span = places[-1] - places[0]
    kept = [places[0]]
    for place in places[1:-1]:
        if (place - kept[-1]) / span > room and (places[-1] - place) / span > room:
            kept.append(place)
    return (*kept, places[-1])


def _no_axis() -> svg.Axis:
    return svg.Axis(0, 1, svg.FLOOR, svg.TOP, ())
