"""Running a NIR file in the simulator that it was written for, through that simulator's own reader."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neurodeploy.errors import BuildError, require
from neurodeploy.spiking import nir_write
from neurodeploy.spiking.net import Activity, SpikingNet

WHY = "the simulator that the file is for"
#: A tick of a consumer: input ``[batch, channels]`` f32 and its state before -> spikes ``[batch, n]``, state after.
Step = Callable[[np.ndarray, Any], tuple[np.ndarray, Any]]


def simulate(
    net: SpikingNet, file: bytes, dialect: str, x: np.ndarray, active: np.ndarray, *, raster: bool = False
) -> Activity:
    """Spikes as the file's simulator fires them for quantized inputs ``[batch, frames, inputs]``; traces are made here.

    Raises :class:`MissingExtraError`, and :class:`BuildError` where the simulator can't read the file.
    """
    fed = nir_write.feed(net, dialect, x)
    fired = run(file, dialect, net.dt_s, fed)
    return activity_of(net, fired, active, raster)


def run(file: bytes, dialect: str, dt_s: float, fed: np.ndarray) -> np.ndarray:
    """Spikes bool ``[batch, ticks, n]`` of a file fed ``[batch, ticks, channels]``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.nir"
        path.write_bytes(file)
        try:
            step = _STEPS[dialect](path, dt_s)
            rows, state = [], None
            for t in range(fed.shape[1]):
                spikes, state = step(np.ascontiguousarray(fed[:, t]), state)
                rows.append(spikes > 0.5)
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise BuildError(f"can't run the file: {error}", place=dialect) from error
    return np.stack(rows, axis=1)


def activity_of(net: SpikingNet, fired: np.ndarray, active: np.ndarray, raster: bool) -> Activity:
    """Traces and counts of spikes ``[batch, frames * ticks, n]``, in frames that run."""
    batch, frames = active.shape
    fired = fired & np.repeat(active, net.ticks, axis=1)[..., None]
    trace = np.zeros((batch, net.neurons), np.float32)
    traces = np.zeros((batch, frames, net.neurons), np.float32)
    for t in range(frames):
        new = trace
        for tick in range(net.ticks):
            new = net.keep * new + fired[:, t * net.ticks + tick].astype(np.float32)
        trace = np.where(active[:, t, None], new, trace)
        traces[:, t] = trace
    counts = fired.reshape(batch, frames, net.ticks, -1).sum(axis=2, dtype=np.int32)
    return Activity(traces, counts, fired if raster else None)


def _norse(path: Path, dt_s: float) -> Step:
    nir, norse = require("nir", "nir", WHY), require("norse.torch", "nir", WHY)
    return _module(norse.from_nir(nir.read(path), ignore_warnings=True, dt=dt_s))


def _spikingjelly(path: Path, dt_s: float) -> Step:
    exchange = require("spikingjelly.activation_based.nir_exchange", "nir", WHY)
    return _module(exchange.import_from_nir(path, dt=dt_s))


def _snntorch(path: Path, dt_s: float) -> Step:
    """snnTorch's reader takes dt to be 1e-4, prints what it does, and keeps states in its neurons."""
    nir, reader = require("nir", "nir", WHY), require("snntorch.import_nir", "spiking", WHY)
    with contextlib.redirect_stdout(io.StringIO()):
        module = reader.import_from_nir(nir.read(path))
    return _module(module)


def _plain(path: Path, dt_s: float) -> Step:
    """The importer's reading of the file, in the golden model."""
    from neurodeploy.importers.nir import load_nir
    from neurodeploy.ir.interpret import StepInterpreter

    program = load_nir(path, dt=dt_s)
    (stage,) = program.stages
    engine = StepInterpreter(stage.graph)
    (name,) = stage.graph.inputs

    def step(u: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        if state is None:
            engine.reset(len(u), {})
        return engine.step({name: u}, np.ones(len(u), bool))["output"], True

    return step


def _module(module: Any) -> Step:
    """A step of a module ``(input, state) -> (spikes, state)`` of PyTorch."""
    torch = require("torch", "torch", WHY)

    def step(u: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        with torch.inference_mode():
            spikes, state = module(torch.from_numpy(u), state)
        return spikes.numpy(), state

    return step


_STEPS: dict[str, Callable[[Path, float], Step]] = {
    "nir": _plain,
    "norse": _norse,
    "spikingjelly": _spikingjelly,
    "snntorch": _snntorch,
}
