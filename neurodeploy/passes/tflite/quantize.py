"""Quantization for TFLite Micro: a calibrated float program becomes one of TFLite's int16x8 ops.

int8 weights with a scale per row, int16 values and states with zero point 0, int64 biases. Scales are chosen by
:mod:`neurodeploy.passes.tflite.scales`; where a kernel can't make its result on the scale that its class has, it is
made on a coarser one and rescaled. A sum of products and constants becomes FULLY_CONNECTED ops, one of them with the
constants as its bias, and ADDs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Program, ProgramInput
from neurodeploy.ir.verify import verify
from neurodeploy.passes.quantize import STALL_SHARE, lost_updates
from neurodeploy.passes.tflite.scales import Scales
from neurodeploy.passes.tflite.stage import StageQuantizer


@dataclass(frozen=True)
class QuantizeTFLite:
    """Quantize a calibrated, expanded float program for TFLite Micro.

    ``headroom``: how far beyond its calibrated range a value may go before it saturates. Needs
    ``meta["ranges"][stage][value] = [lo, hi]``. Raises :class:`UnsupportedError` naming an op and value without an
    int16 kernel, :class:`UsageError` for a value that was not calibrated.
    """

    headroom: float = 1.1

    def __call__(self, program: Program) -> Program:
        """The program with ``numerics="tflite"``."""
        if program.numerics != "float":
            raise UsageError(f"is {program.numerics} already; needed a float program.", place=program.name)
        scales = Scales(program, self.headroom)
        inputs = {
            name: ProgramInput(scales.typed(("", name), spec.type), spec.kind) for name, spec in program.inputs.items()
        }
        stages = tuple(replace(s, graph=StageQuantizer(s, program.name, scales).graph()) for s in program.stages)
        meta = {key: value for key, value in program.meta.items() if key not in ("ranges", "updates")}
        if stalled := _stalls(program, scales):
            meta["warnings"] = [*meta.get("warnings", []), *stalled]
        return verify(replace(program, inputs=inputs, stages=stages, numerics="tflite", meta=meta))


def _stalls(program: Program, scales: Scales) -> list[str]:
    """A warning for every state most of whose updates are below half a step, by ``meta["updates"]``."""
    found = []
    for stage in program.stages:
        for state in stage.graph.states:
            sizes = program.meta.get("updates", {}).get(stage.name, {}).get(state.name)
            lsb = scales.form((stage.name, state.name)).scale
            if sizes and (lost := lost_updates(sizes, lsb)) >= STALL_SHARE:
                found.append(
                    f"state '{stage.name}.{state.name}' (i16, one step is {lsb:.3g}) stalls: {100 * lost:.0f} % of its "
                    "updates in calibration are below half a step and are lost. "
                    "Choose a C target with --numerics float."
                )
    return found
