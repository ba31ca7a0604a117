"""Simulated inference of an LSTM on crossbars, side by side with aihwkit and CrossSim: seconds of one thread.

LSTM 128 -> 128, 100 steps, batch 64, one chip: PCM devices after programming, 8-bit converters with fixed ranges, and
Gaussian noise of half a code and more at every output of every read. Weights of both products lie on one array of
512 x 1,024 devices, which is aihwkit's default tile. Programming isn't timed. Each side runs in a process of its own,
in turns; the least CPU time over all turns counts, since a loaded machine can only lengthen it.

    python -m benchmarks.crossbar_speed [--aihwkit PYTHON] [--crosssim PYTHON] [--turns 3]

PYTHON: an interpreter that has the peer (aihwkit has wheels for Python 3.12 and 3.13; CrossSim is installed from its
repository). Without one, what was measured once stands for it (docs/crossbar/peers.md).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
UNITS, STEPS, BATCH, REPEATS = 128, 100, 64, 5
NOISE_LSB = 1.0
#: Requirement: the peer's fastest equivalent over ours.
WANTED = {"aihwkit": 3.0, "CrossSim": 1.0}
Times = dict[str, tuple[float, float]]


def best_of(run: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Least CPU and wall seconds of a function."""
    cpu = wall = float("inf")
    for _ in range(repeats):
        started, at = time.process_time(), time.perf_counter()
        run()
        cpu, wall = min(cpu, time.process_time() - started), min(wall, time.perf_counter() - at)
    return cpu, wall


def ours() -> Times:
    """Our simulator: with exact converters and no noise, with 8-bit converters, and with noise; on two array sizes."""
    import numpy as np

    from neurodeploy import hardware
    from neurodeploy.backends.crossbar import CrossbarBackend
    from neurodeploy.crossbar.manifest import described
    from neurodeploy.crossbar.simulate import Chips, run_chips
    from neurodeploy.data import Data
    from neurodeploy.descriptions_crossbar import ConverterErrors, Crossbar
    from neurodeploy.ir import text

    x = np.random.default_rng(0).uniform(-1, 1, (BATCH, STEPS, UNITS)).astype(np.float32)
    data = Data({"x": x}, None, None, "uniform", "0" * 64)
    pcm = hardware.find("pcm-128", Crossbar)
    noise = ConverterErrors(noise_lsb=NOISE_LSB, source="this benchmark's choice")
    made: Times = {}
    for rows, columns in ((512, 1024), (128, 128)):
        sized = pcm.model_copy(update={"array": pcm.array.model_copy(update={"rows": rows, "columns": columns})})
        exact = {"dac": sized.dac.model_copy(update={"bits": None}), "adc": sized.adc.model_copy(update={"bits": None})}
        noisy = {"adc": sized.adc.model_copy(update={"errors": noise})}
        variants = {"exact": exact, "8 bits": {}, "8 bits and noise": noisy}
        for name, tables in variants.items():
            artifact = CrossbarBackend().compile(lstm(), sized.model_copy(update=tables), data=data)
            target, matrices = described(artifact)
            program = text.from_files(artifact.files, "program")
            chips = Chips(program, matrices, target, [0], BATCH, 0)
            made[f"{name}, {rows} x {columns}"] = best_of(partial(run_chips, program, chips, data.inputs, None))
    return made


def lstm():
    """The network, its weights random (seed 0)."""
    import numpy as np

    from neurodeploy.ir.build import Builder
    from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage

    normal = np.random.default_rng(0).normal
    b = Builder()
    x, h, c = b.input("x", (UNITS,)), b.state("h", (UNITS,)), b.state("c", (UNITS,))
    shapes = {"W": (4 * UNITS, UNITS), "U": (4 * UNITS, UNITS), "b": (4 * UNITS,)}
    params = [b.param(name, normal(size=shape) / UNITS**0.5) for name, shape in shapes.items()]
    new_h, new_c = b.call("lstm", x, h, c, *params)
    b.next(h, new_h)
    b.next(c, new_c)
    b.output("y", new_h)
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("lstm", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref.parse("s.y@last")})


def in_process(python: str, module: str) -> dict:
    """What ``module`` prints as JSON in an interpreter of its own, one thread; exits with its last words on failure."""
    done = subprocess.run(
        [python, "-m", f"benchmarks.{module}", "--worker"], cwd=Path(__file__).parents[1], text=True,
        capture_output=True, env={**os.environ, **ONE_THREAD}, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{python} can't run benchmarks.{module}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def merge(into: dict, found: dict) -> None:
    """Keep the least times of both, and versions."""
    for name, (cpu, wall) in found["times"].items():
        old = into.setdefault("times", {}).get(name, (cpu, wall))
        into["times"][name] = (min(cpu, old[0]), min(wall, old[1]))
    into["versions"] = found["versions"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--aihwkit", metavar="PYTHON", help="an interpreter that has aihwkit")
    parser.add_argument("--crosssim", metavar="PYTHON", help="an interpreter that has CrossSim and torch")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        import numpy as np

        print(json.dumps({"times": ours(), "versions": f"NumPy {np.__version__}"}))
        return
    sides = {"neurodeploy": (sys.executable, "crossbar_speed")}
    if options.aihwkit:
        sides["aihwkit"] = (options.aihwkit, "crossbar_speed_aihwkit")
    if options.crosssim:
        sides["CrossSim"] = (options.crosssim, "crossbar_speed_crosssim")
    found: dict[str, dict] = {name: {} for name in sides}
    for _ in range(max(1, options.turns)):
        for name, (python, module) in sides.items():
            merge(found[name], in_process(python, module))
    report(found)


def report(found: dict[str, dict]) -> None:
    """Print all times, then each peer's fastest over ours."""
    for name, side in found.items():
        print(f"{name} ({side['versions']})")
        for what, (cpu, wall) in side["times"].items():
            print(f"  {1e3 * cpu:7.1f} ms CPU, {1e3 * wall:7.1f} ms wall  {what}")
    base = found["neurodeploy"]["times"]["8 bits and noise, 512 x 1024"][0]
    for peer, wanted in WANTED.items():
        if peer not in found:
            print(f"{peer}: not measured here; docs/crossbar/peers.md has the ratio that was")
            continue
        kind = "noise" if peer == "aihwkit" else "ideal"
        times = {k: cpu for k, (cpu, _) in found[peer]["times"].items() if kind in k}
        for name in sorted(times, key=times.__getitem__):
            print(f"{peer}, {name}: {times[name] / base:.2f} times ours with 8 bits and noise")
        ratio = min(times.values()) / base
        print(f"{peer}'s fastest: {ratio:.2f}; wanted at least {wanted:g}: {'met' if ratio >= wanted else 'MISSED'}")


if __name__ == "__main__":
    main()
