"""What a report holds of a spiking build's pictures: data, from which every renderer draws or tells the same."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from neurodeploy.artifact import How
from neurodeploy.report.record import Record


class Population(Record):
    """Neurons under one name: ``total`` events of all of them.

    ``rates``: mean events a neuron in each bin of the activity's ``bin_ticks``. ``shown``: the neurons that ``events``
    tells of, counted from the population's first; ``events``: for each of them the ticks of its events; ``sizes``:
    theirs where events are graded.
    """

    name: str
    size: int = Field(ge=1)
    total: int = Field(ge=0)
    rates: list[float]
    shown: list[int] = []
    events: list[list[int]] = []
    sizes: list[list[int]] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        sizes = self.events if self.sizes is None else self.sizes
        lengths = [[len(row) for row in rows] for rows in (self.events, sizes)]
        if len(self.shown) != len(self.events) or lengths[0] != lengths[1]:
            raise ValueError(f"population '{self.name}': one row of events (and sizes) a neuron shown")
        return self


class Activity(Record):
    """The events of one sample. A frame is a step of the network and lasts ``ticks`` ticks of ``tick_s`` seconds (None:
    the clock has no length). The raster ends at ``ticks_shown``; rates are of bins of ``bin_ticks``."""

    sample: int = Field(ge=0)
    unit: Literal["spikes", "graded events"]
    frames: int = Field(ge=1)
    ticks: int = Field(ge=1)
    tick_s: float | None = Field(default=None, gt=0)
    ticks_shown: int = Field(ge=1)
    bin_ticks: int = Field(ge=1)
    how: How
    where: str
    populations: list[Population] = Field(min_length=1)


class Decision(Record):
    """Accuracy of an answer taken after each frame, over all samples of the run's data; mean spikes and steps until
    then; and nJ, from (low, high) of each chip."""

    frame: list[int] = Field(min_length=1)
    accuracy: list[float]
    spikes: list[float]
    steps: list[float]
    energy: dict[str, list[tuple[float, float]]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        told = (self.accuracy, self.spikes, self.steps, *self.energy.values())
        if any(len(column) != len(self.frame) for column in told):
            raise ValueError("decision: one accuracy, number of spikes, of steps, and energy a frame")
        return self


class Trial(Record):
    """One setting that a conversion tried: mean events a sample, accuracy (0 to 1) and error on its own data."""

    setting: str
    events: float | None = None
    accuracy: float | None = None
    error: float | None = None
    chosen: bool = False


class Tried(Record):
    """What a conversion tried, beside the float network on the same data; ``error`` names the trials' error."""

    trials: list[Trial] = Field(min_length=1)
    float_accuracy: float | None = None
    error: str | None = None


class Tuning(Record):
    """Neurons that stand for units: ``errors``, each unit's weighted RMS error of what is decoded.

    Of one ``unit`` (that of the median error): at each ``z``, the activation's argument, its neurons' ``rates`` in
    spikes a frame, the activation ``f``, and what is ``decoded`` from the rates.
    """

    neurons: int = Field(ge=1)
    errors: list[float] = Field(min_length=1)
    unit: int = Field(ge=0)
    z: list[float] = Field(min_length=2)
    rates: list[list[float]] = Field(min_length=1)
    f: list[float]
    decoded: list[float]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if {len(self.f), len(self.decoded), *(len(curve) for curve in self.rates)} != {len(self.z)}:
            raise ValueError("tuning: one rate, activation and decoded value for each z")
        return self


class Spectrum(Record):
    """Eigenvalues (real and imaginary parts) of what a reservoir and its liquid do in a step of the network."""

    reservoir: list[tuple[float, float]] = Field(min_length=1)
    liquid: list[tuple[float, float]] = Field(min_length=1)


class Spiking(Record):
    """What a spiking build tells of its conversion."""

    method: str
    tried: Tried | None = None
    tuning: Tuning | None = None
    spectrum: Spectrum | None = None
