"""C of TFLite's numerics on this machine against the golden model, on every bit."""

import functools

import numpy as np
import pytest

from neurodeploy import passes
from neurodeploy.backends.c_layouts import LAYOUTS, PLAIN
from neurodeploy.data import Data
from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import interpret
from tests.families import CASES
from tests.host_c import build


def equal(golden, found):
    for part in ("outputs", "states"):
        for name, array in getattr(golden, part).items():
            np.testing.assert_array_equal(getattr(found, part)[name], array, err_msg=f"{part} {name}")


# -- families ----------------------------------------------------------------------------------------------------------


@functools.cache
def quantized():
    """Every family that the tflite numerics can say, by name."""
    found = {}
    for name, case in CASES.items():
        data = Data(dict(case.inputs), case.lengths)
        try:
            found[name] = passes.run(case.program, passes.pipeline("c", "tflite", data=data))
        except UnsupportedError:
            continue
    return found


@functools.cache
def families(layout, small=False):
    return build(list(quantized().values()), layout, small=small).compile()


@pytest.mark.parametrize(("layout", "small"), [*((v, False) for v in LAYOUTS.values()), (PLAIN, True)],
                         ids=lambda v: getattr(v, "name", v))  # fmt: skip
def test_families_are_exact(layout, small):
    programs = quantized()
    assert len(programs) >= 23
    for name, program in programs.items():
        case = CASES[name]
        golden = interpret.run(program, case.inputs, case.lengths, states=True)
        equal(golden, families(layout, small).run(program.name, case.inputs, case.lengths))
