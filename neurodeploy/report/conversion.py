"""What a spiking build tells of its conversion, read from its manifest and files for the report."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from neurodeploy.report.schema_spiking import Spectrum, Spiking, Trial, Tried, Tuning

if TYPE_CHECKING:
    from neurodeploy.artifact import Artifact

#: What a trial counts, judges and errs by, in the spellings of the conversions; its other keys are its setting.
EVENTS, ERRORS = ("spikes", "events"), ("nrmse", "rmse")
#: Files with arrays to draw.
TUNING, SPECTRUM = "tuning.npz", "liquid.npz"
FLOAT, ACCURACY = "float_accuracy", "accuracy"


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
        with np.load(io.BytesIO(artifact.files[name]), allow_pickle=False) as arrays:
            return read({key: arrays[key] for key in arrays.files})
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
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
    """Eigenvalues under ``spectrum_reservoir`` and ``spectrum_liquid``, complex, where they are."""
    names = ("spectrum_reservoir", "spectrum_liquid")
    if not all(name in arrays for name in names):
        return None
    pairs = [[(float(f"{v.real:.5g}"), float(f"{v.imag:.5g}")) for v in arrays[name].ravel()] for name in names]
    return Spectrum(reservoir=pairs[0], liquid=pairs[1])


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


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
