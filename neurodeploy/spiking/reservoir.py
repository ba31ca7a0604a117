"""A reservoir as the liquid's conversion needs it, and what it does on data.

::

    a = f(W x + U h + b)
    h <- (1 - leak) h + leak a      leak may differ from unit to unit; an Elman network is leak = 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.graph import Program
from neurodeploy.spiking import dynamics

#: Different leaks that the units may have.
MOST_LEAKS = 4
ADVICE = "Use the target snntorch-sigma-delta, which takes any layer, or a board target."


@dataclass(frozen=True)
class Reservoir:
    """``W`` [n, inputs], ``U`` [n, n], ``bias`` [n], ``leak`` [n], float64; ``layer`` has the activation. ``stage``,
    ``input``, ``state`` and ``output`` are the source program's names."""

    W: np.ndarray
    U: np.ndarray
    bias: np.ndarray
    leak: np.ndarray
    layer: dynamics.Layer
    stage: str
    input: str
    state: str
    output: str

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.bias)

    def slope(self, z: np.ndarray) -> np.ndarray:
        """Derivatives ``f'(z) [..., n]``, by central differences of 1e-3."""
        return (self.layer.f(z + 1e-3) - self.layer.f(z - 1e-3)) / 2e-3


@dataclass(frozen=True)
class Observed:
    """A reservoir's run over data, ``[rows, n]`` for the frames that run, sample by sample: what a unit is given
    ``z``, its activation ``a``, the state ``before`` and the state ``h`` after the frame."""

    z: np.ndarray
    a: np.ndarray
    before: np.ndarray
    h: np.ndarray


def find(program: Program) -> Reservoir:
    """The reservoir of a program. Raises :class:`UnsupportedError` naming the stage, state or value that isn't one."""
    form = dynamics.find(program, "a liquid-state machine", ADVICE)
    place = f"{program.name}/{form.stage.name}"
    if len(form.layers) != 1 or len(form.states) != 1:
        states = ", ".join(f"%{name}" for name in form.states) or "none"
        raise UnsupportedError(
            f"a liquid is made of one layer with one state; found {_count(form.layers, 'layer')} and states {states}.",
            place=place, hint=ADVICE,
        )  # fmt: skip
    (layer,), (state,) = form.layers, form.states
    following, n = form.next[state], layer.units
    leak = np.diag(following.of(layer.value, n)).copy() if len(following.offset) == n else np.zeros(0)
    kept = np.diag(1 - leak)
    same = len(leak) == n and all(
        np.allclose(following.of(name, n), wanted, atol=1e-6)
        for name, wanted in ((layer.value, np.diag(leak)), (state, kept))
    )
    inputs = [name for name in form.inputs if name in following.matrices or name in layer.z.matrices]
    if not same or np.any(following.offset) or len(inputs) != 1 or inputs[0] in following.matrices:
        raise UnsupportedError(
            "its next state isn't (1 - leak) state + leak f(W input + U state + b), which neurons with leaky synapses "
            "follow.", place=f"{place}: state %{state}", hint=ADVICE,
        )  # fmt: skip
    if not (leak > 0).all() or not (leak <= 1).all():
        raise UnsupportedError(
            f"leaks {leak.min():.4g}..{leak.max():.4g}; needed above 0 and at most 1.",
            place=f"{place}: state %{state}", hint=ADVICE,
        )  # fmt: skip
    if len(np.unique(leak)) > MOST_LEAKS:
        raise UnsupportedError(
            f"its units have {len(np.unique(leak))} different leaks; needed at most {MOST_LEAKS}, as each takes "
            "synapses of its own.", place=f"{place}: state %{state}", hint=ADVICE,
        )  # fmt: skip
    if np.any(form.init[state]):
        raise UnsupportedError(
            "it starts elsewhere than at zero; a liquid starts at rest.", place=f"{place}: state %{state}", hint=ADVICE
        )
    read = {(r.stage, r.name) for r in program.outputs.values()}
    if len(read) != 1 or any(r.at == "final" for r in program.outputs.values()):
        raise UnsupportedError(
            f"it has outputs {', '.join(program.outputs)}; needed one value of its step, which the readout is fitted "
            "to.", place=program.name, hint=ADVICE,
        )  # fmt: skip
    (ref,) = read
    source = program.stages[0].inputs_from[inputs[0]].name
    return Reservoir(
        layer.z.of(inputs[0], form.inputs[inputs[0]]), layer.z.of(state, n), layer.z.offset, leak, layer,
        form.stage.name, source, state, str(ref[1]),
    )  # fmt: skip


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things) or 'no'} {word}{'s' * (len(things) != 1)}"


def observe(reservoir: Reservoir, x: np.ndarray, active: np.ndarray) -> Observed:
    """Run the reservoir in float64 over real inputs ``[batch, frames, inputs]`` where ``active``."""
    batch, frames = active.shape
    h = np.zeros((batch, reservoir.units))
    z, a, before, after = (np.zeros((batch, frames, reservoir.units)) for _ in range(4))
    for t in range(frames):
        before[:, t] = h
        z[:, t] = x[:, t] @ reservoir.W.T + h @ reservoir.U.T + reservoir.bias
        a[:, t] = reservoir.layer.f(z[:, t])
        h = np.where(active[:, t, None], h + reservoir.leak * (a[:, t] - h), h)
        after[:, t] = h
    return Observed(z[active], a[active], before[active], after[active])
