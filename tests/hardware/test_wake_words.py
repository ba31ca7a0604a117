"""A wake word model of others on an emulated board: the bits of the golden model, and what a step costs."""

from __future__ import annotations

import pytest

from neurodeploy import compile
from neurodeploy.importers import load
from tests.differential.test_tflite_wake_words import assert_c_is_golden, model_file

pytestmark = pytest.mark.board


def test_okay_nabu_on_a_board() -> None:
    built = compile(load(model_file("okay_nabu"), check=False), "mps2-an386", costs=False)
    assert_c_is_golden(built, "okay_nabu_1", "board", steps=12)
