"""Reservoir and liquid side by side: eigenvalues of their linearised steps, and mean states.

The arrays of ``liquid.npz``:

``reservoir_eigenvalues`` c128[n]: of ``1 - L + L D U``, a frame; L: leaks, D: the activation's mean slope on the data.
``liquid_eigenvalues`` c128[..]: of the filtered rates over a frame, a neuron taken as its mean slope (the share of
    frames in which its rate is between 0 and 1); the membrane's own leak is left out. The largest n, no more.
``reservoir_mean`` f64[n], ``liquid_mean`` f64[n]: mean state of a unit, and what the liquid's traces give for it.
``state_error`` f64[n]: root mean square difference of the two, frame by frame.
``reservoir_spread`` f64[n]: standard deviation of a unit's state.
``rates`` f64[N]: mean spikes a tick of each neuron.
"""

from __future__ import annotations

import io

import numpy as np

from neurodeploy.spiking.liquid_net import Code, Wiring, kept
from neurodeploy.spiking.net import Activity, SpikingNet
from neurodeploy.spiking.reservoir import Observed, Reservoir

#: Largest linear system whose eigenvalues are looked for.
MOST = 1200


def decoded(reservoir: Reservoir, code: Code, wiring: Wiring, net: SpikingNet, activity: Activity) -> np.ndarray:
    """The states ``[batch, frames, n]`` that a liquid's traces stand for; ``net``'s traces all forget."""
    batch, frames, _ = activity.traces.shape
    out = np.zeros((batch, frames, reservoir.units))
    rates = activity.traces * (1.0 - net.keep)
    for k, neuron in enumerate(wiring.neuron):
        if neuron >= 0:
            out[..., code.unit[neuron]] += code.value[neuron] * rates[..., k]
    since = np.arange(1, frames + 1)[:, None]
    return out + code.level * (1.0 - kept(reservoir.leak, 1) ** since)


def compare(
    reservoir: Reservoir, code: Code, wiring: Wiring, net: SpikingNet, observed: Observed, activity: Activity,
    active: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The arrays, by name."""
    states = decoded(reservoir, code, wiring, net, activity)[active]
    slopes = reservoir.slope(observed.z).mean(axis=0)
    step = np.diag(1.0 - reservoir.leak) + (reservoir.leak * slopes)[:, None] * reservoir.U
    return {
        "reservoir_eigenvalues": np.linalg.eigvals(step).astype(complex),
        "liquid_eigenvalues": _liquid_eigenvalues(code, wiring, net, observed, reservoir.units),
        "reservoir_mean": observed.h.mean(axis=0),
        "liquid_mean": states.mean(axis=0),
        "state_error": np.sqrt(((states - observed.h) ** 2).mean(axis=0)),
        "reservoir_spread": observed.h.std(axis=0),
        "rates": activity.counts.sum(axis=(0, 1)) / max(1.0, active.sum() * float(net.ticks)),
    }


def to_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """As ``.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _liquid_eigenvalues(code: Code, wiring: Wiring, net: SpikingNet, observed: Observed, units: int) -> np.ndarray:
    drive = observed.z[:, code.unit] * code.drive + code.offset
    share = ((drive > 0) & (drive < 1)).mean(axis=0)
    slope = np.where(wiring.neuron < 0, 0.0, share[wiring.neuron])
    weights = [p.weights.astype(np.float64) for p in net.projections]
    alphas = [np.asarray(p.alpha, np.float64) for p in net.projections]
    delay = max(p.delay for p in net.projections)
    if len(weights) == 1 and np.ptp(alphas[0]) < 1e-7:
        # syn' = a syn + W s, s = slope syn, delayed: for every eigenvalue m of W slope, x^delay - a x^(delay - 1) = m.
        roots = [np.roots([1.0, -alphas[0][0], *[0.0] * (delay - 2), -m] if delay > 1 else [1.0, -alphas[0][0] - m])
                 for m in np.linalg.eigvals(weights[0] * slope)]  # fmt: skip
        found = np.array([r[np.abs(r).argmax()] if len(r) else 0.0 for r in roots], complex)
    else:
        size = net.neurons * (len(weights) + delay - 1)
        found = np.linalg.eigvals(_companion(weights, alphas, slope, delay)) if size <= MOST else np.zeros(0)
    found = found.astype(complex) ** net.ticks
    return found[np.argsort(-np.abs(found), kind="stable")][:units]


def _companion(weights: list[np.ndarray], alphas: list[np.ndarray], slope: np.ndarray, delay: int) -> np.ndarray:
    """The step of (synaptic currents of each projection, spikes 1 .. delay - 1 ticks old)."""
    n, p = len(slope), len(weights)
    step = np.zeros((n * (p + delay - 1),) * 2)
    spikes = np.tile(np.diag(slope), (1, p))
    for i, (w, alpha) in enumerate(zip(weights, alphas, strict=True)):
        rows = slice(i * n, (i + 1) * n)
        step[rows, rows] += np.diag(alpha)
        if delay == 1:
            step[rows, : p * n] += w @ spikes
        else:
            step[rows, -n:] += w
    for age in range(1, delay):
        rows = slice((p + age - 1) * n, (p + age) * n)
        if age == 1:
            step[rows, : p * n] = spikes
        else:
            step[rows, (p + age - 2) * n : (p + age - 1) * n] = np.eye(n)
    return step
