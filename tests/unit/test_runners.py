"""What every runner refuses before it runs: builds of other backends, and options that it hasn't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurodeploy.artifact import Artifact
from neurodeploy.backends import RUNNERS, runner
from neurodeploy.errors import UsageError

OTHER = {"host": "crossbar", "board": "crossbar", "tflm": "c", "litert": "c", "crossbar": "c", "brian2": "nir"}
OTHER |= {"nir": "brian2", "snntorch": "c", "reference": "brian2"}


def build(backend: str) -> Artifact:
    return Artifact("net", backend, "host", {}, {"name": "net"})


@pytest.mark.parametrize("name", [name for name in OTHER if name != "reference"])
def test_a_build_of_another_backend_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        runner(name).run(build(OTHER[name]), {"x": np.zeros((1, 1, 1))})
    text = str(caught.value)
    assert text.startswith(f"net: is a build for '{OTHER[name]}'; the runner '{name}' needs one for '")
    assert text.endswith("Leave out --on: it then runs on its own target.")


@pytest.mark.parametrize(("name", "nearest"), [("host", "tool"), ("reference", "threads"), ("board", "toolchain")])
def test_an_option_that_a_runner_has_not_is_refused(name: str, nearest: str) -> None:
    mine = build("c")
    wrong: dict[str, Any] = {f"{nearest}s": 1}
    with pytest.raises(UsageError, match=f"'{name}' has no option '{nearest}s'. Did you mean '{nearest}'"):
        runner(name).run(mine, {}, **wrong)


def test_every_runner_but_the_golden_model_is_covered() -> None:
    assert {"golden", *OTHER} == set(RUNNERS)
