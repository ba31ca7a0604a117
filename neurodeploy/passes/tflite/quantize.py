"""Quantization for TFLite Micro: a calibrated float program becomes one of TFLite's int8 or int16x8 ops.

int8 weights with one scale or a scale per row (int4 with one in all), int16 or int8 values, states with zero point 0,
biases of int64 or int32. Scales are chosen by :mod:`neurodeploy.passes.tflite.scales`; where a kernel can't make its
result on the scale that its class has, it is made on a coarser one and rescaled. A sum of products and constants
becomes FULLY_CONNECTED ops, one of them with the constants as its bias, and ADDs. Weights are rounded against the
vectors that they multiply on the calibration samples (:mod:`neurodeploy.passes.tflite.rounding`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Program, ProgramInput, State
from neurodeploy.ir.verify import verify
from neurodeploy.passes.quantize_checks import require_quantizable, stalls
from neurodeploy.passes.tflite import needs
from neurodeploy.passes.tflite.join import joined
from neurodeploy.passes.tflite.portable import portable
from neurodeploy.passes.tflite.rounding import Moments, operand_moments
from neurodeploy.passes.tflite.scales import Scales
from neurodeploy.passes.tflite.stage import StageQuantizer
from neurodeploy.passes.tflite.widths import Widths, widths_of


@dataclass(frozen=True)
class QuantizeTFLite:
    """Quantize a calibrated, expanded float program for TFLite Micro.

    ``activation_dtype``: ``i16`` or ``i8``; ``state_dtype``: the same for states, by default as the activations; with
    ``i8`` and that default what 8 bits can't hold gets 16 (:mod:`~neurodeploy.passes.tflite.needs`).
    ``weight_bits``: 8, or 4 with activations of 8 bits. ``weights``, ``states``, ``activations``: the same for tensors
    by name. ``rounding``: weights are ``compensated`` on ``data`` (the calibration samples; without them 8-bit ones go
    to the nearest), or all taken to the ``nearest``. ``per_channel``: a scale for each row of 8-bit weights or one for
    all; by default chosen for each matrix (:mod:`neurodeploy.passes.tflite.row_scales`). ``headroom``: how far beyond
    its calibrated range an i16 value may go before it saturates. ``prefer``: ``speed`` or ``size`` (of
    file and firmware). For speed an 8-bit network computes sigmoid and tanh by TFLM's int16 kernels, and what follows
    them in 16 bits up to the next product or state; in a 16-bit one a sum of products is one product
    (:mod:`neurodeploy.passes.tflite.join`).

    Needs ``meta["ranges"][stage][value] = [lo, hi]``. Warnings (a state that stalls, or that starts at another value
    than 0) are appended to ``meta["warnings"]``. Raises :class:`UnsupportedError` naming an op and value without a
    kernel, :class:`UsageError` for a value that was not calibrated, a width that TFLite Micro doesn't have, or a name
    that isn't the network's.
    """

    activation_dtype: str = "i16"
    state_dtype: str = ""
    weight_bits: int = 8
    per_channel: bool | None = field(default=None, metadata={"type": bool})
    headroom: float = 1.1
    weights: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    activations: Mapping[str, str] = field(default_factory=dict)
    rounding: str = "compensated"
    prefer: str = "speed"
    data: Data | None = field(default=None, compare=False, repr=False, metadata={"text": False})
    progress: Callable[[str], None] | None = field(default=None, compare=False, repr=False, metadata={"text": False})

    def __call__(self, program: Program) -> Program:
        """The program with ``numerics="tflite"``."""
        require_quantizable(program, self.rounding)
        widths = widths_of(program, self)
        if widths.all_wide() and self.prefer == "speed":
            program = joined(program)
            widths = widths_of(program, self)
        moments = self._moments(Scales(program, self.headroom, widths))
        if self.activation_dtype != "i8" or self.state_dtype:
            return self._made(program, widths, moments)
        return needs.quantized(
            program, widths, self.headroom, self.data, lambda chosen: self._made(program, chosen, moments)
        )

    def _made(self, program: Program, widths: Widths, moments: Moments) -> Program:
        """The program at these widths."""
        scales = Scales(program, self.headroom, widths)
        stages = portable(
            scales,
            lambda: tuple(
                replace(s, graph=StageQuantizer(s, program.name, scales, moments).graph()) for s in program.stages
            ),
        )
        inputs = {
            name: ProgramInput(scales.typed(("", name), spec.type), spec.kind) for name, spec in program.inputs.items()
        }
        meta = {key: value for key, value in program.meta.items() if key not in ("ranges", "updates", "solved")}
        if found := [*_unmoved(program), *_stalls(program, scales), *scales.warnings, *_solved(program)]:
            meta["warnings"] = [*meta.get("warnings", []), *found]
        return verify(replace(program, inputs=inputs, stages=stages, numerics="tflite", meta=meta))

    def _moments(self, scales: Scales) -> Moments:
        """What the rounding of weights needs to know of the data; without data only 8-bit ones are rounded."""
        if self.rounding == "nearest":
            return {}
        if self.data is not None:
            return operand_moments(scales.program, self.data, scales.constant, self.progress)
        if 4 in scales.widths.every_weight():
            raise UsageError(
                "weights of 4 bits are rounded against samples, and there are none.",
                place=scales.program.name,
                hint="Give the pass data, or rounding=nearest.",
            )
        return {}


def _solved(program: Program) -> list[str]:
    """A warning for every system of equations that is solved in integers."""
    return [
        f"'{name}' solves a system of equations in integers: its error is theirs times the matrix's condition number. "
        "Compare it with the float network, or compile with --numerics float."
        for name in program.meta.get("solved", [])
    ]


def _unmoved(program: Program) -> list[str]:
    """A warning for every real series that the calibration samples show at one value alone."""
    ranges = {ref.name: program.meta["ranges"].get(s.name, {}).get(x)
              for s in program.stages for x, ref in s.inputs_from.items() if ref.stage is None}  # fmt: skip
    return [
        f"input '{name}' is {ranges[name][0] + 0:g} throughout the calibration samples, which says nothing of its "
        "range. Calibrate on samples like those that the device will see."
        for name, spec in program.inputs.items()
        if spec.kind == "series" and not spec.type.is_int and ranges.get(name) and len(set(ranges[name])) == 1
    ]


def _stalls(program: Program, scales: Scales) -> list[str]:
    """A warning for every state most of whose updates are below half a step."""

    def form(stage: str, state: State) -> tuple[str, float]:
        chosen = scales.form((stage, state.name))
        return chosen.dtype, chosen.scale

    remedies = ("Give it 16 bits: --quantize state_dtype=i16.", "Choose a C target with --numerics float.")
    return stalls(program, form, *remedies)
