"""A memristive network as a reservoir: inputs set its sources, a linear readout reads its memories.

::

    S = W_in u + bias                  volts, held for dt seconds a step
    w follows the network's equation   for dt seconds: exactly, or one Euler step
    y = W_out w + b_out

The Euler step is the cell ``ctdv``: :meth:`Reservoir.program` gives the network and its readout as a program that every
target takes or refuses by name, and ``states(..., exact=False)`` gives its states to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurodeploy.crossbar.memristive import Network, circuit
from neurodeploy.crossbar.memristive.integrate import integrate
from neurodeploy.errors import DataError
from neurodeploy.ir.build import Builder
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Ref, Stage
from neurodeploy.ir.types import TensorType
from neurodeploy.ir.verify import verify

Array = np.ndarray


@dataclass(frozen=True)
class Reservoir:
    """A network driven through ``W_in`` [edges, inputs] and ``bias`` [edges] (volts), from memories ``w0`` [edges], one
    step of inputs every ``dt`` seconds. Raises :class:`DataError` for shapes that don't fit and values out of range."""

    network: Network
    W_in: Array
    bias: Array
    w0: Array
    dt: float

    def __post_init__(self) -> None:
        n = self.network.units
        for name, shape in (("W_in", (n, self.W_in.shape[-1])), ("bias", (n,)), ("w0", (n,))):
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise DataError(
                    f"{name} has shape {list(array.shape)} or values that aren't finite; needed {list(shape)}.",
                    place="memristive reservoir",
                )
        if not ((self.w0 >= 0) & (self.w0 <= 1)).all() or not 0 < self.dt < np.inf:
            raise DataError(
                f"w0 isn't in 0..1, or dt is {self.dt}; needed a number above 0.", place="memristive reservoir"
            )

    @classmethod
    def random(
        cls, nodes: int, edges: int, inputs: int, seed: int, *, alpha: float, beta: float, xi: float, scale: float,
        bias: float, dt: float,
    ) -> Reservoir:  # fmt: skip
        """A random circuit: a ring through all nodes, so that every edge is on a loop, and chords between random pairs;
        input weights and bias uniform in +-scale and +-bias, w0 = 1/2."""
        if not 2 <= nodes <= edges:
            raise DataError(f"{nodes} nodes, {edges} edges; needed 2 nodes and an edge a node.", place="reservoir")
        rng = np.random.default_rng(seed)
        pairs = [(i, (i + 1) % nodes) for i in range(nodes)]
        for _ in range(edges - nodes):
            a, b = rng.choice(nodes, 2, replace=False).tolist()
            pairs.append((a, b))
        network = Network(circuit(pairs), alpha, beta, xi)
        W_in = rng.uniform(-scale, scale, (edges, inputs))
        return cls(network, W_in, rng.uniform(-bias, bias, edges), np.full(edges, 0.5), dt)

    def states(self, x: Array, lengths: Array | None = None, *, exact: bool = True, tolerance: float = 1e-6) -> Array:
        """Memories after each step of inputs ``x`` [batch, steps, inputs]: [batch, steps, edges]. They hold after a
        sample's last step (``lengths`` [batch]). ``exact=False``: the cell's Euler steps in float32."""
        x = np.asarray(x)
        if x.ndim != 3 or x.shape[2] != self.W_in.shape[1] or not np.isfinite(x).all():
            raise DataError(
                f"inputs have shape {list(x.shape)} or values that aren't finite; needed [batch, steps, "
                f"{self.W_in.shape[1]}].", place="memristive reservoir",
            )  # fmt: skip
        batch, steps, _ = x.shape
        dtype = np.float64 if exact else np.float32
        W_in, bias = self.W_in.astype(dtype), self.bias.astype(dtype)
        w = np.broadcast_to(self.w0.astype(dtype), (batch, len(bias)))
        ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
        made = np.zeros((batch, steps, len(bias)), dtype)
        for t in range(steps):
            S = x[:, t].astype(dtype) @ W_in.T + bias
            if exact:
                new = integrate(self.network, w, S, [self.dt], tolerance=tolerance).w[0]
            else:
                new = self.network.euler(w, S, self.dt)
            w = np.where((t < ends)[:, None], new, w)
            made[:, t] = w
        return made

    def program(self, name: str, W_out: Array, b_out: Array, *, output: str = "last") -> Program:
        """The reservoir with a readout ``W_out`` [outputs, edges], ``b_out`` [outputs] as a program with the input
        ``x`` and the output ``y``: of the ``last`` step, or of every step (``series``). Euler steps; float32.

        Raises :class:`DataError` for shapes that don't fit.
        """
        n, f32 = self.network.units, np.float32
        if W_out.ndim != 2 or W_out.shape[1] != n or b_out.shape != W_out.shape[:1] or output not in ("last", "series"):
            raise DataError(
                f"W_out has shape {list(W_out.shape)}, b_out {list(b_out.shape)}, output is '{output}'; needed "
                f"[outputs, {n}], [outputs], 'last' or 'series'.", place=name,
            )  # fmt: skip
        b = Builder()
        type_ = TensorType((self.W_in.shape[1],))
        x = b.input("x", type_)
        w = b.state("w", (n,), init=self.w0)
        sources = b.param("W_in", self.W_in.astype(f32)) @ x + b.param("bias", self.bias.astype(f32))
        constants: dict[str, Any] = {k: float(getattr(self.network, k)) for k in ("alpha", "beta", "xi")}
        omega = b.param("omega", self.network.circuit.omega.astype(f32))
        (new,) = b.call("ctdv", w, sources, omega, **constants, dt=float(self.dt))
        b.next(w, new)
        b.output("y", b.param("W_out", W_out.astype(f32)) @ new + b.param("b_out", b_out.astype(f32)))
        b.output("w", new)
        stage = Stage("main", b.graph(), Drive(), {"x": Ref("x")})
        ref = Ref.parse("main.y@last" if output == "last" else "main.y")
        return verify(Program(name, {"x": ProgramInput(type_)}, (stage,), {"y": ref}))


def last(states: Array, lengths: Sequence[int] | Array) -> Array:
    """The states after each sample's last step, [batch, edges]."""
    return states[np.arange(len(states)), np.asarray(lengths) - 1]
