"""The networks that are measured: cells by name, cells traced from PyTorch, and EdgeMark's. Random weights, seed 0.

A count does not depend on the weights, but on the ranges that calibration finds: the quantizer brings x and h to one
scale where it can. All networks are calibrated on noise of unit variance.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import neurodeploy
from neurodeploy.data import Data, arrange
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType

GATES = {"elman": 1, "gru": 3, "lstm": 4}
#: Options of ``quantize_tflite`` for a GRU with TFLite's numerics, by what its counts are called.
TFLITE: dict[str, dict[str, str]] = {
    "gru, tflite int8": {"activation_dtype": "i8"},
    "gru, tflite int16x8": {"activation_dtype": "i16"},
}
#: EdgeMark's recurrent models: 32 inputs, 64 units, a dense layer of 32 after the last of 100 steps.
EDGEMARK_INPUTS, EDGEMARK_UNITS, EDGEMARK_OUTPUTS, EDGEMARK_STEPS = 32, 64, 32, 100


def cell(kind: str, inputs: int, units: int, outputs: int = 0) -> Program:
    """An ``elman``, ``gru`` (reset after the product) or ``lstm`` whose state is the output.

    With ``outputs`` a dense layer of so many reads the state, and its value after the last step is the output.
    """
    rng, b = np.random.default_rng(0), Builder()

    def weights(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    rows = GATES[kind] * units
    x, h = b.input("x", (inputs,)), b.state("h", (units,))
    arguments = [b.param("W", weights(rows, inputs)), b.param("U", weights(rows, units)), b.param("b", weights(rows))]
    if kind == "lstm":
        c = b.state("c", (units,))
        new, new_c = b.call("lstm", x, h, c, *arguments)
        b.next(c, new_c)
    else:
        (new,) = b.call(kind, x, h, *arguments, *([b.param("u", weights(units))] if kind == "gru" else []))
    b.next(h, new)
    y: Sym = new
    if outputs:
        y = b.param("V", weights(outputs, units)) @ new + b.param("v", weights(outputs))
    b.output("y", y)
    stage = Stage("main", b.graph(), inputs_from={"x": Ref("x")})
    out = Ref("y", "main", "last") if outputs else Ref("y", "main")
    return Program(kind, {"x": ProgramInput(TensorType((inputs,)))}, (stage,), {"y": out})


def edgemark(kind: str) -> Program:
    """EdgeMark's ``gru`` or ``lstm``: 20,896 and 26,912 parameters in Keras, which has a GRU's biases twice."""
    return cell(kind, EDGEMARK_INPUTS, EDGEMARK_UNITS, EDGEMARK_OUTPUTS)


def traced_gru(inputs: int, units: int, reset_after: bool) -> Program:
    """A GRU that nobody named: a PyTorch module of linear layers, sigmoid, tanh and products, traced op by op.

    ``reset_after``: the reset gate multiplies the candidate's product with h (Keras, PyTorch) rather than h itself
    (Cho et al. 2014).
    """
    import torch
    from torch import Tensor, nn

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gates_x, self.gates_h = nn.Linear(inputs, 2 * units), nn.Linear(units, 2 * units, bias=False)
            self.new_x, self.new_h = nn.Linear(inputs, units), nn.Linear(units, units)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            reset, update = torch.sigmoid(self.gates_x(x) + self.gates_h(h)).chunk(2, dim=-1)
            part = reset * self.new_h(h) if reset_after else self.new_h(reset * h)
            new = torch.tanh(self.new_x(x) + part)
            h = (1 - update) * new + update * h
            return h, h

    torch.manual_seed(0)
    name = "gru_reset_after" if reset_after else "gru_reset_before"
    module: Any = Gated().eval()
    example = (torch.zeros(1, inputs), torch.zeros(1, units))
    return neurodeploy.load(module, example, states={"h": 1}, name=name)


def noise(program: Program, samples: int = 4, steps: int = 30) -> Data:
    """Standard normal inputs for every input of a program, seed 1."""
    rng = np.random.default_rng(1)
    made = {n: rng.normal(size=(samples, steps, *i.type.shape)).astype(np.float32) for n, i in program.inputs.items()}
    return arrange(made, program)
