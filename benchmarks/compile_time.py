"""How long ``neurodeploy compile`` of an LSTM takes in a fresh process, from ONNX to C text on disk.

python benchmarks/compile_time.py [--units 128] [--inputs 16]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def lstm_model(inputs: int, units: int) -> onnx.ModelProto:
    """One LSTM layer with random weights (seed 0), time first, batch of one."""
    rng = np.random.default_rng(0)
    arrays = {"W": (1, 4 * units, inputs), "R": (1, 4 * units, units), "B": (1, 8 * units)}
    weights = [numpy_helper.from_array((rng.normal(size=s) / 12).astype(np.float32), n) for n, s in arrays.items()]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], name="lstm", hidden_size=units)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["steps", 1, inputs])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["steps", 1, 1, units])
    graph = helper.make_graph([node], "lstm", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--inputs", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        onnx.save(lstm_model(args.inputs, args.units), folder / "lstm.onnx")
        samples = np.random.default_rng(1).normal(size=(8, 20, args.inputs)).astype(np.float32)
        np.savez(folder / "calib.npz", x=samples)
        command = [sys.executable, "-m", "neurodeploy", "compile", folder / "lstm.onnx", "-t", "mps2-an386",
                   "-d", folder / "calib.npz", "-o", folder / "build"]  # fmt: skip
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
        size = (folder / "build" / "lstm.c").stat().st_size
        runs = ", ".join(f"{s:.2f}" for s in seconds)
        print(f"LSTM, {args.inputs} inputs, {args.units} units: {runs} s to {size} bytes of C")


if __name__ == "__main__":
    main()
