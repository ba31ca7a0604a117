"""A spiking network as a NIR file, in the dialect of the simulator that shall read it.

NIR is continuous time; its readers take Euler steps of dt, so that a time constant tau keeps ``1 - dt / tau`` a tick.
What keeps c a tick is written as ``tau = dt / (1 - c)``, and ``r = tau / dt`` makes an input of 1 a step of 1; what
forgets nothing has ``tau = 10^9 dt``, which is 1 in float32. A threshold is passed (``v > v_threshold``), then v is 0.

**Dialects.** ``norse``, ``spikingjelly``, ``snntorch``: one ``Affine`` for the input, one ``CubaLIF`` for all neurons
and, around it, one ``Linear`` (for Norse within a graph of its own; none for snnTorch 1.0, whose reader fails on such
circles). They know no synapse but the neuron's own, which its input passes too. So where the input goes to the
membrane, the *input* is differenced: the file is fed ``u(t) = c(t) - alpha c(t - 1)``, c being x, a constant 1 for the
bias and a 1 in the first tick that starts the membrane; the synapse undoes it. ``nir`` (plain): ``LIF`` or ``IF``
(beta = 1), each projection ``Linear``, ``Delay`` and ``LI``; traces as ``LI`` and scores as ``Affine`` on a second
output. :func:`feed` makes what a file is fed; its metadata say it in words.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError, require
from neurodeploy.spiking.net import INPUT_LIMIT, Projection, SpikingNet

WHY = "writes NIR files"
CONSUMERS = ("norse", "spikingjelly", "snntorch")
DIALECTS = ("nir", *CONSUMERS)
#: In units of dt: so long a time constant keeps 1 a tick in float32.
FOREVER = 1e9
HINT = "Use the target nir for the plain dialect, or brian2-lif, which has all of these."


def check(net: SpikingNet, dialect: str, place: str) -> None:
    """Raises :class:`UnsupportedError` naming what the dialect can't say."""

    def refuse(what: str, hint: str = HINT) -> UnsupportedError:
        return UnsupportedError(f"{what}.", place=place, hint=hint)

    if net.limited:
        raise refuse("NIR has no limits of the membrane", "Compile for a target whose [neuron] has limits = false.")
    if net.reset != "zero":
        raise refuse("NIR's reset puts the membrane to a value; this network subtracts the threshold",
                     'Compile for a target whose [neuron] has reset = "zero".')  # fmt: skip
    if dialect == "nir":
        return
    if len(net.projections) > 1:
        names = ", ".join(p.name for p in net.projections)
        raise refuse(f"{dialect} has one synaptic time constant a neuron; this network has the projections {names}")
    for what, array in (("thresholds", net.threshold), ("membrane time constants", net.beta)):
        if np.ptp(array) > 0:
            raise refuse(f"{dialect} reads the same for all neurons; {what} differ")
    for p in net.projections:
        if p.delay != 1:
            raise refuse(f"{dialect} has no delays; projection '{p.name}' has {p.delay} ticks")
        if np.ptp(np.asarray(p.alpha)) > 0:
            raise refuse(f"{dialect} reads the same for all neurons; synaptic time constants differ")
        if dialect == "snntorch" and p.weights.any():
            raise refuse("snnTorch 1.0's reader fails on recurrent graphs", "Use nir-norse or nir-spikingjelly.")


def differenced(net: SpikingNet, dialect: str) -> bool:
    """Whether the file is fed differences, which rounds where the definition doesn't: about one sample in hundreds
    then has a spike that just passes the threshold on one side only."""
    return dialect != "nir" and net.input_to == "membrane" and _alpha(net) != 0


def rounds(net: SpikingNet, dialect: str) -> bool:
    """Whether the file's simulator rounds where the definition doesn't. Norse does always: it takes a step as
    ``v + dt / tau (i - v)``, whose last bit isn't that of ``beta v + i``."""
    return dialect == "norse" or differenced(net, dialect)


def channels(net: SpikingNet, dialect: str) -> int:
    """How many of a constant 1 and a 1 in the first tick are fed after x: 0 to 2."""
    if net.start.any():
        return 2
    return 1 if differenced(net, dialect) else 0


