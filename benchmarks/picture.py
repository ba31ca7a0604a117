"""``docs/benchmarks.png``: instructions, code and RAM of a step beside the peers', on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.networks import GATES

if TYPE_CHECKING:
    from benchmarks.bench import Row

COLOURS = {
    "ours": "#0b6e4f",
    "TFLite Micro, CMSIS-NN, int8": "#c9793a",
    "TFLite Micro, reference kernels, int8": "#dcae82",
    "onnx2c, float32": "#7a6fa8",
}
TITLES = {"gru": "GRU", "lstm": "LSTM", "elman": "Elman"}


def draw(rows: Sequence[Row], peers: dict[str, Any], path: Path) -> None:
    """Draw the Cortex-M4F's figures, 8 inputs and 32 units, the best of the compilers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [r for r in rows if (r.variant, r.shape, r.step.board) == ("", (8, 32), "mps2-an386")]
    ours = {kind: min((r.step for r in shown if r.network == kind), key=lambda s: s.instructions) for kind in GATES}
    panels = {
        "instructions a step": ({k: s.instructions for k, s in ours.items()}, "instructions"),
        "code and constants, bytes": ({k: s.code + s.constants for k, s in ours.items()}, "code_and_constants_bytes"),
        "RAM, bytes": ({k: s.ram for k, s in ours.items()}, "ram_bytes"),
    }
    engines = ["ours", *(p["engine"] for p in peers["step"])]
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.6))
    height = 0.8 / len(engines)
    for axis, (title, (mine, key)) in zip(axes, panels.items(), strict=True):
        for number, engine in enumerate(engines):
            known = mine if engine == "ours" else next(p[key] for p in peers["step"] if p["engine"] == engine)
            for place, kind in enumerate(("gru", "lstm", "elman")):
                if kind not in known:
                    continue
                at = place + (number - (len(engines) - 1) / 2) * height
                axis.barh(at, known[kind], height * 0.92, color=COLOURS.get(engine, "#999999"))
                axis.text(known[kind] * 1.08, at, f"{known[kind]:,}", va="center", fontsize=8)
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        axis.set_xlim(low / 2, high * 4)
        axis.set_yticks(range(3), [TITLES[k] for k in ("gru", "lstm", "elman")])
        axis.invert_yaxis()
        axis.set_title(title, fontsize=11)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    names = {"ours": "neurodeploy"}
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS.get(e, "#999999")) for e in engines]
    figure.legend(handles, [names.get(e, e) for e in engines], loc="lower center", ncols=len(engines), frameon=False)
    figure.suptitle("One step, 8 inputs, 32 units, Cortex-M4F at -O2: less is better (logarithmic axes)", fontsize=12)
    figure.tight_layout(rect=(0, 0.07, 1, 0.97))
    figure.savefig(path, dpi=120)
