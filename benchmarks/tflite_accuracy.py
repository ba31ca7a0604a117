"""What TFLite Micro's numerics cost: JapaneseVowels' test accuracy in float, then through the tflite-micro wheel.

The networks of ``examples/`` as they are shipped, then trained anew for seeds 0 to 4, each printed. Ranges are taken
from the training set alone; the test set only judges. Needs ``pip install 'neurodeploy[train,tflite]'``.

    python -m benchmarks.tflite_accuracy [--seeds 5]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import precision
from neurodeploy import compiler, data
from neurodeploy.backends import runner
from neurodeploy.cli.output import table
from neurodeploy.data import Data
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.validate import judge

EXAMPLES = Path(__file__).parents[1] / "examples"
SHIPPED = {"GRU(32)": "vowels_gru.onnx", "echo state net (100)": "vowels_esn.npz"}
#: Options of the quantizer.
NUMERICS: dict[str, dict[str, Any]] = {
    "int16x8": {},
    "int16x8, scale per row": {"per_channel": True},
    "int8": {"activation_dtype": "i8"},
    "int8, int16 states": {"activation_dtype": "i8", "state_dtype": "i16"},
    "int4 weights": {"activation_dtype": "i8", "weight_bits": 4},
}
#: Points of accuracy that may be lost.
ALLOWED = {"int16x8": 0.5, "int8": 1.0}


def networks(seeds: int) -> Iterator[tuple[str, str, Program]]:
    """Network, seed and program."""
    sys.path.insert(0, str(EXAMPLES))  # where the training scripts are
    for (network, file), make in zip(SHIPPED.items(), (precision.gru, precision.echo_state), strict=True):
        yield network, "shipped", compiler.load(EXAMPLES / "models" / file)
        for seed in range(seeds):
            yield network, str(seed), make(seed)


def measured(source: Program) -> dict[str, float]:
    """Accuracy in percent, in float and through the wheel."""
    train, test = (data.load(EXAMPLES / "data" / f"japanese_vowels_{split}.npz", source) for split in ("train", "test"))
    plain = real_outputs(source, interpret.run(source, test.inputs, test.lengths))
    found = {"float": _percent(source, plain, test)}
    for name, options in NUMERICS.items():
        built = compiler.compile(source, "tflm", train, quantize=options, costs=False)
        trace = runner("tflm").run(built.artifact, dict(test.inputs), test.lengths)
        found[name] = _percent(built.program, real_outputs(built.program, trace), test)
    return found


def _percent(program: Program, outputs: dict[str, np.ndarray], test: Data) -> float:
    return 100 * judge(program, outputs, test)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    worst = dict.fromkeys(NUMERICS, 0.0)
    for network, seed, source in networks(args.seeds):
        found = measured(source)
        worst = {name: max(loss, found["float"] - found[name]) for name, loss in worst.items()}
        rows.append((network, seed, *(f"{score:.2f}" for score in found.values())))
        print(*rows[-1], flush=True)
    rows.append(("most lost", "", "", *(f"{loss:.2f}" for loss in worst.values())))
    columns = ("network", "seed", "float", *NUMERICS)
    table("JapaneseVowels, accuracy in percent on the test set, through TFLite Micro", columns, rows, right=columns[2:])
    for name, allowed in ALLOWED.items():
        print(f"{name}: {worst[name]:.2f} points lost at most, {allowed} allowed")


if __name__ == "__main__":
    main()
