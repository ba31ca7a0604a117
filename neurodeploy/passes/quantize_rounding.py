"""Rounding few-bit weights so that their products stay close: clipped scales and compensated columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Weights of at most so many bits are rounded against the data; with more, the plain rounding is as good.
FEW_BITS = 6
#: Shares of the scale without clipping that are tried for every row.
_SHARES = np.linspace(1.0, 0.5, 11)
#: Added to the diagonal of the moments, as a share of its mean: vectors that never moved have no say.
_DAMPING = 0.01
#: Rows that are rounded at a time.
_ROWS = 128


def part_of(moment: np.ndarray, widths: Sequence[int], chosen: Sequence[int]) -> np.ndarray:
    """The moments of some of the operands, whose lengths are ``widths``, and of the 1."""
    starts = np.concatenate([[0], np.cumsum(widths)])
    keep = np.concatenate([*(np.arange(starts[i], starts[i + 1]) for i in chosen), [starts[-1]]]).astype(int)
    return moment[np.ix_(keep, keep)]


def compensated(
    weights: np.ndarray,
    steps: np.ndarray,
    tops: np.ndarray,
    bias: np.ndarray,
    moment: np.ndarray,
    least: np.ndarray,
    tried: np.ndarray = _SHARES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole weights, the share of each row's steps that they stand for, and the bias that goes with them.

    ``weights``, ``steps`` ``[R, K]``: reals and the size of one step; ``tops`` ``[K]`` the greatest integer; ``bias``
    ``[R]``; ``moment`` ``[K+1, K+1]``. Of each row the share of its steps (one of ``tried``, not below ``least``
    ``[R]``) is taken whose products have the least mean square error. Columns are rounded one after another, the most
    telling first; what one loses is made up by those after it and by the bias as far as their operands move together
    (Frantar et al., GPTQ, ICLR 2023, from Hassibi and Stork's optimal brain surgeon). A weight of 0 stays 0, so that
    sparse rows stay sparse.
    """
    damped = moment + np.eye(len(moment)) * (_DAMPING * float(np.mean(np.diag(moment))) + 1e-12)
    whole, share, moved = np.zeros(weights.shape, np.int64), np.ones(len(weights)), bias.astype(np.float64)
    patterns: dict[bytes, list[int]] = {}
    for r, row in enumerate(weights != 0):
        patterns.setdefault(row.tobytes(), []).append(r)
    for pattern, members in patterns.items():
        columns = np.flatnonzero(np.frombuffer(pattern, bool))
        rows = np.array(members)
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            place = np.ix_(some, columns)
            own = np.append(columns, len(moment) - 1)
            q, share[some], moved[some] = _alike(
                weights[place], steps[place], tops[columns], bias[some], damped[np.ix_(own, own)], least[some], tried
            )
            whole[place] = q
    return whole, share, moved


def _alike(
    weights: np.ndarray,
    steps: np.ndarray,
    tops: np.ndarray,
    bias: np.ndarray,
    moment: np.ndarray,
    least: np.ndarray,
    tried: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for rows that have all their columns."""
    rows, columns = weights.shape
    telling = np.diag(moment)[:-1] * np.square(steps).mean(axis=0)
    order = np.argsort(-telling, kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(moment[np.ix_(turned := np.append(order, columns), turned)])).T
    shares = np.maximum(tried[:, None], least)
    sizes = steps * shares[:, :, None]
    left = np.concatenate(
        [np.broadcast_to(weights, sizes.shape), np.broadcast_to(bias[:, None], (*shares.shape, 1))], 2
    )
    left = left[:, :, turned]
    q = np.empty_like(sizes)
    for k, column in enumerate(order):
        size = sizes[:, :, column]
        q[:, :, column] = np.clip(np.rint(left[:, :, k] / size), -tops[column], tops[column])
        lost = (left[:, :, k] - q[:, :, column] * size) / factor[k, k]
        left[:, :, k + 1 :] -= lost[:, :, None] * factor[k, k + 1 :]
    gap = np.concatenate([weights - q * sizes, (bias - left[:, :, -1])[:, :, None]], axis=2)
    best = np.einsum("srk,srk->sr", gap @ moment, gap).argmin(axis=0)
    pick = np.arange(rows)
    return q[best, pick].astype(np.int64), shares[best, pick], left[best, pick, -1]
