"""The units of a network without gates, and what they do step by step in float64: what a rate conversion starts from.

::

    cells leaky, elman, indrnn    z = W x + U h + b;   h' = h + leak (f(z) - h)        (elman, indrnn: leak = 1)
    cell ctrnn                    z = y - theta;       y' = y + leak (W x + U f(z) + b - y)

``state`` is h or y. Where units read others' *new* state (a layer above another), ``fresh`` is 1 there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.spiking.tuning import Function


@dataclass(frozen=True)
class Units:
    """Arrays over all units n: ``W`` [n, inputs], ``U`` [n, n], ``bias``, ``leak``, ``theta`` [n], readout ``V``
    [outputs, n] of the new states and ``c`` [outputs]. ``inside``: cell ctrnn. ``layers``: (name, first unit, one past
    its last, f), from the input up. ``stage``, ``input``, ``output`` and ``place`` are the source program's."""

    W: np.ndarray
    U: np.ndarray
    fresh: np.ndarray
    bias: np.ndarray
    leak: np.ndarray
    theta: np.ndarray
    V: np.ndarray
    c: np.ndarray
    inside: bool
    layers: tuple[tuple[str, int, int, Function], ...]
    stage: str
    input: str
    output: str
    place: str

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.bias)

    def f(self, z: np.ndarray) -> np.ndarray:
        """Activations [..., n] of ``z``."""
        return np.concatenate([f(z[..., a:b]) for _, a, b, f in self.layers], axis=-1)

    def run(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``z`` and new ``state`` [batch, steps, n] for inputs [batch, steps, inputs]; padding runs on."""
        state = np.zeros((len(x), self.size))
        drive = x.astype(np.float64) @ self.W.T + self.bias
        zs, states = np.zeros(drive.shape), np.zeros(drive.shape)
        for t in range(x.shape[1]):
            if self.inside:
                zs[:, t] = state - self.theta
                state = state + self.leak * (drive[:, t] + self.f(zs[:, t]) @ self.U.T - state)
            else:
                new = state.copy()
                for _, a, b, f in self.layers:
                    mixed = np.where(self.fresh[a:b].any(axis=0), new, state)
                    zs[:, t, a:b] = drive[:, t, a:b] + mixed @ self.U[a:b].T
                    new[:, a:b] = state[:, a:b] + self.leak[a:b] * (f(zs[:, t, a:b]) - state[:, a:b])
                state = new
            states[:, t] = state
        return zs, states

    def scores(self, states: np.ndarray) -> np.ndarray:
        """Outputs [..., outputs] of states."""
        return states @ self.V.T + self.c
