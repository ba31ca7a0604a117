"""``docs/crossbar/memristive.png``: a run, L, reservoirs, QUBOs, windows of plasticity, receptive fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

COLOURS = ("#0b6e4f", "#c9793a", "#7a6fa8", "#3a6ea5", "#a83a5b", "#8a8a3a", "#555555")
GREY = "#888888"


def draw(path: Path, found: dict[str, Any]) -> None:
    """Draw eight panels from what the benchmark's parts gave."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 4, figsize=(18, 8.2))
    _run(axes[0, 0], axes[1, 0], found["equation"])
    _reservoirs(axes[0, 1], found["reservoirs"])
    _qubos(axes[1, 1], found["qubos"])
    _windows(axes[0, 2], found["windows"])
    _fields(axes[0, 3], found["fields"]["w"])
    sharps = {"untrained": "untrained", "sharp 1": "1", "sharp 2": "2", "sharp 3": "3", "trained": "5", "sharp 8": "8"}
    _bars(axes[1, 2], "Bars by sharpness of the devices", sharps, found["fields"]["correct"])
    cases = [
        n for n in found["fields"]["correct"] if n.startswith(("stuck", "speeds", "conductances")) and "," not in n
    ]
    faults = {n: n.replace("speeds spread", "speeds").replace("conductances spread", "conduct.") for n in cases}
    _bars(axes[1, 3], "Bars by defects and spreads", {"trained": "none", **faults}, found["fields"]["correct"])
    for axis in axes.flat:
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def _run(above: Any, below: Any, run: dict[str, Any]) -> None:
    above.plot(run["times"], run["w"], linewidth=1.3)
    above.set(title="12 memristors, the run of 100 in which L rises most", xlabel="time, s", ylabel="memory w")
    held = (run["w"] >= 1).any(axis=1)
    below.plot(run["times"], run["L"], color=GREY, linewidth=1, label="L")
    below.plot(
        run["times"], np.where(held, np.nan, run["L"]), color=COLOURS[0], linewidth=2.5, label="no unit held at 1"
    )
    below.set(title="Lyapunov function of that run", xlabel="time, s", ylabel="L, 1/s")
    below.legend(frameon=False, fontsize=8)


def _reservoirs(axis: Any, shown: dict[str, list[float]]) -> None:
    for i, values in enumerate(shown.values()):
        axis.plot(np.full(len(values), i) + np.linspace(-0.15, 0.15, len(values)), values, "o", color=COLOURS[i % 7])
    names = [n.replace("readout alone", "readout\nalone").replace("-128", "\nchips") for n in shown]
    axis.set_xticks(range(len(shown)), names, fontsize=8)
    axis.set(title="JapaneseVowels, 60 memristors", ylabel="test accuracy, %")
    axis.grid(axis="y", color="#e4e4e4")


def _qubos(axis: Any, shown: dict[str, list[float]]) -> None:
    for i, (name, values) in enumerate(shown.items()):
        axis.plot(i + np.linspace(-0.25, 0.25, len(values)), values, "o", markersize=4, color=COLOURS[i], label=name)
    axis.set_xticks(range(len(shown)), list(shown), fontsize=8)
    axis.set(title="QUBOs of 16 memristors", ylabel="starts that end at the optimum, %")
    axis.grid(axis="y", color="#e4e4e4")


def _windows(axis: Any, found: dict[str, Any]) -> None:
    for i, (sharp, curve) in enumerate((s, c) for s, c in found["curves"].items() if s in (1.0, 2.0, 3.0, 6.0)):
        axis.plot(found["delays"], curve, ".-", markersize=4, linewidth=1, color=COLOURS[i], label=f"sharp {sharp:g}")
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set(
        title="What a pair of spikes changes", xlabel="neuron's spike after the input's, frames", ylabel="change of w"
    )
    axis.legend(frameon=False, fontsize=8)


def _fields(axis: Any, w: np.ndarray) -> None:
    size, count = int(np.sqrt(len(w))), w.shape[1]
    columns = 5
    rows = -(-count // columns)
    tiles = np.full((rows * (size + 1) - 1, columns * (size + 1) - 1), np.nan)
    for k in range(count):
        r, c = divmod(k, columns)
        tiles[r * (size + 1) : r * (size + 1) + size, c * (size + 1) : c * (size + 1) + size] = w[:, k].reshape(
            size, size
        )
    axis.imshow(tiles, cmap="viridis", vmin=0, vmax=1)
    axis.set(title="Receptive fields of 14 neurons, seed 0", xticks=[], yticks=[])


def _bars(axis: Any, title: str, cases: dict[str, str], correct: dict[str, np.ndarray]) -> None:
    """``cases``: key in ``correct`` -> name."""
    for i, case in enumerate(cases):
        values = correct[case]
        axis.bar(i, values.mean(), color="#b9d8cb" if case != "untrained" else "#dddddd")
        axis.plot(np.full(len(values), i), values, ".", color=COLOURS[0])
    turn, side = (35, "right") if len(cases) > 6 else (0, "center")
    axis.set_xticks(range(len(cases)), list(cases.values()), rotation=turn, ha=side, fontsize=8)
    axis.axhline(100 / 12, color=GREY, linestyle=":", linewidth=1)
    axis.set(title=title, ylabel="bars recognised, %")
