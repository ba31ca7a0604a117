"""Affine maps and pointwise functions read off a step: they compute what the golden model does, or name what doesn't."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir import interpret
from neurodeploy.ir.build import Builder
from neurodeploy.ir.types import TensorType
from neurodeploy.spiking import dynamics
from tests.families import CASES
from tests.families.case import one_stage, series

FOUND = [
    "elman_tanh", "elman_relu", "fully_recurrent", "jordan", "indrnn", "echo_state", "echo_state_slow", "ctrnn_euler",
    "ctrnn_exponential", "mtrnn", "spiking", "multilayer_perceptron",
]  # fmt: skip


def outputs_of(d: dynamics.Dynamics, x: np.ndarray) -> dict[str, np.ndarray]:
    """The dynamics run in float64 on ``x`` [batch, steps, inputs]."""
    state = {name: np.tile(start, (len(x), 1)) for name, start in d.init.items()}
    (input_name,) = d.inputs
    rows: dict[str, list[np.ndarray]] = {name: [] for name in d.outputs}
    for t in range(x.shape[1]):
        bases = {input_name: x[:, t].astype(np.float64), **state}

        def value(form: dynamics.Form, bases: dict[str, np.ndarray] = bases) -> np.ndarray:
            return form.offset + sum(bases[k] @ m.T for k, m in form.matrices.items())

        for layer in d.layers:
            bases[layer.value] = layer.f(value(layer.z))
        state = {name: value(form) for name, form in d.next.items()}
        for name, form in d.outputs.items():
            rows[name].append(value(form))
    return {name: np.stack(r, axis=1) for name, r in rows.items()}


@pytest.mark.parametrize("name", FOUND)
def test_it_computes_what_the_step_does(name):
    case = CASES[name]
    found = dynamics.find(case.program, "test", "advice")
    x = case.inputs["x"]
    golden = interpret.run(case.program, {"x": x})
    (stage,) = case.program.stages
    for out, array in outputs_of(found, x).items():
        assert np.abs(array - golden.series[f"{stage.name}.{out}"]).max() < 1e-5


@pytest.mark.parametrize("name", sorted(set(CASES) - set(FOUND)))
def test_what_does_not_fit_is_named(name):
    with pytest.raises(UnsupportedError) as caught:
        dynamics.find(CASES[name].program, "test", "Do otherwise.")
    assert caught.value.place and caught.value.place.startswith(name) and caught.value.hint == "Do otherwise."


def test_the_product_of_a_gate_is_named():
    with pytest.raises(UnsupportedError, match=r"lstm/main: %lstm\.mul \(mul\): it multiplies two changing values"):
        dynamics.find(CASES["lstm"].program, "test", "advice")


def test_activations_made_of_several_ops_are_one_layer():
    """Softsign, leaky relu and ELU are functions of one unit, written with several values."""
    for words in ("softsign", ["leaky_relu", 0.3], ["elu", 0.7], "hard_sigmoid"):
        b = Builder()
        x, h = b.input("x", (2,)), b.state("h", (3,))
        W, U = np.arange(6).reshape(3, 2) / 4 - 0.5, np.eye(3) * 0.3
        (new,) = b.call("elman", x, h, b.param("W", W), b.param("U", U), b.param("b", np.ones(3) / 5), activation=words)
        b.next(h, new)
        b.output("y", new)
        program = one_stage("case", b.graph(), inputs={"x": TensorType((2,))}, outputs={"y": "main.y"})
        found = dynamics.find(program, "test", "advice")
        assert len([layer for layer in found.layers if layer.value in found.next["h"].matrices]) == 1
        x = series(3, 2, scale=2.0)
        golden = interpret.run(program, {"x": x}).series["main.y"]
        assert np.abs(outputs_of(found, x)["y"] - golden).max() < 1e-5
