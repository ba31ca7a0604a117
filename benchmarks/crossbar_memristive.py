"""Memristive networks and plasticity by pulses: checks of the equation, reservoirs, QUBOs, receptive fields.

Seeds 0 to 4, all printed. What is chosen is chosen on training data; the parameters of plasticity by hand, on seeds 100
to 104. Reservoirs: JapaneseVowels as shipped (270 training, 370 test samples); the baseline is the same readout on the
inputs themselves; p: exact McNemar test, all seeds together. A QUBO's optimum is found by trying all corners.

    python -m benchmarks.crossbar_memristive [--parts equation speed ...] [--picture docs/crossbar/memristive.png]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.cli.output import table
from neurodeploy.compiler import compile
from neurodeploy.crossbar.memristive import Network, circuit, one_mesh
from neurodeploy.crossbar.memristive.integrate import integrate
from neurodeploy.crossbar.memristive.plasticity import Pulses, Synapse, window, without_coincidence
from neurodeploy.crossbar.memristive.plasticity_bars import experiment
from neurodeploy.crossbar.memristive.qubo import qubo, relax
from neurodeploy.crossbar.memristive.reservoir import Reservoir, last
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.report.metrics import mcnemar
from neurodeploy.spiking.liquid_readout import Ridge, best_penalty, cross_validated, task_of

Array = np.ndarray
EXAMPLES = Path(__file__).parents[1] / "examples"
SEEDS = range(5)
NODES, EDGES, CLASSES = 30, 60, 9
ALPHAS, XIS, SCALES, DT = (-1.0, -0.3), (5.0, 50.0), (0.5, 2.0), 0.3
CHIPS, AGES = 5, (0.0, 31536000.0)
UNITS, STARTS = 16, 100
SHARPS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
STUCK, SPREADS = (0.05, 0.1, 0.2), (0.1, 0.3, 0.6)


def random_network(seed: int, nodes: int, edges: int, **constants: float) -> tuple[Network, np.random.Generator]:
    """A ring with random chords, and the generator that drew them."""
    rng = np.random.default_rng(seed)
    pairs = [(i, (i + 1) % nodes) for i in range(nodes)]
    pairs += [tuple(rng.choice(nodes, 2, replace=False).tolist()) for _ in range(edges - nodes)]
    return Network(circuit(pairs), **constants), rng


def equation() -> dict[str, Any]:
    """How exactly the equation's checks hold."""
    rows = []
    for seed in SEEDS:
        network, rng = random_network(seed, 30, 80, alpha=0.3, beta=1.0, xi=20.0)
        c, w, S = network.circuit, rng.random(80), rng.normal(size=80)
        omega = c.omega
        currents = network.kirchhoff(w, S)[1]
        ring = Network(circuit([(i, (i + 1) % 8) for i in range(8)]), 0.0, 2.0, 9.0)
        w0, times = rng.uniform(0.3, 0.5, 8), np.linspace(0, 0.5, 11)
        mesh = integrate(ring, w0, np.full(8, -1.0), times, tolerance=1e-13).w
        small, rng = random_network(seed, 6, 12, alpha=0.3, beta=1.0, xi=20.0)
        starts, drives = rng.random((100, 12)), 3 * rng.normal(size=(100, 12))
        run = integrate(small, starts, drives, np.linspace(0, 6, 61))
        change = np.diff(small.lyapunov(run.w, drives), axis=0)
        off = (run.w == 1).any(axis=-1)
        held = off[1:] | off[:-1]
        rows.append((
            seed, f"{np.abs(omega @ omega - omega).max():.0e}", f"{np.abs(omega - c.omega_by_cuts).max():.0e}",
            f"{c.loops} = {np.linalg.matrix_rank(omega)}", f"{np.abs(network.flow(w, S) - currents).max():.0e}",
            f"{np.abs(mesh.mean(axis=1) - one_mesh(w0, 1.0, times, beta=2.0, xi=9.0)).max():.0e}",
            f"{np.abs(mesh - mesh.mean(axis=1, keepdims=True) - (w0 - w0.mean())).max():.0e}",
            f"{change[~held].max(initial=-np.inf):.1e}", f"{change[held].max(initial=-np.inf):.1e}",
            f"{(change[held] > 0).mean():.2f}",
        ))  # fmt: skip
    columns = ("seed", "Omega^2", "by cuts", "E-V+1 = rank", "Kirchhoff", "one mesh", "differences",
               "dL, none at 1", "dL, some at 1", "share rising")  # fmt: skip
    table(
        "errors; 30 nodes, 80 memristors, xi 20; largest change of L in 0.1 s: 100 runs of 6 nodes, 12 memristors",
        columns,
        rows,
        right=columns,
    )
    network, rng = random_network(0, 6, 12, alpha=0.3, beta=1.0, xi=20.0)
    starts, drives, times = rng.random((100, 12)), 3 * rng.normal(size=(100, 12)), np.linspace(0, 6, 241)
    w = integrate(network, starts, drives, times).w
    L = network.lyapunov(w, drives)
    shown = int(np.maximum(np.diff(L, axis=0), 0).sum(axis=0).argmax())  # the run in which it rises most
    return {"times": times, "w": w[:, shown], "L": L[:, shown]}


