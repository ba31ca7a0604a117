"""Random spiking networks for tests of their simulators."""

from __future__ import annotations

import numpy as np

from neurodeploy.spiking.net import Projection, SpikingNet, make


def random_net(seed: int) -> SpikingNet:
    """A network that draws its every feature: sizes, projections, delays, resets, limits, where inputs enter, keep."""
    rng = np.random.default_rng(seed)
    n, inputs = int(rng.integers(1, 40) if rng.random() < 0.7 else rng.integers(60, 140)), int(rng.integers(1, 5))
    projections = [
        Projection(
            f"p{i}",
            rng.normal(0, 1.5 / np.sqrt(n), (n, n)) * (rng.random((n, n)) < rng.choice([0.1, 0.5, 1.0])),
            rng.choice([0.0, 0.5, 0.9]) * rng.random(n),
            int(rng.integers(1, 5)),
        )
        for i in range(rng.integers(0, 4))
    ]
    limited = rng.random() < 0.5
    return make(
        ticks=int(rng.integers(1, 6)), dt_s=1e-3, beta=1.0 if rng.random() < 0.3 else rng.random(n),
        threshold=rng.uniform(0.3, 1.5, n), W_in=rng.normal(0, 1, (n, inputs)), bias=rng.normal(0.2, 0.3, n),
        largest_input=3.0, projections=projections, keep=1.0 if rng.random() < 0.3 else rng.random(n),
        populations=[("all", n)], start=rng.uniform(0, 0.5, n), reset=str(rng.choice(["subtract", "zero"])),
        floor=-rng.random(n) if limited else None, ceiling=1 + rng.random(n) if limited else None,
        input_to="synapse" if projections and rng.random() < 0.5 else "membrane",
    )  # fmt: skip


def random_inputs(net: SpikingNet, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of 5 samples, some of them shorter, one of them empty."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-1023, 1024, (5, 7, net.W_in.shape[1]))
    return x, np.arange(7) < np.array([7, 3, 0, 5, 6])[:, None]
