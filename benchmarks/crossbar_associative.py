"""Associative memories and max-cut on memristor arrays: capacity, recall, stuck devices, age, noise that helps.

Seeds 0 to 4, all printed: a seed is its patterns, cues (or graph) and ten chips. A cue is recalled where at least 95 %
of its units end as in its pattern. Spreads are standard deviations over all 50 chips. p: the exact McNemar test over
all cues of all chips; chips of a seed share its patterns, so it says little about other patterns.

Max-cut: schedules were chosen on graphs of seeds 100 to 103, and judged on those of seeds 0 to 4. A run counts where
its energy after some sweep is the optimum, which is known exactly. All ways start from the same states on the same
chips.

    python -m benchmarks.crossbar_associative [--picture docs/crossbar/associative.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy import hardware
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.cli.output import table
from neurodeploy.crossbar.associative import HopfieldArray
from neurodeploy.crossbar.associative.ising import Annealing, anneal, cooling, field_scale, sweeps_to_solution
from neurodeploy.crossbar.associative.ising_problems import best_cut, maxcut_ising, random_graph, random_regular
from neurodeploy.crossbar.associative.programs import hopfield_program, stored
from neurodeploy.crossbar.associative.study import RECALLED, Point, Setting, crossing, curve, point
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.report.metrics import mcnemar

SEEDS, CHIPS = range(5), 10
SIZES, LOADS = (50, 100, 200, 400, 800), (0.06, 0.10, 0.12, 0.138, 0.15, 0.16, 0.18, 0.20)
PAIR_LOADS = (0.06, 0.10, 0.14, 0.18, 0.20, 0.22, 0.26)
RULES = ("hebb", "storkey", "pseudo-inverse")
STUCK = (0.0, 0.01, 0.02, 0.05, 0.10, 0.20, 0.30, 0.40)
AGES = {"t0": 0.0, "1h": 3600.0, "1d": 86400.0, "30d": 2592000.0, "1y": 31536000.0}
#: Those whose devices age; the last three have wires or thermal noise too.
TARGETS = ("pcm-128", "pcm-22nm-128", "rram-hfo2-128", "cmo-hfox-128")
AGED = Setting(load=0.12, flipped=0.2)
SWEEPS, RUNS, MAXCUT_CHIPS = 200, 40, 5
Points = list[Point]


def seeds_of(setting: Setting, target: str, chips: int = CHIPS) -> Points:
    """A point for every seed."""
    return [point(setting, target, chips=chips, seed=seed) for seed in SEEDS]


def percent(points: Points) -> tuple[str, str]:
    """Recalled by seed, and mean +- standard deviation over chips, in %."""
    every = np.concatenate([p.recalled for p in points])
    return " ".join(
        f"{100 * p.recalled.mean():.0f}" for p in points
    ), f"{100 * every.mean():.1f} +- {100 * every.std():.1f}"


def p_value(a: Points, b: Points) -> str:
    """McNemar over all cues and chips; a point of one chip stands beside each of the other's."""
    flat = []
    for one, other in ((a, b), (b, a)):
        shapes = [np.broadcast_shapes(p.right.shape, q.right.shape) for p, q in zip(one, other, strict=True)]
        flat.append(np.concatenate([np.broadcast_to(p.right, s).ravel() for p, s in zip(one, shapes, strict=True)]))
    return f"{mcnemar(*flat):.2g}"


def capacity() -> dict[int, list[float]]:
    """Mean overlaps of the ideal array, starting from the patterns themselves."""
    found: dict[int, list[float]] = {}
    rows = []
    for units in SIZES:
        found[units] = []
        for load in LOADS:
            setting = Setting(units=units, load=load, flipped=0.0, cues=50 if units < 400 else 20, sweeps=100)
            overlaps = [float(p.overlap.mean()) for p in seeds_of(setting, "ideal-128", 1)]
            found[units].append(float(np.mean(overlaps)))
            rows.append((units, load, " ".join(f"{m:.3f}" for m in overlaps), f"{np.mean(overlaps):.3f}"))
    table(
        "capacity, ideal array, Hebb: overlap after recall from the pattern", ("units", "load", "by seed", "mean"), rows
    )
    half = [(n, f"{crossing(LOADS, m, 0.9):.3f}", f"{crossing(LOADS, m, 0.7):.3f}") for n, m in found.items()]
    table("load at which the mean overlap falls below", ("units", "0.9", "0.7"), half)
    return found


