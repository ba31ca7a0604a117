"""``docs/benchmarks.png``: instructions, code and RAM of a step beside the peers', on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.networks import GATES

if TYPE_CHECKING:
    from benchmarks.bench import Row

OURS = "ours"
COLOURS = {
    OURS: "#0b6e4f",
    "TFLite Micro, CMSIS-NN, int8": "#c9793a",
    "TFLite Micro, reference kernels, int8": "#dcae82",
    "onnx2c, float32": "#7a6fa8",
}
TITLES = {"gru": "GRU", "lstm": "LSTM", "elman": "Elman"}
WEIGHT = {OURS: "bold"}


def draw(rows: Sequence[Row], peers: dict[str, Any], path: Path) -> None:
    """Draw the Cortex-M4F's figures, 8 inputs and 32 units, the best of the compilers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    shown = [r for r in rows if (r.variant, r.shape, r.step.board) == ("", (8, 32), "mps2-an386")]
    ours = {kind: min((r.step for r in shown if r.network == kind), key=lambda s: s.instructions) for kind in GATES}
    panels = {
        "instructions a step": ({k: s.instructions for k, s in ours.items()}, "instructions"),
        "code and constants, bytes": ({k: s.code + s.constants for k, s in ours.items()}, "code_and_constants_bytes"),
        "RAM in all, bytes": ({k: s.ram_in_all for k, s in ours.items()}, "ram_bytes"),
    }
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.4))
    for axis, (title, (mine, key)) in zip(axes, panels.items(), strict=True):
        _bars(axis, mine, {p["engine"]: p[key] for p in peers["step"]})
        axis.set_title(title, fontsize=11)
    handles = [Patch(color=colour) for colour in COLOURS.values()]
    names = [name if name != OURS else "neurodeploy" for name in COLOURS]
    figure.legend(handles, names, loc="lower center", ncols=len(names), frameon=False)
    figure.suptitle(
        "One step, 8 inputs, 32 units, Cortex-M4F: less is better. Logarithmic axes; in brackets, times ours",
        fontsize=11,
    )
    figure.tight_layout(rect=(0, 0.07, 1, 0.98))
    figure.savefig(path, dpi=120)


def _bars(axis: Any, mine: dict[str, int], others: dict[str, dict[str, int]]) -> None:
    """A panel: a group of bars a cell, ours first, as many as know the cell."""
    from matplotlib.ticker import LogLocator, NullFormatter

    at, ticks = 0.0, []
    for kind in TITLES:
        bars = {OURS: mine[kind], **{engine: known[kind] for engine, known in others.items() if kind in known}}
        ticks.append(at + (len(bars) - 1) / 2)
        for engine, value in bars.items():
            axis.barh(at, value, 0.9, color=COLOURS[engine])
            ratio = "" if engine == OURS else f" ({value / mine[kind]:.1f})"
            axis.text(
                value * 1.1, at, f"{value:,}{ratio}", va="center", fontsize=8, weight=WEIGHT.get(engine, "normal")
            )
            at += 1
        at += 0.8
    axis.set_xscale("log")
    values = [*mine.values(), *(v for known in others.values() for v in known.values())]
    axis.set_xlim(10 ** math.floor(math.log10(min(values))), max(values) * 9)
    axis.xaxis.set_major_locator(LogLocator(10))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks(ticks, TITLES.values())
    axis.tick_params(axis="y", length=0)
    axis.invert_yaxis()
    axis.grid(axis="x", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