def speed() -> None:
    """A batch against SciPy's integrator of the same order, one sample at a time."""
    from scipy.integrate import solve_ivp

    rows = []
    for nodes, edges in ((10, 20), (40, 60), (20, 100)):
        network, rng = random_network(0, nodes, edges, alpha=0.3, beta=1.0, xi=20.0)
        w0, S = rng.random((20, edges)), 3 * rng.normal(size=(20, edges))
        exact = integrate(network, w0, S, [2.0], tolerance=1e-12).w[0]
        began = time.process_time()
        ours = integrate(network, w0, S, [2.0], tolerance=1e-7).w[0]
        mine = time.process_time() - began

        def rate(t: float, w: Array, sources: Array, network: Network = network) -> Array:
            f = network.rate(np.clip(w, 0, 1), sources)
            return np.where((w <= 0) & (f < 0) | (w >= 1) & (f > 0), 0.0, f)

        began = time.process_time()
        theirs = np.array([
            solve_ivp(rate, (0, 2), w, "RK45", rtol=1e-7, atol=1e-7, args=(s,)).y[:, -1] for w, s in zip(w0, S)
        ])  # fmt: skip
        other = time.process_time() - began
        error, its = (np.abs(np.clip(w, 0, 1) - exact).max(axis=1) for w in (ours, theirs))
        rows.append((nodes, edges, f"{mine:.2f}", f"{other:.2f}", f"{other / mine:.1f}", f"{np.median(error):.0e}",
                     f"{np.median(its):.0e}", f"{error.max():.0e}", f"{its.max():.0e}"))  # fmt: skip
    columns = ("nodes", "memristors", "s", "SciPy s", "ratio", "error", "SciPy error", "most", "SciPy most")
    table(
        "20 samples for 2 s, processor time, tolerance 1e-7, RK45; errors against 1e-12, median and most",
        columns,
        rows,
        right=columns,
    )


def vowels() -> dict[str, tuple[Array, Array, Array]]:
    """Inputs normalised by the training set, lengths and labels."""
    sys.path.insert(0, str(EXAMPLES))
    from vowels import load  # pyright: ignore[reportMissingImports]

    found, mean, spread = {}, np.zeros(12), np.ones(12)
    for split in ("train", "test"):
        x, lengths, y = load(split)
        active = np.arange(x.shape[1])[None] < lengths[:, None]
        if split == "train":
            mean, spread = x[active].mean(axis=0), x[active].std(axis=0)
        found[split] = (np.where(active[..., None], (x - mean) / spread, 0).astype(np.float32), lengths, y)
    return found


def readout(features: Array, y: Array) -> tuple[float, Array, Array]:
    """Cross-validated score, and the weights of the penalty that reached it."""
    task = task_of(y, None, np.ones((len(y), 1), bool), CLASSES, False)  # pyright: ignore[reportArgumentType]
    penalty, score = best_penalty(cross_validated(features, task))
    return score, *Ridge.of(features, np.eye(CLASSES)[y]).weights(penalty)


