"""Recurrent networks for the tests of the spiking backends: the trained echo state network, and small random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.data import Data
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Program, ProgramInput, Ref, Stage

EXAMPLES = Path(__file__).parents[2] / "examples"


def layer(
    W, U, bias, leak, V, c, *, activation="tanh", normalise=None, project=None, last=True, cell="leaky", name="net", state_init=None,
    tail=None, drive=None,
) -> Program:  # fmt: skip
    """``h' = h + leak (f(W x + U h + b) - h)``, ``y = V h' + c``.

    ``normalise``: mean and std taken from x first; ``project``: a matrix that then multiplies it.
    """
    b = Builder()
    x = b.input("x", (np.shape(W if project is None else project)[1],))
    h = b.state("h", np.shape(bias), init=state_init)
    fed = x
    if normalise is not None:
        mean, std = (b.param(n, np.asarray(a, np.float32)) for n, a in zip(("mean", "std"), normalise, strict=True))
        fed = (x - mean) / std
    if project is not None:
        fed = b.param("project", np.asarray(project, np.float32)) @ fed
    weights = [b.param(n, np.asarray(a, np.float32)) for n, a in (("W", W), ("U", U), ("bias", bias))]
    more = [b.param("leak", np.asarray(leak, np.float32))] if cell == "leaky" else []
    (new,) = b.call(cell, fed, h, *weights, *more, activation=activation)
    b.next(h, new)
    (y,) = b.call("affine", b.param("V", np.asarray(V, np.float32)), new, b.param("c", np.asarray(c, np.float32)))
    b.output("y", b(tail, y) if tail else y)
    stage = Stage("rnn", b.graph(), *([drive] if drive else []), inputs_from={"x": Ref("x")})
    refs = {"y": Ref("y", "rnn", "last" if last else "series")}
    return Program(name, {"x": ProgramInput(stage.graph.inputs["x"])}, (stage,), refs)


def random_layer(seed: int, units: int = 6, inputs: int = 3, outputs: int = 2, leak: Any = 0.3, **more: Any) -> Program:
    """A small random layer with weights about as large as a trained one's."""
    rng = np.random.default_rng(seed)
    return layer(
        rng.normal(0, 0.7, (units, inputs)), rng.normal(0, 0.8 / np.sqrt(units), (units, units)),
        rng.normal(0, 0.2, units), leak, rng.normal(0, 1, (outputs, units)), rng.normal(0, 0.3, outputs), **more,
    )  # fmt: skip


def random_data(seed: int, samples: int = 20, steps: int = 9, inputs: int = 3, classes: int | None = None) -> Data:
    """Random inputs of different lengths; labels where ``classes`` says how many."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (samples, steps, inputs)).astype(np.float32)
    labels = None if classes is None else rng.integers(0, classes, samples)
    return Data({"x": x}, rng.integers(1, steps + 1, samples), labels)


def vowels(split: str) -> Data:
    """JapaneseVowels."""
    with np.load(EXAMPLES / "data" / f"japanese_vowels_{split}.npz") as d:
        return Data({"x": d["x"]}, d["lengths"], d["y"])


def vowels_esn() -> Program:
    """The trained echo state network that ships."""
    with np.load(EXAMPLES / "models" / "vowels_esn.npz") as d:
        return layer(d["W_in"], d["W"], d["bias"], d["leak"], d["W_out"], d["b_out"], name="vowels_esn")
