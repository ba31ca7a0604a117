"""Single products `W x + b`, int8 weights and int16 inputs rescaled to int16, as steps of models on emulated boards.

A count is of the whole step: its call, the product, the rescaling, and where the C needs it a copy of the result.
``benchmarks/kernels.py`` counts the kernels alone, of every kind, on the cores that unicorn has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.measure import measure
from neurodeploy import hardware
from neurodeploy.artifact import Artifact
from neurodeploy.backends import backend
from neurodeploy.data import Data
from neurodeploy.deploy import link
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType

ROWS, COLUMNS = (32, 64, 96, 128), (8, 32, 40, 64, 128, 256)
Shape = tuple[int, int]


def program(shapes: Sequence[Shape]) -> Program:
    """A product of each (rows, columns) as a stage of its own; weights of all sizes, seed 0, no sum near 32 bits."""
    rng, stages = np.random.default_rng(0), []
    for i, (rows, columns) in enumerate(shapes):
        b = Builder()
        weights = b.param("w", rng.integers(-127, 128, (rows, columns)).astype(np.int8))
        bias = b.param("bias", rng.integers(-(1 << 20), 1 << 20, rows).astype(np.int32))
        (sums,) = b.call("affine", weights, b.input("x", (columns,), "i16"), bias)
        factors = b.param("m", rng.integers(1 << 20, 1 << 24, rows).astype(np.int32))
        b.output("y", b("requantize", sums, factors, to="i16"))
        stages.append(Stage(f"s{i}", b.graph(), inputs_from={"x": Ref(f"x{i}")}))
    inputs = {f"x{i}": ProgramInput(TensorType((columns,), "i16")) for i, (_, columns) in enumerate(shapes)}
    outputs = {f"y{i}": Ref("y", f"s{i}") for i in range(len(shapes))}
    return Program("products", inputs, tuple(stages), outputs, "native")


def build(shapes: Sequence[Shape], board: str) -> tuple[Artifact, Data]:
    """The C of some products (eight at most), and inputs for a few steps."""
    made, rng = program(shapes), np.random.default_rng(1)
    artifact = backend("c").compile(made, hardware.find(board))
    series = {name: (1, 3, *given.type.shape) for name, given in made.inputs.items()}
    return artifact, Data({name: rng.integers(-32768, 32768, s).astype(np.int16) for name, s in series.items()})


def costs(shapes: Sequence[Shape], board: str, tool: str, on: link.Board | None = None) -> dict[Shape, float]:
    """Instructions a multiply-accumulate of each product. Raises :class:`NeurodeployError` for wrong results."""
    artifact, data = build(shapes, board)
    counters = measure(artifact, tool, data, on).trace.counters
    worst = [int(counters[f"s{i}.instructions"].max()) for i in range(len(shapes))]
    return {shape: count / (shape[0] * shape[1]) for shape, count in zip(shapes, worst, strict=True)}
