"""The TFLM project of a build: its C++ answers the link and steps as the golden model does, its files say what is true.

TFLM itself isn't here: the C++ is compiled against a stand-in of its headers (``tests/stand_ins/tflm``), behind which
the wheel computes.
"""

from __future__ import annotations

import pytest

import neurodeploy
from neurodeploy.artifact import Artifact
from neurodeploy.backends.tflite.project_facts import facts_of
from neurodeploy.data import Data
from tests import tflm_stand_in
from tests.families import CASES

pytest.importorskip("tflite_micro", reason="the extra 'tflite' is not installed")
needs_compiler = pytest.mark.skipif(not tflm_stand_in.compiler(), reason="no C++ compiler is installed")


def build(family: str, **options) -> neurodeploy.Built:
    case = CASES[family]
    return neurodeploy.compile(case.program, "tflm", Data(case.inputs, case.lengths), name=family, **options)


def facts(artifact: Artifact) -> list:
    return [facts_of(artifact.files[s["file"]]) for s in artifact.manifest["layout"]["stages"].values()]


@needs_compiler
@pytest.mark.parametrize("family", ["gru_reset_after", "encoder_decoder", "stacked_bidirectional", "lstm"])
def test_firmware_equals_the_golden_model(family, tmp_path):
    made = build(family)
    firmware = tflm_stand_in.build(made.artifact, tmp_path)
    case = CASES[family]
    with tflm_stand_in.running(firmware, tflm_stand_in.Wheel(made.artifact, facts(made.artifact))) as port:
        found = made.validate(Data(case.inputs, case.lengths), on="board", port=port)
    (agreement,) = found.run.agreement
    assert agreement.bit_exact == agreement.compared > 0
    assert found.run.device.target_id == "0x4d4c4654"
