"""Charts as inline SVG: drawn from a :class:`~neurodeploy.report.view.Chart`, styled by the page's own CSS variables.

Geometry only: no colours, no fonts, no scripts. Each point carries its words in ``<title>`` (and in ``data-tip``,
which the page's script shows on hover, tap and focus), so a chart says the same without script and to a screen reader.
"""

from __future__ import annotations

from html import escape

from markupsafe import Markup

from neurodeploy.report import svg
from neurodeploy.report.figures import METRICS
from neurodeploy.report.schema import Accuracy
from neurodeploy.report.view import Chart
from neurodeploy.report.words import number, plain_score, quantity


def scatter(chart: Chart, numbers: dict[str, int]) -> Markup:
    """Accuracy against one cost: points by kind, the Pareto front ringed and joined, float as dashed lines."""
    divisor, unit = _shown_unit(chart)
    xs = [end / divisor for p in chart.points for end in (p.low, p.x)]
    lows, highs = [p.y - p.sd for p in chart.points], [p.y + p.sd for p in chart.points]
    base = [y for _, y in chart.floats]
    x = svg.cost_axis(xs)
    y = svg.linear_axis(min(lows + base), max(highs + base), svg.HEIGHT - svg.BOTTOM, svg.TOP, pad=0.12)
    metric = METRICS[chart.metric]
    label = f"{chart.title}, {unit or 'count'}{', logarithmic' if x.log else ''}"
    parts = [svg.grid(x, y, [svg.tick(t) for t in x.ticks], [svg.tick(t) for t in y.ticks], label)]
    taken: list[svg.Box] = []
    for i, (name, value) in enumerate(chart.floats):
        parts.append(svg.baseline(f"float {name}" if i < 3 else "", y(value), taken))
    places = [(x(p.x / divisor), y(p.y)) for p in chart.points]
    front = sorted(place for p, place in zip(chart.points, places, strict=True) if p.front)
    if len(set(front)) > 1:
        line = " ".join(f"{px},{py}" for px, py in front)
        parts.append(f'<polyline class="front" points="{line}"/>')
    taken += [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    for p, (px, py) in zip(chart.points, places, strict=True):
        cost = quantity(p.x, chart.unit) if p.low == p.x else f"{number(p.low)} to {quantity(p.x, chart.unit)}"
        tip = (
            f"{p.name}: {number(round(p.y, 4))} {metric.unit}".rstrip()
            + (f" ± {number(round(p.sd, 4))}" if p.sd else "")
            + f", {cost} ({chart.how})"
            + (". On the Pareto front." if p.front else ".")
        )
        if p.low != p.x:
            parts.append(f'<path class="bar k-{p.build.target.kind}" d="M{x(p.low / divisor)} {py}H{px}"/>')
        parts.append(
            svg.point(px, py, p.build.target.kind, tip, p.front, (y(p.y - p.sd), y(p.y + p.sd)) if p.sd else None)
        )
    for p, (px, py) in zip(chart.points, places, strict=True):
        parts.append(svg.label(px, py, f"{numbers[p.build.name]} {p.name}", taken))
    words = f"{metric.title} against {label} ({chart.how}), {len(chart.points)} builds."
    return svg.svg(words, "".join(parts))


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


def _shown_unit(chart: Chart) -> tuple[int, str]:
    """What to divide by, and the unit then: KiB from 10 KiB on."""
    large = chart.unit == "B" and max(p.x for p in chart.points) >= 10240
    return (1024, "KiB") if large else (1, chart.unit)
