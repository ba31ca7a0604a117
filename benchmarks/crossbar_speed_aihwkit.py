"""aihwkit's side of ``benchmarks/crossbar_speed.py``: run by an interpreter that has it, prints its times as JSON.

Its analog LSTM cells and a loop around one analog layer; its C++ tiles and its PyTorch ones; with fixed ranges, as
ours has, and with its defaults that set them anew for every vector.
"""

from __future__ import annotations

import json
from functools import partial
from importlib.metadata import version

from benchmarks.crossbar_speed import BATCH, REPEATS, STEPS, UNITS, Times, best_of

#: Standard deviation of an output's noise, in units of aihwkit's normalised weights and inputs: its default.
OUT_NOISE = 0.06


def main() -> None:
    import torch
    from aihwkit.nn import AnalogLinear, AnalogLSTMCell, AnalogLSTMCellCombinedWeight, AnalogRNN
    from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
    from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(STEPS, BATCH, UNITS) * 2 - 1

    class Loop(torch.nn.Module):
        """One analog layer for all gates, PyTorch's functions around it."""

        def __init__(self, config: object) -> None:
            super().__init__()
            self.gates = AnalogLinear(2 * UNITS, 4 * UNITS, True, config)

        def forward(self, series):
            h = c = torch.zeros(BATCH, UNITS)
            for step in series:
                i, f, o, u = self.gates(torch.cat([step, h], 1)).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(u)
                h = torch.sigmoid(o) * torch.tanh(c)
            return h

    def configured(kind: type, noise: float, managed: bool) -> object:
        config = kind()
        forward = config.forward
        forward.inp_res = forward.out_res = 1 / 254
        forward.inp_noise, forward.out_noise, forward.w_noise = 0.0, noise, 0.0
        if not managed:
            forward.noise_management, forward.bound_management = NoiseManagementType.NONE, BoundManagementType.NONE
        return config

    networks = {
        "AnalogLSTMCell": lambda c: AnalogRNN(AnalogLSTMCell, UNITS, UNITS, rpu_config=c, num_layers=1, bias=True),
        "AnalogLSTMCellCombinedWeight": lambda c: AnalogRNN(
            AnalogLSTMCellCombinedWeight, UNITS, UNITS, rpu_config=c, num_layers=1, bias=True
        ),
        "loop around an AnalogLinear": Loop,
    }
    made: Times = {}
    for noise in (0.0, OUT_NOISE):
        for kind in (InferenceRPUConfig, TorchInferenceRPUConfig):
            for managed in (True, False):
                for name, build in networks.items():
                    network = build(configured(kind, noise, managed)).eval()
                    words = f"{name}, {kind.__name__}, {'managed' if managed else 'fixed'} ranges"
                    with torch.no_grad():
                        made[f"{words}{', noise' if noise else ''}"] = best_of(partial(network, x), REPEATS)
    print(json.dumps({"times": made, "versions": f"aihwkit {version('aihwkit')}, torch {torch.__version__}"}))


if __name__ == "__main__":
    main()
