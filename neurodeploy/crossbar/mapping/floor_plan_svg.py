"""The floor plan as a drawing: every array to scale, its tiles coloured by matrix.

A plain SVG that carries its own colours for light and dark pages; names are drawn where they fit and are in the titles
(tooltips) of every part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from neurodeploy.crossbar.mapping.floor_plan import WORDS, Region, regions, used
from neurodeploy.crossbar.mapping.tiles import Matrix, Tile
from neurodeploy.descriptions_crossbar import Crossbar

WIDTH = 960
GAP, TITLE, MARGIN = 26, 20, 2
CHARACTER = 5.9  # average width of an 11 px character
COLOURS = 8
MOST = 400  # arrays that are drawn: a report holds the drawing
_STYLE = """
.floor-plan { --ink: #1d2126; --soft: #59616b; --line: #b9b5ac; --cell: #f4f2ee;
  --m0: #0a6f60; --m1: #1f5fa8; --m2: #a84f08; --m3: #77409f; --m4: #8a6d00; --m5: #a3305c;
  --m6: #3b7a1e; --m7: #5b5f99;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; font-size: 11px; }
@media (prefers-color-scheme: dark) { .floor-plan { --ink: #e7e9ec; --soft: #a0a8b3; --line: #4a525c; --cell: #1f242a;
  --m0: #62cbb9; --m1: #7fb4f0; --m2: #f0a868; --m3: #caa2ea; --m4: #d8be5a; --m5: #f090b4;
  --m6: #9ad07c; --m7: #a9adf0; } }
.floor-plan text { fill: var(--ink); } .floor-plan .fine { fill: var(--soft); }
.floor-plan .array { fill: var(--cell); stroke: var(--line); stroke-width: 1; }
.floor-plan .tile { fill: var(--m); fill-opacity: 0.1; stroke: var(--m); stroke-opacity: 0.55; stroke-width: 1;
  stroke-dasharray: 3 2; }
.floor-plan .part { fill: var(--m); fill-opacity: 0.34; stroke: var(--m); stroke-width: 0.8; }
.floor-plan .reference { fill: var(--m); fill-opacity: 0.7; }
.floor-plan .part-group:hover .part { fill-opacity: 0.55; }
.floor-plan .part-group .fine { fill: var(--ink); fill-opacity: 0.78; }
.floor-plan .swatch { fill: var(--m); fill-opacity: 0.6; stroke: var(--m); }
"""


def svg(matrices: Sequence[Matrix], target: Crossbar) -> str:
    """Arrays to scale with their tiles, the first :data:`MOST` of them; a legend of the matrices below."""
    every = used(matrices, target)
    shares = {number: share for number, share in every.items() if number < MOST}
    size = _size(len(shares))
    scale = size / max(target.array.rows, target.array.columns)
    wide, high = target.array.columns * scale, target.array.rows * scale
    across = max(1, int((WIDTH - 2 * MARGIN + GAP) // (wide + GAP)))
    held: dict[int, list[tuple[Matrix, Tile]]] = {number: [] for number in every}
    parts: dict[int, list[Region]] = {number: [] for number in every}
    for matrix in matrices:
        for tile in matrix.tiles:
            held[tile.array].append((matrix, tile))
    for region in regions(matrices):
        parts[region.array].append(region)
    body = []
    for number, share in shares.items():
        left = MARGIN + (number % across) * (wide + GAP)
        top = TITLE + (number // across) * (high + GAP + TITLE)
        title = f"array {number}: {100 * share:.0f} % in use" if wide > 120 else f"{number}: {100 * share:.0f} %"
        body.append(f'<text x="{left:.1f}" y="{top - 6:.1f}">{_short(title, wide)}</text>')
        words = f"array {number}, {target.array.rows} x {target.array.columns} devices, {100 * share:.1f} % in use"
        body.append(
            f'<rect class="array" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}">'
            f"<title>{words}</title></rect>"
        )
        body += [_tile(m, t, left, top, scale) for m, t in held[number]]
        body += [_part(r, left, top, scale) for r in parts[number]]
    bottom = TITLE + math.ceil(len(shares) / across) * (high + GAP + TITLE) - TITLE
    legend = _legend(matrices, target, bottom, len(every) - len(shares))
    height = bottom + 16 * len(legend) + 6
    words = f"Floor plan of {len(every)} arrays on {escape(target.name)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="floor-plan" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'role="img" aria-label="{words}"><style>{_STYLE}</style>{"".join(body)}{"".join(legend)}</svg>\n'
    )


def _size(count: int) -> float:
    """Pixels of an array's longer side."""
    return next(size for most, size in ((2, 460), (6, 300), (12, 220), (35, 140), (10**9, 90)) if count <= most)


def _tile(matrix: Matrix, tile: Tile, left: float, top: float, scale: float) -> str:
    """The outline of a tile, empty cells within it, and its reference column."""
    count = tile.outputs[1] - tile.outputs[0]
    rows, columns = tile.inputs[1] - tile.inputs[0], matrix.width(count)
    x, y = left + tile.column * scale, top + tile.row * scale
    colour = f'style="--m: var(--m{matrix.index % COLOURS})"'
    words = f"{matrix.value}: inputs {tile.inputs[0]}:{tile.inputs[1]}, outputs {tile.outputs[0]}:{tile.outputs[1]}"
    out = (
        f'<rect class="tile" {colour} x="{x:.2f}" y="{y:.2f}" width="{columns * scale:.2f}" '
        f'height="{rows * scale:.2f}"><title>{escape(words)}</title></rect>'
    )
    if matrix.encoding == "offset":
        out += (
            f'<rect class="reference" {colour} x="{x + (columns - 1) * scale:.2f}" y="{y:.2f}" width="{scale:.2f}" '
            f'height="{rows * scale:.2f}"><title>reference column of {escape(matrix.value)}</title></rect>'
        )
    return out


def _part(region: Region, left: float, top: float, scale: float) -> str:
    """One weight's cells, with its name where it fits."""
    x, y = left + region.columns[0] * scale, top + region.rows[0] * scale
    wide, high = ((b - a) * scale for a, b in (region.columns, region.rows))
    rows = f", rows {region.outputs}" if region.outputs else ""
    words = (
        f"{region.weight}{rows} on {region.driven}; word lines {region.rows[0]}:{region.rows[1]}, "
        f"bit lines {region.columns[0]}:{region.columns[1]}"
    )
    return (
        f'<g class="part-group" style="--m: var(--m{region.matrix.index % COLOURS})"><title>{escape(words)}</title>'
        f'<rect class="part" x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{high:.2f}"/>'
        f"{_names(region, x, y, wide, high)}</g>"
    )


def _names(region: Region, x: float, y: float, wide: float, high: float) -> str:
    """The weight's name, and what drives it on a line of its own, lying or standing, where there is room."""
    rows = f"rows {region.outputs} " if region.outputs else ""
    lines = [(region.weight, ""), (f"{rows}on {region.driven}", ' class="fine"')]
    for count in (2, 1):
        shown = lines[:count]
        length = max(len(words) for words, _ in shown) * CHARACTER + 4
        lying, standing = (length <= wide and 13 * count <= high), (length <= high and 13 * count <= wide)
        if not lying and not standing:
            continue
        cx, cy = x + wide / 2, y + high / 2
        turn = "" if lying else f' transform="rotate(-90 {cx:.1f} {cy:.1f})"'
        first = cy + 4 - 6.5 * (count - 1)
        return "".join(
            f'<text{kind} x="{cx:.1f}" y="{first + 13 * i:.1f}" text-anchor="middle"{turn}>{escape(words)}</text>'
            for i, (words, kind) in enumerate(shown)
        )
    return ""


def _legend(matrices: Sequence[Matrix], target: Crossbar, top: float, left_out: int) -> list[str]:
    """A line for each matrix, two on how to read the drawing, and one on arrays that aren't drawn."""
    stages = len({m.stage for m in matrices}) > 1
    out = []
    for i, m in enumerate(matrices):
        name = f"{m.stage}: {m.value}" if stages else m.value
        held = ", ".join(dict.fromkeys(part["weight"] for part in m.parts))
        words = f"{name}: {held} on {', '.join(m.sources or (m.input,))}; {m.outputs} x {m.inputs}"
        y = top + 16 * i
        out.append(
            f'<rect class="swatch" style="--m: var(--m{m.index % COLOURS})" x="{MARGIN}" y="{y:.1f}" width="10" '
            f'height="10"/><text x="{MARGIN + 16}" y="{y + 9:.1f}">{_short(words, WIDTH - 20)}</text>'
        )
    array = target.array
    below = [
        f"{array.rows} word lines from top to bottom, driven from the left; {array.columns} bit lines, sensed above.",
        f"{WORDS[array.encoding].capitalize()}. Pale cells are never formed.",
    ]
    if left_out:
        below.append(f"{left_out} more arrays stand in floor_plan.txt.")
    for i, words in enumerate(below, len(matrices)):
        out.append(f'<text class="fine" x="{MARGIN}" y="{top + 16 * i + 9:.1f}">{_short(words, WIDTH)}</text>')
    return out


def _short(words: str, width: float) -> str:
    """The words, cut to a width and escaped."""
    most = max(int(width / CHARACTER), 4)
    return escape(words if len(words) <= most else words[: most - 1] + "…")
