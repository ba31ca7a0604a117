"""What a spiking build tells of its conversion, read from its manifest and files for the report."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from neurodeploy.archive import read_arrays
from neurodeploy.report.schema_spiking import Spectrum, Spiking, Trial, Tried, Tuning

if TYPE_CHECKING:
    from neurodeploy.artifact import Artifact

#: What a trial counts, judges and errs by, in the spellings of the conversions; its other keys are its setting.
EVENTS, ERRORS = ("spikes", "events"), ("nrmse", "rmse", "state_error")
#: Files with arrays to draw.
TUNING, SPECTRUM = "tuning.npz", "liquid.npz"
FLOAT, ACCURACY = "float_accuracy", "accuracy"
RESULTS = frozenset({*EVENTS, *ERRORS, FLOAT, ACCURACY, "score", "loss", "loss_error", "curve_error", "neurons"})


def of_build(artifact: Artifact) -> Spiking | None:
    """The conversion of a spiking build; None for other builds. Raises pydantic's error for what breaks the schema."""
    layout = artifact.manifest.get("layout")
    if not isinstance(layout, Mapping) or not isinstance(layout.get("method"), str):
        return None
    return Spiking(
        method=layout["method"], tried=_tried(layout), tuning=_of_file(artifact, TUNING, _tuning),
        spectrum=_of_file(artifact, SPECTRUM, _spectrum),
    )  # fmt: skip


def _of_file(artifact: Artifact, name: str, read: Callable[[Mapping[str, np.ndarray]], Any]) -> Any:
    """What a file of arrays tells; None where it isn't there. Raises :class:`TypeError` for one that can't be read."""
    if name not in artifact.files:
        return None
    try:
        return read(read_arrays(io.BytesIO(artifact.files[name])))
    except (OSError, ValueError, LookupError) as error:
        if isinstance(error, ValidationError):
            raise
        raise TypeError(f"{name} can't be read: {error}") from error


def _tuning(arrays: Mapping[str, np.ndarray]) -> Tuning:
    """Arrays as :mod:`neurodeploy.spiking.tuning` writes them."""
    errors = arrays["error"]
    unit = int(np.argsort(errors, kind="stable")[len(errors) // 2])
    rates = arrays["rates"][:, arrays["unit"] == unit].T
    return Tuning(
        neurons=arrays["rates"].shape[1], errors=_rounded(errors), unit=unit, z=_rounded(arrays["z"][:, unit]),
        rates=[_rounded(curve) for curve in rates], f=_rounded(arrays["f"][:, unit]),
        decoded=_rounded(arrays["decoded"][:, unit]),
    )  # fmt: skip


def _spectrum(arrays: Mapping[str, np.ndarray]) -> Spectrum | None:
    """Eigenvalues under ``reservoir_eigenvalues`` and ``liquid_eigenvalues``, complex, where they are."""
    names = ("reservoir_eigenvalues", "liquid_eigenvalues")
    if not all(name in arrays and arrays[name].size for name in names):
        return None
    pairs = [[(float(f"{v.real:.5g}"), float(f"{v.imag:.5g}")) for v in arrays[name].ravel()] for name in names]
    return Spectrum(reservoir=pairs[0], liquid=pairs[1])


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _tried(layout: Mapping[str, Any]) -> Tried | None:
    """The settings tried, from ``tried`` of the layout or of its ``fit``: a list of flat objects."""
    holder = next((h for h in (layout, layout.get("fit")) if isinstance(h, Mapping) and h.get("tried")), None)
    found = holder.get("tried") if holder else None
    if holder is None or not isinstance(found, list):
        return None
    if not all(isinstance(entry, Mapping) for entry in found):
        raise TypeError("layout.tried: needed a list of objects")
    scale = _score_scale(holder)
    results = RESULTS | ({"ticks"} if "ticks_a_frame" in found[0] else set())  # there ticks of a sample, a result
    settings = [key for key in found[0] if key not in results]
    varied = [key for key in settings if len(found) == 1 or len({str(entry.get(key)) for entry in found}) > 1]
    compared = [key for key in varied if key != "penalty"]
    of_chosen = holder["chosen"] if isinstance(holder.get("chosen"), Mapping) else holder
    trials = [
        Trial(
            setting=", ".join(f"{key} {_text(entry.get(key))}" for key in varied) or "as given",
            events=_first(entry, EVENTS), accuracy=_accuracy(entry, scale), error=_first(entry, ERRORS),
            chosen=all(of_chosen.get(key) == entry.get(key) for key in compared),
        )
        for entry in found
    ]  # fmt: skip
    floats = [e[FLOAT] for e in [*found, layout] if e.get(FLOAT) is not None]
    if not floats and scale and layout.get("float_score") is not None:
        floats = [layout["float_score"] * scale]
    error = next((key for key in ERRORS if any(key in e for e in found)), None)
    return Tried(
        trials=trials, float_accuracy=floats[0] if floats else None,
        error=error and (error.upper() if error.endswith("mse") else error.replace("_", " ")),
    )  # fmt: skip


def _score_scale(holder: Mapping[str, Any]) -> float | None:
    """What makes a trial's score an accuracy from 0 to 1; None where scores are no accuracies."""
    if str(holder.get("score")).startswith("accuracy, %"):
        return 0.01
    return 1.0 if holder.get("metric") == ACCURACY else None


def _accuracy(entry: Mapping[str, Any], scale: float | None) -> float | None:
    if entry.get(ACCURACY) is not None:
        return entry[ACCURACY]
    return entry["score"] * scale if scale and entry.get("score") is not None else None


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