def pair_capacity() -> None:
    rows = []
    for units in (50, 100, 200, 400):
        for load in PAIR_LOADS:
            setting = Setting(units=units, load=load, flipped=0.0, memory="bam", cues=50 if units < 400 else 20)
            overlaps = [float(p.overlap.mean()) for p in seeds_of(setting, "ideal-128", 1)]
            rows.append((units, load, " ".join(f"{m:.3f}" for m in overlaps), f"{np.mean(overlaps):.3f}"))
    columns = ("units of x, of y", "load", "by seed", "mean")
    table("pair memory, ideal array: overlap of y after recall from x", columns, rows)
    rows = []
    for load, flipped in ((0.10, 0.1), (0.10, 0.2), (0.14, 0.1), (0.14, 0.2), (0.18, 0.1)):
        base = Setting(load=load, flipped=flipped, memory="bam")
        ideal = seeds_of(base, "ideal-128", 1)
        for name in ("t0", "1y"):
            points = seeds_of(replace(base, seconds=AGES[name]), "pcm-128")
            cells = (percent(ideal)[0], *percent(points), p_value(ideal, points))
            rows.append((f"{load:.2f}", f"{100 * flipped:.0f}", name, *cells))
    columns = ("load", "flipped", "age", "ideal by seed", "pcm-128 by seed", "pcm-128", "p")
    table("pair memory, 100 and 100 units, read both ways: y recalled %", columns, rows)


def converters() -> None:
    """The same chips, all units at once: with comparators, and as the compiled program with 8-bit converters."""
    rows = []
    for load, flipped in ((0.10, 0.2), (0.12, 0.2), (0.14, 0.1)):
        right: dict[str, list[np.ndarray]] = {"comparators": [], "converters": []}
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            x = 2.0 * rng.integers(0, 2, (round(100 * load), 100)) - 1
            goals = x[rng.integers(0, len(x), 50)]
            cues = np.where(rng.random(goals.shape) < flipped, -goals, goals).astype(np.float32)
            target = hardware.find("pcm-128", hardware.Crossbar)
            built = CrossbarBackend().compile(hopfield_program(stored(x)), target, data=Data({"cue": cues}))
            trace = CrossbarRunner().run(built, {"cue": cues}, chips=CHIPS, times=["t0"], seed=seed)
            array = HopfieldArray(stored(x), target, chips=CHIPS, seed=seed)
            found = {"comparators": array.recall(cues, order="synchronous", sweeps=50).states}
            found["converters"] = trace.chip_outputs["s"][0]
            for how, states in found.items():
                right[how].append((states == goals).mean(axis=-1) >= RECALLED)
        cells = [" ".join(f"{100 * r.mean():.0f}" for r in right[how]) for how in right]
        flat = [np.concatenate([r.ravel() for r in right[how]]) for how in right]
        means = [f"{100 * f.mean():.1f}" for f in flat]
        rows.append((f"{load:.2f}", f"{100 * flipped:.0f}", *cells, *means, f"{mcnemar(*flat):.2g}"))
    columns = ("load", "flipped", "comparators by seed", "converters by seed", "comparators", "converters", "p")
    table("recalled %, pcm-128, all units at once", columns, rows)


def recall() -> dict[str, dict[str, list[float]]]:
    """Recall against load for every rule, and against corrupted cues, ideal and PCM."""
    curves: dict[str, dict[str, list[float]]] = {}
    rows = []
    loads = (0.05, 0.10, 0.12, 0.14, 0.20, 0.30, 0.40, 0.50)
    for rule in RULES:
        curves[rule] = {"ideal-128": [], "pcm-128": []}
        for load in loads:
            setting = Setting(load=load, rule=rule)
            ideal, pcm = seeds_of(setting, "ideal-128", 1), seeds_of(setting, "pcm-128")
            rows.append((rule, f"{load:.2f}", *percent(ideal)[:1], *percent(pcm), p_value(ideal, pcm)))
            for target, points in (("ideal-128", ideal), ("pcm-128", pcm)):
                curves[rule][target].append(100 * float(np.mean([p.recalled.mean() for p in points])))
    columns = ("rule", "load", "ideal by seed", "pcm-128 by seed", "pcm-128", "p")
    table("recalled %, 100 units, 10 % flipped, one by one", columns, rows)
    rows = []
    for load in (0.05, 0.10, 0.14):
        for flipped in (0.1, 0.2, 0.3, 0.4):
            base = Setting(load=load, flipped=flipped)
            found = [seeds_of(base, "ideal-128", 1), seeds_of(base, "pcm-128")]
            found.append(seeds_of(replace(base, order="synchronous"), "pcm-128"))
            cycles = np.mean([p.cycles.mean() for p in found[2]])
            cells = [percent(points) for points in found]
            rows.append((
                f"{load:.2f}", f"{100 * flipped:.0f}", *(c[0] for c in cells), *(c[1] for c in cells[1:]),
                p_value(found[0], found[1]), p_value(found[1], found[2]), f"{100 * cycles:.1f}",
            ))  # fmt: skip
    columns = (
        "load", "flipped", "ideal", "pcm", "pcm, at once", "pcm", "pcm, at once", "p ideal/pcm", "p order", "cycles %",
    )  # fmt: skip
    table("recalled %, Hebb, 100 units: by seed, then all chips", columns, rows)
    curves["loads"] = {"loads": list(loads)}
    return curves


