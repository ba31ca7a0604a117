"""What one thing costs: a target's own figures, before those of a technology; ranges, with their sources."""

from __future__ import annotations

from dataclasses import dataclass

from neurodeploy.crossbar import converters
from neurodeploy.crossbar.costs.work import ADDITION, COMPARISON, LOOKUP, MULTIPLICATION, width
from neurodeploy.descriptions_crossbar import Converter, Crossbar
from neurodeploy.descriptions_technology import CellCircuits, CrossbarTechnology

Pair = tuple[float, float]


@dataclass(frozen=True)
class Price:
    """A figure [low, high] and its source; without a figure, ``source`` says what is missing."""

    range: Pair | None
    source: str

    @property
    def known(self) -> bool:
        return self.range is not None


@dataclass(frozen=True)
class Prices:
    """Prices of a target's parts in a technology, or by its own figures alone."""

    target: Crossbar
    technology: CrossbarTechnology | None

    @property
    def node(self) -> str:
        """The technology's name; empty without one."""
        return "" if self.technology is None else self.technology.name

    @property
    def cycles(self) -> int:
        """Serial cycles in which one vector is applied."""
        return converters.cycles(self.target)

    @property
    def dac_bits(self) -> int | None:
        """Bits that a word line's converter takes at once."""
        bits, each = self.target.dac.bits, self.target.dac.serial_bits
        return bits if each is None or bits is None else min(bits, each)

    @property
    def circuits(self) -> CellCircuits | None:
        """What the technology says of arrays of the target's cells."""
        if self.technology is None:
            return None
        return self.technology.passive if self.target.array.cell == "passive" else self.technology.transistor

    def conversion(self, kind: str, what: str) -> Price:
        """``what`` (energy, time, area) of a converter, ``kind`` ``"dac"`` or ``"adc"``."""
        own: Converter = getattr(self.target, kind)
        given = getattr(own, what)
        if given is not None:
            key = {"energy": "conversion_joule", "time": "conversion_s", "area": "area_m2"}[what]
            return Price(getattr(given, key), given.source)
        bits = self.dac_bits if kind == "dac" else own.bits
        name = f"{what} of a{'n' if kind == 'adc' else ''} {kind.upper()}"
        if bits is None:
            return Price(None, f"{name} of infinite precision")
        if self.technology is None:
            return Price(None, f"{name}: '{self.target.name}' has no sourced figure")
        table = getattr(self.technology.adc if kind == "adc" else self.technology.dac, what)
        found = table.at(bits) if table is not None else None
        if table is None or found is None:
            return Price(None, f"{name} of {bits} bits: {self.technology.name} has no sourced figure")
        return Price(found, table.source)

    def cell_area(self) -> Price:
        """Square metres of a device with its selector."""
        if self.target.cell is not None:
            return Price(self.target.cell.area_m2, self.target.cell.source)
        cell = self.circuits and self.circuits.cell
        if not cell:
            return Price(None, f"area of a {self.target.array.cell} cell: {self._lacks}")
        return Price(cell.area_m2, cell.source)

    def operation(self, kind: str, dtype: str) -> Price:
        """Joules of one digital operation; a comparison costs an addition."""
        name = f"{kind} of {dtype}"
        digital = self.technology and self.technology.digital
        if not digital:
            return Price(None, f"{name}: {self._lacks}")
        if kind == LOOKUP:
            lookup = digital.lookup
            return Price(lookup.joule, lookup.source) if lookup else Price(None, f"{name}: {self._lacks}")
        word = "add" if kind in (ADDITION, COMPARISON) else "multiply" if kind == MULTIPLICATION else ""
        table = getattr(digital, f"{'float' if dtype == 'f32' else 'integer'}_{word}", None)
        found = table.at(width(dtype)) if table is not None else None
        return Price(None, f"{name}: {self._lacks}") if table is None or found is None else Price(found, table.source)

    @property
    def _lacks(self) -> str:
        return f"{self.node or repr(self.target.name)} has no sourced figure"
