"""Clocked sigma-delta neurons: a recurrent layer whose units send the *change* of a level, in whole numbers.

Unit j has a level k, its activation in steps of ``s_j / levels`` (s_j is its largest size on the calibration data).
Each step of the clock::

    R  = R + leak (U k - R)              every receiver's own leaky sum: U h of the network
    f  = f(W x + b + R)                  a table
    k' = round(levels f / s)             sends d = k' - k, a graded event, if that isn't 0
    Y' = Y + leak (V k' - Y);  y = Y' + c

A receiver never sees k, only d; it keeps ``A = A + U d``, which is ``U k`` at all times. So the spiking network
*equals* the network with quantized levels: the program built here is that network, and the simulator must give its
every bit.
Leaking at the receiver smooths the steps of the levels; it works where all units have one leak. Where they don't, the
unit itself leaks, ``h' = h + leak (f - h)``, and sends the changes of h. An Elman layer has leak 1: neither leaks.

Sigma-delta recurrent networks: arXiv 2408.09403 (RNN-Morph), 2407.13534 (low-pass RNN on Loihi).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from neurodeploy.errors import UnsupportedError
from neurodeploy.ir.build import Builder, Sym
from neurodeploy.ir.fixed import lut_table, multiplier
from neurodeploy.ir.graph import Drive, Program, ProgramInput, Stage
from neurodeploy.ir.types import Quant, TensorType
from neurodeploy.ir.verify import verify
from neurodeploy.spiking.network import Network

LEVELS = (2, 4, 8, 16, 32, 64)
LEVEL_LIMIT = 128
ACCUMULATOR = 2.0**31 - 1
#: Leaky sums of U k: their differences, doubled, must fit 32 bits.
LEAKY_SUM = 2.0**28
#: Beyond +-8 these activations change by less than 4e-4 of their range: a wider table would only be coarser.
BOUNDED = ("tanh", "sigmoid")


@dataclass(frozen=True)
class SigmaDelta:
    """The layer in whole numbers.

    ``W`` [n, inputs], ``bias`` [n], ``U`` [n, n] acts on levels, ``V`` [outputs, n] and ``c`` [outputs] too;
    ``*_mult``, ``*_pre``: factors of a ``requantize``; ``table``: f, an i16 ``lut``. Real = integer times scale.
    ``leak_at``: ``"receiver"`` (one leak), ``"unit"`` (``leak_mult`` [n]) or ``"none"`` (leak 1).
    """

    levels: int
    W: np.ndarray
    bias: np.ndarray
    in_mult: int
    in_pre: int
    U: np.ndarray
    rec_mult: int
    rec_pre: int
    table: np.ndarray
    leak_at: str
    leak_mult: np.ndarray
    leak_pre: int
    level_mult: np.ndarray
    level_pre: int
    V: np.ndarray
    c: np.ndarray
    in_scale: float
    f_scale: float
    out_scale: float

    def to_bytes(self) -> bytes:
        """As ``.npz``."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{f.name: np.asarray(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> SigmaDelta:
        """Read what :meth:`to_bytes` gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(**{key: arrays[key] if arrays[key].ndim else arrays[key].item() for key in arrays.files})


@dataclass(frozen=True)
class Ranges:
    """Largest sizes on the calibration data: of the input and f's argument (scalars), of what each unit sends [n]."""

    x: float
    z: float
    sent: np.ndarray


def leak_at(network: Network) -> str:
    """Where the network's leak is computed: see :class:`SigmaDelta`."""
    if (network.leak == 1).all():
        return "none"
    return "unit" if np.ptp(network.leak) > 0 else "receiver"


def ranges_of(network: Network, x: np.ndarray, states: np.ndarray, active: np.ndarray) -> Ranges:
    """From inputs ``[batch, steps, inputs]``, states after each step and which steps run ``[batch, steps]``."""
    before = np.concatenate([np.zeros_like(states[:, :1]), states[:, :-1]], axis=1)
    z = x @ network.W.T + before @ network.U.T + network.bias
    sent = np.abs(states[active] if leak_at(network) == "unit" else network.f(z[active])).max(axis=0)
    smallest = 0.01 * sent.max() if sent.max() > 0 else 1.0
    largest_x, largest_z = (float(np.abs(array[active]).max()) or 1.0 for array in (x, z))
    return Ranges(largest_x, largest_z, np.maximum(sent, smallest).astype(np.float64))