def reservoirs() -> dict[str, list[float]]:
    """JapaneseVowels: readout alone, reservoir of Euler steps, exactly integrated, and on chips."""
    data = vowels()
    (x, lengths, y), (xt, lt, yt) = data["train"], data["test"]
    alone = {}
    for name, made, shown in (
        ("last inputs", last(x, lengths), last(xt, lt)),
        ("mean inputs", x.sum(axis=1) / lengths[:, None], xt.sum(axis=1) / lt[:, None]),
    ):
        score, w, c = readout(made.astype(float), y)
        alone[name] = (score, (shown @ w.T + c).argmax(axis=1) == yt)
    table("readout alone", ("features", "CV score", "test %"),
          [(name, f"{s:.3f}", f"{100 * ok.mean():.1f}") for name, (s, ok) in alone.items()])  # fmt: skip
    base = alone["last inputs"][1]  # it reads the last step, as the reservoir's readout does, and is the better one
    rows, pooled, shown = (
        [],
        [],
        {name: [] for name in ("readout alone", "reservoir", "exact", "pcm-128", "rram-hfo2-128")},
    )
    for seed in SEEDS:
        tried = []
        for alpha, xi, scale in itertools.product(ALPHAS, XIS, SCALES):
            made = Reservoir.random(
                NODES, EDGES, 12, seed, alpha=alpha, beta=1.0, xi=xi, scale=scale, bias=scale, dt=DT
            )
            tried.append((*readout(last(made.states(x, lengths, exact=False), lengths).astype(float), y), made))
        score, w, c, made = max(tried, key=lambda found: found[0])
        right = (last(made.states(xt, lt, exact=False), lt) @ w.T + c).argmax(axis=1) == yt
        exact = (last(made.states(xt, lt, tolerance=1e-5), lt) @ w.T + c).argmax(axis=1) == yt
        chips = {target: on_chips(made, w, c, data, target, seed) for target in ("pcm-128", "rram-hfo2-128")}
        n, scale = made.network, np.abs(made.W_in).max().round(1)
        pooled.append(right)
        aged = [f"{100 * mean:.1f} +- {100 * sd:.1f}" for found in chips.values() for mean, sd in found]
        shares = (f"{100 * found.mean():.1f}" for found in (right, exact))
        rows.append((seed, n.alpha, n.xi, scale, f"{score:.3f}", *shares, *aged))
        for name, value in (("readout alone", base), ("reservoir", right), ("exact", exact)):
            shown[name].append(100 * float(value.mean()))
        for target, found in chips.items():
            shown[target].append(100 * found[0][0])
    columns = (
        "seed",
        "alpha",
        "xi",
        "scale",
        "CV score",
        "Euler %",
        "exact %",
        "PCM t0",
        "PCM 1 year",
        "HfO2 t0",
        "HfO2 1 year",
    )
    table(f"{EDGES} memristors; chips: mean +- sd of {CHIPS}", columns, rows, right=columns)
    p = mcnemar(np.concatenate(pooled), np.tile(base, len(pooled)))
    print(
        f"all seeds: {100 * np.concatenate(pooled).mean():.1f} %, readout alone {100 * base.mean():.1f} %, p {p:.1g}\n"
    )
    return shown


def on_chips(made: Reservoir, w: Array, c: Array, data: Any, target: str, seed: int) -> list[tuple[float, float]]:
    """Accuracy on the test set of the program on a target's chips: mean and standard deviation at each age."""
    (x, lengths, y), (xt, lt, yt) = data["train"], data["test"]
    built = compile(made.program("memristive", w, c), target, Data({"x": x}, lengths, y), numerics="float")
    trace = CrossbarRunner().run(built.artifact, {"x": xt}, lt, chips=CHIPS, times=AGES, seed=seed)
    right = (trace.chip_outputs["y"].argmax(axis=-1) == yt).mean(axis=-1)
    return [(float(at.mean()), float(at.std(ddof=1))) for at in right]


def memory() -> None:
    """Linear memory capacity (Jaeger 2001): how much of the input k steps ago a readout gives back, summed over k."""
    rows = []
    for seed in SEEDS:
        u = np.random.default_rng(1000 + seed).uniform(-1, 1, (1, 3000, 1))
        found = []
        for features in (
            u[0],
            Reservoir.random(NODES, EDGES, 1, seed, alpha=-2.0, beta=1.0, xi=9.0, scale=0.3, bias=4.0, dt=DT)
            .states(u, exact=False)[0].astype(float),
        ):  # fmt: skip
            parts = []
            for k in range(1, 21):
                seen, goal = features[100:], u[0, 100 - k : 3000 - k]
                w, c = Ridge.of(seen[:2000], goal[:2000]).weights(1e-8)
                guess = seen[2000:] @ w.T + c
                parts.append(max(0.0, float(np.corrcoef(guess[:, 0], goal[2000:, 0])[0, 1])) ** 2)
            found.append(parts)
        rows.append((seed, f"{sum(found[0]):.2f}", f"{sum(found[1]):.2f}", *(f"{v:.2f}" for v in found[1][:5])))
    table(
        f"memory capacity, {EDGES} memristors",
        ("seed", "input alone", "reservoir", *(f"{k} ago" for k in range(1, 6))),
        rows,
    )


