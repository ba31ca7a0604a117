"""Post-training quantization to ``native`` numerics: int8 weights, int16 states and activations, int32 in between.

The rules are in ``docs/numerics.md``. The plan of scales is :mod:`~neurodeploy.passes.quantize_plan`, the rule of each
op in :mod:`~neurodeploy.passes.quantize_ops`, ``quantize_tables`` and ``quantize_products``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurodeploy.errors import UsageError
from neurodeploy.ir.graph import Program, ProgramInput, Stage, prune
from neurodeploy.ir.types import Quant
from neurodeploy.passes.calibrate import expanded
from neurodeploy.passes.quantize_legalize import Legalizer
from neurodeploy.passes.quantize_lower import Lowering
from neurodeploy.passes.quantize_plan import Plan, measured_ranges
from neurodeploy.passes.simplify import Simplify

#: A state is said to stall if this share of its updates is below half an LSB.
STALL_SHARE = 0.25


@dataclass(frozen=True)
class Quantize:
    """A calibrated float program as an integer program.

    ``weight_bits``: 2 to 8 bits a weight, symmetric, a scale per row. ``state_dtype`` and ``activation_dtype``: ``i16``
    or ``i8``. Needs ``meta["ranges"]`` (pass ``calibrate``). Warnings (a state that stalls, a value that calibration
    never met) are appended to ``meta["warnings"]``. Raises :class:`UnsupportedError` naming a value without an integer
    form, :class:`NumericsError` where an integer could leave its dtype.
    """

    weight_bits: int = 8
    state_dtype: str = "i16"
    activation_dtype: str = "i16"

    def __call__(self, program: Program) -> Program:
        if program.numerics != "float":
            raise UsageError(f"is {program.numerics} already; needed a float program.", place=program.name)
        if not 2 <= self.weight_bits <= 8:
            raise UsageError(f"weight_bits is {self.weight_bits}; needed 2 to 8.")
        for name in ("state_dtype", "activation_dtype"):
            if getattr(self, name) not in ("i8", "i16"):
                raise UsageError(f"{name} is '{getattr(self, name)}'; needed i8 or i16.")
        measured = measured_ranges(program)
        program = expanded(program)
        legal, ranges = _legal(program, measured)
        plan = Plan(legal, self.state_dtype, self.activation_dtype, ranges)
        stages, wishes = self._lowered(legal, plan, ranges)
        updates = program.meta.get("updates", {})
        if plan.coarsen(wishes, lambda stage, name, scale: lost_updates(updates.get(stage, {}).get(name), scale)):
            stages, _ = self._lowered(legal, plan, ranges)
        inputs = {
            name: ProgramInput(plan.interface(None, name, spec.type), spec.kind) for name, spec in legal.inputs.items()
        }
        warnings = [*program.meta.get("warnings", []), *_unknown(plan), *_stalls(legal, plan)]
        meta = {key: value for key, value in program.meta.items() if key not in ("ranges", "updates", "warnings")}
        if warnings:
            meta["warnings"] = warnings
        return Simplify()(replace(legal, inputs=inputs, stages=stages, numerics="native", meta=meta))

    def _lowered(
        self, legal: Program, plan: Plan, ranges: Mapping[str, Mapping[str, Any]]
    ) -> tuple[tuple[Stage, ...], dict[tuple[str, str], int]]:
        """The integer stages, and by how many bits products would have their inputs and states coarser."""
        lowerings = [Lowering(stage, plan, self.weight_bits, ranges) for stage in legal.stages]
        stages = tuple(replace(z.stage, graph=prune(z.run())) for z in lowerings)
        return stages, {key: bits for z in lowerings for key, bits in z.wishes.items()}


def legal_form(program: Program) -> Program:
    """A calibrated, expanded program in the forms that are quantized, with the ranges of what was added."""
    legal, ranges = _legal(program, measured_ranges(program))
    return replace(legal, meta={**legal.meta, "ranges": ranges})


def _legal(program: Program, measured: Mapping[str, Mapping[str, Any]]) -> tuple[Program, dict[str, dict[str, Any]]]:
    """Every stage in the forms that have integer rules, and the ranges of all values."""
    stages: list[Stage] = []
    ranges: dict[str, dict[str, Any]] = {}
    for stage in program.stages:
        graph, ranges[stage.name] = Legalizer(stage.graph, measured.get(stage.name, {})).run()
        stages.append(replace(stage, graph=graph))
    return replace(program, stages=tuple(stages)), ranges


def _unknown(plan: Plan) -> list[str]:
    """A warning for values that calibration never met."""
    if not plan.unknown:
        return []
    names = ", ".join(plan.unknown[:5]) + (" ..." if len(plan.unknown) > 5 else "")
    return [f"calibration never met {names}: a range of 1 is assumed. Calibrate on samples that reach it."]


def _stalls(program: Program, plan: Plan) -> list[str]:
    """A warning for every state most of whose updates are too small for its type."""
    found = []
    for stage in program.stages:
        for state in stage.graph.states:
            sizes = program.meta.get("updates", {}).get(stage.name, {}).get(state.name)
            type_ = plan.interface(stage.name, state.name, state.type)
            if not isinstance(type_.quant, Quant):
                continue
            lsb = float(type_.quant.array)
            lost = lost_updates(sizes, lsb)
            if lost >= STALL_SHARE:
                remedy = "Use state_dtype=i16." if type_.dtype == "i8" else "Compile with --numerics float."
                found.append(
                    f"state '{stage.name}.{state.name}' ({type_.dtype}, one step is {lsb:.3g}) stalls: "
                    f"{100 * lost:.0f} % of its updates in calibration are below half a step and are lost. {remedy}"
                )
    return found


def lost_updates(sizes: list[float] | None, lsb: float) -> float:
    """The share of a state's non-zero updates that are below half of ``lsb``, from their quantiles."""
    if not sizes or lsb / 2 <= sizes[0]:
        return 0.0
    return float(np.interp(np.log2(lsb / 2), np.log2(sizes), np.linspace(0, 1, len(sizes))))
