"""LiteRT beside TFLite Micro: the same files, within the stated last places of the golden model, step by step."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import neurodeploy
from neurodeploy import validate
from neurodeploy.backends import runner
from neurodeploy.data import Data
from neurodeploy.deploy import litert
from neurodeploy.errors import DeviceError, MissingExtraError, UnsupportedError, UsageError
from tests.families import CASES

pytest.importorskip("flatbuffers", reason="the extra 'tflite' is not installed")
try:
    RUNTIME = litert.RUNTIMES[litert.runtime()]  # tflite-runtime in the environment that make test-tflite-runtime makes
except MissingExtraError as error:
    pytest.skip(f"no LiteRT: {error.message}", allow_module_level=True)

WIDTHS = {
    "i16": {},
    "i8": {"quantize": {"activation_dtype": "i8"}},
    "f32": {"numerics": "float"},
}
if RUNTIME == "tflite-runtime":  # it has no QUANTIZE from int8 to int16, which speed and kept 16 bits take
    WIDTHS["i8"] = {"quantize": {"activation_dtype": "i8", "state_dtype": "i8", "prefer": "size"}}
#: What tflite-runtime 2.14 has no kernel for, and the operator that it names.
REFUSED = {
    ("hopfield", "i16"): "SUM",
    ("history_compressor", "i16"): "SUM",
    ("recursive", "i16"): "DYNAMIC_UPDATE_SLICE",
    ("rntn", "i16"): "DYNAMIC_UPDATE_SLICE",
    ("ntm", "i16"): "SUM",
    ("ntm", "i8"): "QUANTIZE",
    ("dnc", "i16"): "SUM",
    ("ising", "i8"): "QUANTIZE",
    ("memristive_network", "i8"): "QUANTIZE",
}


def build(family: str, width: str) -> neurodeploy.Built:
    case = CASES[family]
    try:
        return neurodeploy.compile(case.program, "tflm", Data(case.inputs, case.lengths), **WIDTHS[width])
    except UnsupportedError as error:
        pytest.skip(f"TFLite Micro can't run it: {error.message}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("family", CASES)
def test_each_step_from_equal_states_is_within_the_bound(family, width):
    made, case = build(family, width), CASES[family]
    if RUNTIME == "tflite-runtime" and (family, width) in REFUSED:
        with pytest.raises(DeviceError, match=REFUSED[family, width]):
            runner("litert").run(made.artifact, dict(case.inputs), case.lengths)
        return
    found = litert.from_equal_states(made.artifact, case.inputs, case.lengths)
    assert found
    for agreement in found:
        assert agreement["holds"], agreement
        assert agreement["compared"] > 0


def test_validate_says_both(capsys):
    made, case = build("ctrnn_euler", "i16"), CASES["ctrnn_euler"]
    run = made.validate(Data(case.inputs, case.lengths), on="litert").run
    free, fed = run.agreement
    assert (free.equality, fed.equality) == ("statistical(0.01)", "lsb(32)")
    assert fed.bit_exact < fed.compared, "LiteRT rounds as TFLM does now: the bound can go"
    assert f"of {fed.against}" in validate.first_difference(run) and validate.held(run)
    assert RUNTIME in run.versions


def test_samples_begin_anew():
    """The second of two equal samples gives what the first gave: no variable outlives its sample."""
    made, case = build("lstm", "i8"), CASES["lstm"]
    twice = {name: np.repeat(array[:1], 2, axis=0) for name, array in case.inputs.items()}
    trace = runner("litert").run(made.artifact, twice)
    for array in trace.outputs.values():
        np.testing.assert_array_equal(array[0], array[1])


def test_tflite_runtime_with_numpy_2_is_refused(monkeypatch):
    real = importlib.util.find_spec
    here = {"ai_edge_litert": None, "tflite_runtime": real("json")}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: here[name] if name in here else real(name, *a))
    monkeypatch.setattr(litert, "version", lambda name: "2.14.0")
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(MissingExtraError, match="built for numpy 1"):
        litert.runtime()
    here["tflite_runtime"] = None
    with pytest.raises(MissingExtraError, match="needs the package 'ai_edge_litert'"):
        litert.runtime()


def test_what_it_does_not_take_is_refused():
    case = CASES["elman_tanh"]
    with pytest.raises(UsageError, match="no option 'port'"):
        runner("litert").run(build("elman_tanh", "i16").artifact, dict(case.inputs), port="x")
    host = neurodeploy.compile(case.program, "host", Data(case.inputs, case.lengths), costs=False)
    with pytest.raises(UsageError, match="the runner 'litert' needs one for 'tflite'"):
        runner("litert").run(host.artifact, dict(case.inputs))


def test_a_kernel_that_it_lacks_is_named():
    case = CASES["lstm"]
    made = neurodeploy.compile(case.program, "tflm", Data(case.inputs, case.lengths), fused_lstm=True)
    with pytest.raises(DeviceError, match="UNIDIRECTIONAL_SEQUENCE_LSTM"):
        runner("litert").run(made.artifact, dict(case.inputs), case.lengths)
