"""What a file may say about memristor crossbars: array, devices, wires, converters; every number with its source.

An absent table means that this effect is not modelled: no ``[wires]``, no IR drop; no ``[device.stuck]``, no stuck
devices. Conductances in siemens, times in seconds. What the numbers mean is written where they are used:
:mod:`neurodeploy.crossbar`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neurodeploy.tables import Finite, NonNegative, Positive, Sourced, Target

Polynomial = Annotated[tuple[Finite, ...], Field(strict=False, min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Encoding = Literal["differential", "offset", "one-sided"]

# ------------------------------------------------------------------------------------------------- array and wires


class Array(Sourced):
    """One array of ``rows`` word lines by ``columns`` bit lines, and how a weight lies in it.

    ``encoding``: ``differential`` takes a pair of devices g+ and g- on neighbouring bit lines, whose currents are
    subtracted before conversion; ``offset`` one device around the middle conductance, which a reference column of the
    block holds too; ``one-sided`` one device, the offset subtracted digitally. ``weight_bits`` (sign included) rounds
    weights to a grid, ``slice_bits`` cuts them into slices of that many bits on devices of their own.
    """

    rows: Annotated[int, Field(gt=0)]
    columns: Annotated[int, Field(gt=0)]
    cell: Literal["1T1R", "passive"] = "1T1R"
    encoding: Encoding = "differential"
    weight_bits: Annotated[int, Field(ge=2, le=16)] | None = None
    slice_bits: Annotated[int, Field(ge=1, le=8)] | None = None

    @model_validator(mode="after")
    def _slices(self) -> Self:
        if self.slice_bits is not None and self.weight_bits is None:
            raise ValueError("'slice_bits' cuts a whole number into slices; needed: 'weight_bits' too")
        return self


class Wires(Sourced):
    """Resistance of the lines between neighbouring cells, of drivers and of sense amplifiers, in ohms; 0 is allowed.

    Row 0 is nearest to the sense amplifiers, column 0 nearest to the drivers. ``row_ohm`` is one segment of a word line
    (between neighbouring columns, and between the driver and the first cell), ``column_ohm`` one of a bit line, with
    one more to the amplifier; ``driver_ohm`` and ``sense_ohm`` come on top at the ends. ``driven``, ``sensed``: whether
    the lines' far ends have drivers, amplifiers (virtual grounds) too.

    ``topology``: ``crosspoint``, inputs are voltages on the word lines, which carry the cells' currents: the array is
    one matrix. ``gated``, inputs switch the cells' transistors, each bit line has the read voltage and a source line of
    its own beside it that is sensed: word lines carry nothing, and currents aren't linear in the inputs
    (:func:`neurodeploy.crossbar.wires.gated`).
    """

    row_ohm: NonNegative
    column_ohm: NonNegative
    driver_ohm: NonNegative = 0.0
    sense_ohm: NonNegative = 0.0
    driven: Literal["one end", "both ends"] = "one end"
    sensed: Literal["one end", "both ends"] = "one end"
    topology: Literal["crosspoint", "gated"] = "crosspoint"


# ------------------------------------------------------------------------------------------------------ devices


class ProgrammingNoise(Sourced):
    """Standard deviation of a programmed conductance: ``sum_k sd_siemens[k] r^k``, r = g/g_max."""

    sd_siemens: Polynomial


class Drift(Sourced):
    """``g(t) = g0 ((t + t0)/t0)^-nu``; nu is normal, its mean and standard deviation clipped lines in ln r.

    ``mean = clip(nu_mean_slope ln r + nu_mean_offset, nu_mean_min, nu_mean_max)``, and so for ``sd``. No units but
    ``t0_s``, in seconds.
    """

    t0_s: Positive
    nu_mean_slope: Finite
    nu_mean_offset: Finite
    nu_mean_min: NonNegative
    nu_mean_max: NonNegative
    nu_sd_slope: Finite
    nu_sd_offset: Finite
    nu_sd_min: NonNegative
    nu_sd_max: NonNegative


class ReadNoise(Sourced):
    """1/f noise: ``sd(t) = g Q sqrt(ln((t + t_read)/(2 t_read)))``, ``Q = min(q_scale / r^q_exponent, q_max)``."""

    q_scale: NonNegative
    q_exponent: Finite
    q_max: NonNegative
    t_read_s: Positive


class Device(Sourced):
    """The memristive device; an absent noise table means that this effect is not modelled.

    ``levels``: how many conductances from g_min to g_max it can be told to take; without it, any.
    """

    technology: Literal["pcm", "rram", "ideal"]
    g_min_siemens: NonNegative
    g_max_siemens: Positive
    levels: Annotated[int, Field(ge=2)] | None = None
    programming: ProgrammingNoise | None = None
    drift: Drift | None = None
    read_noise: ReadNoise | None = None

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.g_min_siemens >= self.g_max_siemens:
            raise ValueError(f"g_min_siemens {self.g_min_siemens} is not below g_max_siemens {self.g_max_siemens}")
        return self


# --------------------------------------------------------------------------------------------------- periphery


class Read(Sourced):
    """One read of an array: a full-scale input is ``volts`` on a word line for ``pulse_s``."""

    volts: Positive
    pulse_s: Positive


class ConversionEnergy(Sourced):
    """Energy of one conversion."""

    conversion_joule: Positive


class Converter(Sourced):
    """A DAC or ADC; without ``bits`` it is of infinite precision. Without ``energy`` its energy is unknown."""

    bits: Annotated[int, Field(ge=1, le=24)] | None = None
    energy: ConversionEnergy | None = None


class Cell(Sourced):
    """Area of one device with its selector."""

    area_m2: Positive


class Crossbar(Target):
    """Arrays of memristive devices behind converters, simulated."""

    kind: Literal["crossbar"]
    backend: Literal["crossbar"]
    array: Array
    device: Device
    wires: Wires | None = None
    read: Read | None = None
    dac: Converter
    adc: Converter
    cell: Cell | None = None
