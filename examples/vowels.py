"""JapaneseVowels as arrays, from the files in ``data/`` (see ``data/README.md`` for its origin and licence)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"
CLASSES = 9


def load(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``"train"`` (270) or ``"test"`` (370): x ``[n, 29, 12]`` float32 padded with zeros, lengths ``[n]``, labels."""
    with np.load(DATA / f"japanese_vowels_{split}.npz") as data:
        return data["x"], data["lengths"], data["y"]
