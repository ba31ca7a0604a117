"""Damaged ``.npz`` files: whatever the bytes, reading them gives arrays or a ValueError in words."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodeploy.archive import read_arrays
from neurodeploy.crossbar.devices.stuck import load_maps
from neurodeploy.data import load
from neurodeploy.errors import DataError
from tests.families import CASES


def packed(save: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, x=np.arange(600, dtype=np.float32).reshape(5, 30, 4), lengths=np.arange(5))  # type: ignore[operator]
    return buffer.getvalue()


WHOLE = {"stored": packed(np.savez), "deflated": packed(np.savez_compressed)}


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=300)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), kept=st.floats(0, 1))
def test_mutated_bytes(kind: str, edits: list[tuple[float, int]], kept: float):
    data = bytearray(WHOLE[kind])
    for place, byte in edits:
        data[int(place * (len(data) - 1))] = byte
    try:
        found = read_arrays(io.BytesIO(bytes(data) if kept > 0.3 else bytes(data[: int(kept * 3 * len(data))])))
    except ValueError as error:
        assert "." not in str(error)[-1:] and str(error).startswith(("is ", "holds "))
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())


def _one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _no_array(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.txt", "words")


def _later_zip(path: Path) -> None:
    whole = bytearray(WHOLE["stored"])
    whole[whole.index(b"PK\x01\x02") + 6] = 94  # needs version 9.4 to be read
    path.write_bytes(whole)


def _bad_stream(path: Path) -> None:
    whole = bytearray(WHOLE["deflated"])
    start = 30 + whole[26] + 256 * whole[27] + whole[28] + 256 * whole[29]
    whole[start] = 0xFF
    path.write_bytes(whole)


@pytest.mark.parametrize(("write", "words"), [
    (_one_array, "is a single array"), (_no_array, "holds 'x.txt', which is no array"),
    (_later_zip, "is no readable .npz"), (_bad_stream, "is no readable .npz"),
])  # fmt: skip
def test_every_reader_says_so(tmp_path: Path, write: object, words: str):
    path = tmp_path / "damaged.npz"
    write(path)  # type: ignore[operator]
    for read in (lambda: load(path, CASES["gru_reset_after"].program), lambda: load_maps(path, 1, 2, 2)):
        with pytest.raises(DataError, match=words) as error:
            read()
        assert str(error.value).startswith(str(path))