def build(network: Network, ranges: Ranges, levels: int) -> SigmaDelta:
    """The network with that many levels. Raises :class:`UnsupportedError` where a number leaves 32 bits."""
    in_scale = float(np.float32(ranges.x / 32767))
    # Twice the range that was seen, so that new data seldom saturate.
    z_range = 2.0 * ranges.z
    if network.activation_name in BOUNDED:
        z_range = min(z_range, 8.0)
    z_scale = z_range / 32768
    knots = np.linspace(-z_range, z_range, 513)
    f_scale = float(np.float32(np.abs(network.f(knots)).max() / 32767)) or 1.0
    W, bias, in_unit = _integers(network.W * in_scale, network.bias, 32768, ACCUMULATOR)
    step = ranges.sent / levels
    at = leak_at(network)
    room = LEAKY_SUM if at == "receiver" else ACCUMULATOR
    U, _, rec_unit = _integers(network.U * step, np.zeros(network.units), LEVEL_LIMIT, room)
    V, c, out_unit = _integers(network.V * step, network.c, LEVEL_LIMIT, room)
    largest = in_unit * ACCUMULATOR / z_scale
    if not largest < 2.0**30:
        raise UnsupportedError(
            f"the largest input current is {largest:.3g} steps of the activation's table; needed below 2^30.",
            place=f"stage '{network.stage}'",
            hint="Its weights or inputs are far out of the activation's range: normalise the inputs.",
        )
    in_mult, in_pre = multiplier(in_unit / z_scale)
    rec_mult, rec_pre = multiplier(rec_unit / z_scale)
    leak_mult, leak_pre = _multipliers(network.leak)
    level_mult, level_pre = _multipliers(f_scale / step)
    return SigmaDelta(
        levels=levels,
        W=W,
        bias=bias,
        in_mult=in_mult,
        in_pre=in_pre,
        U=U,
        rec_mult=rec_mult,
        rec_pre=rec_pre,
        table=lut_table(network.f, z_scale, f_scale),
        leak_at=at,
        leak_mult=leak_mult[:1] if at == "receiver" else leak_mult,
        leak_pre=leak_pre,
        level_mult=level_mult,
        level_pre=level_pre,
        V=V,
        c=c,
        in_scale=in_scale,
        f_scale=f_scale,
        out_scale=float(np.float32(out_unit)),
    )


def _integers(weights: np.ndarray, bias: np.ndarray, largest: int, room: float) -> tuple[np.ndarray, np.ndarray, float]:
    """i16 weights, i32 bias, the step of both: the finest for which ``sum |w| largest + |b|`` stays below ``room``."""
    top = float((np.abs(weights).sum(axis=1) * largest + np.abs(bias)).max())
    rounding = (weights.shape[1] + 1) * largest
    unit = max(top / (room - rounding), float(np.abs(weights).max()) / 32767, 1e-30)
    return np.rint(weights / unit).astype(np.int16), np.rint(bias / unit).astype(np.int32), unit


def _multipliers(factors: np.ndarray) -> tuple[np.ndarray, int]:
    """One multiplier each with a shift for all."""
    _, pre = multiplier(float(factors.max()))
    return np.rint(factors * 2.0 ** (32 - pre)).astype(np.int32), pre


def input_type(layer: SigmaDelta) -> TensorType:
    """The quantized type of the input."""
    return TensorType((layer.W.shape[1],), "i16", Quant(layer.in_scale))


def program_of(layer: SigmaDelta, source: Program, network: Network, meta: Mapping[str, Any]) -> Program:
    """The network with quantized levels, under the source's names for input, stage, state and output."""
    b = Builder()
    old = source.stage(network.stage)
    inner = next(n for n, ref in old.inputs_from.items() if ref.stage is None and ref.name == network.input)
    x = b.input(inner, input_type(layer))
    k = b.state(f"{network.state}_level", (len(layer.bias),), dtype="i8")
    feed = b("add", b("matmul", b.param("W", layer.W), x), b.param("bias", layer.bias))
    recurrent = _leaky_sum(b, layer, "recurrent", b.param("U", layer.U) @ k)
    z = b("cast", _scaled(b, feed, "in_mult", layer.in_mult, layer.in_pre)
          + _scaled(b, recurrent, "rec_mult", layer.rec_mult, layer.rec_pre), to="i16")  # fmt: skip
    f_quant = Quant(layer.f_scale)
    sent = b("lut", z, b.param("table", layer.table), quant=f_quant)
    if layer.leak_at == "unit":
        h = b.state(network.state, TensorType((len(layer.bias),), "i16", f_quant))
        moved = _scaled(b, sent - h, "leak_mult", layer.leak_mult, layer.leak_pre)
        sent = b("cast", h + moved, to="i16", quant=f_quant)
        b.next(h, sent)
    level = _scaled(b, sent, "level_mult", layer.level_mult, layer.level_pre, to="i8")
    b.next(k, level)
    scores = _leaky_sum(b, layer, "readout", b.param("V", layer.V) @ level)
    b.output(network.output, b("add", scores, b.param("c", layer.c), quant=Quant(layer.out_scale)))
    stage = Stage(network.stage, b.graph(), Drive("forward"), {inner: old.inputs_from[inner]})
    inputs = {network.input: ProgramInput(input_type(layer), source.inputs[network.input].kind)}
    return verify(replace(source, inputs=inputs, stages=(stage,), numerics="native", meta={**source.meta, **meta}))


def _leaky_sum(b: Builder, layer: SigmaDelta, name: str, total: Sym) -> Sym:
    """``R + leak (total - R)`` as a state of its own where receivers leak, else the total."""
    if layer.leak_at != "receiver":
        return total
    old = b.state(name, total.shape, dtype="i32")
    new = old + _scaled(b, total - old, f"{name}_leak", layer.leak_mult, layer.leak_pre)
    b.next(old, new)
    return new


def _scaled(b: Builder, x: Sym, name: str, mult: Any, pre: int, to: str = "i32") -> Sym:
    return b("requantize", x, b.param(name, np.asarray(mult, np.int32)), pre=pre, to=to)
