"""The front of mixed widths for people and programs: a table's rows, JSON, Markdown and a picture.

All of them show the JSON form (``front.json`` in a build), so that a saved build says the same as the search did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from neurodeploy.mixed import Front, Mix

JSON, MARKDOWN, PICTURE = "front.json", "front.md", "front.svg"
COLUMNS = ("", "flash B", "states B", "loss", "output error %", "widths")
WIDTH, HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 20, 48
Found = Mapping[str, Any]


def as_dict(front: Front) -> dict[str, Any]:
    """The front as JSON has it: bytes, and losses in ``measure`` (``loss`` is what was kept to ``max_loss``)."""
    held = None
    if front.held_out is not None:
        held = {"samples": front.held_out_samples, **_losses(front.held_out)}
    return {
        "measure": front.measure,
        "max_loss": front.max_loss,
        "minimise": front.minimise,
        "evaluations": front.evaluations,
        "samples": front.samples,
        "float_accuracy": front.float_accuracy,
        "chosen": _mix(front.chosen),
        "held_out": held,
        "front": [_mix(mix) for mix in front.mixes],
    }


def _mix(mix: Mix) -> dict[str, Any]:
    return {"flash": mix.flash, "ram": mix.ram, **_losses(mix.loss), "widths": dict(mix.widths)}


def _losses(loss: Any) -> dict[str, float]:
    return {"loss" if name == "value" else name: value for name, value in asdict(loss).items()}


def files(front: Front) -> dict[str, bytes]:
    """The files that a build holds beside its own."""
    found = as_dict(front)
    return {
        JSON: (json.dumps(found, indent=1) + "\n").encode(),
        MARKDOWN: markdown(found).encode(),
        PICTURE: svg(found).encode(),
    }


# -- words -------------------------------------------------------------------------------------------------------------


def title(found: Found) -> str:
    """What the rows are."""
    return (
        f"mixed widths, {found['evaluations']} tried on {found['samples']} samples: loss in {found['measure']}, "
        f"at most {found['max_loss']:g}; least {found['minimise']} first"
    )


def rows(found: Found) -> list[tuple[str, ...]]:
    """The mixes in the order of :data:`COLUMNS`, the cheapest first, the chosen one marked."""
    return [
        (
            "chosen" if mix == found["chosen"] else "",
            f"{mix['flash']:,}",
            f"{mix['ram']:,}",
            f"{mix['loss']:.2f}",
            f"{mix['rmse']:.3f}",
            words(mix["widths"]),
        )
        for mix in found["front"]
    ]


def words(widths: Mapping[str, Any]) -> str:
    """Widths in a few words: the commonest one, and the tensors that have another."""
    each = list(widths.values())
    if not each:
        return "as they were"
    common = max(dict.fromkeys(each), key=each.count)
    rest = ", ".join(f"{name} {width}" for name, width in widths.items() if width != common)
    return f"{common}, but {rest}" if rest else f"all {common}"


def held_out_line(found: Found) -> str:
    """The loss on samples that the mix was not chosen by."""
    held = found["held_out"]
    if held is None:
        return "No samples were held out: there are too few. The loss is that on the samples it was chosen by."
    one = f" (one sample is {100 / held['samples']:.2f})" if found["float_accuracy"] is not None else ""
    return f"On {held['samples']} samples held out the chosen mix loses {held['measured']:.2f} {found['measure']}{one}."


def warnings(front: Front) -> list[str]:
    """What to be careful of."""
    found, held = [], front.held_out
    if held is not None and held.measured > front.max_loss:
        found.append(
            f"mixed widths: {held.measured:.2f} {front.measure} are lost on {front.held_out_samples} samples held out, "
            f"{front.max_loss:g} were allowed. Give more samples (--data), or allow less."
        )
    if front.float_accuracy == 100.0:
        found.append(
            "mixed widths: the float network gets every sample right that they were chosen by, so these tell little of "
            "what is lost on others. Calibrate on samples that it was not trained on."
        )
    return found


# -- pages -------------------------------------------------------------------------------------------------------------


def markdown(found: Found) -> str:
    """A page with the table and what it is made of."""
    lines = ["# Mixed widths", "", f"{title(found)[:1].upper()}{title(found)[1:]}.", "", f"![front]({PICTURE})", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * 4 + "---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows(found)]
    lines += ["", held_out_line(found), ""]
    lines += [
        "*flash*: weights, biases and multipliers, two weights of 4 bits a byte. *loss*: what was kept to the limit.",
        "*output error*: rmse of the outputs over their range. Every mix was run as integers in the golden model.",
        "",
    ]
    return "\n".join(lines)


def svg(found: Found) -> str:
    """Loss against cost: a dot for each mix of the front, the chosen one filled, the limit dashed."""
    mixes: Sequence[Found] = found["front"]
    cost, limit = found["minimise"], found["max_loss"]
    low = min(m[cost] for m in mixes)
    high = max(*(m[cost] for m in mixes), low + 1)
    top = max(*(m["loss"] for m in mixes), limit, 1e-9) * 1.1
    base, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT

    def place(mix: Found) -> tuple[float, float]:
        x = _LEFT + 10 + (mix[cost] - low) / (high - low) * (right - _LEFT - 20)
        return round(x, 1), round(base - mix["loss"] / top * (base - _TOP), 1)

    line = round(base - limit / top * (base - _TOP), 1)
    parts = [
        f'<path d="M{_LEFT} {_TOP}V{base}H{right}" fill="none" stroke="#888"/>',
        f'<path d="M{_LEFT} {line}H{right}" stroke="#b40" stroke-dasharray="5 4"/>',
        f'<text x="{right}" y="{line - 5}" text-anchor="end" fill="#b40">allowed {limit:g}</text>',
        f'<text x="{_LEFT - 6}" y="{base + 4}" text-anchor="end">0</text>',
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{top:.2g}</text>',
        f'<text x="{_LEFT + 10}" y="{base + 18}">{low:,} B</text>',
        f'<text x="{right}" y="{base + 18}" text-anchor="end">{high:,} B</text>',
        f'<text x="{_LEFT}" y="{HEIGHT - 10}">loss ({escape(found["measure"])}) against {cost}</text>',
    ]
    for mix in mixes:
        x, y = place(mix)
        fill = "#06c" if mix == found["chosen"] else "white"
        tip = escape(f"{mix[cost]:,} B, loses {mix['loss']:.2f}: {words(mix['widths'])}")
        parts.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{fill}" stroke="#06c"><title>{tip}</title></circle>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )
