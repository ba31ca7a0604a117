"""Reading ``.npz`` files, so that every way in which one can be damaged ends in one kind of error."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

#: What NumPy and the modules below it raise for damaged bytes.
_DAMAGED = (
    ValueError, EOFError, LookupError, RuntimeError, AttributeError, TypeError, ArithmeticError, MemoryError,
    struct.error, zlib.error, lzma.LZMAError, tokenize.TokenError, zipfile.BadZipFile,
)  # fmt: skip


def read_arrays(file: str | Path | BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` by name; nothing is unpickled.

    Raises :class:`OSError` where it can't be read, :class:`ValueError`, in words, where it holds something else.
    """
    try:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                arrays = {name: found[name] for name in found.files}
            other = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
            if other is None:
                return arrays
    except _DAMAGED as error:
        if "pickle" in str(error):  # what NumPy takes every file for that it doesn't know
            raise ValueError("is no readable .npz (but another kind of file)") from error
        raise ValueError(f"is no readable .npz ({str(error) or type(error).__name__})") from error
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise ValueError("is a single array; needed a .npz with named ones")
    raise ValueError(f"holds '{other}', which is no array")
