"""What the rules ask of an operator's tensors: scales, fused activations, a bias, bools."""

from __future__ import annotations

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.importers.tflite_step import Call
from neurodeploy.ir.build import Sym
from neurodeploy.ir.types import Quant


def acted(call: Call, x: Sym) -> None:
    """Output 0 of a float operator: a value after its fused activation."""
    if not (act := call.act.get("act")):
        call.give(x)
    elif act == "relu":
        call.put("relu", x)
    elif act == "relu6":
        call.put("min", call.emit("relu", x), 6.0)
    elif act == "relu_n1_to_1":
        call.put("min", call.emit("max", x, -1.0), 1.0)
    else:
        raise UnsupportedError(f"has the fused activation {act.upper()}, which TFLite Micro doesn't know.")


def checked_act(call: Call) -> dict[str, str]:
    """The fused activation as the dialect's attribute. Raises :class:`UnsupportedError` for one it hasn't."""
    act = call.act
    if act and act["act"] not in ("relu", "relu6", "relu_n1_to_1"):
        raise UnsupportedError(f"has the fused activation {act['act'].upper()}, which TFLite Micro doesn't know.")
    return act


def scaled(call: Call, *inputs: int) -> None:
    """Refuse quantized tensors without a scale, and mixtures of floats and integers."""
    for tensor in (*(call.tensor(i) for i in inputs), call.result()):
        if tensor.kind not in ("INT8", "INT16", "INT4") or not tensor.scale:
            raise UnsupportedError(
                f"computes with {tensor.kind}{'' if tensor.scale else ' without a scale'} "
                f"({tensor.name[:60]}); needed int8 or int16 with one.",
                hint="Convert the model with full integer quantization (int8 or int16 activations), or without any.",
            )


def fixed_result(call: Call, i8: Quant, i16: Quant, near: float = 0.0) -> None:
    """Refuse a result whose scale and zero point aren't those that the kernel prescribes.

    ``near``: how far, relative to it, an int16's scale may be from the one prescribed.
    """
    result, wanted = call.result(), i8 if call.result().kind == "INT8" else i16
    apart = abs(result.scale[0] / float(wanted.array) - 1) - (near if result.kind == "INT16" else 0.0)
    if apart > 0 or result.zero_point[0] != wanted.zero_point:
        raise UnsupportedError(
            f"gives the scale {result.scale[0]:g} and zero point {result.zero_point[0]}; needed {wanted.scale:g} and "
            f"{wanted.zero_point}."
        )


def bias_of(call: Call, outputs: int) -> list[Sym]:
    """The bias as a list of one param, or of none.

    Without one, an int16 operator may ask for a 32-bit accumulator, which the dialect takes from a bias i32.
    """
    if call.has(2):
        return [call.param(2)]
    if call.tensor().kind == "INT16" and call.options.get("quantized_bias_type") == 2:
        return [call.step.builder.param("bias", np.zeros(outputs, np.int32))]
    return []


def bools(call: Call) -> None:
    """Refuse anything but bools: TFLM's kernel takes the first bytes of whatever else for them."""
    for i in range(len(call)):
        if call.tensor(i).kind != "BOOL":
            raise UnsupportedError(f"takes {call.tensor(i).kind} ({call.tensor(i).name[:60]}); needed BOOL.")
