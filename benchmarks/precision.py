"""What few-bit weights cost: JapaneseVowels' test accuracy and the weights' flash, for float, 8, 4 and mixed bits.

The networks of ``examples/train_gru.py`` and ``examples/train_esn.py``, trained anew for seeds 0 to 4, each printed.
Widths are chosen (``--max-loss 0.5``) and weights rounded on the training set alone; the test set only judges. Flash is
of weights, biases and multipliers, two 4-bit weights a byte. Needs ``pip install 'neurodeploy[train]'``.

    python benchmarks/precision.py [--seeds 5] [--max-loss 0.5]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy import compiler, data, mixed
from neurodeploy.cli.output import number, table
from neurodeploy.data import Data
from neurodeploy.ir import interpret
from neurodeploy.ir.drive import real_outputs
from neurodeploy.ir.graph import Program
from neurodeploy.mixed_front import words
from neurodeploy.mixed_judge import flash_bytes
from neurodeploy.validate import judge

EXAMPLES = Path(__file__).parents[1] / "examples"
UNIFORM: dict[str, dict[str, Any]] = {
    "8 bits": {},
    "4, nearest": {"weight_bits": 4, "rounding": "nearest"},
    "4, compensated": {"weight_bits": 4},
}


def gru(seed: int) -> Program:
    """The GRU of a seed."""
    import torch
    import train_gru

    torch.set_num_threads(1)
    return compiler.load(train_gru.train(seed, epochs=60)[0], torch.zeros(1, 20, 12))


def echo_state(seed: int) -> Program:
    """The echo state network of a seed."""
    import train_esn

    reservoir, readout, _ = train_esn.train(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "esn.npz"
        train_esn.save(reservoir, readout, path)
        return compiler.load(path)


def percent(program: Program, test: Data) -> float:
    """Test accuracy."""
    outputs = real_outputs(program, interpret.run(program, test.inputs, test.lengths))
    return 100 * judge(program, outputs, test)[1]


def measured(source: Program, max_loss: float) -> tuple[dict[str, tuple[float, int | None]], str]:
    """Name -> (accuracy in percent, bytes of flash); and the widths of the mix."""
    train, test = (data.load(EXAMPLES / "data" / f"japanese_vowels_{split}.npz", source) for split in ("train", "test"))
    front = mixed.search(source, train, max_loss)
    found: dict[str, tuple[float, int | None]] = {"float": (percent(source, test), None)}
    for name, options in {**UNIFORM, "mixed": front.options}.items():
        program = compiler.prepare(source, "c", "native", train, quantize=options, progress=lambda _: None)
        found[name] = percent(program, test), flash_bytes(program)
    return found, words(front.chosen.widths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max-loss", type=float, default=0.5)
    args = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))  # where the training scripts are
    columns = ("network", "seed", "", "float", *UNIFORM, "mixed", "lost", "widths")
    rows: list[tuple[str, ...]] = []
    for network, make in (("GRU(32)", gru), ("echo state net (100)", echo_state)):
        lost = []
        for seed in range(args.seeds):
            found, widths = measured(make(seed), args.max_loss)
            lost.append(found["float"][0] - found["mixed"][0])
            scores, sizes = zip(*found.values(), strict=True)
            rows.append((network, str(seed), "accuracy %", *(f"{s:.2f}" for s in scores), f"{lost[-1]:.2f}", widths))
            rows.append(("", "", "flash B", "", *(number(s) for s in sizes[1:]), "", ""))
        rows.append(("", "mean", "", *("" for _ in range(len(UNIFORM) + 2)), f"{np.mean(lost):.2f}", ""))
    table(f"JapaneseVowels, test set, --max-loss {args.max_loss:g}", columns, rows, right=columns[3:-1])


if __name__ == "__main__":
    main()
