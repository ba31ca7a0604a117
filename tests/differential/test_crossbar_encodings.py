"""Every encoding, sliced, on small arrays: integer families keep every bit, float ones their meaning."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy import compiler, hardware
from neurodeploy.backends.crossbar import CrossbarBackend
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.ir import interpret
from tests.families import CASES

IDEAL = hardware.find("ideal-128", Crossbar)
ARRAYS = [("differential", 8, 3), ("offset", 8, 2), ("one-sided", 9, 4)]
INTEGER = [n for n, case in CASES.items() if case.integer and case.program.numerics == "float"]


def array_of(encoding: str, bits: int | None, slices: int | None) -> Crossbar:
    changes = {"encoding": encoding, "weight_bits": bits, "slice_bits": slices, "rows": 9, "columns": 25}
    return IDEAL.model_copy(update={"array": IDEAL.array.model_copy(update=changes)})


@pytest.mark.parametrize("name", INTEGER)
def test_sliced_integers_keep_every_bit(name: str):
    case = CASES[name]
    data = Data(case.inputs, case.lengths)
    plain = compiler.prepare(case.program, "crossbar", "native", data, progress=lambda _: None)
    golden = interpret.run(plain, case.inputs, case.lengths, states=True)
    for choice in ARRAYS:
        built = CrossbarBackend().compile(plain, array_of(*choice), source=case.program)
        trace = CrossbarRunner().run(built, case.inputs, case.lengths, chips=1, times=[0], states=True)
        for expected, found in ((golden.outputs, trace.outputs), (golden.states, trace.states)):
            for key, array in expected.items():
                assert np.array_equal(array, found[key]), (choice, key)


@pytest.mark.parametrize("name", CASES)
def test_analog_weights_of_every_encoding_keep_the_meaning(name: str):
    case = CASES[name]
    golden = interpret.run(case.program, case.inputs, case.lengths)
    for encoding in ("differential", "offset", "one-sided"):
        built = CrossbarBackend().compile(case.program, array_of(encoding, None, None))
        trace = CrossbarRunner().run(built, case.inputs, case.lengths, chips=1, times=[0])
        for output, expected in golden.outputs.items():
            np.testing.assert_allclose(trace.outputs[output], expected, atol=1e-5, rtol=1e-5)
