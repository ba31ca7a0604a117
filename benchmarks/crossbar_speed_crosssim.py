"""CrossSim's side of ``benchmarks/crossbar_speed.py``: run by an interpreter that has it, prints its times as JSON.

Ideal devices and converters, its fastest: its LSTM layer, and a loop around one of its cores with NumPy's functions.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np

from benchmarks.crossbar_speed import BATCH, STEPS, UNITS, Times, best_of


def main() -> None:
    import torch
    from simulator import AnalogCore, CrossSimParameters
    from simulator.algorithms.dnn.torch.convert import from_torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    params = CrossSimParameters()
    params.core.rows_max = params.core.cols_max = 1024
    layer = from_torch(torch.nn.LSTM(UNITS, UNITS), params).eval()
    series = torch.rand(STEPS, BATCH, UNITS) * 2 - 1
    made: Times = {}
    with torch.no_grad():
        made["AnalogLSTM, ideal"] = best_of(lambda: layer(series))
    rng = np.random.default_rng(0)
    core = AnalogCore((rng.normal(size=(4 * UNITS, 2 * UNITS)) / UNITS**0.5).astype(np.float32), params)
    x = series.numpy()

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    def loop() -> np.ndarray:
        h = c = np.zeros((BATCH, UNITS), np.float32)
        for step in x:
            gates = core.matmat(np.concatenate([step, h], 1).T).T
            i, f, o, u = np.split(gates, 4, 1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(u)
            h = sigmoid(o) * np.tanh(c)
        return h

    made["loop around an AnalogCore, ideal"] = best_of(loop)
    words = f"CrossSim {version('CrossSim')}, torch {torch.__version__}, NumPy {np.__version__}"
    print(json.dumps({"times": made, "versions": words}))


if __name__ == "__main__":
    main()