def stuck() -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {}
    rows = []
    for where in ("stuck_on", "stuck_off"):
        curves[where] = []
        for share in STUCK:
            points = [
                curve(where, [share], "pcm-128", setting=Setting(load=0.08), chips=CHIPS, seed=seed)[0]
                for seed in SEEDS
            ]
            curves[where].append(100 * float(np.mean([p.recalled.mean() for p in points])))
            rises = np.mean([p.rises.mean() for p in points if p.rises is not None])
            settled = np.mean([p.converged.mean() for p in points])
            rows.append((where, f"{100 * share:.0f}", *percent(points), f"{100 * settled:.0f}", f"{rises:.1f}"))
    columns = ("devices", "%", "by seed", "all chips", "settled %", "rises a cue")
    table("recalled %, pcm-128, load 0.08, 10 % flipped", columns, rows)
    return curves


def age() -> dict[str, list[float]]:
    ideal = seeds_of(AGED, "ideal-128", 1)
    rows = [("ideal-128", "any", *percent(ideal), "", "")]
    curves: dict[str, list[float]] = {}
    for target in TARGETS:
        curves[target] = []
        fresh: Points = []
        for name, seconds in AGES.items():
            points = seeds_of(replace(AGED, seconds=seconds), target)
            fresh = fresh or points
            curves[target].append(100 * float(np.mean([p.recalled.mean() for p in points])))
            rows.append((target, name, *percent(points), p_value(ideal, points), p_value(fresh, points)))
    columns = ("target", "age", "by seed", "all chips", "p ideal", "p t0")
    table(f"recalled %, load {AGED.load}, {100 * AGED.flipped:.0f} % flipped", columns, rows)
    return curves


def ways(scale: float) -> dict[str, dict[str, Any]]:
    """What runs differ in."""
    return {
        "no noise": {},
        "no noise, low conductance": {"conductance": 0.1},
        "noise of the devices": {"read_noise": "fresh"},
        "the same, low conductance": {"read_noise": "fresh", "conductance": 0.1},
        "self-coupling from -0.5 to -0.25": {"hold": np.linspace(-0.5 * scale, -0.25 * scale, SWEEPS)},
        "the same, noise of the devices": {
            "hold": np.linspace(-0.5 * scale, -0.25 * scale, SWEEPS), "read_noise": "fresh",
        },
        "Gaussian, 0.6 to 0.3": {"noise": cooling(0.6 * scale, 0.3 * scale, SWEEPS)},
        "Glauber, 0.6 to 0.3": {"temperature": cooling(0.6 * scale, 0.3 * scale, SWEEPS)},
    }  # fmt: skip


GRAPHS: dict[str, Callable[[int], np.ndarray]] = {
    "24 vertices, half of all edges": lambda seed: random_graph(24, 0.5, seed),
    "30 vertices, half of all edges": lambda seed: random_graph(30, 0.5, seed),
    "60 vertices, 10 % of all edges": lambda seed: random_graph(60, 0.1, seed),
    "60 vertices of degree 3": lambda seed: random_regular(60, 3, seed),
}


def cuts() -> dict[str, dict[str, np.ndarray]]:
    """Share of runs that have reached the optimum after every sweep, mean of the seeds."""
    curves: dict[str, dict[str, np.ndarray]] = {}
    rows = []
    for title, make in GRAPHS.items():
        reached: dict[str, list[np.ndarray]] = {}
        for seed in SEEDS:
            A = make(seed)
            optimum, problem = best_cut(A)[0], maxcut_ising(A)
            for way, options in ways(field_scale(problem)).items():
                found: Annealing = anneal(
                    problem, "pcm-128", chips=MAXCUT_CHIPS, runs=RUNS, sweeps=SWEEPS, seed=seed, **options
                )
                reached.setdefault(way, []).append(found.first(-optimum).ravel())
        curves[title] = {}
        for way, first in reached.items():
            every, none = np.concatenate(first), np.concatenate(reached["no noise"])
            rates = [np.mean(f >= 0) for f in first]
            curves[title][way] = np.array([np.mean((every >= 0) & (every <= k)) for k in range(SWEEPS + 1)])
            best = min(sweeps_to_solution(every, k) for k in range(1, SWEEPS + 1))
            rows.append((
                title, way, " ".join(f"{100 * r:.0f}" for r in rates), f"{100 * np.mean(every >= 0):.1f}",
                f"{mcnemar(none >= 0, every >= 0):.2g}", f"{best:,.0f}" if np.isfinite(best) else "never",
            ))  # fmt: skip
    columns = ("graph", "way", "by seed", "all", "p", "sweeps to 99 %")
    table(f"max-cut, pcm-128: runs that reach the optimum in {SWEEPS} sweeps, %", columns, rows)
    return curves


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Associative memories and max-cut on memristor arrays.")
    parser.add_argument("--picture", type=Path, help="a .png to draw the curves into")
    options = parser.parse_args(arguments)
    results = (capacity(), recall(), stuck(), age(), cuts())
    pair_capacity()
    converters()
    if options.picture is not None:
        from benchmarks.crossbar_associative_picture import draw

        draw(options.picture, *results)


if __name__ == "__main__":
    main()
