"""A spiking network in snnTorch: run exactly, or taken as a module that a user trains further."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodeploy.errors import UnsupportedError, require
from neurodeploy.spiking.net import INPUT_LIMIT, Activity, SpikingNet

if TYPE_CHECKING:
    from neurodeploy.spiking.snntorch_module import SpikingModule

WHY = "runs spiking networks as a torch module"


def module_of(net: SpikingNet, spike_grad: Any = None) -> SpikingModule:
    """The network as a ``torch.nn.Module``; ``spike_grad``: of ``snntorch.surrogate``, by default snnTorch's own.

    Raises :class:`UnsupportedError` for leaks outside 0 to 1, which snnTorch cuts, and :class:`MissingExtraError`
    without snnTorch.
    """
    require("torch", "spiking", WHY)
    require("snntorch", "spiking", WHY)
    from neurodeploy.spiking.snntorch_module import SpikingModule

    kept = {"beta of the membranes": net.beta} | {f"alpha of '{p.name}'": np.asarray(p.alpha) for p in net.projections}
    for name, values in kept.items():
        if values.min(initial=0) < 0 or values.max(initial=0) > 1:
            raise UnsupportedError(
                f"{name} runs from {values.min():.4g} to {values.max():.4g}; snnTorch's neurons keep 0 to 1 of it.",
                place="spiking network",
                hint="Run it in the compiled reference (--on reference).",
            )
    return SpikingModule(net, spike_grad)


def simulate(net: SpikingNet, x: np.ndarray, active: np.ndarray, *, raster: bool = False, threads: int = 1) -> Activity:
    """What :func:`neurodeploy.spiking.net.simulate` gives, from snnTorch's neurons; all samples in one batch.

    Quantized inputs ``[batch, frames, inputs]``, which frames run ``[batch, frames]``. Raises what :func:`module_of`
    does.
    """
    module = module_of(net)
    import torch

    batch, frames = active.shape
    counts = torch.zeros(frames, batch, net.neurons, dtype=torch.int32)
    fired_at = torch.zeros(batch, frames * net.ticks if raster else 0, net.neurons, dtype=torch.bool)

    def record(tick: int, spikes: Any) -> None:
        counts[tick // net.ticks] += spikes.int()
        if raster:
            fired_at[:, tick] = spikes > 0

    real = np.clip(x, -INPUT_LIMIT, INPUT_LIMIT).astype(np.float32) * np.float32(net.in_scale)
    with torch.inference_mode(), exact(threads):
        traces = module(torch.from_numpy(real), torch.from_numpy(active.astype(bool)), record=record)
    return Activity(traces.numpy(), counts.movedim(0, 1).numpy(), fired_at.numpy() if raster else None)


@contextmanager
def exact(threads: int = 1) -> Iterator[None]:
    """Torch with so many threads, float32 products that are not shortened; then as it was."""
    import torch

    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
