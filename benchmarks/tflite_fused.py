"""TFLite's fused LSTM beside the LSTM taken apart: JapaneseVowels' test accuracy through the tflite-micro wheel, bytes.

LSTMs of 32 units, trained as ``examples/train_gru.py`` trains its GRU, for seeds 0 to 4, each printed. Ranges are taken
from the training set alone; the test set only judges. Bytes are of the file and of the arena (recording allocator of
the wheel, a 64-bit build), the same for every seed. Needs ``pip install 'neurodeploy[train,tflite]'``.

    python -m benchmarks.tflite_fused [--seeds 5]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy import compiler, data
from neurodeploy.backends import runner
from neurodeploy.cli.output import number, table
from neurodeploy.data import Data
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.validate import judge

EXAMPLES = Path(__file__).parents[1] / "examples"
UNITS, EPOCHS = 32, 60
NARROW = {"activation_dtype": "i8"}
#: Name -> options of the compiler.
BUILDS: dict[str, dict[str, Any]] = {
    "fused int16x8": {"fused_lstm": True},
    "fused int8": {"fused_lstm": True, "quantize": NARROW},
    "apart int16x8": {},
    "apart int8": {"quantize": NARROW},
    "apart int8, int16 states": {"quantize": {**NARROW, "state_dtype": "i16"}},
}


def lstm(seed: int) -> Program:
    """The LSTM of a seed."""
    import torch
    import train_gru

    class Classifier(train_gru.Classifier):
        def __init__(self) -> None:
            super().__init__(UNITS)
            self.gru = torch.nn.LSTM(12, UNITS, batch_first=True)

    torch.set_num_threads(1)
    return compiler.load(train_gru.train(seed, EPOCHS, Classifier)[0], torch.zeros(1, 20, 12))


def measured(source: Program) -> tuple[dict[str, float], dict[str, tuple[int, int]]]:
    """Accuracies in percent, in float and of every build, and the bytes of each build's file and arena."""
    train, test = (data.load(EXAMPLES / "data" / f"japanese_vowels_{split}.npz", source) for split in ("train", "test"))
    plain = real_outputs(source, interpret.run(source, test.inputs, test.lengths))
    found, sizes = {"float": _percent(source, plain, test)}, {}
    for name, options in BUILDS.items():
        built = compiler.compile(source, "tflm", train, costs=False, **options)
        trace = runner("tflm").run(built.artifact, dict(test.inputs), test.lengths)
        found[name] = _percent(built.program, real_outputs(built.program, trace), test)
        figures = {figure["name"]: figure["value"] for figure in built.artifact.manifest["figures"]}
        sizes[name] = figures["tflite_bytes"], figures["arena_bytes"]
    return found, sizes


def _percent(program: Program, outputs: dict[str, np.ndarray], test: Data) -> float:
    return 100 * judge(program, outputs, test)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))  # where the training script is
    rows: list[tuple[str, ...]] = []
    scores, sizes = [], {}
    for seed in range(args.seeds):
        found, sizes = measured(lstm(seed))
        scores.append(found)
        rows.append((str(seed), *(f"{score:.2f}" for score in found.values())))
        print(*rows[-1], flush=True)
    rows.append(("most lost", "", *(f"{max(s['float'] - s[name] for s in scores):.2f}" for name in BUILDS)))
    rows.append(("mean", *(f"{np.mean([s[name] for s in scores]):.2f}" for name in ("float", *BUILDS))))
    rows.append((".tflite, bytes", "", *(number(sizes[name][0]) for name in BUILDS)))
    rows.append(("arena, bytes", "", *(number(sizes[name][1]) for name in BUILDS)))
    columns = ("seed", "float", *BUILDS)
    table("JapaneseVowels, LSTM(32), accuracy in percent on the test set", columns, rows, right=columns[1:])


if __name__ == "__main__":
    main()
