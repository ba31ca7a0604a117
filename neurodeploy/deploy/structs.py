"""A model's C structures as NumPy's: what a step takes and gives, to the byte, from the manifest's ``layout``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurodeploy.ir.types import NUMPY_DTYPES


def struct_dtype(role: Mapping[str, Any]) -> np.dtype:
    """One structure (``layout[stage]["in"]``) as a structured dtype with the compiler's own offsets."""
    fields = role["fields"]
    return np.dtype(
        {
            "names": [f["name"] for f in fields],
            "formats": [(NUMPY_DTYPES[f["dtype"]], tuple(f["shape"])) for f in fields],
            "offsets": [f["offset"] for f in fields],
            "itemsize": role["bytes"],
        }
    )


def pack(dtype: np.dtype, arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Structures ``[*shape]`` filled from arrays ``[*shape, ...]`` by field; padding is zero."""
    made = np.zeros(shape, dtype)
    for name in dtype.names or ():
        made[name] = arrays[name]
    return made


def unpack(structs: np.ndarray) -> dict[str, np.ndarray]:
    """Field -> array ``[*shape, ...]``."""
    return {name: np.ascontiguousarray(structs[name]) for name in structs.dtype.names or ()}
