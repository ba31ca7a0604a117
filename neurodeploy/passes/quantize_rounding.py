"""Rounding weights of at most 8 bits so that their products stay close: compensated columns, clipped scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

#: Weights of at most so many bits are rounded against the data; with 16, the plain rounding is as good.
MOST_BITS = 8
#: Those of at most so many bits can't do without the data, and clip where that pays.
FEW_BITS = 6
#: Shares of the scale without clipping that are tried for every row of few-bit weights, and of others.
SHARES = np.linspace(1.0, 0.5, 11)
UNCLIPPED = np.ones(1)
#: Added to the diagonal of the moments in steps of the weights, as a share of its mean: what never moved has no say.
_DAMPING = 0.01
#: The same for moments that are the mean of few vectors, times their length over the number of vectors.
_FEW_VECTORS = 0.3
#: Rows whose weights all lie within this share of a step of whole ones are left at those.
_EXACT = 1e-5
#: Rows that are rounded at a time at most, those that must have the same columns to do so by one factor of the moments,
#: and elements of the factors that others have at a time.
_ROWS, _ALIKE, _ELEMENTS = 128, 8, 2**22


def part_of(moment: np.ndarray, widths: Sequence[int], chosen: Sequence[int]) -> np.ndarray:
    """The moments of some of the operands, whose lengths are ``widths``, and of the 1."""
    starts = np.concatenate([[0], np.cumsum(widths)])
    keep = np.concatenate([*(np.arange(starts[i], starts[i + 1]) for i in chosen), [starts[-1]]]).astype(int)
    return moment[np.ix_(keep, keep)]


def regularized(moment: np.ndarray, widths: Sequence[int], count: int) -> np.ndarray:
    """Moments ``[K+1, K+1]`` that are the mean of ``count`` vectors, with what few of them can't tell on the diagonal.

    Few vectors move together by chance; weights that make up for each other along them err more on others.
    ``widths``: lengths of the operands, each of which has a size of its own.
    """
    share = _FEW_VECTORS * len(moment) / count
    parts = np.split(np.diag(moment), np.cumsum(widths))
    return moment + np.diag(np.concatenate([np.full(len(part), share * part.mean()) for part in parts]))


def compensated(
    weights: np.ndarray,
    steps: np.ndarray,
    tops: np.ndarray,
    bias: np.ndarray,
    moment: np.ndarray,
    least: np.ndarray,
    tried: np.ndarray = SHARES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole weights, the share of each row's steps that they stand for, and the bias that goes with them.

    ``weights``, ``steps`` ``[R, K]``: reals and the size of one step; ``tops`` ``[K]`` the greatest integer; ``bias``
    ``[R]``; ``moment`` ``[K+1, K+1]``. Of each row the share of its steps (one of ``tried``, not below ``least``
    ``[R]``) is taken whose products have the least mean square error. Columns are rounded one after another, the most
    telling first; what one loses is made up by those after it and by the bias as far as their operands move together
    (Frantar et al., GPTQ, ICLR 2023, from Hassibi and Stork's optimal brain surgeon). Where the nearest whole weights,
    with a bias that makes up for them, err no more, they are taken. A weight of 0 stays 0, so that sparse rows stay
    sparse.
    """
    damped = _damped(moment, np.square(steps).mean(axis=0))
    whole, share, moved = _nearest(weights, steps, tops), np.ones(len(weights)), bias.astype(np.float64)
    inexact = np.abs(weights - whole * steps).max(axis=1, initial=0) > _EXACT * steps.max(axis=1, initial=0)
    telling = np.diag(damped)[:-1] * np.square(steps).mean(axis=0)
    for rows, columns in _groups(weights != 0, np.flatnonzero(inexact), np.argsort(-telling, kind="stable")):
        place = rows[:, None], np.minimum(columns, weights.shape[1] - 1)
        used = columns < weights.shape[1]
        q, share[rows], moved[rows] = _rounded(
            np.where(used, weights[place], 0.0),
            np.where(used, steps[place], 1.0),
            tops[place[1]],
            bias[rows],
            _moments_of(damped, columns),
            least[rows],
            tried,
        )
        row, column = np.nonzero(np.broadcast_to(used, q.shape))
        whole[rows[row], np.broadcast_to(columns, q.shape)[row, column]] = q[row, column]
    return whole.astype(np.int64), share, moved


