"""What a file may say about the silicon around memristor crossbars: converters, lines, arithmetic, buffers, cells.

A ``crossbar-technology`` prices one node. Every table names its source; what is absent is unknown. A figure is a range
``[low, high]`` where sources disagree. What is priced by the number of bits is a row of prices beside a row of bits:
:meth:`EnergyByBits.at` and its like look them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neurodeploy.tables import Description, Positive, Range, Sourced, Table

Bits = Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(strict=False, min_length=1)]
Ranges = Annotated[tuple[Range, ...], Field(strict=False, min_length=1)]
Pair = tuple[float, float]


def _between(bits: int, known: Sequence[int], prices: Sequence[Pair]) -> Pair | None:
    """The price at so many bits; between two that are known, from the lower's low to the higher's high."""
    if bits in known:
        return prices[known.index(bits)]
    above = [i for i, b in enumerate(known) if b > bits]
    if not above or above[0] == 0:
        return None
    low, high = prices[above[0] - 1][0], prices[above[0]][1]
    return (low, high)


def _matching(bits: Sequence[int], prices: Sequence[Pair], name: str) -> None:
    if list(bits) != sorted(set(bits)):
        raise ValueError(f"'bits' is {list(bits)}; needed: rising")
    if len(bits) != len(prices):
        raise ValueError(f"'{name}' holds {len(prices)} figures for {len(bits)} numbers of bits")
    for left, right in zip(prices, prices[1:], strict=False):
        if left[0] > right[0] or left[1] > right[1]:
            raise ValueError(f"'{name}' falls from {list(left)} to {list(right)} with more bits")


class EnergyByBits(Sourced):
    """Joules of one operation or conversion at each number of bits."""

    bits: Bits
    joule: Ranges

    @model_validator(mode="after")
    def _rows(self) -> Self:
        _matching(self.bits, self.joule, "joule")
        return self

    def at(self, bits: int) -> Pair | None:
        """Joules [low, high] at so many bits; between two that are known the range spans both; None outside."""
        return _between(bits, self.bits, self.joule)


class TimeByBits(Sourced):
    """Seconds of one conversion at each number of bits."""

    bits: Bits
    seconds: Ranges

    @model_validator(mode="after")
    def _rows(self) -> Self:
        _matching(self.bits, self.seconds, "seconds")
        return self

    def at(self, bits: int) -> Pair | None:
        """Seconds [low, high] at so many bits; between two that are known the range spans both; None outside."""
        return _between(bits, self.bits, self.seconds)


class AreaByBits(Sourced):
    """Area of one converter at each number of bits."""

    bits: Bits
    area_m2: Ranges

    @model_validator(mode="after")
    def _rows(self) -> Self:
        _matching(self.bits, self.area_m2, "area_m2")
        return self

    def at(self, bits: int) -> Pair | None:
        """Square metres [low, high] at so many bits; between two that are known it spans both; None outside."""
        return _between(bits, self.bits, self.area_m2)


class Conversion(Table):
    """A kind of converter: what a conversion takes, and how large one is."""

    energy: EnergyByBits | None = None
    time: TimeByBits | None = None
    area: AreaByBits | None = None


# ------------------------------------------------------------------------------------------------ arrays and lines


class CellArea(Sourced):
    """Area of one device with its selector."""

    area_m2: Range


class LineEnergy(Sourced):
    """``cell_joule``: charging a cell's piece of a driven word line, each time; ``select_joule``: connecting a bit line
    to its converter."""

    cell_joule: Range
    select_joule: Range


class LineArea(Sourced):
    """Drivers, switches and multiplexers: area for each word line, for each bit line, and once an array."""

    row_m2: Range
    column_m2: Range
    array_m2: Range


class CellCircuits(Table):
    """What an array of one kind of cell is made of besides converters."""

    cell: CellArea | None = None
    line_energy: LineEnergy | None = None
    line_area: LineArea | None = None


# ------------------------------------------------------------------------------------------------------ digital


class Clock(Sourced):
    """The clock of the digital part, in which an operation takes one cycle."""

    clock_hz: Positive


class Access(Sourced):
    """Reading or writing one bit of a buffer."""

    bit_joule: Range


class Lookup(Sourced):
    """One value of tanh, sigmoid or another table."""

    joule: Range


class Arithmetic(Table):
    """Joules of one digital operation by its width; a comparison costs an addition."""

    integer_add: EnergyByBits | None = None
    integer_multiply: EnergyByBits | None = None
    float_add: EnergyByBits | None = None
    float_multiply: EnergyByBits | None = None
    lookup: Lookup | None = None
    clock: Clock | None = None


class CrossbarTechnology(Description):
    """A node in which crossbars' periphery is priced. It is no target: crossbars name it under ``technologies``.

    ``transistor`` is about arrays of 1T1R cells, ``passive`` about cells without a selector.
    """

    kind: Literal["crossbar-technology"]
    node_nm: Annotated[int, Field(gt=0)]
    adc: Conversion = Conversion()
    dac: Conversion = Conversion()
    transistor: CellCircuits = CellCircuits()
    passive: CellCircuits = CellCircuits()
    digital: Arithmetic = Arithmetic()
    buffer: Access | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        parts = (self.adc, self.dac, self.transistor, self.passive, self.digital)
        if self.buffer is None and not any(getattr(part, name) for part in parts for name in type(part).model_fields):
            raise ValueError("a technology needs at least one table of figures")
        return self
