"""An independent reckoning of verdicts, from the rules as they are told and with scipy.stats, for many studies at once:
rows are repeats, columns seeds.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Array = np.ndarray[Any, np.dtype[np.float64]]


class Found(NamedTuple):
    """The effect, the p-value, and half the interval's width at each level."""

    effect: Array
    p: Array
    error: Array
    df: Array


def reckon(
    a: Array,
    b: Array,
    threshold: float,
    *,
    paired: bool = False,
    single: bool = False,
    off: float = 0.0,
    grain: float = 0.0,
) -> Found:
    """Return the reckoning of each row of values of both sides, which have as many seeds; `single` if the other side is
    one number, as often as there are seeds.
    """
    n, off = a.shape[1], max(off, grain)
    by_seed = paired or single
    d = a - b if by_seed else (a[:, :, None] - b[:, None, :]).reshape(len(a), -1)
    with np.errstate(all="ignore"):
        if paired:
            effect, error, df = d.mean(1), stats.sem(d, axis=1), np.full(len(d), n - 1.0)
        else:
            effect, squares = a.mean(1) - b.mean(1), [side.var(1, ddof=1) / n for side in (a, b)]
            error, df = np.sqrt(sum(squares)), (n - 1) * sum(squares) ** 2 / sum(square**2 for square in squares)
        tiny = 1e-12 * np.maximum(np.abs(a).max(1), np.abs(b).max(1))
        flat = np.ptp(a - b, axis=1) <= tiny if paired else (np.ptp(a, axis=1) <= tiny) & (np.ptp(b, axis=1) <= tiny)
        error = np.where(flat, 0.0, error)
        thirds, seconds = zip(*(_moments(side) for side in ([d] if by_seed else [a, b])), strict=True)
        third = thirds[0] if by_seed else thirds[0] - thirds[1]
        skew = np.where(sum(seconds) == 0, 0.0, np.abs(third) / sum(seconds) ** 1.5)
        narrow = [np.ptp(a - b, axis=1)] if paired else [np.ptp(a, axis=1), np.ptp(b, axis=1)]
        doubtful = flat | (skew > 0.8) | np.all([width <= grain + tiny for width in narrow], axis=0)
        way = np.where(effect > threshold, 1.0, -1.0)
        nearest = np.minimum(way * (effect - threshold), way * (np.median(d, axis=1) - threshold)) - off
        p = np.where(flat, 0.0, 2 * stats.t.sf(nearest / error, df))
        past = ((d - threshold) * way[:, None] > off + tiny[:, None]).sum(1)
        tail = stats.binom.sf(past - 1, n, 0.5) if by_seed else ranks(n)[past]
        p = np.where(nearest <= tiny, 1.0, np.where(doubtful, np.maximum(p, np.minimum(1, 2 * tail)), p))
    return Found(effect, p, error, df)


def _moments(side: Array) -> tuple[Array, Array]:
    centred = side - side.mean(1, keepdims=True)
    return (centred**3).mean(1), (centred**2).mean(1)


@cache
def ranks(n: int) -> Array:
    """Return the chance that so many pairs or more, of n values of one distribution and n others, have the first of the
    two larger: by the largest value of all, which is on either side.
    """

    @cache
    def ways(m: int, k: int) -> tuple[int, ...]:
        if not m or not k:
            return (1,)
        ours, theirs = ways(m - 1, k), ways(m, k - 1)  # ours is past all k
        return tuple(
            (ours[u - k] if 0 <= u - k < len(ours) else 0) + (theirs[u] if u < len(theirs) else 0)
            for u in range(m * k + 1)
        )

    counts = np.array(ways(n, n), dtype=float)
    return np.cumsum(counts[::-1])[::-1] / counts.sum()


def holm(p: list[float], rate: float) -> list[bool]:
    """Return which hypotheses Holm's procedure rejects: those before the first, by size, that is over its share."""
    rejected = [False] * len(p)
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (len(p) - rank) > rate:
            break
        rejected[index] = True
    return rejected
