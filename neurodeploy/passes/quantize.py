"""Post-training quantization to ``native`` numerics: int8 weights, int16 states and activations, int32 in between.

The rules are in ``docs/numerics.md``. The plan of scales is :mod:`~neurodeploy.passes.quantize_plan`, the rule of each
op in :mod:`~neurodeploy.passes.quantize_ops`, ``quantize_tables`` and ``quantize_products``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Program, ProgramInput, Stage, State, prune
from neurodeploy.ir.types import Quant
from neurodeploy.passes.calibrate import expanded
from neurodeploy.passes.quantize_checks import lost_updates, require_quantizable, stalls
from neurodeploy.passes.quantize_legalize import Legalizer
from neurodeploy.passes.quantize_lower import Lowering
from neurodeploy.passes.quantize_moments import Moments, moments
from neurodeploy.passes.quantize_plan import Plan, measured_ranges
from neurodeploy.passes.quantize_rounding import FEW_BITS, MOST_BITS
from neurodeploy.passes.quantize_widths import Widths, weight_keys, widths_of
from neurodeploy.passes.simplify import Simplify


@dataclass(frozen=True)
class Quantize:
    """A calibrated float program as an integer program.

    ``weight_bits``: 2 to 8 or 16 bits a weight, symmetric, a scale per row. ``state_dtype`` and ``activation_dtype``:
    ``i16`` or ``i8``. ``weights``, ``states``, ``activations``: the same for tensors by name. ``rounding``: weights of
    at most 8 bits are ``compensated`` on ``data`` (the calibration samples), or taken to the ``nearest``; so are those
    of 7 and 8 bits without data, which those of fewer need.
    Needs ``meta["ranges"]`` (pass ``calibrate``). Warnings (a state that stalls, a value that calibration never met,
    16-bit weights that get fewer) are appended to ``meta["warnings"]``. Raises :class:`UsageError` naming the nearest
    tensor for one that isn't there, :class:`UnsupportedError` naming a value without an integer form,
    :class:`NumericsError` where an integer could leave its dtype.
    """

    weight_bits: int = 8
    state_dtype: str = "i16"
    activation_dtype: str = "i16"
    weights: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    activations: Mapping[str, str] = field(default_factory=dict)
    rounding: str = "compensated"
    data: Data | None = field(default=None, compare=False, repr=False, metadata={"text": False})
    progress: Callable[[str], None] | None = field(default=None, compare=False, repr=False, metadata={"text": False})

    def __call__(self, program: Program) -> Program:
        require_quantizable(program, self.rounding)
        legal = legal_form(expanded(program))
        widths = widths_of(legal, self)
        return quantized(legal, self, widths, self._moments(legal, widths))

    def _moments(self, legal: Program, widths: Widths) -> Moments | None:
        """What the rounding of weights needs to know of the data; None where it needs nothing, or knows nothing."""
        used = {widths.bits(stage or "", name) for stage, name in weight_keys(legal)}
        if self.rounding == "nearest" or not any(bits <= MOST_BITS for bits in used):
            return None
        if self.data is not None:
            return moments(legal, self.data, self.progress)
        if any(bits <= FEW_BITS for bits in used):
            raise UsageError(
                f"weights of {FEW_BITS} bits and less are rounded against samples, and there are none.",
                place=legal.name,
                hint="Give the pass data, or rounding=nearest.",
            )
        return None


def quantized(legal: Program, options: Quantize, widths: Widths, moments: Moments | None) -> Program:
    """The integer program of a calibrated program in legal form; ``moments`` are those of its operands."""
    plan = Plan(legal, options.state_dtype, options.activation_dtype, measured_ranges(legal), widths.kept)
    stages, wishes = _lowered(legal, plan, widths, moments)
    updates = legal.meta.get("updates", {})
    if plan.coarsen(wishes, lambda stage, name, scale: lost_updates(updates.get(stage, {}).get(name), scale)):
        stages, _ = _lowered(legal, plan, widths, moments)
    inputs = {
        name: ProgramInput(plan.interface(None, name, spec.type), spec.kind) for name, spec in legal.inputs.items()
    }
    made = Simplify()(replace(legal, inputs=inputs, stages=stages, numerics="native"))
    warnings = [
        *legal.meta.get("warnings", []),
        *_unknown(plan),
        *_stalls(legal, plan),
        *_short(made, widths),
    ]
    meta = {key: value for key, value in legal.meta.items() if key not in ("ranges", "updates", "warnings")}
    if warnings:
        meta["warnings"] = warnings
    return replace(made, meta=meta)


def _short(program: Program, widths: Widths) -> list[str]:
    """A note on 16-bit weights that the accumulator holds fewer bits of."""
    notes = []
    for stage in program.stages:
        for name, param in stage.graph.params.items():
            if param.type.dtype != "i16" or widths.bits(stage.name, name) != 16 or param.data.ndim != 2:
                continue
            used = [int(np.abs(row.astype(int)).max()).bit_length() + 1 for row in param.data]
            if min(used) < 16:
                notes.append(
                    f"weight '{stage.name}.{name}': of 16 bits {min(used)} to {max(used)} are used, by row; "
                    "more could overflow the 32-bit accumulator."
                )
    return notes


def _lowered(
    legal: Program, plan: Plan, widths: Widths, moments: Moments | None
) -> tuple[tuple[Stage, ...], dict[tuple[str, str], int]]:
    """The integer stages, and by how many bits products would have their inputs and states coarser."""
    lowerings = [Lowering(stage, plan, widths, measured_ranges(legal), moments) for stage in legal.stages]
    stages = tuple(replace(z.stage, graph=prune(z.run())) for z in lowerings)
    return stages, {key: bits for z in lowerings for key, bits in z.wishes.items()}


def legal_form(program: Program) -> Program:
    """A calibrated, expanded program in the forms that are quantized, with the ranges of what was added."""
    measured = measured_ranges(program)
    stages: list[Stage] = []
    ranges: dict[str, dict[str, Any]] = {}
    for stage in program.stages:
        graph, ranges[stage.name] = Legalizer(stage.graph, measured.get(stage.name, {})).run()
        stages.append(replace(stage, graph=graph))
    return replace(program, stages=tuple(stages), meta={**program.meta, "ranges": ranges})


def _unknown(plan: Plan) -> list[str]:
    """A warning for values that calibration never met."""
    if not plan.unknown:
        return []
    names = ", ".join(plan.unknown[:5]) + (" ..." if len(plan.unknown) > 5 else "")
    return [f"calibration never met {names}: a range of 1 is assumed. Calibrate on samples that reach it."]


def _stalls(program: Program, plan: Plan) -> list[str]:
    """A warning for every state most of whose updates are too small for its type."""

    def form(stage: str, state: State) -> tuple[str, float] | None:
        type_ = plan.interface(stage, state.name, state.type)
        return (type_.dtype, float(type_.quant.array)) if isinstance(type_.quant, Quant) else None

    return stalls(program, form, narrow="Use state_dtype=i16.", wide="Compile with --numerics float.")
