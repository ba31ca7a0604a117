"""Write ``data/japanese_vowels_{train,test}.npz`` from the copy that the package aeon carries.

Needs ``pip install 'neurodeploy[train]'``. Arrays: ``x`` float32 ``[n, steps, 12]`` padded with zeros, ``lengths``
int64 ``[n]``, ``y`` int64 ``[n]`` (speaker, 0 to 8).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from aeon.datasets import load_japanese_vowels

DATA = Path(__file__).parent / "data"


def main() -> None:
    DATA.mkdir(exist_ok=True)
    for split in ("train", "test"):
        series, labels = load_japanese_vowels(split=split)[:2]
        lengths = np.array([s.shape[1] for s in series], dtype=np.int64)
        x = np.zeros((len(series), lengths.max(), 12), dtype=np.float32)
        for row, s in zip(x, series, strict=True):
            row[: s.shape[1]] = s.T
        y = np.array([int(label) - 1 for label in labels], dtype=np.int64)
        path = DATA / f"japanese_vowels_{split}.npz"
        np.savez_compressed(path, x=x, lengths=lengths, y=y)
        print(f"wrote {path.name}: {x.shape}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
