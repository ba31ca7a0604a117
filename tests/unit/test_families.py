"""Every family's program, in the interpreter, against its reference in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.ir import interpret, text
from tests.families import CASES
from tests.families.case import Case

FEWEST = 28


def test_no_family_is_missing() -> None:
    assert len(CASES) >= FEWEST


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_interpreter_equals_reference(case: Case) -> None:
    trace = interpret.run(case.program, case.inputs, case.lengths)
    lengths = case.lengths if case.lengths is not None else np.full(len(next(iter(case.inputs.values()))), 9)
    for b, steps in enumerate(lengths):
        wanted = case.reference({k: v[b] for k, v in case.inputs.items()}, int(steps))
        assert set(wanted) == set(trace.outputs)
        for name, expected in wanted.items():
            found = trace.outputs[name][b]
            if case.program.is_series(case.program.outputs[name]):
                found, tail = found[: len(expected)], found[len(expected) :]
                assert not tail.any(), f"{name} goes on after the end"
            np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5, err_msg=f"{name} of sample {b}")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_text_is_the_program(case: Case) -> None:
    assert text.from_files(text.to_files(case.program, "p"), "p") == case.program
