"""Which weights sit where: every array with its tiles, as text and as a drawing to scale.

Word line 0 is nearest to the sense amplifiers, bit line 0 to the drivers, so both stand at the top left. Ranges in the
text are ``first:stop`` as in the network's own slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurodeploy.artifact import Artifact
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping import tiles
from neurodeploy.crossbar.mapping.tiles import Matrix, Span, Tile
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.passes.tiling import lines

WORDS = {
    "differential": "a weight is a pair of devices on two bit lines",
    "offset": "a weight is a device; each tile has a reference column",
    "one-sided": "a weight is a device; its offset is subtracted digitally",
}


@dataclass(frozen=True)
class Region:
    """One of the network's weights, or a part of it, on one array: its word lines and bit lines.

    ``weight``: its name in the network; ``outputs``: which rows of it lie here, ``""`` for all; ``driven``: the values,
    or parts of them, on its word lines.
    """

    array: int
    rows: Span
    columns: Span
    weight: str
    outputs: str
    driven: str
    matrix: Matrix
    tile: Tile


def files(artifact: Artifact) -> dict[str, bytes]:
    """``floor_plan.txt`` and ``floor_plan.svg`` of a crossbar's build."""
    from neurodeploy.crossbar.mapping.floor_plan_svg import svg

    target, matrices = described(artifact)
    return {
        "floor_plan.txt": text(matrices, target).encode(),
        "floor_plan.svg": svg(matrices, target).encode(),
    }


def regions(matrices: Sequence[Matrix]) -> list[Region]:
    """Every part of a weight that lies together, array by array, from the top left on."""
    found = [
        region
        for matrix in matrices
        for tile in matrix.tiles
        for part in matrix.parts
        if (region := _region(matrix, tile, part)) is not None
    ]
    return sorted(found, key=lambda r: (r.array, r.tile.row, r.tile.column, r.columns, r.rows))


def _region(matrix: Matrix, tile: Tile, part: Mapping[str, Any]) -> Region | None:
    inputs = max(tile.inputs[0], part["inputs"][0]), min(tile.inputs[1], part["inputs"][1])
    outputs = max(tile.outputs[0], part["outputs"][0]), min(tile.outputs[1], part["outputs"][1])
    if inputs[0] >= inputs[1] or outputs[0] >= outputs[1]:
        return None
    each, _ = lines(matrix.encoding, matrix.slices)
    rows = tile.row + inputs[0] - tile.inputs[0], tile.row + inputs[1] - tile.inputs[0]
    columns = tile.column + each * (outputs[0] - tile.outputs[0]), tile.column + each * (outputs[1] - tile.outputs[0])
    first = part["outputs"][0]
    whole = outputs == tuple(part["outputs"])
    held = "" if whole else f"{outputs[0] - first}:{outputs[1] - first}"
    return Region(tile.array, rows, columns, part["weight"], held, driven(matrix, inputs), matrix, tile)


def driven(matrix: Matrix, inputs: Span) -> str:
    """The values that drive some of a matrix's inputs: ``x, h[0:100]``."""
    sources = matrix.sources or (matrix.input,)
    spans = [(start, stop) for start, stop, _ in matrix.segments]
    words = []
    for source, (start, stop) in zip(sources, spans, strict=True):
        first, last = max(start, inputs[0]), min(stop, inputs[1])
        if first < last:
            whole = (first, last) == (start, stop)
            words.append(source if whole else f"{source}[{first - start}:{last - start}]")
    return ", ".join(words)


def used(matrices: Sequence[Matrix], target: Crossbar) -> dict[int, float]:
    """Array -> share of its devices in use."""
    there = target.array.rows * target.array.columns
    counts = dict.fromkeys(range(tiles.arrays(list(matrices))), 0)
    for matrix in matrices:
        for tile in matrix.tiles:
            counts[tile.array] += matrix.devices_of(tile)
    return {array: count / there for array, count in counts.items()}


def text(matrices: Sequence[Matrix], target: Crossbar) -> str:
    """The floor plan as a table for each array."""
    array, shares = target.array, used(matrices, target)
    total = sum(shares.values()) / len(shares)
    sliced = f", in {array.slices} slices" if array.slices > 1 else ""
    plural = "array" if len(shares) == 1 else "arrays"
    out = [
        f"{target.name}: {len(shares)} {plural} of {array.rows} word lines by {array.columns} bit lines; "
        f"{WORDS[array.encoding]}{sliced}",
        f"{100 * total:.1f} % of the devices in use",
    ]
    table = regions(matrices)
    stages = len({m.stage for m in matrices}) > 1
    head = ("word lines", "bit lines", "weights", "rows", "driven by", "matrix")
    rows: dict[int, list[tuple[str, ...]]] = {number: [head] for number in shares}
    for r in table:
        name = f"{r.matrix.stage}: {r.matrix.value}" if stages else r.matrix.value
        rows[r.array].append((_range(r.rows), _range(r.columns), r.weight, r.outputs or "all", r.driven, name))
    widths = [max(len(cells[i]) for held in rows.values() for cells in held) for i in range(len(head))]
    for number, share in shares.items():
        out += ["", f"array {number}: {100 * share:.1f} % in use"]
        for cells in rows[number]:
            out.append("  " + "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip())
    return "\n".join(out) + "\n"


def _range(span: Span) -> str:
    return f"{span[0]}:{span[1]}"
