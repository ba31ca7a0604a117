"""Sweeps: accuracy over chips against one quantity of a build's target, everything else as it was compiled.

Nothing is compiled again: weights lie on the devices as before, and converters keep their ranges. Chips are those of
the seed at every point, so two points differ by the quantity alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from neurodeploy.artifact import Artifact, Trace
from neurodeploy.crossbar.effects import ALL
from neurodeploy.crossbar.manifest import described
from neurodeploy.crossbar.mapping.tiles import Matrix
from neurodeploy.data import Data
from neurodeploy.deploy.crossbar import CrossbarRunner
from neurodeploy.descriptions_crossbar import Crossbar
from neurodeploy.errors import DataError, UsageError, nearest
from neurodeploy.ir import text
from neurodeploy.ir.drive import real_outputs
from neurodeploy.report.metrics import spread
from neurodeploy.report.schema_crossbar import Sweep, SweepPoint
from neurodeploy.validate import judge

Record = dict[str, Any]
SOURCE = "swept, not measured"


@dataclass(frozen=True)
class Quantity:
    """What is swept: shown as ``value * factor`` in ``unit``.

    ``effect``: the effect that it belongs to. ``get``: its value in a target's JSON record, None where the target has
    none. ``put`` writes a value into the record. ``lacks``: why it can't be swept on a build, in words; None where it
    can.
    """

    effect: str
    unit: str
    get: Callable[[Record], float | None]
    put: Callable[[Record, float], None]
    lacks: Callable[[Record, Sequence[Matrix]], str | None]
    factor: float = 1.0
    whole: bool = False


def sweep(
    artifact: Artifact, data: Data, what: str, values: Sequence[float], *,
    chips: int = 25, seed: int = 0, seconds: float = 0.0, compensate: bool = True, effects: Iterable[str] = ALL,
) -> Sweep:  # fmt: skip
    """Accuracy of ``chips`` chips at each of ``values`` of ``what``, ``seconds`` after the first read.

    ``adc_bits``, ``dac_bits``: bits. ``stuck``: share of devices that are stuck, on and off as in the target (half and
    half where it has none). ``wires``: factor on the target's resistances. ``effects``: the others that are on, as for
    the runner; what is swept is on. ``data`` has labels; the metric is that of
    :func:`neurodeploy.validate.judge`. Raises :class:`UsageError` for another quantity or a value out of its range, for
    a build that lacks what would be swept, and what the runner raises.
    """
    known, changed = quantity(what), with_values(artifact, data, what, values)
    program = text.from_files(artifact.files, "program")
    metric, points = "", []
    for value, build in zip(values, changed, strict=True):
        trace = CrossbarRunner().run(
            build, dict(data.inputs), data.lengths,
            chips=chips, times=(seconds,), seed=seed, compensate=compensate, effects={*effects, known.effect},
        )  # fmt: skip
        found = []
        for chip in range(chips):
            raw = {name: array[0, chip] for name, array in trace.chip_outputs.items()}
            metric, score = judge(program, real_outputs(program, Trace(raw)), data)
            found.append(score)
        points.append(SweepPoint(x=_shown(known, value), **spread(np.array(found))))
    compiled = known.get(_record(artifact))
    return Sweep(
        what=what, unit=known.unit, metric=metric, seconds=seconds, points=points,
        compiled=None if compiled is None else _shown(known, compiled),
    )  # fmt: skip


def with_values(artifact: Artifact, data: Data, what: str, values: Sequence[float]) -> list[Artifact]:
    """The builds that a sweep runs, one for each value; raises what :func:`sweep` does, before anything runs."""
    known = quantity(what)
    if not values:
        raise UsageError("no value was given.", place=f"sweep of {what}", hint="Give some: adc_bits=4,5,6,8.")
    if why := known.lacks(_record(artifact), described(artifact)[1]):
        raise UsageError(f"{why}.", place=f"sweep of {what} on {artifact.name}")
    if data.labels is None:
        raise DataError("holds no labels 'y'; a sweep is of accuracy.", place=data.name)
    return [_changed(artifact, what, value) for value in values]


def _record(artifact: Artifact) -> Record:
    return described(artifact)[0].model_dump(mode="json")


def parse(option: str) -> tuple[str, tuple[float, ...]]:
    """``("adc_bits", (4, 5, 6, 8))`` for ``adc_bits=4,5,6,8``. Raises :class:`UsageError`."""
    what, _, listed = option.partition("=")
    quantity(what)
    try:
        return what, tuple(float(value) for value in listed.split(","))
    except ValueError as error:
        raise UsageError(
            f"'{listed}' is no list of numbers.", place=f"sweep of {what}", hint="Write it like adc_bits=4,5,6,8."
        ) from error


def quantity(what: str) -> Quantity:
    """The quantity of that name. Raises :class:`UsageError`, naming the nearest."""
    if what not in QUANTITIES:
        raise UsageError(f"'{what}' can't be swept.", place="sweep", hint=nearest(what, QUANTITIES))
    return QUANTITIES[what]


def _changed(artifact: Artifact, what: str, value: float) -> Artifact:
    """The build with another target; the files are the same objects."""
    known = QUANTITIES[what]
    place = f"sweep of {what}"
    if not math.isfinite(value) or (known.whole and value != int(value)):
        raise UsageError(f"{value} is no {'whole ' if known.whole else ''}number.", place=place)
    record = json.loads(json.dumps(artifact.manifest["crossbar"]))
    known.put(record, value)
    try:
        Crossbar.model_validate_json(json.dumps(record))
    except ValidationError as error:
        raise UsageError(
            f"at {value:g}: {error.errors()[0]['msg'].removeprefix('Value error, ')}.", place=place
        ) from error
    if known.whole and value < 2:
        raise UsageError(f"{value:g} bits have no room for a sign; needed at least 2.", place=place)
    return replace(artifact, manifest={**artifact.manifest, "crossbar": record})


def _shown(known: Quantity, value: float) -> float:
    return float(f"{value * known.factor:.12g}")


def _bits(kind: str) -> Quantity:
    def put(record: Record, value: float) -> None:
        record[kind]["bits"] = int(value)

    def lacks(record: Record, matrices: Sequence[Matrix]) -> str | None:
        ranged = all(
            all(tile.adc_range for tile in m.tiles)
            if kind == "adc"
            else all(full is not None for *_, full in m.segments)
            for m in matrices
        )
        return None if ranged else f"its {kind.upper()}s are of infinite precision and have no range; compile with bits"

    return Quantity(kind, "bits", lambda record: record[kind]["bits"], put, lacks, whole=True)


def _stuck(record: Record) -> float | None:
    table = record["device"].get("stuck")
    return table["on_share"] + table["off_share"] if table else None


def _set_stuck(record: Record, value: float) -> None:
    table = record["device"].get("stuck") or {"on_share": 0.0, "off_share": 0.0, "source": SOURCE}
    total = table["on_share"] + table["off_share"]
    on = table["on_share"] / total if total else 0.5
    record["device"]["stuck"] = {**table, "on_share": value * on, "off_share": value * (1 - on)}


def _set_wires(record: Record, value: float) -> None:
    for end in ("row_ohm", "column_ohm", "driver_ohm", "sense_ohm"):
        record["wires"][end] *= value


def _no_wires(record: Record, matrices: Sequence[Matrix]) -> str | None:
    return None if record["wires"] else "its target has no [wires] whose resistance could be multiplied"


QUANTITIES: dict[str, Quantity] = {
    "adc_bits": _bits("adc"),
    "dac_bits": _bits("dac"),
    "stuck": Quantity("stuck", "%", _stuck, _set_stuck, lambda record, matrices: None, factor=100.0),
    "wires": Quantity("wires", "", lambda record: 1.0, _set_wires, _no_wires),
}
