"""The frame of a chart as inline SVG: axes with round ticks, grid lines, names, labels that keep apart.

Geometry only: no colours, no fonts, no scripts; the page's style gives those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from neurodeploy.report.words import number

WIDTH, HEIGHT = 360, 262
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 44
#: Bottom of the drawing, and its top where the vertical axis has a name above.
FLOOR, BELOW_NAME = HEIGHT - BOTTOM, TOP + 8
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


def spread(times: Sequence[float], room: float = 0.16) -> tuple[float, ...]:
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


def grid(x: Axis, y: Axis, x_labels: Sequence[str], y_labels: Sequence[str], label: str, up: str = "") -> str:
    """Grid lines, both axes with their ticks, and their names: ``label`` below, ``up`` above the vertical one."""
    parts = []
    for value, text in zip(y.ticks, y_labels, strict=True):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y(value) + 3.5:.1f}" text-anchor="end">{text}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{FLOOR}" y2="{FLOOR}"/>')
    for value, text in zip(x.ticks, x_labels, strict=True):
        parts.append(f'<line class="axis" x1="{x(value)}" x2="{x(value)}" y1="{FLOOR}" y2="{FLOOR + 4}"/>')
        parts.append(f'<text class="tick" x="{x(value)}" y="{FLOOR + 16}" text-anchor="middle">{escape(text)}</text>')
    if up:
        parts.append(f'<text class="name" x="4" y="9">{escape(short(up, 56))}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    shown = escape(short(label, 52))
    parts.append(f'<text class="name" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{shown}</text>')
    return "".join(parts)


def frame(x: Axis, y: Axis, label: str, up: str) -> str:
    """:func:`grid` with plain numbers at the ticks."""
    return grid(x, y, [tick(t) for t in x.ticks], [tick(t) for t in y.ticks], label, up)


def line(points: Sequence[tuple[float, float]], classes: str) -> str:
    """A line through points."""
    return f'<polyline class="line {classes}" points="{" ".join(f"{px},{py}" for px, py in points)}"/>'


def baseline(name: str, y: float, taken: list[Box]) -> str:
    """A dashed line across, with a name where there is room."""
    name = short(name, 24)
    box = (LEFT + 3.0, y - 14, LEFT + 3 + len(name) * CHARACTER, y - 1)
    if not name or any(overlap(box, other) for other in taken):
        return f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    taken.append(box)
    text = f'<text class="base" x="{LEFT + 3}" y="{y - 4:.1f}">{escape(name)}</text>'
    return f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>{text}'


def point(x: float, y: float, kind: str, tip: str, ring: bool, whisker: tuple[float, float] | None = None) -> str:
    """A point of a kind's colour that says its words on hover, tap and focus; ringed where it stands out."""
    words = escape(tip)
    ringed = f'<circle class="ring" cx="{x}" cy="{y}" r="8"/>' if ring else ""
    bar = f'<path class="whisker" d="M{x} {whisker[0]}V{whisker[1]}"/>' if whisker else ""
    return (
        f'<g class="point k-{kind}" tabindex="0" role="img" aria-label="{words}" data-tip="{words}">'
        f'<title>{words}</title><circle class="hit" cx="{x}" cy="{y}" r="14"/>{bar}{ringed}'
        f'<circle class="dot" cx="{x}" cy="{y}" r="4.5"/></g>'
    )


def label(x: float, y: float, text: str, taken: list[Box]) -> str:
    """The text beside a point, in the first of eight places that is free; else the number alone; else nothing."""
    for words in (short(text, 22), text.split(" ")[0]):
        width = len(words) * CHARACTER
        for dx, dy, anchor in (
            (11, 4, "start"), (-11, 4, "end"), (0, -12, "middle"), (0, 20, "middle"),
            (9, -9, "start"), (-9, -9, "end"), (9, 17, "start"), (-9, 17, "end"),
        ):  # fmt: skip
            left = x + dx - {"start": 0, "middle": width / 2, "end": width}[anchor]
            box = (left, y + dy - 9, left + width, y + dy + 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH - 2 and box[1] >= 2 and box[3] <= HEIGHT - BOTTOM - 1
            if inside and not any(overlap(box, other) for other in taken):
                taken.append(box)
                return f'<text class="tag" x="{x + dx}" y="{y + dy}" text-anchor="{anchor}">{escape(words)}</text>'
    return ""


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a point."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def short(text: str, length: int) -> str:
    """The text, cut to a length."""
    return text if len(text) <= length else text[: length - 1] + "…"


def svg(words: str, body: str) -> Markup:
    """A chart of a body, with words for who can't see it."""
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{escape(words)}">{body}</svg>'
    )
