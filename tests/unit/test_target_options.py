"""Options for some targets only: every backend's own are known, and one given to another target says whose it is."""

from __future__ import annotations

import inspect

import pytest

from neurodeploy import compile, hardware, target_options
from neurodeploy.backends import BACKENDS, backend
from neurodeploy.errors import UsageError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage


def program() -> Program:
    b = Builder()
    x, h = b.input("x", (2,)), b.state("h", (2,))
    new = b("tanh", x + h)
    b.next(h, new)
    b.output("y", new)
    stage = Stage("s", b.graph(), inputs_from={"x": Ref("x")})
    return Program("net", {"x": ProgramInput(x.type)}, (stage,), {"y": Ref.parse("s.y@last")})


@pytest.mark.parametrize("name", BACKENDS)
def test_the_table_is_that_of_the_backends(name: str) -> None:
    engine = backend(name)
    own = set(inspect.signature(engine.compile).parameters) - {*target_options._OWN, "self"}
    beside = {"fused_lstm", "toolchain", "fine_tune"}
    assert own == {key for key, takers in target_options.TAKERS.items() if name in takers} - beside
    assert hardware.find(target_options.TARGETS[name][1]).backend == name


@pytest.mark.parametrize(
    ("target", "option", "value", "said"),
    [
        ("mps2-an386", "state", "io", "mps2-an386: the option 'state' is for TFLite Micro; this target is for C"),
        ("pcm-128", "steps", 4, "pcm-128: the option 'steps' is for TFLite Micro; this target is for crossbars."),
        ("tflm", "ram", "small", "'ram' is for C (boards and the host); this target is for TFLite Micro."),
        ("tflm", "toolchain", "gcc", "'toolchain' is for C (boards and the host); this target is for TFLite Micro."),
        ("brian2-lif", "fused_lstm", True, "'fused_lstm' is for TFLite Micro and C"),
        (
            "nir",
            "fine_tune",
            2,
            "'fine_tune' is for spikes in snnTorch and crossbars; this target is for spikes in NIR",
        ),
        ("tflm", "scaling", "tile", "'scaling' is for crossbars; this target is for TFLite Micro."),
        ("tflm", "stesp", 4, "the backend 'tflite' has no option 'stesp'. Did you mean 'steps'?"),
        ("host", "neurons", 4, "the backend 'c' has no option 'neurons'. Known: "),
    ],
)
def test_an_option_for_other_targets_says_whose_it_is(target: str, option: str, value: object, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile(program(), target, **{option: value})  # type: ignore[arg-type]
    assert said in str(caught.value)
    if "is for" in said:
        assert "Leave it out, or compile for another target, such as " in str(caught.value)


def test_what_is_not_asked_for_is_no_option() -> None:
    assert compile(program(), "host", numerics="float", fused_lstm=False, toolchain=None, costs=False)
