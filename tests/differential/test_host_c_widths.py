"""C on this machine against the golden model where every tensor has a width of its own: every bit of every step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest

from neurodeploy import passes
from neurodeploy.backends.c_layouts import LAYOUTS, Layout
from neurodeploy.data import Data
from neurodeploy.errors import UsageError
from neurodeploy.ir import interpret
from neurodeploy.ir.graph import Program
from neurodeploy.passes.quantize import Quantize, legal_form
from neurodeploy.passes.quantize_widths import label, state_keys, weight_keys
from tests.families import CASES
from tests.host_c import Built, build

#: Families whose weights, taken together, are of every kind: stacked, gated, of one unit, in tables and einsums.
FAMILIES = (
    "elman_tanh", "lstm_peephole", "lstm_projection", "gru_reset_after", "echo_state", "indrnn", "second_order", "mtrnn",
    "stacked_bidirectional", "encoder_decoder", "multilayer_perceptron", "ntm",
)  # fmt: skip
BITS = (4, 8, 16, 3, 6, 2, 5, 7)
PLANS = range(3)


def mixed(name: str, plan: int) -> Program:
    """A family with the widths of a plan: each weight another, every other state in 8 bits."""
    case = CASES[name]
    data = Data(dict(case.inputs), case.lengths)
    calibrated = passes.run(case.program, passes.parse("simplify,expand,simplify,calibrate", data))
    legal = legal_form(calibrated)
    wheel: Iterator[int] = cycle(BITS[plan:] + BITS[:plan])
    weights = {label(key): next(wheel) for key in weight_keys(legal)}
    states = {label(key): "i8" for i, key in enumerate(state_keys(legal)) if (i + plan) % 3 == 0}
    options = Quantize(weights=weights, states=untied(calibrated, states), data=data)
    program = passes.run(calibrated, (options, *passes.parse("simplify")))
    return replace(program, name=f"{name}_{plan}")


def untied(calibrated: Program, states: dict[str, str]) -> dict[str, str]:
    """Those of the states that may have 8 bits whatever the others have."""
    kept: dict[str, str] = {}
    for name, dtype in states.items():
        try:
            Quantize(states={**kept, name: dtype})(calibrated)
        except UsageError:
            continue
        kept[name] = dtype
    return kept


@functools.cache
def programs() -> dict[tuple[str, int], Program]:
    return {(name, plan): mixed(name, plan) for name in FAMILIES for plan in PLANS}


@functools.cache
def library(layout: Layout) -> Built:
    return build(list(programs().values()), layout, runs=True).compile()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_mixed_widths_are_exact(name: str, layout: Layout):
    case = CASES[name]
    for plan in PLANS:
        program = programs()[name, plan]
        for scale in (1.0, 1e3):  # beyond calibration too: it saturates alike
            inputs = {n: a * np.float32(scale) if a.dtype.kind == "f" else a for n, a in case.inputs.items()}
            golden = interpret.run(program, inputs, case.lengths, states=True)
            found = library(layout).run(program.name, inputs, case.lengths)
            for part in ("outputs", "states"):
                for tensor, array in getattr(golden, part).items():
                    np.testing.assert_array_equal(
                        getattr(found, part)[tensor], array, err_msg=f"{program.name}: {part} {tensor}"
                    )


def test_the_plans_have_every_width():
    params = [p for program in programs().values() for s in program.stages for p in s.graph.params.values()]
    weights = [p for p in params if p.type.quant is not None and p.type.dtype in ("i8", "i16") and p.data.ndim == 2]
    tops = {int(np.abs(p.data.astype(int)).max()) for p in weights if p.type.dtype == "i8"}
    assert {1, 3, 7, 15, 31, 63, 127} <= tops
    assert any(p.type.dtype == "i16" for p in weights)
    states = [s.type.dtype for program in programs().values() for stage in program.stages for s in stage.graph.states]
    assert {"i8", "i16"} <= set(states)
    mixed_sums = [v for p in programs().values() for s in p.stages for v in s.graph.values if v.op == "affine"]
    assert len(mixed_sums) > len(FAMILIES) * len(PLANS)