def qubos() -> dict[str, list[float]]:
    """Success and mean distance from the optimum, 0 at the optimum and 1 at the mean of random corners."""
    rows, shown = [], {name: [] for name in ("random", "relaxed", "flips", "relaxed, flips")}
    for strength, xi, seed in itertools.product((0.1, 0.3, 1.0), (5.0, 20.0), SEEDS):
        network, rng = random_network(seed, 7, UNITS, alpha=0.5, beta=1.0, xi=xi)
        S = strength * xi * network.alpha * network.beta * rng.normal(size=UNITS)
        found = qubo(network, S)
        least = found.best()[1]
        every = found.value(((np.arange(1 << UNITS)[:, None] >> np.arange(UNITS)) & 1).astype(float)).mean()
        corners = np.rint(np.random.default_rng(seed).random((STARTS, UNITS)))
        run = relax(network, S, STARTS, seed)
        ways = {"random": corners, "relaxed": run.corners, "flips": found.descend(corners),
                "relaxed, flips": found.descend(run.corners)}  # fmt: skip
        success = {name: float((found.value(w) < least + 1e-9).mean()) for name, w in ways.items()}
        gap = {name: float((found.value(w) - least).mean() / (every - least)) for name, w in ways.items()}
        for name in ways:
            shown[name].append(100 * success[name])
        percents = (f"{100 * v:.0f}" for v in (run.settled.mean(), *success.values()))
        rows.append((strength, xi, seed, *percents, *(f"{v:.2f}" for v in gap.values())))
    columns = ("sources", "xi", "seed", "settled %", *(f"{n} %" for n in shown), *(f"{n} gap" for n in shown))
    table(f"QUBO of {UNITS} memristors, {STARTS} starts", columns, rows, right=columns)
    return shown


def windows() -> dict[str, Any]:
    """What a pair of spikes leaves in a device, by how sharply the device answers to voltage."""
    pulses, delays, rows, curves = Pulses(5.0, 10.0, 1.0, 0.5, ticks=64), np.arange(-30, 31), [], {}
    for sharp in SHARPS:
        synapse = Synapse(sharp=sharp)
        change, alone = window(synapse, pulses, delays), without_coincidence(synapse, pulses)
        curves[sharp] = change
        taus = []
        for side in ((delays > 0) & (delays <= 10), (delays < 0) & (delays >= -20)):
            net = np.abs(change[side] - alone)
            taus.append(abs(1 / np.polyfit(delays[side], np.log(np.maximum(net, 1e-12)), 1)[0]))
        near = (f"{change[delays == k][0]:.4f}" for k in (1, -1))
        rows.append((sharp, f"{2 * np.cosh(sharp):.3g}", *near, f"{alone:.5f}", *(f"{tau:.2f}" for tau in taus)))
    columns = ("sharp", "two pulses / one", "1 after", "1 before", "no coincidence", "tau after (5)", "tau before (10)")
    table("what one pair of spikes changes at w = 0.5; frames", columns, rows, right=columns)
    return {"delays": delays, "curves": curves}


def receptive_fields() -> dict[str, Any]:
    """Bars: untrained, trained, duller devices, defects and spreads."""
    cases: dict[str, dict[str, Any]] = {
        "untrained": {"shown": 0}, "trained": {},
        **{f"sharp {s:g}": {"synapse": Synapse(sharp=s)} for s in (1.0, 2.0, 3.0, 8.0)},
        **{f"stuck {100 * s:g} %": {"stuck": s} for s in STUCK},
        **{f"speeds spread {s:g}": {"speed_spread": s} for s in SPREADS},
        **{f"conductances spread {s:g}": {"conductance_spread": s} for s in SPREADS},
        "stuck 5 %, both spread 0.1": {"stuck": 0.05, "speed_spread": 0.1, "conductance_spread": 0.1},
    }  # fmt: skip
    rows, shown, plain = [], {}, None
    for name, options in cases.items():
        found = experiment(list(SEEDS), **options)
        plain = found if name == "trained" else plain
        right = 100 * found.correct.mean(axis=1)
        shown[name] = right
        against = (
            "" if plain is None or name == "trained" else f"{mcnemar(found.correct.ravel(), plain.correct.ravel()):.1g}"
        )
        rows.append(
            (
                name,
                " ".join(f"{v:.0f}" for v in right),
                f"{right.mean():.1f}",
                " ".join(map(str, found.covered)),
                against,
            )
        )
    table(
        "bars of 6 x 6 pixels, 14 neurons; chance 8.3 %",
        ("devices", "correct %, by seed", "mean", "bars covered of 12", "p"),
        rows,
    )
    return {"correct": shown, "w": plain.w[0] if plain is not None else None}


PARTS: dict[str, Callable[[], Any]] = {
    "equation": equation, "speed": speed, "reservoirs": reservoirs, "memory": memory, "qubos": qubos,
    "windows": windows, "fields": receptive_fields,
}  # fmt: skip


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--picture", type=Path, help="where to draw (needs all parts, and matplotlib)")
    args = parser.parse_args(given)
    if args.picture is not None and len(args.parts) < len(PARTS):
        parser.error("a picture needs all parts")
    found = {name: PARTS[name]() for name in args.parts}
    if args.picture is not None:
        from benchmarks.crossbar_memristive_picture import draw

        draw(args.picture, found)
        print(f"picture: {args.picture}")


if __name__ == "__main__":
    main()
