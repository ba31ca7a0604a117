"""IR drop: `neurodeploy.crossbar.wires` beside badcrossbar, times, errors and memory, each against its requirement.

Uniform random cells of 1 to 100 uS, 1 ohm a segment of either line, inputs at one end, one thread. Both sides run in
turn, in processes of their own, on the same arrays; a figure is the best of several runs. Times are the processor's
seconds of the process, which other work on the machine doesn't add to; the clock's stand beside them.

    python -m benchmarks.crossbar_wires [--badcrossbar PYTHON] [--sizes 64 128 256 512] [--seed 0]

PYTHON is an interpreter that has badcrossbar, by default the running one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

RUNS = {64: 20, 128: 20, 256: 10, 512: 5}
MATRIX_MS = {128: 15.0, 256: 70.0, 512: 400.0}  # at most
RATIOS = {(512, 1): 150.0, (256, 100): 40.0}  # badcrossbar's time over ours, at least
MEMORY_MB, ERROR = 250.0, 1e-11


def arrays(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells (S) and 100 input vectors (V)."""
    random = np.random.default_rng(seed)
    return random.uniform(1e-6, 1e-4, (n, n)), random.uniform(0.05, 1.0, (100, n))


def best(run: Callable[[], np.ndarray], times: int) -> tuple[float, float, np.ndarray]:
    """Least seconds of the processor and of the clock, and the result."""
    found = []
    for _ in range(times):
        clock, processor = time.perf_counter(), time.process_time()
        result = run()
        found.append((time.process_time() - processor, time.perf_counter() - clock))
    return min(p for p, _ in found), min(c for _, c in found), result


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ----------------------------------------------------------------------------------------- what each process does


def ours(n: int, seed: int, folder: Path) -> dict:
    from neurodeploy.crossbar import wires as ir_drop
    from neurodeploy.descriptions_crossbar import Wires

    wires = Wires(row_ohm=1.0, column_ohm=1.0, source="this benchmark")
    g, v = arrays(n, seed)
    ir_drop.effective(g[:40, :40], wires)
    ir_drop.solve(g[:40, :40], wires, v[:1, :40])
    one = best(lambda: ir_drop.solve(g, wires, v[:1]), RUNS.get(n, 5))
    many = best(lambda: ir_drop.solve(g, wires, v), RUNS.get(n, 5))
    matrix = best(lambda: ir_drop.effective(g, wires), RUNS.get(n, 5))
    peak = peak_mb()
    np.savez(folder / "ours.npz", one=one[2], many=many[2], matrix=matrix[2])
    return {"one": one[:2], "many": many[:2], "matrix": matrix[:2], "peak": peak}


def first(n: int, seed: int, folder: Path) -> dict:
    """Processor seconds and memory of the first use: imports, compiling the kernels or loading them, a small array."""
    start = time.process_time()
    from neurodeploy.crossbar import wires as ir_drop
    from neurodeploy.descriptions_crossbar import Wires

    wires = Wires(row_ohm=1.0, column_ohm=1.0, source="this benchmark")
    g, v = arrays(n, seed)
    ir_drop.effective(g, wires)
    matrix = time.process_time() - start
    ir_drop.solve(g, wires, v[:1])
    return {"matrix": matrix, "both": time.process_time() - start, "peak": peak_mb()}


def theirs(n: int, seed: int, folder: Path) -> dict:
    import logging

    import badcrossbar

    logging.disable(logging.CRITICAL)
    g, v = arrays(n, seed)
    ohms = 1 / g[::-1]  # it senses at the end of the last row

    def run(count: int) -> np.ndarray:
        options = {"node_voltages": False, "all_currents": False}
        return np.atleast_2d(badcrossbar.compute(v[:count, ::-1].T, ohms, 1.0, **options).currents.output)

    times = 3 if n <= 128 else 2 if n <= 256 else 1
    one, many = best(lambda: run(1), times), best(lambda: run(100), times)
    np.savez(folder / "theirs.npz", one=one[2], many=many[2])
    return {"one": one[:2], "many": many[:2], "peak": peak_mb()}