def feed(net: SpikingNet, dialect: str, x: np.ndarray) -> np.ndarray:
    """What a file is fed, f32 ``[batch, frames * ticks, inputs + channels]``, of quantized inputs
    ``[batch, frames, inputs]``."""
    real = (np.clip(x, -INPUT_LIMIT, INPUT_LIMIT) * net.in_scale).astype(np.float32)
    c = np.repeat(real, net.ticks, axis=1)
    count = channels(net, dialect)
    if count:
        one = np.ones((*c.shape[:2], 1), np.float32)
        first = np.zeros_like(one)
        first[:, :1] = 1
        c = np.concatenate([c, one, first][: 1 + count], axis=2)
    alpha = np.float32(_alpha(net))
    if dialect != "nir" and net.input_to == "synapse" and count > 1:
        c[:, 1:2, -1] = -alpha  # the membrane's start, which must not stay in the synapse
    if not differenced(net, dialect):
        return c
    return c - alpha * np.concatenate([np.zeros_like(c[:, :1]), c[:, :-1]], axis=1)


def graph_of(net: SpikingNet, dialect: str, place: str) -> Any:
    """The ``nir.NIRGraph``. Raises :class:`UnsupportedError` for what the dialect can't say."""
    nir = require("nir", "nir", WHY)
    check(net, dialect, place)
    nodes, edges = _plain(nir, net) if dialect == "nir" else _consumer(nir, net, dialect)
    metadata = {
        "dt": net.dt_s,
        "ticks_per_frame": net.ticks,
        "written_by": "neurodeploy",
        "dialect": dialect,
        "input": _words(net, dialect),
    }
    return nir.NIRGraph(nodes, edges, metadata=metadata)


def to_bytes(net: SpikingNet, dialect: str, place: str) -> bytes:
    """The ``.nir`` file (HDF5)."""
    nir = require("nir", "nir", WHY)
    buffer = io.BytesIO()
    nir.write(buffer, graph_of(net, dialect, place))
    return buffer.getvalue()


def _words(net: SpikingNet, dialect: str) -> str:
    count = channels(net, dialect)
    parts = ["x", "a constant 1", "1 in the first tick, else 0"][: 1 + count]
    words = f"each tick: {', then '.join(parts)}; x holds for the {net.ticks} ticks of a frame"
    if dialect != "nir" and net.input_to == "synapse" and count > 1:
        words += f"; the last is {-_alpha(net):.9g} in the second tick"
    if differenced(net, dialect):
        words += f"; of these the difference c(t) - {_alpha(net):.9g} c(t - 1), with c = 0 before the first tick"
    return words


def _alpha(net: SpikingNet) -> float:
    return float(np.asarray(net.projections[0].alpha).ravel()[0]) if net.projections else 0.0


def _tau(keep: np.ndarray | float, n: int, dt: float) -> np.ndarray:
    """Time constants [n] of what is kept a tick."""
    kept = np.broadcast_to(np.asarray(keep, np.float64), (n,))
    return dt / np.maximum(1.0 - kept, 1.0 / FOREVER)


