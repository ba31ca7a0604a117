"""What a file may say about memristor crossbars: array, devices, wires, converters; every number with its source.

An absent table means that this effect is not modelled: no ``[wires]``, no IR drop; no ``[device.stuck]``, no stuck
devices. Conductances in siemens, times in seconds. What the numbers mean is written where they are used:
:mod:`neurodeploy.crossbar`. Devices stand in :mod:`neurodeploy.descriptions_devices`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neurodeploy.descriptions_devices import Device
from neurodeploy.tables import NonNegative, Positive, Range, Sourced, Target, Text

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

    @property
    def slices(self) -> int:
        """Devices (or pairs of them) that hold one weight; a weight's sign needs no bit in those that have one."""
        if self.weight_bits is None or self.slice_bits is None:
            return 1
        bits = self.weight_bits - (0 if self.encoding == "one-sided" else 1)
        return -(-bits // self.slice_bits)


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


class ConverterErrors(Sourced):
    """What is wrong with a converter, in its least significant bits.

    ``dnl_lsb``: standard deviation of the error of a ``sar``'s largest step (mismatch of its binary weights), or of
    each step of a ``ramp`` (shared by an array). ``inl_lsb``: peak of a bow that all converters share. ``offset_lsb``:
    standard deviation over converters. ``noise_lsb``: standard deviation of a conversion, for output converters.
    """

    architecture: Literal["sar", "ramp"] = "sar"
    dnl_lsb: NonNegative = 0.0
    inl_lsb: NonNegative = 0.0
    offset_lsb: NonNegative = 0.0
    noise_lsb: NonNegative = 0.0

    @property
    def static(self) -> bool:
        """Whether a converter's levels lie elsewhere than they should."""
        return bool(self.dnl_lsb or self.inl_lsb or self.offset_lsb)


class Converter(Sourced):
    """A DAC or ADC; without ``bits`` it is of infinite precision.

    ``energy``, ``time`` and ``area`` are this target's own figures, before those of its technologies.
    """

    bits: Annotated[int, Field(ge=1, le=32)] | None = None
    errors: ConverterErrors | None = None
    energy: ConversionEnergy | None = None
    time: ConversionTime | None = None
    area: ConverterArea | None = None

    @model_validator(mode="after")
    def _errors_of_bits(self) -> Self:
        if self.errors is not None and (self.bits is None or self.bits > 12):
            raise ValueError("'errors' are those of up to 12 'bits'")
        return self


class DigitalToAnalog(Converter):
    """Drives a word line. ``serial_bits``: inputs go in pieces of so many bits, one read each, added digitally."""

    serial_bits: Annotated[int, Field(ge=1, le=32)] | None = None

    @model_validator(mode="after")
    def _serial(self) -> Self:
        if self.serial_bits is not None and (self.bits is None or self.serial_bits > self.bits):
            raise ValueError(f"'serial_bits' is {self.serial_bits} and 'bits' {self.bits}; needed: no more than 'bits'")
        return self

    @model_validator(mode="after")
    def _without_noise(self) -> Self:
        if self.errors is not None and self.errors.noise_lsb:
            raise ValueError("'errors.noise_lsb' is that of output converters; needed: none in 'dac'")
        return self


class AnalogToDigital(Converter):
    """Reads bit lines. ``columns_per_adc``: how many it serves in turn.

    ``full_scale_siemens``: its fixed range, as a sum of conductances at full-scale inputs; without it every tile's
    range is set by calibration.
    """

    columns_per_adc: Annotated[int, Field(ge=1)] = 1
    full_scale_siemens: Positive | None = None


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
    dac: DigitalToAnalog
    adc: AnalogToDigital
    cell: Cell | None = None
    digital: Lanes | None = None
    technologies: Annotated[tuple[Text, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _voltages(self) -> Self:
        lacking = [n for n in ("nonlinear", "thermal_noise") if getattr(self.device, n) is not None]
        if lacking and self.read is None:
            raise ValueError(f"'device.{lacking[0]}' needs voltages and a pulse: 'read'")
        return self
