"""What a spiking build tells of its conversion, read from its manifest and files for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neurodeploy.report.schema_spiking import Spiking, Trial, Tried

if TYPE_CHECKING:
    from neurodeploy.artifact import Artifact

#: What a trial counts, judges and errs by, in the spellings of the conversions; its other keys are its setting.
EVENTS, ERRORS = ("spikes", "events"), ("nrmse", "rmse")
FLOAT, ACCURACY = "float_accuracy", "accuracy"


def of_build(artifact: Artifact) -> Spiking | None:
    """The conversion of a spiking build; None for other builds. Raises pydantic's error for what breaks the schema."""
    layout = artifact.manifest.get("layout")
    if not isinstance(layout, Mapping) or not isinstance(layout.get("method"), str):
        return None
    return Spiking(method=layout["method"], tried=_tried(layout))


def _tried(layout: Mapping[str, Any]) -> Tried | None:
    """The settings tried, from ``layout["tried"]``: a list of flat objects."""
    found = layout.get("tried")
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        return None
    if not all(isinstance(entry, Mapping) for entry in found):
        raise TypeError("layout.tried: needed a list of objects")
    told = {*EVENTS, *ERRORS, FLOAT, ACCURACY}
    trials = []
    for entry in found:
        setting = {key: value for key, value in entry.items() if key not in told}
        trials.append(
            Trial(
                setting=", ".join(f"{key} {_text(value)}" for key, value in setting.items()),
                events=_first(entry, EVENTS), accuracy=entry.get(ACCURACY), error=_first(entry, ERRORS),
                chosen=bool(setting) and all(layout.get(key) == value for key, value in setting.items()),
            )
        )  # fmt: skip
    return Tried(
        trials=trials,
        float_accuracy=next((e[FLOAT] for e in [*found, layout] if e.get(FLOAT) is not None), None),
        error=next((key.upper() for key in ERRORS if any(key in e for e in found)), None),
    )


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
