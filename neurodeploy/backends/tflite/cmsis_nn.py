"""What TFLM does otherwise where it is built with Arm's CMSIS-NN kernels: warnings of a build."""

from __future__ import annotations

from neurodeploy.ir.graph import Program
from neurodeploy.ir.types import TensorType


def warnings(program: Program, steps: int) -> list[str]:
    """LSTMs that forget their state, products that are refused (``micro/kernels/cmsis_nn``, TFLM of August 2026)."""
    return [*_forgets(program, steps), *_refuses(program)]


def _forgets(program: Program, steps: int) -> list[str]:
    calls = "calls" if steps == 1 else f"calls of {steps} steps"
    found = [f"'{s.name}.{v.name}'" for s in program.stages for v in s.graph.values if v.op == "tflite_lstm"]
    return [
        f"fused LSTM ({', '.join(found)}): TFLM's CMSIS-NN kernel forgets its state between {calls}. Build TFLM with "
        "its reference kernel for UNIDIRECTIONAL_SEQUENCE_LSTM, or compile without fused_lstm."
    ] * bool(found)


def _refuses(program: Program) -> list[str]:
    """FULLY_CONNECTED of int16 takes one scale for its weights there, not one per row."""
    found = []
    for stage in program.stages:
        types = stage.graph.types()
        for value in stage.graph.values:
            if value.op != "tfl_fully_connected":
                continue
            x, weights = (types[a] for a in value.args[:2])
            if isinstance(x, TensorType) and isinstance(weights, TensorType) and x.dtype == "i16" and weights.quant:
                found += [f"'{stage.name}.{value.name}'"] if weights.quant.axis is not None else []
    functions = [name for name in found if name.endswith("_ramps'")]
    remedies = ["Build TFLM with its reference kernel for FULLY_CONNECTED"]
    if len(functions) < len(found):
        remedies.append("compile with --quantize per_channel=false")
    kept = " (those of functions that TFLM lacks, '..._ramps', keep theirs)" if functions and remedies[1:] else ""
    return [
        f"products of 16-bit values with a scale per row ({', '.join(found)}): TFLM's CMSIS-NN kernel refuses them. "
        f"{', or '.join(remedies)}{kept}."
    ] * bool(found)
