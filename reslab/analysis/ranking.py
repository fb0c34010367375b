"""How far two measures agree in their ranking: Spearman's correlation, with its interval."""

import math
from typing import NamedTuple

from torch import Tensor

from reslab.sending import widened


class RankCorrelation(NamedTuple):
    """Spearman's correlation and its 95 % interval; NaN if undefined: all values equal, or of the interval fewer than
    four.
    """

    value: float
    low: float
    high: float
    pairs: int


def spearman(a: Tensor, b: Tensor) -> RankCorrelation:
    """Return Spearman's rank correlation of two measures `[n]` over the finite pairs; ties get their mean rank.

    The interval is Fisher's, with the variance (1 + ρ²/2)/(n - 3) of ranks (Bonett & Wright 2000, eq. 4). For the
    interval, a perfect correlation counts as halfway to the next lower one possible with n ranks, so that a few pairs
    do not look certain.
    """
    known = a.isfinite() & b.isfinite()
    x, y = (_ranks(widened(values[known])) for values in (a, b))
    n = len(x)
    x, y = x - x.mean(), y - y.mean()
    spread = (x.norm() * y.norm()).item()
    if n < 2 or spread == 0:
        return RankCorrelation(math.nan, math.nan, math.nan, n)
    rho = max(-1.0, min(1.0, (x @ y).item() / spread))
    if n < 4:
        return RankCorrelation(rho, math.nan, math.nan, n)
    largest = 1 - 6 / (n**3 - n)
    middle = math.atanh(max(-largest, min(largest, rho)))
    reach = 1.959964 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return RankCorrelation(rho, math.tanh(middle - reach), math.tanh(middle + reach), n)


def _ranks(values: Tensor) -> Tensor:
    """Return ranks from 0, those of equal values averaged."""
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0)
    return (last - widened(count + 1) / 2)[place]
