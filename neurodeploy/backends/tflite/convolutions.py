"""Operators of convolutions, pools, and of the borders between floats and integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurodeploy.backends.tflite.stage import Rule, StageWriter
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Value
from neurodeploy.ir.tflite.convolutions import pair


def _window(writer: StageWriter, value: Value) -> dict[str, Any]:
    """The options that convolutions and pools share."""
    fb, (down, right) = writer.model.fb, pair(value.attrs, "stride")
    padding = getattr(fb.Padding, value.attrs.get("padding", "valid").upper())
    options = {"padding": padding, "strideH": down, "strideW": right}
    if "act" in value.attrs:
        options["fusedActivationFunction"] = getattr(fb.ActivationFunctionType, value.attrs["act"].upper())
    return options


def _convolution(code: str, table: str) -> Rule:
    def write(writer: StageWriter, value: Value) -> None:
        x, weights, *bias = value.args
        kind = "i4" if value.attrs.get("weight_bits") == 4 else None
        inputs = [writer.at(x), writer.weights(weights, kind), *(writer.weights(b) for b in bias)]
        down, right = pair(value.attrs, "dilation")
        options = _window(writer, value) | {"dilationHFactor": down, "dilationWFactor": right}
        narrow = bool(bias) and writer.types[bias[0]].dtype == "i32"
        if code == "DEPTHWISE_CONV_2D":
            if value.tensor.dtype == "i16" and narrow:
                raise UnsupportedError(
                    "tfl_depthwise_conv_2d has a bias i32 at i16; TFLM takes i64 there.",
                    place=f"{writer.name}: %{value.name}",
                )
            options["depthMultiplier"] = value.tensor.shape[2] // writer.types[x].shape[2]
        elif value.tensor.dtype == "i16":
            options["quantizedBiasType"] = getattr(writer.model.fb.TensorType, "INT32" if narrow else "INT64")
        writer.main.op(code, inputs, [writer.out(value)], table, **options)

    return write


def _pool(code: str) -> Rule:
    def write(writer: StageWriter, value: Value) -> None:
        writer.same_scale(value)
        height, width = pair(value.attrs, "window", None)
        options = _window(writer, value) | {"filterHeight": height, "filterWidth": width}
        writer.main.op(code, [writer.at(value.args[0])], [writer.out(value)], "Pool2DOptions", **options)

    return write


def _mean(writer: StageWriter, value: Value) -> None:
    axis = writer.main.ints(f"{value.name}_axis", [len(writer.types[value.args[0]].shape)])
    writer.main.op("MEAN", [writer.at(value.args[0]), axis], [writer.out(value)], "ReducerOptions", keepDims=False)


def _border(code: str) -> Rule:
    def write(writer: StageWriter, value: Value) -> None:
        writer.main.op(code, [writer.at(value.args[0])], [writer.out(value)])

    return write


RULES: Mapping[str, Rule] = {
    "tfl_conv_2d": _convolution("CONV_2D", "Conv2DOptions"),
    "tfl_depthwise_conv_2d": _convolution("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"),
    "tfl_mean": _mean,
    "tfl_from_float": _border("QUANTIZE"),
    "tfl_to_float": _border("DEQUANTIZE"),
    "tfl_average_pool_2d": _pool("AVERAGE_POOL_2D"),
    "tfl_max_pool_2d": _pool("MAX_POOL_2D"),
}
