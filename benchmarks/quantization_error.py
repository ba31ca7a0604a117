"""What quantization to ``native`` costs each recurrent family: rmse of the outputs over their range, against float.

The families of ``tests/families`` (random weights, a few units), calibrated on their own sequences and judged on others
of the same distribution: noise of the inputs' own mean and deviation, seeds 0 to 4, each printed.

    python benchmarks/quantization_error.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from neurodeploy import compiler, data
from neurodeploy.cli.output import table
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from tests.families import CASES
from tests.families.case import Case


def samples(case: Case, seed: int, count: int = 64) -> dict[str, np.ndarray]:
    """Inputs like the case's own: real ones drawn anew, whole numbers (indices) repeated."""
    rng, made = np.random.default_rng(seed), {}
    for name, own in case.inputs.items():
        pick = rng.integers(0, len(own), count)
        noise = rng.normal(own.mean(), own.std(), (count, *own.shape[1:])).astype(np.float32)
        discrete = own.dtype.kind != "f" or set(np.unique(own)) <= {-1.0, 0.0, 1.0}
        made[name] = own[pick] if discrete else noise
    if "order" in made:  # trees: indices of one sample belong together
        pick = rng.integers(0, len(case.inputs["order"]), count)
        made |= {n: case.inputs[n][pick] for n in ("order", "left", "right", "node")}
    return made


def error(case: Case, seed: int) -> float:
    """Percent of the first output's range."""
    calibration = data.Data(samples(case, 100 + seed))
    program = compiler.prepare(case.program, "c", "native", calibration, progress=lambda _: None)
    test = samples(case, seed)
    wanted = interpret.run(case.program, test).outputs
    found = real_outputs(program, interpret.run(program, test))
    name = next(iter(wanted))
    gap = found[name].astype(np.float64) - wanted[name]
    return 100 * float(np.sqrt((gap**2).mean()) / np.ptp(wanted[name]))


def main() -> None:
    rows = []
    for case in CASES.values():
        if case.integer:
            errors = [error(case, seed) for seed in range(5)]
            rows.append((case.name, *(f"{e:.3f}" for e in errors)))
    columns = ("family", *(f"seed {s}" for s in range(5)))
    table("rmse of native outputs, % of their range", columns, rows, right=columns[1:])


if __name__ == "__main__":
    main()