def nodal(n: int, seed: int, folder: Path) -> dict:
    """All nodes' equations by SciPy's sparse LU, with one step of iterative refinement."""
    from scipy.sparse import diags, eye, hstack, kron, vstack
    from scipy.sparse.linalg import splu

    g, _ = arrays(n, seed)
    line = diags([np.r_[np.full(n - 1, 2.0), 1.0], -np.ones(n - 1), -np.ones(n - 1)], [0, 1, -1])
    cells = diags(g.ravel())
    word, bit = kron(eye(n), line) + cells, kron(line, eye(n)) + cells
    matrix = vstack([hstack([word, -cells]), hstack([-cells, bit])]).tocsc()
    into = np.zeros((2 * n * n, n))
    into[np.arange(n) * n, np.arange(n)] = 1.0
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A")
    volts = np.empty((n, n))
    for i in range(0, n, 64):
        part = factors.solve(into[:, i : i + 64])
        part += factors.solve(into[:, i : i + 64] - matrix @ part)
        volts[i : i + 64] = part[n * n : n * n + n].T
    np.savez(folder / "nodal.npz", matrix=volts)
    return {"peak": peak_mb()}


def bits(n: int, seed: int, folder: Path) -> dict:
    """A digest of the results' bits; the folder holds numba's cache."""
    import hashlib

    from neurodeploy.crossbar import wires as ir_drop
    from neurodeploy.descriptions_crossbar import Wires

    wires = Wires(row_ohm=1.0, column_ohm=1.0, source="this benchmark")
    g, v = arrays(n, seed)
    found = ir_drop.effective(g, wires).tobytes() + ir_drop.solve(g, wires, v[:2]).tobytes()
    return {"digest": hashlib.sha256(found).hexdigest()}


# -------------------------------------------------------------------------------------------------------- the table


def process(what: str, n: int, seed: int, folder: Path, python: str = sys.executable, **environment: str) -> dict:
    """Run one side in a process of its own, on one thread."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [python, "-m", "benchmarks.crossbar_wires", "--part", what, str(n), str(seed), str(folder)]
    done = subprocess.run(command, env={**os.environ, **threads, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{what} at {n} x {n} failed:\n{done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def first_use(seed: int) -> None:
    """With an empty cache, then as later processes find it."""
    with tempfile.TemporaryDirectory() as name:
        for what in ("first use, compiling", "first use, from the cache"):
            found = process("first", 40, seed, Path(name), NUMBA_CACHE_DIR=name)
            print(
                f"{what}: {found['matrix']:.1f} s for the matrix, {found['both']:.1f} s with single vectors, ", end=""
            )
            print(f"imports included, peak {found['peak']:.0f} MB")
    process("first", 40, seed, Path())  # the usual cache, so that no size's memory includes the compiler's


def verdict(holds: bool) -> str:
    return "holds" if holds else "MISSED"


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a / b - 1).max())


def compare(n: int, seed: int, python: str) -> None:
    """One size: both sides, the referee, and what was asked for."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine, other = process("ours", n, seed, folder), process("theirs", n, seed, folder, python)
        process("nodal", n, seed, folder)
        a, b, referee = (np.load(folder / f"{who}.npz") for who in ("ours", "theirs", "nodal"))
        wrong = error(a["matrix"], referee["matrix"])
        other_wrong = error(b["many"], arrays(n, seed)[1] @ referee["matrix"])
        apart = max(error(a["one"], b["one"]), error(a["many"], b["many"]))
    print(f"{n} x {n}")
    asked = MATRIX_MS.get(n)
    took = 1e3 * mine["matrix"][0]
    limit = f"at most {asked:.0f}: {verdict(took <= asked)}" if asked else ""
    print(f"  matrix        {took:9.2f} ms (clock {1e3 * mine['matrix'][1]:.2f})  {limit}")
    print(f"  its error     {wrong:9.1e} against nodal analysis  at most {ERROR:.0e}: {verdict(wrong <= ERROR)}")
    print(f"  badcrossbar's {other_wrong:9.1e} against nodal analysis; {apart:.1e} between it and us")
    for key, count in (("one", 1), ("many", 100)):
        ratio, by_clock = (other[key][k] / mine[key][k] for k in (0, 1))
        wanted = RATIOS.get((n, count))
        limit = f"at least {wanted:.0f}: {verdict(ratio >= wanted)}" if wanted else ""
        print(
            f"  {count:3} vectors   {1e3 * mine[key][0]:9.2f} ms, badcrossbar {1e3 * other[key][0]:9.1f} ms: "
            f"{ratio:.0f} times faster (clock {by_clock:.0f})  {limit}"
        )
    limit = f"at most {MEMORY_MB:.0f}: {verdict(mine['peak'] <= MEMORY_MB)}"
    print(f"  peak memory   {mine['peak']:9.0f} MB, badcrossbar {other['peak']:.0f} MB  {limit}", flush=True)


