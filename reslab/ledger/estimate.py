"""The estimate behind a verdict: Student's t, a second look at the median, and an exact test of signs or ranks where
the first cannot be trusted.

What is asked is the difference of a *typical* run: no test of a mean holds for every distribution (Bahadur and Savage,
Annals of Mathematical Statistics 27, 1956), and one failed run in twenty moves a mean and no typical run. Where
differences are symmetric the two are one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Literal

import numpy as np
from scipy import special  # its stdtr is Student's t, as scipy.stats.t, which takes many times as long to load

from reslab.ledger.comparison import ROUNDING, Comparison

Array = np.ndarray[Any, np.dtype[np.float64]]

SKEWED = 0.8
"""A larger skewness of the differences, either way, calls for the exact test. Chosen by simulation: with it the rate of
false verdicts stays under 3.5 % at nominal 2.5 % with five seeds or more, and one study of normal differences in five
loses power.
"""

POWER = 0.8
MOST_RANKED = 30
"""Values of a side up to which the distribution of ranks is computed exactly; it is normal by then."""
MOST_SEEDS = 10_000  # as wording.toml says too
"""A claim that more seeds than this would not decide is said to be beyond deciding."""


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its standard error and degrees of freedom, the median difference, how far all of it may be
    off, and what of it is only rounding.

    `differences` are of seed and seed, in order, if values are paired or compared with one number; else of every value
    of one side and every one of the other, which are as many as `sizes` says: which seed a value has says nothing then.
    `doubtful` says that they call for an exact test: of their signs (the sign test), or between two sides of ranks
    (Wilcoxon's; Mann and Whitney's). With n seeds the degrees of freedom are `df_per_seed * (n - 1)`.
    """

    effect: float
    error: float
    df: float
    n: int
    method: str
    median: float
    off: float
    rounding: float
    doubtful: bool
    differences: Array
    df_per_seed: float
    sizes: tuple[int, int] | None = None

    @property
    def steady(self) -> bool:
        """Return whether there is no spread at all, so that the interval is a point."""
        return self.error == self.off == 0

    def interval(self, level: float, threshold: float) -> tuple[float, float]:
        """Return Student's interval of the effect; an end that is at the threshold up to rounding is there exactly."""
        half = self.off + (float(special.stdtrit(self.df, 0.5 + level / 2)) * self.error if self.error else 0.0)
        low, high = (
            threshold if abs(end - threshold) <= self.rounding else end
            for end in (self.effect - half, self.effect + half)
        )
        return low, high

    def p_value(self, threshold: float) -> float:
        """Return the two-sided p-value of "a typical run's effect equals the threshold": the largest of those of the
        mean, of the median as far from the threshold as it is, and, where differences are doubtful, of the exact test.
        """
        distance = self._distance(threshold)
        if distance <= self.rounding:
            return 1.0
        student = float(2 * special.stdtr(self.df, -distance / self.error)) if self.error else 0.0
        return max(student, self.exact_p(threshold)) if self.doubtful else student

    def exact_p(self, threshold: float) -> float:
        """Return the two-sided p-value of the exact test: how many of the differences are past the threshold, on the
        effect's side, beyond what they may be off.
        """
        past, n = self._past(threshold), len(self.differences)
        if self.sizes is not None:
            # as of the fewer on both sides: with other spreads, more values of one side say less than they seem to
            fewer = min(self.sizes)
            return min(1.0, 2 * rank_tail(fewer, past * fewer**2 // n))
        return min(1.0, 2 * float(special.bdtrc(past - 1, n, 0.5))) if past else 1.0

    def _way(self, threshold: float) -> int:
        """Return the mean's side of the threshold: 1 over it, -1 under it."""
        return 1 if self.effect > threshold else -1

    def _distance(self, threshold: float) -> float:
        """Return how far both the mean and the median are past the threshold, on the mean's side."""
        way = self._way(threshold)
        return min((middle - threshold) * way for middle in (self.effect, self.median)) - self.off

    def _past(self, threshold: float) -> int:
        """Return how many differences are past the threshold, on the mean's side, beyond what they may be off."""
        way = self._way(threshold)
        return int(((self.differences - threshold) * way > self.off + self.rounding).sum())

    def seeds_needed(self, threshold: float, share: float) -> int | Literal["none", "many"]:
        """Return how many seeds on each side would decide with a power of 80 %, if the effect and spread were those of
        these seeds, at this error rate; "many" if these are more than `MOST_SEEDS`, and "none" where the effect lies on
        the threshold.

        The power is that of the two-sided t test (noncentral t), and where the exact test has a say, also of that, with
        the share of these differences that are past the threshold.
        """
        distance = self._distance(threshold)
        if distance <= self.rounding:
            return "none"
        past = self._past(threshold) / max(1, len(self.differences))
        exact_power = sign_power if self.sizes is None else rank_power
        least = max(3, self.n + 1)

        def decides(n: int) -> bool:
            if self.doubtful and len(self.differences) and exact_power(n, past, share) < POWER:
                return False
            if not self.error:
                return True
            df = self.df_per_seed * (n - 1)
            critical = float(special.stdtrit(df, 1 - share / 2))
            shift = distance / (self.error * math.sqrt(self.n / n))
            return shift > 2 * critical or 1 - float(special.nctdtr(df, shift, critical)) >= POWER

        if not decides(MOST_SEEDS):
            return "many"
        below, enough = least - 1, MOST_SEEDS
        while enough - below > 1:
            middle = (below + enough) // 2
            below, enough = (below, middle) if decides(middle) else (middle, enough)
        return enough


def estimate(comparison: Comparison) -> Estimate:
    """Return the estimate of a comparison whose sides are not empty: paired over the seeds of both sides if its values
    are, and Welch's (Biometrika 34, 1947) if not; one number to compare with has no spread.
    """
    ours, theirs = comparison.treatment, comparison.controls
    off = max(comparison.resolution, comparison.grain)
    size, unit = math.frexp(max(map(abs, (*ours.values(), *theirs.values()))))
    # In units of 2**unit, where the largest value is `size`: that rounds nothing, and no square vanishes or overflows.
    a, b = (np.array([math.ldexp(side[seed], -unit) for seed in sorted(side)]) for side in (ours, theirs))
    rounding = ROUNDING * size
    part, power = math.frexp(comparison.grain)
    grain = math.ldexp(part, min(power - unit, 4))  # no two values are further apart than 2: past 8 it says no more
    if comparison.paired:
        shared = sorted(ours.keys() & theirs.keys())
        differences = np.array([math.ldexp(ours[seed], -unit) - math.ldexp(theirs[seed], -unit) for seed in shared])
        sizes, n, skewed = None, len(differences), skewness(differences)
    elif isinstance(comparison.control, Mapping):
        differences, sizes, n = np.subtract.outer(a, b).ravel(), (len(a), len(b)), min(len(a), len(b))
        skewed = skewness_of_difference(a, b)
    else:
        differences, sizes, n, skewed = a - b, None, len(a), skewness(a - b)
    if comparison.paired:
        error = _standard_error(differences, rounding)
        effect, df_per_seed, method = float(differences.mean()), 1.0, "paired t"
        df, narrow = float(len(differences) - 1), bool(np.ptp(differences) <= grain + rounding)
    else:
        error_a, error_b = _standard_error(a, rounding), _standard_error(b, rounding)
        effect, error, method = float(a.mean() - b.mean()), float(np.hypot(error_a, error_b)), "Welch t"
        if not isinstance(comparison.control, Mapping):
            method = "t"  # and so is Welch's, where one side is a number
        # a side without spread, of one seed for instance, adds nothing
        spread = sum(one**4 / (len(side) - 1) for one, side in ((error_a, a), (error_b, b)) if one)
        df = error**4 / spread if error else math.inf
        df_per_seed = df / max(n - 1, 1) if error else 1.0
        narrow = all(np.ptp(side) <= grain + rounding for side in (a, b))
    return Estimate(
        effect=math.ldexp(effect, unit),
        error=math.ldexp(error, unit),
        df=df,
        n=n,
        method=method,
        median=math.ldexp(float(np.median(differences)), unit),
        off=off,
        rounding=math.ldexp(rounding, unit),
        doubtful=not error or narrow or abs(skewed) > SKEWED,
        differences=np.ldexp(differences, unit),
        df_per_seed=df_per_seed,
        sizes=sizes,
    )


def rank_tail(n: int, past: int) -> float:
    """Return the chance that of all pairs of n values of one distribution and n others, so many or more have the first
    of the two larger (Mann and Whitney, Annals of Mathematical Statistics 18, 1947): exactly, or normally for many.
    """
    if n <= MOST_RANKED:
        ways = rank_ways(n)
        return float(ways[past:].sum() / ways.sum())
    return float(special.ndtr(-(past - 0.5 - n * n / 2) / math.sqrt(n * n * (2 * n + 1) / 12)))


@lru_cache
def rank_ways(n: int) -> Array:
    """Return in how many orders of n and n values each number of pairs, from 0 to n², has the first larger."""
    ways = np.zeros(n * n + 1)
    ways[0] = 1
    # the coefficients of the Gaussian binomial: the product of (1 - x^(n+i)) / (1 - x^i)
    for i in range(1, n + 1):
        for at in range(n * n, n + i - 1, -1):
            ways[at] -= ways[at - n - i]
        for at in range(i, n * n + 1):
            ways[at] += ways[at - i]
    ways.flags.writeable = False
    return ways


def rank_power(n: int, past: float, share: float) -> float:
    """Return the power of the two-sided test of ranks of n values on each side, a value of one of which is past one of
    the other with this probability (Noether, Journal of the American Statistical Association 82, 1987).
    """
    if 2 * rank_tail(n, n * n) > share:  # not even if all are
        return 0.0
    if past == 1:
        return 1.0
    reach = (past - 0.5) * math.sqrt(12 * n * n / (2 * n + 1))
    return float(special.ndtr(reach + special.ndtri(share / 2)))


def sign_power(n: int, past: float, share: float) -> float:
    """Return the power of the two-sided sign test of n differences, each past the threshold with this probability."""
    counts = np.arange(n // 2, n + 1)
    enough = counts[2 * special.bdtrc(counts - 1, n, 0.5) <= share]
    return float(special.bdtrc(enough[0] - 1, n, past)) if len(enough) else 0.0


def seeds_for_exact_tests(share: float) -> tuple[int, int]:
    """Return with how many seeds the tests of signs, and of ranks between two sides, can decide at this error rate at
    all: if every difference is past the threshold.
    """
    signs, ranks = (next(n for n in count(2) if power(n, 1.0, share)) for power in (sign_power, rank_power))
    return signs, ranks


def skewness(values: Array) -> float:
    """Return the skewness of a sample: its third central moment over the cube of its standard deviation; 0 without
    spread.
    """
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return float((centred**3).mean()) / variance**1.5 if variance > 0 else 0.0


def skewness_of_difference(a: Array, b: Array) -> float:
    """Return the skewness of the difference of two independent values, one of each sample; 0 without spread."""
    thirds, variances = zip(
        *((float((s**3).mean()), float((s**2).mean())) for s in (a - a.mean(), b - b.mean())), strict=True
    )
    return (thirds[0] - thirds[1]) / sum(variances) ** 1.5 if sum(variances) > 0 else 0.0


def _standard_error(values: Array, rounding: float) -> float:
    """Return the standard error of the mean; exactly 0 if all values are equal up to rounding."""
    return 0.0 if np.ptp(values) <= rounding else float(values.std(ddof=1) / np.sqrt(len(values)))
