"""What a file may say about memristor crossbars: array, devices, wires, converters; every number with its source.

An absent table means that this effect is not modelled: no ``[wires]``, no IR drop; no ``[device.stuck]``, no stuck
devices. Conductances in siemens, times in seconds. What the numbers mean is written where they are used:
:mod:`neurodeploy.crossbar`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neurodeploy.tables import Finite, NonNegative, Positive, Range, Sourced, Target, Text

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
    """Resistance of the lines between neighbouring cells, of drivers and of sense amplifiers, in ohms.

    Word lines are driven at their left end, or at both; bit lines are sensed at virtual ground at the end next to the
    first word line, or at both. ``topology``: ``crosspoint``, word lines carry the cells' currents; ``gated``, inputs
    switch the cells' transistors, and a source line beside each bit line carries the current.
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
    """One read of an array: a full-scale input is ``volts`` on a word line for ``pulse_s``.

    Where an output converter serves several bit lines in turn, ``sample_and_hold`` reads all of them in one pulse; else
    a multiplexer chooses, and each is read in a pulse of its own.
    """

    volts: Positive
    pulse_s: Positive
    sample_and_hold: bool = False


class ConversionEnergy(Sourced):
    """Energy of one conversion."""

    conversion_joule: Range


class ConversionTime(Sourced):
    """How long one conversion takes."""

    conversion_s: Range


class ConverterArea(Sourced):
    """Area of one converter."""

    area_m2: Range


class Converter(Sourced):
    """A DAC or ADC; without ``bits`` it is of infinite precision.

    ``energy``, ``time`` and ``area`` are this target's own figures, before those of its technologies.
    """

    bits: Annotated[int, Field(ge=1, le=24)] | None = None
    energy: ConversionEnergy | None = None
    time: ConversionTime | None = None
    area: ConverterArea | None = None


class Lanes(Sourced):
    """The digital part: how many values it computes in one cycle."""

    lanes: Annotated[int, Field(gt=0)]


class Cell(Sourced):
    """Area of one device with its selector."""

    area_m2: Range


class Crossbar(Target):
    """Arrays of memristive devices behind converters, simulated.

    ``technologies``: the nodes in which a build's energy, time and area are estimated; a figure that this file gives
    itself (``cell``, ``adc.energy`` ...) is taken before theirs.
    """

    kind: Literal["crossbar"]
    backend: Literal["crossbar"]
    array: Array
    device: Device
    wires: Wires | None = None
    read: Read | None = None
    dac: Converter
    adc: Converter
    cell: Cell | None = None
    digital: Lanes | None = None
    technologies: Annotated[tuple[Text, ...], Field(strict=False)] = ()