def same_bits(seed: int) -> None:
    """Kernels fresh and from numba's cache, one thread and four."""
    with tempfile.TemporaryDirectory() as name:
        found = [
            process("bits", 100, seed, Path(name), NUMBA_CACHE_DIR=name, OMP_NUM_THREADS=t, OPENBLAS_NUM_THREADS=t)
            for t in ("1", "1", "4")
        ]
    same = len({f["digest"] for f in found}) == 1
    print(f"the same bits from fresh kernels, from cached ones, with four threads: {verdict(same)}")


def read_noise(seed: int) -> None:
    """What a read's noise does to first order, and what that leaves out: independent relative errors of all cells."""
    from neurodeploy.crossbar import wires as ir_drop
    from neurodeploy.descriptions_crossbar import Wires

    print("noise, deviation of a cell | change of a current | left out by first order, of that change | 128 x 128")
    g, v = arrays(128, seed)
    for ohm in (1.0, 10.0):
        wires = Wires(row_ohm=ohm, column_ohm=ohm, source="this benchmark")
        still = ir_drop.solve(g, wires, v[:1])
        for sd in (0.01, 0.05, 0.2):
            change = np.maximum(sd * g * np.random.default_rng(seed + 1).standard_normal(g.shape), -g)
            exactly = ir_drop.solve(g + change, wires, v[:1]) - still
            left_out = ir_drop.first_order(g, wires, v[:1], change) - exactly
            size = np.linalg.norm(exactly)
            print(
                f"  {ohm:4.0f} ohm, {100 * sd:2.0f} %       {100 * size / np.linalg.norm(still):8.4f} %"
                f"           {100 * np.linalg.norm(left_out) / size:8.3f} %"
            )


def curves(seed: int) -> None:
    """Cells with a cubic part, Newton's method."""
    from neurodeploy.crossbar import wires as ir_drop
    from neurodeploy.crossbar.wires.nonlinear import solve_nonlinear
    from neurodeploy.descriptions_crossbar import Wires

    wires = Wires(row_ohm=1.0, column_ohm=1.0, source="this benchmark")
    g, v = arrays(128, seed)
    solve_nonlinear(g, wires, v[:1], cube=g)
    print("cells g x (1 + c x^2), one vector at 128 x 128")
    for c in (0.1, 1.0, 100.0):
        took, clock, found = best(lambda c=c: solve_nonlinear(g, wires, v[:1], cube=c * g), 10)
        more = float((found / ir_drop.solve(g, wires, v[:1])).mean() - 1)
        print(f"  c = {c:5.1f} / V^2  {1e3 * took:7.2f} ms (clock {1e3 * clock:.2f}), currents {100 * more:+.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--badcrossbar", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        what, n, seed, folder = given.part
        parts = {"ours": ours, "theirs": theirs, "nodal": nodal, "first": first, "bits": bits}
        print(json.dumps(parts[what](int(n), int(seed), Path(folder))))
        return
    first_use(given.seed)
    same_bits(given.seed)
    read_noise(given.seed)
    curves(given.seed)
    for n in given.sizes:
        compare(n, given.seed, given.badcrossbar)


if __name__ == "__main__":
    main()