def _damped(moment: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Moments that can be inverted. ``sizes`` ``[K]``: squares of the steps, so that no unit of an operand matters."""
    told = float(np.mean(np.diag(moment)[:-1] * sizes)) or 1.0
    return moment + _DAMPING * np.diag(np.append(told / sizes, moment[-1, -1]))


def _nearest(weights: np.ndarray, steps: np.ndarray, tops: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(weights / steps), -tops, tops)


def _groups(used: np.ndarray, rows: np.ndarray, order: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that are rounded at a time, and their columns that aren't 0, in order: ``[1, n]`` for all, or ``[R, n]``.

    Rows of the same columns share one factor. The others have one each; where one has fewer columns than the longest,
    it is filled with the number behind the last.
    """
    patterns: dict[bytes, list[int]] = {}
    for r in rows:
        patterns.setdefault(used[r].tobytes(), []).append(r)
    alone: list[int] = []
    for members in patterns.values():
        if len(members) < _ALIKE:
            alone += members
            continue
        for start in range(0, len(members), _ROWS):
            yield np.array(members[start : start + _ROWS]), order[used[members[0]][order]][None]
    alone.sort(key=lambda r: int(used[r].sum()))
    while alone:
        longest = int(used[alone[-1]].sum())
        count = int(np.clip(_ELEMENTS // (longest + 1) ** 2, 1, _ROWS))
        some, alone = np.array(alone[-count:]), alone[:-count]
        columns = np.full((len(some), longest), used.shape[1])
        for i, r in enumerate(some):
            own = order[used[r][order]]
            columns[i, : len(own)] = own
        yield some, columns


def _moments_of(moment: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``[G, n+1, n+1]``: the moments of each group's columns and of the 1; columns that aren't there move alone."""
    last = len(moment) - 1
    own = np.append(columns, np.full((len(columns), 1), last), axis=1)
    there = np.append(columns < last, np.ones((len(columns), 1), bool), axis=1)
    found = np.where(there[:, :, None] & there[:, None, :], moment[own[:, :, None], own[:, None, :]], 0.0)
    return found + np.eye(own.shape[1]) * ~there[:, :, None]


def _rounded(
    weights: np.ndarray,
    steps: np.ndarray,
    tops: np.ndarray,
    bias: np.ndarray,
    moment: np.ndarray,
    least: np.ndarray,
    tried: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for rows ``[R, n]`` with columns in the order of rounding; ``moment`` ``[1 or R, n+1, n+1]``."""
    rows, columns = weights.shape
    # H = A A^T with A upper triangular: e^T H e is the sum of squares of A^T e, whose entry k knows errors up to k.
    factor = np.linalg.cholesky(moment[:, ::-1, ::-1])[:, ::-1, ::-1]
    factor = factor / np.diagonal(factor, axis1=1, axis2=2)[:, None, :]
    shares = np.maximum(tried[:, None], least)
    sizes = steps * shares[:, :, None]
    q, lost = np.empty_like(sizes), np.empty_like(sizes)
    for k in range(columns):
        left = weights[:, k] + _along(lost[:, :, :k], factor[:, :k, k])
        q[:, :, k] = np.clip(np.rint(left / sizes[:, :, k]), -tops[:, k], tops[:, k])
        lost[:, :, k] = weights[:, k] - q[:, :, k] * sizes[:, :, k]
    nearest = _nearest(weights, steps, tops)
    q, shares = np.concatenate([nearest[None], q]), np.concatenate([np.ones((1, rows)), shares])
    lost = np.concatenate([(weights - nearest * steps)[None], lost])
    made_up = _along(lost, factor[:, :-1, -1])
    gap = np.concatenate([lost, -made_up[:, :, None]], axis=2)
    spread = gap @ moment[0] if len(moment) == 1 else np.einsum("srk,rkl->srl", gap, moment)
    best = np.einsum("srk,srk->sr", spread, gap).argmin(axis=0)
    pick = np.arange(rows)
    return q[best, pick], shares[best, pick], bias + made_up[best, pick]


def _along(lost: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """``[S, R]``: what ``lost`` ``[S, R, k]`` comes to by a factor for all rows ``[1, k]``, or one for each."""
    return lost @ factor[0] if len(factor) == 1 else np.einsum("srk,rk->sr", lost, factor)
