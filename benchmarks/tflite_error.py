"""What TFLite Micro's numerics cost each family: outputs of every step against the float network's.

The families of the tests, small and with random weights, calibrated on one draw of inputs and judged on another, at
least 200 steps a sample where the network runs along series, else 200 samples. The golden model is run, which equals
the wheel on every bit (``tests/differential/test_tflite.py``). The largest difference and the root mean square, both of
the range of the float outputs, in percent. The last column is no quantized network: it is the float one, its inputs
rounded as int8 holds them, and tells what of an error is the network's own doing.

    python -m benchmarks.tflite_error
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.cli.output import table
from neurodeploy.compiler import prepare
from neurodeploy.data import Data
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.fixed import dequantize, quantize
from neurodeploy.ir.graph import Program
from tests.families import CASES
from tests.families.case import BATCH, Case
from tests.families.case import STEPS as TIME

STEPS, CALIBRATED, SEED = 200, 9, 8
NUMERICS: Mapping[str, dict[str, Any]] = {
    "int16x8": {},
    "int8": {"activation_dtype": "i8"},
    "int8, int16 states": {"activation_dtype": "i8", "state_dtype": "i16"},
}


def drawn(case: Case, seed: int) -> Data:
    """The case's samples repeated, each number times 1, 0.7 or -0.4 at random: other sequences of the same
    kind. In time where the network runs along series alone, so that every sample has enough steps; else in number."""
    rng, inputs = np.random.default_rng(seed), {}
    along = all(s.drive.kind in ("forward", "reverse") for s in case.program.stages)
    along = along and all(i.kind == "series" for i in case.program.inputs.values())
    times = -(-STEPS // (TIME if along else BATCH))
    for name, array in case.inputs.items():
        lead = (1, times) if along else (times, 1)
        long = np.tile(array, (*lead, *(1,) * (array.ndim - 2))[: array.ndim])
        factors = rng.choice([1.0, 1.0, 0.7, -0.4], long.shape) if array.dtype.kind == "f" else 1
        inputs[name] = (long * factors).astype(array.dtype)
    if case.lengths is None:
        return Data(inputs)
    lengths = np.asarray(case.lengths)
    return Data(inputs, times * lengths if along else np.tile(lengths, times))


def errors(case: Case, options: Mapping[str, Any]) -> tuple[float, float]:
    """The largest difference and the rms one over all outputs, in percent of each output's range."""
    known, data = drawn(case, CALIBRATED), drawn(case, SEED)
    program = prepare(case.program, "tflite", "tflite", known, quantize=options, progress=lambda *_: None)
    return compared(case.program, data, real_outputs(program, interpret.run(program, data.inputs, data.lengths)))


def of_rounded_inputs(case: Case) -> tuple[float, float]:
    """The same of the float network on inputs that int8 has rounded."""
    known, data = drawn(case, CALIBRATED), drawn(case, SEED)
    given = {"activation_dtype": "i8", "state_dtype": "i8"}
    held = prepare(case.program, "tflite", "tflite", known, quantize=given, progress=lambda *_: None).inputs
    rounded = {
        name: array if held[name].type.quant is None else dequantize(quantize(array, held[name].type), held[name].type)
        for name, array in data.inputs.items()
    }
    return compared(case.program, data, real_outputs(case.program, interpret.run(case.program, rounded, data.lengths)))


def compared(source: Program, data: Data, found: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """The largest difference and the rms one from the float network's outputs, in percent of each output's range."""
    worst, mean = 0.0, 0.0
    for name, wanted in real_outputs(source, interpret.run(source, data.inputs, data.lengths)).items():
        wanted = wanted.astype(np.float64)
        gap = np.abs(found[name] - wanted) / (float(np.ptp(wanted)) or 1.0)
        worst, mean = max(worst, float(gap.max())), max(mean, float(np.sqrt(np.mean(gap**2))))
    return 100 * worst, 100 * mean


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for case in CASES.values():
        found = [*(errors(case, options) for options in NUMERICS.values()), of_rounded_inputs(case)]
        rows.append((case.name, *(f"{worst:.2f} ({mean:.2f})" for worst, mean in found)))
    columns = ("family", *NUMERICS, "float, int8 inputs")
    table(f"Largest difference (rms) in percent of the range, seed {SEED}", columns, rows, right=columns[1:])


if __name__ == "__main__":
    main()
