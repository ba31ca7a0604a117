"""Stuck devices: sampled by their shares, or given as maps of the physical arrays.

A map holds 0 for a healthy device, 1 for one stuck on and 2 for one stuck off. A file of maps is a ``.npz`` with one
array ``[rows, columns]`` of whole numbers for each physical array, named by its number (``"0"``, ``"1"``, ...); arrays
that it doesn't name are healthy. Every chip gets the same map.
"""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np

from neurodeploy.archive import read_arrays
from neurodeploy.descriptions_devices import Device, Stuck
from neurodeploy.errors import DataError, UsageError

Array = np.ndarray
HEALTHY, ON, OFF = 0, 1, 2
_HINT = "Write them with numpy.savez, one array for each physical array."


def with_stuck(device: Device, on_share: float, off_share: float) -> Device:
    """The device with other shares of stuck devices. Raises :class:`UsageError` for shares that can't be."""
    if not (0 <= on_share <= 1 and 0 <= off_share <= 1 and on_share + off_share <= 1):
        raise UsageError(
            f"shares of stuck devices are {on_share} (on) and {off_share} (off); needed: from 0 to 1, together too.",
            place="crossbar",
        )
    values = {"on_siemens": device.stuck.on_siemens, "off_siemens": device.stuck.off_siemens} if device.stuck else {}
    stuck = Stuck(on_share=on_share, off_share=off_share, source="given for this run", **values)
    return device.model_copy(update={"stuck": stuck})


def sample(stuck: Stuck, normals: Array) -> Array:
    """A map drawn from standard ``normals``: each device is stuck on or off with its share, whatever the others are."""
    found = np.zeros(normals.shape, np.int8)
    if stuck.on_share > 0:
        found[normals < _quantile(stuck.on_share)] = ON
    if stuck.off_share > 0:
        found[-normals < _quantile(stuck.off_share)] = OFF
    return found


def conductances(device: Device, stuck: Array) -> Array:
    """What the stuck devices of a map conduct (S); 0 for the healthy ones."""
    table = device.stuck
    on = device.g_max_siemens if table is None or table.on_siemens is None else table.on_siemens
    off = device.g_min_siemens if table is None or table.off_siemens is None else table.off_siemens
    return np.array([0.0, on, off])[stuck]


def checked(stuck: Array, shape: tuple[int, ...], place: str) -> Array:
    """A given map as int8, that its values are known and that it fits ``shape``. Raises :class:`DataError`."""
    values = np.asarray(stuck)
    if values.dtype.kind not in "iub":
        raise DataError(f"a map of stuck devices is {values.dtype}; needed: whole numbers 0, 1 and 2.", place=place)
    wrong = values[(values < HEALTHY) | (values > OFF)] if values.dtype.kind != "b" else values[:0]
    if wrong.size:
        raise DataError(
            f"a map of stuck devices holds {wrong.flat[0]}; needed: 0 (healthy), 1 (stuck on) or 2 (stuck off).",
            place=place,
        )
    if values.shape != shape[len(shape) - values.ndim :]:
        raise DataError(
            f"a map of stuck devices is {_text(values.shape)}; needed: {_text(shape[-2:])}, as the array is.",
            place=place,
        )
    return values.astype(np.int8)


def load_maps(path: str | Path, arrays: int, rows: int, columns: int) -> dict[int, Array]:
    """Maps of stuck devices by the number of their array, from a ``.npz`` as this module describes it.

    Raises :class:`DataError` for a file that can't be read, an array that the target doesn't have, a wrong shape or a
    value that isn't 0, 1 or 2.
    """
    place = str(path)
    try:
        named = read_arrays(path)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error}).", place=place, hint=_HINT) from error
    except ValueError as error:
        raise DataError(f"maps of stuck devices can't be read: it {error}.", place=place, hint=_HINT) from error
    maps = {}
    for name, values in named.items():
        if not name.isdecimal() or int(name) >= arrays:
            raise DataError(
                f"there is no array '{name}'; needed: a number from 0 to {arrays - 1}.",
                place=place,
                hint="The floor plan numbers the arrays.",
            )
        if values.ndim != 2:
            raise DataError(f"array '{name}' has {values.ndim} axes; needed: rows and columns.", place=place)
        maps[int(name)] = checked(values, (rows, columns), f"{place}: array '{name}'")
    return maps


def _quantile(share: float) -> float:
    return NormalDist().inv_cdf(share) if share < 1 else np.inf


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