def _input(net: SpikingNet, dialect: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias of the input, with columns for the channels."""
    count = channels(net, dialect)
    bias = net.bias.copy()
    columns = [net.W_in]
    if count:
        columns.append(net.bias[:, None])
        bias = np.zeros_like(bias)
    if count > 1:
        direct = dialect == "nir" and net.input_to == "synapse"  # then a node of its own leads it past the synapse
        columns.append((net.beta * net.start)[:, None] * (not direct))
    return np.concatenate(columns, axis=1), bias


def _consumer(nir: Any, net: SpikingNet, dialect: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    n, dt = net.neurons, net.dt_s
    weights, bias = _input(net, dialect)
    tau_syn, tau_mem = _tau(_alpha(net), n, dt), _tau(net.beta, n, dt)
    threshold = net.threshold.astype(np.float64)
    if dialect == "spikingjelly":  # its neurons fire at the threshold, not above it
        threshold = np.nextafter(net.threshold, np.float32(np.inf)).astype(np.float64)
    nodes = {
        "input": nir.Input({"input": np.array([weights.shape[1]])}),
        "current": nir.Affine(weights, bias),
        "neurons": nir.CubaLIF(
            tau_syn=tau_syn, tau_mem=tau_mem, r=tau_mem / dt, w_in=tau_syn / dt, v_leak=np.zeros(n),
            v_threshold=threshold, v_reset=np.zeros(n),
        ),
        "output": nir.Output({"output": np.array([n])}),
    }  # fmt: skip
    edges = [("input", "current"), ("current", "neurons"), ("neurons", "output")]
    if not net.projections or not net.projections[0].weights.any():
        return nodes, edges
    recurrent = nir.Linear(net.projections[0].weights)
    circle = [("neurons", "recurrent"), ("recurrent", "neurons")]
    if dialect != "norse":
        return nodes | {"recurrent": recurrent}, edges + circle
    # Read from a file, Norse runs a circle right in a graph of its own only.
    size = {"input": np.array([n])}
    inner = {"input": nir.Input(size), "neurons": nodes.pop("neurons"), "recurrent": recurrent,
             "output": nir.Output({"output": np.array([n])})}  # fmt: skip
    nodes["population"] = nir.NIRGraph(inner, [("input", "neurons"), *circle, ("neurons", "output")])
    return nodes, [("input", "current"), ("current", "population"), ("population", "output")]


def _plain(nir: Any, net: SpikingNet) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    n, dt = net.neurons, net.dt_s
    weights, bias = _input(net, "nir")
    tau, threshold = _tau(net.beta, n, dt), net.threshold.astype(np.float64)
    if (net.beta == 1).all():
        neurons = nir.IF(r=np.full(n, 1 / dt), v_threshold=threshold, v_reset=np.zeros(n))
    else:
        neurons = nir.LIF(tau=tau, r=tau / dt, v_leak=np.zeros(n), v_threshold=threshold, v_reset=np.zeros(n))
    nodes: dict[str, Any] = {
        "input": nir.Input({"input": np.array([weights.shape[1]])}),
        "current": nir.Affine(weights, bias),
        "neurons": neurons,
        "output": nir.Output({"output": np.array([n])}),
    }
    edges = [("input", "current"), ("neurons", "output")]
    into = "neurons"
    for i, p in enumerate(net.projections):
        last = _projection(nir, net, p, nodes, edges)
        edges.append((last, "neurons"))
        if i == 0 and net.input_to == "synapse":
            into = last
    edges.append(("current", into))
    if net.input_to == "synapse" and net.start.any():
        first = np.zeros_like(weights)
        first[:, -1] = net.beta * net.start
        nodes["start"] = nir.Linear(first)
        edges += [("input", "start"), ("start", "neurons")]
    if len(net.readout):
        keep = _tau(net.keep, n, dt)
        nodes["trace"] = nir.LI(tau=keep, r=keep / dt, v_leak=np.zeros(n))
        nodes["scores"] = nir.Affine(
            (net.readout * (net.out_scale * 2.0**net.trace_bits)).astype(np.float32),
            (net.readout_bias * net.out_scale).astype(np.float32),
        )
        nodes["score_output"] = nir.Output({"output": np.array([len(net.readout)])})
        edges += [("neurons", "trace"), ("trace", "scores"), ("scores", "score_output")]
    return nodes, edges


def _projection(nir: Any, net: SpikingNet, p: Projection, nodes: dict[str, Any], edges: list[tuple[str, str]]) -> str:
    """Adds a projection's nodes; the name of the last."""
    n, dt = net.neurons, net.dt_s
    last = f"weights_{p.name}"
    nodes[last] = nir.Linear(p.weights)
    source = "neurons"
    if p.delay > 1:  # a circle's own step is the first tick
        nodes[f"delay_{p.name}"] = nir.Delay(np.full(n, (p.delay - 1) * dt))
        edges.append((source, f"delay_{p.name}"))
        source = f"delay_{p.name}"
    edges.append((source, last))
    if np.any(np.asarray(p.alpha) != 0) or net.input_to == "synapse":
        tau = _tau(p.alpha, n, dt)
        nodes[f"synapse_{p.name}"] = nir.LI(tau=tau, r=tau / dt, v_leak=np.zeros(n))
        edges.append((last, f"synapse_{p.name}"))
        last = f"synapse_{p.name}"
    return last
