"""The report's data: a versioned JSON schema.

::

    Report                 schema_version, generator, created
    └── builds: Build      one compiled artifact: model, backend, target, compiler, warnings
        ├── figures        name, value, unit, how it was got, source (compile time)
        ├── accuracies     one per metric and data set: float, quantized, deployed; merged from the runs
        └── runs: Run      one execution: where, what the device said of itself, versions, timing
            ├── figures    measured or simulated in this run
            ├── accuracy
            ├── agreement  against golden, host or board: bit-exact steps, first difference
            ├── activity, decision   of a spiking build: one sample's events, accuracy over time
            ├── sweeps, attribution  of a crossbar's: accuracy against a quantity, what each effect alone does
            └── seal       SHA-256 over the record's canonical JSON

Unknown keys are errors. A change that breaks readers raises ``SCHEMA_VERSION``.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from neurodeploy.artifact import Figure, How
from neurodeploy.report.figures import METRICS, Kind
from neurodeploy.report.record import Record
from neurodeploy.report.schema_crossbar import Arrays, Attribution, DriftScore, Repaired, Sweep
from neurodeploy.report.schema_spiking import Activity, Decision, Spiking

SCHEMA_VERSION = 1


def _as_fields(figure: Any) -> Any:
    # pydantic takes an instance of a dataclass as it is; its fields are to be checked like those read from JSON.
    fields = vars(figure) if isinstance(figure, Figure) else figure
    if isinstance(fields, dict):
        if more := set(fields) - set(Figure.__dataclass_fields__):
            raise ValueError(f"a figure has no '{min(more)}'")
        if isinstance(value := fields.get("value"), np.generic):
            fields = {**fields, "value": value.item()}
    return fields


def _checked(figure: Figure) -> Figure:
    if (figure.value is None) != (figure.how == "unknown"):
        raise ValueError(f"figure '{figure.name}': a value is missing if, and only if, it is 'unknown'")
    if figure.value is not None and not math.isfinite(figure.value):
        raise ValueError(f"figure '{figure.name}': {figure.value} is not a finite number")
    return figure


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
CheckedFigure = Annotated[Figure, BeforeValidator(_as_fields), AfterValidator(_checked)]


class Score(Record):
    """One accuracy, in the metric's own unit (``ClassificationAccuracy`` is 0 to 1).

    ``sd`` is the standard deviation over ``n`` repetitions (chips, seeds); ``where`` says what was run.
    """

    value: float
    how: How
    where: str
    sd: float | None = Field(default=None, ge=0)
    n: int | None = Field(default=None, ge=1)
    over: str | None = None


class DataSet(Record):
    """What an accuracy was judged on: name, number of samples and SHA-256 of the file."""

    name: str
    samples: int = Field(ge=1)
    sha256: Sha256


class Accuracy(Record):
    """One metric on one data set: of the float network, of the quantized (golden) one, and as deployed."""

    metric: str
    data: DataSet
    seeds: list[int] = []
    float_: Score | None = Field(
        default=None, validation_alias=AliasChoices("float", "float_"), serialization_alias="float"
    )
    quantized: Score | None = None
    deployed: Score | None = None
    drift: list[DriftScore] = []

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        if metric not in METRICS:
            raise ValueError(f"'{metric}' is no known metric; known: {', '.join(METRICS)}")
        return metric

    @property
    def key(self) -> tuple[str, str, int]:
        """What must be equal for two accuracies to be compared: metric, data and number of samples."""
        return self.metric, self.data.sha256, self.data.samples


class FirstDifference(Record):
    """Where two runs first differ; ``step`` is None where only final outputs were compared."""

    sample: int
    step: int | None
    tensor: str
    index: int
    value: int | float | str
    reference: int | float | str


class Agreement(Record):
    """A comparison of two runs, step by step (or inference by inference).

    ``equality`` is what was promised: ``exact``, ``lsb(n)``, ``close(tolerance)`` or ``statistical(tolerance)``;
    ``holds`` is None where that wasn't judged. ``max_difference`` is None where it isn't finite.
    """

    against: str
    equality: str = Field(pattern=r"^(exact|lsb\(\d+\)|(close|statistical)\([0-9.eE+-]+\))$")
    holds: bool | None
    per: Literal["step", "inference"] = "step"
    compared: int = Field(ge=0)
    bit_exact: int = Field(ge=0)
    max_difference: float | None
    difference_unit: Literal["LSB", "absolute"]
    first_difference: FirstDifference | None = None
    tensors: list[str] = []


class Device(Record):
    """What the device said of itself over its link; never what the host believes.

    ``counter`` is the unit of its counter (``instructions`` or ``cycles``).
    """

    target_id: str
    firmware_hash: str
    firmware_abi: int | None = None
    firmware_toolchain: str | None = None
    cpuid: str | None = None
    counter: str | None = None


class NotRun(Record):
    """Something that could not be run, and why."""

    what: str
    why: str


class Timing(Record):
    """Wall time of a run on this machine; no figure of the target."""

    wall_seconds: float = Field(ge=0)
    samples: int = Field(ge=0)
    steps: int = Field(ge=0)


class Run(Record):
    """One execution of an artifact.

    ``runner``: ``golden``, ``host``, ``board``, ``tflm``, ``brian2`` ... (also the file's name). ``where``: in words.
    ``artifact``: SHA-256 of what was run, by file. ``device``: as read from the board, if there was one.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    runner: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    command: str = ""
    when: str
    where: str
    emulator: str | None = None
    port: str | None = None
    device: Device | None = None
    versions: dict[str, str] = {}
    artifact: dict[str, str] = {}
    accuracy: Accuracy | None = None
    agreement: list[Agreement] = []
    figures: list[CheckedFigure] = []
    not_run: list[NotRun] = []
    timing: Timing | None = None
    warnings: list[str] = []
    activity: Activity | None = None
    decision: Decision | None = None
    sweeps: list[Sweep] = []
    attribution: Attribution | None = None
    repair: Repaired | None = None
    seal: str = ""

    def sealed(self) -> Run:
        """A copy with the seal that fits its contents."""
        return self.model_copy(update={"seal": self._digest()})

    @property
    def intact(self) -> bool:
        """Whether the seal fits the contents."""
        return self.seal == self._digest()

    def _digest(self) -> str:
        # Fields that came later are no part of a record that hasn't them: earlier seals stay good.
        later = ("activity", "decision", "sweeps", "attribution", "repair")
        absent = {name for name in later if not getattr(self, name)}
        return digest(self.model_dump(mode="json", by_alias=True, exclude={"seal", *absent}))


class Model(Record):
    """The network that was compiled."""

    name: str
    sha256: Sha256 | None = None
    parameters: int | None = None
    macs_per_step: float | None = None


class Target(Record):
    """What it was compiled for."""

    name: str
    title: str
    kind: Kind


class Build(Record):
    """One compiled artifact with its runs. ``widths``: the types of its weights, states and values, in words."""

    name: str
    model: Model
    backend: str
    target: Target
    numerics: str
    widths: str | None = None
    compiler: str | None = None
    warnings: list[str] = []
    figures: list[CheckedFigure] = []
    accuracies: list[Accuracy] = []
    runs: list[Run] = []
    spiking: Spiking | None = None
    arrays: Arrays | None = None

    def all_figures(self) -> list[Figure]:
        """Figures of the compilation, then of every run."""
        return [*self.figures, *(figure for run in self.runs for figure in run.figures)]


class ReportData(Record):
    """The whole report: what ``.json`` holds."""

    schema_version: Literal[1] = SCHEMA_VERSION
    generator: str
    created: str
    builds: list[Build] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> ReportData:
        names = [build.name for build in self.builds]
        if len(set(names)) != len(names):
            raise ValueError(f"build names must be distinct: {min(n for n in names if names.count(n) > 1)!r}")
        return self


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, ASCII, finite numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
