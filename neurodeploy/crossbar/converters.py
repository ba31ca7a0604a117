"""Digital-to-analog and analog-to-digital converters: staircases, their errors, and inputs that go bit by bit.

Codes are signed, ``-m..m`` with ``m = 2^(bits-1) - 1``. A converter without errors rounds to the nearest code. One with
errors (:class:`~neurodeploy.descriptions_crossbar.ConverterErrors`) has levels of its own::

    level_u = sum_i b_i 2^i (1 + e_i)    sar: bits b_i of u = code + m; e_i normal, sd dnl/sqrt(2^i (2^B - 1))
    level_u = sum_{k<=u} (1 + d_k)       ramp: d_k normal, sd dnl; one ramp for all bit lines of an array

both corrected at their ends (gain and offset are calibrated), plus the bow ``inl (3 sqrt(3)/2)(z - z^3)``, z = code/m,
and each converter's own offset. A SAR compares with its levels from the highest bit down, so it may skip codes; a ramp
stops at its first level above the input. The variance of binary-weighted unit elements: Pelgrom et al., JSSC 1989;
that of a sum of 2^i of them gives e_i.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.descriptions_crossbar import ConverterErrors, Crossbar
from neurodeploy.errors import TargetError

Array = np.ndarray
NO_RANGE = float(np.float32(1.0 / np.finfo(np.float32).tiny))


def levels(bits: int) -> int:
    """The largest code m of a signed converter: codes are -m..m with ``m = 2^(bits-1) - 1``, zero is one of them."""
    return (1 << (bits - 1)) - 1


def check(target: Crossbar) -> None:
    """Raise :class:`TargetError` for a converter that has no room for a sign."""
    for name in ("dac", "adc"):
        bits = getattr(target, name).bits
        if bits is not None and bits < 2:
            raise TargetError(
                f"'{name}.bits' is {bits}; inputs and outputs have signs, needed at least 2.",
                place=target.name,
                hint="Leave 'bits' out for a converter of infinite precision"
                + ("; inputs one bit at a time are 'serial_bits = 1'." if name == "dac" else "."),
            )


def steps(full_scale: Array | float, bits: int, dtype: np.dtype) -> Array:
    """The value of one code, ``full_scale / m``; :data:`NO_RANGE`, so large that every code is 0, where that is 0.

    So it is where a float32 can't hold the value.
    """
    step = np.asarray(full_scale, dtype=np.float64) / levels(bits)
    return np.where((step > 1.0 / NO_RANGE) & (step < NO_RANGE), step, NO_RANGE).astype(dtype)


def convert(x: Array, full_scale: Array | float, bits: int | None) -> tuple[Array, Array | None]:
    """``step clip(round(x / step), -m, m)`` with ``step = full_scale / m``; halves go to the even code.

    ``full_scale`` broadcasts against x (floats), in x's unit; where it is 0 the result is 0. Returns the result in x's
    dtype and where x lay half a step or more outside the range, None for nowhere. Without ``bits``: x itself.
    """
    if bits is None:
        return x, None
    step = steps(full_scale, bits, x.dtype)
    codes, saturated = codes_of(x / step, bits)
    codes *= step
    return codes, saturated


def codes_of(scaled: Array, bits: int) -> tuple[Array, Array | None]:
    """Values in units of codes -> the nearest codes, in place, and where they lay outside (None for nowhere)."""
    m = levels(bits)
    np.rint(scaled, out=scaled)
    saturated = None
    if scaled.size and max(scaled.max(), -scaled.min()) > m:
        saturated = np.abs(scaled) > m
        np.clip(scaled, -m, m, out=scaled)
    return scaled, saturated


def draw_levels(errors: ConverterErrors, bits: int, count: int, draw: np.random.Generator, shared_ramp: bool) -> Array:
    """Levels of ``count`` converters in units of codes, ``[count, 2^bits - 1]`` float64; without errors: -m..m.

    ``shared_ramp``: the steps of a ramp are drawn once for all of them.
    """
    m = levels(bits)
    if errors.architecture == "sar":
        unit = errors.dnl_lsb / np.sqrt(2.0**bits - 1)
        weights = 2.0 ** np.arange(bits)
        weights = weights * (1 + draw.standard_normal((count, bits)) * unit / np.sqrt(weights))
        ups = (np.arange(2 * m + 1)[:, None] >> np.arange(bits)) & 1
        found = weights @ ups.T
    else:
        rows = 1 if shared_ramp else count
        found = np.cumsum(1 + errors.dnl_lsb * draw.standard_normal((rows, 2 * m + 1)), axis=1)
        found = np.broadcast_to(found, (count, 2 * m + 1))
    first, last = found[:, :1], found[:, -1:]
    found = -m + (found - first) * (2 * m / (last - first))
    z = np.arange(-m, m + 1) / m
    found = found + errors.inl_lsb * 1.5 * np.sqrt(3.0) * (z - z**3)
    return found + errors.offset_lsb * draw.standard_normal((count, 1))


def drive_levels(codes: Array, table: Array) -> Array:
    """What DACs with errors put out: codes ``[..., n, inputs]`` -> levels, ``table`` is ``[..., inputs, 2m + 1]``."""
    m = table.shape[-1] // 2
    index = np.moveaxis(codes.astype(np.int64) + m, -2, -1)
    return np.moveaxis(np.take_along_axis(table, index, axis=-1), -1, -2).astype(codes.dtype)


class Comparators:
    """ADCs with errors: code u is reached half a code below its level; ``levels`` is ``[chips, lines, 2m + 1]``.

    A SAR goes through its levels from the highest bit down; a ramp's levels are made to rise first, which gives its
    first crossing. Levels that rise need only be looked up next to the nearest code.
    """

    def __init__(self, levels: Array, architecture: str) -> None:
        self.m = levels.shape[-1] // 2
        edges = levels if architecture == "sar" else np.maximum.accumulate(levels, axis=-1)
        edges = edges[..., 1:] - 0.5  # [chips, lines, 2m]: code u is reached at edges[u - 1]
        self.rising = bool((np.diff(edges, axis=-1) >= 0).all())
        off = np.abs(edges - (np.arange(2 * self.m) - self.m + 0.5)).max() if edges.size else 0.0
        self.reach = max(1, int(np.ceil(off))) if self.rising else 0
        pad = [(0, 0), (0, 0), (self.reach + 1, self.reach + 1)]
        table = np.pad(edges, pad, constant_values=((0, 0), (0, 0), (-np.inf, np.inf)))
        self.flat = np.ascontiguousarray(table, np.float32).reshape(-1)
        self.start = (np.arange(levels.shape[0] * levels.shape[1]) * table.shape[-1]).reshape(-1, 1, levels.shape[1])

    def codes(self, scaled: Array) -> tuple[Array, Array | None]:
        """Codes of values in units of codes, ``[chips, n, lines]``, and where they lay outside (None for nowhere)."""
        nearest = np.clip(np.rint(scaled), -self.m, self.m).astype(np.int32) + self.m
        if self.rising:
            first = self.start + nearest
            found = nearest - self.reach
            for k in range(1, 2 * self.reach + 1):
                found += scaled >= self.flat.take(first + k)
        else:
            found = np.zeros(scaled.shape, np.int32)
            for bit in reversed(range((2 * self.m).bit_length())):
                trial = found + (1 << bit)
                level = self.flat.take(self.start + np.minimum(trial, 2 * self.m + 1))
                found = np.where((trial <= 2 * self.m) & (scaled >= level), trial, found)
        saturated = np.abs(scaled) > self.m + 0.5
        return (found - self.m).astype(scaled.dtype), saturated if saturated.any() else None


def digits(codes: Array, bits: int, serial_bits: int) -> list[tuple[Array, float]]:
    """Signed codes cut into pieces of ``serial_bits``, lowest first: pairs of (digits, weight), ``sum = codes``.

    Two's complement: pieces are ``0..2^serial_bits - 1``, the highest of them signed.
    """
    count = -(-bits // serial_bits)
    whole = codes.astype(np.int64) & ((1 << (count * serial_bits)) - 1)
    pieces = []
    for k in range(count):
        piece = (whole >> (k * serial_bits)) & ((1 << serial_bits) - 1)
        if k == count - 1:
            piece = np.where(piece >= 1 << (serial_bits - 1), piece - (1 << serial_bits), piece)
        pieces.append((piece.astype(codes.dtype), float(1 << (k * serial_bits))))
    return pieces


def cycles(target: Crossbar) -> int:
    """Reads that one product takes: as many as an input has pieces."""
    dac = target.dac
    return 1 if dac.serial_bits is None or dac.bits is None else -(-dac.bits // dac.serial_bits)
