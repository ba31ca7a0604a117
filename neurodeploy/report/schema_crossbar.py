"""What a report holds of a crossbar's physics: sweeps of one quantity, where the error comes from, the floor plan."""

from __future__ import annotations

from typing import Any, Self
from xml.parsers import expat

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from neurodeploy.report.record import Record

#: Fields of a spread that came later: left out of JSON where a record hasn't them, so that earlier seals stay good.
LATER = ("median", "low", "high")


class Spread(Record):
    """What ``chips`` chips found, in the metric's own unit: mean, standard deviation (n - 1), median, and the 5th and
    95th percentile (``low`` and ``high``, linear between the two nearest chips)."""

    mean: float
    sd: float = Field(ge=0)
    chips: int = Field(ge=1)
    median: float | None = None
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        told = [v for v in (self.low, self.median, self.high) if v is not None]
        if len(told) not in (0, 3) or told != sorted(told):
            raise ValueError("a spread has all of low <= median <= high, or none of them")
        return self

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None or name not in LATER}

    @property
    def ends(self) -> tuple[float, float]:
        """The 5th and 95th percentile; one standard deviation either way where a record hasn't them."""
        if self.low is None or self.high is None:
            return self.mean - self.sd, self.mean + self.sd
        return self.low, self.high


class DriftScore(Spread):
    """Accuracy of a crossbar ``seconds`` after the first read, over ``chips`` chips."""

    seconds: float = Field(ge=0)


class Repaired(Record):
    """What was done to the chips before they ran, by calibration data, and their accuracy ``before`` it at each age.

    ``digital_macs_per_step``: multiply-accumulates of readouts that left the arrays; ``numbers_per_chip``: of refitted
    readouts.
    """

    kind: str
    data: str
    samples: int = Field(ge=1)
    sha256: str
    digital_macs_per_step: int = Field(ge=0)
    numbers_per_chip: int = Field(ge=0)
    before: list[DriftScore] = []


class SweepPoint(Spread):
    """The accuracy over chips where the quantity swept is ``x``."""

    x: float


class Sweep(Record):
    """Accuracy against one quantity of the target, all else as compiled; chips of the same seed at every point.

    ``what``: the quantity (``adc_bits``, ``stuck``...), in ``unit``. ``compiled``: its value in the build's target,
    None where it has none. ``seconds``: time since the first read. ``metric`` is the accuracy's.
    """

    what: str
    unit: str
    metric: str
    seconds: float = Field(ge=0)
    compiled: float | None = None
    points: list[SweepPoint] = Field(min_length=1)


class Measured(Record):
    """One set of effects: the outputs' RMS error over the RMS of the golden model's (``error``), and with labels what
    the metric says (``score``); mean and standard deviation (n - 1) over chips."""

    error: float = Field(ge=0)
    error_sd: float = Field(ge=0)
    score: float | None = None
    score_sd: float | None = Field(default=None, ge=0)


class Effect(Record):
    """One effect of the physics: what it does ``alone``, everything else ideal; all others ``without`` it; and its
    ``share`` of the sum of squared errors. None where the target hasn't it."""

    effect: str
    alone: Measured | None = None
    without: Measured | None = None
    share: float | None = None


class Attribution(Record):
    """Where the error comes from, ``age_s`` after the first read: the JSON of
    :class:`neurodeploy.crossbar.attribution.Attribution`.

    ``golden``: the golden model's score. ``none``: no effect at all; ``every``: all of them together.
    """

    target: str
    chips: int = Field(ge=1)
    seed: int = Field(ge=0)
    age_s: float = Field(ge=0)
    compensate: bool
    samples: int = Field(ge=1)
    metric: str | None = None
    golden: float | None = None
    none: Measured
    every: Measured
    rows: list[Effect] = Field(min_length=1)


class Arrays(Record):
    """What a crossbar build tells of its arrays: the floor plan, an SVG."""

    floor_plan: str | None = None

    @field_validator("floor_plan")
    @classmethod
    def _drawing(cls, text: str | None) -> str | None:
        return None if text is None else drawing(text)


def drawing(text: str) -> str:
    """The text itself if it is one well-formed ``<svg>`` without a document type; :class:`ValueError` otherwise."""
    roots: list[str] = []
    parser = expat.ParserCreate()

    def refused(*_: object) -> None:
        raise ValueError("the floor plan has a document type; an SVG needs none")

    parser.StartElementHandler = lambda name, _: roots.append(name) if not roots else None
    parser.StartDoctypeDeclHandler = refused
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(f"the floor plan is no SVG ({error})") from error
    if roots != ["svg"]:
        raise ValueError(f"the floor plan is no SVG (its root is <{roots[0]}>)")
    return text
