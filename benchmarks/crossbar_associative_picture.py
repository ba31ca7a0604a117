"""``docs/crossbar/associative.png``: capacity, recall, stuck devices, age and max-cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crossbar_associative import AGES, LOADS, STUCK

SHADES = ("#b9d8cb", "#86bda7", "#4f9f81", "#0b6e4f", "#063d2c")
COLOURS = ("#0b6e4f", "#c9793a", "#7a6fa8", "#3a6ea5", "#a83a5b", "#8a8a3a", "#555555", "#d0a000")


def draw(
    path: Path, capacity: dict[int, list[float]], recall: dict[str, dict[str, list[float]]],
    stuck: dict[str, list[float]], age: dict[str, list[float]], cuts: dict[str, dict[str, np.ndarray]],
) -> None:  # fmt: skip
    """Draw six panels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(15, 8.6))
    _capacity(axes[0, 0], capacity)
    _recall(axes[0, 1], recall)
    _stuck(axes[0, 2], stuck)
    _age(axes[1, 0], age)
    for axis, title in zip(axes[1, 1:], ("30 vertices, half of all edges", "60 vertices of degree 3"), strict=True):
        _cuts(axis, title, cuts[title])
    handles, names = axes[1, 1].get_legend_handles_labels()
    axes[1, 1].legend(handles, names, fontsize=7.5, frameon=False, loc="upper left")
    for axis in axes.flat:
        axis.grid(color="#e4e4e4", linewidth=0.8)
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _capacity(axis: Any, capacity: dict[int, list[float]]) -> None:
    for (units, overlaps), colour in zip(capacity.items(), SHADES, strict=True):
        axis.plot(LOADS, overlaps, "o-", color=colour, markersize=3.5, label=f"{units} units")
    axis.axvline(0.138, color="#999999", linestyle=":")
    axis.text(0.1385, 0.42, "0.138", color="#777777", fontsize=8)
    _names(axis, "Capacity, ideal array, Hebb", "patterns a unit", "overlap with the pattern")
    axis.legend(fontsize=8, frameon=False, loc="lower left")


def _recall(axis: Any, recall: dict[str, dict[str, list[float]]]) -> None:
    loads = recall["loads"]["loads"]
    for rule, colour in zip((k for k in recall if k != "loads"), COLOURS, strict=False):
        axis.plot(loads, recall[rule]["ideal-128"], "--", color=colour, linewidth=1.2)
        axis.plot(loads, recall[rule]["pcm-128"], "o-", color=colour, markersize=3.5, label=rule)
    axis.plot([], [], "--", color="#777777", label="ideal (solid: PCM)")
    _names(axis, "Recall by load, 100 units, 10 % of a cue wrong", "patterns a unit", "cues recalled, %")
    axis.legend(fontsize=8, frameon=False)


def _stuck(axis: Any, stuck: dict[str, list[float]]) -> None:
    for (where, rates), colour in zip(stuck.items(), COLOURS, strict=False):
        axis.plot([100 * s for s in STUCK], rates, "o-", color=colour, markersize=3.5, label=where.replace("_", " "))
    _names(axis, "Stuck devices, PCM, 0.08 patterns a unit", "stuck devices, %", "cues recalled, %")
    axis.legend(fontsize=8, frameon=False)


def _age(axis: Any, age: dict[str, list[float]]) -> None:
    places = range(len(AGES))
    for (target, rates), colour in zip(age.items(), COLOURS, strict=False):
        axis.plot(places, rates, "o-", color=colour, markersize=3.5, label=target)
    axis.set_xticks(list(places), list(AGES))
    axis.set_ylim(50, 100)
    _names(axis, "Age, 0.12 patterns a unit, 20 % of a cue wrong", "since the first read", "cues recalled, %")
    axis.legend(fontsize=8, frameon=False, loc="lower left")


def _cuts(axis: Any, title: str, ways: dict[str, np.ndarray]) -> None:
    for (way, share), colour in zip(ways.items(), COLOURS, strict=True):
        axis.plot(range(1, len(share)), 100 * share[1:], color=colour, linewidth=1.6, label=way)
    axis.set_xscale("log")
    axis.set_ylim(-2, 102)
    _names(axis, f"Max-cut, {title}", "sweeps", "runs at the optimum, %")


def _names(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=10.5)
    axis.set_xlabel(x, fontsize=9)
    axis.set_ylabel(y, fontsize=9)
